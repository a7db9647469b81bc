"""The scale subresource: one object's replicas in the shape that all scalable kinds share."""

from . import selectors, status
from .store import copy


def _paths(resource, version):
    if resource.custom is not None:
        return resource.custom[version or resource.storage_version]["subresources"]["scale"]
    return {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}


def _at(value, path):
    for name in path.strip(".").split(".") if path else ():
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def of(resource, version, value):
    paths, meta = _paths(resource, version), value["metadata"]
    replicas = _at(value, paths["specReplicasPath"])
    if replicas is None:
        raise status.internal(
            f'the spec replicas field "{paths["specReplicasPath"]}" does not exist'
        )
    if resource.custom is not None:
        selector = _at(value, paths.get("labelSelectorPath"))
    else:
        selector = selectors.selector_text(value["spec"].get("selector"))
    shown = {
        name: meta[name]
        for name in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        if name in meta
    }
    answer = {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": shown,
        "spec": {"replicas": replicas},
        "status": {"replicas": _at(value, paths["statusReplicasPath"]) or 0},
    }
    if not replicas:
        answer["spec"] = {}
    if selector and isinstance(selector, str):
        answer["status"]["selector"] = selector
    return answer


def applied(resource, version, old, value):
    """The object with the replicas that a Scale object asks for."""
    name = old["metadata"]["name"]
    if value.get("kind") != "Scale" or not str(value.get("apiVersion", "")).startswith(
        "autoscaling/"
    ):
        raise status.bad_request("the object provided is unrecognized (must be of type Scale)")
    meta = value.get("metadata") or {}
    if meta.get("name", name) != name:
        raise status.bad_request(
            f"the name of the object ({meta['name']}) does not match the name on the URL ({name})"
        )
    replicas = (value.get("spec") or {}).get("replicas") or 0
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        raise status.bad_request(
            'Scale in version "v1" cannot be handled as a Scale: json: cannot'
            " unmarshal into Go struct field ScaleSpec.spec.replicas of type int32"
        )
    if replicas < 0:
        problem = status.invalid_value(
            "spec.replicas", replicas, "must be greater than or equal to 0"
        )
        raise status.ApiError(
            422,
            f'Scale.autoscaling "{name}" is invalid: {problem}',
            "Invalid",
            {"name": name, "group": "autoscaling", "kind": "Scale", "causes": [problem.cause()]},
        )
    new = copy(old)
    for field in ("resourceVersion", "uid"):
        if meta.get(field):
            new["metadata"][field] = meta[field]
    place = new
    *parents, last = _paths(resource, version)["specReplicasPath"].strip(".").split(".")
    for part in parents:
        place = place.setdefault(part, {})
    place[last] = replicas
    return new
