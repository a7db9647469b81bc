"""Watch streams: the initial state, the changes, the bookmarks, and their ends."""

import asyncio

import orjson
from aiohttp import web

from . import lists, status, table

TIMEOUT_SECONDS = (1800, 3600)
# A bookmark comes this long before the end of a watch, so that the next one starts where it ended.
LAST_BOOKMARK_SECONDS = 2.0
INITIAL_END = "k8s.io/initial-events-end"


class Stopped(Exception):
    """The stream is over."""


def _begin(server, asked):
    """Where a watch begins: the synthetic events it starts with, and the events since."""
    query, store, key = asked.query, server.api.store, asked.resource.key
    listing = query.get("sendInitialEvents")
    match = query.get("resourceVersionMatch")
    if listing is not None:
        if not server.cluster.watch_list:
            raise lists.list_options_invalid(
                status.not_allowed(
                    "sendInitialEvents",
                    "sendInitialEvents is forbidden for watch unless the WatchList"
                    " feature gate is enabled",
                )
            )
        if match != "NotOlderThan":
            raise lists.list_options_invalid(
                status.not_allowed(
                    "resourceVersionMatch",
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                )
            )
    elif match:
        raise lists.list_options_invalid(
            status.not_allowed(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )
        )
    version = lists.version_number(query.get("resourceVersion"))
    if listing == "true" or (listing is None and not version):
        if version and version > store.version:
            raise status.too_large(version, store.version)
        return _state(server, asked), (), listing == "true"
    if listing == "false" and not version:
        return (), (), False
    return (), store.events_since(key, version), False


def _state(server, asked):
    namespace = asked.namespace
    return [
        value
        for value in server.api.store.objects(asked.resource.key)
        if namespace is None or value["metadata"].get("namespace", "") == namespace
    ]


class Stream:
    """One watch: turns events into frames for its client."""

    def __init__(self, server, asked):
        self.server, self.asked = server, asked
        self.store = server.api.store
        if asked.request.name:
            selector = f"metadata.name={asked.request.name}"
            asked.query["fieldSelector"] = ",".join(
                filter(None, (asked.query.get("fieldSelector"), selector))
            )
        self.picks = lists.picker(asked.resource, asked.query)
        self.view = server.cluster.view(asked.resource, asked.version)
        self.as_table = table.wanted(asked.http)
        self.sent = 0
        self.version = self.store.version
        self.faults = asked.faults
        self.first_table = True

    def _in_scope(self, value):
        namespace = self.asked.namespace
        return namespace is None or value["metadata"].get("namespace", "") == namespace

    def frame(self, event):
        """The bytes of an event for this client; None if it does not concern it."""
        if not self._in_scope(event.object):
            return None
        kind = event.type
        if self.picks:
            now = kind != "DELETED" and self.picks(event.object)
            before = event.previous is not None and self.picks(event.previous)
            if not now and not before:
                return None
            kind = "MODIFIED" if now and before else "ADDED" if now else "DELETED"
        value = event.object
        if kind == "DELETED" and event.type != "DELETED":
            # It left the selection: it is told as it was last, under the version of the change.
            version = event.object["metadata"]["resourceVersion"]
            value = {
                **event.previous,
                "metadata": {**event.previous["metadata"], "resourceVersion": version},
            }
        if self.as_table:
            return self.encode(kind, value)
        key = (self.asked.version, kind)
        if key not in event.frames:
            event.frames[key] = self.encode(kind, value)
        return event.frames[key]

    def encode(self, kind, value):
        shown = self.view(value)
        if self.as_table:
            meta = {"resourceVersion": value["metadata"]["resourceVersion"]}
            shown = table.of(
                self.asked.resource,
                self.asked.version,
                [shown],
                meta,
                self.asked.query,
                columns=self.first_table,
            )
            self.first_table = False
        return orjson.dumps({"type": kind, "object": shown}) + b"\n"

    def bookmark(self, version, initial_end=False):
        meta = {"resourceVersion": str(version), "creationTimestamp": None}
        if initial_end:
            meta["annotations"] = {INITIAL_END: "true"}
        value = {
            "kind": self.asked.resource.kind,
            "apiVersion": self.asked.resource.api_version(self.asked.version),
            "metadata": meta,
        }
        if self.as_table:
            value = {
                "kind": "Table",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": meta,
                "columnDefinitions": None,
                "rows": [],
            }
        return orjson.dumps({"type": "BOOKMARK", "object": value}) + b"\n"

    @staticmethod
    def error(problem):
        return orjson.dumps({"type": "ERROR", "object": problem.body()}) + b"\n"

    async def write(self, response, frame, counted=True):
        """Sends a frame, or does what a fault wants instead."""
        size = self.faults.get("split")
        if size:
            for start in range(0, len(frame), size):
                await response.write(frame[start : start + size])
        else:
            await response.write(frame)
        self.sent += counted
        if counted:
            await self.end_by_fault(response)

    async def end_by_fault(self, response):
        """Ends the stream as a fault wants it, once it has let through what it lets through."""
        end = self.faults.get("end")
        if end is None or self.sent < self.faults.get("after", 0):
            return
        if end == "cut":
            transport = self.asked.http.transport
            if transport is not None:
                transport.abort()
        elif end == "gone":
            await response.write(self.error(status.too_old(self.version, self.store.version)))
        elif end == "stall":
            await asyncio.get_running_loop().create_future()  # until the client or the server goes
        raise Stopped


