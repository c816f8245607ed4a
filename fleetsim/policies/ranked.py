"""Queues that stop running jobs for jobs that rank before them.

In every pass all jobs, running and waiting, stand in one order. From the front, every job that fits beside
those before it runs, the others are skipped: the greedy rule of Tiresias' simulator (Gu et al., NSDI'19) and
of Muri's. A running job keeps its GPUs unless a job before it needs them, then the last in order goes first;
a job that was stopped and still fits, in its place or elsewhere, runs on.

The rule says nothing of how the order is found: here a pass looks at the first waiting job of each shape and
at the running jobs that rank behind it, last first, so it costs O(shapes waiting + jobs stopped), whatever
the number of jobs that wait. Where nodes matter, those nodes are cleared that come free first when running
jobs are taken away from the end of the order, and no other job is stopped; if there are none among the last
running jobs that hold ``REACH`` times the GPUs wanted, the job waits.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from math import inf
from typing import Protocol

import numpy as np

from fleetsim.fleet import Pool
from fleetsim.policies.desk import Desk, Start
from fleetsim.records import Floats

#: GPUs held by the running jobs that are looked at to find room for one that waits, over its own.
REACH = 16

Rank = tuple[float, float, float]  # the smaller, the sooner

#: Added to the place of a job that has just reached a level: it is behind all others there.
_LATE = 1 << 52


class Order(Protocol):
    """Who goes before whom. Running jobs of one group never change places among themselves.

    ``drifts``: with time alone a running job can fall behind a waiting one.
    """

    drifts: bool

    def arrives(self, job: int) -> tuple[float, float]:
        """*job* begins to wait, for the first time or after it was stopped: what :meth:`waiting` reads."""

    def waiting(self, entry: tuple[float, float], job: int) -> Rank:
        """Rank of a waiting job."""

    def starts(self, job: int) -> tuple[int, tuple[float, float]]:
        """*job* has just started: its group, and its place among the running jobs of the group."""

    def running(self, group: int, key: tuple[float, float], now: float) -> Rank:
        """Rank of a running job."""

    def stops(self, job: int, start_s: float, now: float) -> None:
        """*job* has run from *start_s* and does not any more."""

    def returns(self, job: int, key: tuple[float, float]) -> None:
        """*job*, stopped in this pass, will wait from now on; called for the first in order first."""

    def overdue(self, now: float) -> Sequence[int]:
        """Jobs that, if they run, have changed places since this was last asked."""

    def passed(self, waiting: bool, now: float) -> Sequence[int]:
        """A pass is over: jobs that, if they run, have changed places with that."""


class _Count:
    """Room for a gang where only the number of free GPUs counts: the last jobs in order make it."""

    def __init__(self, pool: Pool, gpus: int) -> None:
        self._need = gpus - pool.idle
        self._free = pool.free
        self._jobs: list[int] = []

    def add(self, job: int, where: Sequence[int]) -> list[int] | None:
        """*job* could be stopped, too: the jobs to stop, if there is room then."""
        self._need -= sum(where[k + 1] for k in range(0, len(where), 2) if self._free[where[k]] >= 0)
        self._jobs.append(job)
        return self._jobs if self._need <= 0 else None


class _Nodes:
    """Room for a gang that needs a node, or whole nodes: those that the last jobs in order free first."""

    def __init__(self, pool: Pool, gpus: int) -> None:
        size = pool.gpus_per_node
        self._size, self._free = size, pool.free
        self._whole, self._rest = divmod(gpus, size) if gpus > size else (0, gpus)
        self._need = self._whole - pool.idle_nodes  # whole nodes still to be found
        self._rest_met = not self._rest or (
            self._whole > 0 and any(pool.lowest(free) >= 0 for free in range(self._rest, size))
        )
        self._rest_on = -1  # the node that was found for the rest
        self._found: list[int] = []  # whole nodes
        self._freed: dict[int, int] = {}
        self._jobs: dict[int, list[int]] = {}  # by node

    def add(self, job: int, where: Sequence[int]) -> list[int] | None:
        """*job* could be stopped, too: the jobs to stop, if there is room then."""
        for k in range(0, len(where), 2):
            node, freed = where[k], self._freed.get(where[k], 0)
            before = self._free[node] + freed
            after = before + where[k + 1]
            self._freed[node] = freed + where[k + 1]
            self._jobs.setdefault(node, []).append(job)
            if self._whole and after == self._size:
                self._found.append(node)
                if node == self._rest_on:
                    self._rest_on, self._rest_met = -1, False
            elif not self._rest_met and before < self._rest <= after:
                self._rest_on, self._rest_met = node, True
        need = self._need + (not self._rest_met)
        if len(self._found) < need or (not self._whole and not self._rest_met):
            return None
        nodes = self._found[: max(0, need)] + [self._rest_on] * (self._rest_on >= 0)
        return list(dict.fromkeys(job for node in nodes for job in self._jobs[node]))


class Ranked:
    """Jobs that wait and jobs that run, in one order. *counts*: placement only counts free GPUs."""

    lone = False

    def __init__(self, desk: Desk, order: Order, counts: bool) -> None:
        self._desk = desk
        self._order = order
        self._counts = counts
        self._shape_of = desk.jobs.shape_of
        self._waiting: dict[int, list[tuple[tuple[float, float], int]]] = {}
        self._open: set[int] = set()  # shapes whose first job may fit
        self._running: dict[int, list[tuple[tuple[float, float], int]]] = {}
        self._place: dict[int, tuple[int, tuple[float, float]]] = {}  # of running jobs: group and key
        self._on: dict[int, list[int]] = {}  # running jobs by node
        self._touched: list[int] = []  # nodes on which something ended, or got a later rank, while jobs wait
        self._failed: dict[int, tuple[int, int]] = {}  # by shape: job without room, and len(_touched) then
        self._changes = 0
        self._retimes = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, job: int) -> None:
        self._count += 1
        shape = self._shape_of[job]
        heap = self._waiting.setdefault(shape, [])
        heappush(heap, (self._order.arrives(job), job))
        if heap[0][1] == job:
            self._open.add(shape)

    def ended(self, job: int) -> None:
        """*job* runs no more."""
        self._leave(job)
        self._touch(job)
        attempts = self._desk.attempts
        self._order.stops(job, attempts.start_s[job], attempts.end_s[job])

    def offer(self, start: Start, freed: bool, now: float) -> bool:
        order, waiting = self._order, self._waiting
        if self._retimes != self._desk.retimes:
            self._retimes = self._desk.retimes
            self._renew(list(self._place))
        if self._changes != self._desk.capacity_changes:
            self._changes = self._desk.capacity_changes
            self._failed.clear()
        heads = [self._head(shape) for shape in (waiting if freed else self._open)]
        heapify(heads)
        stopped: dict[int, tuple[int, tuple[float, float], float]] = {}
        ranked = False
        while heads:
            rank, job, shape = heappop(heads)
            victims: Sequence[int] = ()
            if not start(job):
                if not ranked:
                    self._renew(order.overdue(now))
                    ranked = True
                victims = self._room(job, rank, shape, start, now)
                if not victims:
                    continue  # nor does any other job of its shape fit
                if not freed:  # they may leave room for others
                    freed = True
                    for other in waiting.keys() - self._open:
                        heappush(heads, self._head(other))
            for victim in victims:
                group, key = self._leave(victim)
                self._touch(victim)
                stopped[victim] = (group, key, self._desk.attempts.start_s[victim])
                heappush(heads, (order.running(group, key, now), victim, -1))
            if shape < 0:
                self._run_on(job, *stopped.pop(job), now)
                continue
            self._enter(job)
            self._count -= 1
            heap = waiting[shape]
            heappop(heap)
            if heap:
                heappush(heads, self._head(shape))
            else:
                del waiting[shape]
        self._open.clear()
        if not waiting:
            self._touched.clear()
            self._failed.clear()
        for job in sorted(stopped, key=lambda job: order.running(*stopped[job][:2], now)):
            _, key, start_s = stopped[job]
            order.stops(job, start_s, now)
            order.returns(job, key)
        self._renew(order.passed(bool(waiting or stopped), now))
        return bool(waiting or stopped)

    def _head(self, shape: int) -> tuple[Rank, int, int]:
        """The first waiting job of *shape*, with its rank."""
        entry, job = self._waiting[shape][0]
        return self._order.waiting(entry, job), job, shape

    def _renew(self, jobs: Sequence[int]) -> None:
        """Those of *jobs* that run have come to other places."""
        for job in jobs:
            if job in self._place:
                self._leave(job)
                self._enter(job)
                self._touch(job)

    def _no_room_yet(self, job: int, rank: Rank, shape: int, now: float) -> bool:
        """Whether no node has changed, since there was no room for *job*, so that it could be of use now."""
        if self._counts or self._order.drifts or shape not in self._failed:
            return False
        failed, seen = self._failed[shape]
        if failed != job:
            return False
        gpus_of, order = self._desk.jobs.gpus, self._order
        pools = {id(pool): pool for pool, _ in self._desk.jobs.shapes[shape]}
        for node in set(self._touched[seen:]):
            pool = self._desk.pool_of_node(node)
            if id(pool) not in pools:
                continue
            gpus = gpus_of[job]
            need = gpus if gpus <= pool.gpus_per_node else gpus % pool.gpus_per_node or pool.gpus_per_node
            have = pool.free[node]
            for other in self._on.get(node, ()):
                group, key = self._place[other]
                if order.running(group, key, now) > rank:
                    where = self._where(other)
                    have += next(where[k + 1] for k in range(0, len(where), 2) if where[k] == node)
            if have >= need:
                return False
        self._failed[shape] = job, len(self._touched)
        return True

    def _room(self, job: int, rank: Rank, shape: int, start: Start, now: float) -> Sequence[int]:
        """Start *job* in the place of running jobs and return those, or none if there is no room for it."""
        if shape >= 0 and self._no_room_yet(job, rank, shape, now):
            return ()
        victims = self._make_room(job, rank, start, now)
        if shape >= 0 and not victims:
            self._failed[shape] = job, len(self._touched)
        return victims

    def _make_room(self, job: int, rank: Rank, start: Start, now: float) -> Sequence[int]:
        desk = self._desk
        pools = [pool for pool, _ in desk.jobs.shapes[self._shape_of[job]]]
        search = _Count if self._counts else _Nodes
        gpus = desk.jobs.gpus
        rooms = {pool: search(pool, gpus[job]) for pool in pools}
        reach = REACH * gpus[job]
        start_s = desk.attempts.start_s
        for other in self._behind(rank, now):
            if start_s[other] == now:
                continue  # it started in this pass, so it ranks before
            reach -= gpus[other]
            if reach < 0:
                return ()
            room = rooms.get(desk.pool_of(other))
            if room is None:
                continue
            victims = room.add(other, self._where(other))
            if victims is None:
                continue
            for victim in victims:
                desk.stop(victim)
            if start(job):
                return victims
            for victim in victims:
                start(victim)  # its place is as it was
            return ()
        return ()

    def _where(self, job: int) -> tuple[int, ...]:
        """Nodes of a running job, each with its GPUs there."""
        node = self._desk.attempts.node[job]
        return (node, self._desk.jobs.gpus[job]) if node >= 0 else self._desk.attempts.gangs[~node]

    def _behind(self, rank: Rank, now: float) -> Iterator[int]:
        """Running jobs that rank behind *rank*, last first."""
        order = self._order
        if len(self._running) == 1:
            [(group, jobs)] = self._running.items()
            for key, job in reversed(jobs):
                if order.running(group, key, now) <= rank:
                    return
                yield job
            return
        tails: list[tuple[float, float, float, int, int]] = []

        def tail(group: int, index: int) -> None:
            a, b, c = order.running(group, self._running[group][index][0], now)
            if (a, b, c) > rank:
                heappush(tails, (-a, -b, -c, group, index))

        for group, jobs in self._running.items():
            if jobs:
                tail(group, len(jobs) - 1)
        while tails:
            *_, group, index = heappop(tails)
            yield self._running[group][index][1]
            if index:
                tail(group, index - 1)

    def _run_on(self, job: int, group: int, key: tuple[float, float], start_s: float, now: float) -> None:
        """*job* was stopped in this pass and runs again."""
        if self._desk.attempts.start_s[job] == start_s:  # as if nothing had been
            self._place[job] = group, key
            self._add(job, group, key)
        else:
            self._order.stops(job, start_s, now)
            self._enter(job)

    def _enter(self, job: int) -> None:
        group, key = self._place[job] = self._order.starts(job)
        self._add(job, group, key)

    def _add(self, job: int, group: int, key: tuple[float, float]) -> None:
        insort(self._running.setdefault(group, []), (key, job))
        for node in self._where(job)[::2]:
            self._on.setdefault(node, []).append(job)

    def _touch(self, job: int) -> None:
        if self._waiting:
            self._touched += self._where(job)[::2]

    def _leave(self, job: int) -> tuple[int, tuple[float, float]]:
        group, key = self._place.pop(job)
        jobs = self._running[group]
        del jobs[bisect_left(jobs, (key, job))]
        for node in self._where(job)[::2]:
            self._on[node].remove(job)
        return group, key


class Remaining:
    """Shortest remaining time first (srtf), or remaining time x GPUs (srsf).

    Remaining is what a running job still needs where it runs, and a waiting one on the reference GPU, restart
    included. Of equal jobs goes first who was first until now: waiting ones, then running ones, in srsf those
    of fewer GPUs first; one that comes at this moment goes last. A stable sort at every event does the same.
    """

    drifts = False

    def __init__(self, desk: Desk, times_gpus: bool) -> None:
        self._desk = desk
        self._gpus = desk.jobs.gpus if times_gpus else None
        self._stamp = 0
        self._known = 0.0  # the last stamp of the jobs that waited before this pass
        self._fresh: set[int] = set()  # jobs that have come since
        self._passes = 0
        self._returned: dict[int, float] = {}

    def arrives(self, job: int) -> tuple[float, float]:
        stamp = self._returned.pop(job, None)
        if stamp is None:
            self._stamp += 1
            stamp = self._stamp
            self._fresh.add(job)
        left_s = self._desk.left_s(job)
        return (left_s if self._gpus is None else left_s * self._gpus[job]), stamp

    def waiting(self, entry: tuple[float, float], job: int) -> Rank:
        return entry[0], inf if job in self._fresh else 0, entry[1]

    def starts(self, job: int) -> tuple[int, tuple[float, float]]:
        self._stamp += 1
        group = 1 if self._gpus is None else self._gpus[job]
        # A job that waited until now goes before all that run and need as much as it does; others go behind.
        stamp = self._stamp if job in self._fresh else self._stamp - self._passes * 2**32
        return group, (self._desk.attempts.end_s[job], stamp)

    def running(self, group: int, key: tuple[float, float], now: float) -> Rank:
        return (key[0] - now) * group, group, key[1]

    def stops(self, job: int, start_s: float, now: float) -> None:
        pass

    def returns(self, job: int, key: tuple[float, float]) -> None:
        self._known += 2**-20  # after all that waited before this pass, before all that come now
        self._returned[job] = self._known

    def overdue(self, now: float) -> Sequence[int]:
        return ()

    def passed(self, waiting: bool, now: float) -> Sequence[int]:
        self._known = self._stamp
        self._fresh.clear()
        self._passes += 1
        return ()


class Fixed:
    """A key that never changes, ties by order of arrival."""

    drifts = False

    def __init__(self, key: Callable[[int], float]) -> None:
        self._key = key

    def arrives(self, job: int) -> tuple[float, float]:
        return self._key(job), job

    def waiting(self, entry: tuple[float, float], job: int) -> Rank:
        return entry[0], 0, job

    def starts(self, job: int) -> tuple[int, tuple[float, float]]:
        return 0, (self._key(job), job)

    def running(self, group: int, key: tuple[float, float], now: float) -> Rank:
        return key[0], 0, key[1]

    def stops(self, job: int, start_s: float, now: float) -> None:
        pass

    def returns(self, job: int, key: tuple[float, float]) -> None:
        pass

    def overdue(self, now: float) -> Sequence[int]:
        return ()

    def passed(self, waiting: bool, now: float) -> Sequence[int]:
        return ()


class _Attained:
    """GPU seconds that each job has received; restarts count."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._gpus = desk.jobs.gpus
        self._attained_gpu_s: dict[int, float] = {}

    def stops(self, job: int, start_s: float, now: float) -> None:
        had = self._attained_gpu_s.get(job, 0.0)
        self._attained_gpu_s[job] = had + (now - start_s) * self._gpus[job]


