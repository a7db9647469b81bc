"""What an API server does to a custom resource before it stores it: prune, default, validate.

The schema is the `openAPIV3Schema` of a CustomResourceDefinition (a structural schema), objects are
what `json.loads` gives. Patterns are RE2, as an API server's; CEL rules
(`x-kubernetes-validations`) are run by cel-python with the functions that Kubernetes adds to CEL as
far as they are defined here: a rule that uses another one fails every object, so a test sees it.

Not here: what is common to all resources (`metadata`, names, labels) and the cost of rules at run
time. `definition_problems` says what an API server would refuse about a definition itself.
"""

import copy
import dataclasses
import datetime
import functools
import json
import re

import celpy
import celpy.celtypes as celtypes
import re2

# The parts of an object that every resource has; its schema does not describe them.
_COMMON = ("apiVersion", "kind", "metadata")
# With one of these, the rules are not looked at.
_BLOCKING = {
    "FieldValueRequired", "FieldValueNotSupported", "FieldValueTooLong", "FieldValueTooMany",
    "FieldValueTypeInvalid",
}


@dataclasses.dataclass(frozen=True)
class Cause:
    """One reason to refuse an object, in the words of `status.details.causes`."""

    reason: str
    message: str
    field: str

    def json(self):
        return {"reason": self.reason, "message": self.message, "field": self.field}


# -- Pruning and defaults


def prune(schema, obj):
    """Returns `obj` without the fields that `schema` does not know, and their paths."""
    dropped = []
    return _prune(schema, obj, "", dropped, is_root=True), dropped


def _prune(schema, value, path, dropped, is_root=False):
    if isinstance(value, list):
        items = schema.get("items", {})
        return [_prune(items, v, f"{path}[{i}]", dropped) for i, v in enumerate(value)]
    if not isinstance(value, dict):
        return value
    known = schema.get("properties", {})
    others = schema.get("additionalProperties")
    keeps = schema.get("x-kubernetes-preserve-unknown-fields", False)
    kept = {}
    for name, part in value.items():
        place = f"{path}.{name}" if path else name
        if is_root and name in _COMMON:
            kept[name] = copy.deepcopy(part)
        elif name in known:
            kept[name] = _prune(known[name], part, place, dropped)
        elif isinstance(others, dict):
            kept[name] = _prune(others, part, place, dropped)
        elif keeps or others is True:
            kept[name] = copy.deepcopy(part)
        else:
            dropped.append(place)
    return kept


def default(schema, obj):
    """Returns `obj` with the defaults of absent fields; a null that is not allowed is absent."""
    if isinstance(obj, list):
        return [default(schema.get("items", {}), part) for part in obj]
    if not isinstance(obj, dict):
        return obj
    filled = {}
    known = schema.get("properties", {})
    others = schema.get("additionalProperties")
    for name, part in obj.items():
        inner = known.get(name, others if isinstance(others, dict) else None)
        if part is None and inner is not None and not inner.get("nullable", False):
            continue
        filled[name] = copy.deepcopy(part) if inner is None else default(inner, part)
    for name, inner in known.items():
        if "default" in inner and name not in filled:
            filled[name] = default(inner, copy.deepcopy(inner["default"]))
    return filled


# -- Validation


def validate(schema, obj, old=None):
    """The reasons to refuse `obj` (pruned, defaulted); `old` is what it would replace."""
    causes = []
    for name in schema.get("required", []):
        if name not in obj:
            causes.append(Cause("FieldValueRequired", "Required value", name))
    for name, inner in schema.get("properties", {}).items():
        if name in obj and name not in _COMMON:
            _value(inner, obj[name], name, causes)
    if any(cause.reason in _BLOCKING for cause in causes):
        text = (
            "Invalid value: null: some validation rules were not checked because the object was "
            "invalid; correct the existing errors to complete validation"
        )
        return causes + [Cause("FieldValueInvalid", text, "<nil>")]
    _rules(schema, obj, old, "", causes, is_root=True)
    return causes


