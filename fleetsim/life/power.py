"""Power limits: what a GPU draws and how fast it works below its maximum, and the sites that set limits."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from math import fsum

import numpy as np
import simpy

from fleetsim.engine import POWER, Options
from fleetsim.errors import FleetsimError
from fleetsim.fleet import Pool
from fleetsim.gpu_model import GpuModel
from fleetsim.life.crew import Crew
from fleetsim.records import Activity, Cohort, Jobs
from fleetsim.units import human

#: Of a site's power: what adding floats may leave over.
ROUNDING = 1e-9


def limit_w(model: GpuModel, share: float) -> float:
    """W that a GPU of *model*, with its part of the server, may draw at *share* of its slot."""
    return share * model.slot_kw_per_gpu * 1000


def pace(model: GpuModel, activity: Activity, share: float) -> float:
    """How fast jobs of *activity* run where GPUs of *model* may draw *share* of their maximum; 1: as without.

    Where they would draw no more anyway, nothing changes. Else what they draw beyond a GPU that holds a
    process and runs no kernel falls from ``busy_power_w - context_power_w`` to ``limit - context_power_w``.
    It goes with about the cube of the clock, since voltage follows the clock and dynamic power is
    proportional to voltage squared x clock (Mudge, "Power: a first-class architectural design constraint",
    IEEE Computer, 2001); so the clock, and with it the work done, goes with the cube root. Work that waits
    for memory suffers less. An interactive session lasts as long as the person who holds it.
    """
    busy_w = model.busy_power_w(activity.sm_active)
    most_w = limit_w(model, share)
    if busy_w <= most_w or activity.workload_class == "interactive":
        return 1.0
    return float(((most_w - model.context_power_w) / (busy_w - model.context_power_w)) ** (1 / 3))


def share_of_slots(here: Iterable[tuple[Cohort, int]]) -> float:
    """The share of the maximum at which so many nodes of the cohorts of one site draw what it has; 1: all."""
    here = list(here)
    used_kw = fsum(node_kw(c) * nodes for c, nodes in here)
    cap_kw = here[0][0].site.it_power_kw if here else None
    return 1.0 if cap_kw is None or used_kw <= cap_kw * (1 + ROUNDING) else cap_kw / used_kw


def capped_sites(cohorts: Sequence[Cohort]) -> list[str]:
    """Sites whose GPUs may have to be limited: all *cohorts* there could in all draw more than they have."""
    capped = dict.fromkeys(c.site.name for c in cohorts if c.site.over_power == "power_cap")
    return [s for s in capped if share_of_slots((c, c.nodes) for c in cohorts if c.site.name == s) < 1]


def node_kw(cohort: Cohort) -> float:
    """kW of IT power that a node of *cohort* reserves: what its server draws at most."""
    return cohort.gpus_per_node * cohort.model.slot_kw_per_gpu


class PowerCap:
    """Limits the GPUs of each of *sites* to a share of their maximum, so that it never draws too much.

    The share is ``it_power_kw`` of the site over what its installed servers draw at most, and 1 while that
    fits. It changes only when nodes come or leave, once all that do so at that time have. *at* says of every
    pool what its nodes are.
    """

    def __init__(self, crew: Crew, sites: Sequence[str], at: Mapping[Pool, Cohort], jobs: Jobs) -> None:
        self._crew, self._at = crew, at
        self._full: list[Options] = list(crew.replay.jobs.shapes)  # speeds at the maximum
        shapes, first = np.unique(crew.replay.jobs.shape_of, return_index=True)
        activities = [jobs.activities[a] for a in jobs.activity[first]]
        self._activity = dict(zip(shapes.tolist(), activities, strict=True))  # of shapes that have jobs
        self._nodes = [0] * len(crew.cohorts)  # installed
        self._share = dict.fromkeys(sites, 1.0)
        self._due = False  # whether a change is on its way
        crew.came.append(self._came)
        crew.left.append(self._left)

    def _came(self, cohort: int, rung: int, nodes: Sequence[int]) -> None:
        if rung == self._crew.entry(cohort):
            self._count(cohort, len(nodes))

    def _left(self, cohort: int, nodes: Sequence[int], cause: str) -> None:
        self._count(cohort, -len(nodes))

    def _count(self, cohort: int, nodes: int) -> None:
        self._nodes[cohort] += nodes
        if not self._due:
            self._due = True
            self._crew.clock.process(self._change())

    def _change(self) -> Generator[simpy.Event]:
        """Process: set the limits when all that comes and goes now has."""
        yield self._crew.clock.moment(self._crew.clock.now, POWER)
        self._due = False
        installed = [(c, n) for c, n in zip(self._crew.cohorts, self._nodes, strict=True) if n]
        for site, before in self._share.items():
            here = [(c, n) for c, n in installed if c.site.name == site]
            if (share := share_of_slots(here)) != before:
                self._limit(site, share, [c for c, _ in here])

    def _limit(self, site: str, share: float, installed: Sequence[Cohort]) -> None:
        """From now on GPUs of *site* may draw *share* of their maximum."""
        crew, before = self._crew, self._share[site]
        for c in installed:
            if limit_w(c.model, share) <= c.model.context_power_w:
                raise FleetsimError(
                    f"site {site}: after {human(crew.clock.now)} it has {share:.1%} of what its servers draw "
                    f"at most, and a GPU of {c.model.id} draws more before any kernel runs. Give the site "
                    "more power, or retire nodes before others come."
                )
        self._share[site] = share
        shapes: list[Options] = []
        changed: set[tuple[int, Pool]] = set()
        for shape, options in enumerate(crew.replay.jobs.shapes):
            now = list(options)
            for i, (pool, full) in enumerate(self._full[shape]):
                activity, model = self._activity.get(shape), self._at[pool].model
                if activity is None or self._at[pool].site.name != site:
                    continue
                now[i] = pool, full * pace(model, activity, share)
                if model.busy_power_w(activity.sm_active) > limit_w(model, min(before, share)):
                    changed.add((shape, pool))
            shapes.append(tuple(now))
        crew.replay.repace(shapes, changed)
        crew.observer.limited(site, share)
        detail = f"limit {100 * share:.3g} % of the maximum"
        crew.observer.event(crew.clock.now, "power_cap", site, detail)
