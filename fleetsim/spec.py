"""What a scenario file may say: every key, its type, its default and its meaning.

These models are strict and know nothing of files, traces or each other's names; ``scenario`` reads them and
checks what goes across. The JSON Schema that editors use is made from them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from fleetsim.books import PERIODS
from fleetsim.life.spec import (
    CascadeSpec,
    DataType,
    DelaySpec,
    EconomicsSpec,
    FailureSpec,
    Latency,
    RetirementSpec,
    SeriesSpec,
    SparesSpec,
    TierSpec,
)
from fleetsim.policies.packing import PACKINGS
from fleetsim.policies.placement import PLACEMENTS
from fleetsim.policies.queue import QUEUES
from fleetsim.words import (
    Age,
    Horizon,
    Instant,
    Name,
    RisingList,
    Share,
    Span,
    Spec,
    When,
    WorkloadClass,
    known,
)

#: Names of placements, of whole GPUs and of parts.
PLACES = dict.fromkeys((*PLACEMENTS, *PACKINGS))

#: What GPUs of a class do while allocated: (busy share, SM active while busy, MFU while productive).
#: Training and inference are the project's estimates of the utilisation chain; the others lie between.
CLASS_ACTIVITY: dict[str, tuple[float, float, float]] = {
    "training": (0.95, 0.75, 0.40),
    "fine_tuning": (0.90, 0.70, 0.35),
    "inference": (0.60, 0.45, 0.16),
    "batch": (0.90, 0.60, 0.30),
    "interactive": (0.30, 0.40, 0.10),
}


class SiteSpec(Spec):
    """A place with power."""

    name: Name
    pue: float | None = Field(
        None,
        ge=1,
        le=5,
        description="Energy at the meter over energy of the IT equipment. Default: 1.12 where cooling is "
        "liquid, else 1.25.",
    )
    it_power_kw: float | None = Field(None, gt=0, description="IT power of the site, kW.")
    over_power: Literal["refuse", "wait", "shed", "power_cap"] = Field(
        "refuse",
        description="What becomes of nodes for whose maximum there is no power. refuse: the scenario is "
        "refused if its cohorts, all delivered, could draw more. wait: nodes are stored until retirements "
        "free their slots. shed: nodes of the lowest rung leave for them. power_cap: all are installed, and "
        "the power limit of every GPU of the site is lowered until they fit.",
    )
    cooling: Literal["air", "liquid"] | None = Field(
        None, description="A site cooled by air takes no models that need liquid. Default: takes all."
    )
    rack_kw: float | None = Field(
        None, gt=0, description="kW of a rack: servers, or racks sold whole, of more are refused."
    )
    carbon_g_per_kwh: float | str | None = Field(
        None,
        description="Carbon of energy at the meter: one figure, or a CSV file of columns `hour` and "
        "`g_per_kwh` beside the scenario; what its last hour ends begins again with the first.",
    )


class PenaltySpec(Spec):
    """By how much longer a gang over several nodes takes, by the smallest block that holds all of it."""

    domain: float = Field(1.0, ge=1, le=100, description="Several nodes of one scale-up domain.")
    rack: float = Field(1.0, ge=1, le=100, description="Several domains of one rack.")
    spine: float = Field(1.0, ge=1, le=100, description="Several racks of one spine block: 1.15.")
    beyond: float = Field(1.0, ge=1, le=100, description="Several spine blocks, or cohorts.")


class TopologySpec(Spec):
    """How the nodes of a cohort, numbered in order, are connected."""

    nodes_per_domain: int = Field(
        1, ge=1, description="Nodes whose GPUs are joined as within a node: 18 of 4 GPUs in an NVL72 rack."
    )
    nodes_per_rack: int | None = Field(None, ge=1, description="Default: a domain is a rack.")
    racks_per_spine: int | None = Field(None, ge=1, description="Default: all racks of the cohort.")
    penalty: PenaltySpec = Field(
        PenaltySpec(),
        description="Under every placement. Default: none, since it depends on what the jobs are.",
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
    tenants: list[Name] | None = Field(
        None,
        min_length=1,
        description="A virtual cluster: these tenants run here and nowhere else, and wait in a queue of "
        "their own. Default: all tenants that have no nodes of their own.",
    )
    topology: TopologySpec | None = Field(
        None, description="Default: nothing is known, and where a gang runs does not matter."
    )
    known_as: Name | None = Field(
        None,
        description="What traces call the GPU model: jobs that ask for this name run only on cohorts known "
        "as it. Default: its name in the catalogue.",
    )
    cpus: float | None = Field(
        None, gt=0, le=100_000, description="CPU cores of a node, where GPUs are shared. Default: no limit."
    )
    memory_gb: float | None = Field(
        None, gt=0, le=1e6, description="Host memory of a node, where GPUs are shared. Default: no limit."
    )
    mig_gpus: int = Field(
        0, ge=0, le=1024, description="GPUs of a node in MIG mode, where GPUs are shared: the first ones."
    )
    tier: Name | None = Field(
        None, description="The rung it begins on. Default: the first whose needs it meets."
    )
    ordered: When | None = Field(None, description="For the record: when it was ordered.")
    delay: Age | DelaySpec = Field(
        0.0, description="How much later than `delivered` it comes: 90d, or {median: 30d, sigma: 0.8}."
    )
    burn_in: Age = Field(0.0, description="How long its nodes are tested after delivery, and down: 3d.")
    series: SeriesSpec | None = Field(
        None, description="Bought again and again: cohorts name-1, name-2 ... Default: once."
    )
    capex_usd_per_gpu: float | None = Field(
        None, gt=0, description="Price with its share of the server. Default: the model's in the catalogue."
    )
    contract_until: When | None = Field(
        None, description="No rule retires, sells or sheds its nodes before; failures may."
    )


class NodeListSpec(Spec):
    """The fleet as a list of nodes in a file, in place of `cohorts`: a cohort of each kind of node.

    Nodes keep their places in the file as numbers, and ties between nodes go to the lowest. Nodes without
    GPUs are left out and counted.
    """

    file: str = Field(description="A node list beside the scenario, or in a folder given with --traces.")
    gpu_names: dict[str, str] | None = Field(
        None,
        description="The list's name of a GPU model: the model of the catalogue that it is taken for; '*' is "
        "every other name, or none. Jobs that ask for a name run only on nodes of this name.",
    )
    bad_rows: Literal["refuse", "drop"] = "refuse"
    site: str | None = Field(None, description="Default: the first site.")
    delivered: When = Field(0.0, description="A date, or an offset from the start: -3y, 90d.")
    earlier_age: Age = Field(0.0, description="Age at delivery, for nodes bought used: 18mo.")


class TenantSpec(Spec):
    """Who uses the fleet."""

    name: Name
    gpu_models: list[str] | None = Field(None, description="GPU models its jobs may run on. Default: all.")
    parent: Name | None = Field(
        None, description="The tenant it is a part of, for queue `quota` and for max_gpus."
    )
    priority: int = Field(
        0, ge=-1000, le=1000, description="Higher goes first: over-quota GPUs, and queue `priority`."
    )
    share: float = Field(
        1.0, ge=0, description="Its part of the fleet beside the others', for queues `fair_share` and `drf`."
    )
    deserved_gpus: float = Field(0.0, ge=0, description="GPUs it has a right to, for queue `quota`.")
    over_quota_weight: float = Field(
        1.0, ge=0, description="Its part of what is left when all rights are met, for queue `quota`."
    )
    max_gpus: int | None = Field(
        None, ge=0, description="GPUs that its jobs and those of its parts may hold at once. Default: all."
    )
    preemptible: bool = Field(
        False, description="Its jobs may be stopped whenever a job of another tenant needs their GPUs (spot)."
    )
    notice: Age = Field(0.0, description="What a preemptible job is told before it is stopped: 30s.")


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
    cpu_jobs: bool = Field(
        False, description="Take jobs that ask for CPU alone too, of formats that have them; needs `sharing`."
    )
    mig: str | None = Field(
        None, description="A MIG profile: each job runs on one instance of it, as 1g.10gb; needs `sharing`."
    )
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
    load: float = Field(1.0, ge=0, le=10_000, description="Multiplies the number of jobs; 0 is none.")
    repeat: RepeatSpec | None = None
    min_memory_gb: float | None = Field(
        None, ge=0, description="Memory each GPU must have, for jobs that do not say."
    )
    data_type: DataType | None = Field(
        None, description="The jobs run only on models that compute with it in hardware. Default: all."
    )
    latency: Latency = Field(
        "relaxed", description="Jobs whose latency matters (strict) run on no rung with relaxed latency."
    )
    gpu_models: list[str] | None = Field(None, description="GPU models the jobs may run on. Default: all.")
    gpu_names: dict[str, list[str]] | None = Field(
        None,
        description="The trace's name of a GPU model: the catalogue's models it stands for, [] for any; "
        "'*' is every other name. Default: a name is that of the catalogue.",
    )
    busy_share: Share | None = Field(None, description="Kernel running / allocated. Default by class.")
    sm_active: Share | None = Field(None, description="SM active / busy. Default by class.")
    mfu: Share | None = Field(
        None, description="Model FLOPs / peak FLOPs while productive. Default by class."
    )


class EstimateSpec(Spec):
    """How long a job is believed to run, for queues that plan with it (easy, conservative, sjf)."""

    source: Literal["duration", "trace"] = Field(
        "duration", description="The true run time, or the limit that the user gave in the trace."
    )
    factor: float = Field(1.0, gt=0, le=1000, description="Estimate over source: 2 doubles it.")
    error: float = Field(
        0.0, ge=0, le=10, description="Standard deviation of the logarithm of a random factor, median 1."
    )
    default: Span | None = Field(None, description="For jobs of a trace that gives no limit.")
    seed: int | None = Field(
        None, ge=0, description="Of the random factor. Default: drawn from the scenario's seed."
    )


class RestartCost(Spec):
    """What a stopped job needs before it works again."""

    up_to_gpus: int | None = Field(None, ge=1, description="For jobs of up to so many GPUs. Default: all.")
    users: list[str] | None = Field(
        None, description="For jobs of these users of the trace; a log may name models there. Default: all."
    )
    workloads: list[Name] | None = Field(None, description="For jobs of these workloads. Default: all.")
    cost: Age = Field(description="Time on its GPUs in which nothing is computed: 30s.")


class RestartSpec(Spec):
    """What it costs a job to be stopped and started again."""

    setup: Age = Field(0.0, description="Time before the work begins, at the first start of every job.")
    costs: list[RestartCost] = Field(
        default_factory=list, description="The first that holds the job counts. Default: nothing."
    )
    charge: Literal["restart", "every_pass"] = Field(
        "restart",
        description="restart: when a job that was stopped starts again. every_pass: each pass interrupts all "
        "running jobs, and what they did since the last pass is lost, up to the cost (Muri's simulator).",
    )
    checkpoint: Span | Literal["when_stopped", "trace", "never"] = Field(
        "when_stopped",
        description="How often work is saved; what was done since is lost. when_stopped loses nothing; "
        "trace: as the trace says of each job, else when it is stopped.",
    )
    checkpoint_cost: Age = Field(
        0.0, description="How long the work stands still while a checkpoint is written: 30s."
    )


class FairShareSpec(Spec):
    """Weights of the factors of Slurm's multifactor priority, each factor from 0 to 1."""

    half_life: Span = Field("7d", description="After which use counts half.")
    fair_share: float = Field(1.0, ge=0, description="2 ** -(use / share), both as parts of the whole.")
    age: float = Field(0.0, ge=0, description="Time waited over max_age.")
    size: float = Field(0.0, ge=0, description="GPUs asked for over GPUs installed.")
    priority: float = Field(0.0, ge=0, description="The job's priority over the highest.")
    max_age: Span = "7d"
    every: Span = Field("5min", description="How often use and priorities are worked out anew.")


