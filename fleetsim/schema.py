"""The tables of a run folder, declared once: names, types, units and meanings.

The Arrow schemas, the reference in the documentation and the tests derive from ``TABLES``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = "3"

#: How an attempt at a job ended, by code.
ATTEMPT_OUTCOMES = ("completed", "running", "preempted", "migrated", "failed", "continued")
PREEMPTED, CONTINUED = 2, 5

#: What became of a job, by code; the first two are also outcomes of attempts.
JOB_STATUSES = ("completed", "running", "queued", "rejected")
COMPLETED, RUNNING, QUEUED, REJECTED = range(4)

#: Installed are nodes that are up or down. Those stored were delivered and have no slot; retired ones left.
NODE_STATES = ("up", "down", "stored", "retired")

#: Where GPU time goes. For any window the hours of all states add up to the installed hours.
STATES = ("down", "idle_no_queue", "idle_queue", "stalled", "lost", "productive")


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
    Column("tier", "label", "", "Rung of the ladder on which the node stood; general without a ladder."),
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
        Column("checkpoint_gpu_s", "float64", "GPU s", "Of those held, spent on writing checkpoints."),
        Column("failures", "int32", "", "Of the preemptions, those because something failed."),
        Column("energy_kwh", "float64", "kWh", "IT energy of its GPUs and their share of the servers."),
    ),
    "allocations": (
        Column("job", "int64", "", "Row of the job in the jobs table."),
        Column("attempt", "int32", "", "1 for the first attempt."),
        Column("node", "int32", "", "Node, numbered in order of cohorts, or as in the list of nodes."),
        Column("gpus", "int32", "GPU", "GPUs held on this node."),
        Column("gpu_share", "float64", "ratio", "Part of each of these GPUs that is held, on average."),
        Column("start_s", "float64", "s", "Start."),
        Column("end_s", "float64", "s", "End: completion, preemption, or the end of the run."),
        Column("restart_s", "float64", "s", "At its beginning, on set-up or a restart: nothing is computed."),
        Column("lost_s", "float64", "s", "At its end, on work that was lost because the job was stopped."),
        Column("checkpoint_s", "float64", "s", "In between, on writing checkpoints."),
        Column(
            "outcome", "label", "",
            "completed, preempted, migrated (it ran on elsewhere), failed (something broke), running (at the "
            "end), or continued: the attempt went on, in a row of its own, with another share of its GPUs "
            "(time slicing) or at another power limit.",
        ),
        *_COHORT,
        *(Column(c.name, c.kind, c.unit, c.description) for c in _OWNER),
        Column("activity", "float32", "ratio", "Mean SM activity: busy share x SM active, none in restarts."),
        Column("power_w", "float64", "W", "IT power of these GPUs and their share of the server."),
    ),
    "node_states": (
        Column("time_s", "float64", "s", "When the node entered the state."),
        Column("node", "int32", "", "Node."),
        Column(
            "state", "label", "",
            "up or down: installed. stored: delivered, but there is no slot. retired: it has left.",
        ),
        Column(
            "cause", "label", "",
            "Why: initial, delivery, slot (one became free), burn_in, maintenance, failure, repair, cascade; "
            "of a retirement the rule, or failure, sale or power.",
        ),
        *_COHORT,
        Column("gpus", "int32", "GPU", "GPUs of the node."),
        Column("age_s", "float64", "s", "Age of the node at this time, earlier life included."),
        Column("idle_power_w", "float64", "W", "IT power of the node from now on while nothing runs on it."),
    ),
    "failures": (
        Column("time_s", "float64", "s", "When it failed."),
        Column("node", "int32", "", "Node that failed, or the first of the job that did."),
        Column("gpu", "int32", "", "GPU of the node; null where all of the node, or a job, failed.", True),
        Column("job", "int64", "", "Job that failed, where nothing else did.", True),
        *_COHORT,
        Column("failure", "label", "", "What failed, as the scenario calls it."),
        Column("xid", "int32", "", "XID that the driver reports.", True),
        Column("repair", "label", "", "How it was repaired, as the scenario calls it; or script.", True),
        Column("unit_age_s", "float64", "s", "Age of the node, or of the GPU that failed."),
        Column("down_s", "float64", "s", "Until it was in service again; null if it never was.", True),
        Column("jobs_stopped", "int32", "", "Jobs that were stopped."),
    ),
    "sales": (
        Column("time_s", "float64", "s", "When GPUs that had left the fleet found a buyer."),
        Column("cohort", "label", "", "Cohort that they were of."),
        Column("gpu_model", "label", "", "GPU model."),
        Column("gpus", "int32", "GPU", "How many."),
        Column("age_s", "float64", "s", "Their age."),
        Column("usd_per_gpu", "float64", "USD", "Price, with the share of the server, discount taken off."),
        Column("discount", "float64", "ratio", "Of the market value, for selling many at a time."),
    ),
    "ledger": (
        Column("period_start_s", "float64", "s", "Start of the period."),
        Column("period_end_s", "float64", "s", "End of the period."),
        *_COHORT,
        Column("generation", "label", "", "Architecture family."),
        Column("allocated_gpu_hours", "float64", "GPU h", "GPU hours held by jobs."),
        Column("rent_usd", "float64", "USD", "Those hours at the mean price of the period.", True),
        Column("energy_usd", "float64", "USD", "Energy at the meter."),
        Column("opex_usd", "float64", "USD", "Other running cost of the installed GPUs."),
        Column("margin_usd", "float64", "USD", "Rent less energy and running cost.", True),
        Column("slot_kw", "float64", "kW", "IT power reserved by the installed nodes, mean over the period."),
        Column("margin_usd_per_kw_year", "float64", "USD/kW/y", "Margin for each of these, a year.", True),
        Column("book_value_usd", "float64", "USD", "Not yet written off at the end of the period.", True),
        Column("market_value_usd", "float64", "USD", "At which they would sell then, one by one.", True),
        Column("intrinsic_value_usd", "float64", "USD", "Of keeping them for as long as that pays.", True),
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
            "the job was stopped, or on writing checkpoints. productive: all other running.",
        ),
        Column("gpu_hours", "float64", "GPU h", "GPU hours in this state."),
        Column("energy_kwh", "float64", "kWh", "IT energy."),
        Column("facility_energy_kwh", "float64", "kWh", "Energy at the meter: IT energy x PUE of the site."),
        Column("carbon_kg", "float64", "kg", "CO2 equivalent of it, where the site has an intensity.", True),
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
