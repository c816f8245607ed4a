"""Packing policies: equal to their definitions choice for choice, and to what was published of them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model.packing_support import (
    Book,
    Node,
    Openb,
    arrivals,
    at,
    by_the_book,
    fgd,
    fill,
    fragments,
    is_part,
    read_openb,
    shares,
)

from fleetsim.policies.packing import PACKINGS, SCORES, Fragmentation, typical
from fleetsim.sharing import NodeShape, Request, SharedPool, request_of, to_handle

SHAPES = st.builds(
    NodeShape,
    st.sampled_from("AB"),
    st.integers(0, 4),
    st.integers(0, 16).map(lambda n: 500 * n),
    st.integers(4, 12),
)
ASKED = st.builds(
    Request,
    st.sampled_from([0, 1, 1, 1, 1, 2, 3]),
    st.sampled_from([200, 300, 333, 500, 700, 1000, 1000]),
    st.sampled_from([0, 500, 1000, 2500]),
    st.integers(0, 3),
    st.sampled_from([(), (), ("A",), ("B", "A"), ("C",)]),
)
STEPS = st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=10, max_size=60)


def compare(policy: str, openb: Openb, steps: list[tuple[int, int]], exact: bool = True) -> int:
    """Place and remove on both sides; every choice must be the same. Returns how many were placed."""
    pool = SharedPool("test", openb.nodes, openb.requests)
    for node in pool.nodes:
        pool.add(node)
    book = Book(policy, openb.nodes, openb.requests, shares(openb.requests, openb.counts, exact), 7)
    place = PACKINGS[policy](pool, openb.counts, np.random.default_rng(7))
    held: list[tuple[int, tuple[int, int]]] = []
    placed = 0
    for asks, leaving in steps:
        if leaving % 4 == 0 and held:
            gone, where = held.pop(leaving % len(held))
            pool.give(*where)
            book.change(gone, where, 1)
        asks %= len(openb.requests)
        found = place(pool, asks)
        assert found == book.place(asks), openb.requests[asks]
        if found is not None:
            pool.take(*found)
            book.change(asks, found, -1)
            held.append((asks, found))
            placed += 1
    return placed


@settings(deadline=None, max_examples=400)
@given(
    st.sampled_from([*PACKINGS]),
    st.lists(SHAPES, min_size=1, max_size=6),
    st.lists(ASKED, min_size=1, max_size=8, unique=True),
    st.lists(st.integers(1, 9), min_size=8, max_size=8),
    STEPS,
)
def test_every_choice_is_that_of_the_definition(
    policy: str,
    shapes: list[NodeShape],
    requests: list[Request],
    counts: list[int],
    steps: list[tuple[int, int]],
) -> None:
    jobs = [asks for asks in range(len(requests)) for _ in range(counts[asks])]
    nodes = {2 * number + 1: shape for number, shape in enumerate(shapes)}  # numbers need not be dense
    compare(policy, Openb(nodes, requests, jobs), steps)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.sampled_from([0, 1, 300, 499, 500, 999, 1000, 1000]), max_size=20),
    st.integers(0, 9000),
    st.lists(ASKED, min_size=1, max_size=6, unique=True),
    st.builds(
        Request, st.sampled_from([0, 1, 2, 8]), st.sampled_from([1, 300, 500, 1000]), st.just(500), st.just(0)
    ),
)
def test_every_score_is_that_of_the_definition(
    free: list[int], cpu: int, others: list[Request], asked: Request
) -> None:
    """On a node in any state. Jobs that leave so much free on its GPUs, and CPU, are there."""
    fillers = [Request(1, 1000 - left) for left in free if left < 1000]
    cpu_job = Request(0, cpu_milli=9000 - cpu)
    requests = [asked, *others, *fillers, cpu_job]
    largest = NodeShape("A", 32, 20000, 4)
    pool = SharedPool("test", {0: NodeShape("A", len(free), 9000, 4), 1: largest}, requests)
    pool.add(0)
    node = Node.empty(pool.nodes[0])
    used = [
        to_handle(requests.index(Request(1, 1000 - left)), 1 << g)
        for g, left in enumerate(free)
        if left < 1000
    ]
    for handle in (*used, to_handle(len(requests) - 1, 0)):
        pool.take(0, handle)
        gpus = [gpu for gpu in range(len(free)) if handle >> gpu & 1]
        node.change(requests[request_of(handle)], gpus, -1)
    if not node.fits(asked):
        assert not pool.fits(0, np.array([0])).any()
        return
    for policy, score in SCORES.items():
        expected = by_the_book(policy, node, asked, 20000, 32000)
        assert score(pool, 0, np.array([0])).tolist() == [expected], policy
    weights = {request: number for number, request in enumerate(others, 1)}
    total = sum(weights.values())
    best, chosen = fgd(node, asked, [(request, Fraction(n, total)) for request, n in weights.items()])
    fragmentation = Fragmentation(pool, [*weights.items()])
    assert fragmentation.score(pool, 0, np.array([0])).tolist() == [best]
    if is_part(asked):
        assert [fragmentation.part(0, 0)] == chosen


@pytest.mark.parametrize("policy", PACKINGS)
def test_ties_go_to_the_lowest_node(policy: str) -> None:
    requests = [Request(1, 500), Request(2), Request(0, cpu_milli=100)]
    for asks in range(3) if policy != "random" else ():
        pool = SharedPool("test", dict.fromkeys((8, 3, 5), NodeShape("t4", 2, 8000, 8)), requests)
        place = PACKINGS[policy](pool, [1, 1, 1], np.random.default_rng(1))
        assert place(pool, asks) is None  # none in service
        for node in (8, 5, 3):
            pool.add(node)
        found = place(pool, asks)
        assert found is not None and found[0] == 3
        assert found[1] == to_handle(asks, {0: 0b1, 1: 0b11, 2: 0}[asks])


def test_random_draws_evenly_and_repeatably() -> None:
    nodes = dict.fromkeys(range(4), NodeShape("t4", 2, 8000, 8))
    pool = SharedPool("test", nodes, [Request(1, 500), Request(2)])
    for node in (0, 1, 3):
        pool.add(node)
    pool.take(1, to_handle(0, 0b10))
    pool.take(1, to_handle(0, 0b10))
    runs = []
    for _ in range(2):
        place = PACKINGS["random"](pool, [1, 1], np.random.default_rng(3))
        runs.append([place(pool, 0) for _ in range(3000)])
    assert runs[0] == runs[1]
    share = {where: runs[0].count(where) / 3000 for where in set(runs[0])}
    sixth, third = pytest.approx(1 / 6, abs=0.03), pytest.approx(1 / 3, abs=0.03)
    one, two = to_handle(0, 0b01), to_handle(0, 0b10)
    assert share == {(0, one): sixth, (0, two): sixth, (1, one): third, (3, one): sixth, (3, two): sixth}
    place = PACKINGS["random"](pool, [1, 1], np.random.default_rng(3))
    assert {place(pool, 1) for _ in range(50)} == {(0, to_handle(1, 0b11)), (3, to_handle(1, 0b11))}


@pytest.mark.parametrize(
    ("policy", "node"),
    [("best_fit", 0), ("worst_fit", 1), ("first_fit", 0), ("gpu_packing", 2), ("gpu_clustering", 3)],
)
def test_policies_differ_as_they_should(policy: str, node: int) -> None:
    """An idle small node, an idle large one, one with a shared GPU, one with a job on a whole GPU."""
    requests = [Request(1, 400), Request(1, 1000)]
    shapes = [NodeShape("t4", 1, 8000, 8)] + [NodeShape("t4", gpus, 64000, 8) for gpus in (8, 4, 4)]
    pool = SharedPool("test", dict(enumerate(shapes)), requests)
    for number in pool.nodes:
        pool.add(number)
    pool.take(2, to_handle(0, 0b0010))
    pool.take(3, to_handle(1, 0b0001))
    asks = 1 if policy == "gpu_clustering" else 0
    found = PACKINGS[policy](pool, [1, 1], np.random.default_rng(1))(pool, asks)
    assert found is not None and found[0] == node
    if policy == "gpu_packing":
        assert found[1] == to_handle(0, 0b0010)


def test_typical_requests() -> None:
    requests = [
        Request(1, 500, 1000, 5),
        Request(1, 500, 1000, 6),  # the same but for host memory
        Request(0, 7, 4000),
        Request(2, 1000, 8000, models=("t4", "p100")),
        Request(2, 1000, 8000),
        Request(1, mig="1g.5gb"),
        Request(0, 500, 4000),  # no GPU is no GPU
    ]
    counts = [3, 4, 6, 3, 3, 99, 1]
    half, cpu, two_any, two = (requests[k] for k in (0, 2, 4, 3))
    assert typical(requests, counts, 100) == [(cpu, 7), (half, 7), (two, 3), (two_any, 3)]
    assert typical(requests, counts, 70) == [(cpu, 7), (half, 7)]  # 14 of 20 are enough
    assert typical(requests, counts, 71) == [(cpu, 7), (half, 7), (two, 3)]
    assert typical(requests, counts, 60, cpu_only=False) == [(half, 7), (two, 3)]
    assert typical([], []) == []


def test_fragments_by_hand() -> None:
    """Two GPUs with 300 and 1000 milli free, 4 cores: what each typical job cannot use."""
    jobs = {
        Request(1, 500, 1000): 300,  # the first GPU is too small
        Request(1, 200, 1000): 0,
        Request(1, 200, 5000): 1300,  # CPU
        Request(2, 300, 4000): 0,
        Request(2, 1000, 1000): 1300,  # one is not enough
        Request(0, 1000, 1000): 1300,  # asks for no GPU
        Request(1, 200, 0, models=("p100",)): 1300,
    }
    for request, lost in jobs.items():
        assert fragments(4000, [300, 1000], "t4", [(request, Fraction(1))]) == lost
    weights = {request: number for number, request in enumerate(jobs, 1)}
    shares = [(request, Fraction(weight, 28)) for request, weight in weights.items()]
    before = sum(Fraction(weights[request] * lost, 28) for request, lost in jobs.items())
    assert fragments(4000, [300, 1000], "t4", shares) == before

    requests = [Request(1, 700), *jobs]
    pool = SharedPool("test", {0: NodeShape("t4", 2, 4000, 8)}, requests)
    pool.add(0)
    pool.take(0, to_handle(0, 0b01))
    fragmentation = Fragmentation(pool, [*weights.items()])
    for request, left in (
        (Request(1, 200, 1000), [100, 1000]),  # on the small GPU
        (Request(2, 300, 4000), [0, 700]),  # all CPU goes too
        (Request(0, 1000, 1000), [300, 1000]),  # CPU alone
    ):
        after = fragments(4000 - request.cpu_milli, left, "t4", shares)
        score = fragmentation.score(pool, requests.index(request), pool.numbers)
        assert score.tolist() == [int(100 / (1 + np.exp(float(after - before) / 1000)))]
    assert fragmentation.part(2, 0) == 0


def test_fragments_that_are_too_few() -> None:
    """On one idle GPU, and a typical job for two of at least 200 milli: all that is left of it is lost."""
    pool = SharedPool("test", {0: NodeShape("t4", 1, 4000, 8)}, [Request(1, 300)])
    pool.add(0)
    fragmentation = Fragmentation(pool, [(Request(2, 200), 1)])
    assert fragmentation.score(pool, 0, pool.numbers).tolist() == [int(100 / (1 + np.exp(0.7 - 1.0)))]


@pytest.mark.parametrize(
    ("gpus", "busy", "asked", "score"),
    [
        (8, 0, Request(1, 300), 33 - 8),  # an idle node
        (18, 0, Request(1, 300), 18),  # a very large one
        (8, 1, Request(7), 50 - 7),  # idle GPUs of a used node
        (32, 1, Request(20), 33),
        (8, 8, Request(1, 300), 100 - 9),  # of each GPU, 900 milli are free: 90 %, a tenth of it counts
        (8, 8, Request(5, 300), 100 - 45),
        (8, 8, Request(8, 300), 50),
    ],
)
def test_packing_scores_by_hand(gpus: int, busy: int, asked: Request, score: int) -> None:
    pool = SharedPool("test", {0: NodeShape("t4", gpus, 0, 0)}, [asked, Request(1, 100)])
    pool.add(0)
    for gpu in range(busy):
        pool.take(0, to_handle(1, 1 << gpu))
    assert SCORES["gpu_packing"](pool, 0, pool.numbers).tolist() == [score]


def test_fgd_keeps_whole_gpus_for_those_who_need_them() -> None:
    """Best fit puts the half on the fuller node's last idle GPU; FGD on one that is in use already."""
    requests = [Request(1, 500, 1000), Request(2, 1000, 1000), Request(1, 500, 5000)]
    shapes = {0: NodeShape("t4", 2, 6000, 8), 1: NodeShape("t4", 4, 64000, 8)}
    chosen = {}
    for policy in ("best_fit", "fgd"):
        pool = SharedPool("test", shapes, requests)
        for node in pool.nodes:
            pool.add(node)
        pool.take(1, to_handle(0, 0b0100))
        chosen[policy] = PACKINGS[policy](pool, [5, 5, 0], np.random.default_rng(1))(pool, 0)
    assert chosen == {"best_fit": (0, to_handle(0, 0b01)), "fgd": (1, to_handle(0, 0b0100))}


