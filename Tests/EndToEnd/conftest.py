"""Fixtures of the end-to-end tests; what they start is in harness.py."""

import signal
import sys
import pathlib

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import harness  # noqa: E402 (the line above makes it visible)

TEST_SECONDS = 120


@pytest.fixture(autouse=True)
def deadline():
    """No test may hang: each has two minutes."""

    def expired(*_):
        raise TimeoutError(f"the test took more than {TEST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(TEST_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Shows the end of every process's output beside a failure."""
    report = (yield).get_result()
    if report.when != "call" or not report.failed:
        return
    folder = item.funcargs.get("tmp_path")
    for log in sorted(folder.glob("*.log")) if folder else []:
        text = log.read_text(encoding="utf-8", errors="replace")
        report.sections.append((f"end of {log.name}", "\n".join(text.splitlines()[-30:])))


@pytest.fixture
def start(tmp_path):
    """start(Class, …) starts a process in the test's folder; all are ended with the test.

    A process that is still running at the end is asked to end and must do so with status 0, after
    a test that failed as well; the test that wants something else ends it itself. Nothing that any
    of them started may be left over.
    """
    started = []

    def start_one(kind, *arguments, **named):
        process = kind(tmp_path, *arguments, **named)
        started.append(process)
        return process

    yield start_one
    errors = []
    for process in reversed(started):
        try:
            process.stop()
        except AssertionError as error:
            errors.append(str(error))
        finally:
            process.kill()
    left = harness.sweep(tmp_path)
    if left:
        errors.append(f"processes {left} were left running")
    assert not errors, "; ".join(errors)


@pytest.fixture
def weir(start, tmp_path):
    """weir(documents…) starts `weir run` with a gateway and these documents, and waits for it."""

    def start_weir(*documents, replicas=0, gateway=None, **named):
        first = gateway or harness.gateway(tmp_path)
        process = start(harness.Weir, [first, *documents], **named)
        return process.wait_until_ready(replicas)

    return start_weir


@pytest.fixture
def simulator(start):
    """simulator(NAME, arguments…) starts `weir model-simulator` outside of any deployment."""

    def start_simulator(*arguments, name="simulator"):
        return start(harness.Simulator, name=name, arguments=arguments)

    return start_simulator
