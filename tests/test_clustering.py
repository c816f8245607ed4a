"""Placement by size: nodes keep to jobs of one size as long as there is room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model.support import Job, cohort, simulate

from fleetsim.clustering import SizePool, place

Pieces = list[tuple[int, int]]  # node, GPUs


def placed(pool: SizePool, gpus: int) -> Pieces | None:
    where = place(pool, gpus)
    if where is None or isinstance(where, int):
        return None if where is None else [(where, gpus)]
    return sorted(zip(where[::2], where[1::2], strict=True))


@pytest.mark.parametrize(
    ("on", "gpus", "expected"),
    [
        # nodes of eight and the jobs on them
        ([[], [1], [2]], 1, [(1, 1)]),
        ([[], [1], [2]], 2, [(2, 2)]),
        ([[], [1], [2]], 4, [(0, 4)]),  # none of this size: an idle node
        ([[4], [1], [2]], 3, [(0, 3)]),  # nor that: the tightest, which is node 0 with 4 free
        ([[], [2], [2, 2], [2, 2]], 2, [(2, 2)]),  # the tightest, then the lowest
        ([[2, 1], [2], []], 2, [(1, 2)]),  # its own size alone, before among others
        ([[2, 1], [1], []], 2, [(0, 2)]),  # among others, before an idle node
        ([[2, 5, 1], [1], []], 2, [(2, 2)]),  # there is no room
        ([[], [3], [1], []], 11, [(0, 8), (1, 3)]),  # a whole node, and three beside three
        ([[], [2], [1], []], 11, [(0, 8), (3, 3)]),
        ([[], [2], [1]], 11, [(0, 8), (1, 3)]),
        ([[], [8], [6]], 11, None),
        ([[1], [1]], 8, None),
    ],
)
def test_the_nodes_taken(on: list[list[int]], gpus: int, expected: Pieces | None) -> None:
    pool = SizePool("test", 8, [0] * len(on))
    for node, jobs in enumerate(on):
        pool.add(node)
        for job in jobs:
            pool.take(node, job)
    assert placed(pool, gpus) == expected


def scan(free: Sequence[int], on: Sequence[Counter[int]], gpus: int) -> Pieces | None:
    """The rule again, plainly, for nodes of four."""
    whole, rest = divmod(gpus, 4) if gpus > 4 else (0, gpus)
    full = [n for n, left in enumerate(free) if left == 4][:whole]
    if len(full) < whole:
        return None

    def rank(n: int) -> tuple[int, int, int]:
        if on[n][rest]:
            kind = 0 if on[n].total() == on[n][rest] else 1
        else:
            kind = 3 if on[n].total() else 2
        return kind, free[n], n

    other = [n for n, left in enumerate(free) if left >= rest and n not in full]
    if rest and not other:
        return None
    return sorted([(n, 4) for n in full] + ([(min(other, key=rank), rest)] if rest else []))


@settings(deadline=None, max_examples=150)
@given(data=st.data(), most=st.integers(1, 7))
def test_a_random_history_against_a_scan(data: st.DataObject, most: int) -> None:
    """Gangs placed, given back, taken back at once, and nodes delivered, closed and opened in between."""
    pool = SizePool("test", 4, [0] * most)
    free = [0] * most
    on: list[Counter[int]] = [Counter() for _ in range(most)]
    delivered, closed, held = 0, set[int](), list[Pieces]()
    steps = st.tuples(st.sampled_from("dgggbppppco"), st.integers(1, 14))
    for kind, gpus in data.draw(st.lists(steps, min_size=10, max_size=60)):
        node = gpus % delivered if delivered else 0
        if (kind == "d" or delivered < most - 1) and delivered < most:
            pool.add(delivered)
            free[delivered] = 4
            delivered += 1
        elif kind == "b" and held:
            for node, count in held[gpus % len(held)]:
                pool.give(node, count)
            for node, count in held[gpus % len(held)]:
                pool.take_back(node, count)
        elif kind == "g" and held:
            for node, count in held.pop(gpus % len(held)):
                pool.give(node, count)
                free[node] += count
                on[node][count] -= 1
        elif kind == "c" and delivered and node not in closed:
            pool.close(node)
            closed.add(node)
        elif kind == "o" and closed:
            pool.open(min(closed))
            closed.remove(min(closed))
        else:
            found = placed(pool, gpus)
            assert found == scan([0 if n in closed else free[n] for n in range(most)], on, gpus)
            for node, count in found or ():
                pool.take(node, count)
                free[node] -= count
                on[node][count] += 1
            held += [found] if found else []


def test_small_jobs_leave_a_node_to_the_larger_ones() -> None:
    """Best fit puts the third job beside the first, on node 0; by size it goes to the second, on node 1."""
    jobs = [Job(0, 100, 5), Job(0, 100, 1), Job(1, 100, 1), Job(2, 10, 3)]
    best, by_size = (simulate(jobs, [cohort(nodes=2)], placement=name) for name in ("best_fit", "by_size"))
    assert [best.where(job) for job in range(4)] == [[(0, 5)], [(0, 1)], [(0, 1)], [(1, 3)]]
    assert [by_size.where(job) for job in range(4)] == [[(0, 5)], [(1, 1)], [(1, 1)], [(0, 3)]]
