"""Where a request goes in a cluster whose GPUs are shared: the policies of the literature.

:data:`PACKINGS` maps a name to a factory; what it makes is ``place(pool, asks) -> (node, handle) | None``.
All choose among the nodes that can run the request now, by the highest score, which is a whole number;
**ties go to the lowest node number**.

The policies are those that Weng et al. compare in "Beware of Fragmentation: Scheduling GPU-Sharing Workloads
with Fragmentation Gradient Descent" (USENIX ATC 2023), as their simulator computes them under the settings of
their experiments (github.com/hkust-adsl/kubernetes-scheduler-simulator, ``pkg/simulator/plugin``; the dot
product with GPUs merged into one dimension and vectors normalised by the largest node). It too breaks ties
by the least name of a node, names beginning with a seeded random number. Scores see GPUs and CPU; host memory
only limits. *Milli* is thousandths of a GPU or of a core; GPUs in MIG mode count as having none free.

=============== =====================================================================================
first_fit       any node scores the same
random          a node drawn evenly, and one of its GPUs that fit, drawn evenly, for a part of a GPU
dot_product     least product of what is free and what is asked (Tetris the other way round, as there)
best_fit        least left over, CPU and GPU each as half of the largest node's
worst_fit       most left over, a milli-GPU counting as 100 milli-CPU
gpu_packing     shared GPUs first, the tightest before; then used nodes; then idle ones, the smallest first
gpu_clustering  nodes that run jobs of the same kind (a part of a GPU, or so many GPUs), the fullest first
fgd             where the GPUs that typical jobs cannot use grow least: :class:`Fragmentation`
=============== =====================================================================================

On the node, the tightest GPUs that fit are used, the lowest numbers first; ``fgd`` and ``random`` choose
their own for a part of a GPU. A MIG instance goes where it costs the fewest open positions
(:func:`fleetsim.mig.moves`) under every policy; ``first_fit`` and ``random`` choose the node as usual.

Scores are kept by request and renewed only for nodes that changed since the request was last placed, by
array operations: a placement costs about as many scores as there are distinct requests, not nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fleetsim.sharing import WHOLE, Ints, Request, SharedPool, to_handle

__all__ = ["PACKINGS", "SCORES", "Fragmentation", "Packing", "Place", "typical"]

Place = Callable[[SharedPool, int], tuple[int, int] | None]
Score = Callable[[SharedPool, int, Ints], Ints]  # of nodes where a request fits
Packing = Callable[[SharedPool, Sequence[int], np.random.Generator], Place]
"""Makes a policy for a pool, given the number of jobs of each of its requests and a source of draws."""

BEST = 100  # the highest score of most policies
_NONE = -1  # the score of a node where the request does not fit


class Scores:
    """The scores of all nodes for each request, kept up to date."""

    def __init__(self, pool: SharedPool, score: Score) -> None:
        self._pool, self._score = pool, score
        self._scores: dict[int, NDArray[np.int32]] = {}
        self._seen: dict[int, int] = {}

    def of(self, asks: int) -> NDArray[np.int32]:
        """Scores by node number for request *asks*; negative where it does not fit."""
        pool = self._pool
        scores = self._scores.get(asks)
        if scores is None:
            scores = self._scores[asks] = np.full(len(pool.stamp), _NONE, np.int32)
            nodes = pool.numbers
        else:
            nodes = np.flatnonzero(pool.stamp > self._seen[asks])
        self._seen[asks] = pool.clock
        if len(nodes):
            scores[nodes] = _NONE
            nodes = nodes[pool.fits(asks, nodes)]
            if len(nodes):
                scores[nodes] = self._score(pool, asks, nodes)
        return scores


def _highest(pool: SharedPool, score: Score, part: Callable[[int, int], int] | None = None) -> Place:
    """The policy of the highest score; *part* chooses the GPU of a node for a part of one."""
    scores = Scores(pool, score)

    def place(pool: SharedPool, asks: int) -> tuple[int, int] | None:
        row = scores.of(asks)
        node = int(row.argmax())
        if row[node] < 0:
            return None
        if part is not None and _is_part(pool.requests[asks]):
            return node, to_handle(asks, 1 << part(asks, node))
        return node, _tightest(pool, asks, node)

    return place


def _is_part(request: Request) -> bool:
    """Whether it asks for a part of one GPU, which a policy may then choose on a node."""
    return request.mig is None and request.gpus == 1 and request.gpu_milli < WHOLE


def _tightest(pool: SharedPool, asks: int, node: int) -> int:
    """The handle of request *asks* on the GPUs of *node* with the least free that fit."""
    request = pool.requests[asks]
    if request.mig is not None:
        starts = pool.mig_moves(asks, np.array([node]))[0].tolist()
        _, gpu, start = min((lost, gpu, start) for gpu, (start, lost) in enumerate(starts) if start >= 0)
        return to_handle(asks, 1 << gpu, start)
    free = pool.gpu_free[node].tolist()
    fit = sorted((left, gpu) for gpu, left in enumerate(free) if left >= request.gpu_milli)
    return to_handle(asks, sum(1 << gpu for _, gpu in fit[: request.gpus]))


def _any(pool: SharedPool, asks: int, nodes: Ints) -> Ints:
    return np.zeros(len(nodes), np.int64)


def _least_cost(pool: SharedPool, asks: int, nodes: Ints) -> Ints:
    """For a MIG instance: the fewer open positions it costs, the better."""
    moves = pool.mig_moves(asks, nodes)
    lost: Ints = np.where(moves[:, :, 0] >= 0, moves[:, :, 1], BEST).min(1)
    return BEST - lost


def _free(pool: SharedPool, nodes: Ints) -> tuple[Ints, Ints]:
    """Free milli-CPU and milli-GPU of *nodes*."""
    return pool.cpu_free[nodes], pool.gpu_free[nodes].sum(1)


def _largest(pool: SharedPool) -> tuple[int, int]:
    """Milli-CPU and milli-GPU of the largest node (1 where there are none)."""
    return max(pool.most_cpu_milli, 1), max(pool.most_gpus * WHOLE, 1)


def _dot_product(pool: SharedPool, asks: int, nodes: Ints) -> Ints:
    request = pool.requests[asks]
    (cpu, gpu), (most_cpu, most_gpu) = _free(pool, nodes), _largest(pool)
    asked_gpu = request.gpus * request.gpu_milli / most_gpu
    product = (cpu / most_cpu) * (request.cpu_milli / most_cpu) + (gpu / most_gpu) * asked_gpu
    return (BEST * (1 - product / 2)).astype(np.int64)


def _best_fit(pool: SharedPool, asks: int, nodes: Ints) -> Ints:
    request = pool.requests[asks]
    (cpu, gpu), (most_cpu, most_gpu) = _free(pool, nodes), _largest(pool)
    left_gpu = gpu - request.gpus * request.gpu_milli
    left = (cpu - request.cpu_milli) / most_cpu * 0.5 + left_gpu / most_gpu * 0.5
    return ((1.0 - left) * BEST).astype(np.int64)


def _worst_fit(pool: SharedPool, asks: int, nodes: Ints) -> Ints:
    request = pool.requests[asks]
    cpu, gpu = _free(pool, nodes)
    left: Ints = cpu - request.cpu_milli + 100 * (gpu - request.gpus * request.gpu_milli)
    return left


def _gpu_packing(pool: SharedPool, asks: int, nodes: Ints) -> Ints:
    request = pool.requests[asks]
    if not request.gpus:
        return np.zeros(len(nodes), np.int64)
    free, count = pool.gpu_free[nodes], pool.gpu_count[nodes]
    fit = np.sort(np.where(free >= request.gpu_milli, free, 2 * WHOLE), axis=1)[:, : request.gpus]
    opened = (fit == WHOLE).sum(1)  # idle GPUs it would begin to use
    shared = np.maximum(BEST - (fit // 10).sum(1) // 10, BEST // 2)
    used = np.where(opened > 0, np.maximum(BEST // 2 - opened, BEST // 3), shared)
    idle: Ints = (free == WHOLE).sum(1) == count
    return np.where(idle, np.maximum(BEST // 3 - count, count), used)


def _gpu_clustering(pool: SharedPool, asks: int, nodes: Ints) -> Ints:
    if not pool.requests[asks].gpus:
        return np.zeros(len(nodes), np.int64)
    _, most = _largest(pool)
    quarter = BEST // 4
    full = quarter * (most - pool.gpu_free[nodes].sum(1)) // most
    kinds = (pool.kinds[nodes] > 0).sum(1)
    same = pool.kinds[nodes, pool.kind_of[asks]] > 0
    band = np.where(same, np.where(kinds == 1, 3, 2), np.where(kinds == 0, 1, 0))
    score: Ints = full + quarter * band
    return score


def typical(
    requests: Sequence[Request], counts: Sequence[int], percent: int = 95, cpu_only: bool = True
) -> list[tuple[Request, int]]:
    """The commonest requests and their counts, until they are *percent* of all jobs; the commonest first.

    Host memory does not tell requests apart, and those for MIG instances are left out. Of equally common
    ones the larger by CPU, GPU part, GPUs and models comes first. ``cpu_only`` keeps requests without GPUs.
    """
    count: dict[tuple[int, int, int, str], int] = {}
    of: dict[tuple[int, int, int, str], Request] = {}
    for request, jobs in zip(requests, counts, strict=True):
        if request.mig is None and (request.gpus or cpu_only):
            milli = request.gpu_milli if request.gpus else 0
            key = (request.cpu_milli, milli, request.gpus, "|".join(request.models))
            of.setdefault(key, request)
            count[key] = count.get(key, 0) + jobs
    enough = percent * sum(count.values())
    found: list[tuple[Request, int]] = []
    total = 0
    for jobs, key in sorted(((jobs, key) for key, jobs in count.items()), reverse=True):
        if 100 * total >= enough:
            break
        found.append((of[key], jobs))
        total += jobs
    return found


class Fragmentation:
    """How much of a node's free GPUs typical jobs cannot use, and what a placement adds to it.

    ``F(node)`` is the mean over typical requests, by their share of the jobs, of: all that is free on its
    GPUs if the request does not fit there (or asks for no GPU, or not for this model); else what is free on
    those GPUs that are too small for it. A placement scores ``100 / (1 + exp(F after - F before))``, F in
    GPUs, rounded down. F is in whole numbers here, requests being weighed by their counts, so a change of
    nothing scores exactly 50; the original adds floats in the order of the list and may score it 49.

    Most of F is a sum over GPUs of a function of what is free on each, given the node's model and how many
    of the CPU demands it could meet, hence tables. The rest comes from requests for several GPUs, where too
    few are large enough: what is free on GPUs of at least a size, times a weight by the number of those GPUs.
    """

    def __init__(self, pool: SharedPool, typical: Sequence[tuple[Request, int]]) -> None:
        self._pool = pool
        self._total = float(WHOLE * max(sum(weight for _, weight in typical), 1))
        cpus = sorted({request.cpu_milli for request, _ in typical})
        self._cpus: Ints = np.array(cpus, np.int64)
        self._ranks = len(cpus) + 1  # rank: how many of the CPU demands are met
        milli = np.arange(WHOLE + 1)
        models = len(pool.models)
        lost: Ints = np.zeros((models, self._ranks, WHOLE + 1), np.int64)
        sizes = sorted({request.gpu_milli for request, _ in typical if request.gpus > 1})
        scarce: Ints = np.zeros((len(sizes), models, self._ranks, pool.gpu_free.shape[1] + 1), np.int64)
        for request, weight in typical:
            rank = cpus.index(request.cpu_milli) + 1
            lost += weight * milli
            for row, model in enumerate(pool.models):
                if request.gpus and (not request.models or model in request.models):
                    lost[row, rank:, request.gpu_milli :] -= weight * milli[request.gpu_milli :]
                    if request.gpus > 1:
                        scarce[sizes.index(request.gpu_milli), row, rank:, : request.gpus] += weight
        self._lost = lost.ravel()
        self._scarce = [(size, table.ravel()) for size, table in zip(sizes, scarce, strict=True)]

    def score(self, pool: SharedPool, asks: int, nodes: Ints) -> Ints:
        """Scores of *nodes* for a request that fits on them; the best GPU's for a part of a GPU."""
        request = pool.requests[asks]
        if _is_part(request):
            best: Ints = self._by_gpu(request, nodes).max(1)
            return best
        free = pool.gpu_free[nodes]
        left = free
        if request.gpus:
            fit = np.where(free >= request.gpu_milli, free, 2 * WHOLE)
            chosen = fit.argsort(axis=1)[:, : request.gpus]
            left = free.copy()
            np.put_along_axis(left, chosen, np.take_along_axis(free, chosen, 1) - request.gpu_milli, 1)
        before = self._fragments(self._state(nodes, 0), free)
        return self._rounded(before - self._fragments(self._state(nodes, request.cpu_milli), left))

    def part(self, asks: int, node: int) -> int:
        """The GPU of *node* where a part of a GPU adds least; the lowest number of several."""
        return int(self._by_gpu(self._pool.requests[asks], np.array([node]))[0].argmax())

    def _by_gpu(self, request: Request, nodes: Ints) -> Ints:
        """Scores by node and GPU of a part of a GPU."""
        free = self._pool.gpu_free[nodes]
        left = free - request.gpu_milli  # below 0 where it does not fit: what that finds is masked at the end
        state = self._state(nodes, request.cpu_milli)
        row = (state * (WHOLE + 1))[:, None]
        lost = self._lost.take(row + free)
        after = lost.sum(1)[:, None] - lost + self._lost.take(row + left)
        for size, table in self._scarce:
            large, still = free >= size, left >= size
            above = np.where(large, free, 0)
            total = above.sum(1)[:, None] - above + np.where(still, left, 0)
            number = large.sum(1)[:, None] - large + still
            after += total * table.take((state * (free.shape[1] + 1))[:, None] + number)
        before = self._fragments(self._state(nodes, 0), free)
        return np.where(left >= 0, self._rounded(before[:, None] - after), _NONE)

    def _state(self, nodes: Ints, cpu_milli: int) -> Ints:
        """The row of the tables for each node once *cpu_milli* is taken from it."""
        rank = self._cpus.searchsorted(self._pool.cpu_free[nodes] - cpu_milli, side="right")
        return self._pool.model_of[nodes] * self._ranks + rank

    def _fragments(self, state: Ints, free: Ints) -> Ints:
        """F of nodes in *state* whose GPUs have *free* milli each, times the typical jobs and 1000."""
        found: Ints = self._lost.take((state * (WHOLE + 1))[:, None] + free).sum(1)
        for size, table in self._scarce:
            large = free >= size
            above = np.where(large, free, 0).sum(1)
            found += above * table.take(state * (free.shape[1] + 1) + large.sum(1))
        return found

    def _rounded(self, gain: Ints) -> Ints:
        return (1.0 / (1.0 + np.exp(gain / -self._total)) * BEST).astype(np.int64)


