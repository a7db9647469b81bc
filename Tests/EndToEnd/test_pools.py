"""Interchangeable variants: who serves, and who stands in for whom."""

import json
import subprocess

from harness import Load, binary, chat_body, eventually, model, resource, simulated

RIVER = "river"
PATH = "/v1/chat/completions"
# A replica of the small one works on one request at a time, the big one on many.
SMALL = ["--batch", "1", "--step-time", "10ms"]
BIG = ["--batch", "16", "--step-time", "10ms"]


def policy(**spec):
    return resource("ScalingPolicy", "standard", {
        "targets": [{"type": "Objective"}],
        "windows": {"stable": "3s", "burst": "1s"},
        "scaleDown": {"stabilization": "0s", "maxPerMinute": 1000},
        "scaleToZero": {"idleAfter": "2s"},
        **spec,
    })


def pooled(minimum=0, maximum=4, small=None, **spec):
    """A model on a small, cheap GPU and a big, dear one."""
    scaling = {"policy": "standard", "minReplicas": minimum, "maxReplicas": maximum}
    value = model(RIVER, {"small": "river-small", "big": "river-big"}, **{
        "live": "small", "scaling": scaling,
        "queue": {"capacity": 200, "timeout": "60s"},
        "objectives": {"latency": {"quantile": 0.95, "below": "300ms"}},
        **spec,
    })
    settings = {"small": {"cost": "1", **(small or {})}, "big": {"cost": "4"}}
    for variant in value["spec"]["variants"]:
        if variant["name"] in settings:
            variant |= {"pool": "first", "scaling": settings[variant["name"]]}
    return value


def explained(gate, variant):
    document = gate.admin("GET", f"/api/v1/models/{RIVER}/explain")
    return next(v for v in document["variants"] if v["name"] == variant)


def stands_in(gate, variant="big"):
    """Why a variant has what another one should have; nothing where it does not."""
    decision = explained(gate, variant)["decision"] or {"constraints": []}
    texts = [c["text"] for c in decision["constraints"]]
    return next((text for text in texts if text.startswith("stands in for")), None)


def test_the_cheap_one_serves_and_the_dear_one_does_the_rest(weir):
    gate = weir(
        policy(), pooled(small={"minReplicas": 1, "maxReplicas": 1}),
        simulated("river-small", RIVER, 0, SMALL), simulated("river-big", RIVER, 0, BIG),
    )
    assert gate.call("POST", PATH, chat_body(RIVER)).headers["x-weir-variant"] == "small"
    assert not gate.replicas("river-big"), "one that costs four times as much is not needed"
    with Load(gate.address, PATH, chat_body(RIVER, tokens=8), threads=8) as load:
        eventually(lambda: gate.ready_replicas("river-big"), "the rest goes to a big one", 60)
        eventually(
            lambda: {a.headers["x-weir-variant"] for a in load.answers[-50:]} == {"small", "big"},
            "both serve",
        )

        def is_divided():
            weights = gate.weights(RIVER)
            return sum(weights.values()) == 100 and 0 < weights["small"] < weights["big"]

        eventually(is_divided, "the big one has the larger part", 60)
        eventually(
            lambda: any(
                "cheapest mix" in r["text"]
                for r in explained(gate, "big")["decision"]["recommendations"]
            ),
            "the mix is told",
        )
    assert load.failures == []
    eventually(lambda: not gate.replicas("river-big"), "the dear one is gone with the load")


def test_another_one_stands_in_for_what_does_not_come(weir, tmp_path):
    """The cheap one crashes until somebody puts the file there that it needs."""
    file = tmp_path / "weights"
    small = simulated("river-small", RIVER, 0, SMALL)
    command = " ".join([*small["spec"]["command"]])
    small["spec"]["command"] = ["sh", "-c", f"test -f {file} && exec {command}"]
    gate = weir(
        policy(), pooled(small={"minReplicas": 1}), small,
        simulated("river-big", RIVER, 0, BIG),
    )
    with Load(gate.address, PATH, chat_body(RIVER, tokens=8), threads=1) as load:
        load.wait_for(20)
        assert {a.headers["x-weir-variant"] for a in load.answers} == {"big"}
        why = eventually(lambda: stands_in(gate), "why the big one serves")
        assert why.startswith("stands in for small, whose replicas do not come: crash loop"), why
        eventually(lambda: explained(gate, "small").get("notComing"), "why the cheap one does not")
        assert any(
            c["variant"] == "big" and c["to"] == 1
            for c in gate.admin("GET", "/api/v1/decisions")["decisions"]
        )
        file.write_text("there", encoding="utf-8")
        eventually(lambda: gate.ready_replicas("river-small"), "the cheap one has come", 60)
        eventually(lambda: not gate.replicas("river-big"), "the dear one is not needed", 60)
        load.wait_for(20)
    assert load.failures == []
    assert load.answers[-1].headers["x-weir-variant"] == "small"


def test_a_rollout_leads_from_a_pool_to_another_variant(weir):
    steps = [{"weight": 30, "hold": "600s"}]
    value = pooled(minimum=1, rollout={"policy": "careful"})
    for variant in value["spec"]["variants"]:
        variant["scaling"]["minReplicas"] = 1
    value["spec"]["variants"].append({
        "name": "next", "workloadRef": {"kind": "ProcessDeployment", "name": "river-next"},
    })
    gate = weir(
        policy(), value, resource("RolloutPolicy", "careful", {
            "steps": steps, "scaleDownDelay": "1s", "guardrails": {"progressDeadline": "120s"},
            "analysis": {"metrics": [{"name": "successRate", "maxDrop": "50%"}]},
        }),
        *(simulated(f"river-{name}", RIVER, count, BIG)
          for name, count in {"small": 1, "big": 1, "next": 0}.items()),
        replicas=2,
    )

    def shares(load):
        """Of the last answers, in percent."""
        last = [a.headers["x-weir-variant"] for a in load.answers[-100:]]
        return {name: last.count(name) * 100 // len(last) for name in ("small", "big", "next")}

    with Load(gate.address, PATH, chat_body(RIVER, tokens=2), threads=4) as load:
        load.wait_for(100)
        assert shares(load)["next"] == 0 and shares(load)["small"] > 0 and shares(load)["big"] > 0
        gate.admin("PUT", f"/api/v1/models/{RIVER}/live", {"variant": "next"})
        eventually(lambda: gate.weights(RIVER)["next"] == 30, "a share for the new one", 60)
        load.wait_for(150)
        found = shares(load)
        assert abs(found["next"] - 30) <= 6, found
        assert found["small"] > 0 and found["big"] > 0, found
        gate.admin("POST", f"/api/v1/rollouts/{RIVER}/promote", {"full": True})
        eventually(lambda: gate.weights(RIVER)["next"] == 100, "the new one has everything", 60)
        load.wait_for(50)
    assert load.failures == []
    eventually(
        lambda: not gate.replicas("river-small") and not gate.replicas("river-big"),
        "the pool that served before is gone", 60,
    )


def test_pools_that_cannot_work_are_refused_with_a_hint(tmp_path):
    value = pooled()
    del value["spec"]["objectives"]
    path = tmp_path / "weir.json"
    path.write_text("\n---\n".join(json.dumps(d) for d in (
        policy(), value, simulated("river-small", RIVER), simulated("river-big", RIVER),
    )))
    done = subprocess.run([binary(), "check", "-c", str(path)], capture_output=True, text=True,
                          timeout=30)
    assert done.returncode == 1
    assert "no objective for latency" in done.stdout + done.stderr
