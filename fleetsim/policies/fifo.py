"""First in, first out. Jobs are numbered in order of arrival, so their numbers are the order."""

from __future__ import annotations

from bisect import bisect
from collections import deque
from heapq import heapify, heappop, heapreplace

from fleetsim.policies.desk import Desk, Start


def _insert(jobs: deque[int], job: int) -> None:
    """Add *job* to *jobs* in order: at the end, unless it was stopped and comes back."""
    if not jobs or job > jobs[-1]:
        jobs.append(job)
    else:
        jobs.insert(bisect(jobs, job), job)


class Fifo:
    """Strict first in, first out: the job at the head blocks all behind it until it fits."""

    lone = True
    ended = None

    def __init__(self) -> None:
        self._jobs: deque[int] = deque()
        self._blocked = False

    def __len__(self) -> int:
        return len(self._jobs)

    def push(self, job: int) -> None:
        _insert(self._jobs, job)
        if self._jobs[0] == job:
            self._blocked = False

    def offer(self, start: Start, freed: bool, now: float) -> bool:
        if self._blocked and not freed:
            return True
        jobs = self._jobs
        while jobs:
            if not start(jobs[0]):
                self._blocked = True
                return True
            jobs.popleft()
        self._blocked = False
        return False


class FifoSkip:
    """First in, first out with skip-ahead: every waiting job that fits now starts, oldest first.

    No reservation is made, so a large gang can wait for ever behind small jobs (greedy skip-ahead;
    Tiresias' ``fjf``, the FIFO of the Alibaba PAI simulator). Jobs of one shape fit or fail together, so a
    pass costs O(shapes waiting + jobs started), not O(jobs waiting).
    """

    lone = True
    ended = None

    def __init__(self, desk: Desk) -> None:
        self._shape_of = desk.jobs.shape_of
        self._waiting: dict[int, deque[int]] = {}
        self._open: set[int] = set()  # shapes waiting that may fit
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, job: int) -> None:
        self._count += 1
        shape = self._shape_of[job]
        if shape in self._waiting:
            _insert(self._waiting[shape], job)  # if the shape did not fit, its newcomer does not either
        else:
            self._waiting[shape] = deque((job,))
            self._open.add(shape)

    def offer(self, start: Start, freed: bool, now: float) -> bool:
        waiting = self._waiting
        heads = [(waiting[shape][0], shape) for shape in (waiting if freed else self._open)]
        self._open.clear()
        heapify(heads)
        while heads:
            job, shape = heads[0]
            if not start(job):
                heappop(heads)
                continue
            self._count -= 1
            jobs = waiting[shape]
            jobs.popleft()
            if jobs:
                heapreplace(heads, (jobs[0], shape))
            else:
                heappop(heads)
                del waiting[shape]
        return bool(waiting)
