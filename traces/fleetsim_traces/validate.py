"""Is a file fit to be replayed: every kind of fault in it, and the load it offers."""

from __future__ import annotations

from typing import Any

from fleetsim_traces.convert import convert
from fleetsim_traces.either import Found
from fleetsim_traces.errors import Problem
from fleetsim_traces.pieces import Progress
from fleetsim_traces.text import fail


def validate(
    found: Found, *, gpus: float | None = None, progress: Progress | None = None
) -> tuple[dict[str, Any], list[Problem]]:
    """A report fit for JSON and the first problems of each kind, with their places.

    The keys are ``source``, ``kind``, ``format``, ``rows_read``, ``rows`` that can be used, ``rejected`` and
    ``skipped`` (reason -> rows), ``notes``, ``epoch``, ``span_s``, ``gpu_hours`` of jobs, ``tokens`` of
    requests, ``mean_gpus`` busy if nothing waited, and with *gpus* ``offered_load``, that over them. Raises
    TraceError where the file cannot be read at all.
    """
    if gpus is not None and not gpus > 0:
        raise fail("gpus", f"{gpus:g} is not above 0")
    if gpus is not None and found.kind == "requests":
        raise fail("gpus", "requests say nothing of GPUs", "Leave --gpus out.")
    totals = convert(found, None, progress=progress)
    jobs = totals.kind == "jobs"
    mean_gpus = totals.busy_gpu_s / totals.span_s if jobs and totals.span_s else None
    report = {
        "source": totals.source,
        "kind": totals.kind,
        "format": totals.format,
        "generated": totals.generated,
        "rows_read": totals.rows_read,
        "rows": totals.rows,
        "rejected": totals.rejected,
        "skipped": totals.skipped,
        "notes": totals.notes,
        "epoch": totals.epoch.isoformat() if totals.epoch else None,
        "span_s": totals.span_s,
        "gpu_hours": totals.busy_gpu_s / 3600 if jobs else None,
        "tokens": None if jobs else totals.tokens,
        "mean_gpus": mean_gpus,
        "offered_load": mean_gpus / gpus if gpus and mean_gpus is not None else None,
    }
    return report, totals.samples
