"""Nodes and the pools they are scheduled in: state and its legal changes. No clock, no I/O, no draws."""

from __future__ import annotations

from collections import Counter
from heapq import heappop, heappush


class Pool:
    """Nodes of one GPU model and one size at one site, scheduled together, in buckets by free GPUs.

    ``free[node]`` may be shared by pools that never have a node in common; nodes are numbered across the
    fleet. Each bucket is a heap of node numbers that is cleaned when it is looked at: a node that has left
    stays in until it surfaces, and a node that comes back finds itself still there. So the lowest-numbered
    node with a given number of free GPUs is found, taken and given back in O(log nodes) amortised, whatever
    the fleet's size.

    Ties are always broken by the lowest node number, so that results compare job by job with other
    simulators that scan their nodes in order.

    A closed node offers nothing; jobs on it go on, and what they give back stays out. Its ``free`` lies
    below zero, by the GPUs of a node and one: as an index that is the bucket it would be in if it were open,
    so only :meth:`give` has to know.
    """

    __slots__ = ("_listed", "buckets", "free", "gpus_per_node", "idle", "idle_nodes", "name")

    def __init__(self, name: str, gpus_per_node: int, free: list[int]) -> None:
        self.name = name
        self.gpus_per_node = gpus_per_node
        self.free = free
        self.idle = 0  # free GPUs
        self.idle_nodes = 0  # nodes with all their GPUs free
        self.buckets: list[list[int]] = [[] for _ in range(gpus_per_node + 1)]  # use lowest()
        self._listed = [bytearray(len(free)) for _ in range(gpus_per_node + 1)]

    def twin(self) -> Pool:
        """A pool for nodes of the same kind that has none yet."""
        return Pool(self.name, self.gpus_per_node, [0] * len(self.free))

    def add(self, node: int) -> None:
        """Bring *node* into service with all its GPUs free."""
        self.free[node] = 0
        self.give(node, self.gpus_per_node)

    def take(self, node: int, gpus: int) -> None:
        """Allocate *gpus* of *node*; the caller has seen that they are free."""
        before = self.free[node]
        free = before - gpus
        if free < 0:
            raise AssertionError(f"node {node} of {self.name}: {gpus} GPUs wanted, {before} free")
        self.free[node] = free
        self.idle -= gpus
        if before == self.gpus_per_node:
            self.idle_nodes -= 1
        listed = self._listed[free]
        if not listed[node]:
            listed[node] = 1
            heappush(self.buckets[free], node)

    def give(self, node: int, gpus: int) -> None:
        """Return *gpus* of *node*. Raises IndexError if it never had them."""
        free = self.free[node] + gpus
        listed = self._listed[free]
        self.free[node] = free
        if free < 0:
            return
        self.idle += gpus
        if free == self.gpus_per_node:
            self.idle_nodes += 1
        if not listed[node]:
            listed[node] = 1
            heappush(self.buckets[free], node)

    def close(self, node: int) -> None:
        """Offer nothing of *node*, which is open."""
        free = self.free[node]
        assert free >= 0
        self.free[node] = free - self.gpus_per_node - 1
        self.idle -= free
        if free == self.gpus_per_node:
            self.idle_nodes -= 1

    def open(self, node: int) -> None:
        """Offer again what is free of *node*, which is closed."""
        free = self.free[node] + self.gpus_per_node + 1
        self.free[node] = 0
        self.give(node, free)

    def room(self, node: int) -> int:
        """GPUs of *node* on which nothing runs, be it open or closed."""
        free = self.free[node]
        return free if free >= 0 else free + self.gpus_per_node + 1

    def take_back(self, node: int, gpus: int) -> None:
        """Allocate again what was given just now, also on a closed node."""
        if self.free[node] >= 0:
            self.take(node, gpus)
        else:
            assert self.room(node) >= gpus
            self.free[node] -= gpus

    def lowest(self, free: int) -> int:
        """The lowest-numbered node with exactly *free* free GPUs, or -1."""
        bucket = self.buckets[free]
        state = self.free
        while bucket:
            node = bucket[0]
            if state[node] == free:
                return node
            self._listed[free][heappop(bucket)] = 0
        return -1

    def lowest_many(self, free: int, count: int) -> list[int]:
        """Up to *count* nodes with exactly *free* free GPUs, lowest numbers first."""
        bucket = self.buckets[free]
        found: list[int] = []
        while len(found) < count and self.lowest(free) >= 0:
            found.append(heappop(bucket))
        for node in found:
            heappush(bucket, node)
        return found


class Fleet:
    """The pool of every node, and which nodes are closed: each may be so for several reasons at once."""

    def __init__(self, pool_of: list[Pool]) -> None:
        self.pool_of = pool_of
        self.in_service = bytearray(len(pool_of))  # of each node, 0 until it comes and after it has left
        self._closed: Counter[int] = Counter()
        self._down: Counter[int] = Counter()

    def add(self, node: int) -> None:
        """*node* comes into service, with nothing on it; it may be closed already."""
        self.in_service[node] = 1
        self.pool_of[node].add(node)
        if self._closed[node]:
            self.pool_of[node].close(node)

    def close(self, node: int) -> None:
        """Start nothing more on *node*, for one reason more."""
        if not self._closed[node]:
            self.pool_of[node].close(node)
        self._closed[node] += 1

    def open(self, node: int) -> None:
        """One reason to close *node* is gone."""
        self._closed[node] -= 1
        if not self._closed[node]:
            del self._closed[node]
            self.pool_of[node].open(node)

    def empty(self, node: int) -> bool:
        """Whether nothing runs on *node*, which is closed."""
        pool = self.pool_of[node]
        return not self.in_service[node] or pool.room(node) == pool.gpus_per_node

    def idle(self, node: int) -> bool:
        """Whether all of *node* is free for jobs."""
        return self.pool_of[node].free[node] == self.pool_of[node].gpus_per_node

    def move(self, node: int, pool: Pool) -> None:
        """Let *node*, which is closed, belong to *pool*. It is empty, or in that pool."""
        if pool is not self.pool_of[node]:
            assert self.empty(node)
            pool.free[node] = self.pool_of[node].free[node]
            self.pool_of[node] = pool

    def down(self, node: int) -> bool:
        """Whether *node* is down, for whatever reason."""
        return node in self._down

    def lower(self, node: int) -> bool:
        """*node*, which is closed, is down for one reason more; return whether it was up."""
        self._down[node] += 1
        return self._down[node] == 1 and bool(self.in_service[node])

    def lift(self, node: int) -> bool:
        """One reason for *node* to be down is gone; return whether it is up."""
        self._down[node] -= 1
        if self._down[node]:
            return False
        del self._down[node]
        return bool(self.in_service[node])
