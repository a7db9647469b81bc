"""The tools that judge: each must be able to say no."""

import importlib.machinery
import importlib.util
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from harness import ROOT

COUNT = ROOT / "scripts/count-tests"
REPORT = """<testsuites><testsuite>
<testcase name="a"/><testcase name="b"><skipped/></testcase>
<testcase name="c"><failure message="1"/><failure message="2"/></testcase>
<testcase name="d"><error message="3"/></testcase>
</testsuite></testsuites>"""
GOOD_REPORT = '<testsuites><testsuite><testcase name="a"/></testsuite></testsuites>'
LOG = """\
✔ Test one() passed after 0.001 seconds.
✔ Test "with (parentheses) passed" passed after 0.001 seconds.
✘ Test two() failed after 0.002 seconds with 4 issues.
✔ Suite S passed after 0.001 seconds.
◇ Test three() started.
"""


def load(path):
    """A script as a module."""
    loader = importlib.machinery.SourceFileLoader(path.stem.replace("-", "_"), str(path))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module
    loader.exec_module(module)
    return module


@pytest.mark.parametrize("report, log, status, expected", [
    (REPORT, "", 1, "1 2"),
    (GOOD_REPORT, "", 0, "1 0"),
    (GOOD_REPORT, "", 1, "1 1"),  # the runner failed after its tests
    ("<testsuites/>", "", 0, "0 1"),  # no test ran
    ("<testsu", LOG, 1, "2 2"),  # crashed: what the log shows, and the crash
    (None, LOG, 1, "2 2"),
    (None, None, 0, "0 1"),
])
def test_count_tests(tmp_path, report, log, status, expected):
    for name, text in (("report.xml", report), ("log", log)):
        if text is not None:
            (tmp_path / name).write_text(text, encoding="utf-8")
    command = [sys.executable, COUNT, tmp_path / "report.xml", tmp_path / "log", str(status)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output.strip() == expected


@pytest.fixture
def drive():
    module = load(ROOT / "scripts/demo/drive.py")

    class Drive:
        """What is judged after a drive; everything is well until a test changes it."""

        def __init__(self):
            self.module = module
            self.tally = module.Tally()
            self.problems = []
            self.secure = None
            self.offline = {"digits-v1": 0.85, "digits-v2": 0.98}
            period = module.Period("first weights", {"v1": 90, "v2": 10})
            self.periods = [period]
            for index in range(1000):
                variant = "v2" if index % 10 == 0 else "v1"
                right = index % 7 != 0 if variant == "v1" else True
                self.tally.sent += 1
                self.tally.answered(period, variant, right, 0.001 * (index + 1))

    return Drive()


def test_drive_accepts_what_is_well(drive):
    assert drive.module.judge(drive) == []
    assert drive.tally.quantile(0.5) == pytest.approx(501)
    assert drive.tally.quantile(1.0) == pytest.approx(1000)


def test_drive_refuses_a_failure(drive):
    drive.tally.failed(1.0, "status 502")
    assert any("failed" in problem for problem in drive.module.judge(drive))


def test_drive_refuses_wrong_shares(drive):
    drive.periods[0].weights = {"v1": 80, "v2": 20}
    assert any("share" in problem for problem in drive.module.judge(drive))


def test_drive_refuses_answers_of_another_model(drive):
    drive.offline["digits-v1"] = 0.98
    assert any("offline" in problem for problem in drive.module.judge(drive))


def test_drive_refuses_silence(drive):
    drive.tally = drive.module.Tally()
    drive.periods = []
    assert drive.module.judge(drive) == ["nothing was answered"]


def test_drive_refuses_to_go_without_tls(drive):
    drive.secure = object()
    assert drive.module.judge(drive) == ["nothing was answered over TLS"]
    drive.tally.secure = 1
    assert drive.module.judge(drive) == []


def test_editing_weights_keeps_the_rest(drive, tmp_path):
    path = tmp_path / "digits.yaml"
    path.write_text("spec:\n  # how much each gets\n  weights: {v1: 90, v2: 10}  # for now\n")
    drive.module.edit_weights(path, {"v1": 50, "v2": 50})
    assert path.read_text() == (
        "spec:\n  # how much each gets\n  weights: {v1: 50, v2: 50}  # for now\n"
    )
    path.write_text("spec: {}\n")
    with pytest.raises(drive.module.Failure):
        drive.module.edit_weights(path, {"v1": 50, "v2": 50})


LOAD_PROGRAM = """
import os, pathlib, sys
sys.path.insert(0, sys.argv[1])
from harness import processes

def main():
    with processes.Stage(pathlib.Path(sys.argv[2])) as stage:
        sleeper = stage.start("sleeper", ["sleep", "1000"], os.sched_getaffinity(0))
        print(sleeper.pid, flush=True)
        sleeper.child.wait()

processes.run("bench", main)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_load_test_that_is_ended_leaves_nothing_running(tmp_path, number):
    program = subprocess.Popen(
        [sys.executable, "-c", LOAD_PROGRAM, ROOT / "loadtests", tmp_path],
        stdout=subprocess.PIPE, text=True)
    with program:
        child = int(program.stdout.readline())
        os.kill(child, 0)  # it runs
        program.send_signal(number)
        assert program.wait(60) == 128 + number
    assert not pathlib.Path(f"/proc/{child}").exists()
