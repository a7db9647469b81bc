"""Faults on purpose: for which requests, what goes wrong, and how often.

A fault is an object: the fields of MATCH say which requests it meets (all of those that are named
must fit; `*` and no field fit everything), the others what happens:

    delay: 1.5           seconds before the request is looked at
    status: 429          refused with this status; retryAfter, reason and message go with it
    tooLarge: true       refused as naming a version from the future
    disconnect: true     the connection is cut before the request is carried out
    dropResponse: true   the request is carried out, and then the connection is cut
    after: 3             for watches: let this many events through, and then…
    end: cut             … cut the connection | close: end in order | stall: say nothing any more
                         | gone: an ERROR event with 410
    split: 1             for all answers: this many bytes at a time
    count: 2             how many requests it meets before it is used up (default: all)
    skip: 1              how many it lets through first
    probability: 0.1     how likely it meets a request
"""

import itertools

MATCH = ("verb", "group", "resource", "subresource", "namespace", "name", "user")
ACTIONS = (
    "delay",
    "status",
    "retryAfter",
    "reason",
    "message",
    "tooLarge",
    "disconnect",
    "dropResponse",
    "after",
    "end",
    "split",
    "count",
    "skip",
    "probability",
)
ENDS = ("cut", "close", "stall", "gone")


class Faults:
    def __init__(self, randomness):
        self.random = randomness
        self.active = {}
        self._numbers = itertools.count(1)

    def add(self, fault):
        """Adds a fault and returns its number; ValueError for one that makes no sense."""
        for name in fault:
            if name not in MATCH and name not in ACTIONS:
                raise ValueError(f"a fault has no field {name!r}")
        if fault.get("end") not in (None, *ENDS):
            raise ValueError(f"end is one of {', '.join(ENDS)}, and not {fault['end']!r}")
        number = next(self._numbers)
        self.active[number] = {**fault, "met": 0}
        return number

    def remove(self, number=None):
        if number is None:
            self.active.clear()
        else:
            self.active.pop(number, None)

    def meet(self, request, user):
        """What happens to a request: the actions of every fault that meets it, together."""
        actions = {}
        asked = {name: getattr(request, name, "") for name in MATCH}
        asked["user"] = user.name
        for number, fault in list(self.active.items()):
            if any(fault.get(name, "*") not in ("*", asked[name]) for name in MATCH):
                continue
            if fault.get("skip", 0) > 0:
                fault["skip"] -= 1
                continue
            if fault.get("probability", 1) < 1 and self.random.random() >= fault["probability"]:
                continue
            fault["met"] += 1
            if "count" in fault and fault["met"] >= fault["count"]:
                del self.active[number]
            actions.update({name: fault[name] for name in ACTIONS if name in fault})
        return actions
