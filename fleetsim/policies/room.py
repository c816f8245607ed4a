"""Which running jobs must stop so that a waiting one can be placed."""

from __future__ import annotations

from collections.abc import Iterable

from fleetsim.fleet import Pool
from fleetsim.policies.desk import Desk, Terms
from fleetsim.policies.placement import PLACEMENTS


class Room:
    """Tries out what would be free if jobs were stopped, without stopping any."""

    def __init__(self, desk: Desk, terms: Terms) -> None:
        self._desk = desk
        self._place = PLACEMENTS[terms.scheduler.placement]

    def pools(self, job: int) -> list[Pool]:
        """Those that may run *job*."""
        jobs = self._desk.jobs
        return [pool for pool, _ in jobs.shapes[jobs.shape_of[job]]]

    def make(self, job: int, running: Iterable[int]) -> list[int] | None:
        """The jobs of *running* that must stop for *job*; None if it cannot be placed without all of them.

        They are tried in this order, one by one, until it can; of those tried only the ones need to stop that
        hold GPUs where it goes.
        """
        desk, gpus, pools = self._desk, self._desk.jobs.gpus[job], self.pools(job)
        lent: list[tuple[int, Pool, list[tuple[int, int]]]] = []
        found: tuple[Pool, dict[int, int]] | None = None
        for other in running:
            pool = desk.pool_of(other)
            if pool not in pools:
                continue
            held = self._held(other)
            if any(pool.free[node] < 0 for node, _ in held):
                continue  # a closed node offers nothing
            for node, count in held:
                pool.give(node, count)
            lent.append((other, pool, held))
            where = self._place(pool, gpus) if pool.idle >= gpus else None
            if where is not None:
                pairs = (where, gpus) if isinstance(where, int) else where
                found = pool, dict(zip(pairs[::2], pairs[1::2], strict=True))
                break
        for _, pool, held in lent:
            for node, count in held:
                pool.take(node, count)
        if found is None:
            return None
        pool, wanted = found
        lacking = {node: count - pool.free[node] for node, count in wanted.items()}
        stop: list[int] = []
        for other, at, held in lent:
            if at is pool and any(lacking.get(node, 0) > 0 for node, _ in held):
                stop.append(other)
                for node, count in held:
                    lacking[node] = lacking.get(node, 0) - count
        return stop

    def _held(self, job: int) -> list[tuple[int, int]]:
        """Nodes that *job* runs on, with the GPUs it holds there."""
        attempts = self._desk.attempts
        node = attempts.node[job]
        if node >= 0:
            return [(node, self._desk.jobs.gpus[job])]
        gang = attempts.gangs[~node]
        return list(zip(gang[::2], gang[1::2], strict=True))
