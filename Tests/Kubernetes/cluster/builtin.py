"""The schemas of the built-in kinds, read from builtin.types into OpenAPI's form.

Schemas refer to each other by `$ref: #Name`; `resolve` follows one reference.
"""

import functools
import pathlib
import re

from . import quantity

SCALARS = {
    "string": {"type": "string"},
    "time": {"type": "string", "format": "date-time"},
    "int": {"type": "integer", "format": "int64"},
    "number": {"type": "number"},
    "bool": {"type": "boolean"},
    "quantity": {"type": "string", "format": "quantity"},
    "intstr": {"x-kubernetes-int-or-string": True},
    "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
}


def _type(text):
    if text.startswith("["):
        return {"type": "array", "items": _type(text[1:-1])}
    if text.startswith("{"):
        return {"type": "object", "additionalProperties": _type(text[1:-1])}
    return dict(SCALARS[text]) if text in SCALARS else {"$ref": "#" + text}


def _field(schema, marks):
    """Adds the marks of a field to its schema, under the names that OpenAPI has for them."""
    for mark in marks:
        name, _, value = mark.partition("=")
        if name == "map":
            keys = value.split(",")
            schema["x-kubernetes-list-type"] = "map"
            schema["x-kubernetes-list-map-keys"] = keys
            schema.setdefault("x-kubernetes-patch-merge-key", keys[0])
            schema["x-kubernetes-patch-strategy"] = "merge"
        elif name == "set":
            schema["x-kubernetes-list-type"] = "set"
        elif name == "patch":
            schema["x-kubernetes-patch-strategy"] = "merge"
            if value:
                schema["x-kubernetes-patch-merge-key"] = value
        elif name == "retain":
            schema["x-kubernetes-patch-strategy"] = "merge,retainKeys"
        elif name == "atomic":
            schema["x-kubernetes-map-type"] = "atomic"
        else:
            raise ValueError(f"builtin.types: unknown mark {mark!r}")
    return schema


@functools.cache
def types():
    """All types by name."""
    found, current = {}, None
    text = (pathlib.Path(__file__).parent / "builtin.types").read_text(encoding="utf-8")
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if not line.startswith(" "):
            name, _, marks = line.partition(":")
            current = {"type": "object", "properties": {}}
            for mark in marks.split():
                if mark.startswith("@"):
                    current["properties"] = {
                        "apiVersion": {"type": "string"},
                        "kind": {"type": "string"},
                        "metadata": {"$ref": "#ObjectMeta"},
                    }
                else:
                    _field(current, [mark])
            found[name] = current
            continue
        name, kind, *marks = line.split()
        if name.endswith("!"):
            name = name[:-1]
            current.setdefault("required", []).append(name)
        current["properties"][name] = _field(_type(kind), marks)
    for schema in found.values():
        _check(schema, found)
    return found


def _check(schema, found):
    for name in re.findall(r"'\$ref': '#(\w+)'", str(schema)):
        if name not in found:
            raise ValueError(f"builtin.types: there is no type {name}")


def resolve(schema):
    """The schema that a reference stands for, with what is said beside the reference."""
    if schema is None or "$ref" not in schema:
        return schema
    target = types()[schema["$ref"][1:]]
    beside = {key: value for key, value in schema.items() if key != "$ref"}
    return {**target, **beside} if beside else target


def child(schema, name):
    """The schema of a field of an object, or None where nothing is known of it."""
    schema = resolve(schema)
    if not schema:
        return None
    if name in schema.get("properties", ()):
        return resolve(schema["properties"][name])
    more = schema.get("additionalProperties")
    return resolve(more) if isinstance(more, dict) else None


def items(schema):
    """The schema of a list's items."""
    schema = resolve(schema)
    return resolve(schema.get("items")) if schema else None


class WrongType(Exception):
    """A field whose JSON type is not its Go type."""

    def __init__(self, path, seen, wanted):
        super().__init__(
            f"json: cannot unmarshal {seen} into Go struct field .{path} of type {wanted}"
        )


_GO = {
    "string": (str, "string"),
    "boolean": (bool, "bool"),
    "integer": (int, "int32"),
    "number": ((int, float), "float64"),
    "object": (dict, "struct"),
    "array": (list, "slice"),
}
_SEEN = {str: "string", bool: "bool", int: "number", float: "number", dict: "object", list: "array"}


def normalize(value, schema, path="", unknown=None):
    """A built-in object as Go would write it again after reading it, and the paths of the fields
    that its type does not have (they are gone, as nulls are). Raises `WrongType`."""
    unknown = [] if unknown is None else unknown
    schema = resolve(schema)
    if not schema or schema.get("x-kubernetes-preserve-unknown-fields"):
        return value, unknown
    if schema.get("format") == "quantity" and not isinstance(value, (dict, list, bool)):
        try:
            return quantity.canonical(value), unknown
        except ValueError:
            return value, unknown  # validation says what is wrong with it
    if schema.get("x-kubernetes-int-or-string"):
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise WrongType(path, _SEEN[type(value)], "intstr.IntOrString")
        return value, unknown
    python, go = _GO[schema["type"]]
    if isinstance(value, float) and value.is_integer() and python is int:
        value = int(value)
    if not isinstance(value, python) or (isinstance(value, bool) and python is not bool):
        raise WrongType(path, _SEEN[type(value)], go)
    if isinstance(value, list):
        return [
            normalize(inner, schema["items"], f"{path}[{index}]", unknown)[0]
            for index, inner in enumerate(value)
            if inner is not None
        ], unknown
    if not isinstance(value, dict):
        return value, unknown
    found = {}
    for name, inner in value.items():
        place = f"{path}.{name}" if path else name
        known = child(schema, name)
        if known is None:
            unknown.append(place)
        elif inner is not None:
            found[name] = normalize(inner, known, place, unknown)[0]
    return found, unknown
