"""What only the test cluster can do: faults, expiry, nodes with pods as processes."""

import json
import os
import signal
import subprocess
import sys

import pytest

import conftest
import kube
import objects
from kube import eventually
from objects import config_map, container, deployment, pod

PYTHON_SERVER = ["-m", "http.server", "8000", "--bind", "$(POD_IP)"]
POD_IP = [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]


@pytest.fixture
def cluster(test_cluster):
    yield test_cluster
    test_cluster.control("DELETE", "/faults")


@pytest.fixture
def api(cluster):
    return cluster.kube


@pytest.fixture
def maps(pod_namespace):
    return f"/api/v1/namespaces/{pod_namespace}/configmaps"


@pytest.fixture
def pods(pod_namespace):
    return f"/api/v1/namespaces/{pod_namespace}/pods"


@pytest.fixture
def deployments(pod_namespace):
    return f"/apis/apps/v1/namespaces/{pod_namespace}/deployments"


def web_server(**fields):
    """A container whose process really answers on the pod's own address."""
    return container(
        image="python:3",
        args=PYTHON_SERVER,
        env=POD_IP,
        ports=[{"name": "http", "containerPort": 8000}],
        readinessProbe={
            "httpGet": {"path": "/", "port": "http"},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
        },
        **fields,
    )


# Faults -------------------------------------------------------------------------------------------


def test_faults_meet_only_what_they_name(cluster, api, maps):
    with cluster.fault(verb="create", resource="configmaps", status=429, retryAfter=7):
        refused = api.post(maps, config_map("a"))
        body = refused.expect(429)
        assert refused.headers["Retry-After"] == "7"
        assert body["details"]["retryAfterSeconds"] == 7 and body["reason"] == "TooManyRequests"
        api.get(maps).expect(200)
    api.post(maps, config_map("a")).expect(201)


def test_faults_are_used_up(cluster, api, maps):
    cluster.control(
        "POST",
        "/faults",
        {"resource": "configmaps", "verb": "list", "status": 500, "skip": 1, "count": 2},
    )
    assert [api.get(maps).code for _ in range(5)] == [200, 500, 500, 200, 200]


@pytest.mark.parametrize("code, reason", [(409, "Conflict"), (410, "Expired"), (503, None)])
def test_faults_refuse_with_any_status(cluster, api, maps, code, reason):
    with cluster.fault(verb="list", resource="configmaps", status=code):
        assert api.get(maps).expect(code)["reason"] == reason or reason is None


def test_a_fault_that_makes_no_sense_is_refused(cluster):
    with pytest.raises(Exception, match="400"):
        cluster.control("POST", "/faults", {"statuss": 500})
    with pytest.raises(Exception, match="400"):
        cluster.control("POST", "/faults", {"end": "explode"})


def test_faults_name_versions_from_the_future(cluster, api, maps):
    with cluster.fault(verb="list", resource="configmaps", tooLarge=True):
        refused = api.get(maps, resourceVersion="7")
        assert refused.expect(504) and refused.causes()[0][0] == "ResourceVersionTooLarge"


def test_lost_answers_were_carried_out(cluster, api, maps):
    with cluster.fault(verb="create", resource="configmaps", dropResponse=True, count=1):
        with pytest.raises(OSError):
            once(api, "POST", maps, config_map("a"))
    api.get(f"{maps}/a").expect(200)
    with cluster.fault(verb="create", resource="configmaps", disconnect=True, count=1):
        with pytest.raises(OSError):
            once(api, "POST", maps, config_map("b"))
    assert api.get(f"{maps}/b").code == 404


def once(api, method, path, value):
    """A request on a connection of its own that nobody repeats."""
    connection = api._connection(20)
    try:
        connection.request(method, path, json.dumps(value), api._headers("application/json", "*/*"))
        return connection.getresponse()
    finally:
        connection.close()


def test_answers_and_frames_are_split_anywhere(cluster, api, maps):
    api.post(maps, config_map("a", k="ü" * 50)).expect(201)
    with cluster.fault(resource="configmaps", split=1):
        assert api.get(f"{maps}/a").expect(200)["data"]["k"] == "ü" * 50
        with api.watch(maps, fieldSelector="metadata.name=a") as stream:
            assert stream.next()["object"]["data"]["k"] == "ü" * 50


@pytest.mark.parametrize("end", ["cut", "close", "gone"])
def test_watches_end_as_a_fault_wants(cluster, api, maps, end):
    for index in range(3):
        api.post(maps, config_map(f"a{index}", {"app": "x"})).expect(201)
    with cluster.fault(verb="watch", resource="configmaps", after=2, end=end):
        with api.watch(maps, labelSelector="app=x") as stream:
            assert [stream.next()["type"] for _ in range(2)] == ["ADDED", "ADDED"]
            if end == "cut":
                with pytest.raises((OSError, kube.http.client.HTTPException)):
                    stream.response.read()
            elif end == "close":
                assert stream.response.read() == b""
            else:
                (last,) = stream.rest()
                assert last["type"] == "ERROR" and last["object"]["code"] == 410


