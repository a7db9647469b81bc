"""`make bench`: Weir beside nginx, HAProxy and Envoy, in turns on the same core.

Misses of goals do not fail it; anything by which the figures could not be believed does.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import sys
import time

from . import machine, peers, table
from .processes import Stage

ROOT = peers.ROOT
OUTPUT = ROOT / ".cache/bench"
# In the order in which they run.
SCENARIOS = (
    "small-post", "h2", "long-prompt", "sse", "large-bodies", "compression", "tls",
    "idle-connections", "added-latency", "two-workers", "large-configuration", "load-generator",
)


class Progress:
    """A line that says what is measured, on a terminal; elsewhere a line per scenario."""

    def __init__(self):
        self.started = time.monotonic()
        self.terminal = sys.stderr.isatty()

    def show(self, text, new_line=False):
        elapsed = int(time.monotonic() - self.started)
        line = f"  {elapsed // 60}:{elapsed % 60:02}  {text}"
        if self.terminal:
            sys.stderr.write(f"\r\033[K{line[:110]}" + ("\n" if new_line else ""))
        elif new_line:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()


class Run:
    """What a scenario works with."""

    def __init__(self, name, folder, scenario, rounds, cores, progress):
        self.name, self.scenario, self.rounds = name, scenario, rounds
        self.progress = progress
        self.cores = cores
        self.stage = Stage(folder)
        self.comparisons = []

    def compare(self, metric, unit, goal, row=None, **judged):
        comparison = table.Comparison(row or self.name, metric, unit, goal, **judged)
        self.comparisons.append(comparison)
        return comparison

    def turns(self, names, rounds=None):
        """(round, name) so that everybody is first, second, … equally often."""
        names = list(names)
        count = rounds or self.rounds
        for number in range(count):
            shift = number % len(names)
            for name in names[shift:] + names[:shift]:
                who = name if isinstance(name, str) else name[0]
                self.progress.show(f"{self.name}: round {number + 1} of {count}, {who}")
                yield number, name

    def write(self, name, data):
        path = self.stage.folder / name
        path.write_bytes(data)
        return path


def load_scenario(name):
    path = ROOT / "loadtests" / name / "scenario.py"
    spec = importlib.util.spec_from_file_location(f"scenario_{name.replace('-', '_')}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return path.parent, module


def measure(name, rounds, cores, progress):
    folder, module = load_scenario(name)
    run = Run(name, OUTPUT / name, folder, rounds, cores, progress)
    started = time.monotonic()
    noise = machine.Noise()
    with run.stage:
        module.bench(run)
    stolen = noise.end()["stolen_share"]
    for comparison in run.comparisons:
        if stolen > machine.STOLEN_SHARE_MAX:
            comparison.note(f"the hypervisor took {stolen:.1%} of the time meanwhile")
    progress.show(f"{name}: {time.monotonic() - started:.0f} s", new_line=True)
    return run.comparisons


def versions():
    return {
        "Weir": machine.first_line([str(peers.weir_binary()), "--version"]),
        "nginx": machine.first_line([peers.program("nginx"), "-v"]),
        "HAProxy": machine.first_line([peers.program("haproxy"), "-v"]),
        "Envoy": machine.first_line([peers.program("envoy"), "--version"]),
        "nghttpx": machine.first_line([peers.program("nghttpx"), "--version"]),
        "wrk": machine.first_line([peers.program("wrk"), "-v"]),
    }


def arguments():
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each comparison (5)")
    parser.add_argument("--only", default="", help="scenarios, by commas: " + ", ".join(SCENARIOS))
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT / "results.json",
                        help="where the results go as JSON (.cache/bench/results.json)")
    parser.add_argument("--markdown", type=pathlib.Path, default=OUTPUT / "results.md",
                        help="where the table goes as Markdown (.cache/bench/results.md)")
    values = parser.parse_args()
    chosen = [name for name in values.only.replace(" ", ",").split(",") if name]
    for name in chosen:
        if name not in SCENARIOS:
            parser.error(f"there is no scenario `{name}`: there are {', '.join(SCENARIOS)}")
    if not 1 <= values.rounds <= 100:
        parser.error("--rounds goes from 1 to 100")
    values.chosen = chosen or list(SCENARIOS)
    return values


def warn(reason, when):
    if reason:
        sys.stderr.write(f"  WARNING: {when}, {reason}: the figures are not to be relied on\n")
    return reason


def main():
    values = arguments()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    facts = {**machine.description(), "versions": versions()}
    cores = machine.Cores()
    print(f"{facts['processor']}, {facts['cores']} cores; proxies on core"
          f" {cores.words(cores.proxy)}, load and server on {cores.words(cores.load)}")
    warnings = [warn(machine.disturbance(), "before the run")]
    if cores.overlap:
        warnings.append(warn("there is one core only", "on this machine"))
    # This program wakes up now and then, too.
    os.sched_setaffinity(0, cores.load)
    progress = Progress()
    comparisons = []
    for name in values.chosen:
        comparisons += measure(name, values.rounds, cores, progress)
    warnings.append(warn(machine.disturbance(), "after the run"))
    results = {
        "machine": facts, "rounds": values.rounds, "warnings": [w for w in warnings if w],
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "comparisons": [comparison.as_json() for comparison in comparisons],
    }
    values.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    values.markdown.write_text(table.markdown(comparisons), encoding="utf-8")
    report(comparisons, values)


def report(comparisons, values):
    print()
    print(table.text(comparisons))
    judged = [c.verdict() for c in comparisons if c.verdict() is not None]
    print(f"\n{judged.count(True)} of {len(judged)} goals met;"
          f" medians of {values.rounds} rounds, smallest and largest in brackets.")
    print(f"  {values.output}\n  {values.markdown}")
