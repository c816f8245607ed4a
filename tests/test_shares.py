"""The division of GPUs among tenants: cases by hand, KAI's own, and what must hold of every division."""

from __future__ import annotations

import json
from itertools import pairwise
from math import inf
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from fleetsim.policies.shares import Tree, divide
from fleetsim.spec import TenantSpec

Queue = tuple[float, float, float, int]  # deserved, request, weight, priority


def divided(gpus: float, *queues: Queue) -> tuple[list[float], float]:
    deserved, request, weight, priority = zip(*queues, strict=True)
    return divide(gpus, deserved, request, weight, priority)


def test_every_case_of_kai(cases: Path) -> None:
    known = json.loads((cases / "kai-fairshare" / "cases.json").read_text("utf-8"))["cases"]
    assert len(known) == 10
    for case in known:
        queues = case["queues"]
        asked = [
            min(q["request"], inf if q["max_allowed"] is None else q["max_allowed"])
            for q in queues  # oldest first, as they are listed
        ]
        share, left = divide(
            case["total_gpus"],
            [q["deserved"] for q in queues],
            asked,
            [q["over_quota_weight"] for q in queues],
            [q["priority"] for q in queues],
        )
        got = dict(zip((q["queue"] for q in queues), share, strict=True))
        assert (got, left) == (case["expected_fair_share"], case["expected_remaining"]), case["name"]


def test_what_rounding_leaves_goes_to_the_largest_fraction_then_to_the_older() -> None:
    # 10 x 1/3 = 3.33 each: 3, 3, 3 and one more for the oldest
    assert divided(10, (0, 9, 1, 0), (0, 9, 1, 0), (0, 9, 1, 0)) == ([4, 3, 3], 0)
    # 10 x (1, 2, 3)/6 = 1.67, 3.33, 5: the one left goes to the first
    assert divided(10, (0, 9, 1, 0), (0, 9, 2, 0), (0, 9, 3, 0)) == ([2, 3, 5], 0)


def test_what_a_met_request_leaves_is_divided_again() -> None:
    # 12/3 = 4 each; the first wants 1 only; the other two share 11 in rounds: 4 + 1.5, and the odd one
    assert divided(12, (0, 1, 1, 0), (0, 9, 1, 0), (0, 9, 1, 0)) == ([1, 6, 5], 0)


def test_a_higher_class_is_satisfied_before_a_lower_gets_anything() -> None:
    assert divided(10, (1, 5, 1, 0), (1, 8, 1, 7)) == ([2, 8], 0)
    assert divided(10, (1, 5, 1, 0), (1, 9, 0, 7)) == ([5, 1], 4)  # weight 0: nothing but what it deserves


def test_rights_are_met_even_if_there_are_not_so_many_gpus() -> None:
    assert divided(3, (4, 9, 1, 0), (2, 9, 1, 0)) == ([4, 2], 0)


queues = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 30), st.integers(0, 3), st.integers(0, 2)), min_size=1
)


@given(st.integers(0, 60), queues)
def test_laws_of_division(gpus: int, queues: list[tuple[int, int, int, int]]) -> None:
    share, left = divided(gpus, *queues)
    first = [min(deserved, request) for deserved, request, _, _ in queues]
    assert left == max(0, gpus - sum(first)) - (sum(share) - sum(first))  # nothing is lost or made
    for has, right, (_, request, weight, priority) in zip(share, first, queues, strict=True):
        assert right <= has <= request and has == int(has)
        assert weight or has == right
        if weight and has < request:  # it wants more: then nothing is left, nor with any class below
            assert left == 0
            below = [other == r for other, r, q in zip(share, first, queues, strict=True) if q[3] < priority]
            assert all(below)


@given(st.integers(0, 60), queues)
def test_among_equals_a_larger_weight_gets_no_less_but_for_the_odd_gpu(
    gpus: int, queues: list[Queue]
) -> None:
    share, _ = divided(gpus, *((0.0, 50.0, weight, 0) for _, _, weight, _ in queues))
    by_weight = sorted(zip((q[2] for q in queues), share, strict=True))
    assert all(a <= b + 1 for (_, a), (_, b) in pairwise(by_weight))


def tenants(*rows: dict[str, object]) -> list[TenantSpec]:
    return [TenantSpec.model_validate(row) for row in rows]


def test_parents_divide_among_their_parts() -> None:
    tree = Tree.of(
        tenants(
            {"name": "a1", "parent": "a", "deserved_gpus": 2.0},
            {"name": "a", "deserved_gpus": 4.0},
            {"name": "b", "deserved_gpus": 4.0, "max_gpus": 5},
            {"name": "a2", "parent": "a", "deserved_gpus": 2.0, "over_quota_weight": 3.0},
        )
    )
    assert tree.names == ("", "a", "b", "a1", "a2")
    assert tree.path[4] == (4, 1)
    # of 12 a gets 4 and b 4; of the 4 left each 2, but b may have 5 only: a has 7.
    # of these a1 gets 2 and a2 2; of the 3 left .75 and 2.25: 0 and 2, and the odd one to the larger fraction
    share, asks = tree.fair_shares(12, [0, 0, 99, 99, 99])
    assert asks == [203, 198, 5, 99, 99]
    assert share == [12, 7, 5, 3, 4]
    # what one part does not ask for the other has
    assert tree.fair_shares(12, [0, 0, 99, 1, 99])[0] == [12, 7, 5, 1, 6]


def test_tenants_that_nobody_declared_stand_beside_the_others() -> None:
    tree = Tree.of(tenants({"name": "a", "deserved_gpus": 2.0}), ["x"])
    assert tree.names == ("", "a", "x")
    assert tree.fair_shares(6, [0, 9, 9])[0] == [6, 4, 2]
