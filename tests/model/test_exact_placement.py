"""Which nodes each placement takes: tiny pools by hand, then random pools against a scan of all nodes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model.oracle import SCANS, Pieces
from model.support import Job, cohort, simulate

from fleetsim.fleet import Pool
from fleetsim.observer import Where
from fleetsim.policies.placement import PLACEMENTS


def pool_of(free: Sequence[int], size: int) -> Pool:
    """Nodes of *size* GPUs of which so many are free."""
    pool = Pool("test", size, [0] * len(free))
    for node, left in enumerate(free):
        pool.add(node)
        if left < size:
            pool.take(node, size - left)
    return pool


def pieces(where: Where | None, gpus: int) -> Pieces | None:
    """Nodes and GPUs of a placement, lowest node first; None where there is none."""
    if where is None or isinstance(where, int):
        return None if where is None else [(where, gpus)]
    return sorted(zip(where[::2], where[1::2], strict=True))


@pytest.mark.parametrize(
    ("placement", "free", "gpus", "expected"),
    [
        # nodes of four. One node: the first, the tightest, the lowest of equals
        ("first_fit", [1, 4, 2, 2], 2, [(1, 2)]),
        ("best_fit", [1, 4, 2, 2], 2, [(2, 2)]),
        ("consolidate", [1, 4, 2, 2], 2, [(2, 2)]),
        ("pool", [1, 4, 2, 2], 2, [(0, 1), (2, 1)]),  # from the nodes with the fewest free GPUs
        ("first_fit", [3, 3], 3, [(0, 3)]),
        ("best_fit", [3, 3], 3, [(0, 3)]),
        ("pool", [0, 3, 4], 3, [(1, 3)]),
        ("worst_fit", [1, 3, 4, 4], 2, [(2, 2)]),
        ("worst_fit", [1, 3, 2, 3], 2, [(1, 2)]),
        # one GPU from each of the emptiest nodes; then again from those that have more
        ("spread", [1, 3, 4, 4], 1, [(2, 1)]),
        ("spread", [1, 3, 4, 4], 3, [(1, 1), (2, 1), (3, 1)]),
        ("spread", [1, 3, 4, 3], 6, [(0, 1), (1, 2), (2, 2), (3, 1)]),  # 2 1 3 0, then 2 1
        ("spread", [0, 4, 0, 0], 3, [(1, 3)]),
        ("spread", [2, 0, 2], 5, None),
        # room enough, but on no one node
        ("worst_fit", [2, 0, 2], 3, None),
        ("first_fit", [2, 0, 2], 3, None),
        ("best_fit", [2, 0, 2], 3, None),
        ("consolidate", [2, 0, 2], 3, [(0, 2), (2, 1)]),
        ("pool", [2, 0, 2], 3, [(0, 2), (2, 1)]),
        # larger than a node: whole nodes
        ("first_fit", [4, 3, 4, 4], 8, [(0, 4), (2, 4)]),
        ("best_fit", [4, 3, 4, 4], 8, [(0, 4), (2, 4)]),
        ("consolidate", [4, 3, 4, 4], 8, [(0, 4), (2, 4)]),
        ("pool", [4, 3, 4, 4], 8, [(0, 4), (1, 3), (2, 1)]),
        ("first_fit", [4, 3, 3, 3], 8, None),
        ("best_fit", [4, 3, 3, 3], 8, None),
        ("consolidate", [4, 3, 3, 3], 8, [(0, 4), (1, 3), (2, 1)]),  # 4 + 3, and 1 where 3 are free
        # ... and a remainder: on the first other node that fits, or the tightest
        ("first_fit", [3, 4, 2, 4], 6, [(0, 2), (1, 4)]),
        ("best_fit", [3, 4, 2, 4], 6, [(1, 4), (2, 2)]),
        ("consolidate", [3, 4, 2, 4], 6, [(1, 4), (2, 2)]),
        ("pool", [3, 4, 2, 4], 6, [(0, 3), (1, 1), (2, 2)]),
        ("first_fit", [4, 4, 2], 6, [(0, 4), (1, 2)]),  # node 1 is wholly free, and comes before node 2
        ("best_fit", [4, 4, 2], 6, [(0, 4), (2, 2)]),
        ("first_fit", [1, 4, 4], 6, [(1, 4), (2, 2)]),
        ("best_fit", [1, 4, 4], 6, [(1, 4), (2, 2)]),
        ("worst_fit", [4, 4, 2], 6, [(0, 4), (1, 2)]),
        ("worst_fit", [3, 4, 2], 6, [(0, 2), (1, 4)]),
        ("worst_fit", [1, 4, 1], 6, None),
        ("first_fit", [1, 4, 1], 6, None),
        ("best_fit", [1, 4, 1], 6, None),
        ("consolidate", [1, 4, 1], 6, [(0, 1), (1, 4), (2, 1)]),
        # the last piece goes on the tightest node that holds it
        ("consolidate", [3, 4, 1, 2], 5, [(1, 4), (2, 1)]),
        ("consolidate", [3, 3, 2, 1], 5, [(0, 3), (2, 2)]),
        # not enough in all, and nothing at all
        ("consolidate", [1, 1], 3, None),
        ("pool", [1, 1], 3, None),
        ("first_fit", [0, 0], 1, None),
        ("best_fit", [0, 0], 1, None),
    ],
)
def test_the_nodes_taken(placement: str, free: list[int], gpus: int, expected: Pieces | None) -> None:
    assert pieces(PLACEMENTS[placement](pool_of(free, 4), gpus), gpus) == expected


def test_a_pool_refuses_to_give_what_it_has_not() -> None:
    """More than is free, or more than a node holds, is a fault of the caller and never silent."""
    pool = pool_of([1, 4], 4)
    with pytest.raises((AssertionError, IndexError)):
        pool.take(0, 2)
    with pytest.raises((AssertionError, IndexError)):
        pool.give(1, 1)
    assert (pool.idle, pool.idle_nodes, pool.free) == (5, 1, [1, 4])


@pytest.mark.parametrize(
    ("placement", "where", "start_s"),
    [
        ("first_fit", [(0, 4), (1, 4), (2, 2)], 100),  # two whole nodes: when job 0 ends
        ("best_fit", [(0, 4), (1, 4), (2, 2)], 100),
        ("consolidate", [(0, 3), (1, 4), (2, 3)], 10),
        ("pool", [(0, 3), (1, 4), (2, 3)], 10),
    ],
)
def test_a_gang_of_ten_on_three_nodes_of_four(placement: str, where: Pieces, start_s: float) -> None:
    """Jobs 0 and 1 hold a GPU of node 0 until 100 and one of node 2 until 500. Ten are free at 10.

    A tenth job that held node 1 until 1 s keeps job 1 off it.
    """
    jobs = [
        Job(0, 100, 1),  # node 0, with three more of it until 1 s
        Job(0, 1, 3),
        Job(0, 1, 4),  # node 1
        Job(0, 500, 1),  # node 2
        Job(10, 50, 10),
    ]
    run = simulate(jobs, [cohort(nodes=3, gpus_per_node=4)], placement=placement)
    assert [run.where(job) for job in (0, 3)] == [[(0, 1)], [(2, 1)]]
    assert run.jobs("start_s", "nodes")[4] == (start_s, 3)
    assert run.where(4) == where


# Random pools


def test_every_placement_is_compared() -> None:
    """Two with scans that know more than free GPUs: see ``test_topology`` and ``test_clustering``."""
    assert {*SCANS, "topology", "by_size"} == set(PLACEMENTS)


@pytest.mark.parametrize("placement", SCANS)
@settings(deadline=None, max_examples=200)
@given(free=st.lists(st.sampled_from([0, 1, 2, 3, 4, 4]), min_size=1, max_size=8), gpus=st.integers(1, 16))
def test_any_state_of_a_pool_against_a_scan(placement: str, free: list[int], gpus: int) -> None:
    """Nodes of four, however full, and gangs up to four of them."""
    assert pieces(PLACEMENTS[placement](pool_of(free, 4), gpus), gpus) == SCANS[placement](free, 4, gpus)


@pytest.mark.parametrize("placement", SCANS)
@settings(deadline=None)
@given(data=st.data())
def test_buckets_choose_what_a_scan_of_all_nodes_would(placement: str, data: st.DataObject) -> None:
    """Over a random history of gangs placed, given back, and nodes delivered, closed and opened in between.

    A closed node is to every placement as if it had nothing free.
    """
    size = data.draw(st.sampled_from([1, 2, 4, 4, 8]), "size")
    most = data.draw(st.integers(1, 8), "nodes")
    pool = Pool("test", size, [0] * most)
    free: list[int] = []  # of the nodes delivered
    closed: set[int] = set()
    held: list[Pieces] = []
    steps = st.tuples(st.sampled_from("dgggppppco"), st.sampled_from([1, 2, 3, 4, 5, 6, 8, 11, 16, 20]))
    history = st.lists(steps, min_size=10, max_size=60)
    for kind, gpus in data.draw(history, "deliver, give back, place, close or open"):
        if (kind == "d" or len(free) < most - 1) and len(free) < most:
            pool.add(len(free))
            free.append(size)
        elif kind == "g" and held:
            for node, count in held.pop(gpus % len(held)):
                pool.give(node, count)
                free[node] += count
        elif kind == "c" and free and gpus % len(free) not in closed:
            pool.close(gpus % len(free))
            closed.add(gpus % len(free))
        elif kind == "o" and closed:
            pool.open(min(closed))
            closed.remove(min(closed))
        else:
            offered = [0 if node in closed else left for node, left in enumerate(free)]
            expected = SCANS[placement](offered, size, gpus)
            assert pieces(PLACEMENTS[placement](pool, gpus), gpus) == expected
            for node, count in expected or ():
                pool.take(node, count)
                free[node] -= count
            held += [expected] if expected else []
        opened = [left for node, left in enumerate(free) if node not in closed]
        assert pool.idle == sum(opened)
        assert pool.idle_nodes == sum(left == size for left in opened)
        assert [pool.free[node] for node in range(len(free)) if node not in closed] == opened


@given(free=st.lists(st.integers(0, 4), min_size=1, max_size=6), gpus=st.integers(1, 24))
def test_consolidate_uses_the_fewest_nodes(free: list[int], gpus: int) -> None:
    """No fewer nodes could hold the gang: those with the most free GPUs would be the first to be tried."""
    found = pieces(PLACEMENTS["consolidate"](pool_of(free, 4), gpus), gpus)
    most = sorted(free, reverse=True)
    fewest = next((k for k in range(1, len(free) + 1) if sum(most[:k]) >= gpus), None)
    assert (None if found is None else len(found)) == fewest
    assert found is None or (sum(n for _, n in found) == gpus and all(n <= free[node] for node, n in found))
