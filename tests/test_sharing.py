"""Nodes with shared GPUs: what may be taken, what must be given back, who shares with whom."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetsim.policies.packing import PACKINGS
from fleetsim.sharing import GPUS, NodeShape, Request, SharedPool, request_of, slice_rate, to_handle

A100 = "a100-sxm-40"
HALF, WHOLE, TWO, CPU, THIRDS = range(5)
REQUESTS = [
    Request(1, 500, 1000, 4),
    Request(1, 1000, 2000, 8),
    Request(2, 1000, 4000, 16),
    Request(0, cpu_milli=3000),
    Request(2, 333),
]


def shared(*shapes: NodeShape, requests: list[Request] = REQUESTS) -> SharedPool:
    """A pool whose nodes are all in service."""
    pool = SharedPool("test", dict(enumerate(shapes)), requests)
    for node in pool.nodes:
        pool.add(node)
    return pool


def free(pool: SharedPool, node: int = 0) -> tuple[int, int, list[int]]:
    return int(pool.cpu_free[node]), int(pool.memory_free[node]), pool.gpu_free[node].tolist()


def test_take_and_give() -> None:
    pool = shared(NodeShape("t4", 3, 8000, 32))
    assert free(pool) == (8000, 32, [1000, 1000, 1000])
    half, two = to_handle(HALF, 0b010), to_handle(TWO, 0b101)
    pool.take(0, half)
    pool.take(0, half)
    pool.take(0, two)
    assert free(pool) == (2000, 8, [0, 0, 0])
    pool.give(0, half)
    assert free(pool) == (3000, 12, [0, 500, 0])
    pool.take(0, to_handle(CPU, 0))
    assert free(pool) == (0, 12, [0, 500, 0])
    for handle in (two, half, to_handle(CPU, 0)):
        pool.give(0, handle)
    assert free(pool) == (8000, 32, [1000, 1000, 1000])
    pool.remove(0)


@pytest.mark.parametrize(
    "handle",
    [
        to_handle(TWO, 0b011),  # GPU 0 is partly taken
        to_handle(TWO, 0b010),  # one GPU for two
        to_handle(WHOLE, 0b110),  # two for one
        to_handle(HALF, 0b0100),  # there is no GPU 2
        to_handle(HALF, 0b1000),  # nor a GPU 3 on any node
    ],
)
def test_what_is_not_free_cannot_be_taken(handle: int) -> None:
    pool = shared(NodeShape("t4", 2, 8000, 32), NodeShape("t4", 3, 0, 0))
    pool.take(0, to_handle(HALF, 0b01))
    before, clock = free(pool), pool.clock
    with pytest.raises(AssertionError):
        pool.take(0, handle)
    assert (free(pool), pool.clock) == (before, clock)


def test_cpu_and_memory_limit() -> None:
    for shape in (NodeShape("t4", 2, 1999, 32), NodeShape("t4", 2, 8000, 7)):
        pool = shared(shape)
        assert not pool.fits(WHOLE, pool.numbers).any()
        with pytest.raises(AssertionError):
            pool.take(0, to_handle(WHOLE, 1))
        assert pool.gpu_free.tolist() == [[1000, 1000]]


def test_only_what_is_held_can_be_given_back() -> None:
    pool = shared(NodeShape("t4", 2, 8000, 32))
    pool.take(0, to_handle(HALF, 0b01))
    for handle in (to_handle(HALF, 0b10), to_handle(WHOLE, 0b01)):
        with pytest.raises(AssertionError):
            pool.give(0, handle)
    pool.give(0, to_handle(HALF, 0b01))
    with pytest.raises(AssertionError):
        pool.give(0, to_handle(HALF, 0b01))


def test_in_and_out_of_service() -> None:
    pool = SharedPool("test", {3: NodeShape("t4", 2, 8000, 32), 5: NodeShape("t4", 1, 100, 1)}, REQUESTS)
    assert not pool.fits(HALF, pool.numbers).any()
    assert pool.possible(HALF)
    pool.add(3)
    assert pool.fits(HALF, pool.numbers).tolist() == [True, False]
    with pytest.raises(AssertionError):
        pool.add(3)
    with pytest.raises(AssertionError):
        pool.remove(5)
    pool.take(3, to_handle(CPU, 0))
    with pytest.raises(AssertionError):
        pool.remove(3)
    pool.give(3, to_handle(CPU, 0))
    pool.remove(3)
    assert free(pool, 3) == (-1, -1, [0, 0])
    nothing = SharedPool("test", dict(pool.nodes), [Request(0)])
    nothing.add(5)
    assert nothing.fits(0, nothing.numbers).tolist() == [False, True]  # not even nothing runs outside service
    assert not pool.fits(HALF, pool.numbers).any()
    for change in (pool.take, pool.give):
        with pytest.raises(AssertionError):
            change(3, to_handle(THIRDS, 0b11))  # asks for no CPU
    pool.add(3)
    assert free(pool, 3) == (8000, 32, [1000, 1000])


def test_the_clock_tells_what_changed() -> None:
    pool = shared(*[NodeShape("t4", 1, 8000, 32)] * 3)
    seen = pool.clock
    pool.take(1, to_handle(HALF, 1))
    assert np.flatnonzero(pool.stamp > seen).tolist() == [1]
    seen = pool.clock
    pool.give(1, to_handle(HALF, 1))
    pool.remove(2)
    assert np.flatnonzero(pool.stamp > seen).tolist() == [1, 2]


def test_what_could_ever_run() -> None:
    shapes = {0: NodeShape("t4", 2, 8000, 32), 9: NodeShape(A100, 4, 4000, 64, mig_gpus=1)}
    requests = {
        Request(2, 1000, 8000): True,
        Request(3): True,
        Request(4): False,  # one GPU of the four is in MIG mode
        Request(3, cpu_milli=4001): False,
        Request(1, 500, 0, 65): False,
        Request(1, models=("t4", "v100")): True,
        Request(3, models=("t4",)): False,
        Request(1, mig="3g.20gb"): True,
        Request(1, mig="3g.40gb"): False,  # of an A100 with 80 GB
        Request(1, mig="3g.20gb", models=("t4",)): False,
    }
    pool = SharedPool("test", shapes, list(requests))
    assert [pool.possible(asks) for asks in range(len(requests))] == list(requests.values())
    assert pool.idle > len(requests) and pool.model(9) == A100


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 99)), max_size=60), st.sampled_from([*PACKINGS]))
def test_all_that_was_taken_is_found_in_the_books(steps: list[tuple[int, int]], policy: str) -> None:
    """Whatever comes and goes: free + held = what the node has, for CPU, memory and each GPU."""
    pool = shared(NodeShape("t4", 4, 8000, 32), NodeShape("p100", 2, 16000, 16))
    place = PACKINGS[policy](pool, [1] * len(REQUESTS), np.random.default_rng(1))
    held: list[tuple[int, int]] = []
    for asks, leaving in steps:
        if leaving % 3 == 0 and held:
            pool.give(*held.pop(leaving % len(held)))
        elif where := place(pool, asks):
            pool.take(*where)
            held.append(where)
        for node, shape in pool.nodes.items():
            here = [(REQUESTS[request_of(handle)], handle & GPUS) for at, handle in held if at == node]
            cpu = sum(request.cpu_milli for request, _ in here)
            memory = sum(request.memory_mib for request, _ in here)
            gpus = [sum(r.gpu_milli for r, mask in here if mask >> gpu & 1) for gpu in range(4)]
            assert free(pool, node)[:2] == (shape.cpu_milli - cpu, shape.memory_mib - memory)
            has = [1000] * shape.gpus + [0] * (4 - shape.gpus)
            assert free(pool, node)[2] == [total - used for total, used in zip(has, gpus, strict=True)]
    for where in held:
        pool.give(*where)
    for node in pool.nodes:
        pool.remove(node)


MIG = [Request(1, mig="3g.20gb", cpu_milli=1000), Request(1, mig="1g.5gb"), Request(1, 500)]


def test_mig_instances_take_their_slices() -> None:
    pool = shared(NodeShape(A100, 2, 8000, 0, mig_gpus=1), requests=MIG)
    assert pool.gpu_free.tolist() == [[0, 1000]]  # a GPU in MIG mode has no part to give
    upper, lower, one = to_handle(0, 1, 4), to_handle(0, 1, 0), to_handle(1, 1, 0)
    pool.take(0, upper)
    pool.take(0, one)
    assert (pool.mig_used[0, 0], pool.cpu_free[0]) == (0b11110001, 7000)
    for overlapping in (upper, lower, one):
        with pytest.raises(AssertionError):
            pool.take(0, overlapping)
    with pytest.raises(AssertionError):
        pool.take(0, to_handle(1, 0b10, 0))  # GPU 1 is not in MIG mode
    with pytest.raises(AssertionError):
        pool.take(0, to_handle(2, 0b01))  # GPU 0 is
    pool.give(0, one)
    with pytest.raises(AssertionError):
        pool.take(0, to_handle(0, 1, 2))  # 3g begins at 0 or 4
    pool.take(0, lower)
    assert pool.mig_used[0, 0] == 255
    assert (pool.gpus_held(0, lower), pool.gpus_held(0, one)) == (3 / 7, 1 / 7)
    assert not pool.fits(1, pool.numbers).any()
    pool.give(0, upper)
    pool.give(0, lower)
    pool.remove(0)


def test_mig_mode_changes_on_a_drained_gpu_only() -> None:
    pool = shared(NodeShape(A100, 2, 8000, 0), NodeShape("t4", 1, 8000, 0), requests=MIG)
    assert not pool.fits(0, pool.numbers).any()
    pool.take(0, to_handle(2, 0b01))
    with pytest.raises(AssertionError, match="not drained"):
        pool.set_mig(0, 0, True)
    pool.set_mig(0, 1, True)
    pool.take(0, to_handle(0, 0b10, 4))
    with pytest.raises(AssertionError, match="not drained"):
        pool.set_mig(0, 1, False)
    pool.give(0, to_handle(0, 0b10, 4))
    pool.set_mig(0, 1, False)
    assert pool.gpu_free[0].tolist() == [500, 1000]
    assert not pool.fits(0, pool.numbers).any()
    pool.give(0, to_handle(2, 0b01))
    pool.set_mig(0, 1, True)
    pool.remove(0)
    pool.add(0)
    assert pool.gpu_free[0].tolist() == [1000, 1000]
    assert not pool.fits(0, pool.numbers).any()  # as it was when it was new
    for node, gpu in ((0, 2), (0, -1), (1, 0)):
        with pytest.raises(AssertionError, match="has no GPU"):
            pool.set_mig(node, gpu, True)


def test_who_is_on_a_gpu() -> None:
    pool = shared(NodeShape("t4", 3, 20000, 99))
    half, other, thirds = to_handle(HALF, 0b001), to_handle(HALF, 0b010), to_handle(THIRDS, 0b011)
    pool.take(0, half)
    assert pool.crowds(0, half) == [1]
    for handle in (half, other, thirds, to_handle(WHOLE, 0b100), to_handle(CPU, 0))[1:]:
        pool.take(0, handle)
    assert (pool.crowds(0, half), pool.crowds(0, thirds)) == ([2], [2, 2])
    assert pool.crowds(0, to_handle(WHOLE, 0b100)) == [1]
    assert pool.crowds(0, to_handle(CPU, 0)) == []
    pool.give(0, half)
    assert pool.crowds(0, thirds) == [1, 2]
    assert pool.gpus_held(0, thirds) == 0.666


def test_jobs_alike_share_too() -> None:
    requests = [Request(1, 1000 // 3)]
    pool = shared(NodeShape("t4", 1, 0, 0), requests=requests)
    handle = to_handle(0, 1)
    for jobs in (1, 2, 3):
        pool.take(0, handle)
        assert pool.crowds(0, handle) == [jobs]
    assert not pool.fits(0, pool.numbers).any()  # three replicas, no more


def test_mig_instances_share_nothing() -> None:
    pool = shared(NodeShape(A100, 1, 8000, 0, mig_gpus=1), requests=MIG)
    pool.take(0, to_handle(0, 1, 4))
    pool.take(0, to_handle(1, 1, 0))
    assert pool.crowds(0, to_handle(0, 1, 4)) is None


def test_rate_of_time_slices() -> None:
    assert slice_rate(1, 0.9) == 1
    assert slice_rate(2, 0) == 0.5
    assert slice_rate(4, 0.1) == pytest.approx(0.7 / 4)
    rates = [jobs * slice_rate(jobs, 0.02) for jobs in range(1, 11)]  # of all jobs together
    assert rates == sorted(rates, reverse=True)
    for jobs, interference in ((0, 0.1), (2, -0.1), (11, 0.1), (2, 1)):
        with pytest.raises(ValueError, match="no progress"):
            slice_rate(jobs, interference)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Request(-1),
        lambda: Request(33),
        lambda: Request(1, 0),
        lambda: Request(1, 1001),
        lambda: Request(1, cpu_milli=-1),
        lambda: Request(1, memory_mib=-1),
        lambda: Request(2, mig="1g.5gb"),
        lambda: NodeShape("t4", 33, 0, 0),
        lambda: NodeShape(A100, 1, 0, 0, mig_gpus=2),
        lambda: NodeShape("t4", 1, 0, 0, mig_gpus=1),
    ],
)
def test_impossible_requests_and_nodes(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"gpus is|gpu_milli is|negative|MIG mode"):
        make()
