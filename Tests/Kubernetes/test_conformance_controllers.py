"""What the Kubernetes API promises, through plain HTTP: the cluster's controllers."""

import pytest

import objects
from kube import JSON_PATCH, eventually
from objects import config_map, deployment, names, pod


# Controllers --------------------------------------------------------------------------------------
#
# No node has the label that these pods want, so the tests play the kubelet: a pod is ready when the
# test says so, and everything else is up to the cluster's controllers.


def set_ready(api, pods, name, ready=True, address=None):
    state = "True" if ready else "False"
    now = "2026-01-02T03:04:05Z"
    status = {
        "phase": "Running",
        "conditions": [
            {"type": kind, "status": state, "lastTransitionTime": now}
            for kind in ("Ready", "ContainersReady")
        ],
    }
    if address:
        status.update({"podIP": address, "podIPs": [{"ip": address}]})
    api.patch(f"{pods}/{name}/status", {"status": status}).expect(200)


def listed(api, pods, **query):
    found = [
        p
        for p in api.get(pods, **query).expect(200)["items"]
        if not p["metadata"].get("deletionTimestamp")
    ]
    return sorted(found, key=lambda p: p["metadata"]["name"])


def have_pods(api, pods, count, **query):
    return eventually(
        lambda: (found := listed(api, pods, **query)) and len(found) == count and found,
        f"{count} pods",
    )


def all_ready(api, pods, count, **query):
    for found in have_pods(api, pods, count, **query):
        set_ready(api, pods, found["metadata"]["name"])


def test_deployments_make_pods_and_count_the_ready(api, deployments, pods, namespace):
    api.post(deployments, deployment("a", 2, nodeSelector=objects.NOWHERE)).expect(201)
    found = have_pods(api, pods, 2)
    owner = found[0]["metadata"]["ownerReferences"][0]
    assert owner["kind"] == "ReplicaSet" and owner["controller"]
    word = found[0]["metadata"]["labels"]["pod-template-hash"]
    assert owner["name"] == f"a-{word}"
    all_ready(api, pods, 2)

    def complete():
        status = api.get(f"{deployments}/a").expect(200).get("status", {})
        return status.get("readyReplicas") == 2 and status.get("availableReplicas") == 2 and status

    status = eventually(complete, "both to be ready")
    assert status["updatedReplicas"] == status["replicas"] == 2
    assert status["observedGeneration"] == 1 and "unavailableReplicas" not in status
    conditions = {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}
    assert conditions["Available"] == ("True", "MinimumReplicasAvailable")
    eventually(
        lambda: (
            "NewReplicaSetAvailable"
            in str(api.get(f"{deployments}/a").json()["status"]["conditions"])
        ),
        "the end of the progress",
    )


def revision(value):
    return value["metadata"].get("annotations", {}).get("deployment.kubernetes.io/revision")


def test_a_new_template_rolls_and_an_old_one_comes_back(api, deployments, pods, namespace):
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    made = api.post(
        deployments, deployment("a", 2, strategy=strategy, nodeSelector=objects.NOWHERE)
    ).expect(201)
    all_ready(api, pods, 2)
    old = have_pods(api, pods, 2)[0]["metadata"]["labels"]["pod-template-hash"]
    patch = {"spec": {"template": {"metadata": {"annotations": {"v": "2"}}}}}
    api.patch(f"{deployments}/a", patch).expect(200)
    fresh = {"labelSelector": f"pod-template-hash!={old}"}
    have_pods(api, pods, 1, **fresh)
    have_pods(api, pods, 3)
    all_ready(api, pods, 1, **fresh)
    have_pods(api, pods, 2, **fresh)
    all_ready(api, pods, 2, **fresh)
    have_pods(api, pods, 2)
    eventually(lambda: revision(api.get(f"{deployments}/a").json()) == "2", "the second revision")
    sets = objects.APPS.format(namespace) + "/replicasets"
    by_hash = {
        s["metadata"]["labels"]["pod-template-hash"]: s for s in api.get(sets).expect(200)["items"]
    }
    assert revision(by_hash[old]) == "1" and by_hash[old]["spec"]["replicas"] == 0
    template = by_hash[old]["spec"]["template"]
    del template["metadata"]["labels"]["pod-template-hash"]
    undo = [{"op": "replace", "path": "/spec/template", "value": template}]
    api.patch(f"{deployments}/a", undo, JSON_PATCH).expect(200)
    back = {"labelSelector": f"pod-template-hash={old}"}
    have_pods(api, pods, 1, **back)
    eventually(lambda: revision(api.get(f"{sets}/a-{old}").json()) == "3", "the third revision")
    assert len(api.get(sets).expect(200)["items"]) == 2
    assert made["metadata"]["uid"] == api.get(f"{deployments}/a").json()["metadata"]["uid"]


