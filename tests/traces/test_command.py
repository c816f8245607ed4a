"""``fleetsim trace``: what a person or a script sees."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fleetsim.cli import cli, trace_input
from fleetsim.cli.main import Root
from fleetsim.cli.trace import trace as trace_group
from fleetsim_traces import READERS, pieces, read_trace
from fleetsim_traces.generate import FAMILIES, generate_jobs
from fleetsim_traces.parameters import load_family
from fleetsim_traces.profile import profile
from fleetsim_traces.request_profile import request_profile
from fleetsim_traces.request_reading import REQUEST_READERS, read_requests
from fleetsim_traces.samples import SAMPLES, sample

root = Root("root", commands={"trace": trace_group})


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def invoke(runner: CliRunner, *words: object) -> Result:
    return runner.invoke(root, ["trace", *map(str, words)])


def test_list_names_every_format_family_and_sample(runner: CliRunner) -> None:
    result = invoke(runner, "list")
    assert result.exit_code == 0
    shown = [line.split(maxsplit=1) for line in result.output.splitlines()]
    known = {name: reader.about for name, reader in READERS.items()}
    for name, about in [*known.items(), *((name, reader.about) for name, reader in REQUEST_READERS.items())]:
        assert [name, about] in shown
    for name, about in SAMPLES.items():
        assert [name, about] in shown
    found = json.loads(invoke(runner, "list", "--json").output)
    assert set(found["jobs"]) == set(READERS)
    assert set(found["requests"]) == set(REQUEST_READERS)
    assert (set(found["samples"]), found["families"]) == (set(SAMPLES), list(FAMILIES))


@pytest.mark.parametrize("command", trace_group.commands)
def test_help_has_an_example_and_a_short_line(runner: CliRunner, command: str) -> None:
    result = invoke(runner, command, "--help")
    assert f"Example:\n    fleetsim trace {command}" in result.output
    short = next(line for line in invoke(runner, "--help").output.splitlines() if f"  {command} " in line)
    assert not short.endswith("...")


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
    assert "nothing-here: no such file. Bundled samples: philly-like-10k" in missing.output


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
    [("--jobs", 0), ("--family", "atlantis"), ("--seed", -1), ("--start", "soon"), ("--jobs-per-day", "nan")],
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


@pytest.fixture
def log(tmp_path: Path) -> tuple[Path, str, Path]:
    """A log of four jobs with a fault, and its mapping."""
    (tmp_path / "log").write_text("t,d,n,who\n0,3600,2,a\n100,-1,1,a\x1b[31m\n200,60,1,b\n3600,3600,4,a\n")
    (tmp_path / "map.yaml").write_text("submit_s: t\nduration_s: d\ngpus: n\ntenant: who\n")
    return tmp_path / "log", "--columns", tmp_path / "map.yaml"


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    """Two hours of requests to two services, prefixes and failures among them."""
    lines = []
    for i in range(1000):
        service, status = "chat" if i % 3 else "code", "ok" if i % 5 else "failed"
        lines.append(f"{i * 7.25},{service},t{i % 4},{i % 900},{i % 5},{status}")
    head = "arrival_s,service,tenant,prompt_tokens,output_tokens,status\n"
    (tmp_path / "requests.csv").write_text(head + "\n".join(lines))
    return tmp_path / "requests.csv"


def test_info_of_requests_fits_the_width(runner: CliRunner, requests: Path) -> None:
    result = invoke(runner, "info", requests)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert all(len(line) <= 80 and line == line.rstrip() for line in lines)
    assert " requests  1,000" in lines
    assert " rate      0.138 requests/s; 0.137 to 0.14 in any 5 m" in lines
    assert " tokens    409,500 prompt, 2,000 output; 200 requests without output" in lines
    for words in (["chat", "666", "66.6%"], ["failed", "200", "20.0%"], ["t0", "250", "25.0%"]):
        assert any(line.split()[:3] == words for line in lines), words
    assert any(line.startswith(" variance/mean of counts") for line in lines)


def test_info_of_requests_as_json_is_the_profile(runner: CliRunner, requests: Path) -> None:
    found = json.loads(invoke(runner, "info", requests, "--json").output)
    assert found == request_profile(read_requests(requests))
    assert found["tokens"]["output"] == {
        "known": 1000, "zero": 200, "sum": 2000.0, "mean": 2.0,
        "p5": 0.0, "p25": 1.0, "p50": 2.0, "p75": 3.0, "p90": 4.0, "p95": 4.0, "p99": 4.0, "max": 4.0,
    }  # fmt: skip
    assert found["tokens"]["reasoning"] is None
    assert found["burstiness"]["gap_cv"] == pytest.approx(0, abs=1e-9)
    assert sum(found["by_hour"]["counts"]) == 1000
    assert invoke(runner, "info", requests, "--zone", "Mars/Olympus").exit_code == 2


def test_info_of_one_request(runner: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "r").write_text("arrival_s,prompt_tokens,output_tokens\n5,1,2\n")
    result = invoke(runner, "info", tmp_path / "r")
    assert result.exit_code == 0, result.output
    assert "no time between them" in result.output


def test_info_of_shared_prefixes_and_drawn_requests(runner: CliRunner, tmp_path: Path) -> None:
    keys = '"timestamp": 0, "input_length": 1000, "output_length": 5, "hash_ids"'
    (tmp_path / "m").write_text(f"{{{keys}: [1, 2]}}\n{{{keys}: [1, 3]}}\n")
    assert "prefixes  25.0% of 4 blocks seen before" in invoke(runner, "info", tmp_path / "m").output
    (tmp_path / "chunk-0-trace.csv").write_text("0,1,1,Gamma,1,1\n")
    law = {"0": {"input_tokens": "{10: 1.0}", "output_tokens": "{20: 1.0}"}}
    (tmp_path / "chunk-0-dataset.json").write_text(json.dumps(law))
    assert "GENERATED: no service answered" in invoke(runner, "info", tmp_path).output


def test_convert_writes_what_reading_gives(
    runner: CliRunner, log: tuple[Path, str, Path], requests: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.parquet"
    refused = invoke(runner, "convert", *log, "-o", output)
    assert (refused.exit_code, output.exists()) == (2, False)
    assert "1 of 4 rows cannot be used (duration_s is negative: 1)" in refused.output
    result = invoke(runner, "convert", *log, "-o", output, "--bad-rows", "drop")
    assert result.exit_code == 0
    assert result.output.startswith(f"Wrote 3 jobs to {output} (")
    assert "left out 1: duration_s is negative" in result.output
    assert read_trace(output).jobs["duration_s"].to_pylist() == [3600, 60, 3600]
    assert invoke(runner, "convert", requests, "-o", output).exit_code == 0
    assert read_requests(output).requests.equals(read_requests(requests).requests)
    again = invoke(runner, "convert", "philly-like-10k", "-o", output)
    assert again.output.startswith("Wrote 10,000 generated jobs")
    assert read_trace(output).generated


def test_convert_into_nowhere(runner: CliRunner, requests: Path, tmp_path: Path) -> None:
    result = invoke(runner, "convert", requests, "-o", tmp_path / "none" / "out.parquet")
    assert result.exit_code == 1
    assert "No such file or directory" in result.output


def test_validate(runner: CliRunner, log: tuple[Path, str, Path], requests: Path) -> None:
    result = invoke(runner, "validate", *log, "--gpus", 12)
    assert result.exit_code == 2
    assert f"{log[0]}:3: duration_s is negative: '-1'." in result.output
    assert "3 of 4 rows can be used as jobs (generic), over 1 h" in result.output
    assert "6 GPU-hours, 6.0 GPUs busy if nothing waits: an offered load of 0.501 on 12 GPUs" in result.output
    found = json.loads(invoke(runner, "validate", *log, "--json").output)
    assert found["rejected"] == {"duration_s is negative": 1}
    assert found["problems"][0]["place"] == f"{log[0]}:3"
    good = invoke(runner, "validate", requests)
    assert good.exit_code == 0
    assert good.output.endswith("note: 200 requests have no output token; they are kept.\n")
    assert "411,500 tokens of prompts and outputs" in good.output
    assert invoke(runner, "validate", requests, "--gpus", 5).exit_code == 2
    assert json.loads(invoke(runner, "validate", "philly-like-10k", "--json").output)["offered_load"] is None


def test_sample(runner: CliRunner, requests: Path, tmp_path: Path) -> None:
    output = tmp_path / "part.parquet"
    result = invoke(runner, "sample", "philly-like-10k", "-n", 50, "--seed", 3, "-o", output)
    assert (result.exit_code, read_trace(output).jobs.num_rows) == (0, 50)
    assert result.output.startswith(f"Wrote 50 jobs to {output} (")
    window = ("--from", "2024-01-08T00:00Z", "--to", "2024-01-09T00:00Z")
    assert invoke(runner, "sample", "philly-like-10k", *window, "-o", output).exit_code == 0
    submit_s = read_trace(output).jobs["submit_s"].to_pylist()
    assert min(submit_s) >= 7 * 86400
    assert max(submit_s) < 8 * 86400
    assert invoke(runner, "sample", requests, "--to", "100", "-n", 5, "-o", output).exit_code == 0
    assert max(read_requests(output).requests["arrival_s"].to_pylist()) < 100
    for words in (("-n", 10**6), ("--from", "soon"), ("--from", "2024-01-08"), ("--from", "1e12"), ()):
        assert invoke(runner, "sample", "philly-like-10k", *words, "-o", output).exit_code == 2


def test_fit_and_generate_from_it(runner: CliRunner, requests: Path, tmp_path: Path) -> None:
    family, output = tmp_path / "ours.yaml", tmp_path / "jobs.parquet"
    result = invoke(runner, "fit", "philly-like-10k", "--about", "a look-alike", "--check", "-o", family)
    assert result.exit_code == 0, result.output
    assert "GPUs of a job: Kolmogorov-Smirnov" in result.output
    assert result.output.endswith(f"Wrote the parameters of 10,000 jobs to {family}.\n")
    assert load_family(family).about == "a look-alike"
    assert invoke(runner, "fit", "philly-like-10k", "--about", "a look-alike").output == family.read_text()
    report = json.loads(invoke(runner, "fit", "philly-like-10k", "--json", "-o", family).output)
    assert report["measures"]["jobs_per_day"]["distance"] < 0.05
    assert invoke(runner, "generate", "--family", family, "--jobs", 60, "-o", output).exit_code == 0
    assert read_trace(output).jobs.num_rows == 60
    load = ("--days", 5, "--load", 0.5, "--gpus", 64)
    assert invoke(runner, "generate", "--family", family, *load, "-o", output).exit_code == 0
    assert "requests, and only jobs can be fitted" in invoke(runner, "fit", requests).output
    assert invoke(runner, "fit", "philly-like-10k", "--check").exit_code == 2


def test_progress_of_a_long_conversion(
    runner: CliRunner, requests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace_input, "PROGRESS_AFTER_S", -1.0)
    monkeypatch.setattr(trace_input, "LINE_EVERY_S", -1.0)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 10_000)
    result = invoke(runner, "convert", requests, "-o", tmp_path / "out.parquet")
    assert f"Converting {requests}: 100% of 0 MB" in result.stderr
    assert result.stdout.startswith("Wrote 1,000 requests")


def test_nothing_of_a_file_is_obeyed(runner: CliRunner, log: tuple[Path, str, Path]) -> None:
    log[0].write_text(log[0].read_text().replace("-1", "\x1b[2J"))
    for command in ("info", "validate"):
        assert "\x1b" not in invoke(runner, command, *log).output


def test_generate_makes_requests_that_info_reads(runner: CliRunner, tmp_path: Path) -> None:
    """The same seed gives the same file; options of jobs are refused; so is an unknown family."""
    words = ["trace", "generate", "--family", "azure-conv", "--requests", "500", "--seed", "3", "-o"]
    for name in ("a.parquet", "b.parquet"):
        made = runner.invoke(cli, [*words, str(tmp_path / name)])
        assert made.exit_code == 0 and "Wrote 500 generated requests" in made.output
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    facts = json.loads(runner.invoke(cli, ["trace", "info", str(tmp_path / "a.parquet"), "--json"]).stdout)
    assert facts["requests"] == 500
    refused = runner.invoke(cli, [*words, str(tmp_path / "c.parquet"), "--load", "0.5"])
    assert refused.exit_code == 2 and "--load: for jobs" in refused.output
    words[3] = "azure-chat"
    unknown = runner.invoke(cli, [*words, str(tmp_path / "c.parquet")])
    assert unknown.exit_code == 2 and "azure-conv" in unknown.output
    assert not (tmp_path / "c.parquet").exists()


def test_info_draws_jobs_and_says_that_it_draws_no_requests(runner: CliRunner, tmp_path: Path) -> None:
    """A page that loads nothing from anywhere, and a picture; the figures stay on stdout alone."""
    page, picture = tmp_path / "p.html", tmp_path / "p.png"
    words = ["trace", "info", "philly-like-10k", "--html", str(page), "--png", str(picture), "--gpus", "400"]
    drawn = runner.invoke(cli, [*words, "--json"])
    assert drawn.exit_code == 0
    assert json.loads(drawn.stdout)["jobs"] == 10_000
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert page.read_text("utf-8").lstrip().lower().startswith("<!doctype html>")
    requests = tmp_path / "r.parquet"
    runner.invoke(
        cli, ["trace", "generate", "--family", "azure-conv", "--requests", "50", "-o", str(requests)]
    )
    refused = runner.invoke(cli, ["trace", "info", str(requests), "--html", str(tmp_path / "no.html")])
    assert refused.exit_code == 2 and "only jobs are drawn" in refused.output
    assert not (tmp_path / "no.html").exists()


SACCT = "JobID|Submit|Start|End|State|AllocTRES|ElapsedRaw\n" + "".join(
    f"{i}|2024-07-01T12:{i // 6:02}:{i % 6}0|2024-07-01T12:{i // 6:02}:{i % 6}0|"
    f"2024-07-01T14:00:00|COMPLETED|"
    f"gres/gpu={1 + i % 2}|{3600 + i}\n"
    for i in range(300)
)
BERLIN = ("--zone", "Europe/Berlin")


@pytest.fixture
def accounting(tmp_path: Path) -> Path:
    path = tmp_path / "sacct.txt"
    path.write_text(SACCT)
    return path


@pytest.mark.parametrize("words", [["convert"], ["sample", "-n", "2"]])
def test_times_of_accounting_are_read_in_the_zone_given(
    runner: CliRunner, accounting: Path, tmp_path: Path, words: list[str]
) -> None:
    for zone, hour in (((), 12), (BERLIN, 10)):
        result = invoke(runner, *words, accounting, *zone, "-o", tmp_path / "jobs.parquet")
        assert result.exit_code == 0, result.output
        epoch = read_trace(tmp_path / "jobs.parquet").epoch
        assert epoch is not None
        assert epoch.hour == hour


def test_the_zone_is_that_of_times_read_and_of_hours_shown(runner: CliRunner, accounting: Path) -> None:
    assert json.loads(invoke(runner, "validate", accounting, *BERLIN, "--json").output)["epoch"] == (
        "2024-07-01T10:00:00+00:00"
    )
    found = json.loads(invoke(runner, "info", accounting, *BERLIN, "--json").output)
    assert found["epoch"].startswith("2024-07-01T10:00:00")
    hours = found["arrivals"]["by_hour"]
    assert hours[12] == max(hours) > 0
    assert invoke(runner, "fit", accounting, *BERLIN, "-o", accounting.with_name("f.yaml")).exit_code == 0


def test_a_zone_that_is_none_or_of_no_use_is_refused(
    runner: CliRunner, accounting: Path, tmp_path: Path
) -> None:
    result = invoke(runner, "convert", accounting, "--zone", "Europe/Berlni", "-o", tmp_path / "o")
    assert result.exit_code == 2
    assert "Did you mean Europe/Berlin?" in result.output
    result = invoke(runner, "convert", "philly-like-10k", *BERLIN, "-o", tmp_path / "o")
    assert result.exit_code == 2
    assert "format jobs has no such option" in result.output
    (tmp_path / "any.csv").write_text("submit_s,duration_s,gpus\n0,1,1\n")
    result = invoke(runner, "validate", tmp_path / "any.csv", *BERLIN)
    assert result.exit_code == 2
    assert "Say it in the mapping" in result.output


def test_a_folder_of_pai_tables_is_read_by_every_command(runner: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "pai_task_table.csv").write_text(
        "j1,worker,2.0,Terminated,100.0,160.0,600.0,29.3,50.0,MISC\n"
        "j2,worker,1.0,Terminated,110.0,170.0,600.0,29.3,200.0,MISC\n"
    )
    target = tmp_path / "o" / "jobs.parquet"
    target.parent.mkdir()
    for words in (["info"], ["validate"], ["convert", "-o", target], ["sample", "-n", "1", "-o", target]):
        result = invoke(runner, words[0], tmp_path, *words[1:])
        assert result.exit_code == 0, result.output
    assert read_trace(target).format == "pai"
    result = invoke(runner, "info", target.parent)
    assert result.exit_code == 2
    assert "a folder, not a file" in result.output
