"""The metric catalogue: what a published family is, and the families of a finished run.

The Prometheus text, the reference tables and the tests of the dashboards derive from the rows here, in
:mod:`fleetsim_collectors.dcgm` and in :mod:`fleetsim_collectors.nvidia_smi`. Families of our own are in base
units (seconds, joules, ratios); only a name that says hours counts hours. Those of other exporters are in the
units of those exporters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

#: Values of a family's labels in the order of the catalogue; None and the empty text are no label at all.
LabelValues = Sequence[str | int | None]

_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: a name, and a value for each combination of labels.

    A value is the entry *value* of a row of the table *source*, turned into *unit* by *of* if there is one;
    the labels are entries of the same row. *buckets* are the finite upper bounds of a histogram, in *unit*.
    *form* is how a column of numbers is written: ``%d``, ``%f``, or empty for the fewest digits. Raises
    ``ValueError`` for names that Prometheus does not take and for buckets out of place.
    """

    name: str
    unit: str
    kind: Literal["gauge", "counter", "histogram"]
    help: str
    labels: tuple[str, ...]
    source: str
    value: str
    buckets: tuple[float, ...] = ()
    of: Callable[[Any], float] | None = None
    form: str = ""

    def __post_init__(self) -> None:
        if not _METRIC.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is not a metric name: letters, digits, _ and :, no digit first")
        for label in self.labels:
            if not _LABEL.fullmatch(label) or self.labels.count(label) > 1:
                raise ValueError(f"{self.name}: {label!r} is not a label name, or is given twice")
        if (self.kind == "histogram") != bool(self.buckets) or (self.buckets and "le" in self.labels):
            raise ValueError(f"{self.name}: a histogram has buckets and no label le; others have no buckets")
        if list(self.buckets) != sorted(set(self.buckets)) or not all(map(isfinite, self.buckets)):
            raise ValueError(f"{self.name}: buckets {self.buckets} do not ascend, or are not finite")

    @property
    def series(self) -> dict[str, tuple[str, ...]]:
        """Names of the series as they are scraped and queried, with their labels."""
        if self.kind != "histogram":
            return {self.name: self.labels}
        parts = {f"{self.name}{end}": self.labels for end in ("_sum", "_count")}
        return {f"{self.name}_bucket": (*self.labels, "le"), **parts}


@dataclass(frozen=True, slots=True)
class Histogram:
    """The value of a histogram: observations at or below each bound and in all (last), and their sum."""

    counts: tuple[int, ...]
    sum: float


#: A value of a family: a number in the family's unit, or a :class:`Histogram`.
Sample = tuple[Family, LabelValues, float | Histogram]


