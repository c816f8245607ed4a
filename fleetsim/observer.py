"""What the model tells of a run as it happens. The model stores no results; observers do."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

#: Why an attempt ended before the job was done: for another job (or a window), to go on elsewhere without a
#: break, or because something failed.
PREEMPTED, MIGRATED, FAILED = range(3)

#: Where an attempt runs: the node that holds all its GPUs, or ``(node, gpus, node, gpus, ...)``.
Where = int | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Attempts:
    """The model's own columns of each job's latest attempt, for observers to read; never to change.

    ``node[job]`` is the node that holds all its GPUs, or ``~i`` where ``gangs[i]`` says which nodes hold how
    many. ``owed_s[job]`` is what an attempt spends, before any work, on set-up and on restarts; most jobs owe
    nothing and are not in it. ``checkpoint_s[job]`` is what it spends on writing checkpoints, where that
    costs anything. ``since_s[job]`` is when an attempt last went on at another speed: then ``owed_s`` and
    ``checkpoint_s`` are of the time from there. Values of a job hold from its start until it starts again.
    """

    start_s: array[float]
    end_s: array[float]  # expected while it runs
    node: array[int]
    gangs: list[tuple[int, ...]]
    owed_s: dict[int, float]
    may_stop: bool  # whether a job can be stopped or go on at another speed, or owe anything
    checkpoint_s: dict[int, float] = field(default_factory=dict)
    since_s: dict[int, float] = field(default_factory=dict)

    @classmethod
    def of(cls, jobs: int, may_stop: bool = False) -> Attempts:
        """Columns for *jobs* jobs that have not started."""
        start_s, end_s = array("d", bytes(8 * jobs)), array("d", bytes(8 * jobs))
        return cls(start_s, end_s, array("i", bytes(4 * jobs)), [], {}, may_stop)

    def since(self, job: int) -> float:
        """Since when *job* has gone on as it does."""
        return self.since_s.get(job, self.start_s[job])


@dataclass(slots=True)
class Failure:
    """A failure, as it happens. ``down_s`` is filled in when it is repaired."""

    time_s: float
    node: int
    tier: int  # index of the rung on which it stood
    gpu: int | None  # index in the node; None: all of it, or a job
    job: int | None  # that alone was hit
    kind: str  # what failed, as the scenario calls it
    xid: int | None
    repair: str
    unit_age_s: float  # of the node, or of the GPU
    jobs_stopped: int
    down_s: float | None = None  # until it was in service again


class Observer:
    """Hooks that do nothing. Times are seconds from the scenario's start; jobs and nodes are row indexes."""

    def completed(self, job: int, /) -> None:
        """*job* has run to its end and gave its GPUs back: see :class:`Attempts`."""

    def stopped(self, job: int, restart_s: float, lost_s: float, checkpoint_s: float, why: int, /) -> None:
        """*job* was taken off its GPUs; *why* is ``PREEMPTED``, ``MIGRATED`` or ``FAILED``.

        Of the attempt *restart_s* went into restarting and *checkpoint_s* into checkpoints; *lost_s* is lost.
        """

    def continued(self, job: int, now_s: float, restart_s: float, checkpoint_s: float, /) -> None:
        """*job* goes on from *now_s* at another speed, or with another share of its GPUs.

        Of the time since :meth:`Attempts.since` *restart_s* went into restarting, *checkpoint_s* into
        checkpoints; nothing is lost.
        """

    def limited(self, site: str, share: float) -> None:
        """GPUs at *site* may draw *share* of their maximum from now on; their jobs were ``continued``."""

    def cut_off(self, job: int, /) -> None:
        """The run ended while *job* was running."""

    def node_changed(self, now_s: float, node: int, state: str, cause: str, powered: bool = False) -> None:
        """*node* entered *state*, one of ``schema.NODE_STATES``, because of *cause*.

        A node that is down but *powered* draws as if it were idle.
        """

    def tier_changed(self, now_s: float, nodes: Sequence[int], tier: int, cause: str) -> None:
        """*nodes*, which are empty, stand on another rung from now on, by its index."""

    def failed(self, failure: Failure) -> None:
        """Something broke."""

    def sold(self, now_s: float, cohort: int, gpus: int, usd_per_gpu: float, discount: float) -> None:
        """*gpus* of *cohort*, which had left the fleet, found a buyer."""

    def event(self, now_s: float, kind: str, subject: str, detail: str) -> None:
        """Something rare and worth a line in the run's log of events."""
