"""What the cluster knows: objects by kind, one counter of versions, and the history of each kind.

Objects are never changed in place: whoever wants another one stores another one. A history is
bounded; a watch or a snapshot that would need what fell out of it is refused as expired, as it is
when etcd was compacted.
"""

import collections

import orjson

from . import status

HISTORY_MAX = 100_000
WATCHER_BACKLOG_MAX = 100_000


def copy(value):
    """A deep copy of JSON."""
    return orjson.loads(orjson.dumps(value))


class Event:
    """One change: the object after it (before it, for a deletion) and what was there before."""

    __slots__ = ("type", "version", "object", "previous", "frames")

    def __init__(self, kind, version, value, previous):
        self.type, self.version, self.object, self.previous = kind, version, value, previous
        self.frames = {}


class Watcher:
    """The events of one kind that one stream has not sent yet."""

    def __init__(self, wake):
        self.backlog = collections.deque()
        self.wake = wake
        self.overflowed = False

    def push(self, event):
        if len(self.backlog) >= WATCHER_BACKLOG_MAX:
            self.overflowed = True
        else:
            self.backlog.append(event)
        self.wake()


class Kind:
    """All objects of one kind, by (namespace, name), and their history."""

    def __init__(self):
        self.objects = {}
        self.history = collections.deque()
        self.watchers = set()
        # Events up to this version are gone.
        self.floor = 0
        # The places of the objects by (namespace, label, value).
        self.labels = collections.defaultdict(dict)


class Store:
    def __init__(self, history=HISTORY_MAX):
        self.version = 1000
        self.history_max = history
        self.kinds = collections.defaultdict(Kind)
        # Snapshots before this version are gone.
        self.compacted = 0
        self.owners = collections.defaultdict(dict)
        self.listeners = []

    def get(self, key, namespace, name):
        return self.kinds[key].objects.get((namespace or "", name))

    def select(self, key, namespace, labels):
        """The objects of a namespace that have all these labels, of which there is at least one."""
        index = self.kinds[key].labels
        sets = [index.get((namespace, name, value), {}) for name, value in labels.items()]
        smallest = min(sets, key=len)
        found = self.kinds[key].objects
        return [
            found[place]
            for place in list(smallest)
            if labels.items() <= found[place]["metadata"]["labels"].items()
        ]

    def objects(self, key, namespace=None):
        """The objects of a kind, in the order of namespace and name."""
        found = self.kinds[key].objects
        if namespace is not None:
            return [found[k] for k in sorted(k for k in found if k[0] == namespace)]
        return [found[k] for k in sorted(found)]

    def put(self, key, value):
        """Stores an object under the next version, which it gets."""
        kind = self.kinds[key]
        meta = value["metadata"]
        place = (meta.get("namespace", ""), meta["name"])
        previous = kind.objects.get(place)
        self.version += 1
        meta["resourceVersion"] = str(self.version)
        kind.objects[place] = value
        self._index(key, place, previous, value)
        self._record(
            key, kind, Event("MODIFIED" if previous else "ADDED", self.version, value, previous)
        )
        return value

    def remove(self, key, namespace, name):
        """Takes an object away; returns it as it was, under the version of its deletion."""
        kind = self.kinds[key]
        place = (namespace or "", name)
        previous = kind.objects.pop(place)
        self.version += 1
        last = {
            **previous,
            "metadata": {**previous["metadata"], "resourceVersion": str(self.version)},
        }
        self._index(key, place, previous, None)
        self._record(key, kind, Event("DELETED", self.version, last, previous))
        return last

    def _record(self, key, kind, event):
        kind.history.append(event)
        while len(kind.history) > self.history_max:
            kind.floor = kind.history.popleft().version
        for watcher in tuple(kind.watchers):
            watcher.push(event)
        for listener in self.listeners:
            listener(key, event)

    def _index(self, key, place, before, after):
        """Keeps who is owned by whom, by the owners' uid, and what has which label."""
        self._index_labels(self.kinds[key].labels, place, before, after)
        for owner in (before or {}).get("metadata", {}).get("ownerReferences", ()):
            self.owners[owner["uid"]].pop((key, place), None)
            if not self.owners[owner["uid"]]:
                del self.owners[owner["uid"]]
        for owner in (after or {}).get("metadata", {}).get("ownerReferences", ()):
            self.owners[owner["uid"]][(key, place)] = True

    @staticmethod
    def _index_labels(index, place, before, after):
        old = (before or {}).get("metadata", {}).get("labels") or {}
        new = (after or {}).get("metadata", {}).get("labels") or {}
        if old == new:
            return
        for name, value in old.items():
            entry = index[(place[0], name, value)]
            entry.pop(place, None)
            if not entry:
                del index[(place[0], name, value)]
        for name, value in new.items():
            index[(place[0], name, value)][place] = True

    def dependents(self, uid):
        """(kind, object) of everything that names the owner."""
        return [
            (key, self.kinds[key].objects[place]) for key, place in tuple(self.owners.get(uid, ()))
        ]

    def compact(self, version=None):
        """Forgets the history up to a version: watches and lists from before it are refused."""
        version = self.version if version is None else version
        self.compacted = max(self.compacted, version)
        for kind in self.kinds.values():
            kind.floor = max(kind.floor, version)
            while kind.history and kind.history[0].version <= version:
                kind.history.popleft()

    def events_since(self, key, version):
        """The events after a version; refused when some of them are gone."""
        kind = self.kinds[key]
        if version < kind.floor:
            raise status.too_old(version, kind.floor)
        found = []
        for event in reversed(kind.history):
            if event.version <= version:
                break
            found.append(event)
        return found[::-1]

    def snapshot(self, key, version):
        """The objects of a kind as they were at a version."""
        kind = self.kinds[key]
        if version >= self.version:
            return dict(kind.objects)
        if version < max(kind.floor, self.compacted):
            return None
        objects = dict(kind.objects)
        for event in reversed(kind.history):
            if event.version <= version:
                break
            meta = event.object["metadata"]
            place = (meta.get("namespace", ""), meta["name"])
            if event.previous is None:
                objects.pop(place, None)
            else:
                objects[place] = event.previous
        return objects

    def watch(self, key, wake):
        watcher = Watcher(wake)
        self.kinds[key].watchers.add(watcher)
        return watcher

    def unwatch(self, key, watcher):
        self.kinds[key].watchers.discard(watcher)
