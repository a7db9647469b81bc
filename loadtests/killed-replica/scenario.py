"""One of two replicas is killed under load: no request fails, and it is replaced."""

import os
import signal
import time

from harness.loadtest import admin
from harness.processes import eventually, tree

SECONDS = 8
RATE = 100
BEFORE_SECONDS = 2


def ready(weir):
    replicas = admin(weir, "GET", "/api/v1/replicas")["replicas"]
    return {r["pid"] for r in replicas if r["state"] == "ready"}


def check(test):
    weir = test.start_weir()
    eventually(lambda: len(ready(weir)) == 2, "both replicas are ready")
    load = test.start_load(
        weir.url, "--api", "chat", "--model", "river", "--no-stream", "--rate", RATE,
        "--input-tokens", 32, "--output-tokens", 4, seconds=SECONDS,
    )
    time.sleep(BEFORE_SECONDS)
    before = ready(weir)
    victim = sorted(before & set(tree(weir.process.pid)))[0]
    os.kill(victim, signal.SIGKILL)
    result = load.result()
    eventually(lambda: len(ready(weir) - {victim}) == 2, "the replica is replaced")
    after = ready(weir)
    test.expect_no_failures(result)
    test.expect(
        "replicas afterwards", "2, one of them new", f"{len(after)}, {len(after - before)} new",
        len(after) == 2 and len(after - before) == 1 and victim not in after,
    )
    retries = result["counts"]["requests"]
    test.expect("requests sent", f"about {RATE * SECONDS}", str(retries),
                abs(retries - RATE * SECONDS) < RATE * SECONDS / 4)
