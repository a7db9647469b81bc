"""The same bytes to Weir, nginx and HAProxy, each before a server that records what it is sent.

What all three refuse must never reach the recorder through Weir, and what all three accept must
arrive there as the same requests. Where they differ, the table says how and why; it is as much of
a test: a new version that behaves otherwise is noticed.
"""

import contextlib
import dataclasses
import os
import re
import shutil
import socket
import socketserver
import subprocess
import threading
import warnings

import pytest

from harness import Process, call, eventually, model

PEERS = ("nginx", "haproxy")
# The versions whose behaviour the tables describe, as Debian 12 has them.
TESTED = {"nginx": r"nginx/1\.22\.", "haproxy": r"version 2\.6\."}
ANSWER_SECONDS = 5
LAST = "/last"
# What a proxy adds for the next server, what belongs to one connection, and what it may reframe.
NOT_COMPARED = {
    "connection", "keep-alive", "host", "via", "forwarded", "x-request-id", "traceparent",
    "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "content-length",
    "transfer-encoding", "trailer", "te",
}


# The recorder -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Request:
    """A request as the server behind a proxy understood it."""

    method: str
    target: str
    fields: tuple
    body: bytes


class Recorder(socketserver.ThreadingTCPServer):
    """Reads requests strictly, keeps them, and answers 200.

    Anything that it would have to guess at is kept as a violation: a proxy that forwards it could
    be used to smuggle requests.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), RecordedConnection)
        self.requests, self.violations = [], []
        self.thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    @property
    def port(self):
        return self.server_address[1]

    def take(self):
        """What has come since the last call, without the probes of health checks."""
        requests, self.requests = self.requests, []
        violations, self.violations = self.violations, []
        return requests, violations

    def stop(self):
        self.shutdown()
        self.server_close()
        self.thread.join()


class Violation(Exception):
    pass


class RecordedConnection(socketserver.StreamRequestHandler):
    timeout = 30

    def handle(self):
        with contextlib.suppress(OSError):
            while True:
                try:
                    request = self.read_request()
                except Violation as violation:
                    self.server.violations.append(str(violation))
                    return
                if request is None:
                    return
                self.server.requests.append(request)
                self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
                                 + (b"" if request.method == "HEAD" else b"ok"))

    def read_line(self):
        line = self.rfile.readline(65537)
        if line and not line.endswith(b"\r\n"):
            raise Violation(f"a line that does not end in CR LF: {line[:80]!r}")
        return line[:-2] if line else None

    def read_request(self):
        line = self.read_line()
        if line is None:
            return None
        match = re.fullmatch(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+) HTTP/1\.[01]", line)
        if not match:
            raise Violation(f"no request line: {line[:80]!r}")
        fields = self.read_fields()
        body = self.read_body(fields)
        kept = tuple(sorted((n, v) for n, v in fields if n not in NOT_COMPARED))
        return Request(match[1].decode(), match[2].decode("latin-1"), kept, body)

    def read_fields(self):
        fields = []
        while line := self.read_line():
            match = re.fullmatch(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", line)
            if not match or re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", match[2]):
                raise Violation(f"no field: {line[:80]!r}")
            fields.append((match[1].decode().lower(), match[2].decode("latin-1")))
        return fields

    def read_body(self, fields):
        lengths = [v for n, v in fields if n == "content-length"]
        codings = [v for n, v in fields if n == "transfer-encoding"]
        if lengths and codings or len(lengths) > 1 or len(codings) > 1:
            raise Violation(f"lengths {lengths} and codings {codings}")
        if codings:
            if codings[0].lower() != "chunked":
                raise Violation(f"the coding {codings[0]}")
            return self.read_chunks()
        if lengths:
            if not re.fullmatch(r"[0-9]{1,18}", lengths[0]):
                raise Violation(f"the length {lengths[0]}")
            return self.read_exactly(int(lengths[0]))
        return b""

    def read_chunks(self):
        body = b""
        while True:
            line = self.read_line()
            if line is None or not re.fullmatch(rb"[0-9A-Fa-f]{1,16}", line):
                raise Violation(f"the chunk size {line!r}")
            size = int(line, 16)
            if size == 0:
                self.read_fields()
                return body
            body += self.read_exactly(size)
            if self.read_line() != b"":
                raise Violation("a chunk that is longer than it says")

    def read_exactly(self, count):
        data = self.rfile.read(count)
        if len(data) < count:
            raise Violation(f"{len(data)} of {count} bytes of a body")
        return data


# The peers --------------------------------------------------------------------------------------


def free_port():
    """A port for a program that cannot choose one itself; taken by nobody a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def program(name):
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")
    assert path, f"{name} is not installed: run scripts/setup test"
    return path


NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  ignore_invalid_headers off; underscores_in_headers on;
  client_header_timeout 2s; client_body_timeout 2s;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{upstream};
      proxy_http_version 1.1; proxy_request_buffering off;
      # A client that has sent everything and closed its direction has not gone away.
      proxy_ignore_client_abort on;
    }}
  }}
}}
"""

HAPROXY = """
global
  maxconn 64
defaults
  mode http
  timeout client 2s
  timeout server 5s
  timeout connect 2s
  timeout http-request 2s
listen front
  bind 127.0.0.1:{port}
  server recorder 127.0.0.1:{upstream}
"""


def start_peer(start, folder, name, upstream):
    """nginx or HAProxy on a free port; another is tried if somebody was quicker."""
    for attempt in range(5):
        port = free_port()
        text = {"nginx": NGINX, "haproxy": HAPROXY}[name]
        config = folder / f"{name}.conf"
        config.write_text(text.format(folder=folder, port=port, upstream=upstream))
        flags = ["-p", str(folder), "-c"] if name == "nginx" else ["-db", "-f"]
        command = [program(name), *flags, str(config)]
        process = start(Peer, f"{name}-{attempt}", command)
        if process.listens(port):
            return process, f"127.0.0.1:{port}"
    raise AssertionError(f"{name} does not start:\n{process.output()}")


class Peer(Process):
    """A server of somebody else's: it ends in its own way."""

    def __init__(self, folder, name, command):
        super().__init__(name, command, folder)

    def listens(self, port):
        def answers():
            if self.child.poll() is not None:
                return "ended"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return "listens"
            return None

        return eventually(answers, f"{self.name} listens") == "listens"

    def stop(self):
        if self.child.poll() is None:
            self.child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.child.wait(5)
        self.kill()


@pytest.fixture
def proxies(start, weir, tmp_path):
    """The three by name, each with its address and a recorder of its own."""
    recorders = {name: Recorder() for name in ("weir", *PEERS)}
    addresses = {}
    for name in PEERS:
        _, addresses[name] = start_peer(start, tmp_path, name, recorders[name].port)
    url = f"http://127.0.0.1:{recorders['weir'].port}"
    gateway = weir(model("any", {"v1": [url]}, protocol="HTTP", paths=[{"prefix": "/"}]))
    addresses["weir"] = gateway.address
    for name, address in addresses.items():
        eventually(lambda: call(address, "GET", "/ready").status == 200, f"{name} serves")
        eventually(lambda: recorders[name].requests, f"{name}'s recorder has it")
        recorders[name].take()
    yield {name: (addresses[name], recorders[name]) for name in addresses}
    for recorder in recorders.values():
        recorder.stop()


# The comparison ---------------------------------------------------------------------------------


def exchange(address, data, answers=0):
    """Sends bytes, waits for so many good answers, and closes its direction; returns all that comes
    until the other end closes, or has had nothing to say for a while."""
    host, port = address.rsplit(":", 1)
    answer = b""
    with socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(data)
            while answer.count(b" 200 OK\r\n") < answers and (piece := connection.recv(65536)):
                answer += piece
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            while piece := connection.recv(65536):
                answer += piece
    return answer


def outcome(proxies, name, data, answers=0):
    """(what arrived behind the proxy, the statuses that it gave, what the recorder refused)."""
    address, recorder = proxies[name]
    answer = exchange(address, data, answers)
    statuses = [int(s) for s in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]
    # Whatever was forwarded although it was refused was so before this one.
    assert call(address, "GET", LAST).status == 200, f"{name} does not serve any more"
    requests, violations = recorder.take()
    assert name != "weir" or violations == [], f"Weir forwarded what must not be: {violations}"
    return [request for request in requests if request.target != LAST], statuses, violations


HOST = b"Host: a.example\r\n"


def get(fields=b"", target=b"/", version=b"HTTP/1.1", host=HOST):
    return b"GET " + target + b" " + version + b"\r\n" + host + fields + b"\r\n"


def post(fields, body=b""):
    return b"POST /x HTTP/1.1\r\n" + HOST + fields + b"\r\n" + body


