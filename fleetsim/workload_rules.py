"""What a scenario says of its workloads, checked against itself and against the fleet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime

from fleetsim.reading import Fault, Loc, unknown, unknown_model
from fleetsim.safeyaml import suggest
from fleetsim.spec import WorkloadSpec
from fleetsim.units import duration_s, since
from fleetsim_traces import READERS
from fleetsim_traces.generate import FAMILIES


def faults(
    workloads: Mapping[int, WorkloadSpec],
    tenants: Sequence[str],
    fleet: Collection[str],
    start: datetime,
    horizon_s: float | None,
) -> Iterator[Fault]:
    """Everything wrong with *workloads*, of which those are given that are right in themselves.

    *tenants* are all that are declared; *fleet* is all that jobs may call the GPU models of the fleet.
    """
    for i, w in workloads.items():
        loc: Loc = ("workloads", i)
        yield from _source(loc, w)
        yield from _tenants(loc, w, tenants)
        yield from _times(loc, w, start, horizon_s)
        low, high = w.select.min_gpus, w.select.max_gpus
        if low is not None and high is not None and low > high:
            message = f"min_gpus {low} is above max_gpus {high}"
            yield (*loc, "select"), message, "Nothing would be left."
        yield from models((*loc, "gpu_models"), w.gpu_models, fleet)
        for name, meant in (w.gpu_names or {}).items():
            yield from models((*loc, "gpu_names", name), meant, fleet)
        if w.gpu_models and fleet and not set(w.gpu_models).intersection(fleet):
            message = f"no cohort has any of {', '.join(w.gpu_models)}"
            yield (*loc, "gpu_models"), message, f"The fleet has: {', '.join(sorted(fleet))}."


def models(loc: Loc, names: Sequence[str] | None, fleet: Collection[str]) -> Iterator[Fault]:
    """Each must be a model of the catalogue, or what one of the *fleet* is known as."""
    for i, name in enumerate(names or ()):
        if name not in fleet:
            yield from unknown_model((*loc, i), name)


def _source(loc: Loc, w: WorkloadSpec) -> Iterator[Fault]:
    """A trace, or a family to generate from."""
    if (w.trace is None) == (w.generate is None):
        remedy = "Name a trace file or sample, or generate jobs."
        yield loc, "needs one of `trace` and `generate`", remedy
    if w.format not in ("auto", *READERS):
        remedy = f"{suggest(w.format, READERS)}Formats are: auto, {', '.join(READERS)}."
        yield (*loc, "format"), f"no format {w.format!r}", remedy
    if w.generate is not None and w.generate.family not in FAMILIES:
        remedy = f"{suggest(w.generate.family, FAMILIES)}Families are: {', '.join(FAMILIES)}."
        yield (*loc, "generate", "family"), f"no family {w.generate.family!r}", remedy
    if w.generate is not None and w.columns is not None:
        yield (*loc, "columns"), "a generated workload has no columns to map", "Leave it out."


def _tenants(loc: Loc, w: WorkloadSpec, tenants: Sequence[str]) -> Iterator[Fault]:
    """They must be declared, if any are, and one of the trace stands for one of them."""
    if w.tenant is not None and w.tenants is not None:
        yield (*loc, "tenants"), "`tenant` is given too", "Keep one of the two."
    for key, named in (("tenant", [w.tenant] if w.tenant else []), ("tenants", list(w.tenants or ()))):
        for tenant in named:
            if tenants and tenant not in tenants:
                yield (*loc, key), *unknown("tenant", tenant, tenants)
    sources = Counter(source for named in (w.tenants or {}).values() for source in named)
    for source, count in sources.items():
        if count > 1:
            yield (*loc, "tenants"), f"{source!r} is mapped {count} times", "Map it to one tenant."


def _times(loc: Loc, w: WorkloadSpec, start: datetime, horizon_s: float | None) -> Iterator[Fault]:
    """The window must be open, and lie within the run."""
    if w.window.end is not None and duration_s(w.window.end) <= duration_s(w.window.start):
        yield (*loc, "window", "end"), f"{w.window.end!r} is not after the start of the window", ""
    starts_s = since(start, w.starts)
    if starts_s < 0 or (horizon_s is not None and starts_s >= horizon_s):
        message = f"{w.starts!r} lies outside the run"
        yield (*loc, "starts"), message, "Start between 0 and the horizon."
    if w.repeat is not None and horizon_s is None and w.repeat.until is None:
        yield (*loc, "repeat"), "repeats for ever, since the horizon is `drain`", "Give `until`."
