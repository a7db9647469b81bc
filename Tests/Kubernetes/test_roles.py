"""The gateway and the controller on the test cluster: what serves goes on serving."""

import random
import threading
import time
import uuid

import fleet as fleets
import kube
import objects
import pytest
from fleet import Clients, ask

pytestmark = pytest.mark.skipif(not fleets.binary(), reason="WEIR_BINARY names the program to test")


@pytest.fixture(scope="module")
def cluster(request, tmp_path_factory):
    """Its probes, back-offs and controllers are fast; what Weir does takes its own time."""
    yield from fleets.weir_cluster(
        request, tmp_path_factory.mktemp("roles"), "roles", "--scale", "5", "--node", "node-1",
        "--node", "node-2", "--node", "gpu-1:nvidia.com/gpu=2", "--node", "gpu-2:nvidia.com/gpu=1")


@pytest.fixture
def fleet(cluster, request):
    yield from fleets.fresh(cluster, request, more=["chat"])


@pytest.fixture(scope="module")
def home(cluster, request):
    """A gateway and a controller that stay, for tests with models of names of their own."""
    for fleet in fleets.fresh(cluster, request, more=["chat"]):
        fleet.create(fleets.WEIR_API, "scalingpolicies", fleets.policy())
        fleet.gateways()
        fleet.controllers()
        fleet.wait_ready("weir-gateway", 1)
        fleet.wait_ready("weir-controller", 1)
        yield fleet


def serve(fleet, name="chat", replicas=1, gateways=1, **spec):
    """A gateway in front of a model with a fixed number of replicas."""
    fleet.gateways(gateways)
    fixed(fleet, name, replicas, **spec)
    fleet.wait_ready("weir-gateway", gateways)
    return served(fleet, name)


def fixed(fleet, name, replicas=1, **spec):
    """A model that nobody scales."""
    fleet.workload(name, replicas, "--model", f"{name}-talk", "--model", f"{name}-back")
    fleet.create(fleets.WEIR_API, "models", fleets.model(name, scaling=None, **spec))
    fleet.wait_ready(name, replicas)


def served(fleet, name):
    """The address of a gateway that answers for the model."""
    address = fleet.gateway_addresses()[0]
    kube.eventually(lambda: ask(address, name)[0] == 200, "an answer")
    return address


# The gateway ------------------------------------------------------------------------------------


def test_serves_a_deployment(home):
    fixed(home, "plain", 2)
    address = served(home, "plain")
    kube.eventually(lambda: len({ask(address, "plain")[2]["x-simulator-replica"]
                                 for _ in range(4)}) == 2, "both replicas to answer")
    status, text, _ = ask(address, "unknown")
    assert status == 404 and b"plain" in text


def test_follows_models_that_change(home):
    fixed(home, "moving")
    address = served(home, "moving")
    path = home.path(fleets.WEIR_API, "models", "moving")
    home.kube.patch(path, {"spec": {"aliases": ["moving-talk"]}}).expect(200)
    kube.eventually(lambda: ask(address, "moving-talk")[0] == 200, "the alias to be served")
    home.kube.delete(path)
    kube.eventually(lambda: ask(address, "moving")[0] == 404, "the model to go")


def test_a_bad_model_changes_nothing(home):
    """One that the API server lets through and that cannot be meant: a name that is taken."""
    fixed(home, "good")
    address = served(home, "good")
    home.create(fleets.WEIR_API, "models", fleets.model("bad", scaling=None, aliases=["good"]))
    home.create(fleets.WEIR_API, "models", fleets.model("third", scaling=None))
    kube.eventually(lambda: b"third" in ask(address, "none")[1], "the good one to be known")
    assert ask(address, "good")[0] == 200
    assert b"bad" not in ask(address, "none")[1]
    found = kube.eventually(lambda: home.condition("bad", "Accepted"), "a condition")
    assert found["status"] == "False" and "good" in found["message"]
    assert kube.eventually(lambda: home.condition("good", "Accepted"),
                           "a condition of the good one")["status"] == "True"


def test_sends_nothing_to_pods_that_end(home):
    """Pods are deleted one after the other under load, and no request is lost."""
    fixed(home, "ending", 3)
    served(home, "ending")
    with Clients(home.addresses(), "ending") as clients:
        clients.wait_for(50)
        for _ in range(4):
            pod = home.wait_ready("ending", 3)[0]
            home.delete_pod(pod)
            clients.wait_for(30)
        home.wait_ready("ending", 3)
        clients.wait_for(50)
    assert not clients.failures


