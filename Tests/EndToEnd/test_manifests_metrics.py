"""Alerts and dashboards of the manifests ask only for metrics that a running Weir has."""

import json
import pathlib
import re

import yaml

import harness

MANIFESTS = pathlib.Path(__file__).resolve().parents[2] / "manifests"
NAME = r"\b(?:weir|process|gen_ai)_[a-z_]+"


def expressions():
    alerts = MANIFESTS / "components/alerts/alerts.yaml"
    for group in yaml.safe_load(alerts.read_text(encoding="utf-8"))["spec"]["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for path in sorted((MANIFESTS / "components/dashboards").glob("*.json")):
        board = json.loads(path.read_text(encoding="utf-8"))
        for panel in board["panels"]:
            for target in panel["targets"]:
                yield f"{path.name}: {panel['title']}", target["expr"]


def test_alerts_and_dashboards_use_metrics_that_exist(start, tmp_path):
    documents = [
        harness.gateway(tmp_path),
        harness.model("m", {"v": ["http://127.0.0.1:9"]}),
    ]
    weir = start(harness.Weir, documents)
    families = {}
    for line in weir.metrics().splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            families[name] = kind
    known = set()
    for name, kind in families.items():
        known |= {name}
        if kind == "histogram":
            known |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"}
    used = 0
    for place, expression in expressions():
        for name in re.findall(NAME, expression):
            assert name in known, f"{place}: there is no metric {name}"
            used += 1
    assert used > 40
