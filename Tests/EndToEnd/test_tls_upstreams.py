"""Endpoints that speak TLS: who is believed, who we are, sessions, ends."""

import contextlib
import http.client
import socket
import ssl

import pytest

import secure
from certificates import DAY, Certificate, make_authority
from harness import call, eventually, gateway as gateway_resource, model
from secure import Backend, split
from test_tls import replace

MODEL = "gauge"


@pytest.fixture(scope="module")
def authority():
    return make_authority()


@pytest.fixture
def serve(tmp_path):
    """serve(certificate…) starts a backend that shows it."""
    with secure.backends(tmp_path) as start:
        yield start


@pytest.fixture
def front(weir, tmp_path):
    """front(backend, tls fields…) starts Weir before it, with two workers."""

    def start(url, tls=None, **spec):
        served = model(MODEL, {"v1": [url]}, protocol="HTTP", paths=[{"prefix": "/"}], **spec)
        if tls is not None:
            served["spec"]["variants"][0]["tls"] = tls
        return weir(served, gateway=gateway_resource(tmp_path, workers=2))

    return start


def trust(tmp_path, authority):
    path = tmp_path / "ca.pem"
    path.write_bytes(authority.pem)
    return {"ca": str(path)}


def handshakes(gateway, **labels):
    return gateway.metric("weir_tls_handshakes_total", side="upstream", **labels)


def failures(gateway, reason):
    return gateway.metric("weir_tls_handshake_failures_total", side="upstream", reason=reason)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_connections_are_kept_and_sessions_resumed(front, serve, tmp_path, authority, version):
    backend = serve(Certificate("server", ["127.0.0.1"], authority), version=version)
    gateway = front(backend.secure_url(), trust(tmp_path, authority))
    for number in range(20):
        body = b"x" * number * 7919
        answer = gateway.call("POST", "/echo", body)
        assert (answer.status, answer.body) == (200, body)
    # One per worker at most, unless two were needed at once.
    assert handshakes(gateway) <= 4
    assert len(backend.resumed) == 20 and not backend.resumed[0]
    # A connection that its server ends is followed by one with the same session.
    before = handshakes(gateway, resumed="true")
    for _ in range(10):
        with contextlib.suppress(OSError, http.client.HTTPException):
            call(gateway.address, "GET", "/cut")
        assert gateway.call("GET", "/").status == 200
    assert handshakes(gateway, resumed="true") > before
    assert any(backend.resumed)


