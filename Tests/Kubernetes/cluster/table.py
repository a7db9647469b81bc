"""Objects as tables, the way kubectl prints them."""

import datetime
import re

from . import clock


def wanted(http):
    """Whether a client asks for tables, and would not take objects first."""
    for part in http.headers.get("Accept", "").split(","):
        if "as=Table" in part:
            return "v=v1beta1" not in part
        if part.strip().startswith("application/json"):
            return False
    return False


def age(text):
    """How long ago a moment was, in kubectl's words."""
    if not text:
        return "<unknown>"
    now = datetime.datetime.now(datetime.timezone.utc).timestamp()
    seconds = int(now - clock.parse_stamp(text))
    return duration(seconds)


def duration(seconds):
    if seconds < 0:
        return "0s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    return f"{days}d"


def json_path(value, path):
    """The values at a simple JSON path: fields, indices, `[*]` and `[?(@.a=="b")]`."""
    found = [value]
    for match in re.finditer(
        r"\.((?:[^.\[\]\\]|\\.)+)|\[(\d+)\]|(\[\*\])"
        r"|\[\?\(@\.([A-Za-z0-9_.]+)\s*==\s*['\"]([^'\"]*)['\"]\)\]",
        path,
    ):
        name, index, every, key, wanted_value = match.groups()
        following = []
        for item in found:
            if name is not None:
                name = name.replace("\\", "")
                if isinstance(item, dict) and name in item:
                    following.append(item[name])
            elif isinstance(item, list):
                if index is not None:
                    following += item[int(index) : int(index) + 1]
                elif every:
                    following += item
                else:
                    following += [
                        i for i in item if isinstance(i, dict) and str(i.get(key)) == wanted_value
                    ]
        found = following
    return found


def _cell(value, column):
    found = json_path(value, column["jsonPath"])
    if not found:
        return None
    if column["type"] == "date":
        return age(found[0])
    if len(found) > 1:
        return ",".join(str(item) for item in found)
    item = found[0]
    if column["type"] == "string" and not isinstance(item, str):
        if isinstance(item, bool):
            return str(item).lower()
        return str(item)
    return item


