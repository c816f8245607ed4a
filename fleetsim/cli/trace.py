"""``fleetsim trace``: look at a workload, make a look-alike, list what can be read."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from fleetsim_traces.table import Trace

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MOST_COUNTS = 12  # more GPU counts than this are shown in powers of two


@click.group()
def trace() -> None:
    """Look at workloads, make look-alikes, list what can be read."""


@trace.command("list")
def list_() -> None:
    """List the formats that can be read and the bundled samples.

    \b
    Example:
      fleetsim trace list
    """
    from fleetsim_traces.reading import READERS
    from fleetsim_traces.samples import SAMPLES

    known = {name: reader.about for name, reader in READERS.items()}
    width = max(map(len, [*known, *SAMPLES]))
    for title, rows in (("Formats", known), ("Bundled samples", SAMPLES)):
        click.secho(title, bold=True)
        for name, about in rows.items():
            click.echo(f"  {name:<{width}}  {about}")


@trace.command()
@click.argument("file")
@click.option(
    "--format", "form", default="auto", metavar="NAME", help="Format, if not to be told from content."
)
@click.option(
    "--columns",
    type=click.Path(path_type=Path),
    metavar="MAPPING.yaml",
    help="Which column is what (generic).",
)
@click.option(
    "--bad-rows",
    type=click.Choice(["refuse", "drop"]),
    default="refuse",
    show_default=True,
    help="What to do with rows at fault.",
)
@click.option("--zone", default="UTC", show_default=True, help="Time zone of hours and weekdays.")
@click.option("--json", "as_json", is_flag=True, help="Print the profile as JSON.")
def info(file: str, form: str, columns: Path | None, bad_rows: str, zone: str, as_json: bool) -> None:
    """Describe a workload: GPU-hours, job sizes, run times, arrivals, tenants.

    FILE is a log or a job table, plain or gzip, or the name of a bundled sample.

    \b
    Example:
      fleetsim trace info philly-like-10k
      fleetsim trace info NASA-iPSC-1993-3.1-cln.swf.gz --zone America/Los_Angeles
      fleetsim trace info jobs.csv --columns mapping.yaml --bad-rows drop
    """
    from fleetsim_traces.mapping import load_columns
    from fleetsim_traces.profile import profile
    from fleetsim_traces.reading import read_trace

    mapping = load_columns(columns) if columns else None
    with _patience(f"Reading {file}"):
        found = read_trace(_locate(file), form, columns=mapping, bad_rows=bad_rows)
        facts = profile(found, zone=zone)
    if as_json:
        click.echo(json.dumps(facts, indent=2, allow_nan=False))
        return
    from rich.console import Console

    console = Console(highlight=False)
    if console.is_terminal:
        _show(console, found, facts)
        return
    with console.capture() as page:
        _show(console, found, facts)
    for line in page.get().splitlines():  # without the blanks that fill a table's cells
        click.echo(line.rstrip())


@trace.command()
@click.option("--family", default="philly", show_default=True, help="What to imitate.")
@click.option("--jobs", type=int, default=10_000, show_default=True, help="How many.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same jobs.")
@click.option(
    "--start", metavar="INSTANT", help="First instant, with its UTC offset.  [default: 2024-01-01T00:00Z]"
)
@click.option("--jobs-per-day", type=float, help="Mean rate.  [default: the family's own]")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Parquet file to write.")
def generate(
    family: str, jobs: int, seed: int, start: str | None, jobs_per_day: float | None, output: Path
) -> None:
    """Make jobs that look like a public log's, and write them as a job table.

    \b
    Example:
      fleetsim trace generate --family philly --jobs 100000 --seed 7 -o jobs.parquet
      fleetsim trace info jobs.parquet
    """
    from fleetsim_traces.generate import START, generate_jobs
    from fleetsim_traces.table import write_jobs

    with _patience(f"Generating {jobs:,} jobs"):
        made = generate_jobs(
            family, jobs=jobs, seed=seed, start=_instant(start) if start else START, jobs_per_day=jobs_per_day
        )
        write_jobs(made, output)
    click.echo(f"Wrote {jobs:,} generated jobs to {output} ({output.stat().st_size / 1e6:.1f} MB).")


def _instant(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not an instant such as 2024-01-01T00:00Z", param_hint="--start"
        ) from None


def _locate(file: str) -> Path:
    """A file, else a bundled sample of that name."""
    from fleetsim_traces.errors import Problem, TraceError
    from fleetsim_traces.samples import SAMPLES, sample

    if Path(file).exists():
        return Path(file)
    if file in SAMPLES:
        return sample(file)
    raise TraceError([Problem(file, "no such file", f"Bundled samples: {', '.join(SAMPLES)}.")])


@contextmanager
def _patience(message: str) -> Iterator[None]:
    """Say on a terminal's stderr what is going on, once it has taken a second."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    status = console.status(escape(message))
    timer = threading.Timer(1.0, status.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # else it may start after the stop
        status.stop()


def _show(console: Console, found: Trace, facts: Mapping[str, Any]) -> None:
    """Print a profile for people."""
    from rich.padding import Padding
    from rich.text import Text

    console.print(
        Text(_clean(Path(facts["source"]).name), style="bold"), Text(f"({_clean(facts['format'])})")
    )
    if facts["generated"]:
        console.print(Text("GENERATED look-alike: no cluster ran these jobs", style="yellow"))
    console.print()
    _facts_table(console, facts)
    _shares(console, "GPUs per job", [{**row, "key": row["gpus"]} for row in facts["gpus"]], buckets=True)
    _durations(console, facts["duration_s"])
    _arrivals(console, facts["arrivals"])
    tenants = facts["tenants"]
    more = tenants["count"] - len(tenants["top"])
    _shares(
        console,
        "tenant",
        [{**row, "key": row["tenant"]} for row in tenants["top"]],
        note=(f"and {more:,} more; " if more else "")
        + f"Gini {tenants['gini_jobs']:.2f} by jobs, {tenants['gini_gpu_hours']:.2f} by GPU-hours; "
        f"HHI {tenants['hhi_jobs']:.2f}, {tenants['hhi_gpu_hours']:.2f}",
    )
    if any(row["status"] is not None for row in facts["status"]):
        _shares(console, "status", [{**row, "key": row["status"] or "unknown"} for row in facts["status"]])
    if facts["rejected"]:
        console.print(Text("\n Rows left out", style="bold"))
        for reason, count in facts["rejected"].items():
            console.print(Text(f" {count:>9,}  {reason}"))
        for problem in found.samples:
            console.print(Padding(Text(_clean(str(problem)), style="dim"), (0, 0, 0, 1)))
    if facts["notes"]:
        console.print(Text("\n Notes", style="bold"))
        for note in facts["notes"]:
            console.print(Padding(Text(_clean(note)), (0, 0, 0, 1)))


def _facts_table(console: Console, facts: Mapping[str, Any]) -> None:
    jobs = f"{facts['jobs']:,}"
    if facts["rejected"]:
        jobs += f" of {facts['rows_read']:,} rows"
    span = _duration(facts["span_s"])
    if facts["epoch"]:
        first = datetime.fromisoformat(facts["epoch"]).astimezone(UTC)
        try:
            last = f"{first + timedelta(seconds=facts['span_s']):%Y-%m-%d}"
        except OverflowError:
            last = "beyond the year 9999"
        span = f"{first:%Y-%m-%d} to {last} UTC, {span}"
    hours = f"{_hours(facts['gpu_hours'])} GPU-hours"
    if facts["mean_gpus"] is not None:
        hours += f"; {facts['mean_gpus']:,.0f} GPUs busy on average if nothing waited"
    people = f"{facts['tenants']['count']:,}"
    if facts["users"]:
        people += f", with {facts['users']:,} users"
    table = _table(console, "", "", header=False)
    for name, value in (("jobs", jobs), ("submitted", span), ("demand", hours), ("tenants", people)):
        table.add_row(name, value)
    console.print(table)


def _shares(
    console: Console, title: str, rows: Sequence[Mapping[str, Any]], *, buckets: bool = False, note: str = ""
) -> None:
    """Jobs and GPU-hours by something, with a bar for each share."""
    from rich.text import Text

    if buckets and len(rows) > _MOST_COUNTS:
        rows = _powers(rows)
    width = max(6, min(24, (console.width - 60) // 2))
    table = _table(console, f"<{title}", ">jobs", ">share", "<", ">GPU-hours", ">share", "<")
    for row in rows:
        table.add_row(
            Text(_clean(str(row["key"]), 24)),
            f"{row['jobs']:,}",
            _percent(row["jobs_share"]),
            _bar(console, row["jobs_share"], width),
            _hours(row["gpu_hours"]),
            _percent(row["gpu_hours_share"]),
            _bar(console, row["gpu_hours_share"], width),
        )
    console.print()
    console.print(table)
    if note:
        console.print(Text(f" {note}", style="dim"))


def _powers(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """GPU counts put together up to each power of two."""
    found: dict[int, dict[str, Any]] = {}
    for row in rows:
        top = 1 << (row["key"] - 1).bit_length()
        label = str(top) if top <= 2 else f"{top // 2 + 1}-{top}"
        into = found.setdefault(top, {"key": label})
        for name in ("jobs", "jobs_share", "gpu_hours", "gpu_hours_share"):
            into[name] = into.get(name, 0) + row[name]
    return list(found.values())


def _durations(console: Console, facts: Mapping[str, Any]) -> None:
    table = _table(console, "<run time", *(f">{name}" for name in facts["by_jobs"]))
    for label, key in (("of jobs", "by_jobs"), ("of GPU time", "by_gpu_time")):
        table.add_row(label, *(_duration(value) for value in facts[key].values()))
    console.print()
    console.print(table)


def _arrivals(console: Console, facts: Mapping[str, Any]) -> None:
    from rich.text import Text

    hours, days = facts["by_hour"], facts["by_weekday"]
    where = f"hour, {facts['zone']}" if facts["zone"] else "hour from the start (no date known)"
    levels = "▁▂▃▄▅▆▇█" if _is_unicode(console) else "_.:-=+*#"
    bars = "".join((levels[min(7, int(8 * n / max(hours)))] if n else " ") * 2 + " " for n in hours)
    console.print(Text(f"\n arrivals by {where}", style="bold"))
    console.print(
        Text(f" {bars}"), Text(" " + "".join(f"{h:<6}" for h in range(0, 24, 2)), style="dim"), sep="\n"
    )
    if days:
        total = sum(days)
        line = "  ".join(f"{day} {n / total:.1%}" for day, n in zip(_DAYS, days, strict=True))
        console.print(Text(f" {line}"))


def _table(console: Console, *columns: str, header: bool = True) -> Table:
    """A plain table; a column's name is preceded by < or > for its side."""
    from rich.table import Table

    table = Table(box=None, show_header=header, header_style="bold", padding=(0, 1, 0, 1), pad_edge=True)
    for column in columns:
        side, name = column[:1], column[1:]
        table.add_column(name, justify="right" if side == ">" else "left", no_wrap=side == ">")
    return table


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.0005 or share == 0 else "<0.1%"


def _hours(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _bar(console: Console, share: float, width: int) -> str:
    eighths = round(share * width * 8)
    if not _is_unicode(console):
        return "#" * round(share * width)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _is_unicode(console: Console) -> bool:
    return bool(console.encoding.lower().startswith("utf"))


def _duration(seconds: float) -> str:
    for limit, size, unit in ((60, 1, "s"), (3600, 60, "m"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86400:,.3g} d" if seconds < 86_400_000 else f"{seconds / 86400:,.0f} d"


def _clean(text: str, width: int = 400) -> str:
    """Text of a file fit for a terminal: no control characters, not endless."""
    text = "".join(c if c.isprintable() else "\ufffd" for c in text)
    return text if len(text) <= width else f"{text[: width - 3]}..."