class Levels(_Attained):
    """Attained service in levels: 2D-LAS (Tiresias) and the Gittins index.

    A job stands on the level that its GPU seconds have reached, and *place* says which level goes first. On
    one level running jobs go before waiting ones, in the order in which they started; then jobs that were
    stopped, in the order in which they ran; then the others in order of arrival. A job that reaches a level
    goes to the end of it, and with no room for it there is stopped at that moment.
    """

    drifts = False

    def __init__(self, desk: Desk, thresholds_gpu_s: Sequence[float], place: Sequence[float]) -> None:
        super().__init__(desk)
        self._thresholds = list(thresholds_gpu_s)
        self._level_place = place
        self._level: dict[int, int] = {}
        self._due: list[tuple[float, int, float]] = []  # when a level is reached: time, job, its start
        self._expected: dict[int, float] = {}  # start of the attempt that _due knows of
        self._review_s = -inf
        self._new: set[int] = set()  # jobs that reached a level at this pass
        self._returned: dict[int, float] = {}
        self._stamp = 0
        self._passes = 0

    def arrives(self, job: int) -> tuple[float, float]:
        stamp = self._returned.pop(job, None)
        if stamp is None:
            self._stamp += 1
            stamp = self._stamp
        return self._level_place[self._level.setdefault(job, 0)], stamp

    def waiting(self, entry: tuple[float, float], job: int) -> Rank:
        return entry[0], 1, entry[1]

    def starts(self, job: int) -> tuple[int, tuple[float, float]]:
        self._stamp += 1
        if self._expected.get(job) != (start_s := self._desk.attempts.start_s[job]):
            self._expected[job] = start_s
            self._expect(job)
        late = _LATE if job in self._new else 0
        return 0, (self._level_place[self._level[job]], self._stamp + late)

    def running(self, group: int, key: tuple[float, float], now: float) -> Rank:
        return key[0], 0 if key[1] < _LATE else 2, key[1]

    def returns(self, job: int, key: tuple[float, float]) -> None:
        if key[1] < _LATE:  # before all that wait, in the order in which they ran
            self._returned[job] = key[1] - self._passes * _LATE
        else:
            self._returned[job] = key[1] - _LATE

    def overdue(self, now: float) -> Sequence[int]:
        moved: dict[int, None] = {}
        attempts = self._desk.attempts
        while self._due and self._due[0][0] <= now:
            at_s, job, start_s = heappop(self._due)
            if attempts.start_s[job] == start_s and attempts.end_s[job] > now:
                self._level[job] += 1
                moved.pop(job, None)  # in the order in which they reached the levels that they are on
                moved[job] = None
                if at_s == now:
                    self._new.add(job)
                self._expect(job)
        return list(moved)

    def _expect(self, job: int) -> None:
        """Note when *job*, which runs, reaches its next level, if it ever does."""
        level = self._level[job]
        if level < len(self._thresholds):
            left_gpu_s = self._thresholds[level] - self._attained_gpu_s.get(job, 0.0)
            start_s = self._desk.attempts.start_s[job]
            at_s = start_s + max(0.0, left_gpu_s) / self._gpus[job]
            if at_s < self._desk.attempts.end_s[job]:
                heappush(self._due, (at_s, job, start_s))

    def passed(self, waiting: bool, now: float) -> Sequence[int]:
        self._passes += 1
        if waiting and self._due and (at_s := self._due[0][0]) != self._review_s:
            self._review_s = at_s
            self._desk.review(at_s)
        settled = sorted(self._new)
        self._new.clear()
        return settled