def test_recreate_waits_for_the_old_pods_to_go(api, deployments, pods):
    api.post(
        deployments, deployment("a", 1, strategy={"type": "Recreate"}, nodeSelector=objects.NOWHERE)
    ).expect(201)
    (first,) = have_pods(api, pods, 1)
    patch = {"spec": {"template": {"metadata": {"annotations": {"v": "2"}}}}}
    api.patch(f"{deployments}/a", patch).expect(200)
    eventually(
        lambda: (
            (found := listed(api, pods))
            and len(found) == 1
            and found[0]["metadata"]["uid"] != first["metadata"]["uid"]
        ),
        "the new pod alone",
    )


def test_scaling_down_takes_unready_pods_first(api, deployments, pods):
    api.post(deployments, deployment("a", 3, nodeSelector=objects.NOWHERE)).expect(201)
    found = have_pods(api, pods, 3)
    kept = [p["metadata"]["name"] for p in found[:2]]
    for name in kept:
        set_ready(api, pods, name)
    path = objects.APPS.format(deployments.split("/")[5]) + "/replicasets"
    eventually(
        lambda: api.get(path).json()["items"][0]["status"].get("readyReplicas") == 2,
        "two to be ready",
    )
    api.patch(f"{deployments}/a/scale", {"spec": {"replicas": 2}}).expect(200)
    left = have_pods(api, pods, 2)
    assert [p["metadata"]["name"] for p in left] == kept


def test_scaling_down_follows_deletion_costs(api, target, deployments, pods):
    target.needs(22, "pod deletion cost")
    api.post(deployments, deployment("a", 3, nodeSelector=objects.NOWHERE)).expect(201)
    all_ready(api, pods, 3)
    found = have_pods(api, pods, 3)
    victim = found[1]["metadata"]["name"]
    cost = {"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-5"}}}
    api.patch(f"{pods}/{victim}", cost).expect(200)
    api.patch(f"{deployments}/a/scale", {"spec": {"replicas": 2}}).expect(200)
    left = have_pods(api, pods, 2)
    assert victim not in [p["metadata"]["name"] for p in left]


def test_quotas_refuse_pods_and_the_refusal_shows(api, deployments, pods, namespace):
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "gpus"},
        "spec": {"hard": {"requests.nvidia.com/gpu": "1"}},
    }
    path = objects.CORE.format(namespace) + "/resourcequotas"
    api.post(path, quota).expect(201)
    eventually(lambda: api.get(f"{path}/gpus").json().get("status", {}).get("hard"), "the quota")
    containers = [objects.container(resources={"limits": {"nvidia.com/gpu": "1"}})]
    api.post(deployments, deployment("a", 2, containers, nodeSelector=objects.NOWHERE)).expect(201)

    def failure():
        conditions = api.get(f"{deployments}/a").json().get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == "ReplicaFailure"), None)

    found = eventually(failure, "the refusal to show")
    assert found["reason"] == "FailedCreate" and "exceeded quota: gpus" in found["message"]
    assert "requested: requests.nvidia.com/gpu=1" in found["message"]
    assert "limited: requests.nvidia.com/gpu=1" in found["message"]
    assert len(listed(api, pods)) == 1
    value = pod("b", containers)
    refused = api.post(pods, value).expect(403)
    assert refused["reason"] == "Forbidden" and "exceeded quota" in refused["message"]


