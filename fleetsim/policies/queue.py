"""Which waiting job goes next: the queues by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fleetsim.policies.backfill import Easy
from fleetsim.policies.clusters import Clusters, Part
from fleetsim.policies.conservative import Conservative
from fleetsim.policies.desk import Desk, Queue, Terms
from fleetsim.policies.drf import Drf
from fleetsim.policies.fair_share import FairShare
from fleetsim.policies.fifo import Fifo
from fleetsim.policies.limits import Limited
from fleetsim.policies.listed import Admitted, Afresh, remaining
from fleetsim.policies.ordered import History, Key, OrderedSkip, OrderedStop, run_time, urgency
from fleetsim.policies.orders import Fixed, LeastAttained, Levels, Order, Remaining, gittins
from fleetsim.policies.placement import COUNTING
from fleetsim.policies.quota import Quota
from fleetsim.policies.ranked import Ranked
from fleetsim.policies.spot import Spot
from fleetsim.units import duration_s


def _ranked(desk: Desk, terms: Terms, order: Order) -> Queue:
    return Ranked(desk, order, counts=terms.scheduler.placement in COUNTING)


def _remaining(times_gpus: bool) -> Callable[[Desk, Terms], Queue]:
    def make(desk: Desk, terms: Terms) -> Queue:
        if terms.scheduler.admit == "count":
            return Admitted(desk, times_gpus, duration_s(terms.scheduler.interval or 0.0))
        if terms.scheduler.admit == "afresh":
            return Afresh(desk, remaining(desk, times_gpus))
        return _ranked(desk, terms, Remaining(desk, times_gpus))

    return make


def _las(desk: Desk, terms: Terms) -> Queue:
    thresholds = terms.scheduler.las_thresholds_gpu_s
    return _ranked(desk, terms, Levels(desk, thresholds, range(len(thresholds) + 1)))


def _gittins(desk: Desk, terms: Terms) -> Queue:
    sizes = terms.jobs.duration_s * terms.jobs.gpus
    # Levels that half the jobs reach, an eighth, a 32nd ...: as many as the number of jobs can tell apart.
    reach = 0.5 ** np.arange(1, max(2, len(sizes)).bit_length(), 2)
    thresholds = np.unique(np.quantile(sizes, 1 - reach)).tolist() if len(sizes) else []
    return _ranked(desk, terms, Levels(desk, thresholds, [-index for index in gittins(sizes, thresholds)]))


def _max_min(desk: Desk, terms: Terms) -> Queue:
    assert terms.scheduler.interval is not None  # checked when the scenario was read
    return _ranked(desk, terms, LeastAttained(desk, duration_s(terms.scheduler.interval)))


def _by(key: Callable[[Desk, Terms], Key]) -> Callable[[Desk, Terms], Queue]:
    """The queue of a fixed key, as the scheduler's rules want it."""

    def make(desk: Desk, terms: Terms) -> Queue:
        fixed = key(desk, terms)
        if terms.scheduler.preemptive and terms.scheduler.admit == "afresh":
            return Afresh(desk, lambda job, runs, now: fixed(job))
        if terms.scheduler.preemptive:
            return _ranked(desk, terms, Fixed(fixed))
        ordered = OrderedSkip if terms.scheduler.on_misfit == "skip" else OrderedStop
        return ordered(desk, fixed)

    return make


def _qssf(desk: Desk, terms: Terms) -> Queue:
    history = History(desk, terms)
    ordered = OrderedSkip if terms.scheduler.on_misfit == "skip" else OrderedStop
    return ordered(desk, history.key, history.ended)


def build(desk: Desk, terms: Terms, parts: Sequence[Part]) -> Queue:
    """The queue of a run, with what its tenants need around the policy: nothing, as a rule."""

    def one(desk: Desk, terms: Terms) -> Queue:
        make = QUEUES[terms.scheduler.queue]
        spot = any(tenant.preemptible for tenant in terms.tenants)
        return Spot(desk, terms, make) if spot else make(desk, terms)

    def all_parts(desk: Desk, terms: Terms) -> Queue:
        return Clusters(desk, terms, one, parts) if len(parts) > 1 else one(desk, terms)

    limited = any(tenant.max_gpus is not None for tenant in terms.tenants)
    if limited and terms.scheduler.queue != "quota":  # which knows limits itself
        return Limited(desk, terms, all_parts)
    return all_parts(desk, terms)


QUEUES: dict[str, Callable[[Desk, Terms], Queue]] = {
    "fifo": lambda desk, terms: Fifo(),
    "fifo_skip": lambda desk, terms: OrderedSkip(desk, float),
    "smallest": _by(lambda desk, terms: desk.jobs.gpus.__getitem__),
    "sjf": _by(run_time),
    "priority": _by(urgency),
    "qssf": _qssf,
    "easy": Easy,
    "conservative": Conservative,
    "srtf": _remaining(times_gpus=False),
    "srsf": _remaining(times_gpus=True),
    "las": _las,
    "gittins": _gittins,
    "max_min": _max_min,
    "quota": Quota,
    "fair_share": FairShare,
    "drf": Drf,
}
