"""Which waiting job goes next: queues that offer jobs to ``start(job) -> bool`` in one scheduling pass.

Jobs are numbered in order of arrival. A queue is told whether GPUs were freed (or added) since the last
pass; where nothing was, what did not fit then does not fit now and is not tried again, so a pass that
frees nothing costs the same however long the queue is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heapreplace
from typing import Protocol

Start = Callable[[int], bool]


class Queue(Protocol):
    """Waiting jobs in the order of a policy. ``shape_of[job]`` is equal for jobs that fit the same places."""

    def __init__(self, shape_of: Sequence[int]) -> None: ...

    def __len__(self) -> int: ...

    def push(self, job: int) -> None:
        """Let *job* wait."""

    def offer(self, start: Start, freed: bool) -> bool:
        """Offer waiting jobs to *start* until there is none left to offer; return whether any wait."""


class Fifo:
    """Strict first in, first out: the job at the head blocks all behind it until it fits."""

    def __init__(self, shape_of: Sequence[int]) -> None:
        self._jobs: deque[int] = deque()
        self._blocked = False

    def __len__(self) -> int:
        return len(self._jobs)

    def push(self, job: int) -> None:
        self._jobs.append(job)

    def offer(self, start: Start, freed: bool) -> bool:
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

    def __init__(self, shape_of: Sequence[int]) -> None:
        self._shape_of = shape_of
        self._waiting: dict[int, deque[int]] = {}
        self._open: set[int] = set()  # shapes waiting that may fit
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, job: int) -> None:
        self._count += 1
        shape = self._shape_of[job]
        if shape in self._waiting:
            self._waiting[shape].append(job)  # if the shape did not fit, its newcomer does not either
        else:
            self._waiting[shape] = deque((job,))
            self._open.add(shape)

    def offer(self, start: Start, freed: bool) -> bool:
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


QUEUES: dict[str, type[Queue]] = {"fifo": Fifo, "fifo_skip": FifoSkip}
