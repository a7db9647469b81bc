"""The budget of memory allocations on the request path, counted by a library loaded before libc's.

In the steady state a request allocates nothing, and neither does an event of a stream: what the
budgets leave room for are the loop's timers. A debug build keeps on the heap what the optimiser
would not, so it has budgets of its own, which still notice a growing buffer or a new object.
"""

import http.client
import json
import pathlib
import shutil
import struct
import subprocess

import pytest

from harness import binary, gateway, model

MODEL = "brook"
IS_DEBUG = "/debug/" in binary()
PER_REQUEST = 20.0 if IS_DEBUG else 2.0
PER_EVENT = 0.5 if IS_DEBUG else 0.1
WARM_UP = 200
REQUESTS = 400
TOKENS = 400


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("clang")
    assert compiler, "a C compiler is needed, as Swift's linker needs it"
    source = pathlib.Path(__file__).with_name("allocations.c")
    result = tmp_path_factory.mktemp("allocations") / "allocations.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", result, source], check=True)
    return result


@pytest.fixture
def allocations(weir, simulator, library, tmp_path):
    """A gateway with one worker in front of a fast simulator, and how to read its count."""
    counter = tmp_path / "allocations"
    counter.write_bytes(bytes(8))
    replica = simulator(
        "--model", MODEL, "--step-time", "100us", "--step-time-per-sequence", "0s",
        "--prefill-rate", "100000000", "--output-tokens", str(TOKENS),
    )
    quiet = gateway(tmp_path, workers=1)
    del quiet["spec"]["accessLog"]
    variants = {"v1": [replica.url], "v2": [replica.url]}
    process = weir(
        model(MODEL, variants, weights={"v1": 90, "v2": 10}),
        gateway=quiet,
        environment={"LD_PRELOAD": str(library), "WEIR_ALLOCATIONS": str(counter)},
    )
    return process, lambda: struct.unpack("=Q", counter.read_bytes())[0]


def chat(connection, stream=False, tokens=8):
    body = {
        "model": MODEL, "max_tokens": tokens, "stream": stream,
        "messages": [{"role": "user", "content": "How long is the brook? " * 20}],
    }
    connection.request(
        "POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"}
    )
    answer = connection.getresponse()
    text = answer.read()
    assert answer.status == 200, text
    return text


def test_a_request_allocates_nothing(allocations):
    weir, count = allocations
    host, port = weir.address.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    for _ in range(WARM_UP):
        chat(connection)
    before = count()
    assert before > 0, "nothing is counted"
    for _ in range(REQUESTS):
        chat(connection)
    each = (count() - before) / REQUESTS
    connection.close()
    assert each <= PER_REQUEST, f"{each} allocations per request"


def test_an_event_allocates_nothing(allocations):
    weir, count = allocations
    host, port = weir.address.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    for _ in range(3):
        chat(connection, stream=True, tokens=TOKENS)
    before = count()
    events = chat(connection, stream=True, tokens=TOKENS).count(b"data:")
    each = (count() - before) / events
    connection.close()
    assert events >= TOKENS
    assert each <= PER_EVENT, f"{each} allocations per event"
