"""``fleetsim sweep``: what the runs of a sweep show, point by point."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

MOST_FAILED = 20  # runs that are named
VALUE_WIDTH = 48  # of an axis


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--figure", "figures", multiple=True, metavar="NAME", help="A figure to show; may be repeated.")
@click.option(
    "--break-even", metavar="AXIS", help="At which value of this axis each generation stops being used."
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True),
    help="Allocated share below which it is not used.  [default: 0.05]",
)
@click.option("--last", metavar="SPAN", help="Part of the run, at its end, that counts.  [default: 1y]")
@click.option("--tiers", is_flag=True, help="Break-even for each tier apart.")
@click.option(
    "--axis", metavar="AXIS", help="What charts are drawn against. Default: the first with numbers."
)
@click.option("--json", "as_json", is_flag=True, help="Print every figure as JSON, with definitions.")
@click.option("--csv", "as_csv", is_flag=True, help="Print a row for each point, or break-even, as CSV.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Draw it on a page.")
@click.option("--png", type=click.Path(path_type=Path), metavar="FILE", help="Draw it as a picture.")
def sweep(
    folder: Path,
    figures: tuple[str, ...],
    break_even: str | None,
    threshold: float | None,
    last: str | None,
    tiers: bool,
    axis: str | None,
    as_json: bool,
    as_csv: bool,
    html: Path | None,
    png: Path | None,
) -> None:
    """Show the sweep in DIR: figures of every point as means over its replications, with 95 % intervals,
    and how they differ from the first point's. Axes go by their last words: load for workloads.batch.load.

    \b
    Example:
      fleetsim sweep runs/demand
      fleetsim sweep runs/demand --figure allocated --figure wait_p95_s --html demand.html
      fleetsim sweep runs/demand --break-even load --threshold 0.05 --last 1y
    """
    from fleetsim.cli.console import stdout
    from fleetsim.cli.trace_input import patience
    from fleetsim.sweeps import break_even as even
    from fleetsim.sweeps import charts as sweep_charts
    from fleetsim.sweeps import table as sweep_table
    from fleetsim.sweeps.folder import open_sweep
    from fleetsim_traces.atomic import atomic

    _check_options(break_even, threshold, last, tiers, axis, as_json, as_csv, figures, html or png)
    opened = open_sweep(folder)
    names = _figures(figures) or sweep_table.headlines(opened)
    with patience(f"Reading {len(opened.done)} runs"):
        found = sweep_table.table(opened, names)
        if break_even is not None:
            found["break_even"] = even.break_even(
                opened, break_even, threshold if threshold is not None else 0.05, _span(last or "1y"), tiers
            )
        if html is not None or png is not None:
            charts = sweep_charts.Charts(found, sweep_charts.find_x(found, axis))
            if html is not None:
                with atomic(html) as file:
                    file.write(charts.page().encode())
            if png is not None:
                with atomic(png) as file:
                    file.write(charts.png())
    if as_json:
        click.echo(json.dumps(found, indent=2, allow_nan=False))
    elif as_csv:
        click.echo(_csv(found), nl=False, color=True)
    else:
        report(stdout(), found, figures or ("allocated",))
    for path in (html, png):
        if path is not None:
            click.echo(f"Wrote {path}.", err=True)


def _check_options(
    break_even: str | None,
    threshold: float | None,
    last: str | None,
    tiers: bool,
    axis: str | None,
    as_json: bool,
    as_csv: bool,
    figures: Sequence[str],
    drawn: Path | None,
) -> None:
    """Options that say nothing together are refused."""
    for name, given in (("--threshold", threshold is not None), ("--last", last), ("--tiers", tiers)):
        if given and break_even is None:
            raise click.UsageError(f"{name} goes with --break-even.")
    if axis is not None and drawn is None:
        raise click.UsageError("--axis goes with --html or --png.")
    if as_json and as_csv:
        raise click.UsageError("--json and --csv both print to stdout: take one.")
    if as_csv and figures and break_even is not None:
        raise click.UsageError("--csv prints figures or the break-even: leave --figure or --break-even out.")


def _figures(names: Sequence[str]) -> list[str]:
    from fleetsim.errors import InputError, Problem
    from fleetsim.safeyaml import suggest
    from fleetsim.sweeps.table import RUN_FIGURES

    problems = [
        Problem(
            "--figure", f"no figure {name!r}", f"{suggest(name, RUN_FIGURES)}Known: {', '.join(RUN_FIGURES)}."
        )
        for name in names
        if name not in RUN_FIGURES
    ]
    if problems:
        raise InputError(problems)
    return list(dict.fromkeys(names))


def _span(text: str) -> str:
    from fleetsim import units
    from fleetsim.errors import InputError, Problem

    try:
        if units.duration_s(text) > 0:
            return text
        message = f"{text!r} is not longer than zero"
    except ValueError as error:
        message = str(error)
    raise InputError([Problem("--last", message, "For example: 1y, 90d.")])


def report(console: Console, found: Mapping[str, Any], by_generation: Sequence[str] = ("allocated",)) -> None:
    """The sweep as tables: every point, its difference from the first, the figures *by_generation*, where
    generations stop being used, and the runs that failed."""
    from fleetsim.cli.console import plain
    from fleetsim.comparison import Figure
    from fleetsim.sweeps.table import GENERATION_FIGURES, words

    figures = {name: Figure(**facts) for name, facts in found["definitions"]["figures"].items()}
    points = found["points"]
    runs = f"{_count(len(points), 'point')} x {_count(found['replications'], 'replication')}"
    console.print(f"{plain(found['scenario'])}, {runs}", style="bold", soft_wrap=True)
    if found["question"]:
        console.print(plain(found["question"], 400), style="italic", soft_wrap=True)
    console.print()

    def column(name: str, of: Sequence[Mapping[str, Any]], sign: bool = False) -> tuple[str, list[str]]:
        return _head(figures[name]), [words(figures[name].unit, row, sign) for row in of]

    title = "Mean ± half of the 95 % interval" if found["replications"] > 1 else "Figures of every point"
    _table(console, title, found, points, [
        column(name, [point["figures"][name] for point in points]) for name in figures
    ])  # fmt: skip
    if len(points) > 1:
        first = points[0]["name"]
        pairs = ", replication by replication" if found["replications"] > 1 else ""
        _table(console, f"Difference from {first}{pairs}", found, points[1:], [
            column(name, [point["figures"][name]["difference"] for point in points[1:]], True)
            for name in figures
        ])  # fmt: skip
    cells = {(g["figure"], g["point"], g["generation"]): g for g in found["generations"] if g["tier"] is None}
    generations = dict.fromkeys(generation for _, _, generation in cells)
    absent = {"mean": None, "low": None}
    for name in figures:
        if name in GENERATION_FIGURES and name in by_generation:
            _table(console, f"By generation: {_head(figures[name])}", found, points, [
                (g, [words(figures[name].unit, cells.get((name, p["point"], g), absent)) for p in points])
                for g in generations
            ])  # fmt: skip
    if "break_even" in found:
        _break_even(console, found)
    failed = [run for run in found["runs"] if run["status"] == "failed"]
    if failed:
        console.print("Runs that failed", style="bold yellow")
        for run in failed[:MOST_FAILED]:
            console.print(f"  {plain(run['folder'], 140)}: {plain(run['error'] or '', 400)}", soft_wrap=True)
        if len(failed) > MOST_FAILED:
            console.print(f"  and {len(failed) - MOST_FAILED:,} more, all in --json")
        console.print()
    for note in [*found["notes"], "Every figure is defined in --json."]:
        console.print(note, style="dim", soft_wrap=True)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _head(figure: Any) -> str:
    label = figure.label.removeprefix("x ").removeprefix("= ")
    return (
        label
        if figure.unit in ("share", "s", "x", "1", "jobs", "times", "GPUs")
        else f"{label} ({figure.unit})"
    )


def _cell(value: Any) -> str:
    """A value of an axis for a program: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _table(
    console: Console,
    title: str,
    found: Mapping[str, Any],
    points: Sequence[Mapping[str, Any]],
    columns: Sequence[tuple[str, Sequence[str]]],
) -> None:
    """A row for each point; as many columns beside each other as there is room for, the rest below."""
    from rich.text import Text

    from fleetsim.cli.console import plain, print_table
    from fleetsim.sweeps.sweep import axis_labels, shown

    labels = list(axis_labels(list(found["axes"])).values()) or ["point"]
    left = [
        [Text(plain(shown(value), VALUE_WIDTH)) for value in point["values"].values()] or [Text("all")]
        for point in points
    ]
    widths = [max(map(len, [label, *(row[i].plain for row in left)])) for i, label in enumerate(labels)]
    console.print(title, style="bold", soft_wrap=True)
    room = console.width - sum(width + 2 for width in widths)
    chunk: list[tuple[str, Sequence[str]]] = []
    used = 0
    for one in columns:
        width = 2 + max(map(len, [one[0], *one[1]]))
        if chunk and used + width > room:
            print_table(console, [*labels, *(h for h, _ in chunk)], _rows(left, chunk), left=len(labels))
            chunk, used = [], 0
        chunk.append(one)
        used += width
    print_table(console, [*labels, *(h for h, _ in chunk)], _rows(left, chunk), left=len(labels))


