"""The page is nvidia_gpu_exporter's: recorded rows come out of the same GPU, in base units."""

from __future__ import annotations

import pytest

from fleetsim_collectors import nvidia_smi
from fleetsim_collectors.readings import THROTTLE_BITS
from fleetsim_collectors.xids import BOOT, RESET, TEXTS, XidLog, recovery_action

from .gpus import BARE, H100, columns, lines, scrape

UUID = "8b2281de-6d3c-22ed-0ec8-d3b864870b8b"
NODE = columns(H100, BARE)

#: Recorded of an H100 under gpu_burn (testdata of the exporter, driver 590.48.01).
RECORDED = """
clocks_current_graphics_clock_hz 1.98e+09
clocks_current_memory_clock_hz 2.619e+09
clocks_current_sm_clock_hz 1.98e+09
clocks_current_video_clock_hz 1.545e+09
clocks_event_reasons_active 0
clocks_event_reasons_gpu_idle 0
clocks_event_reasons_sw_power_cap 0
clocks_max_graphics_clock_hz 1.98e+09
clocks_max_memory_clock_hz 2.619e+09
compute_mode 0
enforced_power_limit_watts 700
fabric_state 3
gpu_recovery_action 0
index 0
memory_reserved_bytes 5.02267904e+08
memory_total_bytes 8.5520809984e+10
memory_used_bytes 2.0780679168e+10
power_draw_watts 631.95
power_limit_watts 700
pstate 0
remapped_rows_failure 0
temperature_gpu 59
temperature_memory 54
utilization_gpu_ratio 1
utilization_memory_ratio 0.11
"""


def test_rows_as_recorded() -> None:
    page = list(nvidia_smi.page(NODE))
    for row in RECORDED.split("\n")[1:-1]:
        name, value = row.split()
        assert lines(page, f"nvidia_smi_{name}")[0] == f'nvidia_smi_{name}{{uuid="{UUID}"}} {value}'
    assert "".join(page).startswith(
        "# HELP nvidia_smi_clocks_current_graphics_clock_hz clocks.current.graphics [MHz]\n"
        "# TYPE nvidia_smi_clocks_current_graphics_clock_hz gauge\n"
    )
    assert lines(page, "nvidia_smi_gpu_info")[0] == (
        'nvidia_smi_gpu_info{compute_cap="[N/A]",driver_model_current="[N/A]",driver_model_pending="[N/A]",'
        'driver_version="550.144.03",index="0",name="NVIDIA H100 80GB HBM3",pci_bus_id="00000000:8D:00.0",'
        f'pci_sub_device_id="[N/A]",serial="[N/A]",uuid="{UUID}",vbios_version="[N/A]"}} 1'
    )
    # 123,456,789 mJ
    assert lines(page, "nvidia_smi_energy_joules_total")[0].endswith("} 123456.789")


def test_families_are_sound() -> None:
    every = nvidia_smi.families(assumed=True, xids=True)
    assert [f.name for f in every] == sorted({f.name for f in every})
    assert all(f.name.startswith("nvidia_smi_") and f.labels == tuple(sorted(f.labels)) for f in every)
    counters = {f.name.removeprefix("nvidia_smi_") for f in every if f.kind == "counter"}
    assert counters == {"energy_joules_total", "failed_scrapes_total", "xid_errors_total"}
    assert {label for f in every for label in f.labels} == set(nvidia_smi.LABELS)
    assert set(nvidia_smi.ASSUMPTIONS) == {f.name for f in nvidia_smi.ASSUMED}
    assert not {f.name for f in every} & set(nvidia_smi.LEFT_OUT)


def test_values_come_back_through_the_parser() -> None:
    back = scrape(nvidia_smi.page(NODE))
    shown = 0
    for family in nvidia_smi.families():
        if family.source == "exporter":
            assert back[family.name, frozenset()] == float(family.value == "one")
            shown += 1
            continue
        for reading in (H100, BARE):
            bare = ("uuid", reading["uuid"].removeprefix("GPU-"))
            values = [v for (name, labels), v in back.items() if name == family.name and bare in labels]
            value = reading["fb_used_mib" if family.value == "job_memory_mib" else family.value]
            expected = [] if value is None else [family.of(value) if family.of else value]
            assert values == expected, family.name
            shown += len(expected)
    assert shown == len(back)


@pytest.mark.parametrize(("name", "bit"), list(THROTTLE_BITS.items())[:-1])
def test_each_bit_is_a_flag(name: str, bit: int) -> None:
    page = list(nvidia_smi.page(columns({**H100, "throttle_reasons": bit})))
    flags = {n: lines(page, f"nvidia_smi_clocks_event_reasons_{n}")[0][-1] for n in list(THROTTLE_BITS)[:-1]}
    assert flags == {n: str(int(n == name)) for n in flags}
    assert lines(page, "nvidia_smi_clocks_event_reasons_active")[0].endswith(f"}} {bit}")


def test_processes_are_those_of_the_job() -> None:
    page = list(nvidia_smi.page(NODE))
    assert lines(page, "nvidia_smi_compute_app_used_memory_bytes") == [
        f'nvidia_smi_compute_app_used_memory_bytes{{pid="42",process_name="job-42",uuid="{UUID}"}} '
        "2.0780679168e+10"  # 19,818 MiB
    ]
    assert [line[-1] for line in lines(page, "nvidia_smi_compute_apps")] == ["1", "0"]


def test_without_assumptions_only_readings_are_shown() -> None:
    names = {name for name, _ in scrape(nvidia_smi.page(NODE, assumed=False))}
    assert not names & set(nvidia_smi.ASSUMPTIONS)
    assert names == {f.name for f in (*nvidia_smi.FAMILIES, *nvidia_smi.HEALTH)}


def test_recovery_actions() -> None:
    assert [recovery_action(xid) for xid in (0, 31, 43, 63, 94, 48, 119, 79)] == [0, 0, 0, 0, 0, 1, 1, 2]
    # the class that the exporter's own alert takes
    assert {48, 62, 64, 74, 79, 95, 119, 120} == RESET | BOOT <= set(TEXTS)


def test_xids_are_counted_as_events() -> None:
    log = XidLog()
    assert not lines(nvidia_smi.page(NODE, xids=log), "nvidia_smi_xid_errors_total")
    for step, xid in enumerate((0, 31, 31, 79, None, 79, 0, 79)):
        log.observe(columns({**H100, "xid": xid}), 1.7e9 + 10 * step)
    page = list(nvidia_smi.page(NODE, xids=log))
    assert lines(page, "nvidia_smi_xid_errors_total") == [
        f'nvidia_smi_xid_errors_total{{uuid="{UUID}",xid="31"}} 1',
        f'nvidia_smi_xid_errors_total{{uuid="{UUID}",xid="79"}} 2',  # again after the boot
    ]
    assert lines(page, "nvidia_smi_xid_last_timestamp_seconds") == [
        f'nvidia_smi_xid_last_timestamp_seconds{{uuid="{UUID}",xid="31"}} 1.70000001e+09',
        f'nvidia_smi_xid_last_timestamp_seconds{{uuid="{UUID}",xid="79"}} 1.70000007e+09',
    ]
