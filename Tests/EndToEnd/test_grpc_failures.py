"""Calls of gRPC that fail, or that somebody makes who may not; with servers that break rules."""

import contextlib
import itertools
import socket
import ssl
import threading
import time

import grpc
import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import pytest

import calls
from certificates import Certificate, make_authority
from harness import eventually, gateway as gateway_resource, model
from test_grpc import INFER, connect, serve, service  # noqa: F401 (fixtures)
from test_tenants import Tenant

CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
INFERENCE = "/inference.GRPCInferenceService/"


# Tenants ----------------------------------------------------------------------------------------


PROBES = [CHECK, WATCH, INFERENCE + "ServerLive", INFERENCE + "ServerReady"]


@pytest.fixture
def closed(weir, serve, connect):
    """A gateway with tenants: one may use `lake`, the other `river` too; and the server behind."""
    server = serve()
    fisher, miller = Tenant("fisher", models=["lake"]), Tenant("miller")
    gateway = weir(
        service("river", [server], paths=[]),
        service("lake", [server], paths=[]),
        fisher.document,
        miller.document,
    )
    return gateway, server, fisher, miller, connect(gateway.address)


def of(tenant, *more):
    return (*tenant.headers.items(), *more)


@pytest.mark.parametrize("field", ["x-weir-model", "x-gateway-model-name"])
def test_a_probe_for_a_replica_needs_a_key(closed, field):
    _, server, fisher, miller, client = closed
    named = (field, "river")
    for path in PROBES:
        for metadata in ((named,), (named, ("x-api-key", "weir-" + "0" * 64))):
            with pytest.raises(grpc.RpcError) as caught:
                list(client.download(b"", path=path, metadata=metadata))
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED, path
        with pytest.raises(grpc.RpcError) as caught:
            list(client.download(b"", path=path, metadata=of(fisher, named)))
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED, path
    # With a key it is the replica's to answer, and this one does not know the method.
    error = client.error(b"", path=CHECK, metadata=of(miller, named))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert server.calls == []


def test_probes_of_the_gateway_need_no_key(closed):
    _, _, fisher, _, client = closed
    for metadata in (None, of(fisher), (("x-api-key", "x"),)):
        for path in (CHECK, INFERENCE + "ServerLive", INFERENCE + "ServerReady"):
            assert client.unary(b"", path=path, metadata=metadata) == b"\x08\x01", path
        stream = client.download(b"", path=WATCH, metadata=metadata)
        assert next(stream) == b"\x08\x01"
        stream.cancel()


def test_health_of_models_is_told_to_who_may_use_them(closed):
    _, _, fisher, miller, client = closed

    def first(name, metadata):
        stream = client.download(calls.request(name), path=WATCH, metadata=metadata)
        answer = next(stream)
        stream.cancel()
        return answer

    for name in ("river", "lake", "nope"):
        error = client.error(calls.request(name), path=CHECK)
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED, name
        assert "river" not in error.details() and "lake" not in error.details()
        with pytest.raises(grpc.RpcError) as caught:
            first(name, None)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED, name
    for tenant, name in ((fisher, "lake"), (miller, "lake"), (miller, "river")):
        answer = client.unary(calls.request(name), path=CHECK, metadata=of(tenant))
        assert answer == b"\x08\x01" == first(name, of(tenant))
    for name in ("river", "nope"):
        error = client.error(calls.request(name), path=CHECK, metadata=of(fisher))
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert error.details() == f"There is no model `{name}`; there is lake."
        assert first(name, of(fisher)) == b"\x08\x03"


