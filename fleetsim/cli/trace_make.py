"""``fleetsim trace fit`` and ``generate``: the parameters of look-alikes, and look-alikes."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from fleetsim.cli.trace_input import find_input, patience, reading, to_table, with_bad_rows, with_zone


@click.command()
@click.argument("file")
@reading
@with_bad_rows
@with_zone
@click.option("--about", help="In a few words, what the family imitates.")
@click.option("--check", is_flag=True, help="Print how far a look-alike is from the log.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the look-alike that is compared.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Family file (YAML) to write.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def fit(
    file: str,
    form: str,
    columns: Path | None,
    bad_rows: str,
    zone: str,
    about: str | None,
    check: bool,
    seed: int,
    output: Path | None,
    as_json: bool,
) -> None:
    """Derive the parameters of look-alikes from a job log.

    To share a workload without sharing a log: the family file holds counts, shares and quantiles, no job;
    names are made up. Without -o it is printed.

    \b
    Example:
      fleetsim trace fit jobs.csv --columns mapping.yaml --zone Europe/Berlin -o ours.yaml
      fleetsim trace fit philly-like-10k --check -o family.yaml
      fleetsim trace generate --family ours.yaml --jobs 100000 -o look-alike.parquet
    """
    from fleetsim_traces import quality
    from fleetsim_traces.fit import fit as run
    from fleetsim_traces.generate import generate_jobs
    from fleetsim_traces.parameters import dump
    from fleetsim_traces.requests import RequestTrace
    from fleetsim_traces.text import fail

    if (as_json or check) and output is None:
        raise click.UsageError("With --check, say with -o where the family file goes.")
    with patience(f"Fitting {file}"):
        found = find_input(file, form, columns, zone, needed=False).read(bad_rows)
        if isinstance(found, RequestTrace):
            raise fail(file, "requests, and only jobs can be fitted", "Name a job log.")
        parameters = run(found, about=about, zone=zone)
        text = dump(parameters)
        report = None
        if check or as_json:
            made = generate_jobs(parameters, jobs=found.jobs.num_rows, seed=seed, **_start(found.epoch))
            report = quality.check(found, made, zone=zone)
    if output is None:
        click.echo(text, nl=False)
        return
    from fleetsim_traces.atomic import atomic

    with atomic(output) as target:
        target.write(text.encode())
    if as_json:
        click.echo(json.dumps(report, indent=2, allow_nan=False))
        return
    if report is not None:
        click.echo(quality.table(report))
    click.echo(f"Wrote the parameters of {found.jobs.num_rows:,} jobs to {output}.")


@click.command()
@click.option(
    "--family", default="philly", show_default=True, help="What to imitate: a name, or a file of `trace fit`."
)
@click.option("--jobs", type=int, help="How many.  [default: 10000]")
@click.option("--requests", type=int, help="Make so many LLM requests instead of jobs.")
@click.option("--days", type=float, help="How long, instead of how many.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same jobs.")
@click.option(
    "--start", metavar="INSTANT", help="First instant, with its UTC offset.  [default: 2024-01-01T00:00Z]"
)
@click.option("--jobs-per-day", type=float, help="Mean rate.  [default: the family's own]")
@click.option("--load", type=float, help="Mean rate that offers this load on --gpus, if nothing waits.")
@click.option("--gpus", type=float, help="Capacity for --load.")
@to_table
def generate(
    family: str,
    jobs: int | None,
    requests: int | None,
    days: float | None,
    seed: int,
    start: str | None,
    jobs_per_day: float | None,
    load: float | None,
    gpus: float | None,
    output: Path,
) -> None:
    """Make jobs or requests that look like a log's.

    The log is a public one, or your own jobs described by ``fleetsim trace fit``. The result is a job table,
    or with --requests a request table.

    \b
    Example:
      fleetsim trace generate --family philly --jobs 100000 --seed 7 -o jobs.parquet
      fleetsim trace generate --family ours.yaml --days 90 --load 0.8 --gpus 512 -o quarter.parquet
      fleetsim trace generate --family azure-conv --requests 20000 -o chat.parquet
    """
    if requests is not None:
        given = {"--jobs": jobs, "--days": days, "--jobs-per-day": jobs_per_day, "--load": load}
        if wrong := [name for name, value in {**given, "--gpus": gpus}.items() if value is not None]:
            raise click.UsageError(f"{', '.join(wrong)}: for jobs; --requests makes requests")
        _generate_requests(family, requests, seed, start, output)
        return
    from fleetsim.cli.trace_show import size
    from fleetsim_traces.generate import FAMILIES, generate_jobs
    from fleetsim_traces.table import write_jobs

    source = Path(family) if family not in FAMILIES and Path(family).is_file() else family
    with patience("Generating jobs"):
        made = generate_jobs(
            source,
            jobs=jobs,
            days=days,
            seed=seed,
            jobs_per_day=jobs_per_day,
            load=load,
            gpus=gpus,
            **_start(_instant(start) if start else None),
        )
        write_jobs(made, output)
    click.echo(f"Wrote {made.jobs.num_rows:,} generated jobs to {output} ({size(output)}).")


def _generate_requests(family: str, requests: int, seed: int, start: str | None, output: Path) -> None:
    from fleetsim.cli.trace_show import size
    from fleetsim_traces.generate_requests import generate_requests
    from fleetsim_traces.requests import write_requests

    with patience("Generating requests"):
        made = generate_requests(
            family, requests=requests, seed=seed, **_start(_instant(start) if start else None)
        )
        write_requests(made, output)
    click.echo(f"Wrote {made.requests.num_rows:,} generated requests to {output} ({size(output)}).")


def _start(start: datetime | None) -> dict[str, Any]:
    return {} if start is None else {"start": start}


def _instant(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not an instant such as 2024-01-01T00:00Z", param_hint="--start"
        ) from None
