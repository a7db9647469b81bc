"""10 000 kept connections that do nothing: how much memory each of them takes."""

import socket
import struct
import time

from harness import bodies, load, peers
from harness.processes import Fault

CONNECTIONS = 10_000
FIRST = 64
SETTLE_SECONDS = 1.0
ROUNDS_MAX = 2
ANSWER = load.small_answer(256)
NAMES = ("Weir", "nginx", "HAProxy")


class Crowd:
    """Connections that have each made one request and now keep still."""

    def __init__(self, port):
        self.port, self.sockets = port, []
        body = bodies.exact_chat("river", 200)
        self.request = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode() + body

    def grow(self, count):
        for _ in range(count):
            peer = socket.create_connection(("127.0.0.1", self.port), 10)
            self.sockets.append(peer)
            peer.sendall(self.request)
            answer = b""
            while not answer.endswith(ANSWER.encode()):
                data = peer.recv(4096)
                if not data:
                    raise Fault(f"connection {len(self.sockets)} was closed: {answer[:200]!r}")
                answer += data
            if not answer.startswith(b"HTTP/1.1 200"):
                raise Fault(f"connection {len(self.sockets)} was answered {answer[:60]!r}")

    def all_open(self):
        """None of them was closed meanwhile."""
        for peer in self.sockets:
            peer.setblocking(False)
            try:
                if not peer.recv(1):
                    return False
            except BlockingIOError:
                continue
        return True

    def close(self):
        for peer in self.sockets:
            # A reset leaves no port behind that would have to wait.
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()


def bench(run):
    backend = peers.start_backend(run.stage, run.cores.load, ANSWER)
    memory = run.compare(
        "memory per connection", "KB", "≤ HAProxy", row="10 000 idle connections",
        limits={"HAProxy": 1},
    )
    total = run.compare("memory with all", "MB", "", row="10 000 idle connections")
    for _, name in run.turns(NAMES, min(run.rounds, ROUNDS_MAX)):
        # Started anew each time: how much memory grows can be seen only once.
        proxy = peers.start(name, run.stage, run.scenario, backend, run.cores.proxy)
        crowd = Crowd(proxy.port)
        try:
            crowd.grow(FIRST)
            before = proxy.process.memory_bytes()
            crowd.grow(CONNECTIONS)
            time.sleep(SETTLE_SECONDS)
            after = proxy.process.memory_bytes()
            if not crowd.all_open():
                raise Fault(f"{name} closed idle connections")
        finally:
            crowd.close()
        run.stage.end(proxy.process)
        memory.add(name, (after - before) / CONNECTIONS)
        total.add(name, after)
