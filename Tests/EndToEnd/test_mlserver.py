"""Real models in MLServer behind Weir: the two classifiers of the demonstration."""

import json
import os
import subprocess
import sys

import numpy
import pytest
import requests
import tritonclient.grpc
import tritonclient.http as triton

import harness
from certificates import Certificate, make_authority
from harness import ROOT

PYTHON_TOOLS = os.path.dirname(sys.executable)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The folder of the two trained classifiers and the images that they have not seen."""
    folder = tmp_path_factory.mktemp("digits") / "models"
    command = [sys.executable, str(ROOT / "scripts/demo/train.py"), "--output", str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return folder


@pytest.fixture
def held_out(models):
    return json.loads((models / "held-out.json").read_text())


@pytest.fixture
def serve(start, models, tmp_path):
    """The tracked example, with free ports, other folders, and one replica of each variant."""

    def run(tls=None):
        """`tls`: files of a listener of that name besides."""
        text = example(models, tmp_path)
        if tls:
            first = '  - {name: http, address: "127.0.0.1:0"}\n'
            assert first in text
            second = {"name": "https", "address": "127.0.0.1:0", "tls": tls}
            text = text.replace(first, f"{first}  - {json.dumps(second)}\n")
        path = os.pathsep.join([PYTHON_TOOLS, os.environ["PATH"]])
        weir = start(harness.Weir, text, environment={"PATH": path})
        return weir.wait_until_ready(replicas=2)

    return run


@pytest.fixture
def gateway(serve):
    return serve()


def example(models, tmp_path):
    text = (ROOT / "configs/digits.yaml").read_text()
    for old, new in (
        ("../.cache/demo/models", str(models)),
        ("../.cache/demo/state", str(tmp_path / "state")),
        ("127.0.0.1:8080", "127.0.0.1:0"),
        ("127.0.0.1:9901", "127.0.0.1:0"),
        ("replicas: 2", "replicas: 1"),
    ):
        assert old in text, f"configs/digits.yaml lacks {old!r}"
        text = text.replace(old, new)
    return text


def test_digits_are_recognised_through_the_gateway(gateway, held_out):
    right = {"v1": 0, "v2": 0}
    asked = {"v1": 0, "v2": 0}
    with requests.Session() as session:
        for image, label in list(zip(held_out["images"], held_out["labels"]))[:400]:
            answer = session.post(
                f"{gateway.url}/v2/models/digits/infer",
                json=harness.infer_body(image),
                timeout=30,
            )
            assert answer.status_code == 200, answer.text
            variant = answer.headers["x-weir-variant"]
            asked[variant] += 1
            right[variant] += answer.json()["outputs"][0]["data"][0] == label
    assert asked["v1"] == pytest.approx(360, abs=20)
    assert right["v1"] / asked["v1"] < 0.93
    assert right["v2"] / asked["v2"] > 0.90


def test_tritonclient(gateway, held_out):
    client = triton.InferenceServerClient(url=gateway.address)
    try:
        assert client.is_model_ready("digits")
        images = numpy.array(held_out["images"][:16], dtype=numpy.float32)
        tensor = triton.InferInput("image", list(images.shape), "FP32")
        tensor.set_data_from_numpy(images, binary_data=False)
        output = triton.InferRequestedOutput("predict", binary_data=False)
        digits = client.infer("digits", [tensor], outputs=[output]).as_numpy("predict")
    finally:
        client.close()
    right = (digits.reshape(-1) == numpy.array(held_out["labels"][:16])).sum()
    assert right >= 10


def test_tritonclient_by_grpc(gateway, held_out):
    """The same model by the other protocol, at the replicas' other port."""
    grpc = tritonclient.grpc
    with grpc.InferenceServerClient(url=gateway.address) as client:
        assert client.is_server_live() and client.is_server_ready()
        assert client.is_model_ready("digits")
        assert client.get_model_metadata("digits").name == "digits"
        images = numpy.array(held_out["images"][:16], dtype=numpy.float32)
        right = 0
        for _ in range(10):
            tensor = grpc.InferInput("image", list(images.shape), "FP32")
            tensor.set_data_from_numpy(images)
            output = grpc.InferRequestedOutput("predict")
            digits = client.infer("digits", [tensor], outputs=[output]).as_numpy("predict")
            right += (digits.reshape(-1) == numpy.array(held_out["labels"][:16])).sum()
        assert right >= 100
        tensor = grpc.InferInput("image", [1, 3], "FP32")
        tensor.set_data_from_numpy(numpy.zeros((1, 3), dtype=numpy.float32))
        with pytest.raises(grpc.InferenceServerException, match="features"):
            client.infer("digits", [tensor])
        with pytest.raises(grpc.InferenceServerException, match="there is digits") as caught:
            client.get_model_metadata("nope")
        assert caught.value.status() == "StatusCode.NOT_FOUND"
    # HTTP and gRPC count together, by the same weights.
    counted = gateway.metric("weir_requests_total", model="digits", code="200")
    assert counted >= 12
    assert gateway.metric("weir_requests_total", model="digits", variant="v1", code="200") >= 9


def test_tritonclient_by_grpc_over_tls(serve, held_out, tmp_path):
    authority = make_authority()
    files = Certificate("localhost", ["localhost"], authority).write(tmp_path, "cert")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    gateway = serve(tls=files)
    port = json.loads(gateway.ports_path.read_text())["https"].rsplit(":", 1)[1]
    grpc = tritonclient.grpc
    options = {"ssl": True, "root_certificates": str(tmp_path / "ca.pem")}
    with grpc.InferenceServerClient(url=f"localhost:{port}", **options) as client:
        assert client.is_model_ready("digits")
        images = numpy.array(held_out["images"][:16], dtype=numpy.float32)
        tensor = grpc.InferInput("image", list(images.shape), "FP32")
        tensor.set_data_from_numpy(images)
        output = grpc.InferRequestedOutput("predict")
        # Plain, and as it is for clients far away: a compressed message names its model elsewhere.
        for more in ({}, {"compression_algorithm": "gzip", "headers": {"x-weir-model": "digits"}}):
            answer = client.infer("digits", [tensor], outputs=[output], **more)
            digits = answer.as_numpy("predict").reshape(-1)
            assert (digits == numpy.array(held_out["labels"][:16])).sum() >= 12
        with pytest.raises(grpc.InferenceServerException, match="x-weir-model"):
            client.infer("digits", [tensor], compression_algorithm="gzip")
    # Somebody else's authority is none.
    other = tmp_path / "other.pem"
    other.write_bytes(make_authority().pem)
    options["root_certificates"] = str(other)
    with grpc.InferenceServerClient(url=f"localhost:{port}", **options) as client:
        with pytest.raises(grpc.InferenceServerException):
            client.infer("digits", [tensor], client_timeout=5)


def test_model_servers_own_error_reaches_the_client(gateway):
    answer = requests.post(
        f"{gateway.url}/v2/models/digits/infer", json={"inputs": "nonsense"}, timeout=30
    )
    assert answer.status_code == 422
    assert answer.headers["x-weir-variant"] in ("v1", "v2")
