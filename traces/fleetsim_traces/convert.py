"""Any readable file to the job or request table in Parquet, in pieces where the format allows it.

A CSV with a column mapping, and the request logs of one row a line, are read piece by piece: memory does not
grow with the file but for 8 bytes a row (16 where rows have identities of their own, to find repeats). Other
formats count over the whole file, or have rows that belong together: they are read whole, into about ten
times the bytes of the text, and :data:`fleetsim_traces.text.MAX_BYTES` is their limit.

The result is that of reading the whole file and writing it. Pieces are sorted as they are read and merged by
time; the output appears whole or not at all.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleetsim_traces.delimited import header_of
from fleetsim_traces.either import Found
from fleetsim_traces.errors import Problem, TraceError
from fleetsim_traces.mapping import INSTANTS, REQUIRED, ColumnMap
from fleetsim_traces.parquet import is_parquet, open_file
from fleetsim_traces.pieces import Piece, Progress, parquet_pieces, text_pieces
from fleetsim_traces.request_generic import RequestMap
from fleetsim_traces.request_reading import REQUEST_READERS
from fleetsim_traces.request_rows import UNIX, UNSORTED, is_silent_note
from fleetsim_traces.requests import BY_NAME as REQUEST_NAMES
from fleetsim_traces.requests import TOKENS, RequestTrace, write_requests
from fleetsim_traces.rows import EXAMPLES
from fleetsim_traces.runs import Runs
from fleetsim_traces.table import BY_NAME, Trace, write_jobs
from fleetsim_traces.text import fail, read_bytes, shorten

if TYPE_CHECKING:
    import pyarrow as pa

BOM_UTF8 = b"\xef\xbb\xbf"
_UNSORTED = {"jobs": "Rows were not in order of submission; they were sorted.", "requests": UNSORTED}
_EMPTY = re.compile("no (jobs|requests) in it")
_COUNTS = re.compile(r"(.+?): (\d{1,3}(?:,\d{3})*)(?:, |$)")


@dataclass
class Totals:
    """What was found in a file: *rows* of them usable, the others *rejected* by reason with *samples*.

    *busy_gpu_s* is GPUs x share x run time, *tokens* those of prompts and outputs. *output* is None where
    nothing was written.
    """

    kind: str
    format: str
    source: str
    rows_read: int = 0
    rows: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    samples: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    epoch: datetime | None = None
    generated: bool = False
    span_s: float = 0.0
    busy_gpu_s: float = 0.0
    tokens: int = 0
    streamed: bool = False
    output: Path | None = None

    def refuse(self) -> None:
        """Raise TraceError where rows are at fault."""
        if self.rejected:
            reasons = ", ".join(f"{reason}: {count:,}" for reason, count in self.rejected.items())
            message = f"{sum(self.rejected.values()):,} of {self.rows_read:,} rows cannot be used ({reasons})"
            remedy = "Correct them, or leave them out with `bad_rows: drop` (`--bad-rows drop`)."
            raise TraceError([Problem(self.source, message, remedy), *self.samples])


def streams(found: Found) -> bool:
    """True where *found* is read in pieces."""
    if found.path.is_dir():
        return False
    if found.kind == "requests":
        return REQUEST_READERS[found.format].rowwise
    return found.format == "generic"


def convert(
    found: Found, output: Path | None, *, bad_rows: str = "refuse", progress: Progress | None = None
) -> Totals:
    """Read *found* and write it as a table at *output*; with None only look at it.

    Raises TraceError for what cannot be read, and where rows are at fault and *bad_rows* is ``refuse`` (with
    no output they are reported in the totals instead), OSError where the disk does.
    """
    refuse = bad_rows == "refuse" and output is not None
    if not streams(found):
        return _whole(found, output, refuse)
    folder = output.parent if output else None
    with tempfile.TemporaryDirectory(prefix=".convert-", dir=folder) as temporary:
        totals, runs = _read_pieces(found, Path(temporary), progress)
        if (repeats := runs.drop_repeats()) is not None:
            reason = f"{repeats.column_names[0]} repeats an earlier row"
            totals.rejected[reason] = totals.rejected.get(reason, 0) + repeats.num_rows
            ids = repeats.column(0).slice(0, EXAMPLES).to_pylist()
            _show(totals, [Problem(totals.source, f"{reason}: {shorten(name)}") for name in ids])
            _count(totals, repeats, -1)
        if refuse:
            totals.refuse()
        if totals.rows == 0 and output:
            message = f"none of {totals.rows_read:,} rows can be used"
            raise TraceError([Problem(totals.source, message), *totals.samples])
        if output:
            runs.write(output, _facts(totals, runs.zero_s))
            totals.output = output
    return totals


def _whole(found: Found, output: Path | None, refuse: bool) -> Totals:
    trace = found.read("refuse" if refuse else "drop")
    totals = Totals(found.kind, trace.format, trace.source, epoch=trace.epoch, notes=list(trace.notes))
    _add(totals, trace, trace.samples)
    times = _table(trace).column(1).to_numpy()
    totals.span_s = float(times[-1] - times[0])
    if output:
        written = write_jobs(trace, output) if isinstance(trace, Trace) else write_requests(trace, output)
        totals.output = written
    return totals


def _read_pieces(found: Found, folder: Path, progress: Progress | None) -> tuple[Totals, Runs]:
    """Read every piece; the usable rows are in the runs, sorted by time within each."""
    found, undated = _mapped(found)
    own_ids = _own_ids(found)
    totals = Totals(found.kind, found.format, str(found.path), streamed=True)
    runs, notes, base, empty = Runs(folder), dict[str, int](), None, None
    for piece in _pieces(found, folder, progress):
        try:
            trace = _read(found, piece, totals)
        except TraceError as error:
            if not _EMPTY.fullmatch(error.problems[0].message):
                raise
            empty = error
            continue
        if trace is None:
            continue
        _add(totals, trace, map(piece.relocate, trace.samples))
        for note in trace.notes:  # those that begin with a number count rows
            count, _, tail = note.partition(" ")
            counted = count.replace(",", "").isdigit()
            key = f"{{}} {tail}" if counted else note
            notes[key] = notes.get(key, 0) + (int(count.replace(",", "")) if counted else 0)
        zero_s = trace.zero_s if isinstance(trace, RequestTrace) else _unix(trace.epoch)
        base = trace.epoch and trace.epoch - timedelta(seconds=zero_s)
        table = _table(trace)
        runs.add(table if own_ids else _relined(table, piece), zero_s, own_ids=own_ids)
    if totals.rows_read == 0:
        raise empty or fail(found.path, f"no {found.kind} in it", "A trace has at least one row.")
    totals.epoch = None if undated or base is None else base + timedelta(seconds=runs.zero_s)
    totals.span_s = runs.span_s
    unsorted = _UNSORTED[found.kind]
    if not runs.in_order:
        notes[unsorted] = 0
    if unsorted in notes:  # where reading the whole would put it: before what is counted last
        silent = {key: notes.pop(key) for key in list(notes) if is_silent_note(key)}
        notes = {**{k: v for k, v in notes.items() if k != unsorted}, unsorted: 0, **silent}
    totals.notes = [key.format(f"{count:,}") if count else key for key, count in notes.items()]
    return totals, runs


def _read(found: Found, piece: Piece, totals: Totals) -> Trace | RequestTrace | None:
    """The trace of a piece; None where no row of it can be used, having counted why."""
    part = replace(found, path=piece.path)
    try:
        return part.read("drop")
    except TraceError as error:
        problems = [piece.relocate(problem) for problem in error.problems]
        if not re.fullmatch(r"none of [\d,]+ rows can be used", problems[0].message):
            raise TraceError(problems) from None
    try:
        return part.read("refuse")
    except TraceError as error:
        summary, *samples = map(piece.relocate, error.problems)
    for reason, text in _COUNTS.findall(summary.message.partition("(")[2].rstrip(")")):
        count = int(text.replace(",", ""))
        totals.rejected[reason] = totals.rejected.get(reason, 0) + count
        totals.rows_read += count
    _show(totals, samples)
    return None


def _add(totals: Totals, trace: Trace | RequestTrace, samples: Iterable[Problem]) -> None:
    """Put the counts of *trace* into *totals*, and the samples that are still wanted."""
    totals.format, totals.generated = trace.format, trace.generated
    for mine, theirs in (
        (totals.rejected, trace.rejected),
        (totals.skipped, trace.skipped if isinstance(trace, Trace) else {}),
    ):
        for reason, count in theirs.items():
            mine[reason] = mine.get(reason, 0) + count
    _show(totals, samples)
    _count(totals, _table(trace), 1)
    totals.rows_read += trace.rows_read


def _count(totals: Totals, table: pa.Table, sign: int) -> None:
    """Add the rows of *table* to what is counted, or take them away."""
    import pyarrow.compute as pc

    totals.rows += sign * table.num_rows
    if totals.kind == "jobs":
        work = pc.multiply(table["gpus"].cast("float64"), table["gpu_share"].cast("float64"))
        totals.busy_gpu_s += sign * (pc.sum(pc.multiply(work, table["duration_s"])).as_py() or 0.0)
        return
    for name in TOKENS:
        totals.tokens += sign * (pc.sum(table[name].cast("int64")).as_py() or 0)


def _show(totals: Totals, samples: Iterable[Problem]) -> None:
    """Keep the first few samples of each reason."""
    shown: dict[str, int] = {}
    for problem in totals.samples:
        shown[_reason(problem)] = shown.get(_reason(problem), 0) + 1
    for problem in samples:
        reason = _reason(problem)
        shown[reason] = shown.get(reason, 0) + 1
        if shown[reason] <= EXAMPLES:
            totals.samples.append(problem)


def _reason(problem: Problem) -> str:
    return re.sub(r"^\d+ fields? in .*", "wrong number of fields", problem.message.partition(": ")[0])


def _relined(table: pa.Table, piece: Piece) -> pa.Table:
    """*table*, whose identities are lines of *piece*, with those of the whole file."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lines = pc.add(pc.cast(table.column(0), pa.int64()), piece.offset)
    return table.set_column(0, table.schema.field(0), pc.cast(lines, pa.string()))


