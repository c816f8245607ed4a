"""Waiting jobs tenant by tenant, for queues that choose the tenant first and then its job."""

from __future__ import annotations

from heapq import heappop, heappush
from math import inf

from fleetsim.policies.desk import Desk, Terms

#: A rank is a job's number with its priority, most urgent lowest, above it.
_JOB = (1 << 40) - 1


class Lanes:
    """Jobs that wait, a lane for each tenant: by priority of the job, then in order of arrival.

    With ``on_misfit: stop`` the first job of a lane holds back all behind it; with ``skip`` the first of each
    shape stands to be chosen. Jobs of one shape fit or fail together, so ``misfits`` holds the shapes that
    were found not to fit since GPUs were last freed, and nobody is asked twice.
    """

    def __init__(self, desk: Desk, terms: Terms) -> None:
        self.tenant_of: list[int] = terms.jobs.tenant.tolist()
        self.misfits: set[int] = set()
        self._options = desk.jobs.shapes
        self._shape_of = desk.jobs.shape_of
        self._gpus_of = desk.jobs.gpus
        self._skip = terms.scheduler.on_misfit == "skip"
        self._before: list[int] | None = None
        priority = terms.jobs.priority
        if priority is not None and len(priority) and priority.min() < priority.max():
            self._before = (int(priority.max()) - priority.astype(int)).tolist()
        self.waiting: dict[int, dict[int, list[int]]] = {}  # tenant: shape, or 0: ranks
        self._leading: dict[int, set[int]] = {}  # by shape: tenants that it stands first in a lane of
        self._size: dict[int, int] = {}  # of a shape: GPUs
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, job: int) -> int:
        """Let *job* wait; return its tenant."""
        self._count += 1
        tenant = self.tenant_of[job]
        rank = job if self._before is None else self._before[job] * (_JOB + 1) + job
        heap = self.waiting.setdefault(tenant, {}).setdefault(self._shape_of[job] if self._skip else 0, [])
        before = heap[0] if heap else -1
        heappush(heap, rank)
        if heap[0] != before:
            self._lead(tenant, before, rank)
        return tenant

    def look(self, freed: bool) -> None:
        """A pass begins: which shapes have not enough free GPUs anywhere."""
        misfits = self.misfits
        if freed:
            misfits.clear()
        for shape in self._leading:
            if shape not in misfits:
                gpus = self._size[shape]
                for pool, _ in self._options[shape]:
                    if pool.idle >= gpus:
                        break
                else:
                    misfits.add(shape)

    def hopeful(self) -> set[int]:
        """Tenants with a job to go next that is not known not to fit."""
        return set().union(*(self._leading[shape] for shape in self._leading.keys() - self.misfits))

    def first(self, tenant: int, most: float = inf) -> int:
        """The job of *tenant* that goes next, of up to *most* GPUs and not known not to fit; -1 if none."""
        misfits, best = self.misfits, -1
        for heap in self.waiting[tenant].values():
            rank = heap[0]
            job = rank & _JOB
            if (
                (best < 0 or rank < best)
                and self._shape_of[job] not in misfits
                and self._gpus_of[job] <= most
            ):
                best = rank
        return best & _JOB if best >= 0 else -1

    def head(self, tenant: int) -> int:
        """The first job of *tenant*, whether it fits or not."""
        return min(heap[0] for heap in self.waiting[tenant].values()) & _JOB

    def pop(self, job: int) -> None:
        """*job*, the first of its tenant and shape, waits no more."""
        self._count -= 1
        tenant = self.tenant_of[job]
        lane = self.waiting[tenant]
        key = self._shape_of[job] if self._skip else 0
        heap = lane[key]
        rank = heappop(heap)
        self._lead(tenant, rank, heap[0] if heap else -1)
        if not heap:
            del lane[key]
            if not lane:
                del self.waiting[tenant]

    def _lead(self, tenant: int, before: int, after: int) -> None:
        """Where one rank stood first in a lane of *tenant* another does; -1 is none."""
        old = self._shape_of[before & _JOB] if before >= 0 else -1
        new = self._shape_of[after & _JOB] if after >= 0 else -1
        if old == new:
            return
        if old >= 0:
            self._leading[old].remove(tenant)
            if not self._leading[old]:
                del self._leading[old]
        if new >= 0:
            self._leading.setdefault(new, set()).add(tenant)
            self._size[new] = self._gpus_of[after & _JOB]
