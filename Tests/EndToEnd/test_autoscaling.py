"""Replicas follow the work: real processes, short windows, and nothing lost on the way."""

import base64
import http.server
import json
import ssl
import subprocess
import sys
import threading

import pytest

from harness import (
    Load, Stream, Weir, binary, call, chat_body, eventually, gateway, model, resource, simulated,
)

RIVER = "river"
PATH = "/v1/chat/completions"


def policy(*targets, name="standard", **spec):
    """A policy with windows of seconds, so that a test is over in some."""
    return resource("ScalingPolicy", name, {
        "targets": list(targets) or [{"type": "Concurrency", "value": "1"}],
        "windows": {"stable": "3s", "burst": "1s"},
        "scaleDown": {"stabilization": "0s", "maxPerMinute": 1000},
        "scaleToZero": {"idleAfter": "2s"},
        **spec,
    })


def scaled(minimum=0, maximum=4, variants=None, name=RIVER, **spec):
    queue = {"capacity": 200, "timeout": "25s"}
    scaling = {"policy": "standard", "minReplicas": minimum, "maxReplicas": maximum}
    return model(
        name, variants or {"main": f"{name}-main"},
        **{"queue": queue, "scaling": scaling, **spec},
    )


def desired(weir, deployment=f"{RIVER}-main"):
    for entry in weir.admin("GET", "/api/v1/deployments")["deployments"]:
        if entry["name"] == deployment:
            return entry["replicas"]["desired"]
    raise AssertionError(f"no deployment {deployment}")


def explain(weir, name=RIVER):
    return weir.admin("GET", f"/api/v1/models/{name}/explain")


def decision(weir, variant="main", name=RIVER):
    for entry in explain(weir, name)["variants"]:
        if entry["name"] == variant:
            return entry["decision"]
    raise AssertionError(f"no variant {variant}")


def changes(weir, **match):
    found = weir.admin("GET", "/api/v1/decisions")["decisions"]
    return [c for c in found if all(c[key] == value for key, value in match.items())]


def decisions_made(weir, count):
    """Until so many more decisions were made: seconds by the program's own clock."""
    first = explain(weir)["decision"] or 0
    eventually(
        lambda: (explain(weir)["decision"] or 0) >= first + count, f"{count} more decisions"
    )


def weir_command(weir, *arguments):
    return subprocess.run(
        [binary(), *arguments, "--admin", weir.admin_address],
        capture_output=True, text=True, timeout=30,
    )


def test_from_zero_on_the_first_request_and_back(weir):
    gate = weir(
        policy(), scaled(), simulated("river-main", RIVER, 0, ["--cold-start", "500ms"])
    )
    assert gate.replicas("river-main") == []
    answer = gate.call("POST", PATH, chat_body(RIVER))
    assert answer.status == 200, answer.body
    assert [c["reason"] for c in changes(gate)] == ["request"]
    eventually(lambda: gate.replicas("river-main") == [], "the idle replica is gone")
    last = changes(gate)[-1]
    assert (last["to"], last["direction"], last["reason"]) == (0, "down", "idle")
    assert gate.call("POST", PATH, chat_body(RIVER)).status == 200
    assert gate.metric(
        "weir_scaling_decisions_total", model=RIVER, direction="up", reason="request"
    ) == 2
    assert gate.metric("weir_requests_total", model=RIVER, code="200") == 2
    assert "scaled" in gate.output()


def test_up_under_load_and_back_to_zero_without_a_failure(weir):
    gate = weir(
        policy(), scaled(maximum=3), simulated("river-main", RIVER, 0, ["--cold-start", "300ms"])
    )
    with Load(gate.address, PATH, chat_body(RIVER, tokens=20), threads=6) as load:
        eventually(lambda: len(gate.ready_replicas("river-main")) == 3, "three replicas serve")
        load.wait_for(20)
        eventually(lambda: decision(gate)["inputs"]["ready"] == 3, "a decision that knows them")
        eventually(
            lambda: any("maxReplicas" in c["text"] for c in decision(gate)["constraints"]),
            "more would be wanted than the bounds allow",
        )
        assert decision(gate)["desired"] == 3
    assert load.failures == []
    eventually(lambda: gate.replicas("river-main") == [], "all are gone again")
    assert gate.metric("weir_replicas", model=RIVER, state="desired") == 0


