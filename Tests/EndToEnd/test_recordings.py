"""Traffic that is recorded, checked, exported, simulated and replayed."""

import json
import pathlib
import signal
import subprocess

import pytest
import requests

from harness import (
    Stream, Weir, binary, call, chat_body, eventually, gateway, model, simulated,
)

MODEL = "river"
SECRET = "the crown jewels lie below the third bridge"


def tool(*arguments):
    return subprocess.run(
        [binary(), *map(str, arguments)],
        capture_output=True, text=True, timeout=100, check=False,
    )


def documents(replicas=1):
    return [
        model(MODEL, {"v1": "river-v1"}),
        simulated("river-v1", MODEL, replicas, ["--step-time", "1ms"]),
    ]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "traffic"


@pytest.fixture
def recording(weir, tmp_path, folder):
    return weir(
        *documents(), replicas=1,
        gateway=gateway(tmp_path, workers=2, recorder={"path": str(folder)}),
    )


def exported(folder):
    done = tool("recordings", "export", folder)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_records_what_simulation_and_replay_need(recording, folder, simulator, tmp_path):
    long_text = "All rivers run into the sea. " * 300
    for number in range(30):
        answer = recording.call(
            "POST", "/v1/chat/completions",
            chat_body(MODEL, long_text + SECRET, tokens=number % 3 + 1),
        )
        assert answer.status == 200
    usage = {"stream_options": {"include_usage": True}}
    assert Stream(recording.address, chat_body(MODEL, tokens=6, **usage)).rest()[-1] == "[DONE]"
    assert recording.call("POST", "/v1/chat/completions", chat_body("nobody")).status == 404
    assert recording.call("GET", "/v1/models").status == 200
    recording.stop()

    verified = tool("recordings", "verify", folder)
    assert verified.returncode == 0, verified.stderr
    assert "closed" in verified.stdout and "closed" in tool("recordings", "ls", folder).stdout
    # Nothing of what was said is on the disk, in whatever form the tools can bring it back.
    records = exported(folder)
    assert SECRET not in json.dumps(records)
    assert len(records) == 33
    assert [record["timestamp"] for record in records] == sorted(
        record["timestamp"] for record in records
    )
    worked = [record for record in records if record["model"] == MODEL]
    assert len(worked) == 31
    assert all(record["status"] == 200 and record["variant"] == "v1" for record in worked)
    assert all(record["route"] == "/v1/chat/completions" for record in worked)
    assert [record["output_length"] for record in worked[:3]] == [1, 2, 3]
    # 8.7 kB of the same beginning are four hashes of 2 KiB each.
    assert all(record["hash_ids"] == worked[0]["hash_ids"] for record in worked[:30])
    assert len(worked[0]["hash_ids"]) == 4
    stream = worked[30]
    assert stream["stream"] and stream["output_length"] == 6 and stream["hash_ids"] == []
    assert 0 < stream["ttft_s"] <= stream["total_s"]
    unknown = next(record for record in records if record["status"] == 404)
    assert unknown["model"] == "" and unknown["error"] == "unknown-model"

    lines = tmp_path / "traffic.jsonl"
    assert tool("recordings", "export", folder, "--output", lines).returncode == 0
    table = tmp_path / "traffic.csv"
    assert tool(
        "recordings", "export", folder, "--format", "csv", "--output", table
    ).returncode == 0
    server = simulator("--model", MODEL, "--step-time", "1ms")
    for trace in [folder, lines, table]:
        result = tmp_path / "simulated.json"
        done = tool(
            "simulate", "--trace", trace, "--policy", "static:replicas=2", "--no-optimum",
            "--output", result,
        )
        assert done.returncode == 0, done.stderr
        done = tool(
            "load", server.url, "--replay", trace, "--api", "chat", "--model", MODEL,
            "--trace-speed", "2", "--max-lag", "10s", "--output", tmp_path / "load.json",
        )
        assert done.returncode == 0, done.stderr
        replayed = json.loads((tmp_path / "load.json").read_text())
        # The tools' own formats know no difference between a request for no model and others.
        assert replayed["counts"]["requests"] == (31 if trace == folder else 33)
    missing = tool("simulate", "--trace", folder, "--trace-model", "nobody", "--policy", "kpa")
    assert missing.returncode == 1 and "nobody" in missing.stderr


