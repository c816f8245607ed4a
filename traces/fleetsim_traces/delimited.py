"""Delimited rows of untrusted text, with the line each one came from.

Regular text, as most logs are, is looked over once and left to polars; other text (quotes, blank lines, lines
with too many or too few fields) is split slower, and every fault in it is reported with its line. A row may
not be longer than :data:`MAX_ROW_BYTES`.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleetsim_traces import text
from fleetsim_traces.errors import Problem, TraceError
from fleetsim_traces.packed import foreign, packing
from fleetsim_traces.text import fail, line_at, read_text, require_file, shorten

if TYPE_CHECKING:
    import polars as pl

MAX_ROW_BYTES = 1 << 20
MAX_HEADER = 100_000  # characters; csv has a limit of its own a little above
_PIECE_BYTES = 1 << 18  # small enough to stay in the cache; a line over two of them is not regular


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

    sheet = open_sheet(path, separator=separator, quoted=quoted)
    names = sheet.names
    if missing := [name for name in required if name not in names]:
        raise fail(
            f"{path}:1",
            f"no column {' or '.join(missing)} among {shorten(separator.join(names), 200)}",
            "Read it with format generic and a column mapping.",
        )
    wanted = [name for name in (*required, *optional) if name in names]
    rows = sheet.rows(wanted)
    frame = rows.frame.select(
        "line",
        *(pl.col(str(names.index(name))).alias(name) for name in wanted),
        *(pl.lit("").alias(name) for name in optional if name not in names),
    )
    return Table(names, Rows(frame, rows.misfits))


@dataclass(frozen=True)
class Sheet:
    """A delimited file whose first line, *start* bytes long, has the *names* of its columns.

    *data* is its text, or None where it is regular and still in the file, as *survey* tells.
    """

    path: Path
    names: list[str]
    start: int
    separator: str
    quoted: bool
    data: bytes | None
    survey: _Survey | None

    def rows(self, wanted: Sequence[str] | None = None) -> Rows:
        """The rows, columns called ``0``, ``1``, ... in the order of *names*; those of *wanted* at least."""
        keys = [str(i) for i in range(len(self.names))]
        keep = [str(self.names.index(name)) for name in wanted or self.names]
        if self.survey is not None:
            plain = _split_plain(self.path, self.survey, keys, self.separator, 1, keep)
            if plain is not None:
                return Rows(plain, [])
        return split_rows(
            self.path,
            read_text(self.path) if self.data is None else self.data,
            keys,
            separator=self.separator,
            start=self.start,
            quoted=self.quoted,
            keep=keep,
        )


def open_sheet(path: Path, *, separator: str = ",", quoted: bool = True) -> Sheet:
    """The delimited file at *path*; raises TraceError as :func:`read_text` and :func:`header_of` do."""
    require_file(path)
    survey = head = None
    if not packing(path) and path.stat().st_size <= text.MAX_BYTES:
        with path.open("rb") as file:
            head = file.readline(_PIECE_BYTES)
        if head.endswith(b"\n") and head.strip() and head.isascii() and not foreign(head):
            survey = _survey(_pieces(path), separator, quoted, len(head))
    data = head if survey else read_text(path)
    names, start = header_of(path, data or b"", separator)
    return Sheet(path, names, start, separator, quoted, None if survey else data, survey)


def header_of(path: Path, data: bytes, separator: str) -> tuple[list[str], int]:
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
class _Survey:
    """Of regular text behind its header: the number of *lines* and of *separators*."""

    lines: int
    separators: int


def _pieces(path: Path) -> Iterator[bytearray]:
    """The bytes of a plain file, in one buffer that is filled again and again."""
    buffer = bytearray(_PIECE_BYTES)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            yield buffer if count == len(buffer) else buffer[:count]


def _survey(pieces: Iterable[bytes | bytearray], separator: str, quoted: bool, start: int) -> _Survey | None:
    """Look over text of which *start* bytes are a header; None where it is not regular UTF-8."""
    import numpy as np

    decoder, returns, last = codecs.getincrementaldecoder("utf-8")(), 0, b"\n"
    lines = separators = 0
    for piece in pieces:
        begin, start = start, 0
        octets = np.frombuffer(piece, np.uint8)[begin:]
        lines += (found := int(np.count_nonzero(octets == ord("\n"))))
        separators += int(np.count_nonzero(octets == ord(separator)))
        if (
            (found == 0 and len(piece) == _PIECE_BYTES)
            or piece.find(b"\0") >= 0
            or (quoted and piece.find(b'"', begin) >= 0)
        ):
            return None
        if piece.find(b"\r") >= 0 or last == b"\r":  # each must be followed by a line feed
            returns += piece.count(b"\r") - piece.count(b"\r\n") - (last == b"\r" and piece[:1] == b"\n")
        try:
            if not piece.isascii() or decoder.getstate()[0]:
                decoder.decode(piece)
        except UnicodeDecodeError:
            return None
        last = bytes(piece[-1:])
        del octets  # the buffer is filled again
    if returns or decoder.getstate()[0]:
        return None
    return _Survey(lines + (last != b"\n"), separators)


def _split_plain(
    source: Path | bytes, survey: _Survey, names: list[str], separator: str, skip: int, keep: Sequence[str]
) -> pl.DataFrame | None:
    """The rows of regular text behind *skip* lines; None where a line is blank, too long or too short.

    Many times faster than a splitter that must number its records. polars refuses a line with too many
    fields and fills one with too few with nulls: where the last column has none, every line is whole.
    """
    import polars as pl

    places = {name: f"column_{i}" for i, name in enumerate(names, start=1)}
    if len(names) == 1 or survey.lines == 0:
        return None
    try:
        frame = pl.read_csv(
            source,
            has_header=False,
            skip_rows=skip,
            schema=dict.fromkeys(places.values(), pl.String),
            columns=[places[name] for name in dict.fromkeys((names[0], *keep, names[-1]))],
            separator=separator,
            quote_char=None,
            glob=False,
        )
    except pl.exceptions.PolarsError:
        return None
    first, last = frame["column_1"], frame[places[names[-1]]]
    is_even = survey.separators == survey.lines * (len(names) - 1)
    if frame.height != survey.lines or (last.null_count() and (first.null_count() or not is_even)):
        return None
    return frame.select(
        pl.int_range(skip + 1, skip + 1 + survey.lines, dtype=pl.Int64).alias("line"),
        *(
            (pl.col(place).fill_null("") if frame[place].null_count() else pl.col(place)).alias(name)
            for name, place in places.items()
            if place in frame.columns
        ),
    )


def split_rows(
    path: Path,
    data: bytes,
    names: list[str],
    *,
    separator: str = ",",
    start: int = 0,
    quoted: bool = True,
    comment: str | None = None,
    keep: Sequence[str] | None = None,
) -> Rows:
    """Split ``data[start:]`` into rows of ``len(names)`` fields; blank lines and *comment* lines are skipped.

    *start* is 0 or the length of the first line. With *keep* the frame need not have other columns. Raises
    TraceError for a row longer than :data:`MAX_ROW_BYTES`, as an unclosed quote makes.
    """
    import numpy as np
    import polars as pl
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    if comment is None and len(separator.encode()) == 1 and start < _PIECE_BYTES:
        pieces = (data[i : i + _PIECE_BYTES] for i in range(0, len(data), _PIECE_BYTES))
        survey = _survey(pieces, separator, quoted, start)
        plain = (
            _split_plain(data, survey, names, separator, int(start > 0), keep or names) if survey else None
        )
        if plain is not None:
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
    first_line = line_at(data, start)
    lines = first_line + np.arange(records) + np.cumsum(inside) - inside

    if quoted and inside[-1] and data.count(b'"', start) % 2:  # the last row has swallowed what follows it
        raise fail(f"{path}:{lines[-1]}", 'a " is opened and never closed', 'Close it, or write "" for one.')

    frame = frame.with_columns(pl.Series("line", lines[kept]))
    blank = pl.all_horizontal(pl.col(names) == "")
    if comment:
        blank = blank | pl.col(names[0]).str.starts_with(comment)
    return Rows(frame.filter(~blank), [Misfit(int(lines[n - 1]), k, text) for n, k, text in misfits])