def test_goes_on_without_the_api_server(home):
    fixed(home, "alone", 2)
    address = served(home, "alone")
    with Clients(lambda: [address], "alone") as clients:
        clients.wait_for(50)
        home.cluster.control("POST", "/server/stop")
        try:
            clients.wait_for(200)
        finally:
            home.cluster.control("POST", "/server/start")
        clients.wait_for(50)
    assert not clients.failures
    home.kube.patch(home.path(fleets.WEIR_API, "models", "alone"),
                    {"spec": {"aliases": ["alone-back"]}}).expect(200)
    kube.eventually(lambda: ask(address, "alone-back")[0] == 200, "news after the gap")


def test_leaves_without_losing_a_request(fleet):
    """Of two gateways one is told to end: it serves on until nobody asks it any more."""
    serve(fleet, replicas=2, gateways=2)
    with Clients(fleet.addresses(), "chat", threads=6) as clients:
        clients.wait_for(60)
        fleet.delete_pod(fleet.pods("weir-gateway", True)[0])
        clients.wait_for(60)
        fleet.wait_ready("weir-gateway", 2)
        clients.wait_for(60)
    assert not clients.failures


def test_a_new_endpoint_gets_what_waits(home):
    """Prints the time from an endpoint's event to the answer of the request that waited for it."""
    home.workload("fresh", 0, "--step-time", "0ms")
    home.create(fleets.WEIR_API, "models", fleets.model("fresh", scaling=None))
    address = home.gateway_addresses()[0]
    kube.eventually(lambda: b"fresh" in ask(address, "none")[1], "the model to be known")
    answered = {}

    def wait():
        answered["status"] = ask(address, "fresh", tokens=1, timeout=kube.WAIT_SECONDS)[0]
        answered["at"] = time.monotonic()

    waiting = threading.Thread(target=wait)
    waiting.start()
    slices = home.path("/apis/discovery.k8s.io/v1", "endpointslices")
    with home.kube.watch(slices, timeout=kube.WAIT_SECONDS,
                         labelSelector="kubernetes.io/service-name=fresh") as stream:
        home.kube.patch(home.path(fleets.APPS, "deployments", "fresh"), {"spec": {"replicas": 1}})
        while not any(e["conditions"].get("ready") for e in stream.next()["object"]["endpoints"]
                      or ()):
            pass
        seen = time.monotonic()
    waiting.join()
    print(f"from the endpoint's event to the answer: {(answered['at'] - seen) * 1000:.1f} ms")
    assert answered["status"] == 200


# The controller ---------------------------------------------------------------------------------


def scale(fleet, name="chat", gateways=1, controllers=1, minimum=0, maximum=6, arguments=()):
    fleet.create(fleets.WEIR_API, "scalingpolicies", fleets.policy())
    fleet.gateways(gateways)
    fleet.controllers(controllers)
    scaled(fleet, name, minimum, maximum, *arguments)
    fleet.wait_ready("weir-gateway", gateways)
    fleet.wait_ready("weir-controller", controllers)


def scaled(fleet, name, minimum=0, maximum=6, *arguments):
    """A model that the controller scales."""
    fleet.workload(name, minimum, *arguments)
    fleet.create(fleets.WEIR_API, "models", fleets.model(name, minimum, maximum))


def test_scales_from_zero_to_many_and_back(home):
    scaled(home, "tide")
    address = home.gateway_addresses()[0]
    kube.eventually(lambda: b"tide" in ask(address, "none")[1], "the model to be known")
    assert home.replicas("tide") == 0
    with Clients(home.addresses(), "tide", threads=10, tokens=200) as clients:
        clients.wait_for(5)
        kube.eventually(lambda: home.replicas("tide") >= 3, "three replicas")
        clients.wait_for(20)
        clients.active = 1
        kube.eventually(lambda: home.replicas("tide") <= 2, "fewer replicas")
        clients.wait_for(5)
    kube.eventually(lambda: home.replicas("tide") == 0, "no replica")
    assert not clients.failures
    assert home.condition("tide", "Accepted")["status"] == "True"
    home.said("tide", "Ready", "ScaledToZero")
    pods = home.pods("tide")
    assert all(p["metadata"].get("deletionTimestamp") for p in pods), "pods that stay"
    for path, text in home.log("weir-controller").items():
        assert "refuses to drain" not in text, path


