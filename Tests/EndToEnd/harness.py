"""What the end-to-end tests stand on: real processes with configurations of their own.

Every process listens on ports that the system chose, writes into the test's own folder, is awaited
by a condition with a deadline, and is gone when the test is over, with everything it started.
"""

import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
START_SECONDS = 30.0
STOP_SECONDS = 40.0  # longer than the deadline by which Weir ends what still runs
WAIT_SECONDS = 20.0
POLL_SECONDS = 0.02
# In the environment of everything that a test starts, and of its children.
MARK = "WEIR_TEST_FOLDER"


def binary():
    """The weir that is tested: WEIR_BINARY, or the debug build."""
    path = pathlib.Path(os.environ.get("WEIR_BINARY") or ROOT / ".build/debug/weir")
    if not os.access(path, os.X_OK):
        raise RuntimeError(f"there is no {path}: run `swift build` or set WEIR_BINARY")
    return str(path)


def eventually(condition, what, timeout=WAIT_SECONDS):
    """Waits until condition() is true and returns its value; the error says what was waited for."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what}; last seen: {value!r}")
        time.sleep(POLL_SECONDS)


# HTTP -------------------------------------------------------------------------------------------


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)


def call(address, method, path, value=None, headers=None, timeout=30.0):
    """One request on a connection of its own; a value is sent as JSON, bytes as they are."""
    host, port = address.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
    try:
        return send(connection, method, path, value, headers)
    finally:
        connection.close()


def send(connection, method, path, value=None, headers=None):
    fields = dict(headers or {})
    body = value
    if value is not None and not isinstance(value, bytes):
        body = json.dumps(value).encode()
        fields.setdefault("content-type", "application/json")
    connection.request(method, path, body=body, headers=fields)
    response = connection.getresponse()
    return Answer(response.status, response.headers, response.read())


# Processes --------------------------------------------------------------------------------------


class Process:
    """A child in a process group of its own, with its output in a file."""

    def __init__(self, name, command, folder, environment=None):
        self.name = name
        self.log_path = folder / f"{name}.log"
        self.log = open(self.log_path, "ab")
        self.child = subprocess.Popen(
            command,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env={**os.environ, MARK: str(folder), **(environment or {})},
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
            tail = "\n".join(self.output().splitlines()[-20:])
            raise AssertionError(f"{self.name} ended with status {status}:\n{tail}")

    def signal(self, number):
        self.child.send_signal(number)

    def wait(self, timeout=STOP_SECONDS):
        return self.child.wait(timeout)

    def kill(self):
        """Ends the process whatever it does; safe to call again."""
        if self.child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait(STOP_SECONDS)
        self.log.close()

    def stop(self):
        """Asks for the end, which must come in time and with status 0."""
        if self.child.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                status = self.wait()
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"{self.name} did not end after SIGTERM") from None
            assert status == 0, f"{self.name} ended with status {status} after SIGTERM"
        self.log.close()


def read_ports(process, path, names):
    """Waits for the file in which a process tells the addresses that it listens on."""

    def ports():
        process.assert_running()
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return value if all(name in value for name in names) else None

    return eventually(ports, f"{process.name} writes its ports to {path.name}", START_SECONDS)


class Simulator(Process):
    """`weir model-simulator`, a pretend model server."""

    def __init__(self, folder, name="simulator", arguments=()):
        super().__init__(name, [binary(), "model-simulator", "--port", "0", *arguments], folder)
        self.address = eventually(self.printed_address, f"{name} prints its address", START_SECONDS)

    def printed_address(self):
        self.assert_running()
        match = re.search(r"127\.0\.0\.1:\d+", self.output())
        return match and match[0]

    @property
    def url(self):
        return f"http://{self.address}"

    def metric(self, name):
        return metric_sum(call(self.address, "GET", "/metrics").body.decode(), name)

    def faults(self, **faults):
        answer = call(self.address, "POST", "/simulator/faults", faults)
        assert answer.status < 300, answer.body


class Weir(Process):
    """`weir run` on a configuration file that the test may change."""

    def __init__(self, folder, documents, arguments=(), name="weir", environment=None):
        self.folder = folder
        self.config = folder / "weir.yaml"
        self.write(documents)
        self.ports_path = folder / f"{name}.ports"
        self.ports_path.unlink(missing_ok=True)
        command = [binary(), "run", "-c", str(self.config), "--ports-file", str(self.ports_path)]
        super().__init__(name, [*command, *arguments], folder, environment)
        ports = read_ports(self, self.ports_path, ["http", "admin"])
        self.address, self.admin_address = ports["http"], ports["admin"]

    @property
    def url(self):
        return f"http://{self.address}"

    def write(self, documents):
        """Replaces the configuration in one step, as editors do. JSON is YAML too."""
        text = documents
        if not isinstance(documents, str):
            text = "\n---\n".join(json.dumps(document, indent=2) for document in documents) + "\n"
        fresh = self.config.with_suffix(".new")
        fresh.write_text(text, encoding="utf-8")
        os.replace(fresh, self.config)

    def call(self, method, path, value=None, headers=None, timeout=30.0):
        return call(self.address, method, path, value, headers, timeout)

    def admin(self, method, path, value=None):
        answer = call(self.admin_address, method, path, value)
        assert answer.status < 300, f"{method} {path}: {answer.status} {answer.body!r}"
        return answer.json() if answer.body else None

    def metrics(self):
        answer = call(self.admin_address, "GET", "/metrics")
        assert answer.status == 200, f"/metrics: {answer.status} {answer.body[:200]!r}"
        return answer.body.decode()

    def metric(self, name, **labels):
        return metric_sum(self.metrics(), name, **labels)

    def generation(self):
        """Of the configuration: replicas that come and go do not change it."""
        return self.admin("GET", "/api/v1/snapshot")["configuration"]

    def replicas(self, deployment=None):
        replicas = self.admin("GET", "/api/v1/replicas")["replicas"]
        return [r for r in replicas if deployment in (None, r["deployment"])]

    def ready_replicas(self, deployment=None):
        return [r for r in self.replicas(deployment) if r["state"] == "ready"]

    def wait_until_ready(self, replicas=0):
        """Until it says that it serves, with at least this many replicas of its own ready."""

        def ready():
            self.assert_running()
            if call(self.admin_address, "GET", "/readyz").status != 200:
                return False
            return replicas == 0 or len(self.ready_replicas()) >= replicas

        eventually(ready, f"{self.name} is ready with {replicas} replicas", START_SECONDS)
        return self

    def weights(self, model):
        for entry in self.admin("GET", "/api/v1/models")["models"]:
            if entry["name"] == model:
                return {v["name"]: v["weight"] for v in entry["variants"]}
        raise AssertionError(f"the admin API does not list the model {model}")


def metric_sum(text, name, **labels):
    """The sum over all series of a metric with these labels; None if there is no such series."""
    total = None
    for line in text.splitlines():
        match = re.match(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)", line)
        if not match or match[1] != name:
            continue
        series = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[2] or ""))
        if all(series.get(key) == value for key, value in labels.items()):
            total = (total or 0.0) + float(match[3])
    return total


def processes_of(folder):
    """The processes that run with the mark of this folder in their environment."""
    mark = f"{MARK}={folder}".encode()
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and is_alive(entry.name):
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def sweep(folder):
    """Kills what a test left running, and says what it was. Who watches others may end last."""
    with contextlib.suppress(AssertionError):
        eventually(lambda: not processes_of(folder), "all processes are gone", 5)
    left = {}
    for pid in processes_of(folder):
        with contextlib.suppress(OSError):
            left[pid] = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
            os.kill(pid, signal.SIGKILL)
    return left


def is_alive(pid):
    """Whether a process runs; one that ended but is not yet reaped does not."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


