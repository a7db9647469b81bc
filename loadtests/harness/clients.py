"""The clients of `make soak`: HTTP/1, HTTP/2 and gRPC, in clear text and by TLS."""

import collections
import contextlib
import gzip
import http.client
import json
import queue
import random
import socket
import ssl
import sys
import threading

from . import bodies, loadtest, peers
from .processes import Fault

sys.path.append(str(peers.ROOT / "Tests/EndToEnd"))

import calls  # noqa: E402 (the line above makes them visible)
import grpc  # noqa: E402
import h2.exceptions  # noqa: E402
import multiplexed  # noqa: E402

KEY = "weir-soak-key"
PATH = "/v1/chat/completions"
SCHEMES = ("http", "https")
WAIT_SECONDS = 30.0
# Connections at once: of those with one request at a time, and of those with several.
SINGLE, SHARED = 4, 2
STREAMS_MAX = 8
CANCEL = 8
BOMB = gzip.compress(b" " * (8 << 20))
WRONG = (
    OSError, http.client.HTTPException, ValueError, AssertionError, grpc.RpcError,
    h2.exceptions.H2Error,
)


class Counts:
    """What became of requests, by kind of client."""

    def __init__(self):
        self.lock = threading.Lock()
        self.values = collections.defaultdict(collections.Counter)
        self.examples = {}

    def add(self, kind, outcome):
        with self.lock:
            self.values[kind][outcome] += 1

    def fault(self, kind, error):
        self.add(kind, "failed")
        with self.lock:
            self.examples.setdefault(kind, repr(error)[:120])

    @contextlib.contextmanager
    def judged(self, kind, outcome, *wrong):
        """Counts what goes on inside; what is `wrong` fails, and is not passed on."""
        try:
            yield
        except wrong as error:
            self.fault(kind, error)
        else:
            self.add(kind, outcome)

    def total(self, outcome=None):
        with self.lock:
            return sum(
                count for counter in self.values.values() for name, count in counter.items()
                if outcome in (None, name)
            )


class Clients:
    """Threads that ask until they are told to stop; each request is judged by its whole answer."""

    def __init__(self, port, secure_port, certificate, seed):
        self.counts = Counts()
        self.stopped = threading.Event()
        addresses = {"http": f"127.0.0.1:{port}", "https": f"127.0.0.1:{secure_port}"}
        families = [
            family(scheme, addresses[scheme], certificate, self.counts, self.stopped)
            for scheme in SCHEMES for family in (Single, Shared, Calls)
        ]
        generator = random.Random(seed)
        self.threads = [
            threading.Thread(
                target=self.drive, args=(family, step, generator.randrange(1 << 30)), daemon=True
            )
            for family in families for step, count in family.steps() for _ in range(count)
        ]
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join(loadtest.WAIT_SECONDS)
            if thread.is_alive():
                raise Fault("a client did not come to an end")

    def drive(self, family, step, seed):
        generator = random.Random(seed)
        connection = None
        while not self.stopped.is_set():
            # Now and then another connection, so that those are made and ended too.
            if connection and generator.random() < 0.02:
                connection.close()
                connection = None
            try:
                connection = connection or family.connect()
                step(connection, generator)
            except WRONG as error:
                self.counts.fault(family.name(step.__name__), error)
                if connection:
                    connection.close()
                connection = None
        if connection:
            connection.close()


class Family:
    """Clients of one protocol and scheme."""

    protocol, version = "", "http/1.1"

    def __init__(self, scheme, address, certificate, counts, stopped):
        self.scheme, self.address, self.counts, self.stopped = scheme, address, counts, stopped
        self.certificate = certificate.read_bytes()
        self.context = None
        if scheme == "https":
            self.context = ssl.create_default_context(cadata=self.certificate.decode())
            self.context.set_alpn_protocols([self.version])

    def name(self, kind):
        return f"{kind} {self.protocol}{self.scheme}"


def question(generator, tokens, **more):
    """The fields and the body of a chat of some length."""
    fields = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
    count = generator.randrange(400)
    words = " ".join(f"word{generator.randrange(1000)}" for _ in range(count))
    body = json.dumps({
        "model": "river", "messages": [{"role": "user", "content": words}],
        "max_tokens": tokens, **more,
    }).encode()
    if generator.random() < 0.3:
        body = gzip.compress(body, 1)
        fields["content-encoding"] = "gzip"
    if generator.random() < 0.3:
        fields["accept-encoding"] = "gzip"
    return fields, body


def check(status, fields, data, is_stream):
    """The answer to a question is whole."""
    if fields.get("content-encoding"):
        data = gzip.decompress(data)
    assert status == 200, f"{status} {data[:100]!r}"
    if is_stream:
        assert b"data: [DONE]" in data, "a stream without its end"
    else:
        assert json.loads(data)["choices"]


