"""Runs side by side: the figures of each, what differs between their scenarios, and jobs paired between runs.

Every figure is computed from the tables of the runs; ``FIGURES`` and ``DEFINITIONS`` say how, in words.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fleetsim import pairing, summary, units
from fleetsim.catalog import load_catalog
from fleetsim.errors import InputError, Problem
from fleetsim.fairness import PRIVATE_SHARE, entitlement_met, jain, private_share_jct_s
from fleetsim.records import Floats
from fleetsim.runfolder import Run, open_run
from fleetsim.units import HOUR_S

if TYPE_CHECKING:
    import polars as pl

#: Running times below this count as this in the bounded slowdown, s.
SLOWDOWN_FLOOR_S = 600.0

#: Of a curve: more points do not show.
POINTS = 240


@dataclass(frozen=True)
class Figure:
    """One figure of a run: *better* is ``low``, ``high``, or empty where neither is better by itself."""

    group: str
    label: str
    unit: str
    better: str
    meaning: str


def _spread(group: str, key: str, label: str, unit: str, names: str, meaning: str) -> Iterator[Any]:
    for name in names.split():
        suffix = f"_{unit}" if unit == "s" else ""
        yield f"{key}_{name}{suffix}", Figure(group, f"{label}, {name}", unit, "low", f"{name} of {meaning}")


_WAITING, _COMPLETION, _LOSS = "Waiting", "Completion", "Losses"
_FAIRNESS, _CHAIN, _ENERGY = "Fairness", "Utilisation", "Energy"

FIGURES: dict[str, Figure] = {
    "completed": Figure("Jobs", "completed", "jobs", "high", "jobs that were done before the run ended"),
    "running": Figure("Jobs", "running at the end", "jobs", "", "jobs that the end of the run cut off"),
    "queued": Figure("Jobs", "waiting at the end", "jobs", "low", "jobs in the queue when the run ended"),
    "rejected": Figure("Jobs", "rejected", "jobs", "low", "jobs that nothing in the fleet could ever run"),
    "work_gpu_hours": Figure(
        "Jobs", "work completed", "GPU h", "high", "GPU hours of completed jobs, as on their reference GPU"
    ),
    **dict(
        _spread(
            _WAITING, "wait", "wait", "s", "mean p50 p95 p99 max",
            "submission to the start of the first attempt, of jobs that started; warm jobs have none",
        )
    ),
    "queue_mean_jobs": Figure(
        _WAITING, "jobs waiting, mean", "jobs", "low",
        "mean over the time of the run of the number of jobs in the queue, those that never started included",
    ),
    **dict(
        _spread(
            _COMPLETION, "jct", "JCT", "s", "mean p50 p95",
            "job completion time: submission to end, of completed jobs; warm jobs have none",
        )
    ),
    **dict(
        _spread(
            _COMPLETION, "slowdown", "slowdown", "x", "mean p50 p95",
            "JCT / running time alone, without wait, set-up and losses, on the GPU model that ran the job",
        )
    ),
    **dict(
        _spread(
            _COMPLETION, "bounded_slowdown", "bounded slowdown", "x", "mean p95",
            "max(1, JCT / max(running time alone, 10 min)); after Feitelson and Rudolph, JSSPP 1998",
        )
    ),
    "makespan_s": Figure(
        _COMPLETION, "makespan", "s", "low",
        "first submission to last completion; none where accepted jobs were left at the end",
    ),
    "fragmentation": Figure(
        _LOSS, "idle while jobs wait", "share", "low",
        "fragmentation: GPU time idle while the queue is not empty / GPU time up; blocking by the queue's "
        "order counts too",
    ),
    "preemptions": Figure(_LOSS, "preemptions", "times", "low", "times a job was stopped before it was done"),
    "lost_gpu_hours": Figure(
        _LOSS, "work lost", "GPU h", "low", "GPU hours held for work that was lost when its job was stopped"
    ),
    "restart_gpu_hours": Figure(
        _LOSS, "restart overhead", "GPU h", "low", "GPU hours held for set-up and restarts"
    ),
    "jain": Figure(
        _FAIRNESS, "Jain's index of tenants", "1", "high",
        "(sum x)^2 / (n sum x^2) over tenants; x = GPU time received / asked for, both as on the reference "
        "GPU (of unfinished jobs by the speed of the GPU model that last ran them): 1 if all got the same "
        "share of their demand, 1/n if one got all",
    ),
    **dict(
        _spread(
            _FAIRNESS, "rho", "finish-time rho", "x", "p50 p95",
            "JCT / JCT on a private 1/N share, of completed jobs (Themis, NSDI 2020): see private share",
        )
    ),
    "rho_worst_tenant": Figure(
        _FAIRNESS, "finish-time rho, worst tenant", "x", "low",
        "largest of a tenant's sum of JCT / sum of JCT on its share, of completed jobs"
    ),
    "rho_above_1": Figure(
        _FAIRNESS, "worse than a private share", "share", "low", "share of completed jobs with rho > 1"
    ),
    "entitlement_met": Figure(
        _FAIRNESS, "entitlement met, worst tenant", "share", "high",
        "of the GPU time that a tenant had a right to and wanted, the part it held; the right is at every "
        "moment the lesser of its deserved_gpus and of what its jobs ask for, running or waiting"
    ),
    "availability": Figure(_CHAIN, "availability", "share", "high", summary.DEFINITIONS["availability"]),
    "allocation": Figure(_CHAIN, "x allocation", "share", "high", summary.DEFINITIONS["allocation"]),
    "busy": Figure(_CHAIN, "x busy", "share", "", summary.DEFINITIONS["busy"]),
    "goodput": Figure(_CHAIN, "x goodput", "share", "high", summary.DEFINITIONS["goodput"]),
    "mfu": Figure(_CHAIN, "x MFU", "share", "", summary.DEFINITIONS["mfu"]),
    "fleet_mfu": Figure(_CHAIN, "= fleet MFU", "share", "high", summary.DEFINITIONS["fleet_mfu"]),
    "energy_mwh": Figure(_ENERGY, "IT energy", "MWh", "", summary.DEFINITIONS["energy_mwh"]),
    "facility_energy_mwh": Figure(
        _ENERGY, "energy at the meter", "MWh", "", summary.DEFINITIONS["facility_energy_mwh"]
    ),
    "kwh_per_gpu_hour": Figure(
        _ENERGY, "energy per work", "kWh/GPU h", "low", "energy at the meter / work completed"
    ),
}  # fmt: skip

DEFINITIONS = {"private_share": PRIVATE_SHARE, **pairing.DEFINITIONS}


def open_runs(paths: Sequence[str | Path]) -> list[Run]:
    """The runs in the folders *paths*. Raises :class:`InputError` for fewer than two, the same folder twice,
    and folders that are not runs: all problems at once."""
    if len(paths) < 2:
        remedy = "Name two or more folders written by `fleetsim run`; the first is the baseline."
        raise InputError([Problem("RUN", f"{len(paths)} given", remedy)])
    problems: list[Problem] = []
    runs: list[Run] = []
    seen: dict[Path, str | Path] = {}
    for path in paths:
        if (real := Path(path).resolve()) in seen:
            remedy = "Name every run once."
            problems.append(Problem(str(path), f"is the same folder as {seen[real]}", remedy))
            continue
        seen[real] = path
        try:
            runs.append(open_run(path))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return runs


def compare(runs: Sequence[Run]) -> dict[str, Any]:
    """The figures that ``fleetsim compare`` prints, as plain values; the first run is the baseline.

    A figure that a run has not (a mean of nothing) is None. Times are s, shares 0 to 1.
    """
    names = run_names([run.path for run in runs])
    shown: list[dict[str, Any]] = []
    paired: list[dict[str, Any]] = []
    base: pl.DataFrame | None = None
    for name, run in zip(names, runs, strict=True):
        jobs = _jobs(run)
        tenants = _by_tenant(jobs)
        scenario = run.manifest["scenario"]
        shown.append(
            {
                "run": name,
                "folder": str(run.path),
                "scenario": scenario["name"],
                "scheduler": scenario["scheduler"],
                "figures": _figures(run, jobs, tenants),
                "by_tenant": tenants,
            }
        )
        if base is None:
            base = jobs
        else:
            paired.append({"run": name, **pairing.changes(pairing.pair(base, jobs))})
    return {
        "baseline": names[0],
        "runs": shown,
        "differences": differences(runs),
        "paired": paired,
        "notes": _notes(runs, shown, paired),
        "definitions": {
            "figures": {key: asdict(figure) for key, figure in FIGURES.items()},
            **DEFINITIONS,
        },
    }


def run_names(paths: Sequence[Path]) -> list[str]:
    """The last part of each path; of those whose last parts are the same, all that they do not share.

    >>> run_names([Path("x/a/fifo"), Path("x/b/fifo"), Path("x/a/srtf")])
    ['a/fifo', 'b/fifo', 'srtf']
    """
    whole = [path.resolve() for path in paths]
    names = []
    for path in whole:
        alike = [other for other in whole if other.name == path.name]
        shared = Path(os.path.commonpath(alike)) if len(alike) > 1 else path.parent
        names.append(str(path.relative_to(shared)))
    return names


def differences(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Keys of the scenarios (and checksums of the traces) whose values differ, as ``--set`` names them.

    The value of a key that a scenario has not is None, as of one that is not set.
    """
    flat = [
        {
            **dict(_leaves(run.manifest["scenario"])),
            **{
                f"sources.{name}.sha256": source.get("sha256")
                for name, source in run.manifest["sources"].items()
            },
        }
        for run in runs
    ]
    keys = [key for key in dict.fromkeys(key for one in flat for key in one) if key != "question"]
    values = {key: [one.get(key) for one in flat] for key in keys}
    return [
        {"key": key, "values": found} for key, found in values.items() if any(v != found[0] for v in found)
    ]