def test_one_connection_has_few_of_the_places_to_watch(weir, serve, connect):
    gateway = weir(service("river", [serve()]))
    # Clients of one process share connections otherwise.
    alone = [("grpc.use_local_subchannel_pool", 1)]
    first, second = connect(gateway.address, options=alone), connect(gateway.address, options=alone)
    streams = [first.download(b"", path=WATCH) for _ in range(10)]
    assert [next(stream) for stream in streams] == [b"\x08\x01"] * 10
    with pytest.raises(grpc.RpcError) as caught:
        next(first.download(b"", path=WATCH))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert next(second.download(b"", path=WATCH)) == b"\x08\x01"
    streams[0].cancel()

    def again():
        with contextlib.suppress(grpc.RpcError):
            return next(first.download(b"", path=WATCH))
        return None

    eventually(lambda: again() == b"\x08\x01", "a place that has come free")


# Replicas that break rules -----------------------------------------------------------------------


class Replica:
    """A server of HTTP/2 that does with each request what `rule(connection, number)` says.

    The rule is called when a request is complete, for its number of all requests, from 0.
    """

    def __init__(self, rule, tls=None):
        self.rule, self.tls = rule, tls
        self.requests, self.pings, self.connections = 0, 0, []
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.accept, daemon=True).start()

    @property
    def port(self):
        return self.listener.getsockname()[1]

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self.listener.accept()
                self.connections.append(peer)
                threading.Thread(target=self.serve, args=(peer,), daemon=True).start()

    def serve(self, peer):
        with contextlib.suppress(OSError, h2.exceptions.ProtocolError), peer:
            if not self.tls:
                return Connection(self, peer).run()
            with self.tls.wrap_socket(peer, server_side=True) as secure:
                # It has taken the descriptor over.
                self.connections.append(secure)
                if secure.selected_alpn_protocol() == "h2":
                    return Connection(self, secure).run()
                while b"\r\n\r\n" in secure.recv(65536):
                    secure.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    def stop(self):
        # A listener that is only closed would go on waiting in `accept`.
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()

    def cut(self):
        """Ends all connections."""
        for peer in self.connections:
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)


class Connection:
    def __init__(self, replica, peer):
        self.replica, self.socket = replica, peer
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)

    def run(self):
        self.h2.initiate_connection()
        self.send()
        while data := self.socket.recv(65536):
            for event in self.h2.receive_data(data):
                self.take(event)
            self.send()

    def send(self):
        self.socket.sendall(self.h2.data_to_send())

    def take(self, event):
        if isinstance(event, h2.events.DataReceived):
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.PingReceived):
            self.replica.pings += 1
        elif isinstance(event, h2.events.StreamEnded):
            self.stream = event.stream_id
            with self.replica.lock:
                number = self.replica.requests
                self.replica.requests += 1
            self.replica.rule(self, number)

    def answer(self, fields=(("grpc-status", "0"),), status="200", body=b"\0\0\0\0\0"):
        head = [(":status", status), ("content-type", "application/grpc")]
        self.h2.send_headers(self.stream, head)
        self.h2.send_data(self.stream, body, end_stream=not fields)
        if fields:
            self.h2.send_headers(self.stream, list(fields), end_stream=True)

    def reset(self, code=h2.errors.ErrorCodes.INTERNAL_ERROR):
        self.h2.reset_stream(self.stream, code)


@pytest.fixture
def replica():
    started = []

    def start(rule, **named):
        started.append(Replica(rule, **named))
        return started[-1]

    yield start
    for each in started:
        each.stop()


def fleet(replicas, **spec):
    """A model with one variant of these replicas."""
    urls = [f"http://127.0.0.1:{each.port}" for each in replicas]
    paths = [{"prefix": "/test.Service"}]
    return model("svc", {"v1": urls}, protocol="GRPC", paths=paths, **spec)


def ejections(gateway):
    return gateway.metric("weir_outlier_ejections_total", model="svc") or 0


