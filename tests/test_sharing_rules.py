"""What a scenario may say of shared GPUs: each contradiction with its place and a remedy."""

from __future__ import annotations

import json
from typing import Any

import pytest
from model.support import A100, T4, cohort, text, workload

from fleetsim.errors import InputError
from fleetsim.policies.packing import PACKINGS
from fleetsim.policies.placement import PLACEMENTS
from fleetsim.scenario import Scenario, parse

SHARED: dict[str, Any] = {"sharing": {}}


def made(*cohorts: dict[str, Any], scheduler: dict[str, Any] = SHARED, **more: Any) -> Scenario:
    works = more.pop("workloads", None) or [workload()]
    return parse(text(cohorts or [cohort()], works, scheduler=scheduler, **more), "f")


def fault(*cohorts: dict[str, Any], **more: Any) -> tuple[str, str, str]:
    """The one fault of such a scenario: path, message, remedy."""
    with pytest.raises(InputError) as caught:
        made(*cohorts, **more)
    assert len(caught.value.problems) == 1, caught.value.problems
    (problem,) = caught.value.problems
    return problem.place.split(" ", 1)[1], problem.message, problem.remedy


@pytest.mark.parametrize("placement", PACKINGS)
@pytest.mark.parametrize(
    "queue", ["fifo", "fifo_skip", "smallest", "sjf", "priority", "qssf", "fair_share", "drf"]
)
def test_what_shared_gpus_can_have(queue: str, placement: str) -> None:
    made(scheduler={"queue": queue, "placement": placement, **SHARED})


@pytest.mark.parametrize("placement", sorted(PLACEMENTS.keys() - PACKINGS.keys() - {"topology"}))
def test_a_placement_of_whole_gpus_is_refused_with_the_right_ones(placement: str) -> None:
    where, message, remedy = fault(scheduler={"placement": placement, **SHARED})
    assert (where, message) == ("scheduler.placement", f"`{placement}` places whole GPUs only")
    assert remedy.endswith(f"take one of: {', '.join(PACKINGS)}.")


@pytest.mark.parametrize("placement", sorted(PACKINGS.keys() - PLACEMENTS.keys()))
def test_a_placement_of_parts_needs_sharing(placement: str) -> None:
    where, message, remedy = fault(scheduler={"placement": placement})
    assert (where, message) == ("scheduler.placement", f"`{placement}` is for shared GPUs")
    assert remedy == f"Give `sharing: {{}}`, or take one of: {', '.join(PLACEMENTS)}."


def test_an_unknown_placement_lists_all() -> None:
    where, message, _ = fault(scheduler={"placement": "fdg", **SHARED})
    assert where == "scheduler.placement"
    assert "Did you mean fgd?" in message and "pool" in message


@pytest.mark.parametrize(
    "queue", ["easy", "conservative", "srtf", "srsf", "las", "gittins", "max_min", "quota"]
)
def test_a_queue_that_needs_nodes_or_stops_jobs_is_refused(queue: str) -> None:
    more: dict[str, Any] = {"easy": {"estimate": {}}, "conservative": {"estimate": {}}}.get(queue, {})
    more = {"interval": "6min"} if queue == "max_min" else more
    where, message, remedy = fault(scheduler={"queue": queue, **more, **SHARED})
    assert where == "scheduler.queue"
    assert message == f"`{queue}` stops jobs, or counts whole GPUs of nodes"
    assert remedy.endswith("fifo, fifo_skip, smallest, sjf, qssf, priority, fair_share, drf.")


@pytest.mark.parametrize(
    ("key", "value"),
    [("preemptive", True), ("defragment", {}), ("restart", {"setup": "30s"}), ("prefer", "slowest")],
)
def test_options_that_mean_nothing_are_refused(key: str, value: object) -> None:
    queue = "smallest" if key == "preemptive" else "fifo"
    where, _, remedy = fault(scheduler={"queue": queue, key: value, **SHARED})
    assert (where, remedy) == (f"scheduler.{key}", "Leave it out.")


def test_time_slices_must_leave_something() -> None:
    where, message, remedy = fault(scheduler={"sharing": {"replicas": 5, "interference": 0.25}})
    assert where == "scheduler.sharing.interference"
    assert message == "0.25 leaves nothing for 5 jobs on a GPU"  # 1 - 0.25 x 4 = 0
    assert remedy == "Less than 0.25, or fewer replicas."
    made(scheduler={"sharing": {"replicas": 5, "interference": 0.249}})
    where, _, remedy = fault(scheduler={"sharing": {"interference": 0.1}})
    assert (where, remedy) == ("scheduler.sharing.interference", "Give `replicas`, or leave it out.")


