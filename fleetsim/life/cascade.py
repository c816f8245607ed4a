"""When nodes go down the ladder: by age, by a successor's arrival, by queue pressure, by margin a slot kW."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Sequence

import simpy

from fleetsim.engine import DELIVERY
from fleetsim.life.crew import Crew
from fleetsim.life.economics import expected_margin
from fleetsim.life.money import Money
from fleetsim.life.spec import CascadeSpec, TierSpec
from fleetsim.units import duration_s


class Cascade:
    """Watches the rungs and has *crew* move nodes, as *rule* says. *end_s* is the end of the run."""

    def __init__(
        self, crew: Crew, rule: CascadeSpec, tiers: Sequence[TierSpec], money: Money | None, end_s: float
    ) -> None:
        self._crew, self._rule, self._money, self._end_s = crew, rule, money, end_s
        self._drain_s = duration_s(rule.drain)
        self._leave_s = [None if t.leave_at is None else duration_s(t.leave_at) for t in tiers]
        self._on: list[set[int]] = [set() for _ in tiers]  # cohorts that have come to each rung
        self._looked = 0  # jobs that arrived before the last review ...
        self._waiting: list[int] = []  # ... and had not started by then
        if rule.rule == "age":
            crew.came.append(self._by_age)
        elif rule.rule == "successor":
            crew.came.append(self._by_successor)
        else:
            crew.clock.process(
                self._reviews(self._by_pressure if rule.rule == "pressure" else self._by_margin)
            )

    def _by_age(self, cohort: int, rung: int, nodes: Sequence[int]) -> None:
        """Nodes have come to a rung: they leave it at its age, at once if they are older."""
        leave_s = self._leave_s[rung]
        if leave_s is not None:
            self._go(cohort, rung, nodes, self._crew.cohorts[cohort].born_s + leave_s)

    def _by_successor(self, cohort: int, rung: int, _: Sequence[int]) -> None:
        """A cohort has come to a rung: those that enough newer models have followed there go down."""
        crew = self._crew
        self._on[rung].add(cohort)
        available = {k: crew.cohorts[k].model.available for k in self._on[rung]}
        for k in sorted(self._on[rung], key=lambda k: (available[k], k)):
            newer = sum(other > available[k] for other in available.values())
            if newer >= self._rule.successors:
                self._go(k, rung, list(crew.standing[k].get(rung, ())), crew.clock.now)

    def _go(self, cohort: int, rung: int, nodes: Sequence[int], at_s: float) -> None:
        """Have *nodes* go down from *rung* at *at_s*, or when they may."""
        crew = self._crew
        at_s = max(at_s, crew.held_s(cohort, rung))
        if at_s <= crew.clock.now:
            self._move(cohort, nodes)
        elif at_s < self._end_s:
            crew.clock.process(self._later(cohort, rung, nodes, at_s))

    def _later(self, cohort: int, rung: int, nodes: Sequence[int], at_s: float) -> Generator[simpy.Event]:
        crew = self._crew
        yield crew.clock.moment(at_s, DELIVERY)
        self._move(cohort, [n for n in nodes if crew.rung_of[n] == rung])

    def _reviews(self, look: Callable[[], None]) -> Generator[simpy.Event]:
        every_s = duration_s(self._rule.review)
        at_s = every_s
        while at_s < self._end_s:
            yield self._crew.clock.moment(at_s, DELIVERY)
            look()
            at_s += every_s

    def _by_margin(self) -> None:
        """A slot kW earns more on the next rung: go there."""
        crew, money = self._crew, self._money
        assert money is not None
        for k in range(len(crew.cohorts)):
            for rung, standing in list(crew.standing[k].items()):
                below = crew.lower(k, rung)
                if not standing or below is None:
                    continue
                here, there = (margin_usd_per_kw_year(crew, money, k, crew.names[at]) for at in (rung, below))
                if there > here and crew.clock.now >= crew.held_s(k, rung):
                    self._move(k, list(standing))

    def _by_pressure(self) -> None:
        """Jobs wait for a lower rung while nodes of an upper one are free: the oldest of these go down.

        Jobs that wait for their first start count; those that were stopped do not.
        """
        crew, replay = self._crew, self._crew.replay
        jobs, now = replay.jobs, crew.clock.now
        fresh = range(self._looked, replay.arrived)
        self._looked = replay.arrived
        started = replay.attempts.end_s  # 0 before the first start, and after one of no length at the start
        runs = (j for j in fresh if jobs.shape_of[j] >= 0 and jobs.duration_s[j])
        self._waiting = [j for j in (*self._waiting, *runs) if not started[j]]
        min_wait_s = duration_s(self._rule.min_wait)
        pressing: dict[int, int] = {}  # GPUs that wait, by shape
        for j in self._waiting:
            if now - jobs.submit_s[j] >= min_wait_s:
                pressing[jobs.shape_of[j]] = pressing.get(jobs.shape_of[j], 0) + jobs.gpus[j]
        of_rung: Counter[int] = Counter()
        for on in crew.standing:
            of_rung.update({rung: len(nodes) for rung, nodes in on.items()})
        steps = {rung: int(self._rule.step * count + 1e-9) or 1 for rung, count in of_rung.items()}
        for k in sorted(range(len(crew.cohorts)), key=lambda k: crew.cohorts[k].born_s):
            for rung in sorted(crew.standing[k]):
                below = crew.lower(k, rung)
                if below is None or below not in crew.on_rung[k]:
                    continue
                above, pool = crew.on_rung[k][rung], crew.on_rung[k][below]
                gpus = 0
                for shape, waiting in pressing.items():
                    pools = [p for p, _ in jobs.shapes[shape]]
                    if above in pools:
                        gpus = 0
                        break
                    gpus += waiting * (pool in pools)
                if gpus:
                    steps[rung] -= self._press(k, rung, gpus, steps[rung], pressing, pool)

    def _press(self, k: int, rung: int, gpus: int, step: int, pressing: dict[int, int], pool: object) -> int:
        """Have nodes of cohort *k* go down from *rung* for the *gpus* that wait for *pool*; how many go.

        By node they are *step* at most.
        """
        crew = self._crew
        standing = [n for n in crew.standing[k][rung] if not crew.busy(n)]
        if self._rule.unit == "cohort":
            chosen = standing if any(crew.fleet.idle(n) for n in standing) else []
        else:
            most = min(step, -(-gpus // crew.cohorts[k].gpus_per_node))
            chosen = [n for n in standing if crew.fleet.idle(n)][:most]
        left = len(chosen) * crew.cohorts[k].gpus_per_node
        for shape in list(pressing):
            if any(p is pool for p, _ in crew.replay.jobs.shapes[shape]):
                taken = min(left, pressing[shape])
                pressing[shape] -= taken
                left -= taken
        self._move(k, chosen)
        return len(chosen)

    def _move(self, cohort: int, nodes: Sequence[int]) -> None:
        if nodes:
            self._crew.descend(cohort, nodes, self._drain_s)


def margin_usd_per_kw_year(crew: Crew, money: Money, cohort: int, tier: str) -> float:
    """What a slot kW of *cohort* on *tier* earns now, a year; minus infinity without a price."""
    c = crew.cohorts[cohort]
    if (price := money.price(c.model.id, tier)) is None:
        return float("-inf")
    usd = float(price.at(crew.clock.now))
    return float(expected_margin(money.terms, c.model.id, c.model.slot_kw_per_gpu, c.site.pue, usd))