def test_a_dry_run_writes_nothing_and_says_what_it_would(weir):
    gate = weir(
        policy(dryRun=True), scaled(), simulated("river-main", RIVER, 1), replicas=1
    )
    with Load(gate.address, PATH, chat_body(RIVER, tokens=20), threads=5) as load:
        found = eventually(lambda: changes(gate, direction="up"), "a change that it would make")
        assert found[0]["dryRun"] and found[0]["to"] > 1
        assert desired(gate) == 1 and len(gate.replicas("river-main")) == 1
    assert load.failures == []
    eventually(lambda: changes(gate, to=0), "it would go to zero")
    assert desired(gate) == 1
    assert explain(gate)["dryRun"]
    answer = call(gate.admin_address, "PUT", "/api/v1/deployments/river-main/replicas",
                  {"replicas": 2})
    assert answer.status == 200, "by hand it may be scaled"


def test_what_a_policy_scales_is_not_scaled_by_hand(weir):
    gate = weir(policy(), scaled(minimum=1), simulated("river-main", RIVER, 1), replicas=1)
    done = weir_command(gate, "scale", "river-main", "3")
    assert done.returncode == 1
    assert "ScalingPolicy `standard`" in done.stderr and "minReplicas" in done.stderr
    assert desired(gate) == 1


def test_bounds_that_change_take_effect_without_losing_a_request(weir, tmp_path):
    gate = weir(policy(), scaled(minimum=3), simulated("river-main", RIVER, 1), replicas=3)
    with Load(gate.address, PATH, chat_body(RIVER), threads=2) as load:
        load.wait_for(10)
        gate.write([
            gateway(tmp_path), policy(), scaled(minimum=0, maximum=1),
            simulated("river-main", RIVER, 1),
        ])
        eventually(lambda: len(gate.replicas("river-main")) == 1, "two replicas have gone")
        load.wait_for(10)
    assert load.failures == []
    assert changes(gate, direction="down")[-1]["reason"] == "maximum"


def test_explain_says_it_in_words_and_as_documents(weir):
    gate = weir(
        policy({"type": "Concurrency", "value": "1"}, {"type": "RequestRate", "value": "1000"}),
        scaled(), simulated("river-main", RIVER, 0),
    )
    assert gate.call("POST", PATH, chat_body(RIVER)).status == 200
    decisions_made(gate, 1)
    done = weir_command(gate, "explain", RIVER)
    assert done.returncode == 0, done.stderr
    for part in ("ScalingPolicy standard", "Because:", "concurrency", "requestRate", "cold start",
                 "Last changes:", "a request waits"):
        assert part in done.stdout, done.stdout
    document = json.loads(weir_command(gate, "explain", RIVER, "-o", "json").stdout)
    assert document["policy"] == "standard"
    variant = document["variants"][0]
    names = [r["target"] for r in variant["decision"]["recommendations"]]
    assert {"concurrency", "requestRate"} <= set(names)
    assert sum(r["won"] for r in variant["decision"]["recommendations"]) == 1
    assert "policy: standard" in weir_command(gate, "explain", RIVER, "-o", "yaml").stdout
    table = weir_command(gate, "get", "decisions").stdout
    assert "REASON" in table and "request" in table
    listed = json.loads(weir_command(gate, "get", "decisions", "-o", "json").stdout)["decisions"]
    assert listed[0]["model"] == RIVER and listed[0]["time"] > 1.6e9


