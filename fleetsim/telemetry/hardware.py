"""What drivers report of each GPU model, and what jobs of each class do with a GPU. Constants with sources.

Marks: capture = a real nvidia-smi (nvidia_gpu_exporter, MIT); sheet = the vendor's data sheet; the others are
recalled from nvidia-smi listings, or estimates. What no driver reports is None, and absent from readings.
"""

from __future__ import annotations

from dataclasses import dataclass

from fleetsim.gpu_model import GpuModel

#: Temperature of the air or liquid that reaches the GPUs, C: the upper end of what ASHRAE recommends is 27.
INLET_C = 25.0

#: Time constant of the temperature, s: 20 to 60 for the die; the heat sink's minutes are left out. Estimate.
THERMAL_TAU_S = 40.0

#: By how much the cooling of single GPUs differs: a factor on the thermal resistance, from 1 - to 1 +.
#: Estimate from the A100 of Acme (GPU temperature p50 40 C, p95 62 C, at most 79 C).
COOLING_SPREAD = 0.2

#: Memory is warmer than the GPU by so much, C. Estimate.
MEMORY_WARMER_C = 6.0

#: Share of the memory that driver and firmware keep. Estimate: about 600 MiB of 80 GB.
RESERVED_SHARE = 0.0075

#: Standard deviation of the gain of power sensors ("Part-time Power Measurements", SC24: up to 5 % off).
GAIN_SD = 0.03

#: Noise of the power sensor: at most so much, as a share of the reading, drawn anew every so often.
NOISE, NOISE_S = 0.04, 10.0


@dataclass(frozen=True)
class Driver:
    """What a driver says of a GPU model. MHz; MiB; temperatures in C. None: not reported."""

    name: str
    total_mib: int
    idle_mhz: int | None = None  # SMs, no process
    boost_mhz: int | None = None  # SMs, the highest
    memory_idle_mhz: int | None = None
    memory_mhz: int | None = None
    version: str | None = None  # of the driver
    slows_c: int = 87  # thermal slowdown by software begins
    halves_c: int = 92  # ... and by hardware
    k_per_w: float | None = None  # thermal resistance to the inlet; None: 67 C at the power limit


_R550, _R570, _R580 = "550.144.03", "570.133.20", "580.65.06"

#: NVIDIA clocks: boost as in the sheets. Idle: H100 345/2619 MHz and H200 3201 MHz captures, others recalled.
#: Memory: 85,520,809,984 B (H100), 150,754,820,096 B (H200), 48,305,799,168 B (L40S) captures, others
#: recalled. Slowdown: A100 83 and 87 C, T4 and L40S 93 and 96 C (mock profiles), H100 and H200 87 and 89 C
#: (T.Limit of the captures), others estimates. Thermal resistance: H100 (59 - 25) C / 632 W, H200 (52 - 25) /
#: 627 W (captures), A100 (62 - 25) / 400 W (Acme, p95). Versions: one that knows the model.
_DRIVERS = {
    "p100-sxm2-16": Driver("Tesla P100-SXM2-16GB", 16384, 405, 1480, 715, 715, _R550),
    "v100-sxm2-16": Driver("Tesla V100-SXM2-16GB", 16384, 135, 1530, 877, 877, _R550),
    "v100-sxm2-32": Driver("Tesla V100-SXM2-32GB", 32768, 135, 1530, 877, 877, _R550),
    "t4": Driver("Tesla T4", 15360, 300, 1590, 405, 5001, _R550, 93, 96),
    "a10": Driver("NVIDIA A10", 23028, 210, 1695, 405, 6251, _R550),
    "a30": Driver("NVIDIA A30", 24576, 210, 1440, 1215, 1215, _R550),
    "a40": Driver("NVIDIA A40", 46068, 210, 1740, 405, 7251, _R550),
    "a100-sxm-40": Driver("NVIDIA A100-SXM4-40GB", 40960, 210, 1410, 1215, 1215, _R550, 83, 87, 0.0925),
    "a100-sxm-80": Driver("NVIDIA A100-SXM4-80GB", 81920, 210, 1410, 1593, 1593, _R550, 83, 87, 0.0925),
    "l4": Driver("NVIDIA L4", 23034, 210, 2040, 405, 6251, _R550),
    "l40s": Driver("NVIDIA L40S", 46068, 210, 2520, 405, 9001, _R550, 93, 96),
    "h100-pcie-80": Driver("NVIDIA H100 PCIe", 81559, 345, 1755, 1593, 1593, _R550, 87, 89),
    "h100-sxm-80": Driver("NVIDIA H100 80GB HBM3", 81559, 345, 1980, 2619, 2619, _R550, 87, 89, 0.0538),
    "h200-sxm-141": Driver("NVIDIA H200", 143771, 345, 1980, 3201, 3201, _R550, 87, 89, 0.0431),
    "b200-sxm-180": Driver("NVIDIA B200", 183359, 120, 1965, 3996, 3996, _R570),
    "gb200-nvl72": Driver("NVIDIA GB200", 189471, 120, 2062, 3996, 3996, _R570),
    "gb300-nvl72": Driver("NVIDIA GB300", 284208, 120, 2032, 3996, 3996, _R580),
    "mi250x": Driver("AMD Instinct MI250X", 131040, 500, 1700, 1600, 1600),
    "mi300x": Driver("AMD Instinct MI300X", 196592, 132, 2100, 1300, 1300),
    "mi325x": Driver("AMD Instinct MI325X", 262128, 132, 2100, 1500, 1500),
    "tpu-v4": Driver("Google TPU v4", 32768),
    "tpu-v5e": Driver("Google TPU v5e", 16384),
    "tpu-v5p": Driver("Google TPU v5p", 97280),
    "trainium2": Driver("AWS Trainium2", 98304),
    "gaudi3": Driver("Intel Gaudi 3", 131072),
}


