"""600 bytes of JSON in, 1 KB out, over HTTP/2 from the clients."""

from harness import bodies, load, peers

PATH = "/v1/chat/completions"
ANSWER = load.small_answer(1024)
# Connections, and streams at once on each.
SHAPES = {"8 connections of 32 streams": (8, 32), "64 connections of one stream": (64, 1)}
SECONDS = 3
WARM_UP_SECONDS = 1
NAMES = ("Weir", "nginx", "nghttpx", "Envoy")


def bench(run):
    backend = peers.start_backend(run.stage, run.cores.load, ANSWER)
    body = run.write("body.json", bodies.exact_chat("river", bodies.SMALL_BYTES))
    proxies = {
        name: peers.start(name, run.stage, run.scenario, backend, run.cores.proxy)
        for name in NAMES
    }
    for shape, (connections, streams) in SHAPES.items():
        cost = run.compare(
            "CPU per request", "µs", "≤ nginx and nghttpx, ≤ 0.5× Envoy", row=f"h2, {shape}",
            limits={"nginx": 1, "nghttpx": 1, "Envoy": 0.5},
        )

        def one(name, seconds, connections=connections, streams=streams):
            return load.h2load(
                proxies[name], run.cores.load, PATH, body, seconds, connections, streams,
                len(ANSWER),
            )

        for name in NAMES:
            one(name, WARM_UP_SECONDS)
        for _, name in run.turns(NAMES):
            sample = one(name, SECONDS)
            cost.add(name, sample.cpu_per_request)
            cost.busy(name, sample.busy)
