"""The event loop: arrivals and completions in bursts, everything else as ordinary SimPy processes.

At equal times: finish, then repair or failure, then delivery or tier change, then arrival, then one
scheduling pass; then the job's number. Finishes and arrivals are common, so they do not pass through
SimPy's event list: one driving event runs them from columns and a heap of its own up to SimPy's next event.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import ceil, inf
from typing import Any

import simpy

from fleetsim.fleet import Pool
from fleetsim.observer import MIGRATED, PREEMPTED, Attempts, Observer
from fleetsim.policies.desk import Queue
from fleetsim.policies.placement import Placement
from fleetsim.slicing import Slicing

#: SimPy priorities at equal times. Finishes come before all of them; 0 is SimPy's URGENT, 1 its NORMAL.
#: Power limits change when all nodes of that time have come and gone.
REPAIR, DELIVERY, POWER, ARRIVAL = 1, 2, 3, 9


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

    ``asks`` is what a pool is asked for: the GPUs, unless they are shared (:mod:`fleetsim.sharing`); then it
    is the number of a request, and ``gpus`` counts thousandths of a GPU.
    """

    submit_s: array[float]
    duration_s: array[float]  # on the reference GPU
    gpus: list[int]
    shape_of: list[int]
    shapes: list[Options]  # speeds in it may change: see Replay.repace
    asks: list[int] = field(default_factory=list)  # empty: as gpus


@dataclass(frozen=True, slots=True)
class Restart:
    """What stopping a job costs it, by job: all in seconds on the GPUs it runs on.

    Every start is preceded by time in which nothing is computed: ``setup_s`` the first time, and ``cost_s``
    more for each time it was stopped. Of the work since the last checkpoint nothing is left when a job is
    stopped; one is written every ``checkpoint_s`` of work. Zero: when it is stopped, so nothing is lost.
    """

    cost_s: Sequence[float]
    checkpoint_s: Sequence[float]
    setup_s: float = 0.0
    write_s: float = (
        0.0  # in which the work stands still while a checkpoint is written; none at the job's end
    )
    moves_free: bool = False  # to other GPUs, without a break
    every_pass: bool = False  # running jobs pay the cost in every pass, up to their work since the last one

    def writing_s(self, job: int, work_s: float) -> float:
        """Time that *work_s* of work take longer because of checkpoints."""
        every_s = self.checkpoint_s[job]
        if not self.write_s or not 0 < every_s < inf:
            return 0.0
        return self.write_s * max(0, ceil(work_s / every_s) - 1)

    def kept(self, job: int, worked_s: float) -> tuple[float, float]:
        """Of *worked_s*: the work that was saved, and the time that went into writing it."""
        every_s = self.checkpoint_s[job]
        if not every_s:
            return worked_s, 0.0
        if every_s == inf:
            return 0.0, 0.0
        saved = worked_s // (every_s + self.write_s)
        return saved * every_s, saved * self.write_s

    def written_s(self, job: int, worked_s: float) -> float:
        """Of *worked_s* the time that went into checkpoints, one that is begun included."""
        if not self.write_s:
            return 0.0
        work_s, writing_s = self.kept(job, worked_s)
        return writing_s + max(0.0, worked_s - work_s - writing_s - self.checkpoint_s[job])


