"""Node affinity by size: jobs go where jobs of as many GPUs already run."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter

from fleetsim.fleet import Pool
from fleetsim.observer import Where


class SizePool(Pool):
    """A pool that also knows the sizes of the pieces on its nodes: the GPUs that a job holds on one.

    Taking and giving cost a binary search in the nodes of each size on the node more.
    """

    __slots__ = ("_among", "_only", "_sizes")

    def __init__(self, name: str, gpus_per_node: int, free: list[int]) -> None:
        super().__init__(name, gpus_per_node, free)
        self._sizes: dict[int, Counter[int]] = {}  # pieces on a node, by size
        #: By size, ``free GPUs x nodes + node`` of nodes with pieces of this size only, or of others too:
        #: sorted, so that the first entry from ``gpus x nodes`` on is the tightest node that holds *gpus*.
        self._only: dict[int, list[int]] = {}
        self._among: dict[int, list[int]] = {}

    def twin(self) -> SizePool:
        return SizePool(self.name, self.gpus_per_node, [0] * len(self.free))

    def add(self, node: int) -> None:
        self.free[node] = 0
        super().give(node, self.gpus_per_node)

    def take(self, node: int, gpus: int) -> None:
        self._unlist(node)
        super().take(node, gpus)
        self._sizes.setdefault(node, Counter())[gpus] += 1
        self._list(node)

    def take_back(self, node: int, gpus: int) -> None:
        super().take_back(node, gpus)
        if self.free[node] < 0:
            self._sizes.setdefault(node, Counter())[gpus] += 1

    def give(self, node: int, gpus: int) -> None:
        self._unlist(node)
        super().give(node, gpus)
        sizes = self._sizes[node]
        sizes[gpus] -= 1
        if not sizes[gpus]:
            del sizes[gpus]
        self._list(node)

    def close(self, node: int) -> None:
        self._unlist(node)
        super().close(node)

    def open(self, node: int) -> None:
        free = self.room(node)
        self.free[node] = 0
        super().give(node, free)
        self._list(node)

    def _orders(self, node: int) -> list[list[int]]:
        """Where an open node stands, by its sizes."""
        sizes = self._sizes.get(node)
        if not sizes or self.free[node] <= 0:
            return []
        table = self._only if len(sizes) == 1 else self._among
        return [table.setdefault(size, []) for size in sizes]

    def _list(self, node: int) -> None:
        for order in self._orders(node):
            insort(order, self.free[node] * len(self.free) + node)

    def _unlist(self, node: int) -> None:
        key = self.free[node] * len(self.free) + node
        for order in self._orders(node):
            del order[bisect_left(order, key)]

    def kin(self, gpus: int) -> int:
        """The tightest node that holds *gpus* beside pieces of that size, alone or among others; or -1."""
        nodes = len(self.free)
        for table in (self._only, self._among):
            order = table.get(gpus, ())
            at = bisect_left(order, gpus * nodes)
            if at < len(order):
                return order[at] % nodes
        return -1


def place(pool: Pool, gpus: int) -> Where | None:
    """A node on which only jobs of as many GPUs run; else one on which some do; else an idle one; else any.

    Of several that with the fewest free GPUs. A gang larger than a node takes wholly free nodes, and its
    remainder counts as a job of that size. (Gandiva's affinity, Xiao et al., OSDI'18; with this order
    ``GpuClustering`` in the simulator of Weng et al., ATC'23.)
    """
    assert isinstance(pool, SizePool)
    size = pool.gpus_per_node
    whole, rest = divmod(gpus, size) if gpus > size else (0, gpus)
    if pool.idle_nodes < whole:
        return None
    idle = pool.lowest_many(size, whole + 1)
    where = [x for node in idle[:whole] for x in (node, size)]
    if rest:
        node = pool.kin(rest)
        if node < 0 and len(idle) > whole:
            node = idle[whole]
        if node < 0:
            node = next((n for free in range(rest, size) if (n := pool.lowest(free)) >= 0), -1)
        if node < 0:
            return None
        if not whole:
            return node
        where += (node, rest)
    return tuple(where)
