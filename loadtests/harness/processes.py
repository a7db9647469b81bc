"""Processes that a run starts: pinned, awaited, measured, and gone at its end."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

START_SECONDS = 30.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.01


class Fault(Exception):
    """The harness could not measure: nothing that was measured may be believed."""


def run(name, main):
    """Runs main(), a program of this folder: what it started ends with it, however it ends."""

    def end(number, _):
        sys.exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    with contextlib.suppress(BrokenPipeError):
        try:
            main()
        except Fault as fault:
            sys.exit(f"\nweir: {name}: {fault}")


def eventually(condition, what, seconds=START_SECONDS):
    """Waits until condition() is true and returns its value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Fault(f"not within {seconds:g} s: {what}")
        time.sleep(POLL_SECONDS)


def free_port():
    """A port that nobody listens on. Somebody may take it before it is used: then a start fails."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def accepts(port):
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


def tree(pid):
    """A process and everything below it."""
    found, waiting = [], [pid]
    while waiting:
        current = waiting.pop()
        found.append(current)
        for children in pathlib.Path(f"/proc/{current}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                waiting += map(int, children.read_text().split())
    return found


class Process:
    """A child in a session of its own, on given cores, with its output in a file."""

    def __init__(self, name, command, folder, cores, environment=None):
        self.name = name
        self.log_path = folder / f"{name}.log"
        pinned = ["taskset", "-c", ",".join(map(str, cores)), *map(str, command)]
        with open(self.log_path, "ab") as log:
            self.child = subprocess.Popen(
                pinned,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    @property
    def pid(self):
        return self.child.pid

    def output(self):
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def assert_running(self):
        status = self.child.poll()
        if status is not None:
            tail = "\n".join(self.output().splitlines()[-15:])
            raise Fault(f"{self.name} ended with status {status}:\n{tail}")

    def listens(self, port):
        def ready():
            self.assert_running()
            return accepts(port)

        eventually(ready, f"{self.name} listens on port {port}")
        return self

    def cpu_seconds(self):
        """User and system time of all its processes and threads so far.

        /proc/PID/task/TID/schedstat counts nanoseconds (sum_exec_runtime); /proc/PID/stat would
        count ticks of 10 ms. A thread that ended in between is missed: none of the peers ends any.
        """
        total = 0
        for pid in tree(self.pid):
            for path in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
                with contextlib.suppress(OSError):
                    total += int(path.read_text().split()[0])
        return total / 1e9

    def memory_bytes(self):
        """Resident memory of all its processes; pages shared between them count once (Pss)."""
        total = 0
        for pid in tree(self.pid):
            with contextlib.suppress(OSError):
                for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1]) * 1024
        return total

    def signal(self, number):
        self.child.send_signal(number)

    def stop(self):
        """Asks for the end, then insists. Ends its own session and nobody else."""
        if self.child.poll() is None:
            self.child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.child.wait(STOP_SECONDS)
        if self.child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait(STOP_SECONDS)


class Stage:
    """A folder, and the processes of one scenario; all of them end with it."""

    def __init__(self, folder):
        self.folder = folder
        self.processes = []
        self.inner = []
        folder.mkdir(parents=True, exist_ok=True)

    def inside(self, name):
        """A stage of its own in a folder of this one; it ends with this one at the latest."""
        self.inner.append(Stage(self.folder / name))
        return self.inner[-1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for stage in self.inner:
            stage.__exit__()
        for process in reversed(self.processes):
            process.stop()
        self.processes.clear()

    def start(self, name, command, cores, environment=None):
        process = Process(name, command, self.folder, cores, environment)
        self.processes.append(process)
        return process

    def end(self, process):
        process.stop()
        self.processes.remove(process)


def read_json(path, process):
    """The JSON that a process writes to a file once it is ready."""

    def value():
        process.assert_running()
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    return eventually(value, f"{process.name} writes {path.name}")
