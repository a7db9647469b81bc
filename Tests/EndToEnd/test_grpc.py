"""gRPC through Weir, by Google's own client and server."""

import threading

import grpc
import pytest

import calls
from certificates import Certificate, make_authority
from harness import eventually, gateway as gateway_resource, model

CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
INFER = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture
def serve():
    started = []

    def start(*arguments, **named):
        started.append(calls.Server(*arguments, **named))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def connect():
    opened = []

    def open_client(*arguments, **named):
        opened.append(calls.Client(*arguments, **named))
        return opened[-1]

    yield open_client
    for client in opened:
        client.close()


def service(name="svc", servers=(), **spec):
    """A model of protocol GRPC with a variant for each server."""
    variants = {f"v{n + 1}": [f"http://127.0.0.1:{s.port}"] for n, s in enumerate(servers)}
    spec.setdefault("paths", [{"prefix": "/test.Service"}])
    return model(name, variants, protocol="GRPC", **spec)


@pytest.fixture
def pair(weir, serve, connect):
    """A server, the gateway before it, and a client."""
    server = serve()
    gateway = weir(service(servers=[server]))
    return server, gateway, connect(gateway.address)


def test_all_four_kinds(pair):
    server, gateway, client = pair
    metadata = (("x-own", "1"), ("x-own-bin", b"\x01\x80"))
    answer, call = client.unary_call(b"hello", metadata=metadata)
    assert answer == b"hello" and call.code() is grpc.StatusCode.OK
    head, tail = dict(call.initial_metadata()), dict(call.trailing_metadata())
    assert head["x-head"] == "h" and head["x-data-bin"] == b"\x00\xff"
    assert head["x-weir-variant"] == "v1" and tail["x-tail"] == "server"
    seen = server.metadata[0]
    assert seen["x-own"] == "1" and seen["x-own-bin"] == b"\x01\x80"
    assert list(client.download(b"100")) == [b"%d" % n for n in range(100)]
    assert client.upload(iter([b"ab", b"", b"cde"])) == b"5"
    assert list(client.chat(iter([b"abc", b"de"]))) == [b"cba", b"ed"]
    assert gateway.metric("weir_requests_total", model="svc", code="200") == 4


def test_a_chat_goes_to_and_fro(pair):
    _, _, client = pair
    answered = threading.Semaphore(1)

    def requests():
        for number in range(50):
            answered.acquire()
            yield b"%d" % number

    for number, answer in enumerate(client.chat(requests())):
        assert answer == (b"%d" % number)[::-1]
        answered.release()


def test_large_messages_and_many_calls(pair):
    server, gateway, _ = pair
    limit = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    client = calls.Client(gateway.address, options=limit)
    for size in (0, 1, 16_383, 65_536, 3 << 20):
        body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        assert client.unary(body) == body, size
    futures = [
        client.method("unary_unary", "/test.Service/Unary").future(b"%d" % n, timeout=60)
        for n in range(200)
    ]
    assert [future.result() for future in futures] == [b"%d" % n for n in range(200)]
    client.close()


@pytest.mark.parametrize("code", CODES)
def test_errors_are_passed_on(pair, code):
    _, gateway, client = pair
    error = client.error(b"fail %d" % code.value[0])
    assert error.code() is code and error.details() == "bäd: 100 %"
    assert dict(error.trailing_metadata())["x-tail"] == "server"
    assert gateway.metric("weir_requests_total", model="svc", code="200") == 0


def test_deadlines_are_kept_and_passed_on(pair):
    server, _, client = pair
    client.unary(b"in time", timeout=30)
    assert 0 < server.time_left[-1] < 30
    stream = client.download(b"x", path="/test.Service/Wait", timeout=3)
    assert next(stream) == b"begun"
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert server.cancelled.wait(20)


def test_a_deadline_that_only_the_gateway_keeps(weir, serve, connect):
    server = serve()
    limits = {"connect": "1s", "firstByte": "3s", "request": "3s", "streamIdle": "3s"}
    gateway = weir(service(servers=[server], timeouts=limits))
    client = connect(gateway.address)
    stream = client.download(b"x", path="/test.Service/Wait")
    assert next(stream) == b"begun"
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert server.cancelled.wait(20)


