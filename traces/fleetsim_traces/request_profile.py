"""What a request trace looks like, in numbers.

Keys of :func:`request_profile`, all of them always present and fit for JSON:

``format``, ``source``, ``generated``, ``epoch`` (ISO or null), ``notes``, ``rows_read``, ``rejected``
    As in the trace.
``requests``, ``span_s``, ``per_s``
    How many, from the first to the last arrival, and their mean rate (null for a span of 0).
``rates``
    ``bin_s`` and ``per_s``: the mean rate in each of at most 48 equal bins from the first arrival on.
``by_hour``
    ``zone`` and ``counts`` (24, from midnight; from the first hour where the epoch is unknown and ``zone``
    null).
``burstiness``
    ``gap_cv`` and ``shared`` (part of the gaps that are 0), null for fewer than 2 gaps, and ``dispersion``:
    window -> variance over mean of the counts in windows of that length, 1 for a Poisson process; null for
    fewer than ten windows.
``tokens``
    ``prompt``, ``output``, ``reasoning``: ``{known, zero, sum, mean}`` and quantiles; null where unknown.
``latency_s``, ``ttft_s``, ``images``, ``steps``
    The same without ``zero``.
``prefix``
    ``requests`` with hashes, ``blocks``, and ``reused``: the part of blocks whose hash an earlier one has,
    what a cache without limit would save. Null where the source has no hashes.
``tenants``, ``services``
    ``count``, and ``top``: list of ``{name, requests, share, tokens, tokens_share}`` by requests.
``kind``, ``status``
    Such lists, the name null where unknown.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fleetsim_traces.profile import QUANTILES, TOP
from fleetsim_traces.quality import dispersion
from fleetsim_traces.requests import PREFIX, TOKENS, RequestTrace
from fleetsim_traces.text import fail
from fleetsim_traces.times import is_zone, zone_hint

if TYPE_CHECKING:
    import polars as pl

WINDOWS_S = {"1 s": 1, "10 s": 10, "1 min": 60, "10 min": 600, "1 h": 3600}
_BINS_S = (1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)
_MOST_BINS = 48


def request_profile(trace: RequestTrace, *, zone: str = "UTC", top: int = TOP) -> dict[str, Any]:
    """Describe *trace*; *zone* (IANA) is that of hours, *top* the tenants and services to list.

    Raises TraceError for a zone that does not exist.
    """
    import polars as pl

    if not is_zone(zone):
        raise fail("zone", f"no time zone {zone!r}", zone_hint(zone))
    frame = pl.DataFrame(pl.from_arrow(trace.requests.drop([PREFIX]))).with_columns(
        pl.col("service", "tenant", "kind", "status").cast(pl.String),
        pl.sum_horizontal(pl.col(TOKENS).cast(pl.Int64)).alias("tokens"),
    )
    times = frame["arrival_s"].to_numpy()
    span_s = float(times[-1] - times[0])
    gaps = np.diff(times)
    mean = float(gaps.mean()) if len(gaps) else 0.0
    return {
        "format": trace.format,
        "source": trace.source,
        "generated": trace.generated,
        "epoch": trace.epoch.isoformat() if trace.epoch else None,
        "notes": list(trace.notes),
        "rows_read": trace.rows_read,
        "rejected": dict(trace.rejected),
        "requests": frame.height,
        "span_s": span_s,
        "per_s": frame.height / span_s if span_s else None,
        "rates": _rates(times - times[0], span_s),
        "by_hour": _by_hour(trace, frame["arrival_s"], zone),
        "burstiness": {
            "gap_cv": float(gaps.std() / mean) if len(gaps) > 1 and mean else None,
            "shared": float((gaps == 0).mean()) if len(gaps) > 1 else None,
            "dispersion": {name: dispersion(times, window) for name, window in WINDOWS_S.items()},
        },
        "tokens": {
            name: _spread(frame[f"{name}_tokens"], zero=True) for name in ("prompt", "output", "reasoning")
        },
        **{name: _spread(frame[name]) for name in ("latency_s", "ttft_s", "images", "steps")},
        "prefix": _prefix(trace),
        **{
            f"{name}s": {"count": frame[name].n_unique(), "top": _shares(frame, name).head(top).to_dicts()}
            for name in ("tenant", "service")
        },
        **{name: _shares(frame, name).to_dicts() for name in ("kind", "status")},
    }


def _rates(since_s: np.typing.NDArray[np.float64], span_s: float) -> dict[str, Any]:
    bin_s = next(
        (b for b in _BINS_S if span_s / b <= _MOST_BINS), 86_400 * math.ceil(span_s / 86_400 / _MOST_BINS)
    )
    counts = np.bincount((since_s // bin_s).astype(np.int64))
    rates = counts / bin_s
    rest_s = span_s % bin_s
    if len(counts) > 1 and rest_s:  # the last bin is cut short by the end of the trace
        rates[-1] = counts[-1] / rest_s
    return {"bin_s": bin_s, "per_s": rates.tolist()}


def _by_hour(trace: RequestTrace, arrival_s: pl.Series, zone: str) -> dict[str, Any]:
    import polars as pl

    if trace.epoch is None:
        hour = (arrival_s // 3600 % 24).cast(pl.Int64)
    else:
        instant = ((arrival_s + trace.epoch.timestamp()) * 1e6).cast(pl.Int64).cast(pl.Datetime("us", "UTC"))
        hour = instant.dt.convert_time_zone(zone).dt.hour().cast(pl.Int64)
    counts = np.bincount(hour.to_numpy(), minlength=24).tolist()
    return {"zone": zone if trace.epoch else None, "counts": counts}


def _spread(column: pl.Series, *, zero: bool = False) -> dict[str, Any] | None:
    """Count, sum, mean and quantiles of what is known of *column*; None where nothing is."""
    known = np.sort(column.drop_nulls().cast(float).to_numpy())
    if len(known) == 0:
        return None
    # the smallest value that a part q of all does not exceed
    places = np.ceil(np.array(list(QUANTILES.values())) * len(known) * (1 - 1e-12)).astype(np.int64) - 1
    found = known[np.clip(places, 0, len(known) - 1)].tolist()
    return {
        "known": len(known),
        **({"zero": int((known == 0).sum())} if zero else {}),
        "sum": float(known.sum()),
        "mean": float(known.mean()),
        **dict(zip(QUANTILES, found, strict=True)),
    }


def _prefix(trace: RequestTrace) -> dict[str, Any] | None:
    import polars as pl

    lists = pl.Series(pl.from_arrow(trace.requests[PREFIX]))
    hashes = lists.explode().drop_nulls()
    if hashes.len() == 0:
        return None
    reused = 1 - hashes.n_unique() / hashes.len()
    return {"requests": lists.len() - lists.null_count(), "blocks": hashes.len(), "reused": reused}


def _shares(frame: pl.DataFrame, key: str) -> pl.DataFrame:
    """Requests and tokens by *key*, most requests first; shares of tokens are 0 where there are none."""
    import polars as pl

    groups = frame.group_by(pl.col(key).alias("name")).agg(
        pl.len().cast(pl.Int64).alias("requests"), pl.col("tokens").sum()
    )
    return groups.select(
        "name",
        "requests",
        (pl.col("requests") / pl.col("requests").sum()).alias("share"),
        "tokens",
        (pl.col("tokens") / pl.col("tokens").sum()).fill_nan(0.0).alias("tokens_share"),
    ).sort("requests", "name", descending=[True, False])