#: Queues that plan with estimates, and those that take one if it is given.
BACKFILL = ("easy", "conservative")
ESTIMATES = (*BACKFILL, "sjf")

#: Queues in which the first job blocks those behind it, or does not, as `on_misfit` says.
ORDERED = ("smallest", "sjf", "qssf", "priority", "quota", "fair_share", "drf")

#: Queues in which a job may be stopped in favour of another; of MAY_PREEMPT if asked to.
PREEMPTS = ("srtf", "srsf", "las", "gittins", "max_min")
MAY_PREEMPT = ("smallest", "sjf", "priority", "quota")

#: Queues that can place all jobs anew in every pass.
AFRESH = ("srtf", "srsf", "smallest", "sjf", "priority")

#: Queues that may have preemptible tenants.
MAY_SPOT = ("fifo", "fifo_skip", "smallest", "sjf", "qssf", "priority", "fair_share", "drf")


class DefragmentSpec(Spec):
    """Moving running jobs together, so that a gang that waits can start."""

    every: Span = Field("1h", description="How often, while jobs wait.")
    moves: int = Field(8, ge=1, description="Jobs that may be moved at a time. Each pays for a restart.")


#: Queues that know nothing of where running jobs are, so that these may be moved.
MAY_DEFRAGMENT = ("fifo", "fifo_skip", "smallest", "sjf", "qssf", "priority")


