"""The scheduler: a node with room for each pod, or the reason why there is none."""

import collections
import decimal
import itertools

from .. import admission, quantity
from ..controllers import base
from ..store import copy

PODS, NODES = ("", "pods"), ("", "nodes")
# How many of those that wait are compared by priority before one is placed.
PEERS_MAX = 64


class Scheduler(base.Controller):
    name = "default-scheduler"

    def __init__(self, cluster):
        super().__init__(cluster)
        self.watches = {PODS: self._pod_keys, NODES: self._node_keys}
        self.used = collections.defaultdict(lambda: collections.defaultdict(decimal.Decimal))
        self.waiting = {}

    def _pod_keys(self, event):
        """Keeps what is used on each node; a pod that ends makes room for those that wait."""
        for value, sign in ((event.previous, -1), (event.object, 1)):
            if value is None or (sign > 0 and event.type == "DELETED"):
                continue
            node = value["spec"].get("nodeName")
            if node and value["status"].get("phase") not in ("Succeeded", "Failed"):
                for name, amount in self._asked(value).items():
                    self.used[node][name] += sign * amount
        if event.type == "DELETED":
            self.waiting.pop(base.key_of(event.object), None)
        elif not event.object["spec"].get("nodeName"):
            yield base.key_of(event.object)
        if event.type == "DELETED" or event.object["status"].get("phase") in (
            "Succeeded",
            "Failed",
        ):
            yield from list(self.waiting)

    def _node_keys(self, event):
        yield from list(self.waiting)

    def _asked(self, pod):
        asked = admission.pod_requests(pod)
        asked["pods"] = decimal.Decimal(1)
        return asked

    def sync(self, key):
        pod = self.find("pods", *key)
        if (
            pod is None
            or pod["spec"].get("nodeName")
            or pod["metadata"].get("deletionTimestamp")
            or pod["spec"].get("schedulerName") != "default-scheduler"
        ):
            self.waiting.pop(key, None)
            return
        if self._more_important_waits(pod):
            self.queue.add_after(key, 0.01)
            return
        nodes = self.store.objects(NODES)
        reasons, fitting = collections.Counter(), []
        for node in nodes:
            found = self._reasons(pod, node)
            if found:
                reasons.update(found)
            else:
                fitting.append(node)
        if fitting:
            self.waiting.pop(key, None)
            best = min(fitting, key=lambda n: self._fullness(n, pod))
            self.api.bind(*key, best["metadata"]["name"])
            self.event(
                pod,
                "Normal",
                "Scheduled",
                f"Successfully assigned {key[0]}/{key[1]} to {best['metadata']['name']}",
            )
            return
        self.waiting[key] = pod["spec"].get("priority", 0)
        self._unschedulable(pod, len(nodes), reasons)

    def _more_important_waits(self, pod):
        """Whether a pod of higher priority is still to be looked at."""
        return any(
            (found := self.find("pods", *key)) is not None
            and found["spec"].get("priority", 0) > pod["spec"].get("priority", 0)
            and not found["spec"].get("nodeName")
            for key in itertools.islice(self.queue.keys, PEERS_MAX)
        )

    def _fullness(self, node, pod):
        """The emptiest node first; those with rare resources last, for those that need them."""
        room = node["status"]["allocatable"]
        asked = admission.pod_requests(pod)
        rare = sum(1 for name in room if "/" in name and name not in asked)
        used = self.used[node["metadata"]["name"]]
        share = max(
            (
                used[name] / quantity.parse(room[name])
                for name in room
                if quantity.parse(room[name])
            ),
            default=0,
        )
        return (rare, share, node["metadata"]["name"])

    def _reasons(self, pod, node):
        """Why a node will not do; empty if it does."""
        spec = node.get("spec") or {}
        if spec.get("unschedulable"):
            return ["node(s) were unschedulable"]
        labels = node["metadata"].get("labels") or {}
        if not (pod["spec"].get("nodeSelector") or {}).items() <= labels.items():
            return ["node(s) didn't match Pod's node affinity/selector"]
        for taint in spec.get("taints") or ():
            if taint["effect"] in ("NoSchedule", "NoExecute") and not _tolerates(pod, taint):
                return [
                    f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
                ]
        room = node["status"].get("allocatable") or {}
        used = self.used[node["metadata"]["name"]]
        found = []
        for name, amount in self._asked(pod).items():
            if amount and used[name] + amount > quantity.parse(room.get(name, "0")):
                found.append("Too many pods" if name == "pods" else f"Insufficient {name}")
        return found

    def _unschedulable(self, pod, nodes, reasons):
        if nodes:
            listed = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
            message = f"0/{nodes} nodes are available: {listed}."
            if not self.cluster.options.old_words:
                message += (
                    f" preemption: 0/{nodes} nodes are available: {nodes} No preemption victims"
                    " found for incoming pod."
                )
        else:
            message = "no nodes available to schedule pods"
        old = base.condition(pod, "PodScheduled")
        if old and old.get("message") == message:
            return
        conditions = pod["status"].get("conditions") or []
        changed = copy(pod)
        changed["status"]["conditions"] = base.with_condition(
            conditions, "PodScheduled", "False", "Unschedulable", message
        )
        self.cluster.update("pods", changed, "", "status")
        self.event(pod, "Warning", "FailedScheduling", message)


def _tolerates(pod, taint):
    for toleration in pod["spec"].get("tolerations") or ():
        if toleration.get("effect") not in (None, "", taint["effect"]):
            continue
        if toleration.get("operator") == "Exists" and toleration.get("key") in (
            None,
            "",
            taint["key"],
        ):
            return True
        if toleration.get("key") == taint["key"] and toleration.get("value", "") == taint.get(
            "value", ""
        ):
            return True
    return False


def node(name, cpu="64", memory="512Gi", pods="10000", labels=None, **extended):
    """A node as it registers itself; `extended` are further resources by name."""
    stock = {
        "cpu": cpu,
        "memory": memory,
        "pods": pods,
        **{resource: str(count) for resource, count in extended.items()},
    }
    return {
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                **(labels or {}),
            },
        },
        "spec": {},
        "status": {},
    }, {
        "capacity": stock,
        "allocatable": dict(stock),
        "nodeInfo": {"kubeletVersion": "v1.34.0", "operatingSystem": "linux"},
    }
