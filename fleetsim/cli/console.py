"""What the commands share: where text goes, how tables and bars look, and progress on stderr."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from fleetsim import units

if TYPE_CHECKING:
    from types import TracebackType

    from fleetsim.experiment import Progress
    from fleetsim.scenario import Scenario
    from fleetsim.sweeps.folder import Progress as SweepProgress

PIPE_COLUMNS = 140  # of a pipe or file, where nothing need be cut
NAME_WIDTH = 20  # of a name in a table
PROGRESS_AFTER_S = 1.0
LINE_EVERY_S = 5.0  # of progress where stderr is not a terminal


def stdout() -> Console:
    """A console on stdout: colours on a terminal, plain and uncut in a pipe."""
    if sys.stdout is None:  # closed
        return Console(file=io.StringIO())
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_COLUMNS
    return Console(width=width, highlight=False, markup=False)


def writes_utf8() -> bool:
    """Whether stdout can show box drawing characters."""
    return "utf" in (getattr(sys.stdout, "encoding", None) or "").lower()


def print_table(
    console: Console, columns: Sequence[str], rows: Sequence[Sequence[str | Text]], left: int = 1
) -> None:
    """Print a table whose first *left* columns are text and whose others are numbers."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim", collapse_padding=True)
    for i, name in enumerate(columns):
        made.add_column(name, justify="left" if i < left else "right", no_wrap=True)
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(plain(cell)) for cell in row))
    if console.is_terminal:
        console.print(made)
        return
    with console.capture() as captured:
        console.print(made)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    console.print("\n".join(lines), soft_wrap=True)


def plain(text: str, most: int = NAME_WIDTH) -> str:
    """A name for people: control characters written out, the middle of a long one left out.

    >>> plain("a\\x1b[31mb"), plain("x" * 50, 9)
    ('a\\\\x1b[31mb', 'xxxx…xxxx')
    """
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: 4 * most])
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def bar(share: float | None, width: int = 12) -> Text:
    """A share of one as a bar of *width* cells, in eighths.

    >>> bar(0.5, 4).plain, bar(None, 4).plain, bar(0.28, 4).plain
    ('██  ', '    ', '█▏  ')
    """
    eighths = min(round((share or 0.0) * width * 8), width * 8)
    whole, rest = divmod(eighths, 8)
    return Text(("█" * whole + ("▏▎▍▌▋▊▉"[rest - 1] if rest else "")).ljust(width), "cyan")


def percent(share: float | None) -> str:
    """A share as per cent, or a dash where there is none.

    >>> percent(0.1234), percent(None)
    ('12.3 %', '-')
    """
    return "-" if share is None else f"{100 * share:.1f} %"


class Meter:
    """Progress of a run on stderr once it has taken a second: a line that moves, or a line now and then."""

    def __init__(self, scenario: Scenario, quiet: bool = False) -> None:
        self._quiet = quiet
        self._start = scenario.start
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, transient=True, auto_refresh=False)
        self._began = self._shown = time.monotonic()

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def __call__(self, seen: Progress) -> None:
        """Show *seen*, unless something was shown a moment ago."""
        now = time.monotonic()
        pause = 0.1 if self._console.is_terminal else LINE_EVERY_S
        if self._quiet or now - self._began < PROGRESS_AFTER_S or now - self._shown < pause:
            return
        self._shown = now
        spent_s = now - self._began
        share = min(1.0, seen.now_s / seen.end_s) if seen.end_s else 1.0
        eta = units.human(round(spent_s * (1 - share) / share)) if share else "?"
        line = Text.assemble(
            f"{units.at(self._start, seen.now_s):%Y-%m-%d} ",
            bar(share, 20),
            f" {share:4.0%}  {seen.jobs_ended:,} of {seen.jobs:,} jobs  "
            f"{seen.jobs_ended / spent_s:,.0f} jobs/s  ETA {eta}",
        )
        if self._console.is_terminal:
            self._live.start()
            self._live.update(line, refresh=True)
        else:
            self._console.print(line, soft_wrap=True)


@contextmanager
def counting(what: str, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Take counts (how many are done, of how many), and show them on stderr after a second unless *quiet*."""
    console = Console(stderr=True, highlight=False)
    live = Live(console=console, transient=True, auto_refresh=False)
    began = shown = time.monotonic()

    def tell(done: int, of: int) -> None:
        nonlocal shown
        now = time.monotonic()
        pause = 0.1 if console.is_terminal else LINE_EVERY_S
        if quiet or now - began < PROGRESS_AFTER_S or now - shown < pause:
            return
        shown = now
        line = Text.assemble(f"{what} ", bar(done / of, 20), f" {done:,} of {of:,}")
        if console.is_terminal:
            live.start()
            live.update(line, refresh=True)
        else:
            console.print(line, soft_wrap=True)

    try:
        yield tell
    finally:
        live.stop()


class SweepMeter:
    """Progress of a sweep on stderr once it has taken a second: all runs, and those under way below."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, transient=True, auto_refresh=False)
        self._began = self._shown = time.monotonic()

    def __enter__(self) -> SweepMeter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def __call__(self, seen: SweepProgress) -> None:
        """Show *seen*, unless something was shown a moment ago."""
        now = time.monotonic()
        pause = 0.5 if self._console.is_terminal else LINE_EVERY_S
        if self._quiet or now - self._began < PROGRESS_AFTER_S or now - self._shown < pause:
            return
        self._shown = now
        under_way = sum(seen.running.values())
        share = (seen.ended + under_way) / seen.of
        worked = seen.ended - seen.kept + under_way
        to_do = seen.of - seen.ended - under_way
        eta = units.human(round((now - self._began) * to_do / worked)) if worked else "?"
        failed = f", {seen.failed:,} failed" if seen.failed else ""
        lines = [
            Text.assemble(
                bar(share, 20),
                f" {share:4.0%}  {seen.ended:,} of {seen.of:,} runs done{failed}, {len(seen.running)} running"
                + (f"  ETA {eta}" if to_do else ""),
            )
        ]
        if self._console.is_terminal:
            lines += [
                Text.assemble("  ", bar(part, 18), f" {part:4.0%}  {plain(name, 60)}")
                for name, part in [*seen.running.items()][: max(1, self._console.height - 2)]
            ]
            self._live.start()
            self._live.update(Group(*lines), refresh=True)
        else:
            self._console.print(lines[0], soft_wrap=True)
