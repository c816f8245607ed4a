"""The command line: what a person reads, what a script gets, the exit code, and what strangers cannot do."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import polars as pl
import pytest
from click.testing import CliRunner, Result
from model.support import A100, V100, Job, cohort, text, trace, workload

import fleetsim.summary
from fleetsim import __version__, scenario
from fleetsim.cli import cli
from fleetsim.runfolder import open_run
from fleetsim.schema import TABLES
from fleetsim.summary import summarise
from fleetsim_traces import write_jobs

HOUR_S = 3600.0
COMMAND = (sys.executable, "-m", "fleetsim")

#: Two A100 and two V100 for ten hours; two jobs of red on the A100, the second waits for the first.
JOBS = [
    Job(0, 4 * HOUR_S, 2, tenant="red", gpu_model=A100),
    Job(1 * HOUR_S, 2 * HOUR_S, 2, tenant="blue", workload_class="interactive", gpu_model=V100),
    Job(2 * HOUR_S, 2 * HOUR_S, 2, tenant="red", gpu_model=A100),
    Job(3 * HOUR_S, HOUR_S, 3, tenant="red"),
]
FLEET = [
    cohort(A100, gpus_per_node=2, name="new"),
    cohort(V100, gpus_per_node=2, name="old", delivered="-3y"),
]


def invoke(runner: CliRunner, *words: object, columns: int | None = None, **more: Any) -> Result:
    env = {"COLUMNS": None if columns is None else str(columns), "NO_COLOR": None}
    return runner.invoke(cli, list(map(str, words)), env=env, **more)


def write_scenario(folder: Path, jobs: list[Job], **more: Any) -> Path:
    write_jobs(trace(jobs), folder / "t.parquet")
    given = {"horizon": "10h", "question": "Who waits for whom?", **more}
    (folder / "mine.yaml").write_text(text(FLEET, [workload(trace="t.parquet")], **given))
    return folder / "mine.yaml"


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scenario of one's own, with its trace beside it."""
    return write_scenario(tmp_path_factory.mktemp("mine"), JOBS)


@pytest.fixture(scope="module")
def run(mine: Path) -> Path:
    """A run of it, only to be read."""
    result = invoke(CliRunner(), "run", mine, "-o", mine.parent / "run")
    assert result.exit_code == 0, result.output
    return mine.parent / "run"


# Help


