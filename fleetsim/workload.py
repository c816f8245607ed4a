"""From the workloads of a scenario to one table of jobs in order of arrival: columns in, columns out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fleetsim import units
from fleetsim.errors import InputError, Problem
from fleetsim.records import Activity, Codes, Ints, Jobs
from fleetsim.safeyaml import suggest
from fleetsim.scenario import Scenario
from fleetsim.spec import CLASS_ACTIVITY, WorkloadSpec
from fleetsim.streams import stream
from fleetsim_traces.errors import TraceError

if TYPE_CHECKING:
    import polars as pl

    from fleetsim_traces.table import Trace

#: Copies of a job beyond the first are submitted up to this long before or after it.
COPY_JITTER_S = 1800.0

#: Of jobs for which neither trace nor scenario gives one.
DEFAULT_CLASS = "training"

#: Refused above this: a slip of the pen in a load or a growth rate.
MAX_JOBS = 100_000_000

#: Refused above this too: a window of seconds that repeats for years.
MAX_PASSES = 50_000


@dataclass(frozen=True)
class Source:
    """Where the jobs of a workload came from (``facts``), and how many rows became none, by reason."""

    workload: str
    facts: Mapping[str, Any]
    left_out: dict[str, int] = field(default_factory=dict)


def load_jobs(scenario: Scenario, traces: Mapping[str, Trace] | None = None) -> tuple[Jobs, list[Source]]:
    """Read, select, scale and merge the workloads of *scenario*.

    *traces* gives tables by the name of their workload, in place of reading them. Raises :class:`InputError`
    or ``TraceError`` with every problem found.
    """
    import polars as pl

    problems: list[Problem] = []
    parts: list[pl.DataFrame] = []
    sources: list[Source] = []
    for i, workload in enumerate(scenario.spec.workloads):
        place = f"{scenario.place} workloads[{i}]"
        try:
            given = (traces or {}).get(workload.name)
            trace = given if given is not None else _open(scenario, workload, place)
            source = Source(workload.name, _facts(trace), dict(trace.rejected))
            names = {c: _names(trace, c) for c in ("tenant", "status")}
            _check_selection(workload, names, place)
            frame, length_s = _select(trace, workload, source.left_out)
            frame = _tenants(frame, workload, scenario, names["tenant"], place)
            frame = _place_in_time(frame, length_s, workload, scenario, place, source.left_out)
        except InputError as error:
            problems += error.problems
            continue
        except TraceError as error:  # names its file, if it got as far as that
            name = workload.trace or "generate"
            problems += [
                p if Path(name).name in p.place else replace(p, place=f"{place} {p.place}")
                for p in error.problems
            ]
            continue
        sources.append(source)
        parts.append(frame.with_columns(source=pl.lit(i, pl.Int32)))
    if problems:
        raise InputError(problems)
    frame = pl.concat(parts, how="vertical")
    if len(parts) > 1:
        frame = frame.sort("submit_s", maintain_order=True)  # equal times: in order of workloads
    return _jobs(frame, scenario), sources


def _open(scenario: Scenario, workload: WorkloadSpec, place: str) -> Trace:
    from fleetsim_traces import read_trace
    from fleetsim_traces.generate import generate_jobs
    from fleetsim_traces.samples import SAMPLES, sample

    if workload.generate is not None:
        wanted = workload.generate
        draw = int(stream(scenario.spec.seed, "generate", workload.name).integers(2**31))
        return generate_jobs(
            wanted.family, jobs=wanted.jobs, seed=draw if wanted.seed is None else wanted.seed
        )
    assert workload.trace is not None
    path = sample(workload.trace) if workload.trace in SAMPLES else _locate(scenario, workload.trace, place)
    return read_trace(path, workload.format, columns=workload.columns, bad_rows=workload.bad_rows)


def _locate(scenario: Scenario, name: str, place: str) -> Path:
    """The trace file *name*, which must lie in one of the scenario's roots, whatever links say."""
    from fleetsim_traces.samples import SAMPLES

    roots = ", ".join(map(str, scenario.roots)) or "none"
    for root in scenario.roots:
        try:
            path = (root / name).resolve()
            found = path.exists()
        except (OSError, RuntimeError, ValueError):  # a loop of links, a name too long, a null byte
            continue
        if found and any(path.is_relative_to(allowed) for allowed in scenario.roots):
            return path
    remedy = (
        f"{suggest(name, SAMPLES)}A trace lies beside its scenario or in a folder given with --traces "
        f"(looked in: {roots}), or is a bundled sample: {', '.join(SAMPLES)}."
    )
    raise InputError([Problem(f"{place}.trace", f"no trace {name!r} where traces may lie", remedy)])


