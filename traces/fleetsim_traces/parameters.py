"""What a family file says: every key of it, checked when it is read, all problems at once.

A family is a YAML file: a built-in one by name (:data:`FAMILIES`), or the one that ``fit`` wrote from your
own trace. Quantities carry their unit in the key. A *distribution* is a mapping from probability to value,
read as log-normal between its points (``{0.05: 40, 0.5: 1100, 0.95: 44000}``), or ``{mu:, sigma:, max:}``.
Shares are divided by their sum, which must be 1 to a few per cent.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from fleetsim_traces.distributions import Table
from fleetsim_traces.errors import Problem, TraceError
from fleetsim_traces.table import MAX_GPUS, MAX_TIME_S, WORKLOAD_CLASSES
from fleetsim_traces.text import fail, require_file, shorten

FAMILIES = ("acme", "helios", "mit", "openb", "pai", "philly-tenants", "spot")
REQUEST_FAMILIES = ("azure-code", "azure-conv", "burstgpt", "mooncake", "servegen")
_MAX_BYTES = 4 << 20
_TAGS = ("quantiles", "log_normal")
_SUM = 0.05  # published shares are rounded


class Part(BaseModel):
    """Base of all parts: unknown keys and wrong types are errors; nothing changes once read."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class LogNormal(Part):
    """exp(normal(mu, sigma)), in the unit of its key, no more than *max*."""

    mu: float = Field(ge=-50, le=50)
    sigma: float = Field(ge=0, le=20)
    max: float = Field(gt=0, le=1e12)

    def table(self) -> Table:
        """The same as quantiles."""
        return Table.of_log_normal(self.mu, self.sigma, self.max)


def _form(value: object) -> str:
    """Which of the two forms of a distribution *value* is meant to be."""
    if isinstance(value, LogNormal) or (isinstance(value, Mapping) and {"mu", "sigma"} & set(value)):
        return "log_normal"
    return "quantiles"


def _ascending(quantiles: dict[float, float]) -> dict[float, float]:
    Table.of_quantiles(quantiles)
    return quantiles


def _add_to_one(shares: dict[Any, float]) -> dict[Any, float]:
    total = sum(shares.values())
    if abs(total - 1) > _SUM:
        raise ValueError(f"shares add to {total:.4g}, not to 1")
    return shares


def _mean_is_one(rates: list[float]) -> list[float]:
    if abs(sum(rates) / len(rates) - 1) > _SUM:
        raise ValueError(f"the mean is {sum(rates) / len(rates):.4g}, not 1")
    return rates


def _known_class(name: str) -> str:
    if name not in WORKLOAD_CLASSES:
        raise ValueError(f"{name!r} is not a class; choose from {', '.join(WORKLOAD_CLASSES)}")
    return name


Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=1e12)]
Quantiles = Annotated[dict[Share, Positive], Field(min_length=1, max_length=200), AfterValidator(_ascending)]
Distribution = Annotated[
    Annotated[Quantiles, Tag("quantiles")] | Annotated[LogNormal, Tag("log_normal")],
    Discriminator(_form),
]
Gpus = Annotated[int, Field(ge=1, le=MAX_GPUS)]
Rate = Annotated[float, Field(ge=0, le=1e6)]
Shares = Annotated[dict[str | None, Share], Field(min_length=1), AfterValidator(_add_to_one)]
GpuShares = Annotated[dict[Gpus, Share], Field(min_length=1), AfterValidator(_add_to_one)]
PartShares = Annotated[
    dict[Annotated[float, Field(gt=0, le=1)], Share], Field(min_length=1), AfterValidator(_add_to_one)
]
ByGpus = Annotated[dict[Gpus, Distribution], Field(min_length=1)]
Hours = Annotated[list[Rate], Field(min_length=24, max_length=24), AfterValidator(_mean_is_one)]
Weekdays = Annotated[list[Rate], Field(min_length=7, max_length=7), AfterValidator(_mean_is_one)]
WorkloadClass = Annotated[str, AfterValidator(_known_class)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]

#: Lengths of the blocks of time that have a load factor of their own, s. Each divides the next.
LEVELS_S = (1, 10, 60, 600, 3600, 86_400, 604_800)


