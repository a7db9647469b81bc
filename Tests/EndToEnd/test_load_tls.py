"""`weir load` on https:// targets: who is believed, who we are, sessions, and what goes wrong."""

import json
import socket
import ssl
import threading

import pytest

import harness
import secure
from certificates import DAY, Certificate, make_authority
from harness import model
from test_load import LATE, complaint, load


@pytest.fixture(scope="module")
def authority():
    return make_authority()


@pytest.fixture
def ca(tmp_path, authority):
    path = tmp_path / "ca.pem"
    path.write_bytes(authority.pem)
    return path


@pytest.fixture
def serve(tmp_path):
    """serve(certificate…) starts a server that shows it."""
    with secure.backends(tmp_path) as start:
        yield start


@pytest.fixture
def server(serve, authority):
    return serve(Certificate("server", ["127.0.0.1"], authority))


def result_of(run):
    assert run.returncode == 0, (run.returncode, run.stdout, run.stderr)
    return json.loads(run.stdout)


# Runs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_closed_loop_keeps_its_connections(serve, authority, ca, version):
    server = serve(Certificate("server", ["127.0.0.1"], authority), version=version)
    result = result_of(load(
        server.secure_url(), "--ca", ca, "--connections", 2, "--requests", 40, "--output", "-",
    ))
    assert (result["counts"]["succeeded"], result["counts"]["failed"]) == (40, 0)
    assert result["counts"]["connections"] == 2
    # One handshake for each, which is not the server's time to answer; one connection may do all
    # the work before the other stands.
    assert result["timings_s"]["connect"]["count"] in (1, 2)
    assert len(server.requests) == 40


def test_an_open_loop_counts_its_handshakes_as_latency(server, ca, tmp_path):
    records = tmp_path / "records.jsonl"
    run = load(
        server.secure_url(), "--ca", ca, "--rate", 50, "--duration", "1s", "--arrivals",
        "constant", "--records", records, *LATE,
    )
    assert run.returncode == 0, (run.stdout, run.stderr)
    lines = [json.loads(line) for line in records.read_text().splitlines()]
    assert len(lines) == 50 and {line["status"] for line in lines} == {200}
    connected = [line for line in lines if "connect_s" in line]
    assert connected and "connect" in run.stdout
    # A connection may be made for a request that then takes one that became free before it.
    first = min(connected, key=lambda line: line["scheduled_s"])
    assert first["latency_s"] >= first["connect_s"]
    for line in lines:
        assert line["latency_s"] >= line["service_s"]


def test_streams_are_timed(weir, simulator, tmp_path, authority, ca):
    engine = simulator("--step-time", "1ms", "--prefill-rate", "1000000", "--model", "river")
    fields = Certificate("localhost", ["localhost"], authority).write(tmp_path, "default")
    listener = {"name": "https", "address": "127.0.0.1:0", "tls": fields}
    plain = {"name": "http", "address": "127.0.0.1:0"}
    gateway = weir(
        model("river", {"v1": [engine.url]}),
        gateway=harness.gateway(tmp_path, listeners=[plain, listener]),
    )
    port = json.loads(gateway.ports_path.read_text())["https"].rpartition(":")[2]
    result = result_of(load(
        f"https://localhost:{port}", "--connect-to", "::127.0.0.1:", "--ca", ca, "--api", "chat",
        "--model", "river", "--output-tokens", 8, "--connections", 4, "--requests", 40,
        "--objective", "ttft:60s,tpot:60s", "--output", "-",
    ))
    assert result["counts"]["succeeded"] == 40
    assert result["counts"]["output_tokens"] == 320
    assert result["timings_s"]["ttft"]["count"] == 40
    assert result["timings_s"]["tpot"]["count"] == 40
    assert 0 < result["timings_s"]["itl"]["count"] <= 40 * 7
    assert result["variants"]["v1"]["requests"] == 40


def test_a_name_may_lead_to_another_address(serve, authority, ca):
    names = []
    server = serve(Certificate("server", ["models.test"], authority), names=names)
    result = result_of(load(
        "https://models.test/v1", "--connect-to", f"models.test:443:127.0.0.1:{server.port}",
        "--ca", ca, "--connections", 1, "--requests", 3, "--output", "-",
    ))
    assert result["counts"]["succeeded"] == 3
    assert set(names) == {"models.test"}
    path, fields = server.requests[-1]
    assert path == "/v1" and dict(fields)["host"] == "models.test"


