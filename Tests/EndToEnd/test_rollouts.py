"""Rollouts for real: weights that move, evidence, rollback, and what people may do meanwhile."""

import base64
import http.server
import json
import os
import subprocess
import textwrap
import threading

import pytest

from harness import (
    ROOT,
    Load,
    Weir,
    binary,
    call,
    chat_body,
    eventually,
    gateway,
    model,
    resource,
    simulated,
)

MODEL = "river"
PATH = "/v1/chat/completions"
BODY = chat_body(MODEL, tokens=2)
# Steps that are over soon, and one that lasts until somebody goes on.
QUICK = [{"weight": 20, "hold": "1s"}, {"weight": 60, "hold": "1s"}]
LONG = [{"weight": 30, "hold": "600s"}]
ERRORS = [{"name": "successRate", "maxDrop": "0.1%"}]


def policy(steps, name="quick", metrics=None, analysis=None, guardrails=None, **spec):
    return resource("RolloutPolicy", name, {
        "steps": steps,
        "analysis": {
            "alpha": "0.05",
            "minRequests": 5,
            "warmup": "0s",
            "metrics": ERRORS if metrics is None else metrics,
            **(analysis or {}),
        },
        # On a busy machine few requests may be answered within a short hold.
        "onInconclusive": "Promote",
        "guardrails": {"progressDeadline": "60s", **(guardrails or {})},
        "scaleDownDelay": "0s",
        "abortScaleDownDelay": "0s",
        **spec,
    })


def fleet(variants=("v1", "v2"), arguments=None, **spec):
    """A model with a deployment of simulators per variant, the first of them live."""
    documents = [
        simulated(f"{MODEL}-{name}", MODEL, 1, (arguments or {}).get(name, ()))
        for name in variants
    ]
    spec = {"live": variants[0], "rollout": {"policy": "quick"}, **spec}
    names = {name: f"{MODEL}-{name}" for name in variants}
    return [*documents, model(MODEL, names, **spec)]


def rollout(weir, name=MODEL):
    return weir.admin("GET", f"/api/v1/rollouts/{name}")


def state(weir):
    return rollout(weir)["state"]


def reaches(weir, wanted, timeout=60):
    """Until the rollout is in one of these states."""
    wanted = {wanted} if isinstance(wanted, str) else set(wanted)

    def is_there():
        weir.assert_running()
        return state(weir) in wanted and rollout(weir)

    return eventually(is_there, f"the rollout is {' or '.join(wanted)}", timeout)


def has_share(weir, weight, variant="v2"):
    """Until this variant is the new one and has this weight."""

    def is_there():
        weir.assert_running()
        seen = rollout(weir)
        return seen["canary"] == variant and seen["weight"] == weight

    eventually(is_there, f"{variant} has {weight} %", 60)


def go_live(weir, variant, status=200):
    answer = call(weir.admin_address, "PUT", f"/api/v1/models/{MODEL}/live", {"variant": variant})
    assert answer.status == status, answer.body
    return answer.json()


def command(weir, verb, status=200, value=None):
    answer = call(weir.admin_address, "POST", f"/api/v1/rollouts/{MODEL}/{verb}", value)
    assert answer.status == status, answer.body
    return answer.json()


def events(weir, *kinds):
    return [e for e in rollout(weir)["history"] if not kinds or e["event"] in kinds]


def faults(weir, variant, **values):
    """Sets the faults of all ready replicas of a variant."""
    replicas = weir.ready_replicas(f"{MODEL}-{variant}")
    assert replicas, f"{variant} has no ready replica"
    for replica in replicas:
        answer = call(replica["address"], "POST", "/simulator/faults", values)
        assert answer.status < 300, answer.body


def run_command(weir, *arguments, timeout=90):
    return subprocess.run(
        [binary(), "rollout", *arguments, "--admin", weir.admin_address],
        capture_output=True, text=True, timeout=timeout, check=False,
    )


def harness_gateway(weir):
    """The first document of the configuration that a Weir was started with."""
    return json.loads(weir.config.read_text(encoding="utf-8").split("\n---\n")[0])


def with_live(documents, variant):
    result = json.loads(json.dumps(documents))
    for document in result:
        if document["kind"] == "Model":
            document["spec"]["live"] = variant
    return result


