"""Scale-up domains, racks and spine blocks: where gangs go, and by how much longer they take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model.support import A100, Job, cohort, simulate, text, workload

from fleetsim import scenario
from fleetsim.errors import InputError
from fleetsim.spec import CohortSpec, PenaltySpec, TopologySpec
from fleetsim.topology import BlockPool, Topology, place

Pieces = list[tuple[int, int]]  # node, GPUs

RACKS = {"domain": 1.0, "rack": 1.25, "spine": 1.5, "beyond": 1.5}
PENALTY = {"domain": 1.0, "rack": 1.25, "spine": 1.5, "beyond": 2.0}


def network(nodes: int, **topology: Any) -> CohortSpec:
    return CohortSpec(
        name="c", gpu_model=A100, nodes=nodes, topology=TopologySpec(**topology) if topology else None
    )


def pool_of(free: Sequence[int], size: int, *cohorts: CohortSpec) -> BlockPool:
    """Nodes of *size* GPUs of which so many are free."""
    pool = BlockPool("test", size, [0] * len(free), Topology.of(cohorts).levels())
    for node, left in enumerate(free):
        pool.add(node)
        if left < size:
            pool.take(node, size - left)
    return pool


def placed(pool: BlockPool, gpus: int) -> Pieces | None:
    where = place(pool, gpus)
    if where is None or isinstance(where, int):
        return None if where is None else [(where, gpus)]
    return sorted(zip(where[::2], where[1::2], strict=True))


# Where gangs go


@pytest.mark.parametrize(
    ("free", "gpus", "expected"),
    [
        # nodes of four, two to a rack, two racks to a spine block: (0 1)(2 3) | (4 5)(6 7)
        ([4, 4, 3, 4, 4, 4, 4, 4], 3, [(2, 3)]),  # a node: the tightest
        ([4, 4, 4, 3, 4, 4, 4, 4], 7, [(2, 4), (3, 3)]),  # the tightest rack
        ([4, 4, 4, 4, 4, 4, 4, 4], 8, [(0, 4), (1, 4)]),  # the lowest of equals
        ([0, 4, 4, 0, 0, 3, 3, 0], 5, [(5, 3), (6, 2)]),  # no rack holds five; the second block is tighter
        ([1, 4, 4, 4, 0, 0, 4, 4], 9, [(0, 1), (2, 4), (3, 4)]),  # only the first block: its emptier rack,
        # and the rest where it fits most tightly
        ([2, 3, 4, 4, 0, 0, 4, 4], 11, [(1, 3), (2, 4), (3, 4)]),
        ([0, 4, 0, 2, 0, 0, 4, 0], 8, [(1, 4), (3, 2), (6, 2)]),  # the emptier block, and the rest beyond
        ([2, 2, 2, 0, 0, 0, 2, 0], 8, [(0, 2), (1, 2), (2, 2), (6, 2)]),
        ([2, 2, 2, 0, 0, 0, 2, 0], 9, None),
    ],
)
def test_the_smallest_block_that_holds_a_gang(free: list[int], gpus: int, expected: Pieces | None) -> None:
    assert placed(pool_of(free, 4, network(8, nodes_per_rack=2, racks_per_spine=2)), gpus) == expected


def test_a_gang_keeps_to_one_scale_up_domain() -> None:
    """Two racks of two domains of two nodes: eight GPUs fit the first domain of the second rack."""
    nodes = network(8, nodes_per_domain=2, nodes_per_rack=4)
    assert placed(pool_of([4, 3, 4, 3, 4, 4, 4, 4], 4, nodes), 8) == [(4, 4), (5, 4)]
    assert placed(pool_of([4, 3, 4, 3, 4, 3, 4, 0], 4, nodes), 8) == [
        (4, 4),
        (5, 3),
        (6, 1),
    ]  # 11 free: tighter


def test_cohorts_are_networks_of_their_own() -> None:
    """A rack does not go over two cohorts, and one whose topology is not given is a single domain."""
    both = Topology.of([network(3, nodes_per_rack=2), network(3)])
    assert (both.domain_of, both.rack_of, both.spine_of) == (
        [0, 1, 2, 3, 3, 3],
        [0, 0, 1, 2, 2, 2],
        [0, 0, 0, 1, 1, 1],
    )
    pool = pool_of([4] * 6, 4, network(3, nodes_per_rack=2), network(3))
    assert placed(pool, 8) == [(3, 4), (4, 4)]  # a domain is smaller than a rack
    assert placed(pool, 12) == [(3, 4), (4, 4), (5, 4)]
    assert placed(pool, 16) == [(0, 4), (1, 4), (2, 4), (3, 4)]


def batched(nodes: Sequence[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(nodes[k : k + size]) for k in range(0, len(nodes), size)]


def scan(free: Sequence[int], spans: Sequence[int], gpus: int) -> Pieces | None:
    """The rule again, plainly: *spans* are nodes per domain, rack and spine block."""
    levels = [1, *spans, len(free)]

    def room(nodes: Sequence[int]) -> int:
        return sum(free[node] for node in nodes)

    def split(nodes: Sequence[int], level: int, gpus: int) -> Pieces:
        if len(nodes) == 1:
            return [(nodes[0], gpus)]
        parts = [part for part in batched(nodes, levels[level - 1]) if room(part)]
        found: Pieces = []
        while not any(room(part) >= gpus for part in parts):
            part = min(parts, key=lambda part: (-room(part), part))
            parts.remove(part)
            found += split(part, level - 1, room(part))
            gpus -= room(part)
        last = min((part for part in parts if room(part) >= gpus), key=lambda part: (room(part), part))
        return found + split(last, level - 1, gpus)

    for level, span in enumerate(levels):
        blocks = [block for block in batched(range(len(free)), span) if room(block) >= gpus]
        if blocks:
            return sorted(split(min(blocks, key=lambda block: (room(block), block)), level, gpus))
    return None


SPANS = st.sampled_from(
    [(1, 1, 1), (1, 2, 4), (2, 2, 4), (2, 4, 8), (1, 3, 6), (3, 3, 3), (1, 1, 4), (2, 4, 4)]
)


@settings(deadline=None, max_examples=400)
@given(free=st.lists(st.integers(0, 4), min_size=1, max_size=14), spans=SPANS, gpus=st.integers(1, 40))
def test_any_state_of_a_pool_against_a_scan(free: list[int], spans: tuple[int, int, int], gpus: int) -> None:
    domain, rack, spine = spans
    nodes = network(len(free), nodes_per_domain=domain, nodes_per_rack=rack, racks_per_spine=spine // rack)
    found = placed(pool_of(free, 4, nodes), gpus)
    assert found == scan(free, spans, gpus)
    if found is not None and gpus > max(free):  # it crosses no more levels than it must
        topology = Topology.of([nodes])
        for block_of in (topology.domain_of, topology.rack_of, topology.spine_of):
            rooms = [sum(f for f, b in zip(free, block_of, strict=True) if b == block) for block in block_of]
            assert (len({block_of[node] for node, _ in found}) == 1) == (max(rooms) >= gpus)


@settings(deadline=None, max_examples=100)
@given(data=st.data(), spans=SPANS, most=st.integers(1, 12))
def test_counts_of_blocks_follow_a_random_history(
    data: st.DataObject, spans: tuple[int, int, int], most: int
) -> None:
    """Gangs placed and given back, nodes delivered, closed and opened: always what a scan would choose."""
    domain, rack, spine = spans
    nodes = network(most, nodes_per_domain=domain, nodes_per_rack=rack, racks_per_spine=spine // rack)
    pool = BlockPool("test", 4, [0] * most, Topology.of([nodes]).levels())
    free = [0] * most
    delivered, closed, held = 0, set[int](), list[Pieces]()
    steps = st.tuples(st.sampled_from("dgggppppco"), st.integers(1, 20))
    for kind, gpus in data.draw(st.lists(steps, min_size=10, max_size=50)):
        node = gpus % delivered if delivered else 0
        if (kind == "d" or delivered < most - 1) and delivered < most:
            pool.add(delivered)
            free[delivered] = 4
            delivered += 1
        elif kind == "g" and held:
            for node, count in held.pop(gpus % len(held)):
                pool.give(node, count)
                free[node] += count
        elif kind == "c" and delivered and node not in closed:
            pool.close(node)
            closed.add(node)
        elif kind == "o" and closed:
            pool.open(min(closed))
            closed.remove(min(closed))
        else:
            found = placed(pool, gpus)
            assert found == scan([0 if n in closed else free[n] for n in range(most)], spans, gpus)
            for node, count in found or ():
                pool.take(node, count)
                free[node] -= count
            held += [found] if found else []


# What crossing costs


def test_the_penalty_is_that_of_the_smallest_block_that_holds_the_gang() -> None:
    """Racks of two domains of two nodes, two racks to a spine block; another cohort from node 16 on."""
    first = network(
        16, nodes_per_domain=2, nodes_per_rack=4, racks_per_spine=2, penalty=PenaltySpec(**PENALTY)
    )
    second = network(4, nodes_per_rack=1, penalty=PenaltySpec(beyond=3.0))
    penalty = Topology.of([first, second]).penalty
    assert penalty((5, 4, 4, 4)) == 1.0
    assert penalty((1, 4, 2, 4)) == 1.25
    assert penalty((3, 4, 4, 1)) == 1.5
    assert penalty((7, 4, 8, 4)) == penalty((15, 1, 3, 4, 0, 4)) == 2.0
    assert penalty((16, 4, 17, 4)) == 1.0
    assert penalty((15, 4, 16, 4)) == 3.0  # the greater of the two cohorts'
    assert penalty((9, 4)) == 1.0  # one node


@pytest.mark.parametrize(
    ("placement", "end_s", "where"),
    [
        # racks (0 1)(2 3). The first job holds node 0 for 100 s; eight GPUs of work for 60 s:
        ("topology", 60 * 1.25, [(2, 4), (3, 4)]),  # one rack
        ("consolidate", 60 * 1.5, [(1, 4), (2, 4)]),  # two nodes, lowest first: two racks
        ("best_fit", 60 * 1.5, [(1, 4), (2, 4)]),
        ("pool", 60 * 1.5, [(1, 4), (2, 4)]),
        ("spread", 60 * 1.5, [(0, 2), (1, 2), (2, 2), (3, 2)]),  # the first is on one GPU of every node
    ],
)
def test_the_same_gang_under_every_placement(placement: str, end_s: float, where: Pieces) -> None:
    nodes = cohort(
        nodes=4, gpus_per_node=4, topology={"nodes_per_domain": 1, "nodes_per_rack": 2, "penalty": RACKS}
    )
    run = simulate([Job(0, 100, 4), Job(0, 60, 8)], [nodes], placement=placement)
    assert run.where(1) == where
    assert run.jobs("start_s", "end_s")[1] == (0, end_s)


def test_without_penalties_only_the_place_differs() -> None:
    nodes = cohort(nodes=4, gpus_per_node=4, topology={"nodes_per_rack": 2})
    jobs = [Job(0, 100, 4), Job(0, 60, 8), Job(10, 5, 4)]
    runs = [simulate(jobs, [nodes], placement=name) for name in ("topology", "consolidate")]
    assert runs[0].jobs("start_s", "end_s") == runs[1].jobs("start_s", "end_s")
    assert [run.where(1) for run in runs] == [[(2, 4), (3, 4)], [(1, 4), (2, 4)]]


# What is refused


def refused(placement: str = "best_fit", **topology: Any) -> list[str]:
    words = text([cohort(topology=topology or None)], [workload()], scheduler={"placement": placement})
    with pytest.raises(InputError) as caught:
        scenario.parse(words, "s.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_topologies_that_cannot_be() -> None:
    [odd] = refused(nodes_per_domain=3, nodes_per_rack=4)
    assert "cohorts[0].topology.nodes_per_rack" in odd
    assert "4 is no whole number of domains of 3" in odd
    assert "multiple of 3" in odd
    [less] = refused(penalty={"rack": 1.2, "spine": 1.1, "beyond": 1.3})
    assert "cohorts[0].topology.penalty.spine" in less
    assert "1.1, but to stay nearer, rack, costs 1.2" in less
    assert "at least 1.2" in less
    [faster] = refused(penalty={"rack": 0.9, "spine": 1.0, "beyond": 1.0})
    assert "penalty.rack" in faster
    [unknown] = refused(placement="topology")
    assert "scheduler.placement: no cohort says how its nodes are connected" in unknown
