"""Weir's manifests for pods that are processes of one machine.

Those share its addresses and files: each listens on its pod's address instead of on all, reads the
admin token where it is, and the model simulator stands in for the sample's model server.
"""

import pathlib

import yaml

ROOT = pathlib.Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"
# What base and samples are made of: the kind to where its objects are.
PLURALS = {
    "Deployment": ("/apis/apps/v1", "deployments"),
    "Model": ("/apis/weir.dev/v1alpha1", "models"),
    "Role": ("/apis/rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "rolebindings"),
    "ScalingPolicy": ("/apis/weir.dev/v1alpha1", "scalingpolicies"),
    "Secret": ("/api/v1", "secrets"),
    "Service": ("/api/v1", "services"),
    "ServiceAccount": ("/api/v1", "serviceaccounts"),
    "Tenant": ("/apis/weir.dev/v1alpha1", "tenants"),
}


def documents(path):
    return [d for d in yaml.safe_load_all(path.read_text(encoding="utf-8")) if d]


def definitions():
    return [value for path in sorted((MANIFESTS / "crds").glob("*.yaml"))
            for value in documents(path) if value["kind"] == "CustomResourceDefinition"]


def base(namespace, token):
    """Roles, gateways and controllers for a namespace; `token` is the file of the admin API's."""
    found = []
    for name in ("rbac", "gateway", "controller"):
        for value in documents(MANIFESTS / f"base/{name}.yaml"):
            for subject in value.get("subjects", ()):
                subject["namespace"] = namespace
            if value["kind"] == "Deployment":
                container = value["spec"]["template"]["spec"]["containers"][0]
                container["image"] = "weir:test"
                container["args"] = [
                    a.replace("0.0.0.0", "$(POD_IP)").replace("/etc/weir/admin/token", str(token))
                    for a in container["args"]]
            found.append(value)
    return found


def language_model():
    """The sample of a language model, with no replica yet.

    The simulator takes each name that is served as a --model of its own.
    """
    found = documents(MANIFESTS / "samples/llm.yaml")
    for value in found:
        if value["kind"] == "Deployment":
            value["spec"]["replicas"] = 0
            container = value["spec"]["template"]["spec"]["containers"][0]
            names = container["args"][container["args"].index("--served-model-name") + 1:]
            container["args"] = ["--port=8000", *(f"--model={name}" for name in names)]
    return found


def team(namespace, model):
    """The sample of a tenant that may use one model, and its role."""
    found = documents(MANIFESTS / "samples/tenant.yaml")
    for value in found:
        for subject in value.get("subjects", ()):
            subject["namespace"] = namespace
        if value["kind"] == "Tenant":
            value["spec"]["models"] = [model]
    return found


def path(namespace, kind, name=""):
    group, plural = PLURALS[kind]
    return f"{group}/namespaces/{namespace}/{plural}" + (f"/{name}" if name else "")