@pytest.mark.parametrize("policy", PACKINGS)
def test_mig_instances_keep_positions_open(policy: str) -> None:
    """Of an empty GPU and one with a 1g, the 2g goes where it costs least, and 3g to the upper half."""
    requests = [
        Request(1, mig="1g.5gb"),
        Request(1, mig="2g.10gb"),
        Request(1, mig="7g.40gb"),
        Request(1, 500),
    ]
    shape = NodeShape("a100-sxm-40", 3, 8000, 8, mig_gpus=2)
    pool = SharedPool("test", {0: NodeShape("a30", 2, 8000, 8, mig_gpus=2), 1: shape}, requests)
    for node in pool.nodes:
        pool.add(node)
    place = PACKINGS[policy](pool, [1] * 4, np.random.default_rng(1))
    assert place(pool, 0) == (1, to_handle(0, 0b001, 6))  # the A30 has no such profile
    pool.take(1, to_handle(0, 0b010, 6))
    assert place(pool, 0) == (1, to_handle(0, 0b010, 4))
    assert place(pool, 1) == (1, to_handle(1, 0b010, 4))  # costs 4 positions, 6 on GPU 0
    assert place(pool, 2) == (1, to_handle(2, 0b001, 0))
    pool.take(1, to_handle(2, 0b001, 0))
    assert place(pool, 2) is None
    assert place(pool, 3) == (1, to_handle(3, 0b100))  # the only GPU of all that is not in MIG mode


