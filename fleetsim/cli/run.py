"""``fleetsim run`` and ``query``: simulate a scenario or a sweep of it, and ask a run in SQL."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetsim.cli.options import OVERRIDES, ROOTS, RUN

if TYPE_CHECKING:
    from fleetsim.sweeps.sweep import Sweep


@click.command()
@click.argument("scenario")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Run folder to write.")
@click.option("--seed", type=click.IntRange(0), help="Override the scenario's seed.")
@OVERRIDES
@ROOTS
@click.option("--jobs", type=click.IntRange(1), help="Runs of a sweep at once.  [default: as many as cores]")
@click.option("--force", is_flag=True, help="Replace an existing run; of a sweep, those that differ.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no summary.")
def run(
    scenario: str,
    output: Path,
    seed: int | None,
    overrides: tuple[str, ...],
    roots: tuple[Path, ...],
    jobs: int | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Simulate SCENARIO (a file, or a bundled one by name) and write a run folder.

    A scenario with axes or replications is a sweep: all its runs are done in parallel, each in a folder of
    its own in OUTPUT. Started again it does what is missing; `fleetsim sweep OUTPUT` shows it.

    \b
    Example:
      fleetsim run philly-small -o runs/first
      fleetsim run mixed-fleet -o runs/more --set cohorts.h100-2026.nodes=24 --seed 7
      fleetsim run philly-small -o runs/queues --set 'axes={scheduler.queue: [fifo, fifo_skip]}' --jobs 2
    """
    from fleetsim import experiment
    from fleetsim import scenario as scenarios
    from fleetsim.cli.console import Meter, counting, stdout
    from fleetsim.cli.show import headline
    from fleetsim.errors import FleetsimError
    from fleetsim.runfolder import SWEEP, check_target
    from fleetsim.summary import summarise
    from fleetsim.sweeps import sweep

    if not (output / SWEEP).is_file():  # a sweep goes on where it was
        check_target(output, force)
    if seed is not None:
        overrides = (*overrides, f"seed={seed}")
    with counting("Checking points", quiet) as tell:
        wanted = sweep.plan(scenario, overrides, roots, tell)
    if wanted is not None:
        _run_sweep(wanted, output, jobs, force, as_json, quiet)
        return
    check_target(output, force)
    parsed = scenarios.read(scenario, overrides, roots)
    with Meter(parsed, quiet) as meter:
        try:
            made = experiment.run(parsed, output, force=force, progress=meter)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise FleetsimError(f"{output} could not be written: {error.strerror or error}") from error
    if quiet:
        return
    summary = summarise(made)
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    console = stdout()
    headline(console, summary)
    wall_s = made.manifest["wall_clock"]["elapsed_s"]
    console.print(
        f"Wrote {output} in {wall_s:.1f} s. {summary['laws_checked']} conservation laws hold. "
        f"See more with: fleetsim show {output}",
        soft_wrap=True,
    )


def _run_sweep(
    wanted: Sweep, output: Path, jobs: int | None, force: bool, as_json: bool, quiet: bool
) -> None:
    """Do the runs of a sweep and show what they say; some that failed are an error at the end."""
    from fleetsim.cli.console import SweepMeter, stdout
    from fleetsim.cli.sweep import MOST_FAILED, report
    from fleetsim.errors import FleetsimError
    from fleetsim.sweeps import folder as sweep_folder
    from fleetsim.sweeps import table as sweep_table

    with SweepMeter(quiet) as meter:
        made = sweep_folder.run(wanted, output, jobs=jobs, force=force, tell=meter)
    failed = [run for run in made.record.runs if run.status == "failed"]
    if not quiet:
        found = sweep_table.table(made, sweep_table.headlines(made))
        if as_json:
            click.echo(json.dumps(found, indent=2, allow_nan=False))
        else:
            console = stdout()
            report(console, found)
            console.print(
                f"Wrote {len(made.done):,} runs to {output}. See more with: fleetsim sweep {output}",
                soft_wrap=True,
            )
    if failed:
        why = [f"\n  {run.folder}: {run.error}" for run in failed[:MOST_FAILED]] if quiet or as_json else []
        raise FleetsimError(f"{len(failed):,} of {len(made.record.runs):,} runs failed{''.join(why)}")


@click.command()
@RUN
@click.argument("sql")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="How to print the result.",
)
def query(run_folder: Path, sql: str, form: str) -> None:
    """Ask the tables of RUN in SQL: jobs, allocations, node_states, failures, sales, ledger, events, queue
    and usage.

    \b
    Example:
      fleetsim query runs/first "SELECT gpu_model, SUM(gpu_hours) AS h FROM usage GROUP BY gpu_model"
      fleetsim query runs/first "SELECT * FROM jobs ORDER BY wait_s DESC LIMIT 10" --format csv
    """
    import polars as pl
    import polars.selectors as cs

    from fleetsim.cli.console import plain, writes_utf8
    from fleetsim.errors import InputError, Problem
    from fleetsim.runfolder import open_run
    from fleetsim.schema import TABLES

    if change := re.match(r"\s*(DELETE|TRUNCATE|CREATE|DROP|INSERT|UPDATE)\b", sql, re.IGNORECASE):
        raise InputError([Problem("SQL", f"{change[1]} changes tables", "A run is read only: use SELECT.")])
    if _reads_files(sql):
        remedy = f"Ask the tables of the run: {', '.join(TABLES)}."
        raise InputError([Problem("SQL", "reads files of its own", remedy)])
    run = open_run(run_folder)
    tables = {name: run.scan(name).with_columns(pl.col(pl.Categorical).cast(pl.String)) for name in TABLES}
    try:
        frame = pl.SQLContext(tables).execute(sql).collect()
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        remedy = f"Tables: {', '.join(TABLES)}. Columns of one: SELECT * FROM jobs LIMIT 1. "
        remedy += 'Names that are words of SQL stand in quotes: "user".'
        raise InputError([Problem("SQL", str(error).splitlines()[0], remedy)]) from None
    if form == "csv":
        click.echo(frame.write_csv(), nl=False, color=True)  # as it is: for a program
    elif form == "json":
        numbers = cs.float()
        finite = frame.with_columns(pl.when(numbers.is_finite()).then(numbers))  # JSON knows no other
        click.echo(json.dumps(finite.to_dicts(), indent=2, default=str, allow_nan=False))
    else:
        frame = frame.with_columns(cs.string().map_elements(lambda text: plain(text, 80), pl.String))
        with pl.Config(
            tbl_rows=-1,
            tbl_cols=-1,
            tbl_width_chars=10_000,
            tbl_hide_dataframe_shape=True,
            tbl_hide_column_data_types=True,
            fmt_str_lengths=80,
            tbl_formatting="UTF8_FULL_CONDENSED" if writes_utf8() else "ASCII_FULL_CONDENSED",
            thousands_separator=",",
        ):
            click.echo(str(frame))


def _reads_files(sql: str) -> bool:
    """Whether *sql* names one of the functions that read files, even where it only seems to call it."""
    return re.search(r"\bread_(csv|parquet|ipc|n?d?json|avro|delta|database|excel)", sql, re.I) is not None
