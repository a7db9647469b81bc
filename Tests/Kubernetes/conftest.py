"""Fixtures: a test cluster, or the one that WEIR_TEST_KUBECONFIG names, and namespaces in it."""

import json
import os
import pathlib
import signal
import sys
import urllib.request
import uuid

import pytest

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))

import kube  # noqa: E402 (the line above makes it visible)
import objects  # noqa: E402
from local import TestCluster  # noqa: E402

TEST_SECONDS = 240


@pytest.fixture(autouse=True)
def deadline():
    """No test may hang."""

    def expired(*_):
        raise TimeoutError(f"the test took more than {TEST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(TEST_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


class Target:
    """The cluster under test and what it can do."""

    def __init__(self, access, compact):
        self.kube, self.compact = access, compact
        version = access.get("/version").expect(200)
        self.minor = int("".join(c for c in version["minor"] if c.isdigit()))

    def needs(self, minor, what):
        if self.minor < minor:
            pytest.skip(f"{what} came with 1.{minor}, and this is 1.{self.minor}")


def _compact_etcd():
    """Makes etcd forget all history, where the tests may reach it."""
    etcd = os.environ.get("ETCD")
    if not etcd:
        pytest.skip("history can only be compacted where the tests reach etcd (ETCD)")

    def post(path, value):
        request = urllib.request.Request(etcd + path, data=json.dumps(value).encode())
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    key = "Lw=="  # "/"
    revision = post("/v3/kv/range", {"key": key, "limit": 1})["header"]["revision"]
    post("/v3/kv/compaction", {"revision": revision, "physical": True})


@pytest.fixture(scope="session")
def target(tmp_path_factory):
    path = os.environ.get("WEIR_TEST_KUBECONFIG")
    if path:
        yield Target(kube.Kube(path), _compact_etcd)
        return
    cluster = TestCluster(tmp_path_factory.mktemp("cluster"), "--scale", "10")
    yield Target(cluster.kube, lambda: cluster.control("POST", "/compact"))
    cluster.stop()


@pytest.fixture(scope="session")
def test_cluster(tmp_path_factory):
    """A test cluster with nodes, for what only it can do."""
    cluster = TestCluster(
        tmp_path_factory.mktemp("nodes"),
        "--scale",
        "20",
        "--node",
        "gpu-1:nvidia.com/gpu=2",
        "--node",
        "cpu-1",
        "--bookmark-seconds",
        "0.1",
        "--image",
        f"python:*={sys.executable}",
        "--image",
        "broken:*=missing",
    )
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def widgets(target):
    """The definition of widgets is served; the path prefix of its group and version."""
    made = target.kube.post(objects.DEFINITIONS, objects.widget_definition())
    assert made.code in (201, 409), made.body
    yield objects.wait_served(target.kube)
    target.kube.delete(f"{objects.DEFINITIONS}/widgets.{objects.GROUP}")


@pytest.fixture
def api(target):
    return target.kube


@pytest.fixture
def maps(namespace):
    return objects.CORE.format(namespace) + "/configmaps"


@pytest.fixture
def pods(namespace):
    return objects.CORE.format(namespace) + "/pods"


@pytest.fixture
def deployments(namespace):
    return objects.APPS.format(namespace) + "/deployments"


@pytest.fixture
def things(widgets, namespace):
    """The collection of widgets in the test's namespace."""
    return f"{widgets}/namespaces/{namespace}/widgets"


@pytest.fixture
def namespace(target):
    yield from _namespace(target.kube)


@pytest.fixture
def pod_namespace(test_cluster):
    yield from _namespace(test_cluster.kube)


def _namespace(access):
    name = f"t-{uuid.uuid4().hex[:8]}"
    access.post(
        "/api/v1/namespaces", {"metadata": {"name": name}, "apiVersion": "v1", "kind": "Namespace"}
    ).expect(201)
    path = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    kube.eventually(lambda: access.get(path).code == 200, "the default service account")
    yield name
    access.delete(f"/api/v1/namespaces/{name}")
