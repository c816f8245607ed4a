"""The demand at which a generation stops being used: where its allocated share falls below a threshold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import fsum
from typing import TYPE_CHECKING, Any, Literal

from fleetsim import summary, units
from fleetsim.errors import InputError, Problem
from fleetsim.sweeps.sweep import axis_labels
from fleetsim.sweeps.table import DEFINITIONS as ESTIMATES
from fleetsim.sweeps.table import estimate

if TYPE_CHECKING:
    import polars as pl

    from fleetsim.sweeps.folder import SweepRun

#: How a generation fares over the levels of the axis, in one replication.
Kind = Literal["crosses", "below", "above", "retired"]

DEFINITIONS = {
    "share": "allocated GPU hours / installed GPU hours of a generation (on a tier, if by tiers) in the "
    "window: the last whole periods of usage.parquet that cover the time asked for; none where nothing of "
    "it is installed any more",
    "break_even": "of one replication: the highest level of the axis at which the share, as it falls with "
    "the demand, passes the threshold, on a straight line between the two levels around it. Levels at which "
    "nothing is installed in the window are left out and counted",
    "mean": ESTIMATES["mean"].replace("in which the run has the figure", "that have a break-even"),
    "interval": ESTIMATES["interval"],
    "below": "replications in which the generation is used at every level at which it is installed: its "
    "break-even is below the lowest",
    "above": "replications in which it is not used even at the highest level: its break-even is above that, "
    "if there is any",
    "retired": "replications in which nothing of it is installed in the window at any level: it had been "
    "retired or moved before",
    "uneven": "replications in which the share falls somewhere as the axis rises, so that there may be more "
    "than one crossing: the highest is taken",
}


@dataclass(frozen=True)
class Crossing:
    """What one replication shows: where the share crosses the threshold, or why it does not.

    ``levels_gone`` are levels at which there is no share; ``uneven`` whether the share falls anywhere.
    """

    kind: Kind
    level: float | None = None
    levels_gone: int = 0
    uneven: bool = False


def crossing(levels: Sequence[float], shares: Sequence[float | None], threshold: float) -> Crossing:
    """Where *shares*, one for each of the rising *levels* (None: nothing installed), cross *threshold*.

    From 0.02 at level 1 to 0.10 at level 2, 0.05 is crossed at 1 + (0.05 - 0.02) / (0.10 - 0.02) = 1.375:

    >>> crossing([0, 1, 2], [0.0, 0.02, 0.10], 0.05).level
    1.375
    >>> crossing([0, 1], [0.3, 0.6], 0.05).kind, crossing([0, 1], [0, 0.01], 0.05).kind
    ('below', 'above')
    """
    known = [(level, share) for level, share in zip(levels, shares, strict=True) if share is not None]
    gone = len(levels) - len(known)
    if not known:
        return Crossing("retired", None, gone)
    uneven = any(b < a for (_, a), (_, b) in pairwise(known))
    if known[-1][1] < threshold:
        return Crossing("above", None, gone, uneven)
    for (low, less), (high, more) in reversed([*pairwise(known)]):
        if less < threshold:
            part = (threshold - less) / (more - less)
            return Crossing("crosses", low + part * (high - low), gone, uneven)
    return Crossing("below", None, gone, uneven)


def window_shares(
    usage: pl.DataFrame, last_s: float, by_tier: bool
) -> dict[tuple[str, str | None], float | None]:
    """``DEFINITIONS["share"]`` of each generation of one run, and the tier (None: all of them).

    *usage* is that of :func:`fleetsim.summary.usage_measures`.
    """
    import polars as pl

    keys = ["generation", "tier"] if by_tier else ["generation"]
    start_s = window_start_s(usage, last_s)
    inside = pl.when(pl.col("period_start_s") >= start_s)
    measures = ["installed_gpu_hours", "allocated_gpu_hours"]
    late = usage.with_columns(inside.then(pl.col(m)).otherwise(0.0).alias(m) for m in measures)
    return {
        (row["generation"], row.get("tier")): row["allocated_gpu_hours"] / row["installed_gpu_hours"]
        if row["installed_gpu_hours"]
        else None
        for row in summary.added(late, keys, measures)
    }


def window_start_s(usage: pl.DataFrame, last_s: float) -> float:
    """Where the last whole periods of *usage* begin that cover *last_s*, s from the start of the run."""
    end_s = float(usage["period_end_s"].max() or 0.0)  # type: ignore[arg-type]  # of numbers, a number
    covers = usage.filter(usage["period_end_s"] > end_s - last_s + 1e-6)
    return float(covers["period_start_s"].min() or 0.0)  # type: ignore[arg-type]


def find_axis(axes: Mapping[str, Sequence[Any]], name: str) -> str:
    """The path of the axis *name*: a path, or its last steps. Raises :class:`InputError`."""
    labels = axis_labels(list(axes))
    found = [path for path in axes if name == path or name == labels[path] or path.endswith(f".{name}")]
    if len(found) == 1:
        return found[0]
    what = f"{name!r} is no axis of the sweep" if not found else f"{name!r} may be {' or '.join(found)}"
    known = ", ".join(labels.values()) or "none"
    raise InputError([Problem("axis", what, f"Axes are: {known}.")])


def is_numeric(values: Sequence[Any]) -> bool:
    """Whether all values of an axis are numbers."""
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)


def break_even(
    sweep: SweepRun, axis: str, threshold: float = 0.05, last: str | float = "1y", by_tier: bool = False
) -> dict[str, Any]:
    """What ``fleetsim sweep --break-even`` prints, as plain values: ``DEFINITIONS``.

    A row for each generation (on each tier) and each combination of the other axes' values; ``lowest`` and
    ``highest`` are the levels at which it is installed in any of the runs. Raises
    :class:`InputError` for an axis that is not one, or has no two numbers, and for runs that cannot be read.
    """
    path = find_axis(sweep.record.axes, axis)
    levels = sweep.record.axes[path]
    if not is_numeric(levels) or len(levels) < 2:
        raise InputError([Problem(f"axis {path}", "has no two numbers to lie between", "Name another axis.")])
    last_s = units.duration_s(last)
    ladder: list[str] = []
    shares: dict[tuple[int, int], dict[tuple[str, str | None], float | None]] = {}
    starts_s: list[float] = []
    for run in sweep.done:
        opened = sweep.open(run)
        usage = summary.usage_measures(opened)
        ladder = ladder or [tier["name"] for tier in opened.manifest["scenario"].get("tiers", [])]
        shares[run.point, run.replication] = window_shares(usage, last_s, by_tier)
        starts_s.append(window_start_s(usage, last_s))
    rows: list[dict[str, Any]] = []
    for others, points in _lines(sweep, path):
        rows += _rows(others, points, shares, sweep.record.replications, threshold, ladder)
    return {
        "axis": path,
        "levels": sorted(levels),
        "threshold": threshold,
        "last": last,
        "window_start_s": min(starts_s, default=None),
        "rows": rows,
        "definitions": DEFINITIONS,
    }


def _lines(sweep: SweepRun, path: str) -> list[tuple[dict[str, Any], dict[float, int]]]:
    """The numbers of the points by the values of the other axes, and there by level."""
    found: list[tuple[dict[str, Any], dict[float, int]]] = []
    for point in sweep.record.points:
        others = {p: v for p, v in point.values.items() if p != path}
        line = next((points for known, points in found if known == others), None)
        if line is None:
            found.append((others, line := {}))
        line[point.values[path]] = point.point
    return [(others, dict(sorted(line.items()))) for others, line in found]


def _rows(
    others: Mapping[str, Any],
    points: Mapping[float, int],
    shares: Mapping[tuple[int, int], Mapping[tuple[str, str | None], float | None]],
    replications: int,
    threshold: float,
    ladder: Sequence[str],
) -> list[dict[str, Any]]:
    """The rows of one combination of the other axes' values; tiers in the order of the *ladder*."""
    seen = [key for (point, _), found in shares.items() if point in points.values() for key in found]
    keys = [{"generation": generation, "tier": tier} for generation, tier in dict.fromkeys(seen)]
    keys.sort(key=lambda key: ladder.index(key["tier"]) if key["tier"] in ladder else 0)
    rows = []
    for key in summary.in_order(keys, ["generation"]):
        crossings: list[Crossing] = []
        of_level: dict[float, list[float | None]] = {level: [] for level in points}
        for replication in range(replications):
            runs = {
                level: shares[point, replication].get((key["generation"], key["tier"]))
                for level, point in points.items()
                if (point, replication) in shares
            }
            for level, share in runs.items():
                of_level[level].append(share)
            if runs:
                crossings.append(crossing([*runs], [*runs.values()], threshold))
        kinds = Counter(found.kind for found in crossings)
        installed = [level for level, of in of_level.items() if any(share is not None for share in of)]
        rows.append(
            {
                "values": dict(others),
                **key,
                "break_even": asdict(estimate([found.level for found in crossings])),
                "replications": len(crossings),
                **{kind: kinds[kind] for kind in ("crosses", "below", "above", "retired")},
                "lowest": min(installed, default=None),
                "highest": max(installed, default=None),
                "uneven": sum(found.uneven for found in crossings),
                "levels_gone": fsum(found.levels_gone for found in crossings) / len(crossings),
                "shares": [{"level": level, **asdict(estimate(of))} for level, of in of_level.items()],
            }
        )
    return rows


def otherwise(row: Mapping[str, Any]) -> str:
    """What became of the replications of a row that have no break-even, in words.

    >>> otherwise({"below": 2, "above": 0, "retired": 1, "lowest": 0, "highest": 1, "tier": None})
    '2 used at every level (below 0), 1 retired before'
    """
    said = {
        "below": f"used at every level (below {row['lowest']})",
        "above": f"not used at the highest level (above {row['highest']})",
        "retired": "retired before" if row["tier"] is None else "moved on or retired before",
    }
    return ", ".join(f"{row[kind]} {text}" for kind, text in said.items() if row[kind])


def hints(row: Mapping[str, Any]) -> str:
    """What makes the break-even of a row less sure, in words."""
    found = []
    if row["uneven"]:
        found.append(f"its share does not rise throughout in {row['uneven']} of {row['replications']}")
    if row["levels_gone"] and row["retired"] < row["replications"]:
        found.append(f"it is gone before the window at {row['levels_gone']:.3g} levels on average")
    return "; ".join(found)
