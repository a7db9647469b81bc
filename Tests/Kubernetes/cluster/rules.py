"""CEL rules of custom resources (`x-kubernetes-validations`), evaluated by cel-python.

Where that library and the server's CEL differ, the rule's own words are kept: an expression that
cannot be evaluated is a problem of the object, as it is upstream.
"""

import functools
import re

import celpy
import re2
from celpy import celtypes

from . import costs, status
from . import schema as schemas

REASONS = ("FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired", "FieldValueDuplicate")


def _url(text):
    import urllib.parse

    parts = urllib.parse.urlsplit(text)
    if not (parts.scheme or text.startswith("/")):
        raise celpy.CELEvalError("url parse error")
    return parts


def _is_url(text):
    try:
        _url(str(text))
    except (ValueError, celpy.CELEvalError):
        return celtypes.BoolType(False)
    return celtypes.BoolType(True)


def _quantity(text):
    from .quantity import parse

    return celtypes.DoubleType(parse(str(text)))


def _is_quantity(text):
    from .quantity import parse

    try:
        parse(str(text))
    except ValueError:
        return celtypes.BoolType(False)
    return celtypes.BoolType(True)


def _find_all(text, pattern):
    found = [m.group(0) for m in re2.finditer(str(pattern), str(text))]
    return celtypes.ListType([celtypes.StringType(item) for item in found])


def _find(text, pattern):
    match = re2.search(str(pattern), str(text))
    return celtypes.StringType(match.group(0) if match else "")


_UNITS = {
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "µs": 1_000,
    "ns": 1,
}


def duration(text):
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


# The functions that Kubernetes adds to CEL, as far as schemas here are likely to use them.
FUNCTIONS = {
    "duration": duration,
    "matches": lambda text, pattern: celtypes.BoolType(
        re2.search(str(pattern), str(text)) is not None
    ),
    "isURL": _is_url,
    "url": lambda text: celtypes.StringType(text) if _url(str(text)) else text,
    "getScheme": lambda text: celtypes.StringType(_url(str(text)).scheme),
    "getHost": lambda text: celtypes.StringType(_url(str(text)).netloc),
    "getHostname": lambda text: celtypes.StringType(_url(str(text)).hostname or ""),
    "isQuantity": _is_quantity,
    "quantity": _quantity,
    "isGreaterThan": lambda a, b: celtypes.BoolType(a > b),
    "isLessThan": lambda a, b: celtypes.BoolType(a < b),
    "compareTo": lambda a, b: celtypes.IntType((a > b) - (a < b)),
    "sign": lambda a: celtypes.IntType((a > 0) - (a < 0)),
    "find": _find,
    "findAll": _find_all,
    "sum": lambda values: functools.reduce(lambda a, b: a + b, values, celtypes.IntType(0)),
    "min": lambda values: min(values),
    "max": lambda values: max(values),
    "isSorted": lambda values: celtypes.BoolType(all(a <= b for a, b in zip(values, values[1:]))),
    "indexOf": lambda text, part: celtypes.IntType(
        str(text).find(str(part))
        if isinstance(text, str)
        else next((i for i, v in enumerate(text) if v == part), -1)
    ),
    "lowerAscii": lambda text: celtypes.StringType(str(text).lower()),
    "upperAscii": lambda text: celtypes.StringType(str(text).upper()),
    "replace": lambda text, old, new: celtypes.StringType(str(text).replace(str(old), str(new))),
    "split": lambda text, by: celtypes.ListType(
        [celtypes.StringType(p) for p in str(text).split(str(by))]
    ),
    "substring": lambda text, start, end=None: celtypes.StringType(str(text)[start:end]),
    "trim": lambda text: celtypes.StringType(str(text).strip()),
    "join": lambda values, by="": celtypes.StringType(str(by).join(str(v) for v in values)),
}


@functools.cache
def _environment():
    return celpy.Environment()


@functools.lru_cache(maxsize=4096)
def compiled(expression):
    """The program of an expression; raises `celpy.CELParseError`."""
    environment = _environment()
    return environment.program(environment.compile(expression), functions=FUNCTIONS)


