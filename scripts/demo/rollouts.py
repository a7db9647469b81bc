#!/usr/bin/env python3
"""Shows four rollouts under steady load: a better model, and three that should not go live.

Images of digits go out open-loop at a steady rate, nothing is retried, and every answer is noted
with its variant, its time and whether it was right. Meanwhile the live variant is changed; how each
rollout goes is asked of the admin API several times per second. At the end come a table per rollout
(what happened when, on which evidence, how soon a bad variant was found and was out of the traffic)
and a page per rollout; the exit status is 0 only when each ended as it should and no request failed
that a bad variant did not itself answer.
"""

import argparse
import asyncio
import dataclasses
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import time

from drive import (
    CONNECTIONS_MAX,
    REQUEST_TIMEOUT_SECONDS,
    Client,
    Failure,
    Screen,
    infer_body,
    print_table,
)

MODEL = "digits"
PERIOD_SECONDS = 0.2
START_TIMEOUT_SECONDS = 120.0
ROLLOUT_TIMEOUT_SECONDS = 240.0
QUIET_SECONDS = 5.0  # under load before, between and after the rollouts
PAIRED = ("answers", "pairedErrors", "pairedLatency")
ROLLBACK_SECONDS_MAX = 1.0  # from the finding to the last request that a bad variant gets


@dataclasses.dataclass
class Act:
    title: str
    variant: str
    ends: str  # the state it should end in
    policy: str = "careful"
    began: float = 0.0  # since 1970, as all times here
    ended: float = 0.0
    outcome: dict = dataclasses.field(default_factory=dict)

    def events(self, *kinds):
        number = self.outcome.get("rollout")
        return [
            e for e in self.outcome.get("history", [])
            if e["rollout"] == number and (not kinds or e["event"] in kinds)
        ]

    def first(self, *kinds):
        return next(iter(self.events(*kinds)), None)


@dataclasses.dataclass
class Sent:
    """One request: when it was sent and answered, by whom, and how that went."""

    at: float
    ended: float
    variant: str
    status: int
    is_right: bool
    reason: str = ""