def test_watches_can_go_silent(cluster, api, maps):
    with cluster.fault(verb="watch", resource="configmaps", after=1, end="stall"):
        api.post(maps, config_map("a", {"app": "x"})).expect(201)
        with api.watch(maps, timeout=0.5, labelSelector="app=x") as stream:
            assert stream.next()["type"] == "ADDED"
            api.post(maps, config_map("b", {"app": "x"})).expect(201)
            with pytest.raises(TimeoutError):
                stream.next()


# History ------------------------------------------------------------------------------------------


def test_compacted_versions_are_gone_for_watches(cluster, api, maps):
    version = api.post(maps, config_map("a")).expect(201)["metadata"]["resourceVersion"]
    api.post(maps, config_map("b")).expect(201)
    cluster.control("POST", "/compact")
    with api.watch(maps, resourceVersion=version) as stream:
        assert stream.next()["object"]["reason"] == "Expired"


def test_bookmarks_come_by_themselves(api, maps):
    version = api.post(maps, config_map("a")).expect(201)["metadata"]["resourceVersion"]
    with api.watch(maps, resourceVersion=version, allowWatchBookmarks="true") as stream:
        assert stream.next()["type"] == "BOOKMARK"
    with api.watch(maps, timeout=0.5, resourceVersion=version) as stream:
        with pytest.raises(TimeoutError):
            stream.next()


def test_streaming_lists_can_be_switched_off(cluster, api, maps):
    query = {
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
    }
    cluster.control("POST", "/options", {"watchList": False})
    try:
        with api.watch(maps, **query) as stream:
            assert stream.code == 422
    finally:
        cluster.control("POST", "/options", {"watchList": True})
    with api.watch(maps, **query) as stream:
        assert stream.code == 200


def test_the_server_comes_back_with_its_state(cluster, api, maps):
    made = api.post(maps, config_map("a")).expect(201)
    with api.watch(maps, resourceVersion=made["metadata"]["resourceVersion"]) as stream:
        cluster.control("POST", "/server/stop")
        try:
            assert stream.response.read() == b""
        except (OSError, kube.http.client.HTTPException):
            pass
    api.close()
    with pytest.raises(OSError):
        api.get(maps)
    api.close()
    cluster.control("POST", "/server/start")
    assert api.get(f"{maps}/a").expect(200)["metadata"]["uid"] == made["metadata"]["uid"]


# Credentials --------------------------------------------------------------------------------------


def test_tokens_can_be_revoked(cluster, api, pod_namespace):
    token = cluster.control(
        "POST", "/tokens", {"namespace": pod_namespace, "serviceAccount": "default"}
    )["token"]
    user = kube.Kube(api.kubeconfig, token=token)
    assert user.get("/api").code == 200
    cluster.control("POST", "/tokens/revoke", {"token": token})
    assert user.get("/api").code == 401
    user.close()


def test_expired_tokens_are_refused(cluster, api, pod_namespace):
    token = cluster.control(
        "POST", "/tokens", {"namespace": pod_namespace, "serviceAccount": "default", "seconds": -1}
    )["token"]
    user = kube.Kube(api.kubeconfig, token=token)
    assert user.get("/api").code == 401
    user.close()


def test_certificates_name_their_users(cluster, tmp_path):
    config = cluster.control("POST", "/users", {"name": "jane", "groups": ["devs"]})
    path = tmp_path / "config"
    path.write_text(json.dumps(config))
    user = kube.Kube(path)
    assert 'User "jane" cannot list' in user.get("/api/v1/nodes").expect(403)["message"]
    user.close()


# Nodes and pods -----------------------------------------------------------------------------------


def condition(value, kind):
    found = value.get("status", {}).get("conditions", [])
    return next((c for c in found if c["type"] == kind), {})


def is_ready(api, path):
    return condition(api.get(path).json(), "Ready").get("status") == "True"


