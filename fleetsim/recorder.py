"""An observer that keeps a run: attempts, node states and events, as columns written to Parquet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fleetsim import schema
from fleetsim.books import Check
from fleetsim.eligibility import REJECT_REASONS
from fleetsim.observer import Attempts, Observer
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
MOSTLY_ONE_VALUE = ("gpu_share", "restart_s", "lost_s", "restart_gpu_s", "lost_gpu_s")


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


class Recorder(Observer):
    """Keeps what ``Observer`` is told. Call :meth:`gather` often, and :meth:`close` at the end."""

    def __init__(
        self,
        folder: Path,
        jobs: Jobs,
        rejected: Codes,
        cohorts: Sequence[Cohort],
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
        activity = np.array([a.busy_share * a.sm_active for a in activities])
        self._activity = activity.astype(np.float32)
        self._power_w = np.array([c.model.power_w(activity) for c in cohorts])  # [cohort, activity]
        self._idle_w = np.array([c.model.power_w(0.0) for c in cohorts])
        count = len(jobs)
        self._start_s = np.frombuffer(attempts.start_s)  # views: they follow the model
        self._end_s = np.frombuffer(attempts.end_s)
        self._status = np.where(rejected >= 0, schema.REJECTED, schema.QUEUED).astype(np.int8)
        self._cohort = np.full(count, -1, np.int32)
        self._nodes = np.zeros(count, np.int32)
        self._allocated = np.zeros(count)
        self._worked_s = np.zeros(count)  # kept work, on the reference GPU
        self._speed = np.array(
            [[c.model.speed(a.workload_class, a.reference) for a in activities] for c in cohorts]
        )
        self._penalty = penalty
        self._pool = pool
        self._slicing = slicing
        self._attempts = attempts
        self._completed: list[int] = []
        self.completed = self._completed.append  # type: ignore[method-assign]  # hot path
        self._cut_off: list[int] = []
        self._stopped: list[tuple[int, int, float, float, int, float, float, bool]] = []
        self._resliced: list[tuple[int, float, float, int, float, float]] = []
        self._stops: dict[int, int] = {}  # how often each job was stopped ...
        self._moves: dict[int, int] = {}  # ... and of these, moved
        self._returns: list[tuple[Ints, Floats, Floats]] = []  # job, when stopped, start of that attempt
        self._first_start_s: dict[int, float] = {}  # of the jobs that were stopped or resliced
        self._restart_s = np.zeros(count if attempts.may_stop else 0)
        self._lost_s = np.zeros(len(self._restart_s))
        self._gathered: list[tuple[Any, ...]] = []
        self._pieces_held = 0
        self._node_changes: list[tuple[float, int, str, str]] = []
        self._events: list[tuple[float, str, str, str]] = []
        self._allocations = TableWriter(folder, "allocations")

    def node_changed(self, now_s: float, node: int, state: str, cause: str) -> None:
        self._node_changes.append((now_s, node, state, cause))

    def event(self, now_s: float, kind: str, subject: str, detail: str) -> None:
        self._events.append((now_s, kind, subject, detail))

    def stopped(self, job: int, restart_s: float, lost_s: float, moved: bool, /) -> None:
        attempts = self._attempts
        number = self._stops.get(job, 0) + 1
        self._stops[job] = number
        if moved:
            self._moves[job] = self._moves.get(job, 0) + 1
        if number == 1:
            self._first_start_s[job] = attempts.start_s[job]
        at = attempts.start_s[job], attempts.end_s[job], attempts.node[job]
        self._stopped.append((job, number, *at, restart_s, lost_s, moved))

    def resliced(self, job: int, /) -> None:
        attempts, slicing = self._attempts, self._slicing
        assert slicing is not None
        self._first_start_s.setdefault(job, attempts.start_s[job])
        at = attempts.start_s[job], attempts.end_s[job], attempts.node[job]
        self._resliced.append((job, *at, slicing.rate[job], slicing.held[job]))

    def cut_off(self, job: int, /) -> None:
        self._cut_off.append(job)

    def gather(self, least: int = 1) -> None:
        """Turn what has come in, if *least* or more, into columns; write those that make a row group."""
        if len(self._completed) + len(self._cut_off) + len(self._stopped) + len(self._resliced) < least:
            return
        if self._resliced:
            self._gather_resliced()
        if self._stopped:
            job, number, start_s, end_s, node, restart_s, lost_s, moved = zip(*self._stopped, strict=True)
            self._stopped.clear()
            self._returns.append((np.array(job, np.int64), np.array(end_s), np.array(start_s)))
            self._add(
                np.array(job, np.int64),
                np.array(number, np.int16),
                np.array(start_s),
                np.array(end_s),
                np.array(node, np.int32),
                np.array(restart_s),
                np.array(lost_s),
                np.where(moved, schema.MIGRATED, schema.PREEMPTED).astype(np.int8),
            )
        for held, outcome in ((self._completed, schema.COMPLETED), (self._cut_off, schema.RUNNING)):
            if held:
                self._gather_last(np.array(held, np.int64), outcome)
                held.clear()
        if self._pieces_held >= ROW_GROUP:
            self._write_allocations()

    def _gather_resliced(self) -> None:
        job, start_s, end_s, node, rate, held = zip(*self._resliced, strict=True)
        self._resliced.clear()
        first, none = np.ones(len(job), np.int16), np.zeros(len(job))
        self._add(
            np.array(job, np.int64),
            first,
            np.array(start_s),
            np.array(end_s),
            np.array(node, np.int32),
            none,
            none,
            np.full(len(job), schema.RESLICED, np.int8),
            np.array(rate),
            np.array(held),
        )

    def _gather_last(self, job: Ints, outcome: int) -> None:
        """The last attempts of *job*, as the model's columns have them."""
        attempts = self._attempts
        start_s, end_s = self._start_s[job], self._end_s[job]
        number = np.ones(len(job), np.int16)
        restart_s = np.zeros(len(job))
        if attempts.may_stop:
            number += np.fromiter((self._stops.get(j, 0) for j in job.tolist()), np.int16, len(job))
            owed_s = np.fromiter((attempts.owed_s.get(j, 0.0) for j in job.tolist()), np.float64, len(job))
            restart_s = np.minimum(owed_s, end_s - start_s)
        self._status[job] = outcome
        node = np.frombuffer(attempts.node, np.int32)[job]
        codes = np.full(len(job), outcome, np.int8)
        none = np.zeros(len(job))
        if self._slicing is None:
            self._add(job, number, start_s, end_s, node, restart_s, none, codes)
        else:
            rate, held = (np.frombuffer(column)[job] for column in (self._slicing.rate, self._slicing.held))
            self._add(job, number, start_s, end_s, node, restart_s, none, codes, rate, held)

    def _add(
        self,
        job: Ints,
        number: Any,
        start_s: Floats,
        end_s: Floats,
        node: Any,
        restart_s: Floats,
        lost_s: Floats,
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
        worked_s = (end_s - start_s - restart_s - lost_s) * self._speed[
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
        attempt = (share, number, start_s, end_s, restart_s, lost_s, outcome)
        self._gathered.append((job[row], node, gpus, *(column[row] for column in attempt)))
        self._pieces_held += len(row)

    def _write_allocations(self) -> None:
        if not self._gathered:
            return
        job, node, gpus, share, number, start_s, end_s, restart_s, lost_s, outcome = map(
            np.concatenate, zip(*self._gathered, strict=True)
        )
        self._gathered.clear()
        self._pieces_held = 0
        cohort = self._node_cohort[node]
        activity = self._jobs.activity[job]
        mean_activity, power_w = self._activity[activity], self._power_w[cohort, activity]
        if self._attempts.may_stop:  # power is a straight line in activity
            working = 1 - restart_s / np.maximum(end_s - start_s, 1e-300)
            idle_w = self._idle_w[cohort]
            mean_activity, power_w = mean_activity * working, idle_w + (power_w - idle_w) * working
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
                "outcome": schema.labels(outcome, schema.ATTEMPT_OUTCOMES),
                **self._cohort_labels(cohort),
                **self._owner_labels(self._jobs.tenant[job], activity),
                "activity": mean_activity.astype(np.float32),
                "power_w": power_w * gpus * share,
            }
        )

    def _cohort_labels(self, cohort: Any) -> dict[str, pa.Array]:
        return {
            "cohort": schema.labels(cohort, [c.name for c in self._cohorts]),
            "gpu_model": schema.labels(self._model_of[cohort], self._models),
            "tier": schema.labels(np.zeros(len(cohort)), [schema.TIER]),
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
        rows["jobs"] = self._write("jobs", self._job_columns())
        rows["node_states"] = self._write("node_states", self._node_state_columns(end_s))
        time_s, kind, subject, detail = zip(*self._events, strict=True) if self._events else ((),) * 4
        kinds, code = _codes(kind)
        events = {
            "time_s": time_s,
            "kind": schema.labels(code, kinds),
            "subject": subject,
            "detail": detail,
        }
        rows["events"] = self._write("events", events)
        rows["queue"] = self._write("queue", self._queue_columns())
        return rows

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

    def _write(self, table: str, columns: dict[str, Any]) -> int:
        with TableWriter(self._folder, table) as writer:
            writer.write(columns)
            return writer.rows

    def _job_columns(self) -> dict[str, Any]:
        import pyarrow as pa

        jobs = self._jobs
        attempts, preemptions = self._counts()
        missing = attempts == 0
        start_s = self._start_s.copy()
        start_s[list(self._first_start_s)] = list(self._first_start_s.values())
        restart_s, lost_s = (v if len(v) else np.zeros(len(jobs)) for v in (self._restart_s, self._lost_s))
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
        }

    def _counts(self) -> tuple[Any, Any]:
        """How often each job was started, and how often it was stopped and had to wait."""

        def column(counts: dict[int, int]) -> Any:
            found = np.zeros(len(self._jobs), np.int32)
            found[list(counts)] = list(counts.values())
            return found

        stops = column(self._stops)
        return stops + (self._status < schema.QUEUED), stops - column(self._moves)

    def _node_state_columns(self, end_s: float) -> dict[str, Any]:
        changes = self._node_changes
        time_s, nodes, states, causes = zip(*changes, strict=True) if changes else ((),) * 4
        node = np.array(nodes, np.int32)
        cohort = self._node_cohort[node]
        born_s = np.array([c.born_s for c in self._cohorts])
        gpus = np.array([c.gpus_per_node for c in self._cohorts], np.int32)
        names, cause = _codes(causes)
        return {
            "time_s": time_s,
            "node": node,
            "state": schema.labels([schema.NODE_STATES.index(s) for s in states], schema.NODE_STATES),
            "cause": schema.labels(cause, names),
            **self._cohort_labels(cohort),
            "gpus": gpus[cohort],
            "age_s": np.array(time_s, np.float64) - born_s[cohort],
        }

    def _queue_columns(self) -> dict[str, Any]:
        """Change points of the queue: submissions, preemptions and starts of the jobs that waited."""
        jobs = self._jobs
        runs = self._status < schema.QUEUED
        start_s = self._start_s.copy()  # of the last attempt; what came before is added below
        if self._slicing is not None:  # there is only one
            start_s[list(self._first_start_s)] = list(self._first_start_s.values())
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


def _codes(texts: Iterable[str]) -> tuple[list[str], Ints]:
    """The distinct *texts*, sorted, and the index of each text among them."""
    texts = list(texts)
    names = sorted(set(texts))
    index = {name: i for i, name in enumerate(names)}
    return names, np.array([index[text] for text in texts], np.int64)
