"""Node lists: what a cluster was made of, one row a node. :func:`read_nodes` is the door.

Files of the traces that :mod:`fleetsim_traces.reading` reads, told from their columns:

=============== ====================================================================== =====================
layout          file                                                                   rows
=============== ====================================================================== =====================
openb           ``openb_node_list_*.csv``, as :mod:`fleetsim_traces.openb`             1,523, 1,213 with GPUs
spot            ``node_info_df.csv``, as :mod:`fleetsim_traces.spot`                   4,278
pai             ``pai_machine_spec.csv`` (no header), as :mod:`fleetsim_traces.pai`    1,897
philly          ``cluster_machine_list``, as :mod:`fleetsim_traces.philly_log`         not run on the original
tiresias        ``cluster_spec.csv``, ``n*g*.csv``: a count of equal nodes             16 to 256
nodes           any CSV with the table's own names                                     yours
=============== ====================================================================== =====================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from fleetsim_traces.delimited import Rows, load, split_rows
from fleetsim_traces.doors import by_header, choice, guarded, peek
from fleetsim_traces.errors import Problem
from fleetsim_traces.rows import BadRows, Check, Draft, numbers, sift, to_arrow
from fleetsim_traces.table import Column, arrow_schema
from fleetsim_traces.text import fail, read_text, shorten
from fleetsim_traces.times import number, scaled

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

NODE_COLUMNS = (
    Column("node_id", "text", "", "Identity in the source; the line where the source has none."),
    Column("gpu_model", "category", "", "GPU model, as the source calls it.", nullable=True),
    Column("gpus", "int32", "GPU", "GPUs in the node; 0 for a CPU node.", minimum=0, maximum=1024),
    Column(
        "gpu_memory_gb",
        "float32",
        "GB",
        "Memory of each GPU, 1e9 bytes.",
        nullable=True,
        minimum=0,
        maximum=1e6,
    ),
    Column("cpus", "float64", "core", "CPU cores.", nullable=True, minimum=0, maximum=1e6),
    Column(
        "memory_gb", "float64", "GB", "Memory of the node, 1e9 bytes.", nullable=True, minimum=0, maximum=1e8
    ),
    Column("pool", "category", "", "Virtual cluster, switch or pool it belongs to.", nullable=True),
)
VERSION_KEY, VERSION = b"fleetsim.nodes.version", b"1"
_GIB, _MIB, _MILLI = Fraction(2**30, 10**9), Fraction(2**20, 10**9), Fraction(1, 1000)
_MAX_NODES = 1_000_000
_SPEC = ("num_switch", "num_node_p_switch", "num_gpu_p_node", "num_cpu_p_node", "mem_p_node")
_PAI = ("machine", "gpu_type", "cap_cpu", "cap_mem", "cap_gpu")


@dataclass(frozen=True)
class Nodes:
    """A node list; *nodes* has exactly :func:`node_schema`, the rest is as in a ``Trace``."""

    nodes: pa.Table
    format: str
    source: str
    rows_read: int
    rejected: Mapping[str, int] = field(default_factory=dict)
    samples: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


def node_schema() -> pa.Schema:
    """The Arrow schema of the node table."""
    return arrow_schema(NODE_COLUMNS, {VERSION_KEY: VERSION})


def read_nodes(path: str | Path, *, bad_rows: str = "refuse") -> Nodes:
    """Read the node list at *path*, whose layout is told from its columns; raises TraceError."""
    return guarded(_read, Path(path), {"bad_rows": choice(bad_rows)})


def layout(line: str) -> str:
    """The layout of a node list whose first line is *line*; empty where it is none."""
    if found := by_header(line, {name: (header, ",") for name, (header, _) in LAYOUTS.items()}):
        return found
    return "pai" if re.fullmatch(r"[0-9a-f]{24},\w+,[\d.]+,[\d.]+,[\d.]+", line) else ""


def _read(path: Path, *, bad_rows: BadRows) -> Nodes:
    import polars as pl

    _, line = peek(path)
    name = layout(line)
    if not name:
        known = "; ".join(",".join(header) for header, _ in LAYOUTS.values())
        raise fail(path, f"not a node list that fleetsim knows: {shorten(line, 100)}", f"It knows {known}.")
    rows, frame, fields = LAYOUTS[name][1](path)
    if "node_id" not in frame.columns:
        frame = frame.with_columns(pl.col("line").cast(pl.String).alias("node_id"))
    draft = Draft(path=path, format=name, frame=frame, misfits=rows.misfits, fields=fields)
    once = Check("node_id repeats an earlier row", "node_id", ~pl.col("node_id").is_first_distinct())
    model = Check("GPUs without a model", "gpu_model", pl.col("gpu_model").is_null() & (pl.col("gpus") > 0))
    extra = [model] if name in ("openb", "spot", "pai") else []
    found = sift(draft, bad_rows, NODE_COLUMNS, extra, once, "nodes")
    return Nodes(
        nodes=to_arrow(found.frame, {}, NODE_COLUMNS, node_schema()),
        format=name,
        source=str(path),
        rows_read=found.rows_read,
        rejected=found.rejected,
        samples=found.samples,
        notes=found.notes,
    )


Read = tuple[Rows, "pl.DataFrame", int]


def _openb(path: Path) -> Read:
    import polars as pl

    table = load(path, LAYOUTS["openb"][0])
    frame = table.rows.frame.select(
        "line",
        pl.col("sn").alias("node_id"),
        pl.col("model").alias("gpu_model"),
        *numbers(gpus="gpu", cpus="cpu_milli", memory_gb="memory_mib"),
    ).with_columns(scaled(pl.col("cpus"), _MILLI), scaled(pl.col("memory_gb"), _MIB))
    return table.rows, frame, len(table.names)


def _spot(path: Path) -> Read:
    import polars as pl

    table = load(path, LAYOUTS["spot"][0])
    frame = table.rows.frame.select(
        "line",
        pl.col("node_name").alias("node_id"),
        "gpu_model",
        *numbers(gpus="gpu_capacity_num", cpus="cpu_num"),
    )
    return table.rows, frame, len(table.names)


def _pai(path: Path) -> Read:
    import polars as pl

    data = read_text(path)
    start = data.find(b"\n") + 1 if data.startswith(b"machine,") else 0
    rows = split_rows(path, data, list(_PAI), start=start)
    frame = rows.frame.select(
        "line",
        pl.col("machine").alias("node_id"),
        pl.when(pl.col("gpu_type") != "CPU").then("gpu_type").alias("gpu_model"),
        *numbers(gpus="cap_gpu", cpus="cap_cpu", memory_gb="cap_mem"),
    )
    return rows, frame, len(_PAI)


def _philly(path: Path) -> Read:
    import polars as pl

    table = load(path, LAYOUTS["philly"][0])
    frame = table.rows.frame.select(
        "line",
        pl.col("machineId").alias("node_id"),
        *numbers(gpus="number of GPUs"),
        number(pl.col("single GPU mem").str.strip_suffix("GB")).alias("gpu_memory_gb"),
        pl.col("single GPU mem").alias("gpu_memory_gb:raw"),
    )
    return table.rows, frame, len(table.names)


def _tiresias(path: Path) -> Read:
    import polars as pl

    table = load(path, _SPEC)
    frame = table.rows.frame.select(
        "line",
        *numbers(switches="num_switch", each="num_node_p_switch"),
        *numbers(gpus="num_gpu_p_node", cpus="num_cpu_p_node", memory_gb="mem_p_node"),
    )
    counts = frame.select("switches", "each").rows()
    if bad := [
        row for row in counts if not all(n is not None and 0 < n <= _MAX_NODES and n % 1 == 0 for n in row)
    ]:
        raise fail(path, f"{bad[0]} switches and nodes", "Both are whole numbers above 0.")
    if sum(a * b for a, b in counts) > _MAX_NODES:
        raise fail(path, f"more than {_MAX_NODES:,} nodes", "Is it the right file?")
    frame = (
        frame.with_columns(pl.int_ranges(0, pl.col("switches") * pl.col("each")).alias("i"))
        .explode("i")
        .with_columns(
            pl.format("{}-{}", "line", "i").alias("node_id"),
            pl.format("switch-{}", (pl.col("i") // pl.col("each")).cast(pl.Int64)).alias("pool"),
        )
    )
    return table.rows, frame, len(table.names)


def _own(path: Path) -> Read:
    import polars as pl

    names = [c.name for c in NODE_COLUMNS if c.name not in ("node_id", "gpus")]
    table = load(path, ("node_id", "gpus"), names)
    wanted = [c for c in NODE_COLUMNS if c.name in table.names]
    frame = table.rows.frame.select(
        "line",
        *(expr for c in wanted if c.numeric for expr in numbers(**{c.name: c.name})),
        *(pl.col(c.name) for c in wanted if not c.numeric),
    )
    return table.rows, frame, len(table.names)


LAYOUTS: Mapping[str, tuple[tuple[str, ...], Callable[[Path], Read]]] = {
    "openb": (("sn", "cpu_milli", "memory_mib", "gpu", "model"), _openb),
    "spot": (("node_name", "gpu_model", "gpu_capacity_num", "cpu_num"), _spot),
    "pai": (_PAI, _pai),
    "philly": (("machineId", "number of GPUs", "single GPU mem"), _philly),
    "tiresias": (_SPEC, _tiresias),
    "nodes": (("node_id", "gpus"), _own),
}
