"""Load: wrk for closed loops of one request, `weir load` for schedules."""

import json
import os
import pathlib
import re
import subprocess

from . import http
from .machine import Cores
from .peers import program, weir_binary
from .processes import Fault

SCRIPT = pathlib.Path(__file__).with_name("wrk.lua")
SLACK_SECONDS = 60


class Sample:
    """What one proxy did in one round."""

    def __init__(self, requests, seconds, cpu, received, latency=None):
        self.requests, self.seconds, self.cpu = requests, seconds, cpu
        self.received, self.latency = received, latency or {}

    @property
    def cpu_per_request(self):
        return self.cpu / self.requests

    @property
    def rate(self):
        return self.requests / self.seconds

    @property
    def busy(self):
        """How much of a core the proxy used: 1 is saturated."""
        return self.cpu / self.seconds


def expect(peer, path, body, answer, content_type="application/json"):
    """One request must be answered as the backend answers it, byte for byte."""
    method = "GET" if body is None else "POST"
    data = body.read_bytes() if body else None
    got = http.call(
        peer.port, method, path, data, {"content-type": content_type}, scheme=peer.scheme
    )
    if got.status != 200:
        raise Fault(f"{peer.name} answered {path} with {got.status}: {got.body[:200]!r}")
    if got.body != answer:
        raise Fault(
            f"{peer.name} answered {path} with {len(got.body)} bytes that are not the backend's"
            f" {len(answer)}"
        )


def wrk(
    peer, cores, path, body, seconds, connections, answer_bytes, content_type=None, accepts=None
):
    """A closed loop on kept connections; everything that is not a whole answer is a fault.

    :param body: the file with the body, None for GET.
    :param answer_bytes: size of the body of every answer.
    :param accepts: the coding that answers may have.
    """
    command = [
        "taskset", "-c", Cores.words(cores), program("wrk"), "-t1", f"-c{connections}",
        f"-d{seconds}s", "--timeout", "10s", "-s", str(SCRIPT), f"{peer.url}{path}",
    ]
    environment = dict(os.environ)
    if body:
        environment["BODY"] = str(body)
    if content_type:
        environment["CONTENT_TYPE"] = content_type
    if accepts:
        environment["ACCEPTS"] = accepts
    before = peer.process.cpu_seconds()
    run = subprocess.run(
        command, capture_output=True, text=True, env=environment,
        timeout=seconds + SLACK_SECONDS, check=False,
    )
    cpu = peer.process.cpu_seconds() - before
    peer.process.assert_running()
    lines = [line for line in run.stdout.splitlines() if line.startswith("RESULT ")]
    if run.returncode != 0 or not lines:
        raise Fault(f"wrk on {peer.name} failed: {(run.stderr or run.stdout)[-300:]}")
    result = json.loads(lines[0].removeprefix("RESULT "))
    check_result(peer, result, answer_bytes)
    return Sample(
        result["requests"], result["seconds"], cpu, result["bytes"],
        {"p50": result["p50"], "p99": result["p99"]},
    )


def h2load(peer, cores, path, body, seconds, connections, streams, answer_bytes):
    """A closed loop of POSTs over HTTP/2 in clear text; whatever is no whole answer is a fault.

    :param streams: requests at once on each connection.
    """
    command = [
        "taskset", "-c", Cores.words(cores), program("h2load"), "-t1", f"-c{connections}",
        f"-m{streams}", f"-D{seconds}", "-d", str(body), "-H", "content-type: application/json",
        f"{peer.url}{path}",
    ]
    before = peer.process.cpu_seconds()
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + SLACK_SECONDS, check=False
    )
    cpu = peer.process.cpu_seconds() - before
    peer.process.assert_running()
    counted = r"^requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored"
    done = re.search(counted, run.stdout, re.M)
    took = re.search(r"^finished in ([\d.]+)(m?s)", run.stdout, re.M)
    data = re.search(r"^traffic: .*\((\d+)\) data$", run.stdout, re.M)
    if run.returncode != 0 or not (done and took and data):
        raise Fault(f"h2load on {peer.name} failed: {(run.stderr or run.stdout)[-300:]}")
    succeeded, failed, errored = map(int, done.groups())
    if failed or errored or not succeeded:
        raise Fault(f"{peer.name}: h2load counted {done[0]}")
    if int(data[1]) < succeeded * answer_bytes:
        raise Fault(f"{peer.name}: {data[1]} bytes are less than whole answers")
    whole = float(took[1]) / (1000 if took[2] == "ms" else 1)
    return Sample(succeeded, whole, cpu, int(data[1]))


