"""What a fleet and a workload are, once a scenario has been read: records and columns, no behaviour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fleetsim.catalog import GpuModel

if TYPE_CHECKING:
    import pyarrow as pa

#: The one rung of a fleet that has no tier ladder.
GENERAL = "general"

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Codes = NDArray[np.int32]  # positions in a tuple of names; -1 for none


@dataclass(frozen=True)
class Site:
    """Power and slots: ``pue`` is energy at the meter over energy of the IT equipment."""

    name: str
    pue: float
    it_power_kw: float | None = None  # of all slots; None: no limit
    over_power: str = "refuse"  # what becomes of nodes for which there is no slot: see ``SiteSpec``
    carbon_g_per_kwh: tuple[float, ...] = ()  # hour by hour from the start, again and again; none: unknown
    cooling: str | None = None  # None: takes all
    rack_kw: float | None = None  # None: no limit

    def takes(self, model: GpuModel, gpus_per_node: int) -> bool:
        """Whether it can cool and carry servers of *gpus_per_node* GPUs of *model*."""
        if self.cooling == "air" and model.cooling == "liquid":
            return False
        needed_kw = max(gpus_per_node * model.slot_kw_per_gpu, model.rack_kw or 0.0)
        return self.rack_kw is None or needed_kw <= self.rack_kw


@dataclass(frozen=True)
class Cohort:
    """Nodes of one model delivered together. ``delivered_s`` is negative for what stood before the start."""

    name: str
    model: GpuModel
    site: Site
    nodes: int
    gpus_per_node: int
    delivered_s: float
    earlier_age_s: float
    first_node: int
    tenants: tuple[str, ...] | None = None  # who alone may use it; None: all that have no cohort of their own
    known_as: str | None = None  # what traces call the GPU model, where that is not its name in the catalogue
    cpu_milli: int | None = None  # of a node; None: no limit
    memory_mib: int | None = None  # likewise, of the host
    mig_gpus: int = 0  # GPUs of a node that are in MIG mode
    numbers: tuple[int, ...] | None = None  # of its nodes, in order; None: as many from first_node on
    tier: str = GENERAL  # the rung it begins on
    burn_in_s: float = 0.0  # how long its nodes are tested after delivery
    capex_usd_per_gpu: float | None = None  # with its share of the server; None: unknown
    contract_until_s: float = -inf  # no rule retires it before
    ordered_s: float | None = None
    series: str | None = None  # the cohort of the scenario that it is one delivery of, if there are several

    @property
    def node_numbers(self) -> Sequence[int]:
        """Numbers of its nodes across the fleet, in order."""
        return self.numbers or range(self.first_node, self.first_node + self.nodes)

    @property
    def names(self) -> set[str]:
        """What jobs may call its GPU model."""
        return {self.model.id, self.known_as or self.model.id}

    @property
    def gpus(self) -> int:
        """Installed GPUs."""
        return self.nodes * self.gpus_per_node

    @property
    def born_s(self) -> float:
        """When its age was zero."""
        return self.delivered_s - self.earlier_age_s


@dataclass(frozen=True)
class Activity:
    """Jobs of one class of one workload, and what they do with the GPUs they hold.

    ``reference`` is the GPU model their durations were measured on. A kernel runs for ``busy_share`` of the
    allocated time; while one runs, SMs are active for ``sm_active`` of it; ``mfu`` is model FLOPs over peak
    FLOPs while productive.
    """

    workload: str
    workload_class: str
    reference: GpuModel
    busy_share: float
    sm_active: float
    mfu: float


@dataclass(frozen=True)
class Jobs:
    """All jobs of a run in order of arrival, as columns of equal length.

    ``activity`` and ``tenant`` index the tuples of those names; ``user`` too, -1 if unknown. ``gpu_model`` is
    an index into ``gpu_models``, the sets of models (names of the catalogue, or what cohorts are known as) of
    which a job insists on one, -1 if it takes any. Columns that no trace of the run has are None.
    """

    job_id: pa.Array
    submit_s: Floats
    duration_s: Floats  # on the reference GPU
    gpus: NDArray[np.int32]
    gpu_share: NDArray[np.float32]  # of each GPU
    min_memory_gb: NDArray[np.float32]
    gpu_model: Codes
    priority: NDArray[np.int32] | None  # larger is more urgent, on the scale of the trace; 0 if unknown
    estimate_s: Floats | None  # run time asked for, on the reference GPU; NaN if unknown
    checkpoint_s: NDArray[np.float32] | None  # productive time between checkpoints; NaN if unknown
    cpu_milli: NDArray[np.int32] | None  # thousandths of a core, of the whole job; 0 if unknown
    memory_mib: NDArray[np.int32] | None  # host memory of the whole job; 0 if unknown
    activity: Codes
    tenant: Codes
    user: Codes
    warm: NDArray[np.bool_]
    activities: tuple[Activity, ...]
    gpu_models: tuple[tuple[str, ...], ...]
    tenants: tuple[str, ...]
    users: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.submit_s)
