"""GPU readings as dcgm-exporter writes them: names, types, help texts, order of labels, formats of numbers.

Facts of the interface from NVIDIA/dcgm-exporter, ``etc/default-counters.csv``, ``dcp-metrics-included.csv``
and ``render_metrics.go``. Unlike it we escape label values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Literal

from fleetsim_collectors.catalogue import Family
from fleetsim_collectors.exposition import render_columns
from fleetsim_collectors.readings import Columns, plain
from fleetsim_collectors.xids import TEXTS

#: The host's label, by the switch: ``Hostname`` up to 4.8, ``hostname`` after; dashboards ask for either.
HOSTNAME_LABELS = {
    "Hostname": ("Hostname",),
    "hostname": ("hostname",),
    "both": ("Hostname", "hostname"),
    "none": (),
}

#: Labels that say who holds a GPU, by the switch; ``series`` is for a series of their own, ``ALLOCATION``.
ATTRIBUTION_LABELS = {
    "series": (),
    "none": (),
    "pod": ("container", "namespace", "pod"),
    "hpc_job": ("hpc_job",),
}

LABELS = {
    "gpu": "GPU in the node, from 0.",
    "UUID": "Identity of the GPU: `GPU-` and 32 hexadecimal digits.",
    "pci_bus_id": "Place on the PCI bus.",
    "device": "`nvidia` and the number of the GPU.",
    "modelName": "GPU model as the driver names it.",
    "Hostname": "Node. By the switch also, or instead, `hostname`, or none.",
    "DCGM_FI_DRIVER_VERSION": "Version of the driver; left out if unknown.",
    "err_code": "XID again, where its text is known (`DCGM_FI_DEV_XID_ERRORS` only).",
    "err_msg": "What the driver calls that XID.",
    "job_id": "Job, by number.",
    "tenant": "Who is charged for the job.",
    "container": "`main`, while a job holds the GPU (attribution `pod`).",
    "namespace": "Tenant of the job (attribution `pod`).",
    "pod": "`job-` and the number of the job (attribution `pod`).",
    "hpc_job": "Number of the job (attribution `hpc_job`).",
}

_GPU = ("gpu", "UUID", "pci_bus_id", "device", "modelName")
_IDENTITY = (*_GPU, "Hostname", "DCGM_FI_DRIVER_VERSION")


def _family(
    name: str,
    unit: str,
    help_: str,
    value: str,
    form: str = "%d",
    kind: Literal["gauge", "counter"] = "gauge",
    more: tuple[str, ...] = (),
) -> Family:
    labels = (*_IDENTITY, *more)
    return Family(f"DCGM_FI_{name}", unit, kind, help_, labels, "readings", value, form=form)


def _licence(_: int) -> int:
    """0: not licensed, as on every machine without vGPUs."""
    return 0


#: The families that dcgm-exporter has on by default.
DEFAULT = (
    _family("DEV_SM_CLOCK", "MHz", "SM clock frequency (in MHz).", "sm_clock_mhz"),
    _family("DEV_MEM_CLOCK", "MHz", "Memory clock frequency (in MHz).", "mem_clock_mhz"),
    _family("DEV_MEMORY_TEMP", "C", "Memory temperature (in C).", "mem_temp_c"),
    _family("DEV_GPU_TEMP", "C", "GPU temperature (in C).", "gpu_temp_c"),
    # the sensor counts milliwatts; what float32 adds beyond them is not written
    _family("DEV_POWER_USAGE", "W", "Power draw (in W).", "power_w", "%.3f000"),
    _family(
        "DEV_TOTAL_ENERGY_CONSUMPTION", "mJ", "Total energy consumption since boot (in mJ).",
        "energy_mj", kind="counter",
    ),
    _family(
        "DEV_PCIE_REPLAY_COUNTER", "retries", "Total number of PCIe retries.",
        "pcie_replays", kind="counter",
    ),
    _family("DEV_GPU_UTIL", "%", "GPU utilization (in %).", "gpu_util_pct"),
    _family("DEV_MEM_COPY_UTIL", "%", "Memory utilization (in %).", "mem_copy_util_pct"),
    _family("DEV_ENC_UTIL", "%", "Encoder utilization (in %).", "enc_util_pct"),
    _family("DEV_DEC_UTIL", "%", "Decoder utilization (in %).", "dec_util_pct"),
    _family(
        "DEV_XID_ERRORS", "XID", "Value of the last XID error encountered.",
        "xid", more=("err_code", "err_msg"),
    ),
    _family("DEV_FB_FREE", "MiB", "Framebuffer memory free (in MiB).", "fb_free_mib"),
    _family("DEV_FB_USED", "MiB", "Framebuffer memory used (in MiB).", "fb_used_mib"),
    _family("DEV_FB_RESERVED", "MiB", "Framebuffer memory reserved (in MiB).", "fb_reserved_mib"),
    _family(
        "DEV_UNCORRECTABLE_REMAPPED_ROWS", "rows", "Number of remapped rows for uncorrectable errors",
        "uncorrectable_remapped_rows", kind="counter",
    ),
    _family(
        "DEV_CORRECTABLE_REMAPPED_ROWS", "rows", "Number of remapped rows for correctable errors",
        "correctable_remapped_rows", kind="counter",
    ),
    _family(
        "DEV_ROW_REMAP_FAILURE", "0 or 1", "Whether remapping of rows has failed", "row_remap_failure",
    ),
    _family(
        "DEV_NVLINK_BANDWIDTH_TOTAL", "B", "Total number of NVLink bandwidth counters for all lanes.",
        "nvlink_bytes", kind="counter",
    ),
    replace(_family("DEV_VGPU_LICENSE_STATUS", "state", "vGPU License status", "gpu"), of=_licence),
    _family(
        "PROF_GR_ENGINE_ACTIVE", "ratio", "Ratio of time the graphics engine is active.",
        "gr_engine_active", "%f",
    ),
    _family(
        "PROF_PIPE_TENSOR_ACTIVE", "ratio", "Ratio of cycles the tensor (HMMA) pipe is active.",
        "tensor_active", "%f",
    ),
    _family(
        "PROF_DRAM_ACTIVE", "ratio",
        "Ratio of cycles the device memory interface is active sending or receiving data.",
        "dram_active", "%f",
    ),
    _family(
        "PROF_PCIE_TX_BYTES", "B/s",
        "The rate of data transmitted over the PCIe bus - including both protocol headers and data payloads "
        "- in bytes per second.", "pcie_tx_bytes_s",
    ),
    _family(
        "PROF_PCIE_RX_BYTES", "B/s",
        "The rate of data received over the PCIe bus - including both protocol headers and data payloads "
        "- in bytes per second.", "pcie_rx_bytes_s",
    ),
)  # fmt: skip

#: Off by default there, yet what operators want to see: always on here.
EXTRA = (
    _family(
        "PROF_SM_ACTIVE", "ratio", "The ratio of cycles an SM has at least 1 warp assigned.",
        "sm_active", "%f",
    ),
    _family(
        "PROF_SM_OCCUPANCY", "ratio", "The ratio of number of warps resident on an SM.",
        "sm_occupancy", "%f",
    ),
)  # fmt: skip

#: Off by default there and here.
OPTIONAL = (
    _family(
        "DEV_ECC_SBE_AGG_TOTAL", "errors", "Total number of single-bit persistent ECC errors.",
        "ecc_sbe_total", kind="counter",
    ),
    _family(
        "DEV_ECC_DBE_AGG_TOTAL", "errors", "Total number of double-bit persistent ECC errors.",
        "ecc_dbe_total", kind="counter",
    ),
    _family(
        "PROF_PIPE_FP64_ACTIVE", "ratio", "Ratio of cycles the fp64 pipes are active.", "fp64_active", "%f",
    ),
    _family(
        "PROF_PIPE_FP32_ACTIVE", "ratio", "Ratio of cycles the fp32 pipes are active.", "fp32_active", "%f",
    ),
    _family(
        "PROF_PIPE_FP16_ACTIVE", "ratio", "Ratio of cycles the fp16 pipes are active.", "fp16_active", "%f",
    ),
)  # fmt: skip


def _one(_: int) -> int:
    return 1


#: Who holds which GPU. Apart from the hardware's series, so that those do not change their labels with jobs.
ALLOCATION = Family(
    "fleetsim_gpu_allocation", "1", "gauge",
    "Always 1, for each GPU that a job holds; the labels say which job and who is charged.",
    ("gpu", "UUID", "Hostname", "job_id", "tenant"), "readings", "job", of=_one, form="%d",
)  # fmt: skip

_MOMENT = "Counts time or events; a reading is one moment."

#: Families of dcgm-exporter that are not here, and why.
LEFT_OUT = {
    "DCGM_FI_DEV_{POWER,THERMAL,SYNC_BOOST,BOARD_LIMIT,LOW_UTIL,RELIABILITY}_VIOLATION": _MOMENT,
    "DCGM_EXP_{CLOCK_EVENTS,XID_ERRORS}_COUNT": _MOMENT,
    "DCGM_FI_DEV_ECC_{SBE,DBE}_VOL_TOTAL": "A reading has the errors of the whole life only.",
    "DCGM_FI_DEV_RETIRED_{SBE,DBE,PENDING}": "A reading has no retired pages; newer GPUs remap rows instead.",
    "DCGM_FI_DEV_NVLINK_*_ERROR_COUNT_TOTAL": "A reading has no errors of links.",
    "DCGM_FI_DEV_NVLINK_BANDWIDTH_L0": "A reading has no single links.",
    "DCGM_EXP_GPU_HEALTH_STATUS, DCGM_EXP_P2P_STATUS": "Judgements of DCGM, not readings.",
    "GPU_I_PROFILE, GPU_I_ID (labels of MIG)": "A reading is of a whole GPU.",
}


@lru_cache
def families(
    hostname_label: str = "Hostname", attribution: str = "series", optional: bool = False
) -> tuple[Family, ...]:
    """The families of a page with these switches, their labels in the order of dcgm-exporter.

    Raises ``ValueError`` for a switch that is not in ``HOSTNAME_LABELS`` or ``ATTRIBUTION_LABELS``.
    """
    for value, known in ((hostname_label, HOSTNAME_LABELS), (attribution, ATTRIBUTION_LABELS)):
        if value not in known:
            raise ValueError(f"{value!r} is none of {', '.join(known)}")
    host, holder = HOSTNAME_LABELS[hostname_label], ATTRIBUTION_LABELS[attribution]
    made = []
    for family in (*DEFAULT, *EXTRA, *(OPTIONAL if optional else ())):
        attributes = sorted((*holder, *family.labels[len(_IDENTITY) :]))
        made.append(replace(family, labels=(*_GPU, *host, "DCGM_FI_DRIVER_VERSION", *attributes)))
    if attribution == "series":
        made.append(replace(ALLOCATION, labels=("gpu", "UUID", *host, "job_id", "tenant")))
    return tuple(made)


def page(
    readings: Columns,
    hostname_label: str = "Hostname",
    attribution: str = "series",
    optional: bool = False,
) -> Iterator[str]:
    """The page of *readings*, of one node or of many, a family at a time.

    *attribution* says where jobs are shown (see ``ATTRIBUTION_LABELS``), *optional* adds ``OPTIONAL``. What a
    reading does not have is left out. Raises ``ValueError`` as :func:`families` does, and for a GPU given
    twice.
    """
    return render_columns(families(hostname_label, attribution, optional), {"readings": table(readings)})


def table(readings: Columns) -> Columns:
    """*readings* with a column for every label and value of :func:`families`."""
    gpus, xids = plain(readings["gpu"]), plain(readings["xid"])
    jobs = [None if job is None or job != job else int(job) for job in plain(readings["job"])]
    return {
        **readings,
        "gpu": gpus,
        "job": jobs,
        "UUID": readings["uuid"],
        "device": [f"nvidia{gpu}" for gpu in gpus],
        "modelName": readings["model_name"],
        "Hostname": readings["hostname"],
        "DCGM_FI_DRIVER_VERSION": readings["driver_version"],
        "err_code": [int(xid) if xid in TEXTS else None for xid in xids],
        "err_msg": [TEXTS.get(xid) for xid in xids],
        "job_id": jobs,
        "hpc_job": jobs,
        "container": [None if job is None else "main" for job in jobs],
        "namespace": readings["tenant"],
        "pod": [None if job is None else f"job-{job}" for job in jobs],
    }