def test_walks_all_steps_and_nothing_restarts(weir):
    gate = weir(*fleet(), policy(QUICK), replicas=1)
    with Load(gate.address, PATH, BODY) as load:
        load.wait_for(20)
        go_live(gate, "v2")
        done = reaches(gate, "live")
    assert done["stable"] == "v2"
    assert not load.failures
    weights = [e["weight"] for e in events(gate, "weightChanged")]
    assert weights == [20, 60, 100]
    assert gate.weights(MODEL) == {"v1": 0, "v2": 100}
    # The old variant goes, the new one's only replica is the one it began with.
    eventually(lambda: not gate.replicas(f"{MODEL}-v1"), "v1's replicas are gone")
    replicas = gate.replicas(f"{MODEL}-v2")
    assert [r["restarts"] for r in replicas] == [0]
    assert gate.metric("weir_rollout_verdicts_total", model=MODEL, verdict="pass") == 1
    assert gate.metric("weir_rollout_weight_percent", model=MODEL, variant="v2") == 100


def test_errors_bring_the_old_variant_back(weir):
    gate = weir(*fleet(), policy([{"weight": 30, "hold": "60s"}]), replicas=1)
    with Load(gate.address, PATH, BODY) as load:
        load.wait_for(20)
        go_live(gate, "v2")
        has_share(gate, 30)
        faults(gate, "v2", errorRate=0.3, errorStatus=500)
        done = reaches(gate, "rolledBack")
        served = len(load.answers)
        load.wait_for(20)
    assert done["stable"] == "v1" and done["rejected"] == "v2"
    assert gate.weights(MODEL) == {"v1": 100, "v2": 0}
    failed = events(gate, "failed")[-1]
    assert "successRate" in failed["message"] or "errors" in failed["message"]
    # Every failure is the bad variant's own answer.
    assert load.failures and all(f.startswith("500 ") for f in load.failures), load.failures[:3]
    assert all(a.headers["x-weir-variant"] == "v1" for a in load.answers[served + 8:])
    assert gate.metric("weir_rollout_verdicts_total", model=MODEL, verdict="fail") == 1


def test_slowness_brings_the_old_variant_back(weir):
    slow = [{"name": "latency", "quantile": 0.9, "maxIncrease": "20%"}]
    documents = [*fleet(), policy([{"weight": 40, "hold": "60s"}], metrics=slow)]
    gate = weir(*documents, replicas=1)
    with Load(gate.address, PATH, BODY, threads=8) as load:
        go_live(gate, "v2")
        has_share(gate, 40)
        faults(gate, "v2", extraLatencyMilliseconds=300)
        done = reaches(gate, "rolledBack")
    assert "latency p90" in done["reason"]
    assert not load.failures
    # The evidence is in the history, for both arms.
    report = events(gate, "failed")[-1]["metrics"][0]
    assert report["verdict"] == "fail" and report["evidence"] >= report["threshold"]
    assert report["canary"] > report["stable"]


def test_errors_in_a_row_are_seen_within_the_second(weir):
    strict = {"consecutiveErrors": 5, "errorRate": "100%"}
    # No metric would notice: only the guardrail looks.
    gate = weir(
        *fleet(), policy([{"weight": 50, "hold": "60s"}], metrics=[], guardrails=strict),
        replicas=1,
    )
    with Load(gate.address, PATH, BODY) as load:
        go_live(gate, "v2")
        has_share(gate, 50)
        faults(gate, "v2", errorRate=1.0, errorStatus=500)
        done = reaches(gate, "rolledBack")
        goal = len(load.failures)
        load.wait_for(30)
        assert len(load.failures) - goal <= 4, "v2 still answers"
    assert "errors in a row" in done["reason"]


def test_a_variant_that_refuses_connections_is_rolled_back_behind_retries(weir, simulator):
    good, bad = simulator("--model", MODEL, name="good"), simulator("--model", MODEL, name="bad")
    variants = {"v1": [good.url], "v2": [bad.url]}
    documents = [
        model(MODEL, variants, live="v1", rollout={"policy": "quick"},
              retry={"attempts": 2, "budget": "100%"},
              healthCheck={"path": "/health", "period": "60s"}),
        policy([{"weight": 50, "hold": "60s"}], guardrails={"consecutiveErrors": 5}),
    ]
    gate = weir(*documents)
    eventually(lambda: len(gate.ready_replicas()) == 2, "both endpoints are ready")
    bad.faults(resetRate=1.0)
    with Load(gate.address, PATH, BODY) as load:
        go_live(gate, "v2")
        reaches(gate, "rolledBack")
    # What failed there was tried again at the old variant: the clients saw nothing of it, but the
    # evidence did.
    assert len(load.answers) > 5