class Single(Family):
    """HTTP/1.1: a connection for each request of the moment."""

    def steps(self):
        last = self.refused if self.scheme == "http" else self.half
        return (self.plain, SINGLE), (self.stream, SINGLE), (self.leave, 1), (last, 1)

    def connect(self):
        if self.context:
            return http.client.HTTPSConnection(
                self.address, timeout=WAIT_SECONDS, context=self.context
            )
        return http.client.HTTPConnection(self.address, timeout=WAIT_SECONDS)

    @staticmethod
    def ask(connection, generator, tokens, **more):
        fields, body = question(generator, tokens, **more)
        connection.request("POST", PATH, body=body, headers=fields)
        return connection.getresponse()

    def plain(self, connection, generator):
        response = self.ask(connection, generator, 4)
        check(response.status, response.headers, response.read(), False)
        self.counts.add(self.name("plain"), "whole")

    def stream(self, connection, generator):
        response = self.ask(connection, generator, generator.randrange(5, 40), stream=True)
        check(response.status, response.headers, response.read(), True)
        self.counts.add(self.name("stream"), "whole")

    def leave(self, connection, generator):
        """Goes away in the middle of an answer, politely or not."""
        response = self.ask(connection, generator, 500, stream=True)
        response.read(generator.randrange(1, 300))
        if generator.random() < 0.5 and connection.sock:
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        response.close()
        connection.close()
        self.counts.add(self.name("leave"), "left")

    def refused(self, connection, generator):
        """What must not be served: no key, no model, no gzip, a bomb."""
        key = {"authorization": f"Bearer {KEY}"}
        fields, body, status = generator.choice((
            ({}, bodies.exact_chat("river", 200), 401),
            (key, bodies.exact_chat("nobody", 200), 404),
            ({**key, "content-encoding": "gzip"}, bodies.exact_chat("river", 200), 400),
            ({**key, "content-encoding": "gzip"}, BOMB, 413),
        ))
        connection.request("POST", PATH, body=body, headers=fields)
        response = connection.getresponse()
        response.read()
        assert response.status == status, f"{response.status} for {status}"
        self.counts.add(self.name("refused"), "refused")
        # It costs next to nothing: without a pause there would be nothing else.
        self.stopped.wait(0.01)

    def half(self, connection, generator):
        """Half a request, and then nothing: the gateway's own deadline ends it, or the client."""
        connection.putrequest("POST", PATH)
        connection.putheader("content-length", "1000")
        connection.putheader("authorization", f"Bearer {KEY}")
        connection.endheaders(b'{"model":"river"')
        self.stopped.wait(generator.random())
        connection.close()
        self.counts.add(self.name("half"), "left")


class Shared(Family):
    """HTTP/2: several requests at once on one connection; one of eight is taken back."""

    protocol, version = "h2 ", "h2"
    KINDS = ("plain",) * 4 + ("stream",) * 3 + ("leave",)

    def steps(self):
        return ((self.share, SHARED),)

    def connect(self):
        return multiplexed.Client(self.address, self.context, timeout=WAIT_SECONDS)

    def share(self, connection, generator):
        begun = []
        for _ in range(generator.randrange(1, STREAMS_MAX + 1)):
            kind = generator.choice(self.KINDS)
            tokens = {"plain": 4, "stream": generator.randrange(5, 40), "leave": 500}[kind]
            fields, body = question(generator, tokens, stream=kind != "plain")
            begun.append((kind, connection.begin("POST", PATH, list(fields.items()), body)))
        for kind, number in begun:
            outcome = "left" if kind == "leave" else "whole"
            with self.counts.judged(self.name(kind), outcome, AssertionError, EOFError):
                self.end(connection, kind, number)
            del connection.streams[number]
        if connection.closed:
            raise OSError(f"the connection was ended: {connection.goaways}")

    @staticmethod
    def end(connection, kind, number):
        stream = connection.streams[number]
        if kind == "leave":
            connection.wait(lambda: stream.body or stream.is_over)
            if not stream.is_over:
                connection.h2.reset_stream(number, CANCEL)
                connection.send()
            return
        connection.finish(number)
        assert stream.ended, f"{stream.status}, reset with {stream.reset}"
        check(stream.status, stream.headers, bytes(stream.body), kind == "stream")


class Calls(Family):
    """gRPC, by its own library: unary calls, streams one way and both ways, and calls given up."""

    protocol, version = "grpc ", "h2"
    KINDS = ("unary",) * 4 + ("download", "upload", "chat", "leave")
    METADATA = (("authorization", f"Bearer {KEY}"),)

    def steps(self):
        return ((self.call, SHARED),)

    def connect(self):
        # Connections would be shared with others of this process.
        options = [("grpc.use_local_subchannel_pool", 1)]
        credentials = None
        if self.context:
            credentials = grpc.ssl_channel_credentials(root_certificates=self.certificate)
        return calls.Client(self.address, credentials, options)

    def call(self, connection, generator):
        kind = generator.choice(self.KINDS)
        # Like streams of HTTP, what is more than one message is cut by a killed replica.
        name = kind if kind in ("unary", "leave") else f"stream {kind}"
        outcome = "left" if kind == "leave" else "whole"
        with self.counts.judged(self.name(name), outcome, AssertionError, grpc.RpcError):
            getattr(self, kind)(connection, generator, metadata=self.METADATA, timeout=WAIT_SECONDS)

    @staticmethod
    def unary(connection, generator, **named):
        request = b"x" + generator.randbytes(generator.randrange(20_000))
        assert connection.unary(request, **named) == request

    @staticmethod
    def download(connection, generator, **named):
        count = generator.randrange(1, 60)
        messages = list(connection.download(b"%d" % count, **named))
        assert messages == [b"%d" % number for number in range(count)]

    @staticmethod
    def messages(generator):
        return [generator.randbytes(generator.randrange(3_000)) for _ in range(10)]

    def upload(self, connection, generator, **named):
        messages = self.messages(generator)
        total = sum(map(len, messages))
        assert connection.upload(iter(messages), **named) == b"%d" % total

    def chat(self, connection, generator, **named):
        messages = self.messages(generator)
        answers = list(connection.chat(iter(messages), **named))
        assert answers == [message[::-1] for message in messages]

    @staticmethod
    def leave(connection, _, **named):
        requests = queue.SimpleQueue()
        requests.put(b"ab")
        call = connection.chat(iter(requests.get, None), **named)
        assert next(call) == b"ba"
        call.cancel()
        # So that the thread ends that waits for more.
        requests.put(None)
