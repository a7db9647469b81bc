"""Quantities such as `500m`, `2Gi` and `1e3`."""

import decimal
import re

_PATTERN = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([numkMGTPE]|[KMGTPE]i)?)")
_POWERS = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}


def parse(text):
    """The number that a quantity stands for."""
    match = _PATTERN.fullmatch(str(text))
    if not match:
        raise ValueError(f"{text!r} is no quantity")
    number, exponent, suffix = match.groups()
    value = decimal.Decimal(number + (exponent or ""))
    if suffix in _BINARY:
        return value * (1 << _BINARY[suffix])
    return value.scaleb(_POWERS[suffix]) if suffix else value


def show(value):
    """A number as a quantity without needless digits."""
    value = decimal.Decimal(value)
    if value == value.to_integral_value():
        return str(int(value))
    return f"{int(value * 1000)}m"


def canonical(text):
    """A quantity as the server writes it: no fraction, and the largest suffix that allows that."""
    value = parse(text)
    suffix = _PATTERN.fullmatch(str(text))[3] or ""
    if suffix in _BINARY and value == value.to_integral_value():
        for name, power in reversed(_BINARY.items()):
            if value and value % (1 << power) == 0:
                return f"{int(value) >> power}{name}"
        return str(int(value))
    if not value:
        return "0"
    for name, power in sorted(_POWERS.items(), key=lambda item: -item[1]):
        if power < 0:
            continue
        scaled = value.scaleb(-power)
        if scaled == scaled.to_integral_value():
            return f"{int(scaled)}{name}"
    for name, power in (("", 0), ("m", -3), ("u", -6), ("n", -9)):
        scaled = value.scaleb(-power)
        if scaled == scaled.to_integral_value():
            return f"{int(scaled)}{name}"
    return f"{int(value.scaleb(9).to_integral_value(decimal.ROUND_CEILING))}n"


def percent_or_count(value, total, round_up):
    """An int-or-percentage of a total, as the fields maxSurge and maxUnavailable have it."""
    if isinstance(value, str) and value.endswith("%"):
        product = int(value[:-1]) * total
        return -(-product // 100) if round_up else product // 100
    return int(value)