def test_pauses_and_promotes_by_hand(weir):
    steps = [{"weight": 10, "hold": "1s"}, {"pause": True}, {"weight": 50, "hold": "600s"}]
    gate = weir(*fleet(), policy(steps), replicas=1)
    with Load(gate.address, PATH, BODY) as load:
        load.wait_for(10)
        go_live(gate, "v2")
        paused = reaches(gate, "paused")
        assert paused["waitsForSomebody"] and paused["weight"] == 10
        assert run_command(gate, "status", MODEL).returncode == 3
        assert run_command(gate, "promote", MODEL).returncode == 0
        has_share(gate, 50)
        command(gate, "pause")
        assert state(gate) == "paused"
        command(gate, "pause", status=409)
        command(gate, "promote")
        assert state(gate) == "progressing"
        result = run_command(gate, "promote", MODEL, "--full", "--watch")
        assert result.returncode == 0, result.stderr
    assert not load.failures
    assert rollout(gate)["stable"] == "v2"
    kinds = [e["event"] for e in events(gate)]
    assert kinds.count("paused") == 2 and kinds.count("resumed") == 2


def test_aborts_and_retries(weir):
    documents = [*fleet(), policy(LONG)]
    gate = weir(*documents, replicas=1)
    with Load(gate.address, PATH, BODY) as load:
        load.wait_for(10)
        go_live(gate, "v2")
        has_share(gate, 30)
        assert run_command(gate, "abort", MODEL).returncode == 0
        reaches(gate, "rolledBack")
        assert run_command(gate, "status", MODEL).returncode == 2
        assert gate.weights(MODEL) == {"v1": 100, "v2": 0}
        command(gate, "abort", status=409)
        before = gate.generation()
        gate.write([harness_gateway(gate), *documents[:-1], policy(QUICK)])
        eventually(lambda: gate.generation() > before, "the quick policy is in use")
        result = run_command(gate, "retry", MODEL, "--watch")
        assert result.returncode == 0, result.stdout + result.stderr
    assert not load.failures
    assert rollout(gate)["stable"] == "v2"


def test_a_third_variant_takes_over_midway(weir):
    gate = weir(*fleet(("v1", "v2", "v3")), policy(LONG), replicas=1)
    with Load(gate.address, PATH, BODY) as load:
        load.wait_for(10)
        go_live(gate, "v2")
        has_share(gate, 30)
        go_live(gate, "v3")
        has_share(gate, 30, "v3")
        command(gate, "promote", value={"full": True})
        eventually(lambda: rollout(gate)["stable"] == "v3", "v3 is live", 60)
    assert not load.failures
    assert gate.weights(MODEL) == {"v1": 0, "v2": 0, "v3": 100}
    # The canary's weight was 0 before the next one began.
    kinds = [(e["event"], e["canary"]) for e in events(gate)]
    assert kinds.index(("rolledBack", "v2")) < kinds.index(("started", "v3"))


def test_the_file_starts_a_rollout_and_takes_it_back(weir):
    documents = [*fleet(), policy(LONG)]
    gate = weir(*documents, replicas=1)
    first = harness_gateway(gate)
    with Load(gate.address, PATH, BODY) as load:
        load.wait_for(10)
        gate.write([first, *with_live(documents, "v2")])
        has_share(gate, 30)
        assert rollout(gate)["configured"] == "v2"
        gate.write([first, *with_live(documents, "v1")])
        eventually(lambda: gate.weights(MODEL) == {"v1": 100, "v2": 0}, "v1 has everything")
        reaches(gate, "live")
    assert not load.failures
    assert rollout(gate)["stable"] == "v1" and rollout(gate)["rejected"] is None


def test_a_changed_policy_goes_on_where_the_rollout_is(weir):
    documents = [*fleet(), policy(LONG)]
    gate = weir(*documents, replicas=1)
    first = harness_gateway(gate)
    with Load(gate.address, PATH, BODY) as load:
        load.wait_for(10)
        go_live(gate, "v2")
        has_share(gate, 30)
        gate.write([first, *documents[:-1], policy(QUICK)])
        done = reaches(gate, "live")
    assert not load.failures
    assert done["stable"] == "v2"
    # Never less than it had.
    weights = [e["weight"] for e in events(gate, "weightChanged")]
    assert weights == sorted(weights)


