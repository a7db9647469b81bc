"""Keys, models allowed, limits, priorities and turns of tenants."""

import concurrent.futures
import http.server
import json
import pathlib
import re
import subprocess
import threading
import time

import openai
import pytest
import requests

from harness import (
    binary, chat_body, eventually, gateway, infer_body, model, resource, simulated,
)

MODEL = "river"
PATH = "/v1/chat/completions"


def make_key():
    done = subprocess.run([binary(), "key"], capture_output=True, text=True, check=True)
    found = dict(line.split() for line in done.stdout.splitlines())
    return found["key:"], found["sha256:"]


class Tenant:
    def __init__(self, name, **spec):
        self.name = name
        self.key, self.hash = make_key()
        self.spec = spec

    @property
    def document(self):
        return resource("Tenant", self.name, {"keys": [{"sha256": self.hash}], **self.spec})

    @property
    def headers(self):
        return {"authorization": f"Bearer {self.key}"}


def documents(*tenants, arguments=(), **spec):
    return [
        model(MODEL, {"v1": "river-v1"}, **spec),
        model("lake", {"v1": "river-v1"}),
        simulated("river-v1", MODEL, 1, ["--step-time", "2ms", *arguments]),
        *[tenant.document for tenant in tenants],
    ]


def ask(running, tenant, headers=None, **more):
    fields = tenant.headers if headers is None else headers
    return running.call("POST", PATH, chat_body(more.pop("model", MODEL), **more), fields)


