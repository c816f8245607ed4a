"""Node lists and state tables: exact readings, the declared schemas, bad input."""

from __future__ import annotations

import csv
import gzip
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetsim_traces import TraceError
from fleetsim_traces.nodes import NODE_COLUMNS, node_schema, read_nodes
from fleetsim_traces.states import STATE_COLUMNS, read_states, state_schema


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


NODES = {
    "openb": (
        "sn,cpu_milli,memory_mib,gpu,model\nn0,32000,1000,0,\nn1,96500,1000,2,P100\n",
        [("n0", None, 0, None, 32, 1.048576, None), ("n1", "P100", 2, None, 96.5, 1.048576, None)],
    ),
    "spot": (
        "gpu_model,gpu_capacity_num,cpu_num,node_name\nA10,1,128,007\n",
        [("007", "A10", 1, None, 128, None, None)],
    ),
    "pai": (
        "7399a758eb02bae1a3621236,CPU,96,512,0\n75c536d5ba60528b3ef3ae40,T4,96,512,2\n",
        [
            ("7399a758eb02bae1a3621236", None, 0, None, 96, 512, None),
            ("75c536d5ba60528b3ef3ae40", "T4", 2, None, 96, 512, None),
        ],
    ),
    "philly": (
        "machineId, number of GPUs, single GPU mem\nm31,8, 24GB\n",
        [("m31", None, 8, 24, None, None, None)],
    ),
    "tiresias": (
        "num_switch,num_node_p_switch,num_gpu_p_node,num_cpu_p_node,mem_p_node\n2,2,4,8,16\n",
        [(f"2-{i}", None, 4, None, 8, 16, f"switch-{i // 2}") for i in range(4)],
    ),
    "nodes": ("node_id,gpus,gpu_model,pool\na,8,H100,east\n", [("a", "H100", 8, None, None, None, "east")]),
}


@pytest.mark.parametrize("layout", NODES)
@pytest.mark.parametrize("name", ["list", "list.gz"])
def test_node_lists(tmp_path: Path, layout: str, name: str) -> None:
    text, expected = NODES[layout]
    found = read_nodes(write(tmp_path / name, text))
    assert found.format == layout
    assert found.nodes.schema.equals(node_schema(), check_metadata=True)
    assert [tuple(row.values()) for row in found.nodes.to_pylist()] == expected
    assert (found.rows_read, found.rejected) == (len(expected), {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sn,cpu_milli,memory_mib,gpu,model\nn0,1,1,two,T4\n", ":2: gpus is not a number: 'two'"),
        ("sn,cpu_milli,memory_mib,gpu,model\nn0,1,1,-1,T4\n", "gpus is negative: '-1'"),
        ("sn,cpu_milli,memory_mib,gpu,model\nn0,1,1,1.5,T4\n", "gpus is not a whole number"),
        ("sn,cpu_milli,memory_mib,gpu,model\nn0,1,1,2,\n", "GPUs without a model"),
        (
            "sn,cpu_milli,memory_mib,gpu,model\nn0,1,1,2,T4\nn0,1,1,2,T4\n",
            "node_id repeats an earlier row: 'n0'",
        ),
        ("sn,cpu_milli,memory_mib,gpu,model\nn0,1,1\n", "3 fields in 'n0,1,1'. Write 5."),
        ("sn,cpu_milli,memory_mib,gpu,model\n", "no nodes in it"),
        ("a,b\n1,2\n", "not a node list that fleetsim knows"),
        (
            "num_switch,num_node_p_switch,num_gpu_p_node,num_cpu_p_node,mem_p_node\n0.5,2,4,8,16\n",
            "whole numbers",
        ),
        (
            "num_switch,num_node_p_switch,num_gpu_p_node,num_cpu_p_node,mem_p_node\n99999,99999,4,8,16\n",
            "more than",
        ),
        ("", "empty file"),
    ],
)
def test_node_lists_that_cannot_be_used(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path / "n", text)
    with pytest.raises(TraceError) as caught:
        read_nodes(path)
    assert said in str(caught.value)
    assert all(problem.place.startswith(str(path)) for problem in caught.value.problems)