def chunked(body, trailer=b"\r\n"):
    return post(b"Transfer-Encoding: chunked\r\n", body + b"0\r\n" + trailer)


def coded(coding, body=b"0\r\n\r\n"):
    return post(b"Transfer-Encoding:" + coding + b"\r\n", body)


# Every one of these is refused by all three: nothing arrives.
REFUSED = {
    "two different lengths": post(b"Content-Length: 1\r\nContent-Length: 2\r\n", b"ab"),
    "length with a sign": post(b"Content-Length: +1\r\n", b"a"),
    "negative length": post(b"Content-Length: -1\r\n", b"a"),
    "length in hexadecimal": post(b"Content-Length: 0x1\r\n", b"a"),
    "length that is a word": post(b"Content-Length: abc\r\n", b"a"),
    "length of no digits": post(b"Content-Length: \r\n"),
    "length beyond 64 bits": post(b"Content-Length: 99999999999999999999\r\n", b"a"),
    "list of different lengths": post(b"Content-Length: 1, 2\r\n", b"ab"),
    "body shorter than its length": post(b"Content-Length: 5\r\n", b"ab"),
    "coding that is not chunked": coded(b" xchunked"),
    "coding behind a control byte": coded(b"\x0bchunked"),
    "coding of no name": coded(b"", b""),
    "chunked not last": coded(b" chunked, gzip"),
    "chunked behind another": coded(b" gzip, chunked"),
    "chunked twice": coded(b" chunked, chunked"),
    "chunked in two fields": coded(b" chunked\r\nTransfer-Encoding: chunked"),
    "identity": coded(b" identity", b""),
    "identity and a length": coded(b" identity\r\nContent-Length: 2", b"ab"),
    "chunk size of no digits": chunked(b"\r\n"),
    "chunk size with a sign": chunked(b"+1\r\na\r\n"),
    "chunk size with 0x": chunked(b"0x1\r\na\r\n"),
    "chunk size that is a word": chunked(b"xyz\r\na\r\n"),
    "chunk size behind a space": chunked(b" 2\r\nab\r\n"),
    "chunk size beyond 64 bits": chunked(b"10000000000000002\r\nab\r\n"),
    "chunk longer than its size": chunked(b"1\r\nab\r\n"),
    "chunks that are cut off": coded(b" chunked", b"5\r\nab"),
    "space before the colon": post(b"Content-Length : 0\r\n"),
    "name that is no token": get(b"X(A): a\r\n"),
    "name with a byte over 127": get(b"X\xc3\xbc: a\r\n"),
    "field without a name": get(b": a\r\n"),
    "first field folded": b"GET / HTTP/1.1\r\n Host: a.example\r\n\r\n",
    "NUL in a value": get(b"X-A: a\x00b\r\n"),
    "carriage return in a value": get(b"X-A: a\rb\r\n"),
    "two hosts": get(b"Host: b.example\r\n"),
    "target with a space": get(target=b"/a b"),
    "target that is no path": get(target=b"a"),
    "no version": b"GET /\t\r\n" + HOST + b"\r\n",
    "version of another protocol": get(version=b"HTTX/1.1"),
    "version with a leading zero": get(version=b"HTTP/01.1"),
    "method with a control byte": b"G\x01T / HTTP/1.1\r\n" + HOST + b"\r\n",
    "preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS on a plain port": b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00\r\n\r\n",
}

