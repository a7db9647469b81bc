"""The pretend kubelet of all nodes: starts each bound pod and tells what becomes of it."""

import asyncio
import os

from .. import status
from ..controllers import base
from ..store import copy
from .images import Images
from .pod import Pod
from .scheduler import node

ADDRESSES_FIRST = (127 << 24) | (64 << 16) | 1
ADDRESSES_LAST = (127 << 24) | (255 << 16) - 2


class Kubelet:
    def __init__(self, cluster):
        self.cluster = cluster
        self.images = Images(cluster.options.image)
        self.pods = {}  # by uid
        self.nodes = set()  # names of the nodes that it plays
        self.down = set()  # those of them that are switched off
        self.addresses = set()
        # Elsewhere for each cluster: several may run on one machine.
        self._next = ADDRESSES_FIRST + os.getpid() * 4_099 % (ADDRESSES_LAST - ADDRESSES_FIRST)
        self._dirty = {}
        self._wake = asyncio.Event()
        self._task = None
        self.started = False

    async def start(self):
        self._task = asyncio.ensure_future(self._report())
        self.started = True
        for text in self.cluster.options.node:
            self.add_node(*parse_node(text))
        for value in self.cluster.store.objects(("", "pods")):
            self._look(value)

    async def stop(self):
        if self._task:
            self._task.cancel()
        await asyncio.gather(*(pod.kill() for pod in list(self.pods.values())))

    def add_node(self, name, stock, labels=None):
        value, found = node(name, labels=labels, **stock)
        self.cluster.create("nodes", "", value)
        self.nodes.add(name)
        self.set_node(name, True, found)

    def set_node(self, name, up, stock=None):
        """Tells whether a node is well; one that is down neither starts nor ends anything."""
        (self.down.discard if up else self.down.add)(name)
        value = copy(self.cluster.store.get(("", "nodes"), "", name))
        value["status"].update(stock or {})
        value["status"]["conditions"] = base.with_condition(
            value["status"].get("conditions") or [],
            "Ready",
            "True" if up else "Unknown",
            "KubeletReady" if up else "NodeStatusUnknown",
            "kubelet is posting ready status" if up else "Kubelet stopped posting node status.",
        )
        self.cluster.update("nodes", value, "", "status")
        if up:
            for pod in self.cluster.store.objects(("", "pods")):
                if pod["spec"].get("nodeName") == name:
                    self._look(pod)

    # Pods ---------------------------------------------------------------------------------------

    def changed(self, key, event):
        if key != ("", "pods") or not self.started:
            return
        if event.type == "DELETED":
            pod = self.pods.pop(event.object["metadata"]["uid"], None)
            if pod:
                asyncio.ensure_future(self._forget(pod))
        else:
            self._look(event.object)

    def _look(self, value):
        name, uid = value["spec"].get("nodeName"), value["metadata"]["uid"]
        if name not in self.nodes or name in self.down:
            return
        pod = self.pods.get(uid)
        if pod is None:
            if value["status"].get("phase") in ("Succeeded", "Failed"):
                return
            pod = self.pods[uid] = Pod(self, value, self._address())
            pod.start()
        pod.changed(value)

    async def _forget(self, pod):
        await pod.kill()
        self.addresses.discard(pod.address)

    def _address(self):
        """A loopback address that no other pod has."""
        for _ in range(ADDRESSES_LAST - ADDRESSES_FIRST):
            number = self._next
            self._next = number + 1 if number < ADDRESSES_LAST else ADDRESSES_FIRST
            text = ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))
            if number & 255 not in (0, 255) and text not in self.addresses:
                self.addresses.add(text)
                return text
        raise RuntimeError("there is no free loopback address")

    # What it tells the server -------------------------------------------------------------------

    def tell(self, pod):
        """A pod's status is to be written as soon as the server can take it."""
        self._dirty[pod.uid] = pod
        self._wake.set()

    async def _report(self):
        while True:
            await self._wake.wait()
            await self.cluster.server.running.wait()
            if not self._dirty:
                self._wake.clear()
                continue
            uid = next(iter(self._dirty))
            pod = self._dirty.pop(uid)
            if pod.node not in self.down:
                try:
                    self._write(pod)
                except status.ApiError:
                    pass  # it is gone, or the next change writes again
            await asyncio.sleep(0)

    def _write(self, pod):
        live = self.cluster.store.get(("", "pods"), pod.namespace, pod.name)
        if live is None or live["metadata"]["uid"] != pod.uid:
            return
        if pod.over:
            if live["metadata"].get("deletionTimestamp"):
                self.cluster.delete("pods", pod.namespace, pod.name, gracePeriodSeconds=0)
                return
        wanted = pod.status(live["status"])
        if wanted != live["status"]:
            self.cluster.update("pods", {**copy(live), "status": wanted}, "", "status")

    def logs(self, namespace, name):
        for pod in self.pods.values():
            if (pod.namespace, pod.name) == (namespace, name) and pod.log_path.exists():
                return pod.log_path.read_text(encoding="utf-8", errors="replace")
        return ""


def parse_node(text):
    """`NAME[:resource=count…][:label.KEY=VALUE…]`, as in `gpu-1:nvidia.com/gpu=8`."""
    name, *parts = text.split(":")
    stock, labels = {}, {}
    for part in parts:
        key, separator, value = part.partition("=")
        if not separator:
            raise ValueError(f"a node is NAME:RESOURCE=COUNT…, and not {text!r}")
        if key.startswith("label."):
            labels[key[len("label.") :]] = value
        else:
            stock[key] = value
    return name, stock, labels
