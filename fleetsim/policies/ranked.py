"""Queues that stop running jobs for jobs that rank before them.

In every pass all jobs, running and waiting, stand in one order. From the front, every job that fits beside
those before it runs, the others are skipped: the greedy rule of Tiresias' simulator (Gu et al., NSDI'19) and
of Muri's. A running job keeps its GPUs unless a job before it needs them, then the last in order goes first;
a job that was stopped and still fits, in its place or elsewhere, runs on.

The rule says nothing of how the order is found: here a pass looks at the first waiting job of each shape and
at the running jobs that rank behind it, last first, so it costs O(shapes waiting + jobs stopped), whatever
the number of jobs that wait. Where nodes matter, those nodes are cleared that come free first when running
jobs are taken away from the end of the order, and no other job is stopped; a job for which no node would come
free is looked at again only for nodes that have changed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush
from math import inf

from fleetsim.fleet import Pool
from fleetsim.policies.desk import Desk, Start
from fleetsim.policies.orders import Order, Rank

#: Running jobs whose rank is looked at one by one, before the rest of them is cut by bisection.
FEW = 8


class _Count:
    """Room for a gang where only the number of free GPUs counts: the last jobs in order make it."""

    def __init__(self, pool: Pool, gpus: int) -> None:
        self.need = gpus - pool.idle
        self._free = pool.free
        self._jobs: list[int] = []

    def add(self, job: int, where: Sequence[int]) -> list[int] | None:
        """*job* could be stopped, too: the jobs to stop, if there is room then."""
        self.need -= sum(where[k + 1] for k in range(0, len(where), 2) if self._free[where[k]] >= 0)
        self._jobs.append(job)
        return self._jobs if self.need <= 0 else None


class _Nodes:
    """Room for a gang that needs a node, or whole nodes: those that the last jobs in order free first."""

    def __init__(self, pool: Pool, gpus: int) -> None:
        size = pool.gpus_per_node
        self._size, self._free = size, pool.free
        self._whole, self._rest = divmod(gpus, size) if gpus > size else (0, gpus)
        self.need = self._whole - pool.idle_nodes  # whole nodes still to be found
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
        need = self.need + (not self._rest_met)
        if len(self._found) < need or (not self._whole and not self._rest_met):
            return None
        nodes = self._found[: max(0, need)] + [self._rest_on] * (self._rest_on >= 0)
        return list(dict.fromkeys(job for node in nodes for job in self._jobs[node]))


class Ranked:
    """Jobs that wait and jobs that run, in one order. *counts*: placement only counts free GPUs."""

    lone = True

    def __init__(self, desk: Desk, order: Order, counts: bool) -> None:
        self._desk = desk
        self._order = order
        self._counts = counts
        self._node_of = desk.attempts.node
        self._one_pool = len({pool for options in desk.jobs.shapes for pool, _ in options}) == 1
        self._shape_of = desk.jobs.shape_of
        self._waiting: dict[int, list[tuple[tuple[float, float], int]]] = {}
        self._open: set[int] = set()  # shapes whose first job may fit
        self._running: dict[int, list[tuple[tuple[float, float], int]]] = defaultdict(list)
        self._place: dict[int, tuple[int, tuple[float, float]]] = {}  # of running jobs: group and key
        self._on: dict[int, dict[int, int]] = defaultdict(dict)  # running jobs by node, with their GPUs there
        self._touched: list[int] = []  # nodes on which something ended, or got a later rank, while jobs wait
        self._gpus_touched = 0
        # Waiting jobs for which there was no room: len(_touched) then; by count, the _gpus_touched they need.
        self._failed: dict[int, int] = {}
        self._lacks = 0  # GPUs that the last search did not find, by count
        self._told = True  # whether it says something of later passes
        self._ranks: dict[int, list[tuple[Rank, int]]] = {}
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

    def began(self, job: int) -> None:
        """*job* came while none waited, and fitted."""
        self._order.comes(job)
        self._enter(job)
        if moved := self._order.passed(False, 0.0):
            self._renew(moved)

    def ended(self, job: int) -> None:
        """*job* runs no more."""
        self._leave(job)
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
        self._ranks.clear()
        heads = [self._head(shape) for shape in (waiting if freed else self._open)]
        heapify(heads)
        stopped: dict[int, tuple[int, tuple[float, float], float]] = {}
        ranked = False
        while heads:
            rank, job, shape = heappop(heads)
            victims: Sequence[int] = ()
            failed = job in self._failed
            if failed and not ranked:
                self._renew(order.overdue(now))
                ranked = True
            if failed and not self._may_fit(job, rank, now):
                continue
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
                stopped[victim] = (group, key, self._desk.attempts.start_s[victim])
                heappush(heads, (order.running(group, key, now), victim, -1))
            if shape < 0:
                self._run_on(job, *stopped.pop(job), now)
                continue
            self._enter(job)
            self._failed.pop(job, None)
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

    def _room(self, job: int, rank: Rank, shape: int, start: Start, now: float) -> Sequence[int]:
        """Start *job* in the place of running jobs and return those, or none if there is no room for it."""
        victims = self._search(job, rank, now)
        for victim in victims:
            self._desk.stop(victim)
        if victims and not start(job):
            for victim in victims:
                start(victim)  # its place is as it was
            victims = ()
        # A job that has just come may rank before more jobs in the next pass: it is not remembered.
        if shape >= 0 and not victims and self._told and not self._order.drifts and rank[1] < inf:
            self._failed[job] = self._gpus_touched + self._lacks if self._counts else len(self._touched)
        return victims

    def _may_fit(self, job: int, rank: Rank, now: float) -> bool:
        """Whether what has changed since there was no room for *job* could now be of use to it."""
        if self._counts:
            return self._gpus_touched >= self._failed[job]
        gpus = self._desk.jobs.gpus[job]
        pools = [pool for pool, _ in self._desk.jobs.shapes[self._shape_of[job]]]
        for node in set(self._touched[self._failed[job] :]):
            pool = self._desk.pool_of_node(node)
            if pool not in pools:
                continue
            size = pool.gpus_per_node
            need = (gpus if gpus <= size else gpus % size or size) - pool.free[node]
            if need <= 0:
                return True
            for other_rank, held in self._ranks_on(node, now):
                if other_rank <= rank:
                    break
                need -= held
                if need <= 0:
                    return True
        self._failed[job] = len(self._touched)
        return False

    def _ranks_on(self, node: int, now: float) -> list[tuple[Rank, int]]:
        """Ranks of the jobs on *node*, last first, each with its GPUs there; worked out once in a pass."""
        found = self._ranks.get(node)
        if found is None:
            running, place = self._order.running, self._place
            found = [(running(*place[job], now), gpus) for job, gpus in self._on[node].items()]
            found.sort(reverse=True)
            self._ranks[node] = found
        return found

    def _search(self, job: int, rank: Rank, now: float) -> Sequence[int]:
        """The running jobs to stop so that there is room for *job*, or none."""
        desk = self._desk
        gpus_of, start_s = desk.jobs.gpus, desk.attempts.start_s
        options = desk.jobs.shapes[self._shape_of[job]]
        gpus, pool = gpus_of[job], options[0][0]
        self._told = True
        plain = gpus < pool.gpus_per_node or not gpus % pool.gpus_per_node
        if len(options) == 1 and plain and not self._counts:
            return self._clear(job, pool, rank, now)
        search = _Count if self._counts else _Nodes
        rooms = {pool: search(pool, gpus) for pool, _ in options}
        for other in self._behind(rank, now):
            if start_s[other] == now:
                self._told = False  # it started in this pass, and cannot be stopped in it
                continue
            room = rooms.get(desk.pool_of(other))
            if room is None:
                continue
            victims = room.add(other, self._where(other))
            if victims is not None:
                return victims
        self._lacks = min(room.need for room in rooms.values())
        return ()

    def _clear(self, job: int, pool: Pool, rank: Rank, now: float) -> Sequence[int]:
        """As :class:`_Nodes` for the common case, quicker: one pool, and part of a node or whole nodes."""
        gpus_of, start_s, node_of = self._desk.jobs.gpus, self._desk.attempts.start_s, self._node_of
        free, size, gpus = pool.free, pool.gpus_per_node, gpus_of[job]
        whole = gpus // size
        want, count = (size, whole - pool.idle_nodes) if whole else (gpus, 1)
        freed: dict[int, int] = {}
        found: list[int] = []
        enough = False
        for other in self._behind(rank, now):
            if start_s[other] == now:
                self._told = False
                continue
            node = node_of[other]
            where = (node, gpus_of[other]) if node >= 0 else self._desk.attempts.gangs[~node]
            for k in range(0, len(where), 2):
                node = where[k]
                before = freed.get(node)
                if before is None:
                    mine = self._one_pool or self._desk.pool_of_node(node) is pool
                    before = free[node] if mine else -size
                after = before + where[k + 1]
                freed[node] = after
                if before < want <= after:
                    found.append(node)
                    enough = len(found) >= count
            if enough:
                last = self._order.running(*self._place[other], now)
                there = dict.fromkeys(job for node in found[:count] for job in self._on[node])
                ranks = ((self._order.running(*self._place[job], now), job) for job in there)
                return [
                    job
                    for behind, job in sorted(ranks, reverse=True)
                    if behind >= last and start_s[job] < now
                ]
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
            for index in range(len(jobs) - 1, -1, -1):
                if order.running(group, jobs[index][0], now) <= rank:
                    return
                yield jobs[index][1]
                if len(jobs) - index == FEW:
                    break
            else:
                return
            end = len(jobs) - FEW
            first = bisect_right(jobs, rank, 0, end, key=lambda entry: order.running(group, entry[0], now))
            for index in range(end - 1, first - 1, -1):
                yield jobs[index][1]
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
            self._add(job, group, key)
        else:
            self._order.stops(job, start_s, now)
            self._enter(job)

    def _enter(self, job: int) -> None:
        group, key = self._order.starts(job)
        self._add(job, group, key)

    def _add(self, job: int, group: int, key: tuple[float, float]) -> None:
        self._place[job] = group, key
        insort(self._running[group], (key, job))
        if self._counts:
            return
        if (node := self._node_of[job]) >= 0:
            self._on[node][job] = self._desk.jobs.gpus[job]
        else:
            where = self._where(job)
            for k in range(0, len(where), 2):
                self._on[where[k]][job] = where[k + 1]

    def _leave(self, job: int) -> tuple[int, tuple[float, float]]:
        group, key = self._place.pop(job)
        jobs = self._running[group]
        del jobs[bisect_left(jobs, (key, job))]
        if not self._counts:
            if (node := self._node_of[job]) >= 0:
                del self._on[node][job]
            else:
                for node in self._where(job)[::2]:
                    del self._on[node][job]
        if self._waiting:
            self._touch(job)
        return group, key

    def _touch(self, job: int) -> None:
        """Something has changed where *job* is, or was, that may be of use to a waiting job."""
        if self._counts:
            self._gpus_touched += self._desk.jobs.gpus[job]
            return
        nodes = self._where(job)[::2]
        self._touched += nodes
        for node in nodes:
            self._ranks.pop(node, None)