def test_goes_on_after_being_killed(weir, start, tmp_path):
    steps = [{"weight": 20, "hold": "2s"}, {"pause": True}, {"weight": 60, "hold": "2s"}]
    documents = [gateway(tmp_path), *fleet(), policy(steps)]
    gate = weir(*documents[1:], replicas=1)
    with Load(gate.address, PATH, BODY) as load:
        load.wait_for(10)
        go_live(gate, "v2")
        reaches(gate, "paused")
    gate.kill()
    again = start(Weir, documents, name="weir-again").wait_until_ready(2)
    seen = rollout(again)
    assert seen["state"] == "paused" and seen["canary"] == "v2" and seen["rollout"] == 1
    # A share comes with the first look at replicas that are ready.
    eventually(lambda: again.weights(MODEL) == {"v1": 80, "v2": 20}, "the weights are back")
    with Load(again.address, PATH, BODY) as load:
        load.wait_for(10)
        command(again, "promote")
        eventually(lambda: (seen := rollout(again))["weight"] == 60 or seen["stable"] == "v2",
                   "the next step has begun", 60)
    again.kill()
    last = start(Weir, documents, name="weir-last").wait_until_ready(1)
    with Load(last.address, PATH, BODY) as load:
        done = reaches(last, "live")
    assert done["stable"] == "v2" and not load.failures
    assert [e["event"] for e in events(last, "started", "promoted")] == ["started", "promoted"]
    # What was promoted stays, although the file names the old variant.
    last.stop()
    final = start(Weir, documents, name="weir-final").wait_until_ready(1)
    assert rollout(final)["stable"] == "v2"
    eventually(lambda: final.weights(MODEL) == {"v1": 0, "v2": 100}, "v2 has everything")


def test_after_a_start_the_old_variant_is_waited_for(weir, start, tmp_path):
    """Its replicas start more slowly than the new one's, which is not given all meanwhile."""
    slow = {"v1": ("--cold-start", "2s")}
    documents = [
        gateway(tmp_path), *fleet(arguments=slow),
        policy([{"weight": 20, "hold": "600s"}], guardrails={"progressDeadline": "600s"}),
    ]
    gate = weir(*documents[1:], replicas=1)
    with Load(gate.address, PATH, BODY) as load:
        load.wait_for(10)
        go_live(gate, "v2")
        has_share(gate, 20)
    gate.kill()
    again = start(Weir, documents, name="weir-again").wait_until_ready(1)
    with Load(again.address, PATH, BODY, threads=2) as load:
        eventually(lambda: again.weights(MODEL) == {"v1": 80, "v2": 20}, "the weights are back")
        load.wait_for(10)
    assert not load.failures
    given = [e["weight"] for e in events(again, "weightChanged")]
    assert set(given) <= {0, 20}, given