@pytest.mark.parametrize("policy", [*SCORES, "fgd"])
def test_mig_instances_choose_among_nodes_by_cost(policy: str) -> None:
    requests = [Request(1, mig="1g.5gb"), Request(1, mig="2g.10gb"), Request(1, 1000)]
    shape = NodeShape("a100-sxm-40", 2, 8000, 8, mig_gpus=1)
    pool = SharedPool("test", dict.fromkeys(range(3), shape), requests)
    for node in pool.nodes:
        pool.add(node)
    pool.take(1, to_handle(0, 1, 6))
    place = PACKINGS[policy](pool, [1] * 3, np.random.default_rng(1))
    assert place(pool, 1) == (1, to_handle(1, 1, 4))
    pool.take(1, to_handle(1, 1, 4))
    assert place(pool, 0) == (0, to_handle(0, 1, 6))  # costs 4; on node 1 it would cost a 3g and a 4g too, 5
    assert place(pool, 2) == (0, to_handle(2, 0b10))


#: GPU allocation in % when 100 % and 130 % of the GPUs had been asked for: means over seeds 42 to 51 of
#: experiments/analysis/expected_results/analysis_allo_discrete.csv in the original's repository, list
#: "default" (random at 100 %: seeds 42 and 43; FGD: without seed 51), that is Fig. 9(a) of the paper.
PUBLISHED = {
    "random": (86.48, 87.47),
    "dot_product": (90.62, 90.85),
    "gpu_clustering": (91.65, 91.88),
    "gpu_packing": (91.78, 92.00),
    "best_fit": (92.86, 93.08),
    "fgd": (95.22, 95.39),
}


