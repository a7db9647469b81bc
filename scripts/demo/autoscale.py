#!/usr/bin/env python3
"""Shows that replicas follow the work: none before the load, enough during it, none after it.

Two acts, each with `weir load` and nothing retried: a compressed hour of a real trace against
pretend language models that take 5 s to start, then images of digits against MLServer. Meanwhile
the replicas are looked at several times per second. At the end come a table and one page with the
load and the replicas over time; the exit status is 0 only when no request failed and every replica
was gone again.
"""

import argparse
import dataclasses
import json
import pathlib
import re
import shutil
import subprocess
import sys
import time
import urllib.request

PERIOD_SECONDS = 0.25
BEFORE_SECONDS = 4.0  # how long each act shows nothing at all before its load
AFTER_SECONDS = 2.0
ZERO_TIMEOUT_SECONDS = 120.0
START_TIMEOUT_SECONDS = 30.0
LOAD_TIMEOUT_SECONDS = 400.0
COUNTED = ("pending", "starting", "ready", "notReady", "draining", "stopping", "crashLooping",
           "failed")


class Failure(Exception):
    """Why the demonstration cannot go on, for people."""


class Screen:
    """Events on lines of their own; progress in place on a terminal, else every ten seconds."""

    def __init__(self, stream):
        self.stream = stream
        self.is_terminal = stream.isatty()
        self.last_progress = -1e9

    def event(self, text):
        self.write(("\r\033[K" if self.is_terminal else "") + f"  {text}\n")

    def progress(self, text):
        now = time.monotonic()
        if self.is_terminal:
            width = shutil.get_terminal_size().columns - 3
            self.write("\r\033[K  " + text[:width])
        elif now - self.last_progress >= 10:
            self.last_progress = now
            self.write(f"  {text}\n")

    def write(self, text):
        self.stream.write(text)
        self.stream.flush()


class Admin:
    def __init__(self, url):
        self.url = url.rstrip("/")

    def get(self, path):
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                return json.load(answer)
        except (OSError, ValueError) as error:
            raise Failure(f"the admin API does not answer ({path}: {error})") from None


@dataclasses.dataclass
class Look:
    """The replicas of one model at one moment."""

    at: float
    wanted: int
    states: dict
    in_flight: int
    queued: int

    @property
    def total(self):
        return sum(self.states.values())

    @property
    def ready(self):
        return self.states.get("ready", 0)


@dataclasses.dataclass
class Act:
    """One model, its load, and what was seen."""

    title: str
    model: str
    deployment: str
    command: list
    page: pathlib.Path
    result: pathlib.Path
    looks: list = dataclasses.field(default_factory=list)
    began: float = 0.0
    load_began: float = 0.0
    load_ended: float = 0.0
    changes: list = dataclasses.field(default_factory=list)
    explanation: str = ""
    outcome: dict = dataclasses.field(default_factory=dict)

    def seconds(self, value):
        """The integral of a number over the act."""
        total = 0.0
        for look, after in zip(self.looks, self.looks[1:]):
            total += value(look) * (after.at - look.at)
        return total

    @property
    def length(self):
        return self.looks[-1].at - self.looks[0].at if self.looks else 0.0

    @property
    def peak(self):
        return max((look.total for look in self.looks), default=0)


