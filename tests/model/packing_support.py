"""The packing policies by the book: for each placement every node scored from the definition, plainly.

Also the experiment of Weng et al. (USENIX ATC 2023) on the public openb lists.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import polars as pl

from fleetsim.policies.packing import Place, typical
from fleetsim.sharing import GPUS, NodeShape, Request, SharedPool, to_handle

Typical = Sequence[tuple[Request, Fraction | float]]


@dataclass
class Node:
    """A node as the original's simulator sees it."""

    shape: NodeShape
    cpu: int
    memory: int
    gpus: list[int]
    kinds: Counter[str] = field(default_factory=Counter)

    @classmethod
    def empty(cls, shape: NodeShape) -> Node:
        return cls(shape, shape.cpu_milli, shape.memory_mib, [1000] * shape.gpus)

    def fits(self, request: Request) -> bool:
        return (
            (not request.models or self.shape.model in request.models)
            and self.cpu >= request.cpu_milli
            and self.memory >= request.memory_mib
            and len(self.enough(request)) >= request.gpus
        )

    def enough(self, request: Request) -> list[int]:
        return [gpu for gpu, free in enumerate(self.gpus) if free >= request.gpu_milli]

    def tightest(self, request: Request) -> list[int]:
        return sorted(self.enough(request), key=lambda gpu: (self.gpus[gpu], gpu))[: request.gpus]

    def change(self, request: Request, gpus: Sequence[int], sign: int) -> None:
        self.cpu += sign * request.cpu_milli
        self.memory += sign * request.memory_mib
        for gpu in gpus:
            self.gpus[gpu] += sign * request.gpu_milli
        if request.gpus:
            self.kinds[_kind(request)] -= sign
            self.kinds += Counter()  # drops what is 0


def _kind(request: Request) -> str:
    return "share-gpu" if is_part(request) else f"{request.gpus}-gpu"


def is_part(request: Request) -> bool:
    return request.gpus == 1 and request.gpu_milli < 1000


def fragments(cpu: int, gpus: Sequence[int], model: str, typical: Typical) -> Fraction | float:
    """F of a node, summed by cause in the order of the original, in the arithmetic of the shares."""
    lack = {"gpu and cpu": 0 * typical[0][1], "gpu": 0 * typical[0][1], "cpu": 0 * typical[0][1]}
    lack |= {"cpu only": 0 * typical[0][1], "cpu only, no cpu": 0 * typical[0][1], "model": 0 * typical[0][1]}
    for request, share in typical:
        amount = sum(gpus)
        enough = sum(free >= request.gpu_milli for free in gpus) >= request.gpus
        if not request.gpus:
            cause = "cpu only" if cpu >= request.cpu_milli else "cpu only, no cpu"
        elif request.models and model not in request.models:
            cause = "model"
        elif cpu >= request.cpu_milli:
            cause = "gpu"
            if enough:
                amount = sum(free for free in gpus if free < request.gpu_milli)
        else:
            cause = "cpu" if enough else "gpu and cpu"
        lack[cause] += share * amount
    total = 0 * typical[0][1]
    for amount_of_cause in lack.values():
        total += amount_of_cause
    return total


def fgd(node: Node, request: Request, typical: Typical) -> tuple[int, list[int]]:
    """Score and GPUs."""
    before = fragments(node.cpu, node.gpus, node.shape.model, typical) if typical else 0
    parts = [[gpu] for gpu in node.enough(request)] if is_part(request) else [node.tightest(request)]
    best: tuple[int, list[int]] | None = None
    for gpus in parts:
        left = [free - request.gpu_milli * (gpu in gpus) for gpu, free in enumerate(node.gpus)]
        cpu = node.cpu - request.cpu_milli
        after = fragments(cpu, left, node.shape.model, typical) if typical else 0
        score = int(1 / (1 + math.exp(-float((before - after) / 1000))) * 100)
        if best is None or score > best[0]:
            best = score, gpus
    assert best is not None
    return best