def test_keys_and_their_hashes():
    key, digest = make_key()
    assert re.fullmatch("weir-[0-9a-f]{64}", key) and re.fullmatch("[0-9a-f]{64}", digest)
    assert make_key()[0] != key
    done = subprocess.run(
        [binary(), "key", "--hash"], input=key + "\n", capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == digest
    for wrong in ["", "two words", "\u00e9", "x" * 600]:
        done = subprocess.run(
            [binary(), "key", "--hash"], input=wrong, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1 and done.stderr.startswith("weir: "), wrong


def test_a_key_is_needed_and_its_models_alone(weir, tmp_path):
    free = Tenant("free", models=[MODEL])
    other = Tenant("other")
    running = weir(*documents(free, other), replicas=1)
    assert ask(running, free).status == 200
    assert ask(running, free, {"x-api-key": free.key}).status == 200
    assert ask(running, free, {"authorization": f"bearer  {free.key}"}).status == 200
    wrong = [
        {}, {"authorization": "Bearer x"}, {"x-api-key": "x"}, {"authorization": free.key},
        {"authorization": f"Basic {free.key}"}, {"x-api-key": free.key + "0"},
        {"authorization": f"Bearer {free.hash}"}, {"authorization": "Bearer " + "x" * 5000},
    ]
    for headers in wrong:
        answer = ask(running, free, headers)
        assert answer.status == 401, headers
        assert answer.headers["www-authenticate"].startswith("Bearer")
        error = answer.json()["error"]
        assert error["code"] == "invalid_api_key" and error["type"] == "invalid_request_error"
    answer = running.call("POST", "/v2/models/lake/infer", infer_body())
    assert answer.status == 401 and isinstance(answer.json()["error"], str)
    forbidden = ask(running, free, model="lake")
    assert forbidden.status == 403
    assert forbidden.json()["error"]["code"] == "model_not_allowed"
    # Names of others' models are told to nobody.
    unknown = ask(running, free, model="sea")
    assert unknown.status == 404 and "lake" not in unknown.body.decode()
    assert "lake" in ask(running, other, model="sea").body.decode()

    def models(tenant):
        answer = running.call("GET", "/v1/models", headers=tenant.headers)
        return {entry["id"] for entry in answer.json()["data"]}

    assert models(free) == {MODEL} and models(other) == {MODEL, "lake"}
    assert running.call("GET", "/v1/models").status == 401
    assert running.call("GET", "/v2/health/ready").status == 200
    # No key, and no hash of one, is told by anything that is read.
    told = running.metrics() + running.output() + json.dumps(running.admin("GET", "/api/v1/models"))
    told += json.dumps(running.admin("GET", "/api/v1/snapshot"))
    told += pathlib.Path(tmp_path / "access.log").read_text()
    for tenant in [free, other]:
        assert tenant.key not in told and tenant.hash not in told
    assert running.metric("weir_tenant_requests_total", tenant="free", outcome="admitted") == 3
    count = running.metric("weir_tenant_requests_total", tenant="free", outcome="forbidden-model")
    assert count == 1


def test_keys_follow_the_configuration(weir, tmp_path):
    first, second = Tenant("first"), Tenant("second")
    running = weir(*documents(), replicas=1)
    assert ask(running, first, {}).status == 200

    def reload(*tenants):
        before = running.metric("weir_config_generation")
        running.write([gateway(tmp_path), *documents(*tenants)])
        eventually(
            lambda: running.metric("weir_config_generation") > before, "the files are read"
        )

    reload(first)
    eventually(lambda: ask(running, first, {}).status == 401, "the gateway is closed")
    assert ask(running, first).status == 200 and ask(running, second).status == 401
    reload(second)
    eventually(lambda: ask(running, first).status == 401, "the first key is gone")
    assert ask(running, second).status == 200
    reload()
    eventually(lambda: ask(running, first, {}).status == 200, "the gateway is open")


class Server:
    """A model server that shows the fields it was sent, and is busy until it is released."""

    def __init__(self, is_busy=False):
        self.seen = []
        self.released = threading.Event()
        if not is_busy:
            self.released.set()
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                owner.seen.append(body.get("user"))
                owner.released.wait(60)
                self.answer({name.lower(): value for name, value in self.headers.items()})

            def do_GET(self):
                self.answer({})

            def answer(self, value):
                body = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def serve():
    """serve(…) starts a model server in this process."""
    servers = []

    def start(**named):
        servers.append(Server(**named))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.mark.parametrize("forwards", [False, True])
def test_replicas_are_not_told_keys(weir, tmp_path, serve, forwards):
    echo = serve()
    tenant = Tenant("team")
    running = weir(
        model(MODEL, {"v1": [echo.url]}), tenant.document,
        gateway=gateway(tmp_path, forwardCredentials=forwards),
    )
    eventually(lambda: ask(running, tenant).status == 200, "the endpoint is used")
    seen = ask(running, tenant, {**tenant.headers, "x-api-key": "k", "x-other": "o"}).json()
    assert seen["x-other"] == "o"
    assert ("authorization" in seen) == forwards and ("x-api-key" in seen) == forwards


def test_requests_per_second(weir):
    tenant = Tenant("team", limits={"requestsPerSecond": 5})
    free = Tenant("free")
    running = weir(*documents(tenant, free), replicas=1)
    session = requests.Session()
    started = time.monotonic()
    answers = [
        session.post(
            running.url + PATH, json=chat_body(MODEL, tokens=1), headers=tenant.headers, timeout=30
        )
        for _ in range(60)
    ]
    seconds = time.monotonic() - started
    admitted = sum(answer.status_code == 200 for answer in answers)
    # A bucket of one second, and what flows into it meanwhile.
    assert 5 <= admitted <= 5 + 5 * seconds + 1
    refused = [answer for answer in answers if answer.status_code != 200]
    assert refused, "60 requests took too long to be too many"
    for answer in refused:
        assert answer.status_code == 429
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"
        assert answer.json()["error"]["type"] == "rate_limit_error"
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["x-ratelimit-limit-requests"] == "5"
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"
        assert re.fullmatch(r"\d+ms", answer.headers["x-ratelimit-reset-requests"])
    assert ask(running, free).status == 200
    label = {"tenant": "team", "outcome": "requests-limit"}
    assert running.metric("weir_tenant_requests_total", **label) == len(refused)


def test_tokens_per_minute_are_settled_by_usage(weir):
    limit = 1000
    tenant = Tenant("team", limits={"tokensPerMinute": limit})
    spender = Tenant("spender", limits={"tokensPerMinute": limit})
    running = weir(*documents(tenant, spender), replicas=1)
    started = time.monotonic()
    used = []

    def left():
        """What is left, and what could be at most after all that was used and has flowed back."""
        answer = ask(running, tenant, tokens=1)
        assert answer.status == 200
        most = limit - sum(used) + limit / 60 * (time.monotonic() - started)
        used.append(answer.json()["usage"]["total_tokens"])
        return int(answer.headers["x-ratelimit-remaining-tokens"]), min(limit, most)

    assert left()[0] > limit - 100
    # Streams are charged by their usage, or by their events.
    for more in [{}, {"stream_options": {"include_usage": True}}]:
        events = stream_with_key(running, tenant, tokens=200, **more)
        assert events[-1] == "[DONE]"
        # All but the role, the end, the usage and [DONE] are tokens, of which one may hold several.
        used.append(len(events) - 4)
        seen, most = left()
        assert seen <= most + 1
    assert running.metric("weir_tenant_tokens_total", tenant="team", type="output") >= 200
    # More than a minute's tokens are admitted when none of them is used, and not before.
    assert stream_with_key(running, spender, tokens=900)[-1] == "[DONE]"
    refused = ask(running, spender, tokens=5000)
    assert refused.status == 429 and int(refused.headers["retry-after"]) >= 1
    label = {"tenant": "spender", "outcome": "tokens-limit"}
    assert running.metric("weir_tenant_requests_total", **label) == 1


def stream_with_key(running, tenant, **more):
    body = chat_body(MODEL, stream=True, **more)
    answer = requests.post(
        running.url + PATH, json=body, headers=tenant.headers, timeout=30, stream=True
    )
    assert answer.status_code == 200, answer.text
    return [
        line[6:].decode() for line in answer.iter_lines() if line.startswith(b"data: ")
    ]


def test_concurrency(weir):
    tenant = Tenant("team", limits={"concurrency": 2})
    running = weir(*documents(tenant, arguments=["--step-time", "50ms"]), replicas=1)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda _: ask(running, tenant, tokens=40), range(8))
        )
    codes = sorted(answer.status for answer in answers)
    assert codes[:2] == [200, 200] and codes[-1] == 429 and set(codes) == {200, 429}
    # A place comes free whatever becomes of the request: here its client leaves.
    for _ in range(6):
        response = requests.post(
            running.url + PATH, json=chat_body(MODEL, tokens=400, stream=True),
            headers=tenant.headers, timeout=30, stream=True,
        )
        assert response.status_code == 200
        next(response.iter_content(1))
        response.close()
        eventually(
            lambda: running.metric("weir_tenant_in_flight_requests", tenant="team") == 0,
            "the place is free",
        )


