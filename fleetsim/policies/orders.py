"""Who goes before whom in a queue that stops jobs: the orders of :class:`fleetsim.policies.ranked.Ranked`."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from math import inf
from typing import Protocol

import numpy as np

from fleetsim.policies.desk import Desk
from fleetsim.records import Floats

Rank = tuple[float, float, float]  # the smaller, the sooner
Key = tuple[float, float, int]  # place of a running job in its group, the smaller the sooner; last the job

#: Added to the place of a job that has just reached a level: it is behind all others there.
_LATE = 1 << 52


class Order(Protocol):
    """Who goes before whom. Running jobs of one group never change places among themselves.

    ``drifts``: with time alone a running job can fall behind a waiting one. ``group``: the only one there is,
    or -1 if there are several.
    """

    drifts: bool
    group: int

    def arrives(self, job: int) -> tuple[float, float]:
        """*job* begins to wait, for the first time or after it was stopped: what :meth:`waiting` reads."""

    def began(self, job: int, end_s: float) -> tuple[int, Key]:
        """As :meth:`starts`, for a job that came and started at once, and was then to end at *end_s*."""

    def waiting(self, entry: tuple[float, float], job: int) -> Rank:
        """Rank of a waiting job."""

    def starts(self, job: int) -> tuple[int, Key]:
        """*job* has just started: its group, and its place among the running jobs there."""

    def running(self, group: int, key: Sequence[float], now: float) -> Rank:
        """Rank of a running job."""

    def stops(self, job: int, start_s: float, now: float) -> None:
        """*job* has run from *start_s* and does not any more."""

    def returns(self, job: int, key: Key) -> None:
        """*job*, stopped in this pass, will wait from now on; called for the first in order first."""

    def overdue(self, now: float) -> Sequence[int]:
        """Jobs that, if they run, have changed places since this was last asked."""

    def passed(self, waiting: bool, now: float) -> Sequence[int]:
        """A pass is over: jobs that, if they run, go sooner with that."""


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
        self.group = -1 if times_gpus else 1
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

    def began(self, job: int, end_s: float) -> tuple[int, Key]:
        self._stamp += 1
        return (1 if self._gpus is None else self._gpus[job]), (end_s, self._stamp, job)

    def waiting(self, entry: tuple[float, float], job: int) -> Rank:
        return entry[0], inf if job in self._fresh else 0, entry[1]

    def starts(self, job: int) -> tuple[int, Key]:
        self._stamp += 1
        group = 1 if self._gpus is None else self._gpus[job]
        # A job that waited until now goes before all that run and need as much as it does; others go behind.
        stamp = self._stamp if job in self._fresh else self._stamp - self._passes * 2**32
        return group, (self._desk.attempts.end_s[job], stamp, job)

    def running(self, group: int, key: Sequence[float], now: float) -> Rank:
        return (key[0] - now) * group, group, key[1]

    def stops(self, job: int, start_s: float, now: float) -> None:
        pass

    def returns(self, job: int, key: Key) -> None:
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
    group = 0

    def __init__(self, key: Callable[[int], float]) -> None:
        self._key = key

    def arrives(self, job: int) -> tuple[float, float]:
        return self._key(job), job

    def began(self, job: int, end_s: float) -> tuple[int, Key]:
        return 0, (self._key(job), job, job)

    def waiting(self, entry: tuple[float, float], job: int) -> Rank:
        return entry[0], 0, job

    def starts(self, job: int) -> tuple[int, Key]:
        return 0, (self._key(job), job, job)

    def running(self, group: int, key: Sequence[float], now: float) -> Rank:
        return key[0], 0, key[1]

    def stops(self, job: int, start_s: float, now: float) -> None:
        pass

    def returns(self, job: int, key: Key) -> None:
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
    group = 0

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

    def began(self, job: int, end_s: float) -> tuple[int, Key]:
        self._level.setdefault(job, 0)
        return self._place(job, end_s)

    def waiting(self, entry: tuple[float, float], job: int) -> Rank:
        return entry[0], 1, entry[1]

    def starts(self, job: int) -> tuple[int, Key]:
        return self._place(job, self._desk.attempts.end_s[job])

    def _place(self, job: int, end_s: float) -> tuple[int, Key]:
        self._stamp += 1
        if self._expected.get(job) != (start_s := self._desk.attempts.start_s[job]):
            self._expected[job] = start_s
            self._expect(job, end_s)
        late = _LATE if job in self._new else 0
        return 0, (self._level_place[self._level[job]], self._stamp + late, job)

    def running(self, group: int, key: Sequence[float], now: float) -> Rank:
        return key[0], 0 if key[1] < _LATE else 2, key[1]

    def returns(self, job: int, key: Key) -> None:
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
                self._expect(job, attempts.end_s[job])
        return list(moved)

    def _expect(self, job: int, end_s: float) -> None:
        """Note when *job*, which runs until *end_s*, reaches its next level, if it ever does."""
        level = self._level[job]
        if level < len(self._thresholds):
            left_gpu_s = self._thresholds[level] - self._attained_gpu_s.get(job, 0.0)
            start_s = self._desk.attempts.start_s[job]
            at_s = start_s + max(0.0, left_gpu_s) / self._gpus[job]
            if at_s < end_s:
                heappush(self._due, (at_s, job, start_s))
            else:
                self._expected.pop(job, None)  # it may yet be made to end later

    def passed(self, waiting: bool, now: float) -> Sequence[int]:
        self._passes += 1
        if waiting and self._due and (at_s := self._due[0][0]) != self._review_s:
            self._review_s = at_s
            self._desk.review(at_s)
        if not self._new:
            return ()
        settled = sorted(self._new)
        self._new.clear()
        return settled


class LeastAttained(_Attained):
    """Least attained service first, by GPU seconds: with passes at rounds, max-min fairness over jobs.

    Of equal jobs goes first who was first until now: running ones, those of more GPUs first, then waiting
    ones; then in order of arrival. A pass is held at every round while jobs wait.
    """

    drifts = True
    group = -1

    def __init__(self, desk: Desk, round_s: float) -> None:
        super().__init__(desk)
        self._round_s = round_s

    def arrives(self, job: int) -> tuple[float, float]:
        return self._attained_gpu_s.get(job, 0.0), job

    def began(self, job: int, end_s: float) -> tuple[int, Key]:
        return self.starts(job)

    def waiting(self, entry: tuple[float, float], job: int) -> Rank:
        return entry[0], 0, job

    def starts(self, job: int) -> tuple[int, Key]:
        gpus = self._gpus[job]
        at_zero = self._attained_gpu_s.get(job, 0.0) - self._desk.attempts.start_s[job] * gpus
        return gpus, (at_zero, job, job)

    def running(self, group: int, key: Sequence[float], now: float) -> Rank:
        return key[0] + now * group, -group, key[1]

    def returns(self, job: int, key: Key) -> None:
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
    ends = np.unique(np.append(np.asarray(thresholds_gpu_s, np.float64), sizes[-1:]))
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
