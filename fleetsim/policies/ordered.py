"""Jobs that wait in the order of a key which does not change while they wait; none is ever stopped."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush, heapreplace

import numpy as np

from fleetsim.policies.desk import Desk, Start, Terms
from fleetsim.policies.estimates import estimates_s

#: The smaller, the sooner.
Key = Callable[[int], float]


class OrderedStop:
    """The job with the smallest key blocks all others until it fits; ties by order of arrival."""

    lone = True
    began = None

    def __init__(self, desk: Desk, key: Key, ended: Callable[[int], None] | None = None) -> None:
        self.ended = ended
        self._key = key
        self._jobs: list[tuple[float, int]] = []
        self._blocked: tuple[float, int] | None = None  # the head, while it does not fit

    def __len__(self) -> int:
        return len(self._jobs)

    def push(self, job: int) -> None:
        heappush(self._jobs, (self._key(job), job))

    def offer(self, start: Start, freed: bool, now: float) -> bool:
        jobs = self._jobs
        if not freed and jobs[0] == self._blocked:
            return True
        while jobs:
            if not start(jobs[0][1]):
                self._blocked = jobs[0]
                return True
            heappop(jobs)
        self._blocked = None
        return False


class OrderedSkip:
    """Every waiting job that fits now starts, smallest key first; ties by order of arrival.

    No reservation is made, so a large gang can wait for ever behind small jobs (by arrival: the ``fjf`` of
    Tiresias, the FIFO of the Alibaba PAI simulator). Jobs of one shape fit or fail together, so a pass costs
    O((shapes waiting + jobs started) x log(jobs waiting)).
    """

    lone = True
    began = None

    def __init__(self, desk: Desk, key: Key, ended: Callable[[int], None] | None = None) -> None:
        self.ended = ended
        self._key = key
        self._shape_of = desk.jobs.shape_of
        self._waiting: dict[int, list[tuple[float, int]]] = {}
        self._open: set[int] = set()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, job: int) -> None:
        self._count += 1
        shape = self._shape_of[job]
        if shape in self._waiting:
            heappush(self._waiting[shape], (self._key(job), job))
        else:
            self._waiting[shape] = [(self._key(job), job)]
            self._open.add(shape)

    def offer(self, start: Start, freed: bool, now: float) -> bool:
        waiting = self._waiting
        heads: list[tuple[tuple[float, int], int]] = []
        for shape in waiting if freed else self._open:
            heappush(heads, (waiting[shape][0], shape))
        self._open.clear()
        while heads:
            (_, job), shape = heads[0]
            if not start(job):
                heappop(heads)
                continue
            self._count -= 1
            jobs = waiting[shape]
            heappop(jobs)
            if jobs:
                heapreplace(heads, (jobs[0], shape))
            else:
                heappop(heads)
                del waiting[shape]
        return bool(waiting)


def run_time(desk: Desk, terms: Terms) -> Key:
    """Estimated run time of a job on the reference GPU, s; the true one if the scenario estimates none.

    Shortest job first: with ``stop`` the SJF of the Helios simulator (Hu et al., SC'21), with ``skip`` that
    of the Alibaba PAI simulator (Weng et al., NSDI'22).
    """
    estimate = terms.scheduler.estimate
    times_s = desk.jobs.duration_s if estimate is None else estimates_s(terms.jobs, estimate)
    return times_s.__getitem__


def urgency(desk: Desk, terms: Terms) -> Key:
    """Priority of the tenant, then of the job in its trace; higher goes first."""
    jobs = terms.jobs
    of_tenant = {tenant.name: tenant.priority for tenant in terms.tenants}
    rank = np.array([of_tenant.get(name, 0) for name in jobs.tenants], np.float64)[jobs.tenant]
    rank *= 2.0**32  # above any priority of a job
    if jobs.priority is not None:
        rank += jobs.priority
    key: list[float] = (-rank).tolist()
    return key.__getitem__


class History:
    """Predicts GPU time from jobs that have ended: Quasi-Shortest-Service-First (Hu et al., SC'21).

    A job is predicted to run for the mean run time (on the reference GPU) of all jobs of its user with as
    many GPUs that have ended; where there is none, of all jobs of its user; else of all jobs with as many
    GPUs; else of all jobs; 0 before any has ended. A job of unknown user has only the last three. The
    prediction is made when the job arrives, from what has ended by then, and stands while it waits; times
    its GPUs it is the job's key. The published predictor is a gradient-boosted tree over user, name, size and
    time of day, trained on earlier months, averaged with the run times of jobs of similar names; for Philly,
    which has no names, the authors' artifact perturbs the true run time by the error it had elsewhere.
    """

    def __init__(self, desk: Desk, terms: Terms) -> None:
        self._gpus = desk.jobs.gpus
        self._duration_s = desk.jobs.duration_s
        self._user: list[int] = terms.jobs.user.tolist()
        self._known: dict[tuple[int, int], tuple[int, float]] = {}  # by user and GPUs; -1 and 0: any
        self._new: dict[int, None] = {}  # jobs that left their GPUs since the last arrival

    def ended(self, job: int) -> None:
        """*job* has left its GPUs. It has ended, unless it comes back to wait."""
        self._new[job] = None

    def key(self, job: int) -> float:
        """Predicted GPU time, s, of *job*, which arrives or was stopped."""
        if job in self._new:
            del self._new[job]
        else:
            self._learn()
        user, gpus = self._user[job], self._gpus[job]
        groups = ((user, gpus), (user, 0), (-1, gpus), (-1, 0))
        for group in groups if user >= 0 else groups[2:]:
            if group in self._known:
                jobs, total_s = self._known[group]
                return gpus * total_s / jobs
        return 0.0

    def _learn(self) -> None:
        for job in self._new:
            user, gpus = self._user[job], self._gpus[job]
            for group in {(user, gpus), (user, 0), (-1, gpus), (-1, 0)}:
                jobs, total_s = self._known.get(group, (0, 0.0))
                self._known[group] = (jobs + 1, total_s + self._duration_s[job])
        self._new.clear()
