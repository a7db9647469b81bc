"""OpenAPI v2 documents as the protocol buffers that older kubectls ask for (gnostic's openapi_v2).

Only what kubectl reads is written: the definitions, with types, references and extensions.
"""

import orjson


def _varint(number):
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _bytes(field, value):
    """A field of a text, of bytes, or of an encoded message."""
    data = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _flag(field, value):
    return _varint(field << 3) + _varint(int(value))


def _named(name, value):
    return _bytes(1, name) + _bytes(2, value)


def _extension(name, value):
    """A NamedAny whose value is YAML, of which JSON is a part."""
    return _named(name, _bytes(2, orjson.dumps(value)))


def _schema(schema):
    found = b""
    if "$ref" in schema:
        found += _bytes(1, schema["$ref"])
    for name, field in (("format", 2), ("title", 3), ("description", 4)):
        if schema.get(name):
            found += _bytes(field, str(schema[name]))
    for name in schema.get("required", ()):
        found += _bytes(19, name)
    more = schema.get("additionalProperties")
    if isinstance(more, dict):
        found += _bytes(21, _bytes(1, _schema(more)))
    elif more is not None:
        found += _bytes(21, _flag(2, more))
    if schema.get("type"):
        found += _bytes(22, _bytes(1, schema["type"]))
    if isinstance(schema.get("items"), dict):
        found += _bytes(23, _bytes(1, _schema(schema["items"])))
    if schema.get("properties"):
        listed = b"".join(
            _bytes(1, _named(name, _schema(inner)))
            for name, inner in sorted(schema["properties"].items())
        )
        found += _bytes(25, listed)
    for name, value in schema.items():
        if name.startswith("x-"):
            found += _bytes(31, _extension(name, value))
    return found


def encode(document):
    """The message of a document."""
    info = _bytes(1, document["info"]["title"]) + _bytes(2, document["info"]["version"])
    definitions = b"".join(
        _bytes(1, _named(name, _schema(schema)))
        for name, schema in sorted(document["definitions"].items())
    )
    return (
        _bytes(1, document["swagger"]) + _bytes(2, info) + _bytes(8, b"") + _bytes(9, definitions)
    )
