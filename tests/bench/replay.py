"""How fast a replay is, as a ratio to the least work that gives the same answer.

    python tests/bench/replay.py --jobs 100000 --gpus 2504 [--rounds 5] [--json] [--peer accasim]

Generates the standard workload, replays it through the public API with full telemetry into a run folder
(strict FIFO, best fit, nodes of 8), and times a floor in the same process, in turn: a plain heapq replay with
bucketed best fit and no telemetry, times packed into whole numbers, everything inlined. Both must start every
job at the same second. Times are CPU seconds of this process; ratios are medians over the rounds.
``--peer accasim`` replays 10,000 jobs with that package too (pip install --group bench), first fit by lowest
index, and again compares every start time.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar

import numpy as np
from workload import as_trace, standard

from fleetsim import experiment, scenario
from fleetsim.policies.fifo import Fifo
from fleetsim.policies.ordered import OrderedSkip
from fleetsim.runfolder import Run

SCENARIO = """
name: bench
start: 2026-01-05
horizon: drain
usage_period: day
cohorts:
  - {{name: a100, gpu_model: a100-sxm-80, nodes: {nodes}, gpus_per_node: 8, delivered: -1y}}
workloads:
  - {{name: standard, trace: given-by-the-bench, reference_gpu: a100-sxm-80}}
