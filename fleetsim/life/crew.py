"""What is done to nodes: they come into service, go down the ladder, and leave. State, and SimPy processes.

Whoever decides (:mod:`~fleetsim.life.cascade`, :mod:`~fleetsim.life.retirement`,
:mod:`~fleetsim.life.failures`, :mod:`~fleetsim.life.slots`) has it done here.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from heapq import heapify, heappop, heappush
from math import inf
from typing import NamedTuple

import simpy

from fleetsim.engine import DELIVERY, Clock, Replay
from fleetsim.fleet import Fleet, Pool
from fleetsim.life.ladder import ladder
from fleetsim.life.spec import TierSpec
from fleetsim.observer import Observer
from fleetsim.records import GENERAL, Cohort
from fleetsim.units import human

#: Where a node stands that is not in service.
NOWHERE = -1


class _Order(NamedTuple):
    """What is done with nodes when they are empty, and whether they leave the fleet by it."""

    then: Callable[[Sequence[int]], None]
    leaves: bool


class Crew:
    """Knows where every node stands, and moves it.

    ``rung_of[node]`` is the index of its rung, or NOWHERE before it comes into service and after it has left.
    ``standing[cohort][rung]`` are the nodes in service there. Nodes are emptied before they move or leave:
    nothing more starts on them, and what still runs when their time to drain is over is stopped. A node that
    moves may be told to leave instead; one that leaves is told nothing else.
    """

    def __init__(
        self,
        clock: Clock,
        replay: Replay,
        fleet: Fleet,
        observer: Observer,
        cohorts: Sequence[Cohort],
        tiers: Sequence[TierSpec],
        on_rung: Sequence[dict[int, Pool]],
    ) -> None:
        self.clock, self.replay, self.fleet, self.observer = clock, replay, fleet, observer
        self.cohorts = cohorts
        self.names = [t.name for t in tiers] or [GENERAL]
        self.cohort_of = [0] * sum(c.nodes for c in cohorts)
        for k, cohort in enumerate(cohorts):
            for node in cohort.node_numbers:
                self.cohort_of[node] = k
        self.rung_of = [NOWHERE] * len(self.cohort_of)
        self.standing: list[dict[int, dict[int, None]]] = [{} for _ in cohorts]
        #: Called with (cohort, rung, nodes) when nodes have come to a rung, and with (cohort, nodes, cause)
        #: when they have left the fleet.
        self.came: list[Callable[[int, int, Sequence[int]], None]] = []
        self.left: list[Callable[[int, Sequence[int], str], None]] = []
        self.on_rung = on_rung
        self._below = ladder(tiers)
        self._for_sale = {i for i, t in enumerate(tiers) if t.for_sale}
        self._orders: dict[int, _Order] = {}  # of nodes that are being emptied

    def entry(self, cohort: int) -> int:
        """The rung on which *cohort* begins."""
        return self.names.index(self.cohorts[cohort].tier)

    def lower(self, cohort: int, rung: int) -> int | None:
        """The rung to which nodes of *cohort* go from *rung*; None: there is none."""
        name = self._below.get(self.names[rung])
        while name is not None:
            below, name = self.names.index(name), self._below[name]
            if below in self.on_rung[cohort] or below in self._for_sale:
                return below
        return None

    def busy(self, node: int) -> bool:
        """Whether *node* is being emptied, to move or to leave."""
        return node in self._orders

    def held_s(self, cohort: int, rung: int) -> float:
        """Until when nodes of *cohort* may not go down from *rung*: they would be sold under contract."""
        sold = self.lower(cohort, rung) in self._for_sale
        return self.cohorts[cohort].contract_until_s if sold else -inf

    def install(self, cohort: int, nodes: Sequence[int], cause: str) -> None:
        """Bring *nodes* of *cohort*, which were not in service, into service."""
        c, now, rung = self.cohorts[cohort], self.clock.now, self.entry(cohort)
        burn_in_s = max(0.0, c.delivered_s + c.burn_in_s - now) if cause == "initial" else c.burn_in_s
        for node in nodes:
            self.rung_of[node] = rung
            self.fleet.add(node)
            if burn_in_s:
                self.fleet.close(node)
                self.fleet.lower(node)
                self.observer.node_changed(now, node, "down", "burn_in")
            elif self.fleet.down(node):
                self.observer.node_changed(now, node, "down", "maintenance")
            else:
                self.observer.node_changed(now, node, "up", cause)
        self.standing[cohort].setdefault(rung, {}).update(dict.fromkeys(nodes))
        gpus = len(nodes) * c.gpus_per_node
        self.observer.event(now, cause, c.name, f"{len(nodes)} nodes, {gpus} x {c.model.id} at {c.site.name}")
        if burn_in_s:
            self.clock.process(self._burn_in(nodes, burn_in_s))
        if cause != "initial":
            self.replay.capacity_added()
        for tell in self.came:
            tell(cohort, rung, nodes)

    def _burn_in(self, nodes: Sequence[int], burn_in_s: float) -> Generator[simpy.Event]:
        yield self.clock.moment(self.clock.now + burn_in_s, DELIVERY)
        for node in nodes:
            if self.fleet.lift(node):
                self.observer.node_changed(self.clock.now, node, "up", "burn_in")
            self.fleet.open(node)
        self.replay.capacity_added()

    def descend(self, cohort: int, nodes: Sequence[int], drain_s: float) -> None:
        """Have *nodes* of *cohort*, which stand on one rung, drain and go down to the next, if any.

        Those that are being emptied already are left to that.
        """
        nodes = [node for node in nodes if not self.busy(node)]
        if not nodes:
            return
        rung = self.rung_of[nodes[0]]
        below = self.lower(cohort, rung)
        if below is None:
            return
        if below in self._for_sale:
            self.retire(cohort, nodes, "sale", drain_s)
            return
        pool = self.on_rung[cohort][below]

        def move(ready: Sequence[int]) -> None:
            for node in ready:
                self.fleet.move(node, pool)
                self.fleet.open(node)
                self.rung_of[node] = below
                del self.standing[cohort][rung][node]
            self.standing[cohort].setdefault(below, {}).update(dict.fromkeys(ready))
            self.observer.tier_changed(self.clock.now, ready, below, "cascade")
            detail = f"{len(ready)} nodes from {self.names[rung]} to {self.names[below]}"
            self.observer.event(self.clock.now, "cascade", self.cohorts[cohort].name, detail)
            self.replay.capacity_added()
            for tell in self.came:
                tell(cohort, below, ready)

        self._empty(nodes, drain_s, _Order(move, leaves=False))

    def retire(self, cohort: int, nodes: Sequence[int], cause: str, drain_s: float = 0.0) -> None:
        """Have those of *nodes* of *cohort* that are in service, and not leaving yet, drain and leave."""
        c = self.cohorts[cohort]

        def leave(ready: Sequence[int]) -> None:
            now = self.clock.now
            for node in ready:
                self.fleet.in_service[node] = 0
                del self.standing[cohort][self.rung_of[node]][node]
                self.rung_of[node] = NOWHERE
                self.observer.node_changed(now, node, "retired", cause)
            detail = f"{len(ready)} nodes at the age of {human(now - c.born_s)}: {cause}"
            self.observer.event(now, "retirement", c.name, detail)
            for tell in self.left:
                tell(cohort, ready, cause)

        here = [node for node in nodes if self.rung_of[node] != NOWHERE]
        staying = [node for node in here if not (self.busy(node) and self._orders[node].leaves)]
        self._empty(staying, drain_s, _Order(leave, leaves=True))

    def emptied(self, node: int) -> None:
        """What ran on *node* has been stopped for another reason: if it was to be emptied, that is done."""
        if node in self._orders:
            self._fulfil(self._orders[node], [node])

    def _empty(self, nodes: Sequence[int], drain_s: float, order: _Order) -> None:
        """Start to empty *nodes*, as *order* has it from now on."""
        for node in nodes:
            if not self.busy(node):
                self.fleet.close(node)
            self._orders[node] = order
        self.clock.process(self._draining(nodes, drain_s, order))

    def _draining(self, nodes: Sequence[int], drain_s: float, order: _Order) -> Generator[simpy.Event]:
        """Process: fulfil *order* with those of *nodes* that are empty, as they become so.

        A node is looked at when the last of its jobs is expected to end.
        """
        clock, replay = self.clock, self.replay
        last_s = clock.now + drain_s
        waiting = [(clock.now, node) for node in nodes]
        heapify(waiting)
        while waiting:
            now = clock.now
            ready = []
            while waiting and waiting[0][0] <= now:
                _, node = heappop(waiting)
                if self._orders.get(node) is not order:
                    continue
                jobs = replay.jobs_on(node)
                if jobs and now >= last_s:
                    replay.evict(jobs)
                elif jobs:
                    end_s = max(replay.attempts.end_s[job] for job in jobs)
                    heappush(waiting, (min(last_s, end_s), node))
                    continue
                ready.append(node)
            if ready:
                self._fulfil(order, sorted(ready))
            if waiting:
                yield clock.moment(waiting[0][0], DELIVERY)

    def _fulfil(self, order: _Order, nodes: Sequence[int]) -> None:
        for node in nodes:
            del self._orders[node]
        order.then(nodes)
