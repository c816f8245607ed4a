"""Readings to publish: GPUs as recorded on real nodes, and pages read back."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from fleetsim_collectors.readings import COLUMNS

#: An H100 under gpu_burn, as nvidia_gpu_exporter recorded it (its testdata, driver 590.48.01), with the name
#: that dcgm-exporter#490 shows. What the recordings do not show is made up.
H100: dict[str, Any] = {
    "time_s": 0.0,
    "node": 0,
    "gpu": 0,
    "hostname": "computeinstance-e00c1p6dpy98xytphp",
    "uuid": "GPU-8b2281de-6d3c-22ed-0ec8-d3b864870b8b",
    "pci_bus_id": "00000000:8D:00.0",
    "gpu_model": "h100-sxm-80",
    "model_name": "NVIDIA H100 80GB HBM3",
    "driver_version": "550.144.03",
    "gpu_util_pct": 100,
    "mem_copy_util_pct": 11,
    "enc_util_pct": 0,
    "dec_util_pct": 0,
    "gr_engine_active": 0.984375,
    "sm_active": 0.75,
    "sm_occupancy": 0.25,
    "tensor_active": 0.5,
    "dram_active": 0.125,
    "fp64_active": 0.0,
    "fp32_active": 0.03125,
    "fp16_active": 0.0625,
    "fb_total_mib": 81559,
    "fb_used_mib": 19818,
    "fb_free_mib": 61262,
    "fb_reserved_mib": 479,
    "sm_clock_mhz": 1980,
    "mem_clock_mhz": 2619,
    "sm_clock_max_mhz": 1980,
    "gpu_temp_c": 59,
    "mem_temp_c": 54,
    "power_w": 631.9500122070312,  # 631.95 as float32
    "power_limit_w": 700.0,
    "energy_mj": 123_456_789,
    "pcie_tx_bytes_s": 1_000_000,
    "pcie_rx_bytes_s": 2_000_000,
    "pcie_replays": 0,
    "nvlink_bytes": 10**15,
    "throttle_reasons": 0,
    "xid": 0,
    "uncorrectable_remapped_rows": 0,
    "correctable_remapped_rows": 0,
    "row_remap_failure": 0,
    "ecc_dbe_total": 0,
    "ecc_sbe_total": 2,
    "pstate": 0,
    "processes": 1,
    "job": 42,
    "tenant": "lab",
}

#: The second GPU of the node: free, power capped, after an XID, with nothing that only newer drivers tell.
BARE: dict[str, Any] = {
    **{column.name: None for column in COLUMNS},
    **{name: H100[name] for name in ("time_s", "node", "hostname", "model_name", "driver_version")},
    "gpu": 1,
    "uuid": "GPU-15338f3e-5fd9-962d-921a-979b820520f0",
    "pci_bus_id": "00000000:91:00.0",
    "gpu_util_pct": 0,
    "power_w": 69.875,
    "throttle_reasons": 0x4,
    "xid": 79,
    "processes": 0,
}

Scraped = dict[tuple[str, frozenset[tuple[str, str]]], float]


def columns(*gpus: dict[str, Any]) -> dict[str, list[Any]]:
    """Readings of *gpus* as columns."""
    return {column.name: [gpu[column.name] for gpu in gpus] for column in COLUMNS}


def scrape(page: Iterable[str]) -> Scraped:
    """Values by name and labels, as Prometheus would have them."""
    text = "".join(page)
    named = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
    found = [s for family in text_string_to_metric_families(text) for s in family.samples]
    # the parser adds _total to counters that have none
    names = [s.name if s.name in named else s.name.removesuffix("_total") for s in found]
    read = {(n, frozenset(s.labels.items())): s.value for n, s in zip(names, found, strict=True)}
    assert len(read) == len(found), "a series is there twice"
    return read


def lines(page: Iterable[str], name: str) -> list[str]:
    """Sample lines of the family *name*, as they stand."""
    return [line for line in "".join(page).splitlines() if line.startswith((f"{name}{{", f"{name} "))]
