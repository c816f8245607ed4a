"""What a GPU model is: its figures with units and sources, what it draws and how fast it works.

A record only: :mod:`fleetsim.catalog` reads the models from their file.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Activity = TypeVar("Activity", float, NDArray[np.float64])

__all__ = ["COOLING", "ESTIMATE", "FIGURES", "Figure", "GpuModel", "RentalPrice"]

COOLING = ("air", "liquid")
"""What ``GpuModel.cooling`` may be. A server for liquid needs it at the site; one for air runs anywhere."""

ESTIMATE = "estimate"
"""The source of a figure that is our own estimate."""


class Figure(NamedTuple):
    """What a numeric field of :class:`GpuModel` means, and whether it may be zero."""

    unit: str
    meaning: str
    zero: bool = False


def _figure(unit: str, meaning: str, zero: bool = False) -> Any:
    return field(metadata={"figure": Figure(unit, meaning, zero)})


@dataclass(frozen=True)
class RentalPrice:
    """What renting one GPU for an hour cost in a month (``YYYY-MM``), in USD; *kind* says on what terms."""

    month: str
    usd_per_gpu_hour: float
    kind: str
    source: str


@dataclass(frozen=True)
class GpuModel:
    """One row of the catalogue. Units are in the names; :data:`FIGURES` says what each figure means.

    None is a figure that does not exist (a precision without hardware support) or that nobody publishes.
    ``sources`` holds the source of every figure and date that is there: a key of ``Catalog.sources``, often
    :data:`ESTIMATE`. ``remarks`` holds what there is to say about some of them.
    """

    id: str
    name: str
    vendor: str
    generation: str  # architecture family
    announced: datetime.date
    available: datetime.date
    form_factor: str
    cooling: str  # one of COOLING
    memory_type: str
    interconnect: str
    notes: str
    rental_prices: tuple[RentalPrice, ...]
    sources: Mapping[str, str] = field(hash=False)
    remarks: Mapping[str, str] = field(hash=False)
    memory_gb: float = _figure("GB", "memory")
    memory_bw_gb_s: float = _figure("GB/s", "memory bandwidth")
    fp16_tflops: float | None = _figure("TFLOPS", "FP16, dense")
    bf16_tflops: float | None = _figure("TFLOPS", "BF16, dense")
    fp8_tflops: float | None = _figure("TFLOPS", "FP8, dense")
    fp4_tflops: float | None = _figure("TFLOPS", "FP4, dense")
    tdp_w: float = _figure("W", "power limit")
    idle_w: float = _figure("W", "GPU alone, no process holds it", zero=True)
    context_w: float = _figure("W", "above idle_w while a process holds it and no kernel runs", zero=True)
    power_exponent: float = _figure("exponent", "of SM activity in power; 1 = linear, less saturates")
    gpus_per_server: int = _figure("GPUs", "per server")
    server_max_w: float = _figure("W", "server maximum, GPUs included")
    server_idle_w: float = _figure("W", "server outside its GPUs, nothing running", zero=True)
    rack_kw: float | None = _figure("kW", "whole rack")
    interconnect_gb_s: float = _figure("GB/s", "scale-up bandwidth", zero=True)
    mig_max_instances: int = _figure("parts", "hardware partitions", zero=True)
    scaleup_domain_gpus: int = _figure("GPUs", "scale-up domain")
    rel_training: float = _figure("x A100", "training throughput")
    rel_inference: float = _figure("x A100", "LLM inference throughput")
    launch_price_usd_per_gpu: float | None = _figure("USD", "launch price per GPU")
    server_price_usd_per_gpu: float | None = _figure("USD", "the same with its share of the server")

    @property
    def overhead_w_per_gpu(self) -> float:
        """W per GPU that a server draws at most outside its GPUs: processors, network, fans, losses."""
        return self._slot_w - self.tdp_w

    @property
    def slot_kw_per_gpu(self) -> float:
        """kW of IT power that a slot must reserve per GPU: the server's maximum divided by its GPUs."""
        return self._slot_w / 1000.0

    @property
    def idle_power_w(self) -> float:
        """IT power in W of one GPU with its share of the server while nothing is allocated.

        ``idle_w + server_idle_w / gpus_per_server``. PUE is not included, here and below.
        """
        return self.idle_w + self.server_idle_w / self.gpus_per_server

    @property
    def context_power_w(self) -> float:
        """IT power in W of one GPU with its share of the server while it is allocated and no kernel runs.

        The GPU alone draws ``idle_w + context_w``. The server outside its GPUs goes in a straight line from
        ``server_idle_w``, with all GPUs at ``idle_w``, to its maximum, with all at ``tdp_w``: losses of the
        power supplies, fans, processors and network all grow with what the GPUs draw.
        """
        position = self.context_w / (self.tdp_w - self.idle_w)
        return self.idle_power_w + (self._slot_w - self.idle_power_w) * position

    def busy_power_w(self, sm_active: Activity) -> Activity:
        """IT power in W of one GPU with its share of the server while kernels run.

        *sm_active* is the share of the SMs with work, from 0 to 1 (DCGM's ``sm_active``, not NVML's
        ``utilization.gpu``). The GPU alone draws ``idle_w + context_w + (tdp_w - idle_w - context_w) *
        sm_active ** power_exponent``, and the server outside it as in :attr:`context_power_w`. At 1 both are
        at their maximum: the slot. Power saturates: an H100 that serves an 8B model in batches of 8 draws
        0.7 of what it draws in batches of 256 (ML.ENERGY leaderboard). With an exponent of 1 this is the
        straight line that Fan, Weber and Barroso found for servers ("Power Provisioning for a
        Warehouse-sized Computer", ISCA 2007).

        >>> from fleetsim.catalog import load_catalog
        >>> load_catalog()["h100-sxm-80"].busy_power_w(1.0)  # 10200 / 8
        1275.0
        """
        position: Activity = sm_active**self.power_exponent
        return self._slot_w - (1.0 - position) * (self._slot_w - self.context_power_w)

    @property
    def _slot_w(self) -> float:
        return self.server_max_w / self.gpus_per_server

    def speed(self, workload_class: str, reference: GpuModel) -> float:
        """How many times as fast as on *reference* a job of *workload_class* runs on this model.

        - ``training`` and ``fine_tuning``: the ratio of ``rel_training``.
        - ``inference``: the ratio of ``rel_inference``.
        - ``batch``: the geometric mean of both, since batch work is part like training (simulation,
          preparation) and part offline inference. This mean keeps ``a.speed(c, b) * b.speed(c, a) == 1``.
        - ``interactive``: 1. A session lasts as long as the person who holds it, whatever the GPU.

        Raises ``ValueError`` for any other class.

        >>> from fleetsim.catalog import load_catalog
        >>> load_catalog()["h100-sxm-80"].speed("inference", load_catalog()["a100-sxm-80"])
        3.0
        """
        training = self.rel_training / reference.rel_training
        inference = self.rel_inference / reference.rel_inference
        batch = math.sqrt(training * inference)
        speeds = {"training": training, "fine_tuning": training, "inference": inference, "batch": batch}
        speeds["interactive"] = 1.0
        if workload_class not in speeds:
            raise ValueError(f"workload class {workload_class!r} is none of {', '.join(speeds)}")
        return speeds[workload_class]


FIGURES: Mapping[str, Figure] = MappingProxyType(
    {f.name: f.metadata["figure"] for f in fields(GpuModel) if "figure" in f.metadata}
)
"""Every numeric field of :class:`GpuModel`."""
