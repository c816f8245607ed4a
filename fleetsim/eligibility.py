"""Which pools may run a job, how fast, and in which order they are tried; and who can never run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

import numpy as np

from fleetsim.catalog import GpuModel
from fleetsim.engine import Options
from fleetsim.fleet import Pool
from fleetsim.life.ladder import computes, ladder, meets
from fleetsim.life.spec import TierSpec
from fleetsim.records import Activity, Codes, Cohort, Jobs
from fleetsim.spec import SchedulerSpec, TenantSpec, WorkloadSpec

#: Why nothing in the fleet can ever run a job. Such a job is rejected when it is submitted, and counted.
REJECT_REASONS = (
    "needs part of a GPU",
    "no allowed GPU model",
    "not enough GPU memory",
    "larger than any pool",
    "no nodes for its tenant",
    "larger than its tenant's limit",
    "asks for no GPU",
    "larger than any node",
    "asks for several MIG instances",
    "no GPU model with its data type",
    "no rung of the ladder for it",
)


@dataclass(frozen=True)
class PoolPlan:
    """A pool and what its nodes are: of one model, name, node size and tenants, on one rung at one site."""

    pool: Pool
    model: GpuModel
    nodes: int  # at most: deliveries to come, and what may come down the ladder, included
    tenants: tuple[str, ...] | None = None  # as of its cohorts
    names: frozenset[str] = frozenset()  # likewise
    tier: TierSpec | None = None  # None: there is no ladder


@dataclass(frozen=True)
class Pools:
    """The pools of a fleet, empty as yet.

    ``of_node`` is the pool in which each node begins, ``on_rung[cohort][rung]`` that of a cohort's nodes on
    each rung, by its index, on which they can ever stand.
    """

    plans: list[PoolPlan]
    of_node: list[Pool]
    on_rung: list[dict[int, Pool]]


def build_pools(
    cohorts: Sequence[Cohort],
    tiers: Sequence[TierSpec] = (),
    descends: bool = False,
    made: Callable[[str, int, list[int]], Pool] = Pool,
) -> Pools:
    """The pools of *cohorts*. With *descends* they may come down to lower rungs of *tiers*.

    *made* makes a pool of a name, the GPUs of a node, and the free GPUs of all nodes.
    """
    total = sum(c.nodes for c in cohorts)
    free = [0] * total
    names = [t.name for t in tiers]
    below = ladder(tiers)
    plans: dict[tuple[object, ...], PoolPlan] = {}
    of_node: dict[int, Pool] = {}
    on_rung: list[dict[int, Pool]] = []
    for c in cohorts:
        rungs: list[int] = [names.index(c.tier)] if tiers else [0]
        while tiers and descends and (lower := below[names[rungs[-1]]]) is not None:
            rungs.append(names.index(lower))
        stands = [
            r
            for r in rungs
            if not tiers or (meets(c.model, tiers[r], c.gpus_per_node) and not tiers[r].for_sale)
        ]
        mine: dict[int, Pool] = {}
        for rung in reversed(stands):  # of two rungs that admit a job, the lower is tried first
            key = (c.site.name, c.model.id, c.known_as, c.gpus_per_node, c.tenants, rung)
            known = plans.get(key)
            name = f"{c.known_as or c.model.id} x{c.gpus_per_node} at {c.site.name}"
            if tiers:
                name += f", {names[rung]}"
            mine_alone = [0] * total if len(stands) > 1 else free  # what left a pool must not look free there
            pool = known.pool if known else made(name, c.gpus_per_node, mine_alone)
            nodes = c.nodes + (known.nodes if known else 0)
            tier = tiers[rung] if tiers else None
            plans[key] = PoolPlan(pool, c.model, nodes, c.tenants, frozenset(c.names), tier)
            mine[rung] = pool
        on_rung.append(mine)
        of_node.update(dict.fromkeys(c.node_numbers, mine[rungs[0]]))
    return Pools(list(plans.values()), [of_node[node] for node in range(total)], on_rung)


@dataclass(frozen=True)
class Shapes:
    """Jobs by where they fit: ``of_job`` is -1 where ``rejected`` (into REJECT_REASONS, else -1) says why."""

    of_job: Codes
    options: list[Options]
    rejected: Codes


def find_shapes(
    jobs: Jobs,
    plans: Sequence[PoolPlan],
    workloads: Sequence[WorkloadSpec],
    tenants: Sequence[TenantSpec],
    scheduler: SchedulerSpec,
) -> Shapes:
    """Group *jobs* by size and eligibility, and find the pools for each group."""
    import pyarrow as pa

    if not len(jobs):
        return Shapes(np.zeros(0, np.int32), [], np.zeros(0, np.int32))
    words = {w.name: w for w in workloads}
    memory = pa.array(jobs.min_memory_gb).dictionary_encode()
    rights = _rights(jobs.tenants, tenants, plans)
    distinct = list(dict.fromkeys(rights))
    right_code = np.array([distinct.index(right) for right in rights])[jobs.tenant]
    too_many = jobs.gpus > np.array(limits(jobs.tenants, tenants))[jobs.tenant]
    fractional = jobs.gpu_share < 1
    radix = (
        (jobs.activity, len(jobs.activities)),
        (memory.indices.to_numpy(), len(memory.dictionary)),
        (jobs.gpu_model + 1, len(jobs.gpu_models) + 1),
        (right_code, len(distinct)),
        (too_many, 2),
        (fractional, 2),
    )
    key = jobs.gpus.astype(np.int64)
    for code, size in radix:
        if size > 1:
            key *= size
            key += code
    encoded = pa.array(key).dictionary_encode()
    group: Codes = encoded.indices.to_numpy()
    first = np.zeros(len(encoded.dictionary), np.int64)
    first[group[::-1]] = np.arange(len(jobs))[::-1]  # the first job of each group

    options: list[Options] = []
    rejected = np.full(len(first), -1, np.int32)
    for i, job in enumerate(first.tolist()):
        activity = jobs.activities[jobs.activity[job]]
        asked = jobs.gpu_models[jobs.gpu_model[job]] if jobs.gpu_model[job] >= 0 else None
        right = rights[jobs.tenant[job]]
        found = _options(
            [plans[k] for k in right.plans],
            right.tiers,
            int(jobs.gpus[job]),
            float(jobs.min_memory_gb[job]),
            [m for m in (words[activity.workload].gpu_models, right.gpu_models, asked) if m is not None],
            words[activity.workload],
            activity,
            scheduler,
        )
        if not jobs.gpus[job]:
            found = 6
        elif fractional[job]:
            found = 0
        elif not right.plans:
            found = 4
        elif too_many[job]:
            found = 5
        rejected[i] = found if isinstance(found, int) else -1
        options.append(() if isinstance(found, int) else found)
    return Shapes(np.where(rejected[group] >= 0, np.int32(-1), group), options, rejected[group])


class _Right(NamedTuple):
    """What jobs of a tenant may have."""

    gpu_models: tuple[str, ...] | None
    plans: tuple[int, ...]
    tiers: frozenset[str]  # rungs that are closed to it


def _rights(names: Sequence[str], tenants: Sequence[TenantSpec], plans: Sequence[PoolPlan]) -> list[_Right]:
    """Of each tenant: its models, and its pools."""
    models = {t.name: t.gpu_models for t in tenants}
    rest = tuple(i for i, plan in enumerate(plans) if plan.tenants is None)
    closed = {p.tier.name: p.tier.tenants for p in plans if p.tier and p.tier.tenants is not None}
    rights = []
    for name in names:
        own = tuple(i for i, plan in enumerate(plans) if plan.tenants is not None and name in plan.tenants)
        allowed = models.get(name)
        shut = frozenset(tier for tier, named in closed.items() if name not in named)
        rights.append(_Right(None if allowed is None else tuple(allowed), own or rest, shut))
    return rights


def limits(names: Sequence[str], tenants: Sequence[TenantSpec]) -> list[float]:
    """Of each tenant: the least limit of it and what it is a part of, GPUs."""
    known = {t.name: t for t in tenants}
    found = []
    for name in names:
        gpus, at = inf, known.get(name)
        while at is not None:
            gpus = min(gpus, inf if at.max_gpus is None else at.max_gpus)
            at = known[at.parent] if at.parent is not None else None
        found.append(gpus)
    return found


def _options(
    plans: Sequence[PoolPlan],
    shut: Collection[str],
    gpus: int,
    min_memory_gb: float,
    allowed: Sequence[Sequence[str]],
    workload: WorkloadSpec,
    activity: Activity,
    scheduler: SchedulerSpec,
) -> Options | int:
    """Pools that may run such a job, in order of preference; or the code of the reason why there are none."""
    by_model = [p for p in plans if all(p.names.intersection(models) for models in allowed)]
    if not by_model:
        return 1
    by_memory = [p for p in by_model if p.model.memory_gb >= min_memory_gb]
    if not by_memory:
        return 2
    by_type = [p for p in by_memory if computes(p.model, workload.data_type)]
    if not by_type:
        return 9

    def admitted(tier: TierSpec | None) -> bool:
        return tier is None or (
            tier.name not in shut
            and (tier.classes is None or activity.workload_class in tier.classes)
            and tier.min_gpus <= gpus <= (tier.max_gpus or inf)
            and (tier.latency == "strict" or workload.latency != "strict")
        )

    by_tier = [p for p in by_type if admitted(p.tier)]
    if not by_tier:
        return 10
    by_size = [p for p in by_tier if gpus <= p.nodes * p.pool.gpus_per_node]
    if not by_size:
        return 3
    speeds = [p.model.speed(activity.workload_class, activity.reference) for p in by_size]
    order = list(range(len(by_size)))
    if scheduler.prefer != "listed":
        sign = -1 if scheduler.prefer == "fastest" else 1
        order.sort(key=lambda i: sign * speeds[i])
    return tuple((by_size[i].pool, speeds[i]) for i in order)
