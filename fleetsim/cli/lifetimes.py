"""``fleetsim lifetimes``: how long things last, and how often they fail at which age."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetsim import units

if TYPE_CHECKING:
    from rich.console import Console

    from fleetsim.life.lives import Group

_LEAST = 5  # deaths behind the last rate of a curve, which holds for ever


def _band(ctx: click.Context, option: click.Parameter, text: str) -> float:
    try:
        seconds = units.duration_s(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if seconds <= 0:
        raise click.BadParameter(f"{text!r} must be longer than zero")
    return seconds


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--duration",
    default="duration",
    show_default=True,
    metavar="COLUMN",
    help="Age at which a life ended or was last seen.",
)
@click.option(
    "--unit",
    type=click.Choice(["s", "h", "d", "y"]),
    default="s",
    show_default=True,
    help="Unit of durations and entries; a year has 365 days.",
)
@click.option(
    "--dead",
    default="dead",
    show_default=True,
    metavar="COLUMN",
    help="Whether it ended (true or false); those that did not are right-censored.",
)
@click.option("--group", metavar="COLUMN", help="Look at the lives of each value apart.")
@click.option("--entry", metavar="COLUMN", help="Age from which a life was watched, if not from 0.")
@click.option(
    "--bin",
    "band_s",
    default="6mo",
    show_default=True,
    metavar="SPAN",
    callback=_band,
    help="Length of an age band.",
)
@click.option(
    "--bad-rows",
    type=click.Choice(["refuse", "drop"]),
    default="refuse",
    show_default=True,
    help="What to do with rows at fault.",
)
@click.option("--yaml", "as_yaml", is_flag=True, help="Print a hazard for a scenario's failures.")
@click.option("--json", "as_json", is_flag=True, help="Print every figure as JSON, with definitions.")
@click.option("--html", type=click.Path(path_type=Path), metavar="PAGE", help="Draw the lives on a page.")
@click.option("--png", type=click.Path(path_type=Path), metavar="PICTURE", help="Draw them as a picture.")
def lifetimes(
    file: Path,
    duration: str,
    unit: str,
    dead: str,
    group: str | None,
    entry: str | None,
    band_s: float,
    bad_rows: str,
    as_yaml: bool,
    as_json: bool,
    html: Path | None,
    png: Path | None,
) -> None:
    """Learn from observed lives how long things last.

    FILE is a CSV (plain or packed) or Parquet file with one row a life. Survival is Kaplan and Meier's, the
    failures per year in each age band have exact intervals, and a Weibull distribution is fitted. With --yaml
    the rates by age are printed as `hazard:`, to paste into a scenario's failures.

    \b
    Example:
      fleetsim lifetimes gpus.csv --duration days --unit d --dead failed --group model
      fleetsim lifetimes gpus.csv --duration days --unit d --dead failed --bin 3mo --yaml
      fleetsim lifetimes gpus.parquet --html lives.html --json | jq '.groups[].weibull'
    """
    from fleetsim.cli.console import stdout
    from fleetsim.cli.trace_input import patience
    from fleetsim.life.lives import DEFINITIONS, Columns, analyse, facts, read_lives
    from fleetsim_traces.atomic import atomic

    if as_yaml and as_json:
        raise click.UsageError("--yaml and --json both print on stdout: choose one.")
    with patience(f"Reading {file}"):
        observed = read_lives(file, Columns(duration, dead, group, entry, unit), bad_rows=bad_rows)
        groups = analyse(observed, band_s)
        if html is not None or png is not None:
            from fleetsim.life.survival_charts import survival_page, survival_png

            title = f"Lives in {file.name}"
            if html is not None:
                with atomic(html) as page:
                    page.write(survival_page(groups, title=title, definitions=DEFINITIONS).encode())
            if png is not None:
                with atomic(png) as picture:
                    picture.write(survival_png(groups, title=title))
    if as_json:
        found = {
            "file": str(file),
            "rows_read": observed.rows_read,
            "rejected": dict(observed.rejected),
            "groups": [facts(group) for group in groups],
            "definitions": DEFINITIONS,
        }
        click.echo(json.dumps(found, indent=2, allow_nan=False))
    elif as_yaml:
        click.echo("---\n".join(_yaml(group, file.name) for group in groups), nl=False)
    else:
        _print(stdout(), groups)
    for reason, count in observed.rejected.items():
        click.echo(f"Left out {count:,} of {observed.rows_read:,} rows: {reason}.", err=True)
    if html is not None or png is not None:
        click.echo(f"Wrote {' and '.join(str(path) for path in (html, png) if path is not None)}.", err=True)


def _print(console: Console, groups: Sequence[Group]) -> None:
    from rich.text import Text

    from fleetsim.cli.console import plain, print_table
    from fleetsim.life.lives import HEADS, PERCENT, band_rows, headlines

    for group in groups:
        console.print(plain(group.name, 60), style="bold")
        for line in headlines(group):
            console.print(line, soft_wrap=True)
        print_table(console, HEADS, [[Text(cell) for cell in row] for row in band_rows(group)])
    note = (
        f"In brackets {PERCENT} intervals: of deaths / years watched, and of what survives the end of the "
        "band. Lives that stop being watched are taken to go on like the others of their age."
    )
    console.print(note, style="dim", soft_wrap=True)


def _yaml(group: Group, source: str) -> str:
    """The rates of *group* as a key of a scenario's failures; with several groups, a YAML document each."""
    import numpy as np

    from fleetsim.cli.console import plain
    from fleetsim.life.lives import span

    points = group.hazard.curve(_LEAST)
    last_s = points[-1][0]
    behind = int(group.hazard.deaths[group.hazard.from_s >= last_s].sum())
    lines = [
        f"# {plain(group.name, 60)}: {group.lives.deaths:,} deaths of {len(group.lives):,} lives "
        f"in {plain(source, 80)}",
        f"# [age, failures per year]; the last rate, of {behind:,} deaths, holds for ever",
        "hazard:",
        "- curve:",
    ]
    for age_s, rate in points:
        text = np.format_float_positional(rate, precision=4, fractional=False, trim="-")
        lines.append(f"  - [{span(age_s)}, {text}]")
    return "\n".join(lines) + "\n"
