"""``fleetsim history``: the past of a run into Prometheus or VictoriaMetrics, or as OpenMetrics text."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleetsim.cli.options import RUN

if TYPE_CHECKING:
    from fleetsim.history import Exporter, Grid
    from fleetsim.telemetry.sensors import Telemetry

#: Samples beyond which the user must say yes.
MANY_SAMPLES = 500_000_000


@click.command()
@RUN
@click.option(
    "--remote-write", metavar="URL", help="Send to this endpoint, as in http://host:9090/api/v1/write."
)
@click.option("--victoriametrics", metavar="URL", help="Send to VictoriaMetrics, as in http://host:8428.")
@click.option(
    "--openmetrics", metavar="FILE",
    help="Write text for `promtool tsdb create-blocks-from openmetrics`, whole or not at all.",
)  # fmt: skip
@click.option(
    "--families", default="dcgm", show_default=True, type=click.Choice(["dcgm", "nvidia_smi"]),
    help="Whose names: those of dcgm-exporter, or of nvidia_gpu_exporter.",
)  # fmt: skip
@click.option("--start", default="0s", show_default=True, metavar="WHEN", help="First time: 90d, or a date.")
@click.option("--end", metavar="WHEN", help="Samples are before this time.  [default: the end of the run]")
@click.option("--step", default="60s", show_default=True, metavar="TIME", help="Time between two samples.")
@click.option("--nodes", metavar="LIST", help="Nodes by number, as in 0-9,12.  [default: all]")
@click.option("--until-now", is_flag=True, help="Move all times so that the last ones are now.")
@click.option(
    "--resume", metavar="FILE",
    help="Where to keep how far it has come, to go on after a break.  [default: RUN.history.json]",
)  # fmt: skip
@click.option("--yes", is_flag=True, help=f"Make more than {MANY_SAMPLES:,} samples.")
@click.option("--json", "as_json", is_flag=True, help="Print what was made as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No estimate, no progress and no summary.")
def history(
    run_folder: Path,
    remote_write: str | None,
    victoriametrics: str | None,
    openmetrics: str | None,
    families: str,
    start: str,
    end: str | None,
    step: str,
    nodes: str | None,
    until_now: bool,
    resume: str | None,
    yes: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Give Prometheus the past of RUN: the series it would have if it had scraped the nodes all along.

    Times are those of the scenario (UTC). Where a series ends, a stale marker is sent, so that sums never
    count a GPU twice; text cannot carry markers: there a series that ended counts for 5 minutes more.
    Prometheus needs --web.enable-remote-write-receiver, a retention time that covers the history, and nothing
    newer in its store. What is sent must be acknowledged; after a break the same command goes on.

    \b
    Example:
      fleetsim history runs/first --remote-write http://127.0.0.1:9090/api/v1/write
      fleetsim history runs/first --victoriametrics http://127.0.0.1:8428 --until-now --start 29d --end 30d
      fleetsim history runs/first --openmetrics first.om --step 5min --nodes 0-9
    """
    from fleetsim import history as past
    from fleetsim.cli.console import counting
    from fleetsim.cli.telemetry import grid_of
    from fleetsim.runfolder import open_run
    from fleetsim.telemetry import history as books
    from fleetsim.telemetry.sensors import Telemetry
    from fleetsim.units import human, instant

    ways = {"remote_write": remote_write, "victoriametrics": victoriametrics, "openmetrics": openmetrics}
    chosen = [(way, where) for way, where in ways.items() if where is not None]
    if len(chosen) != 1:
        raise click.UsageError("Name one of --remote-write, --victoriametrics and --openmetrics.")
    way, where = chosen[0]
    if openmetrics is not None and resume is not None:
        raise click.UsageError("--resume is for what is sent: a file is written whole or not at all.")
    run = open_run(run_folder)
    start_s, end_s, step_s, of_nodes, _ = grid_of(run.manifest, start, end, step, nodes, None)
    _, gpus = books.count(run, of_nodes, None)
    grid = past.Grid.of(start_s, end_s, step_s, instant(str(run.manifest["start"])), gpus)
    if until_now:
        grid = grid.ending(time.time())
    exporter = past.EXPORTERS[families]
    if openmetrics is None:
        url = where.rstrip("/") + "/api/v1/write" if way == "victoriametrics" else where
        receiver = past.Receiver(url)
        file = (
            Path.cwd() / resume
            if resume
            else run.path.resolve().with_name(f"{run.path.resolve().name}.history.json")
        )
        state = past.Resume(file, past.asked(run, url, families, grid, of_nodes, until_now), grid.epoch_ms)
        resumed = state.load()
        grid = past.Grid(start_s, end_s, step_s, state.epoch_ms, grid.each)
    else:
        _check_target(Path.cwd() / where)
    cost = past.Size(exporter, gpus, past.placings(run, of_nodes, start_s, end_s), len(grid)).cost[way]
    said = (
        f"{cost.times:,} times x {cost.gpus:,} GPUs: up to {cost.series:,} series and {cost.samples:,} "
        f"samples, about {cost.bytes / 1e6:,.1f} MB and {human(round(cost.seconds))}"
    )
    if cost.samples > MANY_SAMPLES and not yes:
        _refuse(said)
    if not quiet:
        click.echo(f"{said}.", err=True)
    found = Telemetry(run, of_nodes)
    with counting("Times", quiet) as tell:
        if openmetrics is None:
            if resumed and not quiet:
                done = f"slice {state.slice:,} of {grid.slices:,}, {state.counts.samples:,} samples"
                click.echo(f"Goes on after {done} ({state.path}).", err=True)
            for done_times in past.send(found, exporter, grid, receiver, state, resumed):
                tell(done_times, len(grid))
            made: dict[str, Any] = asdict(state.counts)
        else:
            made = _write(found, exporter, grid, Path.cwd() / where, tell)
    first_ms, last_ms = (int(grid.slice(n)[1][at]) for n, at in ((0, 0), (grid.slices - 1, -1)))
    summary = {
        "to": where, "families": families, "gpus": gpus, "times": len(grid), "step_s": step_s,
        "first_ms": first_ms, "last_ms": last_ms, **made,
    }  # fmt: skip
    if as_json:
        click.echo(json.dumps(summary, indent=2))
    elif not quiet:
        markers = f" and {made['stale_markers']:,} stale markers" if "stale_markers" in made else ""
        click.echo(
            f"{made['samples']:,} samples{markers} of {gpus:,} GPUs at {len(grid):,} times to {where}."
        )


def _check_target(target: Path) -> None:
    from fleetsim.errors import InputError, Problem

    problems = []
    if target.exists() and not target.is_file():
        problems.append(Problem(str(target), "is not a regular file", "Choose another name."))
    if not target.parent.is_dir():
        problems.append(Problem(str(target.parent), "no such folder", "Make it first."))
    if problems:
        raise InputError(problems)


def _write(found: Telemetry, exporter: Exporter, grid: Grid, target: Path, tell: Any) -> dict[str, int]:
    """Write the text to *target*; return samples and bytes."""
    from fleetsim import history as past

    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    count = 0
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            for number in range(grid.slices):
                for text, lines in past.openmetrics(
                    past.blocks(found, exporter, grid, number, past.text_head)
                ):
                    file.write(text)
                    count += lines
                tell(min((number + 1) * grid.each, len(grid)), len(grid))
            file.write("# EOF\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return {"samples": count, "bytes": target.stat().st_size}


def _refuse(cost: str) -> None:
    from fleetsim.errors import InputError, Problem

    remedy = "Take a longer --step, fewer --nodes or a shorter time; or say --yes."
    raise InputError([Problem("history", f"{cost}; more than {MANY_SAMPLES:,} samples", remedy)])
