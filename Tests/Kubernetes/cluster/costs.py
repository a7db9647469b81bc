"""What CEL rules cost at most, by the documented cost model, and the fields that they name.

Since 1.25 an API server estimates each rule when a definition comes, and refuses it when it could
cost too much: what counts are the bounds of the lists, maps and texts it walks (`maxItems`,
`maxProperties`, `maxLength`), times the bounds of the lists it stands in. Where a bound is missing,
as much as fits into a request is assumed. This estimate follows that model, a little dearer where
it simplifies.
"""

import lark

# The limits of the API server: one rule with all its uses, and all rules of a definition.
RULE_MAX = 10_000_000
DEFINITION_MAX = 100_000_000
REQUEST_BYTES_MAX = 3 << 20
TRAVERSAL = 0.1  # per byte
BYTES_MAX = 4  # of a character
LIST_COST = 10
MACROS = {"all", "exists", "exists_one", "filter", "map"}
# How many times a function walks what it is called on.
WALKS = {"lowerAscii": 1, "upperAscii": 1, "trim": 1, "split": 2, "replace": 2, "find": 4,
         "contains": 4, "isSorted": 10}
TEXT = {"type": "string"}


class Found:
    """A part of an expression: what it costs, its schema where that is known, and its size."""

    def __init__(self, cost, schema=None, size=1):
        self.cost, self.schema, self.size = cost, schema, size


def size_of(schema):
    """How many elements or characters a value has at most."""
    if schema is None:
        return 1
    kind = schema.get("type")
    if kind == "array":
        return schema.get("maxItems", REQUEST_BYTES_MAX)
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return schema.get("maxProperties", REQUEST_BYTES_MAX)
    if "enum" in schema:
        return max(len(str(word)) for word in schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return REQUEST_BYTES_MAX  # older servers take no notice of its maxLength
    if kind == "string":
        return schema.get("maxLength", REQUEST_BYTES_MAX // BYTES_MAX) * BYTES_MAX
    return 1


def is_visible(schema):
    return "type" in schema or schema.get("x-kubernetes-int-or-string", False)


class Estimate:
    """Walks one compiled rule; `unknown` are the fields that it names and does not see."""

    def __init__(self, tree, schema, is_root):
        self.unknown = []
        self.is_root = is_root
        self.root = schema
        self.cost = self.walk(tree, {"self": schema, "oldSelf": schema}).cost

    def walk(self, node, scope):
        if isinstance(node, lark.Token):
            return Found(0)
        handle = getattr(self, f"_{node.data}", None)
        if handle:
            return handle(node.children, scope)
        if len(node.children) == 1:
            return self.walk(node.children[0], scope)
        parts = [self.walk(child, scope) for child in node.children]
        cost = sum(part.cost for part in parts) + 1
        if node.data == "relation":  # a comparison walks the shorter of the two
            cost += min((part.size for part in parts), default=1) * TRAVERSAL
        return Found(cost)

    def _expr(self, children, scope):
        parts = [self.walk(child, scope) for child in children]
        if len(parts) == 1:
            return parts[0]
        return Found(parts[0].cost + max(part.cost for part in parts[1:]) + 1)

    def _literal(self, children, scope):
        return Found(0, size=max(1, len(str(children[0])) - 2))

    def _ident(self, children, scope):
        schema = scope.get(str(children[0]))
        return Found(1, schema, size_of(schema))

    def _list_lit(self, children, scope):
        items = children[0].children if children else []
        return Found(LIST_COST + sum(self.walk(item, scope).cost for item in items),
                     {"type": "array", "maxItems": len(items)}, len(items))

    def _member_dot(self, children, scope):
        inner, name = self.walk(children[0], scope), str(children[1])
        schema = self._field(inner.schema, name)
        return Found(inner.cost + 1, schema, size_of(schema))

    def _field(self, schema, name):
        """The schema of a field; None where nothing is known of what it is a field of."""
        if schema is None or schema.get("x-kubernetes-int-or-string"):
            return None
        if self.is_root and schema is self.root and name == "metadata":
            return {"type": "object", "properties": {"name": {"type": "string", "maxLength": 253}}}
        more = schema.get("additionalProperties")
        if isinstance(more, dict):
            return more
        found = schema.get("properties", {}).get(name)
        if found is None or not is_visible(found):
            self.unknown.append(name)
            return None
        return found

    def _member_index(self, children, scope):
        inner, index = self.walk(children[0], scope), self.walk(children[1], scope)
        schema = element(inner.schema)
        return Found(inner.cost + index.cost + 1, schema, size_of(schema))

    def _ident_arg(self, children, scope):
        words = children[1].children if len(children) > 1 else []
        parts = [self.walk(word, scope) for word in words]
        size = parts[0].size if str(children[0]) == "string" and parts else 1
        return Found(1 + sum(part.cost for part in parts), None, size)

    def _member_dot_arg(self, children, scope):
        inner, name = self.walk(children[0], scope), str(children[1])
        words = children[2].children if len(children) > 2 else []
        if name in MACROS:
            return self._macro(inner, name, words, scope)
        parts = [self.walk(word, scope) for word in words]
        cost = inner.cost + 1 + sum(part.cost for part in parts)
        if name in ("startsWith", "endsWith"):  # it looks at as much as it looks for
            return Found(cost + parts[0].size * TRAVERSAL)
        if name == "matches":  # a regular expression has a state for every four characters
            return Found(cost + (inner.size + 1) * TRAVERSAL * parts[0].size / 4)
        if name in WALKS:
            cost += inner.size * TRAVERSAL * WALKS[name]
        return Found(cost, None, inner.size)

    def _macro(self, inner, name, words, scope):
        """Once per element: the body, the condition to go on, and what it adds to the result."""
        variable = str(next(words[0].scan_values(lambda token: True)))
        schema = inner.schema or {}
        keys = isinstance(schema.get("additionalProperties"), dict)
        bound = {**scope, variable: TEXT if keys else schema.get("items")}
        body = sum(self.walk(word, bound).cost for word in words[1:])
        each = body + 3 + (LIST_COST + 1 if name in ("filter", "map") else 0)
        result = inner.schema if name == "filter" else None
        size = inner.size if name in ("filter", "map") else 1
        return Found(inner.cost + 1 + inner.size * each, result, size)


def element(schema):
    if schema is None:
        return None
    return schema.get("items") or schema.get("additionalProperties") or None
