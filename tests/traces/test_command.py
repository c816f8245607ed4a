"""``fleetsim trace``: what a person or a script sees."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fleetsim.cli.main import Root
from fleetsim.cli.trace import trace as trace_group
from fleetsim_traces import READERS, read_trace
from fleetsim_traces.generate import generate_jobs
from fleetsim_traces.profile import profile
from fleetsim_traces.samples import SAMPLES, sample

root = Root("root", commands={"trace": trace_group})


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def invoke(runner: CliRunner, *words: object) -> Result:
    return runner.invoke(root, ["trace", *map(str, words)])


def test_list_names_every_format_and_sample(runner: CliRunner) -> None:
    result = invoke(runner, "list")
    assert result.exit_code == 0
    for name, reader in READERS.items():
        assert f"{name:<15}  {reader.about}" in result.output
    for name, about in SAMPLES.items():
        assert f"{name}  {about}" in result.output


@pytest.mark.parametrize("command", ["info", "generate", "list"])
def test_help_has_an_example(runner: CliRunner, command: str) -> None:
    result = invoke(runner, command, "--help")
    assert f"Example:\n    fleetsim trace {command}" in result.output


def test_info_of_a_sample_fits_the_width(runner: CliRunner) -> None:
    result = invoke(runner, "info", "philly-like-10k")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert all(len(line) <= 80 and line == line.rstrip() for line in lines)
    assert "GENERATED look-alike: no cluster ran these jobs" in lines
    assert "\x1b" not in result.output
    for words in (["jobs", "10,000"], ["tenants", "15,", "with", "140", "users"]):
        assert words in [line.split() for line in lines]
    assert " 8               204   2.0%" in result.output
    assert any(line.startswith(" Mon ") and "Sun" in line for line in lines)


def test_info_as_json_is_the_profile(runner: CliRunner) -> None:
    result = invoke(runner, "info", "philly-like-10k", "--json", "--zone", "Asia/Tokyo")
    assert json.loads(result.output) == profile(read_trace(sample("philly-like-10k")), zone="Asia/Tokyo")


def test_info_with_a_mapping_shows_what_was_left_out(runner: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("t,d,n,who\n0,7200,2,a\x1b[31m[red]b\n60,x,1,a\n")
    (tmp_path / "map.yaml").write_text("submit_s: t\nduration_s: d\ngpus: n\ntenant: who\n")
    mapped = ("info", tmp_path / "log", "--columns", tmp_path / "map.yaml")
    assert invoke(runner, *mapped).exit_code == 2
    result = invoke(runner, *mapped, "--bad-rows", "drop")
    assert result.exit_code == 0
    assert "1 of 2 rows" in result.output
    assert "1  duration_s is not a number" in result.output
    assert f"{tmp_path / 'log'}:3: duration_s is not a number: 'x'." in result.output.replace("\n ", " ")
    assert "a\ufffd[31m[red]b" in result.output  # shown, not obeyed
    assert "no date known" in result.output


def test_many_gpu_counts_go_into_powers_of_two(runner: CliRunner, tmp_path: Path) -> None:
    lines = [f"{n} 0 -1 3600 {n} -1 -1 -1 -1 -1 1 -1 -1 -1 -1 -1 -1 -1" for n in range(1, 21)]
    (tmp_path / "log").write_text("\n".join(lines))
    result = invoke(runner, "info", tmp_path / "log")
    found = {line.split()[0]: line.split()[1] for line in result.output.splitlines() if "%" in line}
    assert {k: found[k] for k in ("1", "2", "3-4", "5-8", "9-16", "17-32")} == {
        "1": "1", "2": "1", "3-4": "2", "5-8": "4", "9-16": "8", "17-32": "4",
    }  # fmt: skip


def test_a_file_goes_before_a_sample_of_its_name(
    runner: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("philly-like-10k").write_text("1 0 -1 5 4 -1 -1 4 -1 -1 1 -1 -1 -1 -1 -1 -1 -1\n")
    assert json.loads(invoke(runner, "info", "philly-like-10k", "--json").output)["jobs"] == 1
    missing = invoke(runner, "info", "nothing-here")
    assert missing.exit_code == 2
    assert "nothing-here: no such file. Bundled samples: philly-like-10k." in missing.output


def test_generate_writes_what_the_api_makes(runner: CliRunner, tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    words = (
        "--jobs",
        200,
        "--seed",
        4,
        "--start",
        "2025-06-01T00:00+02:00",
        "--jobs-per-day",
        50,
        "-o",
        path,
    )
    result = invoke(runner, "generate", *words)
    assert result.exit_code == 0
    assert result.output.startswith(f"Wrote 200 generated jobs to {path}")
    found = read_trace(path)
    assert found.epoch is not None
    made = generate_jobs(jobs=200, seed=4, start=found.epoch.astimezone(found.epoch.tzinfo), jobs_per_day=50)
    assert found.epoch.isoformat() == "2025-05-31T22:00:00+00:00"
    assert found.jobs["duration_s"].equals(made.jobs["duration_s"])


@pytest.mark.parametrize(
    "words",
    [("--jobs", 0), ("--family", "helios"), ("--seed", -1), ("--start", "soon"), ("--jobs-per-day", "nan")],
)
def test_generate_refuses(runner: CliRunner, tmp_path: Path, words: tuple[object, ...]) -> None:
    result = invoke(runner, "generate", *words, "-o", tmp_path / "out.parquet")
    assert result.exit_code == 2
    assert "Error" in result.output
    assert list(tmp_path.iterdir()) == []


def test_generate_into_nowhere(runner: CliRunner, tmp_path: Path) -> None:
    result = invoke(runner, "generate", "--jobs", 5, "-o", tmp_path / "none" / "out.parquet")
    assert result.exit_code == 1
    assert "No such file or directory" in result.output