def _rows(left: Sequence[Sequence[Any]], columns: Sequence[tuple[str, Sequence[str]]]) -> list[list[Any]]:
    from rich.text import Text

    return [[*row, *(Text(cells[i]) for _, cells in columns)] for i, row in enumerate(left)]


def _break_even(console: Console, found: Mapping[str, Any]) -> None:
    from rich.text import Text

    from fleetsim import units
    from fleetsim.cli.console import plain, print_table
    from fleetsim.sweeps.break_even import hints, otherwise
    from fleetsim.sweeps.sweep import axis_labels, shown
    from fleetsim.sweeps.table import words

    even = found["break_even"]
    labels = axis_labels(list(found["axes"]))
    others = [label for path, label in labels.items() if path != even["axis"]]
    tiers = ["tier"] if any(row["tier"] is not None for row in even["rows"]) else []
    console.print(f"Where generations stop being used, along {even['axis']}", style="bold", soft_wrap=True)
    rows: list[list[str | Text]] = []
    doubts = []
    for row in even["rows"]:
        name = [
            *(plain(shown(value), VALUE_WIDTH) for value in row["values"].values()),
            plain(row["generation"]),
            *([plain(row["tier"] or "-")] if tiers else []),
        ]
        runs = f"{row['crosses']} of {row['replications']}"
        level = Text(words("", row["break_even"]))
        rows.append([*name, level, runs, Text(otherwise(row))])
        if doubt := hints(row):
            doubts.append(f"{', '.join(name)}: {doubt}.")
    heads = [*others, "generation", *tiers, f"stops at {labels[even['axis']]}", "in runs", "the other runs"]
    print_table(console, heads, rows, left=len(heads))
    window = f"the last {even['last']}"
    if even["window_start_s"]:
        window += f" (whole periods: from {units.human(even['window_start_s'])} after the start on)"
    console.print(
        f"Not used: allocated / installed GPU hours over {window} below {100 * even['threshold']:g} %. The "
        "share is interpolated between neighbouring levels in each run of the axis; mean ± half of the 95 % "
        "interval over the replications that have a break-even.",
        style="dim",
        soft_wrap=True,
    )
    for doubt in doubts:
        console.print(doubt, style="dim", soft_wrap=True)
    console.print()


def _csv(found: Mapping[str, Any]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = ("mean", "low", "high")
    if "break_even" in found:
        others = [path for path in found["axes"] if path != found["break_even"]["axis"]]
        kinds = ("replications", "crosses", "below", "above", "retired", "uneven", "levels_gone")
        writer.writerow([*others, "generation", "tier", *(f"break_even_{end}" for end in ends), *kinds])
        for row in found["break_even"]["rows"]:
            values = [_cell(row["values"][path]) for path in others]
            numbers = [row["break_even"][end] for end in ends]
            writer.writerow(
                [*values, row["generation"], row["tier"], *numbers, *(row[kind] for kind in kinds)]
            )
        return text.getvalue()
    names = list(found["definitions"]["figures"])
    heads = [
        f"{name}_{kind}{end}" for name in names for kind in ("", "difference_") for end in (*ends, "runs")
    ]
    writer.writerow(["point", *found["axes"], *heads])
    for point in found["points"]:
        cells = [
            estimate[end]
            for name in names
            for estimate in (point["figures"][name], point["figures"][name]["difference"])
            for end in (*ends, "runs")
        ]
        writer.writerow([point["point"], *map(_cell, point["values"].values()), *cells])
    return text.getvalue()
