"""What Weir does for HTTP it does for gRPC: tenants, retries, rollouts, mirrors, log, metrics."""

import concurrent.futures
import contextlib
import json
import socket
import threading

import grpc
import pytest

import calls
import interop
from certificates import Certificate, make_authority
from harness import eventually, gateway as gateway_resource, model, resource
from test_grpc import INFER, connect, serve, service  # noqa: F401 (two of them are fixtures)
from test_rollouts import policy
from test_tenants import Tenant


def log_lines(tmp_path, count):
    """The access log once it has `count` lines."""
    path = tmp_path / "access.log"
    eventually(lambda: len(path.read_bytes().splitlines()) >= count, f"{count} lines in the log")
    return [json.loads(line) for line in path.read_text().splitlines()]


def securely(tmp_path):
    """A certificate's files, its authority, and a gateway with it."""
    authority = make_authority()
    files = Certificate("localhost", ["localhost"], authority).write(tmp_path, "cert")
    front = gateway_resource(tmp_path)
    front["spec"]["listeners"][0]["tls"] = files
    return authority, files, front


# Interoperability -------------------------------------------------------------------------------


@pytest.fixture
def interop_server():
    started = []

    def start(credentials=None):
        server = grpc.server(concurrent.futures.ThreadPoolExecutor(64))
        server.add_generic_rpc_handlers((interop.handlers(),))
        started.append(server)
        if credentials:
            return server, server.add_secure_port("localhost:0", credentials)
        return server, server.add_insecure_port("127.0.0.1:0")

    yield start
    for server in started:
        server.stop(None).wait()


@pytest.mark.parametrize("is_secure", [False, True])
def test_the_interoperability_cases(  # noqa: F811
    weir, connect, interop_server, tmp_path, is_secure
):
    front, options, scheme = None, {}, "http://127.0.0.1"
    if is_secure:
        authority, files, front = securely(tmp_path)
        pair = (open(files["key"], "rb").read(), open(files["certificate"], "rb").read())
        credentials = grpc.ssl_server_credentials([pair])
        (tmp_path / "ca.pem").write_bytes(authority.pem)
        options, scheme = {"ca": str(tmp_path / "ca.pem")}, "https://localhost"
        server, port = interop_server(credentials)
    else:
        server, port = interop_server()
    server.start()
    served = model("svc", {"v1": [f"{scheme}:{port}"]}, protocol="GRPC", paths=[{"prefix": "/"}])
    if is_secure:
        served["spec"]["variants"][0]["tls"] = options
    gateway = weir(served, gateway=front)
    if is_secure:
        address = "localhost:" + gateway.address.rsplit(":", 1)[1]
        client = connect(address, credentials=grpc.ssl_channel_credentials(authority.pem))
    else:
        client = connect(gateway.address)
    stub = interop.Stub(client.channel)
    for case in interop.CASES:
        case(stub)
    eventually(
        lambda: gateway.metric("weir_in_flight_requests", model="svc") == 0, "no call is left"
    )
    # Messages passed as they came: zeros weigh nothing where they are compressed.
    sizes = [
        (line["bytes_in"], line["bytes_out"])
        for line in log_lines(tmp_path, 10)
        if line["path"].endswith("/UnaryCall") and line["status"] == 200
    ]
    assert [sent > 200_000 for sent, _ in sizes[:4]] == [True, False, False, True]
    assert [received > 200_000 for _, received in sizes[4:6]] == [False, True]


# Tenants ----------------------------------------------------------------------------------------


def test_keys_are_metadata(weir, serve, connect, tmp_path):  # noqa: F811
    team, other = Tenant("team", models=["svc"]), Tenant("other", models=["own"])
    few = Tenant("few", limits={"requestsPerSecond": 1})
    server = serve()
    own = service("own", [server], paths=[{"prefix": "/own.Service"}])
    documents = [tenant.document for tenant in (team, other, few)]
    gateway = weir(service(servers=[server]), own, *documents)
    client = connect(gateway.address)

    def bearer(tenant):
        return (("authorization", f"Bearer {tenant.key}"),)

    assert client.unary(b"x", metadata=bearer(team)) == b"x"
    assert client.unary(b"x", metadata=(("x-api-key", team.key),)) == b"x"
    assert list(client.chat(iter([b"ab"]), metadata=bearer(team))) == [b"ba"]
    for metadata in [None, (("x-api-key", "no"),), (("authorization", f"Basic {team.key}"),)]:
        error = client.error(b"x", metadata=metadata)
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    error = client.error(b"x", metadata=bearer(other))
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    # Keys do not go to servers, and who probes needs none.
    assert all("authorization" not in seen for seen in server.metadata)
    assert all("x-api-key" not in seen for seen in server.metadata)
    assert client.unary(b"", path="/grpc.health.v1.Health/Check") == b"\x08\x01"
    # One call may go through at once, and the rest is told when to come again.
    outcomes = [client.method("unary_unary", "/test.Service/Unary").future(
        b"x", timeout=60, metadata=bearer(few)
    ) for _ in range(20)]  # fmt: skip
    refused = [call for call in outcomes if call.exception()]
    assert refused
    for call in refused:
        assert call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert 0 < int(dict(call.trailing_metadata())["grpc-retry-pushback-ms"]) <= 1_000
    assert team.key not in gateway.metrics() + gateway.output()


