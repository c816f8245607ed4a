"""What a scenario file may say: every key, its type, its default and its meaning.

These models are strict and know nothing of files, traces or each other's names; ``scenario`` reads them and
checks what goes across. The JSON Schema that editors use is made from them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from fleetsim import units
from fleetsim.books import PERIODS
from fleetsim.policies.placement import PLACEMENTS
from fleetsim.policies.queue import QUEUES
from fleetsim.safeyaml import suggest

WorkloadClass = Literal["training", "fine_tuning", "inference", "batch", "interactive"]

#: What GPUs of a class do while allocated: (busy share, SM active while busy, MFU while productive).
#: Training and inference are the project's estimates of the utilisation chain; the others lie between.
CLASS_ACTIVITY: dict[str, tuple[float, float, float]] = {
    "training": (0.95, 0.75, 0.40),
    "fine_tuning": (0.90, 0.70, 0.35),
    "inference": (0.60, 0.45, 0.16),
    "batch": (0.90, 0.60, 0.30),
    "interactive": (0.30, 0.40, 0.10),
}


#: No duration of a scenario is longer.
MAX_SPAN_Y = 1000


def _within_reason(value: str | float, span_s: float) -> str | float:
    if abs(span_s) > MAX_SPAN_Y * units.YEAR_S:
        raise ValueError(f"{value!r} is more than {MAX_SPAN_Y} years")
    return value


def _positive(value: str | float) -> str | float:
    if (span_s := units.duration_s(value)) <= 0:
        raise ValueError(f"{value!r} must be longer than zero")
    return _within_reason(value, span_s)


def _not_negative(value: str | float) -> str | float:
    if (span_s := units.duration_s(value)) < 0:
        raise ValueError(f"{value!r} must not be negative")
    return _within_reason(value, span_s)


def _instant(value: str) -> str:
    units.instant(value)
    return value


def _when(value: str | float) -> str | float:
    return _within_reason(value, units.since(units.instant("2000-01-01"), value))


def _horizon(value: str | float) -> str | float:
    return value if value == "drain" else _positive(value)


def _known(names: dict[str, Any]) -> AfterValidator:
    def check(value: str) -> str:
        if value not in names:
            raise ValueError(f"{value!r} is not known. {suggest(value, names)}Known: {', '.join(names)}")
        return value

    return AfterValidator(check)


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
Span = Annotated[str | float, AfterValidator(_positive)]
Age = Annotated[str | float, AfterValidator(_not_negative)]
When = Annotated[str | float, AfterValidator(_when)]
Share = Annotated[float, Field(ge=0, le=1)]


class Spec(BaseModel):
    """Base of all parts: unknown keys and wrong types are errors; nothing changes once read."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SiteSpec(Spec):
    """A place with power."""

    name: Name
    pue: float = Field(1.25, ge=1, le=5, description="Energy at the meter over energy of the IT equipment.")
    it_power_kw: float | None = Field(
        None, gt=0, description="IT power of the site, kW. Cohorts whose servers could draw more are refused."
    )


class CohortSpec(Spec):
    """Nodes of one GPU model delivered together: the unit that ages."""

    name: Name
    gpu_model: str = Field(description="A model of the catalogue: see `fleetsim gpu list`.")
    nodes: int = Field(ge=1, le=1_000_000)
    gpus_per_node: int | None = Field(
        None, ge=1, le=1024, description="Default: the catalogue's GPUs per server."
    )
    site: str | None = Field(None, description="Default: the first site.")
    delivered: When = Field(0.0, description="A date, or an offset from the start: -3y, 90d.")
    earlier_age: Age = Field(0.0, description="Age at delivery, for nodes bought used: 18mo.")


class TenantSpec(Spec):
    """Who uses the fleet."""

    name: Name
    gpu_models: list[str] | None = Field(None, description="GPU models its jobs may run on. Default: all.")


class GenerateSpec(Spec):
    """A look-alike workload, generated instead of read."""

    family: str = "philly"
    jobs: int = Field(ge=1, le=100_000_000)
    seed: int | None = Field(None, ge=0, description="Default: drawn from the scenario's seed.")


class SelectSpec(Spec):
    """Which jobs of the trace are replayed."""

    min_gpus: int | None = Field(None, ge=1)
    max_gpus: int | None = Field(None, ge=1)
    tenants: list[str] | None = Field(None, description="Tenants of the trace to keep.")
    statuses: list[str] | None = Field(
        None, description="Final statuses in the trace to keep: completed, failed ..."
    )