def commands(command: click.Command = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command and group, as words."""
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


def command_at(path: tuple[str, ...]) -> click.Command:
    found: click.Command = cli
    for name in path:
        assert isinstance(found, click.Group)
        found = found.commands[name]
    return found


def examples(path: tuple[str, ...]) -> list[list[str]]:
    """The commands under "Example:" in the help at *path*, as words without the pipes behind them."""
    help_ = invoke(CliRunner(), *path, "--help").stdout
    _, sign, shown = help_.partition("Example:\n")
    shown = shown.partition("\n\n")[0] if sign else ""
    lines = [line.strip() for line in shown.splitlines() if line.strip().startswith("fleetsim ")]
    return [shlex.split(re.split(r" [|>] ", line)[0])[1:] for line in lines]


ALL = sorted(commands())


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_help_says_what_it_does_with_an_example(runner: CliRunner, path: tuple[str, ...]) -> None:
    result = invoke(runner, *path, "--help")
    assert (result.exit_code, result.stderr) == (0, "")
    assert invoke(runner, *path, "-h").stdout == result.stdout
    shown = examples(path)
    assert shown, "no example"
    assert shown[0][: len(path)] == list(path), "of another command"


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_option_is_explained(path: tuple[str, ...]) -> None:
    for parameter in command_at(path).params:
        if isinstance(parameter, click.Option):
            assert parameter.help and parameter.help.endswith((".", "]")), parameter.name


@pytest.mark.parametrize(
    "words", [pytest.param(words, id=" ".join(words)) for path in ALL for words in examples(path)]
)
def test_every_example_is_a_command_that_exists(words: list[str]) -> None:
    """Its options and arguments are the command's; what it overrides is in the scenario that it names."""
    command: click.Command = cli
    rest = words
    while isinstance(command, click.Group):
        command, rest = command.commands[rest[0]], rest[1:]
    with command.make_context("example", rest, resilient_parsing=False) as context:
        name = context.params.get("scenario") or context.params.get("name")
        if name in scenario.bundled():
            scenario.read(name, context.params.get("overrides", ()))


def test_every_line_of_help_fits_a_terminal(runner: CliRunner) -> None:
    for path in ALL:
        for line in invoke(runner, *path, "--help", columns=80).stdout.splitlines():
            assert len(line) <= 110, (path, line)  # examples are not wrapped


def test_help_of_every_command_loads_nothing_heavy() -> None:
    """It must be instant: no table library, no simulator, not even numpy; for no command."""
    heavy = ("polars", "pyarrow", "simpy", "numpy", "pydantic", "rich.table", "yaml")
    code = f"""
import sys
from click.testing import CliRunner
from fleetsim.cli import cli
for path in {ALL!r}:
    assert CliRunner().invoke(cli, [*path, "--help"]).exit_code == 0
assert CliRunner().invoke(cli, ["--version"]).exit_code == 0
print([name for name in {heavy!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_version_and_the_module(runner: CliRunner) -> None:
    assert invoke(runner, "--version").stdout == f"fleetsim {__version__}\n"
    done = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"fleetsim {__version__}\n"


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (("rum",), "No such command 'rum'"),
        (("run",), "Missing argument 'SCENARIO'"),
        (("run", "philly-small"), "Missing option '-o' / '--output'"),
        (("run", "philly-small", "-o", "x", "--seed", "-1"), "-1 is not in the range"),
        (("run", "philly-small", "-o", "x", "--sed", "3"), "No such option"),
        (("run", "philly-small", "-o", "x", "--traces", "no-such-folder"), "'no-such-folder' does not exist"),
        (("query", "runs/x"), "Missing argument 'SQL'"),
        (("query", "runs/x", "SELECT 1", "--format", "xml"), "'xml' is not one of"),
    ],
)
def test_wrong_usage_is_exit_2(runner: CliRunner, words: tuple[str, ...], fragment: str) -> None:
    result = invoke(runner, *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert fragment in result.stderr
    assert "Usage: " in result.stderr


# run


def test_run_prints_the_summary_and_nothing_else(runner: CliRunner, mine: Path, tmp_path: Path) -> None:
    """On stdout, without colours or progress in a pipe; figures are those of the run (by hand above)."""
    result = invoke(runner, "run", mine, "-o", tmp_path / "r")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "\x1b" not in result.stdout and "\r" not in result.stdout
    lines = result.stdout.splitlines()
    assert lines[0].startswith("test") and "2026-01-01" in lines[0] and "10 h" in lines[0]
    assert "Who waits for whom?" in lines
    assert "queue fifo" in result.stdout and "seed 0" in result.stdout
    allocated = next(line for line in lines if line.strip().startswith("allocated"))
    assert "40.0 %" in allocated  # (2 x 4 + 2 x 2 + 2 x 2) of 40 GPU hours
    productive = next(line for line in lines if line.strip().startswith("productive"))
    assert "31.5 %" in productive  # (12 x 0.95 + 4 x 0.3) of 40
    assert "11.7 %" in next(line for line in lines if "MFU" in line)  # (11.4 x 0.4 + 1.2 x 0.1) of 40
    assert "5.0 %" in next(line for line in lines if line.strip().startswith("idle"))  # 2 V100, from 3 to 4 h
    assert "4 submitted" in result.stdout and "3 completed" in result.stdout
    assert "1 larger than any pool" in result.stdout
    assert f"fleetsim show {tmp_path / 'r'}" in lines[-1]


def test_run_says_what_was_generated_and_what_left_out(runner: CliRunner, tmp_path: Path) -> None:
    made = {"name": "made", "generate": {"jobs": 300}, "reference_gpu": A100, "select": {"max_gpus": 1}}
    (tmp_path / "s.yaml").write_text(text(FLEET, [made], horizon="1h"))
    result = invoke(runner, "run", tmp_path / "s.yaml", "-o", tmp_path / "r")
    assert result.exit_code == 0
    assert re.search(r"[Gg]enerated.*made", result.stdout)
    left_out = open_run(tmp_path / "r").manifest["sources"]["made"]["left_out"]
    assert "not selected" in left_out
    for reason, count in left_out.items():
        assert f"{count:,} {reason}" in result.stdout


def test_run_as_json_is_show_as_json(runner: CliRunner, mine: Path, tmp_path: Path) -> None:
    made = invoke(runner, "run", mine, "-o", tmp_path / "r", "--json")
    assert (made.exit_code, made.stderr) == (0, "")
    shown = invoke(runner, "show", tmp_path / "r", "--json")
    assert json.loads(made.stdout) == json.loads(shown.stdout) == summarise(open_run(tmp_path / "r"))


def test_quiet_says_nothing(runner: CliRunner, mine: Path, tmp_path: Path) -> None:
    result = invoke(runner, "run", mine, "-o", tmp_path / "r", "-q")
    assert (result.exit_code, result.output) == (0, "")
    assert open_run(tmp_path / "r").manifest["jobs"] == 4


def test_seed_and_set_go_into_the_run(runner: CliRunner, mine: Path, tmp_path: Path) -> None:
    words = ("--seed", 7, "--set", "cohorts.old.nodes=3", "--set", "scheduler.queue=fifo_skip")
    assert invoke(runner, "run", mine, "-o", tmp_path / "r", "-q", *words).exit_code == 0
    manifest = open_run(tmp_path / "r").manifest
    assert (manifest["seed"], manifest["scenario"]["seed"]) == (7, 7)
    assert manifest["scenario"]["cohorts"][1]["nodes"] == 3
    assert manifest["scenario"]["scheduler"]["queue"] == "fifo_skip"


def test_traces_may_lie_in_another_folder(runner: CliRunner, mine: Path, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(mine.read_text())
    alone = invoke(runner, "run", tmp_path / "s.yaml", "-o", tmp_path / "r")
    assert alone.exit_code == 2
    assert "no trace 't.parquet' where traces may lie" in alone.stderr
    beside = ("--traces", mine.parent)
    assert invoke(runner, "run", tmp_path / "s.yaml", "-o", tmp_path / "r", "-q", *beside).exit_code == 0


def test_an_existing_run_is_refused_before_the_work(runner: CliRunner, run: Path) -> None:
    """Even where the scenario is wrong too: the folder is looked at first. Force replaces it."""
    result = invoke(runner, "run", "no-such-scenario", "-o", run)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"Error: 1 problem:\n  {run}: exists already. Choose another name, or replace it with --force.\n"
    )


def test_force_replaces_a_run(runner: CliRunner, mine: Path, tmp_path: Path) -> None:
    for seed in (1, 2):
        words = ("run", mine, "-o", tmp_path / "r", "-q", "--force", "--seed", seed)
        assert invoke(runner, *words).exit_code == 0
    assert open_run(tmp_path / "r").manifest["seed"] == 2


def test_problems_are_numbered_and_listed(runner: CliRunner, mine: Path, tmp_path: Path) -> None:
    words = ("--set", "cohorts.old.nodes=many", "--set", "horizn=3")
    result = invoke(runner, "run", mine, "-o", tmp_path / "r", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    first, *rest = result.stderr.splitlines()
    assert first == "Error: 2 problems:"
    assert sorted(line.split(":")[0] for line in rest) == [
        "  --set cohorts.old.nodes=many cohorts[1].nodes",
        "  --set horizn=3 horizn",
    ]
    assert list(tmp_path.iterdir()) == []


# show


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that a newcomer sees first."""
    path = tmp_path_factory.mktemp("small") / "run"
    assert invoke(CliRunner(), "run", "philly-small", "-o", path, "-q").exit_code == 0
    return path


@pytest.mark.parametrize("columns", [80, 100, 140, None])
@pytest.mark.parametrize("which", ["run", "small"])
def test_show_fits_and_cuts_nothing(
    runner: CliRunner, run: Path, small: Path, which: str, columns: int | None
) -> None:
    """80 columns are what a terminal has: every figure can be read there."""
    result = invoke(runner, "show", run if which == "run" else small, columns=columns)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "\x1b" not in result.stdout and "…" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= (columns or 140)


@pytest.mark.parametrize("columns", [80, None])
@pytest.mark.parametrize("command", ["run", "show"])
def test_no_line_ends_in_blanks(
    runner: CliRunner, mine: Path, run: Path, tmp_path: Path, command: str, columns: int | None
) -> None:
    words = ("show", run) if command == "show" else ("run", mine, "-o", tmp_path / "r")
    lines = invoke(runner, *words, columns=columns).stdout.splitlines()
    assert [line for line in lines if line != line.rstrip()] == []


def rows_of(output: str, first: str) -> list[list[str]]:
    """Cells of the table rows that begin with the words *first*; cells stand two blanks apart."""
    return [
        re.split(r"\s{2,}", line.strip()) for line in output.splitlines() if line.strip().startswith(first)
    ]


def test_show_has_the_figures_of_the_run(runner: CliRunner, run: Path) -> None:
    """Worked out by hand: A100 12 of 20 GPU hours, V100 4 of 20; red 12 hours, blue 4; one wait of 2 h."""
    shown = invoke(runner, "show", run).stdout
    (ampere,) = rows_of(shown, "Ampere")
    assert {"0-1 y", "60.0 %", "57.0 %", "0.0 %"} <= set(ampere)
    (volta,) = rows_of(shown, "Volta")
    assert {"3-4 y", "20.0 %", "6.0 %", "10.0 %"} <= set(volta)
    assert shown.index("Volta") < shown.index("Ampere")  # older generations first
    (red,), (blue,) = rows_of(shown, "red "), rows_of(shown, "blue ")
    assert {"12.0", "75.0 %", "0.0 %", "100.0 %"} <= set(red)
    assert {"4.00", "25.0 %", "100.0 %", "0.0 %"} <= set(blue)
    (training,), (interactive,) = rows_of(shown, "training"), rows_of(shown, "interactive")
    assert {"12.0", "75.0 %", "11.4"} <= set(training)
    assert {"4.00", "25.0 %", "1.20"} <= set(interactive)
    (waits,) = rows_of(shown, "all ")
    assert waits == ["all", "3", "33.3 %", "40 min", "0 s", "1 h 48 min", "1 h 57 min", "2 h"]
    (of_two,) = [row for row in rows_of(shown, "2 ") if len(row) == len(waits)]
    assert of_two[1:] == waits[1:]


def test_show_of_many_tenants_names_the_largest_and_counts_the_rest(
    runner: CliRunner, tmp_path: Path
) -> None:
    jobs = [Job(0, 60.0 * (n + 1), 1, tenant=f"t{n:02}", gpu_model=A100) for n in range(30)]
    (tmp_path / "s").mkdir()
    path = write_scenario(tmp_path / "s", jobs, horizon="drain")
    shown = invoke(runner, "run", path, "-o", tmp_path / "r", "-q")
    assert shown.exit_code == 0
    shown = invoke(runner, "show", tmp_path / "r")
    named = re.findall(r"^\s*(t\d\d)\b", shown.stdout, re.MULTILINE)
    assert named == [f"t{n:02}" for n in range(29, 29 - len(named), -1)]
    assert 5 <= len(named) < 30
    assert f"{30 - len(named)} smaller tenants" in shown.stdout
    assert len(json.loads(invoke(runner, "show", tmp_path / "r", "--json").stdout)["by_tenant"]) == 30


@pytest.mark.parametrize("horizon", ["1h", "drain"])
def test_a_run_with_nothing_in_it_can_be_shown(runner: CliRunner, tmp_path: Path, horizon: str) -> None:
    """No job, and with `drain` no time either: shares of nothing are a dash, never a crash."""
    nothing = workload(trace="philly-like-10k", window={"start": "900d"})
    (tmp_path / "s.yaml").write_text(text(FLEET, [nothing], horizon=horizon))
    result = invoke(runner, "run", tmp_path / "s.yaml", "-o", tmp_path / "r")
    assert result.exit_code == 0, result.stderr
    assert "0 submitted" in result.stdout
    assert "10,000 outside the window" in result.stdout
    shown = invoke(runner, "show", tmp_path / "r")
    assert shown.exit_code == 0, shown.stderr
    assert "nan" not in shown.stdout.lower().split() and "None" not in shown.stdout
    (allocated,) = [line for line in shown.stdout.splitlines() if line.startswith("  allocated")]
    assert allocated.split()[1] == {"1h": "0.0", "drain": "-"}[horizon]


# query


def test_query_as_a_table(runner: CliRunner, run: Path) -> None:
    sql = (
        "SELECT tenant, COUNT(*) AS jobs, SUM(gpus * 1000) AS milli FROM jobs GROUP BY tenant ORDER BY tenant"
    )
    result = invoke(runner, "query", run, sql)
    assert (result.exit_code, result.stderr) == (0, "")
    cells = [re.findall(r"[\w,]+", line) for line in result.stdout.splitlines()]
    assert [row for row in cells if row] == [
        ["tenant", "jobs", "milli"],
        ["blue", "1", "2,000"],
        ["red", "3", "7,000"],
    ]


def test_query_shows_every_row_and_column(runner: CliRunner, run: Path) -> None:
    result = invoke(runner, "query", run, "SELECT a.*, b.job AS other FROM jobs a CROSS JOIN jobs b")
    lines = result.stdout.splitlines()
    assert len([line for line in lines if re.match(r"^[│|] *\d", line)]) == 16
    header = next(line for line in lines if "job_id" in line)
    assert [name for name in (c.name for c in TABLES["jobs"]) if name not in header] == []
    assert "…" not in result.stdout


def test_query_as_csv_and_json_for_programs(runner: CliRunner, run: Path) -> None:
    sql = "SELECT job_id, tenant, start_s, reject_reason FROM jobs ORDER BY job"
    wanted = [
        ("0", "red", 0.0, None),
        ("1", "blue", HOUR_S, None),
        ("2", "red", 4 * HOUR_S, None),
        ("3", "red", None, "larger than any pool"),
    ]
    as_csv = invoke(runner, "query", run, sql, "--format", "csv").stdout
    rows = list(csv.reader(io.StringIO(as_csv)))
    assert rows[0] == ["job_id", "tenant", "start_s", "reject_reason"]
    assert [(a, b, float(c) if c else None, d or None) for a, b, c, d in rows[1:]] == wanted
    as_json = json.loads(invoke(runner, "query", run, sql, "--format", "json").stdout)
    assert [tuple(row.values()) for row in as_json] == wanted
    assert list(as_json[0]) == rows[0]


@pytest.mark.parametrize("table", TABLES)
def test_query_knows_every_table_whole(runner: CliRunner, run: Path, table: str) -> None:
    """All columns under their own names, as many rows as the file; labels are texts."""
    result = invoke(runner, "query", run, f"SELECT * FROM {table}", "--format", "csv")
    found = pl.read_csv(io.StringIO(result.stdout), infer_schema_length=None)
    assert found.columns == [c.name for c in TABLES[table]]
    assert found.height == pl.read_parquet(run / f"{table}.parquet").height


def test_query_of_nothing_is_an_answer(runner: CliRunner, run: Path) -> None:
    sql = "SELECT job FROM jobs WHERE gpus > 100"
    assert invoke(runner, "query", run, sql, "--format", "csv").stdout == "job\n"
    assert json.loads(invoke(runner, "query", run, sql, "--format", "json").stdout) == []
    assert invoke(runner, "query", run, sql).exit_code == 0


def test_query_as_json_is_json_whatever_the_numbers(runner: CliRunner, run: Path) -> None:
    """NaN and infinity are not: they become null."""
    sql = "SELECT start_s / (start_s - start_s) AS x FROM jobs WHERE start_s IS NOT NULL ORDER BY job"
    result = invoke(runner, "query", run, sql, "--format", "json")
    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert found == [{"x": None}] * 3


@pytest.mark.parametrize(
    ("sql", "fragment"),
    [
        ("SELEC * FROM jobs", "SELEC"),
        ("SELECT * FROM jobs WHERE", "EOF"),
        ("SELECT nope FROM jobs", "nope"),
        ("SELECT * FROM nope", "nope"),
        ("SELECT SUM(job_id) FROM jobs", "str"),
        ("SELECT CAST(job_id AS DATE) FROM jobs", "dates"),
        ("SELECT CAST(tenant AS INT) FROM jobs", "tenant"),
        ("SELECT no_such_function(gpus) FROM jobs", "no_such_function"),
        ("SELECT 1; SELECT 2", "one"),
        ("", "one"),
        ("SELECT * FROM jobs WHERE regexp_like(job_id, '(')", "regex"),
        ("SELECT gpus, gpus FROM jobs", "gpus"),
    ],
)
def test_sql_that_is_wrong_is_one_problem_with_the_tables(
    runner: CliRunner, run: Path, sql: str, fragment: str
) -> None:
    result = invoke(runner, "query", run, sql)
    assert (result.exit_code, result.stdout) == (2, "")
    first, second = result.stderr.splitlines()
    assert first == "Error: 1 problem:"
    assert second.startswith("  SQL: ") and fragment in second
    assert f"Tables: {', '.join(TABLES)}." in second
    assert len(second) < 1000


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "TRUNCATE TABLE {}", "DROP TABLE {}"])
def test_no_statement_changes_a_run(runner: CliRunner, run: Path, table: str, statement: str) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    invoke(runner, "query", run, statement.format(table))
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