# Every one of these is forwarded by all three, as the same requests.
FORWARDED = {
    "GET": get(target=b"/a/b?c=d"),
    "HEAD": b"HEAD /a HTTP/1.1\r\n" + HOST + b"\r\n",
    "DELETE without a body": b"DELETE /a HTTP/1.1\r\n" + HOST + b"\r\n",
    "method of our own": b"WADE /a HTTP/1.1\r\n" + HOST + b"\r\n",
    "GET with a body": get(b"Content-Length: 2\r\n") + b"ab",
    "HTTP/1.0 without a host": b"GET / HTTP/1.0\r\n\r\n",
    "empty line first": b"\r\n" + get(),
    "length": post(b"Content-Length: 5\r\n", b"hello"),
    "length of nothing": post(b"Content-Length: 0\r\n"),
    "length with leading zeros": post(b"Content-Length: 005\r\n", b"hello"),
    "length in lower case, no space": post(b"content-length:5\r\n", b"hello"),
    "length named as of this connection": post(
        b"Connection: close, content-length\r\nContent-Length: 2\r\n", b"ab"
    ),
    "body of every byte": post(b"Content-Length: 256\r\n", bytes(range(256))),
    "chunks": chunked(b"5\r\nhello\r\n1\r\n!\r\n"),
    "chunk size in capitals": chunked(b"A\r\n0123456789\r\n"),
    "chunk size with leading zeros": chunked(b"0005\r\nhello\r\n"),
    "chunk extension": chunked(b"5;a=b\r\nhello\r\n"),
    "chunk extension in quotes": chunked(b"2;a=\"b;\\\"c\"\r\nab\r\n"),
    "trailer": chunked(b"2\r\nab\r\n", b"X-T: t\r\n\r\n"),
    "trailer that looks like framing": chunked(b"2\r\nab\r\n", b"Content-Length: 3\r\n\r\n"),
    "no chunks": chunked(b""),
    "coding in capitals": coded(b" CHUNKED", b"2\r\nab\r\n0\r\n\r\n"),
    "fields with odd spaces": get(b"X-A:   a \t b  \r\nX-B:\r\n"),
    "underscore in a name": get(b"X_A: a\r\n"),
    "the same field twice": get(b"X-A: a\r\nX-A: b\r\n"),
    "bytes over 127 in a value": get(b"X-A: gr\xc3\xbc\xdfe\r\n"),
    "escapes in the target": get(target=b"/%61%2F..%2e?x=%00"),
    "slashes in the target": get(target=b"//a//b"),
    "odd bytes in the target": get(target=b"/a\"<>b"),
    "fields of one connection": get(b"Connection: close\r\nKeep-Alive: timeout=5\r\nX-A: b\r\n"),
    "coding that a client takes": get(b"TE: trailers\r\nConnection: close, te\r\n"),
    "two at once": get(target=b"/1") + get(target=b"/2"),
    "one behind a body": post(b"Content-Length: 2\r\n", b"ab") + get(target=b"/2"),
    "one behind chunks": chunked(b"2\r\nab\r\n") + get(target=b"/2"),
}

