"""Floods of HTTP/2 frames: each is ended and counted, memory stays, and a neighbour is served."""

import json
import sys
import threading
import time

from harness import bodies, http, peers
from harness.processes import eventually

sys.path.append(str(peers.ROOT / "Tests/EndToEnd"))

import floods  # noqa: E402 (the line above makes them visible)
import multiplexed  # noqa: E402
from multiplexed import DATA, END_HEADERS, END_STREAM, HEADERS, SETTINGS, frame  # noqa: E402
from multiplexed import WINDOW_UPDATE, head  # noqa: E402

SECONDS = 10.0
ATTACKERS = 4
# In one go, where a few come in one write: heads for bombs are large.
FRAMES = {"large_head": 100, "provoked_reset": 300}
STREAMS = 90
PATH = "/v1/chat/completions"
GROWTH_MAX_BYTES = 32 << 20


class Flood:
    """Clients that do one thing until they are told to stop."""

    def __init__(self, weir, kind):
        self.address, self.kind = f"127.0.0.1:{weir.port}", kind
        self.stopped, self.lock = threading.Event(), threading.Lock()
        self.ended, self.frames = 0, 0
        attack = self.starve if kind == "tiny_window" else self.pour
        self.threads = [threading.Thread(target=attack, daemon=True) for _ in range(ATTACKERS)]
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def note(self, frames):
        with self.lock:
            self.ended += 1
            self.frames += frames

    def pour(self):
        """All frames at once, and again when the gateway has hung up."""
        batches = floods.flood(self.kind, path="/health")
        count = FRAMES.get(self.kind, 3_000)
        data = b"".join(next(batches) for _ in range(count))
        while not self.stopped.is_set():
            with multiplexed.Frames(self.address) as client:
                client.send(data)
                client.wait(lambda: False)
            self.note(count)

    def starve(self):
        """Room for one byte of each answer at a time."""
        body = json.dumps({"model": "river", "messages": [], "max_tokens": 2_000}).encode()
        fields = {"content-type": "application/json", "content-length": str(len(body))}
        opening = frame(SETTINGS, 0, 0, b"\0\4\0\0\0\1")
        numbers = range(1, 2 * STREAMS, 2)
        for number in numbers:
            opening += frame(HEADERS, END_HEADERS, number, head("POST", PATH, **fields))
            opening += frame(DATA, END_STREAM, number, body)
        room = b"".join(frame(WINDOW_UPDATE, 0, number, b"\0\0\0\1") for number in numbers)
        while not self.stopped.is_set():
            with multiplexed.Frames(self.address) as client:
                sent, seen = client.send(opening), 0
                while sent and not client.closed and not self.stopped.is_set():
                    client.wait(lambda seen=seen: len(client.of(DATA)) >= seen + STREAMS)
                    seen = len(client.of(DATA))
                    sent = client.send(room)
                self.note(seen)


class Neighbour:
    """Somebody who asks one thing after the other, by HTTP/2."""

    def __init__(self, weir):
        self.stopped, self.times, self.failed = threading.Event(), [], 0
        self.client = multiplexed.Client(f"127.0.0.1:{weir.port}")
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.stopped.wait(0.02):
            started = time.monotonic()
            try:
                self.failed += self.client.get("/health").status != 200
            except OSError:
                self.failed += 1
            self.times.append(time.monotonic() - started)

    def stop(self):
        self.stopped.set()
        self.thread.join()
        self.client.close()

    def percentile(self, share):
        return 1e3 * sorted(self.times)[int(share * (len(self.times) - 1))]


def metric(weir, name, mark=""):
    text = http.call(weir.admin, "GET", "/metrics").body.decode()
    return sum(
        float(line.rpartition(" ")[2]) for line in text.splitlines()
        if line.partition(" ")[0].partition("{")[0] == name and mark in line
    )


def check(test):
    weir = test.start_weir(test.simulator("river", "--instant"))
    warm = test.write("chat.json", bodies.exact_chat("river", 600))
    http.call(weir.port, "POST", PATH, warm.read_bytes())
    for kind in (*floods.KINDS, "tiny_window"):
        measure(test, weir, kind)
    eventually(
        lambda: metric(weir, "weir_in_flight_requests") == 0, "nothing is left of the floods"
    )


def measure(test, weir, kind):
    before, peak = weir.process.memory_bytes(), 0
    neighbour, flood = Neighbour(weir), Flood(weir, kind)
    cpu, started = weir.process.cpu_seconds(), time.monotonic()
    while (now := time.monotonic() - started) < SECONDS:
        weir.process.assert_running()
        peak = max(peak, weir.process.memory_bytes())
        time.sleep(min(0.1, SECONDS - now))
    cpu = weir.process.cpu_seconds() - cpu
    flood.stop()
    neighbour.stop()
    counted = metric(weir, "weir_http2_abuse_total", f'kind="{kind}"')
    test.expect(
        f"{kind}: ended and counted", "some", f"{flood.ended}, {counted:g};"
        f" {cpu / now:.2f} cores, {1e3 * cpu / max(1, flood.ended):.2f} ms each",
        flood.ended > 0 and counted > 0,
    )
    test.expect(
        f"{kind}: memory grows by", f"≤ {GROWTH_MAX_BYTES >> 20} MB",
        f"{(peak - before) / (1 << 20):+.1f} MB to {peak / (1 << 20):.1f} MB",
        peak - before <= GROWTH_MAX_BYTES,
    )
    test.expect(
        f"{kind}: neighbour's failures", "0",
        f"{neighbour.failed} of {len(neighbour.times)}, p50 {neighbour.percentile(0.5):.1f} ms,"
        f" p99 {neighbour.percentile(0.99):.1f} ms",
        neighbour.failed == 0 and len(neighbour.times) > 0,
    )
