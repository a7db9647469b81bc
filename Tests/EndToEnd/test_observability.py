"""What Weir tells about itself."""

import json
import pathlib

import pytest
import requests

from harness import Stream, call, chat_body, eventually, model, simulated

MODEL = "river"


@pytest.fixture
def gateway(weir):
    documents = [
        model(MODEL, {"v1": "river-v1"}),
        simulated("river-v1", MODEL, 1, ["--step-time", "10ms"]),
    ]
    return weir(*documents, replicas=1)


def test_streams_are_measured_as_they_pass(gateway):
    body = chat_body(MODEL, tokens=12, stream_options={"include_usage": True})
    assert Stream(gateway.address, body).rest()[-1] == "[DONE]"
    eventually(
        lambda: gateway.metric("weir_time_to_first_token_seconds_count", model=MODEL) == 1,
        "the time to the first token is measured", 5,
    )
    tokens = gateway.metric("weir_tokens_total", model=MODEL, type="output")
    assert tokens == 12
    first = gateway.metric("weir_time_to_first_token_seconds_sum", model=MODEL)
    whole = gateway.metric("weir_request_duration_seconds_sum", model=MODEL)
    assert 0 < first < whole


def test_metrics_are_text_that_prometheus_reads(gateway):
    gateway.call("POST", "/v1/chat/completions", chat_body(MODEL))
    text = gateway.metrics()
    for line in text.splitlines():
        assert line.startswith("# ") or line.rpartition(" ")[2].replace("+Inf", "1"), line
        if not line.startswith("#"):
            float(line.rpartition(" ")[2])
    assert gateway.metric("weir_requests_total", model=MODEL, code="200") == 1
    assert gateway.metric("weir_replicas", model=MODEL, state="ready") == 1


def test_access_log_has_one_line_of_json_per_request(gateway, tmp_path):
    request_id = "the-id-of-this-request"
    answer = requests.post(
        f"{gateway.url}/v1/chat/completions",
        json=chat_body(MODEL),
        headers={"x-request-id": request_id},
        timeout=10,
    )
    assert answer.headers["x-request-id"] == request_id
    log = pathlib.Path(tmp_path / "access.log")

    def line():
        lines = [json.loads(text) for text in log.read_text().splitlines() if text.endswith("}")]
        return [entry for entry in lines if entry["request_id"] == request_id]

    entries = eventually(lambda: log.exists() and line(), "the access log has the request", 5)
    assert len(entries) == 1
    entry = entries[0]
    assert entry["status"] == 200
    assert entry["model"] == MODEL
    assert entry["variant"] == "v1"
    assert entry["path"] == "/v1/chat/completions"


def test_health_and_readiness(gateway):
    assert call(gateway.admin_address, "GET", "/healthz").status == 200
    assert call(gateway.admin_address, "GET", "/readyz").status == 200
    assert call(gateway.admin_address, "GET", "/nothing/here").status == 404


def test_replicas_and_models_by_the_api(gateway):
    replica = gateway.replicas("river-v1")[0]
    assert replica["model"] == MODEL
    assert replica["variant"] == "v1"
    assert replica["state"] == "ready"
    assert replica["coldStartSeconds"] > 0
    models = gateway.admin("GET", "/api/v1/models")["models"]
    variant = models[0]["variants"][0]
    assert variant["replicas"] == {"desired": 1, "ready": 1}
    listeners = gateway.admin("GET", "/api/v1/listeners")["listeners"]
    assert {"name": "http", "address": gateway.address} in [
        {"name": entry["name"], "address": entry["address"]} for entry in listeners
    ]
