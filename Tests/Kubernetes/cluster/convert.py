"""Kinds that look different from version to version: how each turns into what is stored.

Events of the core group and of events.k8s.io are the same objects; they are stored as the latter.
"""

EVENT_NAMES = {
    "involvedObject": "regarding",
    "message": "note",
    "reportingComponent": "reportingController",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
}
_EVENT_BACK = {new: old for old, new in EVENT_NAMES.items()}


def _rename(value, names):
    return {names.get(key, key): inner for key, inner in value.items()}


def _each_endpoint(value, change):
    return {**value, "endpoints": [change(dict(e)) for e in value.get("endpoints") or ()]}


def _slice_from_beta(value):
    """`topology` held the zone, and the node before there was `nodeName`."""

    def change(endpoint):
        topology = dict(endpoint.pop("topology", None) or {})
        zone = topology.pop("topology.kubernetes.io/zone", None)
        node = topology.pop("kubernetes.io/hostname", None)
        if zone:
            endpoint["zone"] = zone
        if node:
            endpoint.setdefault("nodeName", node)
        if topology:
            endpoint["deprecatedTopology"] = topology
        return endpoint

    return _each_endpoint(value, change)


def _slice_to_beta(value):
    def change(endpoint):
        topology = dict(endpoint.pop("deprecatedTopology", None) or {})
        zone = endpoint.pop("zone", None)
        if zone:
            topology["topology.kubernetes.io/zone"] = zone
        if endpoint.get("nodeName"):
            topology["kubernetes.io/hostname"] = endpoint["nodeName"]
        if topology:
            endpoint["topology"] = topology
        return endpoint

    return _each_endpoint(value, change)


def _autoscaler_from_v1(value):
    spec = dict(value.get("spec") or {})
    percent = spec.pop("targetCPUUtilizationPercentage", None)
    if percent is not None:
        target = {"type": "Utilization", "averageUtilization": percent}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    return {**value, "spec": spec}


def _autoscaler_to_v1(value):
    spec = dict(value.get("spec") or {})
    for metric in spec.pop("metrics", None) or ():
        target = (metric.get("resource") or {}).get("target") or {}
        if "averageUtilization" in target:
            spec["targetCPUUtilizationPercentage"] = target["averageUtilization"]
    spec.pop("behavior", None)
    return {**value, "spec": spec}


_CONVERSIONS = {
    ("", "events", "v1"): (
        lambda value: _rename(value, EVENT_NAMES),
        lambda value: _rename(value, _EVENT_BACK),
    ),
    ("discovery.k8s.io", "endpointslices", "v1beta1"): (_slice_from_beta, _slice_to_beta),
    ("autoscaling", "horizontalpodautoscalers", "v1"): (_autoscaler_from_v1, _autoscaler_to_v1),
}


def to_storage(resource, value, version):
    change = _CONVERSIONS.get((resource.group, resource.plural, version))
    return change[0](value) if change else value


def to_version(resource, value, version):
    change = _CONVERSIONS.get((resource.group, resource.plural, version))
    return change[1](value) if change else value