@pytest.fixture
def openb_folder(real_traces: Path) -> Path:
    folder = real_traces / "alibaba-gpu-v2023-openb"
    if not folder.is_dir():
        pytest.skip(f"no openb lists at {folder}")
    return folder


@pytest.mark.parametrize("pods", ["default", "gpuspec33"])
@pytest.mark.parametrize("policy", PACKINGS)
def test_choices_on_real_jobs_are_those_of_the_definition(openb_folder: Path, policy: str, pods: str) -> None:
    """A part of the real cluster, filled with real jobs, some of which leave."""
    whole = read_openb(openb_folder, pods)
    part = Openb(dict([*whole.nodes.items()][:40]), whole.requests, whole.jobs)
    steps = [(asks, draw) for draw, asks in enumerate(arrivals(part, 42, 1.1), 1)]
    assert compare(policy, part, steps) > len(steps) / 2


def test_the_papers_experiment(openb_folder: Path) -> None:
    """Jobs that never leave until 130 % of the GPUs are asked for: FGD is best, and figures are as published.

    One seed; over ten the original's runs spread by up to 2.2 points (packing, clustering), FGD's by 0.4.
    """
    openb = read_openb(openb_folder)
    assert (len(openb.nodes), openb.gpu_milli, len(openb.jobs)) == (1213, 6_212_000, 8152)
    jobs = [*arrivals(openb, 42)]
    found: dict[str, tuple[float, float]] = {}
    for policy in PUBLISHED:
        pool = SharedPool("openb", openb.nodes, openb.requests)
        place = PACKINGS[policy](pool, openb.counts, np.random.default_rng(42))
        curve = fill(openb, pool, place, jobs)
        found[policy] = (100 * at(curve, 1.0), 100 * at(curve, 1.3))
    for policy, published in PUBLISHED.items():
        assert found[policy] == pytest.approx(published, abs=0.25 if policy == "fgd" else 1.2), found
    for load in (0, 1):
        best_of_others = max(figures[load] for policy, figures in found.items() if policy != "fgd")
        assert found["fgd"][load] > best_of_others + 1.5, found