def test_a_client_that_cancels(pair):
    server, gateway, client = pair
    stream = client.download(b"x", path="/test.Service/Wait")
    assert next(stream) == b"begun"
    stream.cancel()
    assert server.cancelled.wait(20)
    eventually(lambda: gateway.metric("weir_in_flight_requests", model="svc") == 0, "no request")


def test_a_server_that_leaves(pair):
    server, _, client = pair
    stream = client.download(b"x", path="/test.Service/Wait")
    assert next(stream) == b"begun"
    server.server.stop(None)
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    eventually(
        lambda: client.error(b"x").code() is grpc.StatusCode.UNAVAILABLE, "the server is gone"
    )


def test_unknown_methods_and_models(pair):
    _, _, client = pair
    assert client.error(b"", path="/test.Service/Nope").code() is grpc.StatusCode.UNIMPLEMENTED
    assert client.error(b"", path="/other.Service/X").code() is grpc.StatusCode.UNIMPLEMENTED
    error = client.error(calls.request("nope"), path=INFER)
    assert error.code() is grpc.StatusCode.NOT_FOUND and "svc" in error.details()
    assert client.error(b"", path=INFER).code() is grpc.StatusCode.INVALID_ARGUMENT
    assert client.error(b"\x08\x01", path=INFER).code() is grpc.StatusCode.INVALID_ARGUMENT
    twice = calls.request("svc") + calls.request("other")
    assert client.error(twice, path=INFER).code() is grpc.StatusCode.INVALID_ARGUMENT


def test_models_by_the_name_in_their_message(weir, serve, connect):
    servers = [serve(name) for name in ("one", "two")]
    gateway = weir(
        service("first", servers[:1], paths=[]),
        service("second", servers[1:], paths=[], aliases=["zwei"]),
    )
    client = connect(gateway.address)
    for name, server in (("first", "one"), ("second", "two"), ("zwei", "two")):
        answer = client.unary(calls.request(name), path=INFER)
        assert answer == calls.request(server), name
        answer = client.unary(b"", path=INFER, metadata=(("x-weir-model", name),))
        assert answer == calls.request(server), name
    # Fields in front of the name, and one so long that it comes in many pieces.
    front = b"\x2a" + b"\x80\x80\x10" + b"x" * (1 << 18)
    assert client.unary(front + calls.request("second"), path=INFER) == calls.request("two")
    compressed = client.error(
        calls.request("first") + b"\x12\x40" + b"y" * 64,
        path=INFER,
        compression=grpc.Compression.Gzip,
    )
    assert compressed.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_weights_and_variants(weir, serve, connect):
    servers = [serve(name) for name in ("one", "two")]
    gateway = weir(service(servers=servers, weights={"v1": 70, "v2": 30}))
    client = connect(gateway.address)
    for _ in range(100):
        client.unary(b"x")
    assert (len(servers[0].calls), len(servers[1].calls)) == (70, 30)


def occupied(weir, serve, connect, **spec):
    """A gateway whose only slot is taken, by a stream that ends when the server is released."""
    server = serve()
    gateway = weir(service(servers=[server], concurrency={"perReplica": 1}, **spec))
    client = connect(gateway.address)
    stream = client.download(b"x", path="/test.Service/Wait")
    assert next(stream) == b"begun"
    return server, gateway, client, stream


def test_a_full_queue(weir, serve, connect):
    server, gateway, client, stream = occupied(weir, serve, connect, queue={"capacity": 1})
    waiting = client.method("unary_unary", "/test.Service/Unary").future(b"waits", timeout=60)
    eventually(lambda: gateway.metric("weir_queue_depth", model="svc") == 1, "one waits")
    assert client.error(b"too many").code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    server.release.set()
    assert list(stream) == [] and waiting.result() == b"waits"


