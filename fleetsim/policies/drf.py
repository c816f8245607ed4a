"""Dominant resource fairness."""

from __future__ import annotations

from math import inf

from fleetsim.policies.desk import Desk, Start, Terms
from fleetsim.policies.lanes import Lanes


class Drf:
    """The next job comes from the tenant with the smallest dominant share, over its ``share``; ties by name.

    Dominant resource fairness (Ghodsi et al., NSDI'11, algorithm 1). The dominant share is the largest of
    what a tenant's running jobs hold of the GPUs installed and, where GPUs are shared and nodes have limits,
    of the CPU and of the host memory. With GPUs alone it is max-min fairness over tenants. Within a tenant
    jobs go by their priority, then in order of arrival. With ``on_misfit: stop``, as in the paper, all wait
    until the job whose turn it is fits; with ``skip`` every job that fits starts, in this order. No job is
    stopped. Tenants of share 0 come last.

    A pass costs O(tenants + shapes) for each job that starts, however many wait.
    """

    lone = False
    began = None

    def __init__(self, desk: Desk, terms: Terms) -> None:
        names = terms.jobs.tenants
        share = {tenant.name: tenant.share for tenant in terms.tenants}
        self._asked = [(desk.jobs.gpus, terms.gpus)]  # by resource: of each job, and in all
        for column, total in (
            (terms.jobs.cpu_milli, terms.cpu_milli),
            (terms.jobs.memory_mib, terms.memory_mib),
        ):
            if column is not None and total:
                self._asked.append((column.tolist(), total))
        self._shape_of = desk.jobs.shape_of
        self._lanes = Lanes(desk, terms)
        self._skip = terms.scheduler.on_misfit == "skip"
        self._share = [share.get(name, 1.0) for name in names]
        self._place = {name: place for place, name in enumerate(sorted(names))}
        self._held = [[0] * len(self._asked) for _ in names]
        self._key = [
            (0.0 if share else inf, self._place[name]) for share, name in zip(self._share, names, strict=True)
        ]

    def __len__(self) -> int:
        return len(self._lanes)

    def push(self, job: int) -> None:
        self._lanes.push(job)

    def ended(self, job: int) -> None:
        """*job* runs no more."""
        self._hold(self._lanes.tenant_of[job], job, -1)

    def _hold(self, tenant: int, job: int, sign: int) -> None:
        held, share = self._held[tenant], self._share[tenant]
        for resource, (asked, _) in enumerate(self._asked):
            held[resource] += sign * asked[job]
        if share:  # one division, so that equal shares are equal
            dominant = max(have / (total * share) for have, (_, total) in zip(held, self._asked, strict=True))
            self._key[tenant] = (dominant, self._key[tenant][1])

    def offer(self, start: Start, freed: bool, now: float) -> bool:
        lanes = self._lanes
        key = self._key.__getitem__
        if freed:
            lanes.misfits.clear()
        turn = lanes.hopeful() if self._skip else set(lanes.waiting)
        while turn:
            tenant = min(turn, key=key)
            job = lanes.first(tenant)
            if job >= 0 and start(job):
                lanes.pop(job)
                self._hold(tenant, job, 1)
                if tenant not in lanes.waiting:
                    turn.remove(tenant)
                continue
            if job >= 0:
                lanes.misfits.add(self._shape_of[job])
            if not self._skip:
                break
            turn &= lanes.hopeful() if job >= 0 else turn - {tenant}
        return bool(lanes.waiting)
