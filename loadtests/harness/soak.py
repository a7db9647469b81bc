"""`make soak`: everything at once, for as long as one likes; nothing may grow or be left over."""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

from . import loadtest, peers
from .bench import OUTPUT, Progress
from .clients import KEY, PATH, Clients, question
from .loadtest import admin
from .processes import Fault, eventually

SCENARIO = peers.ROOT / "loadtests/endurance"
SERVICE = SCENARIO / "service.py"
REPLICAS = 6
WEIGHTS = ("{v1: 90, v2: 10}", "{v1: 40, v2: 60}")
CHANGE_SECONDS = 1.0
KILL_SECONDS = 7.0
# Of what asks for whole answers: the tries run out when two replicas are killed in a row.
FAILED_MAX = 0.002
# Of streams: those on a replica that is killed are cut, and cannot be repeated.
CUT_MAX = 0.05
# Between the second quarter of the run and the last: buffers and tables have their size by then.
GROWTH_MAX_BYTES = 8 << 20
REST_SECONDS = 90.0


class Repeated:
    """Does something every so often until it is told to stop."""

    def __init__(self, seconds, call):
        self.seconds, self.call, self.count, self.error = seconds, call, 0, None
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.stopped.wait(self.seconds):
            try:
                self.count += bool(self.call(self.count))
            except (Fault, OSError, ValueError) as error:
                self.error = error
                return

    def stop(self):
        self.stopped.set()
        self.thread.join(loadtest.WAIT_SECONDS)
        if self.error:
            raise Fault(f"what was to happen again and again did not: {self.error}")


