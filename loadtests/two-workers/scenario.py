"""Two workers against one: requests per second, and what a request costs then."""

from harness import bodies, load, machine, peers

PATH = "/v1/chat/completions"
ANSWER = load.small_answer(1024)
CONNECTIONS = 64
SECONDS = 3
CORES_NEEDED = 4


def bench(run):
    cores = machine.Cores(2)
    backend = peers.start_backend(run.stage, cores.load, ANSWER)
    body = run.write("body.json", bodies.exact_chat("river", bodies.SMALL_BYTES))
    one, two = (
        peers.start_weir(
            run.stage, run.scenario, backend, cores.proxy[:workers], workers, f"weir-{workers}"
        )
        for workers in (1, 2)
    )
    enough = len(cores.all) >= CORES_NEEDED
    row = "two workers"
    rate = run.compare(
        "throughput, two to one", "×", "≥ 1.8" if enough else "≥ 1.8 (not on this machine)",
        row=row, bound=1.8 if enough else None, higher=True,
    )
    cost = run.compare("CPU per request, two to one", "×", "", row=row)
    if not enough:
        rate.note(
            f"{len(cores.all)} cores: two workers share theirs with the load and the server;"
            " if a request costs no more with two, two free cores would do twice as many"
        )
    samples = {}
    for _, name in run.turns(("one", "two")):
        proxy = one if name == "one" else two
        load.expect(proxy, PATH, body, ANSWER.encode())
        samples[name] = load.wrk(
            proxy, cores.load, PATH, body, SECONDS, CONNECTIONS, len(ANSWER)
        )
        if len(samples) == 2:
            rate.add("Weir", samples["two"].rate / samples["one"].rate)
            cost.add(
                "Weir", samples["two"].cpu_per_request / samples["one"].cpu_per_request
            )
            samples.clear()
