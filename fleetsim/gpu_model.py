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

__all__ = ["ESTIMATE", "FIGURES", "Figure", "GpuModel", "RentalPrice"]

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
    cooling: str
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
    idle_w: float = _figure("W", "power without load", zero=True)
    gpus_per_server: int = _figure("GPUs", "per server")
    server_max_w: float = _figure("W", "server maximum, GPUs included")
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
        return self.server_max_w / self.gpus_per_server - self.tdp_w

    @property
    def slot_kw_per_gpu(self) -> float:
        """kW of IT power that a slot must reserve per GPU: the server's maximum divided by its GPUs."""
        return self.server_max_w / self.gpus_per_server / 1000.0

    def power_w(self, activity: Activity) -> Activity:
        """IT power in W of one GPU with its share of the server, at *activity* from 0 (no load) to 1.

        ``idle_w + (tdp_w - idle_w) * activity + overhead_w_per_gpu``, linear as Fan, Weber and Barroso found
        for servers ("Power Provisioning for a Warehouse-sized Computer", ISCA 2007). The overhead is that of
        a loaded server, so an idle one is rated high. PUE is not included. *activity* is the share of the
        GPU's power range, not NVML's ``utilization.gpu``; it is not clipped.

        >>> from fleetsim.catalog import load_catalog
        >>> load_catalog()["h100-sxm-80"].power_w(0.5)  # 70 + (700 - 70) * 0.5 + (10200 / 8 - 700)
        960.0
        """
        return self.idle_w + (self.tdp_w - self.idle_w) * activity + self.overhead_w_per_gpu

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
