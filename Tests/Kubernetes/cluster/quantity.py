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


def percent_or_count(value, total, round_up):
    """An int-or-percentage of a total, as the fields maxSurge and maxUnavailable have it."""
    if isinstance(value, str) and value.endswith("%"):
        product = int(value[:-1]) * total
        return -(-product // 100) if round_up else product // 100
    return int(value)
