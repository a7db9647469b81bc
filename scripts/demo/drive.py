#!/usr/bin/env python3
"""Drives real digit images through a running Weir and judges what comes back.

Requests go out open-loop: each has its time, whatever became of those before it, and its latency
counts from that time, so that a stall shows in full. On the way one replica is killed with SIGKILL
and the weights are changed by editing the configuration file. At the end a table tells what
happened; the exit status is 0 only when every request was answered and the rest went as promised.

With --direct URL the same images go straight to a model server, without the kill and the change.
"""

import argparse
import asyncio
import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import ssl
import sys
import time
import urllib.parse

MODEL = "digits"
CONNECTIONS_MAX = 1000  # in-flight requests at most; above it new ones are counted as failed
REQUEST_TIMEOUT_SECONDS = 30.0
HEAD_BYTES_MAX = 64 * 1024
BODY_BYTES_MAX = 4 * 1024 * 1024
ADMIN_PERIOD_SECONDS = 0.1
IDLE_SECONDS_MAX = 30.0  # half of what Weir keeps an idle connection
RECOVERY_TIMEOUT_SECONDS = 60.0
FLEET_TIMEOUT_SECONDS = 180.0
SHARE_TOLERANCE_POINTS = 2.0
FAILURES_SHOWN = 5
SECURE_EVERY = 4  # one request of so many goes over TLS


class Failure(Exception):
    """A request that did not get a good answer, with a reason for people."""


# HTTP -------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Answer:
    status: int
    fields: dict
    body: bytes


async def read_answer(reader):
    """Reads one HTTP/1.1 response that is framed by Content-Length or chunks."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    if version != "HTTP/1.1" or not rest[:3].isdigit():
        raise Failure(f"not an HTTP/1.1 response: {lines[0][:60]!r}")
    fields = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        fields[name.strip().lower()] = value.strip()
    if fields.get("transfer-encoding", "").lower() == "chunked":
        body = await read_chunks(reader)
    else:
        length = int(fields.get("content-length", "0"))
        if length > BODY_BYTES_MAX:
            raise Failure(f"the answer is {length} bytes long")
        body = await reader.readexactly(length)
    return Answer(int(rest[:3]), fields, body)


async def read_chunks(reader):
    body = bytearray()
    while True:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        if len(body) + size > BODY_BYTES_MAX:
            raise Failure("the answer is too long")
        if size == 0:
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass
            return bytes(body)
        body += await reader.readexactly(size)
        await reader.readexactly(2)


class Client:
    """Keep-alive connections to one address; as many as there are requests at a time."""

    def __init__(self, url, authority=None):
        """`authority`: the file whose certificates an https:// address is checked against."""
        parts = urllib.parse.urlsplit(url)
        scheme = "https" if authority else "http"
        if parts.scheme != scheme or not parts.hostname:
            raise SystemExit(f"weir demo: {url!r} is not an {scheme}:// URL")
        self.host, self.port = parts.hostname, parts.port or (443 if authority else 80)
        self.context = ssl.create_default_context(cafile=authority) if authority else None
        self.idle = []

    async def request(self, method, path, body=b"", fields=()):
        """One request, one answer; nothing is retried, so that every failure shows."""
        lines = [f"{method} {path} HTTP/1.1", f"host: {self.host}:{self.port}"]
        lines += [f"{name}: {value}" for name, value in fields]
        if body or method != "GET":
            lines += ["content-type: application/json", f"content-length: {len(body)}"]
        message = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
        reader, writer = self.take_idle() or await asyncio.open_connection(
            self.host, self.port, limit=HEAD_BYTES_MAX, ssl=self.context
        )
        try:
            writer.write(message)
            answer = await read_answer(reader)
        except BaseException:
            writer.close()
            raise
        if answer.fields.get("connection", "").lower() == "close":
            writer.close()
        else:
            self.idle.append((reader, writer, time.monotonic()))
        return answer

    def take_idle(self):
        """The connection used last; one that the server may be closing just now is not used."""
        while self.idle:
            reader, writer, since = self.idle.pop()
            if time.monotonic() - since < IDLE_SECONDS_MAX:
                return reader, writer
            writer.close()
        return None

    async def json(self, method, path, value=None):
        """A JSON call for the admin API."""
        body = b"" if value is None else json.dumps(value).encode()
        answer = await asyncio.wait_for(
            self.request(method, path, body, [("connection", "close")]), REQUEST_TIMEOUT_SECONDS
        )
        if answer.status >= 300:
            raise Failure(f"{method} {path}: status {answer.status}: {answer.body[:200]!r}")
        return json.loads(answer.body) if answer.body else None

    def close(self):
        for _, writer, _ in self.idle:
            writer.close()
        self.idle.clear()


