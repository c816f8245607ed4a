"""``fleetsim run`` of a sweep, and ``fleetsim sweep``: what people and scripts get, what Ctrl-C leaves."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from model.support import V100
from sweep_support import write

from fleetsim.cli import cli
from fleetsim.runfolder import open_run

LOAD, QUEUE = "workloads.w.load", "scheduler.queue"


def invoke(*words: object, columns: int | None = None) -> Result:
    env = {"COLUMNS": None if columns is None else str(columns), "NO_COLOR": None}
    return CliRunner().invoke(cli, list(map(str, words)), env=env)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three loads x two queues x two replications, run from the command line."""
    folder = tmp_path_factory.mktemp("swept")
    path = write(folder, {LOAD: [0.2, 2, 4], QUEUE: ["fifo_skip", "fifo"]}, 2)
    result = invoke("run", path, "-o", folder / "out", "--jobs", 2)
    assert result.exit_code == 0, result.output
    (folder / "said.txt").write_text(result.stdout)
    return folder / "out"


def rows_of(output: str) -> list[list[str]]:
    """Cells of the rows of all tables; cells stand two blanks apart."""
    cells = [re.split(r"\s{2,}", line.strip()) for line in output.splitlines()]
    return [row for row in cells if len(row) > 1]


def test_running_a_sweep_ends_with_its_table(swept: Path) -> None:
    said = (swept.parent / "said.txt").read_text()
    shown = invoke("sweep", swept).stdout
    assert said.startswith(shown)
    assert f"Wrote 12 runs to {swept}. See more with: fleetsim sweep {swept}" in said
    assert "small, 6 points x 2 replications" in shown
    rows = rows_of(shown)
    assert rows[0] == ["load", "queue", "allocated", "fleet MFU", "wait, mean", "energy at the meter (MWh)"]
    assert [row[:2] for row in rows[1:7]] == [
        [load, q] for load in ("0.2", "2", "4") for q in ("fifo_skip", "fifo")
    ]
    assert all(re.fullmatch(r"[\d.]+ ± [\d.]+ %", row[2]) for row in rows[1:7])
    assert "Difference from load-0.2_queue-fifo_skip, replication by replication" in shown
    assert "By generation: allocated" in shown and ["load", "queue", "Volta", "Ampere"] in rows
    assert "\x1b" not in shown


@pytest.mark.parametrize("columns", [60, 80, None])
def test_no_figure_is_cut_on_any_terminal(swept: Path, columns: int | None) -> None:
    figures = [
        word
        for name in ("allocated", "wait_mean_s", "jct_p95_s", "energy_mwh")
        for word in ("--figure", name)
    ]
    result = invoke("sweep", swept, *figures, columns=columns)
    tables = result.stdout.rpartition("Every figure")[0]
    rows = [line for line in tables.splitlines() if line.startswith(" ")]
    assert max(map(len, rows)) <= (columns or 140)
    found = json.loads(invoke("sweep", swept, *figures, "--json").stdout)
    assert "…" not in tables
    assert tables.count(" ± ") >= sum(
        f["high"] is not None for point in found["points"] for f in point["figures"].values()
    )


def test_as_json_it_has_every_figure_with_its_definition(swept: Path) -> None:
    result = invoke("sweep", swept, "--json", "--break-even", "load", "--last", "2d")
    assert result.stderr == ""
    found = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert set(found["points"][0]["figures"]) == set(found["definitions"]["figures"])
    assert "Student" in found["definitions"]["interval"]
    even = found["break_even"]
    assert (even["axis"], even["threshold"], even["last"], even["window_start_s"]) == (
        LOAD,
        0.05,
        "2d",
        172800.0,
    )
    assert {(row["generation"], row["values"][QUEUE]) for row in even["rows"]} == {
        (generation, queue) for generation in ("Volta", "Ampere") for queue in ("fifo", "fifo_skip")
    }
    assert all(sum(row[k] for k in ("crosses", "below", "above", "retired")) == 2 for row in even["rows"])


