"""``fleetsim run`` and ``query``: simulate a scenario, and ask the run in SQL."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fleetsim.cli.options import OVERRIDES, ROOTS, RUN


@click.command()
@click.argument("scenario")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Run folder to write.")
@click.option("--seed", type=click.IntRange(0), help="Override the scenario's seed.")
@OVERRIDES
@ROOTS
@click.option("--force", is_flag=True, help="Replace an existing run.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no summary.")
def run(
    scenario: str,
    output: Path,
    seed: int | None,
    overrides: tuple[str, ...],
    roots: tuple[Path, ...],
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Simulate SCENARIO (a file, or a bundled one by name) and write a run folder.

    \b
    Example:
      fleetsim run philly-small -o runs/first
      fleetsim run mixed-fleet -o runs/more --set cohorts.h100.nodes=24 --seed 7
    """
    from fleetsim import experiment
    from fleetsim import scenario as scenarios
    from fleetsim.cli.console import Meter, stdout
    from fleetsim.cli.show import headline
    from fleetsim.runfolder import check_target
    from fleetsim.summary import summarise

    check_target(output, force)
    if seed is not None:
        overrides = (*overrides, f"seed={seed}")
    parsed = scenarios.read(scenario, overrides, roots)
    if quiet:
        experiment.run(parsed, output, force=force)
        return
    with Meter(parsed) as meter:
        made = experiment.run(parsed, output, force=force, progress=meter)
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
    """Ask the tables of RUN in SQL: jobs, allocations, node_states, events, queue, usage.

    \b
    Example:
      fleetsim query runs/first "SELECT gpu_model, SUM(gpu_hours) AS h FROM usage GROUP BY gpu_model"
      fleetsim query runs/first "SELECT * FROM jobs ORDER BY wait_s DESC LIMIT 10" --format csv
    """
    import polars as pl

    from fleetsim.errors import InputError, Problem
    from fleetsim.runfolder import open_run
    from fleetsim.schema import TABLES

    run = open_run(run_folder)
    tables = {name: run.scan(name).with_columns(pl.col(pl.Categorical).cast(pl.String)) for name in TABLES}
    try:
        frame = pl.SQLContext(tables).execute(sql).collect()
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        remedy = f"Tables: {', '.join(TABLES)}. Columns of one: SELECT * FROM jobs LIMIT 1"
        raise InputError([Problem("SQL", str(error).splitlines()[0], remedy)]) from None
    if form == "csv":
        click.echo(frame.write_csv(), nl=False)
    elif form == "json":
        click.echo(json.dumps(frame.to_dicts(), indent=2, default=str))
    else:
        with pl.Config(
            tbl_rows=-1,
            tbl_cols=-1,
            tbl_width_chars=10_000,
            tbl_hide_dataframe_shape=True,
            tbl_hide_column_data_types=True,
            fmt_str_lengths=80,
            thousands_separator=",",
        ):
            click.echo(str(frame))
