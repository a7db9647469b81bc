"""HTTP/2 where a client or a replica breaks a rule, and what must not suffer from it."""

import contextlib

import grpc
import pytest

import calls
from harness import eventually, gateway as gateway_resource, model
from multiplexed import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    Frames,
    frame,
    literal,
)
from test_grpc import connect, serve, service  # noqa: F401 (fixtures)

WATCH = "/grpc.health.v1.Health/Watch"


def watch(**fields):
    """The head of a call that is answered at once and goes on."""
    pseudo = {":method": "POST", ":scheme": "http", ":path": WATCH, ":authority": "a.example"}
    names = {**pseudo, "content-type": "application/grpc", "te": "trailers", **fields}
    return b"".join(literal(name, value) for name, value in names.items())


MALFORMED = {
    "no scheme": [(":method", "GET"), (":path", "/"), (":authority", "a")],
    "twice": [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":path", "/b")],
    "upper case": [(":method", "GET"), (":scheme", "http"), (":path", "/"), ("X-A", "b")],
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_head_ends_its_stream_alone(weir, tmp_path, name):
    """Another stream of its connection outlives the time that a head may take."""
    front = gateway_resource(tmp_path, limits={"headerTimeout": "1s"})
    gateway = weir(model("m", {"v1": ["http://127.0.0.1:1"]}), gateway=front)
    bad = b"".join(literal(*field) for field in MALFORMED[name])
    with Frames(gateway.address) as client:
        client.send(
            frame(HEADERS, END_HEADERS, 1, watch()),
            frame(DATA, END_STREAM, 1, b"\0\0\0\0\0"),
        )
        assert client.wait(lambda: any(each[2] == 1 for each in client.of(DATA)))
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 3, bad))
        assert client.wait(lambda: any(each[2] == 3 for each in client.of(RST_STREAM)))
        # The time passes on another connection, whose head does not end.
        with Frames(gateway.address) as late:
            late.send(frame(HEADERS, END_STREAM, 1, watch()))
            assert late.goaway() is not None
        client.send(frame(PING, 0, 0, b"12345678"))
        assert client.wait(lambda: any(each[1] & ACK for each in client.of(PING)))
        assert not client.of(GOAWAY)


def test_a_chat_may_be_quiet(weir, serve, connect, tmp_path):
    """For longer than a body may take to arrive, once it is being answered."""
    server = serve()
    front = gateway_resource(tmp_path, limits={"idleTimeout": "1s"})
    gateway = weir(service(servers=[server]), gateway=front)
    client = connect(gateway.address)

    def begin():
        """A chat that was answered in time, which a busy machine may fail to do."""
        more = calls.Requests()
        chat = client.chat(iter(more))
        more.put(b"ab")
        with contextlib.suppress(grpc.RpcError):
            return (more, chat) if next(chat) == b"ba" else None
        more.put(None)
        return None

    begun = []
    eventually(lambda: begun.append(begin()) or begun[-1], "a chat that has begun")
    more, chat = begun[-1]
    # Two requests whose bodies do not come take twice the time in which one must.
    for _ in range(2):
        late = calls.Requests()
        with pytest.raises(grpc.RpcError) as caught:
            client.upload(iter(late))
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        late.put(None)
    more.put(b"cd")
    assert next(chat) == b"dc"
    more.put(None)
    assert list(chat) == []
