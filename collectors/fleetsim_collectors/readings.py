"""The reading: the state of one GPU at one time, one schema for simulated and real GPUs.

Readings are columns: a mapping from the name of a column to its values, one entry a GPU, in any order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

#: Readings of several GPUs: values by name of the column, all of one length. Lists and arrays will do.
Columns = Mapping[str, Sequence[Any]]


class Column(NamedTuple):
    """One column of the reading table. *kind* is an Arrow type's name, or ``label`` for text that repeats.

    Null says that the GPU or its driver does not report the value; it is never written as zero.
    """

    name: str
    kind: str
    unit: str
    description: str
    nullable: bool = True


#: Bits of ``throttle_reasons``, named as NVML and nvidia-smi name them (nvml.h, nvmlClocksEventReason*).
THROTTLE_BITS = {
    "gpu_idle": 0x1,
    "applications_clocks_setting": 0x2,
    "sw_power_cap": 0x4,
    "hw_slowdown": 0x8,
    "sync_boost": 0x10,
    "sw_thermal_slowdown": 0x20,
    "hw_thermal_slowdown": 0x40,
    "hw_power_brake_slowdown": 0x80,
    "display_clock_setting": 0x100,
}

COLUMNS = (
    Column(
        "time_s", "float64", "s",
        "When; from the start of the run for a simulated GPU, Unix time for a real one.", False,
    ),
    Column("node", "int32", "", "Node, by number.", False),
    Column("gpu", "int16", "", "GPU in the node, from 0.", False),
    Column("hostname", "label", "", "Name of the node.", False),
    Column("uuid", "label", "", "`GPU-` and 32 hexadecimal digits; kept for the life of the GPU.", False),
    Column("pci_bus_id", "label", "", "Place on the PCI bus: `00000000:8D:00.0`.", False),
    Column("gpu_model", "label", "", "GPU model, by its name in the catalogue of GPU models."),
    Column("model_name", "label", "", "GPU model as the driver names it: `NVIDIA H100 80GB HBM3`.", False),
    Column("driver_version", "label", "", "Version of the driver."),
    Column(
        "gpu_util_pct", "int16", "%",
        "Share of the driver's sampling period in which at least one kernel ran. Says nothing of how much "
        "of the GPU it used.",
    ),
    Column("mem_copy_util_pct", "int16", "%", "Share of the period in which memory was read or written."),
    Column("enc_util_pct", "int16", "%", "Share of the period in which the video encoder ran."),
    Column("dec_util_pct", "int16", "%", "Share of the period in which the video decoder ran."),
    Column("gr_engine_active", "float32", "ratio", "Time in which the graphics or compute engine was busy."),
    Column("sm_active", "float32", "ratio", "Cycles in which an SM had a warp, mean over the SMs."),
    Column("sm_occupancy", "float32", "ratio", "Warps resident / warps that fit, mean over the SMs."),
    Column("tensor_active", "float32", "ratio", "Cycles in which the tensor pipe was busy."),
    Column("dram_active", "float32", "ratio", "Cycles in which the memory interface moved data."),
    Column("fp64_active", "float32", "ratio", "Cycles in which the FP64 pipe was busy."),
    Column("fp32_active", "float32", "ratio", "Cycles in which the FP32 pipe was busy."),
    Column("fp16_active", "float32", "ratio", "Cycles in which the FP16 pipe was busy."),
    Column("fb_total_mib", "int32", "MiB", "Memory of the GPU: used + free + reserved, always."),
    Column("fb_used_mib", "int32", "MiB", "Memory that processes hold."),
    Column("fb_free_mib", "int32", "MiB", "Memory that nobody holds."),
    Column("fb_reserved_mib", "int32", "MiB", "Memory that driver and firmware keep."),
    Column("sm_clock_mhz", "int16", "MHz", "Clock of the SMs."),
    Column("mem_clock_mhz", "int16", "MHz", "Clock of the memory."),
    Column("sm_clock_max_mhz", "int16", "MHz", "Highest clock of the SMs."),
    Column("gpu_temp_c", "int16", "C", "Temperature of the GPU."),
    Column("mem_temp_c", "int16", "C", "Temperature of the memory."),
    Column("power_w", "float32", "W", "Power as the sensor reports it."),
    Column("power_limit_w", "float32", "W", "Power limit in force."),
    Column("energy_mj", "int64", "mJ", "Energy since boot: a counter, back to 0 at each boot."),
    Column("pcie_tx_bytes_s", "int64", "B/s", "Data sent over PCIe, with headers."),
    Column("pcie_rx_bytes_s", "int64", "B/s", "Data received over PCIe, with headers."),
    Column("pcie_replays", "int64", "", "PCIe retries: a counter."),
    Column("nvlink_bytes", "int64", "B", "Data over all NVLinks, both ways: a counter."),
    Column("throttle_reasons", "int32", "", "Why clocks are not higher: the bit mask of NVML."),
    Column("xid", "int32", "", "Last XID error, kept until the node boots; 0 is none."),
    Column("uncorrectable_remapped_rows", "int32", "", "Memory rows remapped for uncorrectable errors."),
    Column("correctable_remapped_rows", "int32", "", "Memory rows remapped for correctable errors."),
    Column("row_remap_failure", "int8", "", "1 if a remapping of rows failed, else 0."),
    Column("ecc_dbe_total", "int64", "", "Double-bit ECC errors over the life of the GPU."),
    Column("ecc_sbe_total", "int64", "", "Single-bit ECC errors over the life of the GPU."),
    Column("pstate", "int8", "", "Performance state: 0 is the fastest, 15 the slowest."),
    Column("processes", "int16", "", "Processes with a compute context on the GPU."),
    Column("job", "int64", "", "Job that holds the GPU, by number; null while nobody does."),
    Column("tenant", "label", "", "Who is charged for the job; null while nobody holds the GPU."),
)  # fmt: skip


def plain(column: Sequence[Any]) -> list[Any]:
    """*column*, a list or an array, as a list of Python's own numbers and text."""
    if isinstance(column, list):
        return column
    return column.tolist() if hasattr(column, "tolist") else list(column)
