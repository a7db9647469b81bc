"""The pretended API server's validation refuses what it should, so that tests can rely on it."""

import copy

import validation

SCHEMA = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string", "maxLength": 5, "pattern": "^[a-z]+$"},
                "count": {"type": "integer", "minimum": 1, "default": 3, "format": "int32"},
                "hold": {
                    "type": "string",
                    "default": "0",
                    "x-kubernetes-validations": [
                        {"rule": "duration(self) <= duration('1.5h')", "message": "too long"}
                    ],
                },
                "mode": {"type": "string", "enum": ["On", "Off"], "nullable": True},
                "port": {"x-kubernetes-int-or-string": True},
                "labels": {
                    "type": "object", "maxProperties": 1,
                    "additionalProperties": {"type": "string"},
                },
                "words": {
                    "type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}
                },
                "rows": {
                    "type": "array",
                    "maxItems": 2,
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["key"],
                    "items": {
                        "type": "object",
                        "required": ["key"],
                        "properties": {
                            "key": {"type": "string"},
                            "kind": {
                                "type": "string",
                                "x-kubernetes-validations": [
                                    {"rule": "self == oldSelf", "message": "stays as it is"}
                                ],
                            },
                        },
                    },
                },
            },
            "x-kubernetes-validations": [
                {
                    "rule": "!has(self.rows) || self.rows.exists(r, r.key == self.name)",
                    "message": "no row has the name",
                    "fieldPath": ".name",
                }
            ],
        }
    },
}


def fields(spec, old=None):
    old = None if old is None else {"spec": old}
    return [cause.field for cause in validation.validate(SCHEMA, {"spec": spec}, old)]


def test_definition_is_structural():
    assert validation.definition_problems(SCHEMA) == []
    unseen = copy.deepcopy(SCHEMA)
    rules = unseen["properties"]["spec"]["x-kubernetes-validations"]
    for rule in ("has(self.nmae)", "self.rows.all(r, r.kye == '')", "self.rows.map(r, self.x)"):
        rules[0]["rule"] = rule
        assert len(validation.definition_problems(unseen)) == 1, rule
    broken = copy.deepcopy(SCHEMA)
    spec = broken["properties"]["spec"]["properties"]
    spec["name"]["pattern"] = "(?=x)"
    spec["count"]["default"] = 0
    del spec["mode"]["type"]
    spec["share"] = {"type": "number"}
    spec["rows"]["items"]["required"] = []
    spec["hold"]["x-kubernetes-validations"][0]["rule"] = "self ==="
    paths = [text.split(":")[0] for text in validation.definition_problems(broken)]
    assert {path.removeprefix("spec.") for path in paths} == {
        "name", "count", "mode", "share", "rows", "hold"
    }


def test_prunes_and_fills_in():
    spec = {"name": "a", "other": 1, "count": None, "mode": None, "rows": [{"key": "a", "x": 1}]}
    pruned, dropped = validation.prune(SCHEMA, {"kind": "K", "metadata": {"x": 1}, "spec": spec})
    assert dropped == ["spec.other", "spec.rows[0].x"]
    assert pruned["metadata"] == {"x": 1}
    filled = validation.default(SCHEMA, pruned)
    assert filled["spec"] == {
        "name": "a", "mode": None, "rows": [{"key": "a"}], "count": 3, "hold": "0"
    }


def test_refuses_wrong_values():
    assert fields({"name": "abc", "count": 3, "hold": "1h", "mode": None, "port": "http"}) == []
    assert fields({}) == ["spec.name", "<nil>"]
    assert fields({"name": "abcdef"}) == ["spec.name", "<nil>"]
    assert fields({"name": "ABC"}) == ["spec.name"]
    assert fields({"name": "a", "count": 0}) == ["spec.count"]
    assert fields({"name": "a", "count": 2**31}) == ["spec.count"]
    assert fields({"name": "a", "count": True}) == ["spec.count", "<nil>"]
    assert fields({"name": "a", "count": 1.5}) == ["spec.count", "<nil>"]
    assert fields({"name": "a", "mode": "on"}) == ["spec.mode", "<nil>"]
    assert fields({"name": "a", "port": 1.5}) == ["spec.port", "<nil>"]
    assert fields({"name": "a", "words": ["x", "y", "x"]}) == ["spec.words[2]"]
    assert fields({"name": "a", "labels": {"x": "1", "y": "2"}}) == ["spec.labels", "<nil>"]
    assert fields({"name": "a", "labels": {"x": 1}}) == ["spec.labels.x", "<nil>"]
    twice = [{"key": "a"}, {"key": "a"}]
    assert fields({"name": "a", "rows": twice}) == ["spec.rows[1]"]


def test_runs_rules():
    assert fields({"name": "a", "hold": "1h30m"}) == []
    assert fields({"name": "a", "hold": "1h31m"}) == ["spec.hold"]
    assert fields({"name": "a", "rows": [{"key": "a"}]}) == []
    assert fields({"name": "a", "rows": [{"key": "b"}]}) == ["spec.name"]
    # What a rule cannot work out is refused too.
    causes = validation.validate(SCHEMA, {"spec": {"name": "a", "hold": "soon"}})
    assert "evaluation error" in causes[0].message


def test_follows_the_elements_of_lists():
    old = {"name": "a", "rows": [{"key": "b", "kind": "x"}, {"key": "a", "kind": "y"}]}
    assert fields({"name": "a", "rows": [{"key": "a", "kind": "y"}]}, old) == []
    assert fields({"name": "a", "rows": [{"key": "a", "kind": "x"}]}, old) == ["spec.rows[0].kind"]
    assert fields({"name": "a", "rows": [{"key": "a", "kind": "x"}]}) == []


def test_reads_durations_as_go_does():
    read = validation._duration
    assert read("1.5h") == read("90m") == read("1h30m") == 5_400_000_000_000
    assert read("-1ms") == -1_000_000
    assert read("1us") == read("1µs") == 1_000
    for text in ("", "1", "h", ".h", "1h 2m", "1d", "300000000h"):
        try:
            read(text)
        except ValueError:
            continue
        raise AssertionError(f"{text!r} was read")