class Gate(http.server.ThreadingHTTPServer):
    """A webhook: answers with `status`, or hangs until it is told to go on."""

    daemon_threads = True

    def __init__(self):
        self.calls = []
        self.raw = []
        self.status = 200
        self.go_on = threading.Event()
        self.go_on.set()
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                owner.calls.append(json.loads(body))
                owner.raw.append((dict(self.headers.items()), body))
                owner.go_on.wait(60)
                self.send_response(owner.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/approve"
        self.thread = threading.Thread(target=self.serve_forever)
        self.thread.start()

    def close(self):
        self.go_on.set()
        self.shutdown()
        self.thread.join()
        self.server_close()


@pytest.fixture
def hook():
    server = Gate()
    yield server
    server.close()


def test_webhooks_open_the_gate_and_are_told_of_the_end(weir, hook):
    hooks = [{"when": "BeforeStep", "url": hook.url}, {"when": "OnComplete", "url": hook.url}]
    gate = weir(*fleet(), policy([{"weight": 30, "hold": "1s"}], webhooks=hooks), replicas=1)
    with Load(gate.address, PATH, BODY) as load:
        load.wait_for(10)
        go_live(gate, "v2")
        reaches(gate, "live")
        eventually(lambda: len(hook.calls) == 2, "both webhooks were called")
    before, after = hook.calls
    assert before["when"] == "beforeStep" and before["canary"] == "v2" and before["weight"] == 0
    assert after["when"] == "onComplete" and after["model"] == MODEL
    assert not load.failures


def test_a_webhook_that_says_no_holds(weir, hook):
    hook.status = 403
    hooks = [{"when": "BeforeStep", "url": hook.url, "timeout": "30s"}]
    limits = {"progressDeadline": "4s"}
    gate = weir(
        *fleet(), policy([{"weight": 30, "hold": "1s"}], webhooks=hooks, guardrails=limits),
        replicas=1,
    )
    go_live(gate, "v2")
    denied = eventually(lambda: events(gate, "webhook"), "its answer is in the history", 60)
    assert "says no" in denied[0]["message"] and "403" in denied[0]["message"]
    paused = reaches(gate, "paused")
    assert paused["pause"] == "webhook" and hook.url in paused["message"]
    assert gate.weights(MODEL) == {"v1": 100, "v2": 0}
    eventually(lambda: gate.ready_replicas(f"{MODEL}-v2"), "v2 is ready", 60)
    # Somebody's word stands in for the webhook's.
    with Load(gate.address, PATH, BODY):
        command(gate, "promote")
        reaches(gate, "live")


def documented_verification():
    """The function that the documentation gives to those who receive webhooks."""
    text = (ROOT / "docs" / "rollouts.md").read_text(encoding="utf-8")
    code = text[text.index("    import base64"):].split("\n\nThe", 1)[0]
    scope = {}
    exec(textwrap.dedent(code), scope)  # noqa: S102
    return scope["is_from_weir"]


def test_webhooks_are_signed(weir, hook, tmp_path):
    old, new = (f"whsec_{base64.b64encode(os.urandom(24)).decode()}" for _ in range(2))
    keys = tmp_path / "webhook.keys"
    keys.write_text(f"{old}\n{new}\n", encoding="utf-8")
    hooks = [{"when": when, "url": hook.url, "keyFile": str(keys)}
             for when in ("BeforeStep", "OnComplete")]
    gate = weir(*fleet(), policy([{"weight": 30, "hold": "1s"}], webhooks=hooks), replicas=1)
    with Load(gate.address, PATH, BODY):
        go_live(gate, "v2")
        reaches(gate, "live")
        eventually(lambda: len(hook.raw) == 2, "both webhooks were called")
    is_from_weir = documented_verification()
    for headers, body in hook.raw:
        assert is_from_weir(headers, body, old) and is_from_weir(headers, body, new)
        assert not is_from_weir(headers, body + b" ", old)
        assert not is_from_weir(headers, body, f"whsec_{'A' * 32}")
        stale = {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) - 600)}
        assert not is_from_weir(stale, body, old)
    assert len({headers["webhook-id"] for headers, _ in hook.raw}) == 2


def test_a_webhook_without_its_key_is_not_called(weir, hook, tmp_path):
    missing = tmp_path / "missing.key"
    hooks = [{"when": "BeforeStep", "url": hook.url, "keyFile": str(missing)}]
    gate = weir(*fleet(), policy([{"weight": 30, "hold": "1s"}], webhooks=hooks), replicas=1)
    go_live(gate, "v2")
    said = eventually(lambda: events(gate, "webhook"), "the reason is in the history")[0]["message"]
    assert "cannot be signed" in said and str(missing) in said
    assert not hook.calls and gate.weights(MODEL) == {"v1": 100, "v2": 0}


def test_a_webhook_that_hangs_pauses(weir, hook):
    hook.go_on.clear()
    hooks = [{"when": "BeforeStep", "url": hook.url, "timeout": "1s"}]
    limits = {"progressDeadline": "5s"}
    gate = weir(
        *fleet(), policy([{"weight": 30, "hold": "1s"}], webhooks=hooks, guardrails=limits),
        replicas=1,
    )
    go_live(gate, "v2")
    eventually(lambda: hook.calls, "the webhook was called")
    paused = reaches(gate, "paused")
    assert paused["pause"] == "webhook" and hook.url in paused["message"]
    assert gate.weights(MODEL) == {"v1": 100, "v2": 0}
    assert not events(gate, "weightChanged")


