"""Preemptive queues that take every job into every pass, because their definitions do."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from fleetsim.policies.desk import Desk, Start


class Afresh:
    """In every pass the fleet is emptied and all jobs are placed again, in order, as far as they fit.

    The preemptive policies of the simulators of Tiresias (Gu et al., NSDI'19) and Muri (Zhao et al.,
    SIGCOMM'22). All jobs stand in one list, sorted by *value* at every pass, stably, new jobs at its end. A
    job that comes to stand where it stood has not been interrupted; one that stands elsewhere has been moved.
    """

    lone = False
    began = None

    def __init__(self, desk: Desk, value: Callable[[int, bool, float], float]) -> None:
        self._desk = desk
        self._value = value
        self._jobs: list[int] = []
        self._known: set[int] = set()
        self._running: set[int] = set()

    def __len__(self) -> int:
        return len(self._jobs) - len(self._running)

    def push(self, job: int) -> None:
        self._running.discard(job)
        if job not in self._known:  # else it was stopped and has its place in the list
            self._known.add(job)
            self._jobs.append(job)

    def ended(self, job: int) -> None:
        """*job* runs no more."""
        self._running.discard(job)
        self._known.discard(job)
        self._jobs.remove(job)

    def offer(self, start: Start, freed: bool, now: float) -> bool:
        jobs, running, desk = self._jobs, self._running, self._desk
        jobs.sort(key=lambda job: self._value(job, job in running, now))
        for job in jobs:
            if job in running:
                desk.stop(job)
        desk.afresh = True
        self._running = {job for job in jobs if start(job)}
        desk.afresh = False
        return len(jobs) > len(self._running)


def remaining(desk: Desk, times_gpus: bool) -> Callable[[int, bool, float], float]:
    """What a job still needs, ``(job, runs, now)``: s, or GPU s if it *times_gpus*."""
    gpus = desk.jobs.gpus

    def value(job: int, runs: bool, now: float) -> float:
        left_s = desk.attempts.end_s[job] - now if runs else desk.left_s(job)
        return left_s * gpus[job] if times_gpus else left_s

    return value


class Admitted:
    """Shortest remaining time first (or time x GPUs), admitted by counting and placed afterwards.

    The SRTF of Helios' simulator (Hu et al., SC'21). In every pass all jobs stand in order of what they still
    need; from the front, each is admitted for which enough of the fleet's GPUs are left over by those before
    it, wherever they are. Running jobs that are not admitted are stopped. Then the waiting ones that are
    admitted are placed, in that order; one that finds no place waits, and what it was admitted for stays idle
    until the next pass. Running jobs are never moved.

    At equal values, with passes at an interval, waiting jobs go first; else running ones. A pass is held as
    well when a running job comes to need less than one that waits. The definition takes every job into every
    pass, so a pass costs O(jobs waiting + running).
    """

    lone = False
    began = None

    def __init__(self, desk: Desk, times_gpus: bool, interval_s: float) -> None:
        self._desk = desk
        self._gpus = desk.jobs.gpus
        self._times_gpus = times_gpus
        self._value = remaining(desk, times_gpus)
        self._interval_s = interval_s
        self._waiting: dict[int, None] = {}
        self._running: dict[int, None] = {}  # in the order in which they started
        self._review_s = -1.0

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, job: int) -> None:
        self._running.pop(job, None)
        self._waiting[job] = None

    def ended(self, job: int) -> None:
        """*job* runs no more."""
        del self._running[job]

    def offer(self, start: Start, freed: bool, now: float) -> bool:
        desk, gpus, waiting, running = self._desk, self._gpus, self._waiting, self._running
        shape_of, shapes = desk.jobs.shape_of, desk.jobs.shapes
        first, second = (0, 1) if self._interval_s else (1, 0)
        order = [
            *((self._value(job, False, now), first, job) for job in waiting),
            *((self._value(job, True, now), second, job) for job in running),
        ]
        order.sort(key=lambda row: row[:2])  # stable: else in the order in which they came, or started
        pools = {pool for job in (*waiting, *running) for pool, _ in shapes[shape_of[job]]}
        left = sum(pool.idle for pool in pools) + sum(gpus[job] for job in running)
        admitted: list[int] = []
        stopped = False
        for _, _, job in order:
            if gpus[job] <= left:
                left -= gpus[job]
                if job in waiting:
                    admitted.append(job)
            elif job in running:
                desk.stop(job)
                stopped = True
        for job in admitted:
            if start(job):
                del waiting[job]
                running[job] = None
        self._look_ahead(order, stopped, now)
        return bool(waiting)

    def _look_ahead(self, order: list[tuple[float, int, int]], stopped: bool, now: float) -> None:
        """Ask for a pass when the first running job overtakes the waiting one before it."""
        overtakes_s = [
            (behind - ahead) / (self._gpus[job] if self._times_gpus else 1)
            for (ahead, _, before), (behind, _, job) in pairwise(order)
            if before in self._waiting and job in self._running
        ]
        if stopped and self._interval_s:  # they need more now than order says
            overtakes_s.append(0.0)
        if not overtakes_s:
            return
        at_s = now + min(overtakes_s)
        if self._interval_s:
            at_s = (at_s // self._interval_s + 1) * self._interval_s
        if at_s > now and at_s != self._review_s:
            self._review_s = at_s
            self._desk.review(at_s)
