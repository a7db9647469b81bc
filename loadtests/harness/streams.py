"""Streams of server-sent events: a server that paces them and a client that times them.

Both are small event loops, cheap beside a proxy. Each event carries when it was sent, on the clock
that all processes of a machine share, and its number; so the client knows every event's delay, and
that none is missing.

    streams.py serve PORT                          events every 20 ms on each stream
    streams.py read PORT STREAMS WARM_UP SECONDS   prints MEASURING, END, and RESULT {…}
"""

import array
import json
import select
import socket
import sys
import time

PATH = "/v1/chat/completions"
INTERVAL_NS = 20_000_000
SLOTS = 20  # streams are spread over the interval, a millisecond apart
SLOT_NS = INTERVAL_NS // SLOTS
LEAD = (
    b'data: {"id":"chatcmpl-0","object":"chat.completion.chunk","created":0,"model":"river",'
    b'"choices":[{"index":0,"delta":{"content":" water"},"finish_reason":null}],"t":'
)
TIME_MARK = b'"t":'
TIME_DIGITS, NUMBER_DIGITS = 19, 7
STAMP_BYTES = len(TIME_MARK) + TIME_DIGITS + len(b',"n":') + NUMBER_DIGITS
EVENT_BYTES = len(LEAD) + TIME_DIGITS + len(b',"n":') + NUMBER_DIGITS + len(b"}\n\n")
CHUNK_LEAD = b"%x\r\n" % EVENT_BYTES + LEAD
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
DONE = b"data: [DONE]\n\n"
LAST = b"%x\r\n" % len(DONE) + DONE + b"\r\n0\r\n\r\n"


def event(now, number):
    """One chunk with one event."""
    return CHUNK_LEAD + b'%019d,"n":%07d}\n\n\r\n' % (now, number)


def body(tokens, stream=True):
    message = {"role": "user", "content": "How deep is the river?"}
    return json.dumps({
        "model": "river", "stream": stream, "max_tokens": tokens, "messages": [message],
    }).encode()


class Server:
    """Answers every POST with a stream of `max_tokens` events."""

    def __init__(self, port):
        self.listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self.listener.setblocking(False)
        self.poll = select.epoll()
        self.poll.register(self.listener.fileno(), select.EPOLLIN)
        self.sockets, self.inputs = {}, {}
        self.wheel = [{} for _ in range(SLOTS)]
        self.slot_of = {}

    def run(self):
        start, turn = time.monotonic_ns(), 0
        while True:
            wait = start + turn * SLOT_NS - time.monotonic_ns()
            for number, events in self.poll.poll(max(wait, 0) / 1e9):
                if number == self.listener.fileno():
                    self.accept()
                else:
                    self.read(number)
            # Who is behind still reads requests once per interval.
            for _ in range(SLOTS):
                if time.monotonic_ns() < start + turn * SLOT_NS:
                    break
                self.send(self.wheel[turn % SLOTS])
                turn += 1

    def accept(self):
        while True:
            try:
                peer, _ = self.listener.accept()
            except BlockingIOError:
                return
            peer.setblocking(False)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sockets[peer.fileno()], self.inputs[peer.fileno()] = peer, b""
            self.poll.register(peer.fileno(), select.EPOLLIN)

    def read(self, number):
        try:
            data = self.sockets[number].recv(16384)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            return self.close(number)
        self.inputs[number] += data
        head, end, rest = self.inputs[number].partition(b"\r\n\r\n")
        if not end:
            return None
        length = next(
            (int(line.partition(b":")[2]) for line in head.split(b"\r\n")
             if line.lower().startswith(b"content-length:")), 0,
        )
        if len(rest) >= length:
            self.inputs[number] = rest[length:]
            self.begin(number, json.loads(rest[:length])["max_tokens"])
        return None

    def begin(self, number, tokens):
        self.sockets[number].send(HEAD)
        slot = min(self.wheel, key=len)
        slot[number] = [0, tokens]
        self.slot_of[number] = slot

    def send(self, slot):
        for number, state in list(slot.items()):
            data = event(time.monotonic_ns(), state[0])
            state[0] += 1
            if state[0] == state[1]:
                data += LAST
                del slot[number]
            try:
                sent = self.sockets[number].send(data)
            except OSError:
                sent = 0
            if sent != len(data):  # gone, or so far behind that its stream is of no use
                self.close(number)

    def close(self, number):
        self.poll.unregister(number)
        self.sockets.pop(number).close()
        del self.inputs[number]
        self.slot_of.pop(number, {}).pop(number, None)


class Reader:
    """Reads streams, and keeps every delay while it measures."""

    def __init__(self, port, streams):
        self.poll = select.epoll()
        self.sockets, self.expected, self.rest = {}, {}, {}
        self.delays = array.array("q")
        self.problems = []
        request = body(1_000_000)
        head = (
            f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            f"content-length: {len(request)}\r\n\r\n"
        ).encode()
        for _ in range(streams):
            peer = socket.create_connection(("127.0.0.1", port), 10)
            peer.sendall(head + request)
            number = peer.fileno()
            self.sockets[number], self.expected[number], self.rest[number] = peer, 0, b""
            self.poll.register(number, select.EPOLLIN)

    def read_until(self, deadline):
        while (left := deadline - time.monotonic_ns()) > 0 and not self.problems:
            for number, _ in self.poll.poll(left / 1e9):
                self.take(number)

    def take(self, number):
        data = self.sockets[number].recv(16384)
        now = time.monotonic_ns()
        if not data:
            self.problems.append("a stream ended early")
            return
        if self.expected[number] == 0 and not self.rest[number]:
            if not data.startswith(b"HTTP/1.1 200"):
                self.problems.append(f"an answer began with {data[:60]!r}")
        data = self.rest[number] + data
        at, end = data.find(TIME_MARK), 0
        while at >= 0 and at + STAMP_BYTES <= len(data):
            stamp = at + len(TIME_MARK)
            if int(data[stamp + TIME_DIGITS + 5 : at + STAMP_BYTES]) != self.expected[number]:
                self.problems.append(f"event {self.expected[number]} of a stream is missing")
            self.expected[number] += 1
            self.delays.append(now - int(data[stamp : stamp + TIME_DIGITS]))
            end = at + STAMP_BYTES
            at = data.find(TIME_MARK, end)
        self.rest[number] = data[max(end, len(data) - STAMP_BYTES) :]

    def measure(self, warm_up, seconds):
        self.read_until(time.monotonic_ns() + int(warm_up * 1e9))
        self.delays = array.array("q")
        print("MEASURING", flush=True)
        start = time.monotonic_ns()
        self.read_until(start + int(seconds * 1e9))
        elapsed = time.monotonic_ns() - start
        print("END", flush=True)
        delays = sorted(self.delays)
        quantile = {q: delays[int((len(delays) - 1) * q / 100)] / 1e9 for q in (50, 99)}
        return {
            "events": len(delays), "seconds": elapsed / 1e9, "p50": quantile[50],
            "p99": quantile[99], "problems": self.problems[:5],
            "silent": sum(1 for count in self.expected.values() if count == 0),
        }


def main():
    if sys.argv[1] == "serve":
        Server(int(sys.argv[2])).run()
    elif sys.argv[1] == "read":
        port, streams = int(sys.argv[2]), int(sys.argv[3])
        result = Reader(port, streams).measure(float(sys.argv[4]), float(sys.argv[5]))
        print("RESULT " + json.dumps(result), flush=True)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    # No collection in the middle of a measurement: nothing here makes cycles.
    import gc

    gc.disable()
    main()