def _shown(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _invalid(path, value, text):
    return Cause("FieldValueInvalid", f"Invalid value: {_shown(value)}: {text}", path)


def _type_name(value):
    if value is None:
        return "null"
    for kind, name in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"),
                       (list, "array")):
        if isinstance(value, kind):
            return name
    return "object"


def _has_type(schema, value):
    name = _type_name(value)
    if schema.get("x-kubernetes-int-or-string"):
        return name in ("integer", "string")
    wanted = schema.get("type")
    if wanted is None or name == wanted:
        return True
    if wanted == "number":
        return name == "integer"
    # JSON has one kind of number: 3.0 is whole.
    return wanted == "integer" and name == "number" and value.is_integer()


@functools.cache
def _pattern(text):
    options = re2.Options()
    options.log_errors = False
    return re2.compile(text, options=options)


def _value(schema, value, path, causes):
    """Types, bounds, names: everything that needs no rule."""
    if value is None and schema.get("nullable"):
        return
    if not _has_type(schema, value):
        wanted = "integer or string" if schema.get("x-kubernetes-int-or-string") else schema["type"]
        found = _type_name(value)
        text = f'Invalid value: "{found}": {path} in body must be of type {wanted}: "{found}"'
        causes.append(Cause("FieldValueTypeInvalid", text, path))
        return
    _bounds(schema, value, path, causes)
    if isinstance(value, dict):
        _object(schema, value, path, causes)
    elif isinstance(value, list):
        _list(schema, value, path, causes)
    _combinations(schema, value, path, causes)


def _bounds(schema, value, path, causes):
    if "enum" in schema and not any(_same(value, choice) for choice in schema["enum"]):
        choices = ", ".join(_shown(choice) for choice in schema["enum"])
        text = f"Unsupported value: {_shown(value)}: supported values: {choices}"
        causes.append(Cause("FieldValueNotSupported", text, path))
    if isinstance(value, str):
        _text(schema, value, path, causes)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        _number(schema, value, path, causes)


def _same(left, right):
    return type(left) is type(right) and left == right


def _text(schema, value, path, causes):
    if len(value) > schema.get("maxLength", len(value)):
        text = f"Too long: may not be more than {schema['maxLength']} bytes"
        causes.append(Cause("FieldValueTooLong", text, path))
    if len(value) < schema.get("minLength", 0):
        text = f"{path} in body should be at least {schema['minLength']} chars long"
        causes.append(_invalid(path, value, text))
    if "pattern" in schema and not _pattern(schema["pattern"]).search(value):
        text = f"{path} in body should match '{schema['pattern']}'"
        causes.append(_invalid(path, value, text))
    if schema.get("format") == "date-time":
        try:
            datetime.datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            text = f'{path} in body must be of type date-time: "{value}"'
            causes.append(_invalid(path, value, text))


def _number(schema, value, path, causes):
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and (value < least or (schema.get("exclusiveMinimum") and value == least)):
        word = "greater than" if schema.get("exclusiveMinimum") else "greater than or equal to"
        causes.append(_invalid(path, value, f"{path} in body should be {word} {least}"))
    if most is not None and (value > most or (schema.get("exclusiveMaximum") and value == most)):
        word = "less than" if schema.get("exclusiveMaximum") else "less than or equal to"
        causes.append(_invalid(path, value, f"{path} in body should be {word} {most}"))
    bits = {"int32": 31, "int64": 63}.get(schema.get("format"))
    if bits and not -(2**bits) <= value < 2**bits:
        text = f"must be of type integer with format {schema['format']}"
        causes.append(_invalid(path, value, text))


def _object(schema, value, path, causes):
    for name in schema.get("required", []):
        if name not in value:
            place = f"{path}.{name}"
            causes.append(Cause("FieldValueRequired", "Required value", place))
    if len(value) > schema.get("maxProperties", len(value)):
        text = f"Too many: {len(value)}: must have at most {schema['maxProperties']} items"
        causes.append(Cause("FieldValueTooMany", text, path))
    if len(value) < schema.get("minProperties", 0):
        text = f"{path} in body should have at least {schema['minProperties']} properties"
        causes.append(_invalid(path, value, text))
    known = schema.get("properties", {})
    others = schema.get("additionalProperties")
    for name, part in value.items():
        inner = known.get(name, others if isinstance(others, dict) else None)
        if inner is not None:
            _value(inner, part, f"{path}.{name}", causes)


