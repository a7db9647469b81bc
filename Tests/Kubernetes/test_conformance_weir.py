"""What the manifests install works on a real cluster: with its controllers, and these rights alone.

Needs addresses for pods that the cluster takes as endpoints: WEIR_TEST_PODS names a network that is
local to this machine. `scripts/kubernetes` makes one.
"""

import json
import os
import urllib.request
import uuid

import fleet as fleets
import kube
import objects
import processes
import pytest
from fleet import Clients, ask
from kubelet import Kubelet, secret

NETWORK = os.environ.get("WEIR_TEST_PODS")
pytestmark = [
    pytest.mark.skipif(not fleets.binary(), reason="WEIR_BINARY names the program to test"),
    pytest.mark.skipif(not NETWORK, reason="WEIR_TEST_PODS names a network for pods"),
]
MODEL, WORKLOAD = "llama", "llama-vllm"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


class Installed(fleets.Fleet):
    """Weir as docs/kubernetes.md has it installed, in a namespace of its own."""

    def __init__(self, target, folder):
        self.kube, self.folder = target.kube, folder
        self.namespace = f"weir-{uuid.uuid4().hex[:8]}"
        self.node = f"node-{self.namespace}"
        weir = [fleets.binary()]
        self.kubelet = Kubelet(
            target.kube.kubeconfig, self.namespace, self.node, NETWORK, {
                "weir:.*": weir,
                "vllm/.*": [*weir, "model-simulator", "--host", "$(POD_IP)", "--step-time", "20ms"],
            }, folder)

    def start(self):
        for value in processes.definitions():
            assert self.kube.post(objects.DEFINITIONS, value).code in (201, 409)
        kube.eventually(lambda: self.kube.get(f"{fleets.WEIR_API}/models").code == 200,
                        "the definitions to be served")
        self.kube.post("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": self.namespace}}).expect(201)
        token = self.folder / "token"
        token.write_text("for-tests\n", encoding="utf-8")
        self.kubelet.register()
        self.kubelet.start()
        for name in ("weir-admin", "huggingface"):
            self.apply(secret(name, token="for-tests"))
        for value in processes.base(self.namespace, token) + processes.language_model():
            if value["kind"] == "Deployment":
                value["spec"]["template"]["spec"]["nodeName"] = self.node
            self.apply(value)
        self.kube.patch(self.path(fleets.WEIR_API, "scalingpolicies", "llm"), {
            "spec": fleets.policy()["spec"]}).expect(200)
        for component in ("gateway", "controller"):
            kube.eventually(lambda c=component: len(self.parts(c)) == 2, f"two {component}s", 60)

    def apply(self, value):
        path = processes.path(self.namespace, value["kind"], value["metadata"]["name"])
        answer = self.kube.apply(path, value, "tests", force="true")
        assert answer.code in (200, 201), answer.body

    def parts(self, component):
        found = self.kube.get(self.path("/api/v1", "pods"), labelSelector=(
            f"app.kubernetes.io/component={component}")).expect(200)["items"]
        return [pod for pod in found if fleets.is_ready(pod)
                and not pod["metadata"].get("deletionTimestamp")]

    def gateway_addresses(self):
        return [f"{pod['status']['podIP']}:8080" for pod in self.parts("gateway")]

    def addresses(self):
        own = object.__new__(Installed)
        own.kube, own.namespace = kube.Kube(self.kube.kubeconfig), self.namespace
        return own.gateway_addresses

    def holder(self):
        found = self.kube.get(
            self.path("/apis/coordination.k8s.io/v1", "leases", "weir-controller"))
        return found.json()["spec"].get("holderIdentity", "") if found.code == 200 else ""

    def model(self):
        return self.get(fleets.WEIR_API, "models", MODEL)

    def row(self):
        """What `kubectl get models` prints, by column."""
        table = self.kube.call("GET", self.path(fleets.WEIR_API, "models"),
                               accept=TABLE).expect(200)
        names = [column["name"] for column in table["columnDefinitions"]]
        return dict(zip(names, table["rows"][0]["cells"]))

    def stop(self):
        self.kube.delete(f"/api/v1/namespaces/{self.namespace}")
        self.kubelet.stop()


@pytest.fixture(scope="module")
def installed(target, tmp_path_factory, request):
    weir = Installed(target, tmp_path_factory.mktemp("weir"))
    try:
        weir.start()
        yield weir
    finally:
        if request.session.testsfailed:
            print(weir.kubelet.problems[-5:])
            for name, text in weir.kubelet.logs("weir-").items():
                print(f"== {name}\n{text[-3000:]}")
        weir.stop()


