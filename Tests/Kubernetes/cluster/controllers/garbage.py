"""What is left of owners: dependents go with them, before them, or are let go."""

from ..store import copy
from . import base


class Garbage(base.Controller):
    """Keys are (namespace, name, group, plural) of the owner or dependent to look at."""

    name = "garbage-collector"

    def __init__(self, cluster):
        super().__init__(cluster)
        self.watches = _Everything(self._keys)

    def _keys(self, key, event):
        meta = event.object["metadata"]
        if event.type == "DELETED":
            for kind, value in self.store.dependents(meta["uid"]):
                yield (*base.key_of(value), *kind)
            for owner in meta.get("ownerReferences") or ():
                yield from self._owner_key(meta, owner)
        elif (
            meta.get("ownerReferences")
            and event.type == "ADDED"
            or {"orphan", "foregroundDeletion"} & set(meta.get("finalizers") or ())
        ):
            yield (*base.key_of(event.object), *key)

    def _owner_key(self, meta, owner):
        resource = self._resource(owner)
        if resource:
            yield (
                meta.get("namespace", "") if resource.namespaced else "",
                owner["name"],
                *resource.key,
            )

    def _resource(self, owner):
        group = owner["apiVersion"].rpartition("/")[0]
        return self.cluster.registry.by_kind(group, owner["kind"])

    def sync(self, key):
        namespace, name, *kind = key
        value = self.store.get(tuple(kind), namespace, name)
        resource = self.cluster.registry.resources.get(tuple(kind))
        if value is None or resource is None:
            return
        finalizers = value["metadata"].get("finalizers") or ()
        if value["metadata"].get("deletionTimestamp"):
            if "orphan" in finalizers:
                self._let_go(resource, value)
            elif "foregroundDeletion" in finalizers:
                self._delete_first(resource, value)
            return
        self._follow_owner(resource, value)

    def _follow_owner(self, resource, value):
        """A dependent whose owners are all gone goes too."""
        owners = value["metadata"].get("ownerReferences") or ()
        if not owners:
            return
        for owner in owners:
            above = self._resource(owner)
            if above is None:
                return  # upstream waits for a kind that it does not know
            place = value["metadata"].get("namespace", "") if above.namespaced else ""
            found = self.store.get(above.key, place, owner["name"])
            if found and found["metadata"]["uid"] == owner["uid"]:
                return
        meta = value["metadata"]
        self.api.delete(
            resource,
            meta.get("namespace", ""),
            meta["name"],
            {"propagationPolicy": "Background", "preconditions": {"uid": meta["uid"]}},
        )

    def _let_go(self, resource, value):
        uid = value["metadata"]["uid"]
        for kind, dependent in self.store.dependents(uid):
            changed = copy(dependent)
            left = [o for o in changed["metadata"]["ownerReferences"] if o["uid"] != uid]
            changed["metadata"]["ownerReferences"] = left
            if not left:
                changed["metadata"].pop("ownerReferences")
            self.store.put(kind, changed)
        self._without(resource, value, "orphan")

    def _delete_first(self, resource, value):
        blocking = 0
        for kind, dependent in self.store.dependents(value["metadata"]["uid"]):
            meta = dependent["metadata"]
            blocking += any(
                o["uid"] == value["metadata"]["uid"] and o.get("blockOwnerDeletion")
                for o in meta["ownerReferences"]
            )
            if not meta.get("deletionTimestamp"):
                self.api.delete(
                    self.cluster.registry.resources[kind],
                    meta.get("namespace", ""),
                    meta["name"],
                    {"propagationPolicy": "Foreground"} if kind != ("", "pods") else {},
                )
        left = [
            d
            for _, d in self.store.dependents(value["metadata"]["uid"])
            if any(
                o["uid"] == value["metadata"]["uid"] and o.get("blockOwnerDeletion")
                for o in d["metadata"]["ownerReferences"]
            )
        ]
        if not left:
            self._without(resource, value, "foregroundDeletion")

    def _without(self, resource, value, finalizer):
        meta = value["metadata"]
        live = self.store.get(resource.key, meta.get("namespace", ""), meta["name"])
        if live is None:
            return
        changed = copy(live)
        changed["metadata"]["finalizers"] = [
            f for f in changed["metadata"].get("finalizers") or () if f != finalizer
        ]
        if not changed["metadata"]["finalizers"]:
            changed["metadata"].pop("finalizers")
        self.api.update(resource, meta.get("namespace", ""), meta["name"], changed)


class _Everything:
    """A table of watches that has every kind."""

    def __init__(self, keys):
        self.keys = keys

    def get(self, key):
        return lambda event: self.keys(key, event)

    def items(self):
        return ()
