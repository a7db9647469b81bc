"""Structural schemas of custom resources: defaults, pruning, and validation as Kubernetes does."""

import base64
import re

from . import status

PRESERVE = "x-kubernetes-preserve-unknown-fields"
INT_OR_STRING = "x-kubernetes-int-or-string"
EMBEDDED = "x-kubernetes-embedded-resource"
_TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
}


def default(value, schema, prune_null=True):
    """Fills in the defaults, in place; a null of a field with a default is the default."""
    from .store import copy

    if isinstance(value, dict):
        for name, inner in schema.get("properties", {}).items():
            if value.get(name) is None and name in value and not inner.get("nullable"):
                if "default" in inner or prune_null:
                    del value[name]
            if name not in value and "default" in inner:
                value[name] = copy(inner["default"])
        for name, inner in value.items():
            known = _property(schema, name)
            if known:
                default(inner, known, prune_null)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for inner in value:
            default(inner, schema["items"], prune_null)


def _property(schema, name):
    if name in schema.get("properties", ()):
        return schema["properties"][name]
    more = schema.get("additionalProperties")
    return more if isinstance(more, dict) else None


def prune(value, schema, path="", root=False):
    """Takes away what the schema does not know, in place; returns the paths of what went."""
    gone = []
    if isinstance(value, dict):
        if schema.get(PRESERVE) and not schema.get("properties"):
            return gone
        keep = {"apiVersion", "kind", "metadata"} if root or schema.get(EMBEDDED) else ()
        for name in list(value):
            place = f"{path}.{name}" if path else name
            known = _property(schema, name)
            if known is not None:
                if not (name in keep and name == "metadata"):
                    gone += prune(value[name], known, place)
            elif (
                name not in keep
                and not schema.get(PRESERVE)
                and schema.get("additionalProperties") is not True
            ):
                del value[name]
                gone.append(place)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for index, inner in enumerate(value):
            gone += prune(inner, schema["items"], f"{path}[{index}]")
    return gone


# Validation -------------------------------------------------------------------------------------


def kind_of(value):
    """The JSON type of a value as error messages name it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "integer" if value.is_integer() else "number"
    return {dict: "object", list: "array", str: "string"}[type(value)]


def _fits(value, wanted):
    if wanted in _TYPES:
        return isinstance(value, _TYPES[wanted])
    if isinstance(value, bool):
        return False
    if wanted == "integer":
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return isinstance(value, (int, float))


def validate(value, schema, path=""):
    """The problems of a value."""
    field = path or "<nil>"
    if value is None:
        if schema.get("nullable"):
            return []
    if schema.get(INT_OR_STRING):
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            return [_wrong_type(field, value, "integer,string")]
    elif "type" in schema and not _fits(value, schema["type"]):
        return [_wrong_type(field, value, schema["type"])]
    problems = []
    if "enum" in schema and value not in schema["enum"]:
        problems.append(status.unsupported(field, value, [_word(e) for e in schema["enum"]]))
    if isinstance(value, str):
        problems += _string(value, schema, field)
    elif isinstance(value, dict):
        problems += _object(value, schema, path)
    elif isinstance(value, list):
        problems += _list(value, schema, path)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        problems += _number(value, schema, field)
    return problems + _junctors(value, schema, path)


def _word(value):
    return value if isinstance(value, str) else status.show(value)


def _wrong_type(field, value, wanted):
    seen = kind_of(value)
    return status.Problem(
        "FieldValueTypeInvalid",
        field,
        f'Invalid value: "{seen}": {field} in body must be of type {wanted}: "{seen}"',
    )


def _bad(field, value, why):
    return status.invalid_value(field, value, f"{field} in body {why}")


def _string(value, schema, field):
    problems = []
    length = len(value)
    if length > schema.get("maxLength", length):
        problems.append(
            status.Problem(
                "FieldValueTooLong",
                field,
                f"Too long: may not be more than {schema['maxLength']} bytes",
            )
        )
    if length < schema.get("minLength", 0):
        problems.append(_bad(field, value, f"should be at least {schema['minLength']} chars long"))
    if "pattern" in schema and not search(schema["pattern"], value):
        problems.append(_bad(field, value, f"should match '{schema['pattern']}'"))
    if "format" in schema and not _format(value, schema["format"]):
        problems.append(
            _bad(field, value, f"must be of type {schema['format']}: {status.show(value)}")
        )
    return problems


def search(pattern, value):
    """Whether a pattern in RE2's syntax is found in a value."""
    import re2

    return re2.search(pattern, value) is not None