def test_pods_are_processes_on_addresses_of_their_own(api, deployments, pods, pod_namespace):
    services = f"/api/v1/namespaces/{pod_namespace}/services"
    api.post(services, objects.service("a", target="http")).expect(201)
    api.post(deployments, deployment("a", 2, [web_server()])).expect(201)
    eventually(
        lambda: api.get(f"{deployments}/a").json().get("status", {}).get("readyReplicas") == 2,
        "both to be ready",
    )
    found = api.get(pods).expect(200)["items"]
    addresses = {p["status"]["podIP"] for p in found}
    assert len(addresses) == 2
    for address in addresses:
        connection = kube.http.client.HTTPConnection(address, 8000, timeout=10)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        connection.close()
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{pod_namespace}/endpointslices"

    def shown():
        return {
            e["addresses"][0]
            for s in api.get(slices).expect(200)["items"]
            for e in s["endpoints"]
            if e["conditions"]["ready"]
        }

    eventually(lambda: shown() == addresses, "the endpoints")
    ids = [int(p["status"]["containerStatuses"][0]["containerID"].split("//")[1]) for p in found]
    api.delete(f"{deployments}/a").expect(200)
    eventually(lambda: not api.get(pods).expect(200)["items"], "the pods to go")
    assert not any(os.path.exists(f"/proc/{number}") for number in ids)


def test_a_pod_leaves_its_service_before_it_ends(api, pods, pod_namespace):
    """While it ends, a pod's endpoint is serving and terminating, and not ready."""
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{pod_namespace}/endpointslices"
    services = f"/api/v1/namespaces/{pod_namespace}/services"
    api.post(services, objects.service("a", target="http")).expect(201)
    slow = web_server(lifecycle={"preStop": {"sleep": {"seconds": 30}}})
    api.post(pods, pod("a", [slow], terminationGracePeriodSeconds=60)).expect(201)
    eventually(lambda: is_ready(api, f"{pods}/a"), "the pod to be ready")
    api.delete(f"{pods}/a").expect(200)

    def leaving():
        found = [
            e["conditions"] for s in api.get(slices).expect(200)["items"] for e in s["endpoints"]
        ]
        return found == [{"ready": False, "serving": True, "terminating": True}]

    eventually(leaving, "the endpoint to say that it leaves")
    eventually(lambda: api.get(f"{pods}/a").code == 404, "the pod to go")


def test_processes_that_ignore_sigterm_are_killed_after_the_grace_period(api, pods):
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
    api.post(
        pods,
        pod(
            "a",
            [container(image="python:3", args=["-c", stubborn])],
            terminationGracePeriodSeconds=10,
        ),
    ).expect(201)
    eventually(lambda: is_ready(api, f"{pods}/a"), "the pod to run")
    api.delete(f"{pods}/a").expect(200)
    eventually(lambda: api.get(f"{pods}/a").code == 404, "the pod to be killed")


def test_missing_images_and_crashes_are_told(cluster, api, pods):
    api.post(pods, pod("image", [container(image="broken:1")])).expect(201)
    api.post(
        pods, pod("crash", [container(image="python:3", args=["-c", "raise SystemExit(3)"])])
    ).expect(201)

    def waiting(name):
        states = api.get(f"{pods}/{name}").json()["status"].get("containerStatuses", [{}])
        return states[0].get("state", {}).get("waiting", {}).get("reason")

    eventually(lambda: waiting("image") == "ImagePullBackOff", "the back-off")
    eventually(lambda: waiting("crash") == "CrashLoopBackOff", "the crash loop")
    state = api.get(f"{pods}/crash").json()["status"]["containerStatuses"][0]
    assert state["lastState"]["terminated"]["exitCode"] == 3 and state["restartCount"] >= 1
    assert api.get(f"{pods}/image").json()["status"]["phase"] == "Pending"


def test_pods_without_room_are_unschedulable(api, deployments, pods):
    containers = [container(resources={"limits": {"nvidia.com/gpu": 1}})]
    api.post(deployments, deployment("a", 3, containers)).expect(201)

    def unscheduled():
        found = api.get(pods).expect(200)["items"]
        return [p for p in found if condition(p, "PodScheduled").get("reason") == "Unschedulable"]

    (one,) = eventually(
        lambda: (found := unscheduled()) and len(found) == 1 and found, "the third pod"
    )
    assert condition(one, "PodScheduled")["message"].startswith(
        "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
    )
    api.patch(f"{deployments}/a/scale", {"spec": {"replicas": 2}}).expect(200)
    eventually(lambda: not unscheduled(), "the one without a node to go first")
    api.patch(f"{deployments}/a/scale", {"spec": {"replicas": 0}}).expect(200)
    eventually(lambda: not api.get(pods).expect(200)["items"], "the GPUs to be free again")


def test_cold_starts_run_on_the_clusters_clock(cluster, api, pods):
    value = pod("a")
    value["metadata"]["annotations"] = {"test.weir.dev/cold-start": "3600"}
    api.post(pods, value).expect(201)
    eventually(lambda: api.get(f"{pods}/a").json()["spec"].get("nodeName"), "a node")
    assert not is_ready(api, f"{pods}/a")
    before = cluster.control("GET", "/state")["clock"]
    after = cluster.control("POST", "/clock", {"advance": 3600})["clock"]
    assert after >= before + 3600
    eventually(lambda: is_ready(api, f"{pods}/a"), "the start")


