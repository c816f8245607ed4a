"""The figures of a sweep: of each run, and over the replications of each point with their 95 % intervals."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from math import cos, fsum, pi, sin, sqrt, tan
from typing import TYPE_CHECKING, Any

from fleetsim import comparison, summary
from fleetsim.comparison import Figure
from fleetsim.runfolder import Run

if TYPE_CHECKING:
    import polars as pl

    from fleetsim.sweeps.folder import SweepRun

_CHAIN = "Utilisation"

#: The figures of a run, by name: what ``fleetsim show`` begins with, and those of ``fleetsim compare``.
RUN_FIGURES: dict[str, Figure] = {
    "installed_gpu_hours": Figure(
        _CHAIN, "installed", "GPU h", "", summary.DEFINITIONS["installed_gpu_hours"]
    ),
    "allocated": Figure(_CHAIN, "allocated", "share", "high", summary.DEFINITIONS["allocated"]),
    "time_effective": Figure(_CHAIN, "productive", "share", "high", summary.DEFINITIONS["time_effective"]),
    **comparison.FIGURES,
    "failed": Figure("Life", "failures", "times", "low", "times that a node, a GPU or a job failed"),
    "retired_gpus": Figure("Life", "GPUs retired", "GPUs", "", "GPUs that left the fleet, sold or not"),
    "retired_age_s": Figure("Life", "age at retirement", "s", "", "mean over the GPUs that left the fleet"),
    "rent_usd": Figure("Money", "rent", "USD", "high", "allocated GPU hours at their prices (the ledger's)"),
    "margin_usd": Figure(
        "Money", "margin", "USD", "high", "rent less energy and running cost, before what the GPUs cost"
    ),
}

#: Those that are shown unless others are asked for, where any run has them.
HEADLINES = ("allocated", "fleet_mfu", "wait_mean_s", "facility_energy_mwh", "retired_age_s", "margin_usd")

#: Those that a generation has, too.
GENERATION_FIGURES = (
    "installed_gpu_hours", "allocated", "time_effective", "availability", "allocation", "busy", "goodput",
    "mfu", "fleet_mfu", "energy_mwh", "facility_energy_mwh",
)  # fmt: skip

DEFINITIONS = {
    "mean": "mean over the replications of the point in which the run has the figure (`runs` of them)",
    "interval": "95 % interval of that mean: mean -+ t s / sqrt(runs), t the 97.5 % quantile of Student's t "
    "with runs - 1 degrees of freedom, s the standard deviation; none of a single run. It says how far the "
    "figure rests on what is drawn from the seed, and supposes that draws give a normal spread",
    "difference": "mean and 95 % interval of (this point - the first point), replication by replication: "
    "replications of one number share their seed, and so the draws that the two have in common",
}


@dataclass(frozen=True)
class Estimate:
    """A mean over ``runs`` runs and its 95 % interval; None of no run, the interval of less than two."""

    mean: float | None
    low: float | None
    high: float | None
    runs: int

    @property
    def half(self) -> float | None:
        """Half the width of the interval."""
        return None if self.low is None or self.mean is None else self.mean - self.low


def estimate(values: Sequence[float | None]) -> Estimate:
    """Mean of the *values* that are known, with its interval: ``DEFINITIONS``.

    >>> estimate([1.0, 2.0, 3.0, None]).mean, estimate([5.0])
    (2.0, Estimate(mean=5.0, low=None, high=None, runs=1))
    """
    known = [value for value in values if value is not None]
    if not known:
        return Estimate(None, None, None, 0)
    mean = fsum(known) / len(known)
    if len(known) == 1:
        return Estimate(mean, None, None, 1)
    half = student_t(len(known) - 1) * statistics.stdev(known) / sqrt(len(known))
    return Estimate(mean, mean - half, mean + half, len(known))


@cache
def student_t(freedom: int) -> float:
    """The 97.5 % quantile of Student's t with *freedom* degrees of freedom, to 1e-9.

    By bisection of the distribution, a finite sum for whole *freedom*: Abramowitz and Stegun, Handbook of
    Mathematical Functions (1964), 26.7.3 and 26.7.4.

    >>> [round(student_t(n), 3) for n in (1, 2, 4, 9, 29)]
    [12.706, 4.303, 2.776, 2.262, 2.045]
    """
    low, high = 0.0, pi / 2
    while high - low > 1e-13:
        theta = (low + high) / 2
        low, high = (theta, high) if _within(theta, freedom) < 0.95 else (low, theta)
    return sqrt(freedom) * tan(low)


def _within(theta: float, freedom: int) -> float:
    """P(|t| < sqrt(freedom) tan(theta))."""
    odd = freedom % 2
    term, total = (cos(theta) if odd else 1.0), 0.0
    for n in range(1 + odd, freedom, 2):
        total += term
        term *= cos(theta) ** 2 * n / (n + 1)
    return 2 / pi * (theta + sin(theta) * total) if odd else sin(theta) * total


def run_figures(run: Run) -> dict[str, float | None]:
    """All of ``RUN_FIGURES`` of one run."""
    fleet = summary.utilisation(summary.usage_measures(run), [])[0]
    found = {**fleet, **comparison.figures(run), **_life(run)}
    return {name: None if (value := found[name]) is None else float(value) for name in RUN_FIGURES}


def _life(run: Run) -> dict[str, float | None]:
    """What became of the nodes, and what they earned; None without retirements, without economics."""
    import polars as pl

    gone = run.scan("node_states").filter(pl.col("state").cast(pl.String) == "retired")
    retired = gone.select("gpus", "age_s").collect()
    gpus = fsum(retired["gpus"])
    ages = fsum(count * age for count, age in retired.iter_rows())
    ledger = run.scan("ledger").select("rent_usd", "margin_usd").collect()
    return {
        "failed": float(run.scan("failures").select(pl.len()).collect().item()),
        "retired_gpus": gpus,
        "retired_age_s": ages / gpus if gpus else None,
        **{
            name: None if ledger[name].null_count() or not ledger.height else fsum(ledger[name])
            for name in ledger.columns  # null: where no price is given
        },
    }


def headlines(sweep: SweepRun) -> list[str]:
    """Those of ``HEADLINES`` that any of the runs has; the first of them if there is no run."""
    have = [name for name in HEADLINES if sweep.runs[name].null_count() < sweep.runs.height]
    return have or [HEADLINES[0]]


def generation_rows(run: Run) -> pl.DataFrame:
    """``GENERATION_FIGURES`` of one run, a row for each: of every generation on all tiers (null), and by tier
    where the fleet has more than one."""
    usage = summary.usage_measures(run)
    rows = [{**row, "tier": None} for row in summary.utilisation(usage, ["generation"])]
    if usage["tier"].n_unique() > 1:
        rows += summary.utilisation(usage, ["generation", "tier"])
    return generation_frame(
        [(r["generation"], r["tier"], name, r[name]) for r in rows for name in GENERATION_FIGURES]
    )


def generation_frame(rows: Sequence[tuple[str, str | None, str, float | None]] = ()) -> pl.DataFrame:
    """A table with the columns generation, tier, figure and value."""
    import polars as pl

    columns = {"generation": pl.String, "tier": pl.String, "figure": pl.String, "value": pl.Float64}
    return pl.DataFrame(rows, columns, orient="row")


def table(sweep: SweepRun, names: Sequence[str]) -> dict[str, Any]:
    """What ``fleetsim sweep`` prints, as plain values: the figures *names* of all points, with intervals."""
    record = sweep.record
    by_point = _by_point(sweep.runs, list(RUN_FIGURES))
    first = by_point.get(0, {})
    points = []
    for point in record.points:
        own = by_point.get(point.point, {})
        points.append(
            {
                "point": point.point,
                "name": point.name,
                "values": point.values,
                "figures": {
                    name: {
                        **asdict(estimate(list(own.get(name, {}).values()))),
                        "difference": asdict(difference(own.get(name, {}), first.get(name, {}))),
                    }
                    for name in names
                },
            }
        )
    chosen = [name for name in names if name in GENERATION_FIGURES]
    return {
        "scenario": record.scenario,
        "question": record.question,
        "axes": record.axes,
        "replications": record.replications,
        "seeds": record.seeds,
        "points": points,
        "generations": [row for name in chosen for row in by_generation(sweep, name)],
        "runs": [run.model_dump() for run in record.runs],
        "notes": notes(sweep),
        "definitions": {
            "figures": {name: asdict(RUN_FIGURES[name]) for name in names},
            **DEFINITIONS,
        },
    }


def difference(own: Mapping[int, float | None], first: Mapping[int, float | None]) -> Estimate:
    """Of (*own* - *first*), both by replication, where both are known."""
    both = [(value, first.get(replication)) for replication, value in own.items()]
    return estimate([x - y for x, y in both if x is not None and y is not None])


def by_generation(sweep: SweepRun, figure: str) -> list[dict[str, Any]]:
    """*figure* of every generation at every point: over all tiers (None), and by tier."""
    import polars as pl

    rows = sweep.generations.filter(pl.col("figure") == figure)
    keys = ["point", "generation", "tier"]
    grouped = rows.group_by(keys, maintain_order=True).agg("value").iter_rows(named=True)
    return [
        {**{key: row[key] for key in keys}, "figure": figure, **asdict(estimate(row["value"]))}
        for row in grouped
    ]


def notes(sweep: SweepRun) -> list[str]:
    """What a reader must know to read the figures rightly."""
    record, found = sweep.record, []
    if missing := len(record.runs) - len(sweep.done):
        found.append(
            f"{missing} of {len(record.runs)} runs are missing; `fleetsim run` of the scenario into this "
            "folder does them, and only them."
        )
    if record.replications > 1 and sweep.done:
        spread = _by_point(sweep.runs, list(RUN_FIGURES))
        if all(len(set(v.values())) == 1 for point in spread.values() for v in point.values()):
            found.append(
                "All replications are alike: nothing in this scenario is drawn from the seed, or too little."
            )
    if record.replications == 1:
        found.append("One run of each point: no intervals. Give `replications`.")
    return found


def _by_point(runs: pl.DataFrame, names: Sequence[str]) -> dict[int, dict[str, dict[int, float | None]]]:
    """Figures by point, name and replication."""
    found: dict[int, dict[str, dict[int, float | None]]] = {}
    for row in runs.iter_rows(named=True):
        of_point = found.setdefault(row["point"], {name: {} for name in names})
        for name in names:
            of_point[name][row["replication"]] = row[name]
    return found


def words(unit: str, found: Mapping[str, Any], sign: bool = False) -> str:
    """An estimate for people: mean and half the width of its interval, as far as the mean is written.

    >>> words("share", {"mean": 0.5, "low": 0.49, "high": 0.51}), words("s", {"mean": 60.0, "low": None})
    ('50.0 ± 1.0 %', '1 min')
    >>> words("MWh", {"mean": 6.18, "low": 6.1431, "high": 6.2169})
    '6.18 ± 0.04'
    """
    mean, low = found["mean"], found["low"]
    text = comparison.words(unit, mean, sign)
    if mean is None or low is None:
        return text
    if unit == "s":
        return f"{text} ± {comparison.words(unit, mean - low)}"
    number, gap, end = text.partition(" ")
    decimals = len(number.partition(".")[2])
    return f"{number} ± {100 * (mean - low) if unit == 'share' else mean - low:,.{decimals}f}{gap}{end}"