def test_explain_of_what_is_not_scaled_and_of_what_is_not_there(weir):
    gate = weir(model(RIVER, {"main": "river-main"}), simulated("river-main", RIVER), replicas=1)
    done = weir_command(gate, "explain", RIVER)
    assert done.returncode == 0 and "not scaled" in done.stdout
    assert changes(gate) == []
    done = weir_command(gate, "explain", "lake")
    assert done.returncode == 1 and "there is river" in done.stderr.replace("are", "is")


def test_a_source_that_does_not_answer_takes_nothing_away(weir):
    prometheus = {
        "type": "Prometheus", "server": "http://127.0.0.1:9", "query": "up", "value": "10",
    }
    gate = weir(
        policy({"type": "Concurrency", "value": "1"}, prometheus),
        scaled(maximum=3), simulated("river-main", RIVER, 0),
    )
    with Load(gate.address, PATH, chat_body(RIVER, tokens=20), threads=6) as load:
        eventually(lambda: len(gate.ready_replicas("river-main")) == 3, "three replicas serve")
    assert load.failures == []
    decisions_made(gate, 8)
    now = decision(gate)
    assert now["desired"] == 3 and len(gate.replicas("river-main")) == 3
    assert any("nothing" in c["text"] for c in now["constraints"]), now
    unknown = [r for r in now["recommendations"] if r["target"] == "metric"]
    assert unknown and unknown[0]["replicas"] is None


class Prometheus:
    """Answers every query with one number, to those who may ask."""

    def __init__(self, value, context=None, authorization=None):
        answer = json.dumps({"status": "success", "data": {
            "resultType": "scalar", "result": [0, str(value)],
        }}).encode()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                if authorization and self.headers.get("authorization") != authorization:
                    self.send_error(401)
                    return
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        scheme = "https" if context else "http"
        self.url = f"{scheme}://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def test_a_query_decides_and_what_it_said_holds_when_it_is_silent(weir):
    prometheus = Prometheus(25)
    try:
        gate = weir(
            policy({
                "type": "Prometheus", "server": prometheus.url, "query": "sum(work)", "value": "10",
            }),
            scaled(), simulated("river-main", RIVER, 0),
        )
        eventually(lambda: len(gate.ready_replicas()) == 3, "25 at 10 per replica are 3 replicas")
        assert changes(gate)[0]["reason"] == "metric"
    finally:
        prometheus.stop()
    eventually(lambda: "does not answer" in gate.output(), "the silence is told")
    decisions_made(gate, 8)
    assert desired(gate) == 3


