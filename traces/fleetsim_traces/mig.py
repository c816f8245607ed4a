"""Parts of a GPU by their names: MIG profiles such as ``1g.5gb`` in Slurm and Kubernetes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

PROFILE = r"(\d)g\.(\d+)gb"
SLICES = 7.0  # of a GPU; the A30 has 4, and its profiles are these:
_A30 = ("1g.6gb", "2g.12gb", "4g.24gb")


def share(name: pl.Expr) -> pl.Expr:
    """The part of a GPU's slices that the MIG profile in *name* takes; null where there is none."""
    import polars as pl

    slices = name.str.extract(PROFILE, 1).cast(pl.Float64, strict=False)
    of = pl.when(name.str.extract(rf"({PROFILE})", 1).is_in(_A30)).then(4.0).otherwise(SLICES)
    return slices / of


def memory_gb(name: pl.Expr) -> pl.Expr:
    """The memory of the MIG profile in *name*; null where there is none."""
    import polars as pl

    return name.str.extract(PROFILE, 2).cast(pl.Float64, strict=False)
