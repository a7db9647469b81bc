"""The definitions of Weir's resources refuse and accept what `weir check` refuses and accepts."""

import copy
import json
import os
import pathlib
import re
import subprocess

import pytest
import yaml

from cluster import costs, custom, rules, schema
from cluster.store import copy as copied

ROOT = pathlib.Path(__file__).resolve().parents[2]
WEIR = os.environ.get("WEIR_BINARY", str(ROOT / ".build/debug/weir"))
TABLE = yaml.safe_load((ROOT / "Tests/Kubernetes/documents.yaml").read_text(encoding="utf-8"))


def load_definitions():
    loaded = {}
    for path in sorted((ROOT / "manifests/crds").glob("*.yaml")):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        if document["kind"] == "CustomResourceDefinition":
            loaded[document["spec"]["names"]["kind"]] = document
    return loaded


DEFINITIONS = load_definitions()
SCHEMAS = {
    kind: definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for kind, definition in DEFINITIONS.items()
}
RESOURCES = {kind: custom.served(definition) for kind, definition in DEFINITIONS.items()}


def document(kind, spec, name="m", namespace="default"):
    return {
        "apiVersion": "weir.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": namespace}, "spec": spec,
    }


def changed(case):
    spec = copy.deepcopy(TABLE["base"][case["kind"]])
    for path, value in case.get("set", {}).items():
        *parents, last = path.split(".")
        place = spec
        for name in parents:
            place = place[int(name)] if name.isdigit() else place[name]
        place[int(last) if last.isdigit() else last] = copy.deepcopy(value)
    for name in case.get("remove", []):
        del spec[name]
    return document(case["kind"], spec)


def filled(obj):
    """As a server stores it: without unknown fields, with defaults; and the fields that went."""
    value = copied(obj)
    dropped = custom.prune(RESOURCES[obj["kind"]], value)
    custom.default(RESOURCES[obj["kind"]], value)
    return value, dropped


def server_fields(obj, old=None):
    """The fields that an API server complains about, with those it does not know."""
    value, dropped = filled(obj)
    found = custom.problems(RESOURCES[obj["kind"]], value, old)
    for problem in found:
        assert "evaluation error" not in problem.message or len(found) > 1, problem
    return dropped + [problem.field for problem in found if problem.field != "<nil>"]


def definition_problems(known):
    """What an API server would refuse about a definition's schema."""
    return [str(problem) for problem in
            schema.structural_problems(known, "") + rules.definition_problems(known, "")]


