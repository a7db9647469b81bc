"""Streams of 50 events a second each, one event per write: CPU per event, added delay, memory."""

import json
import subprocess

from harness import http, peers, streams
from harness.machine import Cores
from harness.processes import Fault, free_port

NAMES = ("Weir", "nginx", "HAProxy")
SIZES = (500, 1000)
WARM_UP_SECONDS = 1.5
SECONDS = 4
ROUNDS_MAX = 3
KEPT_SHARE_MIN = 0.98


def expect(peer):
    """A short stream must arrive as it was sent: every event, in order, and the end."""
    answer = http.call(peer.port, "POST", streams.PATH, streams.body(5))
    if answer.status != 200:
        raise Fault(f"{peer.name} answered a stream with {answer.status}: {answer.body[:200]!r}")
    numbers = [int(part[:7]) for part in answer.body.split(b'"n":')[1:]]
    if numbers != [0, 1, 2, 3, 4] or not answer.body.endswith(streams.DONE):
        raise Fault(f"{peer.name} passed on a stream wrongly: {answer.body[-300:]!r}")


def read_streams(program, name, port, cores, count, sample):
    """Runs the client; calls sample() when it begins and when it ends to measure."""
    command = [
        "taskset", "-c", Cores.words(cores), str(program), "read", str(port), str(count),
        str(WARM_UP_SECONDS), str(SECONDS),
    ]
    samples, result = [], None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        for line in client.stdout:
            if line.startswith("RESULT "):
                result = json.loads(line.removeprefix("RESULT "))
            else:
                samples.append(sample())
    if result is None or client.returncode != 0:
        raise Fault(f"the client of {name}'s streams ended with {client.returncode}")
    if result["problems"] or result["silent"]:
        raise Fault(f"{name}: {result['silent']} silent streams, {result['problems']}")
    share = result["events"] / (result["seconds"] * count * streams.EVENTS_PER_SECOND)
    return samples, result, share


class Rows:
    def __init__(self, run, count):
        row = f"sse, {count} streams"
        self.cost = run.compare(
            "CPU per event", "µs", "≤ 0.7× HAProxy", row=row, limits={"HAProxy": 0.7}
        )
        self.p50 = run.compare(
            "added delay p50", "µs", "≤ HAProxy", row=row, limits={"HAProxy": 1}
        )
        self.p99 = run.compare(
            "added delay p99", "µs", "≤ HAProxy", row=row, limits={"HAProxy": 1}
        )
        self.memory = None
        if count == max(SIZES):
            self.memory = run.compare(
                "memory per stream", "KB", "≤ HAProxy", row=row, limits={"HAProxy": 1}
            )


def bench(run):
    backend = free_port()
    program = streams.build(run.stage.folder)
    run.stage.start("server", [program, "serve", backend], run.cores.load).listens(backend)
    rounds = min(run.rounds, ROUNDS_MAX)
    for count in SIZES:
        rows = Rows(run, count)
        for _, name in run.turns(NAMES, rounds):
            # Each proxy is seen right after the server alone, in the same minute.
            _, direct, _ = read_streams(
                program, "the server", backend, run.cores.load, count, lambda: 0
            )
            one(run, rows, program, name, backend, count, direct)


def one(run, rows, program, name, backend, count, direct):
    # Started anew each time: how much memory grows can be seen only once.
    proxy = peers.start(name, run.stage, run.scenario, backend, run.cores.proxy)
    for _ in range(10):
        expect(proxy)
    memory = proxy.process.memory_bytes()
    (begin, end), result, share = read_streams(
        program, name, proxy.port, run.cores.load, count,
        lambda: (proxy.process.cpu_seconds(), proxy.process.memory_bytes()),
    )
    run.stage.end(proxy.process)
    rows.cost.add(name, (end[0] - begin[0]) / result["events"])
    rows.p50.add(name, result["p50"] - direct["p50"])
    rows.p99.add(name, result["p99"] - direct["p99"])
    if share < KEPT_SHARE_MIN:
        rows.cost.note(f"{name} passed on {share:.0%} of the events in time")
    if rows.memory:
        rows.memory.add(name, (end[1] - memory) / count)