def test_a_request_wakes_its_model(home):
    """Prints the times from the request to the written number, and to its answer."""
    scaled(home, "asleep")
    address = home.gateway_addresses()[0]
    home.said("asleep", "Ready", "ScaledToZero")
    kube.eventually(lambda: b"asleep" in ask(address, "none")[1], "the model to be known")
    answered = {}

    def wait():
        answered["status"] = ask(address, "asleep", tokens=1, timeout=kube.WAIT_SECONDS)[0]
        answered["at"] = time.monotonic()

    deployments = home.path(fleets.APPS, "deployments")
    waiting = threading.Thread(target=wait)
    with home.kube.watch(deployments, timeout=kube.WAIT_SECONDS,
                         fieldSelector="metadata.name=asleep") as stream:
        while stream.next()["object"]["metadata"]["name"] != "asleep":
            pass
        began = time.monotonic()
        waiting.start()
        while not stream.next()["object"]["spec"]["replicas"]:
            pass
        written = time.monotonic()
    waiting.join()
    print(f"from the request to the number: {(written - began) * 1000:.1f} ms, "
          f"to the answer: {(answered['at'] - began) * 1000:.0f} ms")
    assert answered["status"] == 200


def test_the_next_leader_goes_on(fleet):
    """The leader is killed under load: another one scales on, and nothing is lost."""
    scale(fleet, controllers=2)
    lease = "/apis/coordination.k8s.io/v1"

    def holder():
        found = fleet.kube.get(fleet.path(lease, "leases", "weir-controller"))
        return found.code == 200 and found.json()["spec"]["holderIdentity"]

    first = kube.eventually(holder, "a leader")
    with Clients(fleet.addresses(), "chat", threads=2, tokens=100) as clients:
        clients.wait_for(5)
        # Those who follow name the leader, and it alone names itself.
        leader = next(p for p in fleet.pods("weir-controller")
                      if f'"identity":"{first}"' in logged(fleet, p))
        fleet.delete_pod(leader, grace=0)
        kube.eventually(lambda: holder() not in (first, "", False), "another leader")
    with Clients(fleet.addresses(), "chat", threads=12, tokens=200) as more:
        kube.eventually(lambda: fleet.replicas("chat") >= 3, "three replicas")
    assert not clients.failures + more.failures


def logged(fleet, pod):
    return fleet.kube.get(fleet.path("/api/v1", "pods", pod["metadata"]["name"]) + "/log").body \
        .decode(errors="replace")


def test_goes_on_deciding_when_a_gateway_is_killed(fleet):
    scale(fleet, gateways=2, minimum=1)
    fleet.wait_ready("chat", 1)
    with Clients(fleet.addresses(), "chat", threads=8, tokens=200) as clients:
        clients.wait_for(10)
        fleet.delete_pod(fleet.pods("weir-gateway", True)[0], grace=0)
        kube.eventually(lambda: fleet.replicas("chat") >= 3, "three replicas")
        fleet.wait_ready("weir-gateway", 2)
        clients.wait_for(10)
    # What the killed one was answering is lost with it, and nothing is answered badly.
    assert len(clients.failures) <= 8
    assert not [failure for failure in clients.failures if failure[0].isdigit()]


def test_loses_nothing_when_pods_go_at_random(home):
    seed = time.time_ns() % 1_000_000
    print(f"seed {seed}")
    chance = random.Random(seed)
    scaled(home, "luck", minimum=3, maximum=6)
    home.wait_ready("luck", 3)
    served(home, "luck")
    with Clients(home.addresses(), "luck", threads=4, tokens=20) as clients:
        clients.wait_for(20)
        for _ in range(6):
            pods = kube.eventually(lambda: home.pods("luck", True), "a ready pod")
            pod = chance.choice(pods)
            path = home.path("/api/v1", "pods", pod["metadata"]["name"])
            what = chance.randrange(3)
            match what:
                case 0:
                    home.delete_pod(pod)
                case 1:
                    home.kube.post(f"{path}/eviction", {
                        "apiVersion": "policy/v1", "kind": "Eviction",
                        "metadata": {"name": pod["metadata"]["name"]}})
                case _:
                    home.kube.patch(path, {"metadata": {"annotations": {
                        "test.weir.dev/ready": "false"}}})
            clients.wait_for(20)
            if what == 2:
                # Nobody would replace it: with three of them none would be left.
                home.kube.patch(path, {"metadata": {"annotations": {"test.weir.dev/ready": None}}})
    assert not clients.failures, f"seed {seed}"


