"""The same question has the same answer, to the byte; and chance is drawn where it is asked for only."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from model.support import A100, V100, History, Job, cohort, simulate, text, trace, workload

from fleetsim import experiment, scenario
from fleetsim.schema import TABLES

GENERATED = {"name": "look-alike", "generate": {"family": "philly", "jobs": 300}, "reference_gpu": V100}


def rich(**more: Any) -> str:
    """A scenario that draws: a generated workload, one thinned, repeated and growing; two deliveries."""
    return text(
        [cohort(V100, 4), cohort(A100, 2, delivered="3d"), cohort(name="late", nodes=2, delivered="8d")],
        [GENERATED, workload("w", load=1.5, repeat={"every": "1d", "growth_per_year": 9.0})],
        **{"horizon": "12d", "seed": 7, "usage_period": "day", "scheduler": {"queue": "fifo_skip"}, **more},
    )


JOBS = [Job(900.0 * n, 40_000.0 / (n + 1), 1 + n % 11, tenant=f"t{n % 3}") for n in range(90)]


def digests(folder: Path, words: str) -> dict[str, Any]:
    """Run *words* into *folder*: the hash of every table, and the manifest without its wall clock."""
    run = experiment.run(scenario.parse(words, "test"), folder, traces={"w": trace(JOBS)})
    found: dict[str, Any] = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.parquet")
    }
    assert set(found) == {f"{table}.parquet" for table in TABLES}
    manifest = dict(run.manifest)
    assert manifest.pop("wall_clock")
    return {**found, "manifest": manifest}


def test_the_same_run_twice_is_the_same_to_the_byte(tmp_path: Path) -> None:
    first, second = digests(tmp_path / "a", rich()), digests(tmp_path / "b", rich())
    assert first == second
    assert first["manifest"]["jobs"] > 1000


def test_fresh_processes_agree_whatever_their_hash_seed_and_threads(tmp_path: Path) -> None:
    """Sets and threads order things by chance; no table may."""
    here = digests(tmp_path / "here", rich())
    code = (
        "import json, sys, pathlib; from model.test_determinism import digests, rich; "
        "print(json.dumps(digests(pathlib.Path(sys.argv[1]), rich())))"
    )
    for seed, threads in (("1", "1"), ("2", "4")):
        path = os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
        environment = {
            **os.environ,
            "PYTHONPATH": path,
            "PYTHONHASHSEED": seed,
            "POLARS_MAX_THREADS": threads,
        }
        there = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / seed)],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert there.returncode == 0, there.stderr
        assert json.loads(there.stdout) == json.loads(json.dumps(here))


@pytest.mark.parametrize("horizon", ["12d", "drain"])
def test_looking_more_often_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, horizon: str
) -> None:
    """Progress is reported and tables are flushed now and then; when, is nobody's business."""
    repeat = {"every": "1d", "until": "12d"}
    words = text([cohort(V100, 4), cohort(delivered="3d")], [workload(repeat=repeat)], horizon=horizon)
    found = []
    for looks in (1, 3, 200, 1001):
        monkeypatch.setattr(experiment, "LOOKS", looks)
        found.append(digests(tmp_path / str(looks), words))
    for other in found[1:]:
        assert other == found[0]


def test_looks_are_few_however_long_a_run_drains(tmp_path: Path) -> None:
    """One job, submitted at 0, that lasts a month: some hundreds of looks, not one every few milliseconds."""
    looks = 0

    def count(_: experiment.Progress) -> None:
        nonlocal looks
        looks += 1
        assert looks <= 2000

    parsed = scenario.parse(text([cohort()], [workload()]), "test")
    run = experiment.run(parsed, tmp_path / "run", traces={"w": trace([Job(0, 30 * 86_400)])}, progress=count)
    assert run.manifest["end_s"] == 30 * 86_400
    assert looks >= 1


# Chance


def of(run: History, name: str) -> pl.DataFrame:
    """The jobs of one workload, as submitted."""
    jobs = run["jobs"].with_columns(pl.col(pl.Categorical).cast(pl.String)).filter(pl.col("workload") == name)
    return jobs.select("job_id", "submit_s", "gpus", "reference_duration_s", "tenant", "user", "warm")


MANY = [Job(60.0 * n, 1.0, user=f"u{n}") for n in range(400)]  # whoever is alone is a batch of one


def drawn(seed: int, **more: Any) -> History:
    """400 jobs of which half are kept by chance, and 300 generated ones."""
    workloads = [workload("w", **{"load": 0.5, **more}), GENERATED]
    return simulate({"w": MANY}, [cohort(nodes=50)], workloads, seed=seed)


def test_seeds_differ_where_chance_is_used() -> None:
    one, two, again = drawn(1), drawn(2), drawn(1)
    for name in ("w", "look-alike"):
        assert of(one, name).equals(of(again, name))
        assert not of(one, name).equals(of(two, name))


def test_seeds_do_not_matter_where_it_is_not() -> None:
    """A trace as it is draws nothing."""
    one, two = (simulate(MANY, seed=seed) for seed in (1, 2))
    assert all(one[table].equals(two[table]) for table in TABLES)


def test_a_generated_workload_may_have_a_seed_of_its_own() -> None:
    """Then the scenario's does not matter to it."""
    fixed = {**GENERATED, "generate": {"jobs": 300, "seed": 5}}
    one, two = (simulate({}, [cohort(nodes=50)], [fixed], seed=seed) for seed in (1, 2))
    assert of(one, "look-alike").equals(of(two, "look-alike"))


@pytest.mark.parametrize("first", [True, False])
def test_one_cause_does_not_shift_another(first: bool) -> None:
    """A workload's jobs stay as they are when another that draws too is added before or after it."""
    alone = simulate({"w": MANY}, [cohort(nodes=50)], [workload("w", load=1.5)], seed=3)
    both = [workload("w", load=1.5), workload("more", load=0.3), GENERATED]
    run = simulate(
        {"w": MANY, "more": MANY}, [cohort(nodes=50)], both if first else [*both[1:], both[0]], seed=3
    )
    assert of(run, "more").height > 0
    assert of(run, "w").equals(of(alone, "w"))


def test_two_workloads_of_one_trace_are_thinned_apart() -> None:
    """Each has its own stream: they do not keep the same half."""
    run = simulate(
        {"a": MANY, "b": MANY}, [cohort(nodes=50)], [workload("a", load=0.5), workload("b", load=0.5)]
    )
    a, b = set(of(run, "a")["job_id"]), set(of(run, "b")["job_id"])
    assert 50 < len(a & b) < 150  # a quarter of 400, give or take 6 deviations of sqrt(400 x 3) / 4 = 8.7


def test_repeating_does_not_shift_the_first_pass() -> None:
    once = simulate({"w": MANY}, [cohort(nodes=50)], [workload("w", load=0.5)], seed=3, horizon="3d")
    repeat = {"every": "1d", "growth_per_year": 0.5}
    again = simulate(
        {"w": MANY}, [cohort(nodes=50)], [workload("w", load=0.5, repeat=repeat)], seed=3, horizon="3d"
    )
    day = of(again, "w").filter(pl.col("submit_s") < 86_400)
    assert day.equals(of(once, "w"))
    assert of(again, "w").height > 2 * day.height
