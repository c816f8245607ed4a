"""Slots: the power that a site reserves for its nodes, and what happens to those for which there is none."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence

import simpy

from fleetsim.engine import DELIVERY
from fleetsim.life.crew import Crew
from fleetsim.life.power import ROUNDING, node_kw
from fleetsim.records import Cohort


class Slots:
    """Gives slots to nodes that are delivered. A node reserves the maximum its server draws.

    Where a site has no power left for a node, ``over_power`` of the site says what becomes of it: ``refuse``
    sends it back; ``wait`` stores it until a slot is free, first come, first served; ``shed`` does the same
    and has nodes of a lower rung retired for it, the lowest rung first and the oldest of it. With
    ``power_cap`` all come into service, and their GPUs are limited (:mod:`fleetsim.life.power`).
    """

    def __init__(self, crew: Crew, shed_drain_s: float) -> None:
        self._crew = crew
        self._drain_s = shed_drain_s
        self._used_kw = {c.site.name: 0.0 for c in crew.cohorts}
        self._stored: dict[str, deque[tuple[int, int]]] = {name: deque() for name in self._used_kw}
        self._leaving_kw = dict.fromkeys(self._used_kw, 0.0)  # of nodes that are shed, and still drain
        crew.left.append(self._freed)

    def deliveries(self) -> Generator[simpy.Event]:
        """Process: deliver cohorts when they come. What is there from the start is there at once."""
        for k in sorted(range(len(self._crew.cohorts)), key=lambda k: self._crew.cohorts[k].delivered_s):
            at_s = self._crew.cohorts[k].delivered_s
            if at_s > 0:
                yield self._crew.clock.moment(at_s, DELIVERY)
                self.deliver(k, "delivery")

    def deliver(self, k: int, cause: str) -> None:
        """Nodes of cohort *k* have come: into service those for which there is power."""
        crew = self._crew
        cohort, site = crew.cohorts[k], crew.cohorts[k].site
        nodes = list(cohort.node_numbers)
        fits = 0 if self._stored[site.name] else self._room(cohort)
        self._install(k, nodes[:fits], cause)
        if not (rest := nodes[fits:]):
            return
        if site.over_power == "refuse":
            crew.observer.event(crew.clock.now, "refused", cohort.name, f"{len(rest)} nodes: no slots")
            return
        for node in rest:
            crew.observer.node_changed(crew.clock.now, node, "stored", cause)
        crew.observer.event(crew.clock.now, "stored", cohort.name, f"{len(rest)} nodes wait for slots")
        self._stored[site.name].extend((k, node) for node in rest)
        if site.over_power == "shed":
            self._shed(k)

    def _room(self, cohort: Cohort) -> int:
        """How many nodes of *cohort* there is power for."""
        cap_kw = cohort.site.it_power_kw
        if cap_kw is None or cohort.site.over_power == "power_cap":
            return cohort.nodes
        left_kw = cap_kw * (1 + ROUNDING) - self._used_kw[cohort.site.name]
        return min(cohort.nodes, max(0, int(left_kw / node_kw(cohort))))

    def _install(self, k: int, nodes: Sequence[int], cause: str) -> None:
        if nodes:
            cohort = self._crew.cohorts[k]
            self._used_kw[cohort.site.name] += len(nodes) * node_kw(cohort)
            self._crew.install(k, nodes, cause)

    def _freed(self, k: int, nodes: Sequence[int], cause: str) -> None:
        """Slots are free: nodes that wait for one come into service."""
        cohort = self._crew.cohorts[k]
        site = cohort.site.name
        self._used_kw[site] -= len(nodes) * node_kw(cohort)
        if cause == "power":
            self._leaving_kw[site] -= len(nodes) * node_kw(cohort)
        stored = self._stored[site]
        while stored and self._room(self._crew.cohorts[stored[0][0]]):
            first, node = stored.popleft()
            batch = [node]
            while stored and stored[0][0] == first and len(batch) < self._room(self._crew.cohorts[first]):
                batch.append(stored.popleft()[1])
            self._install(first, batch, "slot")

    def _shed(self, k: int) -> None:
        """Have nodes of rungs below that on which cohort *k* begins retired for all that wait for power."""
        crew = self._crew
        site = crew.cohorts[k].site
        assert site.it_power_kw is not None
        free_kw = site.it_power_kw - self._used_kw[site.name] + self._leaving_kw[site.name]
        waiting_kw = sum(node_kw(crew.cohorts[of]) for of, _ in self._stored[site.name])
        missing_kw = waiting_kw - free_kw
        entry, now = crew.entry(k), crew.clock.now
        groups = sorted(
            (-rung, c.born_s, of)
            for of, c in enumerate(crew.cohorts)
            if c.site.name == site.name and c.contract_until_s <= now
            for rung, standing in crew.standing[of].items()
            if rung > entry and standing
        )
        for rung, _, of in groups:
            kw = node_kw(crew.cohorts[of])
            here = [n for n in crew.standing[of][-rung] if not crew.busy(n)]
            count = min(len(here), -int(-missing_kw * (1 - ROUNDING) // kw))
            if count <= 0:
                continue
            missing_kw -= count * kw
            self._leaving_kw[site.name] += count * kw
            crew.retire(of, here[:count], "power", self._drain_s)
