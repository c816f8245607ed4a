"""Reading scenarios: find, override, validate, and say every problem at once with its place and remedy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from fleetsim import (
    assets,
    safeyaml,
    scheduler_rules,
    sharing_rules,
    sites,
    tenancy,
    units,
    windows,
    workload_rules,
)
from fleetsim.catalog import GpuModel
from fleetsim.cohorts import Purchase, Setting, read_cohorts, read_node_list
from fleetsim.errors import InputError, Problem
from fleetsim.life import rules as life_rules
from fleetsim.life.spec import (
    CascadeSpec,
    EconomicsSpec,
    FailureSpec,
    RetirementSpec,
    SparesSpec,
    TierSpec,
)
from fleetsim.reading import Reading
from fleetsim.records import Cohort
from fleetsim.spec import (
    CohortSpec,
    MaintenanceSpec,
    ReservationSpec,
    ScenarioSpec,
    SchedulerSpec,
    SiteSpec,
    TenantSpec,
    WorkloadSpec,
)
from fleetsim.streams import stream
from fleetsim.windows import Window
from fleetsim.words import MAX_SPAN_Y


@dataclass(frozen=True)
class Scenario:
    """A scenario that can be run: the file's words (``spec``) and what they mean.

    ``cohorts`` are those that come within the run: each delivery of a series is one. ``horizon_s`` is None
    where the run lasts until the last job has ended. ``roots`` are the folders that traces may lie in;
    relative paths are looked up in them in order.
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
    cohort_words: tuple[CohortSpec, ...] = ()  # of the cohorts, in order; none of those of a node list

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
    reading = Reading(raw, place, places, [root.resolve() for root in roots])
    for override in overrides:
        reading.override(override)
    return _scenario(reading)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of scenario files, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **ScenarioSpec.model_json_schema()}


def _scenario(reading: Reading) -> Scenario:
    """What *reading* has found, checked; raises :class:`InputError` with every problem."""
    raw = reading.raw
    spec = reading.spec()
    try:
        start = units.instant(str(raw.get("start")))
    except ValueError:
        start = units.instant("2000-01-01")  # the fault is reported already; the other checks go on
    horizon_s = _horizon(reading, start)
    site_words = reading.valid("sites", SiteSpec) or {0: SiteSpec(name="main")}
    cohort_words = reading.valid("cohorts", CohortSpec)
    workloads = reading.valid("workloads", WorkloadSpec)
    tenants = reading.valid("tenants", TenantSpec)
    tiers = reading.valid("tiers", TierSpec)
    economics = reading.one("economics", EconomicsSpec)
    tenant_names = reading.names("tenants")
    given = Setting(
        sites.read_sites(reading, site_words),
        reading.names("sites"),
        [*tiers.values()],
        economics,
        spec.seed if spec else 0,
        start,
        horizon_s,
    )
    if raw.get("node_list") is not None:
        bought = read_node_list(reading, given)
    else:
        if raw.get("cohorts", []) == []:
            message = "needs at least 1 item, not []" if "cohorts" in raw else "missing"
            reading.fault(("cohorts",), message, "Say what the fleet is, or give a `node_list`.")
        bought = read_cohorts(reading, cohort_words, given)
    _unique(reading, bought)
    planned = [c for _, c in bought.planned]
    fleet = set().union(*(c.names for c in planned))
    reading.faults(workload_rules.faults(workloads, tenant_names, fleet, start, horizon_s))
    references = [
        model
        for i, w in workloads.items()
        if (model := reading.model(("workloads", i, "reference_gpu"), w.reference_gpu))
    ]
    for i, tenant in tenants.items():
        reading.faults(workload_rules.models(("tenants", i, "gpu_models"), tenant.gpu_models, fleet))
    rules = SchedulerSpec() if raw.get("scheduler") is None else reading.one("scheduler", SchedulerSpec)
    said = [section for section, words in raw.items() if words]
    if rules is not None:
        connected = spec is None or any(c.topology for c in spec.cohorts)
        reading.faults(scheduler_rules.faults(rules, connected, horizon_s is None))
        as_written = [replace(c, name=c.series or c.name) for c in planned]
        reading.faults(sharing_rules.faults(rules, tenants, cohort_words, as_written, workloads, said))
    reading.faults(tenancy.faults(tenants, tenant_names, cohort_words, planned, workloads, rules))
    life = life_rules.Life(
        tiers=tiers,
        cascade=reading.one("cascade", CascadeSpec),
        retirement=reading.one("retirement", RetirementSpec),
        failures=reading.valid("failures", FailureSpec),
        spares=reading.valid("spares", SparesSpec),
        economics=economics,
        cohorts=cohort_words,
        workloads=workloads,
        scheduler=rules,
        fleet=bought.planned,
        whole=bought.whole,
        names=[*dict.fromkeys([*bought.names, *reading.names("cohorts")])],
        tenants=tenant_names,
        sections=said,
        faulty=reading.faulty,
        start=start,
        drains=reading.raw.get("horizon") == "drain",
    )
    reading.faults(life_rules.faults(life))
    shares = rules is not None and rules.sharing is not None
    reading.faults(sites.faults(site_words, bought.planned, life.frees, len(tiers), shares))
    by_name = {c.name: c for c in bought.cohorts}
    maintenance = reading.valid("maintenance", MaintenanceSpec)
    reservations = reading.valid("reservations", ReservationSpec)
    reading.faults(windows.faults(maintenance, reservations, bought, tenant_names, start, horizon_s))
    if reading.problems or spec is None:
        raise InputError(reading.problems)
    return Scenario(
        _seeded(spec),
        reading.place,
        start,
        horizon_s,
        tuple(bought.cohorts),
        tuple(references),
        reading.roots,
        tuple(part.window(start) for part in windows.maintained(maintenance, by_name)),
        tuple(part.window(start) for part in windows.reserved(reservations, by_name)),
        bought.node_list,
        tuple(bought.words),
    )


def _horizon(reading: Reading, start: datetime) -> float | None:
    """The horizon in s; None for one that drains, and for one whose fault is reported already."""
    raw = reading.raw.get("horizon")
    try:
        horizon_s = units.duration_s(raw) if isinstance(raw, (str, float, int)) else 0.0
    except ValueError:
        return None
    if not 0 < horizon_s <= MAX_SPAN_Y * units.YEAR_S:
        return None
    try:
        units.at(start, horizon_s)
    except OverflowError:
        reading.fault(("horizon",), f"{raw!r} ends beyond the year 9999", "Start earlier or end earlier.")
    return horizon_s


def _unique(reading: Reading, bought: Purchase) -> None:
    """Names are unique in a section; those of cohorts once series are unfolded."""
    sections = ("sites", "tenants", "workloads", "tiers", "failures")
    names = {section: reading.names(section) for section in sections} | {"cohorts": bought.names}
    for section, found in names.items():
        for name, count in Counter(found).items():
            if count > 1:
                message = f"the name {name!r} occurs {count} times"
                reading.fault((section,), message, "Names are unique in a section.")


def _seeded(spec: ScenarioSpec) -> ScenarioSpec:
    """The same, with a seed for the error of estimates."""
    estimate = spec.scheduler.estimate
    if estimate is None or not estimate.error or estimate.seed is not None:
        return spec
    seeded = estimate.model_copy(update={"seed": int(stream(spec.seed, "estimate").integers(2**31))})
    scheduler = spec.scheduler.model_copy(update={"estimate": seeded})
    return spec.model_copy(update={"scheduler": scheduler})
