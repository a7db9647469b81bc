"""The configuration changes five times a second while requests run: none may fail."""

import os
import time

from harness import bodies
from harness.loadtest import admin
from harness.processes import eventually

SECONDS = 8
RELOADS = 25
PAUSE_SECONDS = 0.2
GROWTH_MAX_BYTES = 16 << 20
WEIGHTS = ("{v1: 90, v2: 10}", "{v1: 50, v2: 50}")


def generation(weir):
    return admin(weir, "GET", "/api/v1/snapshot")["generation"]


def rewrite(weir, text):
    """Replaced in one step, as editors do: nobody sees half a file."""
    fresh = weir.config.with_suffix(".new")
    fresh.write_text(text, encoding="utf-8")
    os.replace(fresh, weir.config)


def change(test, weir):
    text = weir.config.read_text(encoding="utf-8")
    for number in range(RELOADS):
        text = text.replace(WEIGHTS[number % 2], WEIGHTS[(number + 1) % 2])
        before = generation(weir)
        rewrite(weir, text)
        admin(weir, "POST", "/api/v1/reload")
        eventually(lambda: generation(weir) > before, f"change {number + 1} is in force")
        time.sleep(PAUSE_SECONDS)
    return RELOADS


def check(test):
    v1, v2 = (test.simulator(name, "--instant") for name in ("v1", "v2"))
    weir = test.start_weir(v1, SECOND=v2)
    url = f"{weir.url}/v1/chat/completions"
    body = test.write("body.json", bodies.exact_chat("river", 600))
    options = ("--body-file", body, "-H", "content-type: application/json")
    test.load(url, *options, "--connections", 16, seconds=1)
    memory = weir.process.memory_bytes()
    load = test.start_load(url, *options, "--connections", 16, seconds=SECONDS)
    changes = change(test, weir)
    result = load.result()
    test.expect("changes in force", str(RELOADS), str(changes), changes == RELOADS)
    test.expect_no_failures(result)
    growth = weir.process.memory_bytes() - memory
    test.expect(
        "growth of memory", f"≤ {GROWTH_MAX_BYTES >> 20} MB", f"{growth / (1 << 20):.1f} MB",
        growth <= GROWTH_MAX_BYTES,
    )
    # The last weights are 50/50: what comes now is split exactly.
    after = test.load(url, *options, "--connections", 1, "--requests", 400, seconds=10)
    share = after["variants"].get("v2", {}).get("requests", 0)
    test.expect("v2 of 400 at 50 %", "200", str(share), abs(share - 200) <= 1)
