"""``fleetsim compare``: what a person reads, what a script gets, and which runs it refuses."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from model.support import A100, Job, cohort, text, trace, workload

from fleetsim import experiment, scenario
from fleetsim.cli import cli
from fleetsim.comparison import compare, open_runs, sections

HOUR_S = 3600.0
QUEUES = ("fifo", "fifo_skip")

#: One node of two GPUs; under fifo the third job waits 4 h behind the second, with skip-ahead not at all.
JOBS = [
    Job(0, 4 * HOUR_S, 1, tenant="red"),
    Job(1 * HOUR_S, 2 * HOUR_S, 2, tenant="blue"),
    Job(2 * HOUR_S, 1 * HOUR_S, 1, tenant="red"),
]


def invoke(*words: object, columns: int | None = None) -> Result:
    env = {"COLUMNS": None if columns is None else str(columns), "NO_COLOR": None}
    return CliRunner().invoke(cli, ["compare", *map(str, words)], env=env)


def run_of(folder: Path, queue: str = "fifo", name: str = "w", **more: Any) -> Path:
    fleet = [cohort(A100, gpus_per_node=2, name="a")]
    read = scenario.parse(text(fleet, [workload(name)], scheduler={"queue": queue}, **more), "test")
    return experiment.run(read, folder, traces={name: trace(JOBS)}).path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    return [run_of(folder / queue, queue) for queue in QUEUES]


def rows_of(output: str) -> dict[str, list[str]]:
    """Cells of the rows of all tables by their labels; cells stand two blanks apart."""
    cells = [re.split(r"\s{2,}", line.strip()) for line in output.splitlines()]
    return {row[0]: row[1:] for row in cells if len(row) > 1}


def test_runs_stand_side_by_side(runs: list[Path]) -> None:
    """Metrics are rows, runs are columns, a star marks the best; nothing but the tables is on stdout."""
    result = invoke(*runs)
    assert (result.exit_code, result.stderr) == (0, "")
    rows = rows_of(result.stdout)
    assert rows["queue"] == ["fifo", "fifo_skip"]
    assert rows["completed"] == ["3", "3"]
    assert rows["wait, mean"] == ["2 h 20 min", "1 h *"]  # (0 + 3 + 4) / 3 and (0 + 3 + 0) / 3 h
    assert rows["makespan"] == ["7 h", "6 h *"]
    assert rows["idle while jobs wait"] == ["21.4 %", "16.7 % *"]  # 3 of 14, 2 of 12 GPU h
    assert rows["x MFU"] == ["40.0 %", "40.0 %"]
    assert rows["energy per work (kWh/GPU h)"][1].endswith("*")
    assert rows["jobs paired"] == ["3"]
    assert rows["mean wait, change"] == ["-1 h 20 min"]
    assert rows["jobs faster"] == ["33.3 %"]
    assert "Job by job against fifo" in result.stdout and "* best of its row" in result.stdout
    assert "\x1b" not in result.stdout and "\r" not in result.stdout


@pytest.mark.parametrize("columns", [80, 100, None])
def test_many_runs_fit_any_terminal(runs: list[Path], tmp_path: Path, columns: int | None) -> None:
    """Nine runs do not stand beside each other in 80 columns: more tables, and no figure is lost or cut."""
    names = [f"a-run-with-a-long-name-{n}" for n in range(9)]
    for n, name in enumerate(names):
        shutil.copytree(runs[n % 2], tmp_path / name)
    paths = [tmp_path / name for name in names]
    result = invoke(*paths, columns=columns)
    assert (result.exit_code, result.stderr) == (0, "")
    tables = result.stdout.rpartition("* best of its row")[0]
    lines = tables.splitlines()
    assert max(map(len, lines)) <= (columns or 140)
    assert all(line == line.rstrip() for line in lines)
    shown = {
        label: [cell for line in lines for row in [line.strip()] if row.startswith(f"{label}  ")
                for cell in re.split(r"\s{2,}", row)[1:]]
        for label in ("wait, mean", "finish-time rho, worst tenant", "jobs faster")
    }  # fmt: skip
    found = compare(open_runs(paths))
    expected = {
        row.label: [f"{cell} *" if i in row.best else cell for i, cell in enumerate(row.cells)]
        for section in sections(found)
        for row in section.rows
    }
    assert shown == {label: expected[label] for label in shown}
    assert len(expected["wait, mean"]) == 9


def test_runs_of_one_name_go_by_what_their_paths_do_not_share(runs: list[Path], tmp_path: Path) -> None:
    paths = [tmp_path / name / "run" for name in ("x", "y")]
    for path in paths:
        shutil.copytree(runs[0], path)
    found = json.loads(invoke(*paths, "--json").stdout)
    assert [one["run"] for one in found["runs"]] == ["x/run", "y/run"]
    assert [one["folder"] for one in found["runs"]] == list(map(str, paths))


def test_names_are_cut_only_where_they_stay_different(runs: list[Path], tmp_path: Path) -> None:
    names = ["philly-fifo-at-high-load", "philly-skip-at-high-load"]
    for path, name in zip(runs, names, strict=True):
        shutil.copytree(path, tmp_path / name)
    head = invoke(*(tmp_path / name for name in names)).stdout.splitlines()[1]
    assert head.split() == names


def test_as_json_it_is_what_is_computed(runs: list[Path]) -> None:
    result = invoke(*runs, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert found == compare(open_runs(runs))
    assert found["definitions"]["figures"]["wait_mean_s"]["unit"] == "s"


def test_a_page_is_written_whole_and_its_name_told_on_stderr(runs: list[Path], tmp_path: Path) -> None:
    result = invoke(*runs, "--html", tmp_path / "page.html", "--json")
    assert (result.exit_code, result.stderr) == (0, f"Wrote {tmp_path / 'page.html'}.\n")
    json.loads(result.stdout)
    page = (tmp_path / "page.html").read_text()
    assert page.startswith("<!doctype html>") and page.rstrip().endswith("</html>")
    assert "<title>test: fifo, fifo_skip</title>" in page
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_a_page_that_cannot_be_written_is_an_error(runs: list[Path], tmp_path: Path) -> None:
    result = invoke(*runs, "--html", tmp_path / "none" / "page.html")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "No such file or directory" in result.stderr


def test_what_is_wrong_is_told_at_once(runs: list[Path], tmp_path: Path) -> None:
    """The same folder twice by another name, a folder that is no run, one that is not there."""
    (tmp_path / "link").symlink_to(runs[0])
    (tmp_path / "empty").mkdir()
    result = invoke(runs[0], tmp_path / "link", tmp_path / "empty", tmp_path / "none")
    assert (result.exit_code, result.stdout) == (2, "")
    first, same, empty, none = result.stderr.splitlines()
    assert first == "Error: 3 problems:"
    assert same == f"  {tmp_path / 'link'}: is the same folder as {runs[0]}. Name every run once."
    assert "no usable manifest.json" in empty and empty.endswith("Name a folder written by `fleetsim run`.")
    assert "no such folder" in none


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_runs_are_refused(runs: list[Path], count: int) -> None:
    result = invoke(*runs[:count])
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"RUN: {count} given. Name two or more folders" in result.stderr


def test_runs_without_a_job_in_common_are_shown_but_not_paired(runs: list[Path], tmp_path: Path) -> None:
    """The figures of each stand; that nothing could be paired is an error a script can see."""
    other = run_of(tmp_path / "other", name="v")
    for form in ((), ("--json",)):
        result = invoke(runs[0], other, *form)
        assert result.exit_code == 2
        assert "2 h 20 min" in result.stdout or json.loads(result.stdout)["runs"][1]["figures"]["wait_mean_s"]
        assert "other has no job in common with fifo: not paired." in result.stdout
        assert result.stderr.startswith(
            "Error: 1 problem:\n  other: has no job in common with the baseline. "
        )


def test_a_truncated_run_says_how_to_read_its_waits(runs: list[Path], tmp_path: Path) -> None:
    short = run_of(tmp_path / "short", horizon="5h")
    result = invoke(runs[0], short)
    assert result.exit_code == 0
    assert "Jobs that never started have no wait" in result.stdout
    assert rows_of(result.stdout)["makespan"] == ["7 h", "-"]