class SharingSpec(Spec):
    """How jobs share GPUs. Without `replicas` each has the part of its GPUs that its trace says."""

    replicas: int | None = Field(
        None,
        ge=2,
        le=100,
        description="Time slicing: up to so many jobs take turns on a GPU, whatever part their trace says.",
    )
    interference: float = Field(
        0.0, ge=0, lt=1, description="Part of a GPU that each further job on it costs, by time slicing."
    )


#: Queues that know nothing of nodes and stop no job, so that GPUs may be shared.
MAY_SHARE = ("fifo", "fifo_skip", "smallest", "sjf", "qssf", "priority", "fair_share", "drf")


class SchedulerSpec(Spec):
    """Which job goes next, and where."""

    queue: Annotated[str, known(QUEUES), Field(json_schema_extra={"enum": list(QUEUES)})] = "fifo"
    on_misfit: Literal["stop", "skip"] | None = Field(
        None,
        description="When the first job does not fit: nothing behind it starts, or what fits does. "
        "For smallest, sjf, qssf, priority, fair_share, drf and quota; default: stop.",
    )
    preemptive: bool = Field(
        False, description="Stop running jobs for jobs that go before them: smallest, sjf, priority, quota."
    )
    admit: Literal["place", "count", "afresh"] = Field(
        "place",
        description="How a preemptive queue makes room. place: running jobs are stopped, last in order "
        "first, where a job before them can then be placed. count: all are stopped for which those before "
        "them leave too few GPUs, placed or not (Helios). afresh: the fleet is emptied and filled again in "
        "order at every pass (Tiresias, Muri).",
    )
    interval: Span | None = Field(
        None, description="Hold scheduling passes only at its multiples, whole seconds. Default: at events."
    )
    sharing: SharingSpec | None = Field(
        None,
        description="GPUs may be shared: {} for parts of a GPU. All nodes are then one pool, and a job runs "
        "on one node. Default: jobs that need part of a GPU are rejected.",
    )
    placement: Annotated[str, known(PLACES), Field(json_schema_extra={"enum": list(PLACES)})] = Field(
        "best_fit",
        description=f"With `sharing`: {', '.join(PACKINGS)}. Without: {', '.join(PLACEMENTS)}.",
    )
    prefer: Literal["fastest", "slowest", "listed"] = Field(
        "fastest", description="Order in which the GPU models that may run a job are tried; ties as listed."
    )
    estimate: EstimateSpec | None = Field(
        None, description="Needed by easy and conservative; for sjf the default is the true run time."
    )
    depth: int | None = Field(
        None, ge=1, description="Waiting jobs that easy and conservative look at in a pass. Default: all."
    )
    las_thresholds_gpu_s: RisingList = Field(
        [3250.0, 7200.0], description="GPU seconds at which a job falls into the next queue of las."
    )
    fair_share: FairShareSpec = FairShareSpec()
    restart: RestartSpec = RestartSpec()
    defragment: DefragmentSpec | None = Field(
        None, description="For placements that need room on one node, or whole nodes. Default: jobs stay."
    )


