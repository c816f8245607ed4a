"""Strict first in, first out."""

from __future__ import annotations

from bisect import bisect
from collections import deque

from fleetsim.policies.desk import Start


class Fifo:
    """The job at the head blocks all behind it until it fits. Jobs are numbered in order of arrival."""

    lone = True
    began = None
    ended = None

    def __init__(self) -> None:
        self._jobs: deque[int] = deque()
        self._blocked = False

    def __len__(self) -> int:
        return len(self._jobs)

    def push(self, job: int) -> None:
        jobs = self._jobs
        if not jobs or job > jobs[-1]:
            jobs.append(job)
        else:  # it was stopped and comes back to its place
            jobs.insert(bisect(jobs, job), job)
            self._blocked = self._blocked and jobs[0] != job

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
