"""What a scenario says of its tenants, checked against itself and against the fleet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fleetsim.policies.clusters import parts
from fleetsim.records import Cohort
from fleetsim.safeyaml import suggest
from fleetsim.spec import MAY_SPOT, CohortSpec, SchedulerSpec, TenantSpec, WorkloadSpec
from fleetsim.units import duration_s

Loc = tuple[str | int, ...]

#: Where, what, and what would be right.
Fault = tuple[Loc, str, str]


def faults(
    tenants: Mapping[int, TenantSpec],
    names: Sequence[str],
    cohorts: Mapping[int, CohortSpec],
    fleet: Sequence[Cohort],
    workloads: Mapping[int, WorkloadSpec],
    rules: SchedulerSpec | None,
) -> Iterator[Fault]:
    """Everything wrong with *tenants*. Mappings are of what is right in itself, by its index.

    *names* are all tenants that are declared. *rules* is None if they have faults of their own.
    """
    known = {t.name: (i, t) for i, t in tenants.items()}
    sound = True
    for i, t in tenants.items():
        loc: Loc = ("tenants", i)
        if t.max_gpus is not None and t.max_gpus < t.deserved_gpus:
            message = f"{t.max_gpus} is below its deserved_gpus, {t.deserved_gpus:g}"
            yield (*loc, "max_gpus"), message, "Raise it, or lower what it deserves."
        if duration_s(t.notice) and not t.preemptible:
            yield (*loc, "notice"), "its jobs are never stopped", "Give `preemptible: true`, or leave it out."
        if t.preemptible and rules and (rules.queue not in MAY_SPOT or rules.preemptive):
            message = (
                f"queue `{rules.queue}`{' that stops jobs itself' * rules.preemptive} does not know such jobs"
            )
            yield (*loc, "preemptible"), message, f"Take one of: {', '.join(MAY_SPOT)}, not preemptive."
        if t.parent is not None and t.parent not in names:
            sound = False
            remedy = f"{suggest(t.parent, names)}Tenants are: {', '.join(names)}."
            yield (*loc, "parent"), f"no tenant {t.parent!r}", remedy
        elif (circle := _circle(t, known)) is not None:
            sound = False
            if t.name == min(circle):  # once for all of them
                chain = " -> ".join([*circle, circle[0]])
                yield (*loc, "parent"), f"a part of itself: {chain}", "One of them has no parent."
    wholes = {t.parent for t in tenants.values()}
    for i, c in cohorts.items():
        for k, name in enumerate(c.tenants or ()):
            if names and name not in names:
                remedy = f"{suggest(name, names)}Tenants are: {', '.join(names)}."
                yield ("cohorts", i, "tenants", k), f"no tenant {name!r}", remedy
            elif name in wholes:
                yield ("cohorts", i, "tenants", k), f"{name!r} has parts", "Name those of them that run here."
    if rules is not None and rules.queue == "quota" and sound:
        yield from _quotas(known, fleet)
        for i, w in workloads.items():
            given = {"tenant": [w.tenant] if w.tenant else [], "tenants": list(w.tenants or ())}
            for key, targets in given.items():
                for name in targets:
                    if name in wholes:
                        message = f"{name!r} has parts; in queue `quota` only they have jobs"
                        yield ("workloads", i, key), message, "Name one of the parts."


def _circle(tenant: TenantSpec, known: Mapping[str, tuple[int, TenantSpec]]) -> list[str] | None:
    """The tenants above *tenant*, if it is one of them."""
    above = [tenant.name]
    while (parent := known[above[-1]][1].parent) is not None and parent in known:
        if parent == tenant.name:
            return above
        if parent in above:
            return None  # it hangs on a circle
        above.append(parent)
    return None


def _quotas(known: Mapping[str, tuple[int, TenantSpec]], fleet: Sequence[Cohort]) -> Iterator[Fault]:
    """What tenants deserve must be there, and what parts of a tenant deserve it must deserve."""
    clusters = parts(fleet)
    top: dict[str, str] = {}
    for name in known:
        whole = name
        while (parent := known[whole][1].parent) is not None and parent in known:
            whole = parent
        top[name] = whole
    wholes = {t.parent for _, t in known.values()}
    runs: dict[str, int] = {}  # where the jobs of a top tenant run: index into clusters, or -1
    for name, (i, _) in known.items():
        if name in wholes:
            continue
        home = next((k for k, part in enumerate(clusters) if part.holds(name)), -1)
        if runs.setdefault(top[name], home) != home:
            message = f"other parts of {top[name]!r} run in another virtual cluster"
            yield ("tenants", i, "parent"), message, "Queue `quota` divides one cluster: part them."
    for name, (i, t) in known.items():
        of_parts = sum(part.deserved_gpus for _, part in known.values() if part.parent == name)
        if of_parts > t.deserved_gpus:
            message = f"{t.deserved_gpus:g}, but its parts deserve {of_parts:g} together"
            yield ("tenants", i, "deserved_gpus"), message, f"Give it {of_parts:g} or more, or them less."
    for k in {*runs.values()}:
        gpus = sum(p.gpus for p in clusters if p.tenants is None) if k < 0 else clusters[k].gpus
        here = [known[name] for name, home in runs.items() if home == k]
        deserved = sum(t.deserved_gpus for _, t in here)
        if clusters and deserved > gpus:
            where = "are installed" if len(clusters) == 1 else "are installed where they run"
            message = f"tenants deserve {deserved:g} GPUs together, but {gpus} {where}"
            i = max(here, key=lambda entry: entry[1].deserved_gpus)[0]
            yield ("tenants", i, "deserved_gpus"), message, "Deliver more nodes, or let them deserve less."
