"""The page is dcgm-exporter's to the letter: published rows, order of labels, formats, what is absent."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetsim_collectors import dcgm
from fleetsim_collectors.catalogue import Family
from fleetsim_collectors.readings import COLUMNS

from .gpus import BARE, H100, columns, lines, scrape

GOLDEN = Path(__file__).parent / "golden" / "dcgm.prom"
NODE = columns(H100, BARE)
FREE = {**H100, "job": None, "tenant": None}

#: What default-counters.csv turns on, without the driver's version, which is a label.
DEFAULT = """
    DEV_SM_CLOCK DEV_MEM_CLOCK DEV_MEMORY_TEMP DEV_GPU_TEMP DEV_POWER_USAGE DEV_TOTAL_ENERGY_CONSUMPTION
    DEV_PCIE_REPLAY_COUNTER DEV_GPU_UTIL DEV_MEM_COPY_UTIL DEV_ENC_UTIL DEV_DEC_UTIL DEV_XID_ERRORS
    DEV_FB_FREE DEV_FB_USED DEV_FB_RESERVED DEV_NVLINK_BANDWIDTH_TOTAL DEV_VGPU_LICENSE_STATUS
    DEV_UNCORRECTABLE_REMAPPED_ROWS DEV_CORRECTABLE_REMAPPED_ROWS DEV_ROW_REMAP_FAILURE PROF_GR_ENGINE_ACTIVE
    PROF_PIPE_TENSOR_ACTIVE PROF_DRAM_ACTIVE PROF_PCIE_TX_BYTES PROF_PCIE_RX_BYTES
"""
COUNTERS = {
    f"DCGM_FI_DEV_{name}"
    for name in (
        "TOTAL_ENERGY_CONSUMPTION", "PCIE_REPLAY_COUNTER", "NVLINK_BANDWIDTH_TOTAL",
        "UNCORRECTABLE_REMAPPED_ROWS", "CORRECTABLE_REMAPPED_ROWS", "ECC_SBE_AGG_TOTAL", "ECC_DBE_AGG_TOTAL",
    )
}  # fmt: skip


def test_families_are_those_of_the_exporter() -> None:
    names = [f.name.removeprefix("DCGM_FI_") for f in dcgm.DEFAULT]
    assert sorted(names) == sorted(DEFAULT.split()) and len(names) == 25
    assert [f.name for f in dcgm.EXTRA] == ["DCGM_FI_PROF_SM_ACTIVE", "DCGM_FI_PROF_SM_OCCUPANCY"]
    every = dcgm.families(optional=True)
    assert len({f.name for f in every}) == len(every) == 25 + 2 + 5 + 1
    assert {f.name for f in every if f.kind == "counter"} == COUNTERS
    known = {column.name for column in COLUMNS}
    assert {f.value for f in every} <= known
    labels = {label for f in every for label in f.labels}
    labels |= {label for values in dcgm.ATTRIBUTION_LABELS.values() for label in values}
    assert labels == set(dcgm.LABELS)


def test_golden_page_of_a_node(request: pytest.FixtureRequest) -> None:
    text = "".join(dcgm.page(NODE, optional=True))
    if request.config.getoption("--update-golden"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text, "utf-8")
    assert GOLDEN.read_text("utf-8") == text, "out of date: run pytest with --update-golden"


def test_rows_as_published() -> None:
    """Rows of dcgm-exporter#490, and the row of an XID as a Kubernetes conformance report shows it."""
    idle = {**FREE, "gpu_util_pct": 0}
    identity = (
        '{gpu="0",UUID="GPU-8b2281de-6d3c-22ed-0ec8-d3b864870b8b",pci_bus_id="00000000:8D:00.0",'
        'device="nvidia0",modelName="NVIDIA H100 80GB HBM3",'
        'Hostname="computeinstance-e00c1p6dpy98xytphp",DCGM_FI_DRIVER_VERSION="550.144.03"'
    )
    text = "".join(dcgm.page(columns(idle)))
    assert (
        "# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).\n"
        "# TYPE DCGM_FI_DEV_GPU_UTIL gauge\n"
        f"DCGM_FI_DEV_GPU_UTIL{identity}}} 0\n"
    ) in text
    assert f"DCGM_FI_DEV_POWER_USAGE{identity}}} 631.950000\n" in text
    assert f'DCGM_FI_DEV_XID_ERRORS{identity},err_code="0",err_msg="No Error"}} 0\n' in text
    assert f"DCGM_FI_PROF_GR_ENGINE_ACTIVE{identity}}} 0.984375\n" in text
    assert f"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{identity}}} 123456789\n" in text


