"""From a reader's draft to a :class:`~fleetsim_traces.table.Trace`: check every row, count faults, sort.

Every reader ends here, so what the tables promise is checked in one place. :func:`finish` makes job tables;
:func:`sift` and :func:`to_arrow` do the same work for tables with other columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fleetsim_traces.delimited import Misfit
from fleetsim_traces.errors import Problem, TraceError
from fleetsim_traces.table import COLUMNS, WORKLOAD_CLASSES, Column, Trace, schema
from fleetsim_traces.text import MAX_TEXT, fail, shorten
from fleetsim_traces.times import number

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

BadRows = Literal["refuse", "drop"]
EXAMPLES = 5  # rejected rows shown for each reason
NO_GPU = "no GPU asked for"
NEVER_STARTED = "never started"
RAW = ":raw"  # suffix of the source's own text of a column, for messages


@dataclass(frozen=True)
class Check:
    """Rows where *bad* is true are rejected for *reason*; the message shows their value of *shown*."""

    reason: str
    shown: str
    bad: pl.Expr
    remedy: str = ""


def numbers(**columns: str) -> list[pl.Expr]:
    """Table columns as numbers, and the text of each, from the columns of the source: ``gpus="num_gpu"``."""
    import polars as pl

    return [
        expr
        for name, source in columns.items()
        for expr in (number(pl.col(source)).alias(name), pl.col(source).alias(name + RAW))
    ]


def no_gpu(cpu_jobs: bool = False) -> Check:
    """Skips rows of 0 GPUs; with *cpu_jobs* only those that ask for no CPU either."""
    import polars as pl

    nothing = pl.col("gpus") == 0
    return Check(
        NO_GPU, "gpus", nothing & ~(pl.col("cpu_milli") > 0).fill_null(False) if cpu_jobs else nothing
    )


@dataclass
class Draft:
    """What a reader found: *frame* with columns of the table and ``line``, numbers Float64, names String.

    A column ``<name>:raw`` holds the source's text. *constants* are values that every row has. Columns in
    neither become null (``gpu_share`` 1, ``tenant`` "default", ``job_id`` the line). Rows that *skips* finds
    are sound but none of the table's business: they are counted and left out before anything is checked.
    With *rebase* true, times are on the source's clock, whose zero is *epoch* (UTC); the finished trace
    counts from the whole second of its first submission.
    """

    path: Path
    format: str
    frame: pl.DataFrame
    checks: Sequence[Check] = ()
    skips: Sequence[Check] = ()
    misfits: Sequence[Misfit] = ()
    fields: int = 0  # expected in a row, for the message about misfits
    epoch: datetime | None = None
    rebase: bool = False
    notes: list[str] = field(default_factory=list)
    generated: bool = False
    constants: Mapping[str, str | float] = field(default_factory=dict)


@dataclass(frozen=True)
class Sifted:
    """The rows of a draft that pass, and what became of the others; *notes* tell of those skipped."""

    frame: pl.DataFrame
    rows_read: int  # without those skipped
    rejected: Mapping[str, int]
    samples: tuple[Problem, ...]
    skipped: Mapping[str, int]
    notes: tuple[str, ...]


@dataclass
class _Rejects:
    counts: dict[str, int] = field(default_factory=dict)
    samples: list[Problem] = field(default_factory=list)

    def add(self, reason: str, count: int, samples: Iterable[Problem]) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + count
        self.samples.extend(samples)


def finish(draft: Draft, bad_rows: BadRows) -> Trace:
    """Check, sort and convert *draft*; raises TraceError as :func:`sift` does."""
    import polars as pl

    unique = Check(
        "job_id repeats an earlier row",
        "job_id",
        ~pl.col("job_id").is_first_distinct(),
        "Keep one row for each job.",
    )
    order = Check("start_s is before submit_s", "start_s", pl.col("start_s") < pl.col("submit_s"))
    has_cpu = pl.col("cpu_milli") > 0 if "cpu_milli" in draft.frame.columns else pl.lit(False)
    shown = "gpus:raw" if "gpus:raw" in draft.frame.columns else "gpus"
    nothing = Check("gpus is below 1", shown, (pl.col("gpus") == 0) & ~has_cpu.fill_null(False))
    known = Check(
        "workload_class is unknown",
        "workload_class",
        ~pl.col("workload_class").is_in(WORKLOAD_CLASSES),
        f"Use {', '.join(WORKLOAD_CLASSES)}.",
    )
    present = draft.frame.columns
    extra = [nothing] + [known] * ("workload_class" in present) + [order] * ("start_s" in present)
    found = sift(draft, bad_rows, COLUMNS, extra, unique if "job_id" in present else None, "jobs")
    frame, epoch, notes = found.frame, draft.epoch, [*draft.notes, *found.notes]
    if draft.rebase:
        frame, _, epoch = rebased(draft.path, frame, "submit_s", epoch)
    if not frame["submit_s"].is_sorted():
        notes.append("Rows were not in order of submission; they were sorted.")
        frame = frame.sort("submit_s", maintain_order=True)
    return Trace(
        jobs=to_arrow(frame, {"tenant": "default", "gpu_share": 1.0, **draft.constants}),
        format=draft.format,
        source=str(draft.path),
        epoch=epoch,
        rows_read=found.rows_read,
        rejected=found.rejected,
        samples=found.samples,
        skipped=found.skipped,
        notes=tuple(notes),
        generated=draft.generated,
    )


def rebased(
    path: Path, frame: pl.DataFrame, first: str, epoch: datetime | None
) -> tuple[pl.DataFrame, float, datetime | None]:
    """*frame* with times counted from the whole second of its earliest *first*, that second, its instant."""
    import polars as pl

    zero = math.floor(frame[first].min())  # type: ignore[arg-type]
    # microseconds: what is lost below them is noise of the subtraction
    times = [name for name in (first, "start_s") if name in frame.columns]
    frame = frame.with_columns((pl.col(times) - zero).round(6))
    try:
        return frame, float(zero), epoch + timedelta(seconds=zero) if epoch else None
    except OverflowError:
        raise fail(path, f"{zero:,} s after {epoch} is beyond the calendar", "Is the epoch right?") from None


def sift(
    draft: Draft,
    bad_rows: BadRows,
    columns: Sequence[Column],
    extra: Sequence[Check],
    unique: Check | None,
    what: str,
) -> Sifted:
    """The rows of *draft* that keep the promises of *columns*, its own checks, *extra*, then *unique*.

    Raises TraceError with counts by reason and examples where rows are at fault and *bad_rows* is
    ``refuse``, and where no usable row is left.
    """
    path, rejects, skips = draft.path, _Rejects(), _Rejects()
    if draft.frame.height + len(draft.misfits) == 0:
        raise fail(path, f"no {what} in it", "A trace has at least one row.")
    if draft.misfits:
        rejects.add(
            "wrong number of fields",
            len(draft.misfits),
            [
                Problem(
                    f"{path}:{m.line}",
                    f"{m.fields} field{'s' * (m.fields != 1)} in {shorten(m.text)}",
                    f"Write {draft.fields}.",
                )
                for m in draft.misfits[:EXAMPLES]
            ],
        )
    frame = _pick(path, draft.frame, draft.skips, skips)
    rows_read = frame.height + len(draft.misfits)
    if rows_read == 0:
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in skips.counts.items())
        raise fail(path, f"no {what} in it that can be used ({reasons})", "Is it the right file?")
    frame = _clean(frame, columns)
    signed = draft.rebase
    frame = _pick(path, frame, [*draft.checks, *_contract(columns, frame, signed), *extra], rejects)
    if unique and not all_differ(frame[unique.shown].hash()):
        frame = _pick(path, frame, [unique], rejects)
    if rejects.counts and bad_rows == "refuse":
        raise TraceError([_summary(path, rejects.counts, rows_read), *rejects.samples])
    if frame.height == 0:
        raise TraceError([Problem(str(path), f"none of {rows_read:,} rows can be used"), *rejects.samples])
    notes = tuple(f"{count:,} rows left out: {reason}." for reason, count in skips.counts.items())
    return Sifted(frame, rows_read, rejects.counts, tuple(rejects.samples), skips.counts, notes)


def all_differ(hashes: pl.Series) -> bool:
    """True where no hash comes twice, so that what was hashed is surely different; sorting tells soonest."""
    import numpy as np

    ordered = np.sort(hashes.to_numpy())
    return not (ordered[1:] == ordered[:-1]).any()


def _clean(frame: pl.DataFrame, columns: Sequence[Column]) -> pl.DataFrame:
    """*frame* with the names in it stripped, empty ones null, empty shares 1."""
    import polars as pl

    made = []
    for c in columns:
        if c.name not in frame.columns:
            continue
        if c.name == "gpu_share":
            made.append(pl.col(c.name).fill_null(1.0))
        elif not c.numeric:
            cells = frame[c.name].unique() if c.kind == "category" else frame[c.name]  # few are soon seen
            if ((cells != cells.str.strip_chars()) | (cells == "")).any():
                text = pl.col(c.name).str.strip_chars()
                made.append(pl.when(text != "").then(text).alias(c.name))
    return frame.with_columns(made)


def _contract(columns: Sequence[Column], frame: pl.DataFrame, signed: bool) -> list[Check]:
    """What a table promises of the columns in *frame*, as checks; *signed* while times may lie before zero.

    Nulls are only looked into where there are some.
    """
    import polars as pl

    checks = []
    for c in columns:
        if c.name not in frame.columns:
            continue
        col, raw, gaps = pl.col(c.name), c.name + RAW, frame[c.name].null_count() > 0
        shown = raw if raw in frame.columns else c.name
        if gaps and c.numeric and raw in frame.columns:
            unread = col.is_null() & (pl.col(raw).str.strip_chars() != "")
            checks.append(Check(f"{c.name} is not a number", raw, unread))
        if gaps and not c.nullable:
            checks.append(Check(f"{c.name} is missing", shown, col.is_null()))
        if c.numeric:
            checks.append(Check(f"{c.name} is not finite", shown, ~col.is_finite()))
            if c.kind == "int32":
                checks.append(Check(f"{c.name} is not a whole number", shown, col != col.floor()))
            checks += _limits(c, shown, signed and c.name in ("submit_s", "start_s"))
        elif (frame[c.name].str.len_bytes() > MAX_TEXT).any():  # a quick look first: bytes are never fewer
            long = col.str.len_chars() > MAX_TEXT
            checks.append(Check(f"{c.name} is over {MAX_TEXT:,} characters", shown, long))
    return checks


def _limits(column: Column, shown: str, signed: bool) -> Iterable[Check]:
    import polars as pl

    col, low, high = pl.col(column.name), column.minimum, column.maximum
    if signed and high is not None:
        low, high = -high / 2, high / 2
    unit = f" {column.unit}" if column.unit in ("s", "GB") else ""
    if low == 0:
        below = col <= 0 if column.open_minimum else col < 0
        yield Check(f"{column.name} is {'not above 0' if column.open_minimum else 'negative'}", shown, below)
    elif low is not None:
        yield Check(f"{column.name} is below {low:,.0f}{unit}", shown, col < low)
    if high is not None:
        remedy = "Is the unit right?" if column.unit else ""
        yield Check(f"{column.name} is above {high:,.0f}{unit}", shown, col > high, remedy)


def _pick(path: Path, frame: pl.DataFrame, checks: Sequence[Check], rejects: _Rejects) -> pl.DataFrame:
    """The rows that pass; each other row is counted once, under the first check it fails."""
    import polars as pl

    if not checks or frame.height == 0:
        return frame
    found = frame.select(check.bad.any().alias(str(i)) for i, check in enumerate(checks)).row(0)
    hits = {i: check for (i, check), bad in zip(enumerate(checks), found, strict=True) if bad}
    if not hits:
        return frame
    verdict = pl.coalesce(
        [pl.when(check.bad.fill_null(False)).then(pl.lit(i, dtype=pl.Int32)) for i, check in hits.items()]
    )
    verdicts = frame.select(verdict.alias("check")).to_series()
    for i in verdicts.drop_nulls().unique().sort():
        check = checks[i]
        hit = frame.filter(verdicts == i)
        head = hit.head(EXAMPLES).select("line", pl.col(check.shown).alias("shown")).iter_rows()
        rejects.add(
            check.reason,
            hit.height,
            [
                Problem(f"{path}:{line}", f"{check.reason}: {_quote(value)}", check.remedy)
                for line, value in head
            ],
        )
    return frame.filter(verdicts.is_null())


def _quote(value: object) -> str:
    if value is None:
        return "''"
    return shorten(value) if isinstance(value, str) else f"{value:.15g}"


def _summary(path: Path, counts: dict[str, int], rows_read: int) -> Problem:
    reasons = ", ".join(f"{reason}: {count:,}" for reason, count in counts.items())
    return Problem(
        str(path),
        f"{sum(counts.values()):,} of {rows_read:,} rows cannot be used ({reasons})",
        "Correct them, or leave them out with `bad_rows: drop` (`--bad-rows drop`).",
    )


def to_arrow(
    frame: pl.DataFrame,
    constants: Mapping[str, str | float] | None = None,
    columns: Sequence[Column] = COLUMNS,
    target: pa.Schema | None = None,
) -> pa.Table:
    """The *columns* of *frame* in exactly the declared schema (*target*, else the job table's), one chunk.

    Columns that are absent have the value in *constants*, else null; ``job_id`` the line.
    """
    import pyarrow as pa

    target = target or schema()
    values = constants or {}
    with ThreadPoolExecutor() as pool:
        arrays = pool.map(lambda c: _array(c, frame, values.get(c.name), target.field(c.name).type), columns)
        return pa.Table.from_arrays(list(arrays), schema=target)


def _array(column: Column, frame: pl.DataFrame, value: str | float | None, kind: pa.DataType) -> pa.Array:
    """The *column* of *frame* as Arrow's *kind*; *value* in each row where it is absent."""
    import numpy as np
    import polars as pl
    import pyarrow as pa

    kinds = {"float64": pl.Float64, "float32": pl.Float32, "int32": pl.Int32}
    name, size = column.name, frame.height
    if name in frame.columns and column.numeric:
        return frame[name].cast(kinds[column.kind]).to_arrow()
    if name in frame.columns and column.kind == "category":
        coded = frame[name].to_arrow().dictionary_encode()
        return pa.DictionaryArray.from_arrays(coded.indices, coded.dictionary.cast(pa.string()))
    if name in frame.columns:
        return frame[name].to_arrow().cast(pa.string())
    if name == "job_id":
        return frame["line"].to_arrow().cast(pa.string())
    if value is None:
        return pa.nulls(size, kind)
    if column.kind == "category":
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(size, np.int32)), pa.array([value]))
    return pa.repeat(pa.scalar(value, kind), size)
