"""Streams of server-sent events: a server that paces them and a client that times them.

Both are `streams.c`, built here, so that they cost little beside the proxy that is measured.
"""

import json
import pathlib
import subprocess

from harness.processes import Fault

SOURCE = pathlib.Path(__file__).with_suffix(".c")
PATH = "/v1/chat/completions"
EVENTS_PER_SECOND = 50
DONE = b"data: [DONE]\n\n"


def build(folder):
    """The program, compiled into a folder."""
    program = folder / "streams"
    made = subprocess.run(
        ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, SOURCE],
        capture_output=True, text=True,
    )
    if made.returncode != 0:
        raise Fault(f"{SOURCE.name} does not compile: {made.stderr[:500]}")
    return program


def body(tokens):
    """A request for a stream of so many events."""
    message = {"role": "user", "content": "How deep is the river?"}
    return json.dumps(
        {"model": "river", "stream": True, "max_tokens": tokens, "messages": [message]},
        separators=(",", ":"),
    ).encode()