def _facts(trace: Trace) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "source": Path(trace.source).name,
        "format": trace.format,
        "generated": trace.generated,
        "epoch": trace.epoch.isoformat() if trace.epoch else None,
        "rows_read": trace.rows_read,
        "jobs": trace.jobs.num_rows,
        "notes": list(trace.notes),
    }
    path = Path(trace.source)
    if path.is_file():
        with path.open("rb") as file:
            facts["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    return facts


def _select(trace: Trace, workload: WorkloadSpec, left_out: dict[str, int]) -> tuple[pl.DataFrame, float]:
    """The jobs that ``select`` and ``window`` keep, and the length of the window, s.

    Times count from the opening of the window; without an end it closes at the trace's last submission.
    """
    import polars as pl

    table = pl.from_arrow(trace.jobs)
    assert isinstance(table, pl.DataFrame)
    select, window = workload.select, workload.window
    frame = table.lazy()
    if select.min_gpus is not None:
        frame = frame.filter(pl.col("gpus") >= select.min_gpus)
    if select.max_gpus is not None:
        frame = frame.filter(pl.col("gpus") <= select.max_gpus)
    if select.tenants is not None:
        frame = frame.filter(pl.col("tenant").cast(pl.String).is_in(select.tenants))
    if select.statuses is not None:
        frame = frame.filter(pl.col("status").cast(pl.String).is_in(select.statuses))
    chosen = frame.collect()
    _count(left_out, "not selected", table.height - chosen.height)

    opens_s = units.duration_s(window.start)
    closes_s = inf if window.end is None else units.duration_s(window.end)
    first_s, last_s = (float(table["submit_s"][i]) for i in (0, -1)) if table.height else (0.0, 0.0)
    length_s = max(0.0, last_s - first_s - opens_s if closes_s == inf else closes_s - opens_s)
    submit = pl.col("submit_s") - first_s - opens_s
    began = pl.coalesce("start_s", "submit_s") - first_s - opens_s
    before = submit < 0
    running = before & (began <= 0) & (began + pl.col("duration_s") > 0)
    own_class = pl.col("workload_class").cast(pl.String).fill_null(DEFAULT_CLASS)
    kept = chosen.filter(
        (submit < closes_s - opens_s) & (~before | running if window.warm_start else ~before)
    )
    _count(left_out, "outside the window", chosen.height - kept.height)
    jobs = kept.select(
        "job_id",
        submit_s=pl.when(before).then(0.0).otherwise(submit),
        duration_s=pl.when(before).then(pl.col("duration_s") + began).otherwise("duration_s"),
        warm=before,
        gpus="gpus",
        gpu_share="gpu_share",
        min_memory_gb=pl.col("min_memory_gb").fill_null(workload.min_memory_gb or 0.0),
        gpu_model=pl.col("gpu_model").cast(pl.Categorical),
        workload_class=own_class if workload.workload_class is None else pl.lit(workload.workload_class),
        tenant=pl.col("tenant").cast(pl.Categorical),
        user=pl.col("user").cast(pl.Categorical),
    )
    return jobs, length_s


def _names(trace: Trace, column: str) -> list[str]:
    """The distinct texts of a column of a trace, sorted."""
    return sorted(name for name in trace.jobs[column].unique().to_pylist() if name is not None)


def _some(names: Sequence[str]) -> str:
    """Names for a message: ten at most."""
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _check_selection(workload: WorkloadSpec, names: Mapping[str, list[str]], place: str) -> None:
    """Refuse to select what the trace does not have: it would leave jobs out without a word."""
    wanted = (("tenant", workload.select.tenants), ("status", workload.select.statuses))
    problems = [
        Problem(
            f"{place}.select",
            f"the trace has no {column} {name!r}",
            f"{suggest(name, names[column])}It has: {_some(names[column])}.",
        )
        for column, chosen in wanted
        for name in chosen or ()
        if name not in names[column]
    ]
    if problems:
        raise InputError(problems)


def _tenants(
    frame: pl.DataFrame, workload: WorkloadSpec, scenario: Scenario, known: list[str], place: str
) -> pl.DataFrame:
    """Give each job its tenant of the scenario; *known* are those of the whole trace."""
    import polars as pl

    if workload.tenant is not None:
        return frame.with_columns(tenant=pl.lit(workload.tenant, pl.String).cast(pl.Categorical))
    found = sorted(frame["tenant"].unique().cast(pl.String).to_list())
    declared = [tenant.name for tenant in scenario.spec.tenants]
    if workload.tenants is None:
        strange = [name for name in found if declared and name not in declared]
        if strange:
            shown = _some(strange)
            remedy = "Declare them under `tenants`, or map them with the workload's `tenant` or `tenants`."
            raise InputError(
                [Problem(f"{place}.tenants", f"the trace has tenants the scenario lacks: {shown}", remedy)]
            )
        return frame
    goes_to = {source: tenant for tenant, named in workload.tenants.items() for source in named}
    rest = goes_to.pop("*", None)
    problems = [
        Problem(
            f"{place}.tenants",
            f"the trace has no tenant {name!r}",
            f"{suggest(name, known)}It has: {_some(known)}.",
        )
        for name in goes_to
        if name not in known
    ]
    if rest is None and (lost := [name for name in found if name not in goes_to]):
        remedy = "Name them, or send all the rest to one tenant with '*'."
        problems.append(Problem(f"{place}.tenants", f"no tenant for {_some(lost)}", remedy))
    if problems:
        raise InputError(problems)
    tenant = pl.col("tenant").cast(pl.String).replace_strict(goes_to, default=rest, return_dtype=pl.String)
    return frame.with_columns(tenant=tenant.cast(pl.Categorical))


def _place_in_time(
    frame: pl.DataFrame,
    length_s: float,
    workload: WorkloadSpec,
    scenario: Scenario,
    place: str,
    left_out: dict[str, int],
) -> pl.DataFrame:
    """Stretch, multiply, repeat with growth, and cut at the horizon; sorted by submission."""
    import polars as pl

    repeat = workload.repeat
    starts_s = scenario.since_start_s(workload.starts)
    growth, every_s = 0.0, inf
    last_s = inf if scenario.horizon_s is None else scenario.horizon_s
    if repeat is not None:
        growth = repeat.growth_per_year
        every_s = _days(length_s * workload.time_scale)
        if repeat.every is not None:
            every_s = units.duration_s(repeat.every)
        if repeat.until is not None:
            last_s = min(last_s, scenario.since_start_s(repeat.until))

    frame = frame.with_columns(pl.col("submit_s") * workload.time_scale)
    passes: list[pl.DataFrame] = []
    offset_s, jobs = starts_s, 0.0
    if last_s < inf and (last_s - starts_s) / every_s > MAX_PASSES:
        message = f"repeated every {units.human(every_s)}, more than {MAX_PASSES:,} times"
        raise InputError([Problem(f"{place}.repeat.every", message, "Repeat a longer window.")])
    while frame.height and (not passes or offset_s < last_s):
        try:
            load = workload.load * (1 + growth) ** ((offset_s - starts_s) / units.YEAR_S)
        except OverflowError:
            load = inf
        jobs += frame.height * load
        if jobs > MAX_JOBS:
            message = f"load, repetition and growth make more than {MAX_JOBS:,} jobs"
            raise InputError([Problem(place, message, "Lower one of them.")])
        passes.append(_one_pass(frame, len(passes), offset_s, load, (scenario.spec.seed, workload.name)))
        offset_s += every_s
    whole = pl.concat(passes) if passes else frame
    if not whole["submit_s"].is_sorted():
        whole = whole.sort("submit_s", maintain_order=True)
    kept = int(whole["submit_s"].search_sorted(last_s, side="left"))
    if repeat is None:
        _count(left_out, "submitted after the end", whole.height - kept)
    return whole.head(kept)


def _one_pass(
    frame: pl.DataFrame, number: int, offset_s: float, load: float, cause: tuple[int, str]
) -> pl.DataFrame:
    """The jobs once more, each about *load* times; those running at the opening only in the first pass."""
    import polars as pl

    seed, name = cause
    copies = _copies(stream(seed, "load", name, number), frame.height, load)
    row = np.repeat(np.arange(frame.height), copies)
    copy = np.arange(len(row)) - np.repeat(np.cumsum(copies) - copies, copies)
    jobs = frame if len(row) == frame.height and not copy.any() else frame[row]
    if copy.any():
        shift_s = stream(seed, "copies", name, number).uniform(-COPY_JITTER_S, COPY_JITTER_S, len(row))
        moved = (copy > 0) & ~jobs["warm"].to_numpy()
        submit_s = np.maximum(jobs["submit_s"].to_numpy() + np.where(moved, shift_s, 0.0), 0.0)
        suffix = pl.Series(copy).cast(pl.String)
        original = pl.lit(f"~{number}" if number else "")
        job_id = pl.col("job_id") + pl.when(pl.Series(copy > 0)).then(f"~{number}." + suffix).otherwise(
            original
        )
        jobs = jobs.with_columns(submit_s=pl.Series(submit_s), job_id=job_id)
    elif number:
        jobs = jobs.with_columns(job_id=pl.col("job_id") + f"~{number}")
    if number:
        jobs = jobs.filter(~pl.col("warm"))
    return jobs.with_columns(pl.col("submit_s") + offset_s)


def _days(length_s: float) -> float:
    """A length rounded up to whole days: hours of the day stay in place when a window repeats."""
    return max(1, ceil(length_s / units.DAY_S)) * units.DAY_S


def _copies(draws: np.random.Generator, jobs: int, expected: float) -> Ints:
    """How often each job occurs, *expected* on average: the whole part, and one more by chance."""
    whole, fraction = divmod(expected, 1.0)
    copies = np.full(jobs, int(whole), np.int64)
    return copies + (draws.random(jobs) < fraction) if fraction else copies


def _jobs(frame: pl.DataFrame, scenario: Scenario) -> Jobs:
    """The final columns: names become codes into sorted lists."""
    import polars as pl

    kinds = frame.select("source", "workload_class").unique().cast({"workload_class": pl.String})
    activities = tuple(
        _activity(scenario, source, workload_class) for source, workload_class in sorted(kinds.rows())
    ) or (_activity(scenario, 0, scenario.spec.workloads[0].workload_class or DEFAULT_CLASS),)
    classes, class_code = _codes(frame["workload_class"])
    names = [w.name for w in scenario.spec.workloads]
    lookup = np.zeros((len(names), max(1, len(classes))), np.int32)
    for i, kind in enumerate(activities):
        if kind.workload_class in classes:
            lookup[names.index(kind.workload), classes.index(kind.workload_class)] = i
    gpu_models, gpu_model = _codes(frame["gpu_model"])
    tenants, tenant = _codes(frame["tenant"])
    users, user = _codes(frame["user"])

    return Jobs(
        job_id=frame["job_id"].to_arrow(),
        submit_s=frame["submit_s"].to_numpy(),
        duration_s=frame["duration_s"].to_numpy(),
        gpus=frame["gpus"].to_numpy(),
        gpu_share=frame["gpu_share"].to_numpy(),
        min_memory_gb=frame["min_memory_gb"].to_numpy(),
        gpu_model=gpu_model,
        activity=lookup[frame["source"].to_numpy(), class_code] if frame.height else np.zeros(0, np.int32),
        tenant=tenant,
        user=user,
        warm=frame["warm"].to_numpy(),
        activities=activities,
        gpu_models=tuple(gpu_models),
        tenants=tuple(tenants),
        users=tuple(users),
    )


def _activity(scenario: Scenario, source: int, workload_class: str) -> Activity:
    workload = scenario.spec.workloads[source]
    given = (workload.busy_share, workload.sm_active, workload.mfu)
    busy_share, sm_active, mfu = (
        default if own is None else own
        for own, default in zip(given, CLASS_ACTIVITY[workload_class], strict=True)
    )
    return Activity(workload.name, workload_class, scenario.references[source], busy_share, sm_active, mfu)


def _codes(column: pl.Series) -> tuple[list[str], Codes]:
    """The distinct texts of a categorical column, sorted, and the position of each row's; null is -1."""
    import polars as pl

    names: Sequence[str] = sorted(column.unique().drop_nulls().cast(pl.String).to_list())
    codes = column.cast(pl.Enum(names)).to_physical().cast(pl.Int32).fill_null(-1)
    return list(names), codes.to_numpy()


def _count(left_out: dict[str, int], reason: str, count: int) -> None:
    if count:
        left_out[reason] = left_out.get(reason, 0) + count
