"""The cohorts of a scenario: one by one, again and again as a series, late, or from a list of nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from math import exp, inf
from typing import Any

from fleetsim.catalog import load_catalog
from fleetsim.errors import InputError
from fleetsim.gpu_model import GpuModel
from fleetsim.life.ladder import entry
from fleetsim.life.money import capex_usd_per_gpu
from fleetsim.life.spec import DelaySpec, EconomicsSpec, TierSpec
from fleetsim.node_list import NodeList, mib, milli
from fleetsim.reading import Fault, Loc, Reading, beside, locate, unknown
from fleetsim.records import GENERAL, Cohort, Site
from fleetsim.spec import CohortSpec, NodeListSpec, TopologySpec
from fleetsim.streams import stream
from fleetsim.units import duration_s, human, since
from fleetsim_traces.errors import TraceError

#: More nodes or cohorts than any fleet has: above this a scenario is a slip of the pen.
MAX_NODES = 2_000_000
MAX_COHORTS = 10_000


@dataclass(frozen=True)
class Setting:
    """What the cohorts of a scenario are read with: the rest of it."""

    sites: Mapping[str, Site]
    site_names: Sequence[str]  # right or not
    tiers: Sequence[TierSpec]
    economics: EconomicsSpec | None
    seed: int
    start: datetime
    horizon_s: float | None

    def rung(self, model: GpuModel, gpus_per_node: int) -> str:
        """The rung on which nodes begin by default."""
        return entry(model, self.tiers, gpus_per_node) or GENERAL

    def is_late(self, delivered_s: float) -> bool:
        return self.horizon_s is not None and delivered_s >= self.horizon_s


@dataclass
class Purchase:
    """The cohorts of a scenario.

    ``cohorts`` come within the run, and ``words`` say what they are, unless they are of a node list.
    ``planned`` are those that are to come within the run, with their places in the scenario; ``late`` are
    the names of those that come after it or are delayed beyond it, ``by_chance`` of those that chance may
    delay. ``names`` are those of all, right or not. It is ``whole`` unless some are not right in themselves.
    """

    cohorts: list[Cohort] = field(default_factory=list)
    words: list[CohortSpec] = field(default_factory=list)
    planned: list[tuple[Loc, Cohort]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    late: set[str] = field(default_factory=set)
    by_chance: set[str] = field(default_factory=set)
    whole: bool = True
    node_list: Mapping[str, Any] | None = None


def unfold(c: CohortSpec) -> list[str]:
    """The names of the cohorts that *c* stands for."""
    return [c.name] if c.series is None else [f"{c.name}-{n}" for n in range(1, c.series.count + 1)]


def read_cohorts(reading: Reading, words: Mapping[int, CohortSpec], given: Setting) -> Purchase:
    """The cohorts that *words* stand for, each right in itself, and problems with them."""
    found = Purchase()
    written = {c.name: c for c in words.values()}
    for name in reading.names("cohorts"):
        found.names += unfold(written[name]) if name in written else [name]
    if len(found.names) > MAX_COHORTS:
        message = f"{len(found.names):,} cohorts in all"
        reading.fault(("cohorts",), message, f"At most {MAX_COHORTS:,} can be simulated.")
        return found
    found.whole = "cohorts" not in reading.faulty
    for i, c in words.items():
        loc: Loc = ("cohorts", i)
        reading.faults(_faults(loc, c, given))
        model = reading.model((*loc, "gpu_model"), c.gpu_model)
        site = given.sites.get(c.site) if c.site is not None else next(iter(given.sites.values()))
        if model is None or site is None:
            found.whole = False
            continue
        if c.known_as is not None:
            reading.faults(_known_as((*loc, "known_as"), c.known_as, model, found.planned))
        _deliver(found, loc, c, _record(c, model, site, given), given)
    if (nodes := sum(c.nodes for c in found.cohorts)) > MAX_NODES:
        reading.fault(("cohorts",), f"{nodes:,} nodes in all", f"At most {MAX_NODES:,} can be simulated.")
    if found.planned and not found.cohorts and not reading.problems:
        message = "none is delivered before the horizon ends, as late as they are"
        reading.fault(("cohorts",), message, "Deliver one earlier, or lengthen the horizon.")
    return found


def _record(c: CohortSpec, model: GpuModel, site: Site, given: Setting) -> Cohort:
    """The first cohort of *c*, as it is planned."""
    per_node = c.gpus_per_node if c.gpus_per_node is not None else model.gpus_per_server
    capex = c.capex_usd_per_gpu
    until_s = -inf if c.contract_until is None else since(given.start, c.contract_until)
    return Cohort(
        c.name,
        model,
        site,
        c.nodes,
        per_node,
        since(given.start, c.delivered),
        duration_s(c.earlier_age),
        first_node=0,
        tenants=None if c.tenants is None else tuple(sorted(set(c.tenants))),
        known_as=c.known_as,
        cpu_milli=milli(c.cpus),
        memory_mib=mib(c.memory_gb),
        mig_gpus=c.mig_gpus,
        tier=c.tier if c.tier is not None else given.rung(model, per_node),
        burn_in_s=duration_s(c.burn_in),
        capex_usd_per_gpu=capex if capex is not None else capex_usd_per_gpu(model, given.economics),
        contract_until_s=until_s,
        ordered_s=None if c.ordered is None else since(given.start, c.ordered),
        series=None if c.series is None else c.name,
    )


def _deliver(found: Purchase, loc: Loc, c: CohortSpec, first: Cohort, given: Setting) -> None:
    """Take *first* and the cohorts that follow it, each as late as chance has it."""
    every_s = 0.0 if c.series is None else duration_s(c.series.every)
    at = sum(other.nodes for other in found.cohorts)
    for n, name in enumerate(unfold(c)):
        shift_s = n * every_s
        planned_s = first.delivered_s + shift_s
        if isinstance(c.delay, DelaySpec) and planned_s > 0:
            found.by_chance.add(name)
        cohort = replace(
            first,
            name=name,
            delivered_s=planned_s + _delay_s(c, name, planned_s, given.seed),
            contract_until_s=first.contract_until_s + shift_s,
            ordered_s=None if first.ordered_s is None else first.ordered_s + shift_s,
            first_node=at,
        )
        if not n or not given.is_late(planned_s):
            found.planned.append((loc, cohort))
        if given.is_late(max(planned_s, cohort.delivered_s)):
            found.late.add(name)
            continue
        found.cohorts.append(cohort)
        found.words.append(c.model_copy(update={"name": name}))
        at += cohort.nodes


def _delay_s(c: CohortSpec, name: str, planned_s: float, seed: int) -> float:
    """How late cohort *name* comes. Chance has no say in what stands there at the start."""
    if not isinstance(c.delay, DelaySpec):
        return duration_s(c.delay)
    if planned_s <= 0:
        return 0.0
    return duration_s(c.delay.median) * exp(c.delay.sigma * stream(seed, "delay", name).standard_normal())


def _faults(loc: Loc, c: CohortSpec, given: Setting) -> Iterator[Fault]:
    """Whatever is wrong with *c*, but for what its model has to do with."""
    if c.site is not None and c.site not in given.sites and c.site not in given.site_names:
        yield (*loc, "site"), *unknown("site", c.site, [*given.sites])
    if c.topology is not None:
        yield from _topology((*loc, "topology"), c.topology)
    delivered_s = since(given.start, c.delivered)
    if given.horizon_s is not None and delivered_s >= given.horizon_s:
        late = human(delivered_s - given.horizon_s)
        remedy = "Deliver it earlier, lengthen the horizon, or leave the cohort out."
        yield (*loc, "delivered"), f"{c.delivered!r} is {late} after the horizon ends", remedy
    elif given.horizon_s is not None and delivered_s + duration_s(c.burn_in) >= given.horizon_s:
        message = f"{c.burn_in!r} after delivery the horizon has ended"
        yield (*loc, "burn_in"), message, "Shorten it, deliver earlier, or lengthen the horizon."
    if c.ordered is not None and since(given.start, c.ordered) > delivered_s:
        message = f"{c.ordered!r} is after the delivery, {c.delivered!r}"
        yield (*loc, "ordered"), message, "Order it before it is delivered."
    if c.contract_until is not None and since(given.start, c.contract_until) <= delivered_s:
        message = f"{c.contract_until!r} is not after the delivery, {c.delivered!r}"
        yield (*loc, "contract_until"), message, "Give a later date, or leave it out."
    last_s = delivered_s + (duration_s(c.series.every) * (c.series.count - 1) if c.series else 0.0)
    if isinstance(c.delay, DelaySpec) and last_s <= 0:
        message = "it stands there at the start, so chance cannot delay it"
        yield (*loc, "delay"), message, "Leave it out, or deliver it later."


def _topology(loc: Loc, topology: TopologySpec) -> Iterator[Fault]:
    """Blocks must lie within each other, and a longer way must not cost less."""
    rack, domain = topology.nodes_per_rack, topology.nodes_per_domain
    if rack is not None and rack % domain:
        remedy = f"A multiple of {domain}: give a domain that spans racks as one rack."
        yield (*loc, "nodes_per_rack"), f"{rack} is no whole number of domains of {domain}", remedy
    for (near, less), (far, more) in pairwise(topology.penalty.model_dump().items()):
        if more < less:
            message = f"{more:g}, but to stay nearer, {near}, costs {less:g}"
            yield (*loc, "penalty", far), message, f"Give {far} at least {less:g}."


def _known_as(loc: Loc, name: str, model: GpuModel, others: Sequence[tuple[Loc, Cohort]]) -> Iterator[Fault]:
    """What a cohort is known as must be one thing."""
    if name in load_catalog():
        yield loc, f"{name!r} is a model of the catalogue", "Leave it out, or take another name."
    for other in {c.model.id: c for _, c in others if c.known_as == name and c.model != model}.values():
        message = f"{name!r} is {other.model.id} in cohort {other.name}"
        yield loc, message, "A name stands for one model of the catalogue."


def read_node_list(reading: Reading, given: Setting) -> Purchase:
    """The cohorts of a list of nodes; none if anything is wrong with it."""
    loc: Loc = ("node_list",)
    spec = reading.one("node_list", NodeListSpec)
    if spec is None:
        return Purchase()
    before = len(reading.problems)
    if reading.raw.get("cohorts"):
        reading.fault(loc, "`cohorts` are given too", "Keep one of the two.")
    name = spec.site if spec.site is not None else next(iter(given.sites))
    if name not in given.sites and name not in given.site_names:
        reading.fault((*loc, "site"), *unknown("site", name, [*given.sites]))
    delivered_s = since(given.start, spec.delivered)
    if given.horizon_s is not None and delivered_s >= given.horizon_s:
        message = f"{spec.delivered!r} is {human(delivered_s - given.horizon_s)} after the horizon ends"
        reading.fault((*loc, "delivered"), message, "Deliver them earlier, or lengthen the horizon.")
    if (path := locate(reading.roots, spec.file)) is None:
        reading.fault((*loc, "file"), f"no node list {spec.file!r}", beside(reading.roots))
        return Purchase()
    try:
        nodes = NodeList.read(path, spec.bad_rows)
        models = nodes.models(spec.gpu_names or {}, reading.where((*loc, "gpu_names")))
    except (InputError, TraceError) as error:
        reading.problems += error.problems
        return Purchase()
    if not nodes.kinds:
        reading.fault((*loc, "file"), "no node of the list has GPUs", "Is it the right file?")
    if len(reading.problems) > before or name not in given.sites:
        return Purchase()
    cohorts = [
        replace(
            c,
            tier=given.rung(c.model, c.gpus_per_node),
            capex_usd_per_gpu=capex_usd_per_gpu(c.model, given.economics),
        )
        for c in nodes.cohorts(models, given.sites[name], delivered_s, duration_s(spec.earlier_age))
    ]
    planned: list[tuple[Loc, Cohort]] = [(loc, c) for c in cohorts]
    return Purchase(cohorts, [], planned, [c.name for c in cohorts], node_list=nodes.facts)