def test_an_address_is_no_server_name(serve, authority, ca):
    names = []
    server = serve(Certificate("server", ["127.0.0.1"], authority), names=names)
    result_of(load(
        server.secure_url(), "--ca", ca, "--connections", 1, "--requests", 1, "--output", "-",
    ))
    assert set(names) == {None}


@pytest.mark.parametrize("more, resumed", [([], False), (["--session-tickets"], True)])
def test_sessions_are_resumed_where_asked(server, ca, more, resumed):
    result = result_of(load(
        server.secure_url(), "--ca", ca, "--connections", 1, "--requests", 8, "--no-keep-alive",
        *more, "--output", "-",
    ))
    assert (result["counts"]["succeeded"], result["counts"]["connections"]) == (8, 8)
    assert server.resumed == [False] + [resumed] * 7
    assert result["counts"]["resumed_sessions"] == server.resumed.count(True)
    assert all(dict(fields).get("connection") == "close" for _, fields in server.requests)


def test_a_cut_answer_is_none(server, ca):
    """Whoever cuts a connection must not pass for a server that has said it all."""
    run = load(
        f"{server.secure_url()}/cut/open", "--ca", ca, "--connections", 1, "--requests", 3,
        "--output", "-",
    )
    outcomes = json.loads(run.stdout)["outcomes"]
    assert (outcomes["ok"], outcomes["connection-lost"]) == (0, 3), outcomes


# Who is believed --------------------------------------------------------------------------------

BAD = {
    "unknown": ("signed by an unknown authority", "--ca"),
    "self-signed": ("is self-signed", "--ca"),
    "expired": ("is out of date (certificate has expired)", "renew"),
    "early": ("is out of date (certificate is not yet valid)", "renew"),
    "name": ("is not for 127.0.0.1", "--connect-to"),
}


def bad_certificate(problem, authority):
    name, signer, start, end = "127.0.0.1", authority, -9 * DAY, 30 * DAY
    if problem == "unknown":
        signer = make_authority("Strangers")
    if problem == "self-signed":
        signer = None
    if problem == "expired":
        end = -DAY
    if problem == "early":
        start = DAY
    if problem == "name":
        name = "another.test"
    return Certificate("server", [name], signer, start=start, end=end)


@pytest.mark.parametrize("problem", BAD)
def test_a_bad_certificate_ends_the_run_before_it_begins(serve, authority, ca, problem):
    server = serve(bad_certificate(problem, authority))
    url = server.secure_url()
    arguments = ["--connections", 1, "--requests", 5]
    error = complaint(load(url, "--ca", ca, *arguments), 1)
    says, advice = BAD[problem]
    assert url in error and says in error, error
    assert advice in error and "--insecure" in error, error
    assert server.requests == []
    # Who does not care is told nothing.
    result = result_of(load(url, "-k", *arguments, "--output", "-"))
    assert result["counts"]["succeeded"] == 5


def test_the_system_does_not_know_our_authority(server):
    error = complaint(load(server.secure_url(), "--connections", 1, "--requests", 1), 1)
    assert "unknown authority" in error, error


# Who we are -------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_servers_see_our_certificate(serve, tmp_path, authority, ca, version):
    clients = make_authority("Clients")
    server = serve(Certificate("server", ["127.0.0.1"], authority), clients, version)
    own = Certificate("alice", authority=clients)
    fields = own.write(tmp_path, "alice")
    both = tmp_path / "both.pem"
    both.write_bytes(own.pem + own.key_pem())
    arguments = [server.secure_url(), "--ca", ca, "--connections", 1, "--requests", 3]
    cert, key = fields["certificate"], fields["key"]
    for identity in (["--cert", cert, "--key", key], ["--cert", both]):
        result = result_of(load(*arguments, *identity, "--output", "-"))
        assert result["counts"]["succeeded"] == 3
    assert all(peer["serialNumber"] for peer in server.peers)
    stranger = Certificate("mallory", authority=make_authority("Others"))
    others = stranger.write(tmp_path, "mallory")
    for identity in ([], ["--cert", others["certificate"], "--key", others["key"]]):
        error = complaint(load(*arguments, *identity), 1)
        assert server.secure_url() in error and "refused the TLS session" in error, error
        assert "--cert" in error, error


