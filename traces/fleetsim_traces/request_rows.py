"""From a request reader's draft to a :class:`~fleetsim_traces.requests.RequestTrace`.

Every request reader ends here, so the table's promises are checked in one place, by :func:`rows.sift`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fleetsim_traces.requests import COLUMNS, PREFIX, TOKENS, RequestTrace, request_schema
from fleetsim_traces.rows import RAW, BadRows, Check, Draft, rebased, sift
from fleetsim_traces.rows import to_arrow as arrays

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

UNIX = datetime(1970, 1, 1, tzinfo=UTC)
UNSORTED = "Rows were not in order of arrival; they were sorted."


def finish(draft: Draft, bad_rows: BadRows, *, tokens: bool = True, zero_s: float = 0.0) -> RequestTrace:
    """Check, sort and convert *draft*, whose frame has columns of the request table.

    Columns that are absent become null (``service`` "unknown", ``tenant`` "default", ``request_id`` the
    line). *tokens* says that every request must have both token counts; *zero_s* is the source's clock at the
    epoch. Raises TraceError as :func:`rows.sift` does.
    """
    import polars as pl

    path, present = draft.path, draft.frame.columns
    extra = [Check(f"{n} is missing", _shown(n, present), pl.col(n).is_null()) for n in TOKENS if tokens]
    if "reasoning_tokens" in present:
        extra.append(
            Check(
                "reasoning_tokens are more than output_tokens",
                "reasoning_tokens",
                pl.col("reasoning_tokens") > pl.col("output_tokens"),
            )
        )
    unique = Check(
        "request_id repeats an earlier row",
        "request_id",
        ~pl.col("request_id").is_first_distinct(),
        "Keep one row for each request.",
    )
    found = sift(draft, bad_rows, COLUMNS, extra, unique if "request_id" in present else None, "requests")
    frame, epoch, notes = found.frame, draft.epoch, [*draft.notes, *found.notes]
    if draft.rebase:
        frame, zero_s, epoch = rebased(path, frame, "arrival_s", epoch)
    if not frame["arrival_s"].is_sorted():
        notes.append(UNSORTED)
        frame = frame.sort("arrival_s", maintain_order=True)
    table = to_arrow(frame, draft.constants)
    return RequestTrace(
        requests=table,
        format=draft.format,
        source=str(path),
        epoch=epoch,
        rows_read=found.rows_read,
        rejected=found.rejected,
        samples=found.samples,
        notes=(*notes, *silent_note(count_silent(table))),
        generated=draft.generated,
        zero_s=zero_s,
    )


def count_silent(requests: pa.Table) -> int:
    """How many requests produced no token."""
    import pyarrow.compute as pc

    return int(pc.sum(pc.equal(requests["output_tokens"], 0)).as_py() or 0)


def silent_note(count: int) -> list[str]:
    """What to say of requests that produced nothing."""
    return [f"{count:,} requests have no output token; they are kept."] if count else []


def is_silent_note(note: str) -> bool:
    """True for a note of :func:`silent_note`, whatever its number."""
    return note.endswith(" requests have no output token; they are kept.")


def _shown(name: str, present: list[str]) -> str:
    return name + RAW if name + RAW in present else name


def to_arrow(frame: pl.DataFrame, constants: Mapping[str, str | float] | None = None) -> pa.Table:
    """*frame* in exactly the declared schema, one chunk; absent columns as :func:`finish` says."""
    import polars as pl
    import pyarrow as pa

    target = request_schema()
    if "request_id" not in frame.columns:
        frame = frame.with_columns(pl.col("line").cast(pl.String).alias("request_id"))
    plain = pa.schema([field for field in target if field.name != PREFIX])
    table = arrays(frame, {"service": "unknown", "tenant": "default", **(constants or {})}, COLUMNS, plain)
    kind = target.field(PREFIX).type
    known = PREFIX in frame.columns
    hashes = frame[PREFIX].to_arrow().cast(kind) if known else pa.nulls(frame.height, kind)
    return pa.Table.from_arrays([*table.columns, hashes], schema=target)