def check(expression, variables):
    """The value of an expression."""
    return compiled(expression).evaluate(variables)


def uses_old(expression):
    return re.search(r"\boldSelf\b", expression) is not None


def estimated(schema):
    """What each rule of a definition costs at most, with all its uses, and all of them."""
    found = []
    _definition(schema, "", 1, found, is_root=True)
    return found, sum(cost for _, cost in found)


def definition_problems(schema, path):
    """What is wrong with the rules of a definition: words, fields, defaults, and what they cost."""
    found = []
    problems = _definition(schema, path, 1, found, is_root=True)
    total = sum(cost for _, cost in found)
    if total > costs.DEFINITION_MAX:
        problems.append(
            status.not_allowed(
                path,
                "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
                f" exceeds budget by factor of {total / costs.DEFINITION_MAX:.1f}x",
            )
        )
    return problems


def _definition(schema, path, cardinality, expenses, is_root=False):
    """The problems of a schema; what its rules cost goes to `expenses`."""
    problems = []
    for index, rule in enumerate(schema.get("x-kubernetes-validations", ())):
        place = f"{path}.x-kubernetes-validations[{index}]"
        if not rule.get("rule", "").strip():
            problems.append(status.required(f"{place}.rule", "rule is not specified"))
            continue
        for name in ("rule", "messageExpression"):
            if rule.get(name):
                found, cost = _expression(rule[name], schema, f"{place}.{name}", is_root)
                expenses.append((f"{place}.{name}", cost * cardinality))
                problems += found
                if cost * cardinality > costs.RULE_MAX:
                    problems.append(_too_dear(f"{place}.{name}", cost * cardinality))
        if rule.get("reason") and rule["reason"] not in REASONS:
            problems.append(status.unsupported(f"{place}.reason", rule["reason"], REASONS))
        if rule.get("fieldPath") and not _leads(schema, rule["fieldPath"]):
            words = "does not refer to a valid field"
            problems.append(status.invalid_value(f"{place}.fieldPath", rule["fieldPath"], words))
    if "default" in schema:
        from .store import copy

        value = copy(schema["default"])
        schemas.default(value, schema)
        for problem in found_in(value, schema):
            problems.append(status.Problem(problem.reason, f"{path}.default", str(problem)))
    for name, inner in schema.get("properties", {}).items():
        problems += _definition(inner, f"{path}.properties[{name}]", cardinality, expenses)
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            uses = cardinality * costs.size_of(schema)
            problems += _definition(schema[name], f"{path}.{name}", uses, expenses)
    return problems


def _leads(schema, path):
    """Whether a path such as `.mirror.to` names a field."""
    for name in path.removeprefix(".").split("."):
        schema = schemas._property(schema, name)
        if schema is None:
            return False
    return True


def _too_dear(place, cost):
    return status.not_allowed(
        place, f"estimated rule cost exceeds budget by factor of {cost / costs.RULE_MAX:.1f}x"
    )


def _expression(text, schema, place, is_root):
    """The problems of one expression, and what it costs once."""
    try:
        compiled(text)
        tree = _environment().compile(text)
    except celpy.CELParseError as error:
        words = f"compilation failed: ERROR: {error.args[0]}"
        return [status.invalid_value(place, text, words)], 0
    estimate = costs.Estimate(tree, schema, is_root)
    return [
        status.invalid_value(place, text, f"compilation failed: ERROR: undefined field '{field}'")
        for field in estimate.unknown
    ], estimate.cost


def has_rules(schema):
    """Whether there is a rule anywhere in a schema."""
    return "x-kubernetes-validations" in schema or any(
        has_rules(inner) for inner in _inner_schemas(schema)
    )


def _inner_schemas(schema):
    yield from schema.get("properties", {}).values()
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            yield schema[name]


