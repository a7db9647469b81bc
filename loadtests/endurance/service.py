#!/usr/bin/env python3
"""A replica of gRPC: the server of the end-to-end tests, on the port that is its argument."""

import pathlib
import signal
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "Tests/EndToEnd"))

import calls  # noqa: E402 (the line above makes it visible)

if __name__ == "__main__":
    # Before there are threads, so that the signal waits for sigwait.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    server = calls.Server(port=int(sys.argv[1]))
    signal.sigwait({signal.SIGTERM})
    server.stop()
