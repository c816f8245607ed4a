"""From a reader's draft to a :class:`~fleetsim_traces.table.Trace`: check every row, count faults, sort.

Every reader ends here, so what the job table promises is checked in one place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fleetsim_traces.errors import Problem, TraceError
from fleetsim_traces.table import COLUMNS, WORKLOAD_CLASSES, Column, Trace, schema
from fleetsim_traces.text import MAX_TEXT, Misfit, fail, shorten

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

BadRows = Literal["refuse", "drop"]
EXAMPLES = 5  # rejected rows shown for each reason
RAW = ":raw"  # suffix of the source's own text of a column, for messages


@dataclass(frozen=True)
class Check:
    """Rows where *bad* is true are rejected for *reason*; the message shows their value of *shown*."""

    reason: str
    shown: str
    bad: pl.Expr
    remedy: str = ""


@dataclass
class Draft:
    """What a reader found: *frame* with job-table columns and ``line``, numbers as Float64, names as String.

    A column ``<name>:raw`` holds the source's text. Absent columns become null (``gpu_share`` 1, ``tenant``
    "default", ``job_id`` the line). With *rebase* true, times are on the source's clock, whose zero is
    *epoch* (UTC); the finished trace counts from the whole second of its first submission.
    """

    path: Path
    format: str
    frame: pl.DataFrame
    checks: Sequence[Check] = ()
    misfits: Sequence[Misfit] = ()
    fields: int = 0  # expected in a row, for the message about misfits
    epoch: datetime | None = None
    rebase: bool = False
    notes: list[str] = field(default_factory=list)
    generated: bool = False


@dataclass
class _Rejects:
    counts: dict[str, int] = field(default_factory=dict)
    samples: list[Problem] = field(default_factory=list)

    def add(self, reason: str, count: int, samples: Iterable[Problem]) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + count
        self.samples.extend(samples)


def finish(draft: Draft, bad_rows: BadRows) -> Trace:
    """Check, sort and convert *draft*.

    Raises TraceError with counts by reason and examples where rows are at fault and *bad_rows* is
    ``refuse``, and where no usable row is left.
    """
    import polars as pl

    path, rejects = draft.path, _Rejects()
    rows_read = draft.frame.height + len(draft.misfits)
    if rows_read == 0:
        raise fail(path, "no jobs in it", "A trace has at least one row.")
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
    frame = _complete(draft.frame)
    frame = _sift(path, frame, [*draft.checks, *_contract(frame.columns, signed=draft.rebase)], rejects)
    repeats = Check(
        "job_id repeats an earlier row",
        "job_id",
        ~pl.col("job_id").is_first_distinct(),
        "Keep one row for each job.",
    )
    frame = _sift(path, frame, [repeats], rejects)
    if rejects.counts and bad_rows == "refuse":
        raise TraceError([_summary(path, rejects.counts, rows_read), *rejects.samples])
    if frame.height == 0:
        raise TraceError([Problem(str(path), f"none of {rows_read:,} rows can be used"), *rejects.samples])

    notes, epoch = list(draft.notes), draft.epoch
    if draft.rebase:
        zero = math.floor(frame["submit_s"].min())  # type: ignore[arg-type]
        # microseconds: what is lost below them is noise of the subtraction
        frame = frame.with_columns((pl.col("submit_s", "start_s") - zero).round(6))
        try:
            epoch = epoch + timedelta(seconds=zero) if epoch else None
        except OverflowError:
            raise fail(
                path, f"{zero:,} s after {epoch} is beyond the calendar", "Is the epoch right?"
            ) from None
    if not frame["submit_s"].is_sorted():
        notes.append("Rows were not in order of submission; they were sorted.")
        frame = frame.sort("submit_s", maintain_order=True)
    return Trace(
        jobs=to_arrow(frame),
        format=draft.format,
        source=str(path),
        epoch=epoch,
        rows_read=rows_read,
        rejected=rejects.counts,
        samples=tuple(rejects.samples),
        notes=tuple(notes),
        generated=draft.generated,
    )


def _complete(frame: pl.DataFrame) -> pl.DataFrame:
    """*frame* with every column of the job table; names stripped, empty ones null."""
    import polars as pl

    absent = {"job_id": pl.col("line").cast(pl.String), "tenant": pl.lit("default")}
    made = []
    for c in COLUMNS:
        if c.name not in frame.columns:
            empty = pl.lit(None, dtype=pl.Float64 if c.numeric else pl.String)
            expr = absent.get(c.name, empty)
        elif c.numeric:
            expr = pl.col(c.name)
        else:
            text = pl.col(c.name).str.strip_chars()
            expr = pl.when(text != "").then(text)
        made.append((expr.fill_null(1.0) if c.name == "gpu_share" else expr).alias(c.name))
    return frame.with_columns(made)


def _contract(present: Sequence[str], *, signed: bool) -> list[Check]:
    """What the job table promises, as checks; *signed* while times may lie before the source's zero."""
    import polars as pl

    checks = []
    for c in COLUMNS:
        col, raw = pl.col(c.name), c.name + RAW
        shown = raw if raw in present else c.name
        if c.numeric and raw in present:
            unread = col.is_null() & (pl.col(raw).str.strip_chars() != "")
            checks.append(Check(f"{c.name} is not a number", raw, unread))
        if not c.nullable:
            checks.append(Check(f"{c.name} is missing", shown, col.is_null()))
        if c.numeric:
            checks.append(Check(f"{c.name} is not finite", shown, ~col.is_finite()))
            if c.kind == "int32":
                checks.append(Check(f"{c.name} is not a whole number", shown, col != col.floor()))
            checks += _limits(c, shown, signed and c.name in ("submit_s", "start_s"))
        else:
            checks.append(
                Check(f"{c.name} is over {MAX_TEXT:,} characters", shown, col.str.len_chars() > MAX_TEXT)
            )
    checks.append(
        Check(
            "workload_class is unknown",
            "workload_class",
            ~pl.col("workload_class").is_in(WORKLOAD_CLASSES),
            f"Use {', '.join(WORKLOAD_CLASSES)}.",
        )
    )
    checks.append(Check("start_s is before submit_s", "start_s", pl.col("start_s") < pl.col("submit_s")))
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


def _sift(path: Path, frame: pl.DataFrame, checks: Sequence[Check], rejects: _Rejects) -> pl.DataFrame:
    """The rows that pass; each other row is counted once, under the first check it fails."""
    import polars as pl

    verdict = pl.coalesce(
        [
            pl.when(check.bad.fill_null(False)).then(pl.lit(i, dtype=pl.Int32))
            for i, check in enumerate(checks)
        ]
    )
    verdicts = frame.select(verdict.alias("check")).to_series()
    if verdicts.null_count() == frame.height:
        return frame
    for number in verdicts.drop_nulls().unique().sort():
        check = checks[number]
        hit = frame.filter(verdicts == number)
        head = hit.head(EXAMPLES).select("line", check.shown).iter_rows()
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


def to_arrow(frame: pl.DataFrame) -> pa.Table:
    """The job-table columns of *frame* in exactly the declared schema, one chunk."""
    import polars as pl
    import pyarrow as pa

    kinds = {"float64": pl.Float64, "float32": pl.Float32, "int32": pl.Int32}
    target = schema()
    columns = []
    for c in COLUMNS:
        series = frame[c.name]
        if c.numeric:
            columns.append(series.cast(kinds[c.kind]).to_arrow())
        else:
            text = series.to_arrow().cast(pa.string())
            columns.append(text.dictionary_encode() if c.kind == "category" else text)
    return pa.Table.from_arrays(columns, schema=target)
