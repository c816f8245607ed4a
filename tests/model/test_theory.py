"""Queueing theory: a closed form lies in the 99 % confidence interval of the simulated mean.

Every case is a batch of independent replications with fixed seeds; the first tenth of each (which starts
empty) is discarded. The interval is Student's t over the means of the replications. It must also be narrow,
or agreement would say nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heapreplace
from math import sqrt

import numpy as np
import pytest
from model.support import History, Job, cohort, columns_trace, simulate
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]

SERVICE_S = 1000.0  # mean service time of every case
REPLICATIONS = 12
T_99 = 3.1058  # Student's t, 11 degrees of freedom, two-sided 99 %


def erlang_c(servers: int, load: float) -> float:
    """Probability that a customer of M/M/c waits, by the recursion of Erlang B."""
    blocked = 1.0
    for k in range(1, servers + 1):
        offered = servers * load * blocked
        blocked = offered / (k + offered)
    return blocked / (1 - load * (1 - blocked))


def replicate(nodes: int, gpus_per_node: int, load: float, jobs: int, service: Draw, queue: str) -> Floats:
    """Mean wait and share of jobs that wait, of each replication."""
    gpus = nodes * gpus_per_node
    means = []
    for number in range(REPLICATIONS):
        draws = np.random.default_rng([2026, gpus, round(1000 * load), number])
        submit_s = np.cumsum(draws.exponential(SERVICE_S / (gpus * load), jobs))
        run = simulate(
            columns_trace(submit_s=submit_s, duration_s=service(draws, jobs)),
            [cohort(nodes=nodes, gpus_per_node=gpus_per_node)],
            queue=queue,
        )
        wait_s = run["jobs"]["wait_s"].to_numpy()[jobs // 10 :]
        means.append((wait_s.mean(), (wait_s > 0).mean()))
    return np.array(means)


def agrees(sample: Floats, theory: float, narrow: float) -> None:
    """*theory* lies in the 99 % interval of the mean of *sample*, narrower than *narrow* of it."""
    half = T_99 * sample.std(ddof=1) / sqrt(len(sample))
    assert half < narrow * theory, f"the interval is too wide to say anything: {half / theory:.3f}"
    assert abs(sample.mean() - theory) < half, f"{sample.mean():.2f} +- {half:.2f} against {theory:.2f}"


def exponential(draws: np.random.Generator, count: int) -> Floats:
    return draws.exponential(SERVICE_S, count)


def deterministic(draws: np.random.Generator, count: int) -> Floats:
    return np.full(count, SERVICE_S)


def hyperexponential(draws: np.random.Generator, count: int) -> Floats:
    """Two balanced phases, squared coefficient of variation 4: p = (1 + sqrt(3 / 5)) / 2, mean 1 / 2p."""
    p = (1 + sqrt(3 / 5)) / 2
    short = draws.random(count) < p
    return draws.exponential(1.0, count) * np.where(short, SERVICE_S / (2 * p), SERVICE_S / (2 * (1 - p)))


def log_normal(draws: np.random.Generator, count: int) -> Floats:
    """sigma = 1: squared coefficient of variation e - 1; the mean is exp(mu + 1/2)."""
    return draws.lognormal(math.log(SERVICE_S) - 0.5, 1.0, count)


@pytest.mark.parametrize(("servers", "load", "wait_s"), [(1, 0.5, 1000), (2, 0.5, 1000 / 3), (4, 0.0, 0)])
def test_erlang_c_itself(servers: int, load: float, wait_s: float) -> None:
    """M/M/1: rho / (1 - rho) services. M/M/2: rho^2 / (1 - rho^2) services. No load: no wait."""
    assert erlang_c(servers, load) * SERVICE_S / (servers * (1 - load)) == pytest.approx(wait_s)


@pytest.mark.parametrize(
    ("nodes", "gpus_per_node", "load", "jobs"),
    [
        (1, 1, 0.5, 20_000),
        (1, 1, 0.8, 40_000),
        (2, 1, 0.8, 40_000),
        (8, 1, 0.8, 40_000),
        (1, 16, 0.8, 40_000),
        (4, 8, 0.85, 40_000),
    ],
)
def test_mmc(nodes: int, gpus_per_node: int, load: float, jobs: int) -> None:
    """Poisson arrivals of one-GPU jobs with exponential run times: Erlang C, whatever the size of a node."""
    gpus = nodes * gpus_per_node
    sample = replicate(nodes, gpus_per_node, load, jobs, exponential, "fifo")
    agrees(sample[:, 0], erlang_c(gpus, load) * SERVICE_S / (gpus * (1 - load)), narrow=0.2)
    agrees(sample[:, 1], erlang_c(gpus, load), narrow=0.08)


@pytest.mark.parametrize("load", [0.4, 0.75])
@pytest.mark.parametrize(
    ("service", "variation"),  # squared coefficient of variation
    [(deterministic, 0.0), (exponential, 1.0), (hyperexponential, 4.0), (log_normal, math.e - 1)],
)
def test_mg1(service: Draw, variation: float, load: float) -> None:
    """Pollaczek and Khinchine: the mean wait is rho (1 + C^2) / (2 (1 - rho)) mean service times."""
    sample = replicate(1, 1, load, 20_000, service, "fifo_skip")  # of one-GPU jobs none can be skipped
    agrees(sample[:, 0], load * (1 + variation) / (2 * (1 - load)) * SERVICE_S, narrow=0.12)
    agrees(sample[:, 1], load, narrow=0.03)  # a Poisson arrival finds the server busy with probability rho


@pytest.mark.parametrize(("nodes", "gpus_per_node"), [(5, 1), (3, 8)])
def test_gg_c_job_by_job(nodes: int, gpus_per_node: int) -> None:
    """Any arrivals, any run times, one-GPU jobs: each starts when it has come and the first GPU is free.

    (The recursion of Kiefer and Wolfowitz; here it gives every start, not a mean.)
    """
    gpus = nodes * gpus_per_node
    draws = np.random.default_rng(gpus)
    submit_s = np.cumsum(draws.gamma(0.3, 1000.0 / (0.3 * gpus * 0.9), 5000))
    submit_s -= submit_s[0]  # a workload's clock starts at its first submission
    duration_s = log_normal(draws, 5000)
    run = simulate(
        columns_trace(submit_s=submit_s, duration_s=duration_s),
        [cohort(nodes=nodes, gpus_per_node=gpus_per_node)],
    )
    free_at, expected = [0.0] * gpus, []
    for come, lasts in zip(submit_s.tolist(), duration_s.tolist(), strict=True):
        expected.append(max(come, free_at[0]))
        heapreplace(free_at, expected[-1] + lasts)
    assert sum(start > come for start, come in zip(expected, submit_s.tolist(), strict=True)) > 1000
    assert run.starts == expected  # to the bit


@pytest.fixture(scope="module")
def gangs() -> History:
    """A drained run of 3,000 gangs of one to twelve GPUs on four nodes of four, most of which wait."""
    draws = np.random.default_rng(5)
    submit_s = np.cumsum(draws.exponential(300.0, 3000))
    run = simulate(
        columns_trace(
            submit_s=submit_s,
            duration_s=draws.lognormal(6.0, 1.0, 3000),
            gpus=draws.choice([1, 2, 4, 6, 12], 3000),
        ),
        [cohort(nodes=4, gpus_per_node=4)],
        queue="fifo_skip",
    )
    assert (run["jobs"]["wait_s"].to_numpy() > 0).mean() > 0.5
    return run


def integral(time_s: Floats, value: Floats) -> float:
    """Of a step function that holds each value until the next time; it must end at zero."""
    assert value[-1] == 0
    return float(np.sum(np.diff(time_s) * value[:-1]))


def test_littles_law_of_the_queue(gangs: History) -> None:
    """The integral of the jobs waiting is the sum of their waits; that of GPUs, the same weighted by gang."""
    jobs, queue = gangs["jobs"], gangs["queue"]
    time_s = queue["time_s"].to_numpy()
    wait_s, gpus = jobs["wait_s"].to_numpy(), jobs["gpus"].to_numpy()
    assert integral(time_s, queue["jobs_waiting"].to_numpy()) == pytest.approx(wait_s.sum(), rel=1e-9)
    assert integral(time_s, queue["gpus_waiting"].to_numpy()) == pytest.approx(
        (wait_s * gpus).sum(), rel=1e-9
    )


def test_littles_law_of_the_system(gangs: History) -> None:
    """Jobs waiting plus jobs running, integrated, are the sum of the times from submission to end."""
    jobs, queue = gangs["jobs"], gangs["queue"]
    runs = gangs["allocations"].group_by("job").first()
    running_s = float((runs["end_s"] - runs["start_s"]).sum())
    waiting_s = integral(queue["time_s"].to_numpy(), queue["jobs_waiting"].to_numpy())
    assert waiting_s + running_s == pytest.approx((jobs["end_s"] - jobs["submit_s"]).sum(), rel=1e-9)


def test_utilisation_is_the_offered_load() -> None:
    """M/M/4 offered 70 %: over a horizon of 5,000 services, 70 % of the installed hours are allocated."""
    load, horizon_s = 0.7, 5000 * SERVICE_S
    shares = []
    for number in range(REPLICATIONS):
        draws = np.random.default_rng([70, number])
        gaps_s = draws.exponential(SERVICE_S / (4 * load), round(5000 * 4 * load * 1.1))
        submit_s = np.cumsum(gaps_s)
        assert submit_s[-1] > horizon_s
        run = simulate(
            columns_trace(submit_s=submit_s, duration_s=exponential(draws, len(submit_s))),
            [cohort(nodes=4, gpus_per_node=1)],
            horizon=horizon_s,
        )
        hours = run.hours("state")
        shares.append((hours["stalled"] + hours["productive"]) / sum(hours.values()))
    agrees(np.array(shares), load, narrow=0.01)


def test_utilisation_of_one_run_exactly() -> None:
    """Two jobs of 3 h on one GPU of two, in 8 h: allocated 6 of 16 GPU hours, and no sampling in it."""
    run = simulate([Job(0, 10_800), Job(5_000, 10_800)], [cohort(nodes=1, gpus_per_node=2)], horizon=28_800)
    hours = run.hours("state")
    assert (hours["stalled"] + hours["productive"]) / sum(hours.values()) == pytest.approx(6 / 16, rel=1e-12)
