"""An observer that keeps a run: attempts, node states and events, as columns written to Parquet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fleetsim import schema
from fleetsim.books import Check
from fleetsim.eligibility import REJECT_REASONS
from fleetsim.life.power import limit_w, pace
from fleetsim.observer import FAILED, MIGRATED, Attempts, Failure, Observer
from fleetsim.records import Codes, Cohort, Floats, Ints, Jobs
from fleetsim.sharing import GPUS, SharedPool
from fleetsim.slicing import Slicing

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows of a row group of the allocations.
ROW_GROUP = 1 << 17

#: Parquet encodings of times and row numbers: smaller and quicker to compress than plain ones.
ENCODINGS = {"float64": "BYTE_STREAM_SPLIT", "int64": "DELTA_BINARY_PACKED"}


#: Columns of times that most runs have no use for.
MOSTLY_ONE_VALUE = (
    *("gpu_share", "restart_s", "lost_s", "checkpoint_s"),
    *("restart_gpu_s", "lost_gpu_s", "checkpoint_gpu_s"),
)


class TableWriter:
    """Writes batches of columns to ``folder/<table>.parquet`` in the table's schema. A context manager."""

    def __init__(self, folder: Path, table: str) -> None:
        import pyarrow.parquet as pq

        self._schema = schema.schema(table)
        columns = [c for c in schema.TABLES[table] if c.name not in MOSTLY_ONE_VALUE]
        encodings = {c.name: ENCODINGS[c.kind] for c in columns if c.kind in ENCODINGS}
        few_values = [c.name for c in columns if c.kind not in (*ENCODINGS, "string", "bool")]
        few_values += [c.name for c in schema.TABLES[table] if c.name in MOSTLY_ONE_VALUE]
        self._writer = pq.ParquetWriter(
            folder / f"{table}.parquet",
            self._schema,
            compression="zstd",
            use_dictionary=few_values,
            column_encoding=encodings,
        )
        self.rows = 0

    def write(self, columns: dict[str, Any]) -> None:
        """Append one batch; *columns* holds an array for every column of the table."""
        import pyarrow as pa

        arrays = [pa.array(columns[f.name], type=f.type) for f in self._schema]
        batch = pa.record_batch(arrays, schema=self._schema)
        self._writer.write_batch(batch)
        self.rows += batch.num_rows

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()


def write_table(folder: Path, table: str, columns: dict[str, Any]) -> int:
    """Write ``folder/<table>.parquet`` whole; return the number of rows."""
    with TableWriter(folder, table) as writer:
        writer.write(columns)
        return writer.rows


