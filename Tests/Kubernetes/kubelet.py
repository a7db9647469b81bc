"""A kubelet for clusters that have none: pods of its node become local processes.

It sees and says everything through the API alone, so that it works with any API server. A process
needs an address of its own; API servers refuse loopback addresses as endpoints, so the network of
the pods has to be local to this machine (see `scripts/kubernetes`).
"""

import base64
import http.client
import ipaddress
import os
import re
import signal
import subprocess
import threading
import time

import kube
import yaml

PERIOD_SECONDS = 0.1
# A node that is not heard of for longer than some of these is taken for dead.
HEARTBEAT_SECONDS = 5.0
AUTHENTICATION = "authentication.k8s.io/v1"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Process:
    """One pod that runs here."""

    def __init__(self, pod, address):
        self.uid, self.name = pod["metadata"]["uid"], pod["metadata"]["name"]
        self.address = address
        self.child = None
        self.said = None
        self.since = now()
        self.is_leaving = False
        self.log_path = None
        self.kill_at = 0.0


class Kubelet(threading.Thread):
    """Plays the node `name` for the pods of one namespace; `images` maps patterns to commands."""

    def __init__(self, kubeconfig, namespace, name, network, images, folder):
        super().__init__(daemon=True)
        self.kube, self.kubeconfig = kube.Kube(kubeconfig), kubeconfig
        self.namespace, self.name, self.images, self.folder = namespace, name, images, folder
        self.addresses = ipaddress.ip_network(network).hosts()
        next(self.addresses)
        self.processes = {}
        self.problems = []
        self.since, self.beaten = now(), 0.0
        self._stopping = threading.Event()

    def register(self):
        """The node, with room for everything."""
        stock = {"cpu": "64", "memory": "256Gi", "pods": "1000", "nvidia.com/gpu": "64"}
        self.kube.post("/api/v1/nodes", {
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name}}).expect(201)
        self.kube.patch(f"/api/v1/nodes/{self.name}/status", {"status": {
            "capacity": stock, "allocatable": stock}}).expect(200)
        self._beat()

    def _beat(self):
        """Tells that the node is well, in its status and by its Lease."""
        self.beaten = time.monotonic()
        self.kube.patch(f"/api/v1/nodes/{self.name}/status", {"status": {"conditions": [{
            "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready",
            "lastHeartbeatTime": now(), "lastTransitionTime": self.since}]}})
        self.kube.apply(f"{LEASES}/{self.name}", {
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": self.name}, "spec": {
                "holderIdentity": self.name, "leaseDurationSeconds": 40,
                "renewTime": now().replace("Z", ".000000Z")}}, "kubelet", force="true")

    def path(self, name="", sub=""):
        root = f"/api/v1/namespaces/{self.namespace}/pods"
        return "/".join(filter(None, (root, name, sub)))

    def stop(self):
        self._stopping.set()
        self.join()
        for process in self.processes.values():
            if process.child and process.child.poll() is None:
                process.child.kill()
                process.child.wait()
        self.kube.delete(f"/api/v1/nodes/{self.name}")
        self.kube.delete(f"{LEASES}/{self.name}")
        self.kube.close()

    def run(self):
        while not self._stopping.wait(PERIOD_SECONDS):
            try:
                if time.monotonic() - self.beaten > HEARTBEAT_SECONDS:
                    self._beat()
                pods = self.kube.get(
                    self.path(), fieldSelector=f"spec.nodeName={self.name}").expect(200)["items"]
                for pod in pods:
                    self._look(pod)
                self._reap({pod["metadata"]["uid"] for pod in pods})
            except (OSError, http.client.HTTPException, AssertionError) as error:
                self.problems.append(repr(error))

    # One look at one pod ------------------------------------------------------------------------

    def _look(self, pod):
        uid = pod["metadata"]["uid"]
        process = self.processes.get(uid)
        if process is None:
            process = self.processes[uid] = Process(pod, str(next(self.addresses)))
            if not pod["metadata"].get("deletionTimestamp"):
                self._start(process, pod)
        if pod["metadata"].get("deletionTimestamp"):
            self._end(process, pod)
        else:
            self._tell(process, pod, self._is_ready(process, pod))

    def _start(self, process, pod):
        container = pod["spec"]["containers"][0]
        command = next(command for pattern, command in self.images.items()
                       if re.fullmatch(pattern, container["image"]))
        values = {"POD_IP": process.address}
        words = [re.sub(r"\$\((\w+)\)", lambda m: values.get(m[1], m[0]), word)
                 for word in [*command, *container.get("args", ())]]
        place = self.folder / process.name
        place.mkdir(parents=True, exist_ok=True)
        environment = {k: os.environ[k] for k in ("PATH", "HOME") if k in os.environ}
        if pod["spec"].get("automountServiceAccountToken"):
            environment["KUBECONFIG"] = self._access(pod["spec"]["serviceAccountName"], place)
        process.log_path = place / "log"
        with open(process.log_path, "ab") as log:
            process.child = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *words], stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True)

    def _access(self, account, place):
        """A kubeconfig with a token of the service account, which may do what its roles say."""
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{account}/token"
        token = self.kube.post(path, {
            "apiVersion": AUTHENTICATION, "kind": "TokenRequest",
            "spec": {"expirationSeconds": 3600}}).expect(201)["status"]["token"]
        with open(self.kubeconfig, encoding="utf-8") as file:
            config = yaml.safe_load(file)
        current = next(c["context"] for c in config["contexts"]
                       if c["name"] == config["current-context"])
        config["users"] = [{"name": account, "user": {"token": token}}]
        config["contexts"] = [{"name": account, "context": {
            "cluster": current["cluster"], "user": account, "namespace": self.namespace}}]
        config["current-context"] = account
        target = place / "kubeconfig"
        target.write_text(yaml.safe_dump(config), encoding="utf-8")
        return str(target)

    def _is_ready(self, process, pod):
        if process.child is None or process.child.poll() is not None:
            return False
        container = pod["spec"]["containers"][0]
        probe = container["readinessProbe"]["httpGet"]
        ports = {p["name"]: p["containerPort"] for p in container["ports"] if p.get("name")}
        connection = http.client.HTTPConnection(
            process.address, ports.get(probe["port"], probe["port"]), timeout=1)
        try:
            connection.request("GET", probe["path"])
            return 200 <= connection.getresponse().status < 400
        except (OSError, http.client.HTTPException, ValueError):
            return False
        finally:
            connection.close()

    def _tell(self, process, pod, is_ready):
        if process.said == is_ready:
            return
        state = "True" if is_ready else "False"
        changed = now()
        container = pod["spec"]["containers"][0]
        conditions = [
            {"type": kind, "status": "True" if kind in ("Initialized", "PodScheduled") else state,
             "lastProbeTime": None, "lastTransitionTime": changed}
            for kind in ("Initialized", "Ready", "ContainersReady", "PodScheduled")]
        answer = self.kube.patch(self.path(process.name, "status"), {"status": {
            "phase": "Running", "startTime": process.since, "hostIP": process.address,
            "podIP": process.address, "podIPs": [{"ip": process.address}],
            "conditions": conditions,
            "containerStatuses": [{
                "name": container["name"], "image": container["image"], "imageID": "",
                "ready": is_ready, "started": True, "restartCount": 0,
                "state": {"running": {"startedAt": process.since}}, "lastState": {}}]}})
        if answer.code == 200:
            process.said = is_ready

    def _end(self, process, pod):
        if process.child and process.child.poll() is None:
            if not process.is_leaving:
                process.is_leaving = True
                process.child.send_signal(signal.SIGTERM)
                grace = pod["metadata"].get("deletionGracePeriodSeconds") or 0
                process.kill_at = time.monotonic() + grace
            elif time.monotonic() > process.kill_at:
                process.child.kill()
            self._tell(process, pod, self._is_ready(process, pod))
            return
        self.kube.delete(self.path(process.name), {
            "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
            "preconditions": {"uid": process.uid}})

    def _reap(self, present):
        """A pod that was deleted without a grace period is gone from the API at once."""
        for uid in set(self.processes) - present:
            process = self.processes.pop(uid)
            if process.child and process.child.poll() is None:
                process.child.kill()
                process.child.wait()

    def logs(self, start):
        return {path.parent.name: path.read_text(encoding="utf-8", errors="replace")
                for path in self.folder.glob(f"{start}*/log")}


def secret(name, **data):
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": {
        key: base64.b64encode(value.encode()).decode() for key, value in data.items()}}
