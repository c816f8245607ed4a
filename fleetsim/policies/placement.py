"""Where a gang goes: functions ``(pool, gpus) -> where``, or ``None`` if it cannot be placed now.

They only look; the engine then takes what they name. All break ties by the lowest node number. A gang
always stays within one pool (one GPU model at one site), and all of it is placed or none.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter

from fleetsim import clustering, topology
from fleetsim.fleet import Pool
from fleetsim.observer import Where

Placement = Callable[[Pool, int], Where | None]


def first_fit(pool: Pool, gpus: int) -> Where | None:
    """The lowest-numbered node with enough free GPUs.

    A gang larger than a node takes wholly free nodes, lowest numbers first, and for the remainder the
    lowest-numbered other node that fits. (Tiresias calls this ``yarn``; AccaSim first fit.)
    """
    if gpus > pool.gpus_per_node:
        return _whole_nodes(pool, gpus, _first, min)
    node = _first(pool, gpus, pool.gpus_per_node)
    return None if node < 0 else node


def best_fit(pool: Pool, gpus: int) -> Where | None:
    """The node with the fewest free GPUs that fits.

    A gang larger than a node takes wholly free nodes, and for the remainder the tightest other node that
    fits. (Equal to Helios' consolidated placement.)
    """
    size = pool.gpus_per_node
    if gpus > size:
        return _whole_nodes(pool, gpus, _tightest, itemgetter(0))
    buckets, state = pool.buckets, pool.free
    for free in range(gpus, size + 1):
        if buckets[free]:
            node = buckets[free][0]
            if state[node] == free:  # what lowest() would find, without the call: this is the common case
                return node
            node = pool.lowest(free)
            if node >= 0:
                return node
    return None


def worst_fit(pool: Pool, gpus: int) -> Where | None:
    """The node with the most free GPUs.

    A gang larger than a node takes wholly free nodes, and for the remainder the emptiest other node that
    fits. (Kubernetes scores nodes so by default, ``LeastAllocated``; Slurm with ``LLN=yes``.)
    """
    if gpus > pool.gpus_per_node:
        return _whole_nodes(pool, gpus, _emptiest, itemgetter(-1))
    node = _emptiest(pool, gpus, pool.gpus_per_node)
    return None if node < 0 else node


def consolidate(pool: Pool, gpus: int) -> Where | None:
    """The fewest nodes that can hold the gang *now*: it never waits for a better shape.

    One node if any fits (the tightest), else the emptiest nodes first, the last piece on the tightest node
    that holds it. A job of up to a node's size may therefore be split when no node has room for all of it.
    """
    if pool.idle < gpus:
        return None
    node = _tightest(pool, gpus, pool.gpus_per_node)
    if node >= 0:
        return node
    where: list[int] = []
    for free in range(pool.gpus_per_node, 0, -1):
        nodes = pool.lowest_many(free, gpus // free + 1)
        for node in nodes[: gpus // free]:
            where += (node, free)
        full = min(len(nodes), gpus // free)
        gpus -= full * free
        if gpus == 0:
            break
        if len(nodes) > full:  # one more node holds the rest
            node = _tightest(pool, gpus, free - 1)
            where += (node if node >= 0 else nodes[full], gpus)
            break
    return tuple(where)


def count(pool: Pool, gpus: int) -> Where | None:
    """Any free GPUs of the pool: node boundaries are ignored and only the number counts.

    The GPUs named are those of the nodes with the fewest free ones, so that the books still know which
    cards worked.
    """
    if pool.idle < gpus:
        return None
    where: list[int] = []
    for free, bucket in enumerate(pool.buckets):
        if not bucket or not free:
            continue
        if gpus <= free:  # the common case: one node holds all, or the rest
            node = pool.lowest(free)
            if node < 0:
                continue
            if not where:
                return node
            return (*where, node, gpus)
        for node in pool.lowest_many(free, -(-gpus // free)):
            taken = min(free, gpus)
            where += (node, taken)
            gpus -= taken
        if gpus == 0:
            break
    return where[0] if len(where) == 2 else tuple(where)


def spread(pool: Pool, gpus: int) -> Where | None:
    """As many nodes as possible, so that the loss of one takes the fewest GPUs of a gang.

    GPUs are dealt out one at a time: one from each node, the emptiest nodes first; and again from those
    that have more, until the gang is complete. (Slurm's ``--spread-job``.)
    """
    if pool.idle < gpus:
        return None
    nodes: list[int] = []
    free = pool.gpus_per_node
    while len(nodes) < gpus and free:
        nodes += pool.lowest_many(free, gpus - len(nodes))
        free -= 1
    if len(nodes) == gpus:
        return nodes[0] if gpus == 1 else tuple(x for node in nodes for x in (node, 1))
    taken = [0] * len(nodes)
    while gpus:
        for i, node in enumerate(nodes):
            if not gpus or pool.free[node] == taken[i]:
                break  # nor has any node after it more
            taken[i] += 1
            gpus -= 1
    return nodes[0] if len(nodes) == 1 else tuple(x for pair in zip(nodes, taken, strict=True) for x in pair)


def _first(pool: Pool, gpus: int, most: int) -> int:
    """Lowest-numbered node with *gpus* to *most* free GPUs, or -1."""
    buckets, state = pool.buckets, pool.free
    first = -1
    for free in range(gpus, most + 1):
        if buckets[free]:
            node = buckets[free][0]
            if state[node] != free:  # else what lowest() would find, without the call
                node = pool.lowest(free)
            if node >= 0 and (node < first or first < 0):
                first = node
    return first


def _tightest(pool: Pool, gpus: int, most: int) -> int:
    """Node with the fewest free GPUs between *gpus* and *most*, or -1."""
    found = (pool.lowest(free) for free in range(gpus, most + 1))
    return next((node for node in found if node >= 0), -1)


def _emptiest(pool: Pool, gpus: int, most: int) -> int:
    """Node with the most free GPUs between *gpus* and *most*, or -1."""
    found = (pool.lowest(free) for free in range(most, gpus - 1, -1))
    return next((node for node in found if node >= 0), -1)


def _whole_nodes(
    pool: Pool,
    gpus: int,
    rule: Callable[[Pool, int, int], int],
    choose: Callable[[list[int]], int],
) -> Where | None:
    """Wholly free nodes, and one more for a remainder.

    It is the node that *rule* finds among those in use, or one more wholly free node: if there are both, in
    this order, *choose* decides.
    """
    size = pool.gpus_per_node
    whole, rest = divmod(gpus, size)
    if pool.idle_nodes < whole:
        return None
    if not rest:
        return tuple(x for node in pool.lowest_many(size, whole) for x in (node, size))
    node = rule(pool, rest, size - 1)
    nodes = pool.lowest_many(size, whole + 1)
    others = ([node] if node >= 0 else []) + nodes[whole:]
    if not others:
        return None
    return (*(x for full in nodes[:whole] for x in (full, size)), choose(others), rest)


PLACEMENTS: dict[str, Placement] = {
    "best_fit": best_fit,
    "first_fit": first_fit,
    "worst_fit": worst_fit,
    "consolidate": consolidate,
    "spread": spread,
    "by_size": clustering.place,
    "topology": topology.place,
    "pool": count,
}

#: Placements that place any gang for which there are enough free GPUs, wherever they are.
COUNTING = ("consolidate", "pool", "spread", "topology")