class WindowOfNodes(Spec):
    """When nodes of a cohort are kept from all others."""

    cohort: Name
    at: When = Field(description="When it begins: a date, or an offset from the start.")
    lasts: Span = Field(description="How long: 4h.")
    every: Span | None = Field(None, description="Again so long after it began: 90d. Default: once.")
    drain: Age = Field(0.0, description="How long before no job starts on the nodes any more.")
    stop: bool = Field(
        False, description="Stop what still runs on the nodes then. Default: wait until it has ended."
    )


class MaintenanceSpec(WindowOfNodes):
    """Nodes are down for a time. On a node that is waited for, the time begins when it is empty."""

    first: int = Field(0, ge=0, description="The first of the nodes, counted from 0 in the cohort.")
    nodes: int | None = Field(None, ge=1, description="How many. Default: all from the first on.")


class ReservationSpec(WindowOfNodes):
    """Whole nodes are for one tenant only for a time."""

    tenant: Name = Field(
        description="Its jobs try these nodes before all others. No gang runs on nodes reserved and others. "
        "A node goes back when the tenant's last job on it has ended."
    )
    nodes: int | None = Field(
        None,
        ge=1,
        description="How many: the lowest of the cohort that no reservation before this one in the list has, "
        "whenever it is open. Or give `gpus`.",
    )
    gpus: int | None = Field(None, ge=1, description="How many GPUs, rounded up to whole nodes.")


