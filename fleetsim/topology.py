"""Where nodes stand to each other: scale-up domains, racks and spine blocks, and what crossing them costs."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleetsim.fleet import Pool
from fleetsim.observer import Where

if TYPE_CHECKING:
    from fleetsim.spec import CohortSpec


@dataclass(frozen=True, slots=True)
class Level:
    """Blocks of one kind: of each node the block it is in, and of each block its parts in the level below.

    Blocks are numbered in order of their nodes, across the fleet. The parts in the lowest level are nodes.
    """

    block_of: list[int]
    parts: list[range]


@dataclass(frozen=True, slots=True)
class Topology:
    """The blocks of a fleet. Nodes of a cohort are numbered in order, so every block is a run of nodes.

    A cohort is a network of its own: gangs over several cohorts go beyond all spine blocks.
    """

    domain_of: list[int]
    rack_of: list[int]
    spine_of: list[int]
    cohort_of: list[int]
    factors: list[tuple[float, float, float, float]]  # of each cohort: in a domain, rack, spine block; beyond

    @classmethod
    def of(cls, cohorts: Sequence[CohortSpec]) -> Topology:
        """The blocks of *cohorts*; one of which nothing is known is a single domain and costs nothing."""
        self = cls([], [], [], [], [])
        domains = racks = spines = 0
        for number, c in enumerate(cohorts):
            known, nodes = c.topology, range(c.nodes)
            per_domain = known.nodes_per_domain if known else c.nodes
            per_rack = (known.nodes_per_rack if known else None) or per_domain
            per_spine = per_rack * known.racks_per_spine if known and known.racks_per_spine else c.nodes
            self.domain_of.extend(domains + n // per_domain for n in nodes)
            self.rack_of.extend(racks + n // per_rack for n in nodes)
            self.spine_of.extend(spines + n // per_spine for n in nodes)
            self.cohort_of.extend(number for _ in nodes)
            cost = known.penalty if known else None
            self.factors.append((cost.domain, cost.rack, cost.spine, cost.beyond) if cost else (1.0,) * 4)
            domains, racks, spines = self.domain_of[-1] + 1, self.rack_of[-1] + 1, self.spine_of[-1] + 1
        return self

    @property
    def costs(self) -> bool:
        """Whether crossing anything costs anything."""
        return any(factor != 1 for factors in self.factors for factor in factors)

    def penalty(self, where: tuple[int, ...]) -> float:
        """By how much longer a gang takes on ``(node, gpus, node, gpus, ...)``: 1 or more.

        It is the factor of the smallest block that all its nodes lie in. A gang on one node has none.
        """
        nodes = where[::2]
        first, last = min(nodes), max(nodes)  # blocks are runs of nodes
        if first == last:
            return 1.0
        if self.spine_of[first] != self.spine_of[last]:
            return max(self.factors[self.cohort_of[node]][3] for node in nodes)
        domain, rack, spine, _ = self.factors[self.cohort_of[first]]
        if self.domain_of[first] == self.domain_of[last]:
            return domain
        return rack if self.rack_of[first] == self.rack_of[last] else spine

    def levels(self) -> list[Level]:
        """The levels to look at, lowest first: spine blocks, and what differs from the level below it."""
        levels: list[Level] = []
        below = list(range(len(self.cohort_of)))
        for block_of in (self.domain_of, self.rack_of, self.spine_of):
            if block_of == below and block_of is not self.spine_of:
                continue
            parts: list[range] = []
            for node, block in enumerate(block_of):
                if block == len(parts):
                    parts.append(range(below[node], below[node] + 1))
                elif below[node] == parts[block].stop:
                    parts[block] = range(parts[block].start, below[node] + 1)
            levels.append(Level(block_of, parts))
            below = block_of
        return levels


class BlockPool(Pool):
    """A pool that also counts the free GPUs of blocks.

    Taking and giving cost a binary search in the blocks of each level more.
    """

    __slots__ = ("_counts",)

    def __init__(self, name: str, gpus_per_node: int, free: list[int], levels: Sequence[Level]) -> None:
        super().__init__(name, gpus_per_node, free)
        #: Of each level: it, the free GPUs of its blocks, and, sorted, ``GPUs x blocks + block`` of those
        #: that have any: the first entry from ``gpus x blocks`` on is the tightest block that holds *gpus*.
        self._counts: list[tuple[Level, list[int], list[int]]] = [
            (level, [0] * len(level.parts), []) for level in levels
        ]

    def twin(self) -> BlockPool:
        levels = [level for level, _, _ in self._counts]
        return BlockPool(self.name, self.gpus_per_node, [0] * len(self.free), levels)

    def take(self, node: int, gpus: int) -> None:
        super().take(node, gpus)
        self._count(node, -gpus)

    def give(self, node: int, gpus: int) -> None:
        super().give(node, gpus)
        if self.free[node] >= 0:
            self._count(node, gpus)

    def close(self, node: int) -> None:
        self._count(node, -self.free[node])
        super().close(node)

    def _count(self, node: int, gpus: int) -> None:
        for level, free, order in self._counts:
            block, blocks = level.block_of[node], len(free)
            before = free[block]
            free[block] = before + gpus
            if before:
                del order[bisect_left(order, before * blocks + block)]
            if before + gpus:
                insort(order, (before + gpus) * blocks + block)

    def smallest(self, gpus: int) -> list[int] | None:
        """Place *gpus* in the smallest block that holds them, as ``[node, gpus, ...]``: see :func:`place`."""
        where: list[int] = []
        for k, (level, free, order) in enumerate(self._counts):
            at = bisect_left(order, gpus * len(free))
            if at < len(order):
                self._fill(k, level.parts[order[at] % len(free)], gpus, where)
                return where
        if self.idle < gpus:
            return None
        top = self._counts[-1]
        self._fill(len(self._counts), [key % len(top[1]) for key in top[2]], gpus, where)
        return where

    def _fill(self, k: int, parts: Sequence[int], gpus: int, where: list[int]) -> None:
        """Place *gpus* on some of *parts*: blocks of the level *k* - 1, or nodes if *k* is 0."""
        free = self._counts[k - 1][1] if k else self.free
        emptiest = sorted((-free[part], part) for part in parts if free[part] > 0)
        whole = 0
        while -emptiest[whole][0] < gpus:
            gpus += emptiest[whole][0]
            whole += 1
        last = min((-less, part) for less, part in emptiest[whole:] if -less >= gpus)[1]
        taken = [(part, -less) for less, part in emptiest[:whole]]
        for part, count in [*taken, (last, gpus)]:
            if k:
                self._fill(k - 1, self._counts[k - 1][0].parts[part], count, where)
            else:
                where += (part, count)


def place(pool: Pool, gpus: int) -> Where | None:
    """Where a gang crosses the fewest levels now: it never waits for a better place.

    It goes into the smallest block that has room for all of it: a node, else a scale-up domain, a rack, a
    spine block, the pool. Of several, into that with the fewest free GPUs, then the lowest. There it takes as
    few parts of the block as possible: the emptiest first, the last piece on the tightest part that holds
    it; and so on down to nodes. (So does Slurm's ``topology/tree``: the lowest switch that satisfies the
    job, best fit among the switches below it.)
    """
    assert isinstance(pool, BlockPool)
    for free in range(gpus, pool.gpus_per_node + 1):
        node = pool.lowest(free)
        if node >= 0:
            return node
    where = pool.smallest(gpus)
    return None if where is None else tuple(where)
