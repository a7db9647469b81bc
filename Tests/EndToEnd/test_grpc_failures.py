"""Calls of gRPC that fail, or that somebody makes who may not; with servers that break rules."""

import grpc
import pytest

import calls
from test_grpc import connect, serve, service  # noqa: F401 (fixtures)
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
