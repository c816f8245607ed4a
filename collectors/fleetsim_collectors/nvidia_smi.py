"""GPU readings as nvidia_gpu_exporter writes them: ``nvidia_smi_*`` in base units, joined by ``uuid``.

Facts of the interface from utkuozdemir/nvidia_gpu_exporter, ``docs/METRICS.md`` and its recorded pages (NVML
backend). Labels and families are in alphabetical order, numbers as Go writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Literal

from fleetsim_collectors.catalogue import Family
from fleetsim_collectors.exposition import render_columns
from fleetsim_collectors.readings import THROTTLE_BITS, Columns, plain
from fleetsim_collectors.xids import XidLog, recovery_action

LABELS = {
    "uuid": "Identity of the GPU, without `GPU-`.",
    "index": "GPU in the node, from 0.",
    "name": "GPU model as the driver names it.",
    "driver_version": "Version of the driver.",
    "pci_bus_id": "Place on the PCI bus.",
    "compute_cap": "`[N/A]`, as nvidia-smi writes what it does not know: not in a reading.",
    "driver_model_current": "`[N/A]`, as on every Linux.",
    "driver_model_pending": "`[N/A]`, as on every Linux.",
    "pci_sub_device_id": "`[N/A]`",
    "serial": "`[N/A]`",
    "vbios_version": "`[N/A]`",
    "cuda_version": "Left out, as there where it cannot be read.",
    "pid": "Number of the job.",
    "process_name": "`job-` and the number of the job.",
    "xid": "Code of the XID.",
}

#: Labels of ``gpu_info`` that no reading answers.
_UNKNOWN = (
    "compute_cap",
    "driver_model_current",
    "driver_model_pending",
    "pci_sub_device_id",
    "serial",
    "vbios_version",
)

_INFO = tuple(
    sorted((*_UNKNOWN, "cuda_version", "driver_version", "index", "name", "pci_bus_id", "uuid"))
)  # as Go's client sorts them

Number = Callable[[Any], float]


def _family(
    name: str,
    unit: str,
    help_: str,
    value: str,
    of: Number | None = None,
    kind: Literal["gauge", "counter"] = "gauge",
    labels: tuple[str, ...] = ("uuid",),
    source: str = "readings",
) -> Family:
    return Family(f"nvidia_smi_{name}", unit, kind, help_, labels, source, value, of=of)


def _hz(mhz: int) -> float:
    return mhz * 1e6


def _bytes(mib: float) -> float:
    return mib * 2**20


def _ratio(percent: int) -> float:
    return percent / 100


def _joules(millijoules: int) -> float:
    return millijoules / 1000


def _milliwatts(watts: float) -> float:
    """Watts to the milliwatt, which is what the sensor counts; float32 adds digits."""
    return round(watts, 3)


def _flag(bit: int) -> Number:
    return lambda mask: int(bool(int(mask) & bit))


def _always(value: int) -> Number:
    return lambda _: value


def _video_hz(mhz: int) -> float:
    """In proportion to the SMs, as on an H100 under load: 1545 of 1980 MHz, whole steps of 15 MHz."""
    return round(mhz * 1545 / 1980 / 15) * 15e6


#: What the readings say.
FAMILIES = (
    _family("clocks_current_graphics_clock_hz", "Hz", "clocks.current.graphics [MHz]", "sm_clock_mhz", _hz),
    _family("clocks_current_memory_clock_hz", "Hz", "clocks.current.memory [MHz]", "mem_clock_mhz", _hz),
    _family("clocks_current_sm_clock_hz", "Hz", "clocks.current.sm [MHz]", "sm_clock_mhz", _hz),
    _family("clocks_max_graphics_clock_hz", "Hz", "clocks.max.graphics [MHz]", "sm_clock_max_mhz", _hz),
    _family("clocks_max_sm_clock_hz", "Hz", "clocks.max.sm [MHz]", "sm_clock_max_mhz", _hz),
    _family("clocks_event_reasons_active", "mask", "clocks_event_reasons.active", "throttle_reasons"),
    *(
        _family(
            f"clocks_event_reasons_{name}", "0 or 1", f"clocks_event_reasons.{name}", "throttle_reasons",
            _flag(bit),
        )
        for name, bit in THROTTLE_BITS.items()
        if name != "display_clock_setting"  # only in the mask, there too
    ),
    _family(
        "compute_apps", "processes", "Number of processes with a compute context on the GPU.", "processes"
    ),
    _family(
        "ecc_errors_corrected_aggregate_total", "errors", "ecc.errors.corrected.aggregate.total",
        "ecc_sbe_total",
    ),
    _family(
        "ecc_errors_uncorrected_aggregate_total", "errors", "ecc.errors.uncorrected.aggregate.total",
        "ecc_dbe_total",
    ),
    _family(
        "energy_joules_total", "J",
        "Total energy consumed by the GPU in joules since the driver was last loaded. Resets on a driver "
        "reload; absent on GPUs that cannot report it.", "energy_mj", _joules, "counter",
    ),
    _family("enforced_power_limit_watts", "W", "enforced.power.limit [W]", "power_limit_w", _milliwatts),
    _family(
        "gpu_info", "1",
        "A metric with a constant '1' value labeled by gpu uuid, name, driver_model_current, "
        "driver_model_pending, vbios_version, driver_version, pci_bus_id, serial, compute_cap, "
        "pci_sub_device_id, index, cuda_version.", "gpu", _always(1), labels=_INFO,
    ),
    _family("index", "number", "index", "gpu"),
    _family("memory_free_bytes", "B", "memory.free [MiB]", "fb_free_mib", _bytes),
    _family("memory_reserved_bytes", "B", "memory.reserved [MiB]", "fb_reserved_mib", _bytes),
    _family("memory_total_bytes", "B", "memory.total [MiB]", "fb_total_mib", _bytes),
    _family("memory_used_bytes", "B", "memory.used [MiB]", "fb_used_mib", _bytes),
    _family(
        "pcie_throughput_rx_bytes_per_second", "B/s",
        "PCIe traffic received by the GPU, sampled by the driver over a dedicated 20ms window.",
        "pcie_rx_bytes_s",
    ),
    _family(
        "pcie_throughput_tx_bytes_per_second", "B/s",
        "PCIe traffic transmitted by the GPU, sampled by the driver over a dedicated 20ms window.",
        "pcie_tx_bytes_s",
    ),
    _family("power_draw_watts", "W", "power.draw [W]", "power_w", _milliwatts),
    _family("power_limit_watts", "W", "power.limit [W]", "power_limit_w", _milliwatts),
    _family("pstate", "state", "pstate", "pstate"),
    _family(
        "remapped_rows_correctable", "rows", "remapped_rows.correctable", "correctable_remapped_rows"
    ),
    _family("remapped_rows_failure", "0 or 1", "remapped_rows.failure", "row_remap_failure"),
    _family(
        "remapped_rows_uncorrectable", "rows", "remapped_rows.uncorrectable", "uncorrectable_remapped_rows"
    ),
    _family("temperature_gpu", "C", "temperature.gpu", "gpu_temp_c"),
    _family("temperature_memory", "C", "temperature.memory", "mem_temp_c"),
    _family("utilization_decoder_ratio", "ratio", "utilization.decoder [%]", "dec_util_pct", _ratio),
    _family("utilization_encoder_ratio", "ratio", "utilization.encoder [%]", "enc_util_pct", _ratio),
    _family("utilization_gpu_ratio", "ratio", "utilization.gpu [%]", "gpu_util_pct", _ratio),
    _family("utilization_memory_ratio", "ratio", "utilization.memory [%]", "mem_copy_util_pct", _ratio),
)  # fmt: skip

#: What no reading says, but the dashboards ask for: what a simulated GPU would answer.
ASSUMED = (
    _family(
        "clocks_current_video_clock_hz", "Hz", "clocks.current.video [MHz]", "sm_clock_mhz", _video_hz
    ),
    _family("clocks_max_memory_clock_hz", "Hz", "clocks.max.memory [MHz]", "mem_clock_mhz", _hz),
    _family(
        "compute_app_info", "1",
        "A metric with a constant '1' value labeled by the identity of a process with a compute context on a "
        "GPU.", "job", _always(1), labels=("pid", "process_name", "uuid"),
    ),
    _family(
        "compute_app_used_memory_bytes", "B",
        "GPU memory used by the process. Absent when the driver cannot report it (e.g. Windows WDDM).",
        "job_memory_mib", _bytes, labels=("pid", "process_name", "uuid"),
    ),
    _family("compute_mode", "state", "compute_mode", "gpu", _always(0)),
    _family("fabric_state", "state", "fabric.state", "nvlink_bytes", _always(3)),
    _family("gpu_recovery_action", "action", "gpu_recovery_action", "xid", recovery_action),
)  # fmt: skip

#: How each of ``ASSUMED`` is come by.
ASSUMPTIONS = {
    "nvidia_smi_clocks_current_video_clock_hz": "The SM clock x 1545 / 1980, as on an H100 under load.",
    "nvidia_smi_clocks_max_memory_clock_hz": "The memory clock of the moment; HBM has only one.",
    "nvidia_smi_compute_app_info": "One process a GPU that a job holds, with the number of the job.",
    "nvidia_smi_compute_app_used_memory_bytes": "All used memory of the GPU, for that process.",
    "nvidia_smi_compute_mode": "0, the driver's default: several processes may share a GPU.",
    "nvidia_smi_fabric_state": "3, completed, where there is NVLink.",
    "nvidia_smi_gpu_recovery_action": "After XID 79 2; after 48, 62, 64, 74, 95, 119, 120 1; else 0.",
}

#: XIDs as events, from a :class:`XidLog`.
XID_FAMILIES = (
    _family(
        "xid_errors_total", "errors",
        "Number of XID errors observed on the GPU since the exporter started. A series appears when its "
        "first event arrives; earlier history cannot be replayed.", "events", kind="counter",
        labels=("uuid", "xid"), source="xids",
    ),
    _family(
        "xid_last_timestamp_seconds", "s", "Unix time at which the last XID of this code was seen.", "last_s",
        labels=("uuid", "xid"), source="xids",
    ),
)  # fmt: skip

#: The exporter's own health: it is what answers, so it is well.
HEALTH = (
    _family(
        "compute_apps_last_collect_success", "0 or 1",
        "Whether the most recent per-process collection succeeded (1) or not (0)", "one",
        labels=(), source="exporter",
    ),
    _family(
        "failed_scrapes_total", "collections", "Number of failed collections", "zero", kind="counter",
        labels=(), source="exporter",
    ),
    _family(
        "last_collect_success", "0 or 1",
        "Whether the most recent collection succeeded (1) or not (0)", "one", labels=(), source="exporter",
    ),
    _family(
        "nvml_return_code", "code", "NVML return code of the most recent collection (0 = success)", "zero",
        labels=(), source="exporter",
    ),
)  # fmt: skip

#: Families that dashboards 14574 and 25547 ask for and that are not here, and why.
LEFT_OUT = {
    "nvidia_smi_fan_speed_ratio": "A reading has none: GPUs of servers have no fans of their own.",
    "nvidia_smi_power_default_limit_watts": "A reading has the limit in force, which the dashboards prefer.",
    "nvidia_smi_clocks_throttle_reasons_*": "Older names of clocks_event_reasons_*; dashboards take either.",
    "nvidia_smi_mig_*": "A reading is of a whole GPU.",
    "nvidia_smi_last_collect_duration_seconds": "Nothing is collected.",
    "nvidia_smi_command_exit_code": "The NVML backend has nvml_return_code instead.",
}


@lru_cache
def families(assumed: bool = True, xids: bool = False) -> tuple[Family, ...]:
    """The families of a page, by name: with ``ASSUMED`` or without, with ``XID_FAMILIES`` or without."""
    chosen = (*FAMILIES, *HEALTH, *(ASSUMED if assumed else ()), *(XID_FAMILIES if xids else ()))
    return tuple(sorted(chosen, key=lambda family: family.name))


def page(readings: Columns, assumed: bool = True, xids: XidLog | None = None) -> Iterator[str]:
    """The page of *readings*, a family at a time; *assumed* adds ``ASSUMED``, *xids* the events it has seen.

    What a reading does not have is left out. Raises ``ValueError`` for a GPU given twice.
    """
    tables: dict[str, Columns] = {"readings": table(readings), "exporter": {"one": [1], "zero": [0]}}
    if xids:
        events = xids.columns()
        tables["xids"] = {**events, "uuid": _bare(events["uuid"])}
    return render_columns(families(assumed, xids is not None), tables)


def table(readings: Columns) -> Columns:
    """*readings* with a column for every label and value of the families whose source they are."""
    gpus = plain(readings["gpu"])
    jobs = [None if job is None or job != job else int(job) for job in plain(readings["job"])]
    used = zip(jobs, plain(readings["fb_used_mib"]), strict=True)
    return {
        **readings,
        **{label: ["[N/A]"] * len(gpus) for label in _UNKNOWN},
        "cuda_version": [None] * len(gpus),
        "uuid": _bare(readings["uuid"]),
        "name": readings["model_name"],
        "index": gpus,
        "job": jobs,
        "pid": jobs,
        "process_name": [None if job is None else f"job-{job}" for job in jobs],
        "job_memory_mib": [None if job is None else mib for job, mib in used],
    }


def _bare(uuids: Any) -> list[str]:
    return [uuid.removeprefix("GPU-") for uuid in plain(uuids)]
