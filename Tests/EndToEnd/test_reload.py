"""A configuration that changes while requests run."""

import signal

import pytest

from harness import Load, call, eventually, gateway as gateway_resource, infer_body, model
from harness import simulated

MODEL = "gauge"
PATH = f"/v2/models/{MODEL}/infer"


@pytest.fixture
def two(simulator):
    return {name: simulator("--model", MODEL, name=name) for name in ("v1", "v2")}


def split(servers, v1, v2):
    endpoints = {name: [server.url] for name, server in servers.items()}
    weights = {"v1": v1, "v2": v2}
    return model(MODEL, endpoints, protocol="OpenInference", weights=weights, live="v1")


def test_edited_file_takes_effect(weir, two, tmp_path):
    gateway = weir(split(two, 100, 0))
    assert gateway.call("POST", PATH, infer_body()).headers["x-weir-variant"] == "v1"
    gateway.write([gateway_resource(tmp_path), split(two, 0, 100)])
    eventually(lambda: gateway.weights(MODEL) == {"v1": 0, "v2": 100}, "the edit is in force", 10)
    assert gateway.call("POST", PATH, infer_body()).headers["x-weir-variant"] == "v2"


def test_reload_by_signal_and_by_the_admin_api(weir, two, tmp_path):
    gateway = weir(split(two, 100, 0))
    gateway.write([gateway_resource(tmp_path), split(two, 60, 40)])
    gateway.signal(signal.SIGHUP)
    eventually(lambda: gateway.weights(MODEL) == {"v1": 60, "v2": 40}, "SIGHUP reloads", 10)
    gateway.write([gateway_resource(tmp_path), split(two, 20, 80)])
    gateway.admin("POST", "/api/v1/reload")
    eventually(lambda: gateway.weights(MODEL) == {"v1": 20, "v2": 80}, "the API reloads", 10)


def test_reloads_under_load_cost_no_request(weir, two, tmp_path):
    gateway = weir(split(two, 100, 0))
    with Load(gateway.address, PATH, infer_body()) as load:
        for round_ in range(10):
            share = 10 * round_
            gateway.write([gateway_resource(tmp_path), split(two, share, 100 - share)])
            gateway.signal(signal.SIGHUP)
            eventually(
                lambda: gateway.weights(MODEL)["v1"] == share, f"round {round_} is in force", 10
            )
            load.wait_for(40)
    assert not load.failures, load.failures[:5]
    assert {a.headers["x-weir-variant"] for a in load.answers} == {"v1", "v2"}


def test_models_come_and_go_under_load(weir, two, tmp_path):
    gateway = weir(split(two, 50, 50))
    lake = [model("lake", {"v1": "lake-v1"}), simulated("lake-v1", "lake")]
    with Load(gateway.address, PATH, infer_body()) as load:
        gateway.write([gateway_resource(tmp_path), split(two, 50, 50), *lake])
        eventually(lambda: gateway.ready_replicas("lake-v1"), "the new model's replica is ready")
        pid = gateway.ready_replicas("lake-v1")[0]["pid"]
        gateway.write([gateway_resource(tmp_path), split(two, 50, 50)])
        eventually(lambda: not gateway.replicas("lake-v1"), "the removed model's replica is gone")
        assert pid not in [r["pid"] for r in gateway.replicas()]
        load.wait_for(20)
    assert not load.failures, load.failures[:5]


@pytest.mark.parametrize("text", [
    "",
    "kind: [",
    "apiVersion: weir.dev/v1alpha1\nkind: Model\nmetadata: {name: x}\nspec: {variants: 7}\n",
    "\x00\x01\x02",
    "a: &a [*a]\n",
])
def test_bad_file_keeps_the_old_configuration(weir, two, text):
    gateway = weir(split(two, 100, 0))
    generation = gateway.generation()
    with Load(gateway.address, PATH, infer_body(), threads=2) as load:
        gateway.write(text)
        gateway.signal(signal.SIGHUP)
        eventually(
            lambda: gateway.metric("weir_config_errors_total"), "the refusal is counted", 10
        )
        load.wait_for(20)
    assert not load.failures, load.failures[:5]
    assert gateway.weights(MODEL) == {"v1": 100, "v2": 0}
    assert gateway.generation() == generation
    assert gateway.config.name in gateway.output(), "the log says which file is wrong"
    answer = call(gateway.admin_address, "POST", "/api/v1/reload")
    assert 400 <= answer.status < 500, "asking for a reload tells that the file is bad"


def test_bad_file_that_is_mended_is_taken(weir, two, tmp_path):
    gateway = weir(split(two, 100, 0))
    gateway.write("kind: [")
    gateway.signal(signal.SIGHUP)
    eventually(lambda: gateway.metric("weir_config_errors_total"), "the refusal is counted", 10)
    gateway.write([gateway_resource(tmp_path), split(two, 0, 100)])
    eventually(lambda: gateway.weights(MODEL) == {"v1": 0, "v2": 100}, "the file is taken", 10)