# What is no TLS ---------------------------------------------------------------------------------


@pytest.fixture
def hangs_up():
    """A server that ends every connection as soon as something was sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def work():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)

        thread = threading.Thread(target=work)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_server_without_tls_is_told(simulator):
    server = simulator("--model", "river")
    url = f"https://{server.address}/health"
    error = complaint(load(url, "--connections", 1, "--requests", 1), 1)
    assert url in error and "does not answer with TLS" in error and "http://" in error, error


def test_a_server_that_hangs_up_is_told(hangs_up):
    error = complaint(load(f"https://{hangs_up}/", "--connections", 1, "--requests", 1), 1)
    assert hangs_up in error and "ended the TLS handshake" in error, error


def test_http_on_a_port_of_https_is_told(server):
    """Whether the server answers with an alert, with 400, or by hanging up."""
    url = f"{server.url}/"
    error = complaint(load(url, "--connections", 1, "--requests", 2), 1)
    assert url in error and "speaks TLS" in error and "https://" in error, error


def test_http_on_a_port_of_https_that_answers_is_told(weir, simulator, tmp_path, authority):
    fields = Certificate("localhost", ["localhost"], authority).write(tmp_path, "default")
    listener = {"name": "http", "address": "127.0.0.1:0", "tls": fields}
    engine = simulator("--model", "river")
    first = harness.gateway(tmp_path, listeners=[listener])
    gateway = weir(model("river", {"v1": [engine.url]}), gateway=first)
    url = f"http://{gateway.address}/"
    error = complaint(load(url, "--rate", 20, "--duration", "1s", *LATE), 1)
    assert "speaks TLS" in error and "https://" in error, error


# Wrong use --------------------------------------------------------------------------------------


def test_files_that_cannot_be_used_are_told(server, tmp_path, authority, ca):
    own = Certificate("alice", authority=authority).write(tmp_path, "alice")
    other = Certificate("bob", authority=authority)
    other_key, locked = tmp_path / "bob.key", tmp_path / "locked.key"
    other_key.write_bytes(other.key_pem())
    locked.write_bytes(other.key_pem(b"secret"))
    empty, missing = tmp_path / "empty.pem", tmp_path / "missing.pem"
    empty.write_text("nothing\n", encoding="utf-8")
    cert = own["certificate"]
    cases = [
        (["--ca", missing], str(missing), "No such file"),
        (["--ca", tmp_path], str(tmp_path), "directory"),
        (["--ca", empty], str(empty), "no certificate in PEM"),
        (["--ca", ca, "--cert", missing], str(missing), "No such file"),
        (["--ca", ca, "--cert", cert], cert, "no private key in PEM"),
        (["--ca", ca, "--cert", cert, "--key", missing], str(missing), "No such file"),
        (["--ca", ca, "--cert", cert, "--key", other_key], str(other_key), "does not belong"),
        (["--ca", ca, "--cert", cert, "--key", locked], str(locked), "pass phrase"),
    ]
    for arguments, where, says in cases:
        error = complaint(
            load(server.secure_url(), *arguments, "--connections", 1, "--requests", 1), 1
        )
        assert where in error and says in error, error


@pytest.mark.parametrize("scheme, arguments, says", [
    ("https", ["--key", "a.key"], "--cert"),
    ("https", ["--insecure", "--ca", "ca.pem"], "leave out --ca"),
    ("https", ["--connect-to", "a:b"], "HOST:PORT:TOHOST:TOPORT"),
    ("http", ["--insecure"], "https:// URLs"),
    ("http", ["--ca", "ca.pem"], "https:// URLs"),
    ("http", ["--session-tickets"], "https:// URLs"),
])
def test_wrong_use_is_told(scheme, arguments, says):
    url = f"{scheme}://127.0.0.1:1/"
    run = load(url, *arguments, "--connections", 1, "--requests", 1)
    assert says in complaint(run, 2), run.stderr
