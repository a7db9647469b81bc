"""Prompts of 100 000 tokens (400 KB) with the model's name first, in the middle and last."""

from harness import bodies, http, load, peers

PATH = "/v1/chat/completions"
ANSWER_BYTES = 1024
CONNECTIONS = 8
SECONDS = 2
POLICIES = {"LeastLoaded": "least", "PrefixAffinity": "prefix"}
PLACES = ("first", "middle", "last")
NAMES = ("Weir", "nginx", "HAProxy")


def bench(run):
    options = "--instant", "--response-size", ANSWER_BYTES, "--replica", "server"
    backend, _ = peers.start_simulator(run.stage, run.cores.load, *options)
    second, _ = peers.start_simulator(run.stage, run.cores.load, *options, name="second")
    proxies = {
        name: peers.start(name, run.stage, run.scenario, backend, run.cores.proxy)
        for name in NAMES[1:]
    }
    proxies["Weir"] = peers.start_weir(
        run.stage, run.scenario, backend, run.cores.proxy, SECOND=second
    )
    prompts, comparisons = {}, {}
    for policy, model in POLICIES.items():
        for place in PLACES:
            key = policy, place
            prompts[key] = run.write(
                f"{model}-{place}.json", bodies.chat(model, bodies.PROMPT_BYTES, place)
            )
            comparisons[key] = run.compare(
                "CPU per request", "µs", "≤ 1.2× HAProxy passing it unread",
                row=f"long prompt, model {place}, {policy}", limits={"HAProxy": 1.2},
            )

    def one(name, key):
        proxy, body = proxies[name], prompts[key]
        answer = http.call(
            backend, "POST", PATH, body.read_bytes(), {"content-type": "application/json"}
        ).body
        load.expect(proxy, PATH, body, answer)
        return load.wrk(
            proxy, run.cores.load, PATH, body, SECONDS, CONNECTIONS, len(answer)
        ).cpu_per_request

    # The peers do not read the body: one measurement in a round stands for all places and policies.
    turns = [("Weir", key) for key in comparisons] + [(name, None) for name in NAMES[1:]]
    for _, (name, key) in run.turns(turns):
        if key is not None:
            comparisons[key].add(name, one(name, key))
            continue
        cost = one(name, ("LeastLoaded", "first"))
        for comparison in comparisons.values():
            comparison.add(name, cost)
