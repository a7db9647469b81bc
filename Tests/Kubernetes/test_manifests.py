"""Every overlay builds; every object fits its schema, restricted pod security and narrow rights."""

import functools
import pathlib
import shutil
import subprocess

import kubernetes_validate
import pytest
import yaml

from test_definitions import SCHEMAS, definition_problems, server_fields, weir_problems

ROOT = pathlib.Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "manifests"
OVERLAYS = sorted(path.name for path in (MANIFESTS / "overlays").iterdir())
SAMPLES = sorted(path.name for path in (MANIFESTS / "samples").glob("*.yaml"))
# Kinds that another program's definitions describe.
FOREIGN = {"ServiceMonitor", "PrometheusRule"}
VERSIONS = ["1.29", "1.36"]


def builder():
    if shutil.which("kubectl"):
        return ["kubectl", "kustomize"]
    return ["kustomize", "build"] if shutil.which("kustomize") else None


needs_builder = pytest.mark.skipif(builder() is None, reason="kubectl and kustomize are missing")


@functools.cache
def built(folder):
    run = subprocess.run(
        [*builder(), str(MANIFESTS / folder)], capture_output=True, text=True, timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return list(yaml.safe_load_all(run.stdout))


def documents(path):
    return [doc for doc in yaml.safe_load_all(path.read_text(encoding="utf-8")) if doc]


def every_file():
    paths = sorted(MANIFESTS.rglob("*.yaml"))
    return [
        str(path.relative_to(MANIFESTS)) for path in paths if path.name != "kustomization.yaml"
    ]


def check_object(obj):
    if obj["kind"] in SCHEMAS:
        assert server_fields(obj) == []
    elif obj["kind"] not in FOREIGN:
        for version in VERSIONS:
            kubernetes_validate.validate(obj, version, strict=True)


def pod_spec(obj):
    return obj["spec"]["template"]["spec"] if obj["kind"] == "Deployment" else None


def check_pod_security(spec, name):
    """The restricted profile, and a read-only file system."""
    context = spec["securityContext"]
    assert context["runAsNonRoot"] is True and context["runAsUser"] > 0, name
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
    assert not any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")), name
    allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
    for volume in spec.get("volumes", []):
        assert set(volume) - {"name"} <= allowed, volume
    for container in spec["containers"] + spec.get("initContainers", []):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["readOnlyRootFilesystem"] is True, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name
        assert container["readinessProbe"] and container["resources"]["requests"], name
        assert container["resources"]["limits"]["memory"], name
        assert not any("hostPort" in port for port in container["ports"]), name


@pytest.mark.parametrize("name", every_file())
def test_every_object_fits_its_schema(name):
    for obj in documents(MANIFESTS / name):
        if obj["kind"] == "CustomResourceDefinition":
            schema = obj["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
            assert definition_problems(schema) == []
        check_object(obj)


@needs_builder
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_overlay_builds(overlay):
    objects = built(f"overlays/{overlay}")
    keys = [(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in objects]
    assert len(keys) == len(set(keys))
    for obj in objects:
        check_object(obj)
        if pod_spec(obj):
            check_pod_security(pod_spec(obj), obj["metadata"]["name"])
            images = [c["image"] for c in pod_spec(obj)["containers"]]
            assert all(":" in image and not image.endswith(":latest") for image in images)
    check_references(objects)


def check_references(objects):
    """What objects say of each other holds within one overlay."""
    by_key = {(o["kind"], o["metadata"]["name"]): o for o in objects}
    for obj in objects:
        if obj["kind"].endswith("RoleBinding"):
            assert (obj["roleRef"]["kind"], obj["roleRef"]["name"]) in by_key
            for subject in obj["subjects"]:
                account = by_key[("ServiceAccount", subject["name"])]
                assert subject["namespace"] == account["metadata"]["namespace"]
        if obj["kind"] == "Service":
            pods = [
                o["spec"]["template"] for o in objects
                if o["kind"] == "Deployment"
                and obj["spec"]["selector"].items() <= o["spec"]["template"]["metadata"][
                    "labels"].items()
            ]
            assert len(pods) == 1, obj["metadata"]["name"]
            ports = {p["name"] for c in pods[0]["spec"]["containers"] for p in c["ports"]}
            assert {port["targetPort"] for port in obj["spec"]["ports"]} <= ports
        if obj["kind"] == "HorizontalPodAutoscaler":
            target = by_key[("Deployment", obj["spec"]["scaleTargetRef"]["name"])]
            # Two that set the replicas would undo each other's work.
            assert "replicas" not in target["spec"]


@needs_builder
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_rights_are_narrow(overlay):
    roles = [o for o in built(f"overlays/{overlay}") if o["kind"] in ("Role", "ClusterRole")]
    assert roles
    for role in roles:
        if overlay == "namespaced":
            assert role["kind"] == "Role"
        for rule in role["rules"]:
            for part in ("apiGroups", "resources", "verbs"):
                assert "*" not in rule[part], role["metadata"]["name"]
            assert "secrets" not in rule["resources"]
            assert not {"escalate", "bind", "impersonate", "deletecollection"} & set(rule["verbs"])
            # Weir resizes workloads, brings the template of a Deployment back, and no more.
            writes = set(rule["verbs"]) & {"create", "delete", "update", "patch"}
            assert not writes or "statefulsets" not in rule["resources"]
            assert writes <= {"patch"} or "deployments" not in rule["resources"]


@needs_builder
def test_the_definitions_are_applied_together():
    kinds = {obj["spec"]["names"]["kind"] for obj in built("crds")}
    assert kinds == set(SCHEMAS)


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_whole(name):
    """What `weir check` says of a sample, and that its workloads are in it."""
    path = MANIFESTS / "samples" / name
    objects = documents(path)
    kinds = {*SCHEMAS, "Service", "Deployment"}
    if name == "tenant.yaml":
        kinds |= {"Role", "RoleBinding"}
        [rule] = next(obj["rules"] for obj in objects if obj["kind"] == "Role")
        assert rule["resources"] == ["secrets"] and rule["verbs"] == ["get"]
        tenant = next(obj for obj in objects if obj["kind"] == "Tenant")
        named = [key["secretRef"]["name"] for key in tenant["spec"]["keys"]]
        assert rule["resourceNames"] == named
    assert {obj["kind"] for obj in objects} <= kinds
    keys = {(obj["kind"], obj["metadata"]["name"]) for obj in objects}
    for obj in objects:
        if pod_spec(obj):
            check_pod_security(pod_spec(obj), obj["metadata"]["name"])
            assert "replicas" not in obj["spec"], "Weir says how many there are"
            # By this Service the gateway finds the pods.
            assert ("Service", obj["metadata"]["name"]) in keys


def test_samples_pass_weir_check(tmp_path):
    for name in SAMPLES:
        own = [o for o in documents(MANIFESTS / "samples" / name) if o["kind"] in SCHEMAS]
        if name == "canary.yaml":
            # It comes on top of the classifier, whose policy it goes on with.
            base = documents(MANIFESTS / "samples/classifier.yaml")
            own += [o for o in base if o["kind"] == "ScalingPolicy"]
        if name == "tenant.yaml":
            base = documents(MANIFESTS / "samples/classifier.yaml")
            own += [o for o in base if o["kind"] in ("Model", "ScalingPolicy")]
        path = tmp_path / name
        path.write_text(yaml.safe_dump_all(own), encoding="utf-8")
        assert weir_problems([path]) == [], name
