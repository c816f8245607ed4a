"""A second simulator to compare with: slow and plain, it scans all nodes and all waiting jobs at every event.

It shares no code with fleetsim; the figures of the few GPU models it knows are written out here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from model.support import A100, T4, V100, Job

Pieces = list[tuple[int, int]]  # node, GPUs

#: Memory in GB and training speed, an A100 being 1.
MODELS = {A100: (80.0, 1.0), V100: (16.0, 0.45), T4: (16.0, 0.15)}


def scan_first(free: list[int], size: int, gpus: int) -> Pieces | None:
    whole, rest = divmod(gpus, size) if gpus > size else (0, gpus)
    full = [n for n, left in enumerate(free) if left == size][:whole]
    other = [n for n, left in enumerate(free) if left >= rest and n not in full]
    if len(full) < whole or (rest and not other):
        return None
    return sorted([(n, size) for n in full] + ([(other[0], rest)] if rest else []))


def scan_best(free: list[int], size: int, gpus: int) -> Pieces | None:
    whole, rest = divmod(gpus, size) if gpus > size else (0, gpus)
    full = [n for n, left in enumerate(free) if left == size][:whole]
    other = [(left, n) for n, left in enumerate(free) if left >= rest and n not in full]
    if len(full) < whole or (rest and not other):
        return None
    return sorted([(n, size) for n in full] + ([(min(other)[1], rest)] if rest else []))


def scan_worst(free: list[int], size: int, gpus: int) -> Pieces | None:
    whole, rest = divmod(gpus, size) if gpus > size else (0, gpus)
    full = [n for n, left in enumerate(free) if left == size][:whole]
    other = [(-left, n) for n, left in enumerate(free) if left >= rest and n not in full]
    if len(full) < whole or (rest and not other):
        return None
    return sorted([(n, size) for n in full] + ([(min(other)[1], rest)] if rest else []))


def scan_spread(free: list[int], size: int, gpus: int) -> Pieces | None:
    if sum(free) < gpus:
        return None
    rounds = sorted((turn, -left, n) for n, left in enumerate(free) for turn in range(left))
    taken = [n for _, _, n in rounds[:gpus]]
    return [(n, taken.count(n)) for n in sorted(set(taken))]


def scan_consolidate(free: list[int], size: int, gpus: int) -> Pieces | None:
    if sum(free) < gpus:
        return None
    taken: Pieces = []
    while gpus:
        left_of = {n: left for n, left in enumerate(free) if left and n not in dict(taken)}
        holds = [(left, n) for n, left in left_of.items() if left >= gpus]
        if holds:
            taken.append((min(holds)[1], gpus))
            break
        emptiest = min(left_of, key=lambda n: (-left_of[n], n))
        taken.append((emptiest, left_of[emptiest]))
        gpus -= left_of[emptiest]
    return sorted(taken)


def scan_pool(free: list[int], size: int, gpus: int) -> Pieces | None:
    if sum(free) < gpus:
        return None
    taken: Pieces = []
    for left, node in sorted((left, n) for n, left in enumerate(free) if left):
        if gpus:
            taken.append((node, min(left, gpus)))
            gpus -= min(left, gpus)
    return sorted(taken)


SCANS: dict[str, Callable[[list[int], int, int], Pieces | None]] = {
    "first_fit": scan_first,
    "best_fit": scan_best,
    "worst_fit": scan_worst,
    "spread": scan_spread,
    "consolidate": scan_consolidate,
    "pool": scan_pool,
}


@dataclass(frozen=True)
class Nodes:
    """A cohort."""

    name: str
    model: str
    nodes: int
    gpus_per_node: int
    delivered_s: float
    site: str = "main"

    @property
    def pool(self) -> tuple[str, str, int]:
        """What is scheduled together."""
        return (self.site, self.model, self.gpus_per_node)


@dataclass(frozen=True)
class Outcome:
    """What became of a job; *where* is empty if it never started."""

    start_s: float | None
    end_s: float | None
    status: str
    where: tuple[tuple[int, int], ...] = ()


def choices(job: Job, fleet: Sequence[Nodes], prefer: str) -> list[tuple[tuple[str, str, int], float]]:
    """Pools that may run *job* with their speeds, in order of preference; empty if nothing ever can."""
    found: dict[tuple[str, str, int], float] = {}
    for pool in dict.fromkeys(c.pool for c in fleet):
        memory_gb, training = MODELS[pool[1]]
        gpus = sum(c.nodes * c.gpus_per_node for c in fleet if c.pool == pool)
        wanted = job.gpu_model in (None, pool[1]) and (job.min_memory_gb or 0) <= memory_gb
        if wanted and job.gpus <= gpus and job.gpu_share == 1:
            found[pool] = 1.0 if job.workload_class == "interactive" else training
    sign = {"fastest": -1, "slowest": 1, "listed": 0}[prefer]
    return sorted(found.items(), key=lambda choice: sign * choice[1])


def replay(
    jobs: Sequence[Job], fleet: Sequence[Nodes], horizon_s: float, skip: bool, placement: str, prefer: str
) -> list[Outcome]:
    """History of *jobs* (which all come before *horizon_s*), each with what became of it."""
    pool_of = [c.pool for c in fleet for _ in range(c.nodes)]
    size_of = [c.gpus_per_node for c in fleet for _ in range(c.nodes)]
    up_s = [max(c.delivered_s, 0.0) for c in fleet for _ in range(c.nodes)]
    free = [0] * len(pool_of)
    options = [choices(job, fleet, prefer) for job in jobs]
    coming = [n for n, found in enumerate(options) if found]
    undelivered = list(range(len(pool_of)))
    waiting: list[int] = []
    running: dict[int, tuple[float, float, Pieces]] = {}  # start, end, where
    result = [Outcome(None, None, "queued" if found else "rejected") for found in options]

    def begin(n: int, now: float) -> bool:
        for pool, speed in options[n]:
            nodes = [k for k in range(len(free)) if pool_of[k] == pool and k not in undelivered]
            if not nodes:
                continue
            taken = SCANS[placement]([free[k] for k in nodes], size_of[nodes[0]], jobs[n].gpus)
            if taken is not None:
                where = [(nodes[k], gpus) for k, gpus in taken]
                for k, gpus in where:
                    free[k] -= gpus
                running[n] = (now, now + jobs[n].duration_s / speed, where)
                return True
        return False

    while True:
        ends = min((end for _, end, _ in running.values()), default=inf)
        comes = jobs[coming[0]].submit_s if coming else inf
        now = min(ends, comes, min((up_s[k] for k in undelivered), default=inf))
        if now > horizon_s or now == inf or (horizon_s == inf and not (running or coming or waiting)):
            break
        for n in [n for n, (_, end, _) in running.items() if end == now]:
            start, end, where = running.pop(n)
            for k, gpus in where:
                free[k] += gpus
            result[n] = Outcome(start, end, "completed", tuple(where))
        if now == horizon_s:
            break
        for k in [k for k in undelivered if up_s[k] == now]:
            undelivered.remove(k)
            free[k] = size_of[k]
        while coming and jobs[coming[0]].submit_s == now:
            waiting.append(coming.pop(0))
        for n in list(waiting):
            if begin(n, now):
                waiting.remove(n)
            elif not skip:
                break
    for n, (start, _, where) in running.items():
        result[n] = Outcome(start, horizon_s, "running", tuple(where))
    return result
