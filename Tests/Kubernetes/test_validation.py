"""The test cluster's validation refuses what it should, so that tests can rely on it."""

import copy

import pytest
from cluster import custom, rules, schema

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


class Resource:
    """A kind whose objects look like SCHEMA says."""

    @staticmethod
    def schema():
        return SCHEMA


def problems(spec, old=None):
    old = None if old is None else {"spec": old}
    return custom.problems(Resource, {"spec": spec}, old)


def fields(spec, old=None):
    return [problem.field for problem in problems(spec, old)]


def definition_problems(known):
    return schema.structural_problems(known, "") + rules.definition_problems(known, "")


def test_definition_is_structural():
    assert definition_problems(SCHEMA) == []
    unseen = copy.deepcopy(SCHEMA)
    own = unseen["properties"]["spec"]["x-kubernetes-validations"]
    for rule in ("has(self.nmae)", "self.rows.all(r, r.kye == '')", "self.rows.map(r, self.x)"):
        own[0]["rule"] = rule
        assert len(definition_problems(unseen)) == 1, rule
    broken = copy.deepcopy(SCHEMA)
    spec = broken["properties"]["spec"]["properties"]
    spec["name"]["pattern"] = "(?=x)"
    spec["count"]["default"] = 0
    del spec["mode"]["type"]
    spec["rows"]["items"]["required"] = []
    spec["hold"]["default"] = "2h"
    spec["words"]["x-kubernetes-validations"] = [{"rule": "self ===", "message": "x"}]
    found = " ".join(problem.field for problem in definition_problems(broken))
    for name in ("name", "count", "mode", "rows", "hold", "words"):
        assert f".properties[{name}]" in found, found


def test_field_paths_of_rules_exist():
    broken = copy.deepcopy(SCHEMA)
    broken["properties"]["spec"]["x-kubernetes-validations"][0]["fieldPath"] = ".nmae"
    assert [p.field.rpartition(".")[2] for p in definition_problems(broken)] == ["fieldPath"]


def test_rules_that_could_cost_too_much_are_refused():
    """As a server estimates them: by the bounds of what they walk."""
    dear = copy.deepcopy(SCHEMA)
    spec = dear["properties"]["spec"]
    spec["properties"]["many"] = {
        "type": "array", "maxItems": 100, "x-kubernetes-list-type": "atomic",
        "items": {"type": "string", "maxLength": 10},
    }
    rule = {"rule": "self.many.all(a, self.many.exists(b, a == b))", "message": "m"}
    spec["x-kubernetes-validations"] = [rule]
    assert definition_problems(dear) == []
    del spec["properties"]["many"]["maxItems"]
    assert "exceeds budget" in str(definition_problems(dear)[0])


def test_prunes_and_fills_in():
    spec = {"name": "a", "other": 1, "count": None, "mode": None, "rows": [{"key": "a", "x": 1}]}
    value = {"kind": "K", "metadata": {"x": 1}, "spec": spec}
    assert custom.prune(Resource, value) == ["spec.other", "spec.rows[0].x"]
    assert value["metadata"] == {"x": 1}
    custom.default(Resource, value)
    assert value["spec"] == {
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
    assert "evaluation error" in problems({"name": "a", "hold": "soon"})[0].message


def test_follows_the_elements_of_lists():
    old = {"name": "a", "rows": [{"key": "b", "kind": "x"}, {"key": "a", "kind": "y"}]}
    assert fields({"name": "a", "rows": [{"key": "a", "kind": "y"}]}, old) == []
    assert fields({"name": "a", "rows": [{"key": "a", "kind": "x"}]}, old) == ["spec.rows[0].kind"]
    assert fields({"name": "a", "rows": [{"key": "a", "kind": "x"}]}) == []


def test_reads_durations_as_go_does():
    read = rules.duration
    assert read("1.5h") == read("90m") == read("1h30m") == 5_400_000_000_000
    assert read("-1ms") == -1_000_000
    assert read("1us") == read("1µs") == 1_000
    for text in ("", "1", "h", ".h", "1h 2m", "1d", "300000000h"):
        with pytest.raises(ValueError):
            read(text)