def _list(schema, value, path, causes):
    if len(value) > schema.get("maxItems", len(value)):
        text = f"Too many: {len(value)}: must have at most {schema['maxItems']} items"
        causes.append(Cause("FieldValueTooMany", text, path))
    if len(value) < schema.get("minItems", 0):
        text = f"{path} in body should have at least {schema['minItems']} items"
        causes.append(_invalid(path, value, text))
    for index, part in enumerate(value):
        if "items" in schema:
            _value(schema["items"], part, f"{path}[{index}]", causes)
    seen = set()
    for index, part in enumerate(value):
        key = _identity(schema, part)
        if key is None:
            continue
        if key in seen:
            text = f"Duplicate value: {key}"
            causes.append(Cause("FieldValueDuplicate", text, f"{path}[{index}]"))
        seen.add(key)


def _identity(schema, part):
    """What tells an element of a set or of a map written as a list from the others."""
    kind = schema.get("x-kubernetes-list-type")
    if kind == "set":
        return json.dumps(part, sort_keys=True)
    if kind == "map" and isinstance(part, dict):
        names = schema["x-kubernetes-list-map-keys"]
        inner = schema["items"].get("properties", {})
        keys = {name: part.get(name, inner.get(name, {}).get("default")) for name in names}
        return json.dumps(keys, sort_keys=True)
    return None


def _combinations(schema, value, path, causes):
    def problems(part):
        found = []
        _value(part, value, path, found)
        return found

    for part in schema.get("allOf", []):
        causes += problems(part)
    if "anyOf" in schema:
        tried = [problems(part) for part in schema["anyOf"]]
        if all(tried):
            text = f"{path} in body must validate at least one schema (anyOf)"
            causes.append(_invalid(path, value, text))
            causes += min(tried, key=len)
    if "oneOf" in schema and sum(not problems(part) for part in schema["oneOf"]) != 1:
        text = f"{path} in body must validate one and only one schema (oneOf)"
        causes.append(_invalid(path, value, text))
    if "not" in schema and not problems(schema["not"]):
        text = f"{path} in body must not validate the schema (not)"
        causes.append(_invalid(path, value, text))


# -- CEL


def _rules(schema, value, old, path, causes, is_root=False):
    for rule in schema.get("x-kubernetes-validations", []):
        is_transition = re.search(r"\boldSelf\b", rule["rule"]) is not None
        if is_transition and old is None:
            continue
        _rule(rule, schema, value, old if is_transition else None, path, causes, is_root)
    if isinstance(value, dict):
        known = schema.get("properties", {})
        others = schema.get("additionalProperties")
        for name, part in value.items():
            if is_root and name in _COMMON:
                continue
            inner = known.get(name, others if isinstance(others, dict) else None)
            if inner is None:
                continue
            before = old.get(name) if isinstance(old, dict) else None
            _rules(inner, part, before, f"{path}.{name}" if path else name, causes)
    elif isinstance(value, list) and "items" in schema:
        for index, part in enumerate(value):
            before = _counterpart(schema, part, old)
            _rules(schema["items"], part, before, f"{path}[{index}]", causes)


def _counterpart(schema, part, old):
    """The element of the old list that an element replaces; only known where elements have keys."""
    if schema.get("x-kubernetes-list-type") != "map" or not isinstance(old, list):
        return None
    key = _identity(schema, part)
    return next((other for other in old if _identity(schema, other) == key), None)


def _rule(rule, schema, value, old, path, causes, is_root):
    place = path + rule.get("fieldPath", "")
    place = place.removeprefix(".") if is_root else place
    shown = value if not isinstance(value, (dict, list)) else _type_name(value)
    variables = {"self": _visible(schema, value, is_root)}
    if old is not None:
        variables["oldSelf"] = _visible(schema, old, is_root)
    try:
        holds = _evaluate(rule["rule"], variables)
        if holds:
            return
        text = rule.get("message", f"failed rule: {rule['rule']}")
        if "messageExpression" in rule:
            text = str(_evaluate(rule["messageExpression"], variables))
    except (celpy.CELEvalError, celpy.CELParseError) as error:
        text = f"rule evaluation error: {error.args[0]}: {rule['rule']}"
    reason = rule.get("reason", "FieldValueInvalid")
    if reason == "FieldValueInvalid":
        text = f"Invalid value: {_shown(shown)}: {text}"
    causes.append(Cause(reason, text, place or "<nil>"))


