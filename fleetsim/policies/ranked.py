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
from heapq import heapify, heappop, heappush, heapreplace
from math import inf

from fleetsim.fleet import Pool
from fleetsim.policies.desk import Desk, Start
from fleetsim.policies.orders import Key, Order, Rank

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
        self._one_group = order.group >= 0
        self._gpus_of = desk.jobs.gpus
        self._node_of = desk.attempts.node
        self._end_s = desk.attempts.end_s
        self._one_pool = len({pool for options in desk.jobs.shapes for pool, _ in options}) == 1
        self._shape_of = desk.jobs.shape_of
        self._waiting: dict[int, list[tuple[tuple[float, float], int]]] = {}
        self._open: set[int] = set()  # shapes whose first job may fit
        self._running: dict[int, list[Key]] = defaultdict(list)  # by group
        self._place: dict[int, tuple[int, Key]] = {}  # of running jobs: group and key
        # Running jobs by node, by key, with their GPUs there; last minus its place in the gang.
        self._on: dict[int, list[tuple[float, float, int, int, int]]] = defaultdict(list)
        self._firsts: list[tuple[float, float, int, int, int]] = []  # if one group: nodes by their first keys
        # Jobs that came and started while none waited, with the ends expected then: most of them end before
        # anything is compared with them, so they enter the order only when something is.
        self._noted: dict[int, float] = {}
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
        self._stood = False  # whether any waited before this pass

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
        self._noted[job] = self._end_s[job]

    def ended(self, job: int) -> None:
        """*job* runs no more."""
        if self._noted.pop(job, None) is None:
            self._leave(job)
        attempts = self._desk.attempts
        self._order.stops(job, attempts.start_s[job], attempts.end_s[job])

    def offer(self, start: Start, freed: bool, now: float) -> bool:
        order, waiting = self._order, self._waiting
        if self._retimes != self._desk.retimes:
            self._retimes = self._desk.retimes
            self._enter_noted()
            self._renew(list(self._place))
        if self._changes != self._desk.capacity_changes:
            self._changes = self._desk.capacity_changes
            self._failed.clear()
        self._ranks.clear()
        heads = [self._head(shape) for shape in (waiting if freed else self._open)]
        if len(heads) > 1:
            heapify(heads)
        stopped: dict[int, tuple[int, Key, float]] = {}
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
                    self._enter_noted()
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
            if ranked or self._stood:
                self._enter(job)
            else:
                self._noted[job] = self._end_s[job]
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
        if stopped:
            for job in sorted(stopped, key=lambda job: order.running(*stopped[job][:2], now)):
                _, key, start_s = stopped[job]
                order.stops(job, start_s, now)
                order.returns(job, key)
        self._stood = bool(waiting or stopped)
        if sooner := order.passed(self._stood, now):
            touched = len(self._touched)
            self._renew(sooner)
            del self._touched[touched:]  # that is of no use to anyone
        return self._stood

    def _head(self, shape: int) -> tuple[Rank, int, int]:
        """The first waiting job of *shape*, with its rank."""
        entry, job = self._waiting[shape][0]
        return self._order.waiting(entry, job), job, shape

    def _enter_noted(self) -> None:
        """Something is compared with what runs."""
        for job, end_s in self._noted.items():
            self._add(job, *self._order.began(job, end_s))
        self._noted.clear()

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
        if not self._counts and self._failed[job] == len(self._touched):
            return False
        gpus = self._gpus_of[job]
        options = self._desk.jobs.shapes[self._shape_of[job]]
        group, running = self._order.group, self._order.running
        if self._counts:
            if self._gpus_touched < self._failed[job]:
                return False
            need = gpus - options[0][0].idle
            if need > 0 and self._one_group and len(options) == 1:
                last = self._running[group]
                if not last or running(group, last[-1], now) <= rank:
                    self._failed[job] = self._gpus_touched + need
                    return False
            return True
        touched = self._touched[self._failed[job] :]
        for node in touched if len(touched) == 1 else set(touched):
            pool = options[0][0]
            if not self._one_pool:
                pool = self._desk.pool_of_node(node)
                if all(pool is not option for option, _ in options):
                    continue
            size = pool.gpus_per_node
            need = (gpus if gpus <= size else gpus % size or size) - pool.free[node]
            if need <= 0:
                return True
            if group < 0:
                for other_rank, held in self._ranks_on(node, now):
                    if other_rank <= rank:
                        break
                    need -= held
                    if need <= 0:
                        return True
            else:
                for entry in reversed(self._on[node]):
                    if running(group, entry, now) <= rank:
                        break
                    need -= entry[3]
                    if need <= 0:
                        return True
        self._failed[job] = len(self._touched)
        return False

    def _ranks_on(self, node: int, now: float) -> list[tuple[Rank, int]]:
        """Ranks of the jobs on *node*, last first, each with its GPUs there; worked out once in a pass."""
        found = self._ranks.get(node)
        if found is None:
            running, place = self._order.running, self._place
            found = [(running(*place[job], now), gpus) for _, _, job, gpus, _ in self._on[node]]
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
            if gpus >= pool.gpus_per_node and self._order.group >= 0:
                return self._clear_whole(gpus // pool.gpus_per_node - pool.idle_nodes, pool, rank, now)
            return self._clear(job, pool, rank, now)
        if len(options) == 1 and self._counts:
            return self._count_off(gpus, pool, rank, now)
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
                    if not self._one_pool and self._desk.pool_of_node(node) is not pool:
                        continue
                    before = free[node]
                after = before + where[k + 1]
                freed[node] = after
                if before < want <= after:
                    found.append(node)
                    enough = len(found) >= count
            if enough:
                last = self._order.running(*self._place[other], now)
                there = dict.fromkeys(job for node in found[:count] for _, _, job, *_ in self._on[node])
                ranks = ((self._order.running(*self._place[job], now), job) for job in there)
                return [
                    job
                    for behind, job in sorted(ranks, reverse=True)
                    if behind >= last and start_s[job] < now
                ]
        return ()

    def _count_off(self, gpus: int, pool: Pool, rank: Rank, now: float) -> Sequence[int]:
        """As :class:`_Count` for the common case, quicker: one pool."""
        gpus_of, start_s, node_of = self._desk.jobs.gpus, self._desk.attempts.start_s, self._node_of
        free, need = pool.free, gpus - pool.idle
        found: list[int] = []
        for other in self._behind(rank, now):
            if start_s[other] == now:
                self._told = False
                continue
            if not self._one_pool and self._desk.pool_of(other) is not pool:
                continue
            node = node_of[other]
            if node >= 0:
                if free[node] >= 0:
                    need -= gpus_of[other]
            else:
                gang = self._desk.attempts.gangs[~node]
                need -= sum([gang[k + 1] for k in range(0, len(gang), 2) if free[gang[k]] >= 0])
            found.append(other)
            if need <= 0:
                return found
        self._lacks = need
        return ()

    def _clear_whole(self, count: int, pool: Pool, rank: Rank, now: float) -> Sequence[int]:
        """As :meth:`_clear` for *count* whole nodes: the last in order of the first job there come first."""
        start_s, running, group = self._desk.attempts.start_s, self._order.running, self._order.group
        free, size = pool.free, pool.gpus_per_node
        found: list[tuple[float, float, int, int, int]] = []
        for first in reversed(self._firsts):
            if running(group, first, now) <= rank:
                return ()
            node = first[4]
            there = self._on[node]
            if not self._one_pool and self._desk.pool_of_node(node) is not pool:
                continue
            if free[node] + sum([held for _, _, _, held, _ in there]) < size:
                continue  # it is closed, or jobs of another queue run there
            if any(start_s[job] == now for _, _, job, *_ in there):
                self._told = False
                continue
            found += there
            count -= 1
            if not count:
                return list(dict.fromkeys([job for _, _, job, *_ in sorted(found, reverse=True)]))
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
                if order.running(group, jobs[index], now) <= rank:
                    return
                yield jobs[index][2]
                if len(jobs) - index == FEW:
                    break
            else:
                return
            end = len(jobs) - FEW
            first = bisect_right(jobs, rank, 0, end, key=lambda key: order.running(group, key, now))
            for index in range(end - 1, first - 1, -1):
                yield jobs[index][2]
            return
        running = order.running
        tails: list[tuple[float, float, float, int, int]] = []
        for group, jobs in self._running.items():
            if jobs and (behind := running(group, jobs[-1], now)) > rank:
                a, b, c = behind
                tails.append((-a, -b, -c, group, len(jobs) - 1))
        heapify(tails)
        while tails:
            _, _, _, group, index = tails[0]
            jobs = self._running[group]
            yield jobs[index][2]
            if index and (behind := running(group, jobs[index - 1], now)) > rank:
                a, b, c = behind
                heapreplace(tails, (-a, -b, -c, group, index - 1))
            else:
                heappop(tails)

    def _run_on(self, job: int, group: int, key: Key, start_s: float, now: float) -> None:
        """*job* was stopped in this pass and runs again."""
        if self._desk.attempts.start_s[job] == start_s:  # as if nothing had been
            self._add(job, group, key)
        else:
            self._order.stops(job, start_s, now)
            self._enter(job)

    def _enter(self, job: int) -> None:
        group, key = self._order.starts(job)
        self._add(job, group, key)

    def _add(self, job: int, group: int, key: Key) -> None:
        self._place[job] = group, key
        insort(self._running[group], key)
        if self._counts:
            return
        node = self._node_of[job]
        where = (node, self._gpus_of[job]) if node >= 0 else self._desk.attempts.gangs[~node]
        for k in range(0, len(where), 2):
            node = where[k]
            there = self._on[node]
            if self._one_group and (not there or key < there[0]):
                if there:
                    del self._firsts[bisect_left(self._firsts, (*there[0][:3], there[0][4], node))]
                insort(self._firsts, (*key, -k, node))
            insort(there, (*key, where[k + 1], -k))
            if not self._one_group:
                self._ranks.pop(node, None)  # on slower GPUs it may rank behind jobs that it went before

    def _leave(self, job: int) -> tuple[int, Key]:
        place = self._place.pop(job)
        group, key = place
        jobs = self._running[group]
        del jobs[bisect_left(jobs, key)]
        waited_for = bool(self._waiting)
        if self._counts:
            if waited_for:
                self._gpus_touched += self._gpus_of[job]
            return place
        at = self._node_of[job]
        for node in (at,) if at >= 0 else self._desk.attempts.gangs[~at][::2]:
            there = self._on[node]
            index = bisect_left(there, key)
            piece = there.pop(index)[4]
            if not index and self._one_group:
                del self._firsts[bisect_left(self._firsts, (*key, piece, node))]
                if there:
                    insort(self._firsts, (*there[0][:3], there[0][4], node))
            if waited_for:
                self._touched.append(node)
                self._ranks.pop(node, None)
        return place
