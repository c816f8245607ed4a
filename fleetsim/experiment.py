"""One function: scenario in, run folder out. Sweeps and replications are loops around it."""

from __future__ import annotations

import gc
import json
import platform
import time
from array import array
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import simpy

from fleetsim import __version__, runfolder, schema, units
from fleetsim.books import Books, Check, period_edges, verify
from fleetsim.clustering import SizePool
from fleetsim.defragment import Defragment
from fleetsim.eligibility import REJECT_REASONS, Shapes, build_pools, find_shapes
from fleetsim.engine import Clock, JobColumns, Replay, Restart
from fleetsim.errors import FleetsimError
from fleetsim.fleet import Fleet, Pool
from fleetsim.life.ledger import ledger
from fleetsim.life.money import Money
from fleetsim.life.power import capped_sites
from fleetsim.life.start import begin, stops_jobs
from fleetsim.maintenance import Reservation, maintain, reserve, with_reservations
from fleetsim.observer import Attempts
from fleetsim.policies.clusters import parts
from fleetsim.policies.desk import Desk, Queue, Terms
from fleetsim.policies.placement import PLACEMENTS
from fleetsim.policies.queue import build
from fleetsim.recorder import Recorder, write_table
from fleetsim.records import GENERAL, Cohort, Jobs
from fleetsim.runfolder import Run
from fleetsim.scenario import Scenario
from fleetsim.shared import SharedFleet, share_fleet
from fleetsim.sharing import WHOLE
from fleetsim.spec import PREEMPTS, SchedulerSpec
from fleetsim.topology import BlockPool, Topology
from fleetsim.workload import Source, load_jobs

if TYPE_CHECKING:
    from fleetsim_traces.table import Trace

#: Looks at the model during a run, for progress and to gather what has come in; beyond the expected end
#: ever fewer. They change no result.
LOOKS = 100


@dataclass(frozen=True)
class Progress:
    """How far a run has come."""

    now_s: float
    end_s: float  # expected; in a run that drains, of the last submission
    jobs_arrived: int
    jobs_ended: int
    jobs: int