# Second writers ---------------------------------------------------------------------------------


def test_leaves_a_workload_to_its_autoscaler(home):
    scaled(home, "theirs", minimum=1)
    home.wait_ready("theirs", 1)
    home.create("/apis/autoscaling/v2", "horizontalpodautoscalers", {
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        # As KEDA makes it.
        "metadata": {"name": "some-name", "ownerReferences": [{
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "rival",
            "uid": str(uuid.uuid4()), "controller": True}]},
        "spec": {"maxReplicas": 5, "scaleTargetRef": {
            "apiVersion": "apps/v1", "kind": "Deployment", "name": "theirs"}}})
    found = home.said("theirs", "ScalingActive", "Obstructed")
    assert "ScaledObject" in found["message"] and "rival" in found["message"]
    kube.eventually(lambda: home.events("theirs", "SecondWriter"), "the event")


def test_leaves_replicas_that_somebody_sets_alone(home):
    scaled(home, "byhand", minimum=1)
    home.wait_ready("byhand", 1)
    home.said("byhand", "ScalingActive", "Active")
    home.kube.patch(home.path(fleets.APPS, "deployments", "byhand"), {"spec": {"replicas": 3}})
    found = home.said("byhand", "ScalingActive", "Obstructed")
    assert "from 1 to 3" in found["message"]
    model = home.admin("weir-controller", "/api/v1/models/byhand/explain")
    assert model["variants"][0]["obstruction"] == found["message"]
    kube.eventually(lambda: home.events("byhand", "SecondWriter"), "the event")
    assert home.replicas("byhand") == 3
    # Once more: the same event again.
    home.kube.patch(home.path(fleets.APPS, "deployments", "byhand"), {"spec": {"replicas": 2}})
    kube.eventually(lambda: any(event.get("series", {}).get("count", 0) >= 2 for event
                                in home.events("byhand", "SecondWriter")), "the event again")
    assert home.replicas("byhand") == 2


# Pods that do not come --------------------------------------------------------------------------


def test_says_why_pods_do_not_come(home):
    """In the condition, in an event, and in the columns of a table."""
    home.create("/api/v1", "resourcequotas", {
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"},
        "spec": {"hard": {"requests.example.com/fpga": "1"}}})
    gpus = {"limits": {"nvidia.com/gpu": "4"}, "requests": {"nvidia.com/gpu": "4"}}
    fpgas = {"limits": {"example.com/fpga": "2"}, "requests": {"example.com/fpga": "2"}}
    cases = {
        "roomless": ("Unschedulable", "nvidia.com/gpu", {"resources": gpus}),
        "imageless": ("CannotStart", "nothing:1", {"image": "nothing:1"}),
        "crashing": ("CrashLoop", "exit code 2", {"args": ["no-such-command"]}),
        "refused": ("QuotaExceeded", "example.com/fpga", {"resources": fpgas}),
    }
    for name, (_, _, fields) in cases.items():
        home.workload(name, 0, **fields)
        home.create(fleets.WEIR_API, "models", fleets.model(name, 1, 2))
    for name, (reason, words, _) in cases.items():
        found = home.said(name, "Ready", reason)
        assert found["status"] == "False" and words in found["message"], found
        kube.eventually(lambda name=name, reason=reason: home.events(name, reason),
                        f"the event of {name}")
        model = home.admin("weir-controller", f"/api/v1/models/{name}/explain")
        assert words in model["variants"][0]["notComing"]
    table = home.kube.call("GET", home.path(fleets.WEIR_API, "models"),
                           accept="application/json;as=Table;g=meta.k8s.io;v=v1").expect(200)
    column = [c["name"] for c in table["columnDefinitions"]].index("Reason")
    shown = {row["object"]["metadata"]["name"]: row["cells"][column] for row in table["rows"]}
    assert {name: shown[name] for name in cases} == {n: c[0] for n, c in cases.items()}
    # A pod that waits for GPUs counts for a quota of them.
    for name in cases:
        home.kube.delete(home.path(fleets.WEIR_API, "models", name))
        home.kube.delete(home.path(fleets.APPS, "deployments", name))
        kube.eventually(lambda name=name: not home.pods(name), f"the pods of {name} to go")


