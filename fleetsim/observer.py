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
    many. Values of a job hold from its start until it starts again.
    """

    start_s: array[float]
    end_s: array[float]  # once completed or cut off
    node: array[int]
    gangs: list[tuple[int, ...]]

    @classmethod
    def of(cls, jobs: int) -> Attempts:
        """Columns for *jobs* jobs that have not started."""
        return cls(array("d", bytes(8 * jobs)), array("d", bytes(8 * jobs)), array("i", bytes(4 * jobs)), [])


class Observer:
    """Hooks that do nothing. Times are seconds from the scenario's start; jobs and nodes are row indexes."""

    def completed(self, job: int, /) -> None:
        """*job* has run to its end and gave its GPUs back: see :class:`Attempts`."""

    def cut_off(self, job: int, /) -> None:
        """The run ended while *job* was running."""

    def node_changed(self, now_s: float, node: int, state: str, cause: str) -> None:
        """*node* entered *state*, one of ``schema.NODE_STATES``, because of *cause*."""

    def event(self, now_s: float, kind: str, subject: str, detail: str) -> None:
        """Something rare and worth a line in the run's log of events."""