def test_a_family_comes_once_with_help_and_type() -> None:
    text = "".join(dcgm.page(columns(*({**H100, "gpu": i, "uuid": f"GPU-{i}"} for i in range(8)))))
    heads = [line for line in text.splitlines() if line.startswith("#")]
    families = [f.name for f in dcgm.families()]
    assert [line.split(" ")[1:3] for line in heads] == [
        [word, name] for name in families for word in ("HELP", "TYPE")
    ]
    rows = [line.partition("{")[0] for line in text.splitlines() if not line.startswith("#")]
    assert [(name, len(list(group))) for name, group in groupby(rows)] == [(name, 8) for name in families]


def test_values_come_back_through_the_parser() -> None:
    back = scrape(dcgm.page(NODE, optional=True))
    shown = 0
    for family in dcgm.families(optional=True):
        for reading in (H100, BARE):
            this = ("UUID", reading["uuid"])
            values = [v for (name, labels), v in back.items() if name == family.name and this in labels]
            if reading[family.value] is None:
                assert values == [], "absent is not zero"
                continue
            wanted = family.of(reading[family.value]) if family.of else reading[family.value]
            assert values == [pytest.approx(wanted, abs=6e-4 if family.unit == "W" else 6e-7)]
            shown += 1
    assert shown == len(back) == 33 + 4  # of the second GPU: utilisation, power, XID, licence


def test_families_of_no_gpu_are_not_mentioned() -> None:
    assert "FB_USED" not in "".join(dcgm.page(columns(BARE)))
    assert "".join(dcgm.page(columns())) == ""


@pytest.mark.parametrize(
    ("switch", "labels"),
    [
        ("Hostname", 'Hostname="computeinstance-e00c1p6dpy98xytphp",'),
        ("hostname", 'hostname="computeinstance-e00c1p6dpy98xytphp",'),
        (
            "both",
            'Hostname="computeinstance-e00c1p6dpy98xytphp",hostname="computeinstance-e00c1p6dpy98xytphp",',
        ),
        ("none", ""),
    ],
)
def test_host_label_by_switch(switch: str, labels: str) -> None:
    page = list(dcgm.page(NODE, hostname_label=switch))
    row = lines(page, "DCGM_FI_DEV_GPU_TEMP")[0]
    assert f'modelName="NVIDIA H100 80GB HBM3",{labels}DCGM_FI_DRIVER_VERSION=' in row
    (info,) = lines(page, "fleetsim_gpu_allocation")
    assert f'UUID="GPU-8b2281de-6d3c-22ed-0ec8-d3b864870b8b",{labels}job_id="42",tenant="lab"}} 1' in info


@pytest.mark.parametrize(
    ("switch", "held", "xid"),
    [
        ("none", "", ',err_code="0",err_msg="No Error"'),
        ("hpc_job", ',hpc_job="42"', ',err_code="0",err_msg="No Error",hpc_job="42"'),
        (
            "pod",
            ',container="main",namespace="lab",pod="job-42"',
            ',container="main",err_code="0",err_msg="No Error",namespace="lab",pod="job-42"',
        ),
    ],
)
def test_attribution_on_the_row_is_sorted_and_absent_where_nobody_is(
    switch: str, held: str, xid: str
) -> None:
    page = list(dcgm.page(NODE, attribution=switch))
    first, second = lines(page, "DCGM_FI_DEV_GPU_UTIL")
    assert first.endswith(f'DCGM_FI_DRIVER_VERSION="550.144.03"{held}}} 100')
    assert second.endswith('DCGM_FI_DRIVER_VERSION="550.144.03"} 0')
    assert lines(page, "DCGM_FI_DEV_XID_ERRORS")[0].endswith(f'="550.144.03"{xid}}} 0')
    assert not lines(page, "fleetsim_gpu_allocation")


