"""Moving running jobs together, so that a gang that waits can start."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from fleetsim.fleet import Pool
from fleetsim.policies.desk import Desk, Queue, Start
from fleetsim.policies.placement import Placement


class Defragment:
    """A queue that in addition moves running jobs, at multiples of *every_s* while jobs wait.

    Then the first job that *inner* offers and that does not fit is looked at, in each pool that has enough
    free GPUs in all. Nodes are cleared for it one after the other: those on which the fewest jobs must move,
    then the fewest GPUs, then the lowest; of a node that need not be empty the largest jobs that can stay do
    stay. Only jobs on one node move, and no node on which a larger gang runs is cleared. What moves goes
    where the placement puts it, largest first, after the gang has its place. If everything finds a place and
    at most *moves* jobs move, that is done at once; else nothing is.

    A move costs the job what a restart costs. (Gandiva, OSDI'18, migrates jobs to defragment; Kubernetes'
    descheduler evicts pods for it, ``HighNodeUtilization``, but for no particular job.)
    """

    def __init__(self, desk: Desk, inner: Queue, place: Placement, every_s: float, moves: int) -> None:
        self.lone = inner.lone
        self.began = inner.began
        self.ended = inner.ended
        self._desk = desk
        self._inner = inner
        self._place = place
        self._every_s = every_s
        self._moves = moves
        self._next_s = inf

    def __len__(self) -> int:
        return len(self._inner)

    def push(self, job: int) -> None:
        self._inner.push(job)

    def offer(self, start: Start, freed: bool, now: float) -> bool:
        due = now >= self._next_s
        waiting = self._inner.offer(self._moving(start) if due else start, freed, now)
        if not waiting:
            self._next_s = inf
        elif due or self._next_s == inf:
            self._next_s = (now // self._every_s + 1) * self._every_s
            self._desk.review(self._next_s)
        return waiting

    def _moving(self, start: Start) -> Start:
        """*start* that makes room for the first job that does not fit."""
        tried = False

        def begin(job: int) -> bool:
            nonlocal tried
            if start(job):
                return True
            if tried:
                return False
            tried = True
            movers = self._plan(job)
            for mover in movers:
                self._desk.stop(mover)
            if not movers or not start(job):
                return False
            for mover in movers:
                start(mover)
            return True

        return begin

    def _plan(self, job: int) -> list[int]:
        """Jobs to take off for *job*, and to start again after it in this order; empty if it is of no use."""
        desk = self._desk
        gpus_of, gpus = desk.jobs.gpus, desk.jobs.gpus[job]
        pools = [pool for pool, _ in desk.jobs.shapes[desk.jobs.shape_of[job]] if pool.idle >= gpus]
        if not pools:
            return []
        on: dict[int, list[int]] = {}  # jobs by node, the largest first
        fixed: set[int] = set()  # nodes with a part of a larger gang
        for other in sorted(desk.running_jobs(), key=lambda other: (-gpus_of[other], other)):
            node = desk.attempts.node[other]
            if node >= 0:
                on.setdefault(node, []).append(other)
            else:
                fixed.update(desk.attempts.gangs[~node][::2])
        for pool in pools:
            nodes = {
                node: jobs
                for node, jobs in on.items()
                if node not in fixed and desk.pool_of_node(node) is pool and pool.free[node] >= 0
            }
            if movers := self._clear(job, pool, nodes):
                return movers
        return []

    def _clear(self, job: int, pool: Pool, nodes: dict[int, list[int]]) -> list[int]:
        """The plan for *job* in *pool*, where nothing but the jobs of *nodes* can move."""
        gpus_of, size = self._desk.jobs.gpus, pool.gpus_per_node
        whole, rest = divmod(gpus_of[job], size)
        goals = [size] * (whole - pool.idle_nodes) + [rest] * (rest > 0)  # GPUs wanted, node by node
        movers: list[int] = []
        for number, goal in enumerate(goals, 1):
            ways: list[tuple[int, int, int, list[int]]] = []
            for node, jobs in nodes.items():
                leaving = self._leaving(jobs, size - goal)
                ways.append((len(leaving), sum(gpus_of[other] for other in leaving), node, leaving))
            for count, _, node, leaving in sorted(ways):
                if len(movers) + count > self._moves:
                    return []
                trial = sorted(movers + leaving, key=lambda other: (-gpus_of[other], other))
                if self._rehearse(trial, pool, job):
                    return trial
                if number < len(goals) and self._rehearse(trial, pool):
                    movers = trial
                    del nodes[node]
                    break
            else:
                return []
        return []

    def _leaving(self, jobs: Sequence[int], room: int) -> list[int]:
        """Those of *jobs* that find no place in *room* GPUs, if the first come first."""
        leaving: list[int] = []
        for job in jobs:
            if (gpus := self._desk.jobs.gpus[job]) <= room:
                room -= gpus
            else:
                leaving.append(job)
        return leaving

    def _rehearse(self, movers: Sequence[int], pool: Pool, job: int | None = None) -> bool:
        """Whether *movers*, taken off, all find a place again after *job* has found one.

        Without *job*: beside the empty nodes of *pool*. What is taken and given meanwhile is undone.
        """
        desk, gpus_of = self._desk, self._desk.jobs.gpus
        done: list[tuple[Pool, int, int]] = []  # GPUs taken; below zero: given

        def take(pool: Pool, node: int, gpus: int) -> None:
            pool.take(node, gpus)
            done.append((pool, node, gpus))

        def put(job: int) -> bool:
            """Do what the engine would do to start *job*."""
            gpus = gpus_of[job]
            for pool, _ in desk.jobs.shapes[desk.jobs.shape_of[job]]:
                if pool.idle < gpus or (where := self._place(pool, gpus)) is None:
                    continue
                pieces = (where, gpus) if isinstance(where, int) else where
                for k in range(0, len(pieces), 2):
                    take(pool, pieces[k], pieces[k + 1])
                return True
            return False

        for mover in movers:
            node = desk.attempts.node[mover]
            desk.pool_of_node(node).give(node, gpus_of[mover])
            done.append((desk.pool_of_node(node), node, -gpus_of[mover]))
        if job is None:
            for node in pool.lowest_many(pool.gpus_per_node, pool.idle_nodes):
                take(pool, node, pool.gpus_per_node)
        fits = job is None or put(job)
        for mover in movers:
            if not fits:
                break
            node = desk.attempts.node[mover]
            home = desk.pool_of_node(node)
            if home.free[node] >= gpus_of[mover]:
                take(home, node, gpus_of[mover])  # it stays, and nothing has happened to it
            else:
                fits = put(mover)
        for at, node, gpus in reversed(done):
            if gpus > 0:
                at.give(node, gpus)
            else:
                at.take(node, -gpus)
        return fits
