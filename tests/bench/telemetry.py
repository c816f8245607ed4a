"""Readings a second: derived, as Arrow, and written, on one core, for a fleet that is mostly busy.

python tests/bench/telemetry.py [--nodes 125] [--jobs 20000] [--readings 2000000] [--run FOLDER]
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from workload import as_trace, standard

from fleetsim import experiment, scenario
from fleetsim.runfolder import Run, open_run
from fleetsim.telemetry import table
from fleetsim.telemetry.sensors import Telemetry


def simulate(folder: Path, nodes: int, jobs: int) -> Run:
    """A run of the standard workload on nodes of eight H100."""
    whole = {
        "name": "bench",
        "start": "2026-01-05",
        "horizon": "drain",
        "usage_period": "day",
        "cohorts": [{"name": "a", "gpu_model": "h100-sxm-80", "nodes": nodes, "gpus_per_node": 8}],
        "workloads": [{"name": "standard", "trace": "given by the bench", "reference_gpu": "h100-sxm-80"}],
        "scheduler": {"queue": "fifo_skip"},
    }
    given = {"standard": as_trace(standard(jobs, 8 * nodes))}
    return experiment.run(scenario.parse(json.dumps(whole), "bench"), folder / "run", traces=given)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=125)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--readings", type=int, default=2_000_000)
    parser.add_argument("--run", type=Path, help="a run folder, in place of a simulation")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = open_run(options.run) if options.run else simulate(folder, options.nodes, options.jobs)
        began = time.perf_counter()
        found = Telemetry(run)
        spells = len(found.history.spells.state)
        print(f"read {spells:,} spells of {len(found):,} GPUs in {time.perf_counter() - began:.2f} s")
        end_s = found.history.end_s
        step_s = end_s / 2 / (options.readings / len(found))
        grid = end_s / 4, end_s * 3 / 4, step_s

        def write(suffix: str) -> Callable[[], int]:
            return lambda: table.write((b for _, b in found.batches(*grid)), folder / f"readings{suffix}")

        for what, do in (
            ("derived", lambda: sum(len(b) for _, b in found.batches(*grid))),
            ("as Arrow", lambda: sum(table.arrow(b).num_rows for _, b in found.batches(*grid))),
            ("to Parquet", write(".parquet")),
            ("to CSV", write(".csv")),
        ):
            began, cpu = time.perf_counter(), time.process_time()
            count = do()
            spent, cpu = time.perf_counter() - began, time.process_time() - cpu
            rate = count / spent
            print(f"{what:<11} {rate:>12,.0f} readings/s  ({count / cpu:,.0f} a CPU second)")
        sizes = {s: (folder / f"readings{s}").stat().st_size / count for s in table.BYTES}
        print("bytes a reading", json.dumps({s: round(b, 1) for s, b in sizes.items()}))
        print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")


if __name__ == "__main__":
    main()
