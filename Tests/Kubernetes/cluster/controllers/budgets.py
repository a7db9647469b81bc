"""Disruption budgets and quotas: what is used, and what is left."""

from .. import admission, quantity
from ..quantity import percent_or_count
from ..store import copy
from . import base

BUDGETS = ("policy", "poddisruptionbudgets")
QUOTAS = ("", "resourcequotas")


class Budgets(base.Controller):
    name = "disruption-controller"

    def __init__(self, cluster):
        super().__init__(cluster)
        self.watches = {BUDGETS: base.own_key, ("", "pods"): self._pod_keys}

    def _pod_keys(self, event):
        for budget in self.store.objects(BUDGETS, event.object["metadata"]["namespace"]):
            if base.matches(budget["spec"].get("selector"))(event.object["metadata"].get("labels")):
                yield base.key_of(budget)

    def sync(self, key):
        budget = self.store.get(BUDGETS, *key)
        if budget is None:
            return
        pods = [
            p
            for p in self.pods(key[0], budget["spec"].get("selector"))
            if p["status"].get("phase") not in ("Succeeded", "Failed")
        ]
        expected = self._expected(pods)
        spec = budget["spec"]
        if spec.get("maxUnavailable") is not None:
            missing = percent_or_count(spec["maxUnavailable"], expected, round_up=True)
            desired = max(0, expected - missing)
        else:
            wanted = spec.get("minAvailable", 1)
            desired = percent_or_count(wanted, expected, round_up=True)
            if not isinstance(wanted, str):
                expected = len(pods)
        healthy = sum(base.is_ready(p) and not p["metadata"].get("deletionTimestamp") for p in pods)
        allowed = max(0, healthy - desired) if expected else 0
        now = {
            "observedGeneration": budget["metadata"]["generation"],
            "currentHealthy": healthy,
            "desiredHealthy": desired,
            "expectedPods": expected,
            "disruptionsAllowed": allowed,
        }
        conditions = (budget.get("status") or {}).get("conditions") or []
        reason = "SufficientPods" if allowed else "InsufficientPods"
        now["conditions"] = base.with_condition(
            conditions, "DisruptionAllowed", "True" if allowed else "False", reason, ""
        )
        if now != budget.get("status"):
            self.cluster.update(
                "poddisruptionbudgets", {**copy(budget), "status": now}, "policy", "status"
            )

    def _expected(self, pods):
        """The pods that the owners want, which counts those that are missing."""
        wanted = {}
        for pod in pods:
            owner = base.controller_of(pod)
            if not owner:
                wanted[pod["metadata"]["uid"]] = 1
                continue
            found = self.find(
                "replicasets", pod["metadata"]["namespace"], owner["name"], "apps"
            ) or self.find("statefulsets", pod["metadata"]["namespace"], owner["name"], "apps")
            above = base.controller_of(found) if found else None
            if above and above["kind"] == "Deployment":
                found = (
                    self.find("deployments", pod["metadata"]["namespace"], above["name"], "apps")
                    or found
                )
            if found:
                wanted[found["metadata"]["uid"]] = found["spec"]["replicas"]
        return sum(wanted.values())


class Quotas(base.Controller):
    name = "resourcequota-controller"

    def __init__(self, cluster):
        super().__init__(cluster)
        self.watches = {QUOTAS: base.own_key, ("", "pods"): self._pod_keys}

    def _pod_keys(self, event):
        for quota in self.store.objects(QUOTAS, event.object["metadata"]["namespace"]):
            yield base.key_of(quota)

    def sync(self, key):
        quota = self.store.get(QUOTAS, *key)
        if quota is None:
            return
        used = admission.quota_usage(self.api, quota)
        now = {
            "hard": dict(quota["spec"].get("hard") or {}),
            "used": {name: quantity.show(amount) for name, amount in sorted(used.items())},
        }
        if now != quota.get("status"):
            self.cluster.update("resourcequotas", {**copy(quota), "status": now}, "", "status")
