"""The standard workload in AccaSim 1.1.3 (FIFO, first fit) and in fleetsim: equal answers, CPU time of each.

    python tests/bench/replay.py --peer accasim        (needs: pip install --group bench)

10,000 jobs on 2,504 GPUs, one processor = one GPU. A job of up to eight GPUs
asks for one node with so many free, a larger one for whole nodes. Every job must start at the same second in
both. In each round AccaSim runs in a fresh process and fleetsim in this one, in turn.

Counted, in CPU seconds: for AccaSim, of its process, from making the simulator to the end of the simulation,
which reads its SWF file as it goes; not its imports, and not the child process that writes its schedule. For
fleetsim, as in replay.py, everything from the job table to the finished run folder: all tables of telemetry
written, the books audited; not its imports either, for it has run once before. ``peer_ratio`` compares these;
``peer_ratio_reading`` counts for fleetsim the reading of the same SWF file too.
"""

from __future__ import annotations

import collections
import collections.abc
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

JOBS, GPUS, NODE = 10_000, 2_504, 8

#: AccaSim takes time zero for "not started": its clock begins later.
EPOCH_S = 1_000_000

SCENARIO = f"""
name: bench
start: 2026-01-05
horizon: drain
usage_period: day
cohorts:
  - {{name: a100, gpu_model: a100-sxm-80, nodes: {GPUS // NODE}, gpus_per_node: {NODE}, delivered: -1y}}
workloads:
  - {{name: standard, trace: jobs.swf, reference_gpu: a100-sxm-80}}
scheduler: {{queue: fifo, placement: first_fit}}
"""


def compare(rounds: int) -> dict[str, float | int]:
    """Run both *rounds* times. Exits with a message if AccaSim is not installed."""
    if find_spec("accasim") is None:
        sys.exit("AccaSim is not installed in this environment: pip install --group bench")
    from workload import as_trace, standard

    columns = standard(JOBS, GPUS)
    ours_s, reading_s, peers_s, equal = [], [], [], JOBS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_swf(columns, folder / "jobs.swf")
        table = {"standard": as_trace(columns)}
        run_fleetsim(folder, table)
        run_fleetsim(folder, None)
        for number in range(rounds):
            our_s, our_starts = run_fleetsim(folder, table)
            reading_s.append(run_fleetsim(folder, None)[0])
            peer_s, peer_starts = run_accasim(folder)
            equal = min(equal, int(np.sum(our_starts == peer_starts)))
            ours_s.append(our_s)
            peers_s.append(peer_s)
            print(f"round {number + 1}: AccaSim {peer_s:.2f} s, fleetsim {our_s:.3f} s", file=sys.stderr)
    return {
        "peer_jobs_per_s": round(JOBS / statistics.median(peers_s)),
        "peer_ratio": round(statistics.median(p / o for p, o in zip(peers_s, ours_s, strict=True)), 1),
        "peer_ratio_reading": round(
            statistics.median(p / o for p, o in zip(peers_s, reading_s, strict=True)), 1
        ),
        "peer_equal_starts": equal,
    }


def write_swf(columns: dict[str, Any], path: Path) -> None:
    """Jobs numbered from 1; fields that nobody knows are -1."""
    rows = zip(*(columns[name].tolist() for name in ("submit_s", "duration_s", "gpus", "user")), strict=True)
    lines = [
        f"{n} {submit} -1 {run} {gpus} -1 -1 {gpus} {run} -1 1 {user} -1 -1 1 -1 -1 -1"
        for n, (submit, run, gpus, user) in enumerate(rows, 1)
    ]
    header = f"; Version: 2.2\n; MaxProcs: {GPUS}\n"
    path.write_text(header + "\n".join(lines) + "\n", "utf-8")


def run_fleetsim(folder: Path, table: dict[str, Any] | None) -> tuple[float, Any]:
    """CPU seconds, and the start of every job in order; reads the SWF file if *table* is None."""
    from fleetsim import experiment, scenario

    gc.collect()
    began = time.process_time()
    parsed = scenario.parse(SCENARIO, "bench", roots=[folder])
    run = experiment.run(parsed, folder / "run", force=True, traces=table)
    spent = time.process_time() - began
    jobs = run.scan("jobs").select("job_id", "start_s").collect()
    shift = 1 if table else 0  # SWF numbers jobs from 1, the table from 0
    return spent, in_order([int(n) + shift for n in jobs["job_id"].to_list()], jobs["start_s"].to_list())


def run_accasim(folder: Path) -> tuple[float, Any]:
    """The same of AccaSim, in a process of its own."""
    command = [sys.executable, __file__, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"AccaSim failed:\n{done.stderr[-2000:]}")
    rows = [line.split(";") for line in (folder / "out" / "sched-jobs.swf").read_text("utf-8").split()]
    spent = float(json.loads((folder / "accasim.json").read_text("utf-8"))["cpu_s"])
    return spent, in_order([row[0] for row in rows], [int(row[1]) - EPOCH_S for row in rows])


def in_order(job_ids: list[Any], starts: list[Any]) -> Any:
    """Starts by the number of the job; NaN for a job that is missing."""
    found = np.full(JOBS, np.nan)
    found[np.array(job_ids, np.int64) - 1] = starts
    return found


def simulate(folder: Path) -> None:
    """In the process of AccaSim: run it, and leave the CPU seconds in ``accasim.json``."""
    collections.Mapping = collections.abc.Mapping  # type: ignore[attr-defined]  # gone since Python 3.10
    from accasim.base.allocator_class import FirstFit
    from accasim.base.scheduler_class import FirstInFirstOut
    from accasim.base.simulator_class import Simulator
    from accasim.utils.reader_class import Tweaker

    class Gangs(Tweaker):  # type: ignore[misc]
        """Processors to nodes and cores, where AccaSim by itself scatters a job's processors over nodes."""

        def tweak_function(self, job_dict: dict[str, Any]) -> dict[str, Any]:
            gpus = job_dict["total_processors"]
            nodes, each = (gpus // NODE, NODE) if gpus > NODE else (1, gpus)
            assert nodes * each == gpus
            job_dict |= {
                "core": gpus,
                "requested_nodes": nodes,
                "requested_resources": {"core": each},
                "queue": job_dict.pop("queue_number"),
                "queued_time": job_dict["queued_time"] + EPOCH_S,
            }
            return job_dict

    config = {
        "groups": {"node": {"core": NODE}},
        "resources": {"node": GPUS // NODE},
        "equivalence": {"processor": {"core": 1}},
    }
    path = folder / "accasim-system.json"
    path.write_text(json.dumps(config), "utf-8")
    output = {
        "format": "{job_id};{start_time}",
        "attributes": {"job_id": ("id", "str"), "start_time": ("start_time", "int")},
    }
    began = time.process_time()
    simulator = Simulator(
        str(folder / "jobs.swf"),
        str(path),
        FirstInFirstOut(FirstFit()),
        tweak_function=Gangs(),
        RESULTS_FOLDER_PATH=str(folder / "out"),
        SCHEDULE_OUTPUT=output,
        statistics_output=False,
        show_statistics=False,
    )
    simulator.start_simulation()
    spent = time.process_time() - began
    (folder / "accasim.json").write_text(json.dumps({"cpu_s": spent}), "utf-8")


if __name__ == "__main__":
    simulate(Path(sys.argv[1]))