scheduler: {{queue: fifo, placement: {placement}}}
"""


def floor(submit: list[int], gpus: list[int], duration: list[int], nodes: int) -> list[int]:
    """Start times under strict FIFO and best fit by lowest node: all that is due first, then one pass."""
    count = len(submit)
    free = [8] * nodes
    buckets: list[list[int]] = [[] for _ in range(8)] + [list(range(nodes))]
    listed = [bytearray(nodes) for _ in range(8)] + [bytearray(b"\1" * nodes)]
    idle = nodes
    ends: list[int] = []  # end << 24 | job
    start = [0] * count
    place: list[int | list[int]] = [0] * count
    head = arrived = 0
    mask, never = (1 << 24) - 1, 1 << 60
    submit = [*submit, never]
    next_submit = submit[0]
    while True:
        now = ends[0] >> 24 if ends else never
        if next_submit < now:
            now = next_submit
        elif now == never:
            return start
        freed = False
        limit = (now + 1) << 24
        while ends and ends[0] < limit:
            job = heappop(ends) & mask
            freed = True
            where = place[job]
            if type(where) is int:
                left = free[where] + gpus[job]
                free[where] = left
                if left == 8:
                    idle += 1
                if not listed[left][where]:
                    listed[left][where] = 1
                    heappush(buckets[left], where)
            elif type(where) is list:
                whole, whole_listed = buckets[8], listed[8]
                for node in where:
                    free[node] = 8
                    idle += 1
                    if not whole_listed[node]:
                        whole_listed[node] = 1
                        heappush(whole, node)
        waiting = head < arrived
        while next_submit == now:
            arrived += 1
            next_submit = submit[arrived]
        if waiting and not freed:
            continue
        while head < arrived:
            need = gpus[head]
            if need <= 8:
                for left in range(need, 9):
                    bucket = buckets[left]
                    while bucket:
                        node = bucket[0]
                        if free[node] == left:
                            break
                        listed[left][heappop(bucket)] = 0
                    else:
                        continue
                    break
                else:
                    break
                if left == 8:
                    idle -= 1
                left -= need
                free[node] = left
                place[head] = node
                if not listed[left][node]:
                    listed[left][node] = 1
                    heappush(buckets[left], node)
            else:
                wanted = need >> 3
                if idle < wanted:
                    break
                idle -= wanted
                nodes_taken: list[int] = []
                while len(nodes_taken) < wanted:
                    node = heappop(buckets[8])
                    listed[8][node] = 0
                    if free[node] == 8:
                        nodes_taken.append(node)
                for node in nodes_taken:
                    free[node] = 0
                    if not listed[0][node]:
                        listed[0][node] = 1
                        buckets[0].append(node)
                place[head] = nodes_taken
            start[head] = now
            heappush(ends, (now + duration[head]) << 24 | head)
            head += 1


T = TypeVar("T")


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """CPU seconds of *work*, and what it returned."""
    gc.collect()
    began = time.process_time()
    result = work()
    return time.process_time() - began, result


def replay(columns: dict[str, np.ndarray], gpus: int, placement: str, folder: Path) -> Callable[[], Run]:
    """The same jobs through the public API, telemetry and all."""
    trace = as_trace(columns)
    text = SCENARIO.format(nodes=gpus // 8, placement=placement)
    parsed = scenario.parse(text, "bench")
    return lambda: experiment.run(parsed, folder / "run", force=True, traces={"standard": trace})


def starts(run: Run) -> np.ndarray:
    return run.scan("jobs").select("start_s").collect()["start_s"].to_numpy()


def blocked_pass_ratio(queue: str) -> float:
    """CPU time of arrivals that find nothing freed: with 50,000 jobs waiting over with 50 waiting."""

    def spent(waiting: int) -> float:
        shape_of = [job % 7 for job in range(waiting + 100_000)]
        desk = SimpleNamespace(jobs=SimpleNamespace(shape_of=shape_of))
        jobs = Fifo() if queue == "fifo" else OrderedSkip(desk, float)
        for job in range(waiting):
            jobs.push(job)
        jobs.offer(lambda _: False, freed=True, now=0.0)

        def arrivals() -> None:
            for job in range(waiting, waiting + 100_000):
                jobs.push(job)
                jobs.offer(lambda _: False, freed=False, now=0.0)

        return timed(arrivals)[0]

    return statistics.median(spent(50_000) / spent(50) for _ in range(5))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--gpus", type=int, default=2_504)
    parser.add_argument("--load", type=float, default=0.85)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--peer", choices=["accasim"])
    args = parser.parse_args()
    if args.jobs >= 1 << 24:
        parser.error("the floor packs jobs into 24 bits: at most 16 million")

    columns = standard(args.jobs, args.gpus, args.load)
    ours: list[float] = []
    floors: list[float] = []
    lists: list[list[int]] = []
    peak_rss_mb = 0
    with tempfile.TemporaryDirectory() as folder:
        work = replay(columns, args.gpus, "best_fit", Path(folder))
        for number in range(args.rounds):
            our_s, run = timed(work)
            if number == 0:  # before the floor takes memory of its own
                peak_rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
                lists = [columns[name].tolist() for name in ("submit_s", "gpus", "duration_s")]
            floor_s, expected = timed(partial(floor, lists[0], lists[1], lists[2], args.gpus // 8))
            floors.append(floor_s)
            ours.append(our_s)
            if number == 0 and not np.array_equal(starts(run), np.array(expected)):
                sys.exit("the answers differ: some job does not start at the same time")
            print(f"round {number + 1}: floor {floor_s:.2f} s, fleetsim {our_s:.2f} s", file=sys.stderr)
        figures: dict[str, float | int | str] = {
            "jobs": args.jobs,
            "gpus": args.gpus,
            "jobs_per_s": round(args.jobs / statistics.median(ours)),
            "floor_jobs_per_s": round(args.jobs / statistics.median(floors)),
            "floor_ratio": round(statistics.median(o / f for o, f in zip(ours, floors, strict=True)), 2),
            "peak_rss_mb": peak_rss_mb,
            **{
                f"blocked_pass_ratio_{name}": round(blocked_pass_ratio(name), 2)
                for name in ("fifo", "fifo_skip")
            },
        }
    if args.peer:
        from peer_accasim import compare

        figures |= compare(args.rounds)
    if args.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:>20} {value:,}" if isinstance(value, int) else f"{name:>20} {value}")


if __name__ == "__main__":
    main()