def test_readiness_can_be_taken_away(api, pods):
    api.post(pods, pod("a")).expect(201)
    eventually(lambda: is_ready(api, f"{pods}/a"), "the pod to be ready")
    api.patch(f"{pods}/a", {"metadata": {"annotations": {"test.weir.dev/ready": "false"}}}).expect(
        200
    )
    eventually(lambda: not is_ready(api, f"{pods}/a"), "the pod to be unready")


def test_stateful_sets_go_in_order(api, pods, pod_namespace):
    value = deployment("a", 2)
    value["kind"] = "StatefulSet"
    path = f"/apis/apps/v1/namespaces/{pod_namespace}/statefulsets"
    api.post(path, value).expect(201)
    eventually(
        lambda: api.get(f"{path}/a").json().get("status", {}).get("readyReplicas") == 2, "both"
    )
    found = api.get(pods).expect(200)["items"]
    assert [p["metadata"]["name"] for p in found] == ["a-0", "a-1"]
    api.patch(f"{path}/a/scale", {"spec": {"replicas": 1}}).expect(200)
    eventually(
        lambda: [p["metadata"]["name"] for p in api.get(pods).json()["items"]] == ["a-0"],
        "the highest to go",
    )


def test_progress_has_a_deadline(cluster, api, deployments):
    value = deployment("a", 1, [container(image="broken:1")])
    value["spec"]["progressDeadlineSeconds"] = 10
    api.post(deployments, value).expect(201)
    eventually(
        lambda: (
            condition(api.get(f"{deployments}/a").json(), "Progressing").get("reason")
            == "ProgressDeadlineExceeded"
        ),
        "the deadline",
    )


def test_slices_can_be_small_and_hold_duplicates(cluster, api, deployments, pod_namespace):
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{pod_namespace}/endpointslices"
    cluster.control(
        "POST",
        "/options",
        {"sliceEndpoints": 2, "duplicateEndpoints": True, "omitConditions": True},
    )
    try:
        services = f"/api/v1/namespaces/{pod_namespace}/services"
        api.post(services, objects.service("a")).expect(201)
        api.post(deployments, deployment("a", 4)).expect(201)

        def found():
            listed = [
                [e["addresses"][0] for e in s["endpoints"]]
                for s in api.get(slices).expect(200)["items"]
            ]
            flat = [address for each in listed for address in each]
            return len(listed) >= 2 and len(set(flat)) == 4 and len(flat) > 4

        eventually(found, "several slices with an endpoint in two")
        eventually(
            lambda: all(
                e["conditions"] == {}
                for s in api.get(slices).json()["items"]
                for e in s["endpoints"]
            ),
            "conditions that are left out",
        )
    finally:
        cluster.control(
            "POST",
            "/options",
            {"sliceEndpoints": 100, "duplicateEndpoints": False, "omitConditions": False},
        )


# Life ---------------------------------------------------------------------------------------------


def test_nothing_outlives_the_cluster(tmp_path):
    """Not even when it is killed."""
    cluster = conftest.TestCluster(tmp_path, "--image", f"python:*={sys.executable}")
    api = cluster.kube
    path = "/api/v1/namespaces/default"
    eventually(lambda: api.get(f"{path}/serviceaccounts/default").code == 200, "the account")
    api.post(f"{path}/pods", pod("a", [web_server()])).expect(201)
    eventually(lambda: is_ready(api, f"{path}/pods/a"), "the pod")
    states = api.get(f"{path}/pods/a").json()["status"]["containerStatuses"]
    number = int(states[0]["containerID"].split("//")[1])
    api.close()
    cluster.child.send_signal(signal.SIGKILL)
    cluster.child.wait(20)
    cluster.child.stdout.close()
    cluster.log.close()
    eventually(lambda: not os.path.exists(f"/proc/{number}"), "the process to be gone")


def test_the_cluster_ends_with_its_parent(tmp_path):
    script = (
        "import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-m', 'cluster',"
        f" '--folder', {str(tmp_path)!r}], stdout=subprocess.PIPE); child.stdout.readline();"
        " print(child.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script], cwd=conftest.HERE, stdout=subprocess.PIPE
    )
    number = int(parent.stdout.readline())
    parent.kill()
    parent.wait(20)
    parent.stdout.close()
    eventually(lambda: _gone(number), "the cluster to end with its parent")


def _gone(number):
    """Whether a process has ended; one that nobody waits for stays a zombie."""
    try:
        with open(f"/proc/{number}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
