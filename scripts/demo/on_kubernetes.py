#!/usr/bin/env python3
"""Shows Weir on a cluster: what the manifests say runs there, under load, and parts of it go away.

The cluster is the one of the tests (Tests/Kubernetes/cluster), whose pods are local processes; the
objects are those of `manifests/`: definitions, roles, gateways, controllers, and the sample of a
language model on GPUs, for which the model simulator stands in. `weir load` asks through both
gateways, and nothing is retried. At the end comes a table; the exit status is 0 only when no
request failed, no right was missing, and every replica was gone again.
"""

import argparse
import base64
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

from autoscale import Failure, Screen
from service import Service

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "Tests" / "Kubernetes"))

import kube  # noqa: E402 (the line above makes it visible)
import processes  # noqa: E402
from local import TestCluster  # noqa: E402

NAMESPACE = "weir"
MODEL, WORKLOAD, VARIANT = "llama", "llama-vllm", "vllm"
WEIR = "/apis/weir.dev/v1alpha1"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GPU = "nvidia.com/gpu"
GPUS_FIRST = 3
REPLICAS = 4
PERIOD_SECONDS = 0.2
STEP_SECONDS = 60.0
# An answer takes 32 steps of 20 ms; a replica is full at 16 at a time.
SIMULATOR = ("model-simulator --host $(POD_IP) --step-time 20ms --batch 16 --cold-start 2s "
             "--output-tokens 32")
# The sample's policy in a hurry: what takes minutes elsewhere takes seconds here.
HURRY = {"spec": {
    "targets": [{"type": "Concurrency", "value": "3"}],
    "windows": {"stable": "6s", "burst": "2s"},
    "scaleDown": {"stabilization": "2s", "maxPerMinute": 1000},
    "scaleToZero": {"idleAfter": "3s"},
}}


class Access:
    """The API, for one thread: paths of the namespace, and waiting."""

    def __init__(self, kubeconfig):
        self.kube = kube.Kube(kubeconfig)

    def path(self, group, plural, name=""):
        return f"{group}/namespaces/{NAMESPACE}/{plural}" + (f"/{name}" if name else "")

    def get(self, group, plural, name="", **query):
        return self.kube.get(self.path(group, plural, name), **query).expect(200)

    def pods(self, **labels):
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        return self.get("/api/v1", "pods", labelSelector=selector)["items"]

    def components(self, component):
        return self.pods(**{"app.kubernetes.io/component": component})

    def replicas(self):
        return self.pods(app=WORKLOAD)

    def leader(self):
        found = self.kube.get(self.path("/apis/coordination.k8s.io/v1", "leases",
                                        "weir-controller"))
        return found.json()["spec"].get("holderIdentity") or "" if found.code == 200 else ""


def is_ready(pod):
    return not pod["metadata"].get("deletionTimestamp") and any(
        c["type"] == "Ready" and c["status"] == "True"
        for c in pod["status"].get("conditions") or ())


class Watcher(threading.Thread):
    """Looks at the cluster several times per second; keeps what it saw last while it cannot."""

    def __init__(self, kubeconfig, service):
        super().__init__(daemon=True)
        self.access, self.service = Access(kubeconfig), service
        self.looks = []  # (time, pods, ready, wanted)
        self.leaders = []
        self.is_blind = False
        self.peak = 0
        self._stopping = threading.Event()

    def run(self):
        while not self._stopping.wait(PERIOD_SECONDS):
            try:
                self._look()
                self.is_blind = False
            except (OSError, AssertionError, KeyError, ValueError):
                self.is_blind = True
                if self.looks:
                    self.looks.append((time.time(), *self.looks[-1][1:]))

    def close(self):
        self._stopping.set()
        self.join()

    def _look(self):
        gateways = [p for p in self.access.components("gateway") if is_ready(p)]
        self.service.addresses = [f"{p['status']['podIP']}:8080" for p in gateways]
        leader = self.access.leader()
        if leader and (not self.leaders or self.leaders[-1] != leader):
            self.leaders.append(leader)
        pods = self.access.replicas()
        wanted = self.access.get("/apis/apps/v1", "deployments", WORKLOAD)["spec"]["replicas"]
        ready = sum(map(is_ready, pods))
        self.peak = max(self.peak, ready)
        self.looks.append((time.time(), len(pods), ready, wanted))

    @property
    def now(self):
        return self.looks[-1] if self.looks else (0, 0, 0, 0)

    def seconds(self, value):
        """The integral of a number over all looks."""
        return sum(value(a) * (b[0] - a[0]) for a, b in zip(self.looks, self.looks[1:]))