def test_scales_from_zero_to_many_and_back(installed):
    kube.eventually(lambda: installed.row()["Reason"] == "ScaledToZero", "the status", 60)
    assert installed.replicas(WORKLOAD) == 0
    with Clients(installed.addresses(), MODEL, threads=8, tokens=64) as clients:
        clients.wait_for(5)
        kube.eventually(lambda: installed.replicas(WORKLOAD) >= 3, "three replicas", 60)
        kube.eventually(lambda: installed.row()["Reason"] == "Serving", "the status", 60)
        clients.wait_for(20)
    kube.eventually(lambda: installed.replicas(WORKLOAD) == 0, "no replica", 60)
    kube.eventually(lambda: installed.row()["Replicas"] == "0/0", "the status", 60)
    assert not clients.failures
    assert installed.row()["Ready"] == "True" and installed.row()["Live"] == "vllm"
    conditions = {c["type"]: c for c in installed.model()["status"]["conditions"]}
    assert {name: c["status"] for name, c in conditions.items()} == {
        "Accepted": "True", "Ready": "True", "ScalingActive": "True"}
    generation = installed.model()["metadata"]["generation"]
    assert all(c["observedGeneration"] == generation for c in conditions.values())


def test_another_controller_goes_on(installed):
    first = kube.eventually(installed.holder, "a leader")
    pod = next(name for name, text in installed.kubelet.logs("weir-controller").items()
               if f'"identity":"{first}"' in text)
    installed.kube.delete(installed.path("/api/v1", "pods", pod), {
        "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0})
    kube.eventually(lambda: installed.holder() not in ("", first), "another leader", 60)
    with Clients(installed.addresses(), MODEL, threads=8, tokens=64) as clients:
        kube.eventually(lambda: installed.replicas(WORKLOAD) >= 2, "two replicas", 60)
        clients.wait_for(10)
    assert not clients.failures


def test_says_what_is_wrong(installed):
    path = installed.path(fleets.WEIR_API, "models", "other")
    installed.create(fleets.WEIR_API, "models", fleets.model("other", aliases=[MODEL]))
    found = kube.eventually(lambda: next(
        (c for c in installed.get(fleets.WEIR_API, "models", "other").get("status", {})
         .get("conditions", ()) if c["type"] == "Accepted"), None), "the condition")
    assert found["status"] == "False" and MODEL in found["message"]
    installed.kube.delete(path)


def test_tenants_have_keys_in_secrets(installed):
    """As the sample has it: its Role names the Secret, and no other one may be read."""
    with Clients(installed.addresses(), MODEL, threads=1) as clients:
        clients.wait_for(1)
    installed.apply(secret("team-a-key", key="weir-for-tests"))
    for value in processes.team(installed.namespace, MODEL):
        installed.apply(value)

    def everywhere(status, **headers):
        for address in installed.gateway_addresses():
            kube.eventually(lambda a=address: ask(a, MODEL, **headers)[0] == status,
                            f"{status} from {address}", 60)

    everywhere(401)
    everywhere(200, Authorization="Bearer weir-for-tests")

    def status():
        found = installed.get(fleets.WEIR_API, "tenants", "team-a")
        own = found.get("status", {})
        conditions = {c["type"]: c["status"] for c in own.get("conditions", ())}
        return own.get("observedGeneration") == found["metadata"]["generation"] and {
            **conditions, "keys": own.get("keys")}

    whole = {"Accepted": "True", "ModelsFound": "True", "KeysFound": "True", "keys": 1}
    kube.eventually(lambda: status() == whole, "the tenant's status", 60)
    # Both gateways have their parts of the limits, and no more than all of them.
    parts = kube.eventually(lambda: shares(installed), "the limits to be shared out", 60)
    assert len(parts) == 2 and 0.9 <= sum(parts) <= 1.001
    installed.kube.delete(installed.path(fleets.WEIR_API, "tenants", "team-a")).expect(200)
    everywhere(200)


def shares(installed):
    """The gateways' parts of the tenant's requests per second, once they are all of it."""
    parts = []
    for address in installed.gateway_addresses():
        host = address.rpartition(":")[0]
        with urllib.request.urlopen(f"http://{host}:9901/api/v1/tenants", timeout=30) as answer:
            told = json.load(answer)["tenants"]
        parts += [t["limits"]["requests"]["share"] for t in told]
    return parts if len(parts) == 2 and sum(parts) > 0.9 else None


def test_no_right_is_missing(installed):
    """After all that the other tests did: the roles in manifests/base are enough."""
    for name, text in installed.kubelet.logs("weir-").items():
        for line in text.splitlines():
            assert "forbidden" not in line.lower() and "refuses" not in line, f"{name}: {line}"