class ScenarioSpec(Spec):
    """One question asked of one fleet."""

    name: Name
    question: str = Field("", description="What the scenario is to answer, in a sentence.")
    start: Instant = Field(description="UTC instant of time zero: 2026-01-01.")
    horizon: Horizon = Field(
        description="How long to simulate: 30d, 3y; or `drain`: until the last job has ended."
    )
    seed: int = Field(0, ge=0, le=10**18 - 1)
    usage_period: Annotated[str, known(PERIODS), Field(json_schema_extra={"enum": list(PERIODS)})] = "month"
    sites: list[SiteSpec] = Field(default_factory=lambda: [SiteSpec(name="main")], min_length=1)
    cohorts: list[CohortSpec] = Field(
        default_factory=list, description="Or give a `node_list`.", json_schema_extra={"minItems": 1}
    )
    node_list: NodeListSpec | None = None
    tenants: list[TenantSpec] = Field(default_factory=list, description="Default: the tenants of the traces.")
    workloads: list[WorkloadSpec] = Field(min_length=1)
    scheduler: SchedulerSpec = SchedulerSpec()
    maintenance: list[MaintenanceSpec] = Field(default_factory=list)
    reservations: list[ReservationSpec] = Field(default_factory=list)
    tiers: list[TierSpec] = Field(
        default_factory=list, description="The rungs of the ladder, top first. Default: one that admits all."
    )
    cascade: CascadeSpec | None = Field(None, description="Default: nodes stay on the rung they begin on.")
    retirement: RetirementSpec | None = Field(None, description="Default: nodes stay to the end.")
    failures: list[FailureSpec] = Field(default_factory=list)
    spares: list[SparesSpec] = Field(
        default_factory=list, description="Default: replacements are always at hand."
    )
    economics: EconomicsSpec | None = None
    axes: dict[str, list[Any]] = Field(
        default_factory=dict,
        description="Paths as of --set, each with the values it takes: the scenario is run with all "
        "combinations of them. Several paths that take one value together are parted by commas.",
    )
    replications: int = Field(
        1, ge=1, le=1000, description="Runs of each combination, with seeds of their own."
    )

    @property
    def descends(self) -> bool:
        """Whether nodes go down the ladder."""
        return bool(self.tiers) and self.cascade is not None and self.cascade.enabled