# What was seen ----------------------------------------------------------------------------------


@dataclasses.dataclass
class Period:
    """Answers per variant between two moments, compared with the weights of that time."""

    name: str
    weights: dict
    answers: dict = dataclasses.field(default_factory=dict)

    @property
    def count(self):
        return sum(self.answers.values())

    def share(self, variant):
        return 100.0 * self.answers.get(variant, 0) / self.count if self.count else 0.0

    def expected(self, variant):
        total = sum(self.weights.values())
        return 100.0 * self.weights.get(variant, 0) / total if total else 0.0

    @property
    def worst_deviation(self):
        variants = set(self.answers) | set(self.weights)
        return max((abs(self.share(v) - self.expected(v)) for v in variants), default=0.0)


class Tally:
    def __init__(self):
        self.sent = 0
        self.failures = []
        self.latencies = []
        self.right = {}
        self.answers = {}
        self.secure = 0
        self.period = None
        self.in_flight = 0

    def answered(self, period, variant, is_right, seconds):
        self.latencies.append(seconds)
        self.answers[variant] = self.answers.get(variant, 0) + 1
        self.right[variant] = self.right.get(variant, 0) + is_right
        if period:
            period.answers[variant] = period.answers.get(variant, 0) + 1

    def failed(self, at, reason):
        self.failures.append((at, reason))

    def accuracy(self, variant):
        return 100.0 * self.right[variant] / self.answers[variant]

    def quantile(self, q):
        """The latency in milliseconds that the share q of the answers did not exceed."""
        ordered = sorted(self.latencies)
        return 1000.0 * ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0


class Screen:
    """Events on lines of their own; progress in place on a terminal, else every ten seconds."""

    def __init__(self, stream):
        self.stream = stream
        self.is_terminal = stream.isatty()
        self.last_progress = -1e9

    def event(self, text):
        self.write(("\r\033[K" if self.is_terminal else "") + f"  {text}\n")

    def progress(self, now, text):
        if self.is_terminal:
            width = shutil.get_terminal_size().columns - 3
            self.write("\r\033[K  " + text[:width])
        elif now - self.last_progress >= 10:
            self.last_progress = now
            self.write(f"  {text}\n")

    def clear(self):
        if self.is_terminal:
            self.write("\r\033[K")

    def write(self, text):
        self.stream.write(text)
        self.stream.flush()


# Driving ----------------------------------------------------------------------------------------