class Recorder(Observer):
    """Keeps what ``Observer`` is told. Call :meth:`gather` often, and :meth:`close` at the end."""

    def __init__(
        self,
        folder: Path,
        jobs: Jobs,
        rejected: Codes,
        cohorts: Sequence[Cohort],
        tiers: Sequence[str],
        attempts: Attempts,
        penalty: Callable[[tuple[int, ...]], float] | None = None,
        pool: SharedPool | None = None,
        slicing: Slicing | None = None,
    ) -> None:
        activities = jobs.activities
        self._folder = folder
        self._jobs = jobs
        self._cohorts = cohorts
        self._rejected = rejected
        self._models, self._model_of = _codes(c.model.id for c in cohorts)
        self._workloads, self._workload_of = _codes(a.workload for a in activities)
        self._classes, self._class_of = _codes(a.workload_class for a in activities)
        self._node_cohort = np.zeros(sum(c.nodes for c in cohorts), np.int32)
        for k, c in enumerate(cohorts):
            self._node_cohort[np.array(c.node_numbers)] = k
        self._tiers = tiers
        entry = [tiers.index(c.tier) for c in cohorts]
        self._node_tier = np.array(entry, np.int32)[self._node_cohort]  # the rung on which it stands ...
        self._tier_before = self._node_tier.copy()  # ... and that on which it stood before ...
        self._tier_since_s = np.full(len(self._node_tier), -inf)  # ... this time
        self._tier_batch = np.full(len(self._node_tier), -1)  # how much was gathered by then
        self._batches = 0
        self._state = np.full(len(self._node_tier), -1, np.int8)
        self._idle_w = np.zeros(len(self._node_tier))
        busy_share = np.array([a.busy_share for a in activities])
        sm_active = np.array([a.sm_active for a in activities])
        self._busy_share = busy_share
        self._activity = (busy_share * sm_active).astype(np.float32)
        self._context_w = np.array([c.model.context_power_w for c in cohorts])
        self._busy_w = np.array([c.model.busy_power_w(sm_active) for c in cohorts])  # [cohort, activity]
        power_w = busy_share * self._busy_w + (1 - busy_share) * self._context_w[:, np.newaxis]
        self._powers_w = [(0, power_w)]  # and the first of the gathered rows for which it holds
        count = len(jobs)
        self._start_s = np.frombuffer(attempts.start_s)  # views: they follow the model
        self._end_s = np.frombuffer(attempts.end_s)
        self._status = np.where(rejected >= 0, schema.REJECTED, schema.QUEUED).astype(np.int8)
        self._cohort = np.full(count, -1, np.int32)
        self._nodes = np.zeros(count, np.int32)
        self._allocated = np.zeros(count)
        self._worked_s = np.zeros(count)  # kept work, on the reference GPU
        self._energy_j = np.zeros(count)
        self._full_speed = np.array(
            [[c.model.speed(a.workload_class, a.reference) for a in activities] for c in cohorts]
        )
        self._speed = self._full_speed.copy()
        self._penalty = penalty
        self._pool = pool
        self._slicing = slicing
        self._attempts = attempts
        self._completed: list[int] = []
        self.completed = self._completed.append  # type: ignore[method-assign]  # hot path
        self._cut_off: list[int] = []
        self._stopped: list[tuple[int, int, float, float, int, float, float, float, int, float]] = []
        self._continued: list[tuple[int, int, float, float, int, float, float, float, float]] = []
        self._stops: dict[int, int] = {}  # how often each job was stopped ...
        self._moves: dict[int, int] = {}  # ... and of these, moved, ...
        self._fails: dict[int, int] = {}  # ... or failed
        self._returns: list[tuple[Ints, Floats, Floats]] = []  # job, when stopped, start of that attempt
        self._first_start_s: dict[int, float] = {}  # of the jobs that were stopped
        self._restart_s = np.zeros(count if attempts.may_stop else 0)
        self._lost_s = np.zeros(len(self._restart_s))
        self._checkpoint_s = np.zeros(len(self._restart_s))
        self._gathered: list[tuple[Any, ...]] = []
        self._pieces_held = 0
        self._node_changes: list[tuple[float, int, int, str, int, float]] = []
        self._failures: list[Failure] = []
        self._sales: list[tuple[float, int, int, float, float]] = []
        self._events: list[tuple[float, str, str, str]] = []
        self._allocations = TableWriter(folder, "allocations")

    def node_changed(self, now_s: float, node: int, state: str, cause: str, powered: bool = False) -> None:
        code = schema.NODE_STATES.index(state)
        cohort = self._cohorts[self._node_cohort[node]]
        idle_w = cohort.gpus_per_node * cohort.model.idle_power_w if powered or state == "up" else 0.0
        self._state[node] = code
        self._idle_w[node] = idle_w
        self._node_changes.append((now_s, node, code, cause, int(self._node_tier[node]), idle_w))

    def tier_changed(self, now_s: float, nodes: Sequence[int], tier: int, cause: str) -> None:
        moved = np.array(nodes)
        if (self._tier_batch[moved] == self._batches).any():
            self.gather()  # what ran before the last change is not written yet
        self._tier_before[moved] = self._node_tier[moved]
        self._node_tier[moved] = tier
        self._tier_since_s[moved] = now_s
        self._tier_batch[moved] = self._batches
        for node in nodes:
            state, idle_w = int(self._state[node]), float(self._idle_w[node])
            self._node_changes.append((now_s, node, state, cause, tier, idle_w))

    def failed(self, failure: Failure) -> None:
        self._failures.append(failure)

    def sold(self, now_s: float, cohort: int, gpus: int, usd_per_gpu: float, discount: float) -> None:
        self._sales.append((now_s, cohort, gpus, usd_per_gpu, discount))

    def event(self, now_s: float, kind: str, subject: str, detail: str) -> None:
        self._events.append((now_s, kind, subject, detail))

    def stopped(self, job: int, restart_s: float, lost_s: float, checkpoint_s: float, why: int, /) -> None:
        attempts = self._attempts
        number = self._stops.get(job, 0) + 1
        self._stops[job] = number
        if why == MIGRATED:
            self._moves[job] = self._moves.get(job, 0) + 1
        elif why == FAILED:
            self._fails[job] = self._fails.get(job, 0) + 1
        if number == 1:
            self._first_start_s[job] = attempts.start_s[job]
        at = attempts.since(job), attempts.end_s[job], attempts.node[job]
        times = restart_s, lost_s, checkpoint_s
        self._stopped.append((job, number, *at, *times, why, attempts.start_s[job]))

    def continued(self, job: int, now_s: float, restart_s: float, checkpoint_s: float, /) -> None:
        attempts, slicing = self._attempts, self._slicing
        at = attempts.since(job), now_s, attempts.node[job]
        part = (slicing.rate[job], slicing.held[job]) if slicing is not None else (1.0, 0.0)
        number = self._stops.get(job, 0) + 1
        self._continued.append((job, number, *at, restart_s, checkpoint_s, *part))

    def limited(self, site: str, share: float) -> None:
        self.gather()  # what was done, at the speeds until now
        power_w = self._powers_w[-1][1].copy()
        for k, c in enumerate(self._cohorts):
            if c.site.name != site:
                continue
            paces = [pace(c.model, a, share) for a in self._jobs.activities]
            self._speed[k] = self._full_speed[k] * paces
            busy_w = np.minimum(self._busy_w[k], limit_w(c.model, share))
            power_w[k] = self._busy_share * busy_w + (1 - self._busy_share) * self._context_w[k]
        if self._powers_w[-1][0] == self._pieces_held:
            self._powers_w.pop()
        self._powers_w.append((self._pieces_held, power_w))

    def cut_off(self, job: int, /) -> None:
        self._cut_off.append(job)

    def gather(self, least: int = 1) -> None:
        """Turn what has come in, if *least* or more, into columns; write those that make a row group."""
        if len(self._completed) + len(self._cut_off) + len(self._stopped) + len(self._continued) < least:
            return
        self._batches += 1
        if self._continued:
            self._gather_continued()
        if self._stopped:
            job, number, start_s, end_s, node, restart_s, lost_s, checkpoint_s, why, from_s = zip(
                *self._stopped, strict=True
            )
            self._stopped.clear()
            self._returns.append((np.array(job, np.int64), np.array(end_s), np.array(from_s)))
            self._add(
                np.array(job, np.int64),
                np.array(number, np.int32),
                np.array(start_s),
                np.array(end_s),
                np.array(node, np.int32),
                np.array(restart_s),
                np.array(lost_s),
                np.array(checkpoint_s),
                np.array(why, np.int8) + schema.PREEMPTED,
            )
        for held, outcome in ((self._completed, schema.COMPLETED), (self._cut_off, schema.RUNNING)):
            if held:
                self._gather_last(np.array(held, np.int64), outcome)
                held.clear()
        if self._pieces_held >= ROW_GROUP:
            self._write_allocations()

    def _gather_continued(self) -> None:
        job, number, start_s, end_s, node, restart_s, checkpoint_s, rate, held = zip(
            *self._continued, strict=True
        )
        self._continued.clear()
        self._add(
            np.array(job, np.int64),
            np.array(number, np.int32),
            np.array(start_s),
            np.array(end_s),
            np.array(node, np.int32),
            np.array(restart_s),
            np.zeros(len(job)),
            np.array(checkpoint_s),
            np.full(len(job), schema.CONTINUED, np.int8),
            np.array(rate),
            np.array(held),
        )

    def _gather_last(self, job: Ints, outcome: int) -> None:
        """The last attempts of *job*, as the model's columns have them."""
        attempts = self._attempts
        start_s, end_s = self._start_s[job], self._end_s[job]
        if attempts.since_s:
            start_s = np.fromiter((attempts.since(j) for j in job.tolist()), np.float64, len(job))
        number = np.ones(len(job), np.int32)
        restart_s, checkpoint_s = np.zeros(len(job)), np.zeros(len(job))
        if attempts.checkpoint_s:
            checkpoint_s += np.fromiter(
                (attempts.checkpoint_s[j] for j in job.tolist()), np.float64, len(job)
            )
        if attempts.may_stop:
            number += np.fromiter((self._stops.get(j, 0) for j in job.tolist()), np.int32, len(job))
            owed_s = np.fromiter((attempts.owed_s.get(j, 0.0) for j in job.tolist()), np.float64, len(job))
            restart_s = np.minimum(owed_s, end_s - start_s)
        self._status[job] = outcome
        node = np.frombuffer(attempts.node, np.int32)[job]
        codes = np.full(len(job), outcome, np.int8)
        none = np.zeros(len(job))
        row = job, number, start_s, end_s, node, restart_s, none, checkpoint_s, codes
        if self._slicing is None:
            self._add(*row)
        else:
            rate, held = (np.frombuffer(column)[job] for column in (self._slicing.rate, self._slicing.held))
            self._add(*row, rate, held)

    def _add(
        self,
        job: Ints,
        number: Any,
        start_s: Floats,
        end_s: Floats,
        node: Any,
        restart_s: Floats,
        lost_s: Floats,
        checkpoint_s: Floats,
        outcome: Any,
        rate: Floats | float = 1.0,
        held: Floats | None = None,
    ) -> None:
        """Keep attempts, a row for each node of each. *rate* and *held* are as in ``Slicing``."""
        gpus = self._jobs.gpus[job]
        pieces = np.ones(len(job), np.int32)
        split = np.nonzero(node < 0)[0]
        gangs = [self._attempts.gangs[~i] for i in node[split].tolist()]
        pieces[split] = [len(gang) // 2 for gang in gangs]
        first = node.copy()
        first[split] = [gang[0] for gang in gangs]
        self._cohort[job] = self._node_cohort[first]
        self._nodes[job] = pieces
        worked_s = (end_s - start_s - restart_s - lost_s - checkpoint_s) * self._speed[
            self._node_cohort[first], self._jobs.activity[job]
        ]
        if self._penalty is not None:
            worked_s[split] /= [self._penalty(gang) for gang in gangs]
        share = np.ones(len(job))
        worked_s *= rate
        if self._pool is not None:  # then every place is a node and a handle
            gpus = np.array([(handle & GPUS).bit_count() for _, handle in gangs], np.int32)
            if held is None:
                held = np.array([self._pool.gpus_held(*place) for place in gangs])
            share = held / np.maximum(gpus, 1)
        held_s = gpus * share * (end_s - start_s)
        if self._attempts.may_stop:  # then a job may be here more than once
            np.add.at(self._allocated, job, held_s)
            np.add.at(self._restart_s, job, restart_s)
            np.add.at(self._lost_s, job, lost_s)
            np.add.at(self._checkpoint_s, job, checkpoint_s)
            np.add.at(self._worked_s, job, worked_s)
        else:
            self._allocated[job] = held_s
            self._worked_s[job] = worked_s

        row = np.repeat(np.arange(len(job)), pieces)
        node, gpus = node[row], gpus[row]
        flat = np.array(list(chain.from_iterable(gangs)), np.int64)
        of_gang = node < 0
        node[of_gang] = flat[::2]
        if self._pool is None:
            gpus[of_gang] = flat[1::2]
        attempt = (share, number, start_s, end_s, restart_s, lost_s, checkpoint_s, outcome)
        after = start_s[row] >= self._tier_since_s[node]
        tier = np.where(after, self._node_tier[node], self._tier_before[node])
        self._gathered.append((job[row], node, gpus, tier, *(column[row] for column in attempt)))
        self._pieces_held += len(row)

    def _write_allocations(self) -> None:
        if not self._gathered:
            return
        job, node, gpus, tier, share, number, start_s, end_s, restart_s, lost_s, checkpoint_s, outcome = map(
            np.concatenate, zip(*self._gathered, strict=True)
        )
        self._gathered.clear()
        self._pieces_held = 0
        cohort = self._node_cohort[node]
        activity = self._jobs.activity[job]
        mean_activity, power_w = self._activity[activity], self._powers_w[0][1][cohort, activity]
        for first, later_w in self._powers_w[1:]:
            power_w[first:] = later_w[cohort[first:], activity[first:]]
        self._powers_w = [(0, self._powers_w[-1][1])]
        if self._attempts.may_stop:  # in set-up and restarts a process holds the GPUs and no kernel runs
            resting = restart_s / np.maximum(end_s - start_s, 1e-300)
            mean_activity = mean_activity * (1 - resting)
            power_w = power_w - (power_w - self._context_w[cohort]) * resting  # exact where there is none
        power_w *= gpus * share
        np.add.at(self._energy_j, job, power_w * (end_s - start_s))
        self._allocations.write(
            {
                "job": job,
                "attempt": number,
                "node": node,
                "gpus": gpus,
                "gpu_share": share,
                "start_s": start_s,
                "end_s": end_s,
                "restart_s": restart_s,
                "lost_s": lost_s,
                "checkpoint_s": checkpoint_s,
                "outcome": schema.labels(outcome, schema.ATTEMPT_OUTCOMES),
                **self._cohort_labels(cohort, tier),
                **self._owner_labels(self._jobs.tenant[job], activity),
                "activity": mean_activity.astype(np.float32),
                "power_w": power_w,
            }
        )

    def _cohort_labels(self, cohort: Any, tier: Any) -> dict[str, pa.Array]:
        return {
            "cohort": schema.labels(cohort, [c.name for c in self._cohorts]),
            "gpu_model": schema.labels(self._model_of[cohort], self._models),
            "tier": schema.labels(tier, self._tiers),
        }

    def _owner_labels(self, tenant: Any, activity: Any) -> dict[str, pa.Array]:
        return {
            "tenant": schema.labels(tenant, self._jobs.tenants),
            "workload": schema.labels(self._workload_of[activity], self._workloads),
            "workload_class": schema.labels(self._class_of[activity], self._classes),
        }

    def close(self, end_s: float) -> dict[str, int]:
        """Write what is left and the other tables; return the number of rows of each."""
        self.gather()
        self._write_allocations()
        with self._allocations:
            rows = {"allocations": self._allocations.rows}
        rows["jobs"] = write_table(self._folder, "jobs", self._job_columns())
        rows["node_states"] = write_table(self._folder, "node_states", self._node_state_columns(end_s))
        time_s, kind, subject, detail = zip(*self._events, strict=True) if self._events else ((),) * 4
        kinds, code = _codes(kind)
        events = {
            "time_s": time_s,
            "kind": schema.labels(code, kinds),
            "subject": subject,
            "detail": detail,
        }
        rows["events"] = write_table(self._folder, "events", events)
        rows["queue"] = write_table(self._folder, "queue", self._queue_columns())
        rows["failures"] = write_table(self._folder, "failures", self._failure_columns())
        rows["sales"] = write_table(self._folder, "sales", self._sale_columns())
        return rows

    def installed_gpu_s(self, end_s: float) -> list[float]:
        """GPU seconds for which the nodes of each cohort were in service, up or down."""
        first_s: dict[int, float] = {}
        last_s: dict[int, float] = {}
        for time_s, node, state, *_ in self._node_changes:
            if state == schema.NODE_STATES.index("retired"):
                last_s[node] = time_s
            elif state != schema.NODE_STATES.index("stored"):
                first_s.setdefault(node, time_s)
        total = [0.0] * len(self._cohorts)
        for node, from_s in first_s.items():
            k = int(self._node_cohort[node])
            total[k] += self._cohorts[k].gpus_per_node * (last_s.get(node, end_s) - from_s)
        return total

    @property
    def allocated_gpu_s(self) -> float:
        """GPU seconds held by all jobs."""
        return float(self._allocated.sum())

    def checks(self, running: int, waiting: int) -> list[Check]:
        """The conservation laws of jobs and of work. *running* and *waiting* are the model's own counts."""
        jobs = self._jobs
        count = np.bincount(self._status, minlength=len(schema.JOB_STATUSES))
        completed = count[schema.COMPLETED]
        done = self._status == schema.COMPLETED
        width = jobs.gpus[done] * jobs.gpu_share[done].astype(np.float64)
        of_job = self._speed[self._cohort[done], jobs.activity[done]]
        return [
            Check(
                "jobs submitted = completed + running + waiting + rejected",
                len(jobs),
                int(completed + running + waiting + np.sum(self._rejected >= 0)),
            ),
            Check("jobs that neither run nor ended = waiting", int(count[schema.QUEUED]), waiting),
            Check(
                "GPU seconds of completed jobs at reference speed = GPU seconds asked for",
                float(np.sum(self._worked_s[done] * width)),
                float(np.sum(jobs.duration_s[done] * width)),
                float(np.sum(2 * np.spacing(self._end_s[done]) * of_job * width)),
            ),
        ]

    def _job_columns(self) -> dict[str, Any]:
        import pyarrow as pa

        jobs = self._jobs
        attempts, preemptions = self._counts()
        missing = attempts == 0
        start_s = self._start_s.copy()
        start_s[list(self._first_start_s)] = list(self._first_start_s.values())
        restart_s, lost_s, checkpoint_s = (
            v if len(v) else np.zeros(len(jobs)) for v in (self._restart_s, self._lost_s, self._checkpoint_s)
        )
        width = jobs.gpus * jobs.gpu_share.astype(np.float64)
        return {
            "job": np.arange(len(jobs)),
            "job_id": jobs.job_id,
            **self._owner_labels(jobs.tenant, jobs.activity),
            "user": schema.labels(jobs.user, jobs.users),
            "submit_s": jobs.submit_s,
            "gpus": jobs.gpus,
            "gpu_share": jobs.gpu_share.astype(np.float64),
            "reference_duration_s": jobs.duration_s,
            "status": schema.labels(self._status, schema.JOB_STATUSES),
            "reject_reason": schema.labels(self._rejected, REJECT_REASONS),
            "warm": jobs.warm,
            "start_s": pa.array(start_s, mask=missing),
            "end_s": pa.array(self._end_s, mask=missing),
            "wait_s": pa.array(start_s - jobs.submit_s, mask=missing | jobs.warm),
            "gpu_model": schema.labels(np.where(missing, -1, self._model_of[self._cohort]), self._models),
            "nodes": pa.array(self._nodes, mask=missing),
            "allocated_gpu_s": self._allocated,
            "attempts": attempts,
            "preemptions": preemptions,
            "restart_gpu_s": restart_s * width,
            "lost_gpu_s": lost_s * width,
            "checkpoint_gpu_s": checkpoint_s * width,
            "failures": _column(self._fails, len(jobs)),
            "energy_kwh": self._energy_j / 3.6e6,
        }

    def _counts(self) -> tuple[Any, Any]:
        """How often each job was started, and how often it was stopped and had to wait."""

        stops, moves = (_column(counts, len(self._jobs)) for counts in (self._stops, self._moves))
        return stops + (self._status < schema.QUEUED), stops - moves

    def _node_state_columns(self, end_s: float) -> dict[str, Any]:
        changes = self._node_changes
        time_s, nodes, states, causes, tiers, idle_w = zip(*changes, strict=True) if changes else ((),) * 6
        node = np.array(nodes, np.int32)
        cohort = self._node_cohort[node]
        born_s = np.array([c.born_s for c in self._cohorts])
        gpus = np.array([c.gpus_per_node for c in self._cohorts], np.int32)
        names, cause = _codes(causes)
        return {
            "time_s": time_s,
            "node": node,
            "state": schema.labels(states, schema.NODE_STATES),
            "cause": schema.labels(cause, names),
            **self._cohort_labels(cohort, tiers),
            "gpus": gpus[cohort],
            "age_s": np.array(time_s, np.float64) - born_s[cohort],
            "idle_power_w": idle_w,
        }

    def _failure_columns(self) -> dict[str, Any]:
        failures = self._failures
        node = np.array([f.node for f in failures], np.int32)
        kinds, kind = _codes(f.kind for f in failures)
        repairs, repair = _codes(f.repair for f in failures if f.repair)
        at = iter(repair.tolist())
        tier = [f.tier for f in failures]
        return {
            "time_s": [f.time_s for f in failures],
            "node": node,
            "gpu": [f.gpu for f in failures],
            "job": [f.job for f in failures],
            **self._cohort_labels(self._node_cohort[node], tier),
            "failure": schema.labels(kind, kinds),
            "xid": [f.xid for f in failures],
            "repair": schema.labels([next(at) if f.repair else -1 for f in failures], repairs),
            "unit_age_s": [f.unit_age_s for f in failures],
            "down_s": [f.down_s for f in failures],
            "jobs_stopped": [f.jobs_stopped for f in failures],
        }

    def _sale_columns(self) -> dict[str, Any]:
        time_s, cohorts, gpus, usd, discount = zip(*self._sales, strict=True) if self._sales else ((),) * 5
        cohort = np.array(cohorts, np.int32)
        born_s = np.array([c.born_s for c in self._cohorts])
        return {
            "time_s": time_s,
            "cohort": schema.labels(cohort, [c.name for c in self._cohorts]),
            "gpu_model": schema.labels(self._model_of[cohort], self._models),
            "gpus": gpus,
            "age_s": np.array(time_s, np.float64) - born_s[cohort],
            "usd_per_gpu": usd,
            "discount": discount,
        }

    def _queue_columns(self) -> dict[str, Any]:
        """Change points of the queue: submissions, preemptions and starts of the jobs that waited."""
        jobs = self._jobs
        runs = self._status < schema.QUEUED
        start_s = self._start_s  # of the last attempt; what came before is added below
        waited = (self._rejected < 0) & (~runs | (start_s > jobs.submit_s))
        left = waited & runs
        time_s = [jobs.submit_s[waited], start_s[left]]
        gpus = [jobs.gpus[waited], -jobs.gpus[left]]
        if self._stops:
            again, stop_s, from_s = (np.concatenate(v) for v in zip(*self._returns, strict=True))
            time_s += [stop_s, from_s]
            gpus += [jobs.gpus[again], -jobs.gpus[again]]
        times, at = np.unique(np.concatenate(time_s), return_inverse=True)
        change = np.concatenate(gpus)
        weights = (np.sign(change), change)
        waiting = [np.cumsum(np.bincount(at, weight, len(times))).astype(np.int64) for weight in weights]
        changed = np.logical_or.reduce([np.diff(column, prepend=0) != 0 for column in waiting])
        return {
            "time_s": times[changed],
            "jobs_waiting": waiting[0][changed],
            "gpus_waiting": waiting[1][changed],
        }


def _column(counts: dict[int, int], length: int) -> Any:
    """*counts* by row as a column; rows that are not in it have none."""
    found = np.zeros(length, np.int32)
    found[list(counts)] = list(counts.values())
    return found


def _codes(texts: Iterable[str]) -> tuple[list[str], Ints]:
    """The distinct *texts*, sorted, and the index of each text among them."""
    texts = list(texts)
    names = sorted(set(texts))
    index = {name: i for i, name in enumerate(names)}
    return names, np.array([index[text] for text in texts], np.int64)
