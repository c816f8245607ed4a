"""Random draws: one named stream per cause, all from one seed.

A stream depends on the seed and its own name alone, so adding a cause never shifts the draws of another,
and two scenarios with one seed share the draws of the causes they have in common.
"""

from __future__ import annotations

import hashlib

import numpy as np


def stream(seed: int, *cause: str | int) -> np.random.Generator:
    """Return the generator of the cause named by *cause*, e.g. ``stream(7, "growth", "philly", 3)``."""
    digest = hashlib.sha256("\x1f".join(map(str, cause)).encode()).digest()
    key = tuple(int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4))
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))
