"""Small requests at about half of what a core can take: the time that each proxy adds."""

from harness import bodies, load, peers

PATH = "/v1/chat/completions"
ANSWER = load.small_answer(1024)
# A request costs each proxy about 30 µs at this rate, as little is done at once: half a core. The
# load and the server behind it share the other core, and keep up.
RATE = 15_000
SECONDS = 4
WARM_UP_SECONDS = 1
CONNECTIONS_MAX = 512
NAMES = ("Weir", "nginx", "HAProxy")


def bench(run):
    backend = peers.start_backend(run.stage, run.cores.load, ANSWER)
    body = run.write("body.json", bodies.exact_chat("river", bodies.SMALL_BYTES))
    ports = {"server": backend}
    proxies = {}
    for name in NAMES:
        proxies[name] = peers.start(name, run.stage, run.scenario, backend, run.cores.proxy)
        load.expect(proxies[name], PATH, body, ANSWER.encode())
        ports[name] = proxies[name].port
    row = f"added latency, {RATE:,}/s".replace(",", " ")
    added = {
        "p50": run.compare("p50", "µs", "≤ HAProxy", row=row, limits={"HAProxy": 1}),
        "p99": run.compare("p99", "µs", "≤ 1.2× HAProxy", row=row, limits={"HAProxy": 1.2}),
    }
    cost = run.compare("CPU per request", "µs", "", row=row)

    def one(name):
        process = proxies[name].process if name in proxies else None
        before = process.cpu_seconds() if process else 0
        result = load.weir_load(
            f"http://127.0.0.1:{ports[name]}{PATH}", run.cores.load, "--rate", RATE,
            "--arrivals", "poisson", "--body-file", body, "-H", "content-type: application/json",
            "--max-connections", CONNECTIONS_MAX, "--warm-up", f"{WARM_UP_SECONDS}s",
            "--threshold", "errors<=0%", seconds=SECONDS,
            output=run.stage.folder / "load.json", valid=False,
        )
        if result["exit_code"] == 4:
            added["p99"].note("the load was late itself in some rounds: these figures say little")
        if result["exit_code"] == 3:
            raise load.Fault(f"{name} failed requests: {result['statuses']}")
        if process:
            requests = result["counts"]["requests_with_warm_up"]
            cost.add(name, (process.cpu_seconds() - before) / requests)
        # From the first byte sent: how late the load was is not the proxy's.
        return result["timings_s"]["service"]

    for _, name in run.turns(NAMES):
        # The server alone is seen right before each proxy, on the same machine as it was then.
        direct, timings = one("server"), one(name)
        for quantile, comparison in added.items():
            comparison.add(name, timings[quantile] - direct[quantile])