def test_openai_client(weir):
    tenant = Tenant("team", limits={"requestsPerSecond": 2})
    running = weir(*documents(tenant), replicas=1)

    def client(key, retries):
        return openai.OpenAI(base_url=running.url + "/v1", api_key=key, max_retries=retries)

    messages = [{"role": "user", "content": "How deep?"}]

    def complete(client):
        return client.chat.completions.create(model=MODEL, messages=messages, max_tokens=2)

    with pytest.raises(openai.AuthenticationError) as caught:
        complete(client("wrong", 0))
    assert caught.value.code == "invalid_api_key"
    impatient = client(tenant.key, 0)
    with pytest.raises(openai.RateLimitError) as limited:
        for _ in range(50):
            complete(impatient)
    assert limited.value.code == "rate_limit_exceeded"
    # One that obeys retry-after gets all of its answers.
    patient = client(tenant.key, 10)
    assert all(complete(patient).choices for _ in range(5))


def queued(weir, server, capacity, *tenants):
    """A gateway whose only replica is busy with a request, and who waits for it."""
    spec = {"concurrency": {"perReplica": 1}, "queue": {"capacity": capacity, "timeout": "60s"}}
    running = weir(
        model(MODEL, {"v1": [server.url]}, **spec), *[tenant.document for tenant in tenants]
    )
    eventually(lambda: running.metric("weir_replicas", state="ready") == 1, "the server is ready")

    def wait_for(count):
        eventually(
            lambda: running.metric("weir_queue_depth", model=MODEL) == count, f"{count} wait"
        )

    return running, wait_for


def test_higher_priorities_go_first_and_negative_ones_make_room(weir, serve):
    high, low = Tenant("high", priority=5), Tenant("low", priority=-1)
    server = serve(is_busy=True)
    running, wait_for = queued(weir, server, 4, high, low)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        busy = pool.submit(ask, running, high, user="busy")
        eventually(lambda: server.seen == ["busy"], "the server is busy")
        lows = [pool.submit(ask, running, low, user="low") for _ in range(4)]
        wait_for(4)
        highs = [pool.submit(ask, running, high, user="high") for _ in range(2)]
        label = {"tenant": "low", "outcome": "shed"}
        eventually(
            lambda: running.metric("weir_tenant_requests_total", **label) == 2, "two made room"
        )
        wait_for(4)
        server.released.set()
        assert busy.result().status == 200
        assert all(future.result().status == 200 for future in highs)
        answers = [future.result() for future in lows]
    assert sorted(answer.status for answer in answers) == [200, 200, 429, 429]
    assert server.seen == ["busy", "high", "high", "low", "low"]
    shed = [answer for answer in answers if answer.status == 429]
    assert all(answer.headers["retry-after"] == "1" for answer in shed)
    assert all(answer.json()["error"]["code"] == "shed" for answer in shed)


def test_tenants_take_turns(weir, serve):
    greedy, modest = Tenant("greedy"), Tenant("modest")
    server = serve(is_busy=True)
    running, wait_for = queued(weir, server, 100, greedy, modest)
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        futures = [pool.submit(ask, running, greedy, user="busy")]
        eventually(lambda: server.seen == ["busy"], "the server is busy")
        futures += [pool.submit(ask, running, greedy, user="greedy") for _ in range(24)]
        wait_for(24)
        futures += [pool.submit(ask, running, modest, user="modest") for _ in range(6)]
        wait_for(30)
        server.released.set()
        assert all(future.result().status == 200 for future in futures)
    # Who came last waits for one of the other's at a time, not for all 24.
    last = max(index for index, name in enumerate(server.seen) if name == "modest")
    assert last <= 14, server.seen
