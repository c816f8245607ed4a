"""Numbers that look random and are functions of what they belong to: no generator, no state.

A value depends on its key and counter alone, so readings of another grid or selection are the same readings.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from fleetsim.records import Floats, Ints

Keys = NDArray[np.uint64]

_STEP, _A, _B = (np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_30, _27, _31, _11 = (np.uint64(x) for x in (30, 27, 31, 11))


def mixed(key: Keys, counter: Ints) -> Keys:
    """Draw number *counter* of each *key*: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    x = counter.astype(np.uint64)
    x *= _STEP
    x = x + key
    x ^= x >> _30
    x *= _A
    x ^= x >> _27
    x *= _B
    x ^= x >> _31
    return x


def keys(seed: int, what: str, *parts: Ints) -> Keys:
    """A key for each combination of *parts*, for draws of the kind *what* in a run of *seed*."""
    digest = hashlib.sha256(f"{seed}\x1f{what}".encode()).digest()
    key = np.full(len(parts[0]), int.from_bytes(digest[:8], "little"), np.uint64)
    for part in parts:
        key = mixed(key, part)
    return key


def unit(drawn: Keys) -> Floats:
    """Draws as numbers from 0 to below 1, evenly spread."""
    return np.asarray((drawn >> _11) * 2.0**-53)


def drifting(key: Keys, time_s: Floats, every_s: float) -> Floats:
    """A value from -1 to 1 that wanders: drawn every *every_s*, and in a straight line in between.

    Near times are alike, as in an AR(1) process, and it has mean 0; but it is bounded and has no past.
    """
    step = time_s / every_s
    whole = np.floor(step)
    step -= whole
    index = whole.astype(np.int64)
    before = unit(mixed(key, index))
    after = unit(mixed(key, index + 1))
    return 2.0 * (before + (after - before) * step) - 1.0