class Replay:
    """Runs jobs through pools: the driver of one simulated history.

    To its queue it is the desk (:class:`fleetsim.policies.desk.Desk`). Without *restart* no job can be
    stopped. With *interval_s* scheduling passes are held at its multiples only. *pace* is the speed of a gang
    where it is, given that of its pool. With *slicing* jobs take turns on GPUs, and none can be stopped.
    """

    def __init__(
        self,
        clock: Clock,
        jobs: JobColumns,
        pool_of: Sequence[Pool],
        queue: Callable[[Replay], Queue],
        placement: Placement,
        observer: Observer,
        attempts: Attempts,
        restart: Restart | None = None,
        interval_s: float = 0.0,
        pace: Callable[[float, tuple[int, ...]], float] | None = None,
        slicing: Slicing | None = None,
    ) -> None:
        self.clock = clock
        self.arrived = 0
        self.running = 0
        self.capacity_changes = 0
        self.retimes = 0
        self.afresh = False
        self.jobs = jobs
        self._asks = jobs.asks or jobs.gpus
        self.attempts = attempts
        #: Jobs that were started on each node: those that run there are among them. None: nobody asks.
        self.residents: list[list[int]] | None = None
        self._submit_s = jobs.submit_s + array("d", (inf,))
        self._pool_of = pool_of
        self._place = placement
        self._observer = observer
        self._restart = restart
        self._interval_s = interval_s
        self._pace = pace
        self._slicing = slicing
        self._left_s = jobs.duration_s[:] if restart or slicing else jobs.duration_s  # on the reference GPU
        if restart and restart.setup_s:
            attempts.owed_s.update(dict.fromkeys(range(len(jobs.submit_s)), restart.setup_s))
        self._ends: list[tuple[float, int]] = []  # of running jobs; and reviews, as job -1
        self._halted: dict[int, None] = {}  # jobs stopped in this pass, in order
        self._stale: dict[int, int] = {}  # entries in _ends of attempts that were stopped
        self._down: set[int] = set()  # of the jobs in _stale, those that do not run
        self._not_jobs = 0  # entries in _ends that are stale, or reviews
        self._tick_s = -inf  # the pass put off, with an interval
        self._passed_s = -inf  # the last pass that interrupted running jobs
        self._freed = False
        self._waiting = False
        self.queue = queue(self)
        self._wake(clock.now)

    @property
    def done(self) -> bool:
        """Every job has arrived and none runs or waits."""
        return self.arrived == len(self.jobs.submit_s) and not self.running and not self._waiting

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return len(self.queue)

    def capacity_added(self) -> None:
        """Tell the driver that waiting jobs may fit now; a pass follows at this time."""
        self.capacity_changes += 1
        self._freed = True

    def close(self, end_s: float) -> None:
        """End the history at *end_s*: report the attempts that are still running, in order of jobs."""
        attempts, restart = self.attempts, self._restart
        for job in self.running_jobs():
            attempts.end_s[job] = end_s
            if restart is not None and restart.write_s:
                worked_s = max(0.0, end_s - attempts.since(job) - attempts.owed_s.get(job, 0.0))
                attempts.checkpoint_s[job] = restart.written_s(job, worked_s)
            self._observer.cut_off(job)

    def left_s(self, job: int) -> float:
        """What is left to do of *job*, which does not run: its restart, and its work on the reference GPU."""
        return self._left_s[job] + self.attempts.owed_s.get(job, 0.0)

    def pool_of(self, job: int) -> Pool:
        """Where *job* runs."""
        node = self.attempts.node[job]
        return self._pool_of[node if node >= 0 else self.attempts.gangs[~node][0]]

    def pool_of_node(self, node: int) -> Pool:
        """What *node* is scheduled in."""
        return self._pool_of[node]

    def review(self, at_s: float) -> None:
        """Hold a pass at *at_s* in which waiting jobs are offered as if GPUs had been freed."""
        heappush(self._ends, (at_s, -1))
        self._not_jobs += 1

    def stop(self, job: int) -> None:
        """Take *job*, which runs, off its GPUs.

        If it starts again in this pass and finds its place still free, nothing has happened to it. If not,
        its attempt ends now, and it is pushed to the queue when the pass is over.
        """
        assert self._restart is not None
        self._release(job)
        self._halted[job] = None

    def running_jobs(self) -> list[int]:
        """All running jobs, in order of arrival."""
        return sorted({job for at_s, job in self._ends if job >= 0 and self._holds(at_s, job)})

    def jobs_on(self, node: int) -> list[int]:
        """The jobs that run on *node*, in order of arrival, where ``residents`` are kept."""
        assert self.residents is not None
        attempts, now = self.attempts, self.clock.now
        here = [
            job
            for job in set(self.residents[node])
            if attempts.end_s[job] > now
            and ((at := attempts.node[job]) == node or (at < 0 and node in attempts.gangs[~at][::2]))
        ]
        here.sort()
        self.residents[node] = here[:]
        return here

    def evict(self, jobs: Iterable[int], why: int = PREEMPTED) -> None:
        """Stop running *jobs* now, outside a pass: they wait again."""
        for job in jobs:
            self.stop(job)
            self._end_attempt(job, self.clock.now, why)
            if self.queue.ended is not None:
                self.queue.ended(job)
            self.queue.push(job)
        self.running = len(self._ends) - self._not_jobs
        self._waiting = bool(len(self.queue))
        self._freed = True

    def repace(self, shapes: Sequence[Options], changed: Collection[tuple[int, Pool]]) -> None:
        """From now on jobs have the speeds of *shapes*, which names the same pools; call it between passes.

        Running jobs go on where they are: those whose shape and pool are in *changed* in another row of the
        allocations. What they have done so far stays done, whatever becomes of them, as if a checkpoint had
        been written that moment for nothing. Queues that plan with the ends of running jobs keep those they
        expected: the change was none that anybody foresaw.
        """
        attempts, restart, now = self.attempts, self._restart, self.clock.now
        assert restart is not None
        shape_of = self.jobs.shape_of
        jobs = [job for job in self.running_jobs() if (shape_of[job], self.pool_of(job)) in changed]
        before = [self._speed(job) for job in jobs]
        self.jobs.shapes[:] = shapes
        for job, speed in zip(jobs, before, strict=True):
            if elapsed_s := now - attempts.since(job):
                owed_s = attempts.owed_s.get(job, 0.0)
                served_s = min(owed_s, elapsed_s)
                writing_s = restart.written_s(job, elapsed_s - served_s)
                done_s = (elapsed_s - served_s - writing_s) * speed
                self._left_s[job] = max(0.0, self._left_s[job] - done_s)
                self._observer.continued(job, now, served_s, writing_s)
                attempts.since_s[job] = now
                if owed_s:
                    attempts.owed_s[job] = owed_s - served_s
            work_s = self._left_s[job] / self._speed(job)
            end_s = now + work_s + attempts.owed_s.get(job, 0.0)
            if restart.write_s:
                end_s += self._write(job, work_s)
            self._retime(job, end_s)
        self.retimes += 1

    def _retime(self, job: int, end_s: float) -> None:
        """*job*, which runs, ends at *end_s* now."""
        self.attempts.end_s[job] = end_s
        heappush(self._ends, (end_s, job))
        self._stale[job] = self._stale.get(job, 0) + 1
        self._not_jobs += 1

    def _speed(self, job: int) -> float:
        """Of *job*, where it runs: reference GPU = 1."""
        pool, node = self.pool_of(job), self.attempts.node[job]
        speed = next(s for p, s in self.jobs.shapes[self.jobs.shape_of[job]] if p is pool)
        return speed if self._pace is None or node >= 0 else self._pace(speed, self.attempts.gangs[~node])

    def _release(self, job: int) -> None:
        node = self.attempts.node[job]
        if node >= 0:
            self._pool_of[node].give(node, self._asks[job])
        else:
            gang = self.attempts.gangs[~node]
            pool = self._pool_of[gang[0]]
            for k in range(0, len(gang), 2):
                pool.give(gang[k], gang[k + 1])

    def _resume(self, job: int) -> bool:
        """Give *job*, stopped in this pass, the GPUs back that it had, if they are free."""
        node = self.attempts.node[job]
        where = (node, self.jobs.gpus[job]) if node >= 0 else self.attempts.gangs[~node]
        pairs = [(self._pool_of[where[k]], where[k], where[k + 1]) for k in range(0, len(where), 2)]
        if any(pool.room(node) < gpus for pool, node, gpus in pairs):
            return False
        for pool, node, gpus in pairs:
            pool.take_back(node, gpus)
        del self._halted[job]
        return True

    def _end_attempt(self, job: int, now: float, why: int = PREEMPTED) -> None:
        """End the attempt of *job*, stopped in this pass: what it has done, what it loses, what it owes.

        A job that migrates runs on elsewhere at once; where only the number of GPUs counts, that is free.
        """
        attempts, restart = self.attempts, self._restart
        assert restart is not None
        del self._halted[job]
        owed_s = attempts.owed_s.get(job, 0.0)
        elapsed_s = now - attempts.since(job)
        served_s = min(owed_s, elapsed_s)
        worked_s = elapsed_s - served_s
        free = why == MIGRATED and restart.moves_free
        kept_s, writing_s = (worked_s, 0.0) if free else restart.kept(job, worked_s)
        if kept_s:
            self._left_s[job] = max(0.0, self._left_s[job] - kept_s * self._speed(job))
        attempts.end_s[job] = now
        if elapsed_s or job in attempts.since_s:
            cost_s = 0.0 if free or restart.every_pass else restart.cost_s[job]
            attempts.owed_s[job] = owed_s - served_s + cost_s
            self._observer.stopped(job, served_s, worked_s - kept_s - writing_s, writing_s, why)
            attempts.since_s.pop(job, None)
        self._stale[job] = self._stale.get(job, 0) + 1
        self._down.add(job)
        self._not_jobs += 1

    def _interrupt(self, now: float) -> None:
        """Running jobs lose what they did since the last pass, up to their cost: they end that much later."""
        assert self._restart is not None
        attempts, cost_s = self.attempts, self._restart.cost_s
        for job in self.running_jobs():
            worked_s = now - max(attempts.start_s[job], self._passed_s)
            if pay_s := min(worked_s, cost_s[job]):
                attempts.owed_s[job] = attempts.owed_s.get(job, 0.0) + pay_s
                self._retime(job, attempts.end_s[job] + pay_s)
        self._passed_s = now
        self.retimes += 1

    def _settle(self, now: float) -> None:
        """The pass is over: jobs that were stopped in it and not started again wait."""
        for job in list(self._halted):
            self._end_attempt(job, now)
            self.queue.push(job)

    def _reslice(self, slicing: Slicing, now: float) -> None:
        """The pass is over: jobs that share GPUs with more or fewer others now go on at another rate."""
        attempts = self.attempts
        for job, rate, held in slicing.changes():
            elapsed_s, speed = now - attempts.since(job), self._speed(job)
            if elapsed_s:
                done_s = elapsed_s * speed * slicing.rate[job]
                self._left_s[job] = max(0.0, self._left_s[job] - done_s)
                self._observer.continued(job, now, 0.0, 0.0)
                attempts.since_s[job] = now
            if elapsed_s or rate != slicing.rate[job]:
                self._retime(job, now + self._left_s[job] / (speed * rate))
            slicing.rate[job], slicing.held[job] = rate, held

    def _holds(self, at_s: float, job: int) -> bool:
        """Whether an entry of the heap of ends is still true."""
        return job not in self._stale or (job not in self._down and self.attempts.end_s[job] == at_s)

    def _drop(self, at_s: float, job: int) -> bool:
        """Whether an entry just taken from the heap of ends is not the end of a job; then it is forgotten."""
        if job >= 0:
            if self._holds(at_s, job):
                self._down.add(job)  # it ends here; entries of earlier attempts may follow
                return False
            self._stale[job] -= 1
            if not self._stale[job]:
                del self._stale[job]
                self._down.discard(job)
        self._not_jobs -= 1
        return True

    def _wake(self, at_s: float) -> None:
        callbacks = self.clock.moment(at_s, ARRIVAL).callbacks
        assert callbacks is not None
        callbacks.append(self._burst)

    def _burst(self, _: simpy.Event) -> None:
        """Everything else of this time has happened: arrivals, one pass, and on to SimPy's next event."""
        clock, queue, ends, place = self.clock, self.queue, self._ends, self._place
        submit_s, left_s, shape_of = self._submit_s, self._left_s, self.jobs.shape_of
        shapes, asks_of, pool_of = self.jobs.shapes, self._asks, self._pool_of
        push, offer, began, ended = queue.push, queue.offer, queue.began, queue.ended
        lone = queue.lone and not self._interval_s
        push_end, pop_end, interval_s = heappush, heappop, self._interval_s
        completed, attempts = self._observer.completed, self.attempts
        started_s, ended_s, node_of, gangs = attempts.start_s, attempts.end_s, attempts.node, attempts.gangs
        pace, slicing = self._pace, self._slicing
        owed_s, halted, stale, down = attempts.owed_s, self._halted, self._stale, self._down
        interrupts = self._restart is not None and self._restart.every_pass
        arrived, freed, waiting = self.arrived, self._freed, self._waiting
        now = clock.now
        stop = clock.peek()
        next_submit_s = submit_s[arrived]

        stoppable = self._restart is not None or slicing is not None
        writes = self._restart is not None and self._restart.write_s > 0
        residents = self.residents

        def start(job: int) -> bool:
            if stoppable and job in halted and not self.afresh and self._resume(job):
                return True
            asks = asks_of[job]
            for pool, speed in shapes[shape_of[job]]:
                if pool.idle < asks:
                    continue
                where = place(pool, asks)
                if where is None:
                    continue
                if stoppable and job in halted:
                    if where == (node_of[job] if node_of[job] >= 0 else gangs[~node_of[job]]):
                        return self._resume(job)
                    self._end_attempt(job, now, MIGRATED)
                if type(where) is int:
                    pool.take(where, asks)
                    node_of[job] = where
                else:
                    assert type(where) is tuple
                    for k in range(0, len(where), 2):
                        pool.take(where[k], where[k + 1])
                    node_of[job] = ~len(gangs)
                    gangs.append(where)
                    if pace is not None:
                        speed = pace(speed, where)
                    if slicing is not None:
                        slicing.came(job, where)
                end_s = now + left_s[job] / speed
                if stoppable:
                    end_s += owed_s.get(job, 0.0)
                    down.discard(job)
                    if writes:
                        end_s += self._write(job, left_s[job] / speed)
                    if residents is not None:
                        at = node_of[job]
                        for node in (at,) if at >= 0 else gangs[~at][::2]:
                            residents[node].append(job)
                started_s[job] = now
                ended_s[job] = end_s
                push_end(ends, (end_s, job))
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
                if next_submit_s > now and lone and not waiting and not fresh and start(job):
                    if began is not None:
                        began(job)
                    break  # alone, and it fits: no policy would have it wait
                push(job)
                fresh = True
            if interrupts and (fresh or freed):
                self._interrupt(now)
            if fresh or (freed and waiting):
                if interval_s and now % interval_s:
                    self._hold(now)
                    waiting = True
                else:
                    waiting = offer(start, freed, now)
                    if halted:
                        self._settle(now)
                        waiting = True
            freed = False
            if slicing is not None and slicing.touched:
                self._reslice(slicing, now)

            if ends and (end_s := ends[0][0]) <= next_submit_s and end_s <= stop:
                now = end_s
                while True:
                    job = pop_end(ends)[1]
                    if (job < 0 or (stale and job in stale)) and self._drop(now, job):
                        freed = freed or job < 0
                        if not ends or ends[0][0] > now:
                            break
                        continue
                    node = node_of[job]
                    if node >= 0:
                        pool_of[node].give(node, asks_of[job])
                    else:
                        gang = gangs[~node]
                        pool = pool_of[gang[0]]
                        for k in range(0, len(gang), 2):
                            pool.give(gang[k], gang[k + 1])
                        if slicing is not None:
                            slicing.gone(job, gang)
                    completed(job)
                    if ended is not None:
                        ended(job)
                    freed = True
                    if not ends or ends[0][0] > now:
                        break
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
        self.arrived, self._freed, self._waiting = arrived, freed, waiting
        self.running = len(ends) - self._not_jobs

    def _write(self, job: int, work_s: float) -> float:
        """The time that *job*, which starts, will spend on checkpoints in *work_s* of work."""
        assert self._restart is not None
        writing_s = self.attempts.checkpoint_s[job] = self._restart.writing_s(job, work_s)
        return writing_s

    def _hold(self, now: float) -> None:
        """Put a pass off to the next multiple of the interval."""
        at_s = (now // self._interval_s + 1) * self._interval_s
        if at_s > self._tick_s:
            self._tick_s = at_s
            self.review(at_s)
