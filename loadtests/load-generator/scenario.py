"""The load generator: what a request costs it beside wrk, and how well it keeps a schedule."""

import resource

from harness import bodies, load, peers

PATH = "/v1/chat/completions"
ANSWER = load.small_answer(1024)
CONNECTIONS = 64
SECONDS = 3
RATE = 20_000
RATE_CONNECTIONS_MAX = 512
SHARE_OF_WRK_MIN = 0.7
LATE_SECONDS_MAX = 0.001
JSON_FIELD = ("-H", "content-type: application/json")


def cpu_of_children():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def bench(run):
    backend = peers.start_backend(run.stage, run.cores.proxy, ANSWER)
    server = peers.Peer("the server", run.stage.processes[-1], backend)
    body = run.write("body.json", bodies.exact_chat("river", bodies.SMALL_BYTES))
    output = run.stage.folder / "load.json"
    target = f"{server.url}{PATH}"
    share = run.compare(
        "requests per CPU second, to wrk's", "×", "≥ 0.7", bound=SHARE_OF_WRK_MIN, higher=True
    )
    late = run.compare(
        "scheduling error p99, 20 000/s", "ms", "≤ 1 ms", bound=LATE_SECONDS_MAX
    )

    def wrk():
        return load.wrk(
            server, run.cores.load, PATH, body, SECONDS, CONNECTIONS, len(ANSWER)
        ).requests

    def weir():
        result = load.weir_load(
            target, run.cores.load, "--connections", CONNECTIONS, "--body-file", body,
            *JSON_FIELD, "--threshold", "errors<=0%", seconds=SECONDS, output=output,
        )
        if result["exit_code"]:
            raise load.Fault(f"requests failed: {result['statuses']}")
        return result["counts"]["requests_with_warm_up"]

    def schedule():
        return load.weir_load(
            target, run.cores.load, "--rate", RATE, "--arrivals", "poisson", "--body-file", body,
            *JSON_FIELD, "--max-connections", RATE_CONNECTIONS_MAX, "--warm-up", "1s",
            seconds=SECONDS, output=output, valid=False,
        )["timings_s"]["lag"]["p99"]

    figures = {}
    for _, (name, one) in run.turns([("wrk", wrk), ("weir load", weir)]):
        before = cpu_of_children()
        requests = one()
        figures[name] = requests / (cpu_of_children() - before)
        if len(figures) == 2:
            share.add("Weir", figures["weir load"] / figures["wrk"])
            figures.clear()
            late.add("Weir", schedule())
