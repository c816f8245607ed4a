"""What the commands of ``fleetsim trace`` share: the file they read, their options, progress on stderr."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetsim.cli.console import LINE_EVERY_S, PROGRESS_AFTER_S

if TYPE_CHECKING:
    from fleetsim_traces.either import Found
    from fleetsim_traces.pieces import Progress


def reading(command: Callable[..., None]) -> Callable[..., None]:
    """The options of every command that reads a file."""
    for option in (
        click.option(
            "--columns",
            type=click.Path(path_type=Path),
            metavar="MAPPING.yaml",
            help="Which column is what (generic).",
        ),
        click.option(
            "--format", "form", default="auto", metavar="NAME", help="Format, if not to be told from content."
        ),
    ):
        command = option(command)
    return command


with_bad_rows = click.option(
    "--bad-rows",
    type=click.Choice(["refuse", "drop"]),
    default="refuse",
    show_default=True,
    help="What to do with rows at fault.",
)
with_zone = click.option(
    "--zone",
    default="UTC",
    show_default=True,
    help="Time zone of hours and weekdays, and of times in a log that has none (sacct).",
)
with_log_zone = click.option(
    "--zone", help="Time zone of times in a log that has none (sacct).  [default: UTC]"
)
to_table = click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Parquet file to write."
)
with_json = click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")


def find_input(
    file: str, form: str, columns: Path | None, zone: str | None = None, *, needed: bool = True
) -> Found:
    """How to read *file*, a bundled sample's name included; *zone* as in ``either.zoned``."""
    from fleetsim_traces.either import find, load_mapping, zoned

    found = find(locate(file), form, load_mapping(columns) if columns else None)
    return found if zone is None else zoned(found, zone, needed=needed)


def locate(file: str) -> Path:
    """A file, else a bundled sample of that name."""
    from fleetsim_traces.errors import Problem, TraceError
    from fleetsim_traces.samples import SAMPLES
    from fleetsim_traces.samples import sample as bundled

    if Path(file).exists():
        return Path(file)
    if file in SAMPLES:
        return bundled(file)
    raise TraceError([Problem(file, "no such file", f"Bundled samples: {', '.join(SAMPLES)}.")])


@contextmanager
def patience(message: str) -> Iterator[None]:
    """Say on a terminal's stderr what is going on, once it has taken a second."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    status = console.status(escape(message))
    timer = threading.Timer(PROGRESS_AFTER_S, status.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # else it may start after the stop
        status.stop()


@contextmanager
def meter(message: str) -> Iterator[Progress]:
    """Take progress, and show it on stderr after a second: a line that moves, or a line now and then."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True, highlight=False)
    status = console.status(escape(message))
    began = shown = time.monotonic()

    def show(done: int, total: int | None) -> None:
        nonlocal shown
        now = time.monotonic()
        pause = 0.1 if console.is_terminal else LINE_EVERY_S
        if now - began < PROGRESS_AFTER_S or now - shown < pause:
            return
        shown = now
        share = f"{done / total:.0%} of {total / 1e6:,.0f} MB" if total else f"{done / 1e6:,.0f} MB"
        line = f"{message}: {share}, {done / 1e6 / (now - began):,.0f} MB/s"
        if console.is_terminal:
            status.update(escape(line))
        else:
            click.echo(line, err=True)

    timer = threading.Timer(PROGRESS_AFTER_S, status.start if console.is_terminal else lambda: None)
    timer.daemon = True
    timer.start()
    try:
        yield show
    finally:
        timer.cancel()
        timer.join()  # else it may start after the stop
        status.stop()
