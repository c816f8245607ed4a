"""What a scenario says of rungs, of going down them and of leaving the fleet, checked against the fleet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from fleetsim.catalog import load_catalog
from fleetsim.life import failure_rules, money_rules
from fleetsim.life.ladder import below, computes, entry, lacks, ladder, meets
from fleetsim.life.money import capex_usd_per_gpu
from fleetsim.life.spec import (
    CascadeSpec,
    EconomicsSpec,
    FailureSpec,
    RetirementSpec,
    SparesSpec,
    TierSpec,
)
from fleetsim.reading import Fault, Loc, unknown, unknown_model
from fleetsim.records import GENERAL, Cohort
from fleetsim.spec import CohortSpec, SchedulerSpec, WorkloadSpec
from fleetsim.units import duration_s


@dataclass(frozen=True)
class Life:
    """What a scenario says of the life of its nodes, as far as it is right in itself.

    Mappings are by index in the file. ``fleet`` is the cohorts that are to come, with their places, all of
    them if it is ``whole``; ``names`` are those that others may call them by, ``tenants`` and ``sections``
    likewise, right or not; ``faulty`` are sections of which some part is not right in itself.
    """

    tiers: Mapping[int, TierSpec]
    cascade: CascadeSpec | None
    retirement: RetirementSpec | None
    failures: Mapping[int, FailureSpec]
    spares: Mapping[int, SparesSpec]
    economics: EconomicsSpec | None
    cohorts: Mapping[int, CohortSpec]
    workloads: Mapping[int, WorkloadSpec]
    scheduler: SchedulerSpec | None
    fleet: Sequence[tuple[Loc, Cohort]]
    whole: bool
    names: Sequence[str]
    tenants: Sequence[str]
    sections: Sequence[str]
    faulty: frozenset[str]
    start: datetime
    drains: bool  # whether the run lasts until the last job has ended

    @property
    def everyone(self) -> list[Cohort]:
        """All cohorts, to see whether any of them is such and such; none if some are not known."""
        return [c for _, c in self.fleet] if self.whole else []

    @property
    def rungs(self) -> list[TierSpec]:
        return [*self.tiers.values()]

    @property
    def frees(self) -> bool:
        """Whether slots are freed, by retirement or sale."""
        sells = self.cascade is not None and self.cascade.enabled and any(t.for_sale for t in self.rungs)
        return sells or "retirement" in self.sections

    def stands(self, cohort: Cohort, descends: bool) -> list[str]:
        """The rungs on which *cohort* can stand, from the one it begins on; lower ones if it *descends*."""
        if not self.tiers:
            return [GENERAL]
        by_name = {t.name: t for t in self.rungs}
        names = [cohort.tier, *(below(self.rungs, cohort.tier) if descends else ())]
        rungs = [by_name[name] for name in names if name in by_name]
        return [t.name for t in rungs if not t.for_sale and meets(cohort.model, t, cohort.gpus_per_node)]


def faults(life: Life) -> Iterator[Fault]:
    """Everything wrong with the life of the nodes."""
    yield from _tiers(life)
    if "tiers" not in life.faulty:
        yield from _ladder(life)
        yield from _standing(life)
        yield from _admission(life)
    if life.cascade is not None:
        yield from _cascade(life, life.cascade)
    if life.retirement is not None:
        yield from _retirement(life, life.retirement)
    whole = "failures" not in life.faulty
    yield from failure_rules.faults(life.failures, life.spares, life.everyone, life.names, whole)
    if life.economics is not None:
        names = [t.name for t in life.rungs] or [GENERAL]
        yield from money_rules.faults(life.economics, names, life.cohorts, life.start)
    if not life.faulty.intersection(("tiers", "economics", "cascade", "retirement")):
        yield from _prices(life)
    yield from _together(life)


def _tiers(life: Life) -> Iterator[Fault]:
    """Each rung alone."""
    names = [t.name for t in life.rungs]
    for i, t in life.tiers.items():
        loc: Loc = ("tiers", i)
        if t.max_gpus is not None and t.min_gpus > t.max_gpus:
            message = f"min_gpus {t.min_gpus} is above max_gpus {t.max_gpus}: it admits no job"
            yield (*loc, "max_gpus"), message, "Raise it, or lower min_gpus."
        for k, name in enumerate(t.tenants or ()):
            if life.tenants and name not in life.tenants:
                yield (*loc, "tenants", k), *unknown("tenant", name, life.tenants)
        if t.next is not None and t.next not in names and "tiers" not in life.faulty:
            yield (*loc, "next"), *unknown("tier", t.next, names)
        if t.for_sale:
            plain = TierSpec(name=t.name)
            for key in ("next", "classes", "min_gpus", "max_gpus", "tenants", "latency", "leave_at"):
                if getattr(t, key) != getattr(plain, key):
                    yield (
                        (*loc, key),
                        "what comes to a rung for sale is sold, and runs nothing",
                        "Leave it out.",
                    )
        elif life.everyone and not any(meets(c.model, t, c.gpus_per_node) for c in life.everyone):
            lacking = dict.fromkeys(
                f"{c.model.id}: {lack}" for c in life.everyone for lack in lacks(c.model, t, c.gpus_per_node)
            )
            yield loc, f"no cohort may stand there: {'; '.join(lacking)}", "Ask for less, or leave it out."


def _ladder(life: Life) -> Iterator[Fault]:
    """Ladders end, and nodes leave a rung no earlier than those above it."""
    at = {t.name: (i, t) for i, t in life.tiers.items()}
    round_ = _circle(life.rungs)
    if round_:
        chain = " -> ".join((*round_, round_[0]))
        place: Loc = ("tiers", at[round_[-1]][0], "next")
        yield place, f"the ladder goes round: {chain}", "It must end: change one `next`."
    for name, (i, t) in at.items():
        if t.leave_at is None or t.for_sale:
            continue
        lower = below(life.rungs, name)
        loc: Loc = ("tiers", i, "leave_at")
        if "cascade" not in life.faulty and (life.cascade is None or life.cascade.rule != "age"):
            remedy = "Give `cascade: {rule: age}`, or leave it out."
            yield loc, "nothing goes down the ladder by age", remedy
        elif not lower:
            yield loc, f"there is no rung below {name}", "Leave it out."
        if round_:
            continue
        for other, leave_at in ((r, at[r][1].leave_at) for r in lower if r in at):
            if leave_at is None:
                continue
            if duration_s(leave_at) < duration_s(t.leave_at):
                message = f"{leave_at!r}, but {name} above it is left at {t.leave_at!r}"
                yield ("tiers", at[other][0], "leave_at"), message, "A rung further down is left later."
            break  # what is below that one is compared with it


def _circle(tiers: Sequence[TierSpec]) -> list[str]:
    """The rungs of a circle in the ladder, from the first in the list on; none if every ladder ends."""
    down = ladder(tiers)
    for t in tiers:
        lower = below(tiers, t.name)
        if down.get(lower[-1] if lower else t.name) == t.name:
            return [t.name, *lower]
    return []


def _standing(life: Life) -> Iterator[Fault]:
    """Each cohort must begin on a rung whose needs it meets."""
    by_name = {t.name: t for t in life.rungs}
    said: dict[Loc, str | None] = {("cohorts", i): c.tier for i, c in life.cohorts.items()}
    for loc, tier in said.items():
        if tier is None:
            continue
        if not by_name:
            if "tiers" not in life.sections:
                yield (
                    (*loc, "tier"),
                    f"{tier!r}, but the scenario has no ladder",
                    "Give `tiers`, or leave it out.",
                )
        elif tier not in by_name:
            yield (*loc, "tier"), *unknown("tier", tier, [*by_name])
        elif by_name[tier].for_sale:
            yield (*loc, "tier"), f"{tier!r} is for sale: nothing stands there", "Take another rung."
    each = {(loc, c.model.id, c.gpus_per_node): c for loc, c in life.fleet}  # one of each series
    for (loc, _, _), c in each.items():
        tier = said.get(loc)
        if tier in by_name:
            if lacking := [*lacks(c.model, by_name[tier], c.gpus_per_node)]:
                message = f"{c.model.id} may not stand on {tier!r}: {', '.join(lacking)}"
                yield (*loc, "tier"), message, "Take another rung, or ask for less there."
        elif by_name and tier is None and entry(c.model, life.rungs, c.gpus_per_node) is None:
            lacking = [f"{t.name}: {x}" for t in life.rungs for x in lacks(c.model, t, c.gpus_per_node)]
            message = f"{c.model.id} may stand on no rung: {'; '.join(lacking)}"
            key = "gpu_model" if loc[0] == "cohorts" else "file"
            yield (*loc, key), message, "Give a rung that asks for less, or leave the cohort out."


def _admission(life: Life) -> Iterator[Fault]:
    """Some rung must admit the jobs of a workload, as far as it is known what they are."""
    rungs = [t for t in life.rungs if not t.for_sale]
    for i, w in life.workloads.items():
        loc: Loc = ("workloads", i)
        if life.everyone and not any(computes(c.model, w.data_type) for c in life.everyone):
            models = ", ".join(sorted({c.model.id for c in life.everyone}))
            message = f"no cohort computes with {w.data_type} in hardware"
            yield (*loc, "data_type"), message, f"The fleet has: {models}."
        if not rungs:
            continue
        which = w.workload_class
        admit = [t for t in rungs if which is None or t.classes is None or which in t.classes]
        what = "jobs" if which is None else f"{which} jobs"
        if not admit:
            some = dict.fromkeys(name for t in rungs for name in t.classes or ())
            message = f"no rung admits {which}"
            yield (*loc, "workload_class"), message, f"The rungs admit: {', '.join(some)}."
            continue
        if w.latency == "strict" and all(t.latency == "relaxed" for t in admit):
            names = ", ".join(t.name for t in admit)
            message = f"strict, but the rungs that admit its {what} are relaxed: {names}"
            yield (*loc, "latency"), message, "Give one of them `latency: strict`, or leave it out."
        if w.tenant is not None and all(t.tenants is not None and w.tenant not in t.tenants for t in admit):
            names = ", ".join(t.name for t in admit)
            message = f"no rung that admits its {what} admits {w.tenant!r}: {names}"
            yield (*loc, "tenant"), message, "Let one of them admit it."


def _cascade(life: Life, cascade: CascadeSpec) -> Iterator[Fault]:
    """Each option must be one of the rule that is chosen."""
    if len(life.rungs) < 2 and "tiers" not in life.faulty:
        message = "there is no rung to go down to"
        yield ("cascade",), message, "Give two `tiers` or more, or leave it out."
    elif cascade.rule == "age" and "tiers" not in life.faulty and all(t.leave_at is None for t in life.rungs):
        message = "age, but no rung says at which"
        yield ("cascade", "rule"), message, "Give one of the tiers `leave_at`: 18mo."
    plain = CascadeSpec()
    for key, rules in (
        ("successors", ("successor",)),
        ("review", ("pressure", "margin")),
        ("step", ("pressure",)),
        ("min_wait", ("pressure",)),
    ):
        if cascade.rule not in rules and getattr(cascade, key) != getattr(plain, key):
            message = f"means nothing to rule `{cascade.rule}`"
            yield ("cascade", key), message, f"Leave it out, or take one of: {', '.join(rules)}."
    if cascade.rule == "successor" and cascade.unit == "node":
        message = "node, but a successor pushes whole cohorts down"
        yield ("cascade", "unit"), message, "Take `cohort`, or another rule."


def _retirement(life: Life, retirement: RetirementSpec) -> Iterator[Fault]:
    """Likewise, and what a rule needs must be there."""
    rule, plain = retirement.rule, RetirementSpec(rule="cash_out")
    for key, rules, example in (
        ("age", ("fixed_age",), "5y"),
        ("successor", ("naive", "slot"), "b200-sxm-180"),
        ("failures", ("failure",), "3"),
        ("retrofit_usd_per_kw", ("slot",), None),
        ("review", ("cash_out", "naive", "slot"), None),
    ):
        given = getattr(retirement, key)
        if rule in rules and given is None and example is not None:
            yield ("retirement", key), f"missing: `{rule}` needs it", f"For example: {key}: {example}."
        elif rule not in rules and given != getattr(plain, key):
            message = f"means nothing to rule `{rule}`"
            yield ("retirement", key), message, f"Leave it out, or take one of: {', '.join(rules)}."
    if rule == "failure" and life.everyone and "failures" not in life.faulty:
        hit = (f for f in life.failures.values() if f.unit != "job")
        if not any(failure_rules.concerns(f, life.everyone) for f in hit):
            message = "failure, but nothing in the scenario makes a node fail"
            yield (
                ("retirement", "rule"),
                message,
                "Give `failures` of unit node or gpu, or take another rule.",
            )
    if retirement.successor is not None:
        loc: Loc = ("retirement", "successor")
        yield from unknown_model(loc, retirement.successor)
        model = load_catalog().get(retirement.successor)
        if model and rule == "slot" and capex_usd_per_gpu(model, life.economics) is None:
            message = f"nobody says what a GPU of {model.id} costs"
            remedy = "Give its capex_usd_per_gpu in the gpu_models of `economics`."
            yield loc, message, remedy


def _prices(life: Life) -> Iterator[Fault]:
    """What rules look up must be there: the rent of models on rungs."""
    descends = life.cascade is not None and life.cascade.enabled
    needed: dict[tuple[str, str], str] = {}  # model and rung: what needs it
    cascade, retirement = life.cascade, life.retirement
    if cascade is not None and cascade.rule == "margin":
        for _, c in life.fleet:
            needed |= {(c.model.id, rung): "cascade by margin" for rung in life.stands(c, True)}
    if retirement is not None and retirement.rule in ("cash_out", "naive", "slot"):
        for _, c in life.fleet:
            for rung in life.stands(c, descends):
                for model in (c.model.id, retirement.successor):
                    if model is not None:
                        needed[model, rung] = f"retirement by {retirement.rule}"
    missing: dict[str, list[str]] = {}
    for (model, rung), why in needed.items():
        if life.economics is None or not money_rules.is_priced(life.economics, model, rung):
            missing.setdefault(why, []).append(f"{model} on {rung}")
    loc: Loc = ("economics", "prices") if life.economics is not None else ("economics",)
    for why, pairs in missing.items():
        yield (
            loc,
            f"no rent of {', '.join(pairs)}, which {why} needs",
            "Give `prices`: {usd_per_gpu_hour: 1.5}.",
        )


def _together(life: Life) -> Iterator[Fault]:
    """Things that do not go together."""
    if life.scheduler is not None and life.scheduler.sharing is not None:
        for section in ("tiers", "failures", "retirement"):
            if section in life.sections:
                yield (section,), "nodes cannot be taken away where GPUs are shared", "Leave it out."
        for i, c in life.cohorts.items():
            if duration_s(c.burn_in):
                message = "nodes cannot be kept from jobs where GPUs are shared"
                yield ("cohorts", i, "burn_in"), message, "Leave it out."
        for i, w in life.workloads.items():
            if w.data_type is not None:
                yield ("workloads", i, "data_type"), "not looked at where GPUs are shared", "Leave it out."
    if life.drains:
        yield from _endless(life)
    if "reservations" in life.sections:
        for section in ("cascade", "retirement"):
            if section in life.sections:
                message = f"nodes that are reserved cannot leave by `{section}`"
                yield ("reservations",), message, "Leave one of the two out."


def _endless(life: Life) -> Iterator[Fault]:
    """With `drain`, what goes on for ever while a job waits that may never run."""
    remedy = "Give a horizon."
    if life.cascade is not None and life.cascade.enabled and life.cascade.rule in ("pressure", "margin"):
        message = f"{life.cascade.rule} is looked at for ever if a job never runs: the horizon is `drain`"
        yield ("cascade", "rule"), message, remedy
    if life.retirement is not None:
        reviews = life.retirement.rule in ("cash_out", "naive", "slot")
        if reviews or life.economics is not None:
            message = "nodes leave, and a job may wait for ever: the horizon is `drain`"
            yield ("retirement", "rule"), message, remedy
    checkpoint = life.scheduler.restart.checkpoint if life.scheduler is not None else None
    for i, f in life.failures.items():
        if f.hazard and checkpoint == "never":
            message = "a job may begin again for ever, since no work is saved: the horizon is `drain`"
            yield ("failures", i, "hazard"), message, "Give a horizon, or an interval of checkpoints."