def test_as_csv_it_has_a_row_for_each_point_or_generation(swept: Path) -> None:
    points = list(
        csv.DictReader(io.StringIO(invoke("sweep", swept, "--csv", "--figure", "allocated").stdout))
    )
    assert list(points[0])[:7] == [
        "point", LOAD, QUEUE, "allocated_mean", "allocated_low", "allocated_high", "allocated_runs"
    ]  # fmt: skip
    found = json.loads(invoke("sweep", swept, "--json", "--figure", "allocated").stdout)["points"]
    assert [float(row["allocated_mean"]) for row in points] == [
        p["figures"]["allocated"]["mean"] for p in found
    ]
    even = list(csv.DictReader(io.StringIO(invoke("sweep", swept, "--csv", "--break-even", LOAD).stdout)))
    assert len(even) == 4 and even[0][QUEUE] == "fifo_skip" and even[0]["replications"] == "2"


def test_break_even_says_plainly_what_it_found(swept: Path) -> None:
    shown = invoke("sweep", swept, "--break-even", "load", "--last", "2d").stdout
    assert "Where generations stop being used, along workloads.w.load" in shown
    rows = rows_of(shown.partition("Where generations")[2])
    assert rows[0] == ["queue", "generation", "stops at load", "in runs", "the other runs"]
    assert len([row for row in rows if row[1:2] in (["Volta"], ["Ampere"])]) == 4
    flat = " ".join(shown.split())
    assert "Not used: allocated / installed GPU hours over the last 2d (whole periods: from 2 d after" in flat
    assert "below 5 %" in flat
    never = invoke("sweep", swept, "--break-even", "load", "--threshold", "1").stdout
    assert "2 not used at the highest level (above 4)" in never
    always = invoke("sweep", swept, "--break-even", "load", "--threshold", "1e-9").stdout
    assert "2 used at every level (below 0.2)" in always


def test_charts_are_written(swept: Path, tmp_path: Path) -> None:
    page, picture = tmp_path / "s.html", tmp_path / "s.png"
    result = invoke("sweep", swept, "--html", page, "--png", picture, "--axis", "load", "--json")
    assert result.exit_code == 0
    assert result.stderr == f"Wrote {page}.\nWrote {picture}.\n"
    json.loads(result.stdout)
    assert "<h1>small, along workloads.w.load</h1>" in page.read_text()
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--threshold", "0.1"], "--threshold goes with --break-even"),
        (["--last", "1d"], "--last goes with --break-even"),
        (["--tiers"], "--tiers goes with --break-even"),
        (["--axis", "load"], "--axis goes with --html or --png"),
        (["--json", "--csv"], "take one"),
        (["--csv", "--figure", "allocated", "--break-even", "load"], "leave --figure or --break-even out"),
        (["--figure", "alocated"], "no figure 'alocated'. Did you mean allocated"),
        (["--break-even", "queue"], "axis scheduler.queue: has no two numbers"),
        (["--break-even", "lod"], "'lod' is no axis of the sweep. Axes are: load, queue."),
        (["--break-even", "load", "--last", "soon"], "--last: 'soon' is not a duration"),
        (["--break-even", "load", "--last", "0d"], "--last: '0d' is not longer than zero"),
        (["--break-even", "load", "--threshold", "0"], "--threshold"),
    ],
)
def test_options_that_mean_nothing_are_refused(swept: Path, words: list[str], said: str) -> None:
    result = invoke("sweep", swept, *words)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split()), result.stderr


def test_a_sweep_is_not_a_run_and_a_run_is_not_a_sweep(swept: Path) -> None:
    inside = [swept / "load-2_queue-fifo_r0", swept / "load-2_queue-fifo_skip_r0"]
    for words in (["show", swept], ["query", swept, "SELECT 1"], ["compare", swept, inside[0]]):
        result = invoke(*words)
        assert result.exit_code == 2
        assert f"is a sweep: a folder of runs. See it with `fleetsim sweep {swept}`" in result.stderr
    result = invoke("run", "philly-small", "-o", swept, "--force")
    assert result.exit_code == 2 and f"{swept}: is not a run" in result.stderr
    result = invoke("sweep", inside[0])
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"is one run. See it with `fleetsim show {inside[0]}`" in result.stderr
    assert invoke("show", inside[0]).exit_code == 0
    compared = invoke("compare", *inside)
    assert compared.exit_code == 0 and "jobs paired" in compared.stdout


