"""Quotas of a hierarchy of tenants, with what nobody claims lent to those who want more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from math import inf
from operator import gt

from fleetsim.errors import InputError, Problem
from fleetsim.policies.desk import Desk, Start, Terms
from fleetsim.policies.lanes import Lanes
from fleetsim.policies.room import Room
from fleetsim.policies.shares import Shares, Tree

Key = tuple[bool, int, float, int]


class Quota:
    """Tenants in the order of what they hold against what is theirs; the queues of NVIDIA's KAI Scheduler.

    Among tenants that wait, and among the parts of one tenant, the next job comes from the one that holds
    fewer GPUs than it deserves; then of the higher ``priority``; then with the smallest ratio of GPUs held to
    fair share; then the first by name. Its fair share is what :func:`fleetsim.policies.shares.divide` gives
    it of the installed GPUs for what it holds and waits for. Within a tenant jobs go by their own priority,
    then in order of arrival. A tenant never holds more than its ``max_gpus``, nor do
    the tenants it is a part of; up to that it may borrow what is free. With ``on_misfit: stop`` a job that
    does not fit, or is more than its limits leave, holds back the later jobs of its tenant, with ``skip``
    only those of its shape; other tenants' jobs go on either way.

    With ``preemptive`` GPUs are reclaimed, after all that fits has started: in the same order, a tenant may
    have running jobs of others stopped for its first job if it holds no more than its fair share with it.
    They are taken from the tenant furthest above its fair share, in GPUs, then the next, as long as each
    is above it; of a tenant the job started last goes first; none falls below what it deserves.
    Tenants with a common parent compete beneath it, by its parts' shares; with others by the shares of their
    parents. If even all of that would make no room for the job nothing is stopped, and it is tried again when
    as many GPUs as it needs have been given back.

    A pass costs O(tenants + shapes) for each job that starts, however many wait.
    """

    def __init__(self, desk: Desk, terms: Terms) -> None:
        jobs = terms.jobs
        declared = {tenant.name for tenant in terms.tenants}
        tree = Tree.of(terms.tenants, [name for name in jobs.tenants if name not in declared])
        self._node = [tree.names.index(name) for name in jobs.tenants]
        whole = [jobs.tenants[t] for t in sorted(set(jobs.tenant.tolist())) if tree.children[self._node[t]]]
        if whole:
            message = "has parts; in queue `quota` only they have jobs"
            remedy = "Map its jobs to one of the parts, or to a new one."
            raise InputError([Problem(f"tenants.{name}", f"{name!r} {message}", remedy) for name in whole])
        self._desk = desk
        self._tree = tree
        self._gpus_of = desk.jobs.gpus
        self._shape_of = desk.jobs.shape_of
        self._lanes = Lanes(desk, terms)
        self._room = Room(desk, terms)
        self._tenant = {node: tenant for tenant, node in enumerate(self._node)}
        by_name = sorted(range(len(tree.names)), key=tree.names.__getitem__)
        self._place = [by_name.index(node) for node in range(len(by_name))]
        self._limited = any(limit < inf for limit in tree.limit)
        self.lone = not self._limited
        self._held = [0] * len(tree.names)
        self._shares = Shares(tree, terms.gpus)
        self._fresh: set[int] = set()  # tenants with new jobs
        self._given_back = 0  # GPUs, ever
        self._in_vain: dict[int, int] = {}  # jobs without room: of _given_back, when they are tried again
        self._stopped: set[int] = set()  # jobs on their way back into the queue
        self._running: list[dict[int, None]] | None = None  # by tenant, in the order in which they started
        if terms.scheduler.preemptive:
            self._running = [{} for _ in jobs.tenants]

    def __len__(self) -> int:
        return len(self._lanes)

    def push(self, job: int) -> None:
        tenant = self._lanes.push(job)
        self._fresh.add(tenant)
        if job in self._stopped:
            self._stopped.remove(job)
        else:
            self._shares.ask(self._node[tenant], self._gpus_of[job])

    def began(self, job: int) -> None:
        """*job* came while none waited, and fitted."""
        tenant = self._lanes.tenant_of[job]
        self._shares.ask(self._node[tenant], self._gpus_of[job])
        self._hold(job, tenant, self._gpus_of[job])

    def ended(self, job: int) -> None:
        """*job* runs no more."""
        tenant = self._lanes.tenant_of[job]
        self._hold(job, tenant, -self._gpus_of[job])
        self._shares.ask(self._node[tenant], -self._gpus_of[job])

    def offer(self, start: Start, freed: bool, now: float) -> bool:
        lanes = self._lanes

        def begin(tenant: int) -> bool:
            while (job := lanes.first(tenant, self._most(tenant))) >= 0:
                if start(job):
                    self._begin(job, tenant)
                    return True
                lanes.misfits.add(self._shape_of[job])
            return False

        def reclaim(tenant: int) -> bool:
            job = lanes.head(tenant)
            if self._gpus_of[job] > self._most(tenant):
                return False
            victims = self._room.make(job, self._victims(job, tenant))
            if victims is None:
                self._in_vain[job] = self._given_back + self._gpus_of[job]
                return False
            for victim in victims:
                self._desk.stop(victim)
                self._hold(victim, lanes.tenant_of[victim], -self._gpus_of[victim])
                self._stopped.add(victim)
            if not start(job):
                raise AssertionError(f"job {job} does not fit where room was made for it")
            self._begin(job, tenant)
            return True

        lanes.look(freed)
        if hopeful := lanes.hopeful() if freed else lanes.hopeful() & self._fresh:
            self._serve(hopeful, begin)
        if self._running is not None and lanes.waiting and self._serve(self._entitled(), reclaim):
            lanes.look(freed=True)
            self._serve(lanes.hopeful(), begin)  # what was not needed of it
        self._fresh.clear()
        return bool(lanes.waiting)

    def _serve(self, tenants: Collection[int], attempt: Callable[[int], bool]) -> bool:
        """Let *tenants* have their turns until each has failed once; return whether any did not at once."""
        tree = self._tree
        served = False
        if len(tenants) < 2:  # the common case: nobody to compare with
            for tenant in tenants:
                while attempt(tenant):
                    served = True
                    if tenant not in self._lanes.waiting:
                        break
            return served
        keys: dict[int, Key] = {}

        def key(node: int) -> Key:
            if node not in keys:
                keys[node] = self._key(node)
            return keys[node]

        turns: dict[int, list[int]] = {}  # by parent: who waits beneath it
        for tenant in tenants:
            for node in tree.path[self._node[tenant]]:
                rivals = turns.setdefault(tree.parent[node], [])
                if node in rivals:
                    break
                rivals.append(node)
        while turns:
            node = 0
            while node in turns:
                rivals = turns[node]
                node = rivals[0] if len(rivals) == 1 else min(rivals, key=key)
            tenant = self._tenant[node]
            if attempt(tenant):
                served = True
                for step in tree.path[node]:
                    keys.pop(step, None)
                if tenant in self._lanes.waiting:
                    continue
            for step in tree.path[node]:
                rivals = turns[tree.parent[step]]
                rivals.remove(step)
                if rivals:
                    break
                del turns[tree.parent[step]]
        return served

    def _key(self, node: int) -> Key:
        tree, held, share = self._tree, self._held[node], self._shares.now()[node]
        return (
            held >= tree.deserved[node],
            -tree.priority[node],
            held / share if share else inf,
            self._place[node],
        )

    def _most(self, tenant: int) -> float:
        """GPUs that the limits of *tenant*, and of those it is a part of, leave it."""
        if not self._limited:
            return inf
        limit, held = self._tree.limit, self._held
        return min(limit[node] - held[node] for node in self._tree.path[self._node[tenant]])

    def _begin(self, job: int, tenant: int) -> None:
        self._lanes.pop(job)
        self._hold(job, tenant, self._gpus_of[job])

    def _hold(self, job: int, tenant: int, gpus: int) -> None:
        for node in self._tree.path[self._node[tenant]]:
            self._held[node] += gpus
        if self._running is not None:
            if gpus > 0:
                self._running[tenant][job] = None
                self._in_vain.pop(job, None)
            else:
                self._given_back -= gpus
                del self._running[tenant][job]

    def _entitled(self) -> list[int]:
        """Tenants that may have GPUs reclaimed for their first job, if anyone has too many."""
        held, share = self._held, self._shares.now()
        if not any(map(gt, held, share)):
            return []
        entitled = []
        for tenant in self._lanes.waiting:
            job, node = self._lanes.head(tenant), self._node[tenant]
            due = self._in_vain.get(job, 0) <= self._given_back
            if due and held[node] + self._gpus_of[job] <= share[node]:
                entitled.append(tenant)
        return entitled

    def _victims(self, job: int, tenant: int) -> Iterator[int]:
        """Running jobs that may be stopped for *job*, each if all before it are stopped too."""
        assert self._running is not None
        tree, share, gpus = self._tree, self._shares.now(), self._gpus_of[job]
        pools, held = self._room.pools(job), list(self._held)
        rivals: list[int] = []
        for own in tree.path[self._node[tenant]]:
            if held[own] + gpus > share[own]:
                break  # beside others, the whole that it is a part of would have too much
            rivals += [node for node in tree.children[tree.parent[own]] if node != own]
        over = [has - fair for has, fair in zip(held, share, strict=True)]
        jobs: dict[int, Iterator[int]] = {}
        while True:
            beside: Sequence[int] = rivals
            chosen: list[int] = []
            while beside and over[node := max(beside, key=over.__getitem__)] > 0:
                chosen.append(node)
                beside = tree.children[node]
            if not chosen:
                return
            node = chosen[-1]
            if node not in self._tenant:
                over[node] = 0.0  # a whole of which no part has more to give
                continue
            running = self._running[self._tenant[node]]
            for victim in jobs.setdefault(node, iter(reversed(running))):
                takes = self._gpus_of[victim]
                if self._desk.pool_of(victim) in pools and all(
                    held[step] - takes >= tree.deserved[step] for step in chosen
                ):
                    for step in chosen:
                        held[step] -= takes
                        over[step] -= takes
                    yield victim
                    break
            else:
                over[node] = 0.0