class Arrivals(Part):
    """When batches begin: a rate by hour and weekday, times log-normal factors of nested blocks of time."""

    hour_rate: Hours = Field([1.0] * 24, description="Of each hour from midnight, in means.")
    weekday_rate: Weekdays = Field([1.0] * 7, description="Of each weekday from Monday, in means.")
    load_cv_by_s: dict[int, Annotated[float, Field(ge=0, le=100)]] = Field(
        default_factory=dict,
        description="Length of a block of time, s: coefficient of variation of its factor of the rate.",
    )
    time_step_s: float = Field(1.0, ge=0, le=3600, description="Times are whole multiples; 0 is any time.")


class Batches(Part):
    """Jobs submitted together: one user, tenant, GPU count; run times alike."""

    jobs_by_gpus: ByGpus = Field(description="Jobs in a batch, by the GPUs of each.")
    gap_s: Distribution = Field(description="From one job of a batch to its next.")
    duration_correlation: Share = Field(0.0, description="Of the normal scores of run times in a batch.")
    same_again_share: Share = Field(
        0.0, description="Part of the followers that repeat the job before at the same time."
    )


class Tenant(Part):
    """One tenant, or *count* like it, whose own figures stand in front of the family's."""

    name: Name
    count: int = Field(1, ge=1, le=100_000)
    jobs_share: Share = Field(description="Of all jobs, of the *count* together.")
    exponent: float = Field(1.0, ge=0, le=10, description="Among the *count*: share by rank^-exponent.")
    users: int = Field(0, ge=0, le=1_000_000, description="Of each tenant; 0 where users are unknown.")
    user_head_share: list[Share] = Field(
        default_factory=list, max_length=100, description="Of the tenant's jobs: its most active users."
    )
    user_exponent: float = Field(1.0, ge=0, le=10, description="The other users' by rank^-exponent.")
    gpu_count_share: GpuShares | None = None
    duration_s_by_gpus: ByGpus | None = None
    batch_jobs_by_gpus: ByGpus | None = None


class StatusBand(Part):
    """How jobs end whose run time is up to *up_to_s* (and above that of the band before)."""

    up_to_s: float | None = Field(None, gt=0, le=MAX_TIME_S, description="None in the last band alone.")
    share: Shares


class Parameters(Part):
    """A family of jobs."""

    version: Literal[1]
    kind: Literal["jobs"]
    about: str = Field(min_length=1, max_length=200)
    source: str = Field(min_length=1, max_length=4000, description="Where every figure is from.")
    jobs_per_day: float = Field(gt=0, le=1e9)
    clock: str | None = Field(None, description="Zone of hours and weekdays, for people.")
    arrivals: Arrivals
    batches: Batches
    gpu_count_share: GpuShares
    gpu_share_of_single: PartShares | None = Field(
        None, description="Part of the GPU that jobs of one GPU need. Default: the whole."
    )
    duration_s_by_gpus: ByGpus = Field(
        description="A count without a row takes the nearest below, else the lowest."
    )
    tenants: Annotated[list[Tenant], Field(min_length=1, max_length=1000)]
    status: Annotated[list[StatusBand], Field(min_length=1)] | None = None
    workload_class: WorkloadClass | None = None
    gpu_model_share: Shares | None = None
    priority_share: dict[int | None, Share] | None = None


class RequestParameters(Part):
    """A family of inference requests."""

    version: Literal[1]
    kind: Literal["requests"]
    about: str = Field(min_length=1, max_length=200)
    source: str = Field(min_length=1, max_length=4000, description="Where every figure is from.")
    requests_per_s: float = Field(gt=0, le=1e6)
    arrivals: Arrivals
    service: Name
    prompt_tokens: Distribution
    output_tokens: Distribution
    correlation: float = Field(0.0, ge=-1, le=1, description="Of the normal scores of the two.")
    failed_share: Share = Field(0.0, description="Requests with no output.")
    clients: int = Field(1, ge=1, le=100_000)
    client_head_share: list[Share] = Field(default_factory=list, max_length=100)
    client_exponent: float = Field(1.0, ge=0, le=10, description="The other clients' by rank^-exponent.")


KINDS: Mapping[str, type[BaseModel]] = {"jobs": Parameters, "requests": RequestParameters}


