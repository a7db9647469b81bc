"""Clients that send what they should not: the right status, or a closed connection, and no harm."""

import json
import os
import re
import socket
import time

import pytest

from harness import Load, call, eventually, infer_body, model
from harness import gateway as gateway_resource

MODEL = "gauge"
PATH = f"/v2/models/{MODEL}/infer"
ANSWER_SECONDS = 10


@pytest.fixture
def server(simulator):
    return simulator("--model", MODEL)


@pytest.fixture
def gateway(weir, server):
    return weir(model(MODEL, {"v1": [server.url]}, protocol="OpenInference"))


def connect(gateway):
    host, port = gateway.address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS)


def exchange(gateway, data):
    """Sends bytes and no more; returns what comes until the other end closes."""
    with connect(gateway) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has closed already, perhaps after an answer
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
        return answer


def statuses(answer):
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def request(body=None, headers=(), path=PATH, method="POST"):
    payload = json.dumps(infer_body()).encode() if body is None else body
    lines = [f"{method} {path} HTTP/1.1", "host: gauge.test", "content-type: application/json"]
    lines += [f"content-length: {len(payload)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + payload


def assert_still_serves(gateway):
    gateway.assert_running()
    assert gateway.call("POST", PATH, infer_body()).status == 200


AMBIGUOUS = {
    "length and chunks": b"content-length: 3\r\ntransfer-encoding: chunked",
    "two lengths": b"content-length: 3\r\ncontent-length: 4",
    "two equal lengths": b"content-length: 3\r\ncontent-length: 3",
    "list of lengths": b"content-length: 3, 3",
    "signed length": b"content-length: +3",
    "negative length": b"content-length: -3",
    "hexadecimal length": b"content-length: 0x3",
    "endless length": b"content-length: 99999999999999999999999",
    "chunked twice": b"transfer-encoding: chunked, chunked",
    "chunked not last": b"transfer-encoding: chunked, identity",
    "disguised chunked": b"transfer-encoding: xchunked",
    "folded line": b"x-a: b\r\n c",
    "space before the colon": b"x-a : b",
    "zero byte in a value": b"x-a: b\x00c",
    "bare carriage return": b"x-a: b\rc",
    "bare line feed": b"x-a: b\nx-c: d",
    "name that is no token": b"x(a): b",
    "empty name": b": b",
    "second host": b"host: other.test",
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_ambiguous_requests_are_refused_and_not_forwarded(gateway, server, name):
    head = b"POST " + PATH.encode() + b" HTTP/1.1\r\nhost: gauge.test\r\n" + AMBIGUOUS[name]
    answer = exchange(gateway, head + b"\r\n\r\n0\r\n\r\n")
    assert statuses(answer) == [400], answer[:200]
    assert_still_serves(gateway)
    assert server.metric("weir_simulator_inferences_total") == 1, "only the good one has arrived"


@pytest.mark.parametrize("data, expected", [
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", {400}),
    (b"GET\r\n\r\n", {400}),
    (b"GET / HTTP/1.1\r\n\r\n", {400}),
    (b"GET / HTTP/9.9\r\nhost: a\r\n\r\n", {400, 505}),
    (b"CONNECT other.test:80 HTTP/1.1\r\nhost: other.test:80\r\n\r\n", {400, 405, 501}),
    (b"GET " + b"/a" * 20_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n", {414, 431}),
    (b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"b" * 100_000 + b"\r\n\r\n", {431}),
    (b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 10_000 + b"\r\n", {431}),
])
def test_garbage_and_too_much(gateway, data, expected):
    answer = exchange(gateway, data)
    assert statuses(answer) and statuses(answer)[0] in expected, answer[:200]
    assert_still_serves(gateway)


def test_requests_cut_at_every_byte(gateway):
    whole = request()
    for length in range(len(whole)):
        answer = exchange(gateway, whole[:length])
        assert 200 not in statuses(answer), f"an answer to the first {length} bytes"
    assert statuses(exchange(gateway, whole)) == [200]
    assert_still_serves(gateway)


def test_pipelined_requests_are_answered_in_order(gateway):
    unknown = request(path="/v2/models/sea/infer")
    assert statuses(exchange(gateway, request() + unknown + request())) == [200, 404, 200]


@pytest.mark.parametrize("body", [
    b"",
    b"{",
    b'{"model": ',
    b'{"model": 7}',
    b'{"model": "\xff\xfe"}',
    b'{"model": "' + b"x" * 100_000 + b'"}',
    b"[" * 100_000,
    b'{"a": ' * 50_000,
    b"\x00" * 1000,
])
def test_bodies_without_a_usable_model(gateway, body):
    answer = exchange(gateway, request(body, path="/v1/chat/completions"))
    assert statuses(answer) and statuses(answer)[0] in (400, 404), answer[:200]
    assert b"error" in answer
    assert_still_serves(gateway)


def test_slow_heads_are_cut_off(weir, server, tmp_path):
    gateway = weir(
        model(MODEL, {"v1": [server.url]}, protocol="OpenInference"),
        gateway=gateway_resource(tmp_path, limits={"headerTimeout": "300ms"}),
    )
    started = time.monotonic()
    with connect(gateway) as connection:
        connection.sendall(b"POST " + PATH.encode() + b" HTTP/1.1\r\nhost: a\r\n")
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert 0.2 < time.monotonic() - started < 5
    assert statuses(answer) in ([], [408])
    assert_still_serves(gateway)


def test_too_large_a_body_is_413(weir, server, tmp_path):
    gateway = weir(
        model(MODEL, {"v1": [server.url]}, protocol="OpenInference"),
        gateway=gateway_resource(tmp_path, limits={"maxRequestBody": "64KiB"}),
    )
    assert statuses(exchange(gateway, request(b"x" * 70_000)))[0] == 413
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    head = b"POST " + PATH.encode() + b" HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    seen = statuses(exchange(gateway, head + chunk * 8 + b"0\r\n\r\n"))
    assert seen in ([413], []), "refused with a status, or cut off after the answer had begun"
    assert_still_serves(gateway)


def descriptors(process):
    return len(os.listdir(f"/proc/{process.pid}/fd"))


def resident_kib(process):
    with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    raise AssertionError("no VmRSS")


def mixed_round(gateway):
    """Eight requests of every kind, good and bad, some of them given up."""
    for path in (PATH, "/v2/models/sea/infer", "/v1/models", "/nothing"):
        method = "GET" if path.startswith(("/v1/models", "/nothing")) else "POST"
        call(gateway.address, method, path, infer_body() if method == "POST" else None)
    exchange(gateway, b"GET / HTTP/1.1\r\nbad header\r\n\r\n")
    exchange(gateway, request()[:-5])
    exchange(gateway, request() + request())
    with connect(gateway) as connection:
        connection.sendall(request())  # closed before the answer


def test_many_mixed_requests_leak_nothing(gateway):
    for _ in range(50):
        mixed_round(gateway)
    with Load(gateway.address, PATH, infer_body(), threads=4) as load:
        load.wait_for(1000)
    descriptors_before, resident_before = descriptors(gateway), resident_kib(gateway)
    for _ in range(400):
        mixed_round(gateway)
    with Load(gateway.address, PATH, infer_body(), threads=4) as load:
        load.wait_for(6000)
    eventually(
        lambda: descriptors(gateway) <= descriptors_before + 4, "descriptors are given back", 10
    )
    grown = resident_kib(gateway) - resident_before
    assert grown < 4096, f"grew by {grown} KiB over 10 000 requests"
    assert_still_serves(gateway)
