"""Slots, exactly: what becomes of nodes for which a site has no power. A node of 8 A100 reserves 6.5 kW."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from life.history import DAY_S, HOUR_S, events, stays, story
from model.support import A100, H100, History, Job, cohort, simulate, workload

TOP, LOW = {"name": "top", "classes": ["training"]}, {"name": "low", "classes": ["batch"]}


def run(
    it_power_kw: float,
    over_power: str,
    fleet: Sequence[dict[str, Any]],
    jobs: Sequence[Job] = (),
    **more: Any,
) -> History:
    """30 days of *fleet* at one site of so many kW, other sites without a limit."""
    sites = [{"name": "main", "it_power_kw": it_power_kw, "over_power": over_power}, {"name": "other"}]
    keys = {"sites": sites, "horizon": "30d", **more}
    return simulate(list(jobs) or [Job(0, HOUR_S)], fleet, [workload(workload_class="training")], **keys)


def moves(run: History, node: int) -> list[tuple[float, str, str]]:
    """(day, state, cause) of each change of *node*."""
    return [(time_s / DAY_S, state, cause) for time_s, state, cause, _ in story(run, node)]


# Waiting


def test_nodes_wait_for_slots_in_order_of_delivery() -> None:
    """13 kW hold two nodes of old. b comes on day 2 and c on day 3, two nodes each; one of old leaves on day
    5, one on day 9: the first slot is for b's first node, the second for its second; c waits to the end."""
    fleet = [
        cohort(name="old-1", earlier_age="5d", delivered="-1d"),
        cohort(name="old-2", earlier_age="1d", delivered="-1d"),
        cohort(name="b", nodes=2, delivered="2d"),
        cohort(name="c", nodes=2, delivered="3d"),
    ]
    h = run(13.0, "wait", fleet, retirement={"rule": "fixed_age", "age": "11d"})
    assert moves(h, 0)[-1] == (5, "retired", "fixed_age")
    assert moves(h, 1)[-1] == (9, "retired", "fixed_age")
    # b's age counts from its delivery on day 2, so both of its nodes leave on day 13, and c's two come in
    assert moves(h, 2) == [(2, "stored", "delivery"), (5, "up", "slot"), (13, "retired", "fixed_age")]
    assert moves(h, 3) == [(2, "stored", "delivery"), (9, "up", "slot"), (13, "retired", "fixed_age")]
    for node in (4, 5):
        assert moves(h, node) == [(3, "stored", "delivery"), (13, "up", "slot"), (14, "retired", "fixed_age")]
    assert [(t / DAY_S, *rest) for t, *rest in events(h, "stored")] == [
        (2, "b", "2 nodes wait for slots"), (3, "c", "2 nodes wait for slots")
    ]  # fmt: skip
    # what is stored is not installed: hours of b are 8 and 4 days of 8 GPUs
    assert sum(h.hours("cohort").values()) == pytest.approx(8 * 24 * (5 + 9 + 8 + 4 + 1 + 1), rel=1e-12)
    assert h.hours("cohort")["b"] == pytest.approx(8 * 24 * 12, rel=1e-12)


def test_who_comes_later_does_not_overtake_though_it_would_fit() -> None:
    """An H100 (10.2 kW) waits for what one A100 has freed; an A100 behind it would fit and waits too."""
    fleet = [
        cohort(name="old", earlier_age="5d", nodes=2),
        cohort(H100, delivered="2d"),
        cohort(name="new", delivered="3d"),
    ]
    end = {
        "name": "end", "cohorts": ["old"], "hazard": [{"curve": [[0, 0], ["9d", 1e6]]}],
        "repairs": [{"name": "none", "retires": True}],
    }  # fmt: skip
    h = run(13.0, "wait", fleet, failures=[end])
    left = [moves(h, n)[-1][0] for n in (0, 1)]
    assert left == pytest.approx([4, 4], abs=0.01)
    assert moves(h, 2)[1][0] == max(left)  # 10.2 kW: when both have left
    assert [state for _, state, _ in moves(h, 3)] == ["stored"]  # 2.8 kW are left, for ever


