"""Limits of what tenants may hold, for every queue."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf

from fleetsim.policies.desk import Desk, Queue, Start, Terms
from fleetsim.policies.shares import Tree


class Limited:
    """A queue behind a door that lets in jobs of a tenant up to its ``max_gpus``.

    What has been let in counts, waiting or running, so no tenant, nor the tenants it is a part of, ever holds
    more. A job that is too much waits at the door, in order of arrival with the others of its tenant, and
    holds up nobody else; when jobs have ended, the doors open in the order of the jobs before them. In the
    queue a job's place is that of one that comes when it is let in, where it depends on that. Quotas in
    Kueue work so: a workload is admitted when its quota is free, and only then scheduled.
    """

    lone = False
    began = None

    def __init__(self, desk: Desk, terms: Terms, make: Callable[[Desk, Terms], Queue]) -> None:
        tree = Tree.of(terms.tenants)
        path = dict(zip(tree.names, tree.path, strict=True))
        limited = {node for node, limit in enumerate(tree.limit) if limit < inf}
        self._queue = make(desk, terms)
        self._gpus_of = desk.jobs.gpus
        self._tenant_of: list[int] = terms.jobs.tenant.tolist()
        self._path = [[node for node in path.get(name, ()) if node in limited] for name in terms.jobs.tenants]
        self._left = [limit * terms.per_gpu for limit in tree.limit]
        self._inside: set[int] = set()  # jobs that count
        self._doors: dict[int, deque[int]] = {}  # by tenant
        self._opens = False

    def __len__(self) -> int:
        return len(self._queue) + sum(map(len, self._doors.values()))

    def push(self, job: int) -> None:
        tenant = self._tenant_of[job]
        if not self._path[tenant] or job in self._inside:
            self._queue.push(job)
        elif tenant in self._doors or not self._let_in(job):
            self._doors.setdefault(tenant, deque()).append(job)

    def ended(self, job: int) -> None:
        """*job* runs no more."""
        if job in self._inside:
            self._inside.remove(job)
            for node in self._path[self._tenant_of[job]]:
                self._left[node] += self._gpus_of[job]
            self._opens = True
        if self._queue.ended is not None:
            self._queue.ended(job)

    def offer(self, start: Start, freed: bool, now: float) -> bool:
        if self._opens:
            self._opens = False
            for tenant in sorted(self._doors, key=lambda tenant: self._doors[tenant][0]):
                door = self._doors[tenant]
                while door and self._let_in(door[0]):
                    door.popleft()
                if not door:
                    del self._doors[tenant]
        waits = self._queue.offer(start, freed, now) if len(self._queue) else False
        return waits or bool(self._doors)

    def _let_in(self, job: int) -> bool:
        path, gpus = self._path[self._tenant_of[job]], self._gpus_of[job]
        if any(self._left[node] < gpus for node in path):
            return False
        for node in path:
            self._left[node] -= gpus
        self._inside.add(job)
        self._queue.push(job)
        return True