def test_attribution_by_default_leaves_the_hardware_alone() -> None:
    free, held = list(dcgm.page(columns(FREE))), list(dcgm.page(columns(H100)))
    assert held[:-1] == free and held[-1].startswith("# HELP fleetsim_gpu_allocation ")


def test_unknown_switches_are_refused() -> None:
    with pytest.raises(ValueError, match="'host' is none of Hostname, hostname, both, none"):
        dcgm.page(NODE, hostname_label="host")
    with pytest.raises(ValueError, match="'pods' is none of series, none, pod, hpc_job"):
        dcgm.page(NODE, attribution="pods")


def test_xid_rows_say_what_is_known() -> None:
    def row(xid: int | None) -> list[str]:
        found = lines(dcgm.page(columns({**FREE, "xid": xid})), "DCGM_FI_DEV_XID_ERRORS")
        return [line.partition('"550.144.03"')[2] for line in found]

    assert row(79) == [',err_code="79",err_msg="GPU has fallen off the bus"} 79']
    assert row(999) == ["} 999"]
    assert row(None) == []


def test_unknown_driver_version_is_no_label() -> None:
    page = dcgm.page(columns({**FREE, "driver_version": None}))
    assert lines(page, "DCGM_FI_DEV_GPU_TEMP")[0].endswith(
        'Hostname="computeinstance-e00c1p6dpy98xytphp"} 59'
    )


def test_a_gpu_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"DCGM_FI_DEV_SM_CLOCK: labels \{gpu=\"0\",.*\} are given twice"):
        "".join(dcgm.page(columns(H100, H100)))


def test_one_page_of_many_nodes() -> None:
    other = {**H100, "node": 1, "hostname": "b", "uuid": "GPU-b"}
    assert len(scrape(dcgm.page(columns(H100, other)))) == 2 * len(scrape(dcgm.page(columns(H100))))


NUMBERS: dict[str, Any] = {
    "float": st.floats(0, 1e6, width=32),
    "int": st.integers(0, 2**15 - 1),
}


def readings() -> st.SearchStrategy[dict[str, Any]]:
    """Any texts and any numbers, each number possibly not reported."""

    def values(column: Any) -> st.SearchStrategy[Any]:
        if column.kind == "label":
            return st.text()
        numbers: st.SearchStrategy[Any] = NUMBERS["float" if column.kind.startswith("float") else "int"]
        return st.one_of(st.none(), numbers) if column.nullable else numbers

    return st.fixed_dictionaries({column.name: values(column) for column in COLUMNS})


def labels_of(family: Family, reading: dict[str, Any]) -> dict[str, str]:
    fixed = {"UUID": "uuid", "modelName": "model_name", "Hostname": "hostname", "job_id": "job"}
    fixed |= {"DCGM_FI_DRIVER_VERSION": "driver_version"}
    texts = {}
    for label in family.labels:
        if label not in ("device", "err_code", "err_msg"):
            value = reading[fixed.get(label, label)]
            texts[label] = "" if value is None else str(value)
    return {label: text for label, text in texts.items() if text}


@given(st.lists(readings(), max_size=3, unique_by=lambda reading: reading["gpu"]))
def test_any_reading_comes_back(gpus: list[dict[str, Any]]) -> None:
    back = scrape(dcgm.page(columns(*gpus), optional=True))
    count = 0
    for family in dcgm.families(optional=True):
        for gpu in gpus:
            value = gpu[family.value]
            if value is None:
                continue
            wanted = labels_of(family, gpu).items()
            found = [v for (name, labels), v in back.items() if name == family.name and wanted <= labels]
            expected = family.of(value) if family.of else value
            assert pytest.approx(expected, abs=6e-4 if family.unit == "W" else 6e-7) in found
            count += 1
    assert count == len(back)
