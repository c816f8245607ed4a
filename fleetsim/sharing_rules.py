"""What a scenario says of shared GPUs, checked against itself and against the fleet."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from fleetsim.mig import PROFILES
from fleetsim.policies.packing import PACKINGS
from fleetsim.policies.placement import PLACEMENTS
from fleetsim.records import Cohort
from fleetsim.safeyaml import suggest
from fleetsim.sharing import MOST_GPUS
from fleetsim.spec import MAY_SHARE, CohortSpec, RestartSpec, SchedulerSpec, TenantSpec, WorkloadSpec

Loc = tuple[str | int, ...]

#: Where, what, and what would be right.
Fault = tuple[Loc, str, str]

_SHARE = "Give `scheduler.sharing: {}`, or leave it out."


def faults(
    rules: SchedulerSpec,
    tenants: Mapping[int, TenantSpec],
    cohorts: Mapping[int, CohortSpec],
    fleet: Sequence[Cohort],
    workloads: Mapping[int, WorkloadSpec],
    sections: Collection[str],
) -> Iterator[Fault]:
    """Everything wrong with sharing. Mappings are of what is right in itself, by its index.

    *sections* are those of the scenario that say something.
    """
    if rules.sharing is None:
        if rules.placement not in PLACEMENTS:
            message = f"`{rules.placement}` is for shared GPUs"
            remedy = f"Give `sharing: {{}}`, or take one of: {', '.join(PLACEMENTS)}."
            yield ("scheduler", "placement"), message, remedy
        for i, c in cohorts.items():
            for key, value in (("cpus", c.cpus), ("memory_gb", c.memory_gb), ("mig_gpus", c.mig_gpus)):
                if value:
                    yield ("cohorts", i, key), "counts only where GPUs are shared", _SHARE
        for i, w in workloads.items():
            for key, given in (("cpu_jobs", w.cpu_jobs), ("mig", w.mig is not None)):
                if given:
                    yield ("workloads", i, key), "such jobs run only where GPUs are shared", _SHARE
        return
    yield from _scheduler(rules)
    for section in ("maintenance", "reservations"):
        if section in sections:
            yield (section,), "nodes cannot be kept from others where GPUs are shared", "Leave it out."
    for i, t in tenants.items():
        if t.preemptible:
            yield ("tenants", i, "preemptible"), "no job is stopped where GPUs are shared", "Leave it out."
    yield from _cohorts(cohorts, fleet)
    for i, w in workloads.items():
        if w.mig is not None:
            yield from _mig(("workloads", i, "mig"), w.mig, fleet)


def _scheduler(rules: SchedulerSpec) -> Iterator[Fault]:
    """Each option must be one that shared GPUs can have."""
    sharing = rules.sharing
    assert sharing is not None
    if rules.placement not in PACKINGS:
        message = f"`{rules.placement}` places whole GPUs only"
        remedy = f"Where GPUs are shared, take one of: {', '.join(PACKINGS)}."
        yield ("scheduler", "placement"), message, remedy
    if rules.queue not in MAY_SHARE:
        message = f"`{rules.queue}` stops jobs, or counts whole GPUs of nodes"
        remedy = f"Where GPUs are shared, take one of: {', '.join(MAY_SHARE)}."
        yield ("scheduler", "queue"), message, remedy
    for key, given in (
        ("preemptive", rules.preemptive),
        ("defragment", rules.defragment is not None),
        ("restart", rules.restart != RestartSpec()),
    ):
        if given:
            yield ("scheduler", key), "no job is stopped where GPUs are shared", "Leave it out."
    if rules.prefer != "fastest":
        message = "means nothing where GPUs are shared: the placement chooses among all nodes"
        yield ("scheduler", "prefer"), message, "Leave it out."
    if sharing.interference and sharing.replicas is None:
        message = "costs by time slicing, and there is none"
        yield ("scheduler", "sharing", "interference"), message, "Give `replicas`, or leave it out."
    if sharing.replicas is not None and sharing.interference * (sharing.replicas - 1) >= 1:
        message = f"{sharing.interference:g} leaves nothing for {sharing.replicas} jobs on a GPU"
        remedy = f"Less than {1 / (sharing.replicas - 1):.3g}, or fewer replicas."
        yield ("scheduler", "sharing", "interference"), message, remedy


def _cohorts(cohorts: Mapping[int, CohortSpec], fleet: Sequence[Cohort]) -> Iterator[Fault]:
    by_name = {c.name: c for c in fleet}
    for i, c in cohorts.items():
        loc: Loc = ("cohorts", i)
        if c.tenants is not None:
            yield (*loc, "tenants"), "all nodes are one pool where GPUs are shared", "Leave it out."
        if c.topology is not None:
            yield (*loc, "topology"), "a job has one node where GPUs are shared", "Leave it out."
        record = by_name.get(c.name)
        if c.mig_gpus and record is not None:
            if record.model.id not in PROFILES:
                message = f"{record.model.id} has no MIG mode"
                yield (*loc, "mig_gpus"), message, f"Models with MIG are: {', '.join(PROFILES)}."
            elif c.mig_gpus > record.gpus_per_node:
                message = f"{c.mig_gpus}, but a node has {record.gpus_per_node} GPUs"
                yield (*loc, "mig_gpus"), message, f"At most {record.gpus_per_node}."
    for key, values in (
        ("cpus", {i: c.cpus for i, c in cohorts.items()}),
        ("memory_gb", {i: c.memory_gb for i, c in cohorts.items()}),
    ):
        if any(value is not None for value in values.values()):
            for i in (i for i, value in values.items() if value is None):
                message = "missing, and other cohorts say it"
                yield ("cohorts", i, key), message, "Say it of every cohort, or of none."
    at = {c.name: ("cohorts", i, "gpus_per_node") for i, c in cohorts.items()}
    for cohort in fleet:
        if cohort.gpus_per_node > MOST_GPUS:
            message = f"{cohort.name} has {cohort.gpus_per_node} GPUs a node"
            remedy = f"Where GPUs are shared, a node has at most {MOST_GPUS}."
            yield at.get(cohort.name, ("node_list", "file")), message, remedy


def _mig(loc: Loc, name: str, fleet: Sequence[Cohort]) -> Iterator[Fault]:
    """A profile must be one of a GPU in MIG mode."""
    known = dict.fromkeys(p.name for c in fleet if c.mig_gpus for p in PROFILES.get(c.model.id, ()))
    if fleet and not known:
        message = f"no cohort has GPUs in MIG mode for {name!r}"
        yield loc, message, "Give one `mig_gpus`: how many GPUs of a node are in MIG mode."
    elif known and name not in known:
        remedy = f"{suggest(name, known)}The fleet has: {', '.join(known)}."
        yield loc, f"no GPU of the fleet has a MIG profile {name!r}", remedy
