"""The commands beside `weir run`, and `weir run` on things that do not work."""

import json
import os
import subprocess

import pytest

from harness import ROOT, binary, eventually, model, simulated

MISTAKES = """\
apiVersion: weir.dev/v1alpha1
kind: Gateway
metadata: {name: default}
spec:
  listenrs: []
  workers: many
  limits: {headerTimeout: 10 parsecs, maxHeaderBytes: 32KiBs}
---
apiVersion: weir.dev/v1alpha1
kind: Model
metadata: {name: Digits!}
spec:
  variants:
  - name: v1
    workloadRef: {kind: ProcessDeployment, name: nowhere}
  - name: v2
    endpoints: ["not a url"]
  live: v3
  weights: {v1: 0, v2: 0}
  mirror: {to: v4, sample: "300%"}
---
apiVersion: weir.dev/v1alpha1
kind: Modell
metadata: {name: digits}
spec: {}
"""
MARKS = [
    "listenrs", "workers", "headerTimeout", "maxHeaderBytes", "Digits!", "nowhere", "not a url",
    "v3", "weights", "v4", "sample", "Modell",
]


def run(*arguments, **options):
    return subprocess.run(
        [binary(), *arguments], capture_output=True, text=True, timeout=60, **options
    )


def test_check_tells_all_mistakes_at_once(tmp_path):
    path = tmp_path / "mistakes.yaml"
    path.write_text(MISTAKES)
    result = run("check", "-c", str(path))
    output = result.stdout + result.stderr
    assert result.returncode == 1
    missing = [mark for mark in MARKS if mark not in output]
    assert not missing, output
    places = [line for line in output.splitlines() if "mistakes.yaml:" in line]
    assert len(places) >= 10, output


EXAMPLES = sorted((ROOT / "configs").glob("*.yaml"))


def test_there_are_examples():
    assert "digits.yaml" in [path.name for path in EXAMPLES]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_check_accepts_the_examples(path):
    result = run("check", "-c", str(path))
    assert result.returncode == 0, result.stdout + result.stderr


def test_help_and_version():
    for command in ([], ["run"], ["check"], ["get"], ["model-simulator"]):
        result = run(*command, "--help")
        assert result.returncode == 0
        assert "USAGE" in result.stdout.upper()
    assert run("--version").stdout.strip()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell):
    result = run("completion", shell)
    assert result.returncode == 0
    assert "weir" in result.stdout


@pytest.mark.parametrize("arguments", [["fly"], ["run", "--no-such-option"], ["check"]])
def test_wrong_usage_is_status_2(arguments):
    result = run(*arguments)
    assert result.returncode == 2
    assert result.stderr


def test_run_without_its_file(tmp_path):
    result = run("run", "-c", str(tmp_path / "nothing.yaml"))
    assert result.returncode == 1
    assert "weir:" in result.stderr
    assert "nothing.yaml" in result.stderr


def test_run_with_a_bad_file_says_what_check_says(tmp_path):
    path = tmp_path / "mistakes.yaml"
    path.write_text(MISTAKES)
    result = run("run", "-c", str(path))
    assert result.returncode == 1
    assert "listenrs" in result.stdout + result.stderr


def test_get_asks_a_running_weir(weir, simulator):
    server = simulator("--model", "river")
    gateway = weir(model("river", {"v1": [server.url]}))
    models = run("get", "models", "--admin", gateway.admin_address)
    assert models.returncode == 0, models.stderr
    assert "river" in models.stdout
    replicas = run("get", "replicas", "--admin", gateway.admin_address, "-o", "json")
    assert replicas.returncode == 0, replicas.stderr
    assert server.address in replicas.stdout


def test_get_without_a_weir_says_so():
    result = run("get", "models", "--admin", "127.0.0.1:1")
    assert result.returncode == 1
    assert result.stderr.startswith("weir:")
    assert "127.0.0.1:1" in result.stderr


def test_tables_are_aligned(weir, simulator):
    server = simulator("--model", "river")
    gateway = weir(model("river", {"first": [server.url], "v2": [server.url]}, live="first"))
    lines = run("get", "models", "--admin", gateway.admin_address).stdout.splitlines()
    assert len(lines) == 3
    column = lines[0].index("VARIANT")
    assert [line[column:].split()[0] for line in lines[1:]] == ["first", "v2"]
    end = lines[0].index("WEIGHT") + len("WEIGHT")
    assert [line[:end].split()[-1] for line in lines[1:]] == ["100", "0"]


def test_scale_asks_a_running_weir(weir):
    gateway = weir(model("river", {"v1": "river-v1"}), simulated("river-v1", "river"), replicas=1)
    environment = {**os.environ, "WEIR_ADMIN": gateway.admin_address}
    result = run("scale", "river-v1", "2", env=environment)
    assert result.returncode == 0, result.stderr
    eventually(lambda: len(gateway.ready_replicas("river-v1")) == 2, "a second replica is ready")
    unknown = run("scale", "lake", "2", env=environment)
    assert unknown.returncode == 1
    assert unknown.stderr.startswith("weir:")
    assert "river-v1" in unknown.stderr, "it names the deployments there are"
    assert run("scale", "river-v1", "two", env=environment).returncode == 2


def test_yaml_says_what_json_says(weir, simulator, tmp_path):
    server = simulator("--model", "river")
    gateway = weir(model("river", {"v1": [server.url]}, aliases=["yes", "1.5", "*"]))
    arguments = ["get", "models", "--admin", gateway.admin_address, "-o"]
    document = json.loads(run(*arguments, "json").stdout)
    assert document["models"][0]["aliases"] == ["yes", "1.5", "*"]
    lines = [line.strip() for line in run(*arguments, "yaml").stdout.splitlines()]
    assert lines[0] == "models:"
    assert "- name: river" in lines
    assert '- "yes"' in lines and '- "1.5"' in lines and '- "*"' in lines
