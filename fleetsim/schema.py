"""The tables of a run folder, declared once: names, types, units and meanings.

The Arrow schemas, the reference in the documentation and the tests derive from ``TABLES``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = "2"

#: How an attempt at a job ended, by code.
ATTEMPT_OUTCOMES = ("completed", "running", "preempted", "migrated", "resliced")
PREEMPTED, MIGRATED, RESLICED = 2, 3, 4

#: What became of a job, by code; the first two are also outcomes of attempts.
JOB_STATUSES = ("completed", "running", "queued", "rejected")
COMPLETED, RUNNING, QUEUED, REJECTED = range(4)

NODE_STATES = ("up", "down")

#: Where GPU time goes. For any window the hours of all states add up to the installed hours.
STATES = ("down", "idle_no_queue", "idle_queue", "stalled", "lost", "productive")

#: The one rung of a fleet that has no tier ladder.
TIER = "general"


@dataclass(frozen=True)
class Column:
    """One column of a table. *kind* is an Arrow type's name, or ``label`` for a dictionary of strings."""

    name: str
    kind: str
    unit: str
    description: str
    nullable: bool = False


_COHORT = (
    Column("cohort", "label", "", "Nodes of one model delivered together: the unit that ages."),
    Column("gpu_model", "label", "", "GPU model, by its name in the catalogue."),
    Column("tier", "label", "", "Rung of the cascade ladder the node stood on."),
)
_OWNER = (
    Column("tenant", "label", "", "Who is charged.", nullable=True),
    Column("workload", "label", "", "Workload of the scenario the job came from.", nullable=True),
    Column(
        "workload_class",
        "label",
        "",
        "training, fine_tuning, inference, batch or interactive.",
        nullable=True,
    ),
)

