"""Label and field selectors."""

import re

from . import status

_SET = re.compile(r"^\s*([A-Za-z0-9./_-]+)\s+(in|notin)\s+\(([^()]*)\)\s*$")
_EXISTS = re.compile(r"^\s*(!?)\s*([A-Za-z0-9./_-]+)\s*$")
_EQUAL = re.compile(r"^\s*([A-Za-z0-9./_-]+)\s*(==|=|!=)\s*([A-Za-z0-9._-]*)\s*$")
_COMPARE = re.compile(r"^\s*([A-Za-z0-9./_-]+)\s*(<|>)\s*(-?\d+)\s*$")


def split(text):
    """The parts of a selector between commas that are not in parentheses."""
    return [part for part in re.split(r",(?![^(]*\))", text) if part.strip()]


def parse_labels(text):
    """A function from labels to whether the selector picks them."""
    tests = []
    for part in split(text or ""):
        if match := _SET.match(part):
            key, operator, values = match.groups()
            wanted = {value.strip() for value in values.split(",")}
            tests.append((key, "In" if operator == "in" else "NotIn", wanted))
        elif match := _EQUAL.match(part):
            key, operator, value = match.groups()
            tests.append((key, "NotIn" if operator == "!=" else "In", {value}))
        elif match := _COMPARE.match(part):
            tests.append((match[1], match[2], int(match[3])))
        elif match := _EXISTS.match(part):
            tests.append((match[2], "DoesNotExist" if match[1] else "Exists", None))
        else:
            raise status.bad_request(
                f'unable to parse requirement: found {part.strip()!r} in label selector "{text}"'
            )
    return lambda labels: all(_holds(test, labels or {}) for test in tests)


def _holds(test, labels):
    key, operator, wanted = test
    value = labels.get(key)
    if operator == "In":
        return value in wanted
    if operator == "NotIn":
        return value not in wanted
    if operator == "Exists":
        return value is not None
    if operator == "DoesNotExist":
        return value is None
    try:
        number = int(value)
    except (TypeError, ValueError):
        return False
    return number < wanted if operator == "<" else number > wanted


def label_selector(selector):
    """A function from labels to whether a `LabelSelector` picks them; none for a null selector."""
    if selector is None:
        return lambda labels: False
    tests = [(key, "In", {value}) for key, value in (selector.get("matchLabels") or {}).items()]
    for item in selector.get("matchExpressions") or ():
        tests.append((item["key"], item["operator"], set(item.get("values") or ())))
    return lambda labels: all(_holds(test, labels or {}) for test in tests)


def selector_text(selector):
    """A `LabelSelector` in the words of a query, as `/scale` shows it."""
    parts = [f"{k}={v}" for k, v in sorted(((selector or {}).get("matchLabels") or {}).items())]
    for item in (selector or {}).get("matchExpressions") or ():
        values = ",".join(sorted(item.get("values") or ()))
        parts.append(
            {
                "In": f"{item['key']} in ({values})",
                "NotIn": f"{item['key']} notin ({values})",
                "Exists": item["key"],
                "DoesNotExist": f"!{item['key']}",
            }[item["operator"]]
        )
    return ",".join(parts)


def parse_fields(text, resource):
    """A function from objects to whether a field selector picks them."""
    tests = []
    stored = {}
    if resource.stored_as:
        from . import convert

        stored = convert.EVENT_NAMES
    for part in split(text or ""):
        match = re.match(r"^\s*([A-Za-z0-9./\[\]_-]+)\s*(==|=|!=)\s*(.*?)\s*$", part)
        if not match:
            raise status.bad_request(f'invalid selector: "{text}"; can\'t understand "{part}"')
        path, operator, value = match.groups()
        if path not in resource.field_labels:
            raise status.bad_request(
                f'Unable to find "{status.qualified(resource)}" that match label selector "", '
                f'field selector "{text}": field label not supported: {path}'
            )
        first, *rest = path.split(".")
        tests.append(([stored.get(first, first), *rest], operator == "!=", value))
    return lambda value: all(
        (_text(value, path) == wanted) != negate for path, negate, wanted in tests
    )


def _text(value, path):
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
