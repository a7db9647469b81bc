"""Streams, tensors and short requests at once: all succeed, each at its own model's variants."""

import math

SECONDS = 6
WORKERS_SLACK = 4


def check(test):
    options = ("--step-time", "2ms", "--prefill-rate", 1_000_000)
    ports = {
        name: test.simulator(name, *options, "--model", name.partition("-")[0])
        for name in ("river", "brook", "brook-2", "pond")
    }
    weir = test.start_weir(
        RIVER=ports["river"], BROOK=ports["brook"], SECOND=ports["brook-2"], POND=ports["pond"]
    )
    loads = {
        "river": test.start_load(
            weir.url, "--api", "chat", "--model", "river", "--connections", 8,
            "--input-tokens", 32, "--output-tokens", 4, "--no-stream", seconds=SECONDS,
        ),
        "brook": test.start_load(
            weir.url, "--api", "completions", "--model", "brook", "--connections", 8,
            "--input-tokens", "uniform:100,2000", "--output-tokens", "uniform:5,40",
            "--shared-prefix", 200, "--prefix-groups", 4, seconds=SECONDS,
        ),
        "pond": test.start_load(
            weir.url, "--api", "infer", "--model", "pond", "--connections", 4,
            "--infer-input", "x:FP32:1x784", seconds=SECONDS,
        ),
    }
    results = {model: load.result() for model, load in loads.items()}
    variants = {"river": {"v1", "v2"}, "brook": {"small"}, "pond": {"tensors"}}
    for model, result in results.items():
        test.expect_no_failures(result, f"requests of {model}")
        seen = set(result["variants"])
        test.expect(f"variants of {model}", ", ".join(sorted(variants[model])),
                    ", ".join(sorted(seen)), seen == variants[model])
    shares(test, results["river"])


def shares(test, result):
    """Each worker keeps the weights exactly; the requests of the end are not all counted."""
    total = result["counts"]["requests"]
    of_v2 = result["variants"].get("v2", {}).get("requests", 0)
    wanted = total / 10
    slack = WORKERS_SLACK + math.ceil(8 / 2)
    test.expect(
        f"v2 of {total} at 10 %", f"{wanted:.0f} ± {slack}", str(of_v2),
        abs(of_v2 - wanted) <= slack,
    )
