"""A part of a trace, small enough to look at: some rows at random, or those of a window of time."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from fleetsim_traces.requests import RequestTrace
from fleetsim_traces.table import Trace
from fleetsim_traces.text import fail

if TYPE_CHECKING:
    import pyarrow as pa

Either = TypeVar("Either", bound=Trace | RequestTrace)


def sample_rows(trace: Either, rows: int, *, seed: int = 0) -> Either:
    """*rows* rows, each as likely as any other, in order; the same seed gives the same rows.

    Bursts are thinned with the rest, so a sample is calmer than its trace; a window keeps them. Raises
    TraceError where there are fewer rows.
    """
    table = _table(trace)
    if not 1 <= rows <= table.num_rows:
        raise fail("n", f"{rows:,} is not from 1 to {table.num_rows:,}, the rows there are")
    if seed < 0:
        raise fail("seed", f"{seed} is negative")
    chosen = np.random.default_rng(seed).choice(table.num_rows, size=rows, replace=False, shuffle=False)
    note = f"A uniform sample of {rows:,} of {table.num_rows:,} rows, seed {seed}: bursts are thinned too."
    return _with(trace, table.take(np.sort(chosen)), note)


def window(trace: Either, from_s: float | None, to_s: float | None) -> Either:
    """The rows that arrive from *from_s* to before *to_s*, in seconds from the trace's epoch; times stay.

    Raises TraceError where there are none.
    """
    table = _table(trace)
    times = table.column(1).to_numpy()
    first = 0 if from_s is None else int(np.searchsorted(times, from_s))
    last = len(times) if to_s is None else int(np.searchsorted(times, to_s))
    if first >= last:
        raise fail(
            trace.source,
            f"no rows from {_show(from_s, times[0])} to before {_show(to_s, times[-1])}",
            f"The first is at {times[0]:,.0f} s, the last at {times[-1]:,.0f} s.",
        )
    note = f"The window from {_show(from_s, times[0])} to before {_show(to_s, times[-1])} of a longer trace."
    return _with(trace, table.slice(first, last - first), note)


def seconds(trace: Trace | RequestTrace, text: str, name: str) -> float:
    """A point of *trace*'s time: a number of seconds from its epoch, or an instant with its UTC offset."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise fail(
            name, f"{text!r} is neither seconds nor an instant", "Such as 86400 or 2017-10-03T00:00Z."
        ) from None
    if moment.tzinfo is None:
        raise fail(name, f"{text} has no UTC offset", f"Write {text}Z.")
    if trace.epoch is None:
        raise fail(name, f"{text} is a date, and {trace.source} has none", "Give seconds from its start.")
    return (moment - trace.epoch).total_seconds()


def _show(given: float | None, otherwise: float) -> str:
    return f"{otherwise if given is None else given:,.0f} s"


def _table(trace: Trace | RequestTrace) -> pa.Table:
    return trace.jobs if isinstance(trace, Trace) else trace.requests


def _with(trace: Either, table: pa.Table, note: str) -> Either:
    """*trace* with the rows of *table* only, its dictionaries holding nothing else."""
    import pyarrow as pa

    for i, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):  # names of rows left out must not stay behind
            plain = table.column(i).cast(field.type.value_type).combine_chunks()
            table = table.set_column(i, field, plain.dictionary_encode())
    made = {"rows_read": table.num_rows, "rejected": {}, "samples": (), "notes": (*trace.notes, note)}
    if isinstance(trace, Trace):
        return replace(trace, jobs=table.combine_chunks(), skipped={}, **made)
    return replace(trace, requests=table.combine_chunks(), **made)
