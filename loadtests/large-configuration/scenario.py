"""10 000 models with 4 variants each: the cost of a request, and what a reload does to requests."""

import json
import threading
import time

from harness import bodies, http, load, peers
from harness.processes import Fault, eventually

PATH = "/v1/chat/completions"
ANSWER = load.small_answer(1024)
MODELS = 10_000
VARIANTS = 4
MODELS_OF_FILE = 1000
CAPACITY = 1000
CONNECTIONS = 64
START_SECONDS_MAX = 20
SECONDS = 3
RELOAD_ROUNDS_MAX = 3
RELOAD_SECONDS_MAX = 1.0
STALL_SECONDS_MAX = 0.010
# During a reload; a request each millisecond shows how long the worker stood still.
RATE = 1000
RELOAD_LOAD_SECONDS = 4


def files(run, backend, count):
    """As small-post's model, again and again, in files of a thousand."""
    written = []
    for first in range(0, count, MODELS_OF_FILE):
        numbers = range(first, min(first + MODELS_OF_FILE, count))
        text = models(backend, numbers, asked_for=count // 2)
        written.append(run.write(f"models-{count}-{first}.yaml", text.encode()))
    return written


def models(backend, numbers, asked_for):
    documents = []
    for number in numbers:
        name = "river" if number == asked_for else f"model-{number:05}"
        endpoints = json.dumps([f"http://127.0.0.1:{backend}"])
        variants = "\n".join(
            f"  - {{name: v{v}, endpoints: {endpoints}}}" for v in range(1, VARIANTS + 1)
        )
        documents.append(
            "---\napiVersion: weir.dev/v1alpha1\nkind: Model\n"
            f"metadata: {{name: {name}}}\nspec:\n  protocol: OpenAI\n  variants:\n{variants}\n"
            "  weights: {v1: 70, v2: 10, v3: 10, v4: 10}\n"
            "  concurrency: {perReplica: 1024}\n"
            f"  queue: {{capacity: {CAPACITY}, timeout: 30s}}\n"
        )
    return "".join(documents)


def bench(run):
    backend = peers.start_backend(run.stage, run.cores.load, ANSWER)
    body = run.write("body.json", bodies.exact_chat("river", bodies.SMALL_BYTES))
    written = {"small": files(run, backend, 1), "large": files(run, backend, MODELS)}
    weirs = {
        name: peers.start_weir(
            run.stage, run.scenario, backend, run.cores.proxy, name=name, more=more
        )
        for name, more in written.items()
    }
    row = f"{MODELS} models × {VARIANTS} variants"
    cost = run.compare(
        "CPU per request, to that with one model", "×", "≤ 1.03", row=row, bound=1.03
    )
    trouble = unserved(weirs["large"], body)
    if trouble:
        return cost.fail(trouble)
    samples = {}
    for _, name in run.turns(weirs):
        load.expect(weirs[name], PATH, body, ANSWER.encode())
        samples[name] = load.wrk(
            weirs[name], run.cores.load, PATH, body, SECONDS, CONNECTIONS, len(ANSWER)
        ).cpu_per_request
        if len(samples) == 2:
            cost.add("Weir", samples["large"] / samples["small"])
            samples.clear()
    run.stage.end(weirs["small"].process)
    return reloads(run, row, weirs["large"], body, written["large"][MODELS // MODELS_OF_FILE // 2])


def unserved(weir, body):
    """Waits until the model in the middle is served; says what came instead."""
    answer = None

    def served():
        nonlocal answer
        headers = {"content-type": "application/json"}
        answer = http.call(weir.port, "POST", PATH, body.read_bytes(), headers)
        return answer.status == 200

    try:
        eventually(served, "the model is served", START_SECONDS_MAX)
    except Fault:
        return f"it is not served: {answer.status} {answer.body[:120].decode(errors='replace')}"
    return None


def reloads(run, row, weir, body, file):
    took = run.compare(
        "reload", "s", "< 1 s", row=row, bound=RELOAD_SECONDS_MAX
    )
    stall = run.compare(
        "longest request during it", "ms", "≤ 10 ms", row=row, bound=STALL_SECONDS_MAX
    )
    calm = run.compare("longest request without it", "ms", "", row=row)
    for number in range(min(run.rounds, RELOAD_ROUNDS_MAX)):
        run.progress.show(f"{run.name}: reload {number + 1}")
        calm.add("Weir", under_load(run, weir, body)["max"])
        changed = file.read_text(encoding="utf-8").replace(
            f"capacity: {CAPACITY + number}", f"capacity: {CAPACITY + number + 1}"
        )
        seconds = []
        change = threading.Thread(target=lambda: seconds.append(reload(weir, file, changed)))
        change.start()
        latency = under_load(run, weir, body)
        change.join()
        if not seconds:
            raise Fault("the reload did not come to an end")
        took.add("Weir", seconds[0])
        stall.add("Weir", latency["max"])


def generation(weir):
    return http.call(weir.admin, "GET", "/api/v1/snapshot").json()["generation"]


def reload(weir, file, text):
    """Writes a file and asks for a reload; seconds until the workers have the new snapshot."""
    time.sleep(RELOAD_LOAD_SECONDS / 4)
    before = generation(weir)
    file.write_text(text, encoding="utf-8")
    started = time.monotonic()
    answer = http.call(weir.admin, "POST", "/api/v1/reload")
    if answer.status >= 300:
        raise Fault(f"the reload was answered {answer.status}: {answer.body[:300]!r}")
    eventually(lambda: generation(weir) > before, "the new configuration is in force")
    return time.monotonic() - started


def under_load(run, weir, body):
    result = load.weir_load(
        f"{weir.url}{PATH}", run.cores.load, "--rate", RATE, "--arrivals", "constant",
        "--body-file", body, "-H", "content-type: application/json", "--threshold",
        "errors<=0%", seconds=RELOAD_LOAD_SECONDS, output=run.stage.folder / "load.json",
        valid=False,
    )
    if result["exit_code"] == 3:
        raise Fault(f"requests failed during a reload: {result['statuses']}")
    return result["timings_s"]["service"]
