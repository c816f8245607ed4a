"""The metrics of a run add up to its books, and the command writes them whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import click
import polars as pl
import pytest
from click.testing import CliRunner, Result

from fleetsim import units
from fleetsim.cli import metrics as command
from fleetsim.cli.main import Root
from fleetsim.metrics import OTHER_TENANTS, TENANTS, Page, page
from fleetsim.runfolder import Run
from fleetsim.schema import JOB_STATUSES, STATES
from fleetsim.summary import summarise
from fleetsim_collectors.catalogue import LABELS, RUN_FAMILIES

from .conftest import Scraped, read_back, simulate


@click.group(cls=Root)
def root() -> None:
    """The root group as fleetsim has it, with this command alone."""


root.add_command(command.metrics)


def sums(scraped: Scraped, name: str, *by: str) -> dict[tuple[str, ...], float]:
    added: dict[tuple[str, ...], float] = defaultdict(float)
    for series, labels, value in scraped:
        if series == name:
            added[tuple(labels.get(label, "") for label in by)] += value
    return dict(added)


def test_page_has_every_family_and_no_other(run_page: Page, scraped: Scraped) -> None:
    known = {name: set(labels) for family in RUN_FAMILIES for name, labels in family.series.items()}
    assert {name for name, _, _ in scraped} == set(known)
    assert all(set(labels) <= known[name] and labels["run"] == "mixed" for name, labels, _ in scraped)
    assert run_page.samples == len(scraped)
    for label, values in (("state", STATES), ("status", JOB_STATUSES)):
        assert all(value in LABELS[label] for value in values), "the reference explains every value"


def test_hours_of_the_states_are_the_installed_hours(run: Run, scraped: Scraped) -> None:
    summary = summarise(run)
    hours = sums(scraped, "fleetsim_gpu_hours_total", "state")
    assert set(hours) == {(state,) for state in STATES if state not in ("down", "lost")}
    assert sum(hours.values()) == pytest.approx(summary["fleet"]["installed_gpu_hours"], rel=1e-9)
    by_cohort = sums(scraped, "fleetsim_gpu_hours_total", "cohort")
    # nodes x GPUs x days in service: the 20 days of the run, or the 17 after delivery
    assert by_cohort == {
        ("old",): pytest.approx(4 * 8 * 20 * 24, rel=1e-9),
        ("used",): pytest.approx(1 * 4 * 20 * 24, rel=1e-9),
        ("new",): pytest.approx(2 * 8 * 17 * 24, rel=1e-9),
    }


def test_energy_and_its_way_to_the_meter(run: Run, scraped: Scraped) -> None:
    fleet = summarise(run)["fleet"]
    it = sums(scraped, "fleetsim_energy_joules_total", "cohort")
    meter = sums(scraped, "fleetsim_facility_energy_joules_total", "cohort")
    assert sum(it.values()) == pytest.approx(fleet["energy_mwh"] * 3.6e9, rel=1e-9)
    assert sum(meter.values()) == pytest.approx(fleet["facility_energy_mwh"] * 3.6e9, rel=1e-9)
    pue = {cohort: meter[cohort] / it[cohort] for cohort in it}
    assert pue == pytest.approx({("old",): 1.2, ("used",): 1.2, ("new",): 1.5}, rel=1e-12)


def test_shares_are_those_of_the_hours(scraped: Scraped) -> None:
    hours = sums(scraped, "fleetsim_gpu_hours_total", "generation", "age_band", "state")
    assert len({key[:2] for key in hours}) == 4  # Volta has a birthday in the run
    for generation, band in {key[:2] for key in hours}:
        by_state = {state: hours.get((generation, band, state), 0.0) for state in STATES}
        allocated = by_state["stalled"] + by_state["productive"]
        for name, part, whole in (
            ("allocation", allocated, sum(by_state.values())),
            ("busy", by_state["productive"], allocated),
            ("time_effective", by_state["productive"], sum(by_state.values())),
        ):
            shown = sums(scraped, f"fleetsim_{name}_ratio", "generation", "age_band")
            assert shown[generation, band] == pytest.approx(part / whole, rel=1e-9)


def test_installed_gpus_are_those_at_the_end(scraped: Scraped) -> None:
    assert sums(scraped, "fleetsim_gpus_installed", "cohort", "generation", "age_band") == {
        ("old", "Volta", "3"): 32,
        ("used", "Turing", "1"): 4,
        ("new", "Ampere", "0"): 16,
    }


def test_jobs_and_the_queue(run: Run, scraped: Scraped) -> None:
    jobs = summarise(run)["jobs"]
    shown = sums(scraped, "fleetsim_jobs_total", "status")
    assert shown == {(status,): count for status, count in jobs.items() if status != "submitted"}
    assert set(shown) == {("completed",), ("running",), ("queued",), ("rejected",)}
    assert sums(scraped, "fleetsim_queue_jobs") == {(): jobs["queued"]}
    waiting = run.scan("jobs").filter(pl.col("status").cast(pl.String) == "queued")
    assert sums(scraped, "fleetsim_queue_gpus") == {(): waiting.collect()["gpus"].sum()}
    reasons = sums(scraped, "fleetsim_jobs_total", "status", "reject_reason")
    assert all((status == "rejected") == bool(reason) for status, reason in reasons)


def test_waits_are_counted_in_their_buckets(run: Run, scraped: Scraped) -> None:
    jobs = run.scan("jobs").select(pl.col("workload_class").cast(pl.String), "wait_s").drop_nulls().collect()
    buckets = [(lb, v) for name, lb, v in scraped if name == "fleetsim_job_wait_seconds_bucket"]
    assert {labels["workload_class"] for labels, _ in buckets} == {"training", "inference"}
    for labels, count in buckets:
        waits = jobs.filter(pl.col("workload_class") == labels["workload_class"])["wait_s"].to_list()
        assert count == sum(wait <= float(labels["le"]) for wait in waits)
    everyone = summarise(run)["waits"][0]
    assert sums(scraped, "fleetsim_job_wait_seconds_count")[()] == everyone["jobs"]
    total = sums(scraped, "fleetsim_job_wait_seconds_sum")[()]
    assert total / everyone["jobs"] == pytest.approx(everyone["mean_s"], rel=1e-9)


def test_run_says_what_it_is(run: Run, scraped: Scraped) -> None:
    info = next(labels for name, labels, _ in scraped if name == "fleetsim_run_info")
    assert info == {
        "run": "mixed",
        "scenario": "mixed",
        "seed": "0",
        "version": run.manifest["versions"]["fleetsim"],
        "generated": "research,service",
    }
    start = units.instant("2026-01-05").timestamp()
    assert sums(scraped, "fleetsim_run_start_timestamp_seconds") == {(): start}
    assert sums(scraped, "fleetsim_run_end_timestamp_seconds") == {(): start + 20 * 86400}


def test_same_run_gives_the_same_bytes(run_page: Page, tmp_path: Path) -> None:
    assert page(simulate(tmp_path / "mixed")).text == run_page.text
    other = page(simulate(tmp_path / "other", "seed=1"), name="mixed").text
    assert other != run_page.text


def test_bytes_do_not_depend_on_the_number_of_cores(tmp_path: Path) -> None:
    many = ("usage_period=hour", "horizon=60d", "workloads.research.generate.jobs=20000")
    made = simulate(tmp_path / "many", *many)  # polars splits a sum of so many rows between its threads
    script = (
        "import sys; from fleetsim import metrics, runfolder; "
        "print(metrics.page(runfolder.open_run(sys.argv[1])).text)"
    )
    pages = {
        subprocess.run(
            [sys.executable, "-c", script, made.path], env={**os.environ, "POLARS_MAX_THREADS": threads},
            capture_output=True, check=True,
        ).stdout
        for threads in ("1", "2", "7")
    }  # fmt: skip
    assert len(pages) == 1


@pytest.mark.parametrize("named", [0, 3])
def test_tenants_beyond_the_limit_are_summed(run: Run, run_page: Page, scraped: Scraped, named: int) -> None:
    few = page(run, tenants=named)
    held = sums(scraped, "fleetsim_gpu_hours_total", "tenant")
    del held[("",)]  # idle
    ranked = sorted(held, key=lambda key: -held[key])
    back = read_back(few)
    shown = sums(back, "fleetsim_gpu_hours_total", "tenant")
    assert set(shown) == {("",), (OTHER_TENANTS,), *ranked[:named]}
    assert shown[OTHER_TENANTS,] == pytest.approx(sum(held[key] for key in ranked[named:]), rel=1e-9)
    assert few.samples < run_page.samples and few.tenants_summed > 0 == run_page.tenants_summed
    assert few.tenants_summed + named == len(sums(scraped, "fleetsim_jobs_total", "tenant"))
    for name in {name for name, _, _ in scraped}:
        assert sum(sums(back, name).values()) == pytest.approx(sum(sums(scraped, name).values()), rel=1e-9)


def test_idle_fleet_has_no_shares_of_nothing_and_an_empty_queue(tmp_path: Path) -> None:
    none = "select.min_gpus=1000"
    idle = simulate(tmp_path / "idle", f"workloads.research.{none}", f"workloads.service.{none}")
    scraped = read_back(page(idle))
    names = {name for name, _, _ in scraped}
    assert not {n for n in names if "job" in n and n != "fleetsim_queue_jobs"}
    assert not {"fleetsim_busy_ratio", "fleetsim_mfu_ratio"} & names
    shares = sums(scraped, "fleetsim_allocation_ratio", "generation")
    assert shares == {("Ampere",): 0, ("Turing",): 0, ("Volta",): 0}
    assert sums(scraped, "fleetsim_queue_jobs") == {(): 0} == sums(scraped, "fleetsim_queue_gpus")
    assert {key[0] for key in sums(scraped, "fleetsim_gpu_hours_total", "state")} == {"idle_no_queue"}
    assert sums(scraped, "fleetsim_gpus_installed") == {(): 52}


def invoke(runner: CliRunner, *arguments: str | Path) -> Result:
    return runner.invoke(root, ["metrics", *map(str, arguments)])


def test_command_prints_the_page(runner: CliRunner, run: Run, run_page: Page) -> None:
    result = invoke(runner, run.path)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout_bytes == run_page.text.encode()
    assert 'run="june"' in invoke(runner, run.path, "--name", "june").stdout


def test_command_says_what_it_summed_and_what_is_much(
    runner: CliRunner, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = next(p for p in command.metrics.params if p.name == "tenants").default
    assert default == TENANTS
    result = invoke(runner, run.path, "--tenants", "2")
    assert 'tenant="(other)"' in result.stdout and 'tenant="(other)" sums the ' in result.stderr
    assert "samples" not in result.stderr
    monkeypatch.setattr(command, "MANY_SAMPLES", 10)
    assert "samples, more than" in invoke(runner, run.path).stderr


def test_command_replaces_a_file_in_one_step(
    runner: CliRunner, run: Run, run_page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "page.prom"
    link = tmp_path / "link.prom"
    link.symlink_to(target)
    target.write_text("old")
    with target.open() as reading:
        assert invoke(runner, run.path, "-o", link).output == ""
        assert reading.read() == "old", "who was reading the old page still has it, whole"
    assert link.is_symlink() and target.read_bytes() == run_page.text.encode()
    umask = os.umask(0)
    os.umask(umask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~umask  # node_exporter is another user

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    target.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    result = invoke(runner, run.path, "-o", target)
    assert result.exit_code == 1 and "No space left on device" in result.stderr
    assert target.read_text() == "old" and sorted(tmp_path.iterdir()) == [link, target]


def test_command_refuses_what_is_no_run_and_no_file(runner: CliRunner, run: Run, tmp_path: Path) -> None:
    for arguments, complaint in (
        ((tmp_path / "none",), "no such folder"),
        ((run.path, "-o", tmp_path / "none" / "x.prom"), "no such folder"),
        ((run.path, "-o", tmp_path), "is a directory"),
        ((run.path, "-o", "/dev/null"), "is not a regular file"),
        ((run.path, "--tenants", "-1"), "-1"),
    ):
        result = invoke(runner, *arguments)
        assert result.exit_code == 2 and complaint in result.stderr and result.stdout == ""
