"""Weir on the test cluster: gateways, controllers and models, as the manifests would have them."""

import http.client
import json
import os
import pathlib
import threading
import time
import urllib.request
import uuid

import kube
import objects
import pytest
import yaml
from local import TestCluster

ROOT = pathlib.Path(__file__).parents[2]
WEIR = "weir:test"
PATH = "/v1/chat/completions"
WEIR_API = "/apis/weir.dev/v1alpha1"
APPS = "/apis/apps/v1"
# What the tests of this file and that have asked of their API servers.
REQUESTS = pytest.StashKey()


def weir_container(*args, ports=None, probe="/readyz", probe_port=9901):
    return objects.container(
        name="weir", image=WEIR, args=list(args),
        env=[{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        ports=[{"name": name, "containerPort": number} for name, number in (ports or {}).items()],
        # A busy machine is no reason to take a pod out of service.
        readinessProbe={"httpGet": {"path": probe, "port": probe_port}, "periodSeconds": 1,
                        "failureThreshold": 60, "timeoutSeconds": 30})


def rights():
    """The roles and bindings of the manifests, those for Secrets of tenants included."""
    files = ("base/rbac.yaml", "overlays/cluster/nodes.yaml", "samples/tenant.yaml")
    for file in files:
        text = (ROOT / "manifests" / file).read_text(encoding="utf-8")
        for value in yaml.safe_load_all(text):
            if "Role" in value["kind"]:
                yield value


def custom(kind, name, spec):
    return {"apiVersion": "weir.dev/v1alpha1", "kind": kind, "metadata": {"name": name},
            "spec": spec}


# Of pods: longer than any test waits, whatever the speed of the cluster's clock.
GRACE_SECONDS = 600
# Seconds after which another controller takes over.
LEASE = ("--lease-duration", "4", "--renew-deadline", "3", "--retry-period", "0.5")


def policy(name="standard", **spec):
    """A policy with windows of seconds, so that a test is over in some."""
    return custom("ScalingPolicy", name, {
        "targets": [{"type": "Concurrency", "value": "2"}],
        "windows": {"stable": "3s", "burst": "1s"},
        "scaleDown": {"stabilization": "0s", "maxPerMinute": 1000},
        "scaleToZero": {"idleAfter": "2s"},
        **spec,
    })


def model(name, minimum=0, maximum=6, **spec):
    return custom("Model", name, {
        "protocol": "OpenAI",
        "variants": [{"name": "main", "workloadRef": {
            "kind": "Deployment", "name": name, "port": 8000}}],
        "queue": {"capacity": 500, "timeout": "30s"},
        "scaling": {"policy": "standard", "minReplicas": minimum, "maxReplicas": maximum},
        **spec,
    })


def weir_cluster(request, folder, name, *arguments):
    """A test cluster for the tests of one file; what they asked of it is kept under the name."""
    cluster = TestCluster(folder, *arguments)
    yield cluster
    kept = request.config.stash.setdefault(REQUESTS, {})
    kept[name] = cluster.control("GET", "/requests")
    cluster.stop()


def fresh(cluster, request, more=(), about=None):
    """A namespace of its own with the definitions and roles; when a test failed it tells why.

    `more` names apps beside Weir's whose logs are told, `about` makes a text out of the fleet.
    """
    name = f"t-{uuid.uuid4().hex[:8]}"
    cluster.kube.post("/api/v1/namespaces", {
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).expect(201)
    path = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    kube.eventually(lambda: cluster.kube.get(path).code == 200, "the default service account")
    fleet = Fleet(cluster, name)
    fleet.install()
    yield fleet
    if request.session.testsfailed:
        if about:
            print(about(fleet))
        for app in ("weir-gateway", "weir-controller", *more):
            for path, text in fleet.log(app).items():
                print(f"== {path}\n{text[-20000:]}")
    cluster.control("DELETE", "/faults")
    for app in ("weir-controller", "weir-gateway"):
        cluster.kube.delete(fleet.path(APPS, "deployments", app))
    cluster.kube.delete(f"/api/v1/namespaces/{name}")


class Fleet:
    """A namespace with Weir in it."""

    def __init__(self, cluster, namespace):
        self.cluster, self.kube, self.namespace = cluster, cluster.kube, namespace
        self.token = pathlib.Path(cluster.ready["folder"]) / "admin-token"
        self.token.write_text("a token for tests", encoding="utf-8")

    # Objects ------------------------------------------------------------------------------------

    def path(self, group, plural, name=""):
        root = f"{group}/namespaces/{self.namespace}/{plural}"
        return f"{root}/{name}" if name else root

    def create(self, group, plural, value):
        return self.kube.post(self.path(group, plural), value).expect(201)

    def get(self, group, plural, name):
        return self.kube.get(self.path(group, plural, name)).expect(200)

    def install(self):
        """The custom resource definitions, and the rights that the manifests give, no others."""
        for file in sorted((ROOT / "manifests" / "crds").glob("*.yaml")):
            value = yaml.safe_load(file.read_text(encoding="utf-8"))
            if value.get("kind") != "CustomResourceDefinition":
                continue
            answer = self.kube.post(objects.DEFINITIONS, value)
            assert answer.code in (201, 409), answer.body
            plural = value["spec"]["names"]["plural"]
            kube.eventually(lambda plural=plural: self.kube.get(f"{WEIR_API}/{plural}").code == 200,
                            f"{plural} to be served")
        for name in ("weir-gateway", "weir-controller"):
            self.create("/api/v1", "serviceaccounts", {
                "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
        for value in rights():
            self.grant(value)

    def grant(self, value):
        """A role or its binding, for the accounts of this namespace."""
        rbac = "/apis/rbac.authorization.k8s.io/v1"
        for subject in value.get("subjects") or ():
            subject["namespace"] = self.namespace
        if not value["kind"].startswith("Cluster"):
            self.create(rbac, value["kind"].lower() + "s", value)
            return
        # One for each namespace of the tests.
        value["metadata"]["name"] += f"-{self.namespace}"
        if "roleRef" in value:
            value["roleRef"]["name"] += f"-{self.namespace}"
        self.kube.post(f"{rbac}/{value['kind'].lower()}s", value).expect(201)

    def gateways(self, count=1, *more):
        self.create(APPS, "deployments", objects.deployment(
            "weir-gateway", count, [weir_container(
                "gateway", "--listen", "$(POD_IP):8080", "--admin", "$(POD_IP):9901",
                "--admin-token-file", str(self.token), "--drain-delay", "2", *more,
                ports={"http": 8080, "admin": 9901})],
            terminationGracePeriodSeconds=GRACE_SECONDS, serviceAccountName="weir-gateway"))
        value = objects.service("weir-gateway", 80, 8080)
        value["spec"]["ports"].append({"name": "admin", "port": 9901, "targetPort": 9901})
        self.create("/api/v1", "services", value)

    def controllers(self, count=1, *more):
        self.create(APPS, "deployments", objects.deployment(
            "weir-controller", count, [weir_container(
                "controller", "--admin", "$(POD_IP):9901", "--gateway-token-file",
                str(self.token), *LEASE, *more, ports={"admin": 9901})],
            serviceAccountName="weir-controller"))

    def simulator(self, name, *arguments):
        """A container with a model simulator."""
        container = weir_container(
            "model-simulator", "--host", "$(POD_IP)", "--port", "8000", "--model", name,
            "--replica", "$(POD_NAME)", *arguments, ports={"http": 8000}, probe="/health",
            probe_port=8000)
        container["env"].append({"name": "POD_NAME", "valueFrom": {
            "fieldRef": {"fieldPath": "metadata.name"}}})
        return container

    def workload(self, name, replicas=0, *arguments, service=True, **container):
        """A Deployment of model simulators and its Service; `container` replaces fields."""
        self.create(APPS, "deployments", objects.deployment(
            name, replicas, [{**self.simulator(name, *arguments), **container}],
            terminationGracePeriodSeconds=GRACE_SECONDS))
        if service:
            self.create("/api/v1", "services", objects.service(name, 80, 8000))

    # What there is ------------------------------------------------------------------------------

    def pods(self, app, ready=None):
        items = self.kube.get(self.path("/api/v1", "pods"), labelSelector=f"app={app}").expect(
            200)["items"]
        if ready is None:
            return items
        return [pod for pod in items if is_ready(pod) == ready
                and not pod["metadata"].get("deletionTimestamp")]

    def wait_ready(self, app, count, timeout=kube.WAIT_SECONDS):
        return kube.eventually(lambda: len(self.pods(app, True)) == count and self.pods(app, True),
                               f"{count} ready pods of {app}", timeout)

    def addresses(self):
        """A function for a thread of its own that gives those of the gateways that are ready."""
        own = Fleet(self.cluster, self.namespace)
        own.kube = kube.Kube(self.kube.kubeconfig)
        return own.gateway_addresses

    def admin(self, app, path):
        """What the first ready pod's admin API answers to a GET."""
        address = self.pods(app, True)[0]["status"]["podIP"]
        with urllib.request.urlopen(f"http://{address}:9901{path}", timeout=30) as answer:
            return json.load(answer)

    def gateway_addresses(self):
        return [f"{pod['status']['podIP']}:8080" for pod in self.pods("weir-gateway", True)]

    def replicas(self, name):
        return self.get(APPS, "deployments", name)["spec"]["replicas"]

    def condition(self, name, kind, plural="models"):
        found = self.get(WEIR_API, plural, name).get("status", {}).get("conditions") or []
        return next((c for c in found if c["type"] == kind), None)

    def said(self, name, kind, reason, plural="models"):
        """The condition with this reason, once it is there."""
        return kube.eventually(
            lambda: (c := self.condition(name, kind, plural)) and c["reason"] == reason and c,
            f"{kind} of {name} to say {reason}")

    def events(self, name, reason, kind="Model"):
        """The events about an object with this reason."""
        found = self.kube.get(self.path("/apis/events.k8s.io/v1", "events")).expect(200)["items"]
        return [event for event in found if event["reason"] == reason
                and event["regarding"]["kind"] == kind and event["regarding"]["name"] == name]

    def delete_pod(self, pod, grace=None):
        body = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        return self.kube.delete(self.path("/api/v1", "pods", pod["metadata"]["name"]), body)

    def log(self, app):
        """Of every pod there was, for when a test fails."""
        folder = pathlib.Path(self.cluster.ready["folder"]) / "pods"
        return {str(path): path.read_text(encoding="utf-8", errors="replace")
                for path in folder.glob(f"{self.namespace}_{app}-*/log")}


def is_ready(pod):
    return any(c["type"] == "Ready" and c["status"] == "True"
               for c in pod["status"].get("conditions") or ())


def ask(address, name, tokens=4, timeout=30, **headers):
    """One chat completion: its status and body."""
    host, port = address.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
    try:
        connection.request("POST", PATH, body(name, tokens),
                           {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def body(name, tokens=4):
    return json.dumps({"model": name, "max_tokens": tokens, "messages": [
        {"role": "user", "content": "How deep is the river?"}]})


class Clients:
    """Clients that ask for answers one after the other, until told to stop.

    Each keeps to one gateway, and goes to the next one when that refuses connections or has closed
    an idle one, as any client behind a Service does; a request that was answered badly, or was cut
    off while it was answered, is a failure.
    """

    def __init__(self, addresses, name, threads=4, tokens=4):
        self.lookup, self.name, self.tokens = addresses, name, tokens
        self.addresses = addresses()
        self.answers, self.failures = [], []
        self.stopping = threading.Event()
        self.active = threads
        self.threads = [threading.Thread(target=self._run, args=(i,)) for i in range(threads)]
        self.threads.append(threading.Thread(target=self._look))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def _look(self):
        """Follows the gateways that are ready, as the nodes' proxies do; keeps to what it knows."""
        while not self.stopping.wait(0.1):
            try:
                self.addresses = self.lookup() or self.addresses
            except (OSError, http.client.HTTPException, AssertionError):
                pass

    def _run(self, number):
        connection, turn, fresh = None, number, True
        while not self.stopping.is_set():
            addresses = self.addresses if number < self.active else []
            if not addresses:
                time.sleep(0.02)
                continue
            if connection is None:
                host, port = addresses[turn % len(addresses)].rsplit(":", 1)
                connection, fresh = http.client.HTTPConnection(host, int(port), timeout=40), True
                try:
                    connection.connect()
                except OSError:
                    connection, turn = None, turn + 1
                    time.sleep(0.01)
                    continue
            if self._ask(connection, fresh):
                fresh = False
            else:
                connection.close()
                connection, turn = None, turn + 1
        if connection:
            connection.close()

    def _ask(self, connection, fresh):
        """One request; whether the connection can be used again."""
        began, answer = time.monotonic(), None
        try:
            connection.request("POST", PATH, body(self.name, self.tokens),
                               {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
            # Without a byte of an answer: an idle connection may be closed at any time.
            if fresh or answer:
                self.failures.append(repr(error))
            return False
        except (OSError, http.client.HTTPException) as error:
            self.failures.append(repr(error))
            return False
        if answer.status == 200:
            self.answers.append(time.monotonic() - began)
        else:
            self.failures.append(f"{answer.status} {text[:300]!r}")
        return answer.headers.get("Connection") != "close"

    def wait_for(self, count, timeout=kube.WAIT_SECONDS):
        goal = len(self.answers) + count
        kube.eventually(lambda: len(self.answers) >= goal, f"{count} more answers", timeout)


def binary():
    return os.environ.get("WEIR_BINARY")