def weir_problems(paths):
    command = [WEIR, "check", "-o", "json", "-c", *map(str, paths)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return [p for p in json.loads(run.stdout) if p["severity"] == "error"]


def weir_fields(obj, folder):
    path = folder / "document.yaml"
    path.write_text(json.dumps(obj), encoding="utf-8")
    return [problem["path"] for problem in weir_problems([path])]


def label(case):
    parts = [f"{path}={json.dumps(value)}" for path, value in case.get("set", {}).items()]
    return re.sub(r"\W+", "-", " ".join([case["kind"], *parts, *case.get("remove", [])]))[:80]


@pytest.mark.parametrize("kind", sorted(DEFINITIONS))
def test_an_api_server_takes_the_definition(kind):
    assert definition_problems(SCHEMAS[kind]) == []
    definitions = custom.Definitions(None)
    assert definitions.problems(custom_definitions(), DEFINITIONS[kind], None) == []


def custom_definitions():
    class Definitions:
        key = custom.CRD

    return Definitions


@pytest.mark.parametrize("kind", sorted(DEFINITIONS))
def test_rules_cost_little(kind):
    """A tenth of what an API server allows, since its estimate and this one may differ."""
    _, total = rules.estimated(SCHEMAS[kind])
    assert total < costs.DEFINITION_MAX / 10
    for place, cost in rules.estimated(SCHEMAS[kind])[0]:
        assert cost < costs.RULE_MAX / 10, place


@pytest.mark.parametrize("kind", sorted(DEFINITIONS))
def test_rules_have_words(kind):
    for path, known in walk(SCHEMAS[kind]):
        for rule in known.get("x-kubernetes-validations", ()):
            assert 0 < len(rule.get("message", "")) <= 2048 and "\n" not in rule["message"], path


@pytest.mark.parametrize("case", TABLE["accepted"], ids=label)
def test_both_accept(case, tmp_path):
    obj = changed(case)
    assert weir_fields(obj, tmp_path) == []
    assert server_fields(obj) == []


@pytest.mark.parametrize("case", TABLE["refused"], ids=label)
def test_both_refuse(case, tmp_path):
    obj = changed(case)
    if case.get("only") != "server":
        assert case["refused"] in weir_fields(obj, tmp_path)
    assert case.get("server", case["refused"]) in server_fields(obj)


def test_kinds_of_one_machine_are_not_defined():
    assert sorted(DEFINITIONS) == [
        "Model", "ResourceBudget", "RolloutPolicy", "ScalingPolicy", "Tenant"
    ]


def test_what_must_stay_cannot_be_changed():
    for kind, name, value in (
        ("Model", "protocol", "HTTP"), ("ResourceBudget", "resource", "amd.com/gpu")
    ):
        old = document(kind, copy.deepcopy(TABLE["base"][kind]))
        new = copy.deepcopy(old)
        new["spec"][name] = value
        assert server_fields(new, old) == [f"spec.{name}"]
        assert server_fields(old, old) == []


@pytest.mark.parametrize("kind", sorted(DEFINITIONS))
def test_what_a_cluster_stores_is_what_weir_reads(kind, tmp_path):
    """Filled in with the definition's defaults, a resource means what it meant."""
    obj = document(kind, copy.deepcopy(TABLE["base"][kind]))
    stored, _ = filled(obj)
    assert stored != obj or kind == "ResourceBudget"
    assert weir_fields(stored, tmp_path) == []


def walk(schema, path=()):
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from walk(inner, path + (name,))
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from walk(schema[key], path + ("*",))


@pytest.mark.parametrize("kind", sorted(DEFINITIONS))
def test_every_field_is_described_and_bounded(kind):
    for path, schema in walk(SCHEMAS[kind]):
        if path[:1] in (("apiVersion",), ("kind",), ("metadata",)) or path[-1:] == ("*",):
            continue
        assert schema.get("description"), path
        if schema.get("type") == "array":
            assert "maxItems" in schema and "x-kubernetes-list-type" in schema, path
        if schema.get("type") == "string":
            bounds = ("maxLength", "enum", "format")
            assert any(name in schema for name in bounds), path
        assert schema.get("type") != "number", path


@pytest.mark.parametrize("kind", sorted(DEFINITIONS))
def test_columns_show_fields_that_exist(kind):
    known = {".".join(path) for path, _ in walk(SCHEMAS[kind])}
    known.add("metadata.creationTimestamp")
    for column in DEFINITIONS[kind]["spec"]["versions"][0]["additionalPrinterColumns"]:
        path = re.sub(r"\[\?\(@\.type==\"\w+\"\)\]", ".*", column["jsonPath"]).removeprefix(".")
        assert path in known, column


# -- Every field, with every kind of value

POOL = [
    True, 0, 1, -1, 7, 101, 10**10, "", "x", "X", "a b", "1", "1.5", "0.5", "0", "5%", "101%",
    "0.12345%", "30s", "0s", "25h", "1ms", "auto", "off", "10MiB", "2TiB", "/path", "http://h:1",
    "* * * * *", "nvidia.com/gpu", [], {}, ["x"], {"x": 1},
]
# Every place is tried with every so many of them, another set each; with WEIR_ALL with all.
STRIDE = 1 if os.environ.get("WEIR_ALL") else 12


def leaves(value, path=()):
    """Every place of a document where a value could be another one."""
    if path:
        yield path
    if isinstance(value, dict):
        for name, part in value.items():
            yield from leaves(part, path + (name,))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from leaves(part, path + (index,))


def examples():
    """Good documents with every field in them."""
    text = (ROOT / "configs/full-reference.yaml").read_text(encoding="utf-8")
    for obj in yaml.safe_load_all(text):
        if obj["kind"] not in SCHEMAS:
            continue
        spec = obj["spec"]
        for variant in spec.get("variants", []):
            if variant.get("workloadRef", {}).get("kind") == "ProcessDeployment":
                variant["workloadRef"] = {"kind": "Deployment", "name": "other", "port": 80}
        for name in ("scaling", "rollout"):
            # References to other resources are not an API server's.
            spec.get(name, {}).pop("policy", None)
            spec.get(name, {}).pop("budget", None)
        if spec.get("rollout") == {}:
            del spec["rollout"]
        spec.pop("models", None)
        yield document(obj["kind"], spec)


def differs_by_design(value):
    """Where the two differ, and why."""
    # A duration of `0` needs no unit in a file, where nobody sees whether it is a number.
    return value == 0 and not isinstance(value, bool)


def replaced(obj, path, value):
    new = copy.deepcopy(obj)
    place = new["spec"]
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = copy.deepcopy(value)
    return new


@pytest.mark.parametrize("number", range(len(list(examples()))))
def test_both_judge_every_field_alike(number, tmp_path):
    obj = list(examples())[number]
    assert server_fields(obj) == []
    cases = []
    for start, path in enumerate(leaves(obj["spec"])):
        for value in POOL[start % STRIDE::STRIDE]:
            new = replaced(obj, path, value)
            # Names and routes are one model's alone, among all that are checked at once.
            index = len(cases)
            new["metadata"] = {"name": f"m{index}", "namespace": f"n{index}"}
            if obj["kind"] == "Model":
                for name, alone in (("aliases", []), ("paths", []), ("hostnames", [])):
                    if path[0] != name:
                        new["spec"][name] = alone
            if obj["kind"] == "Tenant" and path[0] != "keys":
                new["spec"]["keys"] = [{"sha256": f"{index:064x}"}]
            cases.append((path, value, new))
    refused = set()
    files = []
    for index, (path, value, new) in enumerate(cases):
        file = tmp_path / f"{index}.yaml"
        file.write_text(json.dumps(new), encoding="utf-8")
        files.append(file)
    shared = {"aliases", "paths", "hostnames", "keys", "protocol"}
    alone = [file for file, case in zip(files, cases) if case[0][0] in shared]
    together = [file for file in files if file not in set(alone)]
    for start in range(0, len(together), 250):
        refused |= {problem["file"] for problem in weir_problems(together[start:start + 250])}
    for file in alone:
        refused |= {problem["file"] for problem in weir_problems([file])}
    different = []
    for file, (path, value, new) in zip(files, cases):
        is_refused = str(file) in refused
        fields = server_fields(new)
        if bool(fields) != is_refused and not differs_by_design(value):
            different.append((path, value, "weir" if is_refused else fields))
    assert different == []
    assert refused and len(refused) < len(cases)
