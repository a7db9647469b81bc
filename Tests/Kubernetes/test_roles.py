"""The gateway and the controller on the test cluster: what serves goes on serving."""

import random
import time
import uuid

import conftest
import fleet as fleets
import kube
import pytest
from fleet import Clients, Fleet, ask

pytestmark = pytest.mark.skipif(not fleets.binary(), reason="WEIR_BINARY names the program to test")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    cluster = conftest.TestCluster(
        tmp_path_factory.mktemp("roles"), "--node", "node-1", "--node", "node-2",
        "--node", "gpu-1:nvidia.com/gpu=2")
    yield cluster
    cluster.stop()


@pytest.fixture
def fleet(cluster, request):
    name = f"t-{uuid.uuid4().hex[:8]}"
    cluster.kube.post("/api/v1/namespaces", {
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).expect(201)
    path = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    kube.eventually(lambda: cluster.kube.get(path).code == 200, "the default service account")
    fleet = Fleet(cluster, name)
    fleet.install()
    yield fleet
    if request.session.testsfailed:
        for app in ("weir-gateway", "weir-controller", "chat"):
            for path, text in fleet.log(app).items():
                print(f"== {path}\n{text[-6000:]}")
    cluster.control("DELETE", "/faults")
    for app in ("weir-controller", "weir-gateway"):
        cluster.kube.delete(fleet.path(fleets.APPS, "deployments", app))
    cluster.kube.delete(f"/api/v1/namespaces/{name}")


def serve(fleet, name="chat", replicas=1, gateways=1, **spec):
    """A gateway in front of a model with a fixed number of replicas."""
    fleet.workload(name, replicas, "--model", "talk", "--model", "back")
    fleet.create(fleets.WEIR_API, "models", fleets.model(name, scaling=None, **spec))
    fleet.gateways(gateways)
    fleet.wait_ready("weir-gateway", gateways)
    fleet.wait_ready(name, replicas)
    address = fleet.gateway_addresses()[0]
    kube.eventually(lambda: ask(address, name)[0] == 200, "an answer")
    return address


# The gateway ------------------------------------------------------------------------------------


def test_serves_a_deployment(fleet):
    address = serve(fleet, replicas=2)
    kube.eventually(lambda: len({ask(address, "chat")[2]["x-simulator-replica"]
                                 for _ in range(4)}) == 2, "both replicas to answer")
    status, text, _ = ask(address, "unknown")
    assert status == 404 and b"chat" in text


def test_follows_models_that_change(fleet):
    address = serve(fleet)
    path = fleet.path(fleets.WEIR_API, "models", "chat")
    fleet.kube.patch(path, {"spec": {"aliases": ["talk"]}}).expect(200)
    kube.eventually(lambda: ask(address, "talk")[0] == 200, "the alias to be served")
    fleet.kube.delete(path)
    kube.eventually(lambda: ask(address, "chat")[0] == 404, "the model to go")


def test_a_bad_model_changes_nothing(fleet):
    """One that the API server lets through and that cannot be meant: a name that is taken."""
    address = serve(fleet)
    bad = fleets.model("other", scaling=None, aliases=["chat"])
    fleet.create(fleets.WEIR_API, "models", bad)
    good = fleets.model("third", scaling=None, aliases=["three"])
    fleet.create(fleets.WEIR_API, "models", good)
    kube.eventually(lambda: b"third" in ask(address, "none")[1], "the good one to be known")
    assert ask(address, "chat")[0] == 200
    assert b"other" not in ask(address, "none")[1]


def test_sends_nothing_to_pods_that_end(fleet):
    """Pods are deleted one after the other under load, and no request is lost."""
    serve(fleet, replicas=3)
    with Clients(fleet.addresses(), "chat") as clients:
        clients.wait_for(50)
        for _ in range(4):
            pod = fleet.wait_ready("chat", 3)[0]
            fleet.delete_pod(pod)
            clients.wait_for(30)
        fleet.wait_ready("chat", 3)
        clients.wait_for(50)
    assert not clients.failures


def test_goes_on_without_the_api_server(fleet):
    address = serve(fleet, replicas=2)
    with Clients(lambda: [address], "chat") as clients:
        clients.wait_for(50)
        fleet.cluster.control("POST", "/server/stop")
        try:
            clients.wait_for(200)
        finally:
            fleet.cluster.control("POST", "/server/start")
        clients.wait_for(50)
    assert not clients.failures
    fleet.kube.patch(fleet.path(fleets.WEIR_API, "models", "chat"),
                     {"spec": {"aliases": ["back"]}}).expect(200)
    kube.eventually(lambda: ask(address, "back")[0] == 200, "news after the gap", 60)


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


# The controller ---------------------------------------------------------------------------------


def scale(fleet, name="chat", gateways=1, controllers=1, minimum=0, maximum=6, arguments=()):
    fleet.workload(name, minimum, *arguments)
    fleet.create(fleets.WEIR_API, "scalingpolicies", fleets.policy())
    fleet.create(fleets.WEIR_API, "models", fleets.model(name, minimum, maximum))
    fleet.gateways(gateways)
    fleet.controllers(controllers)
    fleet.wait_ready("weir-gateway", gateways)
    fleet.wait_ready("weir-controller", controllers)


SLOW = ("--decode-base", "20ms")


def test_scales_from_zero_to_many_and_back(fleet):
    scale(fleet)
    assert fleet.replicas("chat") == 0
    with Clients(fleet.addresses(), "chat", threads=10, tokens=200) as clients:
        clients.wait_for(5)
        kube.eventually(lambda: fleet.replicas("chat") >= 3, "three replicas", 40)
        clients.wait_for(20)
        clients.active = 1
        kube.eventually(lambda: fleet.replicas("chat") <= 2, "fewer replicas", 40)
        clients.wait_for(5)
    kube.eventually(lambda: fleet.replicas("chat") == 0, "no replica", 40)
    assert not clients.failures
    assert fleet.condition("chat", "Accepted")["status"] == "True"
    kube.eventually(lambda: fleet.condition("chat", "Ready")["reason"] == "ScaledToZero",
                    "the condition")
    pods = fleet.pods("chat")
    assert all(p["metadata"].get("deletionTimestamp") for p in pods), "pods that stay"


def test_says_what_is_wrong_with_a_model(fleet):
    scale(fleet)
    fleet.create(fleets.WEIR_API, "models", fleets.model("other", aliases=["chat"]))
    found = kube.eventually(lambda: fleet.condition("other", "Accepted"), "a condition")
    assert found["status"] == "False" and "chat" in found["message"]
    kube.eventually(lambda: fleet.condition("chat", "Accepted"), "a condition of the good one")
    assert fleet.condition("chat", "Accepted")["status"] == "True"


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
        pod = next(p for p in fleet.pods("weir-controller")
                   if first in logged(fleet, p))
        fleet.delete_pod(pod, grace=0)
        kube.eventually(lambda: holder() not in (first, ""), "another leader", 40)
    with Clients(fleet.addresses(), "chat", threads=12, tokens=200) as more:
        kube.eventually(lambda: fleet.replicas("chat") >= 3, "three replicas", 40)
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
        kube.eventually(lambda: fleet.replicas("chat") >= 3, "three replicas", 40)
        fleet.wait_ready("weir-gateway", 2, 40)
        clients.wait_for(10)
    # What the killed one was answering is lost with it, and nothing else.
    assert len(clients.failures) <= 8
    assert all("IncompleteRead" in failure for failure in clients.failures)


def test_loses_nothing_when_pods_go_at_random(fleet):
    seed = time.time_ns() % 1_000_000
    print(f"seed {seed}")
    chance = random.Random(seed)
    scale(fleet, minimum=3, maximum=6)
    fleet.wait_ready("chat", 3)
    with Clients(fleet.addresses(), "chat", threads=4, tokens=50) as clients:
        clients.wait_for(20)
        for _ in range(6):
            pods = kube.eventually(lambda: fleet.pods("chat", True), "a ready pod")
            pod = chance.choice(pods)
            path = fleet.path("/api/v1", "pods", pod["metadata"]["name"])
            match chance.randrange(3):
                case 0:
                    fleet.delete_pod(pod)
                case 1:
                    fleet.kube.post(f"{path}/eviction", {
                        "apiVersion": "policy/v1", "kind": "Eviction",
                        "metadata": {"name": pod["metadata"]["name"]}})
                case _:
                    fleet.kube.patch(path, {"metadata": {"annotations": {
                        "test.weir.dev/ready": "false"}}})
            clients.wait_for(20)
    assert not clients.failures, f"seed {seed}"


def test_leaves_a_workload_to_its_autoscaler(fleet):
    scale(fleet, minimum=1)
    fleet.wait_ready("chat", 1)
    fleet.create("/apis/autoscaling/v2", "horizontalpodautoscalers", {
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "rival"},
        "spec": {"maxReplicas": 5, "scaleTargetRef": {
            "apiVersion": "apps/v1", "kind": "Deployment", "name": "chat"}}})
    found = kube.eventually(
        lambda: (c := fleet.condition("chat", "ScalingActive")) and c["status"] == "False" and c,
        "the condition")
    assert "HorizontalPodAutoscaler" in found["message"]


def test_says_that_no_node_has_the_gpu(fleet):
    fleet.workload("chat", 0)
    path = fleet.path(fleets.APPS, "deployments", "chat")
    value = fleet.kube.get(path).json()
    resources = {"limits": {"nvidia.com/gpu": "4"}, "requests": {"nvidia.com/gpu": "4"}}
    value["spec"]["template"]["spec"]["containers"][0]["resources"] = resources
    fleet.kube.put(path, value).expect(200)
    fleet.create(fleets.WEIR_API, "scalingpolicies", fleets.policy())
    fleet.create(fleets.WEIR_API, "models", fleets.model("chat", 1, 2))
    fleet.gateways()
    fleet.controllers()
    found = kube.eventually(
        lambda: (c := fleet.condition("chat", "Ready")) and c["reason"] == "Unschedulable" and c,
        "the condition", 40)
    assert "nvidia.com/gpu" in found["message"]