SECRET = "correct-horse-battery"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{csv}')",
        "SELECT * FROM READ_CSV('{csv}')",
        "SELECT * FROM \"read_csv\"('{csv}')",
        "SELECT * FROM read_csv /* here */ ('{csv}')",
        "SELECT x.* FROM read_csv('{csv}') AS x",
        "WITH x AS (SELECT * FROM read_csv('{csv}')) SELECT * FROM x",
        "SELECT * FROM jobs WHERE tenant IN (SELECT password FROM read_csv('{csv}'))",
        "SELECT jobs.job, x.password FROM jobs CROSS JOIN read_csv('{csv}') AS x",
        "SELECT password FROM read_csv('{csv}') UNION SELECT tenant FROM jobs",
        "SELECT * FROM read_parquet('{parquet}')",
        "SELECT * FROM read_ipc('{ipc}')",
        "SELECT * FROM read_json('{json}')",
        "SELECT * FROM read_ndjson('{json}')",
        "SELECT * FROM '{csv}'",
        'SELECT * FROM "{csv}"',
        "CREATE TABLE x AS SELECT * FROM read_csv('{csv}')",
        # what hides the call from one who takes strings and comments out first, quotes within quotes
        "SELECT 1 AS \"it's\", x.* FROM read_csv('{csv}') AS x",
        "SELECT 1 AS `it's`, x.* FROM read_csv('{csv}') AS x",
        "SELECT 1 AS \"/*\", x.* FROM read_csv('{csv}') AS x WHERE '*/' <> ' '",
        "SELECT 1 AS \"--\", x.* FROM read_csv('{csv}') AS x",
        "SELECT $$'$$ AS b, x.* FROM read_csv('{csv}') AS x",
        "SELECT /* /* */ ' */ x.* FROM read_csv('{csv}') AS x WHERE 'a' <> ' '",
        "SELECT x.* FROM /* ' */ read_csv(/* ' */ '{csv}') AS x",
    ],
)
def test_a_query_reads_the_run_and_nothing_else(
    runner: CliRunner, run: Path, tmp_path: Path, sql: str
) -> None:
    """SQL comes from dashboards and from other people: it is no way to the files of the machine."""
    secret = pl.DataFrame({"password": [SECRET]})
    paths = {kind: tmp_path / f"secret.{kind}" for kind in ("csv", "parquet", "ipc", "json")}
    secret.write_csv(paths["csv"])
    secret.write_parquet(paths["parquet"])
    secret.write_ipc(paths["ipc"])
    secret.write_ndjson(paths["json"])
    result = invoke(runner, "query", run, sql.format(**paths), "--format", "json")
    assert SECRET not in result.output
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: 1 problem:\n  SQL: ")