def test_budgets_refuse_evictions(api, target, deployments, pods, namespace):
    version = "policy/v1" if target.minor >= 21 else "policy/v1beta1"
    budget = {
        "apiVersion": version,
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "a"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}},
    }
    budgets = f"/apis/{version}/namespaces/{namespace}/poddisruptionbudgets"
    api.post(budgets, budget).expect(201)
    api.post(deployments, deployment("a", 1, nodeSelector=objects.NOWHERE)).expect(201)
    all_ready(api, pods, 1)
    name = have_pods(api, pods, 1)[0]["metadata"]["name"]
    eventually(
        lambda: api.get(f"{budgets}/a").json().get("status", {}).get("currentHealthy") == 1,
        "the budget to count the pod",
    )
    kind = "policy/v1" if target.minor >= 22 else "policy/v1beta1"
    eviction = {
        "apiVersion": kind,
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace},
    }
    refused = api.post(f"{pods}/{name}/eviction", eviction)
    body = refused.expect(429)
    assert body["reason"] == "TooManyRequests"
    assert body["message"] == "Cannot evict pod as it would violate the pod's disruption budget."
    assert refused.causes()[0][0] == "DisruptionBudget"
    api.delete(f"{budgets}/a").expect(200)
    eventually(lambda: api.post(f"{pods}/{name}/eviction", eviction).code == 201, "the eviction")


@pytest.fixture
def node(api, namespace):
    """A node on which nothing runs: pods can be bound to it, and the test plays its kubelet."""
    name = f"node-{namespace}"
    api.post(
        "/api/v1/nodes",
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name},
            "spec": {"unschedulable": True},
        },
    ).expect(201)
    yield name
    api.delete(f"/api/v1/nodes/{name}")


def bind(api, pods, name, node):
    api.post(
        f"{pods}/{name}/binding",
        {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        },
    ).expect(201)


def test_slices_show_which_pods_are_ready(api, target, deployments, pods, namespace, node):
    version = "v1" if target.minor >= 21 else "v1beta1"
    slices = f"/apis/discovery.k8s.io/{version}/namespaces/{namespace}/endpointslices"
    services = objects.CORE.format(namespace) + "/services"
    api.post(services, objects.service("a")).expect(201)
    api.post(deployments, deployment("a", 2, nodeSelector=objects.NOWHERE)).expect(201)
    first, second = (p["metadata"]["name"] for p in have_pods(api, pods, 2))
    bind(api, pods, first, node)
    bind(api, pods, second, node)
    set_ready(api, pods, first, address="10.9.0.1")
    set_ready(api, pods, second, ready=False, address="10.9.0.2")
    selector = {"labelSelector": "kubernetes.io/service-name=a"}

    def endpoints():
        found = {
            e["addresses"][0]: e
            for s in api.get(slices, **selector).expect(200)["items"]
            for e in s["endpoints"] or []
        }
        return len(found) == 2 and found

    found = eventually(endpoints, "both endpoints")
    assert found["10.9.0.1"]["conditions"]["ready"] is True
    assert found["10.9.0.2"]["conditions"]["ready"] is False
    assert found["10.9.0.1"]["targetRef"]["name"] == first
    one = api.get(slices, **selector).expect(200)["items"][0]
    assert one["addressType"] == "IPv4"
    assert [(p["name"], p["port"], p["protocol"]) for p in one["ports"]] == [("http", 8000, "TCP")]
    set_ready(api, pods, second, address="10.9.0.2")
    eventually(
        lambda: all(
            e["conditions"]["ready"]
            for e in (endpoints() or {"": {"conditions": {"ready": False}}}).values()
        ),
        "both to be ready",
    )


def test_quorum_reads_follow_writes(api, maps):
    for index in range(20):
        api.post(maps, config_map(f"a{index}")).expect(201)
        assert f"a{index}" in names(api.get(maps).expect(200))
