"""What controllers share: a queue of keys, owners, and events about objects."""

import asyncio
import collections

from .. import clock, selectors, status

RETRY_SECONDS = (0.05, 30.0)


class Controller:
    """Brings one kind of object to what it asks for; `sync` runs between two turns of the loop."""

    # What it watches: (group, plural) to a function from an event to the keys to look at.
    watches = {}

    def __init__(self, cluster):
        self.cluster = cluster
        self.store = cluster.store
        self.api = cluster.api
        self.queue = None

    def sync(self, key):
        raise NotImplementedError

    def find(self, plural, namespace, name, group=""):
        return self.store.get((group, plural), namespace, name)

    def pods(self, namespace, selector):
        """The pods of a namespace that a LabelSelector picks."""
        labels = (selector or {}).get("matchLabels")
        found = (
            self.store.select(("", "pods"), namespace, labels)
            if labels
            else self.store.objects(("", "pods"), namespace)
        )
        picks = matches(selector)
        return [pod for pod in found if picks(pod["metadata"].get("labels"))]

    def event(self, value, kind, reason, note):
        record(self.cluster, value, kind, reason, note, self.name)

    def seconds_since(self, stamp):
        """Seconds of the cluster's clock since a time stamp."""
        elapsed = clock.parse_stamp(clock.micro_stamp()) - clock.parse_stamp(stamp)
        return elapsed * max(self.cluster.clock.scale, 0.0)


class Queue:
    """The keys that a controller has to look at: each once, again later after a failure."""

    def __init__(self, cluster, controller):
        self.cluster, self.controller = cluster, controller
        self.keys = collections.OrderedDict()
        self.failures = collections.Counter()
        self.timers = {}
        self.wake = asyncio.Event()
        self.task = None
        controller.queue = self

    def add(self, key):
        self.keys[key] = True
        self.wake.set()

    def add_after(self, key, seconds):
        """Looks at a key again later, unless it is to be looked at sooner already."""
        if key in self.timers and not self.timers[key].done():
            return
        self.timers[key] = asyncio.ensure_future(self._later(key, seconds))

    async def _later(self, key, seconds):
        await self.cluster.clock.sleep(seconds)
        self.timers.pop(key, None)
        self.add(key)

    def start(self):
        self.task = asyncio.ensure_future(self._run())

    def stop(self):
        for task in [self.task, *self.timers.values()]:
            if task:
                task.cancel()

    async def _run(self):
        while True:
            await self.wake.wait()
            # Without the server, nothing is read and nothing is written.
            await self.cluster.server.running.wait()
            if not self.keys:
                self.wake.clear()
                continue
            key, _ = self.keys.popitem(last=False)
            try:
                self.controller.sync(key)
                self.failures.pop(key, None)
            except status.ApiError:
                self.failures[key] += 1
                low, high = RETRY_SECONDS
                self.add_after(key, min(high, low * 2 ** min(self.failures[key], 16)))
            await asyncio.sleep(0)


def key_of(value):
    meta = value["metadata"]
    return (meta.get("namespace", ""), meta["name"])


def own_key(event):
    """For the kind that a controller is about."""
    return (key_of(event.object),)


def controller_of(value):
    """The owner that controls an object, or None."""
    for owner in value["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            return owner
    return None


def controlled_by(kind):
    """For what a controller made: the key of its maker, before and after the change."""

    def keys(event):
        for value in (event.object, event.previous):
            owner = controller_of(value) if value else None
            if owner and owner["kind"] == kind:
                yield (value["metadata"].get("namespace", ""), owner["name"])

    return keys


def reference(resource, value):
    """The owner reference by which an object is controlled."""
    meta = value["metadata"]
    return {
        "apiVersion": resource.api_version(),
        "kind": resource.kind,
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def condition(value, kind):
    for found in (value.get("status") or {}).get("conditions") or ():
        if found["type"] == kind:
            return found
    return None


def with_condition(conditions, kind, state, reason, message, touch=False):
    """The conditions with one set; its transition time moves when its status does."""
    now = clock.stamp()
    old = next((c for c in conditions if c["type"] == kind), None)
    if (
        old
        and old["status"] == state
        and old.get("reason") == reason
        and old.get("message") == message
        and not touch
    ):
        return list(conditions)
    new = {
        "type": kind,
        "status": state,
        "reason": reason,
        "message": message,
        "lastTransitionTime": old["lastTransitionTime"] if old and old["status"] == state else now,
    }
    if kind in ("Progressing", "Available", "ReplicaFailure"):
        new["lastUpdateTime"] = now
    return [new if c["type"] == kind else c for c in conditions] + ([] if old else [new])


def is_ready(pod):
    found = condition(pod, "Ready")
    return bool(found) and found["status"] == "True"


def is_active(pod):
    return pod["status"].get("phase") not in ("Succeeded", "Failed") and not pod["metadata"].get(
        "deletionTimestamp"
    )


def matches(selector):
    return selectors.label_selector(selector)


def record(cluster, value, kind, reason, note, component):
    """An event about an object, as the cluster's own components write them; repeats are counted."""
    meta = value["metadata"]
    namespace = meta.get("namespace") or "default"
    resource = cluster.registry.get("events.k8s.io", "events")
    name = f"{meta['name']}.{abs(hash((meta.get('uid'), reason, note, component))):x}"[:253]
    old = cluster.store.get(resource.key, namespace, name)
    now = clock.stamp()
    if old:
        new = {
            **old,
            "metadata": dict(old["metadata"]),
            "deprecatedLastTimestamp": now,
            "deprecatedCount": old.get("deprecatedCount", 1) + 1,
        }
        cluster.store.put(resource.key, new)
        return
    about = {
        "kind": value["kind"],
        "apiVersion": value["apiVersion"],
        "name": meta["name"],
        "namespace": meta.get("namespace", ""),
        "uid": meta.get("uid", ""),
    }
    try:
        cluster.create(
            "events",
            namespace,
            {
                "metadata": {"name": name},
                "eventTime": None,
                "regarding": about,
                "reason": reason,
                "type": kind,
                "note": note,
                "deprecatedSource": {"component": component},
                "deprecatedFirstTimestamp": now,
                "deprecatedLastTimestamp": now,
                "deprecatedCount": 1,
                "reportingController": component,
            },
            "events.k8s.io",
        )
    except status.ApiError:
        pass  # the namespace is going; nobody will look for its events
