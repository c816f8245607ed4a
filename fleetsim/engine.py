"""The event loop: arrivals and completions in bursts, everything else as ordinary SimPy processes.

At equal times: finish, then repair or failure, then delivery or tier change, then arrival, then one
scheduling pass; then the job's number. Finishes and arrivals are common, so they do not pass through
SimPy's event list: one driving event runs them from columns and a heap of its own up to SimPy's next event.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf
from typing import Any

import simpy

from fleetsim.fleet import Pool
from fleetsim.observer import Attempts, Observer
from fleetsim.policies.placement import Placement
from fleetsim.policies.queue import Queue

#: SimPy priorities at equal times. Finishes come before all of them; 0 is SimPy's URGENT, 1 its NORMAL, which
#: repairs and failures will have.
DELIVERY, ARRIVAL = 2, 9


class _Moment(simpy.Event):
    """An event that is already decided and only waits for its time."""

    def __init__(self, env: simpy.Environment) -> None:
        super().__init__(env)
        self._ok = True
        self._value = None


class Clock(simpy.Environment):
    """SimPy's environment with absolute times, and a clock that one driver may move between its events."""

    def moment(self, at_s: float, priority: int) -> simpy.Event:
        """An event at exactly *at_s* (a delay would round); processes ``yield`` it."""
        event = _Moment(self)
        entry: Any = (at_s, priority, next(self._eid), event)  # SimPy annotates its own priorities only
        heappush(self._queue, entry)
        return event

    def advance(self, now_s: float) -> None:
        """Move the clock to *now_s*, which must not lie beyond the next event."""
        self._now = now_s


#: Pools that may run the jobs of a shape, in order of preference, each with its speed (reference GPU = 1).
Options = tuple[tuple[Pool, float], ...]


@dataclass(frozen=True, slots=True)
class JobColumns:
    """Jobs in order of arrival, as columns: floats in typed arrays, a quarter of a list's memory.

    Jobs of one shape need the same number of GPUs and may run on the same pools at the same speeds, so they
    fit or fail together. ``shape_of[job]`` is -1 for a job that nothing can ever run: it never waits.
    """

    submit_s: array[float]
    duration_s: array[float]  # on the reference GPU
    gpus: list[int]
    shape_of: list[int]
    shapes: Sequence[Options]


class Replay:
    """Runs jobs through pools: the driver of one simulated history."""

    def __init__(
        self,
        clock: Clock,
        jobs: JobColumns,
        pool_of: Sequence[Pool],
        queue: Queue,
        placement: Placement,
        observer: Observer,
        attempts: Attempts,
    ) -> None:
        self.clock = clock
        self.queue = queue
        self.arrived = 0
        self.running = 0
        self._jobs = jobs
        self._submit_s = jobs.submit_s + array("d", (inf,))
        self._pool_of = pool_of
        self._place = placement
        self._observer = observer
        self._attempts = attempts
        self._ends: list[tuple[float, int]] = []
        self._freed = False
        self._waiting = False
        self._wake(clock.now)

    @property
    def done(self) -> bool:
        """Every job has arrived and none runs or waits."""
        return self.arrived == len(self._jobs.submit_s) and not self.running and not self._waiting

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return len(self.queue)

    def capacity_added(self) -> None:
        """Tell the driver that waiting jobs may fit now; a pass follows at this time."""
        self._freed = True

    def close(self, end_s: float) -> None:
        """End the history at *end_s*: report the attempts that are still running, in order of jobs."""
        for job in sorted(job for _, job in self._ends):
            self._attempts.end_s[job] = end_s
            self._observer.cut_off(job)

    def _wake(self, at_s: float) -> None:
        callbacks = self.clock.moment(at_s, ARRIVAL).callbacks
        assert callbacks is not None
        callbacks.append(self._burst)

    def _burst(self, _: simpy.Event) -> None:
        """Everything else of this time has happened: arrivals, one pass, and on to SimPy's next event."""
        clock, queue, ends, place = self.clock, self.queue, self._ends, self._place
        submit_s, duration_s, shape_of = self._submit_s, self._jobs.duration_s, self._jobs.shape_of
        shapes, gpus_of, pool_of = self._jobs.shapes, self._jobs.gpus, self._pool_of
        push, offer, push_end, pop_end = queue.push, queue.offer, heappush, heappop
        completed, attempts = self._observer.completed, self._attempts
        started_s, ended_s, node_of, gangs = attempts.start_s, attempts.end_s, attempts.node, attempts.gangs
        arrived, freed, waiting = self.arrived, self._freed, self._waiting
        now = clock.now
        stop = clock.peek()
        next_submit_s = submit_s[arrived]

        def start(job: int) -> bool:
            gpus = gpus_of[job]
            for pool, speed in shapes[shape_of[job]]:
                if pool.idle < gpus:
                    continue
                where = place(pool, gpus)
                if where is None:
                    continue
                if type(where) is int:
                    pool.take(where, gpus)
                    node_of[job] = where
                else:
                    assert type(where) is tuple
                    for k in range(0, len(where), 2):
                        pool.take(where[k], where[k + 1])
                    node_of[job] = ~len(gangs)
                    gangs.append(where)
                started_s[job] = now
                push_end(ends, (now + duration_s[job] / speed, job))
                return True
            return False

        while True:
            fresh = False
            while next_submit_s <= now:
                job = arrived
                arrived += 1
                next_submit_s = submit_s[arrived]
                if shape_of[job] < 0:
                    continue
                if next_submit_s > now and not waiting and not fresh and start(job):
                    break  # alone, and it fits: no policy would have it wait
                push(job)
                fresh = True
            if fresh or (freed and waiting):
                waiting = offer(start, freed)
            freed = False

            if ends and (end_s := ends[0][0]) <= next_submit_s and end_s <= stop:
                now = end_s
                while True:
                    job = pop_end(ends)[1]
                    node = node_of[job]
                    if node >= 0:
                        pool_of[node].give(node, gpus_of[job])
                    else:
                        gang = gangs[~node]
                        pool = pool_of[gang[0]]
                        for k in range(0, len(gang), 2):
                            pool.give(gang[k], gang[k + 1])
                    ended_s[job] = now
                    completed(job)
                    if not ends or ends[0][0] > now:
                        break
                freed = True
                if now == stop:
                    break
            elif next_submit_s < stop:
                now = next_submit_s
            else:
                break

        if stop < inf:  # SimPy holds something for that time: arrivals and a pass come after it
            now = stop
            self._wake(stop)
        clock.advance(now)
        self.arrived, self._freed, self._waiting, self.running = arrived, freed, waiting, len(ends)


def deliver(
    clock: Clock, replay: Replay, deliveries: Sequence[tuple[float, Callable[[], Any]]]
) -> Generator[simpy.Event]:
    """Process: bring each delivery into service at its time. *deliveries* are ``(at_s, bring)``, sorted."""
    for at_s, bring in deliveries:
        yield clock.moment(at_s, DELIVERY)
        bring()
        replay.capacity_added()
