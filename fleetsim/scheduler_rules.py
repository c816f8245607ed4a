"""What a scenario says of its scheduler, checked against itself and against the fleet."""

from __future__ import annotations

from collections.abc import Iterator

from fleetsim.policies.placement import COUNTING
from fleetsim.reading import Fault
from fleetsim.spec import (
    AFRESH,
    BACKFILL,
    ESTIMATES,
    MAY_DEFRAGMENT,
    MAY_PREEMPT,
    ORDERED,
    PREEMPTS,
    SchedulerSpec,
)
from fleetsim.units import duration_s


def faults(rules: SchedulerSpec, connected: bool, drains: bool) -> Iterator[Fault]:
    """Everything wrong with the scheduler. Each option must be one of the queue that is chosen.

    *connected* is whether any cohort says how its nodes are; *drains* whether the run ends with the last job.
    """
    queue, estimate = rules.queue, rules.estimate
    if queue in BACKFILL and estimate is None:
        message = f"missing: `{queue}` plans with run times"
        remedy = "Give {source: duration} for the true ones, or {source: trace} for the users' limits."
        yield ("scheduler", "estimate"), message, remedy
    for key, given, queues in (
        ("estimate", estimate, ESTIMATES),
        ("depth", rules.depth, BACKFILL),
        ("on_misfit", rules.on_misfit, ORDERED),
    ):
        if given is not None and queue not in queues:
            message = f"means nothing to queue `{queue}`"
            yield ("scheduler", key), message, f"Leave it out, or take one of: {', '.join(queues)}."
    plain = SchedulerSpec()
    for key, of_queue in (("las_thresholds_gpu_s", "las"), ("fair_share", "fair_share")):
        if queue != of_queue and getattr(rules, key) != getattr(plain, key):
            message = f"means nothing to queue `{queue}`"
            yield ("scheduler", key), message, f"Leave it out, or take `{of_queue}`."
    preempts = queue in PREEMPTS or (rules.preemptive and queue in MAY_PREEMPT)
    if rules.preemptive and queue not in (*PREEMPTS, *MAY_PREEMPT):
        message = f"queue `{queue}` never stops a job"
        names = ", ".join((*PREEMPTS, *MAY_PREEMPT))
        yield ("scheduler", "preemptive"), message, f"Leave it out, or take one of: {names}."
    if rules.admit == "count" and queue not in ("srtf", "srsf"):
        yield ("scheduler", "admit"), f"means nothing to queue `{queue}`", "Take srtf or srsf."
    if rules.admit == "afresh" and not (preempts and queue in AFRESH):
        message = f"queue `{queue}` does not place running jobs anew"
        remedy = f"Take one of these, and set `preemptive` for the last three: {', '.join(AFRESH)}."
        yield ("scheduler", "admit"), message, remedy
    if rules.restart.charge == "every_pass" and rules.admit != "afresh" and queue != "las":
        message = "jobs are interrupted in every pass only if they are placed afresh, or by queue `las`"
        yield ("scheduler", "restart", "charge"), message, "Add `admit: afresh`, or leave it out."
    if queue == "max_min" and rules.interval is None:
        message = "missing: `max_min` works in rounds"
        yield ("scheduler", "interval"), message, "Give the length of a round: 6min."
    if queue == "max_min" and rules.interval is not None and drains:
        restart, every = rules.restart, rules.restart.checkpoint
        cost_s = max((duration_s(rule.cost) for rule in restart.costs), default=0.0)
        if every not in ("when_stopped", "never", "trace"):
            cost_s += duration_s(every) + duration_s(restart.checkpoint_cost)
        if every in ("never", "trace") or cost_s >= duration_s(rules.interval):
            message = "a job may be stopped for ever before it has done anything: the horizon is `drain`"
            remedy = "Give a horizon, or an interval longer than a restart with the work up to a checkpoint."
            yield ("scheduler", "interval"), message, remedy
    if rules.interval is not None and duration_s(rules.interval) % 1:
        yield ("scheduler", "interval"), f"{rules.interval!r}", "Give whole seconds."
    if rules.on_misfit is not None and rules.preemptive and queue != "quota":
        message = "means nothing to a queue that stops jobs: it starts whatever fits"
        yield ("scheduler", "on_misfit"), message, "Leave it or `preemptive` out."
    if rules.defragment is not None and (queue not in MAY_DEFRAGMENT or rules.preemptive):
        message = f"`{queue}` keeps count of where running jobs are, so they cannot be moved"
        remedy = f"Leave it out, or take one of these, not preemptive: {', '.join(MAY_DEFRAGMENT)}."
        yield ("scheduler", "defragment"), message, remedy
    if rules.defragment is not None and rules.placement in COUNTING:
        message = f"`{rules.placement}` places a gang on any free GPUs, so there is nothing to gain"
        yield ("scheduler", "defragment"), message, "Leave it out, or take best_fit."
    if estimate is not None and estimate.default is not None and estimate.source != "trace":
        message = "every job has a run time to estimate from"
        yield ("scheduler", "estimate", "default"), message, "Leave it out, or take `source: trace`."
    if estimate is not None and estimate.seed is not None and not estimate.error:
        yield ("scheduler", "estimate", "seed"), "there is no `error` to draw", "Leave it out."
    weights = rules.fair_share
    if queue == "fair_share" and not (weights.fair_share or weights.age or weights.size or weights.priority):
        yield ("scheduler", "fair_share"), "all weights are 0", "Give one of the factors a weight."
    if rules.restart.checkpoint in ("when_stopped", "never") and duration_s(rules.restart.checkpoint_cost):
        message = f"no checkpoint is written in the course of a job: `checkpoint: {rules.restart.checkpoint}`"
        remedy = "Say how often, as in `checkpoint: 1h`, or leave it out."
        yield ("scheduler", "restart", "checkpoint_cost"), message, remedy
    if rules.placement == "topology" and not connected:
        remedy = "Give one `topology`, for example {nodes_per_rack: 4}; or take `consolidate`."
        yield ("scheduler", "placement"), "no cohort says how its nodes are connected", remedy
