"""A large text or Parquet file as pieces, each a small file of the same kind, read one at a time.

A piece of a CSV begins with the header of the whole, ends at the end of a row, and knows its line there.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fleetsim_traces.delimited import MAX_HEADER, MAX_ROW_BYTES
from fleetsim_traces.errors import Problem
from fleetsim_traces.packed import Damaged, packing, unpacked
from fleetsim_traces.text import fail

if TYPE_CHECKING:
    import pyarrow.parquet as pq

PIECE_BYTES = 16 << 20  # of text: about 150 MB while it is read
PIECE_ROWS = 200_000  # of Parquet
MAX_STREAM_BYTES = 1 << 40  # of text after unpacking

Progress = Callable[[int, int | None], None]  # bytes done, bytes in all if known


@dataclass(frozen=True)
class Piece:
    """Rows of *whole*; its line n is line n + *offset* there, from the line *header* + 1 on."""

    path: Path
    whole: Path
    offset: int
    header: int

    def line(self, line: int) -> int:
        """The line of the whole file that *line* of the piece is."""
        return line + self.offset if line > self.header else line

    def relocate(self, problem: Problem) -> Problem:
        """*problem* with its place in the whole file."""
        place = problem.place
        if not place.startswith(str(self.path)):
            return problem
        rest = place.removeprefix(str(self.path))
        if found := re.fullmatch(r":(\d+)", rest):
            rest = f":{self.line(int(found[1]))}"
        return Problem(f"{self.whole}{rest}", problem.message, problem.remedy)


def text_pieces(
    path: Path, folder: Path, *, header: bool, separator: str | None, progress: Progress | None = None
) -> Iterator[Piece]:
    """Pieces of the text at *path* (plain or packed) as files in *folder*, each deleted before the next.

    *separator* is that of a CSV, whose quoted fields may hold line breaks; None for other lines of text.
    """
    total = None if packing(path) else path.stat().st_size
    file, head, buffer, line, done = folder / "piece", b"", b"", 1, 0
    try:
        for chunk in unpacked(path, PIECE_BYTES):
            buffer, done = buffer + chunk, done + len(chunk)
            if progress:
                progress(done, total)
            if done > MAX_STREAM_BYTES:
                raise fail(path, f"more than {MAX_STREAM_BYTES:,} bytes of text", "Split it.")
            if header and not head:
                end = buffer.find(b"\n") + 1
                if end == 0 and len(buffer) <= 4 * MAX_HEADER:
                    continue
                head, buffer, line = (
                    buffer[:end],
                    buffer[end:],
                    2,
                )  # too long a header is its reader's to refuse
            cut = _cut(buffer, separator)
            if cut == 0 and len(buffer) > 2 * MAX_ROW_BYTES:
                raise fail(
                    f"{path}:{line}", f"a row of more than {MAX_ROW_BYTES:,} bytes", 'Look for an unclosed ".'
                )
            if cut == 0:
                continue
            file.write_bytes(head + buffer[:cut])
            yield Piece(file, path, line - 1 - bool(head), int(bool(head)))
            line, buffer = line + buffer.count(b"\n", 0, cut), buffer[cut:]
    except Damaged as error:
        what = f"{packing(path)} data {error} after {done:,} bytes of text"
        raise fail(path, what, "Fetch it again.") from None
    if buffer.strip() or line <= 1 + bool(head):
        file.write_bytes(head + buffer)
        yield Piece(file, path, line - 1 - bool(head), int(bool(head)))
    file.unlink(missing_ok=True)


def _cut(buffer: bytes, separator: str | None) -> int:
    """Where the last row that surely ends in *buffer* ends; 0 if none does."""
    plain = buffer.rfind(b"\n") + 1
    if separator is None or b'"' not in buffer:
        return plain
    lines = buffer[:plain].decode(errors="replace").split("\n")[:-1]
    before = last = 0
    reader = csv.reader((line + "\n" for line in lines), delimiter=separator)
    try:
        for _ in reader:
            before, last = last, reader.line_num
    except csv.Error:  # its reader says what is wrong
        return plain
    at = 0
    for _ in range(before):
        at = buffer.index(b"\n", at) + 1
    return at


def parquet_pieces(
    path: Path, folder: Path, file: pq.ParquetFile, columns: list[str], progress: Progress | None = None
) -> Iterator[Piece]:
    """Pieces of an open Parquet *file* with *columns* only."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    target, row, size = folder / "piece", 0, path.stat().st_size
    rows = max(1, file.metadata.num_rows)
    try:
        for batch in file.iter_batches(PIECE_ROWS, columns=columns):
            pq.write_table(pa.Table.from_batches([batch]).replace_schema_metadata(None), target)
            yield Piece(target, path, row, 0)
            row += batch.num_rows
            if progress:
                progress(size * row // rows, size)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise fail(
            path, f"damaged Parquet ({str(error).partition(chr(10))[0][:120]})", "Fetch it again."
        ) from None
    target.unlink(missing_ok=True)
