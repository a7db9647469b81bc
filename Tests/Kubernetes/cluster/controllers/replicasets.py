"""ReplicaSets: as many pods as asked for; which go first follows upstream's ranks."""

import functools
import math

from .. import clock, status
from ..store import copy
from . import base

BURST_PODS = 500
COST = "controller.kubernetes.io/pod-deletion-cost"
KEY = ("apps", "replicasets")


def _cost(pod):
    text = (pod["metadata"].get("annotations") or {}).get(COST, "0")
    try:
        number = int(text)
    except ValueError:
        return 0
    return number if -(1 << 31) <= number < 1 << 31 else 0


def _ready_time(pod):
    found = base.condition(pod, "Ready")
    if found and found["status"] == "True":
        return clock.parse_stamp(found["lastTransitionTime"])
    return None


def _rank_difference(first, second, now):
    """Ages compared by powers of two of nanoseconds, so that near equals are chosen at random."""

    def rank(moment):
        age = (now - moment) * 1e9
        return int(math.log2(age)) if age > 0 else -1

    return rank(first) - rank(second)


def _by_age(first, second, now, uids):
    """The younger first; those of about the same age by their uids."""
    if first is None or second is None:
        # One without the time counts as the youngest.
        return 0 if first is second else -1 if first is None else 1
    if first == second:
        return 0
    difference = _rank_difference(first, second, now)
    if difference:
        return difference
    return -1 if uids[0] < uids[1] else 1


def _restarts(pod):
    return max(
        [s.get("restartCount", 0) for s in pod["status"].get("containerStatuses") or ()], default=0
    )


def deletion_order(pods, related):
    """The pods, those to go first in front; `related` are all pods of the same owner."""
    per_node = {}
    for pod in related:
        if base.is_active(pod):
            node = pod["spec"].get("nodeName")
            per_node[node] = per_node.get(node, 0) + 1
    now = clock.parse_stamp(clock.micro_stamp())
    phases = {"Pending": 0, "Unknown": 1, "Running": 2}

    def compare(a, b):
        for first, second in (
            (bool(a["spec"].get("nodeName")), bool(b["spec"].get("nodeName"))),
            (phases.get(a["status"].get("phase"), 0), phases.get(b["status"].get("phase"), 0)),
            (base.is_ready(a), base.is_ready(b)),
            (_cost(a), _cost(b)),
            (
                -per_node.get(a["spec"].get("nodeName"), 0),
                -per_node.get(b["spec"].get("nodeName"), 0),
            ),
        ):
            if first != second:
                return -1 if first < second else 1
        uids = (a["metadata"]["uid"], b["metadata"]["uid"])
        if base.is_ready(a) and base.is_ready(b):
            difference = _by_age(_ready_time(a), _ready_time(b), now, uids)
            if difference:
                return difference
        if _restarts(a) != _restarts(b):
            return -1 if _restarts(a) > _restarts(b) else 1
        return _by_age(
            clock.parse_stamp(a["metadata"]["creationTimestamp"]),
            clock.parse_stamp(b["metadata"]["creationTimestamp"]),
            now,
            uids,
        )

    return sorted(pods, key=functools.cmp_to_key(compare))


def claim(controller, resource, owner, pods):
    """The pods that an owner controls, after orphans that fit were adopted and others let go."""
    picks = base.matches(owner["spec"]["selector"])
    mine, uid = [], owner["metadata"]["uid"]
    for pod in pods:
        holder = base.controller_of(pod)
        fits = picks(pod["metadata"].get("labels"))
        if holder and holder["uid"] == uid:
            if fits or owner["metadata"].get("deletionTimestamp"):
                mine.append(pod)
            else:
                changed = copy(pod)
                changed["metadata"]["ownerReferences"] = [
                    o for o in changed["metadata"]["ownerReferences"] if o["uid"] != uid
                ]
                controller.cluster.update("pods", changed)
        elif (
            not holder
            and fits
            and base.is_active(pod)
            and not owner["metadata"].get("deletionTimestamp")
        ):
            changed = copy(pod)
            changed["metadata"].setdefault("ownerReferences", []).append(
                base.reference(resource, owner)
            )
            mine.append(controller.cluster.update("pods", changed))
    return mine


def pod_from_template(resource, owner, template):
    """A new pod's metadata and spec."""
    meta = copy(template.get("metadata") or {})
    meta.pop("creationTimestamp", None)
    meta.pop("name", None)
    meta["ownerReferences"] = [base.reference(resource, owner)]
    return {"metadata": meta, "spec": copy(template["spec"])}