# Where they differ: what nginx, HAProxy and Weir do (`no`: nothing arrives; `yes`: one request
# does; `other`: one does, and not as Weir sends it; `bad`: the recorder refuses what arrives), and
# why Weir does what it does.
DIFFERENT = {
    "length and chunked": (
        post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"2\r\nab\r\n0\r\n\r\n"),
        "no", "yes", "no", "RFC 9112, 6.1 allows to refuse it: it is the classical way to smuggle",
    ),
    "chunked and length": (
        post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"2\r\nab\r\n0\r\n\r\n"),
        "no", "yes", "no", "the same in the other order",
    ),
    "two equal lengths": (
        post(b"Content-Length: 2\r\nContent-Length: 2\r\n", b"ab"),
        "no", "yes", "no", "RFC 9112, 6.3 leaves the choice; no client of ours sends it",
    ),
    "list of equal lengths": (
        post(b"Content-Length: 2, 2\r\n", b"ab"),
        "no", "yes", "no", "as above",
    ),
    "chunks in HTTP/1.0": (
        b"POST /x HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "no", "yes", "no", "RFC 9112, 6.1: faulty framing",
    ),
    "tab before chunked": (
        coded(b"\tchunked"),
        "no", "yes", "yes", "RFC 9110, 5.5: a tab is white space around a value",
    ),
    "lines that end in LF": (
        b"GET / HTTP/1.1\nHost: a.example\n\n",
        "yes", "yes", "no", "RFC 9112, 2.2 only permits it; servers differ on where lines end",
    ),
    "one line that ends in LF": (
        get(b"X-A: a\nX-B: b\r\n"),
        "yes", "yes", "no", "as above",
    ),
    "last line that ends in LF": (
        get()[:-2] + b"\n",
        "yes", "yes", "no", "as above",
    ),
    "two carriage returns": (
        get(b"X-A: a\r\r\n"),
        "yes", "no", "no", "RFC 9112, 2.2: a bare CR makes the element invalid",
    ),
    "folded line": (
        get(b"X-A: a\r\n b\r\n"),
        "no", "yes", "no", "RFC 9112, 5.2: refuse it, or replace it as HAProxy does",
    ),
    "field without a colon": (
        get(b"nothing\r\n"),
        "yes", "no", "no", "RFC 9112, 5: no field",
    ),
    "control byte in a value": (
        get(b"X-A: a\x01b\r\n"),
        "bad", "bad", "no", "RFC 9110, 5.5: such values are invalid; the recorder refuses them too",
    ),
    "no host": (
        b"GET / HTTP/1.1\r\n\r\n",
        "no", "yes", "no", "RFC 9112, 3.2: 400",
    ),
    "empty host": (
        get(host=b"Host:\r\n"),
        "no", "yes", "no", "an http URI has a host (RFC 9110, 4.2.1)",
    ),
    "host with a space": (
        get(host=b"Host: a b\r\n"),
        "no", "yes", "no", "RFC 9112, 3.2: an invalid value is answered with 400",
    ),
    "host with a user": (
        get(host=b"Host: u@a.example\r\n"),
        "yes", "yes", "no", "RFC 9110, 7.2: Host is uri-host and port, without user information",
    ),
    "absolute target": (
        get(target=b"http://a.example/y"),
        "yes", "other", "yes", "HAProxy passes it on whole; servers of models may not know it",
    ),
    "absolute target on another host": (
        get(target=b"http://b.example/y"),
        "yes", "no", "yes", "RFC 9112, 3.2.2: the target counts, Host is replaced",
    ),
    "target with bytes over 127": (
        get(target=b"/\xc3\xbc"),
        "yes", "no", "no", "RFC 3986 has no such bytes",
    ),
    "target with a fragment": (
        get(target=b"/a#b"),
        "yes", "no", "no", "RFC 9112, 3.2: a target has no fragment",
    ),
    "target *": (
        b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
        "no", "yes", "yes", "RFC 9112, 3.2.4",
    ),
    "target with a bad escape": (
        get(target=b"/%zz"),
        "no", "yes", "yes", "what a path means is for the server that has it; nothing is decoded",
    ),
    "target above the root": (
        get(target=b"/../a"),
        "no", "yes", "yes", "as above; Weir compares prefixes and reads no files",
    ),
    "CONNECT": (
        b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n",
        "no", "yes", "no", "Weir is no forward proxy: 405",
    ),
    "TRACE": (
        b"TRACE / HTTP/1.1\r\n" + HOST + b"\r\n",
        "no", "yes", "yes", "a method like any other to a gateway",
    ),
    "method in lower case": (
        b"get / HTTP/1.1\r\n" + HOST + b"\r\n",
        "no", "yes", "yes", "RFC 9110, 9.1: methods are tokens, and case counts",
    ),
    "two empty lines first": (
        b"\r\n\r\n" + get(),
        "yes", "yes", "no", "RFC 9112, 2.2 speaks of one; more are no client of ours",
    ),
    "HTTP/0.9": (
        b"GET /\r\n",
        "yes", "no", "no", "no version, no request",
    ),
    "HTTP/1.2": (
        get(version=b"HTTP/1.2"),
        "yes", "yes", "no", "there is no such version: 505",
    ),
    "HTTP/2.0": (
        get(version=b"HTTP/2.0"),
        "no", "yes", "no", "HTTP/2 has no request lines: 505",
    ),
    "space behind the version": (
        get(version=b"HTTP/1.1 "),
        "yes", "no", "no", "RFC 9112, 3 only permits it",
    ),
    "two spaces in the first line": (
        get(target=b" /"),
        "yes", "yes", "no", "as above",
    ),
    "expectation that nobody knows": (
        post(b"Expect: tea\r\nContent-Length: 2\r\n", b"ab"),
        "yes", "yes", "no", "RFC 9110, 10.1.1: 417",
    ),
    "space behind a chunk size": (
        chunked(b"2 \r\nab\r\n"),
        "yes", "yes", "no", "RFC 9112, 7.1 has no space there; readers differ on it",
    ),
    "chunk line that ends in LF": (
        chunked(b"2\nab\n"),
        "yes", "yes", "no", "as with other lines; the way of more than one smuggling attack",
    ),
    "chunk extension that ends in LF": (
        chunked(b"2;a\nab\r\n"),
        "yes", "yes", "no", "as above",
    ),
    "chunk extension with a control byte": (
        chunked(b"2;a=\x01\r\nab\r\n"),
        "yes", "yes", "no", "RFC 9112, 7.1.1: tokens or quoted strings",
    ),
    "chunk size of seventeen digits": (
        chunked(b"0" * 16 + b"2\r\nab\r\n"),
        "yes", "yes", "no", "sixteen digits hold every size; more test a reader's patience",
    ),
    "trailer that is no field": (
        chunked(b"2\r\nab\r\n", b"X T: t\r\n\r\n"),
        "yes", "bad or no", "no", "RFC 9112, 7.1.2: trailers are fields",
    ),
    "fields that Connection names": (
        get(b"Connection: close, x-secret\r\nX-Secret: 1\r\nX-A: b\r\n"),
        "other", "other", "yes", "RFC 9110, 7.6.1: what Connection names is not forwarded",
    ),
    "upgrade to HTTP/2": (
        get(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n"),
        "other", "other", "yes", "RFC 9113, 3.1 has done away with it; the request is answered",
    ),
    "Proxy-Connection": (
        get(b"Proxy-Connection: close\r\nX-A: b\r\n"),
        "other", "other", "yes", "RFC 9110, 7.6.1: a field of one connection",
    ),
}


