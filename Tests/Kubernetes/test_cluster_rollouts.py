"""Rollouts on the test cluster: several gateways, controllers that die, templates that change."""

import http.client
import json

import fleet as fleets
import kube
import pytest
from fleet import Clients, ask

pytestmark = pytest.mark.skipif(not fleets.binary(), reason="WEIR_BINARY names the program to test")

MODEL = "chat"
ERRORS = [{"name": "successRate", "maxDrop": "0.1%"}]
LONG = [{"weight": 30, "hold": "600s"}]


@pytest.fixture(scope="module")
def cluster(request, tmp_path_factory):
    yield from fleets.weir_cluster(
        request, tmp_path_factory.mktemp("rollouts"), "rollouts", "--node", "node-1",
        "--node", "node-2")


@pytest.fixture
def fleet(cluster, request):
    yield from fleets.fresh(cluster, request, about=status)


def rollout_policy(steps, metrics=None, **spec):
    return fleets.custom("RolloutPolicy", "careful", {
        "steps": steps,
        "analysis": {"alpha": "0.05", "minRequests": 5, "warmup": "0s",
                     "metrics": ERRORS if metrics is None else metrics},
        # On a busy machine few requests may be answered within a short hold; the tests that are
        # about evidence hold for long.
        "onInconclusive": "Promote",
        "guardrails": {"progressDeadline": "120s"},
        "scaleDownDelay": "0s", "abortScaleDownDelay": "0s",
        **spec,
    })


def serve(fleet, steps, gateways=2, controllers=1, replicas=1, new=(), admin_token=False, **spec):
    """A model with two Deployments, the first of them live, and what a rollout needs."""
    fleet.workload("v1", replicas, "--model", MODEL)
    fleet.workload("v2", 0, "--model", MODEL, *new)
    fleet.create(fleets.WEIR_API, "rolloutpolicies", rollout_policy(steps, **spec))
    variants = [{"name": name, "workloadRef": {"kind": "Deployment", "name": name, "port": 8000}}
                for name in ("v1", "v2")]
    fleet.create(fleets.WEIR_API, "models", fleets.model(
        MODEL, scaling=None, variants=variants, live="v1", rollout={"policy": "careful"}))
    fleet.gateways(gateways)
    flags = ("--admin-token-file", str(fleet.token)) if admin_token else ()
    fleet.controllers(controllers, *flags)
    fleet.wait_ready("weir-gateway", gateways)
    fleet.wait_ready("weir-controller", controllers)
    fleet.wait_ready("v1", replicas)
    for address in fleet.gateway_addresses():
        kube.eventually(lambda address=address: ask(address, MODEL)[0] == 200, "an answer")
    kube.eventually(lambda: status(fleet).get("phase") == "Stable", "a status")


def status(fleet):
    model = fleet.get(fleets.WEIR_API, "models", MODEL)
    return model.get("status", {}).get("rollout") or {}


def go_live(fleet, variant):
    fleet.kube.patch(fleet.path(fleets.WEIR_API, "models", MODEL),
                     {"spec": {"live": variant}}).expect(200)


def reaches(fleet, phase, timeout=90):
    return kube.eventually(lambda: (s := status(fleet)).get("phase") == phase and s,
                           f"the phase {phase}", timeout)


def kinds(fleet):
    return [record["kind"] for record in status(fleet)["history"]]


def weights(fleet):
    found = fleet.get(fleets.WEIR_API, "models", MODEL)["status"]["variants"]
    return {variant["name"]: variant["weight"] for variant in found}


def variants_seen(fleet, count=20):
    """The variants that each gateway sends requests to."""
    return [{ask(address, MODEL)[2]["x-weir-variant"] for _ in range(count)}
            for address in fleet.gateway_addresses()]


def event_reasons(fleet):
    path = fleet.path("/apis/events.k8s.io/v1", "events")
    return {item["reason"] for item in fleet.kube.get(path).expect(200)["items"]}


def test_walks_all_steps_and_scales_the_deployments(fleet):
    serve(fleet, [{"weight": 25, "hold": "1s"}, {"weight": 60, "hold": "1s"}], replicas=2)
    with Clients(fleet.addresses(), MODEL) as clients:
        clients.wait_for(30)
        go_live(fleet, "v2")
        kube.eventually(lambda: status(fleet)["stable"]["name"] == "v2", "v2 to be live", 90)
        kube.eventually(lambda: fleet.replicas("v1") == 0, "v1 to go", 60)
        clients.wait_for(30)
    assert not clients.failures
    assert fleet.replicas("v2") == 2
    kube.eventually(lambda: weights(fleet) == {"v1": 0, "v2": 100}, "the weights")
    assert variants_seen(fleet) == [{"v2"}, {"v2"}]
    steps = [r["weight"] for r in status(fleet)["history"] if r["kind"] == "WeightChanged"]
    assert steps == [25, 60, 100]
    kube.eventually(lambda: {"RolloutStarted", "RolloutPromoted"} <= event_reasons(fleet),
                    "the events")
    kube.eventually(lambda: fleet.condition(MODEL, "Progressing")["reason"] == "Stable",
                    "the condition")


