"""A run whose GPUs are shared: its one pool, what each job asks of it, and where that goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from fleetsim.eligibility import Shapes, limits
from fleetsim.mig import PROFILES, share
from fleetsim.policies.packing import PACKINGS
from fleetsim.sharing import MOST_GPUS, WHOLE, NodeShape, Request, SharedPool, request_of
from fleetsim.slicing import Slicing
from fleetsim.streams import stream

if TYPE_CHECKING:
    from fleetsim.fleet import Pool
    from fleetsim.policies.placement import Placement
    from fleetsim.records import Activity, Codes, Cohort, Jobs
    from fleetsim.spec import ScenarioSpec

#: Positions in :data:`fleetsim.eligibility.REJECT_REASONS`.
_MODEL, _MEMORY, _LIMIT, _NODE, _INSTANCES = 1, 2, 5, 7, 8


@dataclass(frozen=True)
class SharedFleet:
    """What the engine and the queues need of a run whose GPUs are shared.

    A shape is a request and an activity of the jobs that make it: ``asks[job]`` is the number of both.
    ``gpu_milli[job]`` is what it counts for in queues and limits. ``pace`` is the speed of a job where it is;
    ``host`` the CPU (thousandths of a core) and memory (MiB) of all nodes, 0 where they limit nothing.
    """

    pool: SharedPool
    pool_of: list[Pool]  # of every node
    shapes: Shapes
    asks: list[int]
    gpu_milli: list[int]
    place: Placement
    pace: Callable[[float, tuple[int, ...]], float]
    slicing: Slicing | None
    host: tuple[int, int]


def share_fleet(jobs: Jobs, cohorts: Sequence[Cohort], spec: ScenarioSpec) -> SharedFleet:
    """Put all nodes of *cohorts* into one pool, and make *jobs* into requests to it.

    CPU and host memory limit only where cohorts say how much a node has. FGD takes the jobs of the run for
    the typical ones, as the experiments of its authors do. A job without GPUs runs equally fast on any node.
    """
    sharing = spec.scheduler.sharing
    assert sharing is not None
    group = _groups(jobs)
    asker = _Asker(jobs, cohorts, spec)
    shapes: dict[tuple[Request | int, int], int] = {}
    shape_of_group = []
    for job in np.unique(group, return_index=True)[1].tolist():  # the first of each
        key = asker.ask(job), int(jobs.activity[job])
        shape_of_group.append(shapes.setdefault(key, len(shapes)))
    shape_of = np.array(shape_of_group, np.int32)[group]
    requests = [Request(0) if isinstance(asked, int) else asked for asked, _ in shapes]
    pool = SharedPool("all nodes", _nodes(cohorts), requests)
    why = np.array(
        [
            asked if isinstance(asked, int) else -1 if pool.possible(shape) else _NODE
            for (asked, _), shape in shapes.items()
        ],
        np.int32,
    )
    rejected: Codes = why[shape_of]
    runs: Codes = np.where(rejected < 0, shape_of, -1).astype(np.int32)
    counts = np.bincount(runs[runs >= 0], minlength=len(requests)).tolist()
    place = PACKINGS[spec.scheduler.placement](pool, counts, stream(spec.seed, "placement"))
    milli = np.array([asker.milli(request) for request in requests], np.int64)
    # Of its pools the engine uses no more than a SharedPool has, and so do the queues of shared runs.
    as_pool = cast("Pool", pool)
    return SharedFleet(
        pool,
        [as_pool] * len(pool.nodes),
        Shapes(runs, [((as_pool, 1.0),)] * len(requests), rejected),
        shape_of.tolist(),
        milli[shape_of].tolist(),
        cast("Placement", place),
        _pace([jobs.activities[activity] for _, activity in shapes], cohorts, requests),
        Slicing(pool, sharing.interference, len(jobs)) if sharing.replicas else None,
        (
            sum(c.nodes * (c.cpu_milli or 0) for c in cohorts),
            sum(c.nodes * (c.memory_mib or 0) for c in cohorts),
        ),
    )


def _groups(jobs: Jobs) -> Codes:
    """Jobs that differ in nothing that matters have equal codes, numbered in order of arrival."""
    import pyarrow as pa

    codes: Codes = np.zeros(len(jobs), np.int32)
    columns = (
        jobs.gpus,
        jobs.gpu_share,
        jobs.min_memory_gb,
        jobs.cpu_milli,
        jobs.memory_mib,
        jobs.gpu_model,
        jobs.activity,
        jobs.tenant,
    )
    for column in columns:
        if column is not None and len(column):
            encoded = pa.array(column).dictionary_encode()
            key = codes.astype(np.int64) * len(encoded.dictionary) + encoded.indices.to_numpy()
            codes = pa.array(key).dictionary_encode().indices.to_numpy()
    return codes


class _Asker:
    """Makes the request of a job, or finds why it can have none."""

    def __init__(self, jobs: Jobs, cohorts: Sequence[Cohort], spec: ScenarioSpec) -> None:
        self._jobs = jobs
        self._cohorts = cohorts
        self._limits_cpu = any(c.cpu_milli is not None for c in cohorts)
        self._limits_memory = any(c.memory_mib is not None for c in cohorts)
        self._of_workload = {w.name: w for w in spec.workloads}
        self._of_tenant = {t.name: t.gpu_models for t in spec.tenants}
        self._most_gpus = limits(jobs.tenants, spec.tenants)
        sharing = spec.scheduler.sharing
        self._slice = WHOLE // sharing.replicas if sharing and sharing.replicas else 0

    def ask(self, job: int) -> Request | int:
        """The request of *job*, or the position of the reason why it can run nowhere."""
        jobs, gpus, mig = self._jobs, int(self._jobs.gpus[job]), self._mig(job)
        workload = self._of_workload[jobs.activities[jobs.activity[job]].workload]
        asked = jobs.gpu_models[jobs.gpu_model[job]] if jobs.gpu_model[job] >= 0 else None
        tenant = self._of_tenant.get(jobs.tenants[jobs.tenant[job]])
        sets = [set(names) for names in (workload.gpu_models, tenant, asked) if names is not None]
        if not gpus:
            sets, mig = [], None
        elif mig is not None and gpus > 1:
            return _INSTANCES
        memory_gb = {c.name: memory for c in self._cohorts if (memory := _memory_gb(c, mig)) is not None}
        allowed = [c for c in self._cohorts if c.name in memory_gb and all(c.names & names for names in sets)]
        if not allowed:
            return _MODEL
        if gpus:
            allowed = [c for c in allowed if memory_gb[c.name] >= float(jobs.min_memory_gb[job])]
        if not allowed:
            return _MEMORY
        if gpus > MOST_GPUS:
            return _NODE
        names = {_name(c) for c in allowed}
        request = Request(
            gpus,
            WHOLE if mig is not None or not gpus else self._milli(job),
            int(jobs.cpu_milli[job]) if self._limits_cpu and jobs.cpu_milli is not None else 0,
            int(jobs.memory_mib[job]) if self._limits_memory and jobs.memory_mib is not None else 0,
            () if names == {_name(c) for c in self._cohorts} else tuple(sorted(names)),
            mig,
        )
        over = self.milli(request) > WHOLE * self._most_gpus[jobs.tenant[job]]
        return _LIMIT if over else request

    def _mig(self, job: int) -> str | None:
        activity = self._jobs.activities[self._jobs.activity[job]]
        return self._of_workload[activity.workload].mig

    def _milli(self, job: int) -> int:
        return self._slice or max(1, round(float(self._jobs.gpu_share[job]) * WHOLE))

    def milli(self, request: Request) -> int:
        """What *request* counts for; a MIG instance by its largest share of a GPU, rounded."""
        if request.mig is None:
            return request.gpus * request.gpu_milli
        return max(
            round(WHOLE * share(c.model.id, profile))
            for c in self._cohorts
            for profile in PROFILES.get(c.model.id, ())
            if profile.name == request.mig
        )


def _memory_gb(cohort: Cohort, mig: str | None) -> float | None:
    """GPU memory that a job has there; None where there is no such MIG instance."""
    if mig is None:
        return cohort.model.memory_gb
    profiles = PROFILES.get(cohort.model.id, ()) if cohort.mig_gpus else ()
    return next((float(profile.memory_gb) for profile in profiles if profile.name == mig), None)


def _name(cohort: Cohort) -> str:
    return cohort.known_as or cohort.model.id


def _nodes(cohorts: Sequence[Cohort]) -> dict[int, NodeShape]:
    return {
        node: shape
        for c in cohorts
        for shape in [
            NodeShape(
                c.model.id, c.gpus_per_node, c.cpu_milli or 0, c.memory_mib or 0, c.mig_gpus, c.known_as
            )
        ]
        for node in c.node_numbers
    }


def _pace(
    activities: Sequence[Activity], cohorts: Sequence[Cohort], requests: Sequence[Request]
) -> Callable[[float, tuple[int, ...]], float]:
    """The speed of jobs at each place, the reference GPU being 1; *activities* are those of *requests*."""
    cohort_of = {node: k for k, c in enumerate(cohorts) for node in c.node_numbers}
    speeds = [
        [c.model.speed(a.workload_class, a.reference) if request.gpus else 1.0 for c in cohorts]
        for request, a in zip(requests, activities, strict=True)
    ]

    def pace(_: float, where: tuple[int, ...]) -> float:
        node, handle = where
        return speeds[request_of(handle)][cohort_of[node]]

    return pace