def test_a_part_of_a_cohort_is_installed_and_the_lowest_nodes_are_it() -> None:
    h = run(13.0, "wait", [cohort(nodes=3)])
    assert [moves(h, n) for n in range(3)] == [
        [(0, "up", "initial")], [(0, "up", "initial")], [(0, "stored", "initial")]
    ]  # fmt: skip
    assert h.hours("cohort")[A100] == pytest.approx(16 * 720, rel=1e-12)
    assert [s.idle_w > 0 for s in stays(h)[2]] == [False]


@pytest.mark.parametrize(("cap_kw", "fits"), [(19.5, 3), (19.499999, 2), (6.5 * 3 * (1 - 1e-12), 3)])
def test_rounding_takes_no_slot(cap_kw: float, fits: int) -> None:
    """3 x 6.5 kW are 19.5; what floats lose is not missed, a milliwatt is."""
    h = run(cap_kw, "wait", [cohort(nodes=4)])
    assert sum(moves(h, n)[0][1] == "up" for n in range(4)) == fits


def test_slots_of_odd_sizes_are_all_given_back() -> None:
    """Each day two nodes of 3 x 0.8125 kW leave and two come, which take all there is: no rest is lost."""
    fleet = [
        cohort(name=f"c{n}", nodes=2, gpus_per_node=3, delivered=f"{n}d" if n else 0.0) for n in range(29)
    ]
    h = run(2 * 3 * 0.8125, "wait", fleet, retirement={"rule": "fixed_age", "age": "1d", "drain": 0})
    for n in range(58):
        *_, came, gone = moves(h, n)
        assert came[:2] == (n // 2, "up")
        assert gone == (n // 2 + 1, "retired", "fixed_age")


def test_a_node_is_tested_when_it_has_its_slot() -> None:
    """It comes on day 2, gets a slot on day 5, and burns in for three days from then."""
    fleet = [cohort(name="old", earlier_age="5d"), cohort(name="new", delivered="2d", burn_in="3d")]
    h = run(6.5, "wait", fleet, retirement={"rule": "fixed_age", "age": "10d"})
    assert moves(h, 1)[:3] == [(2, "stored", "delivery"), (5, "down", "burn_in"), (8, "up", "burn_in")]


# Refusing


def test_what_has_no_slot_is_sent_back() -> None:
    """Retirement frees slots only on day 10: the delivery of day 5 finds one, for two nodes."""
    fleet = [cohort(name="old", nodes=1, earlier_age="0d"), cohort(name="new", nodes=2, delivered="5d")]
    h = run(13.0, "refuse", fleet, retirement={"rule": "fixed_age", "age": "10d"})
    assert events(h, "refused") == [(5 * DAY_S, "new", "1 nodes: no slots")]
    assert [sorted(stays(h))] == [[0, 1]]
    assert moves(h, 1) == [(5, "up", "delivery"), (15, "retired", "fixed_age")]


# Shedding


def shed(fleet: Sequence[dict[str, Any]], kw: float, jobs: Sequence[Job] = (), **more: Any) -> History:
    return run(kw, "shed", fleet, jobs, tiers=[TOP, {"name": "middle"}, LOW], **more)


def test_the_lowest_rung_leaves_first_and_the_oldest_of_it() -> None:
    """19.5 kW hold three nodes; an H100 (10.2 kW) on the top rung needs two of them: the two on the lowest,
    though the one in the middle is the oldest."""
    fleet = [
        cohort(name="mid", tier="middle", delivered="-3y"),
        cohort(name="low", tier="low", delivered="-1y"),
        cohort(name="older", tier="low", delivered="-2y"),
        cohort(H100, delivered="5d"),
    ]
    h = shed(fleet, 19.5)
    assert moves(h, 0) == [(0, "up", "initial")]
    assert moves(h, 1)[1:] == moves(h, 2)[1:] == [(5, "retired", "power")]
    assert moves(h, 3) == [(5, "stored", "delivery"), (5, "up", "slot")]
    h = shed([*fleet[:3], cohort(delivered="5d", name="one")], 19.5)  # one A100 needs one of them
    assert [len(moves(h, n)) for n in range(3)] == [1, 1, 2]


def test_contracts_are_kept_and_nothing_above_leaves() -> None:
    """One node of the lower rung is let, the other rungs are no lower: nothing leaves, and the node waits."""
    fleet = [
        cohort(name="let", tier="low", contract_until="9d"),
        cohort(name="same", tier="middle"),
        cohort(name="new", tier="middle", delivered="5d"),
    ]
    h = shed(fleet, 13.0)
    assert [moves(h, n)[1:] for n in range(3)] == [[], [], []]
    assert moves(h, 2) == [(5, "stored", "delivery")]


def test_what_is_shed_drains_first_and_its_power_is_counted_once() -> None:
    """Two nodes are shed for two on day 5, with 3 days to drain; on day 6 one more comes, for which only the
    third is left to shed. Jobs run for 6, 20 and 20 days."""
    fleet = [
        cohort(name="low", nodes=3, tier="low"),
        cohort(name="a", nodes=2, delivered="5d"),
        cohort(name="b", delivered="6d"),
    ]
    h = simulate(
        {"low": [Job(0, 6 * DAY_S, 8), Job(0, 20 * DAY_S, 8), Job(0, 20 * DAY_S, 8)]},
        fleet,
        [workload("low", workload_class="batch")],
        tiers=[TOP, LOW],
        sites=[{"name": "main", "it_power_kw": 19.5, "over_power": "shed"}],
        horizon="30d",
        retirement={"rule": "fixed_age", "age": "1y", "drain": "3d"},
    )
    assert [moves(h, n)[-1] for n in range(3)] == [
        (6, "retired", "power"), (8, "retired", "power"), (9, "retired", "power")
    ]  # fmt: skip
    assert [moves(h, n)[-1] for n in (3, 4, 5)] == [(6, "up", "slot"), (8, "up", "slot"), (9, "up", "slot")]


def test_cohorts_that_come_together_shed_for_each() -> None:
    """Both at the start, and both shed: 6.5 kW each, of two nodes below. A third on day 5 sheds the third."""
    fleet = [
        cohort(name="low", nodes=3, tier="low", delivered="-1y"),
        cohort(name="a"),
        cohort(name="b"),
        cohort(name="c", delivered="5d"),
    ]
    h = shed(fleet, 19.5)
    assert [moves(h, n)[-1] for n in range(3)] == [
        (0, "retired", "power"), (0, "retired", "power"), (5, "retired", "power")
    ]  # fmt: skip
    assert [moves(h, n)[-1][:2] for n in (3, 4, 5)] == [(0, "up"), (0, "up"), (5, "up")]


def test_what_leaves_for_another_reason_while_it_is_shed_is_not_counted_for_ever() -> None:
    """The node is shed on day 5 with 9 days to drain, and breaks for good on day 7. On day 10 a second
    delivery needs the second node of the lower rung: it is shed."""
    fleet = [
        cohort(name="x", tier="low"),
        cohort(name="y", tier="low", delivered="-1d"),
        cohort(name="a", delivered="5d"),
        cohort(name="b", delivered="10d"),
    ]
    h = simulate(
        {"low": [Job(0, 30 * DAY_S, 8), Job(0, 30 * DAY_S, 8)]},
        fleet,
        [workload("low", workload_class="batch")],
        tiers=[TOP, LOW],
        sites=[{"name": "main", "it_power_kw": 13.0, "over_power": "shed"}],
        horizon="40d",
        retirement={"rule": "failure", "failures": 1, "drain": "9d"},
        failures=[{"name": "f", "cohorts": ["y"], "script": [{"after": "7d", "down": "1d"}]}],
    )
    assert moves(h, 1)[-1][:2] == (7, "retired")
    assert moves(h, 2)[-1] == (7, "up", "slot")
    assert moves(h, 0)[-1] == (19, "retired", "power")
    assert moves(h, 3)[-1] == (19, "up", "slot")


def test_stored_nodes_are_no_business_of_maintenance() -> None:
    """The second of two nodes is stored while both are maintained; it comes into service in that time, down,
    and is up when it is over. The first leaves on day 10."""
    h = run(
        6.5,
        "wait",
        [cohort(name="a"), cohort(name="b", delivered="1d")],
        maintenance=[{"cohort": "b", "at": "9d", "lasts": "3d"}],
        retirement={"rule": "fixed_age", "age": "10d"},
    )
    assert moves(h, 1)[:3] == [
        (1, "stored", "delivery"),
        (10, "down", "maintenance"),
        (11, "retired", "fixed_age"),
    ]
