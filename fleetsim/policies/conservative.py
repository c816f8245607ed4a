"""Conservative backfilling: every job that waits is promised a time, at the cost of no promise before it."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf

import numpy as np

from fleetsim.fleet import Pool
from fleetsim.policies.backfill import Running
from fleetsim.policies.desk import Desk, Start, Terms
from fleetsim.policies.estimates import estimates_s


class Profile:
    """Free GPUs of a pool from now on, as they are planned: a step function of time."""

    def __init__(self, pool: Pool, now: float, freed: Iterator[tuple[float, int, int]]) -> None:
        self.now = now
        times, free = [now], [pool.idle]
        for end_s, node, gpus in freed:
            if end_s < inf and pool.free[node] >= 0:  # it is not closed
                if end_s > times[-1]:
                    times.append(end_s)
                    free.append(free[-1])
                free[-1] += gpus
        self._times_s = np.array([*times, inf])  # the last step never ends
        self._free = np.array(free)
        self._most = 2 * len(free) + 64  # steps, before those that are over or make no difference go

    def change(self, from_s: float, to_s: float, gpus: int) -> None:
        """Add *gpus* (or take some, if negative) for a time."""
        from_s = max(from_s, self.now)
        if from_s < to_s:
            first, last = self._step(from_s), self._step(to_s)
            self._free[first:last] += gpus

    def advance(self, now: float) -> None:
        """Forget what was before *now*."""
        self.now = now
        if len(self._free) > self._most:
            first = int(self._times_s.searchsorted(now, "right")) - 1
            step = np.flatnonzero(self._free[first + 1 :] != self._free[first:-1]) + first + 1
            step = np.concatenate(([first], step))
            self._times_s, self._free = np.append(self._times_s[step], inf), self._free[step]
            self._most = 2 * len(self._free) + 64

    def earliest(self, gpus: int, span_s: float) -> float:
        """When *gpus* GPUs are free for *span_s* from then on."""
        for from_s, to_s in self.gaps(gpus):
            if from_s + span_s <= to_s:
                return from_s
        return inf

    def gaps(self, gpus: int) -> Iterator[tuple[float, float]]:
        """The longest stretches of time in which *gpus* GPUs are free."""
        first = int(self._times_s.searchsorted(self.now, "right")) - 1
        enough = np.zeros(len(self._free) - first + 2, np.bool_)
        enough[1:-1] = self._free[first:] >= gpus
        edges = (enough[1:] != enough[:-1]).nonzero()[0]  # of the stretches: first step, step behind the last
        bounds = self._times_s[first:][edges].tolist()
        if bounds:
            bounds[0] = max(bounds[0], self.now)
        return zip(bounds[::2], bounds[1::2], strict=True)

    def _step(self, at_s: float) -> int:
        """The step that begins at *at_s*."""
        step = int(self._times_s.searchsorted(at_s))
        if self._times_s[step] != at_s:
            times_s, free = self._times_s, self._free
            self._times_s = np.concatenate((times_s[:step], (at_s,), times_s[step:]))
            self._free = np.concatenate((free[:step], free[step - 1 :]))
        return step


@dataclass(slots=True)
class Slot:
    """The reservation of a waiting job; *pool* is None if there is none to be had."""

    at_s: float
    pool: Pool | None
    span_s: float


def _reaches(gaps: list[tuple[float, float]], before_s: float, span_s: float, own_s: float) -> bool:
    """Whether one of *gaps* that begin before *before_s* holds *span_s*, or lasts until *own_s*."""
    for from_s, to_s in gaps:
        if from_s >= before_s:
            return False
        if from_s + span_s <= to_s or own_s <= to_s:
            return True
    return False


class Conservative:
    """Conservative backfilling (Mu'alem & Feitelson 2001): every waiting job has a reservation.

    A job is promised, when it arrives, the earliest time at which enough GPUs of one of its pools (ties: the
    one preferred) are free for as long as it is believed to run, all earlier promises kept. When a job ends
    before it was expected to, those that wait are gone through in order of arrival, and each that can start
    sooner without delaying any other is promised that. A job starts when its time has come.

    What is promised is a number of GPUs of a pool. So with exact estimates no job starts later than it was
    first promised where only the number counts (placements in COUNTING); where nodes matter a job may find
    its GPUs on too many nodes, and a job that is waited for may outrun its estimate. Then it goes as soon as
    it can be placed, before all that came after it and whose time has come, and its GPUs stay promised.
    Nodes that come or go void all promises: they are made anew in order of arrival. With ``depth`` only the
    first so many waiting jobs have a reservation, and the others none until one of these has started.

    The rule forces work that grows with the queue: to find a time among all that is planned for each job that
    has to wait, and to go through all that wait for each job that ends early. One whose reservation cannot
    move is passed by at little cost, but each that does may leave time to those before it. ``depth`` bounds
    both, and is another rule: jobs beyond it are promised nothing.
    """

    lone = False  # it must know what runs
    began = None

    def __init__(self, desk: Desk, terms: Terms) -> None:
        assert terms.scheduler.estimate is not None  # checked when the scenario was read
        self._desk = desk
        self._shape_of = desk.jobs.shape_of
        self._gpus = desk.jobs.gpus
        self._depth = inf if terms.scheduler.depth is None else terms.scheduler.depth
        self._running = Running(desk, estimates_s(terms.jobs, terms.scheduler.estimate))
        self._profiles: dict[Pool, Profile] = {}  # none while no job waits
        self._up: dict[Pool, int] = {}  # GPUs of each pool when it was planned
        self._slots: dict[int, Slot] = {}  # of waiting jobs, in order of arrival
        self._beyond: deque[int] = deque()  # waiting jobs that have none yet
        self._coming: list[tuple[float, int]] = []  # slots by time; some are out of date
        self._due: list[int] = []  # their time has come
        self._early: list[tuple[Pool, float, int]] = []  # pool, expected end and GPUs of jobs that have left
        self._vacated: dict[Pool, float] = {}  # until when jobs have left time to those before them
        self._shut: set[tuple[int, Pool | None]] = set()  # shapes that do not fit in a pool
        self._last = -1  # the job that arrived last
        self._back = False  # a job was stopped and waits again
        self._review_s = -inf

    def __len__(self) -> int:
        return len(self._slots) + len(self._beyond)

    def push(self, job: int) -> None:
        self._beyond.append(job)
        self._back |= job < self._last
        self._last = max(job, self._last)

    def ended(self, job: int) -> None:
        """*job* has left its GPUs."""
        pool, end_s = self._running.remove(job)
        if self._profiles:
            self._early.append((pool, end_s, self._gpus[job]))

    def offer(self, start: Start, freed: bool, now: float) -> bool:
        if not self._slots:
            self._profiles.clear()
            self._beyond = deque(sorted(self._beyond))
            while self._beyond and start(self._beyond[0]):
                self._running.add(self._beyond.popleft(), now)
            if not self._beyond:
                return False
        if freed:
            self._shut.clear()
        self._refresh(now)
        while True:
            while self._beyond and len(self._slots) < self._depth:
                job = self._beyond.popleft()
                self._slots[job] = self._find(job)
                self._book(job, -1)
                heappush(self._coming, (self._slots[job].at_s, job))
            if not self._start_due(start, now) or not self._beyond:
                break
        at_s = self._coming[0][0] if self._coming else inf
        if at_s < inf and not now < self._review_s <= at_s:
            self._review_s = at_s
            self._desk.review(at_s)
        return len(self) > 0

    def _refresh(self, now: float) -> None:
        """Bring the plan up to date."""
        running = self._running
        up = {pool: pool.idle + running.gpus[pool] for pool in running.ends}
        if not self._profiles or up != self._up or self._back:
            self._beyond = deque(sorted([*self._slots, *self._beyond]))
            for made in (self._slots, self._coming, self._due, self._early, self._vacated):
                made.clear()
            self._profiles = {pool: Profile(pool, now, running.released(pool)) for pool in running.ends}
            self._up, self._back = up, False
            return
        sooner: dict[Pool, float] = {}
        for profile in self._profiles.values():
            profile.advance(now)
        for pool, end_s, gpus in self._early:
            if end_s > now:
                self._profiles[pool].change(now, end_s, gpus)
                sooner[pool] = max(end_s, sooner.get(pool, now))
        self._early.clear()
        if sooner:
            for pool, end_s in self._vacated.items():
                sooner[pool] = max(end_s, sooner.get(pool, now))
            self._compress(sooner, now)

    def _find(self, job: int) -> Slot:
        """The earliest time for *job* beside all that is planned."""
        found = Slot(inf, None, 0.0)
        for pool, speed in self._desk.jobs.shapes[self._shape_of[job]]:
            span_s = self._running.left_s(job) / speed
            at_s = self._profiles[pool].earliest(self._gpus[job], span_s)
            if at_s < found.at_s:
                found = Slot(at_s, pool, span_s)
        return found

    def _book(self, job: int, sign: int) -> None:
        """Take the GPUs of the reservation of *job* (-1), or give them back (1)."""
        slot = self._slots[job]
        if slot.pool is not None:
            self._profiles[slot.pool].change(slot.at_s, slot.at_s + slot.span_s, sign * self._gpus[job])

    def _compress(self, sooner: dict[Pool, float], now: float) -> None:
        """Bring reservations forward, in order of arrival: until *sooner* GPUs of each pool came free."""
        gaps: dict[tuple[Pool, int], list[tuple[float, float]]] = {}
        self._vacated.clear()
        for job, slot in self._slots.items():
            gpus = self._gpus[job]
            if slot.at_s <= now or slot.pool is None:
                continue
            for pool, speed in self._desk.jobs.shapes[self._shape_of[job]]:
                if pool not in sooner:
                    continue
                if (pool, gpus) not in gaps:
                    gaps[pool, gpus] = list(self._profiles[pool].gaps(gpus))
                before_s = min(slot.at_s, sooner[pool])
                span_s = self._running.left_s(job) / speed
                own_s = slot.at_s if pool is slot.pool else inf  # a gap may lead into its own time
                if _reaches(gaps[pool, gpus], before_s, span_s, own_s):
                    break
            else:
                continue
            self._book(job, 1)
            found = self._find(job)
            if found.at_s < slot.at_s:
                end_s = slot.at_s + slot.span_s
                sooner[slot.pool] = max(end_s, sooner.get(slot.pool, now))
                self._vacated[slot.pool] = max(end_s, self._vacated.get(slot.pool, now))
                self._slots[job] = found
                heappush(self._coming, (found.at_s, job))
                gaps.clear()
            self._book(job, -1)

    def _start_due(self, start: Start, now: float) -> bool:
        """Start the jobs whose time has come, in order of arrival; return whether any did."""
        coming, slots, due = self._coming, self._slots, self._due
        while coming and (coming[0][0] <= now or coming[0][1] not in slots):
            at_s, job = heappop(coming)
            if job in slots and slots[job].at_s == at_s and job not in due:
                insort(due, job)
        started = []
        for job in due:
            slot, key = slots[job], (self._shape_of[job], slots[job].pool)
            if key not in self._shut and self._start(job, start):
                pool, end_s = self._running.add(job, now)
                if slot.at_s < now or end_s != slot.at_s + slot.span_s:
                    self._book(job, 1)
                    self._profiles[pool].change(now, end_s, -self._gpus[job])
                started.append(job)
                del slots[job]
                continue
            self._shut.add(key)
            if slot.at_s + slot.span_s <= now:
                slot.at_s = now
                self._book(job, -1)
        for job in started:
            due.remove(job)
        return bool(started)

    def _start(self, job: int, start: Start) -> bool:
        """Start *job* in the pool where its reservation is, if it fits there."""
        hidden = [
            (pool, pool.idle)
            for pool, _ in self._desk.jobs.shapes[self._shape_of[job]]
            if pool is not self._slots[job].pool
        ]
        for pool, _ in hidden:
            pool.idle = 0
        started = start(job)
        for pool, idle in hidden:
            pool.idle = idle
        return started