def test_replicas_that_reset_streams_are_ejected(weir, replica, connect):
    """Two, one of which resets every call, on connections that have carried calls before."""
    good = replica(lambda connection, _: connection.answer())
    bad = replica(lambda connection, number: connection.reset() if number else connection.answer())
    gateway = weir(
        fleet(
            [good, bad],
            loadBalancing={"policy": "RoundRobin"},
            outlier={"consecutiveErrors": 5, "ejectFor": "10m"},
        )
    )
    client = connect(gateway.address)

    def call():
        with contextlib.suppress(grpc.RpcError):
            client.unary(b"")

    for _ in range(1000):
        if ejections(gateway):
            break
        call()
    assert ejections(gateway) == 1
    seen = bad.requests
    for _ in range(20):
        client.unary(b"")
    assert bad.requests == seen


def test_calls_that_servers_cancel_eject_nobody(weir, replica, connect):
    cancel = h2.errors.ErrorCodes.CANCEL
    replicas = [replica(lambda connection, _: connection.reset(cancel)) for _ in range(2)]
    gateway = weir(fleet(replicas, outlier={"consecutiveErrors": 2}))
    client = connect(gateway.address)
    for _ in range(12):
        assert client.error(b"").code() is grpc.StatusCode.CANCELLED
    assert ejections(gateway) == 0


def test_the_status_is_of_the_last_try(weir, replica, connect):
    """The first try is reset, and nothing comes of the second in time."""

    tries = itertools.count()

    def rule(connection, _):
        if next(tries) == 0:
            connection.reset()

    replicas = [replica(rule) for _ in range(2)]
    # The gateway's own, so that the client's is not what passes first.
    timeouts = {"firstByte": "3s"}
    retry = {"attempts": 2, "budget": "100%"}
    gateway = weir(fleet(replicas, retry=retry, timeouts=timeouts))
    client = connect(gateway.address)
    error = client.error(calls.request("svc"), path=INFER)
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED, error.details()
    assert next(tries) == 2


@pytest.mark.parametrize("status", ["200", "204"])
def test_a_call_without_a_status_is_a_failure(weir, replica, connect, status):
    def rule(connection, _):
        connection.answer(fields=(), status=status, body=b"")

    gateway = weir(service(servers=[replica(rule)]))
    client = connect(gateway.address)
    for _ in range(3):
        assert client.error(b"").code() is grpc.StatusCode.UNKNOWN
    for code, count in (("200", 0), ("204", 0), ("500", 3)):
        found = gateway.metric("weir_requests_total", model="svc", code=code)
        assert (found or 0) == count, code


def test_timeouts_bring_few_pings(weir, replica, connect):
    """Servers of gRPC end connections for pings that are not asked for."""
    server = replica(lambda *_: None)
    gateway = weir(service(servers=[server], timeouts={"firstByte": "200ms"}))
    client = connect(gateway.address)
    began = time.monotonic()
    for _ in range(8):
        assert client.error(b"").code() is grpc.StatusCode.DEADLINE_EXCEEDED
    eventually(lambda: server.pings, "a ping")
    assert server.pings <= 1 + (time.monotonic() - began) / 10


def test_a_replica_that_speaks_http2_no_more(weir, replica, tmp_path):
    """It had chosen HTTP/2, and chooses HTTP/1.1 from now on."""
    authority = make_authority()
    files = Certificate("localhost", ["localhost"], authority).write(tmp_path, "cert")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(files["certificate"], files["key"])
    tls.set_alpn_protocols(["h2", "http/1.1"])
    server = replica(lambda connection, _: connection.answer(fields=(), body=b"h2"), tls=tls)
    served = model("m", {"v1": [f"https://localhost:{server.port}"]}, protocol="OpenInference")
    served["spec"]["variants"][0]["tls"] = {"ca": str(tmp_path / "ca.pem")}
    # Each worker has connections of its own, and would have to find out by itself.
    gateway = weir(served, gateway=gateway_resource(tmp_path, workers=1))

    def get():
        return gateway.call("GET", "/v2/models/m").body

    assert get() == b"h2" and get() == b"h2"
    tls.set_alpn_protocols(["http/1.1"])
    server.cut()
    eventually(lambda: get() == b"ok", "the replica is asked by HTTP/1.1")
    assert get() == b"ok"
