"""Columns of labels as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from fleetsim.records import Ints


def coded(column: Any) -> tuple[Ints, list[str]]:
    """A column of labels as positions in a list of names; -1 is null."""
    column = column.unify_dictionaries().combine_chunks()
    codes = column.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, column.dictionary.to_pylist()
