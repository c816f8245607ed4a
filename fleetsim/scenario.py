"""Reading scenarios: find, override, validate, and say every problem at once with its place and remedy."""

from __future__ import annotations

import typing
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from fleetsim import assets, safeyaml, sharing_rules, tenancy, units
from fleetsim.catalog import GpuModel, load_catalog
from fleetsim.errors import InputError, Problem
from fleetsim.node_list import NodeList, mib, milli
from fleetsim.policies.placement import COUNTING
from fleetsim.records import Cohort, Site
from fleetsim.spec import (
    AFRESH,
    BACKFILL,
    ESTIMATES,
    MAX_SPAN_Y,
    MAY_DEFRAGMENT,
    MAY_PREEMPT,
    ORDERED,
    PREEMPTS,
    CohortSpec,
    MaintenanceSpec,
    NodeListSpec,
    ReservationSpec,
    ScenarioSpec,
    SchedulerSpec,
    SiteSpec,
    Spec,
    TenantSpec,
    TopologySpec,
    WindowOfNodes,
    WorkloadSpec,
)
from fleetsim.streams import stream
from fleetsim_traces import READERS
from fleetsim_traces.errors import TraceError
from fleetsim_traces.generate import FAMILIES

Loc = tuple[str | int, ...]
S = TypeVar("S", bound=Spec)

#: More nodes than any fleet has: above this a scenario is a slip of the pen.
MAX_NODES = 2_000_000


@dataclass(frozen=True)
class Window:
    """Nodes of a cohort, and when they are kept from others: from ``at_s`` on, again ``every_s`` (0: once).

    From ``drain_s`` before no job starts on them. Those that still run at ``at_s`` are stopped if ``stop``;
    else a node is waited for until the last of its jobs was to end, as it looks at ``at_s``.
    """

    cohort: Cohort
    nodes: Sequence[int]
    at_s: float
    lasts_s: float
    every_s: float
    drain_s: float
    stop: bool


@dataclass(frozen=True)
class Scenario:
    """A scenario that can be run: the file's words (``spec``) and what they mean.

    ``horizon_s`` is None where the run lasts until the last job has ended. ``roots`` are the folders that
    traces may lie in; relative paths are looked up in them in order.
    """

    spec: ScenarioSpec
    place: str
    start: datetime
    horizon_s: float | None
    cohorts: tuple[Cohort, ...]
    references: tuple[GpuModel, ...]  # of the workloads, in order
    roots: tuple[Path, ...]
    maintenance: tuple[Window, ...] = ()
    reservations: tuple[Window, ...] = ()  # in the order of the file, as the words are
    node_list: Mapping[str, Any] | None = None  # where the nodes came from, if from a file

    def since_start_s(self, when: str | float) -> float:
        """Seconds from the start to a date or an offset."""
        return units.since(self.start, when)


def folder() -> Path:
    """The folder of the scenarios that ship with fleetsim."""
    return assets.folder("seeds") / "scenarios"


def bundled() -> list[str]:
    """Names of the scenarios that ship with fleetsim."""
    return sorted(path.stem for path in folder().glob("*.yaml"))


def find(name: str) -> Path:
    """The file of a scenario: a path, or the name of a bundled one. Raises :class:`InputError`."""
    path = Path(name)
    if path.is_file():
        return path
    if name in bundled():
        return folder() / f"{name}.yaml"
    hint = safeyaml.suggest(name, bundled())
    what = "is a folder" if path.is_dir() else "no such file or bundled scenario"
    raise InputError([Problem(name, what, f"{hint}Bundled are: {', '.join(bundled())}.")])


def read(name: str, overrides: Sequence[str] = (), roots: Sequence[Path] = ()) -> Scenario:
    """Read the scenario *name* (see :func:`find`) with *overrides* of the form ``path=value``.

    Raises :class:`InputError` with every problem found.
    """
    path = find(name)
    return parse(safeyaml.read_text(path), str(path), overrides, (path.parent, *roots))


def parse(text: str, place: str, overrides: Sequence[str] = (), roots: Sequence[Path] = ()) -> Scenario:
    """Read a scenario from *text*, which *place* names in messages. Raises :class:`InputError`."""
    raw, places = safeyaml.load_located(text, place)
    if not isinstance(raw, dict):
        raise InputError(
            [Problem(place, "a scenario is a mapping of keys", "See `fleetsim scenario show philly-small`.")]
        )
    reader = _Reader(place, dict(places), [root.resolve() for root in roots])
    for override in overrides:
        reader.override(raw, override)
    return reader.scenario(raw)


