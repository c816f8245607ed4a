"""Backfilling: jobs behind one that does not fit may start now, if by the estimates they do not delay it.

A running job is expected to end when its estimate has passed; one that has passed it is expected to end at
once, so what waits for it has a claim on its GPUs without a time. (Production schedulers stop a job at its
limit, as Slurm and PBS do unless told to be lenient, and so never see one; here an estimate may be too low.)
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heapreplace
from math import inf, nextafter
from sys import float_info
from typing import TYPE_CHECKING

from fleetsim.fleet import Pool
from fleetsim.policies.desk import Desk, Start, Terms
from fleetsim.policies.estimates import estimates_s
from fleetsim.policies.placement import COUNTING

if TYPE_CHECKING:
    from fleetsim.engine import Options

_ANY = float_info.max  # every estimate is at most this


class Line:
    """Waiting jobs of one shape in order of arrival, with the least estimate of any stretch of them."""

    __slots__ = ("_jobs", "_least", "_size", "count", "gpus", "options")

    def __init__(self, gpus: int, options: Options) -> None:
        self.gpus = gpus
        self.options = options
        self.count = 0
        self._jobs: list[int] = []  # those that have left stay in until the line is full
        self._size = 8
        self._least = [inf] * 16  # a binary tree: of node i the children are 2i and 2i + 1, the root is 1

    def add(self, job: int, left_s: float) -> None:
        """Let *job* wait, with what is left of its estimate."""
        if self._jobs and job < self._jobs[-1]:
            self._build(sorted([*self._live(), (job, left_s)]))
            return
        if len(self._jobs) == self._size:
            self._build(list(self._live()))
        least, at = self._least, self._size + len(self._jobs)
        self._jobs.append(job)
        self.count += 1
        while at and least[at] > left_s:
            least[at] = left_s
            at >>= 1

    def remove(self, job: int) -> None:
        """*job* waits no more."""
        self.count -= 1
        least, at = self._least, self._size + bisect_left(self._jobs, job)
        least[at] = inf
        at >>= 1
        while at:
            left, right = least[2 * at], least[2 * at + 1]
            if right < left:
                left = right
            if least[at] == left:
                return
            least[at] = left
            at >>= 1

    def first(self, most_s: float) -> int:
        """The first job with an estimate of at most *most_s*, or -1."""
        least, size, at = self._least, self._size, 1
        if least[1] > most_s:
            return -1
        while at < size:
            at *= 2
            if least[at] > most_s:
                at += 1
        return self._jobs[at - size]

    def _live(self) -> list[tuple[int, float]]:
        leaves = self._least[self._size :]
        return [pair for pair in zip(self._jobs, leaves, strict=False) if pair[1] < inf]

    def _build(self, entries: list[tuple[int, float]]) -> None:
        self.count = len(entries)
        self._jobs = [job for job, _ in entries]
        size = max(8, 1 << (2 * self.count - 1).bit_length())
        least = [inf] * size + [left_s for _, left_s in entries] + [inf] * (size - self.count)
        for at in range(size - 1, 0, -1):
            least[at] = min(least[2 * at], least[2 * at + 1])
        self._least, self._size = least, size


class Running:
    """Running jobs by pool, in order of expected end."""

    def __init__(self, desk: Desk, estimate_s: Sequence[float]) -> None:
        self._desk = desk
        self._estimate_s = estimate_s
        self.ends: dict[Pool, list[tuple[float, int]]] = {
            pool: [] for options in desk.jobs.shapes for pool, _ in options
        }
        self.gpus = dict.fromkeys(self.ends, 0)
        self.on: dict[int, list[tuple[float, int]]] = {}  # of each node: expected ends, and GPUs
        self._end_s: dict[int, float] = {}

    def left_s(self, job: int) -> float:
        """What is left of the estimate of *job*, which waits: all, unless it was stopped or has a set-up."""
        estimate_s = self._estimate_s[job]
        if self._desk.attempts.owed_s and job in self._desk.attempts.owed_s:
            return max(0.0, estimate_s + self._desk.left_s(job) - self._desk.jobs.duration_s[job])
        return estimate_s

    def add(self, job: int, now: float) -> tuple[Pool, float]:
        """*job* has just started: where, and when it is expected to end."""
        jobs, pool = self._desk.jobs, self._desk.pool_of(job)
        end_s = self._desk.attempts.end_s[job]
        if self._estimate_s[job] != jobs.duration_s[job]:
            speed = next(speed for option, speed in jobs.shapes[jobs.shape_of[job]] if option is pool)
            end_s = now + self.left_s(job) / speed
        self._end_s[job] = end_s
        self.gpus[pool] += jobs.gpus[job]
        insort(self.ends[pool], (end_s, job))
        for node, gpus in self.pieces(job):
            self.on.setdefault(node, []).append((end_s, gpus))
        return pool, end_s

    def remove(self, job: int) -> tuple[Pool, float]:
        """*job* runs no more: where it ran, and when it was expected to end."""
        pool, end_s = self._desk.pool_of(job), self._end_s.pop(job)
        ends = self.ends[pool]
        del ends[bisect_left(ends, (end_s, job))]
        self.gpus[pool] -= self._desk.jobs.gpus[job]
        for node, gpus in self.pieces(job):
            self.on[node].remove((end_s, gpus))
        return pool, end_s

    def released(self, pool: Pool) -> Iterator[tuple[float, int, int]]:
        """Expected end, node and GPUs of all that runs in *pool*, in order; at last one that is never."""
        for end_s, job in self.ends[pool]:
            for node, gpus in self.pieces(job):
                yield end_s, node, gpus
        yield inf, -1, 0

    def pieces(self, job: int) -> Sequence[tuple[int, int]]:
        """Nodes of *job*, and how many of their GPUs."""
        node = self._desk.attempts.node[job]
        if node >= 0:
            return ((node, self._desk.jobs.gpus[job]),)
        gang = self._desk.attempts.gangs[~node]
        return tuple(zip(gang[::2], gang[1::2], strict=True))


class Easy:
    """EASY backfilling (Lifka 1995; Mu'alem & Feitelson 2001).

    Jobs start in order of arrival; one that was stopped is back in its place. When the first does not fit,
    it gets a reservation: the pool, time and GPUs at which it fits soonest if every running job ends when
    expected (ties: the pool preferred, then the node whose job arrived first). With a placement that minds
    nodes these are GPUs of named nodes: of the first node that has enough, and for a larger gang the first
    nodes wholly free, and for its remainder the first other that has enough. Else they are a number.

    Then every other waiting job that fits starts now, in order of arrival, if it leaves the head its
    reservation: where by its estimate it ends by then it may take any free GPU, otherwise only such as the
    head does not need. To this end the GPUs promised to the head, less those that running jobs give back by
    then, count as taken while a job that runs longer is placed; so each placement works as it is.

    The head is the only one with a reservation, and it keeps it unless one becomes possible that is sooner.
    When none is possible (its nodes are yet to come, or down) nothing is held for it. With ``depth`` only the
    first so many waiting jobs, the head among them, are looked at in a pass.

    A pass costs O(log jobs waiting) for every job started and every shape waiting, and nothing while no GPU
    is idle; a new reservation costs O(running jobs that end before it).
    """

    lone = False  # it must know what runs
    began = None

    def __init__(self, desk: Desk, terms: Terms) -> None:
        assert terms.scheduler.estimate is not None  # checked when the scenario was read
        self._desk = desk
        self._shape_of = desk.jobs.shape_of
        self._gpus = desk.jobs.gpus
        self._counts = terms.scheduler.placement in COUNTING
        self._depth = terms.scheduler.depth
        self._running = Running(desk, estimates_s(terms.jobs, terms.scheduler.estimate))
        self._fresh: list[int] = []  # have arrived since the last pass
        self._order: deque[int] = deque()  # waiting, and some that do not any more
        self._waits = bytearray(len(self._shape_of))
        self._count = 0  # waiting, but not fresh
        self._lines: dict[int, Line] = {}
        self._head = -1  # does not fit
        self._shut: set[int] = set()  # shapes that do not fit
        self._tight: set[int] = set()  # shapes that do not fit beside the GPUs held for the head
        self._planned = -1  # the job that has the reservation
        self._at_s = inf
        self._pool: Pool | None = None
        self._need: dict[int, int] = {}  # of each node (-1: of any) what the head needs of the GPUs free now
        self._up = 0  # GPUs that the head could have, when it was planned

    def __len__(self) -> int:
        return self._count + len(self._fresh)

    def push(self, job: int) -> None:
        if (self._order and job < self._order[-1]) or (self._fresh and job < self._fresh[-1]):
            self._enter(job)  # it was stopped
            self._order = deque(sorted(waiting for waiting in self._order if self._waits[waiting]))
            self._planned = -1
        else:
            self._fresh.append(job)

    def ended(self, job: int) -> None:
        """*job* has left its GPUs."""
        pool, end_s = self._running.remove(job)
        if self._planned < 0:
            return
        if pool is self._pool and end_s <= self._at_s:
            self._needs(job, 1)
        ended_s = self._desk.attempts.end_s[job]
        if ended_s < end_s and ended_s < self._at_s and self._sooner(job, pool):
            self._planned = -1

    def offer(self, start: Start, freed: bool, now: float) -> bool:
        fresh, self._fresh = self._fresh, []
        served = 0
        if self._at_s < now:
            freed = self._slip(now) or freed
        if freed or self._head < 0:
            self._head = self._serve(start, now)
            if self._head < 0:
                while served < len(fresh) and start(fresh[served]):
                    self._running.add(fresh[served], now)
                    served += 1
                if served == len(fresh):
                    return False
                self._head = fresh[served]
                self._enter(self._head)
                served += 1
            if self._planned == self._head and self._up != self._capacity():
                self._planned = -1  # nodes came or went
            self._shut.clear()
            self._tight.clear()
            self._shut.add(self._shape_of[self._head])
            if self._count > 1:
                self._backfill(start, now)
        for job in fresh[served:]:
            in_reach = self._depth is None or self._count < self._depth
            if not in_reach or not self._try(job, start, now):
                self._enter(job)
        return True

    def _serve(self, start: Start, now: float) -> int:
        """Start jobs from the front; return the first that does not fit, or -1."""
        order, waits = self._order, self._waits
        while order:
            job = order[0]
            if waits[job]:
                if not start(job):
                    return job
                self._leave(job)
                self._running.add(job, now)
            order.popleft()
        return -1

    def _enter(self, job: int) -> None:
        """*job* waits."""
        if len(self._order) > 2 * self._count + 64:
            self._order = deque(waiting for waiting in self._order if self._waits[waiting])
        self._order.append(job)
        self._waits[job] = 1
        self._count += 1
        shape = self._shape_of[job]
        if shape not in self._lines:
            self._lines[shape] = Line(self._gpus[job], self._desk.jobs.shapes[shape])
        self._lines[shape].add(job, self._running.left_s(job))

    def _leave(self, job: int) -> None:
        """*job* waits no more."""
        self._waits[job] = 0
        self._count -= 1
        shape = self._shape_of[job]
        line = self._lines[shape]
        line.remove(job)
        if not line.count:
            del self._lines[shape]

    def _backfill(self, start: Start, now: float) -> None:
        """Offer what waits behind the head, in order of arrival."""
        if self._depth is not None:
            for job in self._within(self._depth):
                if self._try(job, start, now):
                    self._leave(job)
            return
        lines = [
            (shape, line) for shape, line in self._lines.items() if shape not in self._shut and _fits(line)
        ]
        if not lines:
            return
        self._plan(now)
        spare = 0 if self._pool is None else self._pool.idle - sum(n for n in self._need.values() if n > 0)
        heads: list[tuple[int, int]] = []
        for shape, line in lines:
            if spare < line.gpus and len(line.options) == 1 and line.options[0][0] is self._pool:
                self._tight.add(shape)
            if (job := self._next(shape, line, now)) >= 0:
                heads.append((job, shape))
        heapify(heads)
        while heads:
            job, shape = heads[0]
            line = self._lines[shape]
            if self._try(job, start, now):
                self._leave(job)
            job = -1 if shape in self._shut or not _fits(line) else self._next(shape, line, now)
            if job >= 0:
                heapreplace(heads, (job, shape))
            else:
                heappop(heads)

    def _within(self, depth: int) -> list[int]:
        """The first *depth* waiting jobs."""
        found: list[int] = []
        for job in self._order:
            if self._waits[job]:
                if len(found) == depth:
                    break
                found.append(job)
        return found

    def _next(self, shape: int, line: Line, now: float) -> int:
        """The first job of *line* that may start as far as the reservation goes; -1 if there is none."""
        if shape not in self._tight:
            return line.first(_ANY)
        most_s = inf
        options = self._desk.jobs.shapes[shape]  # speeds as they are now
        for pool, speed in options:
            if pool is self._pool:
                most_s = (self._at_s - now) * speed * (1 + 1e-12)  # _short is exact
        while (job := line.first(most_s)) >= 0 and not self._short(job, options, now):
            most_s = nextafter(self._running.left_s(job), -inf)
        return job

    def _short(self, job: int, options: Options, now: float) -> bool:
        """Whether *job*, started now, leaves the head its reservation wherever it runs."""
        for pool, speed in options:
            if pool is self._pool:
                return now + self._running.left_s(job) / speed <= self._at_s
        return True

    def _try(self, job: int, start: Start, now: float) -> bool:
        """Start *job* if it fits and does not delay the head."""
        shape = self._shape_of[job]
        if shape in self._shut:
            return False
        self._plan(now)
        if self._short(job, self._desk.jobs.shapes[shape], now):
            if not start(job):
                self._shut.add(shape)
                return False
        else:
            if shape in self._tight:
                return False
            held = self._hold()
            started = start(job)
            self._release(held)
            if not started:
                self._tight.add(shape)
                return False
        pool, end_s = self._running.add(job, now)
        if pool is self._pool and end_s <= self._at_s:
            self._needs(job, -1)
        return True

    def _sooner(self, job: int, pool: Pool) -> bool:
        """Whether the head may fit before its reservation, now that *job* has ended before it was to."""
        gpus = self._gpus[self._planned]
        if all(pool is not option for option, _ in self._desk.jobs.shapes[self._shape_of[self._planned]]):
            return False
        if self._counts:
            return True
        if gpus > pool.gpus_per_node:
            gpus = gpus % pool.gpus_per_node or pool.gpus_per_node
        on, free, at_s = self._running.on, pool.free, self._at_s
        return any(
            free[node] + sum(more for end_s, more in on[node] if end_s < at_s) >= gpus
            for node, _ in self._running.pieces(job)
        )

    def _slip(self, now: float) -> bool:
        """The reservation is over, since a job has outrun its estimate; as all that have it is to end now."""
        assert self._pool is not None
        ends = self._running.ends[self._pool]
        first, last = bisect_right(ends, (self._at_s, inf)), bisect_right(ends, (now, inf))
        self._at_s = now
        for _, job in ends[first:last]:
            self._needs(job, -1)
        return last > first

    def _needs(self, job: int, sign: int) -> None:
        """The GPUs of *job*, which it holds until the reservation at most, are free now (1), or not (-1)."""
        for node, gpus in ((-1, self._gpus[job]),) if self._counts else self._running.pieces(job):
            if node in self._need:
                self._need[node] += sign * gpus

    def _hold(self) -> list[tuple[int, int]]:
        """Take what the head needs of the GPUs free now, so that nothing is placed there."""
        held: list[tuple[int, int]] = []
        pool = self._pool
        if pool is None:
            return held
        for node, need in self._need.items():
            gpus = min(need, pool.idle if node < 0 else pool.free[node])
            if gpus > 0:
                if node < 0:
                    pool.idle -= gpus
                else:
                    pool.take(node, gpus)
                held.append((node, gpus))
        return held

    def _release(self, held: list[tuple[int, int]]) -> None:
        """Undo :meth:`_hold`."""
        for node, gpus in held:
            assert self._pool is not None
            if node < 0:
                self._pool.idle += gpus
            else:
                self._pool.give(node, gpus)

    def _capacity(self) -> int:
        """GPUs in the pools of the head that are free or held by jobs of this queue."""
        options = self._desk.jobs.shapes[self._shape_of[self._head]]
        return sum(pool.idle + self._running.gpus[pool] for pool, _ in options)

    def _plan(self, now: float) -> None:
        """Make the reservation of the head, unless it has one that stands."""
        if self._planned == self._head:
            return
        self._planned, self._up = self._head, self._capacity()
        self._pool, self._at_s, self._need = None, inf, {}
        gpus = self._gpus[self._head]
        for pool, _ in self._desk.jobs.shapes[self._shape_of[self._head]]:
            when = _by_count if self._counts else _by_node
            at_s, need = when(pool, gpus, now, self._running.released(pool))
            if at_s < self._at_s:
                self._pool, self._at_s, self._need = pool, at_s, need


def _fits(line: Line) -> bool:
    """Whether enough GPUs are idle for a job of *line*, wherever they are."""
    return any(pool.idle >= line.gpus for pool, _ in line.options)


def _by_count(
    pool: Pool, gpus: int, now: float, released: Iterator[tuple[float, int, int]]
) -> tuple[float, dict[int, int]]:
    """When there will be *gpus* free GPUs, and how many of them must be of those free now."""
    at_s, free = now if pool.idle >= gpus else inf, pool.idle
    for end_s, node, more in released:
        if end_s > at_s:
            return at_s, {-1: gpus + pool.idle - free}
        if pool.free[node] >= 0:  # it is not closed
            free += more
            if free >= gpus and at_s == inf:
                at_s = max(end_s, now)
    return inf, {}


def _by_node(
    pool: Pool, gpus: int, now: float, released: Iterator[tuple[float, int, int]]
) -> tuple[float, dict[int, int]]:
    """When which nodes will hold a gang, and how many GPUs of each must be of those free now."""
    size, free = pool.gpus_per_node, pool.free
    whole, rest = divmod(gpus, size) if gpus > size else (0, gpus)
    most = size - 1 if whole else size
    full = pool.lowest_many(size, whole + 1) if whole else []
    other: dict[int, None] = {}  # nodes for the remainder, in the order in which they are found
    if whole and rest:
        for some in range(rest, size):
            other |= {node: None for node in pool.buckets[some] if free[node] == some}
    at_s = inf
    then: dict[int, int] = {}  # free GPUs of each node that gives any back
    for end_s, node, more in released:
        if end_s > at_s:
            break
        then[node] = then.get(node, free[node]) + more
        if then[node] == size and whole:
            full.append(node)
            other.pop(node, None)
        elif rest and rest <= then[node] <= most:
            other[node] = None
        if at_s == inf and len(full) >= whole and (other or len(full) > whole or not rest):
            at_s = max(end_s, now)
            promised = dict.fromkeys(full[:whole], size)
            if rest:
                promised[next(iter(other), full[whole] if len(full) > whole else -1)] = rest
    if at_s == inf:
        return inf, {}
    return at_s, {node: gpus + free[node] - then.get(node, free[node]) for node, gpus in promised.items()}
