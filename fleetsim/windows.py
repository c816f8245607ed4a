"""Maintenance and reservations: which nodes are kept from others, and when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from fleetsim.cohorts import Purchase
from fleetsim.reading import Fault, Loc, unknown
from fleetsim.records import Cohort
from fleetsim.spec import MaintenanceSpec, ReservationSpec, WindowOfNodes
from fleetsim.units import duration_s, human, since


@dataclass(frozen=True)
class Window:
    """Nodes of a cohort, and when they are kept from others: from ``at_s`` on, again ``every_s`` (0: once).

    From ``drain_s`` before no job starts on them. Those that still run at ``at_s`` are stopped if ``stop``;
    else a node is waited for until the last of its jobs was to end, as it looks at ``at_s``.
    """

    cohort: Cohort
    nodes: Sequence[int]
    at_s: float
    lasts_s: float
    every_s: float
    drain_s: float
    stop: bool


@dataclass(frozen=True)
class Part:
    """Nodes that words of a scenario, at *loc*, mean: *count* of *cohort* from the *first* on."""

    loc: Loc
    words: WindowOfNodes
    cohort: Cohort
    first: int
    count: int

    def window(self, start: datetime) -> Window:
        words, last = self.words, self.first + self.count
        return Window(
            self.cohort,
            self.cohort.node_numbers[self.first : last],
            since(start, words.at),
            duration_s(words.lasts),
            duration_s(words.every) if words.every is not None else 0.0,
            duration_s(words.drain),
            words.stop,
        )


def maintained(words: Mapping[int, MaintenanceSpec], fleet: Mapping[str, Cohort]) -> Iterator[Part]:
    """What is maintained, of the cohorts that *fleet* has."""
    for i, m in words.items():
        if (cohort := fleet.get(m.cohort)) is not None:
            count = m.nodes if m.nodes is not None else max(1, cohort.nodes - m.first)
            yield Part(("maintenance", i), m, cohort, m.first, count)


def reserved(words: Mapping[int, ReservationSpec], fleet: Mapping[str, Cohort]) -> Iterator[Part]:
    """What is reserved, likewise: each takes the nodes after those of the ones before."""
    taken: Counter[str] = Counter()
    for i, r in words.items():
        if (cohort := fleet.get(r.cohort)) is not None:
            count = r.nodes if r.nodes is not None else -(-(r.gpus or 1) // cohort.gpus_per_node)
            yield Part(("reservations", i), r, cohort, taken[cohort.name], count)
            taken[cohort.name] += count


def faults(
    maintenance: Mapping[int, MaintenanceSpec],
    reservations: Mapping[int, ReservationSpec],
    bought: Purchase,
    tenants: Sequence[str],
    start: datetime,
    horizon_s: float | None,
) -> Iterator[Fault]:
    """Everything wrong with the windows. *tenants* are all that there are, right or not."""
    fleet = {c.name: c for c in bought.cohorts}
    owners = {c.name: c.tenants for c in bought.words}  # as written
    for part in maintained(maintenance, fleet):
        cohort = part.cohort
        if part.first + part.count > cohort.nodes:
            key = "first" if maintenance[int(part.loc[1])].nodes is None else "nodes"
            message = f"the last would be node {part.first + part.count - 1} of {cohort.name}"
            yield (*part.loc, key), message, f"It has {cohort.nodes}, numbered from 0."
        yield from _times(part, start, horizon_s)
    for i, r in reservations.items():
        loc: Loc = ("reservations", i)
        if (r.nodes is None) == (r.gpus is None):
            yield loc, "needs one of `nodes` and `gpus`", "Say how much is reserved."
        if tenants and r.tenant not in tenants:
            yield (*loc, "tenant"), *unknown("tenant", r.tenant, tenants)
        theirs = owners.get(r.cohort)
        if r.cohort in fleet and theirs is not None and r.tenant not in theirs:
            message = f"{r.tenant!r} may not run on cohort {r.cohort}"
            yield (*loc, "tenant"), message, f"It belongs to {', '.join(theirs)}."
    for part in reserved(reservations, fleet):
        cohort, last = part.cohort, part.first + part.count
        if last > cohort.nodes:
            key = "gpus" if reservations[int(part.loc[1])].nodes is None else "nodes"
            message = f"{last} nodes reserved in all, but {cohort.name} has {cohort.nodes}"
            yield (*part.loc, key), message, "Reserve fewer."
        yield from _times(part, start, horizon_s)
    for section, words in (("maintenance", maintenance), ("reservations", reservations)):
        for i, w in words.items():
            yield from _cohort((section, i, "cohort"), w.cohort, bought)


def _cohort(loc: Loc, name: str, bought: Purchase) -> Iterator[Fault]:
    """It must be there, whatever chance has in store."""
    if name not in bought.names:
        if bought.whole:  # else it may be one of a series that is not right in itself
            yield loc, *unknown("cohort", name, bought.names)
    elif name in bought.by_chance:
        message = f"when {name} is delivered is left to chance, by its `delay`"
        yield loc, message, "Give that a fixed span, or take another cohort."
    elif name in bought.late:
        message = f"{name} is not delivered before the horizon ends"
        yield loc, message, "Take another cohort, or lengthen the horizon."


def _times(part: Part, start: datetime, horizon_s: float | None) -> Iterator[Fault]:
    """A window must lie within the run, after its nodes have come, and before the next one."""
    w, window = part.words, part.window(start)
    if window.at_s < 0 or (horizon_s is not None and window.at_s >= horizon_s):
        message = f"{w.at!r} lies outside the run"
        yield (*part.loc, "at"), message, "Begin between 0 and the horizon."
    elif part.cohort.delivered_s > 0 and window.at_s - window.drain_s <= part.cohort.delivered_s:
        message = f"{part.cohort.name} is delivered only after the nodes are to drain"
        yield (*part.loc, "at"), message, "Begin later, or drain for a shorter time."
    busy_s = window.drain_s + window.lasts_s
    if w.every is not None and window.every_s <= busy_s:
        message = f"{w.every!r} leaves no time between windows with the time they drain"
        yield (*part.loc, "every"), message, f"More than {human(busy_s)}."
    if w.every is not None and w.stop and horizon_s is None:
        message = "may stop a job for ever, since the horizon is `drain`"
        yield (*part.loc, "every"), message, "Give a horizon, or leave `stop` out."
