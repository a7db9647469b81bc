"""`weir simulate`: tables, files, and what it says to traffic and policies that cannot be."""

import json
import subprocess

import pytest

from harness import ROOT, binary

POLICY = """\
apiVersion: weir.dev/v1alpha1
kind: ScalingPolicy
metadata: {name: careful}
spec:
  targets:
  - {type: Concurrency, value: "4"}
"""


def simulate(*arguments):
    return subprocess.run(
        [binary(), "simulate", *map(str, arguments)],
        capture_output=True, text=True, timeout=300, check=False, cwd=ROOT,
    )


def test_compares_policies_on_a_rate(tmp_path):
    policy = tmp_path / "careful.yaml"
    policy.write_text(POLICY)
    result = tmp_path / "result.json"
    page = tmp_path / "page.html"
    done = simulate(
        "--rate", "4", "--duration", "10m", "--policy", policy, "--policy", "kpa:target=6",
        "--policy", "static:replicas=6", "--seeds", 2, "--output", result, "--report", page,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for name in ["careful", "kpa:target=6", "static:replicas=6", "clairvoyant optimum"]:
        assert any(line.startswith(name) for line in lines), done.stdout
    scenario = json.loads(result.read_text())["scenarios"][0]
    fixed = next(each for each in scenario["policies"] if each["name"] == "static:replicas=6")
    # Six replicas for the 450 seconds that count.
    assert fixed["gpuSeconds"] == 2700
    assert len(fixed["runs"]) == 2
    text = page.read_text()
    assert text.startswith("<!doctype html>") and "careful" in text


def test_same_seed_same_figures():
    arguments = ["--scenario", "flash", "--policy", "kpa", "--no-optimum", "--quiet"]
    arguments += ["--output", "-"]
    first = simulate(*arguments)
    assert first.returncode == 0, first.stderr
    assert first.stdout == simulate(*arguments).stdout
    assert first.stdout != simulate(*arguments, "--seed", 2).stdout


def test_tuning_reaches_what_is_wanted():
    done = simulate(
        "--compare", "--rate", "5", "--duration", "20m", "--policy", "weir", "--policy", "kpa",
        "--output", "-",
    )
    assert done.returncode == 0, done.stderr
    scenario = json.loads(done.stdout)["scenarios"][0]
    tuned = next(each for each in scenario["policies"] if not each["isOwn"])
    assert tuned["reachesTarget"] and tuned["attainment"] >= 0.99
    assert len(tuned["sweep"]) > 3
    assert tuned["gpuSeconds"] >= scenario["optimum"]["gpuSeconds"]


SHARED = """\
apiVersion: weir.dev/v1alpha1
kind: ResourceBudget
metadata: {name: gpus}
spec: {resource: nvidia.com/gpu, total: 6}
---
apiVersion: weir.dev/v1alpha1
kind: ScalingPolicy
metadata: {name: auto}
spec:
  targets:
  - {type: Objective}
"""
MEMBER = """\
---
apiVersion: weir.dev/v1alpha1
kind: ProcessDeployment
metadata: {name: %(name)s}
spec:
  command: [sleep, "1"]
  readiness: {path: /health}
---
apiVersion: weir.dev/v1alpha1
kind: Model
metadata: {name: %(name)s}
spec:
  protocol: OpenAI
  variants:
  - name: main
    workloadRef: {kind: ProcessDeployment, name: %(name)s}
  concurrency: {perReplica: 8}
  objectives:
    timeToFirstToken: {quantile: 0.95, below: 2s}
  scaling:
    policy: auto
    minReplicas: 1
    maxReplicas: 10
    budget: {name: gpus, perReplica: 1, weight: %(weight)d}
"""


def test_models_share_a_budget(tmp_path):
    """Two models that could each use all of it: together they never have more than the total."""
    policy = tmp_path / "shared.yaml"
    members = [MEMBER % {"name": name, "weight": weight} for name, weight in (("a", 2), ("b", 1))]
    policy.write_text(SHARED + "".join(members))
    done = simulate(
        "--rate", "8", "--duration", "20m", "--policy", policy, "--no-optimum", "--output", "-",
    )
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)["scenarios"][0]["policies"][0]
    seconds = 20 * 60 * 3 / 4
    # Both want all of it, so all of it is used, and no more.
    assert 0.9 * 6 * seconds < run["gpuSeconds"] <= 6 * seconds


@pytest.mark.parametrize("text, expected", [
    ("", "the trace is empty"),
    ("TIMESTAMP,ContextTokens,GeneratedTokens\r\n5,1,2\r\n3,1,2\r\n", "line 3"),
    ("TIMESTAMP,ContextTokens,GeneratedTokens\n1,-4,2\n", "line 2"),
    ("TIMESTAMP,ContextTokens,GeneratedTokens\n1,1,1\n9000,1,1\n", "hole"),
    ("first,second\n1,2\n", "columns"),
    ("window_start_s,total_rate_rps\n0,1\n600,1\n1800,1\n", "hole"),
])
def test_bad_traces_are_refused_with_their_place(tmp_path, text, expected):
    trace = tmp_path / "trace.csv"
    trace.write_bytes(text.encode())
    done = simulate("--trace", trace, "--policy", "kpa")
    assert done.returncode == 1
    assert done.stderr.startswith("weir: ") and expected in done.stderr
    assert str(trace) in done.stderr


@pytest.mark.parametrize("arguments, status, expected", [
    ([], 2, "say what arrives"),
    (["--scenario", "holiday"], 2, "none of diurnal"),
    (["--rate", "2", "--policy", "hpb"], 1, "hpb is no baseline"),
    (["--rate", "2", "--policy", "kpa:goal=3"], 1, "no parameter goal"),
    (["--rate", "2", "--policy", "kpa:target=-3"], 1, "must be"),
    (["--rate", "2", "--cold-start", "soon"], 2, "--cold-start must be"),
    (["--rate", "2", "--service", "fixed:x"], 2, "--service must be"),
    (["--rate", "2", "--objective", "joy:1s"], 2, "--objective knows"),
    (["--rate", "2", "--outage", "5m"], 2, "--outage must be"),
    (["--rate", "2", "--policy", "missing.yaml"], 1, "missing.yaml"),
    (["--rate", "2", "--report", "/nowhere/page.html"], 1, "cannot write"),
    (["--rate", "2", "--duration", "5m", "--warm-up", "6m"], 1, "warm-up must be shorter"),
    (["--rate", "2", "--gpus-per-replica", "65"], 1, "1 to 64 GPUs"),
])
def test_wrong_use_says_what_to_do(arguments, status, expected):
    done = simulate(*arguments)
    assert done.returncode == status, done.stderr
    assert expected in done.stderr
