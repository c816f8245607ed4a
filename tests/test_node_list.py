"""Fleets from lists of nodes: cohorts of equal nodes, numbered as in the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from model.support import Job, read, trace, workload

from fleetsim import experiment
from fleetsim.errors import InputError
from fleetsim.scenario import Scenario, parse

NODES = """\
sn,cpu_milli,memory_mib,gpu,model
n0,96000,393216,8,G2
n1,104000,524288,0,
n2,8000,61440,2,P100
n3,96000,393216,8,G2
n4,8000,61440,2,P100
n5,64000,262144,2,P100
"""
NAMES = {"G2": "a10", "P100": "p100-sxm2-16"}


def made(
    folder: Path, nodes: str = NODES, works: list[dict[str, Any]] | None = None, **more: Any
) -> Scenario:
    (folder / "nodes.csv").write_text(nodes, encoding="utf-8")
    listed = {"file": "nodes.csv", "gpu_names": NAMES, **more.pop("node_list", {})}
    whole = {"name": "x", "start": "2026-01-01", "horizon": "drain", "node_list": listed, **more}
    return parse(json.dumps({**whole, "workloads": works or [workload()]}), "f", roots=[folder])


def faults(folder: Path, nodes: str = NODES, **more: Any) -> list[tuple[str, str, str]]:
    with pytest.raises(InputError) as caught:
        made(folder, nodes, **more)
    return [(p.place.split(" ", 1)[-1], p.message, p.remedy) for p in caught.value.problems]


def test_equal_nodes_are_a_cohort_and_keep_the_order_of_the_file(tmp_path: Path) -> None:
    """Node n1 has no GPU, so n2 is number 1. 61,440 MiB are 60 GiB."""
    scenario = made(tmp_path, node_list={"delivered": "-1y", "earlier_age": "1y"})
    assert [(c.name, c.model.id, c.known_as, tuple(c.node_numbers)) for c in scenario.cohorts] == [
        ("G2-8gpu-96cpu-384gib", "a10", "G2", (0, 2)),
        ("P100-2gpu-8cpu-60gib", "p100-sxm2-16", "P100", (1, 3)),
        ("P100-2gpu-64cpu-256gib", "p100-sxm2-16", "P100", (4,)),
    ]
    assert [(c.nodes, c.gpus_per_node, c.cpu_milli, c.memory_mib) for c in scenario.cohorts] == [
        (2, 8, 96000, 393216),
        (2, 2, 8000, 61440),
        (1, 2, 64000, 262144),
    ]
    assert {(c.delivered_s, c.earlier_age_s) for c in scenario.cohorts} == {(-365 * 86400.0, 365 * 86400.0)}
    facts = scenario.node_list
    assert facts is not None
    assert (facts["source"], facts["format"], facts["nodes"]) == ("nodes.csv", "openb", 5)
    assert facts["left_out"] == {"no GPU": 1}


def test_kinds_that_look_alike_have_names_of_their_own(tmp_path: Path) -> None:
    rows = "".join(f"{n},2,{memory}\n" for n, memory in enumerate((64.0, 64.001, 64.002, 64.0)))
    scenario = made(tmp_path, "node_id,gpus,memory_gb\n" + rows, node_list={"gpu_names": {"*": "t4"}})
    assert [c.name for c in scenario.cohorts] == ["t4-2gpu-59.6gib", "t4-2gpu-59.61gib", "t4-2gpu-59.61gib_2"]
    assert [c.known_as for c in scenario.cohorts] == [None] * 3


def test_a_limit_that_is_unknown_of_one_node_is_none(tmp_path: Path) -> None:
    nodes = "node_id,gpus,gpu_model,cpus,memory_gb\n1,2,t4,8,\n2,2,t4,8,16\n"
    scenario = made(tmp_path, nodes, node_list={"gpu_names": None})
    assert [(c.nodes, c.cpu_milli, c.memory_mib) for c in scenario.cohorts] == [(2, 8000, None)]


def test_every_fault_of_names_at_once(tmp_path: Path) -> None:
    found = faults(tmp_path, node_list={"gpu_names": {"G3": "t4", "P100": "p10"}})
    assert [(where, message) for where, message, _ in found] == [
        ("node_list.gpu_names.G3", "the list has no GPU model 'G3'"),
        ("node_list.gpu_names.P100", "unknown GPU model 'p10'"),
        ("node_list.gpu_names", "the catalogue has no GPU model G2"),
    ]
    assert found[0][2] == "It has: G2, P100."


@pytest.mark.parametrize(
    ("more", "nodes", "where", "message"),
    [
        ({"file": "../nodes.csv"}, NODES, "node_list.file", "no node list '../nodes.csv'"),
        ({"file": "none.csv"}, NODES, "node_list.file", "no node list 'none.csv'"),
        ({"site": "north"}, NODES, "node_list.site", "no site 'north'"),
        ({}, "sn,cpu_milli,memory_mib,gpu,model\nn1,1,1,0,\n", "node_list.gpu_names.G2", "the list has no"),
        ({"gpu_names": {}}, "sn,cpu_milli,memory_mib,gpu,model\nn,1,1,0,\n", "node_list.file", "no node of"),
        ({"delivered": "90d"}, NODES, "node_list.delivered", "'90d' is 60 d after the horizon ends"),
        ({"nodes": 3}, NODES, "node_list.nodes", "unknown key"),
    ],
)
def test_faults(tmp_path: Path, more: dict[str, Any], nodes: str, where: str, message: str) -> None:
    (tmp_path / "in").mkdir()
    found = faults(tmp_path / "in", nodes, node_list=more, horizon="30d")
    assert found[0][0] == where and found[0][1].startswith(message)


def test_a_file_that_is_no_node_list(tmp_path: Path) -> None:
    [(where, message, _)] = faults(tmp_path, "a,b\n1,2\n")
    assert where.endswith("nodes.csv") and message.startswith("not a node list")


def test_cohorts_and_a_list_are_one_too_many(tmp_path: Path) -> None:
    cohorts = [{"name": "a", "gpu_model": "t4", "nodes": 1}]
    assert faults(tmp_path, cohorts=cohorts) == [
        ("node_list", "`cohorts` are given too", "Keep one of the two.")
    ]


def run(folder: Path, scenario: Scenario, jobs: list[Job]) -> Any:
    return read(experiment.run(scenario, folder / "run", traces={"w": trace(jobs)}).path)


@pytest.mark.parametrize("sharing", [True, False])
def test_names_of_one_model_are_told_apart(tmp_path: Path, sharing: bool) -> None:
    """Both names are taken for the A10. A job that asks for the A10 itself may have either."""
    names = {"G2": "a10", "P100": "a10"}
    rules: dict[str, Any] = {"queue": "fifo_skip", "placement": "first_fit"}
    rules |= {"sharing": {}} if sharing else {}
    scenario = made(tmp_path, node_list={"gpu_names": names}, scheduler=rules)
    asked = ["P100", "G2", "P100", "G2|P100", "a10", "G3"]
    history = run(tmp_path, scenario, [Job(0, 10, 2, gpu_model=name) for name in asked])
    assert [history.where(job) for job in range(6)] == [
        [(1, 2)], [(0, 2)], [(3, 2)], [(0, 2)], [(0, 2)], [],
    ]  # fmt: skip
    assert history.jobs("reject_reason")[5] == "no allowed GPU model"
    assert history.manifest["node_list"]["left_out"] == {"no GPU": 1}
    cohorts = dict(history["node_states"].select("node", "cohort").rows())
    assert cohorts[1] == cohorts[3] == "P100-2gpu-8cpu-60gib"


def test_names_of_the_list_in_the_scenario(tmp_path: Path) -> None:
    """A workload and a tenant may be held to a name of the list, as to a model of the catalogue."""
    works = [workload(gpu_models=["P100"]), workload("v", gpu_models=["p100-sxm2-16"])]
    made(tmp_path, works=works, tenants=[{"name": "t", "gpu_models": ["G2"]}])
    found = faults(tmp_path, works=[workload(gpu_models=["G4"])])
    assert found[0][0] == "workloads[0].gpu_models[0]"


def test_the_openb_list(real_traces: Path) -> None:
    """1,213 nodes and 6,212 GPUs of 15 kinds; the list of all nodes has 310 more without GPUs."""
    folder = real_traces / "alibaba-gpu-v2023-openb"
    if not folder.is_dir():
        pytest.skip(f"no openb lists at {folder}")
    names = {"A10": "a10", "G2": "a10", "G3": "a100-sxm-80", "P100": "p100-sxm2-16", "T4": "t4"}
    names |= {"V100M16": "v100-sxm2-16", "V100M32": "v100-sxm2-32"}
    for part, left_out in (("gpu", {}), ("all", {"no GPU": 310})):
        listed = {"file": f"openb_node_list_{part}_node.csv", "gpu_names": names}
        whole = {"name": "x", "start": "2026-01-01", "horizon": "1d", "node_list": listed}
        scenario = parse(json.dumps({**whole, "workloads": [workload()]}), "f", roots=[folder])
        assert (len(scenario.cohorts), sum(c.nodes for c in scenario.cohorts)) == (15, 1213)
        assert sum(c.gpus for c in scenario.cohorts) == 6212
        assert scenario.node_list is not None and scenario.node_list["left_out"] == left_out
        numbers = sorted(n for c in scenario.cohorts for n in c.node_numbers)
        assert numbers == [*range(1213)]
