"""What a scenario may say of the life of its nodes: rungs, failures, repair, retirement and money."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Strict

from fleetsim.words import Age, Name, Share, Span, Spec, When, WorkloadClass

DataType = Literal["fp16", "bf16", "fp8", "fp4"]
Latency = Literal["strict", "relaxed"]


class DelaySpec(Spec):
    """A delay of chance: log-normal, drawn once for each cohort."""

    median: Span
    sigma: float = Field(ge=0, le=5, description="Standard deviation of its logarithm: 0.8.")


class SeriesSpec(Spec):
    """The same purchase again and again."""

    every: Span = Field(description="From one delivery to the next: 12mo.")
    count: int = Field(ge=2, le=1000, description="Deliveries in all.")


class TierSpec(Spec):
    """A rung of the ladder: which jobs run there, and which nodes may stand there."""

    name: Name
    next: Name | None = Field(
        None, description="The rung below, where nodes go. Default: the next in the list."
    )
    classes: list[WorkloadClass] | None = Field(
        None, min_length=1, description="Workload classes that it admits. Default: all."
    )
    min_gpus: int = Field(1, ge=1, description="GPUs of the smallest gang that it admits.")
    max_gpus: int | None = Field(None, ge=1, description="GPUs of the largest. Default: any.")
    tenants: list[Name] | None = Field(
        None, min_length=1, description="Tenants that it admits. Default: all."
    )
    latency: Latency = Field(
        "strict", description="relaxed: jobs whose workload has `latency: strict` are not admitted."
    )
    min_memory_gb: float = Field(0.0, ge=0, description="Memory that a GPU needs to stand here.")
    data_type: DataType | None = Field(None, description="What a GPU needs to compute with to stand here.")
    min_domain_gpus: int = Field(1, ge=1, description="GPUs that its scale-up domain needs.")
    leave_at: Age | None = Field(
        None, description="Age at which nodes go down from here, for cascade by age: 18mo. Default: never."
    )
    for_sale: bool = Field(
        False, description="What comes here is sold: it leaves the fleet. Nothing runs on such a rung."
    )


class CascadeSpec(Spec):
    """When nodes go down the ladder. A node drains first, and moves when it is empty.

    A rung whose needs the node does not meet is passed over. Below the last one there is nothing: it stays.
    """

    enabled: bool = Field(True, description="The one switch: without it nodes stay where they begin.")
    rule: Literal["age", "successor", "pressure", "margin"] = Field(
        "age",
        description="age: at `leave_at` of the rung. successor: when so many newer cohorts have come to the "
        "rung. pressure: when jobs wait for a lower rung while nodes of this one are free. margin: when a "
        "slot kW earns more on the next rung, at the `prices` of `economics`.",
    )
    unit: Literal["cohort", "node"] = Field(
        "cohort",
        description="What moves: all nodes of a cohort that stand on the rung, or, by pressure, single ones.",
    )
    successors: int = Field(1, ge=1, description="Newer cohorts on the rung that push an older one down.")
    review: Span = Field("1mo", description="How often pressure and margin are looked at.")
    step: Share = Field(
        0.1, gt=0, description="By pressure: the part of a rung's nodes that goes down at a review, at most."
    )
    min_wait: Age = Field(
        "1h", description="By pressure: how long a job has waited before it counts as pressing."
    )
    drain: Age = Field(
        "7d", description="How long running jobs may go on. What still runs then is stopped and waits again."
    )


class RetirementSpec(Spec):
    """When nodes leave the fleet. A node drains first."""

    rule: Literal["fixed_age", "cash_out", "naive", "slot", "failure"] = Field(
        description="fixed_age: at `age`. cash_out: when it earns less than it costs to run. naive: when a "
        "slot kW would earn more with the `successor`, whose price is not counted; slot: when it would even "
        "after the annuity of the successor's price and the resale value lost by waiting. failure: at the "
        "`failures`-th failure of the node."
    )
    age: Age | None = Field(None, description="For fixed_age: 5y.")
    successor: str | None = Field(
        None, description="For naive and slot: the model that would take the slot, once it is available."
    )
    retrofit_usd_per_kw: float | None = Field(
        None,
        ge=0,
        description="For slot: what it costs to make the slot fit for the successor. Default: nothing is "
        "done, and where the site cannot cool or carry it, old cards stay.",
    )
    failures: int | None = Field(None, ge=1, description="For failure.")
    review: Span = Field("1mo", description="How often cash_out, naive and slot are looked at.")
    drain: Age = Field("7d", description="As of the cascade.")
    sell: bool = Field(True, description="Retired nodes are offered on the secondary market; else scrapped.")


class HazardSpec(Spec):
    """A rate of failure by age, of one node, GPU or running job. One of three kinds; a list adds up."""

    per_year: float | None = Field(None, description="Constant: failures a year.")
    shape: float | None = Field(None, description="Weibull: above 1 wears out, below 1 dies young.")
    scale: Span | None = Field(None, description="Weibull: the age by which 63 % have failed once.")
    curve: list[Annotated[tuple[Age, float], Strict(False)]] | None = Field(
        None,
        description="[[age, failures a year], ...]: from each age on, the last for ever; as `fleetsim "
        "lifetimes --yaml` prints it.",
    )


class JobSizeSpec(Spec):
    """Running jobs by size."""

    min_gpus: int = Field(1, ge=1)
    max_gpus: int | None = Field(None, ge=1)


class LemonSpec(Spec):
    """Nodes that fail more often than others, for life."""

    share: Share = Field(description="Of the nodes, drawn by chance.")
    factor: float = Field(gt=0, le=10_000, description="Their rate over that of the others.")


class RepairSpec(Spec):
    """One way in which a failure ends."""

    name: Name
    share: Share = Field(1.0, description="Of the failures; all shares add up to 1.")
    median: Age = Field(0.0, description="Time down: log-normal.")
    sigma: float = Field(0.0, ge=0, le=5, description="Standard deviation of its logarithm. 0: always alike.")
    replaces: Literal["gpu", "node"] | None = Field(
        None,
        description="What is swapped for a new one from the `spares`, whose age is zero. Without a spare the "
        "node stays down until one is back from repair.",
    )
    retires: bool = Field(False, description="The node does not come back.")


class ScriptSpec(Spec):
    """One failure of a script."""

    after: Span = Field(description="Time up since the node's last repair, or since it came into service.")
    down: Span


class FailureSpec(Spec):
    """Something that breaks. Jobs on the node are stopped, and start again from their last checkpoint."""

    name: Name
    unit: Literal["node", "gpu", "job"] = Field(
        "node", description="What the rate is of. A failure of a job leaves its nodes up."
    )
    hazard: list[HazardSpec] = Field(default_factory=list, description="Rates that add up.")
    script: list[ScriptSpec] = Field(
        default_factory=list, description="In place of a hazard: the failures of each node, in order."
    )
    gpu_models: list[str] | None = Field(None, min_length=1, description="Default: all.")
    cohorts: list[Name] | None = Field(None, min_length=1, description="Default: all.")
    jobs: JobSizeSpec = Field(JobSizeSpec(), description="For unit job: of which size.")
    lemons: LemonSpec | None = None
    xids: dict[Annotated[str, Field(pattern=r"^[1-9][0-9]{0,2}$")], float] = Field(
        default_factory=dict, description="XID that the driver reports: its part of the failures."
    )
    repairs: list[RepairSpec] = Field(
        default_factory=list, description="How it ends. Needed, but for scripts and unit job."
    )
    powered: bool = Field(False, description="A node that is down draws its idle power.")


class SparesSpec(Spec):
    """Replacements in stock, by model."""

    gpu_model: str
    gpus: int = Field(0, ge=0, description="Single GPUs.")
    nodes: int = Field(0, ge=0, description="Whole nodes.")
    rma: Span = Field("30d", description="After which what was swapped out is back in stock, repaired.")


class BookChange(Spec):
    """A change of estimate: from then on what is left is written off over the rest of the new life."""

    after: Span = Field(description="Age at which it takes effect: 2y.")
    life: Span


class BookSpec(Spec):
    """Straight-line depreciation to zero."""

    life: Span = "6y"
    changes: list[BookChange] = Field(default_factory=list)


class GpuModelMoney(Spec):
    """What is assumed of a model."""

    gpu_model: str
    utilisation: Share | None = Field(None, description="Rented hours over all hours. Default: 0.85.")
    opex_usd_per_gpu_year: float | None = Field(
        None, ge=0, description="Running cost but for energy. Default: 3 % of the price."
    )
    capex_usd_per_gpu: float | None = Field(
        None, gt=0, description="Price with its share of the server. Default: that of the catalogue."
    )
    residual_usd_per_gpu: float | None = Field(
        None, ge=0, description="Value at the end of `life`. Default: as of `market`."
    )


class PriceSpec(Spec):
    """Rent per GPU and hour over time. The first entry that holds the model and the rung counts."""

    gpu_models: list[str] | None = Field(None, min_length=1, description="Default: all.")
    tiers: list[Name] | None = Field(None, min_length=1, description="Default: all.")
    usd_per_gpu_hour: float | None = Field(None, ge=0, description="At the start of the run.")
    change_per_year: float = Field(0.0, gt=-1, le=10, description="-0.2 is 20 % less after a year.")
    points: list[Annotated[tuple[When, float], Strict(False)]] | None = Field(
        None, min_length=1, description="Or [[when, USD], ...]: straight lines between, level outside."
    )


class MarketSpec(Spec):
    """The secondary market: value by age, and how many cards find a buyer.

    ``capex * (floor + (1 - floor) * exp(-decay * years)) * (1 - per_successor) ** successors shipped``.
    """

    floor: Share = 0.05
    decay_per_year: float = Field(0.4, ge=0, le=10)
    per_successor: Share = 0.15
    depth_per_month: Share = Field(
        0.02, description="Part of the GPUs of a model ever delivered that is bought in a month at its value."
    )
    discount_per_percent: Share = Field(0.03, description="Discount that each further percent of them costs.")
    max_discount: Share = Field(0.0, description="What owners accept. What is left waits, unsold.")


class EconomicsSpec(Spec):
    """Money: nominal USD, no tax."""

    usd_per_kwh: float = Field(0.08, ge=0)
    load_factor: Share = Field(0.7, description="Of the power of a slot, for rules that look ahead.")
    discount_rate: float = Field(0.1, ge=0, le=1, description="A year.")
    life: Span = Field("5y", description="Over which the price of a new part is spread, by annuity.")
    book: BookSpec = BookSpec()
    gpu_models: list[GpuModelMoney] = Field(default_factory=list)
    prices: list[PriceSpec] = Field(default_factory=list)
    market: MarketSpec = MarketSpec()