class Demonstration:
    def __init__(self, arguments):
        self.arguments = arguments
        self.admin = Admin(arguments.admin)
        self.screen = Screen(sys.stdout)
        self.problems = []

    # Acts

    def act(self, title, model, deployment, options):
        folder = self.arguments.folder
        page, result = folder / f"{model}.html", folder / f"{model}.json"
        command = [self.arguments.weir, "load", *options, "--report", str(page),
                   "--output", str(result), "--quiet"]
        return Act(title, model, deployment, command, page, result)

    def acts(self):
        a = self.arguments
        chat = [
            a.gateway, "--api", "chat", "--model", "simulated", "--trace", str(a.trace),
            "--trace-speed", f"{a.speed:g}", "--trace-scale", f"{a.scale:g}",
            "--objective", "ttft:1s", "--timeout", "60s", "--max-lag", "1s",
        ]
        infer = [
            f"{a.gateway}/v2/models/digits/infer", "--method", "POST", "--body-file", str(a.image),
            "--header", "content-type: application/json",
            "--rate", "5..50@20s,50@15s,5@10s", "--objective", "latency:250ms",
            "--timeout", "60s", "--max-lag", "1s",
        ]
        return [
            self.act("an hour of conversations, pretend language models", "simulated",
                     "simulator", chat),
            self.act("images of digits, MLServer", "digits", "digits", infer),
        ]

    def run(self):
        self.wait_for_weir()
        acts = self.acts()
        for act in acts:
            self.screen.event(f"{act.title}")
            self.play(act)
        return acts

    def wait_for_weir(self):
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while True:
            self.check_process()
            try:
                self.admin.get("/api/v1/models")
                return
            except Failure:
                if time.monotonic() > deadline:
                    raise
            time.sleep(PERIOD_SECONDS)

    def check_process(self):
        process = self.arguments.process
        if process and not pathlib.Path(f"/proc/{process}").exists():
            raise Failure("Weir has ended: its log says why")

    def play(self, act):
        act.began = time.monotonic()
        self.watch(act, "before the load", lambda: self.since(act) >= BEFORE_SECONDS)
        if act.looks[-1].total:
            self.problems.append(f"{act.model} had replicas before anybody asked for it")
        act.load_began = self.since(act)
        with subprocess.Popen(act.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              text=True) as load:
            try:
                self.watch(act, "under load", lambda: load.poll() is not None
                           or self.since(act) - act.load_began > LOAD_TIMEOUT_SECONDS)
            finally:
                if load.poll() is None:
                    load.kill()
            errors = load.stderr.read()
            if load.returncode not in (0, 4):
                raise Failure(f"weir load ended with {load.returncode}: {errors.strip()}")
        act.load_ended = self.since(act)
        act.explanation = self.explain(act)
        limit = act.load_ended + ZERO_TIMEOUT_SECONDS
        self.watch(act, "the load is over",
                   lambda: act.looks[-1].total == 0 or self.since(act) > limit)
        ends = self.since(act) + AFTER_SECONDS
        self.watch(act, "at zero", lambda: self.since(act) > ends)
        act.outcome = json.loads(act.result.read_text(encoding="utf-8"))
        for change in self.admin.get("/api/v1/decisions")["decisions"]:
            if change["model"] == act.model:
                act.changes.append(change)
        if act.looks[-1].total:
            self.problems.append(f"{act.model} still had {act.looks[-1].total} replicas after "
                                 f"{ZERO_TIMEOUT_SECONDS:.0f} s without a request")

    def explain(self, act):
        """What `weir explain` says now, without what the table and the page tell anyway."""
        done = subprocess.run(
            [self.arguments.weir, "explain", act.model, "--admin", self.arguments.admin],
            capture_output=True, text=True, timeout=30, check=False,
        )
        if done.returncode:
            raise Failure(f"weir explain {act.model}: {done.stderr.strip()}")
        blocks = done.stdout.strip().split("\n\n")
        return "\n\n".join(b for b in blocks if not b.startswith(("Weights:", "Last changes:")))

    def since(self, act):
        return time.monotonic() - act.began

    def watch(self, act, state, is_over):
        """Looks again and again until it is over, and tells of every change."""
        while True:
            self.check_process()
            before = act.looks[-1] if act.looks else None
            look = self.look(act)
            act.looks.append(look)
            if before and (before.wanted, before.ready) != (look.wanted, look.ready):
                self.screen.event(f"{look.at:6.1f} s  {look.wanted} wanted, {look.ready} ready")
            self.screen.progress(
                f"{look.at:6.1f} s  {state}: {look.wanted} wanted, {look.ready} ready, "
                f"{look.in_flight} requests in flight, {look.queued} waiting"
            )
            if is_over():
                return
            time.sleep(PERIOD_SECONDS)

    def look(self, act):
        at = self.since(act)
        models = self.admin.get("/api/v1/models")["models"]
        model = next(m for m in models if m["name"] == act.model)
        variant = model["variants"][0]
        replicas = self.admin.get("/api/v1/replicas")["replicas"]
        own = [r for r in replicas if r["deployment"] == act.deployment]
        return Look(
            at=at,
            wanted=variant["replicas"]["desired"],
            states={s: n for s, n in variant["states"].items() if s in COUNTED},
            in_flight=sum(r["inFlight"] for r in own),
            queued=model["queueDepth"],
        )

    # Judgement

    def judge(self, acts):
        for act in acts:
            requests = act.outcome["counts"]
            if requests["failed"]:
                self.problems.append(f"{requests['failed']} of {requests['requests']} requests "
                                     f"for {act.model} failed")
            if not requests["succeeded"]:
                self.problems.append(f"no request for {act.model} was answered")
            if act.peak < 2:
                self.problems.append(f"{act.model} never had more than one replica")
            if not any(c["to"] == 0 for c in act.changes):
                self.problems.append(f"{act.model} was never scaled to zero")
        return self.problems


# The end ----------------------------------------------------------------------------------------


def rows(act):
    used = act.seconds(lambda look: look.total)
    fixed = act.peak * act.length
    zero = act.seconds(lambda look: look.total == 0)
    requests = act.outcome["counts"]
    attainment = act.outcome["rates"]["attainment"]
    objective = act.command[act.command.index("--objective") + 1].replace(":", " below ")
    return [
        ("requests", f"{requests['requests']} in {act.load_ended - act.load_began:.0f} s"),
        ("failures", f"{requests['failed']}"),
        ("attainment", f"{100 * attainment:.1f} % {objective}, the start from zero included"),
        ("replicas", f"0 → {act.peak} → {act.looks[-1].total}, changed {len(act.changes)} times"),
        ("at zero", f"{zero:.0f} of {act.length:.0f} s"),
        ("replica-seconds", f"{used:.0f}, starting and draining included"),
        (f"a fixed fleet of {act.peak}", f"{fixed:.0f} replica-seconds: these used "
                                         f"{100 * (1 - used / fixed) if fixed else 0:.0f} % less"),
    ]