WINDOW = {"cohort": A100, "at": "1d", "lasts": "1h"}


@pytest.mark.parametrize(
    ("where", "more"),
    [
        ("maintenance", {"maintenance": [WINDOW]}),
        ("reservations", {"reservations": [{**WINDOW, "tenant": "t", "nodes": 1}]}),
        ("tenants[0].preemptible", {"tenants": [{"name": "t", "preemptible": True}]}),
    ],
)
def test_what_takes_nodes_or_stops_jobs_is_refused(where: str, more: dict[str, Any]) -> None:
    assert fault(horizon="30d", **more)[::2] == (where, "Leave it out.")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("tenants", ["t"], "all nodes are one pool where GPUs are shared"),
        ("topology", {}, "a job has one node where GPUs are shared"),
        ("mig_gpus", 9, "9, but a node has 8 GPUs"),
        ("gpus_per_node", 33, f"{A100} has 33 GPUs a node"),
        ("known_as", T4, f"'{T4}' is a model of the catalogue"),
    ],
)
def test_cohorts_of_a_shared_fleet(key: str, value: object, message: str) -> None:
    assert fault({**cohort(), key: value})[:2] == (f"cohorts[0].{key}", message)


def test_mig_needs_a_model_that_has_it() -> None:
    where, message, remedy = fault(cohort(T4, mig_gpus=1))
    assert (where, message) == ("cohorts[0].mig_gpus", "t4 has no MIG mode")
    assert remedy.startswith("Models with MIG are: a30, a100-sxm-40,")


def test_a_name_stands_for_one_model() -> None:
    first, second = cohort(A100, known_as="G2"), cohort(T4, known_as="G2")
    assert fault(first, second)[:2] == ("cohorts[1].known_as", f"'G2' is {A100} in cohort {A100}")
    made(first, cohort(A100, name="b", known_as="G2"))


@pytest.mark.parametrize("key", ["cpus", "memory_gb"])
def test_limits_of_nodes_are_given_for_all_or_for_none(key: str) -> None:
    where, _, remedy = fault(cohort(), {**cohort(T4), key: 8})
    assert (where, remedy) == (f"cohorts[0].{key}", "Say it of every cohort, or of none.")


@pytest.mark.parametrize(("key", "value"), [("cpus", 8), ("memory_gb", 8.5), ("mig_gpus", 1)])
def test_what_only_shared_gpus_have_needs_sharing(key: str, value: float) -> None:
    where, _, remedy = fault({**cohort(), key: value}, scheduler={})
    assert (where, remedy) == (f"cohorts[0].{key}", "Give `scheduler.sharing: {}`, or leave it out.")


@pytest.mark.parametrize(("key", "value"), [("cpu_jobs", True), ("mig", "1g.10gb")])
def test_jobs_that_only_shared_gpus_can_run_need_sharing(key: str, value: object) -> None:
    where, _, remedy = fault(scheduler={}, workloads=[{**workload(), key: value}])
    assert (where, remedy) == (f"workloads[0].{key}", "Give `scheduler.sharing: {}`, or leave it out.")


def test_sharing_is_told_apart_from_no_scheduler_at_all() -> None:
    words = json.loads(text([cohort(cpus=8)], [workload()]))
    with pytest.raises(InputError, match="counts only where GPUs are shared"):
        parse(json.dumps(words), "f")


def test_a_profile_must_be_one_that_the_fleet_has() -> None:
    works = [workload(mig="1g.5gb")]
    where, message, remedy = fault(cohort(mig_gpus=1), workloads=works)
    assert (where, message) == ("workloads[0].mig", "no GPU of the fleet has a MIG profile '1g.5gb'")
    assert remedy.endswith("The fleet has: 1g.10gb, 1g.20gb, 2g.20gb, 3g.40gb, 4g.40gb, 7g.80gb.")
    where, message, remedy = fault(cohort(), workloads=works)
    assert message == "no cohort has GPUs in MIG mode for '1g.5gb'"
    assert remedy.startswith("Give one `mig_gpus`")
    made(cohort(mig_gpus=1), workloads=[workload(mig="3g.40gb")])
