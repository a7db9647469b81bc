"""`make bench-instructions`: what Weir executes outside the kernel, counted by callgrind.

Counts repeat to within a percent on any machine, however busy, so they tell small changes apart
where time cannot. What is counted is one worker's thread, between two points after a warm-up: the
client sends to every connection and then reads from every connection, again and again.
"""

import argparse
import collections
import contextlib
import os
import pathlib
import re
import select
import shutil
import socket
import subprocess

from . import bodies, http, load, machine, peers, streams
from .processes import Fault, Stage, eventually, free_port

OUTPUT = peers.ROOT / ".cache/bench/instructions"
PATH = streams.PATH
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
EVENT = (
    b'data: {"id":"chatcmpl-0","object":"chat.completion.chunk","created":1700000000,'
    b'"model":"river","choices":[{"index":0,"delta":{"content":" water"},"logprobs":null,'
    b'"finish_reason":null}],"system_fingerprint":"fp_44709d6fcb"}\n\n'
)
CHUNK = b"%x\r\n%s\r\n" % (len(EVENT), EVENT)
WAIT_SECONDS = 60.0
# Functions whose calls are counted, by what they are called in the table.
COUNTED = {
    "retains": ("swift_retain", "swift_bridgeObjectRetain"),
    "allocations": ("malloc", "posix_memalign", "calloc", "realloc"),
    "recv": ("recv", "weir_recv"),
    "send": ("send", "sendmsg", "weir_send"),
    "epoll": ("epoll_wait", "epoll_pwait2"),
}


class Counts:
    """What one thread executed, read from a file of callgrind's: in all and by function."""

    def __init__(self, path):
        self.total = 0
        self.calls = dict.fromkeys(COUNTED, 0)
        self.own = collections.Counter()
        known = {name: kind for kind, group in COUNTED.items() for name in group}
        names, function, callee, is_call = {}, "", "", False

        def name(text):
            # `(id) name` where it is first met, later `(id)` alone.
            number, _, rest = text.partition(" ")
            return names.setdefault(number, rest)

        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            key, equals, value = line.partition("=")
            if equals and key == "fn":
                function = name(value)
            elif equals and key == "cfn":
                callee = name(value)
            elif equals and key == "calls":
                # What stands on the next line is the callee's.
                is_call = True
                kind = known.get(re.split(r"[@']", callee)[0])
                if kind:
                    self.calls[kind] += int(value.split()[0])
            elif line[:1].isdigit() or line[:1] in ("+", "-", "*"):
                if not is_call:
                    self.own[function] += int(line.split()[1])
                is_call = False
            elif line.startswith("totals:"):
                self.total = int(line.split()[1])

    def functions(self, count):
        """The functions with most instructions of their own: (name, instructions)."""
        most = self.own.most_common(count)
        text = "\n".join(name for name, _ in most)
        with contextlib.suppress(OSError):
            run = subprocess.run(
                ["swift", "demangle", "--compact", "--simplified"], input=text,
                capture_output=True, text=True, timeout=WAIT_SECONDS, check=False,
            )
            text = run.stdout or text
        return list(zip(text.splitlines(), (number for _, number in most)))


class Counted:
    """Weir under callgrind, with one worker."""

    def __init__(self, stage, scenario, backend, cores):
        self.stage = stage
        for old in stage.folder.glob("callgrind.out*"):
            old.unlink()
        # What an earlier run knew of a rollout.
        shutil.rmtree(stage.folder / "weir", ignore_errors=True)
        binary = stage.folder / "weir-counted"
        # Valgrind gives up on the debugging information that Swift writes.
        subprocess.run(["objcopy", "--strip-debug", peers.weir_binary(), binary], check=True)
        command = [
            "valgrind", "--tool=callgrind", "--separate-threads=yes",
            f"--callgrind-out-file={stage.folder / 'callgrind.out'}", binary,
        ]
        self.weir = peers.start_weir(stage, scenario, backend, cores, command=command)

    def control(self, option):
        run = subprocess.run(
            ["callgrind_control", option, str(self.weir.process.pid)],
            capture_output=True, text=True, timeout=WAIT_SECONDS, check=False,
        )
        if run.returncode != 0 or "OK" not in run.stdout:
            raise Fault(f"callgrind_control {option}: {(run.stderr or run.stdout).strip()}")

    def measure(self, work):
        """Counts of the busiest thread during work()."""
        self.control("--zero")
        work()
        self.control("--dump")
        dumps = list(self.stage.folder.glob("callgrind.out.1*"))
        if not dumps:
            raise Fault("callgrind left no counts")
        return max((Counts(path) for path in dumps), key=lambda counts: counts.total)


class Clients:
    """Kept connections that take turns: all send, then all are read."""

    def __init__(self, port, count, request):
        self.request = request
        self.poll = select.poll()
        self.sockets = {}
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", port), WAIT_SECONDS)
            self.sockets[connection.fileno()] = connection
            self.poll.register(connection, select.POLLIN)

    def send(self):
        for connection in self.sockets.values():
            connection.sendall(self.request)

    def read(self, end):
        """Reads from each until what it got ends with `end`."""
        waiting = dict.fromkeys(self.sockets, b"")
        while waiting:
            ready = self.poll.poll(WAIT_SECONDS * 1000)
            if not ready:
                raise Fault(f"no answer within {WAIT_SECONDS:g} s")
            for number, _ in ready:
                data = self.sockets[number].recv(65536)
                if not data or number not in waiting:
                    raise Fault(f"a connection ended, or sent too much: {data[:200]!r}")
                waiting[number] += data
                if waiting[number].endswith(end):
                    text = waiting.pop(number)
                    if text.startswith(b"HTTP/1.1") and not text.startswith(b"HTTP/1.1 200"):
                        raise Fault(f"an answer began with {text[:200]!r}")

    def close(self):
        for connection in self.sockets.values():
            connection.close()


