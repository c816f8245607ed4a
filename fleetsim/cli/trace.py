"""``fleetsim trace``: look at workloads, check them, turn them into tables. Look-alikes: ``trace_make``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetsim.cli.trace_input import (
    find_input,
    meter,
    patience,
    reading,
    to_table,
    with_bad_rows,
    with_json,
    with_log_zone,
    with_zone,
)
from fleetsim.cli.trace_make import fit, generate

if TYPE_CHECKING:
    from fleetsim_traces.requests import RequestTrace
    from fleetsim_traces.table import Trace


@click.group()
def trace() -> None:
    """Look at workloads, check and convert them, make look-alikes.

    \b
    Example:
      fleetsim trace list
      fleetsim trace info philly-like-10k
    """


trace.add_command(fit)
trace.add_command(generate)


@trace.command("list")
@with_json
def list_(as_json: bool) -> None:
    """List formats, families and bundled samples.

    \b
    Example:
      fleetsim trace list
      fleetsim trace list --json
    """
    from fleetsim_traces.generate import FAMILIES
    from fleetsim_traces.parameters import REQUEST_FAMILIES
    from fleetsim_traces.reading import READERS
    from fleetsim_traces.request_reading import REQUEST_READERS
    from fleetsim_traces.samples import SAMPLES

    known: dict[str, dict[str, str]] = {
        "jobs": {name: reader.about for name, reader in READERS.items()},
        "requests": {name: reader.about for name, reader in REQUEST_READERS.items()},
        "samples": dict(SAMPLES),
    }
    if as_json:
        click.echo(
            json.dumps({**known, "families": FAMILIES, "request_families": REQUEST_FAMILIES}, indent=2)
        )
        return
    width = max(len(name) for rows in known.values() for name in rows)
    titles = {"jobs": "Job logs", "requests": "Request logs", "samples": "Bundled samples"}
    for key, title in titles.items():
        click.secho(title, bold=True)
        for name, about in known[key].items():
            click.echo(f"  {name:<{width}}  {about}")
    click.secho("Families to generate", bold=True)
    click.echo(f"  jobs      {', '.join(FAMILIES)}")
    click.echo(f"  requests  {', '.join(REQUEST_FAMILIES)}")


@trace.command()
@click.argument("file")
@reading
@with_bad_rows
@with_zone
@click.option("--html", type=click.Path(path_type=Path), metavar="PAGE", help="Draw jobs on a page.")
@click.option("--png", type=click.Path(path_type=Path), metavar="PICTURE", help="Draw jobs as a picture.")
@click.option("--gpus", type=click.FloatRange(min=1), help="Capacity to draw the load against.")
@with_json
def info(
    file: str,
    form: str,
    columns: Path | None,
    bad_rows: str,
    zone: str,
    html: Path | None,
    png: Path | None,
    gpus: float | None,
    as_json: bool,
) -> None:
    """Describe a workload: sizes, times, who and when.

    Of jobs it shows GPUs, GPU-hours and tenants; of requests rates, tokens, bursts and shared prefixes.
    FILE is a log, a job or request table, plain or packed, or the name of a bundled sample.

    \b
    Example:
      fleetsim trace info philly-like-10k
      fleetsim trace info NASA-iPSC-1993-3.1-cln.swf.gz --zone America/Los_Angeles
      fleetsim trace info AzureLLMInferenceTrace_conv.csv --json
      fleetsim trace info jobs.csv --columns mapping.yaml --bad-rows drop
      fleetsim trace info philly-like-10k --html philly.html --gpus 512
    """
    from fleetsim.cli.trace_show import show_jobs, show_requests
    from fleetsim_traces.profile import profile
    from fleetsim_traces.request_profile import request_profile
    from fleetsim_traces.requests import RequestTrace

    with patience(f"Reading {file}"):
        found = find_input(file, form, columns, zone, needed=False).read(bad_rows)
        if isinstance(found, RequestTrace):
            facts, show = request_profile(found, zone=zone), show_requests
        else:
            facts, show = profile(found, zone=zone), show_jobs
        if html is not None or png is not None:
            _draw(found, Path(file).name, html, png, gpus, zone)
    if as_json:
        click.echo(json.dumps(facts, indent=2, allow_nan=False))
        return
    from rich.console import Console

    console = Console(highlight=False)
    if console.is_terminal:
        show(console, facts, found.samples)
        return
    with console.capture() as page:
        show(console, facts, found.samples)
    for line in page.get().splitlines():  # without the blanks that fill a table's cells
        click.echo(line.rstrip())


def _draw(
    found: Trace | RequestTrace,
    title: str,
    html: Path | None,
    png: Path | None,
    gpus: float | None,
    zone: str,
) -> None:
    from fleetsim.charts import trace_page, trace_png
    from fleetsim.errors import InputError, Problem
    from fleetsim_traces.atomic import atomic
    from fleetsim_traces.requests import RequestTrace

    if isinstance(found, RequestTrace):
        remedy = "Leave --html and --png out; --json has every figure."
        raise InputError([Problem(title, "holds requests, and only jobs are drawn", remedy)])
    if html is not None:
        with atomic(html) as page:
            page.write(trace_page(found, title=title, gpus=gpus, zone=zone).encode())
    if png is not None:
        trace_png(found, png, title=title, gpus=gpus, zone=zone)
    click.echo(f"Wrote {' and '.join(str(path) for path in (html, png) if path is not None)}.", err=True)


@trace.command()
@click.argument("file")
@to_table
@reading
@with_bad_rows
@with_log_zone
def convert(
    file: str, output: Path, form: str, columns: Path | None, bad_rows: str, zone: str | None
) -> None:
    """Write a log of any known format as a table in Parquet.

    Jobs and requests have a table each. A CSV with a column mapping, and request logs, are read in pieces:
    ten million rows need less than 1 GiB of memory. Other formats are read whole and may unpack to 4 GiB of
    text. The output appears whole or not at all.

    \b
    Example:
      fleetsim trace convert jobs.csv.gz --columns mapping.yaml -o jobs.parquet
      fleetsim trace convert AzureLLMInferenceTrace_conv_1week.csv -o azure.parquet
      fleetsim trace convert sacct.txt --zone Europe/Berlin -o jobs.parquet
    """
    from fleetsim.cli.trace_show import size
    from fleetsim_traces.convert import convert as run

    with meter(f"Converting {file}") as progress:
        done = run(find_input(file, form, columns, zone), output, bad_rows=bad_rows, progress=progress)
    what = "generated " * done.generated + done.kind
    click.echo(f"Wrote {done.rows:,} {what} to {output} ({size(output)}).")
    for counts in (done.rejected, done.skipped):
        for reason, count in counts.items():
            click.echo(f"  left out {count:,}: {reason}")


@trace.command()
@click.argument("file")
@reading
@with_log_zone
@click.option("--gpus", type=float, help="Capacity to set the load against (jobs).")
@with_json
@click.pass_context
def validate(
    ctx: click.Context,
    file: str,
    form: str,
    columns: Path | None,
    zone: str | None,
    gpus: float | None,
    as_json: bool,
) -> None:
    """Check a workload for rows at fault and its load.

    Rows at fault are counted by reason, with the first of each, and the load offered is set against --gpus.
    Exit code 0 where every row can be used, 2 where one cannot.

    \b
    Example:
      fleetsim trace validate philly-like-10k --gpus 2500
      fleetsim trace validate jobs.csv --columns mapping.yaml --json
    """
    from fleetsim.cli.trace_show import clean, duration
    from fleetsim_traces.validate import validate as run

    with meter(f"Checking {file}") as progress:
        report, problems = run(find_input(file, form, columns, zone), gpus=gpus, progress=progress)
    faults = sum(report["rejected"].values())
    if as_json:
        shown = [{"place": p.place, "message": p.message, "remedy": p.remedy} for p in problems]
        click.echo(json.dumps({**report, "problems": shown}, indent=2, allow_nan=False))
        ctx.exit(2 if faults else 0)
    for problem in problems:
        click.echo(clean(str(problem)))
    for reason, count in report["rejected"].items():
        click.echo(f"{count:>9,} at fault: {reason}")
    for reason, count in report["skipped"].items():
        click.echo(f"{count:>9,} left out: {reason}")
    click.echo(
        f"{report['rows']:,} of {report['rows_read']:,} rows can be used as {report['kind']} "
        f"({clean(report['format'])}), over {duration(report['span_s'])}"
    )
    if report["mean_gpus"] is not None:
        load = f"{report['gpu_hours']:,.0f} GPU-hours, {report['mean_gpus']:,.1f} GPUs busy if nothing waits"
        if report["offered_load"] is not None:
            load += f": an offered load of {report['offered_load']:.3g} on {gpus:,.0f} GPUs"
        click.echo(load)
    elif report["tokens"] is not None:
        click.echo(f"{report['tokens']:,} tokens of prompts and outputs")
    for note in report["notes"]:
        click.echo(f"note: {clean(note)}")
    ctx.exit(2 if faults else 0)


@trace.command()
@click.argument("file")
@click.option("-n", "rows", type=int, help="How many rows, each as likely as any other.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same rows.")
@click.option("--from", "from_", metavar="TIME", help="Instant, or seconds from the epoch, to begin at.")
@click.option("--to", metavar="TIME", help="Instant or seconds to end before.")
@to_table
@reading
@with_bad_rows
@with_log_zone
def sample(
    file: str,
    rows: int | None,
    seed: int,
    from_: str | None,
    to: str | None,
    output: Path,
    form: str,
    columns: Path | None,
    bad_rows: str,
    zone: str | None,
) -> None:
    """Write a part of a workload.

    A window of time, rows at random, or rows at random of a window. Random rows thin bursts; a window keeps
    them.

    \b
    Example:
      fleetsim trace sample philly-like-10k -n 1000 --seed 7 -o some.parquet
      fleetsim trace sample philly-like-10k --from 2024-01-08T00:00Z --to 2024-01-15T00:00Z -o week.parquet
    """
    from fleetsim.cli.trace_show import size
    from fleetsim_traces.requests import RequestTrace, write_requests
    from fleetsim_traces.sampling import sample_rows, seconds, window
    from fleetsim_traces.table import write_jobs

    if rows is None and from_ is None and to is None:
        raise click.UsageError("Say what to take: -n, --from or --to.")
    with patience(f"Reading {file}"):
        found = find_input(file, form, columns, zone).read(bad_rows)
        if from_ is not None or to is not None:
            low, high = (
                None if at is None else seconds(found, at, name)
                for at, name in ((from_, "--from"), (to, "--to"))
            )
            found = window(found, low, high)
        if rows is not None:
            found = sample_rows(found, rows, seed=seed)
        if isinstance(found, RequestTrace):
            write_requests(found, output)
        else:
            write_jobs(found, output)
    kind = "requests" if isinstance(found, RequestTrace) else "jobs"
    click.echo(f"Wrote {found.rows_read:,} {kind} to {output} ({size(output)}).")
