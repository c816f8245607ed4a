"""Reading scenarios: find, override, validate, and say every problem at once with its place and remedy."""

from __future__ import annotations

import typing
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from fleetsim import assets, safeyaml, units
from fleetsim.catalog import GpuModel, load_catalog
from fleetsim.errors import InputError, Problem
from fleetsim.records import Cohort, Site
from fleetsim.spec import MAX_SPAN_Y, CohortSpec, ScenarioSpec, SiteSpec, Spec, TenantSpec, WorkloadSpec
from fleetsim_traces import READERS
from fleetsim_traces.generate import FAMILIES

Loc = tuple[str | int, ...]
S = TypeVar("S", bound=Spec)

#: More nodes than any fleet has: above this a scenario is a slip of the pen.
MAX_NODES = 2_000_000


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
    reader = _Reader(place, dict(places))
    for override in overrides:
        reader.override(raw, override)
    return reader.scenario(raw, roots)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of scenario files, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **ScenarioSpec.model_json_schema()}


class _Reader:
    """One reading of one scenario: collects problems, each with the place it came from."""

    def __init__(self, place: str, places: dict[Loc, str]) -> None:
        self.place = place
        self.places = places
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

    def scenario(self, raw: dict[str, Any], roots: Sequence[Path]) -> Scenario:
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
        self._power(cohorts, valid_sites)
        references = self._workloads(raw, names["tenants"], {c.model.id for c in cohorts}, start, horizon_s)
        for i, tenant in self._valid(raw, "tenants", TenantSpec):
            self._models(("tenants", i, "gpu_models"), tenant.gpu_models)
        if self.problems or spec is None:
            raise InputError(self.problems)
        return Scenario(
            spec, self.place, start, horizon_s, tuple(cohorts), tuple(references),
            tuple(root.resolve() for root in roots),
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
                )
            )
            first_node += c.nodes
        if first_node > MAX_NODES:
            self.fault(
                ("cohorts",), f"{first_node:,} nodes in all", f"At most {MAX_NODES:,} can be simulated."
            )
        return cohorts

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

    def _models(self, loc: Loc, models: Sequence[str] | None) -> None:
        for i, model in enumerate(models or ()):
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
            self._models((*loc, "gpu_models"), w.gpu_models)
            if w.gpu_models and fleet and not fleet & set(w.gpu_models):
                message = f"no cohort has any of {', '.join(w.gpu_models)}"
                self.fault((*loc, "gpu_models"), message, f"The fleet has: {', '.join(sorted(fleet))}.")
            try:
                references.append(load_catalog().find(w.reference_gpu, self.where((*loc, "reference_gpu"))))
            except InputError as error:
                self.problems += error.problems
        return references


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
