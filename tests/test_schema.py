"""The tables of a run folder: what is declared, and that what is written is exactly that."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from model.support import A100, V100, Job, cohort, text, trace, workload

from fleetsim import experiment, scenario, schema
from fleetsim.schema import TABLES, Column, labels

COLUMNS = [
    pytest.param(table, c, id=f"{table}.{c.name}") for table, columns in TABLES.items() for c in columns
]
UNITS = {"", "s", "GPU", "GPU s", "GPU h", "W", "kW", "kWh", "kg", "y", "ratio", "USD", "USD/kW/y"}
ENDINGS = {"_gpu_s": "GPU s", "_gpu_hours": "GPU h", "_hours": "GPU h", "_kwh": "kWh", "_w": "W", "_s": "s"}
STORIES = ["full", "no jobs", "nothing starts", "no time", "all in an instant"]


def folder_of(story: str, path: Path) -> Path:
    """A small run: with every kind of job, or with nothing in some of its tables, or of no length at all."""
    jobs = {
        "full": [
            Job(0, 50, 4, user="ann", tenant="a"),
            Job(10, 1000, 12),
            Job(20, 10, 99),
            Job(30, 10, 8, gpu_model=A100),
            Job(60, 10, 1, workload_class="inference"),
        ],
        "nothing starts": [Job(0, 10, 9)],
        "all in an instant": [Job(0, 0), Job(0, 0, 2)],
    }.get(story, [])
    horizon = {"full": "500s", "no time": "drain", "all in an instant": "drain"}.get(story, "1d")
    fleet = [cohort(nodes=2), cohort(V100, delivered=100)] if story == "full" else [cohort()]
    read = scenario.parse(text(fleet, [workload()], horizon=horizon), "test")
    return experiment.run(read, path / "run", traces={"w": trace(jobs)}).path


@pytest.fixture(scope="module", params=STORIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(request.param, tmp_path_factory.mktemp("schema"))


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_every_column_is_described(table: str, column: Column) -> None:
    """A sentence that says what it is, a unit that is known, and the unit that the name promises."""
    assert column.description.endswith(".") and len(column.description) >= len("When."), column
    assert column.unit in UNITS
    ending = next((unit for end, unit in ENDINGS.items() if column.name.endswith(end)), None)
    assert ending is None or column.unit == ending
    if column.kind.startswith("float"):
        assert column.unit, "a measured number has a unit"
    if column.kind in ("label", "string", "bool"):
        assert not column.unit, "a text has none"


@pytest.mark.parametrize("table", TABLES)
def test_names_are_unique_within_a_table(table: str) -> None:
    names = [c.name for c in TABLES[table]]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("table", TABLES)
def test_the_arrow_schema_carries_units_and_meanings(table: str) -> None:
    made = schema.schema(table)
    assert made.names == [c.name for c in TABLES[table]]
    assert made.metadata == {b"fleetsim_table": table.encode(), b"fleetsim_schema": schema.VERSION.encode()}
    for column in TABLES[table]:
        found = made.field(column.name)
        assert found.nullable == column.nullable
        assert found.metadata == {
            b"unit": column.unit.encode(),
            b"description": column.description.encode(),
        }
        kinds = {"label": pa.dictionary(pa.int32(), pa.string()), "bool": pa.bool_()}
        assert found.type == kinds.get(column.kind, pa.type_for_alias(column.kind.replace("label", "string")))


def test_the_reference_lists_every_column_with_its_unit() -> None:
    lines = schema.markdown().splitlines()
    for table, columns in TABLES.items():
        at = lines.index(f"### {table}.parquet")
        rows = lines[at + 4 : at + 4 + len(columns)]
        for column, row in zip(columns, rows, strict=True):
            cells = [cell.strip() for cell in row.strip("|").split("|")]
            assert cells == [
                f"`{column.name}`",
                column.kind + " or null" * column.nullable,
                column.unit,
                column.description,
            ]
    assert sum(line.startswith("| `") for line in lines) == sum(map(len, TABLES.values()))


def test_a_run_folder_holds_the_declared_files_and_no_other(folder: Path) -> None:
    assert {p.name for p in folder.iterdir()} == {"manifest.json", *(f"{t}.parquet" for t in TABLES)}


@pytest.mark.parametrize("table", TABLES)
def test_what_is_written_is_what_is_declared(folder: Path, table: str) -> None:
    """Names, order, types, nullability, units and meanings; no null where none is declared."""
    declared = schema.schema(table)
    found = pq.read_table(folder / f"{table}.parquet")
    assert found.schema.names == declared.names
    for wanted in declared:
        got = found.schema.field(wanted.name)
        assert (got.type, got.nullable) == (wanted.type, wanted.nullable), wanted.name
        assert {k: got.metadata[k] for k in wanted.metadata} == wanted.metadata
        if not wanted.nullable:
            assert found[wanted.name].null_count == 0, wanted.name
    assert {k: found.schema.metadata[k] for k in declared.metadata} == declared.metadata


def test_no_number_is_nan(folder: Path) -> None:
    """What is unknown is null, which every reader of Parquet understands."""
    for table, columns in TABLES.items():
        found = pq.read_table(folder / f"{table}.parquet")
        for column in columns:
            if column.kind.startswith("float"):
                assert not pc.any(pc.is_nan(found[column.name])).as_py(), (table, column.name)


def test_the_manifest_counts_the_rows(folder: Path) -> None:
    rows = json.loads((folder / "manifest.json").read_text("utf-8"))["rows"]
    assert rows == {t: pq.read_metadata(folder / f"{t}.parquet").num_rows for t in TABLES}


def test_labels_of_every_column_are_known(tmp_path: Path) -> None:
    """States, statuses and outcomes are those that the schema lists, in words."""
    folder = folder_of("full", tmp_path)

    def values(table: str, column: str) -> set[str]:
        return set(pq.read_table(folder / f"{table}.parquet")[column].to_pylist())

    assert values("jobs", "status") == set(schema.JOB_STATUSES)
    assert values("allocations", "outcome") == {"completed", "running"} < set(schema.ATTEMPT_OUTCOMES)
    assert values("node_states", "state") <= set(schema.NODE_STATES)
    assert values("node_states", "cause") == {"initial", "delivery"}
    assert values("usage", "state") <= set(schema.STATES)
    assert values("usage", "tier") == {"general"}


def test_labels_are_names_by_code_and_null_below_zero() -> None:
    made = labels([1, -1, 0, 1, -7], ["a", "b"])
    assert made.to_pylist() == ["b", None, "a", "b", None]
    assert made.type == pa.dictionary(pa.int32(), pa.string())
    assert made.null_count == 2


@pytest.mark.parametrize(
    ("codes", "names", "expected"),
    [
        ([], [], []),
        ([], ["a"], []),
        ([-1, -1], [], [None, None]),
        ([-1], ["a"], [None]),
        ([0], ["Ω [red]"], ["Ω [red]"]),
        ([0.0, 1.0], ["a", "b"], ["a", "b"]),
    ],
)
def test_labels_of_nothing(codes: list[float], names: list[str], expected: list[str | None]) -> None:
    made = labels(codes, names)
    assert made.to_pylist() == expected
    assert made.type == pa.dictionary(pa.int32(), pa.string())


def test_a_code_without_a_name_is_a_fault() -> None:
    with pytest.raises(pa.ArrowIndexError):
        labels([0, 2], ["a", "b"])
