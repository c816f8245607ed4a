"""Tables that do not fit in memory: sorted runs on disk, merged by time into one Parquet file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fleetsim_traces.atomic import atomic
from fleetsim_traces.stored import TRACE_KEY

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

TIMES = ("submit_s", "start_s", "arrival_s")
BATCH_ROWS = 1 << 14  # what is read at least of a run
GROUP_ROWS = 1 << 18  # of the merged file's row groups


@dataclass
class _Run:
    path: Path
    zero_s: float  # of its table's times, on the clock of the source
    times: npt.NDArray[np.float64]  # on that clock
    hashes: npt.NDArray[np.uint64] | None  # of identities; None where those are lines
    dropped: npt.NDArray[np.int64]


class Runs:
    """Rows of the job or request table as they come; column 0 is the identity, column 1 the time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs: list[_Run] = []

    @property
    def zero_s(self) -> float:
        """The earliest zero of all runs."""
        return min((run.zero_s for run in self._runs), default=0.0)

    @property
    def span_s(self) -> float:
        """From the first time to the last."""
        if not self._runs:
            return 0.0
        return float(max(run.times[-1] for run in self._runs) - min(run.times[0] for run in self._runs))

    @property
    def in_order(self) -> bool:
        """True where no run begins before the end of the one before it."""
        return all(before.times[-1] <= after.times[0] for before, after in pairwise(self._runs))

    def add(self, table: pa.Table, zero_s: float, *, own_ids: bool) -> None:
        """Take *table*, sorted by time; *own_ids* says that its identities may repeat those of other runs."""
        import polars as pl
        import pyarrow as pa

        path = self._folder / f"run-{len(self._runs)}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table.combine_chunks(), max_chunksize=BATCH_ROWS)
        ids = pl.Series(pl.from_arrow(table.column(0))) if own_ids else None
        hashes = ids.hash(seed=0).to_numpy() if ids is not None else None
        none = np.array([], dtype=np.int64)
        self._runs.append(_Run(path, zero_s, table.column(1).to_numpy() + zero_s, hashes, none))

    def drop_repeats(self) -> pa.Table | None:
        """Leave out rows whose identity an earlier run has, and return them."""
        import pyarrow as pa

        hashed = [run.hashes for run in self._runs if run.hashes is not None]
        if not hashed:
            return None
        ordered = np.sort(np.concatenate(hashed))
        suspects = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        del ordered
        if len(suspects) == 0:
            return None
        seen: set[str] = set()
        gone: list[pa.Table] = []
        for run in self._runs:
            assert run.hashes is not None
            rows = np.flatnonzero(np.isin(run.hashes, suspects))
            found = _slice(run, 0, len(run.times)).take(rows) if len(rows) else None
            if found is None:
                continue
            again = []
            for place, name in enumerate(found.column(0).to_pylist()):
                if name in seen:
                    again.append(place)
                seen.add(name)
            run.dropped = rows[np.array(again, dtype=np.int64)]
            gone.append(found.take(np.array(again, dtype=np.int64)))
        return pa.concat_tables(gone)

    def write(self, path: Path, facts: Mapping[str, Any]) -> None:
        """Write all rows in order of time to *path*, which appears whole or not at all."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with pa.OSFile(str(self._runs[0].path)) as source:
            target = pa.ipc.open_file(source).schema
        metadata = {**target.metadata, TRACE_KEY: json.dumps(facts, sort_keys=True).encode()}
        with (
            atomic(path) as file,
            pq.ParquetWriter(file, target.with_metadata(metadata), compression="zstd") as writer,
        ):
            for table in self._merged():
                writer.write_table(table.replace_schema_metadata(metadata))

    def _merged(self) -> Iterator[pa.Table]:
        import pyarrow as pa

        if self.in_order:
            yield from (self._part(run, 0, len(run.times)) for run in self._runs)
            return
        times = np.concatenate([run.times for run in self._runs])
        ranks = np.arange(GROUP_ROWS, len(times), GROUP_ROWS)
        times.partition(ranks)
        cuts = [-np.inf, *np.unique(times[ranks]).tolist(), np.inf]
        del times
        for low, high in pairwise(cuts):  # equal times are never parted
            parts = []
            for run in self._runs:
                first, last = np.searchsorted(run.times, [low, high])
                if first < last:
                    parts.append(self._part(run, int(first), int(last)))
            if parts:
                table = pa.concat_tables([_plain(part) for part in parts])
                order = np.argsort(table.column(1).to_numpy(), kind="stable")
                yield table.take(order).cast(parts[0].schema)

    def _part(self, run: _Run, first: int, last: int) -> pa.Table:
        """Rows *first* to before *last* of *run* that were not dropped, on the common clock."""
        import pyarrow as pa

        table = _slice(run, first, last)
        if len(run.dropped):
            keep = np.ones(len(run.times), dtype=bool)
            keep[run.dropped] = False
            table = table.filter(pa.array(keep[first:last]))
        shift_s = run.zero_s - self.zero_s
        if shift_s:
            for i, field in enumerate(table.schema):
                if field.name in TIMES:
                    table = table.set_column(i, field, _shifted(table.column(i), shift_s))
        return table


def _shifted(times: pa.ChunkedArray, shift_s: float) -> pa.Array:
    import polars as pl

    return (pl.Series(pl.from_arrow(times)) + shift_s).round(6).to_arrow()


def _slice(run: _Run, first: int, last: int) -> pa.Table:
    import pyarrow as pa

    with pa.OSFile(str(run.path)) as source:
        reader = pa.ipc.open_file(source)
        begin, end = first // BATCH_ROWS, -(-last // BATCH_ROWS)
        batches = [reader.get_batch(i) for i in range(begin, end)]
    return pa.Table.from_batches(batches).slice(first - begin * BATCH_ROWS, last - first)


def _plain(table: pa.Table) -> pa.Table:
    """*table* with its dictionaries laid out: those of other runs are others."""
    import pyarrow as pa

    fields = [
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields, metadata=table.schema.metadata))
