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


def test_says_what_it_simulated():
    arguments = ["--rate", 5, "--duration", "10m", "--arrivals", "constant", "--no-optimum"]
    arguments += ["--policy", "kpa", "--policy", "static:replicas=4", "--seeds", 2]
    done = simulate(*arguments)
    assert done.returncode == 0, done.stderr
    # Five in each of 600 seconds, for two policies with two seeds.
    assert "simulated 12000 requests in 4 runs, " in done.stderr, done.stderr
    assert done.stderr.rstrip().endswith("million requests per second and core")
    assert simulate(*arguments, "--quiet").stderr == ""


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


POOL = SHARED.replace("  - {type: Objective}", "  - {type: %(target)s}") + """\
---
apiVersion: weir.dev/v1alpha1
kind: ProcessDeployment
metadata: {name: small}
spec: {command: [sleep, "1"], readiness: {path: /health}}
---
apiVersion: weir.dev/v1alpha1
kind: ProcessDeployment
metadata: {name: big}
spec: {command: [sleep, "1"], readiness: {path: /health}}
---
apiVersion: weir.dev/v1alpha1
kind: Model
metadata: {name: m}
spec:
  protocol: OpenAI
  live: small
  variants:
  - name: small
    pool: one
    scaling: {cost: "2", maxReplicas: 3}
    workloadRef: {kind: ProcessDeployment, name: small}
  - name: big
    pool: one
    scaling: {cost: "5", minReplicas: 1}
    workloadRef: {kind: ProcessDeployment, name: big}
  concurrency: {perReplica: 8}
  objectives: {timeToFirstToken: {quantile: 0.95, below: 2s}}
  scaling: {policy: auto, minReplicas: 4, maxReplicas: 10}
"""


def test_a_pool_in_the_file_of_a_policy_is_simulated(tmp_path):
    """At most three small ones, at least one big one, and at least four together."""
    policy = tmp_path / "pool.yaml"
    policy.write_text(POOL % {"target": "Objective"})
    page = tmp_path / "page.html"
    arguments = ["--rate", "8", "--duration", "20m", "--policy", policy]
    done = simulate(*arguments, "--output", "-")
    assert done.returncode == 0, done.stderr
    scenario = json.loads(done.stdout)["scenarios"][0]
    assert "optimum" not in scenario, "nobody knows it for a mix"
    run = scenario["policies"][0]["runs"][0]
    small, big = run["models"]
    assert (small["name"], big["name"]) == ("small", "big")
    assert small["peak"] <= 3 and big["peak"] >= 1
    assert small["completed"] == small["served"] + big["served"]
    assert big["arrivals"] == 0 and big["served"] > 0
    assert small["gpuSeconds"] + big["gpuSeconds"] >= 4 * run["seconds"]
    expected = 2 * small["gpuSeconds"] + 5 * big["gpuSeconds"]
    assert run["costSeconds"] == pytest.approx(expected)
    assert done.stdout == simulate(*arguments, "--output", "-").stdout

    done = simulate(*arguments, "--report", page)
    assert any(line.split()[:2] == ["auto", "big"] for line in done.stdout.splitlines())
    assert "replicas of auto by variant" in page.read_text()


def test_a_bad_variant_is_rolled_back_and_a_good_one_is_not(tmp_path):
    arguments = ["--rate", "8", "--duration", "30m", "--policy", "weir", "--warm-up", "0s"]

    def rollout(canary, *more):
        done = simulate(*arguments, "--canary", canary, *more, "--output", "-")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["scenarios"][0]["policies"][0]["runs"][0]["rollout"]

    good = rollout("next:at=5m")
    assert (good["live"], good["canaryErrors"]) == ("next", 0)
    assert good["events"] and good["events"][0]["seconds"] == 300
    bad = rollout("next:at=5m,errors=0.3")
    assert bad["live"] == "first" and bad["canaryErrors"] > 0
    assert bad["exposedSeconds"] < good["exposedSeconds"]

    # What needs somebody outside is left out, and that is said.
    steps = tmp_path / "careful.yaml"
    steps.write_text(
        "apiVersion: weir.dev/v1alpha1\nkind: RolloutPolicy\nmetadata: {name: careful}\n"
        "spec:\n  steps: [{weight: 20, hold: 60s}, {pause: true}]\n"
        "  analysis: {metrics: [{name: successRate, maxDrop: 5%}]}\n"
        "  onInconclusive: Promote\n"
        '  webhooks: [{when: BeforeStep, url: "http://127.0.0.1:1/approve"}]\n'
    )
    done = simulate(*arguments, "--canary", "next:at=5m", "--rollout-policy", steps)
    assert done.returncode == 0, done.stderr
    assert "careful without its webhooks, pauses without an end" in done.stderr
    assert "rollout of next: stable" in done.stdout and "next serves" in done.stdout


def test_variants_need_a_policy_that_knows_what_they_are_worth(tmp_path):
    policy = tmp_path / "careful.yaml"
    policy.write_text(POLICY)
    done = simulate("--rate", "2", "--policy", policy, "--variant", "big:cost=3")
    assert done.returncode == 1
    assert done.stderr.startswith("weir: policy careful has no Objective target"), done.stderr
    assert "add `{type: Objective}` to its targets" in done.stderr
    # One that is rolled out is no stand-in.
    done = simulate("--rate", "2", "--duration", "5m", "--policy", policy, "--canary", "next")
    assert done.returncode == 0, done.stderr
    policy.write_text(POOL % {"target": "Concurrency, value: 4"})
    done = simulate("--rate", "2", "--policy", policy)
    assert done.returncode == 1 and "has no Objective target" in done.stderr


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
    (["--rate", "2", "--variant", "cost=3"], 2, "begins with its name"),
    (["--rate", "2", "--variant", "big:cost=0"], 2, "big: cost must be 0.000001 to"),
    (["--rate", "2", "--variant", "big:speed"], 2, "settings are like cost=3, not `speed`"),
    (["--rate", "2", "--variant", "big:max=2,min=3"], 2, "big: min=3 is more than max=2"),
    (["--rate", "2", "--variant", "big:errors=1"], 2, "no setting is called errors"),
    (["--rate", "2", "--variant", "big", "--variant", "big"], 2, "two variants are called big"),
    (["--rate", "2", "--canary", "first"], 2, "two variants are called first"),
    (["--rate", "2", "--canary", "next:errors=2"], 2, "next: errors must be 0 to 1, not 2"),
    (["--rate", "2", "--rollout-policy", "x.yaml"], 2, "--rollout-policy needs --canary"),
    (["--rate", "2", "--variant", "big", "--sweep"], 2, "leave variants out"),
])
def test_wrong_use_says_what_to_do(arguments, status, expected):
    done = simulate(*arguments)
    assert done.returncode == status, done.stderr
    assert expected in done.stderr