class ReplicaSets(base.Controller):
    name = "replicaset-controller"

    def __init__(self, cluster):
        super().__init__(cluster)
        self.watches = {KEY: base.own_key, ("", "pods"): self._pod_keys}
        self.resource = cluster.registry.get(*KEY)

    def _pod_keys(self, event):
        found = set(base.controlled_by("ReplicaSet")(event))
        if not base.controller_of(event.object):
            namespace = event.object["metadata"]["namespace"]
            found |= {
                base.key_of(owner)
                for owner in self.store.objects(KEY, namespace)
                if base.matches(owner["spec"]["selector"])(event.object["metadata"].get("labels"))
            }
        return found

    def sync(self, key):
        owner = self.find("replicasets", *key, group="apps")
        if owner is None:
            return
        pods = claim(self, self.resource, owner, self._candidates(owner))
        active = [pod for pod in pods if base.is_active(pod)]
        failure = None
        if not owner["metadata"].get("deletionTimestamp"):
            failure = self._replicate(owner, active)
        self._report(key, failure)
        if failure:
            raise failure

    def _candidates(self, owner):
        dependents = [
            value
            for kind, value in self.store.dependents(owner["metadata"]["uid"])
            if kind == ("", "pods")
        ]
        orphans = [
            pod
            for pod in self.pods(owner["metadata"]["namespace"], owner["spec"]["selector"])
            if not pod["metadata"].get("ownerReferences")
        ]
        return dependents + orphans

    def _replicate(self, owner, active):
        """Creates or deletes pods; the refusal if one could not be created."""
        missing = owner["spec"]["replicas"] - len(active)
        namespace = owner["metadata"]["namespace"]
        for _ in range(min(missing, BURST_PODS)):
            pod = pod_from_template(self.resource, owner, owner["spec"]["template"])
            pod["metadata"]["generateName"] = owner["metadata"]["name"] + "-"
            try:
                made = self.cluster.create("pods", namespace, pod)
            except status.ApiError as error:
                self.event(owner, "Warning", "FailedCreate", f"Error creating: {error.message}")
                return error
            self.event(
                owner, "Normal", "SuccessfulCreate", f"Created pod: {made['metadata']['name']}"
            )
        if missing > BURST_PODS:
            self.queue.add(base.key_of(owner))
        if missing < 0:
            related = self._related(owner)
            for pod in deletion_order(active, related)[:-missing]:
                self.cluster.delete("pods", namespace, pod["metadata"]["name"])
                self.event(
                    owner, "Normal", "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}"
                )
        return None

    def _related(self, owner):
        """The pods of all ReplicaSets of the same Deployment."""
        above = base.controller_of(owner)
        owners = [owner]
        if above:
            owners = [value for kind, value in self.store.dependents(above["uid"]) if kind == KEY]
        return [
            pod
            for each in owners
            for kind, pod in self.store.dependents(each["metadata"]["uid"])
            if kind == ("", "pods")
        ]

    def _report(self, key, failure):
        owner = self.find("replicasets", *key, group="apps")
        if owner is None:
            return
        uid = owner["metadata"]["uid"]
        pods = [p for kind, p in self.store.dependents(uid) if kind == ("", "pods")]
        active = [pod for pod in pods if base.is_active(pod)]
        labels = (owner["spec"]["template"]["metadata"].get("labels") or {}).items()
        now = {
            "replicas": len(active),
            "observedGeneration": owner["metadata"]["generation"],
        }
        counts = {
            "fullyLabeledReplicas": sum(
                labels <= (p["metadata"].get("labels") or {}).items() for p in active
            ),
            "readyReplicas": sum(base.is_ready(p) for p in active),
            "availableReplicas": available(self, owner, active, key),
        }
        now.update({name: count for name, count in counts.items() if count})
        conditions = (owner.get("status") or {}).get("conditions") or []
        if failure:
            conditions = base.with_condition(
                conditions, "ReplicaFailure", "True", "FailedCreate", failure.message
            )
        else:
            conditions = [c for c in conditions if c["type"] != "ReplicaFailure"]
        if conditions:
            now["conditions"] = conditions
        if now != owner.get("status"):
            self.cluster.update("replicasets", {**copy(owner), "status": now}, "apps", "status")


def available(controller, owner, pods, key):
    """How many pods were ready for long enough; looks again when the next one will have been."""
    wanted, count, soonest = owner["spec"].get("minReadySeconds", 0), 0, None
    for pod in pods:
        if not base.is_ready(pod):
            continue
        left = (
            wanted - controller.seconds_since(base.condition(pod, "Ready")["lastTransitionTime"])
            if wanted
            else 0
        )
        if left <= 0:
            count += 1
        else:
            soonest = left if soonest is None else min(soonest, left)
    if soonest is not None:
        controller.queue.add_after(key, soonest + 0.01)
    return count
