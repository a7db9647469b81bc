"""Deployments: one ReplicaSet for each template, changed over as the strategy says."""

import hashlib
import json

from ..quantity import percent_or_count
from ..store import copy
from . import base
from .replicasets import KEY as REPLICA_SETS

KEY = ("apps", "deployments")
HASH = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"
NOT_COPIED = {
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAXIMUM,
    "deprecated.deployment.rollback.to",
}
ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def template_hash(template, collisions):
    """A short name for a template."""
    text = json.dumps([template, collisions], sort_keys=True)
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    word = ""
    for _ in range(10):
        number, rest = divmod(number, len(ALPHABET))
        word += ALPHABET[rest]
    return word


def _without_hash(template):
    template = copy(template)
    ((template.get("metadata") or {}).get("labels") or {}).pop(HASH, None)
    return template


def _revision(value):
    text = (value["metadata"].get("annotations") or {}).get(REVISION, "0")
    return int(text) if text.isdigit() else 0


def _replicas(sets):
    return sum(each["spec"]["replicas"] for each in sets)


def _count(sets, field):
    return sum((each.get("status") or {}).get(field, 0) for each in sets)


class Deployments(base.Controller):
    name = "deployment-controller"

    def __init__(self, cluster):
        super().__init__(cluster)
        self.watches = {
            KEY: base.own_key,
            REPLICA_SETS: base.controlled_by("Deployment"),
            ("", "pods"): self._pod_keys,
        }
        self.resource = cluster.registry.get(*KEY)

    def _pod_keys(self, event):
        """Recreate waits for the last old pod to be gone."""
        if event.type != "DELETED":
            return
        owner = base.controller_of(event.object)
        if owner and owner["kind"] == "ReplicaSet":
            found = self.find(
                "replicasets", event.object["metadata"]["namespace"], owner["name"], group="apps"
            )
            above = base.controller_of(found) if found else None
            if above:
                yield (event.object["metadata"]["namespace"], above["name"])

    def sync(self, key):
        owner = self.find("deployments", *key, group="apps")
        if owner is None:
            return
        sets = self._owned(owner)
        if owner["metadata"].get("deletionTimestamp"):
            self._report(owner, self._new_set(owner, sets), sets)
            return
        if owner["spec"].get("paused"):
            new = self._new_set(owner, sets)
            self._mark_revision(owner, new, sets)
            self._scale(owner, new, sets)
        elif self._scaling(owner, sets):
            self._scale(owner, self._new_set(owner, sets), sets)
        elif owner["spec"]["strategy"]["type"] == "Recreate":
            self._recreate(owner, sets)
        else:
            self._roll(owner, sets)
        owner = self.find("deployments", *key, group="apps")
        sets = self._owned(owner)
        new = self._new_set(owner, sets)
        if not owner["spec"].get("paused"):
            self._clean_up(owner, new, sets)
        self._report(owner, new, self._owned(owner))

    # ReplicaSets --------------------------------------------------------------------------------

    def _owned(self, owner):
        """Its ReplicaSets, the oldest first."""
        found = [
            copy(value)
            for kind, value in self.store.dependents(owner["metadata"]["uid"])
            if kind == REPLICA_SETS
        ]
        return sorted(
            found,
            key=lambda s: (s["metadata"]["creationTimestamp"], _revision(s), s["metadata"]["name"]),
        )

    def _new_set(self, owner, sets):
        """The ReplicaSet of the present template, or None."""
        wanted = _without_hash(owner["spec"]["template"])
        return next((s for s in sets if _without_hash(s["spec"]["template"]) == wanted), None)

    def _ensure_new(self, owner, sets):
        """The ReplicaSet of the present template, made if there is none, with its revision."""
        new = self._new_set(owner, sets)
        if new is None:
            new = self._make(owner, sets)
            sets.append(new)
        return self._mark_revision(owner, new, sets)

    def _make(self, owner, sets):
        name, namespace = owner["metadata"]["name"], owner["metadata"]["namespace"]
        word = template_hash(
            owner["spec"]["template"], (owner.get("status") or {}).get("collisionCount", 0)
        )
        template = copy(owner["spec"]["template"])
        template["metadata"].setdefault("labels", {})[HASH] = word
        selector = copy(owner["spec"]["selector"])
        selector.setdefault("matchLabels", {})[HASH] = word
        highest = max([_revision(s) for s in sets], default=0)
        spec = {"replicas": 0, "selector": selector, "template": template}
        if owner["spec"].get("minReadySeconds"):
            spec["minReadySeconds"] = owner["spec"]["minReadySeconds"]
        annotations = self._copied(owner)
        annotations[REVISION] = str(highest + 1)
        draft = {"spec": spec}
        replicas = self._new_replicas(owner, sets, draft)
        spec["replicas"] = replicas
        annotations.update(self._bounds(owner))
        made = self.cluster.create(
            "replicasets",
            namespace,
            {
                "metadata": {
                    "name": f"{name}-{word}",
                    "labels": dict(template["metadata"]["labels"]),
                    "annotations": annotations,
                    "ownerReferences": [base.reference(self.resource, owner)],
                },
                "spec": spec,
            },
            "apps",
        )
        if replicas:
            self._say(
                owner, f"Scaled up replica set {made['metadata']['name']} from 0 to {replicas}"
            )
        return copy(made)

    def _copied(self, owner):
        return {
            k: v
            for k, v in (owner["metadata"].get("annotations") or {}).items()
            if k not in NOT_COPIED
        }

    def _bounds(self, owner):
        replicas = owner["spec"]["replicas"]
        return {DESIRED: str(replicas), MAXIMUM: str(replicas + self._surge(owner))}

    def _mark_revision(self, owner, new, sets):
        """Gives the present ReplicaSet the highest revision and the Deployment the same."""
        if new is None:
            return None
        highest = max(
            [_revision(s) for s in sets if s["metadata"]["uid"] != new["metadata"]["uid"]],
            default=0,
        )
        before = dict(new["metadata"].get("annotations") or {})
        annotations = {**before, **self._copied(owner)}
        if _revision(new) <= highest:
            if _revision(new):
                past = [p for p in before.get(HISTORY, "").split(",") if p]
                annotations[HISTORY] = ",".join([*past, str(_revision(new))])
            annotations[REVISION] = str(highest + 1)
        if annotations != before:
            new["metadata"]["annotations"] = annotations
            new = copy(self.cluster.update("replicasets", new, "apps"))
            sets[:] = [new if s["metadata"]["uid"] == new["metadata"]["uid"] else s for s in sets]
        wanted = new["metadata"]["annotations"][REVISION]
        live = self.find("deployments", *base.key_of(owner), group="apps")
        if (live["metadata"].get("annotations") or {}).get(REVISION) != wanted:
            changed = copy(live)
            changed["metadata"].setdefault("annotations", {})[REVISION] = wanted
            self.cluster.update("deployments", changed, "apps")
        return new

    def _set_replicas(self, owner, each, replicas):
        """Scales one ReplicaSet; returns it as it is then."""
        annotations = {**(each["metadata"].get("annotations") or {}), **self._bounds(owner)}
        before = each["spec"]["replicas"]
        if before == replicas and annotations == each["metadata"].get("annotations"):
            return
        each["spec"]["replicas"] = replicas
        each["metadata"]["annotations"] = annotations
        stored = self.cluster.update("replicasets", each, "apps")
        each.clear()
        each.update(copy(stored))
        if before != replicas:
            word = "up" if replicas > before else "down"
            self._say(
                owner,
                f"Scaled {word} replica set {each['metadata']['name']} from {before} to {replicas}",
            )

    def _say(self, owner, note):
        self.event(owner, "Normal", "ScalingReplicaSet", note)

    # Strategies ---------------------------------------------------------------------------------

    def _rolling(self, owner):
        strategy = owner["spec"]["strategy"]
        return strategy.get("rollingUpdate") if strategy["type"] == "RollingUpdate" else None

    def _surge(self, owner):
        rolling = self._rolling(owner)
        if not rolling or owner["spec"]["replicas"] == 0:
            return 0
        return percent_or_count(rolling["maxSurge"], owner["spec"]["replicas"], round_up=True)

    def _max_unavailable(self, owner):
        rolling, replicas = self._rolling(owner), owner["spec"]["replicas"]
        if not rolling or replicas == 0:
            return 0
        found = percent_or_count(rolling["maxUnavailable"], replicas, round_up=False)
        if found == 0 and self._surge(owner) == 0:
            found = 1  # both round to nothing: one of them has to give
        return min(found, replicas)

    def _new_replicas(self, owner, sets, new):
        wanted = owner["spec"]["replicas"]
        if owner["spec"]["strategy"]["type"] == "Recreate":
            return wanted
        room = wanted + self._surge(owner) - _replicas(sets)
        if room <= 0:
            return new["spec"]["replicas"]
        return new["spec"]["replicas"] + min(room, wanted - new["spec"]["replicas"])

    def _recreate(self, owner, sets):
        new = self._new_set(owner, sets)
        old = [s for s in sets if s is not new]
        for each in old:
            if each["spec"]["replicas"]:
                self._set_replicas(owner, each, 0)
        for each in old:
            if any(
                kind == ("", "pods") and pod["status"].get("phase") not in ("Failed", "Succeeded")
                for kind, pod in self.store.dependents(each["metadata"]["uid"])
            ):
                return
        new = self._ensure_new(owner, sets)
        self._set_replicas(owner, new, owner["spec"]["replicas"])

    def _roll(self, owner, sets):
        new = self._ensure_new(owner, sets)
        old = [s for s in sets if s["metadata"]["uid"] != new["metadata"]["uid"]]
        wanted = owner["spec"]["replicas"]
        if new["spec"]["replicas"] > wanted:
            self._set_replicas(owner, new, wanted)
        elif new["spec"]["replicas"] < wanted:
            self._set_replicas(owner, new, self._new_replicas(owner, sets, new))
        if _replicas(old):
            self._shrink_old(owner, new, old)

    def _shrink_old(self, owner, new, old):
        """Takes away old pods: those that do not work first, then as many as may be missing."""
        floor = owner["spec"]["replicas"] - self._max_unavailable(owner)
        missing = new["spec"]["replicas"] - (new.get("status") or {}).get("availableReplicas", 0)
        budget = _replicas(old) + new["spec"]["replicas"] - floor - missing
        for each in old:
            if budget <= 0:
                return
            broken = each["spec"]["replicas"] - (each.get("status") or {}).get(
                "availableReplicas", 0
            )
            step = min(budget, max(0, broken))
            if step:
                self._set_replicas(owner, each, each["spec"]["replicas"] - step)
                budget -= step
        budget = _count([new, *old], "availableReplicas") - floor
        for each in old:
            if budget <= 0:
                return
            step = min(budget, each["spec"]["replicas"])
            if step:
                self._set_replicas(owner, each, each["spec"]["replicas"] - step)
                budget -= step

    # Scaling without a change of the template ---------------------------------------------------

    def _scaling(self, owner, sets):
        """Whether the wish for replicas changed since the ReplicaSets were last looked at."""
        return any(
            each["spec"]["replicas"]
            and (each["metadata"].get("annotations") or {}).get(
                DESIRED, str(owner["spec"]["replicas"])
            )
            != str(owner["spec"]["replicas"])
            for each in sets
        )

    def _scale(self, owner, new, sets):
        active = [s for s in sets if s["spec"]["replicas"]]
        if len(active) == 1 or (not active and new):
            only = active[0] if active else new
            if not active or only is new or not new:
                self._set_replicas(owner, only, owner["spec"]["replicas"])
                return
        if len(active) == 1:
            self._set_replicas(owner, active[0], owner["spec"]["replicas"])
            return
        if self._rolling(owner) is not None and active:
            self._share_out(owner, active)

    def _share_out(self, owner, active):
        """In the middle of a change, each ReplicaSet grows or shrinks by its share."""
        allowed = owner["spec"]["replicas"] + self._surge(owner) if owner["spec"]["replicas"] else 0
        change = allowed - _replicas(active)
        order = sorted(
            active,
            key=lambda s: (s["spec"]["replicas"], s["metadata"]["creationTimestamp"]),
            reverse=True,
        )
        shares, given = {}, 0
        for each in order:
            annotations = each["metadata"].get("annotations") or {}
            before = int(annotations.get(MAXIMUM) or 0) or owner["spec"]["replicas"] or 1
            exact = each["spec"]["replicas"] * allowed / before
            share = int(exact + 0.5) - each["spec"]["replicas"]
            left = change - given
            share = min(share, left) if change > 0 else max(share, left)
            shares[each["metadata"]["name"]] = share
            given += share
        for index, each in enumerate(order):
            share = shares[each["metadata"]["name"]]
            if index == 0:
                share += change - given
            self._set_replicas(owner, each, max(0, each["spec"]["replicas"] + share))

    # Status -------------------------------------------------------------------------------------

    def _clean_up(self, owner, new, sets):
        limit = owner["spec"].get("revisionHistoryLimit", 10)
        idle = [
            s
            for s in sets
            if s is not new
            and not s["spec"]["replicas"]
            and not _count([s], "replicas")
            and not s["metadata"].get("deletionTimestamp")
            and (s.get("status") or {}).get("observedGeneration", 0) >= s["metadata"]["generation"]
        ]
        idle.sort(key=_revision)
        for each in idle[: max(0, len(idle) - limit)]:
            self.cluster.delete(
                "replicasets",
                each["metadata"]["namespace"],
                each["metadata"]["name"],
                "apps",
                propagationPolicy="Background",
            )

    def _report(self, owner, new, sets):
        new = next(
            (s for s in sets if new and s["metadata"]["uid"] == new["metadata"]["uid"]), None
        )
        before = owner.get("status") or {}
        ready = _count(sets, "availableReplicas")
        missing = max(0, _replicas(sets) - ready)
        counts = {
            "replicas": _count(sets, "replicas"),
            "updatedReplicas": _count([new] if new else [], "replicas"),
            "readyReplicas": _count(sets, "readyReplicas"),
            "availableReplicas": ready,
            "unavailableReplicas": missing,
            "collisionCount": before.get("collisionCount", 0),
        }
        now = {"observedGeneration": owner["metadata"]["generation"]}
        now.update({name: count for name, count in counts.items() if count})
        now["conditions"] = self._conditions(owner, new, sets, now, before)
        if not now["conditions"]:
            now.pop("conditions")
        if now != before:
            self.cluster.update("deployments", {**copy(owner), "status": now}, "apps", "status")

    def _conditions(self, owner, new, sets, now, before):
        conditions = list(before.get("conditions") or [])
        enough = now.get("availableReplicas", 0) >= (
            owner["spec"]["replicas"] - self._max_unavailable(owner)
        )
        if enough:
            conditions = base.with_condition(
                conditions,
                "Available",
                "True",
                "MinimumReplicasAvailable",
                "Deployment has minimum availability.",
            )
        else:
            conditions = base.with_condition(
                conditions,
                "Available",
                "False",
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.",
            )
        conditions = self._progress(owner, new, now, before, conditions)
        failure = next(
            (
                base.condition(s, "ReplicaFailure")
                for s in ([new] if new else []) + sets
                if base.condition(s, "ReplicaFailure")
            ),
            None,
        )
        if failure:
            return base.with_condition(
                conditions,
                "ReplicaFailure",
                failure["status"],
                failure["reason"],
                failure["message"],
            )
        return [c for c in conditions if c["type"] != "ReplicaFailure"]

    def _progress(self, owner, new, now, before, conditions):
        spec, key = owner["spec"], base.key_of(owner)
        name = new["metadata"]["name"] if new else ""
        old = next((c for c in conditions if c["type"] == "Progressing"), None)
        if spec.get("paused"):
            if not old or old["reason"] != "ProgressDeadlineExceeded":
                return base.with_condition(
                    conditions, "Progressing", "Unknown", "DeploymentPaused", "Deployment is paused"
                )
            return conditions
        wanted, updated = spec["replicas"], now.get("updatedReplicas", 0)
        complete = (
            updated == wanted
            and now.get("replicas", 0) == wanted
            and now.get("availableReplicas", 0) == wanted
            and now["observedGeneration"] >= owner["metadata"]["generation"]
        )
        if complete and new:
            return base.with_condition(
                conditions,
                "Progressing",
                "True",
                "NewReplicaSetAvailable",
                f'ReplicaSet "{name}" has successfully progressed.',
            )
        progressed = any(
            now.get(f, 0) > before.get(f, 0)
            for f in ("updatedReplicas", "readyReplicas", "availableReplicas")
        ) or (
            now.get("replicas", 0) - updated
            < before.get("replicas", 0) - before.get("updatedReplicas", 0)
        )
        if progressed or not old or (old["reason"] == "DeploymentPaused"):
            reason = "ReplicaSetUpdated" if old else "NewReplicaSetCreated"
            words = (
                f'ReplicaSet "{name}" is progressing.'
                if old
                else f'Created new replica set "{name}"'
            )
            conditions = base.with_condition(
                conditions, "Progressing", "True", reason, words, touch=True
            )
            self.queue.add_after(key, spec["progressDeadlineSeconds"] + 0.05)
            return conditions
        if (
            old["reason"] == "NewReplicaSetAvailable"
            and updated < wanted
            and before.get("updatedReplicas", 0) > updated
        ):
            return base.with_condition(
                conditions,
                "Progressing",
                "True",
                "ReplicaSetUpdated",
                f'ReplicaSet "{name}" is progressing.',
                touch=True,
            )
        return self._deadline(spec, key, name, old, conditions)

    def _deadline(self, spec, key, name, old, conditions):
        """Whether a change has been without progress for too long."""
        if old["reason"] in ("NewReplicaSetAvailable", "ProgressDeadlineExceeded"):
            return conditions
        left = spec["progressDeadlineSeconds"] - self.seconds_since(old["lastUpdateTime"])
        if left > 0:
            self.queue.add_after(key, left + 0.05)
            return conditions
        return base.with_condition(
            conditions,
            "Progressing",
            "False",
            "ProgressDeadlineExceeded",
            f'ReplicaSet "{name}" has timed out progressing.',
        )
