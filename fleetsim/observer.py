"""What the model tells of a run as it happens. The model stores no results; observers do."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

#: Where an attempt runs: the node that holds all its GPUs, or ``(node, gpus, node, gpus, ...)``.
Where = int | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Attempts:
    """The model's own columns of each job's latest attempt, for observers to read; never to change.

    ``node[job]`` is the node that holds all its GPUs, or ``~i`` where ``gangs[i]`` says which nodes hold how
    many. ``owed_s[job]`` is what an attempt spends, before any work, on set-up and on restarts; most jobs owe
    nothing and are not in it. Values of a job hold from its start until it starts again.
    """

    start_s: array[float]
    end_s: array[float]  # expected while it runs
    node: array[int]
    gangs: list[tuple[int, ...]]
    owed_s: dict[int, float]
    may_stop: bool  # whether a job can be stopped or resliced, or owe anything

    @classmethod
    def of(cls, jobs: int, may_stop: bool = False) -> Attempts:
        """Columns for *jobs* jobs that have not started."""
        start_s, end_s = array("d", bytes(8 * jobs)), array("d", bytes(8 * jobs))
        return cls(start_s, end_s, array("i", bytes(4 * jobs)), [], {}, may_stop)


class Observer:
    """Hooks that do nothing. Times are seconds from the scenario's start; jobs and nodes are row indexes."""

    def completed(self, job: int, /) -> None:
        """*job* has run to its end and gave its GPUs back: see :class:`Attempts`."""

    def stopped(self, job: int, restart_s: float, lost_s: float, moved: bool, /) -> None:
        """*job* was taken off its GPUs: *restart_s* of the attempt went into restarting, *lost_s* is lost.

        If it *moved*, it runs on elsewhere without a break.
        """

    def resliced(self, job: int, /) -> None:
        """*job* goes on, at the end of what :class:`Attempts` says now, with another share of its GPUs."""

    def cut_off(self, job: int, /) -> None:
        """The run ended while *job* was running."""

    def node_changed(self, now_s: float, node: int, state: str, cause: str) -> None:
        """*node* entered *state*, one of ``schema.NODE_STATES``, because of *cause*."""

    def event(self, now_s: float, kind: str, subject: str, detail: str) -> None:
        """Something rare and worth a line in the run's log of events."""
