"""State tables: how large and how busy a cluster was, over time. :func:`read_states` is the door.

Files that hold states, told from their columns:

============== ============================================================================ ==================
layout         file                                                                         rows
============== ============================================================================ ==================
helios-vc      ``cluster_sequence_vc.csv`` of one virtual cluster, minutes of May 2020      44,640
helios-gpus    ``cluster_gpu_number.csv``, ``Earth_gpu_number.csv``: GPUs a day of each VC  days x VCs
philly-nodes   ``philly_node_sequence.csv``, minutes from 2017-10-03                        105,644
philly-vcs     ``philly_vc.csv``: nodes of each virtual cluster, one instant                11 to 15
spot-hours     ``hourly_concurrency.csv`` that another project made of the spot jobs        4,419
============== ============================================================================ ==================

Helios: github.com/S-Lab-System-Group, HeliosData (CC-BY-4.0) and HeliosArtifact (MIT); times are
Asia/Shanghai. ``running_gpu_num`` can exceed ``total_gpu_num``: a virtual cluster borrows. The name of the
VC is that of the folder, for the file does not hold it. Philly: HeliosArtifact (MIT); times are
America/Los_Angeles, and those that happened twice are read as the first, so two rows may share an instant.
Spot: no date.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from fleetsim_traces.delimited import Rows, load
from fleetsim_traces.doors import by_header, choice, guarded, peek
from fleetsim_traces.errors import Problem
from fleetsim_traces.rows import BadRows, Check, Draft, numbers, sift, to_arrow
from fleetsim_traces.table import MAX_TIME_S, Column, arrow_schema
from fleetsim_traces.text import fail, shorten
from fleetsim_traces.times import instants

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


def _count(name: str, unit: str, description: str) -> Column:
    return Column(name, "float64", unit, description, nullable=True, minimum=0, maximum=1e9)


STATE_COLUMNS = (
    Column(
        "time_s",
        "float64",
        "s",
        "From the table's epoch; rows are sorted by it.",
        minimum=0,
        maximum=MAX_TIME_S,
    ),
    Column("vc", "category", "", "Virtual cluster; null for the whole cluster.", nullable=True),
    _count("nodes", "node", "Nodes there are."),
    _count("nodes_busy", "node", "Nodes with work."),
    _count("gpus", "GPU", "GPUs there are."),
    _count("gpus_busy", "GPU", "GPUs allocated; parts of a GPU count as parts."),
    _count("gpus_pending", "GPU", "GPUs that waiting jobs ask for."),
    _count("jobs_running", "job", "Jobs running."),
    _count("jobs_pending", "job", "Jobs waiting."),
)
VERSION_KEY, VERSION = b"fleetsim.states.version", b"1"
_SHANGHAI, _PACIFIC = "Asia/Shanghai", "America/Los_Angeles"
_NO_VC = ("date", "total")


@dataclass(frozen=True)
class States:
    """States over time; *states* has exactly :func:`state_schema`, the rest is as in a ``Trace``."""

    states: pa.Table
    format: str
    source: str
    epoch: datetime | None
    rows_read: int
    rejected: Mapping[str, int] = field(default_factory=dict)
    samples: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


def state_schema() -> pa.Schema:
    """The Arrow schema of the state table."""
    return arrow_schema(STATE_COLUMNS, {VERSION_KEY: VERSION})


def read_states(path: str | Path, *, bad_rows: str = "refuse") -> States:
    """Read the state table at *path*, whose layout is told from its columns; raises TraceError."""
    return guarded(_read, Path(path), {"bad_rows": choice(bad_rows)})


def layout(line: str) -> str:
    """The layout of a state table whose header is *line*; empty where it is none."""
    return by_header(line, {name: (header, ",") for name, (header, _) in LAYOUTS.items()})


def _read(path: Path, *, bad_rows: BadRows) -> States:
    import polars as pl

    _, line = peek(path)
    name = layout(line)
    if not name:
        known = "; ".join(",".join(header) for header, _ in LAYOUTS.values())
        raise fail(path, f"not a state table that fleetsim knows: {shorten(line, 100)}", f"It knows {known}.")
    rows, frame, dated = LAYOUTS[name][1](path)
    unread = Check("the time is none", "time_s:raw", pl.col("time_s").is_null(), "Write YYYY-MM-DD HH:MM:SS.")
    fields = line.count(",") + 1
    draft = Draft(path=path, format=name, frame=frame, checks=[unread], misfits=rows.misfits, fields=fields)
    found = sift(draft, bad_rows, STATE_COLUMNS, [], None, "states")
    frame, epoch = found.frame, None
    if dated:
        zero = frame["time_s"].min()
        frame = frame.with_columns(pl.col("time_s") - zero)
        epoch = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=float(zero))  # type: ignore[arg-type]
    return States(
        states=to_arrow(frame.sort("time_s", maintain_order=True), {}, STATE_COLUMNS, state_schema()),
        format=name,
        source=str(path),
        epoch=epoch,
        rows_read=found.rows_read,
        rejected=found.rejected,
        samples=found.samples,
        notes=found.notes,
    )


Read = tuple[Rows, "pl.DataFrame", bool]


def _at(cells: pl.DataFrame, name: str, zone: str) -> list[pl.Series]:
    """The time and its text."""
    return [instants(cells[name], zone).alias("time_s"), cells[name].alias("time_s:raw")]


def _helios_vc(path: Path) -> Read:
    import polars as pl

    table = load(path, LAYOUTS["helios-vc"][0])
    cells = table.rows.frame
    frame = cells.select(
        "line",
        *_at(cells, "time", _SHANGHAI),
        pl.lit(path.resolve().parent.name).alias("vc"),
        *numbers(
            gpus="total_gpu_num",
            gpus_busy="running_gpu_num",
            gpus_pending="pending_gpu_num",
            jobs_running="running_gpujob_num",
            jobs_pending="pending_gpujob_num",
        ),
    )
    return table.rows, frame, True


def _helios_gpus(path: Path) -> Read:
    import polars as pl

    names = load(path, _NO_VC).names
    table = load(path, names)
    cells = table.rows.frame.with_columns(pl.col("date") + " 00:00:00")
    frame = (
        cells.select("line", *_at(cells, "date", _SHANGHAI), *(n for n in names if n not in _NO_VC))
        .unpivot(index=["line", "time_s", "time_s:raw"], variable_name="vc", value_name="n")
        .sort("line", maintain_order=True)
        .select("line", "time_s", "time_s:raw", "vc", *numbers(gpus="n"))
    )
    return table.rows, frame, True


def _philly_nodes(path: Path) -> Read:
    table = load(path, LAYOUTS["philly-nodes"][0])
    cells = table.rows.frame
    frame = cells.select("line", *_at(cells, "time", _PACIFIC), *numbers(nodes="total", nodes_busy="active"))
    return table.rows, frame, True


def _philly_vcs(path: Path) -> Read:
    import polars as pl

    table = load(path, LAYOUTS["philly-vcs"][0])
    zero = [pl.lit(0.0).alias("time_s"), pl.lit("").alias("time_s:raw")]
    return table.rows, table.rows.frame.select("line", *zero, "vc", *numbers(nodes="node num")), False


def _spot_hours(path: Path) -> Read:
    import polars as pl

    table = load(path, LAYOUTS["spot-hours"][0])
    frame = table.rows.frame.select(
        "line",
        *numbers(
            time_s="hour", jobs_running="jobs_active", gpus_busy="gpus_active_requested", gpus="capacity_gpus"
        ),
    ).with_columns(pl.col("time_s") * 3600)
    return table.rows, frame, False


LAYOUTS: Mapping[str, tuple[tuple[str, ...], Callable[[Path], Read]]] = {
    "helios-vc": (
        (
            "time",
            "total_gpu_num",
            "running_gpu_num",
            "pending_gpu_num",
            "running_gpujob_num",
            "pending_gpujob_num",
        ),
        _helios_vc,
    ),
    "helios-gpus": (_NO_VC, _helios_gpus),
    "philly-nodes": (("time", "active", "total"), _philly_nodes),
    "philly-vcs": (("vc", "node num"), _philly_vcs),
    "spot-hours": (("hour", "jobs_active", "gpus_active_requested", "capacity_gpus"), _spot_hours),
}
