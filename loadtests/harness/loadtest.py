"""`make loadtest`: what must hold under load. About what is right, not about how fast it is.

Every scenario starts its own processes on free ports of this machine, and ends them.
"""

import argparse
import sys
import threading
import time

from . import http, load, machine, peers
from .bench import OUTPUT, Progress, load_scenario
from .processes import Fault, Stage

ROOT = peers.ROOT
SCENARIOS = (
    "reload", "killed-replica", "slow-upstream", "queue-overflow", "mixed-models", "http2-floods",
)
WAIT_SECONDS = 60.0


class Expectation:
    def __init__(self, scenario, what, wanted, seen, met):
        self.scenario, self.what, self.wanted, self.seen = scenario, what, wanted, seen
        self.met = met


class Background:
    """A call on a thread of its own; `result` waits for it and passes on what it raised."""

    def __init__(self, call):
        self.value, self.error = None, None

        def run():
            try:
                self.value = call()
            except BaseException as error:  # raised again in result()
                self.error = error

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def result(self):
        self.thread.join(WAIT_SECONDS)
        if self.thread.is_alive():
            raise Fault("the load did not come to an end")
        if self.error:
            raise self.error
        return self.value


class Test:
    """What a scenario works with."""

    def __init__(self, name, folder, scenario):
        self.name, self.scenario = name, scenario
        self.cores = machine.ALL_CORES
        self.stage = Stage(folder)
        self.expectations = []
        self.loads = 0

    def expect(self, what, wanted, seen, met):
        """Notes what was wanted and seen; a miss does not end the scenario."""
        self.expectations.append(Expectation(self.name, what, wanted, seen, bool(met)))

    def start_weir(self, backend=0, **values):
        return peers.start_weir(
            self.stage, self.scenario, backend, self.cores, len(self.cores), **values
        )

    def simulator(self, name, *arguments):
        port, _ = peers.start_simulator(
            self.stage, self.cores, "--replica", name, *arguments, name=name
        )
        return port

    def load(self, url, *arguments, seconds):
        """`weir load` until it ends. Whether the generator was late does not matter here."""
        self.loads += 1
        return load.weir_load(
            url, self.cores, *arguments, seconds=seconds, valid=False,
            output=self.stage.folder / f"load-{self.loads}.json",
        )

    def start_load(self, url, *arguments, seconds):
        return Background(lambda: self.load(url, *arguments, seconds=seconds))

    def expect_no_failures(self, result, who="requests"):
        counts = result["counts"]
        self.expect(
            f"failed {who}", "0", f"{counts['failed']} of {counts['requests']}"
            + (f", {result['statuses']}" if counts["failed"] else ""),
            counts["failed"] == 0 and counts["requests"] > 0,
        )

    def write(self, name, data):
        path = self.stage.folder / name
        path.write_bytes(data)
        return path


def admin(weir, method, path, body=None):
    answer = http.call(weir.admin, method, path, body)
    if answer.status >= 300:
        raise Fault(f"{method} {path} was answered {answer.status}: {answer.body[:200]!r}")
    return answer.json() if answer.body else None


def run_scenario(name, progress):
    folder, module = load_scenario(name)
    test = Test(name, OUTPUT.parent / "loadtest" / name, folder)
    started = time.monotonic()
    progress.show(name)
    try:
        with test.stage:
            module.check(test)
    except Fault as fault:
        test.expect("the scenario runs", "to its end", str(fault).replace("\n", " | "), False)
    progress.show(f"{name}: {time.monotonic() - started:.0f} s", new_line=True)
    return test.expectations


def report(expectations):
    rows = [(e.scenario, e.what, e.wanted, e.seen, "ok" if e.met else "MISSED")
            for e in expectations]
    rows.insert(0, ("scenario", "what", "wanted", "seen", ""))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for row in rows:
        lead = "  ".join(cell.ljust(width) for cell, width in zip(row, widths))
        print(f"{row[4]:7} {lead}  {row[3]}")
    missed = sum(1 for e in expectations if not e.met)
    print(f"\n{len(expectations) - missed} kept, {missed} missed")
    return missed


def main():
    parser = argparse.ArgumentParser(prog="loadtest", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="scenarios, by commas: " + ", ".join(SCENARIOS))
    values = parser.parse_args()
    chosen = [name for name in values.only.replace(" ", ",").split(",") if name]
    for name in chosen:
        if name not in SCENARIOS:
            parser.error(f"there is no scenario `{name}`: there are {', '.join(SCENARIOS)}")
    progress = Progress()
    expectations = []
    for name in chosen or SCENARIOS:
        expectations += run_scenario(name, progress)
    sys.exit(1 if report(expectations) else 0)
