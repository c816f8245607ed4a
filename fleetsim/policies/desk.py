"""What a queue sees and may do, and what the engine asks of a queue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from fleetsim.engine import JobColumns
    from fleetsim.fleet import Pool
    from fleetsim.observer import Attempts
    from fleetsim.records import Jobs
    from fleetsim.spec import SchedulerSpec, TenantSpec

#: Places and starts a job now; False if it does not fit.
Start = Callable[[int], bool]


class Desk(Protocol):
    """The engine, as a queue sees it. Jobs are numbers in order of arrival; times are seconds."""

    jobs: JobColumns
    attempts: Attempts
    capacity_changes: int  # deliveries and the like so far
    retimes: int  # how often the ends of running jobs have changed
    afresh: bool  # set by a queue: jobs stopped in this pass do not get their places back first

    def left_s(self, job: int) -> float:
        """What is left to do of *job*, which does not run: its restart, and its work on the reference GPU."""

    def pool_of(self, job: int) -> Pool:
        """Where *job*, which runs, runs."""

    def running_jobs(self) -> list[int]:
        """All running jobs, in order of arrival."""

    def pool_of_node(self, node: int) -> Pool:
        """What *node* is scheduled in."""

    def review(self, at_s: float) -> None:
        """Hold a pass at *at_s* in which waiting jobs are offered as if GPUs had been freed."""

    def stop(self, job: int) -> None:
        """Take *job*, which runs, off its GPUs, within a pass.

        If it starts again in this pass and finds its place still free, nothing has happened to it. If not,
        its attempt ends now, and it is pushed to the queue when the pass is over.
        """


@dataclass(frozen=True, slots=True)
class Terms:
    """What a queue is told once: the scenario's rules, and all columns of the jobs."""

    scheduler: SchedulerSpec
    tenants: Sequence[TenantSpec]
    jobs: Jobs
    gpus: int  # installed in the end, in the unit of jobs.gpus
    here: frozenset[str] | None = None  # tenants whose jobs come to this queue; None: all
    per_gpu: int = 1  # the unit of jobs.gpus: 1000 where GPUs are shared, so that parts count exactly
    cpu_milli: int = 0  # of all nodes, if it limits what runs on them
    memory_mib: int = 0  # likewise


class Queue(Protocol):
    """Waiting jobs in the order of a policy."""

    @property
    def lone(self) -> bool:
        """Whether a job that comes while none waits, and fits, may start without being pushed."""

    @property
    def began(self) -> Callable[[int], None] | None:
        """If not None, told of every job that started without being pushed."""

    @property
    def ended(self) -> Callable[[int], None] | None:
        """If not None, told of every job that completes, or is stopped outside a pass, before the pass."""

    def __len__(self) -> int: ...

    def push(self, job: int) -> None:
        """Let *job* wait: it has arrived, or was stopped."""

    def offer(self, start: Start, freed: bool, now: float) -> bool:
        """One scheduling pass: offer jobs to *start*, stop others; return whether any wait.

        *freed* tells whether GPUs were freed or added, or a review is due, since the last pass.
        """
