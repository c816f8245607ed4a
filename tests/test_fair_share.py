"""Fair share of decayed use, and dominant resource fairness: by hand, and against slow and plain twins."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from math import inf, log
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model.support import History, Job, cohort, simulate

from fleetsim.policies.desk import Desk, Queue, Start, Terms
from fleetsim.policies.queue import QUEUES
from fleetsim.units import duration_s


def run(
    jobs: Sequence[Job], queue: str, tenants: Sequence[dict[str, Any]] = (), gpus: int = 1, **scheduler: Any
) -> History:
    cohorts = [cohort(gpus_per_node=gpus)]
    return simulate(jobs, cohorts, queue=queue, tenants=list(tenants), scheduler=scheduler)


AFTER_A = [Job(0, 100, tenant="a"), Job(1, 10, tenant="a"), Job(2, 10, tenant="b")]


def test_who_used_less_goes_first() -> None:
    """At 100 s all use is a's: its factor is 2 ** -(1 / 0.5) = 0.25, b's is 1."""
    assert run(AFTER_A, "fair_share", fair_share={"every": 10}).starts == [0, 110, 100]


@pytest.mark.parametrize(("share", "starts"), [(99, [0, 110, 100]), (1, [0, 100, 110])])
def test_use_counts_against_the_share(share: float, starts: list[float]) -> None:
    # a used 100 GPU s and b 300: with equal shares b waits; with 99 of 100 b's factor is the larger:
    # 2 ** -(.75 / .99) = .59 against 2 ** -(.25 / .01), nothing
    jobs = [
        Job(0, 100, 3, tenant="b"), Job(0, 100, 1, tenant="a"),
        Job(1, 10, 4, tenant="a"), Job(2, 10, 4, tenant="b"),
    ]  # fmt: skip
    tenants: list[dict[str, Any]] = [{"name": "a"}, {"name": "b", "share": share}]
    rules = {"every": 10, "half_life": "10y"}
    assert run(jobs, "fair_share", tenants, gpus=4, fair_share=rules).starts[2:] == starts[1:]


@pytest.mark.parametrize(("half_life", "starts"), [(1000, [120, 110]), (10, [110, 120])])
def test_use_decays(half_life: float, starts: list[float]) -> None:
    # a used 100 GPU s until 100, b 10 GPU s until 110. By half-lives of 10 s a's has fallen to
    # 14.4 x (1 - 2**-10) x 2**-1 = 7.2 by then, b's is 14.4 x (1 - 2**-1) = 7.2: a's is a little less
    jobs = [
        Job(0, 100, tenant="a"), Job(0, 10, tenant="b"),
        Job(101, 10, tenant="a"), Job(101, 10, tenant="b"),
    ]  # fmt: skip
    rules = {"every": 10, "half_life": half_life}
    assert run(jobs, "fair_share", fair_share=rules).starts[2:] == starts


@pytest.mark.parametrize(
    ("weight", "starts"), [(0.013, [110, 100]), (0.014, [110, 100]), (0.0133, [100, 110])]
)
def test_age_weighs_against_use(weight: float, starts: list[float]) -> None:
    """At 100 s a's job is 99 s old, b's 98: 0.01 x max_age more; b's factor of use is 0.75 more.

    0.01 of an age weight of 1 is worth more than 0.75 of a weight below 1/75 = 0.01333.
    """
    rules = {"every": 10, "max_age": 100, "age": 1.0, "fair_share": weight}
    expected = [100, 110] if weight * 0.75 < 0.01 else [110, 100]
    assert run(AFTER_A, "fair_share", fair_share=rules).starts[1:] == expected


def test_size_and_priority_are_parts_of_the_most_there_is() -> None:
    jobs = [
        Job(0, 10, 4), Job(1, 10, 2), Job(2, 10, 4), Job(3, 10, 4, priority=1), Job(4, 10, 1, priority=2),
    ]  # fmt: skip
    only: Callable[[str], dict[str, float]] = lambda name: {"fair_share": 0, name: 1}  # noqa: E731
    # 4 of 4 GPUs first, by age among themselves; then 2, beside which 1 fits
    assert run(jobs, "fair_share", gpus=4, fair_share=only("size")).starts == [0, 30, 10, 20, 30]
    # 2 of 2; then 1 of 2, which has to wait for it; then by order of arrival
    assert run(jobs, "fair_share", gpus=4, fair_share=only("priority")).starts == [0, 30, 40, 20, 10]


@pytest.mark.parametrize(("on_misfit", "start_s"), [("stop", 20), ("skip", 3)])
def test_the_first_job_blocks_the_others_or_not(on_misfit: str, start_s: float) -> None:
    jobs = [Job(0, 10, 3), Job(1, 10, 4), Job(3, 1, 1)]
    assert run(jobs, "fair_share", gpus=4, on_misfit=on_misfit).starts == [0, 10, start_s]


def test_a_pass_is_held_when_priorities_change() -> None:
    """b's job, which does not fit, leads until a's use has lost weight beside c's, which goes on.

    a used 2 x 10 GPU s, c has used 2 t, shares are 1/3: a's factor is 2 ** -(60 / (20 + 2 t)), .841 at 110 s
    and .852 at 120 s; b's is 1. a's job is 1 s older: 0.001 x 150 = .15 more.
    """
    jobs = [
        Job(0, 10, 2, tenant="a"),
        Job(0, 200, 2, tenant="c"),
        Job(5, 10, 2, tenant="a"),
        Job(6, 10, 4, tenant="b"),
    ]
    rules = {"half_life": "10y", "age": 150, "max_age": 1000, "every": 10}
    assert run(jobs, "fair_share", gpus=4, fair_share=rules).starts == [0, 0, 120, 200]


class Plain:
    """A queue that sorts all that wait before every start. ``rank(job)``: the smaller, the sooner."""

    lone = False
    began = None

    def __init__(self, desk: Desk, terms: Terms) -> None:
        self.desk, self.terms = desk, terms
        self.jobs: list[int] = []
        self.spans: list[list[float]] = []  # tenant, GPUs, start, end
        self.last: dict[int, list[float]] = {}

    def __len__(self) -> int:
        return len(self.jobs)

    def push(self, job: int) -> None:
        self.jobs.append(job)

    def ended(self, job: int) -> None:
        self.last[job][3] = self.desk.attempts.end_s[job]

    def tenant(self, job: int) -> int:
        return int(self.terms.jobs.tenant[job])

    def share(self, tenant: int) -> float:
        name = self.terms.jobs.tenants[tenant]
        return next((t.share for t in self.terms.tenants if t.name == name), 1.0)

    def begin(self, now: float) -> None:
        """A pass begins."""

    @abstractmethod
    def rank(self, job: int) -> Any:
        """Its place in the order."""

    def offer(self, start: Start, freed: bool, now: float) -> bool:
        self.begin(now)
        failed: set[int] = set()
        while waiting := sorted((j for j in self.jobs if j not in failed), key=self.rank):
            job = waiting[0]
            if start(job):
                self.jobs.remove(job)
                self.last[job] = [self.tenant(job), self.desk.jobs.gpus[job], now, inf]
                self.spans.append(self.last[job])
            elif self.terms.scheduler.on_misfit == "skip":
                failed.add(job)
            else:
                break
        return bool(self.jobs)


class PlainDrf(Plain):
    def rank(self, job: int) -> Any:
        tenant = self.tenant(job)
        held = sum(gpus for owner, gpus, _, end_s in self.spans if owner == tenant and end_s == inf)
        share = self.share(tenant)
        urgency = 0 if self.terms.jobs.priority is None else -int(self.terms.jobs.priority[job])
        return held / share if share else inf, self.terms.jobs.tenants[tenant], urgency, job


class PlainFairShare(Plain):
    def __init__(self, desk: Desk, terms: Terms) -> None:
        super().__init__(desk, terms)
        self.at_s, self.due_s, self.asked_s = 0.0, duration_s(terms.scheduler.fair_share.every), 0.0
        self.use = [0.0] * len(terms.jobs.tenants)

    def begin(self, now: float) -> None:
        half_s = duration_s(self.terms.scheduler.fair_share.half_life)
        every_s = duration_s(self.terms.scheduler.fair_share.every)
        if now >= self.due_s:
            self.at_s, self.due_s = now, (now // every_s + 1) * every_s
            self.use = [0.0] * len(self.use)
            for tenant, gpus, start_s, end_s in self.spans:
                ago = (now - min(end_s, now)) / half_s, (now - start_s) / half_s
                self.use[int(tenant)] += gpus * half_s / log(2) * (2 ** -ago[0] - 2 ** -ago[1])

    def offer(self, start: Start, freed: bool, now: float) -> bool:
        waits = super().offer(start, freed, now)
        if waits and self.asked_s < self.due_s:
            self.asked_s = self.due_s
            self.desk.review(self.due_s)
        return waits

    def rank(self, job: int) -> Any:
        rules, jobs, tenant = self.terms.scheduler.fair_share, self.terms.jobs, self.tenant(job)
        share = self.share(tenant) / sum(map(self.share, range(len(jobs.tenants))))
        used = self.use[tenant] / (sum(self.use) or 1.0)
        age = min(1.0, max(0.0, (self.at_s - jobs.submit_s[job]) / duration_s(rules.max_age)))
        urgency = 0 if jobs.priority is None else max(0, int(jobs.priority[job]))
        highest = 1 if jobs.priority is None else max(1, int(jobs.priority.max()))
        priority = (
            rules.fair_share * 2 ** -(used / share)
            + rules.age * age
            + rules.size * self.desk.jobs.gpus[job] / self.terms.gpus
            + rules.priority * urgency / highest
        )
        return -round(priority, 9), job


@st.composite
def workloads(draw: st.DrawFn) -> list[Job]:
    now, jobs = 0.0, []
    for _ in range(draw(st.integers(1, 40))):
        now += draw(st.sampled_from([0, 0, 1, 3, 17]))
        tenant, gpus = draw(st.sampled_from(["a", "b", "c"])), draw(st.sampled_from([1, 2, 5, 8]))
        duration, urgency = draw(st.sampled_from([1, 4, 10, 31])), draw(st.sampled_from([None, -1, 0, 2, 3]))
        jobs.append(Job(now, duration, gpus, tenant=tenant, priority=urgency))
    return jobs


def same(plain: Callable[[Desk, Terms], Queue], jobs: list[Job], queue: str, **more: Any) -> None:
    quick = run(jobs, queue, gpus=8, **more)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(QUEUES, queue, plain)
        assert run(jobs, queue, gpus=8, **more).starts == quick.starts


SHARES = st.tuples(*[st.sampled_from([1, 2, 5])] * 3).map(
    lambda shares: [{"name": n, "share": s} for n, s in zip("abc", shares, strict=True)]
)
MISFIT = st.sampled_from(["stop", "skip"])


@settings(deadline=None, max_examples=30)
@given(workloads(), SHARES, MISFIT)
def test_drf_starts_what_its_plain_twin_starts(
    jobs: list[Job], tenants: list[dict[str, Any]], on_misfit: str
) -> None:
    same(PlainDrf, jobs, "drf", tenants=tenants, on_misfit=on_misfit)


@settings(deadline=None, max_examples=30)
@given(workloads(), SHARES, MISFIT, st.tuples(*[st.sampled_from([0, 1, 3])] * 3), st.sampled_from([7, 20]))
def test_fair_share_starts_what_its_plain_twin_starts(
    jobs: list[Job],
    tenants: list[dict[str, Any]],
    on_misfit: str,
    weights: tuple[int, int, int],
    every: float,
) -> None:
    age, size, priority = weights
    rules = {"half_life": 50, "every": every, "max_age": 60, "age": age, "size": size, "priority": priority}
    same(PlainFairShare, jobs, "fair_share", tenants=tenants, on_misfit=on_misfit, fair_share=rules)


@pytest.mark.parametrize(("share", "of_a", "of_b"), [(1, 4, 2), (3, 6, 1)])
def test_drf_serves_the_tenant_with_the_smallest_share_of_gpus(share: float, of_a: int, of_b: int) -> None:
    # a 1, b 2, a 2, a 3 (a tie: a is first by name), b 4, a 4: full. With three times b's share a's GPUs
    # count a third: a 1, b 2, a 2 .. 6 (6/3 is 2/1): full
    jobs = [Job(0, 10, 8, tenant="c"), *[Job(1, 9, 2, tenant="b")] * 4, *[Job(1, 9, 1, tenant="a")] * 8]
    starts = run(jobs, "drf", [{"name": "a", "share": share}, {"name": "b"}, {"name": "c"}], gpus=8).starts
    assert starts[1:5].count(10) == of_b
    assert starts[5:].count(10) == of_a