def _number(value, schema, field):
    problems = []
    if "maximum" in schema:
        limit, strict = schema["maximum"], schema.get("exclusiveMaximum")
        if value > limit or (strict and value == limit):
            word = "less than" if strict else "less than or equal to"
            problems.append(_bad(field, value, f"should be {word} {_plain(limit)}"))
    if "minimum" in schema:
        limit, strict = schema["minimum"], schema.get("exclusiveMinimum")
        if value < limit or (strict and value == limit):
            word = "greater than" if strict else "greater than or equal to"
            problems.append(_bad(field, value, f"should be {word} {_plain(limit)}"))
    if "multipleOf" in schema and value % schema["multipleOf"]:
        problems.append(
            _bad(field, value, f"should be a multiple of {_plain(schema['multipleOf'])}")
        )
    bits = {"int32": 31, "int64": 63}.get(schema.get("format"))
    if bits and not -(1 << bits) <= value < 1 << bits:
        problems.append(_bad(field, value, f"must be of type {schema['format']}"))
    return problems


def _plain(number):
    return int(number) if isinstance(number, float) and number.is_integer() else number


def join(path, name):
    return f"{path}.{name}" if path else name


def _object(value, schema, path):
    problems, field = [], path or "<nil>"
    for name in schema.get("required", ()):
        if name not in value:
            problems.append(status.required(join(path, name)))
    if len(value) > schema.get("maxProperties", len(value)):
        problems.append(
            status.Problem(
                "FieldValueTooMany",
                field,
                f"Too many: {len(value)}: must have at most {schema['maxProperties']} items",
            )
        )
    if len(value) < schema.get("minProperties", 0):
        problems.append(
            _bad(field, value, f"should have at least {schema['minProperties']} properties")
        )
    for name, inner in value.items():
        known = _property(schema, name)
        if known is not None:
            own = name in schema.get("properties", ())
            problems += validate(inner, known, join(path, name) if own else f"{path}.{name}")
    return problems


def _list(value, schema, path):
    problems, field = [], path or "<nil>"
    if len(value) > schema.get("maxItems", len(value)):
        problems.append(
            status.Problem(
                "FieldValueTooMany",
                field,
                f"Too many: {len(value)}: must have at most {schema['maxItems']} items",
            )
        )
    if len(value) < schema.get("minItems", 0):
        problems.append(_bad(field, value, f"should have at least {schema['minItems']} items"))
    if schema.get("uniqueItems") and any(v in value[:i] for i, v in enumerate(value)):
        problems.append(_bad(field, value, "shouldn't contain duplicates"))
    kind = schema.get("x-kubernetes-list-type")
    seen = []
    for index, inner in enumerate(value):
        place = f"{path}[{index}]"
        identity = inner if kind == "set" else None
        if kind == "map" and isinstance(inner, dict):
            identity = {k: inner[k] for k in schema["x-kubernetes-list-map-keys"] if k in inner}
        if identity is not None:
            if identity in seen:
                problems.append(status.duplicate(place, identity))
            seen.append(identity)
        if isinstance(schema.get("items"), dict):
            problems += validate(inner, schema["items"], place)
    return problems


def _junctors(value, schema, path):
    problems, field = [], path or "<nil>"
    for part in schema.get("allOf", ()):
        problems += validate(value, part, path)
    if "anyOf" in schema and all(validate(value, part, path) for part in schema["anyOf"]):
        problems.append(_bad(field, value, "must validate at least one schema (anyOf)"))
    if "oneOf" in schema:
        good = sum(not validate(value, part, path) for part in schema["oneOf"])
        if good != 1:
            problems.append(
                _bad(
                    field,
                    value,
                    "must validate one and only one schema (oneOf)"
                    + (f". Found {good} valid alternatives" if good else ""),
                )
            )
    if "not" in schema and not validate(value, schema["not"], path):
        problems.append(_bad(field, value, "must not validate the schema (not)"))
    return problems


