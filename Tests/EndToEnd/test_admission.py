"""Full queues, slow servers and servers that are not there: each has its status."""

import concurrent.futures
import http.client
import json
import socket
import time

import pytest

from harness import call, chat_body, eventually, infer_body, is_alive, model, simulated
from secure import Backend, split

MODEL = "gauge"
PATH = f"/v2/models/{MODEL}/infer"


def one_server(weir, simulator, **spec):
    server = simulator("--model", MODEL)
    variants = {"v1": [server.url]}
    return server, weir(model(MODEL, variants, protocol="OpenInference", **spec))


def at_once(gateway, count):
    def one(_):
        return gateway.call("POST", PATH, infer_body())

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_full_queue_is_429_with_retry_after(weir, simulator):
    server, gateway = one_server(
        weir, simulator,
        concurrency={"perReplica": 1}, queue={"capacity": 1, "timeout": "20s"},
    )
    server.faults(extraLatencyMilliseconds=1000)
    answers = at_once(gateway, 6)
    # One is being served and one waits; there is no room for the others.
    assert sorted(a.status for a in answers) == [200, 200, 429, 429, 429, 429]
    for answer in answers:
        if answer.status == 429:
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["error"]
    assert gateway.metric("weir_requests_total", model=MODEL, code="429") == 4


def test_waiting_too_long_is_503_with_retry_after(weir, simulator):
    server, gateway = one_server(
        weir, simulator,
        concurrency={"perReplica": 1}, queue={"capacity": 10, "timeout": "200ms"},
    )
    server.faults(extraLatencyMilliseconds=1500)
    answers = at_once(gateway, 3)
    assert sorted(a.status for a in answers) == [200, 503, 503]
    assert all(int(a.headers["retry-after"]) >= 1 for a in answers if a.status == 503)


def test_queue_is_first_come_first_served_and_ends_empty(weir, simulator):
    server, gateway = one_server(
        weir, simulator,
        concurrency={"perReplica": 1}, queue={"capacity": 50, "timeout": "20s"},
    )
    server.faults(extraLatencyMilliseconds=20)
    assert {a.status for a in at_once(gateway, 20)} == {200}
    eventually(lambda: gateway.metric("weir_queue_depth", model=MODEL) == 0, "the queue is empty")
    assert gateway.metric("weir_in_flight_requests", model=MODEL) == 0


def test_server_that_is_not_there_is_an_error_of_the_gateway(weir, simulator):
    server, gateway = one_server(weir, simulator, queue={"capacity": 10, "timeout": "300ms"})
    server.stop()
    answer = gateway.call("POST", PATH, infer_body())
    assert answer.status in (502, 503)
    assert answer.json()["error"]


def test_server_that_never_answers_is_504(weir, simulator):
    server, gateway = one_server(
        weir, simulator,
        timeouts={"firstByte": "300ms", "request": "5s"}, retry={"attempts": 1},
    )
    server.faults(hangRate=1.0)
    started = time.monotonic()
    answer = gateway.call("POST", PATH, infer_body())
    assert answer.status == 504
    assert time.monotonic() - started < 3
    server.faults(hangRate=0.0)
    eventually(
        lambda: gateway.call("POST", PATH, infer_body()).status == 200,
        "the next request on the same server is answered",
    )


def test_server_that_never_answers_a_late_body_is_504(weir, simulator):
    """The body comes long after the head: the server's time begins with the request's end."""
    server, gateway = one_server(
        weir, simulator,
        timeouts={"firstByte": "300ms", "request": "60s"}, retry={"attempts": 1},
    )
    server.faults(hangRate=1.0)
    body = json.dumps(infer_body()).encode()
    host, _, port = gateway.address.rpartition(":")
    with socket.create_connection((host, int(port)), 20) as client:
        client.sendall(
            f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n".encode()
        )
        eventually(
            lambda: gateway.metric("weir_in_flight_requests") == 1, "the head is passed on", 10
        )
        client.sendall(body)
        assert client.recv(12) == b"HTTP/1.1 504"


