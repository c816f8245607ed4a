"""One door to every job log: :func:`read_trace`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleetsim_traces import (
    acme,
    acme_converted,
    dlrm,
    gavel,
    gen_parallel,
    generic,
    helios,
    jobs,
    kubernetes,
    openb,
    pai,
    philly,
    philly_log,
    sacct,
    spot,
    supercloud,
    swf,
)
from fleetsim_traces.doors import by_header, choice, guarded, is_number, parquet_schema, peek, require_format
from fleetsim_traces.mapping import ColumnMap
from fleetsim_traces.shipped import MAPPINGS, reader
from fleetsim_traces.table import VERSION_KEY, Trace
from fleetsim_traces.text import fail


@dataclass(frozen=True)
class Format:
    """A reader, what it reads in a line, and the column names that tell its files from others."""

    read: Callable[..., Trace]
    about: str
    header: tuple[str, ...] = ()
    separator: str = ","


READERS: Mapping[str, Format] = {
    "jobs": Format(jobs.read, "job table in Parquet, as fleetsim writes it"),
    "philly": Format(philly.read, "Microsoft Philly 2017, flattened CSV", philly.HEADER),
    "philly-log": Format(
        philly_log.read, "Microsoft Philly 2017, original cluster_job_log (JSON, with attempts)"
    ),
    "helios": Format(helios.read, "SenseTime Helios 2020, cluster_log.csv", helios.HEADER),
    "acme": Format(acme.read, "Shanghai AI Lab Acme 2023, trace_seren.csv and trace_kalos.csv", acme.HEADER),
    "acme-converted": Format(
        acme_converted.read, "Acme Kalos, converted for a simulator", acme_converted.HEADER
    ),
    "sacct": Format(sacct.read, "Slurm accounting, sacct --parsable2", sacct.HEADER, "|"),
    "kubernetes": Format(kubernetes.read, "pods, as kubectl get pods --output json prints them"),
    "pai": Format(pai.read, "Alibaba PAI 2020, task table with the tables beside it, or their folder"),
    "openb": Format(openb.read, "Alibaba openb 2023, pod lists", openb.HEADER),
    "dlrm": Format(dlrm.read, "Alibaba DLRM 2025, inference instances", dlrm.HEADER),
    "spot": Format(spot.read, "Alibaba spot cluster 2026, jobs", spot.HEADER),
    "supercloud": Format(supercloud.read, "MIT Supercloud 2021, Slurm accounting rows", supercloud.HEADER),
    "gen-parallel": Format(
        gen_parallel.read, "Philly, Helios, Blue Waters, Theta, 15,000 jobs each", gen_parallel.HEADER
    ),
    "gavel": Format(gavel.read, "Gavel arrival traces, with their table of throughputs"),
    **{name: Format(reader(name), about, header) for name, (about, header) in MAPPINGS.items()},
    "swf": Format(swf.read, "Standard Workload Format, Parallel Workloads Archive"),
    "generic": Format(generic.read, "any CSV or Parquet file, with a column mapping"),
}


def read_trace(
    path: str | Path,
    format: str = "auto",  # noqa: A002  the word users know
    *,
    columns: ColumnMap | Mapping[str, Any] | None = None,
    bad_rows: str = "refuse",
    **options: Any,
) -> Trace:
    """Read the workload at *path* into the job table.

    *format* is a name in :data:`READERS`, or ``auto`` to look at the content. *columns* maps the columns of
    a ``generic`` file. *bad_rows* says what to do with rows at fault: ``refuse`` the trace, or ``drop`` them
    and count them in ``Trace.rejected``. Other *options* are those of the format's reader, such as ``zone``
    of ``sacct``. Plain and packed files (gzip, zstd, xz) are told apart by content.

    Raises TraceError listing every problem found.
    """
    path = Path(path)
    options["bad_rows"] = choice(bad_rows)
    require_format(format, READERS)
    if format == "auto":
        found = "generic" if columns is not None else detect(path)
        return read_trace(path, found, columns=columns, **options)
    read = READERS[format].read
    known = options_of(format)
    if unknown := sorted(set(options) - {"bad_rows", *known}):
        raise fail(unknown[0], f"format {format} has no such option", f"It has {', '.join(known) or 'none'}.")
    if format == "generic":
        options["columns"] = (
            columns if isinstance(columns, ColumnMap) or columns is None else ColumnMap.from_dict(columns)
        )
    elif columns is not None:
        raise fail(
            "columns", f"format {format} has columns of its own", "Leave the mapping out, or use generic."
        )
    return guarded(read, path, options)


def options_of(format: str) -> list[str]:  # noqa: A002  the word users know
    """The options that a *format* has of its own, such as ``zone``."""
    known = inspect.signature(READERS[format].read).parameters
    return sorted(set(known) - {"path", "bad_rows", "columns"})


def detect(path: str | Path) -> str:
    """The format of *path*, told from its content and never from its name.

    Raises TraceError where it is no trace that fleetsim knows.
    """
    path = Path(path)
    if path.is_dir() and pai.find(path, "pai_task_table"):
        return "pai"
    if (schema := parquet_schema(path)) is not None:
        names, metadata = schema
        return (
            "jobs" if VERSION_KEY in metadata or not names else "generic"
        )  # its reader says what is damaged
    text, line = peek(path)
    if not line:
        raise fail(path, "empty file", "Fetch it again: a trace has at least one job.")
    if line.startswith(";") or (len(line.split()) == swf.FIELDS and is_number(line.split()[0])):
        return "swf"
    if pai.is_task_row(line):
        return "pai"
    if gavel.is_row(line):
        return "gavel"
    if text.lstrip()[:1] in ("{", "["):
        return _json_kind(path, text)
    if found := by_header(line, {name: (f.header, f.separator) for name, f in READERS.items()}):
        return found
    if any(separator in line for separator in ",;\t|"):
        _refuse_other_tables(path, line)
        return "generic"
    formats = "; ".join(f"{name}: {known.about}" for name, known in READERS.items())
    raise fail(path, "not a format that fleetsim knows", f"It knows {formats}.")


def _refuse_other_tables(path: Path, line: str) -> None:
    """Raise TraceError where *line* begins a node list or a state table: those have doors of their own."""
    from fleetsim_traces import nodes, states

    if {"submit_s", "gpus"} <= {cell.strip() for cell in line.split(",")}:
        return
    if found := nodes.layout(line):
        raise fail(path, f"a node list ({found}), not jobs", "Read it with fleetsim_traces.nodes.read_nodes.")
    if found := states.layout(line):
        remedy = "Read it with fleetsim_traces.states.read_states."
        raise fail(path, f"a state table ({found}), not jobs", remedy)


def _json_kind(path: Path, text: str) -> str:
    """The format of a JSON document that begins with *text*."""
    if text.lstrip().startswith("[") and '"attempts"' in text and '"jobid"' in text:
        return "philly-log"
    if '"apiVersion"' in text and ('"items"' in text or '"List"' in text):
        return "kubernetes"
    raise fail(path, "JSON, but neither Philly's job log nor a Kubernetes pod list", "Is it a trace of jobs?")
