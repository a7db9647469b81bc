"""Which variant answers: weights, override, stickiness, mirror."""

import collections

import pytest
import requests

from harness import Load, call, eventually, infer_body, model

MODEL = "gauge"
PATH = f"/v2/models/{MODEL}/infer"


@pytest.fixture
def three(simulator):
    """Three servers, one per variant, outside of any deployment."""
    arguments = ["--model", MODEL]
    return {name: simulator(*arguments, name=name) for name in ("v1", "v2", "v3")}


def endpoints(servers):
    return {name: [server.url] for name, server in servers.items()}


def variants_of(gateway, count, **headers):
    seen = collections.Counter()
    with requests.Session() as session:
        for _ in range(count):
            answer = session.post(
                gateway.url + PATH, json=infer_body(), headers=headers, timeout=10
            )
            assert answer.status_code == 200, answer.text
            seen[answer.headers["x-weir-variant"]] += 1
    return seen


def test_weights_hold_over_500_requests(weir, three):
    weights = {"v1": 70, "v2": 30, "v3": 0}
    gateway = weir(
        model(MODEL, endpoints(three), protocol="OpenInference", weights=weights, live="v1")
    )
    seen = variants_of(gateway, 500)
    assert seen["v3"] == 0
    for variant, weight in weights.items():
        assert abs(seen[variant] / 500 - weight / 100) <= 0.05, seen
    assert gateway.weights(MODEL) == weights


def test_weights_hold_over_many_connections(weir, three):
    weights = {"v1": 70, "v2": 30, "v3": 0}
    gateway = weir(
        model(MODEL, endpoints(three), protocol="OpenInference", weights=weights, live="v1")
    )
    seen = collections.Counter(
        call(gateway.address, "POST", PATH, infer_body()).headers["x-weir-variant"]
        for _ in range(500)
    )
    assert seen["v3"] == 0
    assert abs(seen["v1"] / 500 - 0.7) <= 0.05, seen


def test_override_header_names_the_variant(weir, three):
    gateway = weir(model(
        MODEL, endpoints(three), protocol="OpenInference", live="v1",
        weights={"v1": 100, "v2": 0, "v3": 0}, overrideHeader="x-weir-variant",
    ))
    assert variants_of(gateway, 20) == {"v1": 20}
    assert variants_of(gateway, 20, **{"x-weir-variant": "v3"}) == {"v3": 20}


def test_override_is_off_unless_set(weir, three):
    gateway = weir(model(
        MODEL, endpoints(three), protocol="OpenInference", live="v1",
        weights={"v1": 100, "v2": 0, "v3": 0},
    ))
    assert variants_of(gateway, 20, **{"x-weir-variant": "v3"}) == {"v1": 20}


def test_sticky_header_keeps_a_user_on_a_variant(weir, three):
    gateway = weir(model(
        MODEL, endpoints(three), protocol="OpenInference", live="v1",
        weights={"v1": 50, "v2": 50, "v3": 0}, sticky={"header": "x-user-id"},
    ))
    seen = collections.Counter()
    for user in range(40):
        variants = variants_of(gateway, 5, **{"x-user-id": f"user-{user}"})
        assert len(variants) == 1, f"user-{user} was sent to {variants}"
        seen[next(iter(variants))] += 1
    assert seen["v1"] > 5 and seen["v2"] > 5, "users are spread over both variants"


def test_sticky_cookie_keeps_a_session_on_a_variant(weir, three):
    gateway = weir(model(
        MODEL, endpoints(three), protocol="OpenInference", live="v1",
        weights={"v1": 50, "v2": 50, "v3": 0}, sticky={"cookie": "weir-variant"},
    ))
    first = collections.Counter()
    for _ in range(20):
        variants = variants_of(gateway, 5)  # one session, so the cookie comes back
        assert len(variants) == 1
        first[next(iter(variants))] += 1
    assert first["v1"] > 2 and first["v2"] > 2


def test_mirror_copies_requests_and_never_touches_the_client(weir, three):
    gateway = weir(model(
        MODEL, endpoints(three), protocol="OpenInference", live="v1",
        weights={"v1": 100, "v2": 0, "v3": 0}, mirror={"to": "v3", "sample": "100%"},
    ))
    with Load(gateway.address, PATH, infer_body(), threads=2) as load:
        load.wait_for(100)
        copies = eventually(
            lambda: three["v3"].metric("weir_simulator_inferences_total"), "v3 gets copies"
        )
        three["v3"].faults(errorRate=0.5, resetRate=0.5)
        load.wait_for(100)
    assert copies > 10
    assert not load.failures
    assert {a.headers["x-weir-variant"] for a in load.answers} == {"v1"}