class Demonstration:
    def __init__(self, arguments):
        self.arguments = arguments
        self.folder = arguments.folder
        self.screen = Screen(sys.stdout)
        self.problems = []
        self.times = {}
        self.words = ""
        self.began = time.monotonic()
        self.load = None
        self.cluster = self.access = self.watcher = self.kubectl = None
        self.service = Service()

    # The cluster and what is in it ------------------------------------------------------------

    def start(self):
        state = self.folder / "cluster"
        shutil.rmtree(state, ignore_errors=True)
        state.mkdir(parents=True)
        weir = self.arguments.weir
        self.cluster = TestCluster(
            state, "--node", "cpu-1", "--node", f"gpu-1:{GPU}=2", "--node", f"gpu-2:{GPU}=1",
            "--image", f"weir:*={weir}", "--image", f"vllm/*={weir} {SIMULATOR}")
        kubeconfig = self.cluster.ready["kubeconfig"]
        self.access = Access(kubeconfig)
        program = shutil.which("kubectl")
        self.kubectl = [program, "--kubeconfig", kubeconfig, "-n", NAMESPACE] if program else None
        self.say("the cluster stands: 3 nodes, of which two have GPUs: 2 and 1")

    def install(self):
        """What docs/kubernetes.md has an operator do."""
        for value in processes.definitions():
            self.apply(value, f"{DEFINITIONS}/{value['metadata']['name']}")
        kube.eventually(lambda: self.access.kube.get(f"{WEIR}/models").code == 200,
                        "the definitions to be served")
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
                   f"/api/v1/namespaces/{NAMESPACE}")
        token = self.folder / "token"
        token.write_text("demonstration\n", encoding="utf-8")
        self.create("Secret", "weir-admin", {"token": "demonstration"})
        self.create("Secret", "huggingface", {"token": "none"})
        for value in processes.base(NAMESPACE, token) + processes.language_model():
            self.apply(value)
        self.access.kube.patch(self.access.path(WEIR, "scalingpolicies", "llm"), HURRY).expect(200)
        self.say("installed: definitions, roles, gateways, controllers, the sample llm.yaml")
        self.watcher = Watcher(self.cluster.ready["kubeconfig"], self.service)
        self.service.open()
        self.watcher.start()
        for component in ("gateway", "controller"):
            self.wait(lambda c=component: sum(map(is_ready, self.access.components(c))) == 2,
                      f"two {component}s to be ready")
        self.wait(lambda: self.watcher.leaders, "a controller to lead")
        self.wait(lambda: len(self.service.addresses) == 2, "the Service to know both gateways")
        self.wait(lambda: self.condition("Ready") and self.condition("Ready")["reason"]
                  == "ScaledToZero", "the Model's status")

    def create(self, kind, name, data):
        self.apply({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "data": {
            key: base64.b64encode(value.encode()).decode() for key, value in data.items()}})

    def apply(self, value, path=None):
        """Server-side apply, as `kubectl apply --server-side` does it."""
        if path is None:
            path = processes.path(NAMESPACE, value["kind"], value["metadata"]["name"])
        answer = self.access.kube.apply(path, value, "demonstration", force="true")
        if answer.code not in (200, 201):
            raise Failure(f"{path} was refused: {answer.body[:500]!r}")

    def show(self, *words):
        """The output of `kubectl get`; where there is none, of what it prints."""
        if self.kubectl:
            run = subprocess.run([*self.kubectl, *words], capture_output=True, text=True,
                                 timeout=30, check=False)
            text = run.stdout + run.stderr
        else:
            text = self.table(words[-1])
        self.screen.event(f"$ kubectl {' '.join(words)}")
        for line in text.rstrip().splitlines():
            self.screen.event(f"    {line}")

    def table(self, plural):
        accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
        group = WEIR if plural == "models" else "/api/v1"
        found = self.access.kube.call("GET", self.access.path(group, plural), accept=accept)
        value = found.expect(200)
        columns = [i for i, c in enumerate(value["columnDefinitions"]) if not c["priority"]]
        rows = [[value["columnDefinitions"][i]["name"].upper() for i in columns]]
        rows += [["" if r["cells"][i] is None else str(r["cells"][i]) for i in columns]
                 for r in value["rows"]]
        widths = [max(map(len, column)) for column in zip(*rows)]
        return "\n".join("   ".join(c.ljust(w) for c, w in zip(row, widths)) for row in rows)

    # Telling and waiting ----------------------------------------------------------------------

    @property
    def seconds(self):
        return time.monotonic() - self.began

    def say(self, text):
        self.screen.event(f"{self.seconds:6.1f} s  {text}")

    def wait(self, condition, what, limit=STEP_SECONDS):
        """Until a condition is true; returns how long that took."""
        began = time.monotonic()
        while True:
            try:
                if condition():
                    return time.monotonic() - began
            except (OSError, AssertionError):
                pass  # the API server is away
            if time.monotonic() - began > limit:
                is_over = self.load is not None and self.load.poll() is not None
                raise Failure(f"waited {limit:.0f} s for {what}"
                              + (", the load being over" if is_over else ""))
            _, pods, ready, wanted = self.watcher.now if self.watcher else (0, 0, 0, 0)
            self.screen.progress(f"{self.seconds:6.1f} s  {what}: {wanted} wanted, {pods} pods, "
                                 f"{ready} ready")
            time.sleep(PERIOD_SECONDS)

    def model(self):
        return self.access.get(WEIR, "models", MODEL)

    def condition(self, kind):
        found = self.model().get("status", {}).get("conditions") or ()
        return next((c for c in found if c["type"] == kind), None)

    # The play ---------------------------------------------------------------------------------

    def play(self):
        self.start()
        self.install()
        self.show("get", "models")
        self.begin_load()
        took = self.wait(lambda: self.watcher.now[2] >= 1, "the first replica")
        self.times["first replica"] = took
        self.say(f"the first request started a replica: ready after {took:.1f} s")
        self.exhaust()
        self.lose_pods()
        self.lose_leader()
        self.lose_gateway()
        self.lose_server()
        self.wait(lambda: self.load.poll() is not None, "the load to end", 200)
        took = self.wait(lambda: self.watcher.now[1] == 0, "zero replicas")
        self.say(f"no replica any more, {took:.1f} s after the last request")
        self.wait(lambda: self.condition("Ready")["reason"] == "ScaledToZero", "the status")
        self.show("get", "models")
        if self.kubectl:
            self.show("get", "events", "--field-selector", "involvedObject.kind=Model")

    def begin_load(self):
        rate = self.arguments.rate
        plateau = 80 + self.arguments.outage
        self.times["ramp down"] = time.time() + 20 + plateau
        self.load = subprocess.Popen(
            [self.arguments.weir, "load", f"http://127.0.0.1:{self.service.port}", "--api", "chat",
             "--model", MODEL, "--rate", f"1@10s,1..{rate}@10s,{rate}@{plateau:.0f}s,{rate}..1@6s",
             "--output-tokens", "32", "--objective", "ttft:1s", "--timeout", "60s",
             "--max-lag", "2s", "--output", str(self.folder / "load.json"),
             "--records", str(self.folder / "records.jsonl"), "--quiet"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.say(f"weir load asks through both gateways: {rate} requests per second at most, "
                 f"for {26 + plateau:.0f} s")

    def exhaust(self):
        """The GPUs run out, and the Model says so; then there is another node."""
        def problem():
            found = self.model()["status"]["variants"][0]
            return GPU in found.get("message", "") and found["message"]

        self.wait(problem, "the GPUs to run out")
        self.words = problem()
        self.say(f"{GPUS_FIRST} GPUs for {REPLICAS} replicas: {self.words}")
        self.show("get", "models")
        self.cluster.control("POST", "/nodes", {"name": "gpu-3", "resources": {GPU: 1}})
        took = self.wait_full()
        self.times["full"] = time.time()
        self.say(f"a node with another GPU: {REPLICAS} replicas are ready after {took:.1f} s")

    def wait_full(self):
        return self.wait(lambda: self.watcher.now[2] == REPLICAS, f"{REPLICAS} ready replicas")

    def lose_pods(self):
        first, second = [p for p in self.access.replicas() if is_ready(p)][:2]
        self.delete(first)
        name = second["metadata"]["name"]
        self.access.kube.post(self.access.path("/api/v1", "pods", name) + "/eviction", {
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}).expect(201)
        self.say("one replica's pod deleted, another one evicted")
        self.wait(lambda: self.watcher.now[2] < REPLICAS, "the pods to go")
        self.say(f"{REPLICAS} ready again after {self.wait_full():.1f} s")

    def delete(self, pod, grace=None):
        body = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        self.access.kube.delete(self.access.path("/api/v1", "pods", pod["metadata"]["name"]), body)

    def log(self, pod):
        path = self.access.path("/api/v1", "pods", pod["metadata"]["name"]) + "/log"
        return self.access.kube.get(path).body.decode(errors="replace")

    def lose_leader(self):
        before = self.access.leader()
        pod = next(p for p in self.access.components("controller")
                   if f'"identity":"{before}"' in self.log(p))
        self.delete(pod, grace=0)
        self.say("the controller that leads killed")
        took = self.wait(lambda: self.access.leader() not in ("", before), "another leader")
        self.times["new leader"] = took
        self.say(f"another one leads after {took:.1f} s")

    def lose_gateway(self):
        pod = next(p for p in self.access.components("gateway") if is_ready(p))
        name = pod["metadata"]["name"]
        self.delete(pod)
        self.say("SIGTERM to a gateway")

        def is_gone():
            found = self.access.kube.get(self.access.path("/api/v1", "pods", name))
            return found.code == 404

        took = self.wait(is_gone, "the gateway to drain and end")
        self.wait(lambda: len(self.service.addresses) == 2, "two gateways")
        self.times["gateway"] = took
        self.say(f"it was drained and gone after {took:.1f} s; two serve again")

    def lose_server(self):
        self.wait(lambda: self.watcher.now[2] == REPLICAS, "all replicas to be ready")
        self.cluster.control("POST", "/server/stop")
        began = time.time()
        self.say("the API server stopped")
        end = time.monotonic() + self.arguments.outage
        self.wait(lambda: time.monotonic() > end, "no API server", self.arguments.outage + 10)
        self.cluster.control("POST", "/server/start")
        self.times["outage"] = (began, time.time())
        self.say(f"the API server is back after {self.arguments.outage:.0f} s")
        took = self.wait(lambda: not self.watcher.is_blind and self.condition("ScalingActive")
                         and self.lease_age() < 3, "a leader to renew its lease")
        self.say(f"a leader holds the lease again after {took:.1f} s")

    def lease_age(self):
        found = self.access.get("/apis/coordination.k8s.io/v1", "leases", "weir-controller")
        renewed = re.sub(r"\.\d+", "", found["spec"]["renewTime"])
        return time.time() - kube_time(renewed)

    # The end ----------------------------------------------------------------------------------

    def stop(self):
        if self.load and self.load.poll() is None:
            self.load.kill()
            self.load.wait()
        if self.watcher and self.watcher.is_alive():
            self.watcher.close()
        if self.service.is_alive():
            self.service.close()
        if self.cluster:
            self.cluster.stop()

    def judge(self):
        """The rows of the table; what was not as it should be goes to `problems`."""
        outcome = json.loads((self.folder / "load.json").read_text(encoding="utf-8"))
        lines = (self.folder / "records.jsonl").read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        counts, started = outcome["counts"], outcome["started_at_unix_s"]
        first = min(t for t, _, ready, _ in self.watcher.looks if ready and t > started)
        held = [r for r in records if started + r["scheduled_s"] < first]
        down, up = self.times["outage"]
        during = [r for r in records if down <= started + r["scheduled_s"] < up]
        zero = self.watcher.seconds(lambda look: look[1] == 0)
        used = self.watcher.seconds(lambda look: look[1])
        length = self.watcher.looks[-1][0] - self.watcher.looks[0][0]
        if counts["failed"]:
            self.problems.append(f"{counts['failed']} requests failed: {outcome['outcomes']}")
        if not held or not during:
            self.problems.append("no request came while there was no replica, or no API server")
        if len(self.watcher.leaders) < 2:
            self.problems.append("the leader never changed")
        steady = [wanted for at, _, _, wanted in self.watcher.looks
                  if self.times["full"] < at < self.times["ramp down"]]
        if min(steady, default=0) < REPLICAS:
            self.problems.append(f"under the same load {min(steady)} replicas were enough once")
        refused = self.refusals()
        if refused:
            self.problems.append(f"Weir was refused something: {refused[0]}")
        longest = max((r["ttft_s"] for r in held if "ttft_s" in r), default=0)
        return [
            ("requests", f"{counts['requests']} in {outcome['measured_s']:.0f} s, through "
                         f"{self.service.connections} connections"),
            ("failures", f"{counts['failed']}"),
            ("held at zero", f"{len(held)} requests, {longest:.1f} s at most"),
            ("attainment", f"{100 * outcome['rates']['attainment']:.1f} % first token within 1 s, "
                           "all of this included"),
            ("replicas", f"0 → {self.watcher.peak} → {self.watcher.now[1]}"),
            ("at zero", f"{zero:.0f} of {length:.0f} s"),
            ("replica-seconds", f"{used:.0f}, starting and draining included; a fixed fleet of "
                                f"{self.watcher.peak}: {self.watcher.peak * length:.0f}"),
            ("leader changes", f"{len(self.watcher.leaders) - 1}, after a kill within "
                               f"{self.times['new leader']:.1f} s"),
            ("without API server", f"{up - down:.0f} s: {len(during)} requests, "
                                   f"{sum(r['outcome'] != 'ok' for r in during)} failures, "
                                   f"{self.changes(down, up)} changes decided"),
            ("GPUs exhausted", self.words.split(":")[0]),
            ("refused by RBAC or gateways", f"{len(refused)}"),
        ]

    def logs(self):
        return sorted((self.folder / "cluster" / "pods").glob("weir_weir-*/log"))

    def refusals(self):
        """What the API server or a gateway refused to Weir, in the words of Weir's logs."""
        return [line for path in self.logs()
                for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
                if "forbidden" in line.lower() or "refuses" in line]

    def changes(self, down, up):
        return sum(down <= at < up for at in self.decided)

    def collect_decisions(self):
        """The times at which controllers that still run decided on another number."""
        self.decided = []
        for pod in self.access.components("controller"):
            address = f"{pod['status']['podIP']}:9901"
            found = json.loads(fetch(address, "/api/v1/decisions"))["decisions"]
            self.decided += [d["time"] for d in found if d["time"]]


def fetch(address, path):
    import urllib.request

    with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
        return answer.read()


def kube_time(text):
    import calendar

    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))


