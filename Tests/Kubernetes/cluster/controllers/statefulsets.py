"""StatefulSets: pods with numbers, in order; a new template replaces the highest number first."""

from .. import status
from ..store import copy
from . import base
from .deployments import template_hash
from .replicasets import available, pod_from_template

KEY = ("apps", "statefulsets")
REVISION = "controller-revision-hash"


def ordinal(pod):
    return int(pod["metadata"]["name"].rpartition("-")[2])


class StatefulSets(base.Controller):
    name = "statefulset-controller"

    def __init__(self, cluster):
        super().__init__(cluster)
        self.watches = {KEY: base.own_key, ("", "pods"): base.controlled_by("StatefulSet")}
        self.resource = cluster.registry.get(*KEY)

    def sync(self, key):
        owner = self.store.get(KEY, *key)
        if owner is None:
            return
        revision = f"{key[1]}-{template_hash(owner['spec']['template'], 0)}"
        pods = {
            ordinal(p): p
            for kind, p in self.store.dependents(owner["metadata"]["uid"])
            if kind == ("", "pods")
        }
        if not owner["metadata"].get("deletionTimestamp"):
            self._step(owner, pods, revision)
        self._report(owner, revision, key)

    def _step(self, owner, pods, revision):
        """Creates what is missing from below, then deletes from above; one by one if in order."""
        replicas = owner["spec"]["replicas"]
        ordered = owner["spec"]["podManagementPolicy"] != "Parallel"
        for number in range(replicas):
            pod = pods.get(number)
            if pod is None:
                self._make(owner, number, revision)
                if ordered:
                    return
            elif ordered and (not base.is_ready(pod) or pod["metadata"].get("deletionTimestamp")):
                return
        for number in sorted((n for n in pods if n >= replicas), reverse=True):
            self._delete(pods[number])
            if ordered:
                return
        strategy = owner["spec"]["updateStrategy"]
        if strategy.get("type") == "OnDelete":
            return
        first = (strategy.get("rollingUpdate") or {}).get("partition", 0)
        for number in range(replicas - 1, first - 1, -1):
            pod = pods.get(number)
            if pod is None or not base.is_ready(pod):
                return
            if (pod["metadata"].get("labels") or {}).get(REVISION) != revision:
                self._delete(pod)
                return

    def _make(self, owner, number, revision):
        pod = pod_from_template(self.resource, owner, owner["spec"]["template"])
        name = f"{owner['metadata']['name']}-{number}"
        pod["metadata"]["name"] = name
        pod["metadata"].setdefault("labels", {}).update(
            {
                REVISION: revision,
                "statefulset.kubernetes.io/pod-name": name,
                "apps.kubernetes.io/pod-index": str(number),
            }
        )
        pod["spec"]["hostname"] = name
        pod["spec"]["subdomain"] = owner["spec"].get("serviceName", "")
        try:
            self.cluster.create("pods", owner["metadata"]["namespace"], pod)
        except status.ApiError as error:
            self.event(
                owner,
                "Warning",
                "FailedCreate",
                f"create Pod {name} in StatefulSet {owner['metadata']['name']} failed error:"
                f" {error.message}",
            )
            raise

    def _delete(self, pod):
        if not pod["metadata"].get("deletionTimestamp"):
            self.cluster.delete("pods", pod["metadata"]["namespace"], pod["metadata"]["name"])

    def _report(self, owner, revision, key):
        owner = self.store.get(KEY, *key)
        pods = [
            p for kind, p in self.store.dependents(owner["metadata"]["uid"]) if kind == ("", "pods")
        ]
        active = [p for p in pods if base.is_active(p)]
        fresh = [p for p in active if (p["metadata"].get("labels") or {}).get(REVISION) == revision]
        before = owner.get("status") or {}
        now = {
            "observedGeneration": owner["metadata"]["generation"],
            "replicas": len(pods),
            "readyReplicas": sum(base.is_ready(p) for p in active),
            "availableReplicas": available(self, owner, active, key),
            "updatedReplicas": len(fresh),
            "updateRevision": revision,
            "currentRevision": revision
            if len(fresh) == owner["spec"]["replicas"]
            else before.get("currentRevision", revision),
            "collisionCount": 0,
        }
        now["currentReplicas"] = sum(
            (p["metadata"].get("labels") or {}).get(REVISION) == now["currentRevision"]
            for p in active
        )
        if now != before:
            self.cluster.update("statefulsets", {**copy(owner), "status": now}, "apps", "status")
