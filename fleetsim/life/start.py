"""Sets the life of a fleet going: one call, before the clock runs."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from math import inf

import simpy

from fleetsim.engine import DELIVERY, Clock, Replay
from fleetsim.fleet import Fleet, Pool
from fleetsim.life.cascade import Cascade
from fleetsim.life.crew import Crew
from fleetsim.life.failures import Failures
from fleetsim.life.money import Money
from fleetsim.life.power import PowerCap, capped_sites
from fleetsim.life.retirement import Retirement, SecondaryMarket
from fleetsim.life.slots import Slots
from fleetsim.observer import Observer
from fleetsim.records import Cohort, Jobs
from fleetsim.scenario import Scenario
from fleetsim.units import duration_s


def stops_jobs(scenario: Scenario) -> bool:
    """Whether the life of the nodes may stop jobs."""
    spec = scenario.spec
    sheds = any(s.over_power == "shed" for s in spec.sites)
    return bool(spec.failures or spec.descends or spec.retirement or sheds)


def begin(
    clock: Clock,
    replay: Replay,
    fleet: Fleet,
    observer: Observer,
    scenario: Scenario,
    on_rung: list[dict[int, Pool]],
    money: Money | None,
    jobs: Jobs,
    reserved: Mapping[Pool, Pool],
) -> None:
    """Put the cohorts of *scenario* that are there into service, and start the processes of their lives.

    *on_rung* is as in :class:`~fleetsim.eligibility.Pools`; *reserved* says of pools of reservations whose
    nodes they have.
    """
    spec = scenario.spec
    end_s = scenario.horizon_s if scenario.horizon_s is not None else inf
    if stops_jobs(scenario):
        replay.residents = [[] for _ in fleet.pool_of]
    crew = Crew(clock, replay, fleet, observer, scenario.cohorts, spec.tiers, on_rung)
    slots = Slots(crew, duration_s(spec.retirement.drain) if spec.retirement else 0.0)
    if capped := capped_sites(scenario.cohorts):
        at = {p: scenario.cohorts[k] for k, pools in enumerate(on_rung) for p in pools.values()}
        at |= {pool: at[base] for pool, base in reserved.items()}
        PowerCap(crew, capped, at, jobs)
    failures = Failures(crew, spec.failures, spec.spares, spec.seed, end_s) if spec.failures else None
    if spec.descends:
        assert spec.cascade is not None
        Cascade(crew, spec.cascade, spec.tiers, money, end_s)
    if spec.retirement is not None:
        retirement = Retirement(crew, spec.retirement, money, end_s)
        if failures is not None:
            failures.failed = retirement.failed
    if money is not None:
        SecondaryMarket(crew, money, spec.retirement is None or spec.retirement.sell, end_s)
    for cohort in scenario.cohorts:
        if cohort.ordered_s is not None and 0 <= cohort.ordered_s < end_s:
            clock.process(_ordered(crew, cohort, cohort.ordered_s))
    for k in sorted(range(len(scenario.cohorts)), key=lambda k: scenario.cohorts[k].delivered_s):
        if scenario.cohorts[k].delivered_s <= 0:
            slots.deliver(k, "initial")
    clock.process(slots.deliveries())


def _ordered(crew: Crew, cohort: Cohort, at_s: float) -> Generator[simpy.Event]:
    """Process: note when *cohort* is ordered."""
    yield crew.clock.moment(at_s, DELIVERY)
    crew.observer.event(
        at_s, "order", cohort.name, f"{cohort.nodes} nodes, {cohort.gpus} x {cohort.model.id}"
    )