def found_in(value, schema, old=None, path=""):
    """The problems that the rules of a schema find in a value; `old` is what was there before."""
    if value is None or not has_rules(schema):
        return []
    found = []
    for rule in schema.get("x-kubernetes-validations", ()):
        problem = _evaluate(rule, value, old, schema, path)
        if problem:
            found.append(problem)
    if isinstance(value, dict):
        for name, inner in value.items():
            known = schemas._property(schema, name)
            if known is not None:
                before = old.get(name) if isinstance(old, dict) else None
                place = schemas.join(path, name)
                found += found_in(inner, known, before, place)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for index, inner in enumerate(value):
            before = _correlated(inner, old, schema)
            found += found_in(inner, schema["items"], before, f"{path}[{index}]")
    return found


def _correlated(item, old, schema):
    """The item of a keyed list that was there before; items of other lists have no past."""
    keys = schema.get("x-kubernetes-list-map-keys")
    if schema.get("x-kubernetes-list-type") != "map" or not isinstance(old, list) or not keys:
        return None
    for before in old:
        if all(before.get(key) == item.get(key) for key in keys):
            return before
    return None


def _evaluate(rule, value, old, schema, path):
    variables = {"self": to_cel(value, schema)}
    if uses_old(rule["rule"]) or rule.get("optionalOldSelf"):
        if old is None:
            return None  # a transition rule holds for changes only
        variables["oldSelf"] = to_cel(old, schema)
    field = schemas.join(path, rule["fieldPath"].lstrip(".")) if rule.get("fieldPath") else path
    field = field or "<nil>"
    shown = schemas.kind_of(value) if isinstance(value, (dict, list)) else value
    try:
        if check(rule["rule"], variables):
            return None
    except (celpy.CELEvalError, ArithmeticError, TypeError, ValueError, KeyError) as error:
        return status.invalid_value(field, shown, f"rule evaluation error: {error}")
    message = rule.get("message") or f"failed rule: {rule['rule']}"
    if rule.get("messageExpression"):
        try:
            message = str(check(rule["messageExpression"], variables))
        except (celpy.CELEvalError, TypeError, ValueError):
            pass  # upstream falls back to the message as well
    return _problem(rule.get("reason", "FieldValueInvalid"), field, shown, message.strip())


def _problem(reason, field, shown, message):
    if reason == "FieldValueForbidden":
        return status.not_allowed(field, message)
    if reason == "FieldValueRequired":
        return status.required(field, message)
    if reason == "FieldValueDuplicate":
        return status.duplicate(field, shown)
    return status.invalid_value(field, shown, message)


def _sees(schema, name):
    """Whether a rule sees a field: only what has a type."""
    known = schemas._property(schema, name)
    return known is None or costs.is_visible(known)


def to_cel(value, schema):
    """A JSON value as CEL sees it: by the schema's types, with names that CEL reserves escaped."""
    if value is None:
        return None
    if isinstance(value, dict):
        more = schema.get("additionalProperties")
        escaped = not isinstance(more, dict)
        return celtypes.MapType(
            {
                celtypes.StringType(escape(name) if escaped else name): to_cel(
                    inner, schemas._property(schema, name) or {}
                )
                for name, inner in value.items()
                if _sees(schema, name)
            }
        )
    if isinstance(value, list):
        items = schema.get("items") if isinstance(schema.get("items"), dict) else {}
        return celtypes.ListType([to_cel(inner, items) for inner in value])
    if isinstance(value, bool):
        return celtypes.BoolType(value)
    if isinstance(value, int) and schema.get("type") != "number":
        return celtypes.IntType(value)
    if isinstance(value, (int, float)):
        return celtypes.DoubleType(value)
    if schema.get("format") == "date-time":
        return celtypes.TimestampType(value)
    if schema.get("format") == "duration":
        return celtypes.DurationType(value)
    return celtypes.StringType(value)


_RESERVED = {
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
}


def escape(name):
    """A property's name as rules write it."""
    if name in _RESERVED:
        return f"__{name}__"
    return (
        name.replace("__", "__underscores__")
        .replace(".", "__dot__")
        .replace("-", "__dash__")
        .replace("/", "__slash__")
    )
