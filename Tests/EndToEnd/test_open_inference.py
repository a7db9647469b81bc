"""What Open Inference clients see, through the simulator."""

import numpy
import pytest
import requests
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from harness import infer_body, model, simulated

MODEL = "gauge"


@pytest.fixture
def gateway(weir):
    return weir(
        model(MODEL, {"v1": "gauge-v1"}, protocol="OpenInference"),
        simulated("gauge-v1", MODEL),
        replicas=1,
    )


@pytest.fixture
def client(gateway):
    client = triton.InferenceServerClient(url=gateway.address)
    yield client
    client.close()


def test_fleet_is_live_and_ready(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)


def test_model_metadata(client):
    assert client.get_model_metadata(MODEL)["name"] == MODEL


def test_infer(client):
    tensor = triton.InferInput("x", [1, 4], "FP32")
    tensor.set_data_from_numpy(
        numpy.array([[1, 2, 3, 4]], dtype=numpy.float32), binary_data=False
    )
    result = client.infer(MODEL, [tensor])
    response = result.get_response()
    assert response["model_name"] == MODEL
    output = response["outputs"][0]
    assert result.as_numpy(output["name"]).shape == tuple(output["shape"])


def test_unknown_model_is_404_in_the_shape_of_the_api(client, gateway):
    tensor = triton.InferInput("x", [1, 1], "FP32")
    tensor.set_data_from_numpy(numpy.zeros((1, 1), dtype=numpy.float32), binary_data=False)
    with pytest.raises(InferenceServerException) as caught:
        client.infer("sea", [tensor])
    assert "sea" in caught.value.message()
    answer = requests.post(f"{gateway.url}/v2/models/sea/infer", json=infer_body(), timeout=10)
    assert answer.status_code == 404
    assert MODEL in answer.json()["error"], "the message names the models that there are"


def test_model_by_header_wins_over_the_path(gateway):
    answer = requests.post(
        f"{gateway.url}/v2/models/sea/infer",
        json=infer_body(),
        headers={"x-weir-model": MODEL},
        timeout=10,
    )
    # The simulator, which sees the path, does not know the model; Weir sent the request there.
    assert answer.headers["x-weir-variant"] == "v1"
