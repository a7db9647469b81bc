"""Listeners that speak TLS: certificates, clients' certificates, reloads, sessions, bad peers."""

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import threading
from xml.etree import ElementTree

import pytest
from cryptography import x509

import harness
from certificates import DAY, Certificate, make_authority
from harness import eventually, model, send
from secure import Backend, Records, SecureConnection, client_context, connect, split

MODEL = "gauge"


@pytest.fixture(scope="module")
def authority():
    return make_authority()


@pytest.fixture
def backend():
    server = Backend()
    yield server
    server.stop()


@pytest.fixture
def secure(weir, backend, tmp_path, authority):
    """secure(tls fields…) starts Weir with an https listener in front of the backend."""

    def start(tls=None, limits=None, workers=2, backend_url=None, **named):
        fields = Certificate("localhost", ["localhost"], authority).write(tmp_path, "default")
        listeners = [
            {"name": "http", "address": "127.0.0.1:0"},
            {"name": "https", "address": "127.0.0.1:0", "tls": {**fields, **(tls or {})}},
        ]
        first = harness.gateway(
            tmp_path, listeners=listeners, workers=workers, limits=limits or {}
        )
        served = model(
            MODEL, {"v1": [backend_url or backend.url]}, protocol="HTTP", paths=[{"prefix": "/"}]
        )
        gateway = weir(served, gateway=first, **named)
        ports = json.loads(gateway.ports_path.read_text())
        gateway.secure_address = ports["https"]
        return gateway

    return start


def ask(gateway, context, path="/", name="localhost", method="GET", value=None, headers=None,
        session=None):
    connection = SecureConnection(gateway.secure_address, context, name, session)
    try:
        return send(connection, method, path, value, headers)
    finally:
        connection.close()


def failures(gateway, reason):
    return gateway.metric("weir_tls_handshake_failures_total", side="client", reason=reason)


# Certificates -----------------------------------------------------------------------------------


def test_names_choose_certificates(secure, tmp_path, authority):
    kinds = {
        "exact": ["api.example.test"],
        "wildcard": ["*.example.test"],
        "other": ["example.test", "www.other.test"],
    }
    made = {
        key: Certificate(key, names, authority, kind="rsa" if key == "other" else "ec")
        for key, names in kinds.items()
    }
    files = [made[key].write(tmp_path, key) for key in ("wildcard", "exact", "other")]
    gateway = secure({"certificates": files})
    context = client_context(authority)

    def serial(name):
        with connect(gateway.secure_address, context, name) as peer:
            return int(peer.getpeercert()["serialNumber"], 16)

    assert serial("api.example.test") == made["exact"].serial
    assert serial("API.Example.Test") == made["exact"].serial
    assert serial("www.example.test") == made["wildcard"].serial
    assert serial("example.test") == made["other"].serial
    assert serial("www.other.test") == made["other"].serial
    with pytest.raises(ssl.SSLCertVerificationError, match="[Hh]ostname mismatch"):
        serial("a.b.example.test")
    # Who names nobody gets the first.
    context = client_context()
    with connect(gateway.secure_address, context, None) as peer:
        assert b"localhost" in peer.getpeercert(True)
    eventually(lambda: failures(gateway, "refused_by_peer") >= 1, "the refusal is counted")
    for path in ("exact", "wildcard", "other"):
        name = kinds[path][0].replace("*", "x")
        assert ask(gateway, client_context(authority), "/", name).status == 200


