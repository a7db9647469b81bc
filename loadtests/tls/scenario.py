"""TLS 1.3 towards clients: handshakes full and resumed, small requests, answers of 1 MB."""

import subprocess

from harness import bodies, load, peers

PATH = "/v1/chat/completions"
ANSWER = load.small_answer(1024)
LARGE_BYTES = 1 << 20
CONNECTIONS = 64
SECONDS = 3
WARM_UP_SECONDS = 1
NAMES = ("Weir", "nginx")
KEYS = {"ECDSA P-256": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "RSA 2048": ["rsa:2048"]}


def make_certificate(folder, kind):
    """A certificate and its key: NAME.pem, NAME.key."""
    name = kind.split()[0].lower()
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-nodes", "-newkey", *KEYS[kind], "-keyout", key, "-out",
         certificate, "-subj", "/CN=localhost", "-days", "30"],
        check=True, capture_output=True,
    )
    return certificate, key


def start(run, kind, backend):
    stage = run.stage.inside(kind.split()[0].lower())
    certificate, key = make_certificate(stage.folder, kind)
    proxies = {}
    for name in NAMES:
        proxies[name] = peers.start(
            name, stage, run.scenario, backend, run.cores.proxy, CERTIFICATE=certificate, KEY=key
        )
        proxies[name].scheme = "https"
    return proxies


def bench(run):
    backend = peers.start_backend(run.stage, run.cores.load, ANSWER)
    (run.stage.folder / "files/large").write_bytes(bytes(range(256)) * (LARGE_BYTES // 256))
    body = run.write("body.json", bodies.exact_chat("river", bodies.SMALL_BYTES))
    proxies = {kind: start(run, kind, backend) for kind in KEYS}
    for kind in KEYS:
        handshakes(run, kind, proxies[kind], body, resumed=False)
    handshakes(run, "ECDSA P-256", proxies["ECDSA P-256"], body, resumed=True)
    small(run, proxies["ECDSA P-256"], body)
    large(run, proxies["ECDSA P-256"])


def handshakes(run, kind, proxies, body, resumed):
    """Each request on a connection of its own. wrk would go on with the session of its last
    connection wherever it was given a ticket: `weir load` does what it is told, and says how many
    were resumed."""
    row = f"TLS handshakes, {'resumed' if resumed else 'full'}, {kind}"
    rate = run.compare(
        "per second", "/s", "≥ nginx", row=row, limits={"nginx": 1}, higher=True,
    )
    cost = run.compare(
        "CPU of one and its request", "µs", "≤ nginx", row=row, limits={"nginx": 1},
    )
    for _, name in run.turns(NAMES):
        proxy = proxies[name]
        load.expect(proxy, PATH, body, ANSWER.encode())
        sample = load.handshakes(
            proxy, run.cores.load, PATH, body, SECONDS, CONNECTIONS, len(ANSWER), resumed,
            output=run.stage.folder / "load.json",
        )
        rate.add(name, sample.rate)
        rate.busy(name, sample.busy)
        cost.add(name, sample.cpu_per_request)


def small(run, proxies, body):
    cost = run.compare(
        "CPU per request", "µs", "≤ 0.95× nginx", row="TLS small POST", limits={"nginx": 0.95}
    )
    for name in NAMES:
        load.wrk(
            proxies[name], run.cores.load, PATH, body, WARM_UP_SECONDS, CONNECTIONS, len(ANSWER)
        )
    for _, name in run.turns(NAMES):
        load.expect(proxies[name], PATH, body, ANSWER.encode())
        sample = load.wrk(
            proxies[name], run.cores.load, PATH, body, SECONDS, CONNECTIONS, len(ANSWER)
        )
        cost.add(name, sample.cpu_per_request)


def large(run, proxies):
    rate = run.compare(
        "bytes per CPU second", "MB/s", "≥ nginx", row="TLS 1 MB down", limits={"nginx": 1},
        higher=True,
    )
    for _, name in run.turns(NAMES):
        sample = load.wrk(
            proxies[name], run.cores.load, "/files/large", None, SECONDS, 8, LARGE_BYTES
        )
        rate.add(name, sample.requests * LARGE_BYTES / sample.cpu)
