"""A server that never answers: its clients are told so in time, and nobody else notices."""

from harness import bodies

SECONDS = 6
CONNECTIONS = 16
GROWTH_MAX_BYTES = 16 << 20
# Beside 504, what a model without any usable replica says once the outlier detection acted.
ALLOWED = {"504", "503", "502"}


def check(test):
    fine = test.simulator("fine", "--instant")
    stuck = test.simulator("stuck", "--instant", "--hang-rate", 1)
    weir = test.start_weir(fine, STUCK=stuck)
    url = f"{weir.url}/v1/chat/completions"
    loads = {}
    memory = weir.process.memory_bytes()
    for model in ("stuck", "river"):
        body = test.write(f"{model}.json", bodies.exact_chat(model, 600))
        loads[model] = test.start_load(
            url, "--body-file", body, "-H", "content-type: application/json",
            "--connections", CONNECTIONS, "--timeout", "5s", seconds=SECONDS,
        )
    river, stuck = loads["river"].result(), loads["stuck"].result()
    test.expect_no_failures(river, "requests of the other model")
    statuses = set(stuck["statuses"])
    test.expect(
        "answers of the stuck model", "504 (or 502, 503)", str(stuck["statuses"]),
        "504" in statuses and statuses <= ALLOWED,
    )
    late = stuck["outcomes"]["timed-out"]
    test.expect("its clients that gave up", "0", str(late), late == 0)
    growth = weir.process.memory_bytes() - memory
    test.expect(
        "growth of memory", f"≤ {GROWTH_MAX_BYTES >> 20} MB", f"{growth / (1 << 20):.1f} MB",
        growth <= GROWTH_MAX_BYTES,
    )