def by_the_book(policy: str, node: Node, request: Request, most_cpu: int, most_gpu: int) -> int:
    """The score of every policy but FGD and random; *most_gpu* in milli."""
    free_gpu, asked_gpu = sum(node.gpus), request.gpus * request.gpu_milli
    if policy == "first_fit":
        return 100
    if policy == "dot_product":
        product = (node.cpu / most_cpu) * (request.cpu_milli / most_cpu)
        product += (free_gpu / most_gpu) * (asked_gpu / most_gpu)
        return int(100 * (1 - product / 2))
    if policy == "best_fit":
        left = (node.cpu - request.cpu_milli) / most_cpu * 0.5
        left += (free_gpu - asked_gpu) / most_gpu * 0.5
        return int((1.0 - left) * 100)
    if policy == "worst_fit":
        return node.cpu - request.cpu_milli + 100 * (free_gpu - asked_gpu)
    if not request.gpus:
        return 0
    if policy == "gpu_packing":
        idle = node.gpus.count(1000)
        if idle == node.shape.gpus:
            return max(33 - idle, idle)
        use = node.tightest(request)
        opened = sum(node.gpus[gpu] == 1000 for gpu in use)
        if opened:
            return max(50 - opened, 33)
        return max(100 - sum(node.gpus[gpu] * 100 // 1000 for gpu in use) // 10, 50)
    assert policy == "gpu_clustering"
    full = 25 * (most_gpu - free_gpu) // most_gpu
    if node.kinds[_kind(request)]:
        return full + (75 if len(node.kinds) == 1 else 50)
    return full + (0 if node.kinds else 25)


class Book:
    """Places by scoring every node."""

    def __init__(
        self,
        policy: str,
        nodes: dict[int, NodeShape],
        requests: Sequence[Request],
        typical: Typical,
        seed: int,
    ) -> None:
        self.policy, self.requests, self.typical = policy, requests, typical
        self.nodes = {number: Node.empty(shape) for number, shape in sorted(nodes.items())}
        self.most_cpu = max([1, *(shape.cpu_milli for shape in nodes.values())])
        self.most_gpu = max([1, *(shape.gpus * 1000 for shape in nodes.values())])
        self.draws = np.random.default_rng(seed)

    def place(self, asks: int) -> tuple[int, int] | None:
        request = self.requests[asks]
        fit = [number for number, node in self.nodes.items() if node.fits(request)]
        if not fit:
            return None
        if self.policy == "random":
            number = fit[int(self.draws.integers(len(fit)))]
            node = self.nodes[number]
            gpus = node.tightest(request)
            if is_part(request):
                enough = node.enough(request)
                gpus = [enough[int(self.draws.integers(len(enough)))]]
            return number, to_handle(asks, sum(1 << gpu for gpu in gpus))
        best, chosen = -1, (-1, [-1])
        for number in fit:
            node = self.nodes[number]
            if self.policy == "fgd":
                score, gpus = fgd(node, request, self.typical)
            else:
                score = by_the_book(self.policy, node, request, self.most_cpu, self.most_gpu)
                gpus = node.tightest(request)
            if score > best:
                best, chosen = score, (number, gpus)
        return chosen[0], to_handle(asks, sum(1 << gpu for gpu in chosen[1]))

    def change(self, asks: int, where: tuple[int, int], sign: int) -> None:
        number, handle = where
        gpus = [gpu for gpu in range(32) if handle & GPUS & 1 << gpu]
        self.nodes[number].change(self.requests[asks], gpus, sign)


def shares(requests: Sequence[Request], counts: Sequence[int], exact: bool) -> Typical:
    """Typical requests with their shares; as floats, rounded as the original rounds them."""
    found = typical(requests, counts)
    total, kept = sum(counts), sum(count for _, count in found)
    if exact:
        return [(request, Fraction(count, kept)) for request, count in found]
    return [(request, count / total / (kept / total)) for request, count in found]


@dataclass(frozen=True)
class Openb:
    """A cluster, the requests of its jobs, and which request each job of the list makes."""

    nodes: dict[int, NodeShape]
    requests: list[Request]
    jobs: list[int]

    @property
    def counts(self) -> list[int]:
        count = Counter(self.jobs)
        return [count[asks] for asks in range(len(self.requests))]

    @property
    def gpu_milli(self) -> int:
        return 1000 * sum(shape.gpus for shape in self.nodes.values())


def read_openb(folder: Path, pods: str = "default", seed: int = 42) -> Openb:
    """The GPU nodes, numbered in a seeded random order as in the original's experiments, and a pod list."""
    table = pl.read_csv(folder / "openb_node_list_gpu_node.csv")
    order = np.random.default_rng([seed, 0]).permutation(table.height)
    nodes = {
        number: NodeShape(model, gpus, cpu, memory)
        for number, (_, cpu, memory, gpus, model) in zip(order.tolist(), table.iter_rows(), strict=True)
    }
    columns = ["num_gpu", "gpu_milli", "cpu_milli", "memory_mib", "gpu_spec"]
    rows = pl.read_csv(folder / f"openb_pod_list_{pods}.csv", columns=columns).select(columns).rows()
    requests: dict[Request, int] = {}
    jobs = [
        requests.setdefault(
            Request(gpus, milli or 1000, cpu, memory, tuple(spec.split("|")) if spec else ()), len(requests)
        )
        for gpus, milli, cpu, memory, spec in rows
    ]
    return Openb(nodes, list(requests), jobs)


def arrivals(openb: Openb, seed: int, load: float = 1.3) -> Iterator[int]:
    """The jobs in a seeded random order, then drawn with replacement, until they ask *load* x the GPUs."""
    draws = np.random.default_rng([seed, 1])
    asked, limit = 0, load * openb.gpu_milli
    order = draws.permutation(len(openb.jobs)).tolist()
    while True:
        asks = openb.jobs[order.pop(0) if order else int(draws.integers(len(openb.jobs)))]
        request = openb.requests[asks]
        asked += request.gpus * request.gpu_milli
        if asked > limit:
            return
        yield asks


def fill(openb: Openb, pool: SharedPool, place: Place, jobs: Sequence[int]) -> list[tuple[float, float]]:
    """Place *jobs*, which never leave: GPU demand arrived and GPUs allocated after each, as parts of all."""
    for node in pool.nodes:
        pool.add(node)
    curve, arrived, allocated = [], 0, 0
    for asks in jobs:
        milli = openb.requests[asks].gpus * openb.requests[asks].gpu_milli
        arrived += milli
        where = place(pool, asks)
        if where is not None:
            pool.take(*where)
            allocated += milli
        curve.append((arrived / openb.gpu_milli, allocated / openb.gpu_milli))
    return curve


def at(curve: Sequence[tuple[float, float]], load: float) -> float:
    """Allocation when *load* had arrived: the last point at or before it."""
    return [allocated for arrived, allocated in curve if arrived <= load][-1]