def certificate(folder):
    """An authority, and a server's certificate that it signed."""
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca")
    openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=server")
    (folder / "server.ext").write_text("subjectAltName=IP:127.0.0.1", encoding="utf-8")
    openssl(
        "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
        "-CAcreateserial", "-out", "server.pem", "-extfile", "server.ext",
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    return context


@pytest.mark.parametrize("kind", ["token", "password"])
def test_a_query_over_tls_needs_the_right_authority_and_secret(weir, tmp_path, kind):
    context = certificate(tmp_path)
    secret = tmp_path / "secret"
    secret.write_text("not this one\n", encoding="utf-8")
    if kind == "token":
        expected, who = "Bearer river-bed", {"tokenFile": str(secret)}
    else:
        pair = base64.b64encode(b"weir:river-bed").decode()
        expected = f"Basic {pair}"
        who = {"basicAuth": {"username": "weir", "passwordFile": str(secret)}}
    prometheus = Prometheus(25, context, expected)
    target = {
        "type": "Prometheus", "server": prometheus.url, "query": "sum(work)", "value": "10", **who,
    }
    documents = [scaled(), simulated("river-main", RIVER, 0)]
    try:
        gate = weir(policy(target), *documents)
        eventually(
            lambda: "certificate" in gate.output(), "an authority nobody knows is not believed",
        )
        assert desired(gate) == 0
        trusted = {**target, "caFile": str(tmp_path / "ca.pem")}
        gate.write([gateway(gate.folder), policy(trusted), *documents])
        eventually(lambda: "401" in gate.output(), "the wrong secret is refused")
        assert desired(gate) == 0
        secret.write_text("river-bed\n", encoding="utf-8")
        eventually(lambda: desired(gate) == 3, "25 at 10 per replica are 3 replicas")
        assert "river-bed" not in gate.output()
    finally:
        prometheus.stop()


def test_what_model_servers_say_of_their_caches_is_used(weir):
    gate = weir(
        policy({"type": "KVCache", "value": "80%"}), scaled(minimum=1),
        simulated("river-main", RIVER, 1), replicas=1,
    )

    def cache():
        found = decision(gate) or {"recommendations": []}
        return [r for r in found["recommendations"]
                if r["target"] == "kvCache" and r["replicas"] is not None]

    eventually(cache, "a recommendation from the KV cache")

REPORTING = """\
import http.server, os

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body=b"{}"):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.send_header(
            "endpoint-load-metrics",
            "TEXT named_metrics.kv_cache_usage_perc=0.95, named_metrics.num_requests_waiting=0",
        )
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(200 if self.path == "/health" else 404)

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.answer(200)

    def log_message(self, *arguments):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def test_what_replicas_say_beside_their_answers_is_used(weir):
    """A server without metrics that reports its load in a field of each answer."""
    deployment = simulated("river-main", RIVER, 1)
    deployment["spec"]["command"] = [sys.executable, "-c", REPORTING]
    gate = weir(
        policy({"type": "KVCache", "value": "80%"}), scaled(minimum=1), deployment, replicas=1,
    )

    def reported():
        assert gate.call("POST", PATH, chat_body(RIVER)).status == 200
        found = decision(gate) or {"recommendations": []}
        return [r for r in found["recommendations"] if r["target"] == "kvCache" and r["replicas"]]

    eventually(reported, "a recommendation from what an answer said")
    eventually(lambda: reported() and desired(gate) >= 2, "a cache that is nearly full: one more")


def test_two_models_share_a_budget_and_never_exceed_it(weir):
    budget = resource("ResourceBudget", "gpus", {"resource": "gpu", "total": 3})
    def share(name):
        return scaled(name=name, scaling={
            "policy": "standard", "minReplicas": 0, "maxReplicas": 3,
            "budget": {"name": "gpus", "perReplica": 1},
        })
    gate = weir(
        policy(), budget, share("river"), share("lake"),
        simulated("river-main", "river", 0), simulated("lake-main", "lake", 0),
    )
    seen = []

    def within():
        replicas = gate.replicas()
        seen.append(len(replicas))
        return replicas

    body = chat_body("river", tokens=20)
    with Load(gate.address, PATH, body, threads=5) as river:
        eventually(lambda: len([r for r in within() if r["state"] == "ready"]) == 3, "all of it")
        with Load(gate.address, PATH, chat_body("lake", tokens=20), threads=5) as lake:
            eventually(
                lambda: any(r["deployment"] == "lake-main" and r["state"] == "ready"
                            for r in within()),
                "the other model gets its part",
            )
            lake.wait_for(5)
    assert max(seen) <= 3, f"more than the budget: {max(seen)}"
    assert river.failures == [] and lake.failures == []


@pytest.mark.parametrize("priority, expected", [(0, 2), (10, 3)])
def test_who_has_the_higher_priority_gets_the_units(weir, priority, expected):
    budget = resource("ResourceBudget", "gpus", {"resource": "gpu", "total": 4})

    def sharing(name, minimum, **spec):
        return model(name, {"main": f"{name}-main"}, queue={"capacity": 200, "timeout": "60s"},
                     scaling={"policy": "standard", "minReplicas": minimum, "maxReplicas": 4,
                              "budget": {"name": "gpus"}, **spec})

    gate = weir(
        policy(targets=[{"type": "Concurrency", "value": "1"}]), budget,
        sharing("lake", 1), sharing("river", 0, priority=priority),
        simulated("lake-main", "lake", 1), simulated("river-main", "river", 0),
    )
    least = []

    def counts():
        ready = [r["deployment"] for r in gate.ready_replicas()]
        assert len(gate.replicas()) <= 4, "more than the budget"
        least.append(len(gate.replicas("lake-main")))
        return ready.count("lake-main"), ready.count("river-main")

    with Load(gate.address, PATH, chat_body("lake", tokens=20), threads=6) as lake:
        eventually(lambda: counts()[0] == 4, "all units while nobody else wants any", 60)
        with Load(gate.address, PATH, chat_body("river", tokens=20), threads=6) as river:
            eventually(lambda: counts() == (4 - expected, expected), "the units have moved", 60)
            river.wait_for(20)
            lake.wait_for(5)
            assert counts() == (4 - expected, expected)
    assert lake.failures == [] and river.failures == []
    assert min(least) >= 1, "its minimum is its own whatever the priorities are"


def test_replicas_that_crash_are_reported_as_not_coming(weir):
    crashing = resource("ProcessDeployment", "river-bad", {
        "replicas": 0, "command": ["false"], "readiness": {"path": "/health", "period": "50ms"},
        "startupTimeout": "5s",
    })
    gate = weir(
        policy(),
        scaled(variants={"good": "river-good", "bad": "river-bad"},
               weights={"good": 50, "bad": 50}),
        simulated("river-good", RIVER, 1), crashing, replicas=1,
    )
    with Load(gate.address, PATH, chat_body(RIVER), threads=2) as load:
        stuck = eventually(
            lambda: next(
                (c for c in (decision(gate, "bad") or {"constraints": []})["constraints"]
                 if "do not come" in c["text"]),
                None,
            ),
            "the replicas are known not to come",
            timeout=40,
        )
        load.wait_for(20)
    assert "crash loop" in stuck["text"] or "cannot be run" in stuck["text"], stuck
    assert decision(gate, "bad")["inputs"]["stuck"] >= 1
    assert load.failures == [], "the other variant has its requests"


def test_a_variant_with_weight_is_started_while_another_serves(weir):
    gate = weir(
        policy(scaleToZero={"idleAfter": "60s"}),
        scaled(variants={"a": "river-a", "b": "river-b"}, weights={"a": 80, "b": 20}),
        simulated("river-a", RIVER, 1), simulated("river-b", RIVER, 0), replicas=1,
    )
    with Load(gate.address, PATH, chat_body(RIVER), threads=3) as load:
        eventually(lambda: gate.ready_replicas("river-b"), "the sleeping variant is started")
        first = len(load.answers)
        load.wait_for(200)
        seen = [a.headers["x-weir-variant"] for a in load.answers[first + 20:]]
    assert load.failures == [], "until it was ready, the other one had its requests"
    assert abs(seen.count("b") / len(seen) - 0.2) < 0.08, "then it has its share"


def streams_on_both(gate):
    """Slow streams on both replicas, more on one than on the other."""
    streams = [Stream(gate.address, chat_body(RIVER, tokens=120)) for _ in range(3)]
    for stream in streams:
        assert stream.next_event()
    return streams


SLOW = ["--step-time", "50ms"]


def test_scale_down_lets_streams_finish_on_the_emptier_replica(weir, tmp_path):
    documents = lambda most: [  # noqa: E731 (three lines of a list)
        gateway(tmp_path), policy(), scaled(minimum=1, maximum=most),
        simulated("river-main", RIVER, 2, SLOW, drainTimeout="30s"),
    ]
    gate = weir(*documents(2)[1:], replicas=2)
    streams = streams_on_both(gate)
    before = {r["id"]: r["inFlight"] for r in gate.replicas()}
    assert sorted(before.values()) == [1, 2], before
    gate.write(documents(1))
    leaving = eventually(
        lambda: [r for r in gate.replicas() if r["state"] == "draining"], "one drains"
    )
    assert before[leaving[0]["id"]] == 1, "the one with fewer streams goes"
    assert gate.call("POST", PATH, chat_body(RIVER, tokens=1)).status == 200
    for stream in streams:
        assert stream.rest()[-1] == "[DONE]", "no stream was cut off"
    eventually(lambda: len(gate.replicas()) == 1, "then it goes")


def test_a_draining_replica_is_taken_back_when_load_rises(weir, tmp_path):
    documents = lambda least, most: [  # noqa: E731 (three lines of a list)
        gateway(tmp_path), policy(), scaled(minimum=least, maximum=most),
        simulated("river-main", RIVER, 2, SLOW, drainTimeout="30s"),
    ]
    gate = weir(*documents(1, 2)[1:], replicas=2)
    pids = sorted(r["pid"] for r in gate.replicas())
    streams = streams_on_both(gate)
    gate.write(documents(1, 1))
    eventually(lambda: [r for r in gate.replicas() if r["state"] == "draining"], "one drains")
    gate.write(documents(2, 2))
    eventually(lambda: len(gate.ready_replicas()) == 2, "it is back")
    assert sorted(r["pid"] for r in gate.replicas()) == pids, "the same processes"
    for stream in streams:
        assert stream.rest()[-1] == "[DONE]"


def test_the_drain_deadline_ends_a_stream_that_does_not_end(weir, tmp_path):
    documents = lambda most: [  # noqa: E731 (three lines of a list)
        gateway(tmp_path), policy(), scaled(minimum=1, maximum=most),
        simulated("river-main", RIVER, 2, ["--step-time", "500ms"], drainTimeout="1s",
                  terminationGracePeriod="1s"),
    ]
    gate = weir(*documents(2)[1:], replicas=2)
    streams = [Stream(gate.address, chat_body(RIVER, tokens=2000)) for _ in range(2)]
    for stream in streams:
        assert stream.next_event()
    gate.write(documents(1))
    eventually(lambda: len(gate.replicas()) == 1, "the deadline has passed")
    assert len(gate.ready_replicas()) == 1
    for stream in streams:
        stream.abandon()


def test_a_restart_takes_up_the_replicas_there_were(weir, start, tmp_path):
    documents = [
        gateway(tmp_path),
        policy(scaleToZero={"idleAfter": "300s"}, windows={"stable": "60s", "burst": "1s"}),
        scaled(maximum=3), simulated("river-main", RIVER, 0),
    ]
    gate = weir(*documents[1:])
    with Load(gate.address, PATH, chat_body(RIVER, tokens=20), threads=6) as load:
        eventually(lambda: len(gate.ready_replicas()) == 3, "three replicas serve")
    assert load.failures == []
    gate.stop()
    again = start(Weir, documents, name="again")
    eventually(lambda: len(again.ready_replicas()) == 3, "the three are there again")
    again.stop()


@pytest.mark.parametrize("damage", ["", "{", '{"version": 99}', "\x00\x01\x02"])
def test_a_damaged_memory_is_a_warning_and_a_fresh_start(weir, tmp_path, damage):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "scaling.json").write_text(damage)
    gate = weir(policy(), scaled(minimum=1), simulated("river-main", RIVER, 1), replicas=1)
    eventually(lambda: "what was known of scaling is lost" in gate.output(), "a warning")
    assert gate.call("POST", PATH, chat_body(RIVER)).status == 200


def test_a_gateway_tells_its_counters_to_others(weir):
    gate = weir(policy(), scaled(minimum=1), simulated("river-main", RIVER, 1), replicas=1)
    for _ in range(3):
        assert gate.call("POST", PATH, chat_body(RIVER)).status == 200
    document = gate.admin("GET", "/api/v1/load")
    entry = document["models"][0]
    assert (entry["name"], entry["arrivals"], entry["queued"]) == (RIVER, 3, 0)
    variant = entry["variants"][0]
    assert variant["requests"] == {"200": 3} and variant["inFlight"] == 0
    assert sum(variant["duration"][1::2]) == 3
    assert int(variant["inFlightNanoseconds"]) > 0
    time_of_first = int(document["at"])
    assert int(gate.admin("GET", "/api/v1/load")["at"]) >= time_of_first