def print_table(rows):
    width = max(len(name) for name, _ in rows)
    print()
    for name, value in rows:
        print(f"    {name:<{width}}  {value}")
    print()


def parse_arguments():
    parser = argparse.ArgumentParser(description="Weir on a cluster of which parts go away.")
    parser.add_argument("--weir", required=True, help="the program")
    parser.add_argument("--rate", type=int, default=20, help="requests per second at most")
    parser.add_argument("--outage", type=float, default=20, help="seconds without an API server")
    parser.add_argument("--folder", required=True, type=pathlib.Path, help="where results go")
    arguments = parser.parse_args()
    if not 18 <= arguments.rate <= 200:
        parser.error("--rate must be from 18, which needs all GPUs, to 200")
    if not 1 <= arguments.outage <= 120:
        parser.error("--outage must be from 1 to 120")
    return arguments


def main():
    arguments = parse_arguments()
    arguments.folder = arguments.folder.resolve()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    demonstration = Demonstration(arguments)
    rows = []
    try:
        demonstration.play()
        demonstration.collect_decisions()
        rows = demonstration.judge()
    except (Failure, OSError, AssertionError, KeyError, ValueError) as error:
        print(f"\nweir demo: {error or type(error).__name__}", file=sys.stderr)
        for path in demonstration.logs():
            text = path.read_text(encoding="utf-8", errors="replace")
            print(f"== {path.parent.name}\n{text[-1500:]}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nweir demo: interrupted", file=sys.stderr)
        return 130
    finally:
        demonstration.stop()
    print_table(rows)
    for problem in demonstration.problems:
        print(f"  FAILED: {problem}")
    if not demonstration.problems:
        print("  Every request was answered, and every replica is gone again.")
    return 1 if demonstration.problems else 0


if __name__ == "__main__":
    sys.exit(main())
