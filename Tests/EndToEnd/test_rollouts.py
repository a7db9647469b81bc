"""Rollouts for real: weights that move, evidence, rollback, and what people may do meanwhile."""

import collections
import http.server
import json
import os
import signal
import subprocess
import threading
import time

import pytest

from harness import (
    Load, Simulator, Weir, binary, call, chat_body, eventually, gateway, model, resource, simulated,
)

MODEL = "river"
PATH = "/v1/chat/completions"
BODY = chat_body(MODEL, tokens=2)
# Steps that are over as soon as a few requests were answered well.
QUICK = [{"weight": 20, "hold": "1s"}, {"weight": 60, "hold": "1s"}]
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
        eventually(lambda: rollout(gate)["weight"] == 30, "v2 has its share")
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
