"""How fast the packing policies place, as a ratio to scoring every node by the book; and what they allocate.

    PYTHONPATH=tests python tests/bench/packing.py [--traces ../shared/traces] [--pods default] [--seeds 1]

The experiment of Weng et al. (USENIX ATC 2023) on the public openb lists: the jobs in a random order, then
drawn with replacement, none leaves, until 130 % of the 6,212 GPUs of 1,213 nodes are asked for. Rates are
over all of it, upkeep of state included, in CPU seconds of this process. The book is timed on jobs that come
at half load, in the same state; both must choose alike. Allocations are means over the seeds from 42 on.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

import numpy as np
from model.packing_support import Book, Openb, arrivals, at, fill, read_openb, shares

from fleetsim.policies.packing import PACKINGS
from fleetsim.sharing import SharedPool


def book_seconds(openb: Openb, policy: str, jobs: list[int], sample: int) -> float:
    """CPU seconds a placement by the book at half load; raises SystemExit where the choice is another."""
    pool = SharedPool("book", openb.nodes, openb.requests)
    for node in pool.nodes:
        pool.add(node)
    place = PACKINGS[policy](pool, openb.counts, np.random.default_rng(1))
    book = Book(policy, openb.nodes, openb.requests, shares(openb.requests, openb.counts, exact=True), 1)
    half, spent = len(jobs) * 5 // 13, 0.0
    for number, asks in enumerate(jobs[: half + sample]):
        if number == half:  # as many draws as the book
            place = PACKINGS[policy](pool, openb.counts, np.random.default_rng(1))
        found = place(pool, asks)
        if number >= half:
            start = time.process_time()
            same = book.place(asks)
            spent += time.process_time() - start
            if same != found:
                raise SystemExit(f"{policy}: {openb.requests[asks]} to {found}, by the book to {same}")
        if found is not None:
            pool.take(*found)
            book.change(asks, found, -1)
    return spent / sample


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--traces", type=Path, default=os.environ.get("FLEETSIM_TRACES", "../shared/traces"))
    parser.add_argument("--pods", default="default")
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    folder = Path(args.traces) / "alibaba-gpu-v2023-openb"
    rows: dict[str, list[tuple[float, float, float]]] = {policy: [] for policy in PACKINGS}
    for seed in range(42, 42 + args.seeds):
        openb = read_openb(folder, args.pods, seed)
        jobs = [*arrivals(openb, seed)]
        for policy, make in PACKINGS.items():
            start = time.process_time()
            pool = SharedPool("bench", openb.nodes, openb.requests)
            curve = fill(openb, pool, make(pool, openb.counts, np.random.default_rng(seed)), jobs)
            rate = len(jobs) / (time.process_time() - start)
            rows[policy].append((rate, 100 * at(curve, 1.0), 100 * at(curve, 1.3)))
    print(f"{len(jobs):,} jobs, {len(openb.requests)} requests, {len(openb.nodes):,} nodes")
    print("policy          placements/s  x the book   allocated at 100 %   at 130 %")
    for policy, found in rows.items():
        rate, full, over = (statistics.mean(column) for column in zip(*found, strict=True))
        book = book_seconds(openb, policy, jobs, 3 if policy == "fgd" else 20)
        print(f"{policy:15} {rate:12,.0f} {rate * book:11,.0f} {full:18.2f} % {over:8.2f} %")


if __name__ == "__main__":
    main()