TABLES: dict[str, tuple[Column, ...]] = {
    "jobs": (
        Column("job", "int64", "", "Row number in order of arrival; allocations refer to it."),
        Column("job_id", "string", "", "Identity in the trace, with ~N for its Nth repetition or copy."),
        *(Column(c.name, c.kind, c.unit, c.description) for c in _OWNER),
        Column("user", "label", "", "Who submitted.", nullable=True),
        Column("submit_s", "float64", "s", "Submission, from the start of the scenario."),
        Column("gpus", "int32", "GPU", "GPUs of the gang."),
        Column("gpu_share", "float64", "ratio", "Part of each of these GPUs that it asks for."),
        Column("reference_duration_s", "float64", "s", "Run time on the workload's reference GPU."),
        Column("status", "label", "", "completed, running (at the end), queued (at the end) or rejected."),
        Column("reject_reason", "label", "", "Why nothing in the fleet can ever run it.", nullable=True),
        Column("warm", "bool", "", "Was running already when its workload's window opened."),
        Column("start_s", "float64", "s", "Start of the first attempt.", nullable=True),
        Column("end_s", "float64", "s", "End of the last attempt, or of the run.", nullable=True),
        Column("wait_s", "float64", "s", "From submission to start; null for warm jobs.", nullable=True),
        Column("gpu_model", "label", "", "GPU model that ran it, the last time.", nullable=True),
        Column("nodes", "int32", "", "Nodes it ran on, the last time.", nullable=True),
        Column("allocated_gpu_s", "float64", "GPU s", "GPU seconds held, all attempts."),
        Column("attempts", "int32", "", "Times it was started."),
        Column("preemptions", "int32", "", "Times it was stopped before it was done, and waited again."),
        Column("restart_gpu_s", "float64", "GPU s", "Of those held, spent on set-up and restarts."),
        Column("lost_gpu_s", "float64", "GPU s", "Of those held, on work that was lost when it was stopped."),
    ),
    "allocations": (
        Column("job", "int64", "", "Row of the job in the jobs table."),
        Column("attempt", "int16", "", "1 for the first attempt."),
        Column("node", "int32", "", "Node, numbered in order of cohorts, or as in the list of nodes."),
        Column("gpus", "int32", "GPU", "GPUs held on this node."),
        Column("gpu_share", "float64", "ratio", "Part of each of these GPUs that is held, on average."),
        Column("start_s", "float64", "s", "Start."),
        Column("end_s", "float64", "s", "End: completion, preemption, or the end of the run."),
        Column("restart_s", "float64", "s", "At its beginning, on set-up or a restart: nothing is computed."),
        Column("lost_s", "float64", "s", "At its end, on work that was lost because the job was stopped."),
        Column(
            "outcome", "label", "",
            "completed, preempted, migrated (it ran on elsewhere), running (at the end), or resliced: with "
            "time slicing, the attempt went on at another share, in a row of its own.",
        ),
        *_COHORT,
        *(Column(c.name, c.kind, c.unit, c.description) for c in _OWNER),
        Column("activity", "float32", "ratio", "Mean SM activity: busy share x SM active, none in restarts."),
        Column("power_w", "float64", "W", "IT power of these GPUs and their share of the server."),
    ),
    "node_states": (
        Column("time_s", "float64", "s", "When the node entered the state."),
        Column("node", "int32", "", "Node."),
        Column("state", "label", "", "up or down."),
        Column("cause", "label", "", "Why: initial, delivery or maintenance."),
        *_COHORT,
        Column("gpus", "int32", "GPU", "GPUs of the node."),
        Column("age_s", "float64", "s", "Age of the node at this time, earlier life included."),
    ),
    "events": (
        Column("time_s", "float64", "s", "When."),
        Column("kind", "label", "", "What sort of event."),
        Column("subject", "string", "", "What it happened to."),
        Column("detail", "string", "", "In words."),
    ),
    "queue": (
        Column("time_s", "float64", "s", "When the queue changed."),
        Column("jobs_waiting", "int64", "", "Jobs waiting from this time on."),
        Column("gpus_waiting", "int64", "GPU", "GPUs they ask for; a part of one counts as one."),
    ),
    "usage": (
        Column("period_start_s", "float64", "s", "Start of the period."),
        Column("period_end_s", "float64", "s", "End of the period."),
        *_COHORT,
        Column("generation", "label", "", "Architecture family."),
        Column("age_band", "int16", "y", "Whole years of age: 2 is from two to three years."),
        *_OWNER,
        Column(
            "state", "label", "",
            "down: not in service. idle_no_queue: free, nothing waits. idle_queue: free, but no waiting job "
            "could use it. stalled: allocated, no kernel running. lost: running, on work that was lost when "
            "the job was stopped. productive: all other running.",
        ),
        Column("gpu_hours", "float64", "GPU h", "GPU hours in this state."),
        Column("energy_kwh", "float64", "kWh", "IT energy."),
        Column("facility_energy_kwh", "float64", "kWh", "Energy at the meter: IT energy x PUE of the site."),
    ),
}  # fmt: skip


def schema(table: str) -> pa.Schema:
    """The Arrow schema of *table*, units and descriptions as field metadata."""
    import pyarrow as pa

    def kind(column: Column) -> pa.DataType:
        if column.kind == "label":
            return pa.dictionary(pa.int32(), pa.string())
        return pa.bool_() if column.kind == "bool" else getattr(pa, column.kind)()

    fields = [
        pa.field(c.name, kind(c), c.nullable, {"unit": c.unit, "description": c.description})
        for c in TABLES[table]
    ]
    return pa.schema(fields, {"fleetsim_table": table, "fleetsim_schema": VERSION})


def markdown() -> str:
    """The reference of all tables as Markdown."""
    parts: list[str] = []
    for table, columns in TABLES.items():
        parts += [f"### {table}.parquet", "", "| column | type | unit | meaning |", "|---|---|---|---|"]
        parts += [
            f"| `{c.name}` | {c.kind}{' or null' if c.nullable else ''} | {c.unit} | {c.description} |"
            for c in columns
        ]
        parts.append("")
    return "\n".join(parts)


def labels(codes: Sequence[int] | object, names: Sequence[str]) -> pa.DictionaryArray:
    """A dictionary array of *names* from integer *codes*; a negative code is null."""
    import numpy as np
    import pyarrow as pa

    index = np.asarray(codes, dtype=np.int32)
    return pa.DictionaryArray.from_arrays(
        pa.array(index, mask=index < 0) if (index < 0).any() else pa.array(index),
        pa.array(list(names), pa.string()),
    )
