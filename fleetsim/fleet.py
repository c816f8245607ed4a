"""Nodes and the pools they are scheduled in: state and its legal changes. No clock, no I/O, no draws."""

from __future__ import annotations

from heapq import heappop, heappush


class Pool:
    """Nodes of one GPU model and one size at one site, scheduled together, in buckets by free GPUs.

    ``free[node]`` is shared by all pools of a fleet; nodes are numbered across the fleet. Each bucket is a
    heap of node numbers that is cleaned when it is looked at: a node that has left stays in until it
    surfaces, and a node that comes back finds itself still there. So the lowest-numbered node with a given
    number of free GPUs is found, taken and given back in O(log nodes) amortised, whatever the fleet's size.

    Ties are always broken by the lowest node number, so that results compare job by job with other
    simulators that scan their nodes in order.
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
        self.idle += gpus
        if free == self.gpus_per_node:
            self.idle_nodes += 1
        if not listed[node]:
            listed[node] = 1
            heappush(self.buckets[free], node)

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
