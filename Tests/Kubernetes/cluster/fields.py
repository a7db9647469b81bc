"""Server-side apply and who manages which field (`metadata.managedFields`).

A set of fields is a set of paths; a path is a tuple of elements written as FieldsV1 writes them:
`f:name` for a field, `k:{"name":"x"}` for an item of a keyed list, `v:"x"` for one of a set.
"""

import json

from . import builtin, clock, status
from .store import copy

APPLIED = "\0applied"
MANAGER_CHARACTERS_MAX = 128
# Fields that nobody manages.
UNMANAGED = frozenset(
    {("f:apiVersion",), ("f:kind",), ("f:metadata",)}
    | {
        ("f:metadata", f"f:{name}")
        for name in (
            "name",
            "namespace",
            "creationTimestamp",
            "selfLink",
            "uid",
            "clusterName",
            "generation",
            "managedFields",
            "resourceVersion",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
        )
    }
)


# Walking by schema ------------------------------------------------------------------------------


def _schema(resource):
    """The schema of a kind's objects, with the metadata that a definition leaves out."""
    known = resource.schema() or {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    if resource.custom is None:
        return known
    properties = {**known.get("properties", {}), "metadata": builtin.types()["ObjectMeta"]}
    return {**known, "properties": properties}


def _list_kind(schema):
    return (schema or {}).get("x-kubernetes-list-type", "atomic")


def _item_element(item, schema, index):
    """The path element of a list's item, or None for a list that is one value."""
    kind = _list_kind(schema)
    if kind == "set":
        return "v:" + json.dumps(item, separators=(",", ":"), sort_keys=True)
    if kind == "map" and isinstance(item, dict):
        inner = builtin.items(schema) or {}
        keys = {}
        for key in schema["x-kubernetes-list-map-keys"]:
            value = item.get(key, (builtin.child(inner, key) or {}).get("default"))
            if value is None and key == "protocol":
                value = "TCP"
            if value is not None:
                keys[key] = value
        return "k:" + json.dumps(keys, separators=(",", ":"), sort_keys=True)
    return None


def _is_leaf(value, schema):
    if isinstance(value, dict):
        return not value or (schema or {}).get("x-kubernetes-map-type") == "atomic"
    if isinstance(value, list):
        return not value or _list_kind(schema) == "atomic"
    return True


def leaves(value, schema, path=(), found=None, containers=False):
    """The fields of a value by their paths; with `containers`, maps and keyed lists as well."""
    found = {} if found is None else found
    schema = builtin.resolve(schema) or {}
    if _is_leaf(value, schema):
        if path:
            found[path] = value
        return found
    if containers and path and ("additionalProperties" in schema or isinstance(value, list)):
        found[path] = ...
    if isinstance(value, dict):
        for name, inner in value.items():
            leaves(inner, builtin.child(schema, name), path + ("f:" + name,), found, containers)
        return found
    for index, item in enumerate(value):
        place = path + (_item_element(item, schema, index),)
        found[place] = ... if isinstance(item, dict) else item
        if isinstance(item, dict):
            leaves(item, builtin.items(schema), place, found, containers)
    return found


def to_v1(paths):
    """A set of paths as FieldsV1."""
    tree = {}
    for path in sorted(paths):
        place = tree
        for element in path:
            place = place.setdefault(element, {})
        place[None] = True

    def shown(node):
        own = node.pop(None, False)
        result = {element: shown(inner) for element, inner in node.items()}
        return {".": {}, **result} if own and result else result

    return shown(tree)


def from_v1(tree, path=()):
    """The set of paths that FieldsV1 says."""
    if not tree:
        return {path} if path else set()
    found = set()
    for element, inner in tree.items():
        if element == ".":
            found.add(path)
        else:
            found |= from_v1(inner, path + (element,))
    return found


def show(path):
    """A path as conflicts name it: `.spec.template.spec.containers[name="x"].image`."""
    text = ""
    for element in path:
        kind, _, rest = element.partition(":")
        if kind == "f":
            text += "." + rest
        elif kind == "k":
            keys = json.loads(rest)
            text += "[" + ",".join(f"{k}={json.dumps(v)}" for k, v in keys.items()) + "]"
        else:
            text += f"[={rest}]"
    return text


# Managers ---------------------------------------------------------------------------------------


def _managed(meta):
    """The managers of an object: (manager, operation, subresource) to (entry, paths)."""
    entries = (meta or {}).get("managedFields") or ()
    return {
        (e.get("manager", ""), e.get("operation", ""), e.get("subresource", "")): (
            e,
            from_v1(e.get("fieldsV1") or {}),
        )
        for e in entries
        if e.get("manager") and e.get("operation")
    }


def _entry(resource, who, paths):
    manager, operation, subresource = who
    entry = {
        "manager": manager,
        "operation": operation,
        "apiVersion": resource.api_version(),
        "time": clock.stamp(),
        "fieldsType": "FieldsV1",
        "fieldsV1": to_v1(paths),
    }
    if subresource:
        entry["subresource"] = subresource
    return entry


def _listed(resource, managed, before):
    """managedFields again; an entry whose fields did not change keeps its time."""
    entries = []
    for who, (entry, paths) in managed.items():
        if not paths:
            continue
        if who in before and before[who][1] == paths:
            entries.append(before[who][0])
        else:
            entries.append(_entry(resource, who, paths))
    return sorted(entries, key=lambda e: (e["operation"], e["time"], e["manager"]))


def check_manager(name, required_for_apply=False):
    if required_for_apply and not name:
        raise status.ApiError(
            422,
            'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required'
            " for apply patch",
            "Invalid",
            {
                "group": "meta.k8s.io",
                "kind": "PatchOptions",
                "causes": [status.required("fieldManager", "is required for apply patch").cause()],
            },
        )
    if len(name or "") > MANAGER_CHARACTERS_MAX:
        problem = status.Problem(
            "FieldValueTooLong", "fieldManager", "Too long: may not be more than 128 bytes"
        )
        raise status.ApiError(
            422,
            f'PatchOptions.meta.k8s.io "" is invalid: {problem}',
            "Invalid",
            {"group": "meta.k8s.io", "kind": "PatchOptions", "causes": [problem.cause()]},
        )


def _changes(resource, old, new):
    """The paths that a write set or changed, and those that it took away."""
    schema = _schema(resource)
    before = leaves(_body(old), schema, containers=True) if old else {}
    after = leaves(_body(new), schema, containers=True)
    changed = {p for p, v in after.items() if p not in before or before[p] != v} - UNMANAGED
    return changed, set(before) - set(after) - UNMANAGED


def _body(value):
    meta = {k: v for k, v in value["metadata"].items() if ("f:metadata", f"f:{k}") not in UNMANAGED}
    body = {k: v for k, v in value.items() if k not in ("metadata", "apiVersion", "kind")}
    return {**body, "metadata": meta} if meta else body


def created(resource, value, options):
    """Sets the managers of an object that is created by other means than apply."""
    value["metadata"].pop("managedFields", None)
    if options.manager == APPLIED:
        return
    changed, _ = _changes(resource, None, value)
    if resource.has_status():
        changed = {p for p in changed if p[0] != "f:status"}
    if changed:
        value["metadata"]["managedFields"] = [
            _entry(resource, (options.manager, "Update", ""), changed)
        ]


def updated(resource, old, value, options, subresource):
    """Sets the managers after an update or a patch."""
    before = _managed(old["metadata"])
    if value["metadata"].get("managedFields") == [{}]:
        before = {}  # the documented way to forget all managers
    changed, gone = _changes(resource, old, value)
    me = (options.manager, "Update", subresource or "")
    managed = {}
    for who, (entry, paths) in before.items():
        lost = gone if who == me else gone | changed
        managed[who] = (entry, paths - lost)
    mine = managed.get(me, (None, set()))[1] | changed
    managed[me] = (None, mine)
    listed = _listed(resource, managed, before)
    if listed:
        value["metadata"]["managedFields"] = listed
    else:
        value["metadata"].pop("managedFields", None)


# Apply ------------------------------------------------------------------------------------------


def _mine(paths, resource, subresource):
    """The fields that an apply at this place can own."""
    paths = paths - UNMANAGED
    if subresource == "status":
        return {p for p in paths if p[0] == "f:status"}
    if resource.has_status():
        return {p for p in paths if p[0] != "f:status"}
    return paths


def apply(resource, live, applied, options, subresource):
    """The merged object and its new managedFields; raises the conflicts unless they are forced."""
    schema, me = _schema(resource), (options.manager, "Apply", subresource or "")
    own = _mine(set(leaves(_body(applied), schema)), resource, subresource)
    if live is None:
        return applied, [_entry(resource, me, own)]
    before = _managed(live["metadata"])
    managed = dict(before)
    if not managed:
        was = set(leaves(_body(live), schema)) - UNMANAGED
        managed[("before-first-apply", "Update", "")] = (None, was)
    base = copy(live)
    base["metadata"].pop("managedFields", None)
    merged = _merge(base, applied, schema)
    previous = managed.get(me, (None, set()))[1]
    others = {who: paths for who, (_, paths) in managed.items() if who != me}
    _prune(merged, schema, previous - own, set().union(own, *others.values()))
    changed, _ = _changes(resource, live, merged)
    conflicts = {who: paths & changed for who, paths in others.items() if paths & changed}
    conflicts = {who: {p for p in paths if p in own} for who, paths in conflicts.items()}
    conflicts = {who: paths for who, paths in conflicts.items() if paths}
    if conflicts and not options.force:
        raise _conflict(managed, conflicts)
    for who, paths in conflicts.items():
        managed[who] = (None, managed[who][1] - paths)
    managed[me] = (None, own)
    return merged, _listed(resource, managed, before)


def _conflict(managed, conflicts):
    causes, parts = [], []
    for who in sorted(conflicts):
        entry = managed[who][0] or {}
        where = f' with subresource "{who[2]}"' if who[2] else ""
        using = f" using {entry['apiVersion']}" if who[1] == "Update" and entry else ""
        at = f" at {entry['time']}" if who[1] == "Update" and entry.get("time") else ""
        title = f'"{who[0]}"{where}{using}'
        paths = sorted(show(path) for path in conflicts[who])
        causes += [
            {
                "reason": "FieldManagerConflict",
                "message": f"conflict with {title}{at}",
                "field": path,
            }
            for path in paths
        ]
        parts.append((title, paths))
    total = sum(len(paths) for _, paths in parts)
    if total == 1:
        words = f"Apply failed with 1 conflict: conflict with {parts[0][0]}: {parts[0][1][0]}"
    else:
        listed = "\n".join(
            f"conflicts with {title}:\n- " + "\n- ".join(paths) for title, paths in parts
        )
        words = f"Apply failed with {total} conflicts: {listed}"
    return status.ApiError(409, words, "Conflict", {"causes": causes})


def _merge(live, applied, schema):
    """What the applied value says, over what is there."""
    schema = builtin.resolve(schema) or {}
    if (
        isinstance(applied, dict)
        and isinstance(live, dict)
        and schema.get("x-kubernetes-map-type") != "atomic"
    ):
        result = dict(live)
        for name, inner in applied.items():
            result[name] = _merge(live.get(name), inner, builtin.child(schema, name))
        return result
    if isinstance(applied, list) and isinstance(live, list) and _list_kind(schema) != "atomic":
        places = {_item_element(item, schema, i): i for i, item in enumerate(live)}
        result = list(live)
        for index, item in enumerate(applied):
            element = _item_element(item, schema, index)
            if element in places:
                at = places[element]
                result[at] = _merge(result[at], item, builtin.items(schema))
            else:
                result.append(item)
        return result
    return applied


def _prune(value, schema, gone, kept):
    """Takes the paths away that nobody holds any more, in place."""
    # An item goes as a whole before its fields do, by which it could not be found any more.
    for path in sorted(gone, key=len):
        if any(other[: len(path)] == path for other in kept):
            continue
        _remove(value, schema, path)


def _remove(value, schema, path):
    schema = builtin.resolve(schema) or {}
    element, rest = path[0], path[1:]
    if element.startswith("f:"):
        name = element[2:]
        if not isinstance(value, dict) or name not in value:
            return
        if not rest:
            del value[name]
            return
        _remove(value[name], builtin.child(schema, name), rest)
        if value[name] in ({}, []):
            del value[name]
        return
    if not isinstance(value, list):
        return
    for index, item in enumerate(value):
        if _item_element(item, schema, index) == element:
            if rest:
                _remove(item, builtin.items(schema), rest)
            else:
                del value[index]
            return
