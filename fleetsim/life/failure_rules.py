"""What a scenario says of failures and spares, checked against itself and against the fleet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import inf

from fleetsim.life.spec import FailureSpec, HazardSpec, JobSizeSpec, RepairSpec, SparesSpec
from fleetsim.reading import Fault, Loc, unknown, unknown_model
from fleetsim.records import Cohort
from fleetsim.units import YEAR_S, duration_s

#: More failures a year than anything has: one every half minute.
MAX_PER_YEAR = 1e6

#: A steeper Weibull than any that was ever fitted.
MAX_SHAPE = 20

#: By how much shares that add up to 1 may be off, written with few digits.
TOLERANCE = 1e-6


def faults(
    failures: Mapping[int, FailureSpec],
    spares: Mapping[int, SparesSpec],
    fleet: Sequence[Cohort],
    names: Sequence[str],
    whole: bool,
) -> Iterator[Fault]:
    """Everything wrong with *failures* and *spares*. *names* are what cohorts may be called.

    *whole* is whether these are all failures; else some are not right in themselves.
    """
    for i, f in failures.items():
        loc: Loc = ("failures", i)
        yield from _rate(loc, f)
        yield from _repairs(loc, f)
        yield from _unit(loc, f)
        for xid, weight in f.xids.items():
            if weight <= 0:
                yield (*loc, "xids", xid), f"a weight of {weight:g}", "Give more than 0, or leave it out."
        for fault in _whose(loc, f, fleet, names):
            whole = False  # it may concern others once that is put right
            yield fault
    listed = Counter(s.gpu_model for s in spares.values())
    models = list(dict.fromkeys(c.model.id for c in fleet))
    for i, s in spares.items():
        at: Loc = ("spares", i, "gpu_model")
        if listed[s.gpu_model] > 1:
            message = f"{s.gpu_model} is listed {listed[s.gpu_model]} times"
            yield at, message, "Give all spares of a model at once."
        if fleet and s.gpu_model not in models:
            yield at, f"no cohort has {s.gpu_model!r}", f"The fleet has: {', '.join(models)}."
        elif (
            fleet
            and whole
            and not any(
                concerns(f, [c for c in fleet if c.model.id == s.gpu_model])
                and any(r.replaces is not None for r in f.repairs)
                for f in failures.values()
            )
        ):
            remedy = "Let a repair say what it `replaces`, or leave the spares out."
            yield at, f"no repair of {s.gpu_model} takes a spare", remedy


def concerns(failure: FailureSpec, fleet: Sequence[Cohort]) -> bool:
    """Whether *failure* is about any cohort of *fleet*."""
    models, cohorts = failure.gpu_models, failure.cohorts
    return any(
        (models is None or c.model.id in models)
        and (cohorts is None or c.name in cohorts or c.series in cohorts)
        for c in fleet
    )


def _rate(loc: Loc, f: FailureSpec) -> Iterator[Fault]:
    """How often."""
    if bool(f.hazard) == bool(f.script):
        yield loc, "needs one of `hazard` and `script`", "Give a rate: hazard: [{per_year: 0.1}]."
    for k, h in enumerate(f.hazard):
        yield from _hazard((*loc, "hazard", k), h)
        if f.unit == "job" and h.per_year is None:
            message = "jobs have no age, so their rate is constant"
            yield (*loc, "hazard", k), message, "Give `per_year`."
    if f.script and f.unit != "node":
        message = f"a script is of nodes, and the unit is {f.unit}"
        yield (*loc, "script"), message, "Take `unit: node`, or give a `hazard`."
    if f.script and f.lemons is not None:
        yield (*loc, "lemons"), "a script has no rate that could be higher", "Leave it out."
    if f.script and f.xids:
        yield (*loc, "xids"), "a script leaves nothing to chance", "Leave it out."


def _hazard(loc: Loc, h: HazardSpec) -> Iterator[Fault]:
    """A rate of one kind, not negative."""
    kinds = [h.per_year is not None, h.shape is not None or h.scale is not None, h.curve is not None]
    if sum(kinds) != 1:
        yield (
            loc,
            "needs one of `per_year`, `shape` with `scale`, and `curve`",
            "One kind each: a list adds up.",
        )
    if (h.shape is None) != (h.scale is None):
        missing = "shape" if h.shape is None else "scale"
        yield (
            (*loc, missing),
            "missing: a Weibull has a shape and a scale",
            "For example: {shape: 3, scale: 8y}.",
        )
    if h.per_year is not None and not 0 <= h.per_year <= MAX_PER_YEAR:
        yield (*loc, "per_year"), f"{h.per_year:g} failures a year", f"Give 0 to {MAX_PER_YEAR:g}."
    if h.shape is not None and not 0 < h.shape <= MAX_SHAPE:
        yield (*loc, "shape"), f"a shape of {h.shape:g}", f"Give more than 0, and at most {MAX_SHAPE}."
    if h.scale is not None and duration_s(h.scale) < YEAR_S / MAX_PER_YEAR:
        yield (*loc, "scale"), f"{h.scale!r} is shorter than {YEAR_S / MAX_PER_YEAR:.0f} s", "Give more."
    if h.curve is None:
        return
    if not h.curve:
        yield (*loc, "curve"), "no point", "Give [[0, failures a year], ...]."
    for n, (_, per_year) in enumerate(h.curve):
        if not 0 <= per_year <= MAX_PER_YEAR:
            message = f"{per_year:g} failures a year"
            yield (*loc, "curve", n, 1), message, f"Give 0 to {MAX_PER_YEAR:g}."
    for n, ((before, _), (age, _)) in enumerate(pairwise(h.curve), 1):
        if duration_s(age) <= duration_s(before):
            yield (*loc, "curve", n, 0), f"{age!r} is not after {before!r}", "Ages rise."


def _repairs(loc: Loc, f: FailureSpec) -> Iterator[Fault]:
    """How it ends."""
    loc = (*loc, "repairs")
    if f.unit == "job" or f.script:
        if f.repairs:
            why = "a failure of a job leaves its nodes up" if f.unit == "job" else "the script says how long"
            yield loc, why, "Leave it out."
        return
    if not f.repairs:
        if not f.hazard:
            return  # said already: it never comes
        yield loc, "missing", "Say how it ends: [{name: reboot, median: 30min}]."
        return
    if abs((total := sum(r.share for r in f.repairs)) - 1) > TOLERANCE:
        yield loc, f"the shares add up to {total:.7g}", "They must add up to 1."
    for name, count in Counter(r.name for r in f.repairs).items():
        if count > 1:
            yield loc, f"the name {name!r} occurs {count} times", "Names are unique in a failure."
    for k, r in enumerate(f.repairs):
        yield from _repair((*loc, k), r)


def _repair(loc: Loc, r: RepairSpec) -> Iterator[Fault]:
    if r.retires and r.replaces is not None:
        message = f"replaces a {r.replaces}, but the node does not come back"
        yield (*loc, "retires"), message, "Keep one of `replaces` and `retires`."
    if r.retires and duration_s(r.median):
        yield (*loc, "median"), "the node does not come back", "Keep one of `median` and `retires`."
    elif r.sigma and not duration_s(r.median):
        yield (*loc, "sigma"), "a median of zero has no spread", "Give a `median`, or leave it out."


def _unit(loc: Loc, f: FailureSpec) -> Iterator[Fault]:
    """What there is only for some units."""
    if f.unit != "job" and f.jobs != JobSizeSpec():
        yield (*loc, "jobs"), f"the unit is {f.unit}", "Take `unit: job`, or leave it out."
    if f.jobs.min_gpus > (f.jobs.max_gpus or inf):
        message = f"min_gpus {f.jobs.min_gpus} is above max_gpus {f.jobs.max_gpus}"
        yield (*loc, "jobs"), message, "No job is of such a size."
    if f.unit != "job":
        return
    if f.lemons is not None:
        yield (
            (*loc, "lemons"),
            "only nodes and GPUs are lemons",
            "Take `unit: node` or `gpu`, or leave it out.",
        )
    if f.powered:
        message = "a failure of a job leaves its nodes up"
        yield (*loc, "powered"), message, "Take `unit: node` or `gpu`, or leave it out."
    for key, given in (("gpu_models", f.gpu_models), ("cohorts", f.cohorts)):
        if given is not None:
            message = "a job may run on several, so its rate is not of one of them"
            yield (*loc, key), message, "Take `unit: node` or `gpu`, or leave it out."


def _whose(loc: Loc, f: FailureSpec, fleet: Sequence[Cohort], names: Sequence[str]) -> Iterator[Fault]:
    """It must be about something in the fleet."""
    sound = True
    for k, name in enumerate(f.gpu_models or ()):
        for fault in unknown_model((*loc, "gpu_models", k), name):
            sound = False
            yield fault
    for k, name in enumerate(f.cohorts or ()):
        if name not in names and fleet:
            sound = False
            yield (*loc, "cohorts", k), *unknown("cohort", name, names)
    if sound and fleet and (f.gpu_models or f.cohorts) and not concerns(f, fleet):
        models, cohorts = ", ".join(f.gpu_models or ()), ", ".join(f.cohorts or ())
        message = f"no cohort is of {' and of '.join(filter(None, (models, cohorts)))}"
        remedy = f"The fleet has: {', '.join(sorted({c.model.id for c in fleet}))}."
        yield (*loc, "gpu_models" if f.gpu_models else "cohorts"), message, remedy
