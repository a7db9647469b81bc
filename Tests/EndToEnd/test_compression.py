"""Compressed requests and answers, with gzip and zstd of others as the judges."""

import gzip
import http.client
import json
import subprocess
import zlib

import pytest
import requests
import zstandard

from harness import chat_body, eventually, model, simulated

MODEL = "river"


def zstd(data):
    return zstandard.ZstdCompressor().compress(data)


def unzstd(data):
    return zstandard.ZstdDecompressor().stream_reader(data).read()


CODERS = {"gzip": gzip.compress, "zstd": zstd}
DECODERS = {"gzip": gzip.decompress, "zstd": unzstd}


@pytest.fixture
def gateway(weir):
    """A model server that cannot decode; streams are compressed too."""
    documents = [
        model(MODEL, {"v1": "river-v1"}, compression={
            "requests": "Decode", "streams": True, "minBytes": 256,
        }),
        simulated("river-v1", MODEL, 1, ["--kv-tokens", "1000000"]),
    ]
    return weir(*documents, replicas=1)


def post(address, body, headers, path="/v1/chat/completions"):
    """Bytes as they are on the wire: nothing is decoded on the way."""
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.request("POST", path, body=body, headers={
        "content-type": "application/json", **headers,
    })
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    return response, answer


def ask(tokens=128, **more):
    return json.dumps(chat_body(MODEL, tokens=tokens, **more)).encode()


@pytest.mark.parametrize("coding", CODERS)
def test_both_ways(gateway, coding):
    response, answer = post(gateway.address, CODERS[coding](ask()), {
        "content-encoding": coding, "accept-encoding": coding,
    })
    assert response.status == 200
    assert response.getheader("content-encoding") == coding
    assert response.getheader("vary").lower() == "accept-encoding"
    plain = DECODERS[coding](answer)
    assert json.loads(plain)["usage"]["completion_tokens"] == 128
    assert len(answer) < len(plain) * 0.8
    assert gateway.metric("weir_coded_requests_total", outcome="decoded") == 1
    assert gateway.metric("weir_compressed_answers_total", coding=coding) == 1
    assert gateway.metric("weir_compression_bytes_total", form="plain") == len(plain)
    assert gateway.metric("weir_compression_bytes_total", form="coded") == len(answer)
    assert gateway.metric("weir_tokens_total", type="output") == 128


def test_members_and_frames_behind_each_other(gateway):
    body = ask(tokens=4)
    for coding, coder in CODERS.items():
        parts = coder(body[:20]) + coder(body[20:])
        response, _ = post(gateway.address, parts, {"content-encoding": coding})
        assert response.status == 200
    both = zstd(gzip.compress(body))
    response, _ = post(gateway.address, both, {"content-encoding": "gzip, zstd"})
    assert response.status == 200


@pytest.mark.parametrize("coding", CODERS)
def test_a_long_body_in_chunks(gateway, coding):
    """Longer than what is kept for another try, and with its length unknown."""
    text = " ".join(f"word{number}" for number in range(60_000))
    body = CODERS[coding](json.dumps(chat_body(MODEL, text=text, tokens=4)).encode())
    pieces = (body[start:start + 7_000] for start in range(0, len(body), 7_000))
    answer = requests.post(
        f"{gateway.url}/v1/chat/completions",
        data=pieces,
        headers={"content-encoding": coding, "content-type": "application/json"},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["prompt_tokens"] > 10_000


def test_refusals(gateway):
    good = gzip.compress(ask(tokens=4))
    bomb = gzip.compress(b" " * (32 << 20))
    cases = [
        ("gzip", ask(tokens=4), 400), ("gzip", good[:-1], 400), ("gzip", good + b"more", 400),
        ("zstd", good, 400), ("zstd", zstd(ask(tokens=4))[:-3], 400),
        ("br", good, 415), ("gzip, gzip, gzip, gzip", good, 415),
        ("gzip", bomb, 413), ("zstd", zstd(b" " * (32 << 20)), 413),
        ("gzip, gzip", gzip.compress(bomb), 413),
    ]
    for coding, body, status in cases:
        response, answer = post(gateway.address, body, {"content-encoding": coding})
        assert response.status == status, (coding, len(body))
        assert json.loads(answer)["error"]["message"]
        if status == 415:
            assert response.getheader("accept-encoding") == "zstd, gzip"
    assert gateway.metric("weir_coded_requests_total", outcome="refused") == len(cases)
    response, _ = post(gateway.address, good, {"content-encoding": "gzip"})
    assert response.status == 200


def test_a_wide_window_is_refused(gateway):
    parameters = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    writer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    body = writer.compress(ask()) + writer.flush()
    response, _ = post(gateway.address, body, {"content-encoding": "zstd"})
    assert response.status == 413


@pytest.mark.parametrize("stream", [False, True])
def test_curl_sees_no_difference(gateway, stream):
    body = ask(tokens=200, stream=stream).decode()

    def curl(*options):
        command = ["curl", "-sSN", "--fail", "-d", body, "-H", "content-type: application/json",
                   *options, f"{gateway.url}/v1/chat/completions"]
        return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout

    def words(answer):
        """What does not differ from one answer to the next."""
        lines = [answer.decode()]
        if stream:
            lines = [line[5:] for line in answer.decode().split("\n") if line.startswith("data:")]
            assert lines.pop().strip() == "[DONE]"
        values = [json.loads(line) for line in lines]
        return [[value["choices"], value.get("usage")] for value in values]

    plain = words(curl())
    assert words(curl("--compressed")) == plain
    codings = ["gzip", "zstd"]
    assert sum(gateway.metric("weir_compressed_answers_total", coding=c) for c in codings) == 1


def test_compressed_streams_can_be_decoded_as_they_come(gateway):
    for coding in CODERS:
        answer = requests.post(
            f"{gateway.url}/v1/chat/completions",
            json=chat_body(MODEL, tokens=12, stream=True),
            headers={"accept-encoding": coding},
            stream=True,
            timeout=60,
        )
        assert answer.headers["content-encoding"] == coding
        decoder = (
            zstandard.ZstdDecompressor().decompressobj() if coding == "zstd"
            else zlib.decompressobj(wbits=31)
        )
        text = b"".join(
            decoder.decompress(piece) for piece in answer.raw.stream(decode_content=False)
        )
        assert text.count(b"data:") >= 12 and text.rstrip().endswith(b"[DONE]")
    assert gateway.metric("weir_tokens_total", type="output") >= 24


def test_requests_go_on_as_they_came(weir, tmp_path):
    """The default: the name is read, and the body is not touched."""
    documents = [model(MODEL, {"v1": "river-v1"}), simulated("river-v1", MODEL)]
    gateway = weir(*documents, replicas=1)
    # The simulator cannot decode, and says so; that the name was found shows in who answered.
    response, _ = post(gateway.address, gzip.compress(ask()), {"content-encoding": "gzip"})
    assert response.getheader("x-weir-variant") == "v1"
    assert gateway.metric("weir_coded_requests_total", outcome="forwarded") == 1
    unknown = gzip.compress(json.dumps(chat_body("nobody")).encode())
    response, answer = post(gateway.address, unknown, {"content-encoding": "gzip"})
    assert response.status == 404 and b"nobody" in answer
    # Streams stay as they are.
    response, answer = post(gateway.address, ask(stream=True), {"accept-encoding": "gzip"})
    assert response.getheader("content-encoding") is None and b"[DONE]" in answer
    eventually(
        lambda: gateway.metric("weir_in_flight_requests") == 0, "every request to be over"
    )
