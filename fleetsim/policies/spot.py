"""Preemptible tenants: their jobs run on what the others leave (spot, best effort, scavenger)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import chain

from fleetsim.policies.desk import Desk, Queue, Start, Terms
from fleetsim.policies.room import Room
from fleetsim.units import duration_s


class Spot:
    """Two queues of one policy: of the jobs of firm tenants, and of those of preemptible ones.

    In every pass firm jobs go first. When one that is offered does not fit, running spot jobs are stopped for
    it, the one started last first, if it can then be placed; else none is. With a ``notice`` they run on
    until it is over, and the firm job waits meanwhile; of several that one job needs stopped, each has the
    longest of their notices. GPUs on notice count for whichever firm job needs them first, no spot job
    starts while there are any, and a notice given stands, whether the GPUs are still needed then or not.
    What stopping costs is the scenario's ``restart``.

    After the firm jobs, spot jobs start where they fit, also beside firm jobs that wait; those that were
    stopped just now, in a second pass at once.
    """

    lone = False
    began = None

    def __init__(self, desk: Desk, terms: Terms, make: Callable[[Desk, Terms], Queue]) -> None:
        names = terms.jobs.tenants
        notice_s = {t.name: duration_s(t.notice) for t in terms.tenants if t.preemptible}
        here = frozenset(names) if terms.here is None else terms.here
        self._desk = desk
        self._room = Room(desk, terms)
        self._tenant_of: list[int] = terms.jobs.tenant.tolist()
        self._notice_s = [notice_s.get(name, 0.0) for name in names]
        self._preemptible = [name in notice_s for name in names]
        self._firm = make(desk, replace(terms, here=here - notice_s.keys()))
        self._spot = make(desk, replace(terms, here=here & notice_s.keys()))
        self._fresh = [False, False]  # whether the firm queue, the spot queue has new jobs
        self._running: dict[int, None] = {}  # spot jobs, in the order in which they started
        self._told: dict[int, float] = {}  # those on notice: when it is over
        self._gave_way = False  # whether any was stopped in this pass

    def __len__(self) -> int:
        return len(self._firm) + len(self._spot)

    def push(self, job: int) -> None:
        spot = self._preemptible[self._tenant_of[job]]
        (self._spot if spot else self._firm).push(job)
        self._fresh[spot] = True

    def ended(self, job: int) -> None:
        """*job* runs no more."""
        spot = self._preemptible[self._tenant_of[job]]
        if spot:
            del self._running[job]
            self._told.pop(job, None)
        ended = (self._spot if spot else self._firm).ended
        if ended is not None:
            ended(job)

    def offer(self, start: Start, freed: bool, now: float) -> bool:
        stopped = [job for job, over_s in self._told.items() if over_s <= now]
        for job in stopped:
            self._stop(job)
        freed = freed or bool(stopped)

        def firm(job: int) -> bool:
            return start(job) or (self._make_room(job, now) and start(job))

        def spot(job: int) -> bool:
            if not start(job):
                return False
            self._running[job] = None
            return True

        running = len(self._running)
        if len(self._firm) and (freed or self._fresh[False]):
            self._firm.offer(firm, freed, now)
        freed = freed or len(self._running) < running
        if len(self._spot) and not self._told and (freed or self._fresh[True]):
            self._spot.offer(spot, freed, now)
            self._fresh[True] = False
        self._fresh[False] = False
        if self._gave_way:
            self._gave_way = False
            self._desk.review(now)  # for those that were stopped, if anything is left for them
        return bool(len(self) or self._told)

    def _make_room(self, job: int, now: float) -> bool:
        """Stop spot jobs for *job*, or tell them; whether there is room now."""
        untold = (other for other in reversed(self._running) if other not in self._told)
        victims = self._room.make(job, chain(list(self._told), untold))
        if victims is None:
            return False
        fresh = [victim for victim in victims if victim not in self._told]
        notice_s = max((self._notice_s[self._tenant_of[victim]] for victim in fresh), default=0.0)
        if not notice_s and len(fresh) == len(victims):
            for victim in fresh:
                self._stop(victim)
            return True
        for victim in fresh:
            self._told[victim] = now + notice_s
        if fresh:
            self._desk.review(now + notice_s)
        return False

    def _stop(self, job: int) -> None:
        self._gave_way = True
        self._desk.stop(job)
        self.ended(job)
