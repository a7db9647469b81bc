"""One pod: its containers as local processes, their probes, their ends."""

import asyncio
import base64
import contextlib
import json
import os
import re
import signal
import subprocess

from .. import clock, status
from ..controllers import base
from . import probes
from .images import NOTHING

COLD_START = "test.weir.dev/cold-start"  # seconds between being bound and running
READY = "test.weir.dev/ready"  # "false" keeps a pod unready whatever its probe says
BACKOFF_SECONDS = (10.0, 300.0)
BACKOFF_RESET_SECONDS = 600.0
PULL_SECONDS = (10.0, 300.0)


class Container:
    """What is known of one container."""

    def __init__(self, spec):
        self.spec = spec
        self.name = spec["name"]
        self.state = {"waiting": {"reason": "ContainerCreating"}}
        self.last = {}
        self.ready = False
        self.started = False
        self.restarts = 0
        self.process = None
        self.task = None

    @property
    def running(self):
        return "running" in self.state


class Pod:
    """The states of a pod from its binding to its end; `over` when no process is left."""

    def __init__(self, kubelet, value, address):
        self.kubelet, self.cluster = kubelet, kubelet.cluster
        self.clock = kubelet.cluster.clock
        self.address = address
        self.value = value
        meta = value["metadata"]
        self.uid, self.name, self.namespace = meta["uid"], meta["name"], meta["namespace"]
        self.node = value["spec"]["nodeName"]
        self.containers = [Container(spec) for spec in value["spec"]["containers"]]
        self.folder = self.cluster.folder / "pods" / f"{self.namespace}_{self.name}_{self.uid[:8]}"
        self.log_path = self.folder / "log"
        self.over = False
        self.leaving = False
        self.running = False
        self.start_time = clock.stamp()
        self.tasks = []

    # Changes from the server --------------------------------------------------------------------

    def start(self):
        self.tasks.append(asyncio.ensure_future(self._live()))

    def changed(self, value):
        """The object changed: perhaps it is to end."""
        marked = self._mark(self.value) != self._mark(value)
        self.value = value
        if value["metadata"].get("deletionTimestamp") and not self.leaving:
            self.leaving = True
            self.tasks.append(asyncio.ensure_future(self._leave()))
        elif marked:
            self.kubelet.tell(self)

    @staticmethod
    def _mark(value):
        return (value["metadata"].get("annotations") or {}).get(READY)

    def _annotation(self, name, default):
        return (self.value["metadata"].get("annotations") or {}).get(name, default)

    # Living -------------------------------------------------------------------------------------

    async def _live(self):
        seconds = float(self._annotation(COLD_START, self.cluster.options.cold_start))
        self.kubelet.tell(self)
        await self.clock.sleep(seconds)
        for container in self.containers:
            container.task = asyncio.ensure_future(self._run(container))
        await asyncio.gather(*(c.task for c in self.containers), return_exceptions=True)
        if not self.leaving:
            self.kubelet.tell(self)

    async def _run(self, container):
        """Pulls the image, then runs the container again and again as the restart policy says."""
        command = await self._pull(container)
        delay = BACKOFF_SECONDS[0]
        while not self.leaving:
            began = self.clock.now()
            code, number = await self._once(container, command)
            if self.leaving:
                return
            policy = self.value["spec"]["restartPolicy"]
            if policy == "Never" or policy == "OnFailure" and code == 0:
                return
            if self.clock.now() - began > BACKOFF_RESET_SECONDS:
                delay = BACKOFF_SECONDS[0]
            container.last = container.state
            if container.restarts:
                container.state = {
                    "waiting": {
                        "reason": "CrashLoopBackOff",
                        "message": f"back-off {int(delay)}s restarting failed"
                        f" container={container.name}"
                        f" pod={self.name}_{self.namespace}({self.uid})",
                    }
                }
                self._event(
                    "Warning",
                    "BackOff",
                    "Back-off restarting failed container"
                    f" {container.name} in pod {self.name}_{self.namespace}({self.uid})",
                )
                self.kubelet.tell(self)
                await self.clock.sleep(delay)
                delay = min(BACKOFF_SECONDS[1], delay * 2)
            container.restarts += 1

    async def _pull(self, container):
        """The command of the container's image, after as many attempts as it takes."""
        image, delay = container.spec["image"], PULL_SECONDS[0]
        while True:
            command = self.kubelet.images.command(image)
            if (
                command is None
                and container.spec.get("command")
                and container.spec.get("imagePullPolicy") == "Never"
            ):
                command = []  # it is there already, whatever it is
            if command is not None:
                return self._arguments(container, command)
            for reason, message in (
                ("ErrImagePull", f'failed to pull and unpack image "{image}": not found'),
                ("ImagePullBackOff", f'Back-off pulling image "{image}"'),
            ):
                container.state = {"waiting": {"reason": reason, "message": message}}
                self.kubelet.tell(self)
                self._event("Warning", "Failed", f"Error: {reason}")
                await self.clock.sleep(delay / 2)
            delay = min(PULL_SECONDS[1], delay * 2)

    def _arguments(self, container, entry):
        spec = container.spec
        if spec.get("command"):
            entry = list(spec["command"])
            inner = self.kubelet.images.command(spec["image"])
            if (
                inner
                and inner != [NOTHING]
                and "/" not in entry[0]
                and os.path.basename(inner[0]) == entry[0]
            ):
                entry[0] = inner[0]
        return [*entry, *(spec.get("args") or ())]

    # One run of a container ---------------------------------------------------------------------

    async def _once(self, container, command):
        """Runs a container to its end; the exit code and the signal."""
        if command[0] == NOTHING:
            container.state = {"running": {"startedAt": clock.stamp()}}
            container.started = container.ready = True
            self.kubelet.tell(self)
            await asyncio.get_running_loop().create_future()
        try:
            environment = self._environment(container)
        except status.ApiError as error:
            container.state = {
                "waiting": {"reason": "CreateContainerConfigError", "message": error.message}
            }
            self.kubelet.tell(self)
            await self.clock.sleep(BACKOFF_SECONDS[0])
            return 1, 0
        began = clock.stamp()
        container.started = not container.spec.get("startupProbe")
        arguments = [expand(part, environment) for part in command]
        try:
            container.process = self._spawn(container, arguments, environment)
        except OSError as error:
            container.state = _terminated(128, 0, began, "StartError", str(error))
            self.kubelet.tell(self)
            return 128, 0
        container.state = {"running": {"startedAt": began}}
        container.ready = container.started and not container.spec.get("readinessProbe")
        self.kubelet.tell(self)
        watcher = asyncio.ensure_future(self._probe(container, environment))
        try:
            code = await wait(container.process)
        finally:
            watcher.cancel()
        container.ready = container.started = False
        number = -code if code < 0 else 0
        code = 128 + number if number else code
        reason = "Completed" if code == 0 else "Error"
        container.state = _terminated(code, number, began, reason, "")
        self.kubelet.tell(self)
        return code, number

    def _spawn(self, container, arguments, environment):
        """Starts a process that does not outlive this one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        folder = container.spec.get("workingDir") or str(self.folder)
        with open(self.log_path, "ab") as log:
            return subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )

    def _environment(self, container):
        """The environment: the node's PATH, what Kubernetes adds, and what the container says."""
        found = {
            name: os.environ[name]
            for name in ("PATH", "HOME", "TMPDIR", "WEIR_TEST_FOLDER", "LLVM_PROFILE_FILE")
            if name in os.environ
        }
        found["HOSTNAME"] = self.value["spec"].get("hostname", self.name)
        found["POD_IP"] = self.address  # so that images can listen on it
        found["KUBERNETES_SERVICE_HOST"] = self.cluster.server.address
        found["KUBERNETES_SERVICE_PORT"] = str(self.cluster.server.port)
        found.update(self._account())
        for source in container.spec.get("envFrom") or ():
            kind = "configMapRef" if source.get("configMapRef") else "secretRef"
            data = self._data(kind, source[kind]["name"], source[kind].get("optional"))
            found.update({source.get("prefix", "") + k: v for k, v in data.items()})
        for entry in container.spec.get("env") or ():
            value = entry.get("value", "")
            if entry.get("valueFrom"):
                value = self._reference(container, entry["valueFrom"])
            if value is not None:
                found[entry["name"]] = expand(value, found)
        return found

    def _account(self):
        """The service account's credentials as files, and a kubeconfig that names them.

        A process here has no file system of its own to mount them at the usual place.
        """
        name = self.value["spec"]["serviceAccountName"]
        account = self.cluster.api.find("serviceaccounts", self.namespace, name)
        wanted = self.value["spec"].get("automountServiceAccountToken")
        if wanted is None and account is not None:
            wanted = account.get("automountServiceAccountToken")  # the pod's own word goes first
        if account is None or wanted is False:
            return {}
        self.folder.mkdir(parents=True, exist_ok=True)
        token, _ = self.cluster.access.issue(self.namespace, name)
        place = self.folder / "serviceaccount"
        place.mkdir(exist_ok=True)
        (place / "token").write_text(token, encoding="utf-8")
        (place / "namespace").write_text(self.namespace, encoding="utf-8")
        authority = (self.cluster.folder / "pki" / "ca.crt").read_text(encoding="utf-8")
        (place / "ca.crt").write_text(authority, encoding="utf-8")
        config = self.cluster.kubeconfig({name: {"tokenFile": str(place / "token")}}, name)
        config["contexts"][0]["context"]["namespace"] = self.namespace
        (place / "kubeconfig").write_text(json.dumps(config), encoding="utf-8")
        return {"KUBECONFIG": str(place / "kubeconfig"), "SERVICE_ACCOUNT_DIRECTORY": str(place)}

    def _data(self, kind, name, optional):
        plural = "configmaps" if kind.startswith("configMap") else "secrets"
        found = self.cluster.api.find(plural, self.namespace, name)
        if found is None:
            if optional:
                return {}
            raise status.ApiError(404, f'{plural[:-1]} "{name}" not found')
        data = dict(found.get("data") or {})
        if plural == "secrets":
            data = {k: base64.b64decode(v).decode() for k, v in data.items()}
        return data

    def _reference(self, container, source):
        if source.get("fieldRef"):
            return self._field(source["fieldRef"]["fieldPath"])
        if source.get("resourceFieldRef"):
            group, _, name = source["resourceFieldRef"]["resource"].partition(".")
            return str(((container.spec.get("resources") or {}).get(group) or {}).get(name, "0"))
        kind = "configMapKeyRef" if source.get("configMapKeyRef") else "secretKeyRef"
        reference = source.get(kind) or {}
        data = self._data(kind, reference.get("name", ""), reference.get("optional"))
        if reference.get("key") not in data and not reference.get("optional"):
            raise status.ApiError(
                404,
                f"couldn't find key {reference.get('key')} in"
                f" {kind.removesuffix('KeyRef')} {self.namespace}/"
                f"{reference.get('name')}",
            )
        return data.get(reference.get("key"))

    def _field(self, path):
        known = {
            "status.podIP": self.address,
            "status.podIPs": self.address,
            "status.hostIP": "127.0.0.1",
            "spec.nodeName": self.node,
            "spec.serviceAccountName": self.value["spec"].get("serviceAccountName", ""),
        }
        if path in known:
            return known[path]
        if match := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
            return (self.value["metadata"].get(match[1]) or {}).get(match[2], "")
        return str(self.value["metadata"].get(path.removeprefix("metadata."), ""))

    def _ports(self, container):
        return {
            p["name"]: p["containerPort"]
            for p in container.spec.get("ports") or ()
            if p.get("name")
        }

    # Probes -------------------------------------------------------------------------------------

    async def _probe(self, container, environment):
        if container.spec.get("startupProbe"):
            if not await self._until_started(container, environment):
                return
        container.started = True
        container.ready = not container.spec.get("readinessProbe")
        self.kubelet.tell(self)
        await asyncio.gather(
            *(
                self._watch(container, environment, kind)
                for kind in ("readinessProbe", "livenessProbe")
                if container.spec.get(kind)
            )
        )

    async def _until_started(self, container, environment):
        probe, failures = container.spec["startupProbe"], 0
        await self.clock.sleep(probe.get("initialDelaySeconds", 0))
        while not await self._ask(container, probe, environment):
            failures += 1
            if failures >= probe["failureThreshold"]:
                self._unhealthy(container, "Startup")
                return False
            await self.clock.sleep(probe["periodSeconds"])
        return True

    async def _ask(self, container, probe, environment):
        return await probes.succeeds(
            probe, self.address, self._ports(container), environment, probe["timeoutSeconds"]
        )

    async def _watch(self, container, environment, kind):
        probe, good, bad = container.spec[kind], 0, 0
        await self.clock.sleep(probe.get("initialDelaySeconds", 0))
        while True:
            if await self._ask(container, probe, environment):
                good, bad = good + 1, 0
            else:
                good, bad = 0, bad + 1
            if kind == "readinessProbe":
                ready = container.ready
                if good >= probe["successThreshold"]:
                    ready = True
                elif bad >= probe["failureThreshold"]:
                    ready = False
                if ready != container.ready:
                    container.ready = ready
                    if not ready:
                        self._event("Warning", "Unhealthy", "Readiness probe failed")
                    self.kubelet.tell(self)
            elif bad >= probe["failureThreshold"]:
                self._unhealthy(container, "Liveness")
                return
            await self.clock.sleep(probe["periodSeconds"])

    def _unhealthy(self, container, kind):
        self._event("Warning", "Unhealthy", f"{kind} probe failed")
        self._event(
            "Normal",
            "Killing",
            f"Container {container.name} failed {kind.lower()} probe, will be restarted",
        )
        send(container.process, signal.SIGTERM)
        grace = self.value["spec"].get("terminationGracePeriodSeconds", 30)
        self.tasks.append(asyncio.ensure_future(self._kill_after(container.process, grace)))

    async def _kill_after(self, process, seconds):
        await self.clock.sleep(seconds)
        send(process, signal.SIGKILL)

    # Ending -------------------------------------------------------------------------------------

    async def _leave(self):
        """Hooks, SIGTERM, and SIGKILL when the grace period is over; then the pod is gone."""
        grace = self.value["metadata"].get("deletionGracePeriodSeconds", 30)
        self.kubelet.tell(self)
        limit = asyncio.ensure_future(self.clock.sleep(grace))
        ends = asyncio.ensure_future(asyncio.gather(*(self._end(c) for c in self.containers)))
        await asyncio.wait([limit, ends], return_when=asyncio.FIRST_COMPLETED)
        limit.cancel()
        ends.cancel()
        await self.kill(but=asyncio.current_task())
        self.over = True
        self.kubelet.tell(self)

    async def _end(self, container):
        if container.process is None or container.process.poll() is not None:
            return
        hook = (container.spec.get("lifecycle") or {}).get("preStop") or {}
        if hook.get("sleep"):
            await self.clock.sleep(hook["sleep"]["seconds"])
        elif hook:
            await probes.succeeds(
                hook, self.address, self._ports(container), self._environment(container), 30
            )
        self._event("Normal", "Killing", f"Stopping container {container.name}")
        send(container.process, signal.SIGTERM)
        await wait(container.process)

    async def kill(self, but=None):
        """Ends all processes at once, and everything that is done for the pod."""
        self.leaving = True
        for task in [*self.tasks, *(c.task for c in self.containers)]:
            if task and task is not but:
                task.cancel()
        for container in self.containers:
            if container.process:
                send(container.process, signal.SIGKILL)
                with contextlib.suppress(asyncio.CancelledError):
                    await wait(container.process)
            if container.running:
                container.state = _terminated(137, 9, self.start_time, "Error", "")
                container.ready = False

    def _event(self, kind, reason, note):
        if self.cluster.server.running.is_set():
            base.record(self.cluster, self.value, kind, reason, note, "kubelet")

    # Status -------------------------------------------------------------------------------------

    def status(self, before):
        """The pod's status as it is now."""
        ready = self._ready()
        conditions = [c for c in before.get("conditions") or () if c["type"] == "PodScheduled"]
        old = {c["type"]: c for c in before.get("conditions") or ()}
        unready = [c.name for c in self.containers if not c.ready]
        message = f"containers with unready status: [{' '.join(unready)}]" if unready else ""
        now = clock.stamp()

        def condition(kind, state, reason="", text=""):
            same = kind in old and old[kind]["status"] == ("True" if state else "False")
            found = {
                "type": kind,
                "status": "True" if state else "False",
                "lastProbeTime": None,
                "lastTransitionTime": old[kind]["lastTransitionTime"] if same else now,
            }
            if reason and not state:
                found.update({"reason": reason, "message": text})
            conditions.append(found)

        condition("Initialized", True)
        condition("Ready", ready, "ContainersNotReady", message)
        condition("ContainersReady", ready, "ContainersNotReady", message)
        started = any(not _creating(c) for c in self.containers)
        found = {
            **{
                k: v
                for k, v in before.items()
                if k in ("qosClass", "reason", "message", "nominatedNodeName")
            },
            "phase": self._phase(),
            "conditions": conditions,
            "hostIP": "127.0.0.1",
            "startTime": self.start_time,
            "containerStatuses": [self._container(c) for c in self.containers],
        }
        if started:
            found["podIP"] = self.address
            found["podIPs"] = [{"ip": self.address}]
        return found

    def _ready(self):
        return self._annotation(READY, "true") != "false" and all(
            c.ready and c.running for c in self.containers
        )

    def _phase(self):
        states = [c.state for c in self.containers]
        if all("terminated" in s for s in states) and (
            self.leaving or self.value["spec"]["restartPolicy"] != "Always"
        ):
            good = all(s["terminated"]["exitCode"] == 0 for s in states)
            return "Succeeded" if good else "Failed"
        if any(_creating(c) for c in self.containers):
            return "Pending"
        return "Running"

    def _container(self, container):
        image = container.spec["image"]
        found = {
            "name": container.name,
            "state": container.state,
            "lastState": container.last,
            "ready": container.ready,
            "restartCount": container.restarts,
            "image": image,
            "imageID": f"test://{image}",
            "started": container.started,
        }
        if container.running:
            found["containerID"] = f"process://{container.process.pid if container.process else 0}"
        return found


def _creating(container):
    reason = (container.state.get("waiting") or {}).get("reason", "")
    return reason in (
        "ContainerCreating",
        "ErrImagePull",
        "ImagePullBackOff",
        "CreateContainerConfigError",
    )


def _terminated(code, number, began, reason, message):
    found = {"exitCode": code, "reason": reason, "startedAt": began, "finishedAt": clock.stamp()}
    if number:
        found["signal"] = number
    if message:
        found["message"] = message
    return {"terminated": found}


def expand(text, environment):
    """`$(NAME)` becomes the variable's value; `$$` is a dollar; unknown names stay."""
    return re.sub(
        r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)",
        lambda m: "$" if m[1] is None else environment.get(m[1], m[0]),
        text,
    )


def send(process, number):
    """A signal to a process and all that it started."""
    if process and process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)


async def wait(process):
    """A process's exit status, without blocking."""
    if process.poll() is not None:
        return process.returncode
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return process.wait()
    try:
        loop.add_reader(descriptor, done.set)
        await done.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return process.wait()
