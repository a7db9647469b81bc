"""Clients and servers that speak TLS, down to single records, for the end-to-end tests."""

import contextlib
import http.client
import http.server
import json
import socket
import socketserver
import ssl
import threading


def client_context(authority=None, identity=None, **settings):
    """Trusts one authority; without one nobody is checked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authority:
        context.load_verify_locations(cadata=authority.pem.decode())
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if identity:
        context.load_cert_chain(identity["certificate"], identity["key"])
    for name, value in settings.items():
        setattr(context, name, value)
    return context


def split(address):
    host, port = address.rsplit(":", 1)
    return host, int(port)


def connect(address, context, name="localhost", session=None, timeout=30.0):
    """A connection whose handshake is done."""
    raw = socket.create_connection(split(address), timeout=timeout)
    try:
        return context.wrap_socket(raw, server_hostname=name, session=session)
    except BaseException:
        raw.close()
        raise


class SecureConnection(http.client.HTTPConnection):
    """HTTP over TLS to an address, asking for a name that the address is not."""

    def __init__(self, address, context, name="localhost", session=None, timeout=30.0):
        super().__init__(*split(address), timeout=timeout)
        self.address, self.context, self.name, self.session = address, context, name, session

    def connect(self):
        self.sock = connect(self.address, self.context, self.name, self.session, self.timeout)


class Records:
    """A TLS client that sees every record: OpenSSL works in memory, the socket is the test's."""

    def __init__(self, address, context, name="localhost"):
        self.socket = socket.create_connection(split(address), timeout=30.0)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)
        self.pending = b""
        self.records = []  # (type, length) of each record that was received
        self.ended = False
        self.drive(self.tls.do_handshake)

    def drive(self, step, *arguments):
        """Runs a step of OpenSSL, moving bytes until it is done."""
        while True:
            try:
                result = step(*arguments)
                self.flush()
                return result
            except ssl.SSLWantReadError:
                self.flush()
                self.receive()

    def flush(self):
        data = self.outgoing.read()
        if data:
            self.socket.sendall(data)

    def receive(self):
        data = self.socket.recv(65536)
        if not data:
            self.ended = True
            self.incoming.write_eof()
            return
        self.pending += data
        while len(self.pending) >= 5:
            length = int.from_bytes(self.pending[3:5], "big")
            if len(self.pending) < 5 + length:
                break
            self.records.append((self.pending[0], length))
            self.incoming.write(self.pending[: 5 + length])
            self.pending = self.pending[5 + length:]

    def write(self, data):
        self.drive(self.tls.write, data)

    def read(self, count=65536):
        """Some bytes; b"" after the peer's own word that this is the end."""
        try:
            return self.drive(self.tls.read, count)
        except ssl.SSLZeroReturnError:
            return b""

    def read_until(self, end):
        data = b""
        while not data.endswith(end):
            part = self.read()
            assert part, f"the end came after {data[-200:]!r}"
            data += part
        return data

    def say_end(self):
        """Sends close_notify, and reads on."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self.flush()

    def close(self):
        self.socket.close()


class Backend:
    """A model server of the test's own: tells what it was sent, and misbehaves when asked to."""

    def __init__(self, context=None, port=0):
        backend = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def log_message(self, *_):
                pass

            def body(self):
                if self.headers.get("transfer-encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("content-length") or 0))
                data = b""
                while size := int(self.rfile.readline(), 16):
                    data += self.rfile.read(size)
                    self.rfile.readline()
                while self.rfile.readline().strip():
                    pass
                return data

            def answer(self, body, kind="application/octet-stream"):
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                backend.requests.append((self.path, list(self.headers.items())))
                if isinstance(self.connection, ssl.SSLSocket):
                    backend.resumed.append(self.connection.session_reused)
                    backend.peers.append(self.connection.getpeercert())
                if self.path.startswith("/upgrade"):
                    return self.upgrade()
                data = self.body()
                if self.path.startswith("/echo"):
                    self.answer(data)
                elif self.path.startswith("/large"):
                    self.answer(bytes(range(256)) * 4096 * int(self.path[6:] or 1))
                elif self.path.startswith("/cut"):
                    self.cut()
                elif self.path.startswith("/events"):
                    self.events()
                else:
                    fields = json.dumps(list(self.headers.items())).encode()
                    self.answer(fields, "application/json")

            do_POST = do_GET

            def cut(self):
                """Promises more than it sends, or with `open` an end that nobody announces."""
                framing = {
                    "/cut": ("content-length", "1000"),
                    "/cut/chunked": ("transfer-encoding", "chunked"),
                    "/cut/open": ("connection", "close"),
                }
                self.send_response(200)
                self.send_header(*framing[self.path])
                self.end_headers()
                self.wfile.write(b"3e8\r\nxxx" if "chunked" in self.path else b"xxx")
                self.wfile.flush()
                self.close_connection = True
                # Of a session too: its close_notify is never sent.
                self.connection.shutdown(socket.SHUT_WR)

            def events(self):
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                self.wfile.flush()
                for number in range(int(self.path[8:] or 10)):
                    event = b"data: %d\n\n" % number
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
                    self.wfile.flush()
                    backend.gate.wait(30)
                    backend.gate.clear()
                self.wfile.write(b"0\r\n\r\n")

            def upgrade(self):
                self.send_response(101)
                self.send_header("connection", "upgrade")
                self.send_header("upgrade", "echo")
                self.end_headers()
                self.wfile.flush()
                while data := self.rfile.read1(65536):
                    self.wfile.write(data)
                    self.wfile.flush()
                self.close_connection = True

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 128

            def get_request(self):
                connection, peer = super().get_request()
                backend.connections += 1
                return connection, peer

            def finish_request(self, request, address):
                if context is None:
                    return super().finish_request(request, address)
                try:
                    secure = context.wrap_socket(request, server_side=True)
                except (ssl.SSLError, OSError) as error:
                    backend.errors.append(str(error))
                    return None
                try:
                    super().finish_request(secure, address)
                    secure.settimeout(5)
                    with contextlib.suppress(OSError, ValueError):
                        secure.unwrap()
                finally:
                    secure.close()

            def handle_error(self, *_):
                pass

        self.requests, self.resumed, self.peers, self.errors = [], [], [], []
        self.connections = 0
        self.gate = threading.Event()
        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.address = f"127.0.0.1:{self.port}"
        self.thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.05}
        )
        self.thread.start()

    @property
    def url(self):
        return f"http://{self.address}"

    def secure_url(self, name="127.0.0.1"):
        return f"https://{name}:{self.port}"

    def stop(self):
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@contextlib.contextmanager
def backends(folder):
    """start(certificate…) starts a Backend that shows it; all are stopped at the end.

    `clients` is an authority that its clients must have a certificate of, `version` the only one of
    TLS that it speaks, and `names` a list that takes the names that it was asked for.
    """
    started = []

    def start(certificate, clients=None, version=None, names=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        fields = certificate.write(folder / f"server{len(started)}", "server")
        context.load_cert_chain(fields["certificate"], fields["key"])
        if clients:
            context.load_verify_locations(cadata=clients.pem.decode())
            context.verify_mode = ssl.CERT_REQUIRED
        if version:
            context.minimum_version = context.maximum_version = version
        if names is not None:
            context.sni_callback = lambda _, name, __: names.append(name)
        started.append(Backend(context))
        return started[-1]

    yield start
    for backend in started:
        backend.stop()