def test_a_metric_that_never_comes_pauses_and_says_so(weir, simulator):
    nobody = simulator("--model", "unused", name="no-prometheus")
    never = [{"name": "custom", "server": nobody.url, "query": "up", "below": "1",
              "interval": "1s", "timeout": "1s"}]
    gate = weir(
        *fleet(),
        policy([{"weight": 30, "hold": "2s"}], metrics=never, onInconclusive="Pause"),
        replicas=1,
    )
    with Load(gate.address, PATH, BODY) as load:
        go_live(gate, "v2")
        paused = reaches(gate, "paused")
    assert paused["pause"] == "inconclusive" and "custom" in paused["message"]
    assert not load.failures
    assert gate.metric("weir_rollout_verdicts_total", model=MODEL, verdict="inconclusive") == 1


def test_no_data_is_inconclusive(weir):
    steps = [{"weight": 30, "hold": "1s"}]
    gate = weir(*fleet(), policy(steps, onInconclusive="Pause"), replicas=1)
    go_live(gate, "v2")
    paused = reaches(gate, "paused")
    assert paused["pause"] == "inconclusive"
    assert "0 of 5 values of the new variant" in paused["message"]
    assert "0 of 5" in run_command(gate, "status", MODEL).stdout


def test_a_variant_that_never_becomes_ready_is_given_up(weir):
    limits = {"progressDeadline": "3s"}
    broken = {"v2": ("--not-a-flag",)}
    gate = weir(
        *fleet(arguments=broken), policy(QUICK, guardrails={**limits, "crashes": 1000}),
        replicas=1,
    )
    with Load(gate.address, PATH, BODY) as load:
        go_live(gate, "v2")
        done = reaches(gate, "rolledBack")
    assert "had 0 of 1 replicas ready" in done["reason"]
    assert not load.failures
    # It was never sent anything.
    assert not events(gate, "weightChanged")


def test_a_header_leads_to_the_new_variant(weir):
    steps = [
        {"canaryScale": {"replicas": 1}},
        {"headerRoute": {"name": "X-Canary", "value": "yes"}},
        {"pause": True},
    ]
    gate = weir(*fleet(), policy(steps), replicas=1)
    go_live(gate, "v2")
    paused = reaches(gate, "paused")
    assert paused["headerRoute"] == "x-canary: yes"

    def served_by(**headers):
        answer = gate.call("POST", PATH, BODY, headers=headers)
        assert answer.status == 200, answer.body
        return answer.headers["x-weir-variant"]

    assert {served_by() for _ in range(5)} == {"v1"}
    assert {served_by(**{"x-canary": "yes"}) for _ in range(5)} == {"v2"}
    assert served_by(**{"x-canary": "no"}) == "v1"
    command(gate, "abort")
    reaches(gate, "rolledBack")
    assert served_by(**{"x-canary": "yes"}) == "v1"


def test_copies_are_compared_and_reach_nobody(weir):
    pairs = [{"name": "pairedErrors", "maxIncrease": "0.1%"}]
    gate = weir(*fleet(), policy([{"mirror": 100, "hold": "60s"}], metrics=pairs), replicas=1)
    with Load(gate.address, PATH, BODY) as load:
        go_live(gate, "v2")
        eventually(lambda: gate.metric("weir_mirrored_requests_total", outcome="sent"),
                   "copies go to v2")
        faults(gate, "v2", errorRate=0.5, errorStatus=500)
        done = reaches(gate, "rolledBack")
    assert "pairedErrors" in done["reason"] or "errors" in done["reason"]
    assert not load.failures
    assert {a.headers["x-weir-variant"] for a in load.answers} == {"v1"}


def test_a_dry_run_says_and_does_nothing(weir):
    dry = {"dryRun": True}
    gate = weir(
        *fleet(),
        policy([{"weight": 40, "hold": "600s"}], analysis=dry,
               guardrails={"consecutiveErrors": 1_000_000, "errorRate": "100%"}),
        replicas=1,
    )
    with Load(gate.address, PATH, BODY):
        go_live(gate, "v2")
        has_share(gate, 40)
        faults(gate, "v2", errorRate=0.4, errorStatus=500)
        said = eventually(lambda: events(gate, "dryRun"), "the dry run says something", 60)
        command(gate, "promote", value={"full": True})
        done = reaches(gate, {"live", "rolledBack"})
    assert done["stable"] == "v2"
    assert "would be rolled back" in said[0]["message"]