def driver(model: GpuModel) -> Driver:
    """What the driver of *model* says; of a model that is not in the table, its name and memory alone."""
    return _DRIVERS.get(model.id) or Driver(f"{model.vendor} {model.name}", round(model.memory_gb * 1024))


def listed() -> frozenset[str]:
    """GPU models that the table knows."""
    return frozenset(_DRIVERS)


def unreported(model: GpuModel) -> frozenset[str]:
    """Columns of the reading that the driver of *model* does not report.

    Profiling counters (DCGM) and the energy counter exist from Volta on, row remapping from Ampere on, memory
    temperature of HBM alone. Other vendors have no NVML: its bit masks, XIDs and P-states do not exist there.
    """
    gone: set[str] = set()
    about = driver(model)
    if about.boost_mhz is None:
        gone |= {"sm_clock_mhz", "sm_clock_max_mhz", "mem_clock_mhz"}
    if about.version is None:
        gone |= {"driver_version"}
    if model.vendor != "NVIDIA":
        gone |= {"mem_copy_util_pct", "enc_util_pct", "dec_util_pct", "throttle_reasons", "xid", "pstate"}
    if model.vendor != "NVIDIA" or model.generation == "Pascal":
        gone |= {f"{pipe}_active" for pipe in ("gr_engine", "sm", "tensor", "dram", "fp64", "fp32", "fp16")}
        gone |= {"sm_occupancy", "energy_mj", "pcie_tx_bytes_s", "pcie_rx_bytes_s"}
    if model.vendor != "NVIDIA" or model.generation in ("Pascal", "Volta", "Turing"):
        gone |= {"uncorrectable_remapped_rows", "correctable_remapped_rows", "row_remap_failure"}
    if model.vendor != "NVIDIA" or not model.interconnect.startswith("NVLink"):
        gone |= {"nvlink_bytes"}
    if not model.memory_type.startswith("HBM"):
        gone |= {"mem_temp_c"}
    return frozenset(gone)


def idle_pstate(model: GpuModel) -> int:
    """P-state without a process: parts with HBM stay at P0, those with GDDR go to P8 (captures)."""
    return 0 if model.memory_type.startswith("HBM") else 8


@dataclass(frozen=True)
class Habit:
    """What jobs of a class do with a GPU while they hold it, beyond the busy share, SM activity and MFU of
    the run.

    *memory* is the share of the free memory that they hold, *dram* the activity of the memory interface while
    kernels run, *cycle_s* the time in which kernels run and then do not, *nvlink* the share of the bandwidth
    that gangs use while kernels run, *pcie_tx_gb_s* and *pcie_rx_gb_s* what goes over PCIe then.
    """

    memory: float
    dram: float
    cycle_s: float
    nvlink: float
    pcie_tx_gb_s: float
    pcie_rx_gb_s: float


#: Estimates, but: memory of inference is the default of vLLM (0.9 of the GPU); dram: decoding waits for
#: memory.
HABITS = {
    "training": Habit(0.85, 0.40, 2.0, 0.04, 0.8, 1.5),
    "fine_tuning": Habit(0.75, 0.40, 2.0, 0.03, 0.8, 1.5),
    "inference": Habit(0.90, 0.55, 5.0, 0.01, 0.2, 0.3),
    "batch": Habit(0.50, 0.35, 10.0, 0.005, 1.0, 2.0),
    "interactive": Habit(0.25, 0.20, 60.0, 0.0, 0.1, 0.2),
}

#: Memory that single attempts hold differs from the class by at most this share of it. Estimate.
MEMORY_SPREAD = 0.08

#: Tensor activity / MFU: padding, recomputation and work that the model's FLOPs do not count. Estimate.
TENSOR_PER_MFU = 1.15

#: Occupancy / SM activity: 9 / 33 %, 14 / 50 % (medians) and 21 / 73 % (upper quartile) in Acme's clusters.
OCCUPANCY_PER_SM = 0.28

#: FP32 and FP16 pipe activity / SM activity, outside the tensor pipe. Estimates. FP64 stays at 0.
FP32_PER_SM, FP16_PER_SM = 0.15, 0.05
