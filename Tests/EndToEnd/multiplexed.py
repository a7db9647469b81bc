"""HTTP/2 clients for the end-to-end tests: one that keeps the rules, and one that need not."""

import contextlib
import socket
import struct

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
ENHANCE_YOUR_CALM = 11


def split(address):
    host, port = address.rsplit(":", 1)
    return host, int(port)


class Stream:
    """What came for one request."""

    def __init__(self):
        self.status, self.headers, self.body = None, {}, b""
        self.interim, self.trailers = [], None
        self.ended, self.reset = False, None

    @property
    def is_over(self):
        return self.ended or self.reset is not None


class Client:
    """One connection, by Python's h2; every wait is for an event and has the socket's deadline."""

    def __init__(self, address, tls=None, timeout=30.0, window=None, checks=True):
        self.socket = socket.create_connection(split(address), timeout=timeout)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.scheme = "https" if tls else "http"
        self.authority = address
        config = h2.config.H2Configuration(
            header_encoding="utf-8",
            validate_outbound_headers=checks,
            normalize_outbound_headers=checks,
        )
        self.h2 = h2.connection.H2Connection(config)
        if window is not None:
            self.h2.local_settings[h2.settings.SettingCodes.INITIAL_WINDOW_SIZE] = window
        self.h2.initiate_connection()
        self.streams = {}
        self.goaways, self.pongs, self.closed = [], 0, False
        self.keeps_room = window is not None
        self.send()

    def send(self):
        self.socket.sendall(self.h2.data_to_send())

    def begin(self, method="GET", path="/", headers=(), body=None, ends=True, authority=None):
        number = self.h2.get_next_available_stream_id()
        fields = [
            (":method", method),
            (":scheme", self.scheme),
            (":path", path),
            (":authority", authority or self.authority),
            *headers,
        ]
        self.streams[number] = Stream()
        self.h2.send_headers(number, fields, end_stream=ends and body is None)
        self.send()
        if body is not None:
            self.write(number, body, ends=ends)
        return number

    def write(self, number, body, ends=False):
        """Sends a body as the server leaves room for it."""
        view = memoryview(body)
        while view:
            room = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size)
            if room == 0:
                self.receive()
                if self.streams[number].is_over or self.closed:
                    return
                continue
            self.h2.send_data(number, bytes(view[:room]))
            view = view[room:]
            self.send()
        if ends:
            self.h2.end_stream(number)
            self.send()

    def receive(self):
        data = self.socket.recv(65536)
        if not data:
            self.closed = True
            return
        for event in self.h2.receive_data(data):
            self.take(event)
        self.send()

    def take(self, event):
        stream = self.streams.get(getattr(event, "stream_id", None))
        if isinstance(event, h2.events.ResponseReceived):
            stream.headers = dict(event.headers)
            stream.status = int(stream.headers[":status"])
        elif isinstance(event, h2.events.InformationalResponseReceived):
            stream.interim.append(int(dict(event.headers)[":status"]))
        elif isinstance(event, h2.events.DataReceived):
            stream.body += event.data
            if not self.keeps_room:
                self.make_room(event.stream_id, event.flow_controlled_length)
        elif isinstance(event, h2.events.TrailersReceived):
            stream.trailers = dict(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            stream.ended = True
        elif isinstance(event, h2.events.StreamReset):
            stream.reset = int(event.error_code)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaways.append((event.last_stream_id, int(event.error_code)))
        elif isinstance(event, h2.events.PingAckReceived):
            self.pongs += 1

    def make_room(self, number, count):
        if count:
            with contextlib.suppress(h2.exceptions.ProtocolError):
                self.h2.acknowledge_received_data(count, number)

    def wait(self, condition):
        while not condition() and not self.closed:
            self.receive()
        return condition()

    def finish(self, number):
        self.wait(lambda: self.streams[number].is_over)
        return self.streams[number]

    def get(self, path="/", **named):
        return self.finish(self.begin("GET", path, **named))

    def post(self, path, body, **named):
        return self.finish(self.begin("POST", path, body=body, **named))

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def frame(kind, flags=0, stream=0, payload=b""):
    length = struct.pack(">I", len(payload))[1:]
    return length + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name, value):
    """A field that no table is needed for (RFC 7541, section 6.2.2); short ones only."""
    name, value = name.encode(), value.encode()
    assert len(name) < 127 and len(value) < 127
    return bytes([0, len(name)]) + name + bytes([len(value)]) + value


def head(method="GET", path="/", authority="a.example", **fields):
    pseudo = {":method": method, ":scheme": "http", ":path": path, ":authority": authority}
    return b"".join(literal(name, value) for name, value in {**pseudo, **fields}.items())


class Frames:
    """A connection whose frames the test writes itself."""

    def __init__(self, address, *frames, timeout=30.0):
        """`frames` go out in one piece with the preface."""
        self.socket = socket.create_connection(split(address), timeout=timeout)
        self.pending, self.seen, self.closed = b"", [], False
        self.socket.sendall(PREFACE + frame(SETTINGS) + b"".join(frames))

    def send(self, *frames):
        """False where the peer has closed."""
        try:
            self.socket.sendall(b"".join(frames))
            return True
        except OSError:
            return False

    def receive(self):
        try:
            data = self.socket.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            self.closed = True
            return
        self.pending += data
        while len(self.pending) >= 9:
            length = int.from_bytes(self.pending[:3], "big")
            if len(self.pending) < 9 + length:
                return
            kind, flags = self.pending[3], self.pending[4]
            stream = int.from_bytes(self.pending[5:9], "big")
            self.seen.append((kind, flags, stream, self.pending[9 : 9 + length]))
            self.pending = self.pending[9 + length :]

    def wait(self, condition):
        while not condition() and not self.closed:
            self.receive()
        return condition()

    def of(self, kind):
        return [entry for entry in self.seen if entry[0] == kind]

    def goaway(self):
        """The code of the farewell, once it has come."""
        self.wait(lambda: bool(self.of(GOAWAY)))
        frames = self.of(GOAWAY)
        return int.from_bytes(frames[-1][3][4:8], "big") if frames else None

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
