"""600 bytes of JSON in, 1 KB out, 64 kept connections, as fast as one core answers."""

from harness import bodies, load, peers

PATH = "/v1/chat/completions"
ANSWER = load.small_answer(1024)
CONNECTIONS = 64
SECONDS = 3
WARM_UP_SECONDS = 1
NAMES = ("Weir", "nginx", "HAProxy", "Envoy")


def bench(run):
    backend = peers.start_backend(run.stage, run.cores.load, ANSWER)
    body = run.write("body.json", bodies.exact_chat("river", bodies.SMALL_BYTES))
    proxies = {
        name: peers.start(name, run.stage, run.scenario, backend, run.cores.proxy)
        for name in NAMES
    }
    cost = run.compare(
        "CPU per request", "µs", "≤ 0.85× nginx and HAProxy, ≤ 0.4× Envoy",
        limits={"nginx": 0.85, "HAProxy": 0.85, "Envoy": 0.4},
    )
    rate = run.compare(
        "requests per second", "/s", "≥ nginx and HAProxy", limits={"nginx": 1, "HAProxy": 1},
        higher=True,
    )

    def one(name, seconds):
        proxy = proxies[name]
        load.expect(proxy, PATH, body, ANSWER.encode())
        return load.wrk(
            proxy, run.cores.load, PATH, body, seconds, CONNECTIONS, len(ANSWER)
        )

    for name in NAMES:
        one(name, WARM_UP_SECONDS)
    for _, name in run.turns(NAMES):
        sample = one(name, SECONDS)
        cost.add(name, sample.cpu_per_request)
        rate.add(name, sample.rate)
        rate.busy(name, sample.busy)
