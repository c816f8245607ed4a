"""Untrusted Parquet: opened with limits, read by column, never unpickled.

Text is read dictionary-encoded, so that a few bytes repeated a billion times stay a few bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fleetsim_traces import text
from fleetsim_traces.text import fail, require_file, shorten

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

MAGIC = b"PAR1"


def is_parquet(path: Path) -> bool:
    """True where the content of *path* says Parquet; raises TraceError where there is no such file."""
    require_file(path)
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def open_file(path: Path) -> pq.ParquetFile:
    """Open *path*, checking its footer.

    Raises TraceError where it is not Parquet, is cut short, or claims more than
    :data:`fleetsim_traces.text.MAX_BYTES` once unpacked (a row counts as 16 bytes at least).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    require_file(path)
    try:
        texts = [f.name for f in pq.read_schema(path) if _is_text(f.type)]
        file = pq.ParquetFile(path, read_dictionary=texts)
        meta = file.metadata
        unpacked = sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise fail(path, f"not a whole Parquet file ({_first_line(error)})", "Fetch it again.") from None
    if max(unpacked, 16 * meta.num_rows) > text.MAX_BYTES:
        raise fail(
            path,
            f"more than {text.MAX_BYTES:,} bytes once unpacked",
            "Split it, or raise fleetsim_traces.text.MAX_BYTES.",
        )
    return file


def read_table(path: Path, file: pq.ParquetFile, names: list[str]) -> pa.Table:
    """The columns *names* of *file*; raises TraceError where its pages are damaged."""
    import pyarrow as pa

    try:
        table = file.read(columns=names)
        table.validate(full=True)  # polars trusts what it is given: text must be UTF-8, codes in range
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise fail(path, f"damaged Parquet ({_first_line(error)})", "Fetch it again.") from None
    columns = [_bounded(path, c) if pa.types.is_dictionary(c.type) else c for c in table.columns]
    # without the metadata of its fields: nothing more in the file is interpreted
    return pa.Table.from_arrays(columns, names=table.column_names)


def _bounded(path: Path, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """*column* with overlong texts cut to one character more than a row may have, if it then fits."""
    import pyarrow as pa
    import pyarrow.compute as pc

    chunks, size = [], 0
    for chunk in column.chunks:
        texts = chunk.dictionary
        if _is_text(texts.type):
            texts = pc.utf8_slice_codeunits(texts, 0, text.MAX_TEXT + 1)
            size += pc.sum(pc.binary_length(texts).cast(pa.int64()).take(chunk.indices)).as_py() or 0
        chunks.append(pa.DictionaryArray.from_arrays(chunk.indices, texts))
    if size > text.MAX_BYTES:
        raise fail(path, f"more than {text.MAX_BYTES:,} bytes of text once unpacked", "Split it.")
    return pa.chunked_array(chunks, type=column.type)


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _first_line(error: BaseException) -> str:
    return shorten(next(iter(str(error).splitlines()), type(error).__name__), 120)