def samples(
    families: Iterable[Family], tables: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Iterator[Sample]:
    """What *families* make of *tables*, rows by name of the table.

    A row whose value is None has no sample: absent is not zero. Raises ``KeyError`` if a table or entry that
    the catalogue names is missing.
    """
    for family in families:
        for row in tables[family.source]:
            value = row[family.value]
            if value is not None:
                if family.of:
                    value = family.of(value)
                yield family, tuple(row[label] for label in family.labels), value


_MINUTE_S, _HOUR_S, _DAY_S = 60.0, 3600.0, 86_400.0

#: Bounds of queue waits, s: no wait at all, then seconds to 30 days, closer where waits hurt.
WAIT_BUCKETS_S = (
    *(0.0, 1.0, 10.0, 30.0),
    *(m * _MINUTE_S for m in (1, 2, 5, 10, 20, 30)),
    *(h * _HOUR_S for h in (1, 2, 4, 8, 12, 18)),
    *(d * _DAY_S for d in (1, 1.5, 2, 3, 4, 5, 7, 10, 14, 21, 30)),
)

LABELS = {
    "run": "Name of the run: its folder, unless another was given.",
    "scenario": "Name of the scenario.",
    "seed": "Seed of the run.",
    "version": "Version of fleetsim that made the run.",
    "generated": "Workloads that are generated look-alikes, not measured; absent if all were measured.",
    "cohort": "Nodes of one model delivered together: the unit that ages.",
    "gpu_model": "GPU model, by its name in the catalogue of GPU models.",
    "generation": "Architecture family.",
    "age_band": "Whole years of age: 2 is from two to three years.",
    "tier": "Rung of the cascade ladder.",
    "tenant": "Who is charged; absent while idle. `(other)` is all tenants that are not named.",
    "workload": "Workload of the scenario.",
    "workload_class": "training, fine_tuning, inference, batch or interactive; absent while idle.",
    "state": (
        "Where GPU time went; the states add up to the installed time. down: not in service. "
        "idle_no_queue: free, nothing waited. idle_queue: free, but no waiting job could use it. stalled: "
        "allocated, no kernel running. lost: running, on work that was lost when the job was stopped. "
        "productive: all other running."
    ),
    "status": "What became of the job by the end of the run: completed, running, queued or rejected.",
    "reject_reason": "Why nothing in the fleet can ever run the job; absent unless rejected.",
    "le": "Upper bound of a bucket, s.",
}

_HARDWARE = ("run", "cohort", "gpu_model", "generation", "age_band", "tier")
_USE = (*_HARDWARE, "tenant", "workload_class", "state")
_AGE = ("run", "generation", "age_band")

#: What a finished run shows: totals over the run, and the state at its end.
RUN_FAMILIES = (
    Family(
        "fleetsim_run_info", "1", "gauge", "Always 1; the labels say what was run.",
        ("run", "scenario", "seed", "version", "generated"), "run", "one",
    ),
    Family(
        "fleetsim_run_start_timestamp_seconds", "s", "gauge",
        "Simulated start of the run, as Unix time.", ("run",), "run", "start_s",
    ),
    Family(
        "fleetsim_run_end_timestamp_seconds", "s", "gauge",
        "Simulated end of the run, as Unix time.", ("run",), "run", "end_s",
    ),
    Family(
        "fleetsim_gpus_installed", "GPU", "gauge",
        "GPUs in the fleet at the end of the run, up or down.", _HARDWARE, "installed", "gpus",
    ),
    Family(
        "fleetsim_gpu_hours_total", "GPU h", "counter",
        "GPU hours by what the GPUs were, who held them and what became of the time. Sums over state are "
        "installed hours.", _USE, "usage", "gpu_hours",
    ),
    Family(
        "fleetsim_energy_joules_total", "J", "counter",
        "IT energy of GPUs and their share of the server.", _USE, "usage", "energy_joules",
    ),
    Family(
        "fleetsim_facility_energy_joules_total", "J", "counter",
        "Energy at the meter: IT energy times the PUE of the site.", _USE, "usage", "facility_energy_joules",
    ),
    Family(
        "fleetsim_availability_ratio", "ratio", "gauge",
        "GPU hours of nodes in service / installed GPU hours, over the run. Shares cannot be averaged: "
        "divide sums of hours.",
        _AGE, "utilisation", "availability",
    ),
    Family(
        "fleetsim_allocation_ratio", "ratio", "gauge",
        "Allocated GPU hours / GPU hours of nodes in service, over the run.",
        _AGE, "utilisation", "allocation",
    ),
    Family(
        "fleetsim_busy_ratio", "ratio", "gauge",
        "GPU hours in which a kernel ran / allocated GPU hours, over the run; assumed per workload.",
        _AGE, "utilisation", "busy",
    ),
    Family(
        "fleetsim_goodput_ratio", "ratio", "gauge",
        "GPU hours of work that was kept / GPU hours in which a kernel ran, over the run.",
        _AGE, "utilisation", "goodput",
    ),
    Family(
        "fleetsim_time_effective_ratio", "ratio", "gauge",
        "Productive / installed GPU hours, over the run: availability x allocation x busy x goodput.",
        _AGE, "utilisation", "time_effective",
    ),
    Family(
        "fleetsim_mfu_ratio", "ratio", "gauge",
        "Model FLOPs / peak FLOPs in productive GPU hours, over the run; assumed per workload.",
        _AGE, "utilisation", "mfu",
    ),
    Family(
        "fleetsim_jobs_total", "jobs", "counter",
        "Jobs submitted, by what had become of them at the end of the run.",
        ("run", "tenant", "workload", "workload_class", "status", "reject_reason"), "jobs", "jobs",
    ),
    Family(
        "fleetsim_job_wait_seconds", "s", "histogram",
        "Queue wait of jobs, submission to first start. Jobs that never started, and those already running "
        "when their workload began, are not in it.",
        ("run", "workload_class"), "waits", "wait_seconds", WAIT_BUCKETS_S,
    ),
    Family(
        "fleetsim_queue_jobs", "jobs", "gauge",
        "Jobs waiting at the end of the run.", ("run",), "queue", "jobs_waiting",
    ),
    Family(
        "fleetsim_queue_gpus", "GPU", "gauge",
        "GPUs that the jobs waiting at the end of the run ask for.", ("run",), "queue", "gpus_waiting",
    ),
)  # fmt: skip


def markdown(families: Iterable[Family] = RUN_FAMILIES) -> str:
    """The reference of *families* and of their labels, as Markdown."""
    families = list(families)
    used = {label for family in families for labels in family.series.values() for label in labels}
    lines = ["| family | type | unit | labels | meaning |", "|---|---|---|---|---|"]
    lines += [
        f"| `{f.name}` | {f.kind} | {f.unit} | {', '.join(f'`{label}`' for label in f.labels)} | {f.help} |"
        for f in families
    ]
    lines += ["", "| label | meaning |", "|---|---|"]
    lines += [f"| `{label}` | {meaning} |" for label, meaning in LABELS.items() if label in used]
    return "\n".join(lines) + "\n"
