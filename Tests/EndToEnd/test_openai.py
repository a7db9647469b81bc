"""What OpenAI's clients see: answers, streams, lists and errors."""

import json
import subprocess

import openai
import pytest
import requests

from harness import Stream, chat_body, model, simulated

MODEL = "river"
STEP_SECONDS = 0.03
SLOW_DECODE = ["--step-time", "30ms"]


@pytest.fixture
def gateway(weir):
    documents = [model(MODEL, {"v1": "river-v1"}), simulated("river-v1", MODEL)]
    return weir(*documents, replicas=1)


@pytest.fixture
def slow_gateway(weir):
    """One token every thirty milliseconds."""
    documents = [model(MODEL, {"v1": "river-v1"}), simulated("river-v1", MODEL, 1, SLOW_DECODE)]
    return weir(*documents, replicas=1)


@pytest.fixture
def client(gateway):
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def user(text):
    return [{"role": "user", "content": text}]


def test_chat_completion(client):
    answer = client.chat.completions.create(
        model=MODEL, messages=user("How deep is the river?"), max_tokens=7
    )
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 7
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 7


def test_streamed_chat_equals_the_whole_answer(client):
    stream = client.chat.completions.create(
        model=MODEL,
        messages=user("How deep is the river?"),
        max_tokens=9,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert len(text) == 9
    assert chunks[-1].usage.completion_tokens == 9


def test_tokens_arrive_one_by_one(slow_gateway):
    stream = Stream(slow_gateway.address, chat_body(MODEL, tokens=20))
    events = stream.rest()
    assert events[-1] == "[DONE]"
    # Nineteen steps lie between the first token and the last. Held back, they would come at once.
    spread = stream.times[-1] - stream.times[0]
    assert spread > 19 * STEP_SECONDS * 0.5
    gaps = [later - earlier for earlier, later in zip(stream.times, stream.times[1:])]
    assert sum(gap > STEP_SECONDS * 0.3 for gap in gaps) >= 12
    assert max(gaps) < spread / 2


def test_curl_without_buffering_prints_every_event(slow_gateway):
    command = ["curl", "-sN", "-d", json.dumps(chat_body(MODEL, tokens=5, stream=True)),
               "-H", "content-type: application/json",
               f"{slow_gateway.url}/v1/chat/completions"]
    output = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    events = [line[6:] for line in output.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    contents = [json.loads(e)["choices"][0]["delta"].get("content") for e in events[:-1]]
    assert len([c for c in contents if c]) == 5


def test_completion(client):
    answer = client.completions.create(model=MODEL, prompt="Once", max_tokens=5)
    assert answer.choices[0].text
    assert answer.usage.completion_tokens == 5


def test_streamed_completion(client):
    chunks = list(client.completions.create(model=MODEL, prompt="x", max_tokens=6, stream=True))
    assert len([c for c in chunks if c.choices and c.choices[0].text]) == 6


def test_embeddings(client):
    answer = client.embeddings.create(model=MODEL, input=["one", "two"], encoding_format="float")
    assert [entry.index for entry in answer.data] == [0, 1]
    assert len(answer.data[0].embedding) == len(answer.data[1].embedding) > 0


def test_models_of_the_whole_fleet(weir):
    gateway = weir(
        model(MODEL, {"v1": "river-v1"}, aliases=["stream"]),
        simulated("river-v1", MODEL),
        model("lake", {"v1": "lake-v1"}),
        simulated("lake-v1", "lake"),
        replicas=2,
    )
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client:
        names = {entry.id for entry in client.models.list()}
    assert {MODEL, "lake"} <= names


def test_unknown_model_is_404_in_the_shape_of_the_api(client, gateway):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="sea", messages=user("?"), max_tokens=1)
    assert "sea" in caught.value.message
    assert MODEL in caught.value.message, "the message names the models that there are"
    answer = requests.post(f"{gateway.url}/v1/chat/completions", json=chat_body("sea"), timeout=10)
    assert answer.status_code == 404
    assert set(answer.json()) == {"error"}
    assert {"message", "type", "code"} <= set(answer.json()["error"])
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("value", [7, None, True, ["river"], {"name": "river"}])
def test_model_that_is_not_a_string_is_refused(gateway, value):
    body = {**chat_body(MODEL), "model": value}
    answer = requests.post(f"{gateway.url}/v1/chat/completions", json=body, timeout=10)
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["error"]["message"]
    good = requests.post(f"{gateway.url}/v1/chat/completions", json=chat_body(MODEL), timeout=10)
    assert good.status_code == 200


def test_model_is_found_wherever_it_stands(gateway):
    body = chat_body(MODEL, text='a "model": "sea" in the text, \\ and \u00e9\u4e2d')
    body = {key: body[key] for key in sorted(body, key=lambda key: key == "model")}
    text = json.dumps(body).replace('"river"', '"r\\u0069ver"')
    answer = requests.post(
        f"{gateway.url}/v1/chat/completions",
        data=text,
        headers={"content-type": "application/json"},
        timeout=10,
    )
    assert answer.status_code == 200, answer.text


def test_requests_session_keeps_its_connection(gateway):
    with requests.Session() as session:
        for _ in range(50):
            answer = session.post(
                f"{gateway.url}/v1/chat/completions", json=chat_body(MODEL, tokens=1), timeout=10
            )
            assert answer.status_code == 200
            assert answer.headers["x-weir-variant"] == "v1"
    assert gateway.metric("weir_requests_total", model=MODEL, code="200") == 50