def _visible(schema, value, is_root):
    """What a rule sees: only what has a type; of the metadata only the names."""
    if isinstance(value, dict):
        known = schema.get("properties", {})
        others = schema.get("additionalProperties")
        parts = {}
        for name, part in value.items():
            inner = known.get(name, others if isinstance(others, dict) else None)
            if is_root and name == "metadata":
                kept = ("name", "generateName")
                parts[name] = celpy.json_to_cel({k: part[k] for k in kept if k in part})
            elif is_root and name in _COMMON:
                parts[name] = celpy.json_to_cel(part)
            elif inner is not None and _is_visible(inner):
                parts[name] = _visible(inner, part, False)
        return celtypes.MapType({celtypes.StringType(k): v for k, v in parts.items()})
    if isinstance(value, list):
        inner = schema.get("items", {})
        return celtypes.ListType([_visible(inner, part, False) for part in value])
    return celpy.json_to_cel(value)


def _is_visible(schema):
    return "type" in schema or schema.get("x-kubernetes-int-or-string", False)


@functools.cache
def _program(text):
    environment = celpy.Environment()
    return environment.program(environment.compile(text), functions=_FUNCTIONS)


def _evaluate(text, variables):
    return _program(text).evaluate(variables)


_UNITS = {
    "h": 3_600_000_000_000, "m": 60_000_000_000, "s": 1_000_000_000, "ms": 1_000_000,
    "us": 1_000, "µs": 1_000, "ns": 1,
}


def _duration(text):
    """Go's time.ParseDuration; a duration is its nanoseconds here, which compare alike."""
    text = str(text)
    if text in ("0", "+0", "-0"):
        return celtypes.IntType(0)
    sign = -1 if text.startswith("-") else 1
    rest = text.removeprefix("-").removeprefix("+")
    parts = re.findall(r"([0-9]*\.?[0-9]*)(h|ms|m|s|us|µs|ns)", rest)
    is_whole = rest and "".join(number + unit for number, unit in parts) == rest
    if not is_whole or any(number in ("", ".") for number, _ in parts):
        raise ValueError(f"time: invalid duration {text!r}")
    total = sum(int(float(number) * _UNITS[unit]) for number, unit in parts)
    if total >= 2**63:
        raise ValueError(f"time: invalid duration {text!r}")
    return celtypes.IntType(sign * total)


def _is_sorted(values):
    return celtypes.BoolType(all(a <= b for a, b in zip(values, values[1:])))


def _find(text, pattern):
    found = _pattern(str(pattern)).search(str(text))
    return celtypes.StringType(found.group(0) if found else "")


def _split(text, separator):
    parts = str(text).split(str(separator))
    return celtypes.ListType([celtypes.StringType(part) for part in parts])


def _matches(text, pattern):
    return celtypes.BoolType(_pattern(str(pattern)).search(str(text)) is not None)


_FUNCTIONS = {
    "duration": _duration, "isSorted": _is_sorted, "find": _find, "split": _split,
    "matches": _matches,
    "lowerAscii": lambda text: celtypes.StringType(str(text).lower()),
}


# -- Definitions


def definition_problems(schema):
    """What an API server would refuse about a structural schema, as `path: what`."""
    found = []
    _definition(schema, "", found, is_root=True)
    return found


