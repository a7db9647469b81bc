"""Merge patch (RFC 7386), JSON patch (RFC 6902) and strategic merge patch."""

from . import builtin, status
from .store import copy


def merge(target, patch):
    """What a merge patch makes of a value."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


# JSON patch -------------------------------------------------------------------------------------


def _refused(why):
    return status.ApiError(
        422, f"the server rejected our request due to an error in our request: {why}", "Invalid", {}
    )


def _pointer(text):
    if text == "":
        return []
    if not isinstance(text, str) or not text.startswith("/"):
        raise _refused(f"{text!r} is no JSON pointer")
    return [part.replace("~1", "/").replace("~0", "~") for part in text[1:].split("/")]


def _index(part, size, adding):
    if part == "-" and adding:
        return size
    if not part.isdigit() or (len(part) > 1 and part[0] == "0"):
        raise _refused(f"{part!r} is no index")
    index = int(part)
    if index > size or (index == size and not adding):
        raise _refused(f"index {index} is out of range")
    return index


def _step(value, part):
    if isinstance(value, dict) and part in value:
        return value[part]
    if isinstance(value, list):
        return value[_index(part, len(value), adding=False)]
    raise _refused(f"there is no {part!r}")


def _find(document, path):
    for part in path:
        document = _step(document, part)
    return document


def _add(document, path, value, replace=False):
    if not path:
        return value
    parent, last = _find(document, path[:-1]), path[-1]
    if isinstance(parent, dict):
        if replace and last not in parent:
            raise _refused(f"there is no {last!r} to replace")
        parent[last] = value
    elif isinstance(parent, list):
        index = _index(last, len(parent), adding=not replace)
        if replace:
            parent[index] = value
        else:
            parent.insert(index, value)
    else:
        raise _refused(f"the parent of {last!r} is neither an object nor a list")
    return document


def _remove(document, path):
    if not path:
        raise _refused("the whole cannot be removed")
    parent, last = _find(document, path[:-1]), path[-1]
    _step(parent, last)
    if isinstance(parent, list):
        del parent[int(last)]
    else:
        del parent[last]
    return document


def json_patch(document, operations):
    """What a JSON patch makes of a document."""
    if not isinstance(operations, list):
        raise status.bad_request("a JSON patch is a list of operations")
    document = copy(document)
    for operation in operations:
        if not isinstance(operation, dict) or "op" not in operation or "path" not in operation:
            raise status.bad_request("an operation of a JSON patch has op and path")
        document = _apply_operation(document, operation)
    return document


def _apply_operation(document, operation):
    name, path = operation["op"], _pointer(operation["path"])
    if name in ("add", "replace"):
        return _add(document, path, copy(operation.get("value")), replace=name == "replace")
    if name == "remove":
        return _remove(document, path)
    if name in ("move", "copy"):
        source = _pointer(operation.get("from", ""))
        value = copy(_find(document, source))
        if name == "move":
            document = _remove(document, source)
        return _add(document, path, value)
    if name == "test":
        if _find(document, path) != operation.get("value"):
            raise _refused(f"testing value {operation['path']} failed")
        return document
    raise status.bad_request(f"unexpected kind of operation {name!r}")


# Strategic merge patch --------------------------------------------------------------------------


def strategic(target, patch, schema):
    """What a strategic merge patch makes of an object of a built-in type."""
    if patch.get("$patch") == "delete":
        return {}
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    result = dict(target or {})
    for key, value in patch.items():
        if key in ("$patch", "$retainKeys") or key.startswith("$setElementOrder/"):
            continue
        if key.startswith("$deleteFromPrimitiveList/"):
            name = key.split("/", 1)[1]
            result[name] = [item for item in result.get(name) or () if item not in value]
            continue
        known = builtin.child(schema, key)
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            before = result.get(key)
            result[key] = strategic(before if isinstance(before, dict) else {}, value, known)
        elif isinstance(value, list):
            order = patch.get(f"$setElementOrder/{key}")
            result[key] = _strategic_list(result.get(key) or [], value, known or {}, order)
        else:
            result[key] = value
    if "$retainKeys" in patch:
        kept = set(patch["$retainKeys"])
        result = {key: value for key, value in result.items() if key in kept}
    for key, order in patch.items():
        if key.startswith("$setElementOrder/"):
            name = key.split("/", 1)[1]
            if name in result:
                result[name] = _ordered(result[name], order, builtin.child(schema, name) or {})
    return result


def _strategic_list(before, patch, schema, order):
    if "merge" not in schema.get("x-kubernetes-patch-strategy", "").split(","):
        return patch
    key = schema.get("x-kubernetes-patch-merge-key")
    if not key:
        return before + [item for item in patch if item not in before]
    result = list(before)
    if {"$patch": "replace"} in patch:
        return [item for item in patch if item != {"$patch": "replace"}]
    for item in patch:
        place = next((i for i, b in enumerate(result) if b.get(key) == item.get(key)), None)
        if item.get("$patch") == "delete":
            if place is not None:
                del result[place]
        elif place is None:
            result.append({k: v for k, v in item.items() if k != "$patch"})
        else:
            result[place] = strategic(result[place], item, builtin.items(schema))
    return result


def _ordered(values, order, schema):
    """A list in the order that a patch asks for; what it does not name stays where it was."""
    key = schema.get("x-kubernetes-patch-merge-key")
    wanted = [item.get(key) for item in order] if key else list(order)
    ranks = {value: index for index, value in enumerate(wanted)}

    def name(item):
        return item.get(key) if key else item

    placed = iter(sorted((v for v in values if name(v) in ranks), key=lambda v: ranks[name(v)]))
    return [next(placed) if name(value) in ranks else value for value in values]