def print_table(acts):
    for act in acts:
        print(f"\n  {act.title}")
        found = rows(act)
        width = max(len(name) for name, _ in found)
        for name, value in found:
            print(f"    {name:<{width}}  {value}")
        print(f"\n    When the load was over, `weir explain {act.model}` said:\n")
        for line in act.explanation.splitlines():
            print(f"      {line}".rstrip())


DATA = re.compile(r'(<script type="application/json" id="data">\s*)(.*?)(</script>)', re.S)


def charts(act):
    """Load and replicas over the whole act, in the form that the page of `weir load` draws."""
    times = [look.at for look in act.looks]

    def chart(title, unit, series):
        return {
            "title": title, "unit": unit, "axis": "time", "x": times,
            "from": act.load_began, "to": act.load_ended,
            "series": [{"name": n, "color": c, "y": [v(look) for look in act.looks]}
                       for n, c, v in series],
        }

    return [
        chart(f"Replicas: {act.title}", "", [
            ("wanted", "d", lambda look: look.wanted),
            ("ready", "a", lambda look: look.ready),
            ("starting", "b", lambda look: look.states["pending"] + look.states["starting"]),
            ("going", "c", lambda look: look.states["draining"] + look.states["stopping"]),
        ]),
        chart(f"Requests: {act.title}", "", [
            ("in flight", "a", lambda look: look.in_flight),
            ("waiting", "c", lambda look: look.queued),
        ]),
    ]


def write_page(acts, problems, path):
    """The page of the first act's load, with the replicas of all acts before its own plots."""
    page = acts[0].page.read_text(encoding="utf-8")
    found = DATA.search(page)
    if not found:
        raise Failure("the page of `weir load` has no data to put the replicas beside")
    data = json.loads(found[2])
    data["title"] = "Replicas follow the work"
    data["subtitle"] = "shaded: under load"
    if problems:
        data["invalid"] = "; ".join(problems)
    else:
        data.pop("invalid", None)
    data["tiles"] = [
        {"name": name, "value": re.split(",| in | (?:ttft|latency) ", value)[0],
         "note": act.model, "bad": name == "failures" and value != "0"}
        for act in acts for name, value in rows(act)
        if name in ("requests", "failures", "attainment", "replica-seconds")
    ]
    own = [dict(c, title=f"{c['title']}: {acts[0].title}") for c in data["charts"]
           if c["title"] in ("Rate", "Time to first token")]
    data["charts"] = [c for act in acts for c in charts(act)] + own
    data["tables"] = [
        {"title": act.title, "rows": [["", ""], *[list(row) for row in rows(act)]]} for act in acts
    ] + [
        {"title": f"Decisions: {act.model}", "rows": [["time", "from", "to", "reason", "why"]] + [
            [time.strftime("%H:%M:%S", time.localtime(c["time"])) if c["time"] else "-",
             str(c["from"]), str(c["to"]), c["reason"], c["text"]] for c in act.changes
        ]} for act in acts
    ]
    text = json.dumps(data).replace("<", "\\u003c")
    path.write_text(page[:found.start(2)] + text + page[found.end(2):], encoding="utf-8")


def parse_arguments():
    parser = argparse.ArgumentParser(description="Drive a Weir whose replicas follow the load.")
    parser.add_argument("--weir", required=True, help="the program")
    parser.add_argument("--gateway", required=True, help="Weir's data address, a URL")
    parser.add_argument("--admin", required=True, help="Weir's admin address, a URL")
    parser.add_argument("--trace", required=True, type=pathlib.Path, help="what to replay")
    parser.add_argument("--speed", type=float, default=36.0, help="times as fast as the trace")
    parser.add_argument("--scale", type=float, default=0.06, help="requests per traced request")
    parser.add_argument("--image", required=True, type=pathlib.Path, help="an infer request's body")
    parser.add_argument("--folder", required=True, type=pathlib.Path, help="where results go")
    parser.add_argument("--process", type=int, help="Weir's process: give up when it is gone")
    arguments = parser.parse_args()
    if not 1 <= arguments.speed <= 1000:
        parser.error("--speed must be from 1 to 1000")
    if not 0 < arguments.scale <= 10:
        parser.error("--scale must be above 0 and at most 10")
    return arguments


def main():
    arguments = parse_arguments()
    demonstration = Demonstration(arguments)
    try:
        acts = demonstration.run()
        problems = demonstration.judge(acts)
        page = arguments.folder / "autoscaling.html"
        write_page(acts, problems, page)
    except (Failure, OSError, KeyError, ValueError) as error:
        print(f"\nweir demo: {error or type(error).__name__}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nweir demo: interrupted", file=sys.stderr)
        return 130
    demonstration.screen.write("\r\033[K" if demonstration.screen.is_terminal else "")
    print_table(acts)
    print()
    for problem in problems:
        print(f"  FAILED: {problem}")
    if not problems:
        print("  Every request was answered, and every replica is gone again.")
    print(f"  The page: {page}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