# The tests --------------------------------------------------------------------------------------


def describe(result):
    requests, statuses, violations = result
    return f"{statuses}: {requests}, refused: {violations}"


def is_as_tested(name):
    """Whether what the tables say of a peer was seen with this version of it."""
    if name == "weir":
        return True
    command = [program(name), "-v"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    return re.search(TESTED[name], run.stdout + run.stderr) is not None


class Findings:
    """What is not as the tables say: an error, or a warning about a peer of another version."""

    def __init__(self, names):
        self.tested = {name: is_as_tested(name) for name in names}
        self.errors = []

    def add(self, case, name, result):
        text = f"{case}: {name} gave {describe(result)}"
        if self.tested[name]:
            self.errors.append(text)
        else:
            warnings.warn(text, stacklevel=2)

    def check(self):
        assert not self.errors, "\n".join(self.errors)


def test_what_all_refuse(proxies):
    findings = Findings(proxies)
    for case, data in REFUSED.items():
        for name in proxies:
            result = outcome(proxies, name, data)
            if result[0] or 200 in result[1]:
                findings.add(case, name, result)
    findings.check()


def test_what_all_forward_alike(proxies):
    findings = Findings(proxies)
    for case, data in FORWARDED.items():
        # HAProxy may forget what was pipelined when the client closes its direction too soon.
        answers = data.count(b" HTTP/1.")
        seen = {name: outcome(proxies, name, data, answers) for name in proxies}
        if not seen["weir"][0]:
            findings.add(case, "weir", seen["weir"])
        for name in PEERS:
            if seen[name] != seen["weir"]:
                findings.add(f"{case}: Weir gave {describe(seen['weir'])}", name, seen[name])
    findings.check()


def verdict(result, expected):
    """How the table puts it: `no`, `yes`, `other`, or `bad` where the recorder refused it.

    The status of a peer does not tell: HAProxy answers 502 for a server that closes without an
    answer, and 400 if it has seen by then that the client closed its direction.
    """
    requests, _, violations = result
    if not requests:
        return "bad" if violations else "no"
    return "yes" if expected is None or requests == expected else "other"


def test_where_they_differ(proxies):
    findings = Findings(proxies)
    for case, (data, nginx, haproxy, weir, reason) in DIFFERENT.items():
        assert reason and (nginx != weir or haproxy != weir), f"{case}: they do not differ"
        seen = {name: outcome(proxies, name, data) for name in proxies}
        expected = seen["weir"][0] or None
        for name, wanted in (("nginx", nginx), ("haproxy", haproxy), ("weir", weir)):
            if verdict(seen[name], expected) not in wanted.split(" or "):
                findings.add(f"{case}: `{wanted}` was expected", name, seen[name])
    findings.check()


def test_the_recorder_is_strict():
    """It refuses what a proxy must not send: else nothing above would mean much."""
    recorder = Recorder()
    address = f"127.0.0.1:{recorder.port}"
    try:
        for data in (
            post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
            post(b"Content-Length: 2\r\nContent-Length: 2\r\n", b"ab"),
            coded(b" xchunked"), chunked(b"2 \r\nab\r\n"), chunked(b"1\r\nab\r\n"),
            get(b"X-A: a\nX-B: b\r\n"), get(b"X-A: a\x01\r\n"), get(b"nothing\r\n"),
            post(b"Content-Length: 5\r\n", b"ab"),
        ):
            assert exchange(address, data) == b""
            requests, violations = recorder.take()
            assert requests == [] and len(violations) == 1, data
        assert b"200 OK" in exchange(address, FORWARDED["chunks"])
        requests, violations = recorder.take()
        assert [r.body for r in requests] == [b"hello!"] and violations == []
    finally:
        recorder.stop()