def test_bad_nodes_are_dropped_on_request(tmp_path: Path) -> None:
    path = write(tmp_path / "n", "sn,cpu_milli,memory_mib,gpu,model\nn0,1,1,two,T4\nn1,1,1,2,T4\n")
    found = read_nodes(path, bad_rows="drop")
    assert (found.nodes.num_rows, found.rejected) == (1, {"gpus is not a number": 1})
    for read in (read_nodes, read_states):
        with pytest.raises(TraceError, match="neither refuse nor drop"):
            read(path, bad_rows="keep")
        with pytest.raises(TraceError, match="a folder, not a file"):
            read(tmp_path)


VC = (
    "time,total_job_num,running_gpujob_num,pending_gpujob_num,total_gpu_num,running_gpu_num,pending_gpu_num\n"
    "2020-05-01 00:01:00,11,3,1,64,72,8\n2020-05-01 00:00:00,11,3,1,64,59,8\n"
)


def states(path: Path) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in read_states(path).states.to_pylist()]


def test_states_of_a_virtual_cluster(tmp_path: Path) -> None:
    path = write(tmp_path / "vc3sl" / "cluster_sequence_vc.csv", VC)
    found = read_states(path)
    assert found.states.schema.equals(state_schema(), check_metadata=True)
    assert found.epoch == datetime(2020, 4, 30, 16, tzinfo=UTC)  # Shanghai
    assert states(path) == [
        (0, "vc3sl", None, None, 64, 59, 8, 3, 1),
        (60, "vc3sl", None, None, 64, 72, 8, 3, 1),  # more than there are: borrowed
    ]


def test_gpus_of_virtual_clusters_by_day(tmp_path: Path) -> None:
    path = write(tmp_path / "g", "date,vcA,vcB,total\n2020-04-01,112,0,112\n2020-04-02,100,12,112\n")
    assert [row[:2] + row[4:5] for row in states(path)] == [
        (0, "vcA", 112),
        (0, "vcB", 0),
        (86400, "vcA", 100),
        (86400, "vcB", 12),
    ]


def test_other_states(tmp_path: Path) -> None:
    path = write(
        tmp_path / "n", "time,active,total\n2017-11-05 01:00:00,312,420\n2017-11-05 02:00:00,1,420\n"
    )
    assert [row[:4] for row in states(path)] == [
        (0, None, 420, 312),
        (7200, None, 420, 1),
    ]  # clocks went back
    assert [row[:3] for row in states(write(tmp_path / "v", "vc,node num\n6214e9,64\n"))] == [
        (0, "6214e9", 64)
    ]
    text = "hour,jobs_active,gpus_active_requested,capacity_gpus\n2,3740.0,6855.64,10412\n"
    assert states(write(tmp_path / "h", text)) == [(7200, None, None, None, 10412, 6855.64, None, 3740, None)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (VC + "yesterday,11,3,1,64,59,8\n", ":4: the time is none: 'yesterday'"),
        (VC + "2020-05-01 00:02:00,11,3,1,sixty,59,8\n", "gpus is not a number: 'sixty'"),
        (VC + "2020-05-01 00:02:00,11,3,1,64,-1,8\n", "gpus_busy is negative"),
        (VC + "2020-05-01 00:02:00,11\n", "2 fields"),
        ("a,b\n1,2\n", "not a state table that fleetsim knows"),
    ],
)
def test_states_that_cannot_be_used(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(TraceError) as caught:
        read_states(write(tmp_path / "s", text))
    assert said in str(caught.value)


def test_schemas_say_what_they_hold() -> None:
    for column in (*NODE_COLUMNS, *STATE_COLUMNS):
        assert column.description
        assert column.kind in ("text", "category") or column.unit


names = (
    st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=9)
    .map(str.strip)
    .filter(bool)
)


@given(
    st.lists(
        st.tuples(names, st.integers(1, 64), st.integers(0, 10**6), names),
        min_size=1,
        max_size=20,
        unique_by=lambda r: r[0],
    )
)
@settings(deadline=None, max_examples=60)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int, int, str]]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([("sn", "gpu", "cpu_milli", "model", "memory_mib"), *((*r, 0) for r in rows)])
    found = read_nodes(write(tmp_path_factory.mktemp("n") / "n", text.getvalue()))
    assert [(r["node_id"], r["gpus"], r["cpus"] * 1000, r["gpu_model"]) for r in found.nodes.to_pylist()] == [
        (name, gpus, pytest.approx(cpus), model) for name, gpus, cpus, model in rows
    ]