# scenario


def test_scenarios_are_listed_with_their_questions(runner: CliRunner) -> None:
    lines = invoke(runner, "scenario", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == scenario.bundled()
    for line in lines:
        name, question = line.split(maxsplit=1)
        assert question == scenario.read(name).spec.question
    as_json = json.loads(invoke(runner, "scenario", "list", "--json").stdout)
    assert [(row["name"], row["question"]) for row in as_json] == [
        tuple(line.split(maxsplit=1)) for line in lines
    ]


@pytest.mark.parametrize("name", scenario.bundled())
def test_a_scenario_shown_is_the_file(runner: CliRunner, name: str) -> None:
    """To the byte, comments too: `show` is where one's own begins."""
    result = invoke(runner, "scenario", "show", name)
    assert result.stdout == (scenario.folder() / f"{name}.yaml").read_text("utf-8")


def test_a_scenario_is_validated_with_its_jobs(runner: CliRunner, mine: Path) -> None:
    result = invoke(runner, "scenario", "validate", mine)
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"{mine} is valid" in result.stdout
    for fact in ("2 cohorts", "2 nodes", "4 GPUs", "4 jobs"):
        assert fact in result.stdout
    assert "1 larger than any pool" in result.stdout
    facts = json.loads(
        invoke(runner, "scenario", "validate", mine, "--json", "--set", "cohorts.new.nodes=5").stdout
    )
    assert (facts["name"], facts["cohorts"], facts["nodes"], facts["gpus"], facts["jobs"]) == (
        "test", 2, 6, 12, 4,
    )  # fmt: skip
    assert facts["will_be_rejected"] == {}
    facts = json.loads(invoke(runner, "scenario", "validate", mine, "--json").stdout)
    assert facts["will_be_rejected"] == {"larger than any pool": 1}


def test_validate_promises_what_run_does(runner: CliRunner, mine: Path, tmp_path: Path) -> None:
    """Counts of jobs, of what is left out and of what will be rejected are those of the manifest."""
    words = ("--set", "workloads.w.select.min_gpus=2", "--set", "horizon=2h", "--set", "workloads.w.load=3")
    facts = json.loads(invoke(runner, "scenario", "validate", mine, "--json", *words).stdout)
    assert invoke(runner, "run", mine, "-o", tmp_path / "r", "-q", *words).exit_code == 0
    manifest = open_run(tmp_path / "r").manifest
    assert facts["jobs"] == manifest["jobs"]
    assert facts["will_be_rejected"] == manifest["rejected"]
    assert facts["left_out"] == {n: s["left_out"] for n, s in manifest["sources"].items() if s["left_out"]}


def test_names_of_gpu_models_that_say_nothing_are_shown_with_the_remedy(
    runner: CliRunner, tmp_path: Path
) -> None:
    """By `validate`, by `run` and by `show`, the most wanted first; names are a stranger's."""
    jobs = [Job(0, 10, gpu_model="V100M16"), Job(1, 10, gpu_model="G\x1b[2J|V100M16"), Job(2, 10)]
    mine = write_scenario(tmp_path, jobs)
    said = "  w: unknown GPU models in the trace: V100M16, G"
    remedy = "Say with gpu_names what they stand for."
    for words in (
        ("scenario", "validate", mine),
        ("run", mine, "-o", tmp_path / "r"),
        ("show", tmp_path / "r"),
    ):
        shown = invoke(runner, *words, columns=120).stdout
        assert said in shown
        assert remedy in shown
        assert "\x1b[2J" not in shown
        assert "2 no allowed GPU model" in shown
    facts = json.loads(invoke(runner, "scenario", "validate", mine, "--json").stdout)
    assert facts["unknown_gpu_models"] == {"w": {"G\x1b[2J": 1, "V100M16": 2}}
    assert summarise(open_run(tmp_path / "r"))["unknown_gpu_models"] == facts["unknown_gpu_models"]
    mapped = 'workloads.w.gpu_names={V100M16: [v100-sxm2-16], "*": []}'
    shown = invoke(runner, "scenario", "validate", mine, "--set", mapped).stdout
    assert "unknown" not in shown
    assert "rejected" not in shown


def test_a_scenario_that_is_wrong_is_not_valid(runner: CliRunner, mine: Path) -> None:
    result = invoke(runner, "scenario", "validate", mine, "--set", "workloads.w.trace=gone.csv")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "workloads[0].trace: no trace 'gone.csv' where traces may lie" in result.stderr


@pytest.mark.parametrize(
    "words",
    [("scenario", "show"), ("scenario", "validate"), ("run", "-o", "never")],
    ids=["show", "validate", "run"],
)
def test_an_unknown_scenario_is_exit_2_with_a_suggestion(
    runner: CliRunner, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(runner, *words, "phily-small")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "Error: 1 problem:\n  phily-small: no such file or bundled scenario. "
        f"Did you mean philly-small? Bundled are: {', '.join(scenario.bundled())}.\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [("show",), ("show", "--json"), ("query",), ("metrics",)])
def test_an_unknown_run_is_exit_2(runner: CliRunner, words: tuple[str, ...], tmp_path: Path) -> None:
    sql = ("SELECT 1",) if words[0] == "query" else ()
    for place, what in ((tmp_path / "none", "no such folder"), (tmp_path, "no usable manifest.json")):
        result = invoke(runner, words[0], place, *sql, *words[1:])
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(f"Error: 1 problem:\n  {place}: {what}")
        assert "Name a folder written by `fleetsim run`." in result.stderr


def test_the_schema_is_printed_for_editors(runner: CliRunner) -> None:
    assert json.loads(invoke(runner, "scenario", "schema").stdout) == scenario.json_schema()


# Failures that nobody expects


def test_an_unexpected_failure_is_a_line_and_exit_1(
    runner: CliRunner, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(fleetsim.summary, "summarise", fail)
    result = invoke(runner, "show", run)
    assert (result.exit_code, result.stdout) == (1, "")
    first, second = result.stderr.splitlines()
    assert first == "Error: unexpected ZeroDivisionError: division by zero"
    assert "fleetsim --debug" in second
    debug = invoke(runner, "--debug", "show", run)
    assert isinstance(debug.exception, ZeroDivisionError)  # on its way to a traceback


def test_debug_shows_the_traceback(run: Path) -> None:
    """In a process of its own, by a manifest that is not one: with and without."""
    for words, shown in (((), False), (("--debug",), True)):
        done = subprocess.run(
            [*COMMAND, *words, "show", str(run / "jobs.parquet")], capture_output=True, text=True, check=False
        )
        assert done.returncode != 0
        assert ("Traceback (most recent call last)" in done.stderr) is shown
        assert "no such folder" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("query", "{run}", "SELECT a.* FROM jobs a, jobs b, jobs c, jobs d, jobs e", "--format", "csv"),
        ("show", "{run}"),
        ("--help",),
    ],
    ids=["much", "little", "help"],
)
@pytest.mark.parametrize("lines", [0, 1])
def test_a_reader_that_goes_away_is_no_error(run: Path, words: tuple[str, ...], lines: int) -> None:
    """`| head -1`: silence on stderr, whether the reader left before, or in the middle of it."""
    process = subprocess.Popen(
        [*COMMAND, *(word.format(run=run) for word in words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout and process.stderr
    for _ in range(lines):
        assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait(timeout=60)


# Strangers' text

HOSTILE = [
    "\x1b[31m[red]b",
    "[/nope]",
    "[bold]x[link=https://example.org]y",
    "L" * 900,
    "日本語" * 30,
    "a\tb\rc\nd",
    "\x1b]0;owned\x07\x1b[2J",
    "\u202egnp.exe",
    ":warning: {x} %s \\",
]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose question, tenants, users and jobs were named by somebody who means no good."""
    folder = tmp_path_factory.mktemp("hostile")
    jobs = [
        Job(0, 100.0 * (n + 1), 1, tenant=name, user=name, job_id=f"{n}{name}", gpu_model=A100)
        for n, name in enumerate(HOSTILE)
    ]
    path = write_scenario(folder, jobs, question="\x1b[2J[/] why [bold]?\x07\r\n" + "q" * 300)
    result = invoke(CliRunner(), "run", path, "-o", folder / "run")
    assert result.exit_code == 0, result.stderr
    return folder / "run"


COMMANDS = [
    ("show",),
    ("query", 'SELECT job_id, tenant, "user" FROM jobs'),
]


def printable(output: str) -> list[str]:
    """What is in *output* that a terminal would obey and not show."""
    return sorted({c for c in output if not (c.isprintable() or c == "\n")})


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_names_of_strangers_do_not_command_the_terminal(
    runner: CliRunner, hostile: Path, words: tuple[str, ...]
) -> None:
    command, *rest = words
    result = invoke(runner, command, hostile, *rest, color=True)
    assert (result.exit_code, result.stderr) == (0, "")
    assert printable(result.stdout) == []
    assert "[/nope]" in result.stdout  # nor the markup of a library: brackets are shown


def test_the_summary_of_a_run_is_safe_too(runner: CliRunner, hostile: Path, tmp_path: Path) -> None:
    path = hostile.parent / "mine.yaml"
    result = invoke(runner, "run", path, "-o", tmp_path / "r", color=True)
    assert result.exit_code == 0
    assert printable(result.stdout) == []
    assert "why [bold]?" in " ".join(result.stdout.split())


@pytest.mark.parametrize("columns", [80, None])
def test_a_long_name_does_not_push_the_figures_out(
    runner: CliRunner, hostile: Path, columns: int | None
) -> None:
    """It is cut, and the hours and shares beside it are not."""
    shown = invoke(runner, "show", hostile, columns=columns).stdout
    row = next(line for line in shown.splitlines() if "LLLL" in line)
    assert len(row) <= (columns or 140)
    assert "L" * 100 not in row
    hours = 400 / HOUR_S
    share = 4 / sum(range(1, len(HOSTILE) + 1))
    assert f"{hours:.3g}" in row and f"{100 * share:.1f} %" in row


def test_programs_get_the_names_as_they_are(runner: CliRunner, hostile: Path) -> None:
    shown = json.loads(invoke(runner, "show", hostile, "--json").stdout)
    assert {row["tenant"] for row in shown["by_tenant"]} == set(HOSTILE)
    sql = "SELECT tenant FROM jobs ORDER BY job"
    as_json = json.loads(invoke(runner, "query", hostile, sql, "--format", "json").stdout)
    assert [row["tenant"] for row in as_json] == HOSTILE
    as_csv = invoke(runner, "query", hostile, sql, "--format", "csv").stdout_bytes.decode()
    assert [row[0] for row in csv.reader(io.StringIO(as_csv, newline=""))][1:] == HOSTILE


@pytest.mark.parametrize(
    "words",
    [
        ("show", "no\x1b[31mrun\n"),
        ("query", "{run}", 'SELECT * FROM "\x1b[31m"'),
        ("query", "{run}", "SELECT '\x1b[31m' FROM nope\x1b[2J"),
        ("scenario", "show", "no\x1b[31m"),
        ("scenario", "validate", "{keys}"),
        ("scenario", "validate", "{values}"),
        ("run", "philly-small", "-o", "{run}/\x1b[31m/x", "--set", "horizn\x1b[31m=3"),
        ("trace", "info", "no\x1b[31m"),
        ("gpu", "show", "no\x1b[31m"),
    ],
    ids=lambda words: " ".join(words[:2]).replace("\x1b", "ESC").replace("\n", ""),
)
def test_messages_do_not_command_the_terminal(
    runner: CliRunner, run: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """They repeat what was given, with control characters written out."""
    (tmp_path / "keys.yaml").write_text('name: x\n"\\e[31mkey\\n": 1\n')
    (tmp_path / "values.yaml").write_text('name: "\\e[31m"\nstart: "\\e[2J"\nhorizon: "\\e[2J"\n')
    places = {"run": run, "keys": tmp_path / "keys.yaml", "values": tmp_path / "values.yaml"}
    result = invoke(runner, *(word.format(**places) for word in words), color=True)
    assert (result.exit_code, result.stdout) == (2, "")
    assert printable(result.stderr) == []


def test_a_name_of_a_run_with_brackets_is_shown_as_it_is(
    runner: CliRunner, mine: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run [red]x[/]"
    result = invoke(runner, "run", mine, "-o", folder)
    assert result.exit_code == 0
    assert str(folder) in result.stdout
    assert invoke(runner, "show", folder).exit_code == 0


def test_without_a_locale_the_output_is_still_text(run: Path) -> None:
    """Under LC_ALL=C, as in many containers: bars and dashes become something, and nothing crashes."""
    env = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for words in (("show", str(run)), ("query", str(run), "SELECT tenant FROM jobs"), ("gpu", "list")):
        done = subprocess.run([*COMMAND, *words], capture_output=True, env=env, check=False)
        assert (done.returncode, done.stderr) == (0, b""), done.stderr[-300:]
        assert done.stdout.isascii()


def test_data_for_programs_is_utf_8_whatever_the_locale(hostile: Path) -> None:
    env = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    words = ("query", str(hostile), "SELECT tenant FROM jobs WHERE gpus = 1 ORDER BY job", "--format", "csv")
    done = subprocess.run([*COMMAND, *words], capture_output=True, env=env, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert [row[0] for row in csv.reader(io.StringIO(done.stdout.decode(), newline=""))][1:] == HOSTILE
