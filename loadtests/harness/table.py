"""Results: medians, paired ratios, goals, and the tables that show them."""

import statistics

# A proxy that uses less of its core than this is not what limits the throughput.
SATURATED = 0.95
PEERS = ("Weir", "nginx", "HAProxy", "Envoy", "nghttpx")
UNITS = {
    "µs": (1e6, "{:.1f}"), "ms": (1e3, "{:.2f}"), "s": (1, "{:.2f}"), "/s": (1, "{:,.0f}"),
    "MB/s": (1e-6, "{:,.0f}"), "KB": (1 / 1024, "{:.2f}"),
    "MB": (1 / 1024 / 1024, "{:.1f}"), "×": (1, "{:.2f}"),
}


def spread(values):
    """(median, smallest, largest)"""
    return statistics.median(values), min(values), max(values)


def shown(value, unit):
    factor, form = UNITS[unit]
    return form.format(value * factor)


class Comparison:
    """One line of the table: a figure of every peer in every round, and what it ought to be.

    :param limits: for each peer, the ratio of Weir to it that is allowed: a ceiling, or a floor
        where `higher` is better.
    :param bound: what Weir's own median may be at most, where the goal is not a ratio.
    """

    def __init__(self, row, metric, unit, goal, limits=None, bound=None, higher=False):
        self.row, self.metric, self.unit, self.goal = row, metric, unit, goal
        self.limits, self.bound, self.higher = limits or {}, bound, higher
        self.samples = {}
        self.shares = {}
        self.notes = []
        self.failure = None

    def add(self, peer, value):
        self.samples.setdefault(peer, []).append(value)

    def busy(self, peer, share):
        """How much of its cores a peer used in a round."""
        self.shares.setdefault(peer, []).append(share)

    def limited(self):
        """Says who was not saturated, for figures that mean something only where everybody was."""
        medians = {peer: statistics.median(shares) for peer, shares in self.shares.items()}
        free = [f"{peer} {share:.0%}" for peer, share in medians.items() if share < SATURATED]
        return f"limited by the load: cores were used to {', '.join(free)}" if free else None

    def all_notes(self):
        return self.notes + [text for text in [self.limited()] if text]

    def fail(self, reason):
        """Weir could not do this at all: a miss with a reason instead of a figure."""
        self.failure = reason
        self.note(reason)

    def note(self, text):
        if text not in self.notes:
            self.notes.append(text)

    def ratios(self, peer):
        """Weir to the peer, round by round: both saw the same machine."""
        return [
            own / other
            for own, other in zip(self.samples.get("Weir", []), self.samples.get(peer, []))
            if other > 0
        ]

    def verdict(self):
        """True or False; None where there is nothing to judge."""
        if self.failure:
            return False
        if "Weir" not in self.samples:
            return None
        verdicts = []
        if self.bound is not None:
            own = statistics.median(self.samples["Weir"])
            verdicts.append(own >= self.bound if self.higher else own <= self.bound)
        for peer, limit in self.limits.items():
            ratios = self.ratios(peer)
            if ratios:
                ratio = statistics.median(ratios)
                verdicts.append(ratio >= limit if self.higher else ratio <= limit)
        return all(verdicts) if verdicts else None

    def cell(self, peer):
        values = self.samples.get(peer)
        if not values:
            return "–"
        median, low, high = spread(values)
        if len(values) == 1:
            return shown(median, self.unit)
        return f"{shown(median, self.unit)} ({shown(low, self.unit)}–{shown(high, self.unit)})"

    def ratio_cell(self):
        cells = []
        for peer in PEERS[1:]:
            ratios = self.ratios(peer)
            if ratios:
                median, low, high = spread(ratios)
                several = f" ({low:.2f}–{high:.2f})" if len(ratios) > 1 else ""
                cells.append(f"{median:.2f}{several} {peer}")
        return ", ".join(cells) or "–"

    def cells(self):
        met = {True: "yes", False: "NO", None: "–"}[self.verdict()]
        name = f"{self.row}: {self.metric}, {self.unit}"
        return [name, self.goal, *(self.cell(peer) for peer in PEERS), self.ratio_cell(), met]

    def as_json(self):
        return {
            "row": self.row, "metric": self.metric, "unit": self.unit, "goal": self.goal,
            "limits": self.limits, "bound": self.bound, "higher_is_better": self.higher,
            "samples": self.samples, "met": self.verdict(), "notes": self.all_notes(),
            "busy": self.shares,
            "medians": {peer: statistics.median(v) for peer, v in self.samples.items()},
            "ratios": {peer: self.ratios(peer) for peer in PEERS[1:] if self.ratios(peer)},
        }


HEAD = ["what", "goal for Weir", *PEERS, "Weir to peer", "met"]


def text(comparisons):
    """For a terminal: a block for each line, since all of it side by side fits no terminal."""
    lines = []
    for comparison in comparisons:
        name, goal, *values, ratio, met = comparison.cells()
        lines.append(f"{name}  [{goal}]  {'met: ' + met if met != '–' else ''}".rstrip())
        for peer, value in zip(PEERS, values):
            if value != "–":
                lines.append(f"    {peer:8} {value}")
        if ratio != "–":
            lines.append(f"    ratio    {ratio}")
        lines += [f"    note     {note}" for note in comparison.all_notes()]
    return "\n".join(lines)


def markdown(comparisons):
    """Medians with smallest and largest over the rounds."""
    rows = [HEAD, ["---"] * len(HEAD), *(c.cells() for c in comparisons)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    notes = [f"* {c.row}, {c.metric}: {note}" for c in comparisons for note in c.all_notes()]
    return "\n".join(lines + ([""] + notes if notes else [])) + "\n"
