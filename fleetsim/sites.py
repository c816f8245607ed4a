"""The sites of a scenario, checked against what stands there, and as records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fleetsim.carbon import read_carbon
from fleetsim.errors import InputError
from fleetsim.life.power import limit_w, node_kw
from fleetsim.reading import Fault, Loc, Reading, beside, locate
from fleetsim.records import Cohort, Site
from fleetsim.spec import SiteSpec
from fleetsim_traces.errors import TraceError

#: PUE by cooling, where a site does not say.
LIQUID_PUE, AIR_PUE = 1.12, 1.25


def read_sites(reading: Reading, words: Mapping[int, SiteSpec]) -> dict[str, Site]:
    """The sites, by name, and problems with their carbon series."""
    found: dict[str, Site] = {}
    for i, s in words.items():
        pue = s.pue if s.pue is not None else LIQUID_PUE if s.cooling == "liquid" else AIR_PUE
        carbon = _carbon(reading, ("sites", i, "carbon_g_per_kwh"), s.carbon_g_per_kwh)
        found[s.name] = Site(s.name, pue, s.it_power_kw, s.over_power, carbon, s.cooling, s.rack_kw)
    return found


def _carbon(reading: Reading, loc: Loc, said: float | str | None) -> tuple[float, ...]:
    if said is None:
        return ()
    if not isinstance(said, str):
        if said < 0:
            reading.fault(loc, f"{said:g} g is negative", "Give grams of CO2 per kWh, 0 or more.")
        return (said,)
    if (path := locate(reading.roots, said)) is None:
        reading.fault(loc, f"no file {said!r}", beside(reading.roots))
        return ()
    try:
        return read_carbon(path)
    except (InputError, TraceError) as error:
        reading.problems += error.problems
        return ()


def faults(
    words: Mapping[int, SiteSpec],
    fleet: Sequence[tuple[Loc, Cohort]],
    frees: bool,
    rungs: int,
    shared: bool,
) -> Iterator[Fault]:
    """Everything wrong with the sites and what stands there.

    *fleet* is all cohorts that are to come within the run, with their places in the scenario; *frees* is
    whether slots are freed by retirement or sale, *rungs* how many there are, *shared* whether GPUs are.
    """
    for i, s in words.items():
        here = [(loc, c) for loc, c in fleet if c.site.name == s.name]
        yield from _fit(s, here)
        if s.over_power == "shed" and rungs < 2:
            message = "shed: there is no lower rung whose nodes could leave"
            yield ("sites", i, "over_power"), message, "Give two `tiers` or more, or take another policy."
        if shared and s.over_power != "refuse":
            message = f"{s.over_power}: where GPUs are shared no node leaves and no job is slowed"
            yield ("sites", i, "over_power"), message, "Leave it out."
        if s.it_power_kw is not None:
            yield from _power(("sites", i, "it_power_kw"), s, s.it_power_kw, [c for _, c in here], frees)
        elif s.over_power != "refuse":
            message = f"{s.over_power}: the site has no limit of power"
            yield ("sites", i, "over_power"), message, "Give `it_power_kw`, or leave it out."


def _power(loc: Loc, s: SiteSpec, limit_kw: float, here: Sequence[Cohort], frees: bool) -> Iterator[Fault]:
    """What stands there must be able to run, as far as the policy does not see to it."""
    at_start = [c for c in here if c.delivered_s <= 0]
    idle_kw = sum(c.gpus * c.model.idle_power_w for c in at_start) / 1000
    if s.over_power == "refuse":
        # What is there at the start needs its slots at once; what comes later may get one that is freed.
        needed_kw = sum(map(slots_kw, at_start if frees else here))
        largest = max(here, key=slots_kw, default=None)
        if needed_kw > limit_kw:
            message = f"{limit_kw:,g} kW, but its servers reserve {needed_kw:,.1f} kW"
            message += " at the start" * frees
            yield loc, message, "Place fewer nodes there or give the site more power."
        elif largest is not None and slots_kw(largest) > limit_kw:
            message = f"{limit_kw:,g} kW, but {largest.name} alone reserves {slots_kw(largest):,.1f} kW"
            yield loc, message, "Place fewer nodes there or give the site more power."
        return
    if idle_kw > limit_kw:
        message = f"{limit_kw:,g} kW, but what stands there at the start draws {idle_kw:,.1f} kW when idle"
        yield loc, message, "Place fewer nodes there or give the site more power."
    elif s.over_power == "power_cap":
        together = at_start if frees else here
        share = min(1.0, limit_kw / max(sum(map(slots_kw, together)), 1e-9))
        for c in together:
            least_w, most_w = c.model.context_power_w, limit_w(c.model, share)
            if most_w <= least_w:
                message = (
                    f"{limit_kw:,g} kW leave {most_w:,.0f} W a GPU of {c.name} with its part of the server, "
                    f"and it draws {least_w:,.0f} W before any kernel runs"
                )
                yield loc, message, "Place fewer nodes there or give the site more power."
    elif here:
        kw, name = max((node_kw(c), c.name) for c in here)
        if kw > limit_kw:
            message = f"{limit_kw:,g} kW, but one node of {name} reserves {kw:,.1f} kW"
            yield loc, message, "Give the site more power, or place it elsewhere."


def slots_kw(cohort: Cohort) -> float:
    """kW of IT power that *cohort* reserves: what its servers draw at most."""
    return cohort.nodes * node_kw(cohort)


def _fit(s: SiteSpec, here: Sequence[tuple[Loc, Cohort]]) -> Iterator[Fault]:
    """A site must be able to cool and to carry what is placed there."""
    each = {(loc, c.model.id, c.gpus_per_node): c for loc, c in here}  # one of each series
    for (loc, _, _), c in each.items():
        if s.cooling == "air" and c.model.cooling == "liquid":
            message = f"{c.model.id} needs liquid cooling, and {s.name} is cooled by air"
            yield (*loc, "site"), message, "Place it at another site, or give this one `cooling: liquid`."
        if s.rack_kw is None:
            continue
        server_kw = c.gpus_per_node * c.model.slot_kw_per_gpu
        sold_kw = c.model.rack_kw  # of those that are sold by the rack
        needed_kw, what = (server_kw, "server") if sold_kw is None else (max(server_kw, sold_kw), "rack")
        if needed_kw > s.rack_kw:
            message = (
                f"a {what} of {c.model.id} takes {needed_kw:g} kW, and a rack of {s.name} {s.rack_kw:g} kW"
            )
            yield (*loc, "site"), message, "Place it at another site, or give this one's racks more."
