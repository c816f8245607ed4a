"""Untrusted text: all of a file, unpacked, and delimited rows with the line each one came from.

Everything has a limit: a file may not unpack to more than :data:`MAX_BYTES`, nor a row be longer than
:data:`MAX_ROW_BYTES`. Nothing read here is ever evaluated.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleetsim_traces.errors import Problem, TraceError
from fleetsim_traces.packed import Damaged, foreign, packing, unpacked

if TYPE_CHECKING:
    import polars as pl

MAX_BYTES = 4 << 30  # of text after unpacking; raise it for a larger log on a larger machine
MAX_ROW_BYTES = 1 << 20
MAX_HEADER = 100_000  # characters; csv has a limit of its own a little above
MAX_TEXT = 1000  # characters of an identity or a name
_CHUNK_BYTES = 16 << 20
_PIECE_BYTES = 1 << 18


def fail(place: object, message: str, remedy: str = "") -> TraceError:
    """A TraceError with one problem."""
    return TraceError([Problem(str(place), message, remedy)])


def shorten(value: object, width: int = 60) -> str:
    """*value* quoted for a message: control characters escaped, cut to *width* characters."""
    text = str(value)
    return repr(text) if len(text) <= width else f"{text[: width - 3]!r}..."


def require_file(path: Path) -> None:
    """Raise TraceError unless *path* is a regular file with something in it."""
    if path.is_dir():
        raise fail(path, "a folder, not a file", "Name the file inside it.")
    if not path.exists():
        raise fail(path, "no such file", "Check the name.")
    if not path.is_file():
        raise fail(path, "not a regular file", "Save it to a file first.")
    if path.stat().st_size == 0:
        raise fail(path, "empty file", "Fetch it again: a trace has at least one job.")


def read_bytes(path: Path, size: int | None = None) -> bytearray:
    """The first *size* bytes of *path* (None: all), unpacked where its content is gzip, zstd or xz.

    Raises TraceError for a file that :func:`require_file` refuses, that cannot be read, whose packed data is
    damaged or cut short, that holds more than :data:`MAX_BYTES`, or that is plainly of another kind: an
    archive, a pickle, a web page.
    """
    require_file(path)
    data = bytearray()
    try:
        for chunk in unpacked(path, min(size, _CHUNK_BYTES) if size else _CHUNK_BYTES):
            if not data and (found := foreign(chunk)):
                raise fail(path, *found)
            data += chunk
            if len(data) > MAX_BYTES:
                raise fail(
                    path,
                    f"more than {MAX_BYTES:,} bytes of text",
                    "Split it, or raise fleetsim_traces.text.MAX_BYTES.",
                )
            if size and len(data) >= size:
                return data[:size]
    except Damaged as error:
        what = f"{packing(path)} data {error} after {len(data):,} bytes of text"
        raise fail(path, what, "Fetch it again.") from None
    except OSError as error:
        raise fail(path, f"cannot be read: {error.strerror or error}") from None
    return data


def read_text(path: Path) -> bytearray:
    """All of :func:`read_bytes`, as UTF-8 without its byte order mark.

    Raises TraceError also for bytes that are not UTF-8 text, with the line of the first.
    """
    data = read_bytes(path)
    if data.startswith(codecs.BOM_UTF8):
        del data[: len(codecs.BOM_UTF8)]
    check_text(path, data)
    if not data[:4096].strip() and not data.strip():
        raise fail(path, "empty file", "Fetch it again: a trace has at least one job.")
    return data


def check_text(path: Path, data: bytearray, *, final: bool = True) -> None:
    """Raise TraceError unless *data* is UTF-8 text. With *final* False the last character may be cut."""
    nul = data.find(b"\0")
    if nul >= 0:
        raise fail(
            f"{path}:{_line_at(data, nul)}",
            "binary data (a NUL byte), not text",
            "Traces are text (plain or packed) or Parquet.",
        )
    if data.isascii():
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(data), _CHUNK_BYTES):
        last = start + _CHUNK_BYTES >= len(data)
        held = len(decoder.getstate()[0])  # bytes of a character cut by the previous chunk
        try:
            decoder.decode(data[start : start + _CHUNK_BYTES], final=last and final)
        except UnicodeDecodeError as error:
            at = start - held + error.start
            raise fail(
                f"{path}:{_line_at(data, at)}",
                f"byte 0x{data[at]:02x} is not UTF-8 text",
                "Convert the file, for example with iconv -f latin1 -t utf-8.",
            ) from None


def _line_at(data: bytearray, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1


@dataclass(frozen=True)
class Misfit:
    """A line with too few or too many fields."""

    line: int
    fields: int
    text: str


@dataclass(frozen=True)
class Rows:
    """Text fields of a delimited file as a frame of strings, with a column ``line`` (1-based)."""

    frame: pl.DataFrame
    misfits: list[Misfit]


def header_of(path: Path, data: bytearray, separator: str) -> tuple[list[str], int]:
    """The column names in the first line of *data* and the number of bytes of that line."""
    end = data.find(b"\n") + 1 or len(data)
    line = data[:end].decode().rstrip("\r\n")
    if len(line) > MAX_HEADER:
        raise fail(f"{path}:1", f"a header of {len(line):,} characters", "The first line names the columns.")
    try:
        names = [name.strip() for name in next(csv.reader([line], delimiter=separator), [])]
    except csv.Error as error:
        raise fail(f"{path}:1", f"not a header ({error})", "The first line names the columns.") from None
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TraceError(
            [Problem(f"{path}:1", f"two columns are called {shorten(n)}", "Rename one.") for n in twice]
        )
    return names, end


@dataclass(frozen=True)
class Table:
    """A delimited file: its column *names* as found, and *rows* with those asked for."""

    names: list[str]
    rows: Rows


def load(
    path: Path,
    required: Sequence[str],
    optional: Sequence[str] = (),
    *,
    separator: str = ",",
    quoted: bool = True,
) -> Table:
    """The columns *required* and *optional* (empty text where absent) of the delimited file at *path*.

    Raises TraceError where a required one is missing, and as :func:`read_text` and :func:`split_rows` do.
    """
    import polars as pl

    data = read_text(path)
    names, start = header_of(path, data, separator)
    if missing := [name for name in required if name not in names]:
        raise fail(
            f"{path}:1",
            f"no column {' or '.join(missing)} among {shorten(separator.join(names), 200)}",
            "Read it with format generic and a column mapping.",
        )
    keys = [str(i) for i in range(len(names))]
    wanted = [name for name in (*required, *optional) if name in names]
    rows = split_rows(
        path,
        data,
        keys,
        separator=separator,
        start=start,
        quoted=quoted,
        keep=[str(names.index(name)) for name in wanted],
    )
    frame = rows.frame.select(
        "line",
        *(pl.col(str(names.index(name))).alias(name) for name in wanted),
        *(pl.lit("").alias(name) for name in optional if name not in names),
    )
    return Table(names, Rows(frame, rows.misfits))


def _split_plain(
    data: bytearray, names: list[str], separator: str, start: int, quoted: bool, keep: Sequence[str] | None
) -> pl.DataFrame | None:
    """The rows of regular text: no quotes, no blank lines, as many fields in each line; None for other text.

    Many times faster than a splitter that must number its records. polars refuses a line with too many
    fields; so if there are as many separators as full lines have, no line has too few.
    """
    import numpy as np
    import polars as pl

    stop = len(data)
    while stop > start and data[stop - 1] in b"\r\n":
        stop -= 1
    if stop == start or len(names) == 1 or len(separator.encode()) > 1:
        return None
    octets = np.frombuffer(data, np.uint8)[start:stop]
    pieces = range(0, len(octets), _PIECE_BYTES)  # small enough to stay in the cache
    lines, separators = (
        sum(int(np.count_nonzero(octets[i : i + _PIECE_BYTES] == ord(c))) for i in pieces)
        for c in ("\n", separator)
    )
    lines += 1
    fields = separators + lines
    del octets  # else the data could not be changed
    irregular = (
        fields != lines * len(names)
        or (quoted and data.find(b'"', start) >= 0)
        or (data.find(b"\r") >= 0 and data.count(b"\r", start, stop) != data.count(b"\r\n", start, stop))
    )
    if irregular:
        return None
    places = {name: f"column_{i}" for i, name in enumerate(names, start=1)}
    try:
        frame = pl.read_csv(
            bytes(memoryview(data)[start:stop]),
            has_header=False,
            schema=dict.fromkeys(places.values(), pl.String),
            columns=[places[name] for name in dict.fromkeys((names[0], *(keep or names)))],
            separator=separator,
            quote_char=None,
        )
    except pl.exceptions.PolarsError:
        return None
    longest = max(length or 0 for length in frame.select(pl.all().str.len_bytes().max()).row(0))
    if frame.height != lines or longest > MAX_ROW_BYTES or frame["column_1"].null_count():
        return None  # an empty first field may begin an empty row
    first_line = _line_at(data, start)
    return frame.select(
        pl.int_range(first_line, first_line + lines, dtype=pl.Int64).alias("line"),
        *(
            (pl.col(place).fill_null("") if frame[place].null_count() else pl.col(place)).alias(name)
            for name, place in places.items()
            if place in frame.columns
        ),
    )


def split_rows(
    path: Path,
    data: bytearray,
    names: list[str],
    *,
    separator: str = ",",
    start: int = 0,
    quoted: bool = True,
    comment: str | None = None,
    keep: Sequence[str] | None = None,
) -> Rows:
    """Split ``data[start:]`` into rows of ``len(names)`` fields; blank lines and *comment* lines are skipped.

    With *keep* the frame need not have other columns. Raises TraceError for a row longer than
    :data:`MAX_ROW_BYTES`, as an unclosed quote makes.
    """
    import numpy as np
    import polars as pl
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    if comment is None and (plain := _split_plain(data, names, separator, start, quoted, keep)) is not None:
        return Rows(plain, [])
    skipped: list[int] = []  # 1-based record numbers, in order
    newlines: list[int] = []  # inside each of them
    misfits: list[tuple[int, int, str]] = []

    def misfit(row: Any) -> str:
        skipped.append(row.number)
        newlines.append(row.text.count("\n"))
        if row.text.strip() and not (comment and row.text.startswith(comment)):
            misfits.append((row.number, row.actual_columns, row.text[:200]))
        return "skip"

    if not data[start:].strip():
        return Rows(pl.DataFrame(schema={**dict.fromkeys(names, pl.String), "line": pl.Int64}), [])
    try:
        table = pa_csv.read_csv(
            pa.BufferReader(memoryview(data)[start:]),
            # one thread: only then are rows numbered
            read_options=pa_csv.ReadOptions(use_threads=False, column_names=names, block_size=MAX_ROW_BYTES),
            parse_options=pa_csv.ParseOptions(
                delimiter=separator,
                quote_char='"' if quoted else False,
                newlines_in_values=quoted,
                ignore_empty_lines=False,
                invalid_row_handler=misfit,
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise fail(
            path,
            f"cannot be split into rows ({shorten(str(error).splitlines()[0], 120)})",
            f'Look for an unclosed " or a line longer than {MAX_ROW_BYTES:,} bytes.',
        ) from None
    frame = pl.DataFrame(pl.from_arrow(table))

    # From record numbers to lines: a quoted field may hold line breaks.
    records = frame.height + len(skipped)
    inside = np.zeros(records, dtype=np.int64)
    kept = np.ones(records, dtype=bool)
    bad = np.array(skipped, dtype=np.int64) - 1
    kept[bad] = False
    inside[bad] = newlines
    if quoted and b'"' in data:
        counts = frame.select(pl.sum_horizontal(pl.all().str.count_matches("\n", literal=True)))
        inside[kept] = counts.to_series().to_numpy()
    first_line = _line_at(data, start)
    lines = first_line + np.arange(records) + np.cumsum(inside) - inside

    if quoted and inside[-1] and data.count(b'"', start) % 2:  # the last row has swallowed what follows it
        raise fail(f"{path}:{lines[-1]}", 'a " is opened and never closed', 'Close it, or write "" for one.')

    frame = frame.with_columns(pl.Series("line", lines[kept]))
    blank = pl.all_horizontal(pl.col(names) == "")
    if comment:
        blank = blank | pl.col(names[0]).str.starts_with(comment)
    return Rows(frame.filter(~blank), [Misfit(int(lines[n - 1]), k, text) for n, k, text in misfits])