def test_replicas_of_a_scaled_model_are_there_before_the_share(weir):
    scaling = resource("ScalingPolicy", "standard", {
        "targets": [{"type": "Concurrency", "value": "2"}],
        "windows": {"stable": "6s", "burst": "2s"},
        "scaleDown": {"stabilization": "1s", "maxPerMinute": 1000},
    })
    documents = fleet(scaling={"policy": "standard", "minReplicas": 1, "maxReplicas": 4})
    steps = [{"weight": 25, "hold": "2s"}, {"weight": 50, "hold": "600s"}]
    gate = weir(*documents, scaling, policy(steps), replicas=1)
    for replica in gate.ready_replicas(f"{MODEL}-v1"):
        call(replica["address"], "POST", "/simulator/faults", {"extraLatencyMilliseconds": 200})
    with Load(gate.address, PATH, BODY, threads=6) as load:
        eventually(lambda: len(gate.ready_replicas(f"{MODEL}-v1")) >= 2, "v1 was scaled", 60)
        before = len(gate.ready_replicas(f"{MODEL}-v1"))
        go_live(gate, "v2")
        shares = {}

        def look():
            """Counts replicas; what changed meanwhile is not of one moment and does not count."""
            seen = rollout(gate)
            ready = len(gate.ready_replicas(f"{MODEL}-v2"))
            old = len(gate.ready_replicas(f"{MODEL}-v1"))
            now = rollout(gate)
            if seen["canary"] == now["canary"] == "v2" and seen["weight"] == now["weight"]:
                shares.setdefault(seen["weight"], (ready, old))
            return 50 in shares

        eventually(look, "v2 has half of the requests", 90)
        command(gate, "promote", value={"full": True})
        eventually(lambda: rollout(gate)["stable"] == "v2", "v2 is live", 60)
    assert not load.failures
    # The old variant kept what going back would have needed.
    assert all(old >= before for _, old in shares.values()), (shares, before)
    assert shares[50][0] >= max(1, before // 2), (shares, before)
    eventually(lambda: not gate.replicas(f"{MODEL}-v1"), "v1's replicas are gone", 60)


# A template that changes in place ---------------------------------------------------------------


def changed(documents, *arguments):
    """The same with other arguments of the live variant's deployment."""
    result = json.loads(json.dumps(documents))
    spec = next(d for d in result if d["kind"] == "ProcessDeployment")["spec"]
    spec["command"] = [*spec["command"], *arguments]
    return result


def watched(watch, metrics=ERRORS, **spec):
    """Three replicas of one variant, whose changes are watched for so long."""
    documents = [simulated(f"{MODEL}-v1", MODEL, 3),
                 model(MODEL, {"v1": f"{MODEL}-v1"}, live="v1", rollout={"policy": "quick"})]
    return [*documents, policy(QUICK, metrics=metrics, inPlaceWatch=watch, **spec)]


def test_a_bad_template_goes_back_to_the_last_good_one(weir, start, tmp_path):
    documents = [gateway(tmp_path), *watched("600s")]
    gate = weir(*documents[1:], replicas=3)
    first = harness_gateway(gate)
    with Load(gate.address, PATH, BODY) as load:
        load.wait_for(20)
        bad = [first, *changed(documents[1:], "--error-rate", "0.5")]
        gate.write(bad)
        done = reaches(gate, "rolledBack")
        assert "v1" == done["stable"] == done["rejected"]
        eventually(lambda: all("--error-rate" not in command_line(r)
                               for r in gate.ready_replicas(f"{MODEL}-v1"))
                   and len(gate.ready_replicas(f"{MODEL}-v1")) == 3, "the old template is back", 60)
        before = len(load.failures)
        load.wait_for(30)
        assert len(load.failures) - before <= 8, "the bad template still answers"
    assert all(f.startswith("500 ") for f in load.failures), load.failures[:3]
    # It stays away over a restart, and comes back when somebody asks for it.
    gate.kill()
    again = start(Weir, [documents[0], *bad[1:]], name="weir-again").wait_until_ready(3)
    assert state(again) == "rolledBack"
    assert all("--error-rate" not in command_line(r)
               for r in again.ready_replicas(f"{MODEL}-v1"))
    command(again, "retry")
    eventually(lambda: events(again, "started")[1:], "the change is watched once more")


def command_line(replica):
    path = f"/proc/{replica['pid']}/cmdline"
    try:
        with open(path, "rb") as file:
            return file.read().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def test_a_good_template_stays(weir):
    documents = watched("2s")
    gate = weir(*documents, replicas=3)
    with Load(gate.address, PATH, BODY) as load:
        load.wait_for(20)
        gate.write([harness_gateway(gate), *changed(documents, "--seed", "7")])
        eventually(lambda: events(gate, "promoted"), "the change was accepted", 60)
        eventually(lambda: len([r for r in gate.ready_replicas(f"{MODEL}-v1")
                                if "--seed 7" in command_line(r)]) == 3, "all are new", 60)
    assert state(gate) == "live" and not load.failures


# Wrong input ------------------------------------------------------------------------------------


@pytest.fixture
def idle(weir):
    return weir(*fleet(), policy(QUICK), replicas=1)


def test_refuses_what_cannot_be_done(idle):
    for variant, status, words in [
        ("v9", 404, "has no variant `v9`; there are v1, v2"),
        ("v1", 409, "v1 serves already"),
    ]:
        assert words in go_live(idle, variant, status)["error"]
    for verb, words in [
        ("pause", "nothing that can be paused runs"),
        ("promote", "there is nothing to promote"),
        ("abort", "nothing that can be aborted runs"),
        ("retry", "there is nothing to retry"),
    ]:
        assert words in command(idle, verb, 409)["error"]
        result = run_command(idle, verb, MODEL)
        assert result.returncode == 1 and words in result.stderr
    unknown = call(idle.admin_address, "POST", "/api/v1/rollouts/lake/abort")
    assert unknown.status == 404 and b"there is no model `lake`" in unknown.body
    for body in ({}, {"variant": ""}, {"variants": "v2"}, {"variant": 2}, [1]):
        answer = call(idle.admin_address, "PUT", f"/api/v1/models/{MODEL}/live", body)
        assert answer.status == 400, body
    assert state(idle) == "live" and not events(idle)


def test_says_where_it_stands_without_a_rollout(idle):
    result = run_command(idle, "status", MODEL)
    assert result.returncode == 0 and "no rollout runs" in result.stdout
    assert run_command(idle, "status", "lake").returncode == 1
    assert run_command(idle, "history", MODEL).returncode == 0
    missing = run_command(idle, "report", MODEL, "--output", "unused.html")
    assert missing.returncode == 1 and "no rollout yet" in missing.stderr
    table = subprocess.run(
        [binary(), "get", "rollouts", "--admin", idle.admin_address],
        capture_output=True, text=True, check=True,
    ).stdout
    assert MODEL in table and "live" in table


def test_weights_that_do_not_rise_are_refused(tmp_path):
    path = tmp_path / "weir.yaml"
    documents = [gateway(tmp_path), *fleet(), policy([{"weight": 50, "hold": "1s"},
                                                     {"weight": 20, "hold": "1s"}])]
    path.write_text("\n---\n".join(json.dumps(document) for document in documents))
    result = subprocess.run(
        [binary(), "check", "-c", str(path)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "the weights of the steps must rise: 20 comes after 50" in result.stderr + result.stdout


def test_a_fixed_split_has_no_rollouts(weir, simulator):
    server = simulator("--model", MODEL)
    variants = {"v1": [server.url], "v2": [server.url]}
    gate = weir(model(MODEL, variants, live="v1", weights={"v1": 90, "v2": 10}))
    assert "fixed `weights`" in go_live(gate, "v2", 409)["error"]


def test_writes_a_page_and_explains_the_weights(weir, tmp_path):
    gate = weir(*fleet(), policy(QUICK), replicas=1)
    with Load(gate.address, PATH, BODY) as load:
        load.wait_for(10)
        result = run_command(gate, "start", MODEL, "v2", "--watch")
        assert result.returncode == 0, result.stdout + result.stderr
    page = tmp_path / "rollout.html"
    result = run_command(gate, "report", MODEL, "--output", str(page))
    assert result.returncode == 0, result.stderr
    text = page.read_text(encoding="utf-8")
    assert "v1 → v2" in text and "http" not in text.split("<script>")[0].replace("http-equiv", "")
    explained = subprocess.run(
        [binary(), "explain", MODEL, "--admin", gate.admin_address],
        capture_output=True, text=True, check=True,
    ).stdout
    assert "v2 is live and no rollout runs" in explained and "Weights: v1 0, v2 100" in explained
