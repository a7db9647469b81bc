"""Definitions that go: their objects go first."""

from ..custom import CRD
from ..store import copy
from . import base

FINALIZER = "customresourcecleanup.apiextensions.k8s.io"


class DefinitionCleanup(base.Controller):
    name = "crd-finalizer"

    def __init__(self, cluster):
        super().__init__(cluster)
        self.watches = {CRD: base.own_key}

    def sync(self, key):
        value = self.store.get(CRD, *key)
        if value is None or not value["metadata"].get("deletionTimestamp"):
            return
        group, plural = value["spec"]["group"], value["spec"]["names"]["plural"]
        resource = self.cluster.registry.resources.get((group, plural))
        left = 0
        for item in self.store.objects((group, plural)) if resource else ():
            left += 1
            if not item["metadata"].get("deletionTimestamp"):
                _, gone = self.api.delete(
                    resource, item["metadata"].get("namespace", ""), item["metadata"]["name"]
                )
                left -= gone
        if left:
            self.queue.add_after(key, 0.1)
            return
        changed = copy(value)
        changed["metadata"]["finalizers"] = [
            f for f in changed["metadata"].get("finalizers") or () if f != FINALIZER
        ]
        if not changed["metadata"]["finalizers"]:
            changed["metadata"].pop("finalizers")
        self.api.update(self.cluster.registry.get(*CRD), "", key[1], changed)