def test_a_queue_that_takes_too_long(weir, serve, connect):
    _, _, client, _ = occupied(weir, serve, connect, queue={"timeout": "300ms"})
    assert client.error(b"x").code() is grpc.StatusCode.UNAVAILABLE


def test_a_deadline_in_the_queue(weir, serve, connect):
    _, gateway, client, _ = occupied(weir, serve, connect)
    assert client.error(b"x", timeout=0.3).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    eventually(lambda: gateway.metric("weir_queue_depth", model="svc") == 0, "nobody waits")


def test_a_model_without_a_server(weir, connect):
    gateway = weir(
        model(
            "svc",
            {"v1": ["http://127.0.0.1:1"]},
            protocol="GRPC",
            paths=[{"prefix": "/test.Service"}],
            queue={"timeout": "1s"},
        )
    )
    client = connect(gateway.address)
    assert client.error(b"x").code() is grpc.StatusCode.UNAVAILABLE


def test_replicas_that_speak_http1_are_named(weir, simulator, connect):
    replica = simulator()
    gateway = weir(model("rest", {"v1": [f"http://{replica.address}"]}, protocol="OpenInference"))
    error = connect(gateway.address).error(calls.request("rest"), path=INFER)
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "protocol GRPC" in error.details()


# Health -----------------------------------------------------------------------------------------


def check(client, name=""):
    return client.unary(
        calls.request(name) if name else b"", path="/grpc.health.v1.Health/Check"
    )


def test_health_is_the_gateways(pair):
    _, gateway, client = pair
    assert check(client) == b"\x08\x01"
    eventually(lambda: check(client, "svc") == b"\x08\x01", "the model has a replica")
    error = client.error(calls.request("nope"), path="/grpc.health.v1.Health/Check")
    assert error.code() is grpc.StatusCode.NOT_FOUND
    base = "/inference.GRPCInferenceService/"
    assert client.unary(b"", path=base + "ServerLive") == b"\x08\x01"
    assert client.unary(b"", path=base + "ServerReady") == b"\x08\x01"
    assert b"weir" in client.unary(b"", path=base + "ServerMetadata")
    assert b"svc" in client.unary(b"", path=base + "RepositoryIndex")


def test_health_is_watched(pair):
    _, gateway, client = pair
    watch = "/grpc.health.v1.Health/Watch"
    stream = client.download(b"", path=watch)
    unknown = client.download(calls.request("later"), path=watch)
    assert next(stream) == b"\x08\x01"
    assert next(unknown) == b"\x08\x03"
    unknown.cancel()
    gateway.signal(15)
    assert next(stream) == b"\x08\x02"
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    gateway.wait()


# TLS --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["GRPC", "OpenInference"])
def test_over_tls_on_both_sides(weir, serve, connect, tmp_path, protocol):
    """By HTTP/2 as the only offer, and by HTTP/2 as the server's choice."""
    authority = make_authority()
    files = Certificate("localhost", ["localhost"], authority).write(tmp_path, "cert")
    key = open(files["key"], "rb").read()
    chain = open(files["certificate"], "rb").read()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    server = serve(credentials=grpc.ssl_server_credentials([(key, chain)]))
    served = model(
        "svc",
        {"v1": [f"https://localhost:{server.port}"]},
        protocol=protocol,
        **({"paths": [{"prefix": "/test.Service"}]} if protocol == "GRPC" else {}),
    )
    named = (("x-weir-model", "svc"),)
    served["spec"]["variants"][0]["tls"] = {"ca": str(tmp_path / "ca.pem")}
    front = gateway_resource(tmp_path)
    front["spec"]["listeners"][0]["tls"] = files
    gateway = weir(served, gateway=front)
    host, port = gateway.address.rsplit(":", 1)
    client = connect(
        f"localhost:{port}", credentials=grpc.ssl_channel_credentials(authority.pem)
    )
    assert client.unary(b"hello", metadata=named) == b"hello"
    assert list(client.chat(iter([b"abc"]), metadata=named)) == [b"cba"]
    assert client.unary(calls.request("svc"), path=INFER) == calls.request("server")
    error = client.error(b"fail 9", metadata=named)
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