# Configuration ----------------------------------------------------------------------------------


def resource(kind, name, spec):
    return {
        "apiVersion": "weir.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }


def gateway(folder, **spec):
    """Ports chosen by the system, and everything that is written below the test's folder."""
    return resource("Gateway", "default", {
        "listeners": [{"name": "http", "address": "127.0.0.1:0"}],
        "admin": {"address": "127.0.0.1:0"},
        "accessLog": {"format": "json", "path": str(folder / "access.log")},
        "stateDirectory": str(folder / "state"),
        **spec,
    })


def model(name, variants, protocol="OpenAI", **spec):
    """A model whose variants are names of deployments or lists of endpoints."""
    entries = []
    for variant, source in variants.items():
        if isinstance(source, str):
            entry = {"workloadRef": {"kind": "ProcessDeployment", "name": source}}
        else:
            entry = {"endpoints": source}
        entries.append({"name": variant, **entry})
    return resource("Model", name, {"protocol": protocol, "variants": entries, **spec})


def simulated(name, model_name, replicas=1, arguments=(), **spec):
    """A deployment whose replicas are model simulators that serve one model."""
    command = [binary(), "model-simulator", "--port", "$(PORT)", "--model", model_name]
    return resource("ProcessDeployment", name, {
        "replicas": replicas,
        "command": [*command, *arguments],
        "readiness": {"path": "/health", "period": "50ms", "timeout": "1s"},
        "startupTimeout": "20s",
        "terminationGracePeriod": "5s",
        **spec,
    })


# Requests ---------------------------------------------------------------------------------------


def chat_body(model_name, text="How deep is the river?", tokens=4, **more):
    message = {"role": "user", "content": text}
    return {"model": model_name, "messages": [message], "max_tokens": tokens, **more}


def infer_body(values=(1.0, 2.0, 3.0, 4.0)):
    tensor = {"name": "x", "shape": [1, len(values)], "datatype": "FP32", "data": list(values)}
    return {"inputs": [tensor]}


class Load:
    """Requests one after another on several keep-alive connections, until told to stop.

    `answers` holds what was answered, `failures` everything that was not status 200; nothing is
    tried again.
    """

    def __init__(self, address, path, value, threads=4, headers=None):
        self.address, self.path, self.value, self.headers = address, path, value, headers
        self.answers = []
        self.failures = []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.run) for _ in range(threads)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def run(self):
        host, port = self.address.rsplit(":", 1)
        connection = http.client.HTTPConnection(host, int(port), timeout=30)
        while not self.stopping.is_set():
            try:
                answer = send(connection, "POST", self.path, self.value, self.headers)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
                continue
            if answer.status == 200:
                self.answers.append(answer)
            else:
                self.failures.append(f"{answer.status} {answer.body[:200]!r}")
        connection.close()

    def wait_for(self, count):
        """Until this many more answers have come."""
        goal = len(self.answers) + count
        eventually(
            lambda: len(self.answers) >= goal or len(self.failures) > 50,
            f"{count} more answers under load",
        )


class Stream:
    """A streaming chat over a plain connection: events as they come, with their times."""

    def __init__(self, address, body, path="/v1/chat/completions"):
        host, port = address.rsplit(":", 1)
        self.connection = http.client.HTTPConnection(host, int(port), timeout=30)
        payload = json.dumps({**body, "stream": True}).encode()
        self.started = time.monotonic()
        self.connection.request(
            "POST", path, body=payload, headers={"content-type": "application/json"}
        )
        self.response = self.connection.getresponse()
        self.times = []

    def next_event(self):
        """The data of the next event, or None at the end of the answer."""
        while True:
            line = self.response.readline()
            if not line:
                return None
            if line.startswith(b"data:"):
                self.times.append(time.monotonic() - self.started)
                return line[5:].strip().decode()

    def rest(self):
        events = []
        while (event := self.next_event()) is not None:
            events.append(event)
        return events

    def abandon(self):
        """Goes away without reading the rest."""
        self.response.close()
        self.connection.close()
