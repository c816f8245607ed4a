"""``fleetsim telemetry``: files, streams, and what is refused."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result
from model.support import A100, Job, cohort
from telemetry.support import readings, simulate

from fleetsim.cli import cli
from fleetsim.cli.telemetry import numbers
from fleetsim.runfolder import Run
from fleetsim.telemetry import table
from fleetsim.telemetry.sensors import Readings, Telemetry
from fleetsim_collectors.readings import COLUMNS


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    jobs = [Job(0, 1800, 3), Job(60, 600, 2)]
    return simulate(
        tmp_path_factory.mktemp("c"), jobs, [cohort(A100, nodes=3, gpus_per_node=2)], horizon="2h"
    )


def call(run: Run, *words: str) -> Result:
    return CliRunner().invoke(cli, ["telemetry", str(run.path), *words])


def test_parquet_is_the_reading_table(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "r.parquet"
    words = (
        "--start",
        "10min",
        "--end",
        "2026-01-01T00:30:00Z",
        "--step",
        "15s",
        "--nodes",
        "0,2",
        "--gpus",
        "1",
    )
    result = call(run, *words, "-o", str(target), "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said == {
        "file": str(target), "readings": 160, "times": 80, "nodes": 2, "gpus": 2, "start_s": 600.0,
        "end_s": 1800.0, "step_s": 15.0, "bytes": target.stat().st_size,
    }  # fmt: skip
    assert "80 times x 2 GPUs: up to 160 readings" in result.stderr
    made = pl.read_parquet(target).with_columns(pl.col(pl.Categorical).cast(pl.String))
    assert made.equals(readings(run, 600, 1800, 15, nodes=[0, 2], gpus=[1]))
    assert made.columns == [c.name for c in COLUMNS]
    field = table.schema().field("power_w")
    assert field.metadata[b"unit"] == b"W" and field.nullable


def test_warmer_air_makes_warmer_gpus(run: Run) -> None:
    cold, warm = (
        pl.read_csv(io.BytesIO(call(run, "--end", "1min", "--inlet", c, "-o", "-").stdout_bytes))[
            "gpu_temp_c"
        ]
        for c in ("20", "30")
    )
    assert (warm - cold).to_list() == [10] * 6


def test_the_same_bytes_each_time(run: Run, tmp_path: Path) -> None:
    for suffix in ("parquet", "csv"):
        files = [tmp_path / f"{n}.{suffix}" for n in "ab"]
        for file in files:
            assert call(run, "-o", str(file), "-q").output == ""
        assert files[0].read_bytes() == files[1].read_bytes()
        assert [f.name for f in tmp_path.glob(".*")] == []


def test_csv_goes_to_standard_output(run: Run) -> None:
    result = call(run, "--end", "2min", "--nodes", "1", "-o", "-")
    made = pl.read_csv(io.BytesIO(result.stdout_bytes))
    wanted = readings(run, 0, 120, 60, nodes=[1])
    assert made.height == 4 and made.columns == wanted.columns
    for name in ("time_s", "job", "uuid", "energy_mj", "fb_used_mib", "tenant"):
        assert made[name].to_list() == wanted[name].to_list(), name


def test_row_groups_are_of_bounded_size(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    monkeypatch.setattr(table, "ROW_GROUP", 100)
    batches = (b for _, b in Telemetry(run).batches(0, 600, 10, size=60))
    assert table.write(batches, tmp_path / "r.parquet") == 360
    groups = pq.ParquetFile(tmp_path / "r.parquet").metadata
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [120, 120, 120]


def test_a_write_that_fails_leaves_what_was_there(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "r.csv"
    target.write_text("older")

    def broken() -> Iterator[Readings]:
        yield Telemetry(run).at(np.zeros(1))
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError):
        table.write(broken(), target)
    assert target.read_text() == "older" and [f.name for f in tmp_path.iterdir()] == ["r.csv"]


def test_absurd_sizes_are_refused(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """120 times x 6 GPUs where 719 readings are the most that need no word."""
    monkeypatch.setattr("fleetsim.cli.telemetry.MANY_READINGS", 719)
    target = tmp_path / "r.parquet"
    refused = call(run, "-o", str(target))
    assert refused.exit_code == 2
    assert "120 times x 6 GPUs: up to 720 readings" in refused.stderr and "--yes" in refused.stderr
    assert not target.exists()
    assert call(run, "-o", str(target), "--yes").exit_code == 0 and target.is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--start", "never", "--step", "1q", "--nodes", "4-1", "--gpus", "a"],
         ["4 problems", "--start: 'never'", "--step: '1q'", "--nodes: '4-1'", "--gpus: 'a'"]),
        (["--start", "1h", "--end", "1h"], ["3600 s to 3600 s is not in the run, or is no time"]),
        (["--end", "3h"], ["The run goes from 0 to 7200 s (2 h)"]),
        (["--step", "0s"], ["less than 1 ms"]),
        (["--nodes", "1,7", "--gpus", "1,2"], ["2 problems", "nodes: 7: not in the run", "GPUs 0 to 1"]),
        (["--nodes", "0-99999999"], ["goes beyond 10,000,000"]),
    ],
)  # fmt: skip
def test_all_that_is_wrong_is_said_at_once(
    run: Run, tmp_path: Path, words: list[str], said: list[str]
) -> None:
    result = call(run, *words, "-o", str(tmp_path / "r.csv"))
    assert result.exit_code == 2
    for text in said:
        assert text in result.stderr
    assert not (tmp_path / "r.csv").exists()


def test_where_nothing_can_be_written(run: Run, tmp_path: Path) -> None:
    for name, said in (
        ("r.xlsx", "no such format"),
        ("none/r.csv", "no such folder"),
        (".csv", "no such format"),
    ):
        result = call(run, "-o", str(tmp_path / name))
        assert result.exit_code == 2 and said in result.stderr
    (tmp_path / "d.csv").mkdir()
    assert "not a regular file" in call(run, "-o", str(tmp_path / "d.csv")).stderr
    both = call(run, "-o", "-", "--json")
    assert both.exit_code == 2 and "both print to standard output" in both.stderr


def test_lists_of_numbers() -> None:
    assert numbers("0-2, 7,7") == {0, 1, 2, 7}
    for wrong in ("", "1-", "-1", "1,,2", "x", "2-1", "\u0661"):
        with pytest.raises(ValueError, match=r"neither|descends"):
            numbers(wrong)