def test_versions_ciphers_and_protocols(secure, authority):
    gateway = secure()

    def version(**settings):
        context = client_context(authority, **settings)
        with connect(gateway.secure_address, context) as peer:
            return peer.version(), peer.cipher()[0], peer.selected_alpn_protocol()

    newest = ssl.TLSVersion
    assert version()[0] == "TLSv1.3"
    assert version(maximum_version=newest.TLSv1_2)[0] == "TLSv1.2"
    old = client_context(authority)
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version, old.maximum_version = newest.TLSv1, newest.TLSv1_1
    with pytest.raises(ssl.SSLError, match="(?i)protocol.version"):
        connect(gateway.secure_address, old)
    assert failures(gateway, "protocol_version") == 1
    weak = client_context(authority, maximum_version=newest.TLSv1_2)
    weak.set_ciphers("AES128-SHA:AES128-GCM-SHA256:ECDHE-ECDSA-AES128-SHA")
    with pytest.raises(ssl.SSLError, match="(?i)handshake.failure"):
        connect(gateway.secure_address, weak)
    assert failures(gateway, "no_shared_cipher") == 1

    offers = client_context(authority)
    offers.set_alpn_protocols(["spdy/3", "http/1.1"])
    with connect(gateway.secure_address, offers) as peer:
        assert peer.selected_alpn_protocol() == "http/1.1"
    offers.set_alpn_protocols(["spdy/3"])
    with pytest.raises(ssl.SSLError, match="(?i)no.application.protocol"):
        connect(gateway.secure_address, offers)
    assert failures(gateway, "no_shared_protocol") == 1
    assert gateway.metric("weir_tls_handshakes_total", side="client", version="1.2") >= 1


def test_only_the_newest_version_where_asked(secure, authority):
    gateway = secure({"minimumVersion": "1.3"})
    context = client_context(authority, maximum_version=ssl.TLSVersion.TLSv1_2)
    with pytest.raises(ssl.SSLError, match="(?i)protocol.version"):
        connect(gateway.secure_address, context)
    assert ask(gateway, client_context(authority)).status == 200


def test_openssl_and_curl_agree(secure, tmp_path, authority):
    certificate = Certificate("stapled", ["stapled.test"], authority)
    fields = certificate.write(tmp_path, "stapled")
    (tmp_path / "staple.der").write_bytes(certificate.staple())
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    gateway = secure({"certificates": [{**fields, "ocspStaple": str(tmp_path / "staple.der")}]})
    _, port = split(gateway.secure_address)

    def s_client(*arguments, text=b"Q\n"):
        return subprocess.run(
            ["openssl", "s_client", "-connect", gateway.secure_address, "-CAfile",
             str(tmp_path / "ca.pem"), *arguments],
            input=text, capture_output=True, timeout=60,
        )

    shown = s_client("-servername", "stapled.test", "-status").stdout
    assert b"OCSP Response Status: successful" in shown and b"Cert Status: good" in shown
    assert b"Verify return code: 0 (ok)" in shown
    shown = s_client("-servername", "localhost", "-status").stdout
    assert b"OCSP response: no response sent" in shown
    # `R` asks for a renegotiation.
    asked = s_client("-servername", "localhost", "-tls1_2", text=b"R\nQ\n")
    assert b"no renegotiation" in asked.stderr, asked.stderr[-500:]
    for options in (["--tlsv1.2", "--tls-max", "1.2"], ["--tlsv1.3"]):
        told = subprocess.run(
            ["curl", "-sS", "--cacert", str(tmp_path / "ca.pem"), *options, "--resolve",
             f"stapled.test:{port}:127.0.0.1", "-d", "hello", f"https://stapled.test:{port}/echo"],
            capture_output=True, timeout=60,
        )
        assert told.stdout == b"hello", told.stderr


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_a_scanner_finds_nothing_old(secure, tmp_path, authority, kind):
    certificate = Certificate("localhost", ["localhost"], authority, kind=kind)
    gateway = secure(certificate.write(tmp_path, kind))
    scan = subprocess.run(
        ["sslscan", "--no-colour", "--xml=-", gateway.secure_address],
        capture_output=True, timeout=60, check=True,
    )
    result = ElementTree.fromstring(scan.stdout).find("ssltest")
    enabled = {p.get("version") for p in result.iter("protocol") if p.get("enabled") == "1"}
    assert enabled == {"1.2", "1.3"}
    assert result.find("renegotiation").get("supported") == "0"
    assert all(found.get("vulnerable") == "0" for found in result.iter("heartbleed"))
    names = [cipher.get("cipher") for cipher in result.iter("cipher")]
    assert len(names) == 6, names
    for name in names:
        assert "GCM" in name or "CHACHA20" in name, name
        assert name.startswith(("TLS_", "ECDHE-")), name
    groups = {group.get("name") for group in result.iter("group")}
    assert groups <= {"secp256r1 (NIST P-256)", "secp384r1 (NIST P-384)", "x25519"}