def _or_least_cost(score: Score) -> Score:
    """*score*, but for MIG instances the least cost."""

    def either(pool: SharedPool, asks: int, nodes: Ints) -> Ints:
        return (score if pool.requests[asks].mig is None else _least_cost)(pool, asks, nodes)

    return either


#: Policies that are a score and nothing else.
SCORES: dict[str, Score] = {
    "dot_product": _dot_product,
    "gpu_clustering": _gpu_clustering,
    "gpu_packing": _gpu_packing,
    "best_fit": _best_fit,
    "worst_fit": _worst_fit,
}


def _scoring(score: Score) -> Packing:
    def make(pool: SharedPool, counts: Sequence[int], draws: np.random.Generator) -> Place:
        return _highest(pool, _or_least_cost(score))

    return make


def _first_fit(pool: SharedPool, counts: Sequence[int], draws: np.random.Generator) -> Place:
    return _highest(pool, _any)


def _fgd(pool: SharedPool, counts: Sequence[int], draws: np.random.Generator) -> Place:
    fragmentation = Fragmentation(pool, typical(pool.requests, counts))
    return _highest(pool, _or_least_cost(fragmentation.score), fragmentation.part)


def _random(pool: SharedPool, counts: Sequence[int], draws: np.random.Generator) -> Place:
    scores = Scores(pool, _any)

    def place(pool: SharedPool, asks: int) -> tuple[int, int] | None:
        nodes = np.flatnonzero(scores.of(asks) >= 0)
        if not len(nodes):
            return None
        node = int(nodes[draws.integers(len(nodes))])
        if _is_part(request := pool.requests[asks]):
            gpus = np.flatnonzero(pool.gpu_free[node] >= request.gpu_milli)
            return node, to_handle(asks, 1 << int(gpus[draws.integers(len(gpus))]))
        return node, _tightest(pool, asks, node)

    return place


PACKINGS: dict[str, Packing] = {
    "random": _random,
    **{name: _scoring(score) for name, score in SCORES.items()},
    "first_fit": _first_fit,
    "fgd": _fgd,
}
