"""Answers of 16 KB of JSON, compressed on their way: CPU per request, and bytes on the wire."""

import gzip
import json

from harness import bodies, http, load, peers
from harness.processes import Fault

PATH = "/files/answer"
ANSWER_BYTES = 16 << 10
CONNECTIONS = 64
SECONDS = 3
WARM_UP_SECONDS = 1
# Weir's own (Sources/Compression): nginx gets the same.
GZIP_LEVEL = 4
NAMES = ("Weir", "nginx", "HAProxy")
# Sizes are alike up to this ratio: heads of answers differ, and codings.
ALIKE = 1.05
# Text of which less goes away was not compressed.
RATIO_MAX = 0.6


def answer():
    """A chat's answer of about `ANSWER_BYTES`."""
    return json.dumps({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000,
        "model": "river", "choices": [{
            "index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": bodies.prose(ANSWER_BYTES - 320)},
        }],
        "usage": {"prompt_tokens": 120, "completion_tokens": 3900, "total_tokens": 4020},
    }).encode()


def bench(run):
    backend = peers.start_backend(run.stage, run.cores.load, "{}")
    whole = answer()
    (run.stage.folder / "files/answer").write_bytes(whole)
    proxies = {
        name: peers.start(
            name, run.stage, run.scenario, backend, run.cores.proxy,
            **({"LEVEL": GZIP_LEVEL} if name == "nginx" else {}),
        )
        for name in NAMES
    }
    for coding in ("gzip", "zstd"):
        compare(run, coding, proxies, whole)


def compare(run, coding, proxies, whole):
    """Peers answer with gzip in any case: it is what they have."""
    row = f"16 KB answers, {coding}"
    than = "nginx" if coding == "gzip" else "nginx's gzip"
    cost = run.compare("CPU per request", "µs", f"≤ {than}", row=row, limits={"nginx": 1})
    size = run.compare(
        "bytes per answer, head included", "KB", f"≤ {ALIKE}× {than}", row=row,
        limits={"nginx": ALIKE},
    )
    wanted = {name: coding if name == "Weir" else "gzip" for name in NAMES}
    sizes = {name: check(proxies[name], wanted[name], whole) for name in NAMES}

    def one(name, seconds):
        return load.wrk(
            proxies[name], run.cores.load, PATH, None, seconds, CONNECTIONS, sizes[name],
            accepts=wanted[name],
        )

    for name in NAMES:
        one(name, WARM_UP_SECONDS)
    for _, name in run.turns(NAMES):
        sample = one(name, SECONDS)
        cost.add(name, sample.cpu_per_request)
        size.add(name, sample.received / sample.requests)


def check(peer, coding, whole):
    """One answer must be what the server sent, in the coding that was asked for. Its size there."""
    got = http.call(peer.port, "GET", PATH, headers={"accept-encoding": coding})
    if got.status != 200 or got.headers.get("content-encoding") != coding:
        raise Fault(f"{peer.name} answered {got.status}, {got.headers.get('content-encoding')}")
    # Python has no zstd of its own: Tests/EndToEnd/test_compression.py decodes what Weir makes.
    if coding == "gzip" and gzip.decompress(got.body) != whole:
        raise Fault(f"{peer.name} sent something else than the server")
    if not 0 < len(got.body) < RATIO_MAX * len(whole):
        raise Fault(f"{peer.name} made {len(got.body)} bytes of {len(whole)}")
    return len(got.body)
