"""Readings as Arrow tables and files: Parquet and CSV, a batch at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from fleetsim.errors import InputError, Problem
from fleetsim.telemetry.sensors import Readings
from fleetsim_collectors.readings import COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa

#: Bytes that a reading takes in a file, by its kind, about: for estimates. Measured
#: (tests/bench/telemetry.py).
BYTES = {".parquet": 25, ".csv": 330}

#: Readings of a row group of a Parquet file.
ROW_GROUP = 1 << 18


def schema() -> pa.Schema:
    """The Arrow schema of the reading table, units and descriptions as field metadata."""
    import pyarrow as pa

    def kind(name: str) -> pa.DataType:
        return pa.dictionary(pa.int32(), pa.string()) if name == "label" else getattr(pa, name)()

    return pa.schema(
        [
            pa.field(c.name, kind(c.kind), c.nullable, {"unit": c.unit, "description": c.description})
            for c in COLUMNS
        ],
        {"fleetsim_table": "readings"},
    )


def arrow(readings: Readings) -> pa.RecordBatch:
    """*readings* in the :func:`schema` of the reading table."""
    import pyarrow as pa

    arrays: list[Any] = []
    for c in COLUMNS:
        array = pa.array(readings.values[c.name], mask=readings.absent.get(c.name))
        if c.kind == "label":
            names = pa.array(readings.labels[c.name], pa.string())
            array = pa.DictionaryArray.from_arrays(array, names)
        arrays.append(array)
    return pa.record_batch(arrays, schema=schema())


def write(readings: Iterable[Readings], path: Path) -> int:
    """Write *readings* to *path*, whole or not at all; return how many.

    The suffix says how: .parquet or .csv. Raises :class:`~fleetsim.errors.InputError` as :func:`check` does.
    """
    check(path)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        with partial.open("wb") as file:
            count = stream(readings, file, path.suffix)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return count


def check(path: Path) -> None:
    """Raise :class:`~fleetsim.errors.InputError` if readings cannot be written to *path*."""
    problems = []
    if path.suffix not in BYTES:
        problems.append(Problem(str(path), "no such format", "Name a file .parquet or .csv, or - for CSV."))
    if path.exists() and not path.is_file():
        problems.append(Problem(str(path), "is not a regular file", "Choose another name."))
    if not path.parent.is_dir():
        problems.append(Problem(str(path.parent), "no such folder", "Make it first."))
    if problems:
        raise InputError(problems)


def stream(readings: Iterable[Readings], file: IO[bytes], suffix: str) -> int:
    """Write *readings* to *file* as Parquet or CSV (*suffix*) as they come; return how many."""
    count = 0
    with (_parquet if suffix == ".parquet" else _csv)(file) as put:
        for batch in readings:
            put(arrow(batch))
            count += len(batch)
    return count


Put = Callable[[Any], None]


@contextmanager
def _parquet(file: IO[bytes]) -> Iterator[Put]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    held: list[Any] = []
    rows = 0

    def put(batch: Any) -> None:
        nonlocal rows
        held.append(batch)
        rows += batch.num_rows
        if rows >= ROW_GROUP:
            flush()

    def flush() -> None:
        nonlocal rows
        if held:
            writer.write_table(pa.Table.from_batches(held), row_group_size=max(rows, 1))
        held.clear()
        rows = 0

    floats = [c.name for c in COLUMNS if c.kind in ("float32",)]
    encodings = dict.fromkeys(floats, "BYTE_STREAM_SPLIT") | {"energy_mj": "DELTA_BINARY_PACKED"}
    few = [c.name for c in COLUMNS if c.name not in encodings]
    with pq.ParquetWriter(
        file, schema(), compression="zstd", use_dictionary=few, column_encoding=encodings
    ) as writer:
        yield put
        flush()


@contextmanager
def _csv(file: IO[bytes]) -> Iterator[Put]:
    import pyarrow as pa
    import pyarrow.csv as csv

    labels = {c.name for c in COLUMNS if c.kind == "label"}
    plain = pa.schema([pa.field(f.name, pa.string() if f.name in labels else f.type) for f in schema()])
    with csv.CSVWriter(file, plain) as writer:
        yield lambda batch: writer.write_table(pa.Table.from_batches([batch]).cast(plain))
