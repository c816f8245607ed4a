"""Multifactor priority with fair share of decayed use."""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace
from math import exp2, log

from fleetsim.policies.desk import Desk, Start, Terms
from fleetsim.units import duration_s

Lane = tuple[int, int, int]  # tenant, shape, priority: of two of its jobs the earlier always goes first


class FairShare:
    """The job with the highest priority goes first, ties by order of arrival: Slurm's multifactor plugin.

    Priority is the sum of weights (``scheduler.fair_share``) times factors from 0 to 1, in the classic form
    of the plugin (without fair tree):

    - ``fair_share``: ``2 ** -(use / share)`` of the tenant. Use is its GPU seconds so far, those of running
      jobs included, each counting half after every ``half_life``, over the same of all tenants; share is its
      ``share`` over those of all tenants. 1 before anyone used anything, 0 for a tenant of share 0.
    - ``age``: time since submission over ``max_age``, at most 1.
    - ``size``: GPUs of the job over GPUs installed.
    - ``priority``: the job's priority over the highest of the workload; 0 for negative ones.

    All priorities are worked out anew at the first pass from every multiple of ``every`` on, and while jobs
    wait one is held at it; use and age stay as they are until the next, so a job that comes has age 0. With
    ``on_misfit: stop`` the first job blocks all others until it fits; with ``skip`` every job that fits
    starts, in this order.

    Within a tenant, shape and priority the earlier job always goes first, so priorities are worked out for
    the first of each only: O(these) every ``every``, O(shapes + jobs started) in a pass.
    """

    lone = False
    began = None

    def __init__(self, desk: Desk, terms: Terms) -> None:
        rules, jobs = terms.scheduler.fair_share, terms.jobs
        self._desk = desk
        self._gpus_of = desk.jobs.gpus
        self._shape_of = desk.jobs.shape_of
        self._submit_s = desk.jobs.submit_s
        self._tenant_of: list[int] = jobs.tenant.tolist()
        self._priority: list[int] | None = None
        self._highest = 0
        if jobs.priority is not None and len(jobs) and rules.priority:
            self._priority = jobs.priority.clip(0).tolist()
            self._highest = max(self._priority)
        self._group_by_shape = terms.scheduler.on_misfit == "skip"
        self._rules = rules
        self._every_s = duration_s(rules.every)
        self._max_age_s = duration_s(rules.max_age)
        self._half_life_s = duration_s(rules.half_life)
        self._gpus = terms.gpus
        shares = {tenant.name: tenant.share for tenant in terms.tenants}
        share = [
            shares.get(name, 1.0) if terms.here is None or name in terms.here else 0.0
            for name in jobs.tenants
        ]
        self._share = [one / (sum(share) or 1.0) for one in share]
        self._use = [0.0] * len(share)  # decayed GPU seconds at ...
        self._use_s = [0.0] * len(share)  # ... this time, each
        self._held = [0] * len(share)  # GPUs
        self._factor = [1.0 if one else 0.0 for one in share]
        self._worked_out_s = 0.0
        self._due_s = self._every_s
        self._review_s = 0.0  # the last one asked for
        self._gone: list[int] = []  # jobs that ended since the last pass
        self._lanes: dict[Lane, list[int]] = {}
        self._heads: dict[int, list[tuple[float, int, Lane]]] = {}  # by shape with skip, else under 0
        self._open: set[int] = set()  # groups whose first job may fit
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, job: int) -> None:
        self._count += 1
        priority = 0 if self._priority is None else self._priority[job]
        lane = (self._tenant_of[job], self._shape_of[job], priority)
        jobs = self._lanes.setdefault(lane, [])
        heappush(jobs, job)
        if jobs[0] == job:  # else its lane has an earlier one in the heap
            group = self._shape_of[job] if self._group_by_shape else 0
            heads = self._heads.setdefault(group, [])
            heappush(heads, (self._rank(job, lane), job, lane))
            if heads[0][1] == job:
                self._open.add(group)

    def ended(self, job: int) -> None:
        """*job* runs no more."""
        self._gone.append(job)

    def offer(self, start: Start, freed: bool, now: float) -> bool:
        self._settle(now)
        if now >= self._due_s:
            self._renew(now)
            freed = True
        heads = self._heads
        firsts = [(*heads[group][0], group) for group in (heads if freed else self._open)]
        self._open.clear()
        heapify(firsts)
        while firsts:
            _, job, lane, group = firsts[0]
            heap = heads[group]
            jobs = self._lanes.get(lane)
            if jobs is None or jobs[0] != job:
                heappop(heap)  # a job of its lane that goes before it came later, after it was stopped
            elif not start(job):
                heappop(firsts)
                continue
            else:
                self._hold(lane[0], self._gpus_of[job], now)
                self._count -= 1
                heappop(jobs)
                if jobs:
                    heapreplace(heap, (self._rank(jobs[0], lane), jobs[0], lane))
                else:
                    heappop(heap)
                    del self._lanes[lane]
            if heap:
                heapreplace(firsts, (*heap[0], group))
            else:
                heappop(firsts)
                del heads[group]
        if self._count and self._review_s < self._due_s:
            self._review_s = self._due_s
            self._desk.review(self._due_s)
        return bool(self._count)

    def _rank(self, job: int, lane: Lane) -> float:
        """Less its priority."""
        rules = self._rules
        age = (self._worked_out_s - self._submit_s[job]) / self._max_age_s
        return -(
            rules.fair_share * self._factor[lane[0]]
            + rules.age * min(max(age, 0.0), 1.0)
            + rules.size * self._gpus_of[job] / self._gpus
            + (rules.priority * lane[2] / self._highest if self._highest else 0.0)
        )

    def _settle(self, now: float) -> None:
        """Jobs that have ended use nothing any more."""
        for job in self._gone:
            self._hold(self._tenant_of[job], -self._gpus_of[job], min(now, self._desk.attempts.end_s[job]))
        self._gone.clear()

    def _hold(self, tenant: int, gpus: int, now: float) -> None:
        """*tenant* holds *gpus* more from *now* on."""
        self._decay(tenant, now)
        self._held[tenant] += gpus

    def _decay(self, tenant: int, now: float) -> None:
        """Bring the use of *tenant* up to *now*."""
        left = exp2((self._use_s[tenant] - now) / self._half_life_s)
        since = self._held[tenant] * self._half_life_s / log(2) * (1 - left)
        self._use[tenant] = self._use[tenant] * left + since
        self._use_s[tenant] = now

    def _renew(self, now: float) -> None:
        """Work out use and priorities."""
        self._worked_out_s = now
        self._due_s = (now // self._every_s + 1) * self._every_s
        for tenant in range(len(self._use)):
            self._decay(tenant, now)
        total = sum(self._use)
        for tenant, (use, share) in enumerate(zip(self._use, self._share, strict=True)):
            self._factor[tenant] = exp2(-(use / total if total else 0.0) / share) if share else 0.0
        self._heads.clear()
        for lane, jobs in self._lanes.items():
            group = lane[1] if self._group_by_shape else 0
            self._heads.setdefault(group, []).append((self._rank(jobs[0], lane), jobs[0], lane))
        for heap in self._heads.values():
            heapify(heap)
