"""Nodes whose GPUs can be shared, with CPU and host memory as limits: state and its legal changes.

A job here is one *request*: whole GPUs, a part of one or of each of several, or a MIG instance, on one node.
Jobs of equal requests fit or fail together, so a pool holds a table of requests and speaks of their indexes.

One :class:`SharedPool` holds all the nodes of a cluster, of whatever model, size and site. The placement
policies of the literature choose among all nodes at once, by scores that mean the same on each of them; pools
of one model, tried in turn, would be another policy. So a request names the models that may run it, and the
speed of a job is that of the node where it was placed (:meth:`SharedPool.model`).

Handles. What :meth:`SharedPool.take` and :meth:`SharedPool.give` are told is one integer, made by
:func:`to_handle`: bits 0 to 31 are the node's GPUs (so ``(handle & GPUS).bit_count()`` GPUs are held), bits
32 to 35 the first memory slice of a MIG instance (else 0), the bits above the index of the request. Equal
requests on the same GPUs of a node have equal handles: those jobs are alike in every respect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fleetsim.mig import PROFILES, find_profile, moves, share

__all__ = ["GPUS", "WHOLE", "NodeShape", "Request", "SharedPool", "request_of", "slice_rate", "to_handle"]

WHOLE = 1000
"""Parts of a GPU that requests count in: a milli-GPU is one thousandth."""
GPUS = 2**32 - 1
"""The bits of a handle that say which GPUs of the node."""
MOST_GPUS = 32
_START, _REQUEST = 32, 36
_NOT_MIG = 256  # in place of a mask of memory slices, on a GPU that is not in MIG mode

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Request:
    """What a job needs, all of it on one node.

    *gpus* GPUs, *gpu_milli* of each; CPU in thousandths of a core; host memory. *models* are the names of
    the GPU models that may run it, any if empty. *mig* is a profile's name: one instance of it on a GPU in
    MIG mode.
    """

    gpus: int
    gpu_milli: int = WHOLE
    cpu_milli: int = 0
    memory_mib: int = 0
    models: tuple[str, ...] = ()
    mig: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.gpus <= MOST_GPUS:
            raise ValueError(f"gpus is {self.gpus}; it must be 0 to {MOST_GPUS}")
        if not 1 <= self.gpu_milli <= WHOLE:
            raise ValueError(f"gpu_milli is {self.gpu_milli}; it must be 1 to {WHOLE}")
        if self.cpu_milli < 0 or self.memory_mib < 0:
            raise ValueError(f"{self.cpu_milli} milli-CPU, {self.memory_mib} MiB; neither may be negative")
        if self.mig is not None and self.gpus != 1:
            raise ValueError(f"gpus is {self.gpus}; a request for a MIG instance has 1")


@dataclass(frozen=True, slots=True)
class NodeShape:
    """What a node has: GPUs of one model, the first *mig_gpus* of them in MIG mode when it enters service.

    Requests call the model *known_as*, if that is given: models of one id that must not be mixed up.
    """

    model: str
    gpus: int
    cpu_milli: int
    memory_mib: int
    mig_gpus: int = 0
    known_as: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.mig_gpus <= self.gpus <= MOST_GPUS:
            raise ValueError(f"{self.mig_gpus} of {self.gpus} GPUs in MIG mode; a node has 0 to {MOST_GPUS}")
        if self.mig_gpus and self.model not in PROFILES:
            raise ValueError(f"GPU model {self.model} has no MIG mode")

    @property
    def name(self) -> str:
        """What requests call its GPU model."""
        return self.known_as or self.model


def to_handle(request: int, gpus: int, start: int = 0) -> int:
    """The handle of request number *request* on the GPUs of the bit mask *gpus*; *start* as in MIG."""
    return request << _REQUEST | start << _START | gpus


def request_of(handle: int) -> int:
    """The index of the request that a handle was made for."""
    return handle >> _REQUEST


class SharedPool:
    """The nodes of a cluster whose GPUs are shared, and what is free on each.

    Nodes are numbered across the fleet; ``nodes`` says what each of this pool's is, in service or not yet.
    The arrays have one row a node number and one column a GPU, and are for policies to read: what is not
    there, not in service or (``gpu_free``) in MIG mode shows as nothing free.

    ``stamp[node]`` is the value that ``clock`` had when the node last changed, so that a policy which keeps
    scores knows which of them to renew. ``requests`` does not change. ``idle`` is a constant above any index
    of a request, so the engine's test ``pool.idle < asks`` never holds: only a policy can tell what fits.
    """

    def __init__(self, name: str, nodes: Mapping[int, NodeShape], requests: Sequence[Request]) -> None:
        self.name = name
        self.idle = 2**62
        self.nodes = dict(sorted(nodes.items()))
        self.requests = requests
        self.numbers: Ints = np.array([*self.nodes], np.int64)
        ids = {shape.name: shape.model for shape in nodes.values()}
        self.models = sorted(ids)  # by name
        self.most_cpu_milli = max((shape.cpu_milli for shape in nodes.values()), default=0)
        self.most_gpus = max((shape.gpus for shape in nodes.values()), default=0)
        rows = max(nodes, default=-1) + 1
        self.model_of: Ints = np.zeros(rows, np.int64)  # into models
        self.gpu_count: Ints = np.zeros(rows, np.int64)
        self.gpu_free: Ints = np.zeros((rows, max(self.most_gpus, 1)), np.int64)  # milli-GPU
        self.cpu_free: Ints = np.full(rows, -1, np.int64)  # -1 out of service: not even nothing fits
        self.memory_free: Ints = np.full(rows, -1, np.int64)
        self.mig_used: Ints = np.full_like(self.gpu_free, _NOT_MIG)  # memory slices of instances
        for node, shape in self.nodes.items():
            self.model_of[node] = self.models.index(shape.name)
            self.gpu_count[node] = shape.gpus
        kinds = dict.fromkeys(_kind(request) for request in requests if request.gpus)
        self.kind_of = [list(kinds).index(_kind(r)) if r.gpus else -1 for r in requests]
        self.kinds: Ints = np.zeros((rows, max(len(kinds), 1)), np.int64)  # jobs on the node by kind
        self.stamp: Ints = np.zeros(rows, np.int64)
        self.clock = 0
        self._held: dict[int, dict[int, int]] = {}  # nodes in service: handle -> jobs
        self._allowed = [self._models_of(request) for request in requests]
        mig = dict.fromkeys(request.mig for request in requests if request.mig is not None)
        self._moves = {
            profile: self._move_table([ids[name] for name in self.models], profile) for profile in mig
        }
        self._empty: SharedPool | None = None

    def _models_of(self, request: Request) -> Bools:
        return np.array([not request.models or model in request.models for model in self.models], np.bool_)

    def _move_table(self, models: Sequence[str], profile: str) -> Ints:
        """Start and cost of an instance by model and slices in use, as :func:`moves`; -1: not possible."""
        table = [[*moves(model, profile), (-1, 0)] for model in models]
        return np.array(table, np.int64).reshape(len(models), _NOT_MIG + 1, 2)

    def model(self, node: int) -> str:
        """The GPU model of *node*, by its name in the catalogue."""
        return self.nodes[node].model

    def possible(self, asks: int) -> bool:
        """Whether any node of the pool, in service or not, could run request *asks* if it were empty."""
        if self._empty is None:
            kinds = dict.fromkeys(self.nodes.values())
            self._empty = SharedPool(self.name, dict(enumerate(kinds)), self.requests)
            for node in self._empty.nodes:
                self._empty.add(node)
        return bool(self._empty.fits(asks, self._empty.numbers).any())

    def add(self, node: int) -> None:
        """Bring *node* into service, empty."""
        if node in self._held:
            raise AssertionError(f"node {node} of {self.name} is in service already")
        shape = self.nodes[node]
        self._held[node] = {}
        self.cpu_free[node] = shape.cpu_milli
        self.memory_free[node] = shape.memory_mib
        self.gpu_free[node, shape.mig_gpus : shape.gpus] = WHOLE
        self.mig_used[node, : shape.mig_gpus] = 0
        self._touch(node)

    def remove(self, node: int) -> None:
        """Take *node* out of service; it must hold no job."""
        if self._held.get(node) != {}:
            raise AssertionError(f"node {node} of {self.name} is not in service, or not drained")
        del self._held[node]
        self.cpu_free[node] = self.memory_free[node] = -1
        self.gpu_free[node] = 0
        self.mig_used[node] = _NOT_MIG
        self._touch(node)

    def set_mig(self, node: int, gpu: int, on: bool) -> None:
        """Switch MIG mode of a GPU that has it; the GPU must hold no job."""
        shape = self.nodes[node]
        if shape.model not in PROFILES or not 0 <= gpu < shape.gpus:
            raise AssertionError(f"node {node} of {self.name} has no GPU {gpu} with MIG mode")
        if any(handle >> gpu & 1 for handle in self._held[node]):
            raise AssertionError(f"GPU {gpu} of node {node} of {self.name} is not drained")
        self.gpu_free[node, gpu] = 0 if on else WHOLE
        self.mig_used[node, gpu] = 0 if on else _NOT_MIG
        self._touch(node)

    def take(self, node: int, handle: int) -> None:
        """Allocate what *handle* names on *node*; raises AssertionError if that is not free."""
        request = self.requests[request_of(handle)]
        cpu = int(self.cpu_free[node]) - request.cpu_milli
        memory = int(self.memory_free[node]) - request.memory_mib
        gpus = handle & GPUS
        fine = gpus.bit_count() == request.gpus and gpus.bit_length() <= self.nodes[node].gpus
        if cpu < 0 or memory < 0 or not fine:
            raise AssertionError(f"node {node} of {self.name} has not what {handle:#x} asks for")
        for array, gpu, value in self._changes(node, handle, request, -1):
            array[node, gpu] = value
        self.cpu_free[node] = cpu
        self.memory_free[node] = memory
        held = self._held[node]
        held[handle] = held.get(handle, 0) + 1
        if request.gpus:
            self.kinds[node, self.kind_of[request_of(handle)]] += 1
        self._touch(node)

    def give(self, node: int, handle: int) -> None:
        """Return what *handle* names on *node*; raises AssertionError if no job holds it."""
        request = self.requests[request_of(handle)]
        held = self._held.get(node, {})
        if handle not in held:
            raise AssertionError(f"node {node} of {self.name} holds no {handle:#x}")
        for array, gpu, value in self._changes(node, handle, request, 1):
            array[node, gpu] = value
        self.cpu_free[node] += request.cpu_milli
        self.memory_free[node] += request.memory_mib
        held[handle] -= 1
        if not held[handle]:
            del held[handle]
        if request.gpus:
            self.kinds[node, self.kind_of[request_of(handle)]] -= 1
        self._touch(node)

    def _changes(self, node: int, handle: int, request: Request, sign: int) -> list[tuple[Ints, int, int]]:
        """What the GPUs of *handle* become when it is taken (-1) or given back (1)."""
        changes: list[tuple[Ints, int, int]] = []
        gpus = handle & GPUS
        while gpus:
            gpu = gpus.bit_length() - 1
            gpus ^= 1 << gpu
            if request.mig is not None:
                used, mask = int(self.mig_used[node, gpu]), self._slices(node, handle, request.mig)
                fine = used != _NOT_MIG and bool(used & mask) == (sign > 0)
                changes.append((self.mig_used, gpu, used ^ mask))
            else:
                free = int(self.gpu_free[node, gpu]) + sign * request.gpu_milli
                fine = 0 <= free <= WHOLE
                changes.append((self.gpu_free, gpu, free))
            if not fine:
                raise AssertionError(f"GPU {gpu} of node {node} of {self.name} cannot hold {handle:#x}")
        return changes

    def _slices(self, node: int, handle: int, mig: str) -> int:
        profile = find_profile(self.nodes[node].model, mig, f"node {node} of {self.name}")
        start = handle >> _START & 15
        if start not in profile.starts:
            raise AssertionError(f"a MIG instance {mig} may not begin at memory slice {start}")
        return profile.mask(start)

    def _touch(self, node: int) -> None:
        self.clock += 1
        self.stamp[node] = self.clock

    def fits(self, asks: int, nodes: Ints) -> Bools:
        """Which of *nodes* can run request *asks* now."""
        request = self.requests[asks]
        fits: Bools = (self.cpu_free[nodes] >= request.cpu_milli) & (
            self.memory_free[nodes] >= request.memory_mib
        )
        if not self._allowed[asks].all():
            fits &= self._allowed[asks][self.model_of[nodes]]
        if request.mig is not None:
            fits &= (self.mig_moves(asks, nodes)[:, :, 0] >= 0).any(1)
        elif request.gpus == 1:
            fits &= self.gpu_free[nodes].max(1) >= request.gpu_milli
        elif request.gpus:
            fits &= (self.gpu_free[nodes] >= request.gpu_milli).sum(1) >= request.gpus
        return fits

    def mig_moves(self, asks: int, nodes: Ints) -> Ints:
        """By node and GPU: where the MIG instance of request *asks* would begin (-1: nowhere), and the cost.

        As :func:`fleetsim.mig.moves` says.
        """
        mig = self.requests[asks].mig
        assert mig is not None
        found: Ints = self._moves[mig][self.model_of[nodes][:, None], self.mig_used[nodes]]
        return found

    def gpus_held(self, node: int, handle: int) -> float:
        """How many GPUs of *node* a job of *handle* counts for: parts add up, an instance by its slices."""
        request = self.requests[request_of(handle)]
        if request.mig is None:
            return request.gpus * request.gpu_milli / WHOLE
        return share(self.model(node), find_profile(self.model(node), request.mig, self.name))

    def crowds(self, node: int, handle: int) -> list[int] | None:
        """Jobs on each GPU of *handle*, its own included; None for a MIG instance, which shares nothing."""
        if self.requests[request_of(handle)].mig is not None:
            return None
        held = self._held[node].items()
        gpus = [1 << gpu for gpu in range(self.nodes[node].gpus) if handle >> gpu & 1]
        return [sum(jobs for other, jobs in held if other & gpu) for gpu in gpus]


def _kind(request: Request) -> int:
    """Jobs that the clustering policy wants together: a part of a GPU (0), or so many GPUs."""
    shares = request.gpus == 1 and (request.gpu_milli < WHOLE or request.mig is not None)
    return 0 if shares else request.gpus


def slice_rate(jobs: int, interference: float) -> float:
    """How fast each of *jobs* jobs runs that share a GPU by time slicing, alone on it being 1.

    ``(1 - interference * (jobs - 1)) / jobs``: equal slices, all jobs always busy, and each further job costs
    the part *interference* of the whole (switching, caches). A job on several GPUs goes at the pace of the
    fullest. Requests of ``1000 // replicas`` milli-GPU let up to *replicas* jobs on a GPU, as the Kubernetes
    device plugin's ``replicas`` does. Raises ValueError where nothing would be left.

    >>> slice_rate(1, 0.05), slice_rate(2, 0.0), slice_rate(4, 0.05)
    (1.0, 0.5, 0.2125)
    """
    if jobs < 1 or interference < 0 or interference * (jobs - 1) >= 1:
        raise ValueError(f"{jobs} jobs on a GPU with an interference of {interference:g} make no progress")
    return (1 - interference * (jobs - 1)) / jobs
