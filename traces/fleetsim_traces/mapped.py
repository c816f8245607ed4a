"""What a column mapping makes of the cells of a file: timestamps, quantities and names."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

from fleetsim_traces.mapping import Source
from fleetsim_traces.times import by_value, datetimes, instants, number, scaled, unix_s

if TYPE_CHECKING:
    import polars as pl


def numbered(cells: pl.DataFrame) -> pl.DataFrame:
    """Columns of a Parquet file under the names ``0``, ``1``, ..., with ``line`` the row; codes as text."""
    import polars as pl

    return cells.select(
        pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("line"),
        *(
            (pl.col(name).cast(pl.String) if kind == pl.Categorical else pl.col(name)).alias(str(i))
            for i, (name, kind) in enumerate(cells.schema.items())
        ),
    )


def timestamp(cell: pl.Expr, kind: pl.DataType, spec: Source) -> pl.Expr:
    """Seconds since 1970 UTC."""
    import polars as pl

    zone = spec.zone or "UTC"
    if isinstance(kind, pl.Datetime):
        if kind.time_zone is None:
            return unix_s(cell.cast(pl.Datetime("us")), zone)
        return cell.dt.epoch("us").cast(pl.Float64) / 1e6
    if spec.format is not None:
        return unix_s(datetimes(cell, spec.format), zone)
    return cell.map_batches(partial(instants, zone=zone), return_dtype=pl.Float64)


def quantity(cell: pl.Expr, kind: pl.DataType, spec: Source, factor: Fraction) -> pl.Expr:
    """A number times *factor*; the mapping's value where the cell is empty."""
    import polars as pl

    value = scaled(number(cell) if kind == pl.String else cell.cast(pl.Float64), factor)
    if spec.value is None:
        return value
    empty = cell.cast(pl.String).fill_null("").str.strip_chars() == ""
    return pl.when(empty).then(pl.lit(float(spec.value))).otherwise(value)


def name(text: pl.Expr, spec: Source) -> pl.Expr:
    """Renamed by the mapping's ``map``; its value where the cell is empty."""
    import polars as pl

    if not spec.map and spec.value is None:
        return text

    def made(cells: pl.Series) -> pl.Series:
        named = pl.col(cells.name).str.strip_chars()
        if spec.map:
            named = named.replace({str(theirs): ours for theirs, ours in spec.map.items()})
        if spec.value is not None:
            named = pl.when(named != "").then(named).otherwise(pl.lit(spec.value))
        return by_value(cells, named)[0]

    return text.map_batches(made, return_dtype=pl.String)