def test_bodies_of_all_sizes_go_both_ways(front, serve, tmp_path, authority):
    backend = serve(Certificate("server", ["localhost"], authority))
    gateway = front(backend.secure_url("localhost"), trust(tmp_path, authority))
    for count in (0, 1, 16_384, 65_536, 1 << 20, 4 << 20):
        body = bytes(range(256)) * (count // 256) + b"y" * (count % 256)
        answer = gateway.call("POST", "/echo", body)
        assert answer.status == 200 and answer.body == body, count
    assert gateway.call("GET", "/large8").body == bytes(range(256)) * 4096 * 8


BAD = {
    "certificate_name_mismatch": "is for another name",
    "certificate_unknown_authority": "signed by an unknown authority",
    "certificate_expired": "has expired",
}


@pytest.mark.parametrize("reason", BAD)
def test_who_cannot_be_believed_gets_nothing(front, serve, tmp_path, authority, reason):
    name, signer, end = "127.0.0.1", authority, 30 * DAY
    if reason == "certificate_name_mismatch":
        name = "another.test"
    if reason == "certificate_unknown_authority":
        signer = make_authority("Strangers")
    if reason == "certificate_expired":
        end = -DAY
    certificate = Certificate("server", [name], signer, start=-9 * DAY, end=end)
    backend = serve(certificate)
    gateway = front(backend.secure_url(), trust(tmp_path, authority))
    answer = gateway.call("POST", "/echo", b"secret")
    assert answer.status == 502 and BAD[reason].encode() in answer.body, answer.body
    assert not backend.requests, "nothing was sent to whoever that is"
    assert failures(gateway, reason) >= 1
    assert gateway.metric("weir_upstream_errors_total", kind="handshake") >= 1


def test_nobody_is_checked_only_when_asked(front, serve, tmp_path):
    backend = serve(Certificate("server", ["another.test"], make_authority("Strangers")))
    gateway = front(backend.secure_url(), {"insecureSkipVerify": True})
    assert gateway.call("POST", "/echo", b"x").body == b"x"


def test_the_systems_authorities_count_without_others(front, serve, authority):
    backend = serve(Certificate("server", ["127.0.0.1"], authority))
    gateway = front(backend.secure_url())
    assert gateway.call("GET", "/").status == 502
    assert failures(gateway, "certificate_unknown_authority") >= 1


def test_another_name_may_be_asked_for(front, serve, tmp_path, authority):
    backend = serve(Certificate("server", ["models.example.test"], authority))
    tls = {**trust(tmp_path, authority), "serverName": "models.example.test"}
    gateway = front(backend.secure_url(), tls)
    assert gateway.call("GET", "/").status == 200


def test_servers_may_want_a_certificate(front, serve, tmp_path, authority):
    clients = make_authority("Clients")
    backend = serve(Certificate("server", ["127.0.0.1"], authority), clients)
    identity = Certificate("weir", authority=clients).write(tmp_path, "weir-client")
    gateway = front(backend.secure_url(), {**trust(tmp_path, authority), **identity})
    assert gateway.call("GET", "/").status == 200
    subject = dict(pair for group in backend.peers[0]["subject"] for pair in group)
    assert subject["commonName"] == "weir"


def test_servers_that_want_one_in_vain_answer_nothing(front, serve, tmp_path, authority):
    backend = serve(Certificate("server", ["127.0.0.1"], authority), make_authority("Clients"))
    gateway = front(backend.secure_url(), trust(tmp_path, authority))
    assert gateway.call("GET", "/").status == 502
    assert not backend.requests


def test_authorities_are_read_again(front, serve, tmp_path, authority):
    backend = serve(Certificate("server", ["127.0.0.1"], authority))
    tls = trust(tmp_path, make_authority("Strangers"))
    gateway = front(backend.secure_url(), tls)
    assert gateway.call("GET", "/").status == 502
    replace(tmp_path / "ca.pem", authority.pem)
    eventually(lambda: "endpoints reloaded" in gateway.output(), "the new authority is read")
    assert gateway.call("GET", "/").status == 200
    replace(tmp_path / "ca.pem", b"nothing")
    eventually(lambda: "cannot be used" in gateway.output(), "the bad file is told")
    assert gateway.call("GET", "/").status == 200, "and what was read before stays"


def test_health_is_asked_over_tls(front, serve, tmp_path, authority):
    backend = serve(Certificate("server", ["127.0.0.1"], authority))
    check = {"path": "/health", "period": "100ms", "timeout": "5s"}
    gateway = front(backend.secure_url(), trust(tmp_path, authority), healthCheck=check)
    eventually(gateway.ready_replicas, "the endpoint is ready")
    assert any(path == "/health" for path, _ in backend.requests)
    assert gateway.call("GET", "/").status == 200


def test_health_says_what_is_wrong(front, serve, tmp_path, authority):
    backend = serve(Certificate("server", ["another.test"], authority))
    check = {"path": "/health", "period": "100ms", "timeout": "5s"}
    gateway = front(backend.secure_url(), trust(tmp_path, authority), healthCheck=check)
    eventually(lambda: "mismatch" in gateway.output(), "the log tells of the name")
    assert not gateway.ready_replicas()


@pytest.mark.parametrize("path", ["/cut", "/cut/chunked", "/cut/open"])
def test_a_cut_answer_does_not_look_whole(front, serve, tmp_path, authority, path):
    backend = serve(Certificate("server", ["127.0.0.1"], authority))
    gateway = front(backend.secure_url(), trust(tmp_path, authority))
    with socket.create_connection(split(gateway.address), timeout=30) as raw:
        raw.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while part := raw.recv(4096):
                data += part
        assert not data.endswith(b"\r\n0\r\n\r\n"), "no end that looks like one"
        assert b"xxx" in data or b" 502 " in data


def test_tunnels_go_through(front, serve, tmp_path, authority):
    backend = serve(Certificate("server", ["127.0.0.1"], authority))
    gateway = front(backend.secure_url(), trust(tmp_path, authority))
    with socket.create_connection(split(gateway.address), timeout=30) as raw:
        raw.sendall(
            b"GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
        )
        data = b""
        while b"\r\n\r\n" not in data:
            data += raw.recv(4096)
        assert b" 101 " in data
        for size in (1, 1000, 200_000):
            raw.sendall(b"w" * size)
            data = b""
            while len(data) < size:
                data += raw.recv(65536)
            assert data == b"w" * size


def test_a_server_without_tls_is_an_error(front, tmp_path, authority):
    backend = Backend()
    try:
        gateway = front(backend.secure_url(), trust(tmp_path, authority))
        assert gateway.call("GET", "/").status == 502
        assert not backend.requests
    finally:
        backend.stop()