def memory_of(pid):
    """The writable memory of a process, mapping by mapping."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            places, rights, *_ = line.split()
            if not rights.startswith("rw"):
                continue
            start, end = (int(place, 16) for place in places.split("-"))
            # A sanitizer's own are larger than any memory.
            if end - start > 1 << 30:
                continue
            with contextlib.suppress(OSError):
                memory.seek(start)
                yield memory.read(end - start)


def test_the_text_of_a_key_does_not_stay_in_memory(secure, tmp_path, authority):
    gateway = secure()
    assert ask(gateway, client_context(authority)).status == 200
    key = (tmp_path / "default.key").read_bytes().splitlines()[1:3]
    try:
        memory = list(memory_of(gateway.pid))
    except PermissionError:
        pytest.skip("this machine lets nobody look into a process")
    assert not any(line in part for line in key for part in memory)
    # The path is there, which shows that this finds what is.
    path = str(tmp_path / "default.key").encode()
    assert any(path in part for part in memory)


# Clients' certificates --------------------------------------------------------------------------


def subject_seen(answer):
    return [value for name, value in answer.json()
            if name.lower().replace("_", "-") == "x-weir-client-subject"]


FORGED = {
    "X-Weir-Client-Subject": "CN=root",
    "x_weir_client_subject": "CN=root",
    "X-Weir_Client-Subject": "CN=root",
}


def test_clients_show_who_they_are(secure, tmp_path, authority):
    clients = make_authority("Clients")
    (tmp_path / "clients.pem").write_bytes(clients.pem)
    gateway = secure({"clientCA": str(tmp_path / "clients.pem")})
    alice = Certificate("alice", authority=clients).write(tmp_path, "alice")
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = client_context(authority, alice, maximum_version=version)
        answer = ask(gateway, context, headers=FORGED)
        assert subject_seen(answer) == ["CN=alice,O=Weir tests"]

    def refused(identity, reason):
        before = failures(gateway, reason)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            # With TLS 1.3 the client learns of it from the first read.
            with pytest.raises((ssl.SSLError, OSError)):
                ask(gateway, client_context(authority, identity, maximum_version=version))
        eventually(lambda: failures(gateway, reason) == before + 2, f"{reason} is counted")

    refused(None, "certificate_missing")
    stranger = Certificate("alice", authority=make_authority("Strangers"))
    refused(stranger.write(tmp_path, "stranger"), "certificate_unknown_authority")
    # An authority is its key, not its name.
    forged = Certificate("alice", authority=make_authority("Clients"))
    refused(forged.write(tmp_path, "forged"), "certificate_invalid")
    late = Certificate("alice", authority=clients, start=-10 * DAY, end=-DAY)
    refused(late.write(tmp_path, "late"), "certificate_expired")
    long = Certificate("a" * 60, authority=clients)
    assert subject_seen(ask(gateway, client_context(authority, long.write(tmp_path, "long"))))
    # Where nobody shows anything, nobody can say that he did: neither in a head nor in a trailer.
    assert subject_seen(gateway.call("GET", "/", headers=FORGED)) == []


def test_a_certificate_may_be_left_to_the_client(secure, tmp_path, authority):
    clients = make_authority("Clients")
    (tmp_path / "clients.pem").write_bytes(clients.pem)
    gateway = secure({"clientCA": str(tmp_path / "clients.pem"), "clientCertificate": "Optional"})
    alice = Certificate("alice", authority=clients).write(tmp_path, "alice")
    assert subject_seen(ask(gateway, client_context(authority, alice), headers=FORGED)) == [
        "CN=alice,O=Weir tests"
    ]
    assert subject_seen(ask(gateway, client_context(authority), headers=FORGED)) == []
    other = Certificate("alice", authority=make_authority("Clients")).write(tmp_path, "other")
    with pytest.raises((ssl.SSLError, OSError)):
        ask(gateway, client_context(authority, other))


# Sessions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed_on_every_worker(secure, authority, version):
    gateway = secure(workers=4)
    context = client_context(authority, minimum_version=version, maximum_version=version)
    first = SecureConnection(gateway.secure_address, context)
    assert send(first, "GET", "/").status == 200
    session = first.sock.session
    first.close()
    for _ in range(40):
        connection = SecureConnection(gateway.secure_address, context, session=session)
        assert send(connection, "GET", "/").status == 200
        assert connection.sock.session_reused
        connection.close()
    text = version.name[-3:].replace("_", ".")
    resumed = gateway.metric(
        "weir_tls_handshakes_total", side="client", version=text, resumed="true"
    )
    assert resumed == 40


def test_whoever_comes_back_gets_the_next_ticket(secure, authority):
    """In TLS 1.3 a ticket is good for one session: clients need another one each time."""
    gateway = secure()
    context = client_context(authority, minimum_version=ssl.TLSVersion.TLSv1_3)
    session, reused, tickets = None, [], []
    for _ in range(5):
        connection = SecureConnection(gateway.secure_address, context, session=session)
        assert send(connection, "GET", "/").status == 200
        reused.append(connection.sock.session_reused)
        # The one that came with this very connection.
        session = connection.sock.session
        tickets.append(session.id)
        connection.close()
    assert reused == [False] + [True] * 4
    # An identifier is made of its ticket.
    assert len(set(tickets)) == 5


def test_a_session_does_not_outlive_its_authority(secure, tmp_path, authority):
    clients, others = make_authority("Clients"), make_authority("Others")
    ca = tmp_path / "clients.pem"
    ca.write_bytes(clients.pem)
    gateway = secure({"clientCA": str(ca)})
    context = client_context(
        authority, Certificate("alice", authority=clients).write(tmp_path, "alice")
    )
    first = SecureConnection(gateway.secure_address, context)
    assert send(first, "GET", "/").status == 200
    session = first.sock.session
    first.close()
    replace(ca, others.pem)
    eventually(lambda: reloads(gateway, "taken") == 1, "the new authority is taken")
    with pytest.raises((ssl.SSLError, OSError)):
        ask(gateway, context, session=session)


# Reloads ----------------------------------------------------------------------------------------


def replace(path, content):
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(content)
    os.replace(fresh, path)


def reloads(gateway, outcome):
    return gateway.metric("weir_tls_reloads_total", listener="https", outcome=outcome)


class Visitors:
    """Clients that come, ask twice and go, until told to stop."""

    def __init__(self, gateway, authority, threads=3):
        self.gateway, self.authority = gateway, authority
        self.failures, self.serials, self.visits = [], set(), 0
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.run) for _ in range(threads)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def run(self):
        context = client_context(self.authority)
        while not self.stopping.is_set():
            connection = SecureConnection(self.gateway.secure_address, context)
            try:
                for _ in range(2):
                    answer = send(connection, "POST", "/echo", b"hello")
                    assert (answer.status, answer.body) == (200, b"hello"), answer.status
                self.serials.add(int(connection.sock.getpeercert()["serialNumber"], 16))
                self.visits += 1
            except Exception as error:  # noqa: BLE001 (whatever it is, it is told)
                self.failures.append(repr(error))
            finally:
                connection.close()

    def wait_for(self, count):
        goal = self.visits + count
        eventually(lambda: self.visits >= goal or len(self.failures) > 20, f"{count} more visits")


def test_certificates_change_under_load(secure, tmp_path, authority):
    gateway = secure()
    made = [Certificate("localhost", ["localhost"], authority) for _ in range(4)]
    kept = SecureConnection(gateway.secure_address, client_context(authority))
    assert send(kept, "GET", "/").status == 200
    with Visitors(gateway, authority) as visitors:
        for number, certificate in enumerate(made):
            visitors.wait_for(5)
            # Not in one step: between the two writes the files do not fit each other.
            replace(tmp_path / "default.pem", certificate.pem)
            replace(tmp_path / "default.key", certificate.key_pem())
            eventually(
                lambda: served_serial(gateway) == certificate.serial, f"change {number} is in force"
            )
        visitors.wait_for(5)
    assert not visitors.failures, visitors.failures[:5]
    assert {c.serial for c in made} <= visitors.serials
    assert send(kept, "GET", "/").status == 200, "connections live on with what they began with"
    kept.close()


def served_serial(gateway):
    with connect(gateway.secure_address, client_context(), "localhost") as peer:
        return x509.load_der_x509_certificate(peer.getpeercert(True)).serial_number


def test_a_mounted_volume_is_switched_under_load(secure, tmp_path, authority):
    """As Kubernetes mounts a Secret: files lead through `..data`, which is switched."""
    volume = tmp_path / "volume"
    made = [Certificate("localhost", ["localhost"], authority) for _ in range(3)]
    for number, certificate in enumerate(made):
        certificate.write(volume / f"..version{number}", "tls")
    (volume / "..data").symlink_to("..version0")
    for name in ("tls.pem", "tls.key"):
        (volume / name).symlink_to(f"..data/{name}")
    fields = {"certificate": str(tmp_path / "linked.pem"), "key": str(tmp_path / "linked.key")}
    # And once more from outside of the volume.
    (tmp_path / "linked.pem").symlink_to(volume / "tls.pem")
    (tmp_path / "linked.key").symlink_to(volume / "tls.key")
    gateway = secure(fields)
    with Visitors(gateway, authority) as visitors:
        for number, certificate in enumerate(made):
            if number:
                (volume / "..next").symlink_to(f"..version{number}")
                os.replace(volume / "..next", volume / "..data")
            eventually(
                lambda: served_serial(gateway) == certificate.serial, f"version {number} is served"
            )
            visitors.wait_for(5)
    assert not visitors.failures, visitors.failures[:5]


def test_bad_files_change_nothing(secure, tmp_path, authority):
    gateway = secure()
    serial = served_serial(gateway)
    pem, key = tmp_path / "default.pem", tmp_path / "default.key"
    good_pem, good_key = pem.read_bytes(), key.read_bytes()
    other = Certificate("localhost", ["localhost"], authority)
    late = Certificate("localhost", ["localhost"], authority, start=-9 * DAY, end=-3 * DAY)
    cases = [
        ("no certificate", b"nothing", good_key, "no certificate in PEM"),
        ("broken", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", good_key,
         "cannot be read"),
        ("another's key", good_pem, other.key_pem(), "does not belong to the certificate"),
        ("no key", good_pem, b"", "no private key"),
        ("an encrypted key", good_pem, Certificate("x").key_pem(b"secret"), "pass phrase"),
        ("expired", late.pem, late.key_pem(), "expired 3 days ago"),
    ]
    with Visitors(gateway, authority, threads=1) as visitors:
        for what, new_pem, new_key, words in cases:
            before = reloads(gateway, "refused")
            replace(pem, new_pem)
            replace(key, new_key)
            eventually(lambda: words in gateway.output(), f"the log tells of {what}")
            assert reloads(gateway, "refused") > before, what
            assert served_serial(gateway) == serial, what
        before = reloads(gateway, "refused")
        pem.unlink()
        eventually(lambda: reloads(gateway, "refused") > before, "a missing file is told")
        visitors.wait_for(3)
        # And what is mended is taken.
        replace(key, other.key_pem())
        replace(pem, other.pem)
        eventually(lambda: served_serial(gateway) == other.serial, "the good one is taken")
        visitors.wait_for(3)
    assert not visitors.failures, visitors.failures[:5]
    text = gateway.metrics()
    assert harness.metric_sum(
        text, "weir_tls_certificate_expiry_timestamp_seconds", listener="https", certificate="0"
    ) == int(other.certificate.not_valid_after_utc.timestamp())


def test_an_expired_certificate_is_served_with_a_warning(secure, tmp_path, authority):
    late = Certificate("localhost", ["localhost"], authority, start=-9 * DAY, end=-3 * DAY)
    gateway = secure(late.write(tmp_path, "late"))
    assert "clients will refuse the certificate" in gateway.output()
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        ask(gateway, client_context(authority))


def test_bad_files_at_the_start_are_said(tmp_path, start, authority):
    fields = Certificate("localhost", ["localhost"], authority).write(tmp_path, "default")
    (tmp_path / "default.key").write_bytes(Certificate("other").key_pem())
    listeners = [{"name": "https", "address": "127.0.0.1:0", "tls": fields}]
    config = tmp_path / "weir.yaml"
    config.write_text(json.dumps(harness.gateway(tmp_path, listeners=listeners)))
    told = subprocess.run(
        [harness.binary(), "run", "-c", str(config)], capture_output=True, timeout=60, cwd=tmp_path
    )
    assert told.returncode == 1
    assert b"listener `https`" in told.stderr and b"default.key" in told.stderr
    assert b"the key does not belong to the certificate" in told.stderr


# Requests ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [False, True])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_bodies_of_all_sizes_go_both_ways(secure, authority, version, kernel):
    gateway = secure({"kernel": kernel})
    context = client_context(authority, maximum_version=version)
    connection = SecureConnection(gateway.secure_address, context)
    pattern = bytes(range(251))
    for count in (0, 1, 15_900, 16_384, 16_385, 65_536, 100_000, 1 << 20, 4 << 20):
        body = (pattern * (count // 251 + 1))[:count]
        answer = send(connection, "POST", "/echo", body)
        assert answer.status == 200 and answer.body == body, count
    large = send(connection, "GET", "/large4")
    assert large.body == bytes(range(256)) * 4096 * 4
    chunks = [pattern * 400 for _ in range(40)]
    connection.request("POST", "/echo", body=iter(chunks), encode_chunked=True,
                       headers={"transfer-encoding": "chunked"})
    response = connection.getresponse()
    assert response.read() == b"".join(chunks)
    connection.close()
    head = dict(send(SecureConnection(gateway.secure_address, context), "GET", "/").json())
    assert head["X-Forwarded-Proto"] == "https"


@pytest.mark.parametrize("kernel", [False, True])
def test_slow_readers_get_everything(secure, authority, kernel):
    gateway = secure({"kernel": kernel})
    with socket.create_connection(split(gateway.secure_address)) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
        peer = client_context(authority).wrap_socket(raw, server_hostname="localhost")
        peer.sendall(b"GET /large16 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        first = peer.recv(1)
        # Others are served while this one does not read.
        for _ in range(5):
            assert ask(gateway, client_context(authority)).status == 200
        data = bytearray(first)
        while part := peer.recv(3000):
            data += part
        assert data.partition(b"\r\n\r\n")[2] == bytes(range(256)) * 4096 * 16


def test_each_event_is_one_record(secure, backend, authority):
    gateway = secure()
    client = Records(gateway.secure_address, client_context(authority))
    client.write(b"GET /events/20 HTTP/1.1\r\nHost: x\r\n\r\n")
    seen = b""
    for number in range(20):
        before = len(client.records)
        seen += client.read_until(b"data: %d\n\n\r\n" % number)
        if number:
            assert [kind for kind, _ in client.records[before:]] == [23], number
        backend.gate.set()
    client.read_until(b"0\r\n\r\n")
    client.close()


@pytest.mark.parametrize("kernel", [False, True])
def test_tunnels_pass_both_ways_and_end(secure, authority, kernel):
    gateway = secure({"kernel": kernel})
    client = Records(gateway.secure_address, client_context(authority))
    client.write(
        b"GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
    )
    assert b" 101 " in client.read_until(b"\r\n\r\n")
    for size in (1, 1000, 300_000):
        client.write(b"w" * size)
        data = b""
        while len(data) < size:
            data += client.read()
        assert data == b"w" * size
    # The client's own end reaches the server, whose end comes back, each in so many words.
    client.say_end()
    assert client.read() == b""
    client.close()


# Ends -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [False, True])
def test_a_client_that_has_finished_sending_is_answered(secure, authority, kernel):
    gateway = secure({"kernel": kernel})
    request = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    for says_so in (True, False):
        client = Records(gateway.secure_address, client_context(authority))
        client.write(request)
        if says_so:
            client.say_end()
        client.socket.shutdown(socket.SHUT_WR)
        assert client.read_until(b"hello").startswith(b"HTTP/1.1 200"), says_so
        client.close()


def test_a_cut_request_is_none(secure, backend, authority):
    gateway = secure()
    for says_so in (True, False):
        client = Records(gateway.secure_address, client_context(authority))
        client.write(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nhello")
        if says_so:
            client.say_end()
        client.socket.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError, ssl.SSLError):
            assert client.read() == b""
        client.close()
    assert ask(gateway, client_context(authority)).status == 200


@pytest.mark.parametrize("path", ["/cut", "/cut/chunked"])
def test_a_cut_answer_does_not_look_whole(secure, authority, path):
    gateway = secure()
    client = Records(gateway.secure_address, client_context(authority))
    client.write(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
    data = b""
    with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
        while part := client.read():
            data += part
        raise AssertionError(f"the connection ended as if all were well: {data!r}")
    client.close()


def test_an_orderly_end_is_said(secure, authority):
    gateway = secure()
    client = Records(gateway.secure_address, client_context(authority))
    client.write(b"GET /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    # Anything but the server's own word would be an error here.
    while client.read():
        pass
    client.close()


# Bad peers --------------------------------------------------------------------------------------


def test_plain_http_is_told(secure, authority):
    gateway = secure()
    for method in ("GET", "POST"):
        body = b"x" if method == "POST" else None
        answer = harness.call(gateway.secure_address, method, "/", body)
        assert answer.status == 400 and b"https://" in answer.body
    assert failures(gateway, "plain_http") == 2
    assert gateway.metric("weir_bad_requests_total", reason="plain-http") == 2


@pytest.mark.parametrize("garbage", [
    b"\x00" * 100,
    b"\x16\x03\x01\xff\xff" + b"\x00" * 70_000,
    b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
    b"SSH-2.0-x\r\n",
    b"\x16",
    b"",
])
def test_garbage_ends_and_harms_nobody(secure, authority, garbage):
    gateway = secure()
    with socket.create_connection(split(gateway.secure_address), timeout=30) as raw:
        with contextlib.suppress(OSError):
            raw.sendall(garbage)
            raw.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while raw.recv(4096):
                pass
    assert ask(gateway, client_context(authority)).status == 200
    eventually(
        lambda: gateway.metric("weir_tls_handshake_failures_total", side="client") == 1,
        "the failure is counted",
    )
    eventually(
        lambda: gateway.metric("weir_connections", side="client") == 0, "nothing is left open"
    )


def test_a_handshake_that_never_ends_is_ended(secure):
    gateway = secure(limits={"handshakeTimeout": "300ms"})
    for started in (b"", b"\x16\x03\x01\x02\x00\x01"):
        with socket.create_connection(split(gateway.secure_address), timeout=30) as raw:
            raw.sendall(started)
            with contextlib.suppress(ConnectionResetError):
                assert raw.recv(1) == b""
    assert failures(gateway, "timeout") == 2


def test_handshakes_that_never_end_are_limited(secure, authority):
    gateway = secure(limits={"handshakeTimeout": "60s", "maxHandshakes": 3}, workers=1)
    idle = []
    for _ in range(3):
        idle.append(socket.create_connection(split(gateway.secure_address), timeout=30))
    eventually(lambda: gateway.metric("weir_connections", side="client") == 3, "three wait")
    with socket.create_connection(split(gateway.secure_address), timeout=30) as raw:
        with contextlib.suppress(ConnectionResetError):
            assert raw.recv(1) == b"", "one more is turned away"
    assert failures(gateway, "too_many") == 1
    for raw in idle:
        raw.close()
    eventually(lambda: gateway.metric("weir_connections", side="client") == 0, "they are gone")
    assert ask(gateway, client_context(authority)).status == 200


def test_a_crowd_of_handshakes_is_served(secure, authority, tmp_path):
    """Many clients at once, with a key that makes each cost a millisecond."""
    crowd = Certificate("localhost", ["localhost"], authority, kind="rsa")
    gateway = secure(crowd.write(tmp_path, "crowd"), workers=1)
    context = client_context(authority)
    problems = []

    def visit():
        try:
            for _ in range(5):
                assert ask(gateway, context).status == 200
        except Exception as error:  # noqa: BLE001 (whatever it is, it is told)
            problems.append(repr(error))

    threads = [threading.Thread(target=visit) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems, problems[:3]
    assert gateway.metric("weir_tls_handshakes_total", side="client") == 120


def test_draining_ends_sessions_in_order(secure, backend, authority):
    gateway = secure()
    client = Records(gateway.secure_address, client_context(authority))
    client.write(b"GET /events/2 HTTP/1.1\r\nHost: x\r\n\r\n")
    client.read_until(b"data: 0\n\n\r\n")
    # An answer shows that the server, too, is done with the handshake.
    idle = Records(gateway.secure_address, client_context(authority))
    idle.write(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
    idle.read_until(b"hello")
    gateway.signal(signal.SIGTERM)
    assert idle.read() == b"", "an idle connection ends in order"
    backend.gate.set()
    client.read_until(b"data: 1\n\n\r\n")
    backend.gate.set()
    client.read_until(b"0\r\n\r\n")
    assert gateway.wait() == 0
    client.close()
    idle.close()