def small_answer(size):
    """An answer of exactly `size` bytes of JSON."""
    shape = '{"id":"a","object":"chat.completion","choices":[""]}'
    return shape.replace('""', '"' + "x" * (size - len(shape)) + '"')


def chat_answer(size):
    """A chat's answer of exactly `size` bytes, as servers give it, with its usage."""
    lead = (
        '{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"river",'
        '"choices":[{"index":0,"message":{"role":"assistant","content":"'
    )
    rest = (
        '"},"finish_reason":"stop"}],"usage":{"prompt_tokens":120,"completion_tokens":64,'
        '"total_tokens":184}}'
    )
    return lead + "x" * (size - len(lead) - len(rest)) + rest


def check_result(peer, result, answer_bytes):
    """Whoever fails fast must not look fast."""
    kinds = ("connect", "read", "write", "status", "timeout")
    errors = {kind: result[kind] for kind in kinds if result[kind]}
    if errors:
        raise Fault(f"{peer.name}: wrk counted {errors} in {result['requests']} requests")
    if result["requests"] == 0:
        raise Fault(f"{peer.name} answered nothing")
    if result["bytes"] < result["requests"] * answer_bytes:
        raise Fault(f"{peer.name}: {result['bytes']} bytes are less than whole answers")


def handshakes(
    peer, cores, path, body, seconds, connections, answer_bytes, resumed, output
):
    """A closed loop of POSTs by `weir load`, each on a TLS connection of its own.

    :param resumed: whether all but the first few go on with an earlier session, or none does.
    """
    before = peer.process.cpu_seconds()
    result = weir_load(
        f"{peer.url}{path}", cores, "--connections", connections, "--no-keep-alive", "--insecure",
        "--body-file", body, "-H", "content-type: application/json",
        *(["--session-tickets"] if resumed else []), seconds=seconds, output=output,
    )
    cpu = peer.process.cpu_seconds() - before
    peer.process.assert_running()
    counts = result["counts"]
    done = counts["requests_with_warm_up"]
    if counts["failed"] or not done or counts["received_bytes"] < done * answer_bytes:
        raise Fault(f"{peer.name}: weir load counted {counts}, {result['statuses']}")
    again = counts["resumed_sessions"]
    # Every connection begins before the first has its answer, and some end with the run.
    if again < 0.9 * done - connections if resumed else again:
        raise Fault(f"{peer.name} resumed {again} sessions of {done}")
    return Sample(done, result["measured_s"], cpu, counts["received_bytes"])


def weir_load(target, cores, *arguments, seconds, output, valid=True):
    """`weir load` with its result as JSON. A lagging generator is a fault where `valid` is wanted.

    :param target: the whole URL.
    """
    output.unlink(missing_ok=True)
    command = [
        "taskset", "-c", Cores.words(cores), str(weir_binary()), "load", target,
        *map(str, arguments), "--duration", f"{seconds}s", "--quiet", "--output", str(output),
    ]
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + SLACK_SECONDS, check=False
    )
    allowed = (0, 3) if valid else (0, 3, 4)
    if run.returncode not in allowed or not output.exists():
        raise Fault(f"weir load {target} ended with {run.returncode}: {run.stderr[-400:].strip()}")
    result = json.loads(output.read_text(encoding="utf-8"))
    result["exit_code"] = run.returncode
    return result