def load_family(
    family: str | Path, names: tuple[str, ...] = FAMILIES, kind: type[BaseModel] = Parameters
) -> Any:
    """The parameters of a built-in family by name, or those in a YAML file.

    Raises TraceError listing every problem, and *names* where there is no such family.
    """
    name = str(family)
    if isinstance(family, str) and name in (*FAMILIES, *REQUEST_FAMILIES):
        text = files("fleetsim_traces").joinpath("families", f"{name}.yaml").read_bytes()
        return parse(text, name, kind)
    path = Path(family)
    if isinstance(family, str) and path.suffix not in (".yaml", ".yml") and not path.exists():
        raise fail(
            "family", f"no family {shorten(name)}", f"There are {', '.join(names)}; or name a YAML file."
        )
    require_file(path)
    if path.stat().st_size > _MAX_BYTES:
        raise fail(path, f"over {_MAX_BYTES:,} bytes: not a family file")
    return parse(path.read_bytes(), str(path), kind)


def parse(text: bytes, place: str, kind: type[BaseModel] = Parameters) -> Any:
    """The parameters in YAML *text*; *place* is what messages call it."""
    import yaml

    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, yaml.SafeLoader)):
            raise fail(place, "a YAML alias (*name)", "Write the value out.")
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{place}:{mark.line + 1}" if mark else place
        raise fail(
            where, f"not YAML ({getattr(error, 'problem', None) or 'unreadable characters'})"
        ) from None
    except TraceError:
        raise
    except (RecursionError, ValueError) as error:
        raise fail(place, f"not YAML ({error})") from None
    if not isinstance(data, Mapping):
        raise fail(place, "not a family file", "Write one with `fleetsim trace fit`.")
    if data.get("kind") in KINDS and KINDS[data["kind"]] is not kind:
        wanted = next(name for name, k in KINDS.items() if k is kind)
        raise fail(place, f"a family of {data['kind']}, not of {wanted}")
    try:
        found = kind.model_validate(data)
    except ValidationError as error:
        raise TraceError([_problem(place, fault) for fault in error.errors()]) from None
    if isinstance(found, Parameters) and (problems := list(_cross_checks(place, found))):
        raise TraceError(problems)
    return found


def _problem(place: str, fault: Any) -> Problem:
    where = ".".join(str(part) for part in fault["loc"] if part not in _TAGS)
    value = fault["input"]
    if fault["type"] == "missing":
        return Problem(place, f"{where} is missing")
    if fault["type"] == "extra_forbidden":
        return Problem(f"{place}: {where}", "unknown key", "Check its spelling.")
    kind = "a mapping" if isinstance(value, Mapping) else "a list" if isinstance(value, list) else None
    message = fault["msg"].removeprefix("Value error, ")
    return Problem(f"{place}: {where}", f"{kind or shorten(value)}: {message[:1].lower()}{message[1:]}")


def _cross_checks(place: str, p: Parameters) -> Any:
    """What no single key can tell."""
    total = sum(t.jobs_share for t in p.tenants)
    if abs(total - 1) > _SUM:
        yield Problem(f"{place}: tenants", f"jobs_share of all add to {total:.4g}, not to 1")
    for t in p.tenants:
        if len(t.user_head_share) > t.users or sum(t.user_head_share) > 1 + _SUM:
            yield Problem(
                f"{place}: tenants.{t.name}.user_head_share",
                f"{len(t.user_head_share)} shares that add to {sum(t.user_head_share):.4g}, {t.users} users",
                "Give at most one for each user, adding to no more than 1.",
            )
    names = [t.name for t in p.tenants]
    for name in sorted({n for n in names if names.count(n) > 1}):
        yield Problem(f"{place}: tenants", f"two are called {name}", "Rename one.")
    for length in p.arrivals.load_cv_by_s:
        if length not in LEVELS_S:
            yield Problem(
                f"{place}: arrivals.load_cv_by_s", f"{length} s is not a block length",
                f"Choose from {', '.join(map(str, LEVELS_S))}.",
            )  # fmt: skip
    bands = [band.up_to_s for band in p.status or ()]
    if bands and (bands[-1] is not None or None in bands[:-1] or bands[:-1] != sorted(bands[:-1], key=float)):  # type: ignore[arg-type]
        yield Problem(f"{place}: status", "up_to_s must rise, and be absent from the last band alone")


def dump(parameters: BaseModel) -> str:
    """*parameters* as the YAML text that :func:`parse` reads; defaults are left out."""
    import yaml

    data = parameters.model_dump(exclude_defaults=True, exclude_none=False)
    return yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)