def run(
    scenario: Scenario,
    out: str | Path,
    *,
    force: bool = False,
    traces: Mapping[str, Trace] | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Run:
    """Simulate *scenario* and write the run folder *out*.

    *traces* gives job tables by workload name in place of reading them. Raises :class:`InputError` or
    ``TraceError`` for input that cannot be used, :class:`BooksError` if the finished run's books do not
    balance; then, and on any other failure, nothing is written.
    """
    out = Path(out)
    runfolder.check_target(out, force)
    began, began_cpu = time.time(), time.process_time()
    jobs, sources = load_jobs(scenario, traces)
    spec = scenario.spec
    words = scenario.cohort_words
    topology = Topology.of(words) if any(c.topology for c in words) else None
    penalty = topology.penalty if topology and topology.costs else None
    shared = share_fleet(jobs, scenario.cohorts, spec) if spec.scheduler.sharing else None
    if shared:
        shapes, pool_of = shared.shapes, shared.pool_of
        on_rung = [{0: pool_of[c.node_numbers[0]]} for c in scenario.cohorts]
    else:
        make = _maker(spec.scheduler.placement, topology)
        pools = build_pools(scenario.cohorts, spec.tiers, spec.descends, make)
        pool_of, on_rung = pools.of_node, pools.on_rung
        shapes = find_shapes(jobs, pools.plans, spec.workloads, spec.tenants, spec.scheduler)
    reservations = [
        Reservation(words.tenant, window, pool_of[window.nodes[0]].twin(), pool_of[window.nodes[0]])
        for words, window in zip(spec.reservations, scenario.reservations, strict=True)
    ]
    if reservations:
        shapes = with_reservations(shapes, jobs, reservations)
    with runfolder.writing(out, force) as folder:
        evicts = any(window.stop for window in (*scenario.maintenance, *scenario.reservations))
        evicts = evicts or stops_jobs(scenario) or bool(capped_sites(scenario.cohorts))
        restart = _restart(spec.scheduler, jobs, evicts or any(t.preemptible for t in spec.tenants))
        in_parts = restart is not None or (shared is not None and shared.slicing is not None)
        attempts = Attempts.of(len(jobs), in_parts)
        shares = (shared.pool, shared.slicing) if shared else (None, None)
        tiers = [t.name for t in spec.tiers] or [GENERAL]
        recorder = Recorder(
            folder, jobs, shapes.rejected, scenario.cohorts, tiers, attempts, penalty, *shares
        )
        others = [spec.retirement.successor] if spec.retirement and spec.retirement.successor else []
        money = Money(spec.economics, scenario.cohorts, scenario.start, others) if spec.economics else None
        end_s, replay = _simulate(
            scenario,
            jobs,
            shapes,
            pool_of,
            on_rung,
            money,
            penalty,
            shared,
            reservations,
            restart,
            attempts,
            recorder,
            progress,
        )
        try:
            units.at(scenario.start, end_s)
        except OverflowError:
            raise FleetsimError("the run ends after the year 9999: give it a horizon") from None
        rows = recorder.close(end_s)
        edges = period_edges(scenario.start, end_s, spec.usage_period)
        books = Books(folder, scenario.cohorts, jobs.activities, jobs.tenants, tiers, edges)
        rows["usage"] = write_table(folder, "usage", books.usage)
        rows["ledger"] = write_table(folder, "ledger", _ledger(folder, scenario.cohorts, money))
        installed_gpu_s = recorder.installed_gpu_s(end_s)
        checks = recorder.checks(replay.running, replay.waiting)
        checks += books.checks(recorder.allocated_gpu_s, installed_gpu_s)
        verify(checks)
        _write_manifest(folder, scenario, end_s, jobs, shapes, sources, rows, checks, (began, began_cpu))
    return runfolder.open_run(out)


def _ledger(folder: Path, cohorts: Sequence[Cohort], money: Money | None) -> dict[str, Any]:
    """The columns of the ledger: none without money."""
    import polars as pl

    if money is None:
        return {column.name: [] for column in schema.TABLES["ledger"]}
    usage, node_states = (pl.read_parquet(folder / f"{name}.parquet") for name in ("usage", "node_states"))
    return ledger(usage, node_states, cohorts, money.terms, money.price)


def _maker(placement: str, topology: Topology | None) -> Callable[[str, int, list[int]], Pool]:
    """What makes pools as *placement* needs them: some must know more than what is free on a node."""
    if placement == "topology" and topology:
        levels = topology.levels()
        return lambda name, gpus_per_node, free: BlockPool(name, gpus_per_node, free, levels)
    return SizePool if placement == "by_size" else Pool


def _simulate(
    scenario: Scenario,
    jobs: Jobs,
    shapes: Shapes,
    pool_of: list[Pool],
    on_rung: list[dict[int, Pool]],
    money: Money | None,
    penalty: Callable[[tuple[int, ...]], float] | None,
    shared: SharedFleet | None,
    reservations: Sequence[Reservation],
    restart: Restart | None,
    attempts: Attempts,
    recorder: Recorder,
    progress: Callable[[Progress], None],
) -> tuple[float, Replay]:
    """Run the model to its end; return the time of it, s, and the model as it stands then."""
    clock = Clock()
    columns = JobColumns(
        array("d", jobs.submit_s.tobytes()),
        array("d", jobs.duration_s.tobytes()),
        shared.gpu_milli if shared else jobs.gpus.tolist(),
        shapes.of_job.tolist(),
        shapes.options,
        shared.asks if shared else [],
    )
    scheduler = scenario.spec.scheduler
    per_gpu = WHOLE if shared else 1
    gpus = sum(c.gpus for c in scenario.cohorts) * per_gpu
    host = shared.host if shared else (0, 0)
    terms = Terms(scheduler, scenario.spec.tenants, jobs, gpus, None, per_gpu, *host)

    def make_queue(desk: Desk) -> Queue:
        queue = build(desk, terms, parts(scenario.cohorts))
        if (rule := scheduler.defragment) is None:
            return queue
        every_s = units.duration_s(rule.every)
        return Defragment(desk, queue, PLACEMENTS[scheduler.placement], every_s, rule.moves)

    pace: Callable[[float, tuple[int, ...]], float] | None = shared.pace if shared else None
    if penalty is not None:
        longer = penalty

        def pace(speed: float, where: tuple[int, ...]) -> float:
            return speed / longer(where)

    replay = Replay(
        clock,
        columns,
        pool_of,
        make_queue,
        shared.place if shared else PLACEMENTS[scheduler.placement],
        recorder,
        attempts,
        restart,
        units.duration_s(scheduler.interval) if scheduler.interval is not None else 0.0,
        pace,
        shared.slicing if shared else None,
    )

    fleet = Fleet(pool_of)
    reserved = {r.pool: r.base for r in reservations}
    begin(clock, replay, fleet, recorder, scenario, on_rung, money, jobs, reserved)
    for window in scenario.maintenance:
        clock.process(maintain(clock, replay, fleet, recorder, window))
    for reservation in reservations:
        clock.process(reserve(clock, replay, fleet, recorder, reservation))

    last_s = float(jobs.submit_s[-1]) if len(jobs) else 0.0
    expected_s = scenario.horizon_s if scenario.horizon_s is not None else last_s

    def look() -> None:
        ended = replay.arrived - replay.running - replay.waiting
        progress(Progress(clock.now, expected_s, replay.arrived, ended, len(jobs)))
        recorder.gather(least=2048)  # while they are in the processor's cache

    def watch() -> Generator[simpy.Event]:
        while True:
            yield clock.timeout(max(expected_s, clock.now, 1.0) / LOOKS)
            look()

    clock.process(watch())
    collecting = gc.isenabled()
    gc.disable()  # nothing here is cyclic, and looking for cycles costs a tenth of the time
    try:
        if scenario.horizon_s is not None:
            clock.run(until=scenario.horizon_s)
            end_s = scenario.horizon_s
        else:
            while clock.peek() < inf and not replay.done:
                clock.step()
            end_s = max(last_s, float(np.frombuffer(attempts.end_s).max(initial=0.0)))
    finally:
        if collecting:
            gc.enable()
    replay.close(end_s)
    look()
    return end_s, replay


def _restart(scheduler: SchedulerSpec, jobs: Jobs, evicts: bool) -> Restart | None:
    """What stopping a job costs, if any can be stopped or has anything to do before its work.

    *evicts* tells whether anything but the queue stops jobs.
    """
    spec = scheduler.restart
    setup_s, write_s = units.duration_s(spec.setup), units.duration_s(spec.checkpoint_cost)
    stops = evicts or scheduler.defragment or scheduler.preemptive or scheduler.queue in PREEMPTS
    if not (stops or setup_s or write_s):
        return None
    cost_s = np.zeros(len(jobs))
    workload = np.array([a.workload for a in jobs.activities])[jobs.activity]
    user = np.array([*jobs.users, ""])[jobs.user]
    for rule in reversed(spec.costs):
        held = jobs.gpus <= (rule.up_to_gpus or np.inf)
        for name, names in ((user, rule.users), (workload, rule.workloads)):
            if names is not None:
                held &= np.isin(name, names)
        cost_s[held] = units.duration_s(rule.cost)
    every_s = {"when_stopped": 0.0, "never": inf, "trace": 0.0}.get(str(spec.checkpoint))
    checkpoint_s = np.full(len(jobs), units.duration_s(spec.checkpoint) if every_s is None else every_s)
    if spec.checkpoint == "trace" and jobs.checkpoint_s is not None:
        checkpoint_s = np.nan_to_num(jobs.checkpoint_s.astype(np.float64))
    costs = array("d", cost_s.tobytes()), array("d", checkpoint_s.tobytes())
    free = scheduler.placement == "pool" or scheduler.admit == "afresh"
    return Restart(*costs, setup_s, write_s, moves_free=free, every_pass=spec.charge == "every_pass")


def _write_manifest(
    folder: Path,
    scenario: Scenario,
    end_s: float,
    jobs: Jobs,
    shapes: Shapes,
    sources: Sequence[Source],
    rows: Mapping[str, int],
    checks: Sequence[Check],
    began: tuple[float, float],
) -> None:
    reasons = {
        reason: count
        for code, reason in enumerate(REJECT_REASONS)
        if (count := int(np.sum(shapes.rejected == code)))
    }
    manifest: dict[str, Any] = {
        "schema": schema.VERSION,
        "scenario": scenario.spec.model_dump(mode="json"),
        "seed": scenario.spec.seed,
        "start": scenario.start.isoformat(),
        "end_s": end_s,
        "versions": dict(versions()),
        "sources": {s.workload: {**s.facts, "left_out": s.left_out} for s in sources},
        "node_list": scenario.node_list,
        "jobs": len(jobs),
        "rejected": reasons,
        "activities": [
            {
                "workload": a.workload,
                "workload_class": a.workload_class,
                "reference_gpu": a.reference.id,
                "busy_share": a.busy_share,
                "sm_active": a.sm_active,
                "mfu": a.mfu,
            }
            for a in jobs.activities
        ],
        "rows": dict(rows),
        "checks": [c.as_dict() for c in checks],
        "wall_clock": {
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "elapsed_s": round(time.time() - began[0], 3),
            "cpu_s": round(time.process_time() - began[1], 3),
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}",
        },
    }
    (folder / runfolder.MANIFEST).write_text(
        json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", "utf-8"
    )


@cache
def versions() -> dict[str, str]:
    """Versions of fleetsim and of what a run's tables depend on."""
    return {
        "fleetsim": __version__,
        **{name: version(name) for name in ("simpy", "numpy", "polars", "pyarrow")},
    }
