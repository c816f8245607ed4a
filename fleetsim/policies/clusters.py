"""Virtual clusters: nodes for some tenants only, each with a queue of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from fleetsim.policies.desk import Desk, Queue, Start, Terms
from fleetsim.records import Cohort


@dataclass(frozen=True, slots=True)
class Part:
    """Nodes that share a queue: ``tenants`` run there and nowhere else; None: all that have none."""

    tenants: frozenset[str] | None
    gpus: int  # installed in the end

    def holds(self, tenant: str) -> bool:
        """Whether *tenant* is one of those named."""
        return self.tenants is not None and tenant in self.tenants


def parts(cohorts: Iterable[Cohort]) -> list[Part]:
    """The virtual clusters of a fleet. Cohorts with a tenant in common belong to one."""
    found: list[Part] = []
    for cohort in cohorts:
        part = Part(None if cohort.tenants is None else frozenset(cohort.tenants), cohort.gpus)
        for other in list(found):
            if part.tenants is None or other.tenants is None:
                joined = part.tenants is other.tenants
            else:
                joined = bool(part.tenants & other.tenants)
            if joined:
                found.remove(other)
                names = None if part.tenants is None else part.tenants | (other.tenants or frozenset())
                part = Part(names, part.gpus + other.gpus)
        found.append(part)
    return found


class Clusters:
    """One queue of the policy for each virtual cluster, as in Philly and Helios: static partitions.

    Each sees its own tenants and GPUs, and none holds up another.
    """

    def __init__(
        self, desk: Desk, terms: Terms, make: Callable[[Desk, Terms], Queue], parts: Sequence[Part]
    ) -> None:
        rest = next((i for i, part in enumerate(parts) if part.tenants is None), -1)
        of_tenant = [
            next((i for i, part in enumerate(parts) if part.holds(name)), rest) for name in terms.jobs.tenants
        ]
        self._part_of = [of_tenant[tenant] for tenant in terms.jobs.tenant.tolist()]
        self._queues: list[Queue] = []
        for i, part in enumerate(parts):
            here = frozenset(n for n, p in zip(terms.jobs.tenants, of_tenant, strict=True) if p == i)
            self._queues.append(make(desk, replace(terms, gpus=part.gpus, here=here)))
        self._waits = [False] * len(parts)
        self._fresh: set[int] = set()  # parts with new jobs
        self.lone = all(queue.lone for queue in self._queues)
        self.began = None if all(queue.began is None for queue in self._queues) else self._began
        self.ended = None if all(queue.ended is None for queue in self._queues) else self._ended

    def __len__(self) -> int:
        return sum(map(len, self._queues))

    def push(self, job: int) -> None:
        part = self._part_of[job]
        self._queues[part].push(job)
        self._waits[part] = True
        self._fresh.add(part)

    def _began(self, job: int) -> None:
        began = self._queues[self._part_of[job]].began
        if began is not None:
            began(job)

    def _ended(self, job: int) -> None:
        ended = self._queues[self._part_of[job]].ended
        if ended is not None:
            ended(job)

    def offer(self, start: Start, freed: bool, now: float) -> bool:
        for part, waits in enumerate(self._waits):
            if waits and (freed or part in self._fresh):
                self._waits[part] = self._queues[part].offer(start, freed, now)
        self._fresh.clear()
        return any(self._waits)
