"""Failures and repair: SimPy processes, one for each node and rule, and one for each rule about jobs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from math import exp, inf
from typing import TypeVar

import numpy as np
import simpy

from fleetsim.engine import REPAIR, Clock
from fleetsim.life.crew import Crew
from fleetsim.life.hazards import Constant, Curve, Hazard, Weibull, next_failure
from fleetsim.life.spec import FailureSpec, RepairSpec, SparesSpec
from fleetsim.observer import FAILED, Failure
from fleetsim.records import Cohort
from fleetsim.streams import stream
from fleetsim.units import YEAR_S, duration_s

T = TypeVar("T")

#: The node itself among what may fail: its GPUs are numbered from 0.
NODE = -1

#: As often something may be due while it is repaired, before that is taken for a new beginning.
MANY = 100.0


def hazard(rule: FailureSpec) -> list[Hazard]:
    """The rates of *rule*, which add up."""
    found: list[Hazard] = []
    for h in rule.hazard:
        if h.per_year is not None:
            found.append(Constant(h.per_year))
        elif h.shape is not None and h.scale is not None:
            found.append(Weibull(h.shape, duration_s(h.scale)))
        else:
            found.append(Curve([(duration_s(age), per_year) for age, per_year in h.curve or ()]))
    return found


class Spares:
    """Replacements in stock. What a failed unit is swapped for comes back to stock as that unit, repaired."""

    def __init__(self, clock: Clock, stock: Sequence[SparesSpec]) -> None:
        self._clock = clock
        self._shelves: dict[tuple[str, str], tuple[simpy.Container, float]] = {}
        for s in stock:
            for what, count in (("gpu", s.gpus), ("node", s.nodes)):
                shelf = simpy.Container(clock, init=count)
                self._shelves[s.gpu_model, what] = shelf, duration_s(s.rma)

    def take(self, model: str, what: str) -> Generator[simpy.Event]:
        """Wait for a spare, and send the failed one to be repaired. Models that are not listed never lack."""
        if (model, what) in self._shelves:
            shelf, rma_s = self._shelves[model, what]
            self._clock.process(self._back(shelf, self._clock.now + rma_s))
            yield shelf.get(1)

    def give(self, model: str, what: str) -> None:
        """Put a spare back that is not needed any more."""
        if (model, what) in self._shelves:
            self._shelves[model, what][0].put(1)

    def _back(self, shelf: simpy.Container, at_s: float) -> Generator[simpy.Event]:
        yield self._clock.moment(at_s, REPAIR)
        yield shelf.put(1)


class Failures:
    """Has nodes and jobs fail by *rules*, from when a node comes into service until it has left.

    A unit is at risk while its node is up; its hazard is that of its age: time since delivery, earlier life
    included, or since it was swapped. Each rule has a stream of draws of its own for each node. So the times
    at which it strikes depend on nothing else that happens; where the node is down just then, nothing fails.
    What may come from *end_s* on does not.
    """

    def __init__(
        self, crew: Crew, rules: Sequence[FailureSpec], spares: Sequence[SparesSpec], seed: int, end_s: float
    ) -> None:
        self._crew = crew
        self._seed = seed
        self._end_s = end_s
        self._spares = Spares(crew.clock, spares)
        self._hazards = {rule.name: hazard(rule) for rule in rules}
        self._of_cohort = [[r for r in rules if r.unit != "job" and _concerns(r, c)] for c in crew.cohorts]
        #: Called with (cohort, node) after each failure of a node that will be repaired.
        self.failed: Callable[[int, int], None] = lambda cohort, node: None
        #: Of nodes that have been in service, when their GPUs were new, and the node itself, at NODE.
        self._born_s: dict[int, list[float]] = {}
        crew.came.append(self._begin)
        for rule in rules:
            if rule.unit == "job":
                crew.clock.process(self._jobs(rule))

    def _begin(self, k: int, _: int, nodes: Sequence[int]) -> None:
        cohort, clock = self._crew.cohorts[k], self._crew.clock
        for node in nodes:
            if node in self._born_s:
                continue
            self._born_s[node] = [cohort.born_s] * (cohort.gpus_per_node + 1)
            for rule in self._of_cohort[k]:
                if rule.script:
                    clock.process(self._script(k, node, rule))
                else:
                    clock.process(self._chance(k, node, rule, _units(rule, cohort), cohort.born_s))

    def _script(self, k: int, node: int, rule: FailureSpec) -> Generator[simpy.Event]:
        """Process: *node* fails as *rule* has written down."""
        crew = self._crew
        for step in rule.script:
            yield crew.clock.moment(crew.clock.now + duration_s(step.after), REPAIR)
            if not crew.fleet.in_service[node]:
                return
            failure = self._stop(node, rule, NODE, None, "script")
            self.failed(k, node)
            yield crew.clock.moment(crew.clock.now + duration_s(step.down), REPAIR)
            if not crew.fleet.in_service[node]:
                return
            self._restore(node, failure)

    def _chance(
        self, k: int, node: int, rule: FailureSpec, units: Sequence[int], born_s: float
    ) -> Generator[simpy.Event]:
        """Process: *units* of *node*, new at *born_s*, fail by the hazard of *rule*, and are repaired.

        It draws when the first of them is due, as if all that age had always been there, and passes over what
        has been swapped meanwhile (thinning): for that there is a process anew. A rate that is the same at
        any age just goes on.
        """
        crew, clock = self._crew, self._crew.clock
        cohort, births_s = crew.cohorts[k], self._born_s[node]
        place = rule.name, cohort.name, node - cohort.node_numbers[0]
        node_born_s, ages = births_s[NODE], self._ages(rule)
        swapped = () if born_s == cohort.born_s else (units[0], str(born_s))
        rng = stream(self._seed, "failure", *place, *swapped)
        factor = len(units) * self._lemon(rule, place, node_born_s, cohort)
        parts = self._hazards[rule.name]
        at_s = clock.now
        while True:
            draws = rng.standard_exponential(len(parts)).tolist()
            age_s, _ = next_failure(parts, at_s - born_s, draws, factor)
            at_s = max(at_s, born_s + age_s)  # rounding
            if at_s >= self._end_s:
                return
            unit = units[int(rng.integers(len(units)))] if len(units) > 1 else units[0]
            xid = int(_pick(rule.xids, rng)) if rule.xids else None
            repair = _pick({r: r.share for r in rule.repairs}, rng)
            length_s = _length_s(repair, rng)
            if at_s < clock.now:
                continue  # while it was repaired
            yield clock.moment(at_s, REPAIR)
            if not crew.fleet.in_service[node] or ((ages or rule.lemons) and births_s[NODE] != node_born_s):
                return
            if crew.fleet.down(node) or (ages and births_s[unit] != born_s):
                continue
            failure = self._stop(node, rule, unit, xid, repair.name)
            if repair.retires:
                crew.retire(k, [node], "failure")
                return
            self.failed(k, node)
            yield clock.moment(at_s + length_s, REPAIR)
            if not crew.fleet.in_service[node]:
                return
            if repair.replaces is not None:
                yield from self._spares.take(cohort.model.id, repair.replaces)
                if not crew.fleet.in_service[node]:
                    self._spares.give(cohort.model.id, repair.replaces)
                    return
                if repair.replaces == "node":
                    self._swap(k, node, [*range(cohort.gpus_per_node), NODE])
                else:
                    self._swap(k, node, [unit if unit != NODE else int(rng.integers(cohort.gpus_per_node))])
            self._restore(node, failure)
            due = sum(h.cumulative(clock.now - born_s) - h.cumulative(at_s - born_s) for h in parts)
            if not due * factor <= MANY:
                at_s = clock.now

    def _ages(self, rule: FailureSpec) -> bool:
        """Whether the rate of *rule* changes with age."""
        return not all(isinstance(h, Constant) for h in self._hazards[rule.name])

    def _lemon(
        self, rule: FailureSpec, place: tuple[str, str, int], node_born_s: float, cohort: Cohort
    ) -> float:
        """By how much the node at *place* fails more often than others, for as long as it is that node."""
        if rule.lemons is None:
            return 1.0
        swapped = () if node_born_s == cohort.born_s else (str(node_born_s),)
        drawn = stream(self._seed, "lemon", *place, *swapped).random()
        return rule.lemons.factor if drawn < rule.lemons.share else 1.0

    def _swap(self, k: int, node: int, units: Sequence[int]) -> None:
        """*units* of *node* are new ones from now on, and so are their risks."""
        now = self._crew.clock.now
        for unit in units:
            self._born_s[node][unit] = now
        for rule in self._of_cohort[k]:
            of_rule = [unit for unit in units if (unit == NODE) == (rule.unit == "node")]
            anew = self._ages(rule) or (rule.lemons is not None and NODE in units)
            if rule.hazard and of_rule and anew:
                self._crew.clock.process(self._chance(k, node, rule, of_rule, now))

    def _stop(self, node: int, rule: FailureSpec, unit: int, xid: int | None, repair: str) -> Failure:
        """*unit* of *node* fails now: the node is down, and what ran on it waits again."""
        crew, now = self._crew, self._crew.clock.now
        jobs = crew.replay.jobs_on(node)
        crew.fleet.close(node)
        if jobs:
            crew.replay.evict(jobs, FAILED)
        if crew.fleet.lower(node):
            crew.observer.node_changed(now, node, "down", "failure", rule.powered)
        rung, age_s = crew.rung_of[node], now - self._born_s[node][unit]
        gpu = None if unit == NODE else unit
        failure = Failure(now, node, rung, gpu, None, rule.name, xid, repair, age_s, len(jobs))
        crew.observer.failed(failure)
        crew.emptied(node)
        return failure

    def _restore(self, node: int, failure: Failure) -> None:
        crew, now = self._crew, self._crew.clock.now
        if crew.fleet.lift(node):
            crew.observer.node_changed(now, node, "up", "repair")
        failure.down_s = now - failure.time_s
        crew.fleet.open(node)
        crew.replay.capacity_added()

    def _jobs(self, rule: FailureSpec) -> Generator[simpy.Event]:
        """Process: running jobs of the sizes of *rule* fail at its rate.

        Times are drawn for as many jobs as could ever run at once, and those beyond what runs are passed
        over: thinning, exact (Lewis and Shedler, 1979).
        """
        crew, clock, replay = self._crew, self._crew.clock, self._crew.replay
        rng = stream(self._seed, "failure", rule.name)
        low, high = rule.jobs.min_gpus, rule.jobs.max_gpus or inf
        most = sum(c.gpus for c in crew.cohorts) // low
        per_s = most * sum(h.per_year or 0.0 for h in rule.hazard) / YEAR_S
        at_s = 0.0
        while per_s and (at_s := at_s + rng.standard_exponential() / per_s) < self._end_s:
            which = int(rng.integers(most))
            xid = int(_pick(rule.xids, rng)) if rule.xids else None
            yield clock.moment(at_s, REPAIR)
            if which >= replay.running:
                continue
            jobs = [j for j in replay.running_jobs() if low <= replay.jobs.gpus[j] <= high]
            if which >= len(jobs):
                continue
            job = jobs[which]
            node = replay.attempts.node[job]
            node = node if node >= 0 else replay.attempts.gangs[~node][0]
            age_s = at_s - crew.cohorts[crew.cohort_of[node]].born_s
            replay.evict([job], FAILED)
            rung = crew.rung_of[node]
            crew.observer.failed(Failure(at_s, node, rung, None, job, rule.name, xid, "", age_s, 1, 0.0))


def _units(rule: FailureSpec, cohort: Cohort) -> Sequence[int]:
    """What of a node of *cohort* may fail by *rule*."""
    return range(cohort.gpus_per_node) if rule.unit == "gpu" else (NODE,)


def _concerns(rule: FailureSpec, cohort: Cohort) -> bool:
    """Whether *rule* is about the nodes of *cohort*."""
    models, cohorts = rule.gpu_models, rule.cohorts
    return (models is None or cohort.model.id in models) and (
        cohorts is None or cohort.name in cohorts or cohort.series in cohorts
    )


def _pick(weights: Mapping[T, float], rng: np.random.Generator) -> T:
    """One of the keys, as likely as its weight says."""
    left = rng.random() * sum(weights.values())
    for key, weight in weights.items():
        left -= weight
        if left < 0:
            return key
    return key


def _length_s(repair: RepairSpec, rng: np.random.Generator) -> float:
    """How long *repair* takes: log-normal."""
    spread = exp(repair.sigma * rng.standard_normal()) if repair.sigma else 1.0
    return duration_s(repair.median) * spread