def test_again_it_does_nothing_and_a_change_is_refused(swept: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in swept.glob("*/manifest.json")}
    path = swept.parent / "small.yaml"
    assert invoke("run", path, "-o", swept, "-q").exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in swept.glob("*/manifest.json")} == before
    result = invoke("run", path, "-o", swept, "--seed", 8)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "12 problems" in result.stderr and "differs in seed. Replace it with --force" in result.stderr
    assert {path: path.stat().st_mtime_ns for path in swept.glob("*/manifest.json")} == before


def test_runs_that_fail_are_named_and_the_exit_code_is_1(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    workloads = [{"name": "w", "trace": "philly-like-10k", "reference_gpu": V100}]
    path = write(tmp_path, {"workloads.w.trace": ["philly-like-10k", "bad.csv"]}, workloads=workloads)
    result = invoke("run", path, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "Runs that failed\n  trace-bad.csv_r0: " in result.stdout and "bad.csv" in result.stdout
    assert result.stderr.endswith("Error: 1 of 2 runs failed\n")
    quiet = invoke("run", path, "-o", tmp_path / "out", "-q")
    assert (quiet.exit_code, quiet.stdout) == (1, "")
    assert "Error: 1 of 2 runs failed\n  trace-bad.csv" in quiet.stderr
    assert invoke("sweep", tmp_path / "out").exit_code == 0


def test_validate_checks_every_point(swept: Path, tmp_path: Path) -> None:
    path = swept.parent / "small.yaml"
    assert "a sweep of 12 runs at 6 points, all valid" in invoke("scenario", "validate", path).stdout
    assert json.loads(invoke("scenario", "validate", path, "--json").stdout)["runs"] == 12
    result = invoke("scenario", "validate", write(tmp_path, {LOAD: [1, -1]}))
    assert result.exit_code == 2 and "axes.workloads.w.load = -1" in result.stderr


def of_session(number: int) -> list[str]:
    """The processes of a session, as numbers."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            facts = path.read_text().rpartition(")")[2].split()  # state, parent, group, session
        except OSError:
            continue
        if int(facts[3]) == number:
            found.append(path.parent.name)
    return found


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_whole_runs_only(tmp_path: Path, how: signal.Signals) -> None:
    """Nothing half-written, no process; and when run again the sweep goes on from there."""
    workloads = [{"name": "w", "generate": {"family": "philly", "jobs": 20_000}, "reference_gpu": V100}]
    path = write(tmp_path, {LOAD: [n / 10 for n in range(5, 35)]}, workloads=workloads, horizon="60d")
    out = tmp_path / "out"
    words = [sys.executable, "-m", "fleetsim", "run", str(path), "-o", str(out), "--jobs", "2"]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not list(out.glob("load*/manifest.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does
    else:
        process.send_signal(how)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (1, "")
    assert "Aborted!" in stderr and "Traceback" not in stderr
    while of_session(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert of_session(process.pid) == []
    names = {path.name for path in out.iterdir()}
    assert {"sweep.json", "sweep.parquet", "generations.parquet"} < names
    done = names - {"sweep.json", "sweep.parquet", "generations.parquet"}
    assert 0 < len(done) < 30 and not any(name.startswith(".") for name in done)
    for name in done:
        open_run(out / name)
    said = json.loads((out / "sweep.json").read_text())
    assert {run["folder"] for run in said["runs"] if run["status"] == "done"} <= done
    assert "of 30 runs are missing" in invoke("sweep", out).stdout


def test_progress_goes_to_stderr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleetsim.cli.console.PROGRESS_AFTER_S", 0.0)
    monkeypatch.setattr("fleetsim.cli.console.LINE_EVERY_S", 0.0)
    path = write(tmp_path, {LOAD: [1, 2]})
    result = invoke("run", path, "-o", tmp_path / "out", "--jobs", 1, "--json")
    json.loads(result.stdout)
    assert re.search(r" 50%  1 of 2 runs done, 1 running  ETA \d", result.stderr)
    assert "2 of 2 runs done, 0 running\n" in result.stderr
    assert re.search(r"Checking points .* 1 of 2\n", result.stderr)
    assert invoke("run", path, "-o", tmp_path / "quiet", "--jobs", 1, "-q").stderr == ""