def test_an_interchangeable_variant_stands_in(home):
    """The cheap one crashes: the dear one serves; the Model says why, and what a replica does."""
    home.create(fleets.WEIR_API, "scalingpolicies", fleets.policy(
        "objective", targets=[{"type": "Objective"}]))
    home.workload("pool-small", 0, args=["no-such-command"])
    home.workload("pool-big", 0, "--model", "pooled")
    variants = [
        {"name": name, "pool": "one", "scaling": {"cost": cost},
         "workloadRef": {"kind": "Deployment", "name": f"pool-{name}", "port": 8000}}
        for name, cost in (("small", "1"), ("big", "2.5"))]
    home.create(fleets.WEIR_API, "models", fleets.model(
        "pooled", live="small", variants=variants,
        objectives={"latency": {"quantile": 0.95, "below": "1s"}},
        scaling={"policy": "objective", "minReplicas": 1, "maxReplicas": 3}))
    home.wait_ready("pool-big", 1)
    found = home.said("pooled", "ScalingActive", "StandIn")
    assert found["status"] == "True"
    assert "stands in for small, whose replicas do not come: crash loop" in found["message"]
    home.said("pooled", "Ready", "Serving")
    with Clients(home.addresses(), "pooled", threads=3, tokens=4) as clients:
        clients.wait_for(80)

        def learned():
            status = home.get(fleets.WEIR_API, "models", "pooled")["status"]
            big = next(v for v in status["variants"] if v["name"] == "big")
            return float(big.get("requestsPerReplica", 0)) > 0 and big["weight"] == 100

        kube.eventually(learned, "what a replica of the big one does")
        clients.wait_for(20)
    assert not clients.failures
    for name in ("pool-small", "pool-big"):
        home.kube.delete(home.path(fleets.APPS, "deployments", name))
    home.kube.delete(home.path(fleets.WEIR_API, "models", "pooled"))


def test_says_that_a_pod_takes_too_long(home):
    """Longer than the Deployment's `progressDeadlineSeconds`."""
    home.workload("late", 0)
    path = home.path(fleets.APPS, "deployments", "late")
    home.kube.patch(path, {"spec": {"progressDeadlineSeconds": 2, "template": {"metadata": {
        "annotations": {"test.weir.dev/ready": "false"}}}}}).expect(200)
    home.create(fleets.WEIR_API, "models", fleets.model("late", 1, 2))
    found = home.said("late", "Ready", "StartTimeout")
    assert "progressDeadlineSeconds" in found["message"]
    kube.eventually(lambda: home.events("late", "StartTimeout"), "the event")


def test_says_that_a_service_is_missing(home):
    home.workload("hidden", 0, service=False)
    home.create(fleets.WEIR_API, "models", fleets.model("hidden", 1, 2))
    found = home.said("hidden", "Ready", "ServiceMissing")
    assert found["status"] == "False" and "hidden" in found["message"]
    kube.eventually(lambda: home.events("hidden", "ServiceMissing"), "the event")
    value = objects.service("hidden", 80, 8000)
    value["spec"]["selector"] = {"app": "somebody-else"}
    home.create("/api/v1", "services", value)
    found = home.said("hidden", "Ready", "NoEndpoint")
    assert "selector" in found["message"]
    home.kube.patch(home.path("/api/v1", "services", "hidden"),
                    {"spec": {"selector": {"app": "hidden"}}}).expect(200)
    home.said("hidden", "Ready", "Serving")


# Other kinds ------------------------------------------------------------------------------------


def ordered(home, name, labels, owner=None):
    """A StatefulSet of simulators with no replica, and a Service for its pods."""
    value = objects.deployment(name, 0, [home.simulator(name)],
                               terminationGracePeriodSeconds=fleets.GRACE_SECONDS)
    value["kind"] = "StatefulSet"
    value["spec"]["serviceName"] = name
    value["spec"]["podManagementPolicy"] = "Parallel"
    value["spec"]["selector"] = {"matchLabels": labels}
    value["spec"]["template"]["metadata"]["labels"] = labels
    home.create(fleets.APPS, "statefulsets", value)
    value = objects.service(name, 80, 8000)
    value["spec"]["selector"] = labels
    home.create("/api/v1", "services", value)


