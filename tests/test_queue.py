"""Queues: what is offered, in which order, and that waiting costs nothing where nothing was freed."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from fleetsim.policies.desk import Queue
from fleetsim.policies.fifo import Fifo
from fleetsim.policies.ordered import OrderedSkip, OrderedStop

WAITING = 50_000


def desk(shape_of: list[int]) -> Any:
    """As much of a desk as these queues look at."""
    return SimpleNamespace(jobs=SimpleNamespace(shape_of=shape_of))


#: Queues that never stop a job, all in order of arrival.
QUEUES: dict[str, Callable[[list[int]], Queue]] = {
    "fifo": lambda shape_of: Fifo(),
    "fifo_skip": lambda shape_of: OrderedSkip(desk(shape_of), float),
    "ordered": lambda shape_of: OrderedStop(desk(shape_of), float),
}


class Doorman:
    """A ``start`` that lets in the jobs of some shapes and writes down who asked."""

    def __init__(self, shape_of: list[int], fits: set[int]) -> None:
        self.shape_of = shape_of
        self.fits = fits
        self.asked: list[int] = []

    def __call__(self, job: int) -> bool:
        self.asked.append(job)
        return self.shape_of[job] in self.fits


def filled(kind: Callable[[list[int]], Queue], shape_of: list[int], count: int) -> Queue:
    queue = kind(shape_of)
    for job in range(count):
        queue.push(job)
    return queue


@pytest.mark.parametrize("name", QUEUES)
def test_a_pass_that_frees_nothing_asks_for_nobody_however_long_the_queue(name: str) -> None:
    shape_of = [job % 7 for job in range(WAITING + 100)]
    queue = filled(QUEUES[name], shape_of, WAITING)
    door = Doorman(shape_of, fits=set())
    assert queue.offer(door, freed=True, now=0.0)
    assert len(door.asked) <= 7  # one of each shape: the others fit no better
    door.asked.clear()
    for job in range(WAITING, WAITING + 100):
        queue.push(job)
        assert queue.offer(door, freed=False, now=0.0)
    assert door.asked == []
    assert len(queue) == WAITING + 100


@pytest.mark.parametrize("name", QUEUES)
def test_a_pass_that_frees_something_asks_once_for_each_shape_that_does_not_fit(name: str) -> None:
    shape_of = [job % 7 for job in range(WAITING)]
    queue = filled(QUEUES[name], shape_of, WAITING)
    door = Doorman(shape_of, fits=set())
    for _ in range(10):
        queue.offer(door, freed=True, now=0.0)
    assert len(door.asked) <= 10 * 7


def test_fifo_stops_at_the_first_job_that_does_not_fit() -> None:
    shape_of = [1, 1, 9, 1]
    queue = filled(QUEUES["fifo"], shape_of, 4)
    door = Doorman(shape_of, fits={1})
    assert queue.offer(door, freed=True, now=0.0)
    assert door.asked == [0, 1, 2]
    assert len(queue) == 2


def test_skip_ahead_starts_all_that_fit_oldest_first_across_shapes() -> None:
    shape_of = [5, 1, 9, 5, 1]
    queue = filled(QUEUES["fifo_skip"], shape_of, 5)
    door = Doorman(shape_of, fits={1, 5})
    assert queue.offer(door, freed=True, now=0.0)
    assert door.asked == [0, 1, 2, 3, 4]
    assert len(queue) == 1


def test_skip_ahead_asks_for_a_newcomer_of_a_new_shape_only() -> None:
    shape_of = [9, 9, 1]
    queue = filled(QUEUES["fifo_skip"], shape_of, 1)
    door = Doorman(shape_of, fits={1})
    queue.offer(door, freed=True, now=0.0)
    queue.push(1)
    queue.push(2)
    door.asked.clear()
    assert queue.offer(door, freed=False, now=0.0)
    assert door.asked == [2]


@pytest.mark.parametrize("name", QUEUES)
def test_an_empty_queue_says_so(name: str) -> None:
    queue = filled(QUEUES[name], [0, 0], 2)
    assert not queue.offer(Doorman([0, 0], fits={0}), freed=True, now=0.0)
    assert len(queue) == 0