class Drive:
    def __init__(self, arguments, held_out):
        self.arguments = arguments
        self.screen = Screen(sys.stdout)
        self.tally = Tally()
        self.client = Client(arguments.direct or arguments.gateway)
        self.secure = None
        if arguments.secure:
            self.secure = Client(arguments.secure, arguments.authority)
        self.admin = None if arguments.direct else Client(arguments.admin)
        self.bodies = [infer_body(image) for image in held_out["images"]]
        self.labels = held_out["labels"]
        self.offline = held_out["accuracy"]
        self.periods = []
        self.killed = None
        self.problems = []
        self.started = 0.0

    @property
    def elapsed(self):
        return time.monotonic() - self.started

    def event(self, text):
        self.screen.event(f"{self.elapsed:5.1f} s  {text}")

    async def run(self):
        self.started = time.monotonic()
        if self.admin:
            await self.wait_for_fleet()
        weights = await self.current_weights()
        self.begin_period("first weights", weights)
        self.started = time.monotonic()
        jobs = [asyncio.create_task(self.send_all()), asyncio.create_task(self.show_progress())]
        if self.admin:
            jobs.append(asyncio.create_task(self.guarded("the kill", self.kill_one_replica())))
            jobs.append(asyncio.create_task(self.guarded("the reload", self.change_weights())))
        try:
            await jobs[0]
            await asyncio.gather(*jobs[2:])
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            for client in filter(None, (self.client, self.secure)):
                client.close()
            self.screen.clear()

    async def guarded(self, what, job):
        """A part of the show that goes wrong is a problem to report, not the end of the rest."""
        try:
            await job
        except (Failure, OSError, asyncio.TimeoutError, asyncio.IncompleteReadError) as error:
            self.problem(f"{what}: {error or type(error).__name__}")
        except (KeyError, TypeError, ValueError) as error:
            self.problem(f"{what}: the admin API answered something else: {error!r}")

    def problem(self, text):
        self.problems.append(text)
        self.event(f"PROBLEM: {text}")

    def begin_period(self, name, weights):
        self.tally.period = Period(name, weights)
        self.periods.append(self.tally.period)

    # Requests

    async def send_all(self):
        count = int(self.arguments.rate * self.arguments.duration)
        tasks = set()
        for index in range(count):
            due = index / self.arguments.rate
            delay = due - self.elapsed
            if delay > 0:
                await asyncio.sleep(delay)
            client = self.client
            if self.secure and index % SECURE_EVERY == 0:
                client = self.secure
            task = asyncio.create_task(self.send_one(client, index % len(self.bodies), due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)

    async def send_one(self, client, image, due):
        tally, period = self.tally, self.tally.period
        tally.sent += 1
        if tally.in_flight >= CONNECTIONS_MAX:
            tally.failed(due, f"more than {CONNECTIONS_MAX} requests are waiting for answers")
            return
        tally.in_flight += 1
        try:
            answer = await asyncio.wait_for(
                client.request("POST", f"/v2/models/{MODEL}/infer", self.bodies[image]),
                REQUEST_TIMEOUT_SECONDS,
            )
            tally.secure += client is self.secure
            digit, variant = self.read(answer)
            tally.answered(period, variant, digit == self.labels[image], self.elapsed - due)
        except (Failure, OSError, ValueError, asyncio.LimitOverrunError) as error:
            tally.failed(due, str(error) or type(error).__name__)
        except asyncio.IncompleteReadError:
            tally.failed(due, "the connection was closed before the answer was complete")
        except asyncio.TimeoutError:
            tally.failed(due, f"no answer within {REQUEST_TIMEOUT_SECONDS:.0f} s")
        finally:
            tally.in_flight -= 1

    def read(self, answer):
        """The digit that was recognised, and the variant that did it."""
        if answer.status != 200:
            raise Failure(f"status {answer.status}: {answer.body[:200].decode('utf-8', 'replace')}")
        try:
            digit = int(json.loads(answer.body)["outputs"][0]["data"][0])
        except (ValueError, KeyError, IndexError, TypeError):
            raise Failure(f"not an inference answer: {answer.body[:100]!r}") from None
        variant = answer.fields.get("x-weir-variant")
        if self.arguments.direct:
            variant = "direct"
        if not variant:
            raise Failure("the answer lacks the header x-weir-variant")
        return digit, variant

    # What happens meanwhile

    def weir_is_gone(self):
        process = self.arguments.process
        return process is not None and not pathlib.Path(f"/proc/{process}").exists()

    async def wait_for_fleet(self):
        """Until Weir is there, says that it serves, and every replica is ready."""
        state = "waiting for Weir"
        while self.elapsed < FLEET_TIMEOUT_SECONDS:
            if self.weir_is_gone():
                raise Failure("Weir ended while it was starting: its log says why")
            try:
                await self.admin.json("GET", "/api/v1/models")
                replicas = await self.replicas()
                ready = sum(1 for r in replicas if r["state"] == "ready")
                state = f"waiting for replicas: {ready} of {len(replicas)} are ready"
                if replicas and ready == len(replicas):
                    answer = await self.admin.request("GET", "/readyz")
                    if answer.status == 200:
                        self.screen.event(f"{ready} replicas are ready after {self.elapsed:.1f} s")
                        return
            except (Failure, OSError, asyncio.IncompleteReadError) as error:
                state = f"waiting for Weir: {error or type(error).__name__}"
            self.screen.progress(self.elapsed, f"{self.elapsed:5.1f} s  {state}")
            await asyncio.sleep(ADMIN_PERIOD_SECONDS)
        raise Failure(f"Weir is not ready after {FLEET_TIMEOUT_SECONDS:.0f} s ({state})")

    async def current_weights(self):
        if not self.admin:
            return {"direct": 100}
        models = (await self.admin.json("GET", "/api/v1/models"))["models"]
        for model in models:
            if model["name"] == MODEL:
                return {v["name"]: v["weight"] for v in model["variants"]}
        raise Failure(f"the admin API knows no model {MODEL!r}: is this the demonstration's Weir?")

    async def replicas(self):
        replicas = (await self.admin.json("GET", "/api/v1/replicas"))["replicas"]
        return [r for r in replicas if r["model"] == MODEL]

    async def kill_one_replica(self):
        await asyncio.sleep(self.arguments.duration / 3)
        ready = [r for r in await self.replicas() if r["state"] == "ready"]
        if not ready:
            raise Failure("no replica is ready")
        # The one with most of the traffic is the hardest case.
        weights = self.periods[-1].weights
        victim = max(ready, key=lambda r: weights.get(r["variant"], 0))
        os.kill(victim["pid"], signal.SIGKILL)
        killed_at = self.elapsed
        self.event(f"killed replica {victim['id']} (process {victim['pid']}) with SIGKILL")
        self.killed = {"id": victim["id"], "pid": victim["pid"], "at": killed_at, "back": None}
        while self.elapsed - killed_at < RECOVERY_TIMEOUT_SECONDS:
            await asyncio.sleep(ADMIN_PERIOD_SECONDS)
            for replica in await self.replicas():
                is_same = replica["id"] == victim["id"]
                if is_same and replica["state"] == "ready" and replica["pid"] != victim["pid"]:
                    self.killed["back"] = self.elapsed
                    took = self.elapsed - killed_at
                    self.event(
                        f"replica {victim['id']} is ready again after {took:.1f} s"
                        f" (process {replica['pid']})"
                    )
                    return
        raise Failure(f"replica {victim['id']} was not back in {RECOVERY_TIMEOUT_SECONDS:.0f} s")

    async def change_weights(self):
        await asyncio.sleep(self.arguments.duration * 2 / 3)
        old = self.periods[-1].weights
        new = {variant: 100 // len(old) for variant in old}
        before = (await self.admin.json("GET", "/api/v1/snapshot"))["generation"]
        self.tally.period = None  # requests on either side of the change are not counted as shares
        edit_weights(self.arguments.config, new)
        self.event(f"wrote weights {show(new)} into {self.arguments.config.name}")
        written = self.elapsed
        while self.elapsed - written < RECOVERY_TIMEOUT_SECONDS:
            await asyncio.sleep(ADMIN_PERIOD_SECONDS)
            generation = (await self.admin.json("GET", "/api/v1/snapshot"))["generation"]
            if generation != before and await self.current_weights() == new:
                took = self.elapsed - written
                self.begin_period("changed weights", new)
                self.event(f"Weir serves the new weights, {took:.1f} s after the edit")
                return
        raise Failure(f"the new weights were not in force after {RECOVERY_TIMEOUT_SECONDS:.0f} s")

    async def show_progress(self):
        while True:
            tally = self.tally
            shares = "  ".join(
                f"{v} {100 * n / max(1, len(tally.latencies)):.0f} %"
                for v, n in sorted(tally.answers.items())
            )
            recent = sorted(tally.latencies[-500:]) or [0.0]
            median = 1000 * recent[len(recent) // 2]
            self.screen.progress(
                self.elapsed,
                f"{self.elapsed:5.1f} of {self.arguments.duration:.0f} s  "
                f"{len(tally.latencies)} answered, {len(tally.failures)} failed, "
                f"{tally.in_flight} waiting  {shares}  p50 {median:.1f} ms",
            )
            await asyncio.sleep(0.25)


def infer_body(image):
    """One picture as an Open Inference request."""
    tensor = {"name": "image", "shape": [1, len(image)], "datatype": "FP32", "data": image}
    return json.dumps({"inputs": [tensor]}).encode()


def show(weights):
    return ", ".join(f"{variant} {weight:g}" for variant, weight in sorted(weights.items()))


def edit_weights(config, weights):
    """Replaces the value of the one line `weights: {…}` and keeps everything else, comments too."""
    text = config.read_text(encoding="utf-8")
    value = ", ".join(f"{variant}: {weight}" for variant, weight in weights.items())
    edited, count = re.subn(r"(?m)^(\s*weights:\s*)\{[^}]*\}", rf"\g<1>{{{value}}}", text)
    if count != 1:
        raise Failure(f"{config} has {count} lines `weights: {{…}}`, not one")
    # Renamed into place, as editors do: nobody ever reads half a file.
    fresh = config.with_name(config.name + ".new")
    fresh.write_text(edited, encoding="utf-8")
    os.replace(fresh, config)


# The end ----------------------------------------------------------------------------------------


def judge(drive):
    """Everything that must hold after the drive; each sentence is a reason to fail."""
    tally, problems = drive.tally, list(drive.problems)
    if tally.failures:
        problems.append(f"{len(tally.failures)} of {tally.sent} requests failed")
    if not tally.latencies:
        problems.append("nothing was answered")
    if drive.secure and not tally.secure:
        problems.append("nothing was answered over TLS")
    for period in drive.periods:
        if period.worst_deviation > SHARE_TOLERANCE_POINTS:
            problems.append(f"under the {period.name}, shares are off by more than "
                            f"{SHARE_TOLERANCE_POINTS:g} points")
    for variant in tally.answers:
        offline = drive.offline.get(f"{MODEL}-{variant}")
        if offline is not None and abs(tally.accuracy(variant) - 100 * offline) > 5:
            problems.append(f"{variant} is right in {tally.accuracy(variant):.1f} % through the "
                            f"gateway but in {100 * offline:.1f} % offline")
    return problems


def print_table(rows):
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"  {name:<{width}}  {value}")


def report(drive):
    tally = drive.tally
    rows = [
        ("requests", f"{tally.sent} in {drive.arguments.duration:.0f} s"),
        ("failures", f"{len(tally.failures)}"),
    ]
    if drive.secure:
        rows.append(("answered over TLS", f"{tally.secure} of {len(tally.latencies)}"))
    for period in drive.periods:
        for variant in sorted(set(period.weights) | set(period.answers)):
            rows.append((
                f"share of {variant}, {period.name}",
                f"{period.share(variant):5.1f} % of {period.count}"
                f"  (weight {period.expected(variant):.0f} %)",
            ))
    for variant in sorted(tally.answers):
        offline = drive.offline.get(f"{MODEL}-{variant}")
        note = "" if offline is None else f"  (offline {100 * offline:.1f} %)"
        rows.append((f"accuracy of {variant}", f"{tally.accuracy(variant):5.1f} %{note}"))
    quantiles = "  ".join(
        f"{name} {tally.quantile(q):.1f} ms"
        for name, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
    )
    rows.append(("latency", quantiles))
    if drive.killed:
        killed = drive.killed
        back = "never back" if killed["back"] is None else f"back at {killed['back']:.1f} s"
        rows.append(
            ("killed", f"{killed['id']} (process {killed['pid']}) at {killed['at']:.1f} s, {back}")
        )
    print()
    print_table(rows)
    for at, reason in tally.failures[:FAILURES_SHOWN]:
        print(f"  failure at {at:.1f} s: {reason}")
    if len(tally.failures) > FAILURES_SHOWN:
        print(f"  … and {len(tally.failures) - FAILURES_SHOWN} more")


def parse_arguments():
    parser = argparse.ArgumentParser(description="Drive digit images through a running Weir.")
    parser.add_argument("--gateway", default="http://127.0.0.1:8080", help="Weir's data address")
    parser.add_argument("--admin", default="http://127.0.0.1:9901", help="Weir's admin address")
    parser.add_argument("--secure", metavar="URL", help="Weir's data address with TLS")
    parser.add_argument("--authority", metavar="FILE", help="what its certificate is checked by")
    parser.add_argument("--config", type=pathlib.Path, help="the file whose weights are edited")
    parser.add_argument("--direct", metavar="URL", help="a model server to drive without Weir")
    parser.add_argument("--process", type=int, help="Weir's process: give up when it is gone")
    parser.add_argument("--held-out", required=True, type=pathlib.Path, help="images and labels")
    parser.add_argument("--rate", type=float, default=300.0, help="requests per second")
    parser.add_argument("--duration", type=float, default=60.0, help="seconds")
    arguments = parser.parse_args()
    if not arguments.direct and not arguments.config:
        parser.error("--config is needed, unless --direct is given")
    if bool(arguments.secure) != bool(arguments.authority):
        parser.error("--secure and --authority go together")
    if not 0 < arguments.rate <= 10_000:
        parser.error("--rate must be above 0 and at most 10000")
    if not 1 <= arguments.duration <= 3600:
        parser.error("--duration must be from 1 to 3600")
    return arguments


def main():
    arguments = parse_arguments()
    held_out = json.loads(arguments.held_out.read_text(encoding="utf-8"))
    drive = Drive(arguments, held_out)
    try:
        asyncio.run(drive.run())
    except (Failure, OSError) as error:
        print(f"weir demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        drive.screen.clear()
        print("weir demo: interrupted", file=sys.stderr)
        return 130
    report(drive)
    problems = judge(drive)
    print()
    for problem in problems:
        print(f"  FAILED: {problem}")
    if not problems:
        print("  Every request was answered.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