def locate(roots: Sequence[Path], name: str) -> Path | None:
    """The file or folder *name* in one of *roots*, where it must lie whatever links say; None if nowhere."""
    for root in roots:
        try:
            path = (root / name).resolve()
            found = path.exists()
        except (OSError, RuntimeError, ValueError):  # a loop of links, a name too long, a null byte
            continue
        if found and any(path.is_relative_to(allowed) for allowed in roots):
            return path
    return None


def json_schema() -> dict[str, Any]:
    """The JSON Schema of scenario files, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **ScenarioSpec.model_json_schema()}


class _Reader:
    """One reading of one scenario: collects problems, each with the place it came from."""

    def __init__(self, place: str, places: dict[Loc, str], roots: Sequence[Path]) -> None:
        self.place = place
        self.places = places
        self.roots = roots
        self.problems: list[Problem] = []

    def fault(self, loc: Loc, message: str, remedy: str = "") -> None:
        self.problems.append(Problem(self.where(loc), message, remedy))

    def where(self, loc: Loc) -> str:
        """``file:line:column path`` of *loc*, or of its nearest parent that stands in the file."""
        place = next(
            (self.places[loc[:n]] for n in range(len(loc), -1, -1) if loc[:n] in self.places), self.place
        )
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in loc).lstrip(".")
        return f"{place} {path}".rstrip()

    def override(self, raw: dict[str, Any], text: str) -> None:
        """Apply ``path=value``: steps are keys, list indexes, or the ``name`` of a list's element."""
        path, sign, value = text.partition("=")
        place = f"--set {text}"
        if not sign or not path:
            self.problems.append(
                Problem(place, "not of the form path=value", "For example: --set cohorts.a100.nodes=4")
            )
            return
        at: Any = raw
        loc: Loc = ()
        steps = path.strip().split(".")
        if len(steps) > safeyaml.MAX_DEPTH:
            message = f"a path of {len(steps)} steps"
            self.problems.append(Problem(f"--set {path[:40]}...", message, f"At most {safeyaml.MAX_DEPTH}."))
            return
        for n, step in enumerate(steps):
            last = n == len(steps) - 1
            key: str | int = step
            if isinstance(at, list):
                names = [e.get("name") if isinstance(e, dict) else None for e in at]
                if step in names:
                    key = names.index(step)
                elif step.isdecimal() and int(step) < len(at):
                    key = int(step)
                else:
                    known = ", ".join(str(name) for name in names if name) or f"0 to {len(at) - 1}"
                    self.problems.append(
                        Problem(
                            place, f"no element {step!r} in {'.'.join(steps[:n])}", f"There are: {known}."
                        )
                    )
                    return
            elif isinstance(at, dict):
                if not last and step not in at:
                    at[step] = {}
                    self.places[(*loc, step)] = place
            else:
                self.problems.append(Problem(place, f"{'.'.join(steps[:n])} holds no keys"))
                return
            loc = (*loc, key)
            if last:
                try:
                    at[key] = safeyaml.load_yaml(value, place)
                except InputError as error:
                    self.problems += error.problems
                for stale in [known for known in self.places if known[: len(loc)] == loc]:
                    del self.places[stale]  # what stood there and below it in the file
                self.places[loc] = place
            else:
                at = at[key]

    def scenario(self, raw: dict[str, Any]) -> Scenario:
        spec: ScenarioSpec | None = None
        try:
            spec = ScenarioSpec.model_validate(raw)
        except ValidationError as error:
            for loc, fault in {_loc(fault): fault for fault in error.errors(include_url=False)}.items():
                self.fault(loc, *_explain(fault))
        names = {
            section: _names(raw.get(section)) for section in ("sites", "cohorts", "tenants", "workloads")
        }
        for section, found in names.items():
            for name, count in Counter(found).items():
                if count > 1:
                    self.fault(
                        (section,),
                        f"the name {name!r} occurs {count} times",
                        "Names are unique in a section.",
                    )

        try:
            start = units.instant(str(raw.get("start")))
        except ValueError:
            start = units.instant("2000-01-01")  # the fault is reported already; the other checks go on
        horizon_s = self._horizon(raw.get("horizon"), start)
        valid_sites = [*self._valid(raw, "sites", SiteSpec)] or [(0, SiteSpec(name="main"))]
        sites = {site.name: site for _, site in valid_sites}
        cohorts = self._cohorts(raw, sites, names["sites"], start, horizon_s)
        nodes: NodeList | None = None
        if raw.get("node_list") is not None:
            nodes, listed = self._node_list(raw, sites, names["sites"], start, horizon_s)
            cohorts += listed
            names["cohorts"] += [c.name for c in listed]
        elif raw.get("cohorts", []) == []:
            message = "needs at least 1 item, not []" if "cohorts" in raw else "missing"
            self.fault(("cohorts",), message, "Say what the fleet is, or give a `node_list`.")
        self._power(cohorts, valid_sites)
        fleet = set().union(*(c.names for c in cohorts))
        references = self._workloads(raw, names["tenants"], fleet, start, horizon_s)
        for i, tenant in self._valid(raw, "tenants", TenantSpec):
            self._models(("tenants", i, "gpu_models"), tenant.gpu_models, fleet)
        rules = self._scheduler(raw.get("scheduler"))
        if rules or raw.get("scheduler") is None:
            for loc, message, remedy in sharing_rules.faults(
                rules or SchedulerSpec(),
                dict(self._valid(raw, "tenants", TenantSpec)),
                dict(self._valid(raw, "cohorts", CohortSpec)),
                cohorts,
                dict(self._valid(raw, "workloads", WorkloadSpec)),
                [section for section, said in raw.items() if said],
            ):
                self.fault(loc, message, remedy)
        for loc, message, remedy in tenancy.faults(
            dict(self._valid(raw, "tenants", TenantSpec)),
            names["tenants"],
            dict(self._valid(raw, "cohorts", CohortSpec)),
            cohorts,
            dict(self._valid(raw, "workloads", WorkloadSpec)),
            rules,
        ):
            self.fault(loc, message, remedy)
        if spec and spec.scheduler.placement == "topology" and not any(c.topology for c in spec.cohorts):
            remedy = "Give one `topology`, for example {nodes_per_rack: 4}; or take `consolidate`."
            self.fault(("scheduler", "placement"), "no cohort says how its nodes are connected", remedy)
        windows = self._windows(raw, cohorts, names, start, horizon_s)
        if self.problems or spec is None:
            raise InputError(self.problems)
        spec = _seeded(spec)
        return Scenario(
            spec, self.place, start, horizon_s, tuple(cohorts), tuple(references),
            tuple(self.roots), *windows, nodes.facts if nodes else None,
        )  # fmt: skip

    def _horizon(self, raw: object, start: datetime) -> float | None:
        """The horizon in s; None for one that drains, and for one whose fault is reported already."""
        try:
            horizon_s = units.duration_s(raw) if isinstance(raw, (str, float, int)) else 0.0
        except ValueError:
            return None
        if not 0 < horizon_s <= MAX_SPAN_Y * units.YEAR_S:
            return None
        try:
            units.at(start, horizon_s)
        except OverflowError:
            self.fault(("horizon",), f"{raw!r} ends beyond the year 9999", "Start earlier or end earlier.")
        return horizon_s

    def _valid(self, raw: Mapping[str, Any], section: str, kind: type[S]) -> Iterator[tuple[int, S]]:
        """The elements of a section that are right in themselves, with their index."""
        elements = raw.get(section)
        adapter = TypeAdapter(kind)
        for i, element in enumerate(elements if isinstance(elements, list) else []):
            try:
                yield i, adapter.validate_python(element)
            except ValidationError:
                continue  # reported with the whole

    def _cohorts(
        self,
        raw: dict[str, Any],
        sites: dict[str, SiteSpec],
        site_names: list[str],
        start: datetime,
        horizon_s: float | None,
    ) -> list[Cohort]:
        catalog = load_catalog()
        cohorts: list[Cohort] = []
        first_node = 0
        for i, c in self._valid(raw, "cohorts", CohortSpec):
            loc: Loc = ("cohorts", i)
            site = c.site if c.site is not None else next(iter(sites))
            if site not in sites:
                if site not in site_names:
                    remedy = f"{safeyaml.suggest(site, sites)}Sites are: {', '.join(sites)}."
                    self.fault((*loc, "site"), f"no site {site!r}", remedy)
                continue
            delivered_s = units.since(start, c.delivered)
            if horizon_s is not None and delivered_s >= horizon_s:
                remedy = "Deliver it earlier, lengthen the horizon, or leave the cohort out."
                late = units.human(delivered_s - horizon_s)
                self.fault((*loc, "delivered"), f"{c.delivered!r} is {late} after the horizon ends", remedy)
            if c.topology is not None:
                self._topology((*loc, "topology"), c.topology)
            try:
                model = catalog.find(c.gpu_model, self.where((*loc, "gpu_model")))
            except InputError as error:
                self.problems += error.problems
                continue
            per_node = c.gpus_per_node if c.gpus_per_node is not None else model.gpus_per_server
            record = Site(site, sites[site].pue)
            cohorts.append(
                Cohort(
                    c.name,
                    model,
                    record,
                    c.nodes,
                    per_node,
                    delivered_s,
                    units.duration_s(c.earlier_age),
                    first_node,
                    None if c.tenants is None else tuple(sorted(set(c.tenants))),
                    c.known_as,
                    milli(c.cpus),
                    mib(c.memory_gb),
                    c.mig_gpus,
                )
            )
            if c.known_as is not None:
                self._known_as((*loc, "known_as"), cohorts)
            first_node += c.nodes
        if first_node > MAX_NODES:
            self.fault(
                ("cohorts",), f"{first_node:,} nodes in all", f"At most {MAX_NODES:,} can be simulated."
            )
        return cohorts

    def _known_as(self, loc: Loc, cohorts: Sequence[Cohort]) -> None:
        """What the last of *cohorts* is known as must be one thing."""
        *others, cohort = cohorts
        name = str(cohort.known_as)
        if name in load_catalog():
            self.fault(loc, f"{name!r} is a model of the catalogue", "Leave it out, or take another name.")
        for other in others:
            if other.known_as == name and other.model != cohort.model:
                message = f"{name!r} is {other.model.id} in cohort {other.name}"
                self.fault(loc, message, "A name stands for one model of the catalogue.")

    def _node_list(
        self,
        raw: dict[str, Any],
        sites: dict[str, SiteSpec],
        site_names: list[str],
        start: datetime,
        horizon_s: float | None,
    ) -> tuple[NodeList | None, list[Cohort]]:
        """The cohorts of a list of nodes; none if anything is wrong with it."""
        loc: Loc = ("node_list",)
        try:
            spec = TypeAdapter(NodeListSpec).validate_python(raw["node_list"])
        except ValidationError:
            return None, []  # reported with the whole
        before = len(self.problems)
        if raw.get("cohorts"):
            self.fault(loc, "`cohorts` are given too", "Keep one of the two.")
        site = spec.site if spec.site is not None else next(iter(sites))
        if site not in sites and site not in site_names:
            remedy = f"{safeyaml.suggest(site, sites)}Sites are: {', '.join(sites)}."
            self.fault((*loc, "site"), f"no site {site!r}", remedy)
        delivered_s = units.since(start, spec.delivered)
        if horizon_s is not None and delivered_s >= horizon_s:
            late = units.human(delivered_s - horizon_s)
            message = f"{spec.delivered!r} is {late} after the horizon ends"
            self.fault((*loc, "delivered"), message, "Deliver them earlier, or lengthen the horizon.")
        path = locate(self.roots, spec.file)
        if path is None:
            roots = ", ".join(map(str, self.roots)) or "none"
            remedy = f"It lies beside its scenario or in a folder given with --traces (looked in: {roots})."
            self.fault((*loc, "file"), f"no node list {spec.file!r}", remedy)
            return None, []
        try:
            nodes = NodeList.read(path, spec.bad_rows)
            models = nodes.models(spec.gpu_names or {}, self.where((*loc, "gpu_names")))
        except (InputError, TraceError) as error:
            self.problems += error.problems
            return None, []
        if not nodes.kinds:
            self.fault((*loc, "file"), "no node of the list has GPUs", "Is it the right file?")
        if len(self.problems) > before or site not in sites:
            return None, []
        record = Site(site, sites[site].pue)
        return nodes, nodes.cohorts(models, record, delivered_s, units.duration_s(spec.earlier_age))

    def _topology(self, loc: Loc, topology: TopologySpec) -> None:
        """Blocks must lie within each other, and a longer way must not cost less."""
        rack, domain = topology.nodes_per_rack, topology.nodes_per_domain
        if rack is not None and rack % domain:
            remedy = f"A multiple of {domain}: give a domain that spans racks as one rack."
            self.fault((*loc, "nodes_per_rack"), f"{rack} is no whole number of domains of {domain}", remedy)
        factors = list(topology.penalty.model_dump().items())
        for (near, less), (far, more) in pairwise(factors):
            if more < less:
                message = f"{more:g}, but to stay nearer, {near}, costs {less:g}"
                self.fault((*loc, "penalty", far), message, f"Give {far} at least {less:g}.")

    def _scheduler(self, raw: object) -> SchedulerSpec | None:
        """Each option must be one of the queue that is chosen."""
        try:
            rules = SchedulerSpec.model_validate(raw)
        except ValidationError:
            return None  # reported with the whole, or left out
        queue, estimate = rules.queue, rules.estimate
        if queue in BACKFILL and estimate is None:
            message = f"missing: `{queue}` plans with run times"
            remedy = "Give {source: duration} for the true ones, or {source: trace} for the users' limits."
            self.fault(("scheduler", "estimate"), message, remedy)
        for key, given, queues in (
            ("estimate", estimate, ESTIMATES),
            ("depth", rules.depth, BACKFILL),
            ("on_misfit", rules.on_misfit, ORDERED),
        ):
            if given is not None and queue not in queues:
                message = f"means nothing to queue `{queue}`"
                self.fault(("scheduler", key), message, f"Leave it out, or take one of: {', '.join(queues)}.")
        plain = SchedulerSpec()
        for key, of_queue in (("las_thresholds_gpu_s", "las"), ("fair_share", "fair_share")):
            if queue != of_queue and getattr(rules, key) != getattr(plain, key):
                message = f"means nothing to queue `{queue}`"
                self.fault(("scheduler", key), message, f"Leave it out, or take `{of_queue}`.")
        preempts = queue in PREEMPTS or (rules.preemptive and queue in MAY_PREEMPT)
        if rules.preemptive and queue not in (*PREEMPTS, *MAY_PREEMPT):
            message = f"queue `{queue}` never stops a job"
            names = ", ".join((*PREEMPTS, *MAY_PREEMPT))
            self.fault(("scheduler", "preemptive"), message, f"Leave it out, or take one of: {names}.")
        if rules.admit == "count" and queue not in ("srtf", "srsf"):
            self.fault(("scheduler", "admit"), f"means nothing to queue `{queue}`", "Take srtf or srsf.")
        if rules.admit == "afresh" and not (preempts and queue in AFRESH):
            message = f"queue `{queue}` does not place running jobs anew"
            remedy = f"Take one of these, and set `preemptive` for the last three: {', '.join(AFRESH)}."
            self.fault(("scheduler", "admit"), message, remedy)
        if rules.restart.charge == "every_pass" and rules.admit != "afresh" and queue != "las":
            message = "jobs are interrupted in every pass only if they are placed afresh, or by queue `las`"
            self.fault(("scheduler", "restart", "charge"), message, "Add `admit: afresh`, or leave it out.")
        if queue == "max_min" and rules.interval is None:
            message = "missing: `max_min` works in rounds"
            self.fault(("scheduler", "interval"), message, "Give the length of a round: 6min.")
        if rules.interval is not None and units.duration_s(rules.interval) % 1:
            self.fault(("scheduler", "interval"), f"{rules.interval!r}", "Give whole seconds.")
        if rules.on_misfit is not None and rules.preemptive and queue != "quota":
            message = "means nothing to a queue that stops jobs: it starts whatever fits"
            self.fault(("scheduler", "on_misfit"), message, "Leave it or `preemptive` out.")
        if rules.defragment is not None and (queue not in MAY_DEFRAGMENT or rules.preemptive):
            message = f"`{queue}` keeps count of where running jobs are, so they cannot be moved"
            remedy = f"Leave it out, or take one of these, not preemptive: {', '.join(MAY_DEFRAGMENT)}."
            self.fault(("scheduler", "defragment"), message, remedy)
        if rules.defragment is not None and rules.placement in COUNTING:
            message = f"`{rules.placement}` places a gang on any free GPUs, so there is nothing to gain"
            self.fault(("scheduler", "defragment"), message, "Leave it out, or take best_fit.")
        if estimate is not None and estimate.default is not None and estimate.source != "trace":
            message = "every job has a run time to estimate from"
            self.fault(
                ("scheduler", "estimate", "default"), message, "Leave it out, or take `source: trace`."
            )
        if estimate is not None and estimate.seed is not None and not estimate.error:
            self.fault(("scheduler", "estimate", "seed"), "there is no `error` to draw", "Leave it out.")
        weights = rules.fair_share
        if queue == "fair_share" and not (
            weights.fair_share or weights.age or weights.size or weights.priority
        ):
            self.fault(("scheduler", "fair_share"), "all weights are 0", "Give one of the factors a weight.")
        return rules

    def _windows(
        self,
        raw: dict[str, Any],
        cohorts: Sequence[Cohort],
        names: Mapping[str, Sequence[str]],
        start: datetime,
        horizon_s: float | None,
    ) -> tuple[tuple[Window, ...], tuple[Window, ...]]:
        """Maintenance and reservations: which nodes, and when."""
        by_name = {c.name: c for c in cohorts}
        owners = {c.name: c.tenants for _, c in self._valid(raw, "cohorts", CohortSpec)}  # as written
        reserved: Counter[str] = Counter()  # nodes, by cohort
        found: tuple[list[Window], list[Window]] = [], []
        for i, m in self._valid(raw, "maintenance", MaintenanceSpec):
            loc: Loc = ("maintenance", i)
            if (cohort := self._cohort_of(loc, m, by_name, names["cohorts"])) is not None:
                count = m.nodes if m.nodes is not None else max(1, cohort.nodes - m.first)
                if m.first + count > cohort.nodes:
                    remedy = f"It has {cohort.nodes}, numbered from 0."
                    message = f"the last would be node {m.first + count - 1} of {cohort.name}"
                    self.fault((*loc, "first" if m.nodes is None else "nodes"), message, remedy)
                else:
                    nodes = cohort.node_numbers[m.first : m.first + count]
                    found[0].append(self._window(loc, m, cohort, nodes, start, horizon_s))
        for i, r in self._valid(raw, "reservations", ReservationSpec):
            loc = ("reservations", i)
            if (r.nodes is None) == (r.gpus is None):
                self.fault(loc, "needs one of `nodes` and `gpus`", "Say how much is reserved.")
            if names["tenants"] and r.tenant not in names["tenants"]:
                known = names["tenants"]
                remedy = f"{safeyaml.suggest(r.tenant, known)}Tenants are: {', '.join(known)}."
                self.fault((*loc, "tenant"), f"no tenant {r.tenant!r}", remedy)
            if (cohort := self._cohort_of(loc, r, by_name, names["cohorts"])) is not None:
                theirs = owners.get(cohort.name)
                if theirs is not None and r.tenant not in theirs:
                    message = f"{r.tenant!r} may not run on cohort {cohort.name}"
                    self.fault((*loc, "tenant"), message, f"It belongs to {', '.join(theirs)}.")
                count = r.nodes if r.nodes is not None else -(-(r.gpus or 1) // cohort.gpus_per_node)
                first = reserved[cohort.name]
                reserved[cohort.name] += count
                if first + count > cohort.nodes:
                    message = f"{first + count} nodes reserved in all, but {cohort.name} has {cohort.nodes}"
                    self.fault((*loc, "gpus" if r.nodes is None else "nodes"), message, "Reserve fewer.")
                else:
                    nodes = cohort.node_numbers[first : first + count]
                    found[1].append(self._window(loc, r, cohort, nodes, start, horizon_s))
        return tuple(found[0]), tuple(found[1])

    def _cohort_of(
        self, loc: Loc, w: WindowOfNodes, by_name: Mapping[str, Cohort], known: Sequence[str]
    ) -> Cohort | None:
        if w.cohort not in known:
            remedy = f"{safeyaml.suggest(w.cohort, known)}Cohorts are: {', '.join(known)}."
            self.fault((*loc, "cohort"), f"no cohort {w.cohort!r}", remedy)
        return by_name.get(w.cohort)

    def _window(
        self,
        loc: Loc,
        w: WindowOfNodes,
        cohort: Cohort,
        nodes: Sequence[int],
        start: datetime,
        horizon_s: float | None,
    ) -> Window:
        at_s, lasts_s, drain_s = (
            units.since(start, w.at),
            units.duration_s(w.lasts),
            units.duration_s(w.drain),
        )
        every_s = units.duration_s(w.every) if w.every is not None else 0.0
        if at_s < 0 or (horizon_s is not None and at_s >= horizon_s):
            self.fault((*loc, "at"), f"{w.at!r} lies outside the run", "Begin between 0 and the horizon.")
        elif cohort.delivered_s > 0 and at_s - drain_s <= cohort.delivered_s:
            remedy = "Begin later, or drain for a shorter time."
            self.fault((*loc, "at"), f"{cohort.name} is delivered only after the nodes are to drain", remedy)
        if w.every is not None and every_s <= drain_s + lasts_s:
            message = f"{w.every!r} leaves no time between windows with the time they drain"
            self.fault((*loc, "every"), message, f"More than {units.human(drain_s + lasts_s)}.")
        if w.every is not None and w.stop and horizon_s is None:
            message = "may stop a job for ever, since the horizon is `drain`"
            self.fault((*loc, "every"), message, "Give a horizon, or leave `stop` out.")
        return Window(cohort, nodes, at_s, lasts_s, every_s, drain_s, w.stop)

    def _power(self, cohorts: Sequence[Cohort], sites: Sequence[tuple[int, SiteSpec]]) -> None:
        """The servers of a site, all delivered, must not be able to draw more than the site has."""
        for i, site in sites:
            needed_kw = sum(
                c.nodes * c.gpus_per_node * c.model.slot_kw_per_gpu
                for c in cohorts
                if c.site.name == site.name
            )
            if site.it_power_kw is not None and needed_kw > site.it_power_kw:
                message = f"{site.it_power_kw:,g} kW, but its servers reserve {needed_kw:,.1f} kW"
                self.fault(
                    ("sites", i, "it_power_kw"),
                    message,
                    "Place fewer nodes there or give the site more power.",
                )

    def _models(self, loc: Loc, models: Sequence[str] | None, fleet: Collection[str]) -> None:
        """Each must be a model of the catalogue, or what one of the *fleet* is known as."""
        for i, model in enumerate(models or ()):
            if model in fleet:
                continue
            try:
                load_catalog().find(model, self.where((*loc, i)))
            except InputError as error:
                self.problems += error.problems

    def _workloads(
        self,
        raw: dict[str, Any],
        tenants: list[str],
        fleet: set[str],
        start: datetime,
        horizon_s: float | None,
    ) -> list[GpuModel]:
        references: list[GpuModel] = []
        for i, w in self._valid(raw, "workloads", WorkloadSpec):
            loc: Loc = ("workloads", i)
            if (w.trace is None) == (w.generate is None):
                self.fault(
                    loc,
                    "needs one of `trace` and `generate`",
                    "Name a trace file or sample, or generate jobs.",
                )
            if w.format not in ("auto", *READERS):
                remedy = f"{safeyaml.suggest(w.format, READERS)}Formats are: auto, {', '.join(READERS)}."
                self.fault((*loc, "format"), f"no format {w.format!r}", remedy)
            if w.generate is not None and w.generate.family not in FAMILIES:
                known = ", ".join(FAMILIES)
                remedy = f"{safeyaml.suggest(w.generate.family, FAMILIES)}Families are: {known}."
                self.fault((*loc, "generate", "family"), f"no family {w.generate.family!r}", remedy)
            if w.generate is not None and w.columns is not None:
                self.fault((*loc, "columns"), "a generated workload has no columns to map", "Leave it out.")
            if w.tenant is not None and w.tenants is not None:
                self.fault((*loc, "tenants"), "`tenant` is given too", "Keep one of the two.")
            for key, named in (
                ("tenant", [w.tenant] if w.tenant else []),
                ("tenants", list(w.tenants or ())),
            ):
                for tenant in named:
                    if tenants and tenant not in tenants:
                        remedy = f"{safeyaml.suggest(tenant, tenants)}Tenants are: {', '.join(tenants)}."
                        self.fault((*loc, key), f"no tenant {tenant!r}", remedy)
            sources = [source for named in (w.tenants or {}).values() for source in named]
            for source, count in Counter(sources).items():
                if count > 1:
                    self.fault(
                        (*loc, "tenants"), f"{source!r} is mapped {count} times", "Map it to one tenant."
                    )
            low, high = w.select.min_gpus, w.select.max_gpus
            if low is not None and high is not None and low > high:
                self.fault(
                    (*loc, "select"), f"min_gpus {low} is above max_gpus {high}", "Nothing would be left."
                )
            if w.window.end is not None and units.duration_s(w.window.end) <= units.duration_s(
                w.window.start
            ):
                self.fault((*loc, "window", "end"), f"{w.window.end!r} is not after the start of the window")
            starts_s = units.since(start, w.starts)
            if starts_s < 0 or (horizon_s is not None and starts_s >= horizon_s):
                self.fault(
                    (*loc, "starts"), f"{w.starts!r} lies outside the run", "Start between 0 and the horizon."
                )
            if w.repeat is not None and horizon_s is None and w.repeat.until is None:
                self.fault(
                    (*loc, "repeat"), "repeats for ever, since the horizon is `drain`", "Give `until`."
                )
            self._models((*loc, "gpu_models"), w.gpu_models, fleet)
            for name, models in (w.gpu_names or {}).items():
                self._models((*loc, "gpu_names", name), models, fleet)
            if w.gpu_models and fleet and not fleet & set(w.gpu_models):
                message = f"no cohort has any of {', '.join(w.gpu_models)}"
                self.fault((*loc, "gpu_models"), message, f"The fleet has: {', '.join(sorted(fleet))}.")
            try:
                references.append(load_catalog().find(w.reference_gpu, self.where((*loc, "reference_gpu"))))
            except InputError as error:
                self.problems += error.problems
        return references


def _seeded(spec: ScenarioSpec) -> ScenarioSpec:
    """The same, with a seed for the error of estimates."""
    estimate = spec.scheduler.estimate
    if estimate is None or not estimate.error or estimate.seed is not None:
        return spec
    seeded = estimate.model_copy(update={"seed": int(stream(spec.seed, "estimate").integers(2**31))})
    scheduler = spec.scheduler.model_copy(update={"estimate": seeded})
    return spec.model_copy(update={"scheduler": scheduler})


def _names(elements: object) -> list[str]:
    return [
        str(e["name"])
        for e in (elements if isinstance(elements, list) else [])
        if isinstance(e, dict) and "name" in e
    ]


def _loc(fault: Any) -> Loc:
    """Where a pydantic error belongs: errors of the branches of ``str | float`` are one."""
    loc: Loc = tuple(fault["loc"])
    return loc[:-1] if loc[-1] in ("str", "float") and fault["type"].endswith("_type") else loc


def _explain(fault: Any) -> tuple[str, str]:
    """Message and remedy of one pydantic error."""
    kind, context = fault["type"], fault.get("ctx", {})
    shown = safeyaml.show(fault["input"])
    match kind:
        case "extra_forbidden":
            known = _keys_at(fault["loc"][:-1])
            return (
                "unknown key",
                f"{safeyaml.suggest(str(fault['loc'][-1]), known)}Known: {', '.join(known)}.",
            )
        case "missing":
            return "missing", "Give it a value; `fleetsim scenario schema` lists every key."
        case "value_error":
            return str(context["error"]), ""
        case "too_short":
            return "needs at least 1 item, not []", ""
        case "model_type":
            return f"a mapping of keys is needed, not {shown}", "Write {name: ..., ...}."
        case "string_type" | "float_type" if _loc(fault) != tuple(fault["loc"]):
            return f"a number or a text with units is needed, not {shown}", "For example: 90d, 36h, 1y6mo."
        case "string_pattern_mismatch":
            return f"{shown} is not a name", "Use letters, digits, '-', '_' and '.', 63 at most."
        case _:
            return f"{fault['msg'][:1].lower()}{fault['msg'][1:]}, not {shown}", ""


def _keys_at(loc: Sequence[str | int]) -> list[str]:
    """Keys that the specification knows at *loc*."""
    spec: type[Spec] = ScenarioSpec
    for step in loc:
        if isinstance(step, str) and step in spec.model_fields:
            spec = next(_specs_in(spec.model_fields[step].annotation))
    return list(spec.model_fields)


def _specs_in(annotation: Any) -> Iterator[type[Spec]]:
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _specs_in(part)
