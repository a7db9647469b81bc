"""Objects that the tests make."""

import copy

import kube

GROUP = "test.weir.dev"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
CORE, APPS = "/api/v1/namespaces/{}", "/apis/apps/v1/namespaces/{}"
# No node has it, so that no scheduler and no kubelet touches the pods: the tests play their parts.
NOWHERE = {"test.weir.dev/nowhere": "true"}

SPEC = {
    "type": "object",
    "required": ["size"],
    "properties": {
        "size": {"type": "integer", "minimum": 0, "maximum": 100},
        "color": {"type": "string", "enum": ["red", "green"], "default": "red"},
        "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 10},
        "note": {"type": "string", "nullable": True},
        "parts": {
            "type": "array",
            "maxItems": 5,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string"},
                    "count": {"type": "integer", "default": 1},
                    "label": {"type": "string"},
                },
            },
        },
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "words": {"type": "array", "items": {"type": "string"}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "weights": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}},
    },
}
STATUS = {
    "type": "object",
    "properties": {
        "size": {"type": "integer"},
        "selector": {"type": "string"},
        "phase": {"type": "string"},
    },
}


def widget_definition(rules=None, plural="widgets", kind="Widget", **fields):
    """The definition of a kind for tests; `fields` are further ones of its spec."""
    spec = copy.deepcopy(SPEC)
    spec["properties"].update(fields)
    if rules:
        spec["x-kubernetes-validations"] = rules
    schema = {
        "openAPIV3Schema": {
            "type": "object",
            "description": "A thing for tests.",
            "properties": {"spec": spec, "status": STATUS},
        }
    }
    scale = {
        "specReplicasPath": ".spec.size",
        "statusReplicasPath": ".status.size",
        "labelSelectorPath": ".status.selector",
    }
    version = {
        "served": True,
        "schema": schema,
        "subresources": {"status": {}, "scale": scale},
        "additionalPrinterColumns": [
            {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "plural": plural,
                "singular": kind.lower(),
                "kind": kind,
                "shortNames": [plural[:2]],
                "categories": ["things"],
            },
            "versions": [
                {**copy.deepcopy(version), "name": "v1", "storage": True},
                {**version, "name": "v1beta1", "storage": False, "deprecated": True},
            ],
        },
    }


def wait_served(access, plural="widgets"):
    path = f"{DEFINITIONS}/{plural}.{GROUP}"

    def established():
        conditions = access.get(path).json().get("status", {}).get("conditions") or []
        return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)

    kube.eventually(established, "the definition to be established")
    root = f"/apis/{GROUP}/v1"
    kube.eventually(lambda: access.get(f"{root}/{plural}").code == 200, "the kind to be served")
    return root


def widget(title, size=1, **spec):
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "Widget",
        "metadata": {"name": title},
        "spec": {"size": size, **spec},
    }


def config_map(name, labels=None, **data):
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": labels or {}},
        "data": data,
    }


def container(**fields):
    return {"name": "main", "image": "pause:1", **fields}


def pod(name, containers=None, **spec):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "containers": containers or [container()],
            # Before 1.24, a pod with a token waits until there is one.
            "automountServiceAccountToken": False,
            **spec,
        },
    }


def deployment(name, replicas=1, containers=None, strategy=None, annotations=None, **spec):
    labels = {"app": name}
    value = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": annotations or {}},
                "spec": {"containers": containers or [container()], **spec},
            },
        },
    }
    if strategy:
        value["spec"]["strategy"] = strategy
    return value


def service(name, port=80, target=8000):
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {
            "selector": {"app": name},
            "ports": [{"name": "http", "port": port, "targetPort": target}],
        },
    }


def names(listed):
    """The names of a list's items."""
    return [item["metadata"]["name"] for item in listed["items"]]
