"""The reading table is the contract between simulated GPUs, real ones and everything that publishes them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fleetsim_collectors import dcgm, nvidia_smi
from fleetsim_collectors.readings import COLUMNS, THROTTLE_BITS, plain
from fleetsim_collectors.xids import XidLog

from .gpus import BARE, H100, columns

IDENTITY = {"time_s", "node", "gpu", "hostname", "uuid", "pci_bus_id", "model_name"}
UNITS = {
    "_s": {"s", "B/s"}, "_pct": {"%"}, "_active": {"ratio"}, "_mib": {"MiB"}, "_mhz": {"MHz"}, "_c": {"C"},
    "_w": {"W"}, "_mj": {"mJ"}, "_bytes": {"B"},
}  # fmt: skip


def test_columns_are_declared_once_with_unit_and_meaning() -> None:
    assert len({c.name for c in COLUMNS}) == len(COLUMNS) == 48
    for column in COLUMNS:
        assert column.kind == "label" or pa.types.is_primitive(pa.type_for_alias(column.kind))
        assert len(column.description) > 15 and column.description.endswith((".", "`."))
        for end, units in UNITS.items():
            if column.name.endswith(end):
                assert column.unit in units, column.name
    assert {c.name for c in COLUMNS if not c.nullable} == IDENTITY


def test_the_readings_of_these_tests_fit() -> None:
    for reading in (H100, BARE):
        assert set(reading) == {column.name for column in COLUMNS}
        for column in COLUMNS:
            value = reading[column.name]
            assert value is not None or column.nullable
            if column.kind != "label" and value is not None:
                assert pa.scalar(value, pa.type_for_alias(column.kind)).as_py() == value


def test_bits_are_those_of_nvml() -> None:
    assert list(THROTTLE_BITS.values()) == [1 << i for i in range(9)]


@pytest.mark.parametrize(
    "column",
    [[1, None], (1, None), np.array([1, None]), pa.array([1, None])],
    ids=["list", "tuple", "numpy", "arrow"],
)
def test_plain_values_of_any_array(column: object) -> None:
    values = plain(column)  # type: ignore[arg-type]
    assert values == [1, None] and type(values[0]) is int


def test_arrays_give_the_pages_of_lists() -> None:
    """Also where null had to become a float that is not a number."""
    node = columns(H100, BARE)
    arrays: dict[str, Any] = {
        c.name: np.array(node[c.name], object if c.kind == "label" else float if c.nullable else c.kind)
        for c in COLUMNS
    }
    assert np.isnan(arrays["job"][1])
    assert list(dcgm.page(arrays, optional=True)) == list(dcgm.page(node, optional=True))
    pages = []
    for readings in (arrays, node):
        log = XidLog()
        log.observe(readings, 5.0)
        pages.append(list(nvidia_smi.page(readings, xids=log)))
    assert pages[0] == pages[1] and 'xid="79"} 1' in "".join(pages[0])


def test_modules_of_the_node_agent_import_nothing_heavy() -> None:
    heavy = {"numpy", "polars", "pyarrow", "simpy", "prometheus_client", "pydantic"}
    script = (
        "import sys\n"
        "from fleetsim_collectors import catalogue, dcgm, exposition, nvidia_smi, readings, xids\n"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