def of_kind(home, name, kind):
    """A model of a workload of this kind, which scales from nothing and back."""
    home.create(fleets.WEIR_API, "models", fleets.model(name, variants=[
        {"name": "main", "workloadRef": {"kind": kind, "name": name, "port": 8000}}]))
    address = home.gateway_addresses()[0]
    kube.eventually(lambda: name.encode() in ask(address, "none")[1], "the model to be known")
    assert ask(address, name, timeout=kube.WAIT_SECONDS)[0] == 200
    home.said(name, "Ready", "Serving")
    home.said(name, "Ready", "ScaledToZero")


def test_scales_a_stateful_set(home):
    ordered(home, "numbered", {"app": "numbered"})
    of_kind(home, "numbered", "StatefulSet")
    kube.eventually(
        lambda: home.get(fleets.APPS, "statefulsets", "numbered")["spec"]["replicas"] == 0,
        "the number to be written")


LWS = "leaderworkerset.x-k8s.io"


def test_scales_a_leader_worker_set(home):
    """A kind that the server has to be asked about; its pods are known by its scale's selector."""
    labels = {f"{LWS}/name": "grouped", f"{LWS}/worker-index": "0"}
    home.kube.post(objects.DEFINITIONS, leader_worker_sets()).expect(201)
    sets = home.path(f"/apis/{LWS}/v1", "leaderworkersets")
    kube.eventually(lambda: home.kube.get(sets).code == 200, "the kind to be served")
    ordered(home, "grouped", labels)
    home.kube.post(sets, {"apiVersion": f"{LWS}/v1", "kind": "LeaderWorkerSet",
                          "metadata": {"name": "grouped"}, "spec": {"replicas": 0}}).expect(201)
    stopping = threading.Event()
    controller = threading.Thread(target=follow, args=(home, f"{sets}/grouped", labels, stopping))
    controller.start()
    try:
        of_kind(home, "grouped", "LeaderWorkerSet")
    finally:
        stopping.set()
        controller.join()


def follow(home, path, labels, stopping):
    """What the controller of LeaderWorkerSets does: leaders are pods of a StatefulSet."""
    own = kube.Kube(home.kube.kubeconfig)
    selector = ",".join(f"{name}={value}" for name, value in labels.items())
    pods = home.path(fleets.APPS, "statefulsets", "grouped")
    while not stopping.wait(0.05):
        count = own.get(path).expect(200)["spec"]["replicas"]
        own.patch(pods, {"spec": {"replicas": count}})
        own.patch(f"{path}/status", {"status": {"replicas": count, "hpaPodSelector": selector}})
    own.close()


def leader_worker_sets():
    """The definition of LeaderWorkerSet, as far as scaling goes."""
    integer = {"type": "integer", "format": "int32"}
    schema = {"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"replicas": {**integer, "default": 1}}},
        "status": {"type": "object", "properties": {
            "replicas": integer, "hpaPodSelector": {"type": "string"}}}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": f"leaderworkersets.{LWS}", "annotations": {
            "api-approved.kubernetes.io": "unapproved, for tests"}},
        "spec": {"group": LWS, "scope": "Namespaced",
                 "names": {"plural": "leaderworkersets", "singular": "leaderworkerset",
                           "kind": "LeaderWorkerSet"},
                 "versions": [{"name": "v1", "served": True, "storage": True,
                               "schema": {"openAPIV3Schema": schema},
                               "subresources": {"status": {}, "scale": {
                                   "specReplicasPath": ".spec.replicas",
                                   "statusReplicasPath": ".status.replicas",
                                   "labelSelectorPath": ".status.hpaPodSelector"}}}]}}


# What there is of GPUs --------------------------------------------------------------------------


