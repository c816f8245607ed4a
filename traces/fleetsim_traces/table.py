"""The job table: the one shape every workload takes before it is simulated.

:data:`COLUMNS` is the single declaration. The Arrow schema, the checks of every reader and the table in
the documentation are made from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fleetsim_traces import stored
from fleetsim_traces.errors import Problem

if TYPE_CHECKING:
    import pyarrow as pa

    from fleetsim_traces.requests import RequestTrace

VERSION = "1"  # of the schema; readers refuse any other
VERSION_KEY = b"fleetsim.jobs.version"

WORKLOAD_CLASSES = ("training", "fine_tuning", "inference", "batch", "interactive")
MAX_GPUS = 1_000_000  # a gang above this is a fault of the log
MAX_TIME_S = 1e10  # 317 years: a time above this is a fault of the log

Kind = Literal["text", "category", "float64", "float32", "int32"]


@dataclass(frozen=True)
class Column:
    """One column. *minimum* and *maximum* are inclusive unless *open_minimum*; units are in *unit*."""

    name: str
    kind: Kind
    unit: str
    description: str
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    open_minimum: bool = False

    @property
    def numeric(self) -> bool:
        """True where values are numbers."""
        return self.kind in ("float64", "float32", "int32")


COLUMNS = (
    Column("job_id", "text", "", "Identity in the source; the line or row number where the source has none."),
    Column(
        "submit_s", "float64", "s", "Submission, from the trace's epoch; rows are sorted by it.",
        minimum=0, maximum=MAX_TIME_S,
    ),
    Column(
        "start_s", "float64", "s", "Start the source recorded, same clock.",
        nullable=True, minimum=0, maximum=MAX_TIME_S,
    ),
    Column(
        "duration_s", "float64", "s", "Run time on the reference GPU, all attempts together.",
        minimum=0, maximum=MAX_TIME_S,
    ),
    Column(
        "estimate_s", "float64", "s", "Run time the user asked for.",
        nullable=True, minimum=0, maximum=MAX_TIME_S,
    ),
    Column(
        "gpus", "int32", "GPU", "GPUs of the gang; 0 only where cpu_milli is above 0.",
        minimum=0, maximum=MAX_GPUS,
    ),
    Column(
        "gpu_share", "float32", "ratio", "Part of each GPU the job needs; 1 is the whole GPU.",
        minimum=0, maximum=1, open_minimum=True,
    ),
    Column(
        "workload_class", "category", "", f"{', '.join(WORKLOAD_CLASSES)}; null: the scenario decides.",
        nullable=True,
    ),
    Column("tenant", "category", "", "Who is charged: virtual cluster, project, account or group."),
    Column("user", "category", "", "Who submitted.", nullable=True),
    Column(
        "priority", "int32", "", "Larger is more urgent; scale of the source.",
        nullable=True, minimum=-(2**31), maximum=2**31 - 1,
    ),
    Column(
        "status", "category", "", "How the job ended: completed, failed, cancelled, killed, ...",
        nullable=True,
    ),
    Column("gpu_model", "category", "", "GPU model asked for.", nullable=True),
    Column(
        "min_memory_gb", "float32", "GB", "Memory each GPU must have, 1e9 bytes.",
        nullable=True, minimum=0, maximum=1e6,
    ),
    Column(
        "checkpoint_s", "float32", "s", "Productive time between checkpoints.",
        nullable=True, minimum=0, maximum=MAX_TIME_S, open_minimum=True,
    ),
    Column(
        "cpu_milli", "int32", "core / 1000", "CPU of the whole job.",
        nullable=True, minimum=0, maximum=2**31 - 1,
    ),
    Column(
        "memory_mib", "int32", "MiB", "Host memory of the whole job, 2^20 bytes.",
        nullable=True, minimum=0, maximum=2**31 - 1,
    ),
)  # fmt: skip
BY_NAME: Mapping[str, Column] = {column.name: column for column in COLUMNS}
LATER = ("cpu_milli", "memory_mib")  # columns that stored tables of this version may be without


def schema() -> pa.Schema:
    """The Arrow schema of the job table, with unit and description of each field and the version."""
    return arrow_schema(COLUMNS, {VERSION_KEY: VERSION.encode()})


def arrow_schema(columns: Sequence[Column], metadata: Mapping[bytes, bytes]) -> pa.Schema:
    """The Arrow schema of a table with *columns*."""
    import pyarrow as pa

    types = {
        "text": pa.string(),
        "category": pa.dictionary(pa.int32(), pa.string()),
        "float64": pa.float64(),
        "float32": pa.float32(),
        "int32": pa.int32(),
    }
    return pa.schema(
        [
            pa.field(
                c.name,
                types[c.kind],
                nullable=c.nullable,
                metadata={"unit": c.unit, "description": c.description},
            )
            for c in columns
        ],
        metadata=dict(metadata),
    )


def columns_markdown(columns: Sequence[Column] = COLUMNS) -> str:
    """The columns as a Markdown table, for the documentation."""
    rows = ["| column | type | unit | null | meaning |", "|---|---|---|---|---|"]
    for c in columns:
        kind = {"text": "string", "category": "dictionary of string"}.get(c.kind, c.kind)
        rows.append(f"| `{c.name}` | {kind} | {c.unit} | {'yes' if c.nullable else ''} | {c.description} |")
    return "\n".join(rows) + "\n"


@dataclass(frozen=True)
class Trace:
    """A workload ready to be replayed, and what is known about where it came from.

    *jobs* has exactly :func:`schema`. *format* is what the rows were first read from, or a family with
    ``-like`` where they are generated; *source* is the file at hand. *epoch* is the UTC instant of
    ``submit_s = 0``, or None where the source tells no date. *rejected* counts rows by reason, *samples*
    shows the first of each, and ``rows_read == jobs.num_rows + sum(rejected.values())``. *skipped* counts
    rows that are sound but no GPU job of their own (no GPU asked for, a step of a job); ``rows_read`` is
    without them. *generated* marks a look-alike that no cluster ever ran.
    """

    jobs: pa.Table
    format: str
    source: str
    epoch: datetime | None
    rows_read: int
    rejected: Mapping[str, int] = field(default_factory=dict)
    samples: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    generated: bool = False
    skipped: Mapping[str, int] = field(default_factory=dict)


def write_jobs(trace: Trace, path: str | Path) -> Path:
    """Write *trace* as a Parquet file at *path*, replacing what is there, and return the path.

    The file appears whole or not at all. Its metadata keeps format, epoch, notes, rejected counts and
    whether the rows are generated; ``read_trace`` gives them back. Raises OSError where the disk does.
    """
    return stored.write(trace.jobs, {**facts(trace), "skipped": dict(trace.skipped)}, path)


def facts(trace: Trace | RequestTrace) -> dict[str, Any]:
    """What a written table of jobs or of requests says of itself beside its rows."""
    return {
        "format": trace.format,
        "epoch": trace.epoch.isoformat() if trace.epoch else None,
        "generated": trace.generated,
        "rows_read": trace.rows_read,
        "rejected": dict(trace.rejected),
        "notes": list(trace.notes),
    }