def request_bytes(body):
    """As wrk sends it."""
    return (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\ncontent-type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def small_post(stage, cores, rounds, folder="small-post", prepare=lambda weir: None):
    """600 bytes in, a chat's answer of 1 KB with its usage out, on 16 connections."""
    backend = peers.start_backend(stage, cores.load, load.chat_answer(1024))
    counted = Counted(stage, peers.ROOT / "loadtests" / folder, backend, cores.proxy)
    prepare(counted.weir)
    request = request_bytes(bodies.exact_chat("river", bodies.SMALL_BYTES))
    clients = Clients(counted.weir.port, 16, request)

    def work(count):
        for _ in range(count):
            clients.send()
            clients.read(load.chat_answer(1024).encode())

    work(max(rounds // 4, 10))
    result = counted.measure(lambda: work(rounds))
    clients.close()
    return result, 16 * rounds


def begin_rollout(weir):
    """Returns when half of the requests go to the new variant."""
    answer = http.call(weir.admin, "PUT", "/api/v1/models/river/live", b'{"variant": "v2"}')
    if answer.status != 200:
        raise Fault(f"the rollout did not begin: {answer.body[:200]!r}")

    def is_half():
        seen = http.call(weir.admin, "GET", "/api/v1/rollouts/river").json()
        return seen["weight"] == 50 and seen["stage"] == "holding"

    eventually(is_half, "half of the requests go to the new variant")


def rollout_post(stage, cores, rounds):
    """The same as small_post, while a rollout compares two variants."""
    return small_post(stage, cores, rounds, "rollout-post", begin_rollout)


class Server:
    """The server of streams: answers every request with a head, and then with events when told."""

    def __init__(self):
        self.port = free_port()
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        self.listener.settimeout(WAIT_SECONDS)
        self.streams = []

    def accept(self, count, request_end):
        """Takes so many requests; a connection that sends none only looked whether we live."""
        while len(self.streams) < count:
            connection, _ = self.listener.accept()
            connection.settimeout(WAIT_SECONDS)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            data = b""
            while piece := connection.recv(65536):
                data += piece
                if data.endswith(request_end):
                    connection.sendall(STREAM_HEAD)
                    self.streams.append(connection)
                    break

    def send(self):
        for connection in self.streams:
            connection.sendall(CHUNK)


def sse(stage, cores, rounds):
    """Events of 220 bytes, one per write, on 64 streams."""
    server = Server()
    counted = Counted(stage, peers.ROOT / "loadtests/sse", server.port, cores.proxy)
    body = streams.body(1_000_000)
    clients = Clients(counted.weir.port, 64, request_bytes(body))
    clients.send()
    server.accept(64, body)
    clients.read(b"\r\n\r\n")

    def work(count):
        for _ in range(count):
            server.send()
            clients.read(CHUNK)

    work(max(rounds // 4, 10))
    result = counted.measure(lambda: work(rounds))
    clients.close()
    return result, 64 * rounds


# Name, by what the counts are divided, rounds that are counted.
SCENARIOS = {
    "small-post": (small_post, "request", 125),
    "rollout-post": (rollout_post, "request", 125),
    "sse": (sse, "event", 60),
}


def arguments():
    parser = argparse.ArgumentParser(prog="instructions", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="by commas: " + ", ".join(SCENARIOS))
    parser.add_argument("--functions", type=int, default=0,
                        help="so many functions with their own instructions (0)")
    values = parser.parse_args()
    chosen = [name for name in values.only.replace(" ", ",").split(",") if name]
    for name in chosen:
        if name not in SCENARIOS:
            parser.error(f"there is no scenario `{name}`: there are {', '.join(SCENARIOS)}")
    if not 0 <= values.functions <= 1000:
        parser.error("--functions goes from 0 to 1000")
    values.chosen = chosen or list(SCENARIOS)
    return values


def main():
    values = arguments()
    for tool in ("valgrind", "callgrind_control", "objcopy"):
        if not shutil.which(tool):
            raise Fault(f"there is no {tool}: run `scripts/setup bench`")
    cores = machine.Cores()
    os.sched_setaffinity(0, cores.load)
    kinds = list(COUNTED)
    print(f"{'':24}{'instructions':>14}" + "".join(f"{kind:>14}" for kind in kinds))
    for name in values.chosen:
        work, unit, rounds = SCENARIOS[name]
        stage = Stage(OUTPUT / name)
        with stage:
            counts, number = work(stage, cores, rounds)
        cells = "".join(f"{counts.calls[kind] / number:14.2f}" for kind in kinds)
        print(f"{name + ', per ' + unit:24}{counts.total / number:14.0f}{cells}")
        for function, own in counts.functions(values.functions):
            print(f"{own / number:14.1f}  {function[:120]}")
