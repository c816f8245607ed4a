"""``fleetsim telemetry``: readings of single GPUs out of a finished run."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetsim.cli.options import RUN

if TYPE_CHECKING:
    from fleetsim.telemetry.sensors import Readings

#: Readings beyond which the user must say yes.
MANY_READINGS = 100_000_000

#: Attempts beyond which reading a run takes a second or more.
MANY_ATTEMPTS = 200_000

#: The highest number that a list of nodes or GPUs may name.
HIGHEST = 10_000_000

#: Readings a second that the estimate of time goes by, by format: measured on one slow core.
PER_S = {".parquet": 700_000, ".csv": 300_000}


@click.command()
@RUN
@click.option("--start", default="0s", show_default=True, metavar="WHEN", help="First time: 90d, or a date.")
@click.option("--end", metavar="WHEN", help="Readings are before this time.  [default: the end of the run]")
@click.option("--step", default="60s", show_default=True, metavar="TIME", help="Time between two readings.")
@click.option("--nodes", metavar="LIST", help="Nodes by number, as in 0-9,12.  [default: all]")
@click.option("--gpus", metavar="LIST", help="GPUs of these nodes by index, as in 0,1.  [default: all]")
@click.option(
    "--inlet", default=25.0, show_default=True, type=click.FloatRange(-20, 100), metavar="C",
    help="Temperature of the air or liquid that reaches the GPUs.",
)  # fmt: skip
@click.option(
    "-o", "--output", required=True, metavar="FILE",
    help="FILE.parquet or FILE.csv, written whole or not at all; - is CSV on standard output.",
)  # fmt: skip
@click.option("--yes", is_flag=True, help=f"Write more than {MANY_READINGS:,} readings.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No estimate, no progress and no summary.")
def telemetry(
    run_folder: Path,
    start: str,
    end: str | None,
    step: str,
    nodes: str | None,
    gpus: str | None,
    inlet: float,
    output: str,
    yes: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Derive readings of single GPUs from RUN: what NVML and DCGM would have said of them.

    Utilisation, activities, memory, clocks, power, temperature, throttle reasons, energy, XID: all from the
    one state that the GPU is in at that time. One row a GPU and time, in the columns of the reading table;
    GPUs of nodes that are down have none. The same run, time and GPU give the same reading, whatever else is
    asked for.

    \b
    Example:
      fleetsim telemetry runs/first --start 1d --end 1d1h --step 15s --nodes 0-3 -o readings.parquet
      fleetsim telemetry runs/first --end 10min --nodes 0 --gpus 0,1 -o - | head
    """
    from fleetsim.cli.console import counting
    from fleetsim.runfolder import open_run
    from fleetsim.telemetry import history, table
    from fleetsim.telemetry.sensors import Telemetry, ticks
    from fleetsim.units import human

    run = open_run(run_folder)
    target = None if output == "-" else Path.cwd() / output
    if target is not None:
        table.check(target)
    elif as_json:
        raise click.UsageError("--json and -o - both print to standard output: name a file.")
    start_s, end_s, step_s, of_nodes, of_gpus = grid_of(run.manifest, start, end, step, nodes, gpus)
    servers, devices = history.count(run, of_nodes, of_gpus)
    times = ticks(start_s, end_s, step_s)
    most = times * devices
    suffix = ".csv" if target is None else target.suffix
    spent, size = human(round(most / PER_S[suffix])), most * table.BYTES[suffix] / 1e6
    cost = f"{times:,} times x {devices:,} GPUs: up to {most:,} readings, about {size:,.1f} MB and {spent}"
    if most > MANY_READINGS and not yes:
        _refuse(cost)
    if not quiet:
        click.echo(f"{cost}.", err=True)
        if (attempts := history.attempts_of(run)) > MANY_ATTEMPTS:
            click.echo(f"Reading {attempts:,} attempts at jobs.", err=True)
    found = Telemetry(run, of_nodes, of_gpus, inlet, end_s)

    with counting("Readings", quiet) as tell:

        def batches() -> Iterator[Readings]:
            for done, batch in found.batches(start_s, end_s, step_s):
                yield batch
                tell(done * devices, most)

        if target is None:
            sys.stdout.flush()
            table.stream(batches(), sys.stdout.buffer, suffix)
            return
        written = table.write(batches(), target)
    summary = {
        "file": str(output),
        "readings": written,
        "times": times,
        "nodes": servers,
        "gpus": devices,
        "start_s": start_s,
        "end_s": end_s,
        "step_s": step_s,
        "bytes": target.stat().st_size,
    }
    if as_json:
        click.echo(json.dumps(summary, indent=2))
    elif not quiet:
        click.echo(f"Wrote {written:,} readings of {devices:,} GPUs on {servers:,} nodes to {output}.")


def grid_of(
    manifest: dict[str, object], start: str, end: str | None, step: str, nodes: str | None, gpus: str | None
) -> tuple[float, float, float, set[int] | None, set[int] | None]:
    """The grid in seconds and the lists. Raises :class:`~fleetsim.errors.InputError` with all that is
    wrong."""
    from fleetsim.errors import InputError, Problem
    from fleetsim.units import duration_s, human, instant, since

    problems: list[Problem] = []
    epoch, last_s = instant(str(manifest["start"])), float(str(manifest["end_s"]))

    def when(option: str, text: str) -> float:
        try:
            return since(epoch, text)
        except (ValueError, OverflowError) as error:
            problems.append(Problem(option, str(error), "For example 1d12h."))
            return 0.0 if option == "--start" else last_s

    def listed(option: str, text: str | None) -> set[int] | None:
        try:
            return None if text is None else numbers(text)
        except ValueError as error:
            problems.append(Problem(option, str(error), "Write numbers and ranges, as in 0-9,12."))
            return None

    start_s = when("--start", start)
    end_s = last_s if end is None else when("--end", end)
    lists = listed("--nodes", nodes), listed("--gpus", gpus)
    try:
        step_s = duration_s(step)
        if step_s < 0.001:
            problems.append(Problem("--step", f"{step!r} is less than 1 ms", "Give more."))
    except ValueError as error:
        step_s = 60.0
        problems.append(Problem("--step", str(error), "For example 15s."))
    if not problems and not 0 <= start_s < end_s <= last_s:
        fault = f"{start_s:g} s to {end_s:g} s is not in the run, or is no time"
        remedy = f"The run goes from 0 to {last_s:.10g} s ({human(last_s)})."
        problems.append(Problem("--start, --end", fault, remedy))
    if problems:
        raise InputError(problems)
    return start_s, end_s, step_s, *lists


def numbers(text: str) -> set[int]:
    """The numbers that *text* lists; ``ValueError`` if it is no list.

    >>> sorted(numbers("0-2,7"))
    [0, 1, 2, 7]
    """
    found: set[int] = set()
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not (low.isascii() and low.isdigit() and (not dash or (high.isascii() and high.isdigit()))):
            raise ValueError(f"{part!r} is neither a number nor a range")
        first, last = int(low), int(high or low)
        if not first <= last <= HIGHEST:
            raise ValueError(f"{part!r} descends, or goes beyond {HIGHEST:,}")
        found.update(range(first, last + 1))
    return found


def _refuse(cost: str) -> None:
    from fleetsim.errors import InputError, Problem

    remedy = "Take a longer --step, fewer --nodes or --gpus, or a shorter time; or say --yes."
    raise InputError([Problem("telemetry", f"{cost}; more than {MANY_READINGS:,}", remedy)])
