"""How fast the text of GPU readings is written, as a ratio to prometheus_client in the same process.

    python tests/bench/exposition.py [--samples 100000] [--repeat 5] [--pages 2000] [--json]

The same families with the same labels and values: our page of dcgm-exporter, once with labels not seen before
and then with labels remembered, against ``prometheus_client.generate_latest`` of gauges that already hold the
values, which leaves out what setting them costs. Then one node's page of 8 GPUs, each time with other values.
Goal: 10 times as fast, and a page within 1 ms at the 99th percentile.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from time import perf_counter
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from fleetsim_collectors import dcgm, nvidia_smi
from fleetsim_collectors.exposition import label_block
from fleetsim_collectors.readings import COLUMNS

GPUS_PER_NODE = 8


def fleet(gpus: int, rng: random.Random) -> dict[str, list[Any]]:
    """Readings of *gpus* GPUs in nodes of 8, every value reported."""
    made: dict[str, list[Any]] = {}
    for column in COLUMNS:
        if column.kind.startswith("float"):
            made[column.name] = [rng.random() for _ in range(gpus)]
        elif column.kind.startswith("int"):
            made[column.name] = [rng.randrange(100) for _ in range(gpus)]
        else:
            made[column.name] = [column.name] * gpus
    made["gpu"] = [i % GPUS_PER_NODE for i in range(gpus)]
    made["hostname"] = [f"gpu-node-{i // GPUS_PER_NODE:05d}" for i in range(gpus)]
    made["uuid"] = [f"GPU-8b2281de-6d3c-22ed-0ec8-{i:012d}" for i in range(gpus)]
    made["pci_bus_id"] = [f"00000000:{i % GPUS_PER_NODE:02X}:00.0" for i in range(gpus)]
    made["model_name"] = ["NVIDIA H100 80GB HBM3"] * gpus
    made["driver_version"] = ["550.144.03"] * gpus
    made["xid"] = [0] * gpus  # gauges of prometheus_client want the same labels on each row
    return made


def registry(page: str) -> CollectorRegistry:
    """The families of *page* as gauges of prometheus_client that hold its values."""
    held = CollectorRegistry()
    for family in text_string_to_metric_families(page):
        gauge = Gauge(family.name, family.documentation, list(family.samples[0].labels), registry=held)
        for sample in family.samples:
            gauge.labels(**sample.labels).set(sample.value)
    return held


def seconds(made: Any) -> float:
    start = perf_counter()
    made()
    return perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=5, help="best of so many")
    parser.add_argument("--pages", type=int, default=2000, help="pages of one node to time")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    families = len(dcgm.families(attribution="none"))
    readings = fleet(options.samples // families + 1, random.Random(1))

    def ours() -> str:
        return "".join(dcgm.page(readings, attribution="none"))

    label_block.cache_clear()
    first_s = seconds(ours)
    ours_s = min(seconds(ours) for _ in range(options.repeat))
    page = ours()
    print("filling the registry of prometheus_client", file=sys.stderr)
    held = registry(page)
    client_s = min(seconds(lambda: generate_latest(held)) for _ in range(options.repeat))
    result: dict[str, Any] = {
        "samples": sum(not line.startswith("#") for line in page.splitlines()),
        "megabytes": round(len(page) / 1e6, 1),
        "client_s": round(client_s, 3),
        "ours_first_s": round(first_s, 4),
        "ours_s": round(ours_s, 4),
        "ratio_first": round(client_s / first_s, 1),
        "ratio": round(client_s / ours_s, 1),
    }
    rng = random.Random(2)
    nodes = [fleet(GPUS_PER_NODE, rng) for _ in range(50)]
    for module in (dcgm, nvidia_smi):
        times = sorted(
            seconds(lambda n=nodes[i % 50], page=module.page: "".join(page(n))) for i in range(options.pages)
        )
        name = module.__name__.rpartition(".")[2]
        result[f"{name}_page_p50_ms"] = round(times[len(times) // 2] * 1e3, 3)
        result[f"{name}_page_p99_ms"] = round(times[int(len(times) * 0.99)] * 1e3, 3)
    if options.json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        print(f"{key:24} {value}")


if __name__ == "__main__":
    main()