def test_errors_bring_the_old_variant_back_on_every_gateway(fleet):
    serve(fleet, LONG, new=("--error-rate", "0.4"))
    with Clients(fleet.addresses(), MODEL) as clients:
        clients.wait_for(30)
        go_live(fleet, "v2")
        done = reaches(fleet, "RolledBack")
        kube.eventually(lambda: variants_seen(fleet) == [{"v1"}, {"v1"}], "v1 alone to serve")
        clients.wait_for(30)
    assert done["stable"]["name"] == "v1" and done["rejected"]["name"] == "v2"
    assert clients.failures and all(f.startswith("500 ") for f in clients.failures)
    kube.eventually(lambda: fleet.replicas("v2") == 0, "v2 to go", 60)
    assert fleet.replicas("v1") == 1
    condition = kube.eventually(
        lambda: (c := fleet.condition(MODEL, "Progressing"))["reason"] == "RolledBack" and c,
        "the condition")
    assert condition["status"] == "False" and "v2 was rolled back" in condition["message"]
    kube.eventually(lambda: "RolloutFailed" in event_reasons(fleet), "the event")


def test_the_next_leader_goes_on_where_the_last_one_stood(fleet):
    """Each controller that leads is killed at another moment of one rollout."""
    serve(fleet, [{"weight": 25, "hold": "2s"}, {"weight": 60, "hold": "2s"}], controllers=2)
    with Clients(fleet.addresses(), MODEL) as clients:
        clients.wait_for(20)
        go_live(fleet, "v2")
        for weight in (25, 60):
            kube.eventually(lambda weight=weight: status(fleet)["weight"] >= weight
                            or status(fleet)["stable"]["name"] == "v2", f"{weight} %", 90)
            kill_leader(fleet)
        kube.eventually(lambda: status(fleet)["stable"]["name"] == "v2", "v2 to be live", 120)
        clients.wait_for(20)
    assert not clients.failures
    found = kinds(fleet)
    assert found.count("Started") == 1 and found.count("Promoted") == 1
    steps = [r["weight"] for r in status(fleet)["history"] if r["kind"] == "WeightChanged"]
    assert steps == sorted(steps)
    kube.eventually(lambda: fleet.replicas("v1") == 0, "v1 to go", 60)


def kill_leader(fleet):
    """Waits for a leader that lives: the lease may still name one that was killed before."""
    fleet.delete_pod(kube.eventually(lambda: leader(fleet), "a leader", 60), grace=0)