async def stream(server, asked):
    """Serves a watch to its end."""
    watch = Stream(server, asked)
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    wake = asyncio.Event()
    try:
        state, events, listing = _begin(server, asked)
    except status.ApiError as error:
        if error.code != 410:
            raise
        await response.prepare(asked.http)
        await response.write(watch.error(error))
        await response.write_eof()
        return response
    watcher = server.api.store.watch(asked.resource.key, wake.set)
    watcher.backlog.extend(events)
    version = server.api.store.version
    transport = asked.http.transport
    server.streams.add(transport)
    try:
        await response.prepare(asked.http)
        await watch.end_by_fault(response)
        for value in state:
            if watch.picks is None or watch.picks(value):
                await watch.write(response, watch.encode("ADDED", value))
        if listing and asked.query.get("allowWatchBookmarks") in ("1", "true"):
            await watch.write(response, watch.bookmark(version, True))
        await _follow(server, asked, watch, watcher, wake, response)
        await response.write_eof()
    except (Stopped, ConnectionError, asyncio.CancelledError):
        if not transport.is_closing() and watch.faults.get("end") in ("close", "gone"):
            await response.write_eof()
    finally:
        server.api.store.unwatch(asked.resource.key, watcher)
        server.streams.discard(transport)
    return response


def _seconds(server, asked):
    asked_for = int(asked.query.get("timeoutSeconds") or 0)
    return float(asked_for) if asked_for > 0 else server.api.random.uniform(*TIMEOUT_SECONDS)


async def _follow(server, asked, watch, watcher, wake, response):
    """Sends what happens until the time is over."""
    loop = asyncio.get_running_loop()
    bookmarks = asked.query.get("allowWatchBookmarks") in ("1", "true")
    end = loop.time() + _seconds(server, asked)
    next_bookmark = loop.time() + server.cluster.bookmark_seconds
    last = end - LAST_BOOKMARK_SECONDS
    while True:
        while watcher.backlog:
            event = watcher.backlog.popleft()
            frame = watch.frame(event)
            if frame:
                await watch.write(response, frame)
        if watcher.overflowed:
            return  # too slow a client: it has to begin again
        now = loop.time()
        if now >= end:
            return
        if bookmarks and (now >= next_bookmark or last and now >= last):
            await watch.write(response, watch.bookmark(server.api.store.version), counted=False)
            next_bookmark = now + server.cluster.bookmark_seconds
            if last and now >= last:
                last = None
        wake.clear()
        moments = [end, next_bookmark] + ([last] if last else [])
        try:
            async with asyncio.timeout_at(max(now, min(moments))):
                await wake.wait()
        except TimeoutError:
            pass