def _custom_columns(resource, version):
    columns = [
        {
            "name": "Name",
            "type": "string",
            "format": "name",
            "priority": 0,
            "description": "Name must be unique within a namespace.",
            "cell": lambda v: v["metadata"]["name"],
        }
    ]
    listed = resource.custom[version]["columns"]
    if not listed:
        listed = [{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]
    for column in listed:
        columns.append(
            {
                "name": column["name"],
                "type": column["type"],
                "format": column.get("format", ""),
                "description": column.get("description", ""),
                "priority": column.get("priority", 0),
                "cell": lambda value, column=column: _cell(value, column),
            }
        )
    return columns


# Built-in kinds ---------------------------------------------------------------------------------


def _status(value):
    return value.get("status") or {}


def _pod_ready(pod):
    states = _status(pod).get("containerStatuses") or ()
    return f"{sum(bool(s.get('ready')) for s in states)}/{len(pod['spec']['containers'])}"


def _pod_phase(pod):
    reason = _status(pod).get("reason") or _status(pod).get("phase", "")
    for state in _status(pod).get("containerStatuses") or ():
        inner = state.get("state") or {}
        if (inner.get("waiting") or {}).get("reason"):
            reason = inner["waiting"]["reason"]
        elif (inner.get("terminated") or {}).get("reason"):
            reason = inner["terminated"]["reason"]
    return "Terminating" if pod["metadata"].get("deletionTimestamp") else reason


def _restarts(pod):
    return sum(s.get("restartCount", 0) for s in _status(pod).get("containerStatuses") or ())


def _ports(service):
    return (
        ",".join(f"{p['port']}/{p['protocol']}" for p in service["spec"].get("ports") or ())
        or "<none>"
    )


def _condition(kind):
    return lambda value: next(
        (c["status"] for c in _status(value).get("conditions") or () if c["type"] == kind), ""
    )


def _node_ready(node):
    word = "Ready" if _condition("Ready")(node) == "True" else "NotReady"
    return word + (",SchedulingDisabled" if node["spec"].get("unschedulable") else "")


def _count(field):
    return lambda value: _status(value).get(field, 0)


def _spec(field, missing="<none>"):
    def cell(value):
        found = (value.get("spec") or {}).get(field)
        return missing if found is None else found

    return cell


def _addresses(value):
    found = [a for e in value.get("endpoints") or () for a in e["addresses"]]
    return (
        ",".join(found[:3]) + (f" + {len(found) - 3} more..." if len(found) > 3 else "")
        or "<unset>"
    )


def _event_subject(value):
    subject = value.get("regarding") or value.get("involvedObject") or {}
    return f"{subject.get('kind', '').lower()}/{subject.get('name', '')}"


def _event_seen(value):
    return age(
        value.get("lastTimestamp")
        or value.get("deprecatedLastTimestamp")
        or value.get("eventTime")
        or value["metadata"]["creationTimestamp"]
    )


_COLUMNS = {
    "pods": [
        ("Ready", _pod_ready),
        ("Status", _pod_phase),
        ("Restarts", _restarts, "integer"),
        "Age",
        ("IP", lambda v: _status(v).get("podIP", "<none>"), "string", 1),
        ("Node", _spec("nodeName"), "string", 1),
    ],
    "deployments": [
        ("Ready", lambda v: f"{_count('readyReplicas')(v)}/{v['spec']['replicas']}"),
        ("Up-to-date", _count("updatedReplicas"), "integer"),
        ("Available", _count("availableReplicas"), "integer"),
        "Age",
    ],
    "replicasets": [
        ("Desired", _spec("replicas"), "integer"),
        ("Current", _count("replicas"), "integer"),
        ("Ready", _count("readyReplicas"), "integer"),
        "Age",
    ],
    "statefulsets": [
        ("Ready", lambda v: f"{_count('readyReplicas')(v)}/{v['spec']['replicas']}"),
        "Age",
    ],
    "services": [
        ("Type", _spec("type")),
        ("Cluster-IP", _spec("clusterIP")),
        ("External-IP", lambda v: "<none>"),
        ("Port(s)", _ports),
        "Age",
    ],
    "nodes": [
        ("Status", _node_ready),
        ("Roles", lambda v: "<none>"),
        "Age",
        ("Version", lambda v: (_status(v).get("nodeInfo") or {}).get("kubeletVersion", "")),
    ],
    "namespaces": [("Status", lambda v: _status(v).get("phase", "")), "Age"],
    "endpointslices": [
        ("AddressType", lambda v: v["addressType"]),
        (
            "Ports",
            lambda v: ",".join(str(p.get("port")) for p in v.get("ports") or ()) or "<unset>",
        ),
        ("Endpoints", _addresses),
        "Age",
    ],
    "leases": [("Holder", _spec("holderIdentity", "")), "Age"],
    "events": [
        ("Last Seen", _event_seen),
        ("Type", lambda v: v.get("type", "")),
        ("Reason", lambda v: v.get("reason", "")),
        ("Object", _event_subject),
        ("Message", lambda v: v.get("note") or v.get("message", "")),
    ],
    "customresourcedefinitions": [("Created At", lambda v: v["metadata"]["creationTimestamp"])],
    "poddisruptionbudgets": [
        ("Min Available", _spec("minAvailable", "N/A")),
        ("Max Unavailable", _spec("maxUnavailable", "N/A")),
        ("Allowed Disruptions", _count("disruptionsAllowed"), "integer"),
        "Age",
    ],
    "configmaps": [("Data", lambda v: len(v.get("data") or {}), "integer"), "Age"],
    "secrets": [
        ("Type", lambda v: v.get("type", "")),
        ("Data", lambda v: len(v.get("data") or {}), "integer"),
        "Age",
    ],
}


def _builtin_columns(resource):
    columns = [
        {
            "name": "Name",
            "type": "string",
            "format": "name",
            "priority": 0,
            "description": "",
            "cell": lambda v: v["metadata"]["name"],
        }
    ]
    if resource.plural == "events":
        columns = []
    for entry in _COLUMNS.get(resource.plural, ["Age"]):
        if entry == "Age":
            entry = ("Age", lambda v: age(v["metadata"].get("creationTimestamp")))
        name, cell, kind, priority = entry + ("string", 0)[len(entry) - 2 :]
        columns.append(
            {
                "name": name,
                "type": kind,
                "format": "",
                "priority": priority,
                "description": "",
                "cell": cell,
            }
        )
    return columns


def of(resource, version, values, meta, query, columns=True):
    """The table of objects that are already in the version asked for."""
    shown = (
        _custom_columns(resource, version)
        if resource.custom is not None
        else _builtin_columns(resource)
    )
    include = query.get("includeObject", "Metadata")
    rows = []
    for value in values:
        row = {"cells": [column["cell"](value) for column in shown]}
        if include == "Object":
            row["object"] = value
        elif include == "Metadata":
            row["object"] = {
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": value["metadata"],
            }
        rows.append(row)
    definitions = [{k: v for k, v in column.items() if k != "cell"} for column in shown]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": meta,
        "columnDefinitions": definitions if columns else None,
        "rows": rows,
    }