@pytest.mark.parametrize("fault", ["errorRate", "resetRate", "garbageRate"])
def test_server_that_misbehaves_is_told_from_one_that_works(weir, simulator, fault):
    server, gateway = one_server(
        weir, simulator, retry={"attempts": 1}, outlier={"consecutiveErrors": 1000},
    )
    server.faults(**{fault: 1.0})
    for _ in range(5):
        answer = gateway.call("POST", PATH, infer_body())
        # What the server says itself is passed on; what is no answer becomes the gateway's 502.
        assert answer.status == (500 if fault == "errorRate" else 502)
        assert answer.json()["error"]
    server.faults(**{fault: 0.0})
    assert gateway.call("POST", PATH, infer_body()).status == 200


def test_truncated_answer_is_seen_as_truncated(weir, simulator):
    server, gateway = one_server(weir, simulator, retry={"attempts": 1})
    server.faults(truncateRate=1.0)
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        gateway.call("POST", PATH, infer_body())
    server.faults(truncateRate=0.0)
    assert gateway.call("POST", PATH, infer_body()).status == 200


def test_request_for_a_model_without_replicas_wakes_it(weir):
    gateway = weir(
        model("river", {"v1": "river-v1"}, queue={"capacity": 10, "timeout": "25s"}),
        simulated("river-v1", "river", replicas=0),
    )
    assert gateway.ready_replicas() == []
    answer = gateway.call("POST", "/v1/chat/completions", chat_body("river"))
    assert answer.status == 200, answer.body
    assert len(gateway.ready_replicas("river-v1")) == 1


def test_scaled_to_zero_and_woken_again(weir):
    gateway = weir(
        model("river", {"v1": "river-v1"}, queue={"capacity": 10, "timeout": "25s"}),
        simulated("river-v1", "river", replicas=2),
        replicas=2,
    )
    pids = [r["pid"] for r in gateway.ready_replicas("river-v1")]
    gateway.admin("PUT", "/api/v1/deployments/river-v1/replicas", {"replicas": 0})
    eventually(lambda: not any(map(is_alive, pids)), "the processes are gone")
    answer = gateway.call("POST", "/v1/chat/completions", chat_body("river"))
    assert answer.status == 200, answer.body
    assert {r["pid"] for r in gateway.ready_replicas("river-v1")}.isdisjoint(pids)


@pytest.mark.parametrize("replicas", [-1, 1_000_000, "two", None])
def test_impossible_numbers_of_replicas_are_refused(weir, replicas):
    gateway = weir(
        model("river", {"v1": "river-v1"}), simulated("river-v1", "river"), replicas=1
    )
    answer = call(
        gateway.admin_address, "PUT", "/api/v1/deployments/river-v1/replicas",
        {"replicas": replicas},
    )
    assert 400 <= answer.status < 500, answer.body
    assert len(gateway.ready_replicas("river-v1")) == 1


def test_an_upgrade_that_waited_gets_its_tunnel(weir):
    backend = Backend()
    busy = socket.socket()
    try:
        gateway = weir(model(
            MODEL, {"v1": [backend.url]}, protocol="HTTP", paths=[{"prefix": "/"}],
            concurrency={"perReplica": 1},
        ))
        busy.connect(split(gateway.address))
        busy.sendall(b"GET /events/1 HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: backend.requests, "the only place is taken")
        with socket.create_connection(split(gateway.address), timeout=30) as raw:
            raw.sendall(
                b"GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
            )
            eventually(lambda: gateway.metric("weir_queue_depth", model=MODEL) == 1, "it waits")
            backend.gate.set()
            data = b""
            while b"\r\n\r\n" not in data:
                data += raw.recv(4096)
            assert b" 101 " in data
            raw.sendall(b"hello")
            assert raw.recv(4096) == b"hello"
    finally:
        busy.close()
        backend.stop()
