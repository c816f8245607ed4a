"""Run folders of literal rows, for tests of reports: small enough to work every figure out by hand.

Two nodes of two A100 (cohort ``old``, of age 1 y at the start) and from day 100 one of two H100 (``new``),
over 200 days in two periods of 100 days. One rung is above the other; one node is retired and sold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fleetsim import schema

DAY_S = 86_400.0
YEAR_S = 365 * DAY_S
P = 100 * DAY_S  # a period, 2,400 h
END_S = 2 * P

A, H = "a100-sxm-80", "h100-sxm-80"
OLD = {"cohort": "old", "gpu_model": A, "generation": "Ampere"}
NEW = {"cohort": "new", "gpu_model": H, "generation": "Hopper"}
TRAIN = {"tenant": "lab", "workload": "train", "workload_class": "training"}
SERVE = {"tenant": "shop", "workload": "serve", "workload_class": "batch"}


def usage_row(period: int, cohort: Mapping[str, Any], tier: str, age: int, state: str, hours: float,
              owner: Mapping[str, Any] | None = None, kwh: float = 0.0, kg: float | None = None,
              ) -> dict[str, Any]:  # fmt: skip
    return {
        "period_start_s": period * P, "period_end_s": (period + 1) * P, **cohort, "tier": tier,
        "age_band": age, "state": state, "gpu_hours": hours, **(owner or {}), "energy_kwh": kwh,
        "facility_energy_kwh": 1.5 * kwh, "carbon_kg": kg,
    }  # fmt: skip


#: 2,400 h x 4 GPUs = 9,600 GPU h in the first period. In the second, 4 A100 for 50 days (4,800 GPU h), then 2
#: (2,400 GPU h), and 2 H100 (4,800 GPU h). On average 4, then 3 + 2 = 5 GPUs.
USAGE = [
    usage_row(0, OLD, "top", 1, "productive", 4800, TRAIN, 2000, 500),
    usage_row(0, OLD, "top", 1, "stalled", 1200, TRAIN, 300, 75),
    usage_row(0, OLD, "top", 1, "idle_no_queue", 2400, kwh=100, kg=25),
    usage_row(0, OLD, "top", 1, "down", 1200),
    usage_row(1, OLD, "low", 1, "productive", 3600, SERVE, 1500, 375),
    usage_row(1, OLD, "low", 1, "lost", 400, SERVE, 150, 37.5),
    usage_row(1, OLD, "low", 1, "idle_queue", 3200, kwh=150, kg=37.5),
    usage_row(1, NEW, "top", 0, "productive", 4320, TRAIN, 4000, 1000),
    usage_row(1, NEW, "top", 0, "stalled", 480, TRAIN, 200, 50),
]


def node_row(
    day: float, node: int, state: str, cause: str, tier: str, age_y: float, cohort: Mapping[str, Any] = OLD
) -> dict[str, Any]:
    return {
        "time_s": day * DAY_S, "node": node, "state": state, "cause": cause, "tier": tier, "gpus": 2,
        "age_s": age_y * YEAR_S + (day * DAY_S if cohort is OLD else day * DAY_S - P),
        "cohort": cohort["cohort"], "gpu_model": cohort["gpu_model"], "idle_power_w": 0.0,
    }  # fmt: skip


#: Node 1 is down for 25 days (1,200 GPU h of two GPUs) and retired on day 150.
NODE_STATES = [
    node_row(0, 0, "up", "initial", "top", 1),
    node_row(0, 1, "up", "initial", "top", 1),
    node_row(25, 1, "down", "failure", "top", 1),
    node_row(50, 1, "up", "repair", "top", 1),
    node_row(100, 0, "up", "cascade", "low", 1),
    node_row(100, 1, "up", "cascade", "low", 1),
    node_row(100, 2, "up", "delivery", "top", 0, NEW),
    node_row(150, 1, "retired", "slot", "low", 1),
]


def job_row(
    job: int,
    owner: Mapping[str, Any],
    gpus: int,
    submit_s: float,
    wait_s: float | None,
    held_s: float,
    **more: Any,
) -> dict[str, Any]:
    started = wait_s is not None
    start_s = submit_s + (wait_s or 0.0)
    return {
        "job": job, "job_id": str(job), **owner, "submit_s": submit_s, "gpus": gpus, "gpu_share": 1.0,
        "reference_duration_s": held_s, "status": "completed" if started else "queued", "warm": False,
        "start_s": start_s if started else None, "end_s": start_s + held_s if started else None,
        "wait_s": wait_s, "allocated_gpu_s": gpus * held_s if started else 0.0, "attempts": int(started),
        **more,
    }  # fmt: skip


#: Waits of the jobs of one GPU: 0, 100 and 200 s. Job 3 is stopped once: of 2 x 1,000 s from start to end,
#: 2 x 50 s are restarts, 2 x 100 s lost, 2 x 50 s checkpoints and 2 x 200 s a wait, so 2 x 600 s were work.
JOBS = [
    job_row(0, TRAIN, 1, 0.0, 0.0, 3600.0),
    job_row(1, TRAIN, 1, 10.0, 100.0, 3600.0),
    job_row(2, SERVE, 1, 20.0, 200.0, 3600.0),
    job_row(
        3, TRAIN, 2, 30.0, 5.0, 1000.0, allocated_gpu_s=1600.0, restart_gpu_s=100.0, lost_gpu_s=200.0,
        checkpoint_gpu_s=100.0, attempts=2, preemptions=1, failures=1,
    ),
    job_row(4, TRAIN, 4, 40.0, None, 7200.0),
]  # fmt: skip

#: From day 0 to 50 on node 0 at 1 y (mean 1 y + 25 d), and from 110 to 130 on node 2 at 10 d (mean 20 d).
ALLOCATIONS = [
    {"job": 0, "node": 0, "gpus": 2, "gpu_share": 1.0, "start_s": 0.0, "end_s": 50 * DAY_S, **TRAIN,
     "cohort": "old", "gpu_model": A, "tier": "top", "outcome": "completed", "attempt": 1},
    {"job": 1, "node": 2, "gpus": 2, "gpu_share": 0.5, "start_s": 110 * DAY_S, "end_s": 130 * DAY_S, **TRAIN,
     "cohort": "new", "gpu_model": H, "tier": "top", "outcome": "completed", "attempt": 1},
]  # fmt: skip

QUEUE = [
    {"time_s": 0.0, "jobs_waiting": 2, "gpus_waiting": 8},
    {"time_s": P, "jobs_waiting": 0, "gpus_waiting": 0},
    {"time_s": 1.5 * P, "jobs_waiting": 1, "gpus_waiting": 4},
]

FAILURES = [
    {"time_s": 25 * DAY_S, "node": 1, "cohort": "old", "gpu_model": A, "tier": "top", "failure": "crash",
     "xid": 79, "repair": "swap", "unit_age_s": 1.1 * YEAR_S, "down_s": 25 * DAY_S, "jobs_stopped": 1},
    {"time_s": 60 * DAY_S, "node": 0, "gpu": 1, "cohort": "old", "gpu_model": A, "tier": "top",
     "failure": "gpu", "xid": 48, "repair": "reset", "unit_age_s": YEAR_S, "down_s": 3600.0,
     "jobs_stopped": 2},
    {"time_s": 61 * DAY_S, "node": 0, "gpu": 0, "cohort": "old", "gpu_model": A, "tier": "top",
     "failure": "gpu", "xid": 48, "repair": "reset", "unit_age_s": YEAR_S, "down_s": 7200.0,
     "jobs_stopped": 0},
    {"time_s": 140 * DAY_S, "node": 0, "gpu": 0, "cohort": "old", "gpu_model": A, "tier": "low",
     "failure": "gpu", "repair": "rma", "unit_age_s": YEAR_S, "down_s": None, "jobs_stopped": 0},
]  # fmt: skip

SALES = [
    {"time_s": 160 * DAY_S, "cohort": "old", "gpu_model": A, "gpus": 1, "age_s": 1.4 * YEAR_S,
     "usd_per_gpu": 6000.0, "discount": 0.0},
]  # fmt: skip


def ledger_row(
    period: int,
    cohort: Mapping[str, Any],
    tier: str,
    margin: float | None,
    kw: float,
    book: float,
    **more: Any,
) -> dict[str, Any]:
    return {
        "period_start_s": period * P, "period_end_s": (period + 1) * P, **cohort, "tier": tier,
        "rent_usd": None if margin is None else margin + 150, "energy_usd": 100.0, "opex_usd": 50.0,
        "margin_usd": margin, "slot_kw": kw, "book_value_usd": book, "market_value_usd": book - 1000,
        "intrinsic_value_usd": book + 1000, **more,
    }  # fmt: skip


#: 100 days are 100 / 365 of a year: 2,000 USD on 4 kW are 1,825 USD for a kW and year.
LEDGER = [
    ledger_row(0, OLD, "top", 2000, 4.0, 40_000),
    ledger_row(1, OLD, "low", 500, 3.0, 20_000),
    ledger_row(1, NEW, "top", 1500, 2.5, 50_000),
]

TABLES: dict[str, Sequence[Mapping[str, Any]]] = {
    "usage": USAGE, "node_states": NODE_STATES, "jobs": JOBS, "allocations": ALLOCATIONS, "queue": QUEUE,
    "failures": FAILURES, "sales": SALES, "ledger": LEDGER,
}  # fmt: skip

SCENARIO: dict[str, Any] = {
    "name": "by-hand",
    "question": "Who keeps the old ones busy?",
    "scheduler": {"queue": "fifo", "placement": "best_fit"},
    "sites": [{"name": "north", "it_power_kw": 20.0}, {"name": "south"}],
    "cohorts": [{"name": "old", "site": None}, {"name": "new", "site": "south"}],
    "workloads": [{"name": "train", "trace": "a.csv"}, {"name": "serve", "repeat": {"growth_per_year": 0.5}}],
    "tiers": [
        {"name": "top", "classes": ["training"], "leave_at": "1y3mo"},
        {"name": "low", "classes": ["batch", "inference"], "min_gpus": 1, "max_gpus": 4},
    ],
    "cascade": {"enabled": True, "rule": "age", "unit": "cohort", "drain": "7d"},
    "retirement": {"rule": "slot", "successor": H},
    "failures": [{"name": "crash"}, {"name": "gpu"}],
    "economics": {"usd_per_kwh": 0.08, "discount_rate": 0.1, "life": "5y", "book": {"life": "6y"}},
}


def write(folder: Path, tables: Mapping[str, Sequence[Mapping[str, Any]]] = TABLES, **scenario: Any) -> Path:
    """A run folder with the rows of *tables* (others are empty); *scenario* replaces keys of the scenario."""
    folder.mkdir(parents=True)
    for name, columns in schema.TABLES.items():
        rows = [_row(name, row) for row in tables.get(name, ())]
        of = schema.schema(name)
        arrays = [pa.array([row[c.name] for row in rows]).cast(of.field(c.name).type) for c in columns]
        pq.write_table(pa.Table.from_arrays(arrays, schema=of), folder / f"{name}.parquet")
    manifest = {
        "schema": schema.VERSION,
        "scenario": {**SCENARIO, **scenario},
        "seed": 7,
        "start": "2026-01-01T00:00:00+00:00",
        "end_s": END_S,
        "versions": {"fleetsim": "0.1.0"},
        "sources": {"train": {"generated": True}, "serve": {"generated": False}},
        "rejected": {},
        "checks": [
            {"law": "hours <balance>", "left": 1.0, "right": 1.0, "relative_error": 0.0, "holds": True}
        ],
        "activities": [{"workload": "train", "workload_class": "training", "mfu": 0.4},
                       {"workload": "serve", "workload_class": "batch", "mfu": 0.3}],
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    return folder


def _row(table: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The row with every column of its table: null where it may be, else zero or nothing."""
    blank = {"label": "", "string": "", "bool": False}
    columns = schema.TABLES[table]
    assert not (unknown := {*given} - {c.name for c in columns} - {"generation"}), unknown
    return {c.name: given.get(c.name, None if c.nullable else blank.get(c.kind, 0)) for c in columns}
