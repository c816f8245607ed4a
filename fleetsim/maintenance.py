"""Windows in which nodes are kept from all others: down for maintenance, or reserved for one tenant."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import simpy

from fleetsim.eligibility import Shapes
from fleetsim.engine import REPAIR, Clock, Replay
from fleetsim.fleet import Fleet, Pool
from fleetsim.observer import Observer
from fleetsim.records import Jobs
from fleetsim.units import human
from fleetsim.windows import Window


def maintain(
    clock: Clock, replay: Replay, fleet: Fleet, observer: Observer, window: Window
) -> Generator[simpy.Event]:
    """Process: the nodes of *window* are down for as long as it lasts, from when they are empty.

    (Slurm's reservations with the flag ``MAINT``; ``kubectl drain`` where jobs are stopped.)
    """

    def down(nodes: Sequence[int]) -> None:
        for node in nodes:
            assert fleet.empty(node)
            if fleet.lower(node):
                observer.node_changed(clock.now, node, "down", "maintenance")
        detail = f"{len(nodes)} nodes down for {human(window.lasts_s)}"
        observer.event(clock.now, "maintenance", window.cohort.name, detail)

    def up(nodes: Sequence[int]) -> None:
        for node in nodes:
            if fleet.lift(node):
                observer.node_changed(clock.now, node, "up", "maintenance")
            fleet.open(node)
        replay.capacity_added()

    def outage(empty_s: float, at_s: float, nodes: Sequence[int]) -> Generator[simpy.Event]:
        yield clock.moment(empty_s, REPAIR)
        late = [node for node in nodes if not fleet.empty(node)]
        for later_s, these in _when_empty(replay, late, empty_s)[1]:
            clock.process(outage(later_s, at_s, these))
        if nodes := [node for node in nodes if node not in late]:
            down(nodes)
            yield clock.moment(empty_s + window.lasts_s, REPAIR)
            up(nodes)

    return _clear(clock, replay, fleet, window, outage)


@dataclass(frozen=True)
class Reservation:
    """Whole nodes that only *tenant* may use while its window is open: then they belong to *pool*."""

    tenant: str
    window: Window
    pool: Pool
    base: Pool  # theirs at all other times


def reserve(
    clock: Clock, replay: Replay, fleet: Fleet, observer: Observer, reservation: Reservation
) -> Generator[simpy.Event]:
    """Process: nodes go to the tenant as they are empty, and back as they are empty when the window is over.

    Between the end of the window and that of the tenant's last job on a node nothing starts there: a running
    job always belongs to one pool. A node that was not empty before the window was over does not go over.
    """
    window, tenant = reservation.window, reservation.tenant
    returning: dict[int, float] = {}  # nodes that are only waited for, and the window that was over

    def loan(empty_s: float, at_s: float, nodes: Sequence[int]) -> Generator[simpy.Event]:
        end_s = at_s + window.lasts_s
        if empty_s < end_s:
            yield clock.moment(empty_s, REPAIR)
            late = [n for n in nodes if fleet.pool_of[n] is not reservation.pool and not fleet.empty(n)]
            for later_s, these in _when_empty(replay, late, empty_s)[1]:
                clock.process(loan(later_s, at_s, these))
            if not (nodes := [node for node in nodes if node not in late]):
                return
            for node in nodes:
                if returning.pop(node, None) is not None:
                    fleet.open(node)  # the tenant has it still, and may go on
            hand(nodes, reservation.pool, "reservation")
        yield clock.moment(end_s, REPAIR)
        if empty_s >= end_s:
            release(nodes, "reservation_missed")
            return
        for node in nodes:
            fleet.close(node)
            returning[node] = at_s
        for free_s, ready in _when_empty(replay, nodes, end_s)[1]:
            clock.process(back(free_s, at_s, ready))

    def back(free_s: float, at_s: float, nodes: Sequence[int]) -> Generator[simpy.Event]:
        yield clock.moment(free_s, REPAIR)
        still = [node for node in nodes if returning.get(node) == at_s]
        late = [node for node in still if not fleet.empty(node)]
        for later_s, these in _when_empty(replay, late, free_s)[1]:
            clock.process(back(later_s, at_s, these))
        if still := [node for node in still if node not in late]:
            for node in still:
                del returning[node]
            hand(still, reservation.base, "reservation_end")

    def hand(nodes: Sequence[int], pool: Pool, kind: str) -> None:
        for node in nodes:
            fleet.move(node, pool)
        release(nodes, kind)

    def release(nodes: Sequence[int], kind: str) -> None:
        for node in nodes:
            fleet.open(node)
        observer.event(clock.now, kind, tenant, f"{len(nodes)} nodes of {window.cohort.name}")
        replay.capacity_added()

    return _clear(clock, replay, fleet, window, loan, reservation.pool)


def _clear(
    clock: Clock,
    replay: Replay,
    fleet: Fleet,
    window: Window,
    occupy: Callable[[float, float, Sequence[int]], Generator[simpy.Event]],
    own: Pool | None = None,
) -> Generator[simpy.Event]:
    """Process: close the nodes of *window* each time and hand them to *occupy*, with when they are empty.

    Nodes in the pool *own* are handed over with what runs on them.
    """
    for turn in count():
        at_s = window.at_s + turn * window.every_s
        yield clock.moment(max(clock.now, at_s - window.drain_s), REPAIR)
        for node in window.nodes:
            fleet.close(node)
        yield clock.moment(at_s, REPAIR)
        jobs, empty = _when_empty(replay, [n for n in window.nodes if fleet.pool_of[n] is not own], at_s)
        if window.stop:
            replay.evict(jobs)
            empty = [(at_s, [node for _, nodes in empty for node in nodes])]
        if kept := [n for n in window.nodes if fleet.pool_of[n] is own]:
            empty.append((at_s, kept))
        for empty_s, nodes in empty:
            if nodes:
                clock.process(occupy(empty_s, at_s, nodes))
        if not window.every_s:
            return


def _when_empty(
    replay: Replay, nodes: Sequence[int], now: float
) -> tuple[list[int], list[tuple[float, list[int]]]]:
    """The jobs on *nodes*, and the nodes by when the last of them is to end: *now* if there is none.

    Where every pass interrupts running jobs they may end later than that.
    """
    empty_s = dict.fromkeys(nodes, now)
    jobs: list[int] = []
    node_of, end_s, gangs = replay.attempts.node, replay.attempts.end_s, replay.attempts.gangs
    for job in replay.running_jobs():
        where = node_of[job]
        if here := [n for n in ((where,) if where >= 0 else gangs[~where][::2]) if n in empty_s]:
            jobs.append(job)
            empty_s |= {node: max(empty_s[node], end_s[job]) for node in here}
    by_time: dict[float, list[int]] = {}
    for node, at_s in empty_s.items():
        by_time.setdefault(at_s, []).append(node)
    return jobs, sorted(by_time.items())


def with_reservations(shapes: Shapes, jobs: Jobs, made: Sequence[Reservation]) -> Shapes:
    """*shapes* in which jobs of the tenants of *made* try the nodes reserved for them first."""
    of_job, options = shapes.of_job.copy(), list(shapes.options)
    for tenant in dict.fromkeys(r.tenant for r in made if r.tenant in jobs.tenants):
        theirs = (jobs.tenant == jobs.tenants.index(tenant)) & (of_job >= 0)
        for shape in np.unique(of_job[theirs]).tolist():
            of_shape = np.nonzero(theirs & (of_job == shape))[0]
            gpus = jobs.gpus[of_shape[0]]
            reserved = tuple(
                (r.pool, speed)
                for r in made
                if r.tenant == tenant and gpus <= len(r.window.nodes) * r.pool.gpus_per_node
                for pool, speed in options[shape]
                if pool is r.base
            )
            if reserved:
                of_job[of_shape] = len(options)
                options.append(reserved + options[shape])
    return Shapes(of_job, options, shapes.rejected)