class WindowSpec(Spec):
    """The part of the trace that is replayed, in the trace's own time, before any scaling."""

    start: Age = Field(0.0, description="Where the window opens, from the trace's first submission.")
    end: Span | None = Field(None, description="Where it closes. Default: after the last submission.")
    warm_start: bool = Field(
        False, description="Jobs running when the window opens are running when the workload begins."
    )


class RepeatSpec(Spec):
    """The trace again and again until the horizon."""

    every: Span | None = Field(None, description="Default: the length of the window, in whole days.")
    growth_per_year: float = Field(
        0.0, gt=-1, le=100, description="0.3 is 30 % more jobs after a year, compounded."
    )
    until: When | None = Field(None, description="Last submission. Default: the horizon.")


class WorkloadSpec(Spec):
    """Jobs from one source, and what is assumed of them."""

    name: Name
    trace: str | None = Field(None, description="A file beside the scenario, or a bundled sample by name.")
    format: str = Field("auto", description="Format of the file: see `fleetsim trace list`.")
    columns: dict[str, Any] | None = Field(None, description="Column mapping of a table of your own.")
    bad_rows: Literal["refuse", "drop"] = "refuse"
    generate: GenerateSpec | None = None
    workload_class: WorkloadClass | None = Field(
        None, description="Class of all its jobs. Default: what the trace says of each, else training."
    )
    reference_gpu: str = Field(description="The GPU model on which the durations were measured.")
    tenant: Name | None = Field(
        None, description="One tenant for all jobs. Default: the tenants of the trace."
    )
    tenants: dict[str, list[str]] | None = Field(
        None,
        description="Tenant of the scenario: the trace's tenants it stands for; '*' is the rest.",
    )
    select: SelectSpec = SelectSpec()
    window: WindowSpec = WindowSpec()
    starts: When = Field(0.0, description="When the window opens in the scenario.")
    time_scale: float = Field(
        1.0, gt=0, le=1e6, description="Stretches the time between submissions: 2 halves the rate."
    )
    load: float = Field(1.0, gt=0, le=10_000, description="Multiplies the number of jobs.")
    repeat: RepeatSpec | None = None
    min_memory_gb: float | None = Field(
        None, ge=0, description="Memory each GPU must have, for jobs that do not say."
    )
    gpu_models: list[str] | None = Field(None, description="GPU models the jobs may run on. Default: all.")
    busy_share: Share | None = Field(None, description="Kernel running / allocated. Default by class.")
    sm_active: Share | None = Field(None, description="SM active / busy. Default by class.")
    mfu: Share | None = Field(
        None, description="Model FLOPs / peak FLOPs while productive. Default by class."
    )


class SchedulerSpec(Spec):
    """Which job goes next, and where."""

    queue: Annotated[str, _known(QUEUES), Field(json_schema_extra={"enum": list(QUEUES)})] = "fifo"
    placement: Annotated[str, _known(PLACEMENTS), Field(json_schema_extra={"enum": list(PLACEMENTS)})] = (
        "best_fit"
    )
    prefer: Literal["fastest", "slowest", "listed"] = Field(
        "fastest", description="Order in which the GPU models that may run a job are tried; ties as listed."
    )


class ScenarioSpec(Spec):
    """One question asked of one fleet."""

    name: Name
    question: str = Field("", description="What the scenario is to answer, in a sentence.")
    start: Annotated[str, AfterValidator(_instant)] = Field(
        description="UTC instant of time zero: 2026-01-01."
    )
    horizon: Annotated[str | float, AfterValidator(_horizon)] = Field(
        description="How long to simulate: 30d, 3y; or `drain`: until the last job has ended."
    )
    seed: int = Field(0, ge=0, le=10**18 - 1)
    usage_period: Annotated[
        str, _known(dict.fromkeys(PERIODS)), Field(json_schema_extra={"enum": list(PERIODS)})
    ] = "month"
    sites: list[SiteSpec] = Field(default_factory=lambda: [SiteSpec(name="main")], min_length=1)
    cohorts: list[CohortSpec] = Field(min_length=1)
    tenants: list[TenantSpec] = Field(default_factory=list, description="Default: the tenants of the traces.")
    workloads: list[WorkloadSpec] = Field(min_length=1)
    scheduler: SchedulerSpec = SchedulerSpec()
