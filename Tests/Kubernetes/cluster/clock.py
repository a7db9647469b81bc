"""The clock of the cluster's pretences: cold starts, back-offs, deadlines of the controllers.

It runs `scale` times as fast as real time, and can be moved on by hand; a scale of 0 stands still
until that. What clients measure themselves (leases, watches, time stamps) stays real.
"""

import asyncio
import datetime
import heapq
import itertools
import time


def stamp():
    """Now as `metav1.Time`."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_stamp():
    """Now as `metav1.MicroTime`."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_stamp(text):
    """Seconds since 1970 of a time stamp."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def stamp_after(seconds):
    moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Clock:
    def __init__(self, scale=1.0):
        self.scale = scale
        self._base = 0.0
        self._since = time.monotonic()
        self._sleepers = []
        self._order = itertools.count()
        self._timer = None

    def now(self):
        """Seconds since the clock was made, on its own scale."""
        return self._base + (time.monotonic() - self._since) * self.scale

    def set_scale(self, scale):
        self._base, self._since, self.scale = self.now(), time.monotonic(), scale
        self._arm()

    def advance(self, seconds):
        self._base += seconds
        self._arm()

    async def sleep(self, seconds):
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now() + seconds, next(self._order), future))
        self._arm()
        await future

    def _arm(self):
        """Wakes those whose time has come and sets the timer for the next."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        now = self.now()
        while self._sleepers and (self._sleepers[0][0] <= now or self._sleepers[0][2].done()):
            future = heapq.heappop(self._sleepers)[2]
            if not future.done():
                future.set_result(None)
        if self._sleepers and self.scale > 0:
            delay = max(0.0, (self._sleepers[0][0] - now) / self.scale)
            self._timer = asyncio.get_running_loop().call_later(delay, self._arm)