class Show:
    def __init__(self, arguments, held_out):
        self.arguments = arguments
        self.screen = Screen(sys.stdout)
        self.client = Client(arguments.gateway)
        self.admin = Client(arguments.admin)
        self.bodies = [infer_body(image) for image in held_out["images"]]
        self.labels = held_out["labels"]
        self.sent = []
        self.in_flight = 0
        self.problems = []
        self.is_over = False
        self.acts = [
            Act("v1 → v2, which is better", "v2", "live"),
            Act("v2 → v3, which fails for one request in twenty", "v3", "rolledBack"),
            Act("v2 → v4, which is only slow", "v4", "rolledBack"),
            Act("v2 → v5, which answers wrongly", "v5", "rolledBack", "same-answers"),
        ]

    def event(self, text):
        self.screen.event(text)

    # Requests

    async def send_all(self):
        started = time.monotonic()
        tasks = set()
        index = 0
        while not self.is_over:
            delay = started + index / self.arguments.rate - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
            task = asyncio.create_task(self.send_one(index % len(self.bodies)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            index += 1
        await asyncio.gather(*tasks)

    async def send_one(self, image):
        at = time.time()
        if self.in_flight >= CONNECTIONS_MAX:
            self.sent.append(Sent(at, at, "", 0, False, "too many requests wait for answers"))
            return
        self.in_flight += 1
        try:
            answer = await asyncio.wait_for(
                self.client.request("POST", f"/v2/models/{MODEL}/infer", self.bodies[image]),
                REQUEST_TIMEOUT_SECONDS,
            )
            variant = answer.fields.get("x-weir-variant", "")
            is_right = answer.status == 200 and self.digit(answer) == self.labels[image]
            self.sent.append(Sent(at, time.time(), variant, answer.status, is_right,
                                  answer.body[:120].decode("utf-8", "replace")))
        except (OSError, ValueError, Failure, asyncio.IncompleteReadError,
                asyncio.TimeoutError, asyncio.LimitOverrunError) as error:
            reason = str(error) or type(error).__name__
            self.sent.append(Sent(at, time.time(), "", 0, False, reason))
        finally:
            self.in_flight -= 1

    @staticmethod
    def digit(answer):
        try:
            return int(json.loads(answer.body)["outputs"][0]["data"][0])
        except (ValueError, KeyError, IndexError, TypeError):
            return None

    # Rollouts

    async def run(self):
        await self.wait_for_fleet()
        load = asyncio.create_task(self.send_all())
        try:
            await asyncio.sleep(QUIET_SECONDS)
            for act in self.acts:
                await self.play(act)
                await asyncio.sleep(QUIET_SECONDS)
        finally:
            self.is_over = True
            await asyncio.gather(load, return_exceptions=True)
            self.client.close()
            self.screen.clear()

    async def wait_for_fleet(self):
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while True:
            self.check_process()
            try:
                models = (await self.admin.json("GET", "/api/v1/models"))["models"]
                if any(v["replicas"]["ready"] for v in models[0]["variants"]):
                    return
            except (OSError, Failure, asyncio.IncompleteReadError):
                pass
            if time.monotonic() > deadline:
                raise Failure("the first replica did not become ready")
            await asyncio.sleep(PERIOD_SECONDS)

    def check_process(self):
        try:
            os.kill(self.arguments.process, 0)
        except ProcessLookupError:
            raise Failure("Weir has ended") from None

    async def choose_policy(self, name):
        """Edits the file, as people do, until Weir has taken it over."""
        text = self.arguments.config.read_text(encoding="utf-8")
        fresh = re.sub(r"rollout: \{policy: [\w-]+\}", f"rollout: {{policy: {name}}}", text)
        if fresh == text:
            return
        before = (await self.admin.json("GET", "/api/v1/snapshot"))["configuration"]
        beside = self.arguments.config.with_suffix(".new")
        beside.write_text(fresh, encoding="utf-8")
        os.replace(beside, self.arguments.config)
        deadline = time.monotonic() + 10
        while (await self.admin.json("GET", "/api/v1/snapshot"))["configuration"] == before:
            if time.monotonic() > deadline:
                raise Failure("the changed configuration was not taken over")
            await asyncio.sleep(PERIOD_SECONDS)

    async def play(self, act):
        await self.choose_policy(act.policy)
        self.event(act.title)
        act.began = time.time()
        await self.admin.json("PUT", f"/api/v1/models/{MODEL}/live", {"variant": act.variant})
        seen = ""
        deadline = time.monotonic() + ROLLOUT_TIMEOUT_SECONDS
        while True:
            self.check_process()
            act.outcome = await self.admin.json("GET", f"/api/v1/rollouts/{MODEL}")
            state = act.outcome["state"]
            if state in ("live", "rolledBack", "paused"):
                break
            if time.monotonic() > deadline:
                raise Failure(f"the rollout to {act.variant} did not end: {act.outcome['reason']}")
            shown = re.sub(r", watched for .*", "", act.outcome["reason"])
            if shown != seen:
                seen = shown
                self.event(f"  {time.time() - act.began:5.1f} s  {shown}")
            self.screen.progress(time.monotonic(), f"  {act.outcome['reason']}")
            await asyncio.sleep(PERIOD_SECONDS)
        act.ended = time.time()
        self.event(f"  {act.ended - act.began:5.1f} s  {act.outcome['reason']}")
        if state != act.ends:
            self.problems.append(f"{act.title}: ended as {state}, not as {act.ends}")
        self.write_page(act)

    def write_page(self, act):
        page = self.arguments.folder / f"rollout-{act.variant}.html"
        address = self.arguments.admin.removeprefix("http://")
        subprocess.run(
            [self.arguments.weir, "rollout", "report", MODEL, "--rollout",
             str(act.outcome["rollout"]), "--output", str(page), "--admin", address],
            check=True, stdout=subprocess.DEVNULL, timeout=30,
        )

    # What came of it

    def of(self, variant, since=0.0):
        return [s for s in self.sent if s.variant == variant and s.at >= since]

    def rows(self, act):
        begun = act.first("weightChanged")
        answers = self.of(act.variant)
        failed = [s for s in answers if s.status != 200]
        rows = [("outcome", f"{act.outcome['state']} after {act.ended - act.began:.1f} s")]
        for e in act.events("started", "weightChanged", "failed", "rolledBack", "promoted"):
            rows.append((f"  {e['time'] - act.began:6.1f} s", f"{e['event']}: {e['message']}"))
        finding = act.first("failed")
        if finding:
            rows += self.finding_rows(act, begun, finding)
        elif act.events("promoted"):
            for report in act.events("promoted")[-1]["metrics"]:
                rows.append((f"evidence, {report['name']}", evidence(report)))
        right = sum(s.is_right for s in answers)
        share = f", {100 * right / len(answers):.1f} % of them right" if answers else ""
        rows.append((f"answers of {act.variant}", f"{len(answers)}{share}, {len(failed)} failed"))
        return rows

    def finding_rows(self, act, begun, finding):
        rows = [
            (f"evidence, {r['name']}", evidence(r))
            for r in finding["metrics"] if r["verdict"] == "fail"
        ]
        since = begun["time"] if begun else act.first("started")["time"]
        rows.append(("found", f"{finding['time'] - since:.1f} s after it got its first share"
                     if begun else f"{finding['time'] - since:.1f} s after it was started"))
        late = [s for s in self.of(act.variant) if s.at > finding["time"]]
        last = max((s.at - finding["time"] for s in late), default=0.0)
        rows.append(("out of the traffic", f"last request {1000 * last:.0f} ms after the finding"))
        if last > ROLLBACK_SECONDS_MAX:
            self.problems.append(f"{act.variant} got requests for {last:.1f} s after the finding")
        return rows

    def report(self):
        for act in self.acts:
            print(f"\n{act.title}")
            print_table(self.rows(act))
            page = self.arguments.folder / f"rollout-{act.variant}.html"
            print(f"  page: {page}")
        failures = [s for s in self.sent if s.status != 200]
        bad = {a.variant for a in self.acts if a.ends == "rolledBack"}
        others = [s for s in failures if s.variant not in bad]
        served_wrong = len(self.of("v5"))
        print("\nAll together")
        print_table([
            ("requests", str(len(self.sent))),
            ("failed", f"{len(failures)}, each answered so by a variant that was rolled back"
             if not others else f"{len(failures)}, {len(others)} of them not by a bad variant"),
            ("answered by v5", f"{served_wrong}: its mistakes were found in copies"),
        ])
        if others:
            self.problems.append(f"{len(others)} requests failed that no bad variant answered: "
                                 f"{others[0].reason}")
        if served_wrong:
            self.problems.append(f"{served_wrong} clients got an answer of v5")


def evidence(report):
    def text(value):
        if value is None:
            return "-"
        return f"{1000 * value:.1f} ms" if "latency" in report["name"] else f"{100 * value:.2f} %"

    strength = report["evidence"]
    short = f"{strength:.3g}" if strength < 1000 else f"{strength:.0f}"
    amount = short if strength < 1e6 else f"> 10^{math.floor(math.log10(strength))}"
    if report["name"] in PAIRED:
        return (f"{amount} (enough is {report['threshold']:.0f}): {report['canary']:.0f} of "
                f"{report['canaryRequests']} copies")
    return (f"{amount} (enough is {report['threshold']:.0f}): old {text(report['stable'])}, "
            f"new {text(report['canary'])}, of {report['stableRequests']} and "
            f"{report['canaryRequests']} requests in the step")


def main():
    parser = argparse.ArgumentParser(description="Roll out four variants under load.")
    parser.add_argument("--weir", required=True, help="the program")
    parser.add_argument("--gateway", required=True, help="Weir's data address")
    parser.add_argument("--admin", required=True, help="Weir's admin address")
    parser.add_argument("--config", required=True, type=pathlib.Path, help="the file in force")
    parser.add_argument("--held-out", required=True, type=pathlib.Path, help="images and labels")
    parser.add_argument("--folder", required=True, type=pathlib.Path, help="for the pages")
    parser.add_argument("--process", required=True, type=int, help="Weir's process")
    parser.add_argument("--rate", type=float, default=100.0, help="requests per second")
    arguments = parser.parse_args()
    if not 60 <= arguments.rate <= 2_000:
        parser.error("--rate must be from 60 (a step must see enough requests) to 2000")
    show = Show(arguments, json.loads(arguments.held_out.read_text(encoding="utf-8")))
    try:
        asyncio.run(show.run())
        show.report()
    except (Failure, OSError, subprocess.SubprocessError) as error:
        print(f"weir demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        show.screen.clear()
        print("weir demo: interrupted", file=sys.stderr)
        return 130
    print()
    for problem in show.problems:
        print(f"  FAILED: {problem}")
    if not show.problems:
        print("  Each rollout ended as it should, and nobody else's request failed.")
    return 1 if show.problems else 0


if __name__ == "__main__":
    sys.exit(main())