def _definition(schema, path, found, is_root=False, is_nested=False):
    say = lambda text: found.append(f"{path or '<root>'}: {text}")
    is_free = schema.get("x-kubernetes-preserve-unknown-fields", False)
    is_union = schema.get("x-kubernetes-int-or-string", False)
    if not is_nested and "type" not in schema and not is_free and not is_union:
        say("has no type")
    if is_nested and any(name in schema for name in ("type", "default", "description")):
        say("a combination holds what belongs outside of it")
    if schema.get("type") == "number":
        say("a float")
    if "properties" in schema and "additionalProperties" in schema:
        say("has properties and additionalProperties")
    if schema.get("uniqueItems"):
        say("uniqueItems is forbidden")
    if "pattern" in schema:
        try:
            _pattern(schema["pattern"])
        except re2.error as error:
            say(f"pattern: {error}")
    _list_definition(schema, say)
    if "default" in schema and not is_root:
        causes = []
        # A default must hold as it is, once its own defaults are in.
        value = default(schema, copy.deepcopy(schema["default"]))
        _value(schema, value, path, causes)
        if not causes:
            _rules(schema, value, None, path, causes)
        for cause in causes:
            say(f"its default: {cause.field}: {cause.message}")
    for rule in schema.get("x-kubernetes-validations", []):
        try:
            _program(rule["rule"])
        except celpy.CELParseError as error:
            say(f"rule {rule['rule']}: {error}")
        if "message" not in rule and "messageExpression" not in rule:
            say(f"rule {rule['rule']}: has no message")
        if "\n" in rule.get("message", "") or len(rule.get("message", "")) > 2048:
            say(f"rule {rule['rule']}: its message has lines or is too long")
        for name in _unknown_fields(rule["rule"], schema, is_root):
            say(f"rule {rule['rule']}: there is no {name} that a rule sees")
    for name, inner in schema.get("properties", {}).items():
        if is_root and name in _COMMON:
            continue
        _definition(inner, f"{path}.{name}" if path else name, found, is_nested=is_nested)
    for key, suffix in (("items", "[*]"), ("additionalProperties", ".*")):
        if isinstance(schema.get(key), dict):
            _definition(schema[key], path + suffix, found, is_nested=is_nested)
    for key in ("allOf", "anyOf", "oneOf"):
        for index, inner in enumerate(schema.get(key, [])):
            _definition(inner, f"{path}.{key}[{index}]", found, is_nested=True)
    if "not" in schema:
        _definition(schema["not"], f"{path}.not", found, is_nested=True)


def _unknown_fields(rule, schema, is_root):
    """The fields that a rule names and does not see: a type check, as far as paths go."""
    scopes = {"self": schema, "oldSelf": schema}
    path = r"\b(%s)((?:\.\w+)*)"
    loop = path + r"(?:\.filter\([^()]*(?:\([^()]*\)[^()]*)*\))*"
    loop += r"\.(?:all|exists|exists_one|filter|map)\((\w+),"
    unknown = []
    text = re.sub(r"'[^']*'", "''", rule)
    for _ in range(3):
        names = "|".join(scopes)
        for match in re.finditer(loop % names, text):
            # Of a map the variable is a key, whose fields nobody may ask for.
            inner = _at(scopes[match[1]], match[2], is_root) or {}
            scopes.setdefault(match[3], inner.get("items", {"type": "string"}))
    for match in re.finditer(path % "|".join(scopes) + r"(\(|\[)?", text):
        fields = match[2]
        if match[3] == "(":
            fields = fields.rpartition(".")[0]
        if fields and _at(scopes[match[1]], fields, is_root) is None:
            unknown.append(match[1] + fields)
    return unknown


def _at(schema, path, is_root):
    for name in path.split(".")[1:]:
        if is_root and name == "metadata":
            schema = {"type": "object", "properties": {"name": {"type": "string"}}}
            continue
        schema = schema.get("properties", {}).get(name)
        if schema is None or not _is_visible(schema):
            return None
    return schema


def _list_definition(schema, say):
    kind = schema.get("x-kubernetes-list-type")
    items = schema.get("items", {})
    if kind == "set" and items.get("type") == "object":
        if items.get("x-kubernetes-map-type") != "atomic":
            say("a set of objects that are not atomic")
    if kind == "map":
        for name in schema.get("x-kubernetes-list-map-keys", []):
            inner = items.get("properties", {}).get(name)
            if inner is None:
                say(f"its key {name} is no field")
            elif name not in items.get("required", []) and "default" not in inner:
                say(f"its key {name} is neither required nor has a default")