def _table(trace: Trace | RequestTrace) -> pa.Table:
    return trace.jobs if isinstance(trace, Trace) else trace.requests


def _facts(totals: Totals, zero_s: float) -> dict[str, Any]:
    """What the written table says of itself, as ``write_jobs`` and ``write_requests`` do."""
    common = {
        "format": totals.format,
        "epoch": totals.epoch.isoformat() if totals.epoch else None,
        "generated": totals.generated,
        "rows_read": totals.rows_read,
        "rejected": totals.rejected,
        "notes": totals.notes,
    }
    return {**common, **({"skipped": totals.skipped} if totals.kind == "jobs" else {"zero_s": zero_s})}


def _own_ids(found: Found) -> bool:
    """True where identities come from the source, not from lines."""
    if found.columns is not None:
        return bool({"job_id", "request_id"} & set(found.columns.sources))
    return found.kind == "requests" and REQUEST_READERS[found.format].own_ids


def _names(found: Found) -> list[str]:
    """The columns of a generic file."""
    if is_parquet(found.path):
        with open_file(found.path) as file:
            return list(file.schema_arrow.names)
    separator = found.columns.separator if found.columns else ","
    head = read_bytes(found.path, 1 << 17)
    return header_of(found.path, head.removeprefix(BOM_UTF8), separator)[0]


