"""How fast each queue replays the standard workload, as a ratio to strict FIFO in the same process.

    python tests/bench/queues.py [--jobs 100000] [--gpus 2504] [--load 0.85 1.2] [--queues easy sjf]
        [--growth] [--json]

Jobs per CPU second through the public API with full telemetry, nodes of 8, best fit, until the last job has
ended. At load 1.2 a queue of tens of thousands stands. FIFO is timed first, and a queue that takes more than
``--limit`` times as long is stopped and left out with a note. With ``--growth`` each queue replays half as
many jobs first: at a load above 1 the queue that stands is then half as long, so the time per job of all over
that of half says how a queue's work grows with its length; 1 is no growth, 2 is in proportion to it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from functools import partial
from math import inf
from pathlib import Path
from time import process_time
from typing import Any

from replay import timed
from workload import as_trace, standard

from fleetsim import experiment, scenario
from fleetsim.errors import InputError
from fleetsim.experiment import Progress
from fleetsim.policies.queue import QUEUES
from fleetsim_traces.table import Trace

#: Other keys of the scheduler that a queue needs, or is commonly run with.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "smallest": [{}, {"on_misfit": "skip"}],
    "sjf": [{}, {"on_misfit": "skip"}],
    "qssf": [{}, {"on_misfit": "skip"}],
    "priority": [{}, {"on_misfit": "skip"}],
    "easy": [{"estimate": {}}, {"estimate": {"factor": 3.0, "error": 1.0}}],
    "conservative": [
        {"estimate": {}},
        {"estimate": {"factor": 3.0, "error": 1.0}, "depth": 100},
    ],
    "max_min": [{"interval": "6min"}],
    "srtf": [{}, {"placement": "pool"}],
    "quota": [
        {},
        {"preemptive": True},
        {"preemptive": True, "tenants": "quotas"},
        {"preemptive": True, "tenants": "tree"},
    ],
}

#: What the twenty tenants of the workload are due: each its own, or five in each of four departments.
TENANTS: dict[str, list[dict[str, Any]]] = {
    "quotas": [{"name": f"tenant{i:03d}", "deserved_gpus": 60 + 6 * i} for i in range(20)],
    "tree": [
        *({"name": f"department{d}", "deserved_gpus": 600} for d in range(4)),
        *(
            {"name": f"tenant{i:03d}", "deserved_gpus": 120, "parent": f"department{i // 5}"}
            for i in range(20)
        ),
    ],
}


class TooSlowError(Exception):
    """The time limit is over."""


def scenario_of(gpus: int, scheduler: dict[str, Any], tenants: str | None = None) -> scenario.Scenario:
    """The standard fleet under *scheduler*; *tenants* is a key of :data:`TENANTS`."""
    cohort = {"name": "a", "gpu_model": "a100-sxm-80", "nodes": gpus // 8, "gpus_per_node": 8}
    whole = {
        "name": "bench",
        "start": "2026-01-05",
        "horizon": "drain",
        "usage_period": "day",
        "cohorts": [cohort],
        "workloads": [{"name": "standard", "trace": "given by the bench", "reference_gpu": "a100-sxm-80"}],
        "scheduler": scheduler,
    }
    if tenants is not None:
        whole["tenants"] = TENANTS[tenants]
    return scenario.parse(json.dumps(whole), "bench")


def replay(parsed: scenario.Scenario, trace: Trace, folder: Path, until_s: float) -> None:
    """Run, but not beyond *until_s* of this process's CPU time."""

    def watch(progress: Progress) -> None:
        if process_time() > until_s:
            raise TooSlowError(f"{progress.jobs_ended:,} of {progress.jobs:,} jobs had ended")

    experiment.run(parsed, folder, force=True, traces={"standard": trace}, progress=watch)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--gpus", type=int, default=2_504)
    parser.add_argument("--load", type=float, nargs="+", default=[0.85, 1.2])
    parser.add_argument("--queues", nargs="+", choices=list(QUEUES), default=list(QUEUES))
    parser.add_argument("--limit", type=float, default=20.0, help="times as long as FIFO")
    parser.add_argument("--growth", action="store_true", help="how time per job grows with the queue")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        warm_up = as_trace(standard(1_000, args.gpus))  # imports, and caches of the libraries
        replay(scenario_of(args.gpus, {}), warm_up, Path(folder) / "run", inf)
        for load in args.load:
            counts = [args.jobs // 2, args.jobs] if args.growth else [args.jobs]
            traces = [as_trace(standard(count, args.gpus, load)) for count in counts]
            fifo_s = 0.0
            for queue in ("fifo", *(name for name in args.queues if name != "fifo")):
                for options in OPTIONS.get(queue, [{}]):
                    until_s = process_time() + args.limit * len(counts) * fifo_s if fifo_s else inf
                    row: dict[str, Any] = {"load": load, "queue": queue, "options": options}
                    try:
                        rules = {"queue": queue, **options}
                        parsed = scenario_of(args.gpus, rules, rules.pop("tenants", None))
                        spent_s = [
                            timed(partial(replay, parsed, trace, Path(folder) / "run", until_s))[0]
                            for trace in traces
                        ]
                    except InputError as error:
                        row |= {"note": f"needs more than the standard workload has: {error}"}
                    except TooSlowError as error:
                        row |= {"note": f"more than {args.limit:g} times fifo: {error}"}
                    else:
                        fifo_s = fifo_s or spent_s[-1]
                        row |= {"jobs_per_s": round(args.jobs / spent_s[-1])}
                        row |= {"ratio": round(spent_s[-1] / fifo_s, 2)}
                        if args.growth:
                            row |= {"growth": round(spent_s[-1] / spent_s[0] * counts[0] / counts[-1], 2)}
                    rows.append(row)
                    if not args.json:
                        print(line(row), flush=True)
    if args.json:
        json.dump(rows, sys.stdout)


def line(row: dict[str, Any]) -> str:
    """One line of the table."""
    name = " ".join([row["queue"], *(f"{key}={value}" for key, value in row["options"].items())])
    if "note" in row:
        return f"{row['load']:5} {name:60} {row['note']}"
    growth = f" {row['growth']:>6.2f}" if "growth" in row else ""
    return f"{row['load']:5} {name:60} {row['jobs_per_s']:>9,} jobs/s {row['ratio']:>6.2f}{growth}"


if __name__ == "__main__":
    main()