# Retries, variants, rollouts, mirrors -----------------------------------------------------------


@pytest.fixture
def closer():
    """A port where every connection is closed at once."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run():
        with contextlib.suppress(OSError):
            while True:
                listener.accept()[0].close()

    threading.Thread(target=run, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def test_an_inference_goes_to_another_replica(weir, serve, connect, closer):  # noqa: F811
    server = serve()
    served = service(servers=[server], paths=[])
    served["spec"]["variants"][0]["endpoints"].append(f"http://127.0.0.1:{closer}")
    gateway = weir(served)
    eventually(
        lambda: gateway.metric("weir_replicas", model="svc", state="ready") == 2, "two replicas"
    )
    client = connect(gateway.address)

    def is_retried():
        assert client.unary(calls.request("svc"), path=INFER) == calls.request("server")
        return gateway.metric("weir_retries_total", model="svc", outcome="success") >= 1

    # Which of them is asked is chance.
    eventually(is_retried, "a call was sent again")
    # What is not known to be repeatable is told to its client, who may.
    served["spec"]["variants"][0]["endpoints"].pop(0)
    gateway.write([json.loads(gateway.config.read_text().split("\n---\n")[0]), served])
    eventually(
        lambda: gateway.metric("weir_replicas", model="svc", state="ready") == 1, "one replica"
    )
    error = client.error(b"", path="/other.Service/X", metadata=(("x-weir-model", "svc"),))
    assert error.code() is grpc.StatusCode.UNAVAILABLE


def test_a_client_may_choose_its_variant(weir, serve, connect):  # noqa: F811
    servers = [serve(name) for name in ("one", "two")]
    gateway = weir(
        service(
            servers=servers,
            live="v1",
            overrideHeader="x-weir-variant",
            sticky={"header": "x-user"},
            weights={"v1": 50, "v2": 50},
        )
    )
    client = connect(gateway.address)
    for variant, name in (("v2", "two"), ("v1", "one")):
        _, call = client.unary_call(b"x", metadata=(("x-weir-variant", variant),))
        assert dict(call.trailing_metadata())["x-tail"] == name
        assert dict(call.initial_metadata())["x-weir-variant"] == variant
    for user in range(10):
        seen = set()
        for _ in range(5):
            _, call = client.unary_call(b"x", metadata=(("x-user", str(user)),))
            seen.add(dict(call.trailing_metadata())["x-tail"])
        assert len(seen) == 1


def test_calls_are_mirrored(weir, serve, connect):  # noqa: F811
    servers = [serve(name) for name in ("one", "two")]
    gateway = weir(
        service(servers=servers, live="v1", mirror={"to": "v2", "sample": "100%"})
    )
    client = connect(gateway.address)
    bodies = [b"%d" % number for number in range(10)]
    for body in bodies:
        answer, call = client.unary_call(body, metadata=(("x-own", "1"),))
        assert answer == body and dict(call.trailing_metadata())["x-tail"] == "one"
    # A copy that fails is nobody's trouble.
    assert client.error(b"fail 9").code() is grpc.StatusCode.FAILED_PRECONDITION
    eventually(
        lambda: sorted(servers[1].calls) == sorted([*bodies, b"fail 9"]), "all were copied"
    )
    assert servers[1].metadata[0]["x-own"] == "1"
    assert gateway.metric("weir_requests_total", model="svc", variant="v2") == 0


class Traffic:
    """Calls one behind the other, until the end of the test's block."""

    def __init__(self, client):
        self.client, self.failed, self.done, self.stopped = client, 0, 0, False
        self.pool = concurrent.futures.ThreadPoolExecutor(2)

    def run(self):
        while not self.stopped:
            try:
                self.client.unary(b"x")
            except grpc.RpcError:
                self.failed += 1
            self.done += 1

    def __enter__(self):
        self.running = [self.pool.submit(self.run) for _ in range(2)]
        return self

    def __exit__(self, *_):
        self.stopped = True
        for running in self.running:
            running.result()
        self.pool.shutdown()


def rollout(gateway, state):
    """Until the rollout is in a state that it stays in."""

    def is_there():
        gateway.assert_running()
        return gateway.admin("GET", "/api/v1/rollouts/svc")["state"] == state

    eventually(is_there, f"the rollout is {state}", 60)


STEPS = [{"weight": 30, "hold": "1s"}]