def admin_call(pod, method, path, token=None):
    """Status and error of a call to a pod's admin API."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connection = http.client.HTTPConnection(pod["status"]["podIP"], 9901, timeout=30)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()).get("error", "")
    finally:
        connection.close()


def test_who_does_not_lead_says_who_does(fleet):
    token = fleet.token.read_text(encoding="utf-8").strip()
    serve(fleet, LONG, gateways=1, controllers=2, admin_token=True)
    leads = kube.eventually(lambda: leader(fleet), "a leader", 60)
    name = leads["metadata"]["name"]
    others = [pod for pod in fleet.pods("weir-controller", True)
              if pod["metadata"]["name"] != name]
    for pod in [*others, *fleet.pods("weir-gateway", True)]:
        for method, verb in [("POST", "/pause"), ("POST", "/abort"), ("GET", "")]:
            def is_told(pod=pod, method=method, verb=verb):
                status, text = admin_call(pod, method, f"/api/v1/rollouts/{MODEL}{verb}", token)
                assert status == 409, (status, text)
                return "ask the admin address of" in text

            kube.eventually(is_told, "an advice where to ask")
    # The one that leads does what it is told.
    path = f"/api/v1/rollouts/{MODEL}"
    assert admin_call(leads, "GET", path, token)[0] == 200
    status_code, text = admin_call(leads, "POST", f"{path}/pause", token)
    assert status_code == 409 and "nothing that can be paused runs" in text
    go_live(fleet, "v2")
    kube.eventually(lambda: status(fleet).get("weight") == 30, "v2 to have its share", 90)
    assert admin_call(leads, "POST", f"{path}/pause", token)[0] == 200
    reaches(fleet, "Paused")


def leader(fleet):
    path = fleet.path("/apis/coordination.k8s.io/v1", "leases", "weir-controller")
    holder = fleet.kube.get(path).expect(200)["spec"]["holderIdentity"]
    for pod in fleet.pods("weir-controller", True):
        log = fleet.kube.get(fleet.path("/api/v1", "pods", pod["metadata"]["name"]) + "/log")
        # Its own name; those who follow it have that in their logs too.
        if holder and f'"identity":"{holder}"'.encode() in log.body:
            return pod
    return None


def test_gateways_go_on_with_the_weights_while_nobody_leads(fleet):
    serve(fleet, LONG)
    with Clients(fleet.addresses(), MODEL) as clients:
        clients.wait_for(20)
        go_live(fleet, "v2")
        kube.eventually(lambda: all(seen == {"v1", "v2"} for seen in variants_seen(fleet, 40)),
                        "both variants to serve", 90)
        fleet.kube.delete(fleet.path(fleets.APPS, "deployments", "weir-controller"))
        kube.eventually(lambda: not fleet.pods("weir-controller"), "no controller", 60)
        # One that starts now has the same weights.
        fleet.delete_pod(fleet.pods("weir-gateway", True)[0])
        fleet.wait_ready("weir-gateway", 2)
        kube.eventually(lambda: all(seen == {"v1", "v2"} for seen in variants_seen(fleet, 40)),
                        "both variants to serve", 60)
        clients.wait_for(20)
    assert not clients.failures


def test_a_deployment_changed_in_place_goes_back(fleet):
    serve(fleet, LONG, replicas=3, inPlaceWatch="600s")
    path = fleet.path(fleets.APPS, "deployments", "v1")
    before = fleet.kube.get(path).json()
    template = before["spec"]["template"]["spec"]["containers"][0]["args"]
    with Clients(fleet.addresses(), MODEL) as clients:
        clients.wait_for(20)
        value = fleet.kube.get(path).json()
        value["spec"]["template"]["spec"]["containers"][0]["args"] = [
            *template, "--error-rate", "0.5"]
        fleet.kube.put(path, value).expect(200)
        done = reaches(fleet, "RolledBack", 120)
        kube.eventually(
            lambda: fleet.kube.get(path).json()["spec"]["template"]["spec"]["containers"][0][
                "args"] == template, "the template to go back", 60)
        clients.wait_for(20)
    assert done["stable"]["name"] == done["rejected"]["name"] == "v1"
    assert done["stable"]["revision"] != done["rejected"]["revision"]
    assert all(f.startswith("500 ") for f in clients.failures)
    fleet.wait_ready("v1", 3, 60)


def test_a_deployment_changed_for_the_better_stays(fleet):
    serve(fleet, LONG, replicas=2, inPlaceWatch="2s")
    path = fleet.path(fleets.APPS, "deployments", "v1")
    revision = status(fleet)["stable"]["revision"]
    with Clients(fleet.addresses(), MODEL) as clients:
        clients.wait_for(20)
        value = fleet.kube.get(path).json()
        value["spec"]["template"]["spec"]["containers"][0]["args"] += ["--seed", "7"]
        fleet.kube.put(path, value).expect(200)
        kube.eventually(lambda: status(fleet)["stable"]["revision"] != revision,
                        "the new revision to be accepted", 90)
        clients.wait_for(20)
    assert not clients.failures
    assert "Promoted" in kinds(fleet) and fleet.replicas("v1") == 2


def test_a_scaled_model_has_replicas_before_its_share(fleet):
    """With a ScalingPolicy the autoscaler stays the only writer of the numbers."""
    fleet.workload("v1", 2, "--model", MODEL)
    fleet.workload("v2", 0, "--model", MODEL)
    fleet.create(fleets.WEIR_API, "rolloutpolicies",
                 rollout_policy([{"weight": 50, "hold": "5s"}]))
    fleet.create(fleets.WEIR_API, "scalingpolicies", fleets.policy(
        targets=[{"type": "Concurrency", "value": "1"}]))
    variants = [{"name": name, "workloadRef": {"kind": "Deployment", "name": name, "port": 8000}}
                for name in ("v1", "v2")]
    value = fleets.model(MODEL, 2, 4, variants=variants, live="v1",
                         rollout={"policy": "careful"})
    fleet.create(fleets.WEIR_API, "models", value)
    fleet.gateways(1)
    fleet.controllers(1)
    fleet.wait_ready("weir-gateway", 1)
    fleet.wait_ready("weir-controller", 1)
    fleet.wait_ready("v1", 2)
    kube.eventually(lambda: status(fleet).get("phase") == "Stable", "a status")
    with Clients(fleet.addresses(), MODEL, threads=3, tokens=50) as clients:
        clients.wait_for(20)
        go_live(fleet, "v2")
        seen = {}

        def is_live():
            now = status(fleet)
            found = (fleet.replicas("v2"), fleet.replicas("v1"))
            # What changed meanwhile is not of one moment.
            if now.get("weight") and status(fleet).get("weight") == now["weight"]:
                seen.setdefault(now["weight"], found)
            return now["stable"]["name"] == "v2"

        kube.eventually(is_live, "v2 to be live", 120)
        clients.wait_for(20)
        kube.eventually(lambda: fleet.replicas("v1") == 0, "v1 to go", 60)
    assert not clients.failures
    assert seen[50][0] >= 1 and seen[50][1] >= 2, seen
    assert fleet.replicas("v2") >= 2
