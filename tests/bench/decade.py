"""Ten years of a large fleet: how long it takes, how much memory, and which process takes the time.

    python tests/bench/decade.py                      # 12,500 nodes, 2 million jobs
    python tests/bench/decade.py --nodes 1250 --jobs 200000 --profile

Six generations come in yearly deliveries, go down a ladder of three rungs by age and retire at six years;
nodes and GPUs fail and are repaired; jobs restart from their last checkpoint.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from model.support import columns_trace

from fleetsim import experiment, scenario
from fleetsim.experiment import Progress
from fleetsim.runfolder import Run

YEAR_S = 365 * 86_400.0
MODELS = ("v100-sxm2-32", "a100-sxm-40", "a100-sxm-80", "h100-sxm-80", "h200-sxm-141", "b200-sxm-180")


def words(nodes: int) -> str:
    """The scenario: *nodes* in all, each year's delivery a tenth of them."""
    cohorts = [
        {
            "name": f"y{year:02}",
            "gpu_model": MODELS[min(5, max(0, (year + 3) * 6 // 13))],
            "nodes": nodes // 10,
            "gpus_per_node": 8,
            "delivered": f"{year}y",
        }
        for year in range(-3, 10)
    ]
    minutes = {"name": "reset", "share": 0.8, "median": "20min", "sigma": 0.8}
    days = {"name": "swap", "share": 0.2, "median": "3d", "sigma": 0.8, "replaces": "gpu"}
    return json.dumps(
        {
            "name": "decade",
            "start": "2021-01-01",
            "horizon": "10y",
            "seed": 1,
            "cohorts": cohorts,
            "tiers": [
                {"name": "training", "classes": ["training"], "leave_at": "2y"},
                {"name": "inference", "classes": ["inference"], "leave_at": "4y"},
                {"name": "batch", "classes": ["batch"]},
            ],
            "cascade": {"rule": "age"},
            "retirement": {"rule": "fixed_age", "age": "6y"},
            "failures": [
                {
                    "name": "node",
                    "hazard": [{"per_year": 2.0}],
                    "repairs": [minutes, days | {"replaces": "node"}],
                },
                {
                    "name": "gpu",
                    "unit": "gpu",
                    "hazard": [{"shape": 2.0, "scale": "15y"}],
                    "repairs": [minutes, days],
                },
            ],
            "economics": {"prices": [{"usd_per_gpu_hour": 2.0, "change_per_year": -0.2}]},
            "workloads": [
                {"name": c, "trace": "made here", "reference_gpu": "a100-sxm-80", "workload_class": c}
                for c in ("training", "inference", "batch")
            ],
            "scheduler": {
                "queue": "fifo_skip",
                "restart": {"checkpoint": "1h", "checkpoint_cost": "30s", "costs": [{"cost": "5min"}]},
            },
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--nodes", type=int, default=12_500, help="delivered in ten years")
    parser.add_argument("--jobs", type=int, default=2_000_000)
    parser.add_argument("--load", type=float, default=0.7, help="of what is installed on average")
    parser.add_argument("--profile", action="store_true", help="time by function, which costs as much again")
    args = parser.parse_args()

    rng = np.random.default_rng(1)
    traces = {}
    for name, sizes, share in (
        ("training", (8, 64, 256, 1024), 0.4),
        ("inference", (1, 2, 4, 8), 0.35),
        ("batch", (1, 4, 8, 16), 0.25),
    ):
        count = args.jobs // 3
        gpus = rng.choice(sizes, count, p=(0.5, 0.3, 0.15, 0.05)).astype(np.int32)
        gpus = np.minimum(gpus, args.nodes * 8 // 50)
        hours = rng.lognormal(0, 1.2, count)
        hours *= args.load * share * args.nodes * 8 * 0.6 * 87_600 / float(np.sum(gpus * hours))
        submit_s = np.sort(rng.uniform(0, 10 * YEAR_S, count))
        traces[name] = columns_trace(submit_s=submit_s, duration_s=hours * 3600, gpus=gpus)

    parsed = scenario.parse(words(args.nodes), "decade")
    said = 0.0

    def progress(p: Progress) -> None:
        nonlocal said
        if time.perf_counter() - said > 5:
            said = time.perf_counter()
            print(f"  {p.now_s / YEAR_S:.1f} y, {p.jobs_ended:,} jobs", file=sys.stderr)

    with tempfile.TemporaryDirectory() as folder:
        profiler = cProfile.Profile() if args.profile else None
        began = time.perf_counter()
        if profiler:
            profiler.enable()
        run = experiment.run(parsed, Path(folder) / "run", traces=traces, progress=progress)
        if profiler:
            profiler.disable()
        report(run, time.perf_counter() - began)
        if profiler:
            stats = pstats.Stats(profiler)
            total = stats.total_tt  # type: ignore[attr-defined]
            print("share of time by file, own time of its functions:")
            by_file: dict[str, float] = {}
            for (file, _, _), (_, _, own, _, _) in stats.stats.items():  # type: ignore[attr-defined]
                part = file.split("/fleetsim/")[-1] if "/fleetsim/" in file else file.rsplit("/", 1)[-1]
                by_file[part] = by_file.get(part, 0.0) + own
            for part, own in sorted(by_file.items(), key=lambda item: -item[1])[:12]:
                print(f"  {own / total:6.1%}  {part}")
            stats.sort_stats("tottime").print_stats(25)


def report(run: Run, wall_s: float) -> None:
    """Print what it took."""
    rows = run.manifest["rows"]
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    size = sum(f.stat().st_size for f in run.path.iterdir()) / 1e6
    print(
        f"{run.manifest['jobs']:,} jobs, {rows['failures']:,} failures, {rows['allocations']:,} allocations"
    )
    print(f"{rows['node_states']:,} changes of nodes, {rows['usage']:,} rows of usage, {size:.0f} MB on disk")
    print(f"wall {wall_s:.0f} s, peak memory {megabytes:,.0f} MiB")
    usage = run.scan("usage").collect()
    held = float(usage.filter(usage["tenant"].is_not_null())["gpu_hours"].sum())
    whole = float(usage["gpu_hours"].sum())
    print(f"allocated {held / whole:.1%} of {whole / 1e6:,.0f} M GPU hours")


if __name__ == "__main__":
    main()