class LeastAttained(_Attained):
    """Least attained service first, by GPU seconds: with passes at rounds, max-min fairness over jobs.

    Of equal jobs goes first who was first until now: running ones, those of more GPUs first, then waiting
    ones; then in order of arrival. A pass is held at every round while jobs wait.
    """

    drifts = True

    def __init__(self, desk: Desk, round_s: float) -> None:
        super().__init__(desk)
        self._round_s = round_s

    def arrives(self, job: int) -> tuple[float, float]:
        return self._attained_gpu_s.get(job, 0.0), job

    def waiting(self, entry: tuple[float, float], job: int) -> Rank:
        return entry[0], 0, job

    def starts(self, job: int) -> tuple[int, tuple[float, float]]:
        gpus = self._gpus[job]
        at_zero = self._attained_gpu_s.get(job, 0.0) - self._desk.attempts.start_s[job] * gpus
        return gpus, (at_zero, job)

    def running(self, group: int, key: tuple[float, float], now: float) -> Rank:
        return key[0] + now * group, -group, key[1]

    def returns(self, job: int, key: tuple[float, float]) -> None:
        pass

    def overdue(self, now: float) -> Sequence[int]:
        return ()

    def passed(self, waiting: bool, now: float) -> Sequence[int]:
        if waiting:
            self._desk.review(now + self._round_s)
        return ()


def gittins(sizes_gpu_s: Floats, thresholds_gpu_s: Sequence[float]) -> list[float]:
    """The Gittins index at zero and at every threshold of attained service, for jobs of *sizes_gpu_s*.

    ``G(a) = max over b > a of P(S <= b | S > a) / E[min(S, b) - a | S > a]`` (Gittins 1979; Aalto, Ayesta and
    Righter 2009), with b among the thresholds and the largest size. The larger, the sooner.
    """
    sizes = np.sort(sizes_gpu_s)
    total = np.concatenate([[0.0], np.cumsum(sizes)])
    ends = np.unique(np.append(np.asarray(thresholds_gpu_s, np.float64), sizes[-1]))
    index = []
    for a in (0.0, *thresholds_gpu_s):
        b = ends[ends > a]
        above = len(sizes) - bisect_right(sizes, a)
        if not len(b) or not above:
            index.append(0.0)
            continue
        done = np.searchsorted(sizes, b, "right")
        served = total[done] - total[len(sizes) - above] + (len(sizes) - done) * b - above * a
        index.append(float(np.max((done - (len(sizes) - above)) / served)))
    return index