@pytest.mark.parametrize("is_good", [True, False])
def test_a_rollout_by_calls(weir, serve, connect, is_good):  # noqa: F811
    """A variant whose calls end with INTERNAL is taken back, by trailers alone: HTTP says 200."""
    servers = [serve(name) for name in ("one", "two")]
    servers[1].fails_with = None if is_good else grpc.StatusCode.INTERNAL
    rules = policy(STEPS if is_good else [{"weight": 30, "hold": "600s"}])
    gateway = weir(
        rules, service(servers=servers, live="v1", rollout={"policy": "quick"})
    )
    client = connect(gateway.address)
    client.unary(b"x")
    with Traffic(client) as traffic:
        gateway.admin("PUT", "/api/v1/models/svc/live", {"variant": "v2"})
        rollout(gateway, "live" if is_good else "rolledBack")
        if is_good:
            assert traffic.failed == 0
    _, call = client.unary_call(b"x")
    assert dict(call.initial_metadata())["x-weir-variant"] == ("v2" if is_good else "v1")


# Health checks of servers -----------------------------------------------------------------------


class Health:
    """A server with nothing but the health service of gRPC, which says what the test says."""

    def __init__(self, credentials=None):
        self.status, self.asked = b"\x08\x02", []
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        handler = grpc.unary_unary_rpc_method_handler(self.check, calls.identity, calls.identity)
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler}),)
        )
        if credentials:
            self.port = self.server.add_secure_port("localhost:0", credentials)
        else:
            self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def check(self, request, context):
        self.asked.append(request)
        if self.status is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return self.status


@pytest.mark.parametrize("is_secure", [False, True])
def test_servers_are_asked_by_the_health_service(weir, tmp_path, is_secure):
    authority, files, front = securely(tmp_path)
    credentials, address = None, "http://127.0.0.1"
    if is_secure:
        pair = (open(files["key"], "rb").read(), open(files["certificate"], "rb").read())
        credentials, address = grpc.ssl_server_credentials([pair]), "https://localhost"
    health = Health(credentials)
    check = {"grpc": {"service": "digits"}, "period": "50ms", "timeout": "30s"}
    served = model(
        "svc", {"v1": [f"{address}:{health.port}"]}, protocol="GRPC", paths=[{"prefix": "/x"}],
        healthCheck=check,
    )  # fmt: skip
    if is_secure:
        (tmp_path / "ca.pem").write_bytes(authority.pem)
        served["spec"]["variants"][0]["tls"] = {"ca": str(tmp_path / "ca.pem")}
    gateway = weir(served, gateway=front)

    def is_ready():
        return gateway.metric("weir_replicas", model="svc", state="ready") == 1

    try:
        eventually(lambda: len(health.asked) >= 2, "the server is asked")
        assert set(health.asked) == {calls.request("digits")} and not is_ready()
        health.status = b"\x08\x01"
        eventually(is_ready, "SERVING is ready")
        for status in (b"\x08\x02", None, b""):
            health.status = status
            eventually(lambda: not is_ready(), f"{status} is not ready")
            health.status = b"\x08\x01"
            eventually(is_ready, "SERVING is ready")
    finally:
        health.server.stop(None).wait()
    eventually(lambda: not is_ready(), "a server that is gone is not ready")


def test_a_server_that_says_nothing_at_length_is_not_ready(weir):
    """Frames of a type that nobody knows, without end: reading them must end."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    connection.sendall(b"\0\0\0\4\0\0\0\0\0")
                    while True:
                        connection.sendall(b"\0\4\0\x42\0\0\0\0\0" + bytes(1_024))

    threading.Thread(target=serve, daemon=True).start()
    port = listener.getsockname()[1]
    gateway = weir(model(
        "svc", {"v1": [f"http://127.0.0.1:{port}"]}, protocol="GRPC", paths=[{"prefix": "/x"}],
        healthCheck={"grpc": {"service": ""}, "period": "50ms", "timeout": "30s"},
    ))  # fmt: skip
    try:
        words = "no answer within 4096 bytes"
        eventually(lambda: words in json.dumps(gateway.replicas()), "it is given up")
        assert gateway.metric("weir_replicas", model="svc", state="ready") == 0
    finally:
        listener.close()


# The log and metrics ----------------------------------------------------------------------------


def test_how_calls_end_is_logged_and_counted(weir, serve, connect, tmp_path):  # noqa: F811
    server = serve()
    gateway = weir(service(servers=[server]))
    client = connect(gateway.address)
    client.unary(b"x")
    client.error(b"fail 5")
    client.error(b"fail 14")
    client.error(b"", path="/nobody.Service/X")
    stream = client.download(b"x", path="/test.Service/Wait")
    next(stream)
    stream.cancel()
    lines = log_lines(tmp_path, 5)
    assert [(line["status"], line["grpc_status"]) for line in lines] == [
        (200, "OK"), (404, "NOT_FOUND"), (503, "UNAVAILABLE"), (404, "UNIMPLEMENTED"),
        (200, "CANCELLED"),
    ]  # fmt: skip

    def counted(status):
        return gateway.metric("weir_grpc_calls_total", model="svc", variant="v1", status=status)

    for status in ("OK", "NOT_FOUND", "UNAVAILABLE", "CANCELLED"):
        assert counted(status) == 1, status
    assert counted("INTERNAL") == 0
