"""What the dashboards of others ask for is in the catalogue, or is named with the reason why not."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from fleetsim_collectors import dcgm, nvidia_smi
from fleetsim_collectors.reference import markdown

ROOT = Path(__file__).parents[2]
METRICS = ROOT / "collectors" / "METRICS.md"

#: Labels that the scrape adds, and those of the dashboards' own variables.
TARGET = {"instance", "job"}

LABELS = {
    family.name: set(family.labels)
    for family in (*dcgm.families(optional=True), *nvidia_smi.families(assumed=True, xids=True))
}

#: Names that dashboards 25547 and 14574 of nvidia_gpu_exporter use; of 25547 there is no file here.
OVERVIEW = """
    index utilization_gpu_ratio utilization_memory_ratio memory_used_bytes memory_total_bytes power_draw_watts
    enforced_power_limit_watts power_limit_watts power_default_limit_watts temperature_gpu fan_speed_ratio
    clocks_current_graphics_clock_hz clocks_current_sm_clock_hz clocks_current_memory_clock_hz
    clocks_current_video_clock_hz clocks_max_graphics_clock_hz clocks_max_memory_clock_hz pstate compute_mode
    gpu_recovery_action fabric_state clocks_event_reasons_gpu_idle clocks_event_reasons_sw_power_cap
    clocks_event_reasons_sw_thermal_slowdown clocks_event_reasons_hw_thermal_slowdown
    clocks_event_reasons_hw_power_brake_slowdown clocks_event_reasons_applications_clocks_setting
    clocks_event_reasons_sync_boost clocks_throttle_reasons_gpu_idle ecc_errors_uncorrected_aggregate_total
    energy_joules_total pcie_throughput_tx_bytes_per_second pcie_throughput_rx_bytes_per_second
    xid_errors_total xid_last_timestamp_seconds compute_app_info compute_app_used_memory_bytes
    compute_apps_last_collect_success mig_info mig_memory_used_bytes mig_sm_activity_ratio
    mig_tensor_activity_ratio last_collect_success last_collect_duration_seconds failed_scrapes_total
    command_exit_code gpu_info
"""


def expressions(part: Any) -> Iterator[str]:
    """Every text in a dashboard that Prometheus is asked."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key in ("expr", "query", "definition") and isinstance(value, str):
                yield value
            yield from expressions(value)
    elif isinstance(part, list):
        for value in part:
            yield from expressions(value)


def left_out(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in nvidia_smi.LEFT_OUT)


@pytest.fixture
def dashboards() -> Path:
    """Third-party dashboards (``FLEETSIM_DASHBOARDS``); the test skips where there are none."""
    path = Path(os.environ.get("FLEETSIM_DASHBOARDS", ROOT.parent / "shared" / "dashboards"))
    if not path.is_dir():
        pytest.skip(f"no dashboards at {path}; set FLEETSIM_DASHBOARDS")
    return path


@pytest.mark.parametrize(
    ("file", "asked"), [("nvidia-dcgm-exporter-12239.json", 6), ("nvidia-gpu-exporter-14574.json", 51)]
)
def test_dashboards_find_what_they_ask_for(dashboards: Path, file: str, asked: int) -> None:
    texts = list(expressions(json.loads((dashboards / file).read_text("utf-8"))))
    names = {name for text in texts for name in re.findall(r"(?:DCGM_FI|nvidia_smi)_\w+", text)}
    assert len(names) == asked
    for name in names:
        if name.endswith("_"):  # {__name__=~"..._.+"}
            assert any(known.startswith(name) for known in LABELS)
        else:
            assert (name in LABELS) != left_out(name), name
    for text in texts:
        for name, matchers in re.findall(r"(\w+)\{([^}]*)\}", text):
            labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) - TARGET
            assert name not in LABELS or labels <= LABELS[name], text


def test_names_of_the_overview_are_there_or_explained() -> None:
    missing = [name for name in OVERVIEW.split() if f"nvidia_smi_{name}" not in LABELS]
    assert all(left_out(f"nvidia_smi_{name}") for name in missing)
    assert len(missing) == 9


def test_golden_reference_page(request: pytest.FixtureRequest) -> None:
    text = markdown()
    if request.config.getoption("--update-golden"):
        METRICS.write_text(text, "utf-8")
    assert METRICS.read_text("utf-8") == text, "out of date: run pytest with --update-golden"
    for family in (*LABELS, *nvidia_smi.LEFT_OUT, *dcgm.LEFT_OUT):
        assert f"| `{family}` |" in text