def test_knows_what_there_is_of_gpus(home):
    """Nodes and quotas, in the status of a budget and in the controller's API."""
    home.create("/api/v1", "resourcequotas", {
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "gpus"},
        "spec": {"hard": {"requests.nvidia.com/gpu": "2"}}})
    home.create(fleets.WEIR_API, "resourcebudgets", fleets.custom(
        "ResourceBudget", "gpus", {"resource": "nvidia.com/gpu", "total": 8}))
    gpu = {"limits": {"nvidia.com/gpu": "1"}, "requests": {"nvidia.com/gpu": "1"}}
    home.workload("dear", 0, resources=gpu)
    home.create(fleets.WEIR_API, "models", fleets.model("dear", scaling={
        "policy": "standard", "minReplicas": 3, "maxReplicas": 4,
        "budget": {"name": "gpus", "perReplica": 1}}))
    # Three are asked for, and the quota allows two.
    home.wait_ready("dear", 2)

    def status():
        found = home.get(fleets.WEIR_API, "resourcebudgets", "gpus").get("status", {})
        return found.get("used") == 2 and found.get("pools") and found

    found = kube.eventually(status, "the budget's status")
    assert found["wanted"] == 3 and found["available"] == 2 and found["allocatable"] == 3
    assert found["quota"] == {"hard": 2, "used": 2}
    assert found["models"] == [{"name": "dear", "used": 2, "wanted": 3}]
    assert [(p["nodes"], p["allocatable"], p["used"]) for p in found["pools"]] == [(2, 3, 2)]
    assert {c["type"]: c["status"] for c in found["conditions"]} == {"Accepted": "True"}
    assert home.replicas("dear") == 2
    budget = home.admin("weir-controller", "/api/v1/budgets")["budgets"][0]
    assert (budget["used"], budget["available"], budget["quota"]) == (2, 2, 2)
    home.kube.patch(home.path("/api/v1", "resourcequotas", "gpus"),
                    {"spec": {"hard": {"requests.nvidia.com/gpu": "3"}}}).expect(200)
    home.wait_ready("dear", 3)


# What model servers say -------------------------------------------------------------------------


def test_reads_what_model_servers_say(home):
    """The controller asks the pods for their metrics: the use of the KV cache decides."""
    home.create(fleets.WEIR_API, "scalingpolicies", fleets.policy(
        "cache", targets=[{"type": "KVCache", "value": "50%"}]))
    # Answers that last, in a cache that few of them fill.
    home.workload("cached", 1, "--kv-tokens", "600", "--step-time", "40ms")
    home.create(fleets.WEIR_API, "models", fleets.model("cached", scaling={
        "policy": "cache", "minReplicas": 1, "maxReplicas": 4}))
    home.wait_ready("cached", 1)
    served(home, "cached")

    def wanted():
        found = home.admin("weir-controller", "/api/v1/models/cached/explain")
        decisions = [v["decision"] for v in found["variants"] if v.get("decision")]
        return any(r["target"] == "kvCache" and (r["replicas"] or 0) >= 2
                   for d in decisions for r in d["recommendations"])

    with Clients(home.addresses(), "cached", threads=8, tokens=120):
        kube.eventually(wanted, "a recommendation from the KV cache")
        kube.eventually(lambda: home.replicas("cached") >= 2, "another replica")


# Rights -----------------------------------------------------------------------------------------


def test_uses_every_right_it_has(home, request):
    """The last one: over all tests before, and those of rollouts and tenants, what was asked for is
    what the manifests allow."""
    chosen = {item.name for item in request.session.items}
    others = request.config.stash.get(fleets.REQUESTS, {})
    if not {"rollouts", "tenants"} <= set(others) or not {
            name for name in globals() if name.startswith("test_")} <= chosen:
        pytest.skip("not all of the tests were chosen")
    asked = {"weir-gateway": set(), "weir-controller": set()}
    for entry in sum(others.values(), home.cluster.control("GET", "/requests")):
        account = entry["user"].rpartition(":")[2]
        if account in asked and not entry["resource"].startswith("/"):
            name = entry["resource"].partition(".")[0]
            sub = f"/{entry['subresource']}" if entry["subresource"] else ""
            asked[account].add((name + sub, entry["verb"]))
    allowed = {account: set() for account in asked}
    values = list(fleets.rights())
    roles = {v["metadata"]["name"]: v for v in values if "rules" in v}
    for binding in (v for v in values if "subjects" in v):
        for rule in roles[binding["roleRef"]["name"]]["rules"]:
            allowed[binding["subjects"][0]["name"]] |= {
                (resource, verb) for resource in rule["resources"] for verb in rule["verbs"]}
    for account, rights in allowed.items():
        # A watch that sends what is there is a list; without it both are needed.
        unused = {(resource, verb) for resource, verb in rights - asked[account]
                  if not (verb == "list" and (resource, "watch") in asked[account])}
        assert not unused, account
        assert asked[account] <= rights, account
