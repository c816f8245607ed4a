"""When batches begin, and the seeded streams that every draw of a look-alike comes from."""

from __future__ import annotations

import zlib
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.random import Generator

from fleetsim_traces.parameters import Arrivals

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

_DAY_S = 86400
_MAX_BLOCKS = 30_000_000  # of time; finer ones are left out of longer traces


def stream(seed: int, *cause: str | int) -> Generator:
    """A generator of its own for each cause, by name: a new cause leaves the others' draws alone."""
    key = zlib.crc32("/".join(map(str, cause)).encode())
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(key,)))


def begins(arrivals: Arrivals, seed: int, number: int, start: datetime, days: float) -> Floats:
    """*number* instants in seconds from *start*, ascending, with the rate of *arrivals*.

    Given their number they are those of a Poisson process: uniform draws through the inverse of the
    cumulative rate. The rate is a step function on blocks that begin at whole hours of the clock.
    """
    cv = {
        s: v for s, v in sorted(arrivals.load_cv_by_s.items()) if days * _DAY_S / s <= _MAX_BLOCKS and v > 0
    }
    width = min(min(cv, default=3600), 3600)
    clock_s = start.hour * 3600 + start.minute * 60 + start.second
    first = clock_s // width  # block of the clock in which start lies
    blocks = int(np.ceil(days * _DAY_S / width)) + 1
    block_s = (first + np.arange(blocks)) * width
    day = block_s // _DAY_S
    rate = (
        np.array(arrivals.hour_rate)[block_s // 3600 % 24]
        * np.array(arrivals.weekday_rate)[(start.weekday() + day) % 7]
    )
    for length, variation in cv.items():
        sigma = np.sqrt(np.log1p(variation**2))
        place = (block_s + start.weekday() * _DAY_S) // length if length > _DAY_S else block_s // length
        place -= place[0]
        rate *= stream(seed, "load", length).lognormal(-(sigma**2) / 2, sigma, int(place[-1]) + 1)[place]
    edges = np.append(block_s, block_s[-1] + width) - clock_s
    cumulative = np.concatenate(([0.0], np.cumsum(rate)))
    low, high = np.interp([0.0, days * _DAY_S], edges, cumulative)
    draws = np.sort(stream(seed, "arrivals").random(number))
    if high <= low:  # every hour of a short trace has rate 0
        return draws * days * _DAY_S
    times_s: Floats = np.interp(low + draws * (high - low), cumulative, edges)
    return times_s
