"""``fleetsim compare``: runs side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

MOST_WIDE = 13  # of a run's name and of a value: four runs stand beside each other in 100 columns

if TYPE_CHECKING:
    from rich.console import Console

    from fleetsim.comparison import Section


@click.command()
@click.argument("runs", nargs=-1, metavar="RUN RUN...", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print every figure as JSON, with definitions.")
@click.option("--html", type=click.Path(path_type=Path), metavar="PAGE", help="Draw the runs on a page.")
def compare(runs: tuple[Path, ...], as_json: bool, html: Path | None) -> None:
    """Print runs side by side: how long jobs took, what was lost, how fair it was, what it used.

    The first RUN is the baseline: jobs that completed in it and in another are paired, and the change of
    their waits and completion times is shown with a 95 % interval. A star marks the best of a row.

    \b
    Example:
      fleetsim compare runs/fifo runs/skip
      fleetsim compare runs/fifo runs/skip --html fifo-or-skip.html
      fleetsim compare runs/fifo runs/skip --json | jq .paired
    """
    from fleetsim import comparison
    from fleetsim.cli.console import stdout
    from fleetsim.cli.trace_input import patience
    from fleetsim.errors import InputError, Problem
    from fleetsim_traces.atomic import atomic

    with patience(f"Comparing {len(runs)} runs"):
        opened = comparison.open_runs(runs)
        found = comparison.compare(opened)
        if html is not None:
            from fleetsim.charts import comparison_page

            with atomic(html) as file:
                page = comparison_page(found, comparison.curves(opened), title=_title(found["runs"]))
                file.write(page.encode())
    if as_json:
        click.echo(json.dumps(found, indent=2, allow_nan=False))
    else:
        console = stdout()
        _print(console, comparison.sections(found))
        for note in ["* best of its row; every figure is defined in --json", *found["notes"]]:
            console.print(note, style="dim", soft_wrap=True)
    if html is not None:
        click.echo(f"Wrote {html}.", err=True)
    remedy = f"Its figures stand, but only runs of one workload pair with {found['baseline']}, the baseline."
    problems = [
        Problem(pair["run"], "has no job in common with the baseline", remedy)
        for pair in found["paired"]
        if pair["jobs_in_both"] == pair["jobs_not_alike"]
    ]
    if problems:
        raise InputError(problems)


def _title(runs: Sequence[dict[str, str]]) -> str:
    scenarios = ", ".join(dict.fromkeys(run["scenario"] for run in runs))
    return f"{scenarios}: {', '.join(run['run'] for run in runs)}"


def _print(console: Console, sections: Sequence[Section]) -> None:
    """All runs first, then the pairs; as many runs beside each other as there is room for."""
    *of_runs, paired = sections
    for part in (of_runs, [paired]):
        names, rows = _heads(part[0].runs), [row for section in part for row in section.rows]
        label_width = max(map(len, (*map(_title_of, part), *(_label(row.label) for row in rows))))
        room = console.width - label_width
        chunk: list[int] = []
        for i, name in enumerate(names):
            width = 4 + max(map(len, (name, *(_cell(row.cells[i]) for row in rows))))
            if chunk and width > room:
                _table(console, part, names, chunk)
                chunk, room = [], console.width - label_width
            chunk.append(i)
            room -= width
        _table(console, part, names, chunk)


def _heads(names: Sequence[str]) -> list[str]:
    """Names of runs, cut where that leaves them different."""
    from fleetsim.cli.console import plain

    cut = [_cell(name) for name in names]
    return cut if len(set(cut)) == len(cut) else [plain(name, 40) for name in names]


def _table(
    console: Console, sections: Sequence[Section], names: Sequence[str], chosen: Sequence[int]
) -> None:
    """One table of the runs at the positions *chosen*, the sections under their titles."""
    from rich.text import Text

    from fleetsim.cli.console import print_table

    rows: list[list[str | Text]] = []
    for section in sections:
        rows.append([Text(_title_of(section), "bold"), *([""] * len(chosen))])
        for row in section.rows:
            cells = [
                Text(f"{_cell(row.cells[i])} *", "bold")
                if i in row.best
                else Text(f"{_cell(row.cells[i])}  ")
                for i in chosen
            ]
            rows.append([Text(_label(row.label)), *cells])
    print_table(console, ["", *(f"{names[i]}  " for i in chosen)], rows)


def _title_of(section: Section) -> str:
    from fleetsim.cli.console import plain

    return plain(section.title, 40)


def _label(text: str) -> str:
    from fleetsim.cli.console import plain

    return f"  {plain(text, 36)}"


def _cell(text: str) -> str:
    from fleetsim.cli.console import plain

    return plain(text, MOST_WIDE)
