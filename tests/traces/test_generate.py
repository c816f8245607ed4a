"""Look-alikes against the figures they are made from, and the bundled sample."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fleetsim_traces import Trace, TraceError, read_trace
from fleetsim_traces.generate import generate_jobs
from fleetsim_traces.generate_marginals import parameters, tenant_shares
from fleetsim_traces.samples import SAMPLES, sample

N = 400_000
P = parameters("philly")


@pytest.fixture(scope="module")
def trace() -> Trace:
    return generate_jobs(jobs=N, seed=11)


def values(trace: Trace, name: str) -> npt.NDArray[Any]:
    return np.asarray(
        trace.jobs[name].to_pylist() if name in ("tenant", "status", "user") else trace.jobs[name]
    )


def test_gpu_counts_follow_their_shares(trace: Trace) -> None:
    gpus = values(trace, "gpus")
    assert set(gpus) <= set(P["gpu_count_share"])
    for count, share in P["gpu_count_share"].items():
        # five standard deviations of a binomial
        assert (gpus == count).mean() == pytest.approx(share, abs=5 * np.sqrt(share / N)), count


def test_durations_follow_their_fits(trace: Trace) -> None:
    gpus, duration_s = values(trace, "gpus"), values(trace, "duration_s")
    assert (duration_s >= 1).all()
    assert (duration_s == np.round(duration_s)).all()
    for count in (1, 2, 4, 8):
        fit, of_count = P["duration_by_gpus"][count], duration_s[gpus == count]
        assert of_count.max() <= fit["max_s"]
        # the median of a log-normal is exp(mu); cutting the tail (1 to 3 %) moves it a little down
        assert np.log(np.median(of_count)) == pytest.approx(fit["mu"], abs=0.15)
        quarter, three = np.log(np.quantile(of_count, [0.25, 0.75]))
        assert three - quarter == pytest.approx(1.349 * fit["sigma"], rel=0.06)  # 2 x 0.6745 sigma
    assert duration_s[gpus == 12].max() <= P["duration_by_gpus"][8]["max_s"]


def test_arrivals_follow_hours_weekdays_and_rate(trace: Trace) -> None:
    submit_s = values(trace, "submit_s")
    assert (np.diff(submit_s) >= 0).all()
    days = N / P["jobs_per_day"]
    assert submit_s[-1] / 86400 == pytest.approx(days, rel=0.01)
    hour = np.bincount((submit_s // 3600 % 24).astype(int)) / N * 24
    assert hour == pytest.approx(np.array(P["hour_rate"]) / np.mean(P["hour_rate"]), rel=0.1)
    # 530 days with a coefficient of variation of 1 in each: a weekday's mean is known to about 12 %
    weekday = np.bincount((submit_s // 86400 % 7).astype(int)) / N * 7  # the default start is a Monday
    assert weekday == pytest.approx(np.array(P["weekday_rate"]), rel=0.4)
    daily = np.bincount((submit_s // 86400).astype(int))[: int(days)]
    assert 0.8 < daily.std() / daily.mean() < 1.6  # the real log: 1.05


def test_bursts_are_as_dense_as_the_real_ones(trace: Trace) -> None:
    gap_s = np.diff(values(trace, "submit_s"))
    assert (gap_s == 0).mean() == pytest.approx(0.081, abs=0.02)  # figures of the real log
    assert (gap_s <= 10).mean() == pytest.approx(0.552, abs=0.05)


def test_tenants_users_and_status(trace: Trace) -> None:
    tenant, user, status = (values(trace, name) for name in ("tenant", "user", "status"))
    shares = tenant_shares(P)
    assert shares.sum() == pytest.approx(1)
    assert (np.diff(shares) < 0).all()
    names, counts = np.unique(tenant, return_counts=True)
    assert list(names) == [f"vc-{i:02d}" for i in range(1, 16)]
    assert counts / N == pytest.approx(shares, abs=0.006)  # bursts make it wider than a binomial
    assert len(set(zip(tenant, user, strict=True))) == len(set(user))  # a user has one tenant
    assert len(set(user)) == pytest.approx(P["users"], abs=8)
    first = user[tenant == "vc-01"]
    heads = np.sort(np.unique(first, return_counts=True)[1])[::-1]
    assert heads[0] / heads[1] == pytest.approx(2 ** P["user_exponent"], rel=0.1)
    total = sum(P["status_share"].values())
    for name, share in P["status_share"].items():
        assert (status == name).mean() == pytest.approx(share / total, abs=0.005)


def test_parameters_are_distributions() -> None:
    assert sum(P["gpu_count_share"].values()) == pytest.approx(1)
    assert np.mean(P["hour_rate"]) == pytest.approx(1, abs=0.001)
    assert np.mean(P["weekday_rate"]) == pytest.approx(1, abs=0.001)


def test_same_seed_same_table_other_seed_other_table() -> None:
    one, same, other = (generate_jobs(jobs=500, seed=seed).jobs for seed in (1, 1, 2))
    assert one.equals(same, check_metadata=True)
    for name in ("submit_s", "duration_s", "tenant", "status"):
        assert not one[name].equals(other[name]), name


def test_causes_have_streams_of_their_own() -> None:
    slow, fast = generate_jobs(jobs=500, seed=3), generate_jobs(jobs=500, seed=3, jobs_per_day=1e6)
    for name in ("gpus", "duration_s", "status"):  # the multiset: bursts overlap more at a higher rate
        assert sorted(slow.jobs[name].to_pylist()) == sorted(fast.jobs[name].to_pylist()), name
    assert fast.jobs["submit_s"][-1].as_py() < 120 < slow.jobs["submit_s"][-1].as_py()


def test_hours_are_those_of_the_start() -> None:
    start = datetime(2024, 3, 6, 17, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    trace = generate_jobs(jobs=200_000, seed=5, start=start)
    assert trace.epoch == datetime(2024, 3, 6, 12, 0, tzinfo=UTC)
    local = values(trace, "submit_s") + 17.5 * 3600
    hour = np.bincount((local // 3600 % 24).astype(int)) / 200_000 * 24
    assert hour == pytest.approx(np.array(P["hour_rate"]), rel=0.15)
    assert np.argmax(hour) == np.argmax(P["hour_rate"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"family": "helio"}, "no family 'helio'"),
        ({"jobs": 0}, "jobs: 0 is not from 1"),
        ({"jobs": 10**9}, "jobs: 1,000,000,000 is not from 1"),
        ({"seed": -1}, "seed: -1 is negative"),
        ({"jobs_per_day": 0.0}, "jobs_per_day: 0 is too low"),
        ({"jobs_per_day": float("nan")}, "jobs_per_day: nan is too low"),
        ({"jobs_per_day": 1e-9}, "jobs_per_day: 1e-09 is too low"),
        ({"start": datetime(1, 1, 1, tzinfo=UTC)}, "is not from 1970 to 2200"),
        ({"start": datetime(2024, 1, 1)}, "start: 2024-01-01T00:00:00 has no UTC offset"),
    ],
)
def test_arguments_out_of_range(options: dict[str, object], said: str) -> None:
    with pytest.raises(TraceError, match=said):
        generate_jobs(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "family", "seed"), [("philly", "philly", 2017), ("helios", "helios", 2020)])
def test_bundled_sample_is_what_the_generator_makes(name: str, family: str, seed: int) -> None:
    path = sample(f"{name}-like-10k")
    found = read_trace(path)
    made = generate_jobs(family, jobs=10_000, seed=seed)
    assert found.jobs.equals(made.jobs, check_metadata=True)
    assert (found.generated, found.epoch, found.format) == (True, made.epoch, f"{name}-like")
    assert path.stat().st_size < 300_000


def test_samples_exist_and_others_are_named() -> None:
    assert all(sample(name).is_file() for name in SAMPLES)
    with pytest.raises(TraceError, match=r"no bundled sample '\.\./secret'"):
        sample("../secret")
