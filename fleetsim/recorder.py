"""An observer that keeps a run: attempts, node states and events, as columns written to Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fleetsim import schema
from fleetsim.books import Check
from fleetsim.eligibility import REJECT_REASONS
from fleetsim.observer import Attempts, Observer
from fleetsim.records import Codes, Cohort, Ints, Jobs

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows of a row group of the allocations.
ROW_GROUP = 1 << 17

#: Parquet encodings of times and row numbers: smaller and quicker to compress than plain ones.
ENCODINGS = {"float64": "BYTE_STREAM_SPLIT", "int64": "DELTA_BINARY_PACKED"}


class TableWriter:
    """Writes batches of columns to ``folder/<table>.parquet`` in the table's schema. A context manager."""

    def __init__(self, folder: Path, table: str) -> None:
        import pyarrow.parquet as pq

        self._schema = schema.schema(table)
        encodings = {c.name: ENCODINGS[c.kind] for c in schema.TABLES[table] if c.kind in ENCODINGS}
        few_values = [c.name for c in schema.TABLES[table] if c.kind not in (*ENCODINGS, "string", "bool")]
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
        self, folder: Path, jobs: Jobs, rejected: Codes, cohorts: Sequence[Cohort], attempts: Attempts
    ) -> None:
        activities = jobs.activities
        self._folder = folder
        self._jobs = jobs
        self._cohorts = cohorts
        self._rejected = rejected
        self._models, self._model_of = _codes(c.model.id for c in cohorts)
        self._workloads, self._workload_of = _codes(a.workload for a in activities)
        self._classes, self._class_of = _codes(a.workload_class for a in activities)
        self._node_cohort = np.repeat(np.arange(len(cohorts), dtype=np.int32), [c.nodes for c in cohorts])
        activity = np.array([a.busy_share * a.sm_active for a in activities])
        self._activity = activity.astype(np.float32)
        self._power_w = np.array([c.model.power_w(activity) for c in cohorts])  # [cohort, activity]
        count = len(jobs)
        self._start_s = np.frombuffer(attempts.start_s)  # views: they follow the model
        self._end_s = np.frombuffer(attempts.end_s)
        self._status = np.where(rejected >= 0, schema.REJECTED, schema.QUEUED).astype(np.int8)
        self._cohort = np.full(count, -1, np.int32)
        self._nodes = np.zeros(count, np.int32)
        self._allocated = np.zeros(count)
        self._attempts = attempts
        self._completed: list[int] = []
        self.completed = self._completed.append  # type: ignore[method-assign]  # hot path
        self._cut_off: list[int] = []
        self._gathered: list[tuple[Any, ...]] = []
        self._pieces_held = 0
        self._node_changes: list[tuple[float, int, str, str]] = []
        self._events: list[tuple[float, str, str, str]] = []
        self._allocations = TableWriter(folder, "allocations")

    def node_changed(self, now_s: float, node: int, state: str, cause: str) -> None:
        self._node_changes.append((now_s, node, state, cause))

    def event(self, now_s: float, kind: str, subject: str, detail: str) -> None:
        self._events.append((now_s, kind, subject, detail))

    def cut_off(self, job: int, /) -> None:
        self._cut_off.append(job)

    def gather(self, least: int = 1) -> None:
        """Turn what has come in, if *least* or more, into columns; write those that make a row group."""
        if len(self._completed) + len(self._cut_off) < least:
            return
        for held, outcome in ((self._completed, schema.COMPLETED), (self._cut_off, schema.RUNNING)):
            if held:
                self._gathered.append(self._pieces(np.array(held, np.int64), outcome))
                self._pieces_held += len(self._gathered[-1][0])
                held.clear()
        if self._pieces_held >= ROW_GROUP:
            self._write_allocations()

    def _pieces(self, job: Ints, outcome: int) -> tuple[Any, ...]:
        """The latest attempts of *job*, a row for each node: job, node, GPUs, start, end, outcome."""
        attempts = self._attempts
        start_s, end_s = self._start_s[job], self._end_s[job]
        node = np.frombuffer(attempts.node, np.int32)[job]
        gpus = self._jobs.gpus[job]
        pieces = np.ones(len(job), np.int32)
        split = np.nonzero(node < 0)[0]
        gangs = [attempts.gangs[~i] for i in node[split].tolist()]
        pieces[split] = [len(gang) // 2 for gang in gangs]
        first = node.copy()
        first[split] = [gang[0] for gang in gangs]
        self._status[job] = outcome
        self._cohort[job] = self._node_cohort[first]
        self._nodes[job] = pieces
        self._allocated[job] += gpus * (end_s - start_s)

        row = np.repeat(np.arange(len(job)), pieces)
        node, gpus = node[row], gpus[row]
        flat = np.array(list(chain.from_iterable(gangs)), np.int32)
        of_gang = node < 0
        node[of_gang], gpus[of_gang] = flat[::2], flat[1::2]
        return job[row], node, gpus, start_s[row], end_s[row], np.full(len(row), outcome, np.int8)

    def _write_allocations(self) -> None:
        if not self._gathered:
            return
        job, node, gpus, start_s, end_s, outcome = map(np.concatenate, zip(*self._gathered, strict=True))
        self._gathered.clear()
        self._pieces_held = 0
        cohort = self._node_cohort[node]
        activity = self._jobs.activity[job]
        self._allocations.write(
            {
                "job": job,
                "attempt": np.ones(len(job), np.int16),
                "node": node,
                "gpus": gpus,
                "start_s": start_s,
                "end_s": end_s,
                "outcome": schema.labels(outcome, schema.ATTEMPT_OUTCOMES),
                **self._cohort_labels(cohort),
                **self._owner_labels(self._jobs.tenant[job], activity),
                "activity": self._activity[activity],
                "power_w": self._power_w[cohort, activity] * gpus,
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
        speed = np.array(
            [[c.model.speed(a.workload_class, a.reference) for a in jobs.activities] for c in self._cohorts]
        )
        of_job = speed[self._cohort[done], jobs.activity[done]]
        did_s = (self._end_s - self._start_s)[done] * of_job
        return [
            Check(
                "jobs submitted = completed + running + waiting + rejected",
                len(jobs),
                int(completed + running + waiting + np.sum(self._rejected >= 0)),
            ),
            Check("jobs without an attempt = waiting", int(count[schema.QUEUED]), waiting),
            Check(
                "GPU seconds of completed jobs at reference speed = GPU seconds asked for",
                float(np.sum(did_s * jobs.gpus[done])),
                float(np.sum((jobs.duration_s * jobs.gpus)[done])),
                float(np.sum(2 * np.spacing(self._end_s[done]) * of_job * jobs.gpus[done])),
            ),
        ]

    def _write(self, table: str, columns: dict[str, Any]) -> int:
        with TableWriter(self._folder, table) as writer:
            writer.write(columns)
            return writer.rows

    def _job_columns(self) -> dict[str, Any]:
        import pyarrow as pa

        jobs = self._jobs
        missing = self._status >= schema.QUEUED  # or rejected: it never started
        return {
            "job": np.arange(len(jobs)),
            "job_id": jobs.job_id,
            **self._owner_labels(jobs.tenant, jobs.activity),
            "user": schema.labels(jobs.user, jobs.users),
            "submit_s": jobs.submit_s,
            "gpus": jobs.gpus,
            "reference_duration_s": jobs.duration_s,
            "status": schema.labels(self._status, schema.JOB_STATUSES),
            "reject_reason": schema.labels(self._rejected, REJECT_REASONS),
            "warm": jobs.warm,
            "start_s": pa.array(self._start_s, mask=missing),
            "end_s": pa.array(self._end_s, mask=missing),
            "wait_s": pa.array(self._start_s - jobs.submit_s, mask=missing | jobs.warm),
            "gpu_model": schema.labels(np.where(missing, -1, self._model_of[self._cohort]), self._models),
            "nodes": pa.array(self._nodes, mask=missing),
            "allocated_gpu_s": self._allocated,
        }

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
        """Change points of the queue, from submissions and starts of the jobs that waited."""
        jobs = self._jobs
        never = self._status >= schema.QUEUED
        waited = (self._rejected < 0) & (never | (self._start_s > jobs.submit_s))
        left = waited & ~never
        time_s = np.concatenate([jobs.submit_s[waited], self._start_s[left]])
        gpus = np.concatenate([jobs.gpus[waited], -jobs.gpus[left]])
        times, at = np.unique(time_s, return_inverse=True)
        return {
            "time_s": times,
            "jobs_waiting": np.cumsum(np.bincount(at, np.sign(gpus), len(times))).astype(np.int64),
            "gpus_waiting": np.cumsum(np.bincount(at, gpus, len(times))).astype(np.int64),
        }


def _codes(texts: Iterable[str]) -> tuple[list[str], Ints]:
    """The distinct *texts*, sorted, and the index of each text among them."""
    texts = list(texts)
    names = sorted(set(texts))
    index = {name: i for i, name in enumerate(names)}
    return names, np.array([index[text] for text in texts], np.int64)
