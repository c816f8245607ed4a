"""OpenDC's micro-scenarios of power, queueing, failure and checkpoint, to the second and to the joule.

A host there is a node of one GPU here, whose power is linear from what all of the host draws idle to what it
draws at most. Its activity is the part of that range at which the task runs.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from model.support import Job, cohort, read, text, trace, workload

from fleetsim import experiment, scenario

NAMES = (
    *("single-half-load", "two-tasks-queue", "gpu-only", "cpu-gpu-half", "gpu-full"),
    *("two-gpu-tasks-serialize", "failure-full-rerun", "two-failures", "checkpoint-60s"),
    "checkpoint-60s-high-then-low",
)


def power_w(host: dict[str, Any], fragment: dict[str, Any]) -> float:
    """What the host draws while the fragment runs: idle + (max - idle) x utilisation, of each part it has."""
    total = 0.0
    for part in ("cpu", "gpu"):
        if f"{part}_idle_w" in host:
            idle, most = host[f"{part}_idle_w"], host[f"{part}_max_w"]
            total += idle + (most - idle) * fragment[f"{part}_mhz"] / host[f"{part}_capacity_mhz"]
    return total


@pytest.mark.parametrize("name", NAMES)
def test_opendc(cases: Path, tmp_path: Path, name: str) -> None:
    whole = json.loads((cases / "opendc-micro" / "cases.json").read_text("utf-8"))
    assert {c["name"] for c in whole["cases"]} == set(NAMES)
    case = next(c for c in whole["cases"] if c["name"] == name)
    host, expected = case["host"], case["expected"]
    idle_w = sum(host.get(f"{part}_idle_w", 0) for part in ("cpu", "gpu"))
    most_w = sum(host.get(f"{part}_max_w", 0) for part in ("cpu", "gpu"))

    workloads, jobs, less_j = [], {}, 0.0
    for i, task in enumerate(case["tasks"]):
        drawn_w = [power_w(host, fragment) for fragment in task["fragments"]]
        duration_s = sum(fragment["duration_s"] for fragment in task["fragments"])
        jobs[f"w{i}"] = [Job(task["submit_s"], duration_s)]
        # A job here has one activity: the highest of its fragments, at which snapshots run and work is lost
        # in the one case that has two. Every second of the others runs once, at less.
        activity = (max(drawn_w) - idle_w) / (most_w - idle_w)
        workloads.append(workload(f"w{i}", busy_share=1.0, sm_active=activity))
        less_j += sum(
            (max(drawn_w) - w) * fragment["duration_s"]
            for w, fragment in zip(drawn_w, task["fragments"], strict=True)
        )
    more: dict[str, Any] = {"scheduler": {"queue": "fifo", "restart": {"checkpoint": "never"}}}
    if case["checkpoint"]:
        assert case["checkpoint"]["interval_scaling"] == 1
        more["scheduler"]["restart"] = {
            "checkpoint": case["checkpoint"]["interval_s"],
            "checkpoint_cost": case["checkpoint"]["snapshot_s"],
        }
    if case["failure_trace"]:
        script = [{"after": row["interval_s"], "down": row["duration_s"]} for row in case["failure_trace"]]
        more["failures"] = [{"name": "trace", "script": script, "powered": True}]

    words = text([cohort(gpus_per_node=1)], workloads, **more)
    parsed = scenario.parse(words, "test")
    linear = replace(
        parsed.cohorts[0].model,
        idle_w=idle_w,
        tdp_w=most_w,
        context_w=0.0,
        power_exponent=1.0,
        gpus_per_server=1,
        server_max_w=most_w,
        server_idle_w=0.0,
    )
    parsed = replace(parsed, cohorts=(replace(parsed.cohorts[0], model=linear),))
    given = {workload_name: trace(rows) for workload_name, rows in jobs.items()}
    history = read(experiment.run(parsed, tmp_path / "run", traces=given).path)

    assert history.manifest["end_s"] == expected["end_s"]
    usage = history["usage"]
    assert float(usage["energy_kwh"].sum()) * 3.6e6 - less_j == pytest.approx(expected["energy_j"], rel=1e-12)
    if "gpu_idle_w" not in host and "cpu_active_s" in expected:  # then activity is the utilisation of the CPU
        runs = history["allocations"]
        active_s = float((runs["activity"].cast(float) * (runs["end_s"] - runs["start_s"])).sum())
        assert active_s == pytest.approx(expected["cpu_active_s"], rel=1e-6)
    if case["failure_trace"]:
        down_s = sum(row["duration_s"] for row in case["failure_trace"])
        assert history.hours("state")["down"] * 3600 == pytest.approx(down_s)
        assert history["failures"]["down_s"].to_list() == [r["duration_s"] for r in case["failure_trace"]]
        assert history.jobs("failures") == [len(case["failure_trace"])]