_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_DURATION = re.compile(
    r"[+-]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h|d|w)(\s*\d+(\.\d*)?(ns|us|µs|ms|s|m|h|d|w))*|0"
)
_FORMATS = {
    "date-time": _DATE_TIME.fullmatch,
    "date": re.compile(r"\d{4}-\d\d-\d\d").fullmatch,
    "duration": _DURATION.fullmatch,
    "uuid": re.compile(r"(?i)[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}").fullmatch,
    "uri": re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+|/\S*").fullmatch,
    "email": re.compile(r"[^@\s]+@[^@\s]+").fullmatch,
    "hostname": re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?").fullmatch,
    "ipv4": re.compile(r"\d{1,3}(\.\d{1,3}){3}").fullmatch,
}


def _format(value, name):
    if name == "byte":
        try:
            base64.b64decode(value, validate=True)
        except ValueError:
            return False
        return True
    check = _FORMATS.get(name)
    return check is None or bool(check(value))


# Whether a schema is structural -----------------------------------------------------------------

_JUNCTORS = ("allOf", "anyOf", "oneOf", "not")
_FORBIDDEN_INSIDE = ("type", "description", "default", "additionalProperties", "nullable")


def structural_problems(schema, path, root=True):
    """What keeps a definition's schema from being structural."""
    problems = []
    if (
        "type" not in schema
        and not schema.get(INT_OR_STRING)
        and not (schema.get(PRESERVE) and not root)
    ):
        problems.append(
            status.required(
                f"{path}.type",
                "must not be empty for specified object fields"
                if not root
                else "must not be empty at the root",
            )
        )
    elif root and schema.get("type") != "object":
        problems.append(
            status.invalid_value(f"{path}.type", schema.get("type"), "must be object at the root")
        )
    if schema.get("type") == "array" and "items" not in schema:
        problems.append(status.required(f"{path}.items", "must be specified"))
    for name in (
        "$ref",
        "definitions",
        "dependencies",
        "deprecated",
        "discriminator",
        "id",
        "patternProperties",
        "readOnly",
        "writeOnly",
        "xml",
    ):
        if name in schema:
            problems.append(status.not_allowed(f"{path}.{name}", f"{name} is not supported"))
    if schema.get("uniqueItems"):
        problems.append(
            status.not_allowed(
                f"{path}.uniqueItems",
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            )
        )
    if "properties" in schema and "additionalProperties" in schema:
        problems.append(
            status.not_allowed(
                f"{path}.additionalProperties",
                "additionalProperties and properties are mutual exclusive",
            )
        )
    if "pattern" in schema:
        import re2

        options = re2.Options()
        options.log_errors = False
        try:
            re2.compile(schema["pattern"], options=options)
        except re2.error as error:
            words = f"must be a valid regular expression, but isn't: {error}"
            problems.append(status.invalid_value(f"{path}.pattern", schema["pattern"], words))
    kind = schema.get("x-kubernetes-list-type")
    if kind == "map":
        problems += _list_map_problems(schema, path)
    for name in _JUNCTORS:
        parts = schema.get(name, [])
        for index, part in enumerate(parts if isinstance(parts, list) else [parts]):
            place = f"{path}.{name}[{index}]" if isinstance(parts, list) else f"{path}.{name}"
            problems += [
                status.not_allowed(f"{place}.{word}", "must be empty to be structural")
                for word in _FORBIDDEN_INSIDE
                if word in part
            ]
    for name, inner in schema.get("properties", {}).items():
        problems += structural_problems(inner, f"{path}.properties[{name}]", root=False)
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            problems += structural_problems(schema[name], f"{path}.{name}", root=False)
    if "default" in schema:
        problems += [
            status.Problem(p.reason, f"{path}.default", str(p))
            for p in validate(schema["default"], schema, "default")
        ]
    return problems


def _list_map_problems(schema, path):
    keys = schema.get("x-kubernetes-list-map-keys")
    if not keys:
        return [
            status.required(
                f"{path}.x-kubernetes-list-map-keys",
                "must not be empty if x-kubernetes-list-type is map",
            )
        ]
    problems = []
    inner = schema.get("items") or {}
    for index, key in enumerate(keys):
        place = f"{path}.x-kubernetes-list-map-keys[{index}]"
        if key not in inner.get("properties", ()):
            problems.append(
                status.invalid_value(place, key, "entries must all be names of item properties")
            )
        elif key not in inner.get("required", ()) and "default" not in inner["properties"][key]:
            problems.append(
                status.required(
                    f"{path}.items.properties[{key}].default",
                    "this property is in x-kubernetes-list-map-keys, so it must have a"
                    " default or be a required property",
                )
            )
    return problems
