"""From the workloads of a scenario to one table of jobs in order of arrival: columns in, columns out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fleetsim import units
from fleetsim.catalog import load_catalog
from fleetsim.errors import InputError, Problem
from fleetsim.reading import locate
from fleetsim.records import Activity, Codes, Jobs
from fleetsim.safeyaml import suggest
from fleetsim.scenario import Scenario
from fleetsim.spec import CLASS_ACTIVITY, WorkloadSpec
from fleetsim.streams import stream
from fleetsim_traces import transform
from fleetsim_traces.errors import TraceError

if TYPE_CHECKING:
    import polars as pl

    from fleetsim_traces.table import Trace

#: Of jobs for which neither trace nor scenario gives one.
DEFAULT_CLASS = "training"

#: Columns of a job that it keeps however often it is repeated.
COLUMNS = (
    "job_id",
    "submit_s",
    "duration_s",
    "estimate_s",
    "checkpoint_s",
    "warm",
    "gpus",
    "gpu_share",
    "min_memory_gb",
    "gpu_model",
    "workload_class",
    "tenant",
    "user",
    "priority",
    "cpu_milli",
    "memory_mib",
)


@dataclass(frozen=True)
class Source:
    """Where the jobs of a workload came from (``facts``), and how many rows became none, by reason."""

    workload: str
    facts: dict[str, Any]
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
            names = {c: _names(trace, c) for c in ("tenant", "status", "gpu_model")}
            _check_selection(workload, names, place)
            frame, length_s = _select(trace, workload, source.left_out)
            frame = _tenants(frame, workload, scenario, names["tenant"], place)
            fleet = {cohort.known_as for cohort in scenario.cohorts}
            frame, unknown = _gpu_models(frame, workload, names["gpu_model"], fleet, place)
            source.facts["unknown_gpu_models"] = unknown
            frame = _place_in_time(frame, length_s, workload, scenario, source.left_out)
        except InputError as error:
            problems += error.problems
            continue
        except TraceError as error:  # names its file, if it got as far as that
            name = workload.trace or "generate"
            problems += [
                p if Path(name).name in p.place else replace(p, place=_inside(place, p.place))
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


def _inside(place: str, fault: str) -> str:
    """Where in the workload at *place* a *fault* is that names its key, or something else."""
    return f"{place}.{fault}" if fault in WorkloadSpec.model_fields else f"{place} {fault}"


def _open(scenario: Scenario, workload: WorkloadSpec, place: str) -> Trace:
    from fleetsim_traces import read_trace
    from fleetsim_traces.generate import generate_jobs

    if workload.generate is not None:
        wanted = workload.generate
        draw = int(stream(scenario.spec.seed, "generate", workload.name).integers(2**31))
        return generate_jobs(
            wanted.family, jobs=wanted.jobs, seed=draw if wanted.seed is None else wanted.seed
        )
    assert workload.trace is not None
    path = trace_file(scenario, workload.trace, place)
    options = {"cpu_jobs": True} if workload.cpu_jobs else {}
    return read_trace(path, workload.format, columns=workload.columns, bad_rows=workload.bad_rows, **options)


def trace_file(scenario: Scenario, name: str, place: str) -> Path:
    """The trace file *name*: a bundled sample, or in one of the scenario's roots, whatever links say.

    Raises :class:`InputError`, with *place* named.
    """
    from fleetsim_traces.samples import SAMPLES, sample

    if name in SAMPLES:
        return sample(name)
    if (path := locate(scenario.roots, name)) is not None:
        return path
    roots = ", ".join(map(str, scenario.roots)) or "none"
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
    """The jobs that ``select`` and ``window`` keep, stretched by ``time_scale``, and how long they last, s.

    Times count from the opening of the window; without an end it closes at the trace's last submission.
    """
    import polars as pl

    whole = transform.frame(trace)
    chosen = transform.select(whole, **workload.select.model_dump())
    _count(left_out, "not selected", whole.height - chosen.height)

    window = workload.window
    opens_s = units.duration_s(window.start)
    closes_s = inf if window.end is None else units.duration_s(window.end)
    first_s, last_s = (float(whole["submit_s"][i]) for i in (0, -1)) if whole.height else (0.0, 0.0)
    length_s = max(0.0, last_s - (first_s + opens_s) if closes_s == inf else closes_s - opens_s)
    kept = transform.window(chosen, opens_s, closes_s, origin_s=first_s, warm_start=window.warm_start)
    _count(left_out, "outside the window", chosen.height - kept.height)

    own = workload.workload_class
    kept = transform.assign_class(kept, own or DEFAULT_CLASS, only_missing=own is None)
    kept = kept.select(COLUMNS).with_columns(pl.col("min_memory_gb").fill_null(workload.min_memory_gb or 0.0))
    return transform.stretch(kept, workload.time_scale), length_s * workload.time_scale


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
        return transform.map_tenants(frame, {}, rest=workload.tenant)
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
    return transform.map_tenants(frame, goes_to, rest)


def _gpu_models(
    frame: pl.DataFrame,
    workload: WorkloadSpec,
    known: Sequence[str],
    fleet: Collection[str | None],
    place: str,
) -> tuple[pl.DataFrame, dict[str, int]]:
    """What the models that jobs ask for are in the catalogue or *fleet*: names joined by '|', null for any.

    Empty where no name of a job stands for anything: nothing can run it. Such names are returned, each with
    the number of jobs that ask for it. *known* are the texts of the whole trace; *fleet* is what cohorts are
    known as.
    """
    import polars as pl

    given, catalog = workload.gpu_names or {}, load_catalog()
    names = sorted({name for asked in known for name in _alternatives(asked)})
    problems = [
        Problem(
            f"{place}.gpu_names",
            f"no job of the trace asks for a GPU model {name!r}",
            f"{suggest(name, names)}They ask for: {_some(names)}.",
        )
        for name in (given if names else ())  # a dictionary may serve a log that asks for none
        if name not in ("*", *names)
    ]
    if problems:
        raise InputError(problems)
    stands_for: dict[str, str | None] = {}
    unknown: Counter[str] = Counter()
    for asked, jobs in frame["gpu_model"].drop_nulls().value_counts().rows():
        found = {}
        for name in _alternatives(asked):
            itself = [name] if (name in fleet or name in catalog) and "*" not in given else None
            found[name] = given.get(name, given.get("*", itself))
        unknown.update({name: jobs for name, models in found.items() if models is None})
        models = {model for chosen in found.values() for model in chosen or ()}
        stands_for[asked] = None if not found or [] in found.values() else "|".join(sorted(models))
    if any(asked != models for asked, models in stands_for.items()):
        model = pl.col("gpu_model").cast(pl.String).replace_strict(stands_for, return_dtype=pl.String)
        frame = frame.with_columns(gpu_model=model.cast(pl.Categorical))
    return frame, dict(sorted(unknown.items()))


def _alternatives(asked: str) -> list[str]:
    """The names of GPU models in what a trace says of a job: ``|`` stands between those that would do."""
    return [name for part in asked.split("|") if (name := part.strip())]


def _place_in_time(
    frame: pl.DataFrame, length_s: float, workload: WorkloadSpec, scenario: Scenario, left_out: dict[str, int]
) -> pl.DataFrame:
    """Multiply, repeat with growth, begin when the workload starts, and cut at the horizon."""
    if not workload.load:
        return frame.clear()
    draws = stream(scenario.spec.seed, "load", workload.name)
    repeat = workload.repeat
    starts_s = scenario.since_start_s(workload.starts)
    end_s = inf if scenario.horizon_s is None else scenario.horizon_s
    if repeat is None:
        whole = transform.multiply(frame, workload.load, draws, length_s=length_s)
    else:
        if repeat.until is not None:
            end_s = min(end_s, scenario.since_start_s(repeat.until))
        whole = transform.repeat(
            frame,
            end_s - starts_s,
            draws,
            every_s=None if repeat.every is None else units.duration_s(repeat.every),
            load=workload.load,
            growth_per_year=repeat.growth_per_year,
            length_s=length_s,
        )
    whole = transform.shift(whole, starts_s)
    kept = int(whole["submit_s"].search_sorted(end_s, side="left"))
    if repeat is None:
        _count(left_out, "submitted after the end", whole.height - kept)
    return whole.head(kept)


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
        priority=_numbers(frame["priority"], 0),
        estimate_s=_numbers(frame["estimate_s"], nan),
        checkpoint_s=_numbers(frame["checkpoint_s"], nan),
        cpu_milli=_numbers(frame["cpu_milli"], 0),
        memory_mib=_numbers(frame["memory_mib"], 0),
        activity=lookup[frame["source"].to_numpy(), class_code] if frame.height else np.zeros(0, np.int32),
        tenant=tenant,
        user=user,
        warm=frame["warm"].to_numpy(),
        activities=activities,
        gpu_models=tuple(tuple(models.split("|")) if models else () for models in gpu_models),
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


def _numbers(column: pl.Series, unknown: float) -> NDArray[Any] | None:
    """The numbers of a column, *unknown* where there is none; None where there is not a single one."""
    return None if column.null_count() == len(column) else column.fill_null(unknown).to_numpy()


def _count(left_out: dict[str, int], reason: str, count: int) -> None:
    if count:
        left_out[reason] = left_out.get(reason, 0) + count