class Run:
    def __init__(self, test, minutes, seed):
        self.test, self.seconds = test, minutes * 60
        self.generator = random.Random(seed)
        self.samples = []
        self.certificate, key = self.make_certificate()
        self.weir = test.start_weir(
            CERTIFICATE=self.certificate, KEY=key, PYTHON=sys.executable, SERVICE=SERVICE,
            HASH=hashlib.sha256(KEY.encode()).hexdigest(),
        )
        self.pid = self.weir.process.pid
        ports = json.loads((self.weir.config.parent / "ports.json").read_text(encoding="utf-8"))
        self.secure_port = int(ports["https"].rpartition(":")[2])
        eventually(lambda: len(self.ready()) == REPLICAS, "all replicas are ready", 60)

    def make_certificate(self):
        folder = self.test.stage.folder
        paths = folder / "certificate.pem", folder / "key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt",
             "ec_paramgen_curve:P-256", "-keyout", paths[1], "-out", paths[0], "-days", "30",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
            check=True, capture_output=True,
        )
        return paths

    def ready(self):
        replicas = admin(self.weir, "GET", "/api/v1/replicas")["replicas"]
        return sorted(r["pid"] for r in replicas if r["state"] == "ready")

    # What happens meanwhile

    def change(self, number):
        """The weights, and every so often the number of replicas; replaced in one step."""
        text = self.weir.config.read_text(encoding="utf-8")
        text = text.replace(WEIGHTS[number % 2], WEIGHTS[(number + 1) % 2])
        if number % 10 == 9:
            more, fewer = "replicas: 3", "replicas: 2"
            text = text.replace(more, fewer) if more in text else text.replace(fewer, more, 1)
        self.configure(text)
        return True

    def configure(self, text):
        fresh = self.weir.config.with_suffix(".new")
        fresh.write_text(text, encoding="utf-8")
        os.replace(fresh, self.weir.config)
        admin(self.weir, "POST", "/api/v1/reload")

    def kill(self, _):
        ready = self.ready()
        if len(ready) < REPLICAS:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.generator.choice(ready), signal.SIGKILL)
        return True

    def sample(self):
        rollup = pathlib.Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        memory = next(int(line.split()[1]) for line in rollup.splitlines() if "VmRSS" in line)
        return memory * 1024, len(os.listdir(f"/proc/{self.pid}/fd"))

    def metric(self, name):
        text = loadtest.http.call(self.weir.admin, "GET", "/metrics").body.decode()
        return sum(
            float(line.rpartition(" ")[2]) for line in text.splitlines()
            if line.partition("{")[0].partition(" ")[0] == name
        )

    def at_rest(self):
        """Descriptors once every connection has ended that has nothing to do."""
        def resting():
            self.weir.process.assert_running()
            return self.metric("weir_connections") <= 1 and self.metric(
                "weir_in_flight_requests"
            ) == 0

        eventually(resting, "every connection ends that nobody uses", REST_SECONDS)
        return self.sample()[1]

    def warm_up(self):
        """One request: the recording's file stays open from then on."""
        fields, body = question(self.generator, 4)
        answer = loadtest.http.call(self.weir.port, "POST", PATH, body, fields)
        if answer.status != 200:
            raise Fault(f"the first request was answered {answer.status}: {answer.body[:200]!r}")
        folder = self.weir.config.parent / "traffic"
        eventually(lambda: list(folder.glob("*.weirrec")), "the recording has begun")

    def go(self, progress):
        self.warm_up()
        before = self.at_rest()
        text = self.weir.config.read_text(encoding="utf-8")
        clients = Clients(
            self.weir.port, self.secure_port, self.certificate, self.generator.randrange(1 << 30)
        )
        changes = Repeated(CHANGE_SECONDS, self.change)
        kills = Repeated(KILL_SECONDS, self.kill)
        started = time.monotonic()
        while (now := time.monotonic() - started) < self.seconds:
            self.weir.process.assert_running()
            self.samples.append((now, *self.sample(), clients.counts.total()))
            if len(self.samples) % 10 == 1:
                self.show(progress)
            time.sleep(min(1.0, max(0.0, self.seconds - now)))
        for part in (changes, kills):
            part.stop()
        clients.stop()
        # As many replicas as at the beginning.
        self.configure(text)
        self.judge(clients.counts, changes.count, kills.count, before)

    def show(self, progress):
        now, memory, descriptors, requests = self.samples[-1]
        progress.show(
            f"{now / 60:.0f} min: {memory / (1 << 20):.1f} MB, {descriptors} descriptors,"
            f" {requests} requests"
        )

    # What is expected

    def judge(self, counts, changes, kills, before):
        expect = self.test.expect
        for kind, outcomes in sorted(counts.values.items()):
            total, failed = sum(outcomes.values()), outcomes["failed"]
            allowed = 1 if "leave" in kind else CUT_MAX if "stream" in kind else FAILED_MAX
            example = f", such as {counts.examples[kind]}" if failed else ""
            expect(
                f"failed, {kind}", "any" if allowed == 1 else f"≤ {allowed:.1%}",
                f"{failed} of {total}{example}", total > 0 and failed <= max(1, allowed * total),
            )
        expect("changes, kills", "some", f"{changes}, {kills}", changes > 0 and kills > 0)
        self.judge_memory()
        after = eventually(lambda: self.at_rest_within(before), "rest", REST_SECONDS)
        expect("descriptors at rest", f"≤ {before}", str(after), after <= before)
        for name in ("weir_in_flight_requests", "weir_queue_depth", "weir_config_errors_total"):
            value = self.metric(name)
            expect(name, "0", f"{value:g}", value == 0)
        self.judge_recordings(counts)

    def at_rest_within(self, before):
        """Replicas that come and go hold descriptors meanwhile; what stays is what counts."""
        self.last = self.at_rest()
        return self.last if self.last <= before else None

    def judge_memory(self):
        quarter = self.seconds / 4
        second, last = (
            max(memory for now, memory, _, _ in self.samples if start <= now < start + quarter)
            for start in (quarter, 3 * quarter)
        )
        growth = last - second
        self.test.expect(
            "growth of memory", f"≤ {GROWTH_MAX_BYTES >> 20} MB",
            f"{growth / (1 << 20):+.1f} MB, at most {last / (1 << 20):.1f} MB in the last quarter",
            growth <= GROWTH_MAX_BYTES,
        )

    def judge_recordings(self, counts):
        self.weir.process.stop()
        folder = self.weir.config.parent / "traffic"
        done = subprocess.run(
            [peers.weir_binary(), "recordings", "verify", folder],
            capture_output=True, text=True, check=False,
        )
        export = subprocess.run(
            [peers.weir_binary(), "recordings", "export", folder],
            capture_output=True, check=False,
        )
        recorded = export.stdout.count(b"\n")
        served = counts.total("whole") + counts.total("refused")
        self.test.expect("recordings", "all good", done.stderr.strip() or "all good",
                         done.returncode == 0)
        self.test.expect("recorded requests", f"≥ {served}", str(recorded), recorded >= served)


def soak(minutes, seed):
    test = loadtest.Test("soak", OUTPUT.parent / "soak", SCENARIO)
    # Recordings of an earlier run are none of this one.
    for path in sorted((test.stage.folder / "weir").glob("traffic/*")):
        path.unlink()
    progress = Progress()
    try:
        with test.stage:
            Run(test, minutes, seed).go(progress)
    except Fault as fault:
        test.expect("the run", "to its end", str(fault).replace("\n", " | "), False)
    progress.show(f"soak: {minutes:g} min, seed {seed}", new_line=True)
    return test.expectations


def main():
    parser = argparse.ArgumentParser(prog="soak", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3.0, help="how long (default: 3)")
    parser.add_argument("--seed", type=int, default=None, help="of what is left to chance")
    values = parser.parse_args()
    seed = values.seed if values.seed is not None else random.SystemRandom().randrange(1 << 30)
    sys.exit(1 if loadtest.report(soak(values.minutes, seed)) else 0)
