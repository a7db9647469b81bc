"""Replicas, clients and Weir itself that go away without a word."""

import os
import signal
import subprocess
import time

import pytest

from harness import (
    MARK, Load, Stream, call, chat_body, eventually, infer_body, is_alive, model, processes_of,
    simulated,
)

MODEL = "gauge"
PATH = f"/v2/models/{MODEL}/infer"


def fleet(replicas=2, arguments=()):
    return [
        model(MODEL, {"v1": "gauge-v1"}, protocol="OpenInference"),
        simulated("gauge-v1", MODEL, replicas, arguments),
    ]


def test_killed_replica_costs_no_request(weir):
    gateway = weir(*fleet(), replicas=2)
    with Load(gateway.address, PATH, infer_body()) as load:
        load.wait_for(200)
        victim = gateway.ready_replicas("gauge-v1")[0]
        os.kill(victim["pid"], signal.SIGKILL)

        back = eventually(
            lambda: successor(gateway, victim), "the killed replica is back under its name", 30
        )
        load.wait_for(200)
    assert not load.failures, load.failures[:5]
    assert back["restarts"] == victim["restarts"] + 1


def successor(gateway, victim):
    """The ready replica that has the name of the killed one, when it is there."""
    for replica in gateway.ready_replicas(victim["deployment"]):
        if replica["id"] == victim["id"] and replica["pid"] != victim["pid"]:
            return replica
    return None


def test_every_replica_killed_in_turn_costs_no_request(weir):
    gateway = weir(*fleet(3), replicas=3)
    with Load(gateway.address, PATH, infer_body()) as load:
        for victim in gateway.ready_replicas("gauge-v1"):
            load.wait_for(50)
            os.kill(victim["pid"], signal.SIGKILL)
            eventually(lambda: successor(gateway, victim), "the killed replica is back", 30)
        load.wait_for(50)
    assert not load.failures, load.failures[:5]


def test_client_that_goes_away_cancels_its_request(weir, simulator):
    server = simulator("--model", "river", "--step-time", "30ms")
    gateway = weir(model("river", {"v1": [server.url]}))
    before = server.metric("weir_simulator_cancelled_total") or 0
    stream = Stream(gateway.address, chat_body("river", tokens=2000))
    for _ in range(3):
        assert stream.next_event()
    assert server.metric("vllm:num_requests_running") == 1
    stream.abandon()
    eventually(
        lambda: (server.metric("weir_simulator_cancelled_total") or 0) == before + 1,
        "the server is told that nobody waits any more", 5,
    )
    assert server.metric("vllm:num_requests_running") == 0


def test_client_that_goes_away_before_the_answer_cancels_too(weir, simulator):
    server = simulator("--model", "river", "--step-time", "30ms")
    gateway = weir(model("river", {"v1": [server.url]}))
    with pytest.raises(TimeoutError):
        call(gateway.address, "POST", "/v1/chat/completions",
             chat_body("river", tokens=2000), timeout=0.5)
    eventually(
        lambda: server.metric("weir_simulator_cancelled_total"), "the request is cancelled", 5
    )


def test_sigterm_lets_a_stream_end(weir, simulator):
    server = simulator("--model", "river", "--step-time", "30ms")
    gateway = weir(model("river", {"v1": [server.url]}))
    stream = Stream(gateway.address, chat_body("river", tokens=50))
    assert stream.next_event()
    gateway.signal(signal.SIGTERM)

    def refused():
        try:
            return call(gateway.address, "GET", "/v1/models").status == 503
        except OSError:
            return True

    eventually(refused, "new clients are turned away", 5)
    events = stream.rest()
    assert events[-1] == "[DONE]"
    assert gateway.wait() == 0


def test_second_sigterm_ends_at_once(weir, simulator):
    server = simulator("--model", "river", "--step-time", "100ms")
    gateway = weir(model("river", {"v1": [server.url]}))
    stream = Stream(gateway.address, chat_body("river", tokens=2000))
    assert stream.next_event()
    gateway.signal(signal.SIGTERM)
    eventually(lambda: refuses(gateway.address), "new clients are turned away", 5)
    gateway.signal(signal.SIGTERM)
    started = time.monotonic()
    try:
        gateway.wait(10)
    except subprocess.TimeoutExpired:
        pytest.fail("Weir still waits for the stream after a second SIGTERM")
    assert time.monotonic() - started < 5


def refuses(address):
    try:
        return call(address, "GET", "/v1/models").status == 503
    except OSError:
        return True


def test_ended_weir_leaves_nothing_running(weir):
    gateway = weir(*fleet(3), replicas=3)
    pids = [r["pid"] for r in gateway.ready_replicas()]
    gateway.stop()
    assert not [pid for pid in pids if is_alive(pid)]


def test_killed_weir_finds_no_orphan_when_it_starts_again(weir, tmp_path):
    first = weir(*fleet(), replicas=2)
    pids = [r["pid"] for r in first.ready_replicas()]
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    second = weir(*fleet(), replicas=2, name="weir-again")
    assert not [pid for pid in pids if is_alive(pid)]
    answer = second.call("POST", PATH, infer_body())
    assert answer.status == 200
    running = {second.pid, *(r["pid"] for r in second.ready_replicas())}
    # Whoever watches over the replicas is a child of Weir; nobody else may be there.
    strangers = [p for p in processes_of(tmp_path) if p not in running and parent(p) == 1]
    assert not strangers


def parent(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
        return int(stat.read().rpartition(")")[2].split()[1])


def test_two_weirs_do_not_share_a_state_directory(weir, tmp_path):
    gateway = weir(*fleet(), replicas=2)
    command = [gateway.child.args[0], "run", "-c", str(gateway.config)]
    second = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=30,
        env={**os.environ, MARK: str(tmp_path)},
    )
    assert second.returncode != 0
    assert "weir:" in second.stderr
    assert gateway.call("POST", PATH, infer_body()).status == 200
    assert len(gateway.ready_replicas()) == 2
