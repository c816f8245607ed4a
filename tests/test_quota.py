"""Quotas: whose job is next, what is borrowed and reclaimed, and limits that always hold."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model.support import History, Job, cohort, simulate

from fleetsim.errors import InputError
from fleetsim.policies.desk import Desk, Start, Terms
from fleetsim.policies.placement import PLACEMENTS
from fleetsim.policies.queue import QUEUES
from fleetsim.policies.shares import Shares, Tree
from fleetsim.spec import TenantSpec

Tenant = dict[str, Any]


def run(jobs: Sequence[Job], tenants: Sequence[Tenant], nodes: int = 1, **scheduler: Any) -> History:
    cohorts = [cohort(nodes=nodes, gpus_per_node=8)]
    return simulate(jobs, cohorts, queue="quota", tenants=list(tenants), scheduler=scheduler)


def many(count: int, tenant: str, submit_s: float, duration_s: float = 100.0, gpus: int = 1) -> list[Job]:
    return [Job(submit_s, duration_s, gpus, tenant=tenant) for _ in range(count)]


def started(history: History, at_s: float) -> dict[str, int]:
    """GPUs of the jobs that first started at *at_s*, by tenant."""
    found: dict[str, int] = defaultdict(int)
    for tenant, gpus, start_s in history.jobs("tenant", "gpus", "start_s"):
        if start_s == at_s:
            found[tenant] += gpus
    return dict(found)


def changes(history: History) -> Iterator[tuple[float, dict[str, int], dict[str, int]]]:
    """After each moment at which anything changed: GPUs held, and GPUs waited for, by tenant."""
    rows = history["allocations"].select("job", "tenant", "gpus", "start_s", "end_s").rows()
    jobs = history.jobs("job", "tenant", "gpus", "submit_s", "end_s", "status")
    times = sorted({t for *_, start_s, end_s in rows for t in (start_s, end_s)} | {j[3] for j in jobs})
    for now in times:
        held: dict[str, int] = defaultdict(int)
        running = set()
        for job, tenant, gpus, start_s, end_s in rows:
            if start_s <= now < end_s:
                held[str(tenant)] += gpus
                running.add(job)
        waiting: dict[str, int] = defaultdict(int)
        for job, tenant, gpus, submit_s, end_s, status in jobs:
            if status != "rejected" and submit_s <= now < end_s and job not in running:
                waiting[tenant] += gpus
        yield now, held, waiting


def test_who_has_less_than_it_deserves_goes_first_then_the_smallest_part_of_its_fair_share() -> None:
    # b asks first, but a deserves 4. Fair shares: a 4 + 2, b 2 (of the 4 that nobody deserves each has 2)
    jobs = [*many(1, "c", 0, 10, 8), *many(8, "b", 1), *many(8, "a", 2)]
    history = run(jobs, [{"name": "a", "deserved_gpus": 4}, {"name": "b"}, {"name": "c"}])
    assert started(history, 10) == {"a": 6, "b": 2}


def test_priority_of_tenants_decides_beyond_what_they_deserve() -> None:
    jobs = [*many(1, "c", 0, 10, 8), *many(8, "b", 1), *many(8, "a", 2)]
    tenants: list[Tenant] = [
        {"name": "a", "deserved_gpus": 3},
        {"name": "b", "deserved_gpus": 1, "priority": 5},
        {"name": "c"},
    ]
    assert started(run(jobs, tenants), 10) == {"a": 3, "b": 5}


def test_parts_share_what_their_parent_has() -> None:
    # x and y deserve 4 each; x's parts divide 4 GPUs, however many jobs they have
    jobs = [*many(1, "c", 0, 10, 8), *many(9, "x1", 1), *many(9, "x2", 2), *many(9, "y1", 3)]
    tenants: list[Tenant] = [
        {"name": "c"},
        {"name": "x", "deserved_gpus": 4},
        {"name": "y", "deserved_gpus": 4},
        {"name": "x1", "parent": "x", "deserved_gpus": 1},
        {"name": "x2", "parent": "x", "deserved_gpus": 3},
        {"name": "y1", "parent": "y"},
    ]
    assert started(run(jobs, tenants), 10) == {"x1": 1, "x2": 3, "y1": 4}


def test_within_a_tenant_urgent_jobs_go_first_then_the_oldest() -> None:
    jobs = [Job(0, 10, 8), Job(1, 10, 8, priority=1), Job(2, 10, 8, priority=5), Job(3, 10, 8, priority=5)]
    assert run(jobs, [{"name": "t"}]).starts == [0, 30, 10, 20]


@pytest.mark.parametrize(("on_misfit", "starts"), [("stop", [0, 10, 20, 2]), ("skip", [0, 10, 1, 2])])
def test_a_job_that_does_not_fit_holds_back_its_own_tenant_or_only_its_like(
    on_misfit: str, starts: list[float]
) -> None:
    jobs = [
        Job(0, 10, 4, tenant="a"), Job(1, 10, 8, tenant="a"), Job(1, 3, 1, tenant="a"),
        Job(2, 3, 1, tenant="b"),
    ]  # fmt: skip
    assert run(jobs, [{"name": "a"}, {"name": "b"}], on_misfit=on_misfit).starts == starts


def test_reclaimed_gpus_are_those_borrowed_last() -> None:
    jobs = [*many(8, "b", 0), *many(4, "a", 10, 50)]
    tenants = [{"name": "a", "deserved_gpus": 4}, {"name": "b", "deserved_gpus": 4}]
    assert run(jobs, tenants).starts == [0] * 8 + [100] * 4
    history = run(jobs, tenants, preemptive=True)
    assert history.starts == [0] * 8 + [10] * 4
    # the last four of b ran 10 of 100 s; 90 s are left when a ends at 60
    assert history.jobs("end_s") == [100] * 4 + [150] * 4 + [60] * 4
    assert history.jobs("preemptions") == [0] * 4 + [1] * 4 + [0] * 4


def test_a_tenant_reclaims_no_more_than_its_fair_share() -> None:
    tenants = [{"name": "a", "deserved_gpus": 2}, {"name": "b", "deserved_gpus": 2}]
    history = run([*many(8, "b", 0), *many(8, "a", 10)], tenants, preemptive=True)
    assert started(history, 10) == {"a": 4}  # 2 + half of what nobody deserves


def test_nobody_is_reclaimed_below_what_it_deserves() -> None:
    tenants = [{"name": "a", "deserved_gpus": 4}, {"name": "b", "deserved_gpus": 4}]
    whole = run([*many(1, "b", 0, gpus=8), *many(4, "a", 10)], tenants, preemptive=True)
    assert whole.starts == [0, 100, 100, 100, 100]  # b's one job is all it has
    parts = run([*many(2, "b", 0, gpus=4), *many(4, "a", 10)], tenants, preemptive=True)
    assert parts.starts == [0, 0, 10, 10, 10, 10]


def test_gpus_are_taken_from_the_tenant_furthest_above_its_fair_share() -> None:
    # fair shares when a asks for 2: each 2 and one more for b, the older; b holds 5, c holds 3
    tenants = [
        {"name": "b", "deserved_gpus": 2},
        {"name": "c", "deserved_gpus": 2},
        {"name": "a", "deserved_gpus": 2},
    ]
    history = run([*many(5, "b", 0), *many(3, "c", 0), *many(2, "a", 10)], tenants, preemptive=True)
    assert history.starts[-2:] == [10, 10]
    assert history.jobs("preemptions") == [0, 0, 0, 1, 1, 0, 0, 0, 0, 0]


def test_nothing_is_stopped_if_the_job_still_finds_no_room() -> None:
    # c keeps one GPU of each node for good; a's job needs a whole node, whatever b gives back
    jobs = [
        Job(0, 500, 1, tenant="c"), *many(1, "b", 0, 100, 7),
        Job(1, 500, 1, tenant="c"), *many(1, "b", 1, 100, 7), *many(1, "a", 10, 10, 8),
    ]  # fmt: skip
    tenants: list[Tenant] = [
        {"name": "a", "deserved_gpus": 8},
        {"name": "b"},
        {"name": "c", "deserved_gpus": 2},
    ]
    history = run(jobs, tenants, nodes=2, preemptive=True)
    assert history.jobs("preemptions") == [0] * 5
    assert history.starts == [0, 0, 1, 1, 500]


def test_siblings_settle_among_themselves_before_others_lose_anything() -> None:
    # x has its 4 in x1's hands; x2 takes two of them, y is within its share
    tenants: list[Tenant] = [
        {"name": "x", "deserved_gpus": 4},
        {"name": "y", "deserved_gpus": 4},
        {"name": "x1", "parent": "x", "deserved_gpus": 2},
        {"name": "x2", "parent": "x", "deserved_gpus": 2},
        {"name": "y1", "parent": "y", "deserved_gpus": 4},
    ]
    history = run([*many(4, "x1", 0), *many(4, "y1", 0), *many(3, "x2", 10)], tenants, preemptive=True)
    assert history.jobs("preemptions") == [0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    assert started(history, 10) == {"x2": 2}


def test_a_tenant_with_parts_has_no_jobs_of_its_own() -> None:
    with pytest.raises(InputError, match="'a' has parts; in queue `quota` only they have jobs"):
        run(many(1, "a", 0), [{"name": "a"}, {"name": "b", "parent": "a"}])


@st.composite
def workloads(draw: st.DrawFn, sizes: Sequence[int]) -> list[Job]:
    now, jobs = 0.0, []
    for _ in range(draw(st.integers(1, 30))):
        now += draw(st.sampled_from([0, 0, 1, 5]))
        tenant, gpus = draw(st.sampled_from(["a", "b", "c"])), draw(st.sampled_from(sizes))
        jobs.append(Job(now, draw(st.sampled_from([1, 4, 10, 30])), gpus, tenant=tenant))
    return jobs


@settings(deadline=None, max_examples=40)
@given(workloads([1]), st.tuples(*[st.integers(0, 3)] * 3), st.booleans())
def test_what_a_tenant_deserves_it_has_at_once_if_it_asks(
    jobs: list[Job], deserved: tuple[int, ...], tree: bool
) -> None:
    tenants: list[Tenant] = [
        {"name": name, "deserved_gpus": gpus} for name, gpus in zip("abc", deserved, strict=True)
    ]
    if tree:
        tenants[0]["parent"] = tenants[1]["parent"] = "ab"
        tenants.append({"name": "ab", "deserved_gpus": deserved[0] + deserved[1]})
    history = simulate(
        jobs, [cohort(gpus_per_node=9)], queue="quota", tenants=tenants, scheduler={"preemptive": True}
    )
    for now, held, waiting in changes(history):
        for name, gpus in zip("abc", deserved, strict=True):
            assert held[name] >= min(gpus, held[name] + waiting[name]), (now, name)


@settings(deadline=None, max_examples=40)
@given(
    workloads([1, 2, 3, 8]),
    st.tuples(*[st.integers(1, 9)] * 4),
    st.booleans(),
    st.sampled_from(["stop", "skip"]),
)
def test_limits_hold_at_every_moment(
    jobs: list[Job], limits: tuple[int, ...], preemptive: bool, on_misfit: str
) -> None:
    tenants: list[Tenant] = [
        {"name": "ab", "max_gpus": limits[3]},
        {"name": "a", "parent": "ab", "max_gpus": limits[0]},
        {"name": "b", "parent": "ab", "max_gpus": limits[1]},
        {"name": "c", "max_gpus": limits[2], "priority": 3},
    ]
    history = run(jobs, tenants, preemptive=preemptive, on_misfit=on_misfit)
    for _, held, _ in changes(history):
        assert held["a"] <= limits[0] and held["b"] <= limits[1] and held["c"] <= limits[2]
        assert held["a"] + held["b"] <= limits[3]
    most = {"a": min(limits[0], limits[3]), "b": min(limits[1], limits[3]), "c": limits[2]}
    for tenant, gpus, reason in history.jobs("tenant", "gpus", "reject_reason"):
        assert reason == ("larger than its tenant's limit" if gpus > most[tenant] else None)
    assert set(history.jobs("status")) <= {"completed", "rejected"}


@given(st.integers(0, 40), st.randoms(use_true_random=False))
def test_shares_kept_up_to_date_are_those_divided_anew(gpus: int, draws: random.Random) -> None:
    tree = Tree.of(
        [
            TenantSpec(name="x", deserved_gpus=6, max_gpus=draws.choice([None, 9])),
            TenantSpec(name="y", deserved_gpus=2, priority=draws.choice([0, 1])),
            *(
                TenantSpec(name=f"{p}{i}", parent=p, deserved_gpus=i, max_gpus=draws.choice([None, 4]))
                for p in "xy"
                for i in range(3)
            ),
        ]
    )
    shares, request = Shares(tree, gpus), [0.0] * len(tree.names)
    leaves = [node for node in range(1, len(tree.names)) if not tree.children[node]]
    for _ in range(30):
        node = draws.choice(leaves)
        has = int(request[node])
        more = draws.choice([1, 2, 5, -min(1, has), -has])
        request[node] += more
        shares.ask(node, more)
        if draws.random() < 0.7:
            assert shares.now() == tree.fair_shares(gpus, request)[0]


class Plain:
    """The rules of the queue, without reclaim, read off before every start from lists of jobs."""

    lone = False
    began = None

    def __init__(self, desk: Desk, terms: Terms) -> None:
        self.desk, self.terms = desk, terms
        self.tree = Tree.of(terms.tenants)
        self.waits: list[int] = []
        self.runs: list[int] = []

    def __len__(self) -> int:
        return len(self.waits)

    def push(self, job: int) -> None:
        self.waits.append(job)

    def ended(self, job: int) -> None:
        self.runs.remove(job)

    def node(self, job: int) -> int:
        return self.tree.names.index(self.terms.jobs.tenants[self.terms.jobs.tenant[job]])

    def gpus(self, jobs: list[int], node: int) -> int:
        """GPUs of those of *jobs* that belong to *node* or its parts."""
        return sum(self.desk.jobs.gpus[job] for job in jobs if node in self.tree.path[self.node(job)])

    def offer(self, start: Start, freed: bool, now: float) -> bool:
        tree, urgency = self.tree, self.terms.jobs.priority
        leaves = [node for node in range(len(tree.names)) if not tree.children[node]]
        lost: set[int] = set()  # jobs that do not go on in this pass

        def first(node: int) -> list[int]:
            """Jobs of *node* that may go next, in order: the first of all, or of each size."""
            jobs = [job for job in self.waits if self.node(job) == node]
            jobs.sort(key=lambda job: (0 if urgency is None else -int(urgency[job]), job))
            if self.terms.scheduler.on_misfit != "skip":
                return [job for job in jobs[:1] if job not in lost]
            sizes = {self.desk.jobs.gpus[job]: job for job in reversed(jobs)}
            return [job for job in jobs if job in sizes.values() and job not in lost]

        def key(node: int) -> tuple[bool, int, float, str]:
            held = self.gpus(self.runs, node)
            ratio = held / share[node] if share[node] else inf
            return held >= tree.deserved[node], -tree.priority[node], ratio, tree.names[node]

        while open_ := [node for node in leaves if first(node)]:
            request = [0.0] * len(tree.names)
            for leaf in leaves:
                request[leaf] = self.gpus(self.waits, leaf) + self.gpus(self.runs, leaf)
            share, _ = tree.fair_shares(self.terms.gpus, request)
            node = 0
            while tree.children[node]:
                node = min(
                    (c for c in tree.children[node] if any(c in tree.path[leaf] for leaf in open_)), key=key
                )
            job = first(node)[0]
            fits = all(
                self.gpus(self.runs, step) + self.desk.jobs.gpus[job] <= tree.limit[step]
                for step in tree.path[node]
            )
            if fits and start(job):
                self.waits.remove(job)
                self.runs.append(job)
            else:
                lost.add(job)
        return bool(self.waits)


@settings(deadline=None, max_examples=40)
@given(workloads([1, 2, 3, 8]), st.randoms(use_true_random=False), st.sampled_from(["stop", "skip"]))
def test_jobs_start_as_by_the_rules_read_off_anew(
    jobs: list[Job], draws: random.Random, on_misfit: str
) -> None:
    jobs = [replace(job, priority=draws.choice([None, 0, 0, 2])) for job in jobs]
    odds = draws.choice
    x, y = draws.randint(0, 4), draws.randint(0, 4)
    tenants: list[Tenant] = [
        {"name": "ab", "deserved_gpus": x, "over_quota_weight": odds([0, 1, 2]), "priority": odds([0, 1])},
        {"name": "b", "parent": "ab", "deserved_gpus": draws.randint(0, x), "max_gpus": odds([None, 8])},
        {"name": "c", "deserved_gpus": y, "over_quota_weight": odds([0, 1, 2])},
        {"name": "a", "parent": "ab", "over_quota_weight": odds([0, 1])},
    ]  # fmt: skip
    quick = run(jobs, tenants, on_misfit=on_misfit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(QUEUES, "quota", Plain)
        assert run(jobs, tenants, on_misfit=on_misfit).starts == quick.starts


@settings(deadline=None, max_examples=40)
@given(
    workloads([1, 2, 3, 8, 11, 16]),
    st.sampled_from([name for name in PLACEMENTS if name != "topology"]),
    st.sampled_from(["stop", "skip"]),
    st.tuples(*[st.integers(0, 6)] * 3),
)
def test_reclaiming_makes_room_under_every_placement_and_all_jobs_end(
    jobs: list[Job], placement: str, on_misfit: str, deserved: tuple[int, ...]
) -> None:
    """Two nodes of 8, gangs over both. Nobody is stopped while it holds no more than it deserves."""
    tenants: list[Tenant] = [
        {"name": name, "deserved_gpus": gpus} for name, gpus in zip("abc", deserved, strict=True)
    ]
    history = run(jobs, tenants, nodes=2, preemptive=True, on_misfit=on_misfit, placement=placement)
    assert set(history.jobs("status")) == {"completed"}
    ended = history["allocations"].filter(outcome="preempted").select("tenant", "end_s").rows()
    held_at = {now: held for now, held, _ in changes(history)}
    for tenant, end_s in ended:
        assert held_at[end_s][str(tenant)] >= deserved["abc".index(str(tenant))]