def test_what_a_crash_leaves_is_recovered(start, tmp_path, folder):
    spec = {"path": str(folder)}
    first = start(Weir, [gateway(tmp_path, workers=1, recorder=spec), *documents()])
    first.wait_until_ready(1)
    for _ in range(20):
        assert first.call("POST", "/v1/chat/completions", chat_body(MODEL)).status == 200
    eventually(
        lambda: first.metric("weir_recorder_requests_total", outcome="written") == 20,
        "the requests are on the disk",
    )
    # As if the crash had come in the middle of the next block.
    segment = next(folder.glob("*.weirrec"))
    first.signal(signal.SIGKILL)
    first.wait()
    with open(segment, "ab") as file:
        file.write(b"RBLK\x00\x01\x02")
    assert tool("recordings", "verify", folder).returncode == 1
    torn = tool("recordings", "ls", folder)
    assert "torn" in torn.stdout and "20" in torn.stdout
    assert len(exported(folder)) == 20

    second = start(
        Weir, [gateway(tmp_path, workers=1, recorder=spec), *documents()], name="second"
    )
    second.wait_until_ready(1)
    verified = tool("recordings", "verify", segment)
    assert verified.returncode == 0 and "20 requests, closed" in verified.stdout
    assert "mended" in second.output()


def test_follows_the_configuration(recording, tmp_path, folder):
    body = chat_body(MODEL)
    assert recording.call("POST", "/v1/chat/completions", body).status == 200
    other = tmp_path / "other"

    def reload(spec):
        before = recording.metric("weir_config_generation")
        recording.write([gateway(tmp_path, workers=2, **spec), *documents()])
        eventually(
            lambda: recording.metric("weir_config_generation") > before, "the files are read"
        )

    reload({"recorder": {"path": str(other), "sample": "50%"}})
    eventually(lambda: list(other.glob("*")) or other.is_dir(), "the other folder is there")
    # A segment of the first folder is closed once no worker writes to it.
    eventually(
        lambda: "closed" in tool("recordings", "ls", folder).stdout, "the old one is closed"
    )
    assert len(exported(folder)) == 1
    session = requests.Session()
    for _ in range(40):
        url = f"{recording.url}/v1/chat/completions"
        assert session.post(url, json=body, timeout=30).status_code == 200
    reload({})
    eventually(lambda: list(other.glob("*.weirrec")), "the other one is written")
    eventually(
        lambda: "closed" in tool("recordings", "ls", other).stdout, "the other one is closed"
    )
    assert len(exported(other)) == 20
    assert call(recording.address, "GET", "/v1/models").status == 200
    assert recording.metric("weir_recorder_requests_total", outcome="written") == 21
    assert recording.metric("weir_recorder_requests_total", outcome="dropped") == 0
    size = sum(path.stat().st_size for path in pathlib.Path(other).glob("*.weirrec"))
    assert 0 < recording.metric("weir_recorder_written_bytes_total") < size * 2 + 1_000


def test_a_folder_that_cannot_be_used_costs_only_the_recording(weir, tmp_path):
    file = tmp_path / "a-file"
    file.write_text("")
    running = weir(
        *documents(), replicas=1,
        gateway=gateway(tmp_path, recorder={"path": str(file)}),
    )
    assert running.call("POST", "/v1/chat/completions", chat_body(MODEL)).status == 200
    assert "traffic is not recorded" in running.output()


@pytest.mark.parametrize("content", [b"", b"WEIRREC", b"WEIRREC1", b"WEIRREC1RBLK" + b"\xff" * 60])
def test_files_that_are_no_recordings_are_said_to_be_none(tmp_path, content):
    path = tmp_path / "x.weirrec"
    path.write_bytes(content)
    for command in [["recordings", "ls"], ["recordings", "export"], ["recordings", "verify"]]:
        done = tool(*command, path)
        assert done.returncode in (0, 1) and "Fatal" not in done.stderr
    done = tool("load", "http://127.0.0.1:1", "--replay", path)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("weir: "), done.stderr