def _mapped(found: Found) -> tuple[Found, bool]:
    """*found* with the mapping its reader would use, and whether it was given a date it does not have.

    The job reader tells where its times began only with a date; 1970 stands in for none.
    """
    if found.format != "generic":
        return found, False
    columns = found.columns
    if columns is None:
        names = _names(found)
        if found.kind == "requests":
            known = {name: name for name in names if name in REQUEST_NAMES}
            return replace(found, columns=RequestMap.from_dict(known)), False
        if not set(REQUIRED) <= set(names):
            return found, False  # its reader says what is missing
        columns = ColumnMap.from_dict({name: name for name in names if name in BY_NAME})
    undated = isinstance(columns, ColumnMap) and columns.epoch is None and not _is_stamped(found, columns)
    if undated and isinstance(columns, ColumnMap):
        columns = replace(columns, epoch=UNIX)
    return replace(found, columns=columns), undated


def _is_stamped(found: Found, columns: ColumnMap) -> bool:
    """True where times are timestamps, which have a date."""
    instants = [columns.sources[name] for name in INSTANTS if name in columns.sources]
    if any(spec.zone for spec in instants):
        return True
    if not is_parquet(found.path):
        return False
    import pyarrow as pa

    with open_file(found.path) as file:
        kinds = {field.name: field.type for field in file.schema_arrow}
    return any(pa.types.is_timestamp(kinds.get(spec.column, pa.null())) for spec in instants)


def _pieces(found: Found, folder: Path, progress: Progress | None) -> Iterator[Piece]:
    if is_parquet(found.path):
        names = [spec.column for spec in found.columns.sources.values()] if found.columns else []
        with open_file(found.path) as file:
            wanted = [name for name in dict.fromkeys(names) if name in file.schema_arrow.names]
            yield from parquet_pieces(found.path, folder, file, wanted, progress)  # type: ignore[arg-type]
        return
    read_bytes(found.path, 1 << 16)  # raises for what is no text
    header = found.kind == "jobs" or REQUEST_READERS[found.format].header
    separator = (found.columns.separator if found.columns else ",") if header else None
    yield from text_pieces(found.path, folder, header=header, separator=separator, progress=progress)


def _unix(epoch: datetime | None) -> float:
    return (epoch - UNIX).total_seconds() if epoch else 0.0