def _leaves(part: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Keys and values of a scenario; the parts of a list go by their names, and what is empty is not set."""
    if isinstance(part, list) and part and all(isinstance(p, dict) and "name" in p for p in part):
        part = {p["name"]: {k: v for k, v in p.items() if k != "name"} for p in part}
    if isinstance(part, dict):
        for key, value in part.items():
            yield from _leaves(value, f"{path}.{key}" if path else key)
    elif part != []:
        yield path, part


def _jobs(run: Run) -> pl.DataFrame:
    """The jobs of a run in order of arrival, with what the figures need of each.

    ``alone_s`` is the running time on the GPU model that ran it; ``private_s`` that at the mean speed of the
    fleet; ``received_gpu_s`` the work done and ``asked_gpu_s`` all of it, as on the reference GPU.
    """
    import polars as pl

    owner = ["workload", "workload_class"]
    speed, fleet_speed = _speeds(run)
    labels = [*owner, "tenant", "status", "gpu_model"]
    numbers = ["submit_s", "gpus", "gpu_share", "reference_duration_s", "warm", "end_s", "wait_s"]
    losses = ["allocated_gpu_s", "preemptions", "lost_gpu_s", "restart_gpu_s"]
    jobs = run.scan("jobs").select("job_id", pl.col(labels).cast(pl.String), *numbers, *losses)
    jobs = jobs.join(fleet_speed.lazy(), on=owner, how="left", maintain_order="left")
    jobs = jobs.join(speed.lazy(), on=[*owner, "gpu_model"], how="left", maintain_order="left")
    completed = pl.col("status") == "completed"
    asked = pl.col("gpus") * pl.col("gpu_share") * pl.col("reference_duration_s")
    worked = pl.col("allocated_gpu_s") - pl.col("lost_gpu_s") - pl.col("restart_gpu_s")
    return (
        jobs.with_columns(
            jct_s=pl.when(completed & ~pl.col("warm")).then(pl.col("end_s") - pl.col("submit_s")),
            alone_s=pl.col("reference_duration_s") / pl.col("speed"),
            private_s=pl.col("reference_duration_s") / pl.col("fleet_speed"),
            private_gpu_s=asked / pl.col("fleet_speed"),
            asked_gpu_s=asked,
            received_gpu_s=pl.when(completed).then(asked).otherwise(worked * pl.col("speed")).fill_null(0.0),
        )
        .drop("workload_class", "gpu_model", "speed", "fleet_speed")
        .collect()
        .pipe(_with_rho, run)
    )


def _speeds(run: Run) -> tuple[pl.DataFrame, pl.DataFrame]:
    """How many times as fast as on the reference GPU jobs of each workload and class run: on each model,
    and on the mean GPU hour in service."""
    import polars as pl

    catalog, place = load_catalog(), str(run.path)
    up = run.scan("usage").filter(pl.col("state") != "down")
    usage = up.select(pl.col("gpu_model").cast(pl.String), "gpu_hours").collect()
    up_hours = {r["gpu_model"]: r["gpu_hours"] for r in summary.added(usage, ["gpu_model"], ["gpu_hours"])}
    of_model, of_fleet = [], []
    for activity in run.manifest["activities"]:
        owner = (activity["workload"], activity["workload_class"])
        reference = catalog.find(activity["reference_gpu"], place)
        speeds = {name: catalog.find(name, place).speed(owner[1], reference) for name in sorted(up_hours)}
        of_model += [(*owner, name, speed) for name, speed in speeds.items()]
        if total := sum(up_hours.values()):
            mean = sum(speeds[name] * up_hours[name] for name in speeds) / total
            of_fleet.append((*owner, mean))
    text = {"workload": pl.String, "workload_class": pl.String}
    return (
        pl.DataFrame(of_model, {**text, "gpu_model": pl.String, "speed": pl.Float64}, orient="row"),
        pl.DataFrame(of_fleet, {**text, "fleet_speed": pl.Float64}, orient="row"),
    )


def _with_rho(jobs: pl.DataFrame, run: Run) -> pl.DataFrame:
    """With ``private_jct_s``, JCT on a private 1/N share (``DEFINITIONS``), and ``rho``, JCT / that.

    Null where there is none: of rejected jobs, and ``rho`` of jobs that have no JCT or no duration.
    """
    import polars as pl

    accepted = (jobs["status"] != "rejected").to_numpy()
    tenant = jobs["tenant"].cast(pl.Categorical).to_physical().to_numpy()[accepted]
    columns = ("submit_s", "private_gpu_s", "private_s")
    submit_s, gpu_s, duration_s = (jobs[name].to_numpy()[accepted] for name in columns)
    up = run.scan("usage").filter(pl.col("state") != "down")
    up_gpu_hours = up.select(pl.col("gpu_hours").sum()).collect().item()
    share_gpus = up_gpu_hours * HOUR_S / (run.manifest["end_s"] or 1.0) / max(1, len(np.unique(tenant)))
    private_jct_s = np.full(jobs.height, np.nan)
    if share_gpus:
        private_jct_s[accepted] = private_share_jct_s(submit_s, gpu_s, duration_s, tenant, share_gpus)
    private = pl.col("private_jct_s")
    return jobs.with_columns(private_jct_s=pl.Series(private_jct_s).fill_nan(None)).with_columns(
        rho=pl.when(private > 0).then(pl.col("jct_s") / private)
    )


def figures(run: Run) -> dict[str, float | int | None]:
    """All of ``FIGURES`` of one run, in their order; None where the run has not what it is a figure of."""
    jobs = _jobs(run)
    return _figures(run, jobs, _by_tenant(jobs))


def _figures(
    run: Run, jobs: pl.DataFrame, tenants: Sequence[Mapping[str, Any]]
) -> dict[str, float | int | None]:
    fleet = summary.utilisation(summary.usage_measures(run), [])[0]
    statuses = dict(jobs.group_by("status").len().rows())
    left = statuses.get("running", 0) + statuses.get("queued", 0)
    measures = jobs.select("submit_s", "end_s", "jct_s", "alone_s", "rho").to_dict()
    submit_s, end_s, jct_s, alone_s, rho = (column.to_numpy() for column in measures.values())
    done = (jobs["status"] == "completed").to_numpy()
    makespan_s = float(end_s[done].max() - submit_s[done].min()) if done.any() and not left else None
    work_gpu_hours = float(jobs["asked_gpu_s"].to_numpy()[done].sum()) / HOUR_S
    has_jct = np.isfinite(jct_s)
    jct_s, alone_s, rho = jct_s[has_jct], alone_s[has_jct], rho[np.isfinite(rho)]
    ran = alone_s > 0
    up_gpu_hours = fleet["installed_gpu_hours"] - fleet["down_gpu_hours"]
    found = {
        **fleet,
        **{status: statuses.get(status, 0) for status in ("completed", "running", "queued", "rejected")},
        "work_gpu_hours": work_gpu_hours,
        **_statistics("wait", "_s", jobs["wait_s"].drop_nulls().to_numpy()),
        "queue_mean_jobs": _queue_mean(run),
        **_statistics("jct", "_s", jct_s),
        **_statistics("slowdown", "", jct_s[ran] / alone_s[ran]),
        **_statistics("bounded_slowdown", "", np.maximum(1.0, jct_s / np.maximum(alone_s, SLOWDOWN_FLOOR_S))),
        "makespan_s": makespan_s,
        "fragmentation": fleet["idle_queue_gpu_hours"] / up_gpu_hours if up_gpu_hours else None,
        "preemptions": int(jobs["preemptions"].sum()),
        "lost_gpu_hours": float(jobs["lost_gpu_s"].sum()) / HOUR_S,
        "restart_gpu_hours": float(jobs["restart_gpu_s"].sum()) / HOUR_S,
        "jain": jain([row["received"] for row in tenants if row["received"] is not None]),
        **_statistics("rho", "", rho),
        "rho_worst_tenant": max((row["rho"] for row in tenants if row["rho"]), default=None),
        "rho_above_1": float(np.mean(rho > 1 + 1e-9)) if len(rho) else None,
        "entitlement_met": min(_entitlements(run).values(), default=None),
        "kwh_per_gpu_hour": (
            fleet["facility_energy_mwh"] * 1000 / work_gpu_hours if work_gpu_hours else None
        ),
    }
    return {key: found[key] for key in FIGURES}


def _statistics(key: str, suffix: str, values: Floats) -> dict[str, float | None]:
    """Mean, quantiles (interpolated linearly) and largest of *values*; None of nothing."""
    names = {"p50": 50, "p95": 95, "p99": 99, "max": 100}
    if not len(values):
        return {f"{key}_{name}{suffix}": None for name in ("mean", *names)}
    found = [values.mean(), *np.percentile(values, list(names.values()))]
    return {f"{key}_{name}{suffix}": float(v) for name, v in zip(("mean", *names), found, strict=True)}


def _by_tenant(jobs: pl.DataFrame) -> list[dict[str, Any]]:
    """Of each tenant with a job that could run: what it asked for and received, and how long it took."""
    import polars as pl

    rows = (
        jobs.filter(pl.col("status") != "rejected")
        .group_by("tenant")
        .agg(
            pl.len().alias("jobs"),
            asked_gpu_hours=pl.col("asked_gpu_s").sum() / HOUR_S,
            received=pl.col("received_gpu_s").sum() / pl.col("asked_gpu_s").sum(),
            wait_mean_s=pl.col("wait_s").mean(),
            jct_mean_s=pl.col("jct_s").mean(),
            rho=pl.col("jct_s").sum() / pl.col("private_jct_s").filter(pl.col("jct_s").is_not_null()).sum(),
        )
        .sort("asked_gpu_hours", "tenant", descending=[True, False])
        .with_columns(pl.col("received", "rho").fill_nan(None))
    )
    return rows.to_dicts()


def _entitlements(run: Run) -> dict[str, float]:
    """Of each tenant that deserves GPUs and wanted any: :func:`fleetsim.fairness.entitlement_met`."""
    import polars as pl

    found: dict[str, float] = {}
    end_s = run.manifest["end_s"]
    for tenant in run.manifest["scenario"].get("tenants", []):
        if not tenant["deserved_gpus"]:
            continue
        own = pl.col("tenant").cast(pl.String) == tenant["name"]
        started = run.scan("allocations").filter(own)
        gpus = pl.col("gpus") * pl.col("gpu_share")
        held = started.select("start_s", "end_s", gpus=gpus).collect()
        could_run = own & (pl.col("status").cast(pl.String) != "rejected")
        ended = pl.when(pl.col("status").cast(pl.String) == "completed").then("end_s").otherwise(end_s)
        wanted = run.scan("jobs").filter(could_run).select("submit_s", ended, gpus=gpus).collect()
        changes = [
            (
                np.concatenate([table[:, 0].to_numpy(), table[:, 1].to_numpy()]),
                np.concatenate([table[:, 2].to_numpy(), -table[:, 2].to_numpy()]),
            )
            for table in (held, wanted)
        ]
        met = entitlement_met(tenant["deserved_gpus"], changes[0], changes[1], end_s)
        if met is not None:
            found[tenant["name"]] = met
    return found


def _queue_mean(run: Run) -> float | None:
    """Mean number of jobs in the queue over the run: an exact integral of its change points."""
    end_s = run.manifest["end_s"]
    if not end_s:
        return None
    return float(mean_levels(*_queue_changes(run), np.array([0.0, end_s]))[0])


def _queue_changes(run: Run) -> tuple[Floats, Floats]:
    queue = run.scan("queue").select("time_s", "jobs_waiting").collect()
    waiting = queue["jobs_waiting"].to_numpy().astype(np.float64)
    return queue["time_s"].to_numpy(), np.diff(waiting, prepend=0.0)


def mean_levels(time_s: Floats, change: Floats, edges: Floats) -> Floats:
    """Means between *edges* of a level that begins at 0 and rises by *change* at *time_s* (in any order)."""
    before = np.searchsorted(edges, time_s)
    level = np.cumsum(np.bincount(before, change, len(edges) + 1)[:-1])
    area = edges * level - np.cumsum(np.bincount(before, change * time_s, len(edges) + 1)[:-1])
    return np.asarray(np.diff(area) / np.diff(edges))


def _notes(
    runs: Sequence[Run], shown: Sequence[Mapping[str, Any]], paired: Sequence[Mapping[str, Any]]
) -> list[str]:
    """What a reader must know to read the figures rightly."""
    notes = []
    versions = {run.manifest.get("versions", {}).get("fleetsim") for run in runs}
    if len(versions) > 1:
        notes.append(f"Written by different versions of fleetsim: {', '.join(sorted(map(str, versions)))}.")
    if any(one["figures"]["queued"] for one in shown):
        notes.append(
            "Jobs that never started have no wait: where jobs wait at the end, read waits and completion "
            "times beside the number of jobs waiting."
        )
    if any(one["figures"]["preemptions"] for one in shown):
        notes.append("A wait ends at the first start: where jobs were preempted, completion times tell more.")
    for pair in paired:
        if pair["jobs_in_both"] == pair["jobs_not_alike"]:
            notes.append(f"{pair['run']} has no job in common with {shown[0]['run']}: not paired.")
        elif pair["jobs_not_alike"]:
            notes.append(
                f"{pair['jobs_not_alike']:,} jobs of {pair['run']} have other GPUs or durations than those "
                f"of the same name in {shown[0]['run']}: not paired."
            )
    return notes


def words(unit: str, value: float | int | None, sign: bool = False) -> str:
    """A figure for people; with *sign*, an increase has its plus.

    >>> words("s", 5400), words("s", 90.0, sign=True), words("share", 0.5), words("x", 2.5), words("x", None)
    ('1 h 30 min', '+1 min 30 s', '50.0 %', '2.50x', '-')
    """
    if value is None:
        return "-"
    if unit == "s":
        text = units.human(value)
    elif unit == "share":
        text = f"{100 * value:.1f} %"
    elif isinstance(value, int):
        text = f"{value:,}"
    else:
        text = f"{value:.3f}" if unit == "1" else units.streamline(value) + "x" * (unit == "x")
    return f"+{text}" if sign and value > 0 else text


def best(figure: Figure, values: Sequence[float | int | None]) -> set[int]:
    """Which *values* are the best of a row: those that read as the best does, unless all known ones do."""
    known = [value for value in values if value is not None]
    if not figure.better or not known:
        return set()
    target = words(figure.unit, min(known) if figure.better == "low" else max(known))
    found = {i for i, value in enumerate(values) if words(figure.unit, value) == target}
    return found if len(found) < len(known) else set()


@dataclass(frozen=True)
class Row:
    """A row of a table of runs: *best* are the positions of the cells to mark."""

    label: str
    cells: list[str]
    meaning: str = ""
    best: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Section:
    """Some rows of the table of *runs*."""

    title: str
    runs: list[str]
    rows: list[Row]


def sections(comparison: Mapping[str, Any]) -> list[Section]:
    """What :func:`compare` found, as texts for people: all runs first, the pairs with the baseline last."""
    runs, pairs = comparison["runs"], comparison["paired"]
    names = [one["run"] for one in runs]
    policy = [Row(key, [one["scheduler"][key] for one in runs]) for key in ("queue", "placement")]
    shown = {f"scheduler.{row.label}" for row in policy}
    policy += [
        Row(one["key"], [_value(value) for value in one["values"]])
        for one in comparison["differences"]
        if one["key"] not in shown
    ]
    found = [Section("Policy, and what else differs", names, policy)]
    for group in dict.fromkeys(figure.group for figure in FIGURES.values()):
        rows = []
        for key, figure in FIGURES.items():
            if figure.group == group:
                values = [one["figures"][key] for one in runs]
                unit = f" ({figure.unit})" if figure.unit.endswith("h") else ""
                cells = [words(figure.unit, value) for value in values]
                rows.append(Row(figure.label + unit, cells, figure.meaning, best(figure, values)))
        found.append(Section(group, names, rows))

    def paired(label: str, meaning: str, unit: str, *path: str, sign: bool = False) -> Row:
        cells = []
        for one in pairs:
            for key in path:
                one = one[key]
            cells.append(words(unit, one, sign))
        return Row(label, cells, DEFINITIONS[meaning])

    rows = [paired("jobs paired", "paired", "jobs", "jobs_paired")]
    for name, label in (("wait", "mean wait"), ("jct", "mean JCT")):
        rows += [
            paired(f"{label}, baseline", "paired", "s", name, "baseline_mean_s"),
            paired(f"{label}, change", "difference", "s", name, "difference_s", sign=True),
            paired("  95 % from", "interval", "s", name, "low_s", sign=True),
            paired("  95 % to", "interval", "s", name, "high_s", sign=True),
        ]
    rows += [paired(f"jobs {key}", key, "share", key) for key in ("faster", "slower")]
    title = f"Job by job against {comparison['baseline']}"
    return [*found, Section(title, [one["run"] for one in pairs], rows)]


def _value(value: Any) -> str:
    """A value of a scenario as the file has it."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def curves(runs: Sequence[Run]) -> dict[str, dict[str, tuple[Floats, Floats]]]:
    """What charts draw of *runs*: by chart and run, x and y.

    - ``waits``: share of the jobs that started that waited up to x s, from 1 s.
    - ``changes``: share of the pairs whose JCT / JCT in the baseline falls around x: ``pairing.ratios``.
    - ``queue``: jobs waiting, and ``gpus``: GPUs allocated; means over equal parts of the run, x in s.
    """
    found: dict[str, dict[str, tuple[Floats, Floats]]] = {
        n: {} for n in ("waits", "changes", "queue", "gpus")
    }
    base: pl.DataFrame | None = None
    for name, run in zip(run_names([run.path for run in runs]), runs, strict=True):
        jobs = _jobs(run)
        wait_s = np.sort(jobs["wait_s"].drop_nulls().to_numpy())
        at_s = np.geomspace(1.0, max(10.0, wait_s[-1]), POINTS) if len(wait_s) else np.zeros(0)
        share = np.searchsorted(wait_s, at_s * (1 + 1e-9), side="right") / max(1, len(wait_s))
        found["waits"][name] = (at_s, share)
        if end_s := run.manifest["end_s"]:
            edges = np.linspace(0.0, end_s, POINTS + 1)
            middle = (edges[1:] + edges[:-1]) / 2
            found["queue"][name] = (middle, mean_levels(*_queue_changes(run), edges))
            found["gpus"][name] = (middle, mean_levels(*_gpu_changes(run), edges))
        if base is None:
            base = jobs
        else:
            found["changes"][name] = pairing.ratios(pairing.pair(base, jobs))
    return found


def _gpu_changes(run: Run) -> tuple[Floats, Floats]:
    import polars as pl

    held = run.scan("allocations").select("start_s", "end_s", gpus=pl.col("gpus") * pl.col("gpu_share"))
    start_s, end_s, gpus = (column.to_numpy() for column in held.collect().get_columns())
    return np.concatenate((start_s, end_s)), np.concatenate((gpus, -gpus))
