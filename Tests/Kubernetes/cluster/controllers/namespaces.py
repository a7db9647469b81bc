"""Namespaces: a default service account in each, and nothing left in those that go."""

from .. import status
from ..store import copy
from . import base


class Namespaces(base.Controller):
    name = "namespace-controller"

    def __init__(self, cluster):
        super().__init__(cluster)
        self.watches = {
            ("", "namespaces"): base.own_key,
            ("", "serviceaccounts"): self._account_keys,
        }

    def _account_keys(self, event):
        if event.type == "DELETED":
            yield ("", event.object["metadata"]["namespace"])

    def sync(self, key):
        value = self.find("namespaces", *key)
        if value is None:
            return
        name = key[1]
        if value["metadata"].get("deletionTimestamp"):
            self._empty(name, value)
            return
        if not self.find("serviceaccounts", name, "default"):
            self.cluster.create("serviceaccounts", name, {"metadata": {"name": "default"}})
        if not self.find("configmaps", name, "kube-root-ca.crt"):
            authority = (self.cluster.folder / "pki" / "ca.crt").read_text(encoding="utf-8")
            self.cluster.create(
                "configmaps",
                name,
                {"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": authority}},
            )

    def _empty(self, name, value):
        """Deletes what is in a namespace; lets it go when nothing is left."""
        left = 0
        for resource in list(self.cluster.registry.resources.values()):
            if not resource.namespaced or resource.key == ("", "events"):
                continue
            for item in self.store.objects(resource.key, name):
                left += 1
                if not item["metadata"].get("deletionTimestamp"):
                    try:
                        _, gone = self.api.delete(
                            resource,
                            name,
                            item["metadata"]["name"],
                            {"propagationPolicy": "Background"},
                        )
                        left -= gone
                    except status.ApiError:
                        continue
        if left:
            self.queue.add_after(("", name), 0.1)
        elif value["spec"].get("finalizers"):
            changed = copy(value)
            changed["spec"]["finalizers"] = [
                f for f in changed["spec"]["finalizers"] if f != "kubernetes"
            ]
            self.cluster.finalize(name, changed)
