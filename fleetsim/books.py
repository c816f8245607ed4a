"""The books of a run: every GPU hour and every kWh, by period, cohort, age, owner and state, and their audit.

Everything here is computed from the tables of the run folder, as exact integrals of change points, so that
anyone who has the folder can compute it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fleetsim import schema
from fleetsim.errors import BooksError
from fleetsim.records import Activity, Cohort, Floats, Ints
from fleetsim.units import HOUR_S, YEAR_S, at

if TYPE_CHECKING:
    import pyarrow as pa

#: Relative error that a conservation law may show: what adding floats costs, and no more.
TOLERANCE = 1e-9

PERIODS = ("hour", "day", "week", "month", "quarter", "year")


def period_edges(start: datetime, end_s: float, period: str) -> Floats:
    """Edges of calendar periods (UTC) from 0 to *end_s*, seconds from *start*; weeks begin on Monday."""
    from datetime import timedelta

    moment = start.replace(minute=0, second=0, microsecond=0)
    if period != "hour":
        moment = moment.replace(hour=0)
    if period == "week":
        moment -= timedelta(days=moment.weekday())
    months = {"month": 1, "quarter": 3, "year": 12}.get(period)
    if months:
        moment = moment.replace(day=1, month=(moment.month - 1) // months * months + 1)
    step = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1)}.get(period)
    edges = [0.0]
    last = at(start, end_s)
    while moment < last:
        if step:
            moment += step
        else:
            assert months is not None
            whole = moment.month - 1 + months
            moment = moment.replace(year=moment.year + whole // 12, month=whole % 12 + 1)
        edges.append((moment - start).total_seconds())
    return np.unique(np.clip([e for e in edges if e < end_s] + [end_s], 0, end_s))


@dataclass(frozen=True)
class Check:
    """A conservation law of a finished run: *left* and *right* must agree."""

    law: str
    left: float
    right: float
    slack: float = 0.0  # what the resolution of the numbers compared leaves open

    @property
    def error(self) -> float:
        """Relative difference of the two sides."""
        return abs(self.left - self.right) / max(abs(self.left), abs(self.right), 1e-300)

    @property
    def holds(self) -> bool:
        """Whether the two sides agree within :data:`TOLERANCE`."""
        largest = max(abs(self.left), abs(self.right))
        return abs(self.left - self.right) <= self.slack + TOLERANCE * largest

    def as_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            **asdict(self),
            "relative_error": 0.0 if self.left == self.right else self.error,
            "holds": self.holds,
        }


def verify(checks: Sequence[Check]) -> None:
    """Raise :class:`BooksError` naming every law of *checks* that does not hold."""
    broken = [c for c in checks if not c.holds]
    if broken:
        lines = [f"  {c.law}: {c.left!r} against {c.right!r} (relative error {c.error:.3g})" for c in broken]
        raise BooksError("the books of the run do not balance; nothing was kept.\n" + "\n".join(lines))


#: Parts of an attempt, in this order in time except that working comes in between.
_WORKING, _RESTARTING, _LOSING = range(3)


class _Cells:
    """The calendar of one cohort: where a period or a birthday ends, a new cell begins."""

    def __init__(self, cohort: Cohort, edges: Floats) -> None:
        end_s = edges[-1]
        first = np.ceil((edges[0] - cohort.born_s) / YEAR_S)
        birthdays = np.arange(first, np.floor((end_s - cohort.born_s) / YEAR_S) + 1) * YEAR_S + cohort.born_s
        inner = birthdays[(birthdays > edges[0]) & (birthdays < end_s)]
        self.edges = np.unique(np.concatenate([edges, inner]))
        middle = (self.edges[1:] + self.edges[:-1]) / 2
        self.period: Ints = np.searchsorted(edges, middle, "right") - 1
        self.age_band = np.floor((middle - cohort.born_s) / YEAR_S).astype(np.int64)

    def __len__(self) -> int:
        return len(self.edges) - 1

    def split(self, start_s: Floats, end_s: Floats) -> tuple[Ints, Ints, Floats, Floats]:
        """Cut intervals at the edges: row of each piece, its cell, its start and its end."""
        edges = self.edges
        if not len(self):  # a run of no length: nothing to cut
            return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0)
        a = np.clip(np.searchsorted(edges, start_s, "right") - 1, 0, len(self) - 1)
        b = np.clip(np.searchsorted(edges, end_s, "left") - 1, a, len(self) - 1)
        pieces = b - a + 1
        row = np.repeat(np.arange(len(a)), pieces)
        cell = a[row] + np.arange(len(row)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        return row, cell, np.maximum(start_s[row], edges[cell]), np.minimum(end_s[row], edges[cell + 1])


class _Waiting:
    """How long the queue has not been empty, as a function of time: exact, since it is piecewise linear."""

    def __init__(self, queue: pa.Table, end_s: float) -> None:
        time_s = queue["time_s"].to_numpy()
        waits = queue["jobs_waiting"].to_numpy() > 0
        self._times = np.append(time_s, max(end_s, time_s[-1] if len(time_s) else end_s))
        self._total = np.concatenate([[0.0], np.cumsum(np.diff(self._times) * waits)])

    def between(self, start_s: Floats, end_s: Floats) -> Floats:
        """Seconds of each interval during which jobs waited."""
        return np.asarray(
            np.interp(end_s, self._times, self._total) - np.interp(start_s, self._times, self._total),
            np.float64,
        )


class Books:
    """Adds up the tables of the run in *folder*. ``usage`` are the columns of the usage table."""

    def __init__(
        self,
        folder: Path,
        cohorts: Sequence[Cohort],
        activities: Sequence[Activity],
        tenants: Sequence[str],
        edges: Floats,
    ) -> None:
        import pyarrow.parquet as pq

        self._cohorts = cohorts
        self._activities = activities
        self._tenants = tenants
        self._edges = edges
        self._cells = [_Cells(cohort, edges) for cohort in cohorts]
        waiting = _Waiting(pq.read_table(folder / "queue.parquet"), edges[-1])
        shape = [len(cells) for cells in self._cells]
        up = [np.zeros(n) for n in shape]  # GPU seconds by cell ...
        up_waiting = [np.zeros(n) for n in shape]  # ... of them while jobs waited
        held = [np.zeros(n) for n in shape]
        held_waiting = [np.zeros(n) for n in shape]
        keys: list[Ints] = []
        seconds: list[Floats] = []
        self.allocated_gpu_s = 0.0
        self.allocated_j = 0.0

        nodes = pq.read_table(folder / "node_states.parquet")
        down = [np.zeros(n) for n in shape]
        for k, start_s, end_s, gpus, is_up in _node_intervals(nodes, cohorts, edges[-1]):
            row, cell, a, b = self._cells[k].split(start_s, end_s)
            spent = gpus[row] * (b - a)
            up[k] += np.bincount(cell, spent * is_up[row], shape[k])
            down[k] += np.bincount(cell, spent * ~is_up[row], shape[k])
            up_waiting[k] += np.bincount(cell, gpus[row] * waiting.between(a, b) * is_up[row], shape[k])

        names = [c.name for c in cohorts]
        of_activity = _Pairs(activities)
        for batch in _batches(folder / "allocations.parquet"):
            start_s, end_s, restart_s, lost_s, share = (
                batch[name].to_numpy() for name in ("start_s", "end_s", "restart_s", "lost_s", "gpu_share")
            )
            gpus_all = batch["gpus"].to_numpy() * share
            self.allocated_gpu_s += float(np.sum(gpus_all * (end_s - start_s)))
            self.allocated_j += float(np.sum(batch["power_w"].to_numpy() * (end_s - start_s)))
            owner = _codes(batch["tenant"], tenants) * len(activities) + of_activity.codes(batch)
            cohort = _codes(batch["cohort"], names)
            every = np.arange(len(start_s))
            parts = [(_WORKING, start_s + restart_s, end_s - lost_s, every)]
            for part, from_s, to_s in (
                (_RESTARTING, start_s, start_s + restart_s),
                (_LOSING, end_s - lost_s, end_s),
            ):
                if (some := np.nonzero(to_s > from_s)[0]).size:
                    parts.append((part, from_s[some], to_s[some], some))
            for part, from_s, to_s, rows in parts:
                mine_gpus, mine_owner, mine_cohort = gpus_all[rows], owner[rows], cohort[rows]
                for k in np.unique(mine_cohort).tolist():
                    mine = np.nonzero(mine_cohort == k)[0]
                    row, cell, a, b = self._cells[k].split(from_s[mine], to_s[mine])
                    gpus = mine_gpus[mine][row]
                    spent = gpus * (b - a)
                    held[k] += np.bincount(cell, spent, shape[k])
                    held_waiting[k] += np.bincount(cell, gpus * waiting.between(a, b), shape[k])
                    owners = len(tenants) * len(activities)
                    key, at_key = np.unique(
                        ((part * len(cohorts) + k) * owners + mine_owner[mine][row]) * (max(shape) + 1)
                        + cell,
                        return_inverse=True,
                    )
                    keys.append(key)
                    seconds.append(np.bincount(at_key, spent, len(key)).astype(np.float64))

        self.usage = self._usage(keys, seconds, down, up, up_waiting, held, held_waiting)

    def _usage(
        self,
        keys: list[Ints],
        seconds: list[Floats],
        down: list[Floats],
        up: list[Floats],
        up_waiting: list[Floats],
        held: list[Floats],
        held_waiting: list[Floats],
    ) -> dict[str, Any]:
        """Rows of the usage table: three states of allocated time by owner, two of idle time, and down."""
        cohorts, activities = self._cohorts, self._activities
        stride = max(map(len, self._cells)) + 1
        key, at_key = np.unique(np.concatenate([*keys, np.zeros(0, np.int64)]), return_inverse=True)
        by_part = np.bincount(at_key, np.concatenate([*seconds, np.zeros(0)]), len(key))
        part, key = np.divmod(key, len(cohorts) * len(self._tenants) * len(activities) * stride)
        key, at_key = np.unique(key, return_inverse=True)
        spent, restarting, losing = (
            np.bincount(at_key, by_part * which, len(key))
            for which in (part >= 0, part == _RESTARTING, part == _LOSING)
        )
        owner, cell = key // stride, key % stride
        activity = owner % len(activities)
        owner //= len(activities)
        tenant, cohort = owner % len(self._tenants), owner // len(self._tenants)

        busy_share = np.array([a.busy_share for a in activities])
        sm_active = np.array([a.sm_active for a in activities])
        stalled_w = np.array([c.model.power_w(0.0) for c in cohorts])
        busy_w = np.array([c.model.power_w(sm_active) for c in cohorts])
        busy = (spent - restarting) * busy_share[activity]
        lost = losing * busy_share[activity]
        none = np.full(sum(map(len, self._cells)), -1)
        idle_cohort = np.repeat(np.arange(len(cohorts)), [len(c) for c in self._cells])
        idle_cell = np.concatenate([np.arange(len(c)) for c in self._cells])
        idle_waiting = np.concatenate(up_waiting) - np.concatenate(held_waiting)
        idle_quiet = np.concatenate(up) - np.concatenate(held) - idle_waiting
        # What adding and subtracting floats leaves grows with the cohort's hours, not with those of one cell.
        whole = np.repeat([u.sum() for u in up], [len(u) for u in up])
        if ((idle_waiting < -TOLERANCE * whole) | (idle_quiet < -TOLERANCE * whole)).any():
            raise BooksError("the books of the run do not balance: more GPU time was allocated than was up.")
        noise = 1e-3 * TOLERANCE * whole
        idle_quiet = np.where(idle_quiet > noise, idle_quiet, 0.0)
        idle_waiting = np.where(idle_waiting > noise, idle_waiting, 0.0)

        parts = [  # state, cohort, cell, tenant, activity, GPU seconds, W per GPU
            ("down", idle_cohort, idle_cell, none, none, np.concatenate(down), 0 * stalled_w[idle_cohort]),
            ("idle_no_queue", idle_cohort, idle_cell, none, none, idle_quiet, stalled_w[idle_cohort]),
            ("idle_queue", idle_cohort, idle_cell, none, none, idle_waiting, stalled_w[idle_cohort]),
            ("stalled", cohort, cell, tenant, activity, spent - busy, stalled_w[cohort]),
            ("lost", cohort, cell, tenant, activity, lost, busy_w[cohort, activity]),
            ("productive", cohort, cell, tenant, activity, busy - lost, busy_w[cohort, activity]),
        ]
        state = np.concatenate([np.full(len(p[1]), schema.STATES.index(p[0])) for p in parts])
        cohort, cell, tenant, activity, gpu_s, power_w = (
            np.concatenate([p[i] for p in parts]) for i in range(1, 7)
        )
        period = np.concatenate([c.period for c in self._cells])
        age_band = np.concatenate([c.age_band for c in self._cells])
        offset = np.cumsum([0, *map(len, self._cells)])[:-1]
        place = offset[cohort] + cell
        order = np.lexsort((activity, tenant, state, cohort, age_band[place], period[place]))
        order = order[gpu_s[order] > 0]
        state, cohort, tenant, activity = state[order], cohort[order], tenant[order], activity[order]
        place, gpu_s = place[order], gpu_s[order]
        energy_kwh = gpu_s * power_w[order] / HOUR_S / 1000
        pue = np.array([c.site.pue for c in cohorts])

        def of_cohort(texts: list[str]) -> Any:
            names = sorted(set(texts))
            return schema.labels(np.array([names.index(t) for t in texts])[cohort], names)

        def of_owner(texts: list[str]) -> Any:
            names = sorted(set(texts))
            return schema.labels(np.array([*(names.index(t) for t in texts), -1])[activity], names)

        return {
            "period_start_s": self._edges[period[place]],
            "period_end_s": self._edges[period[place] + 1],
            "cohort": schema.labels(cohort, [c.name for c in cohorts]),
            "gpu_model": of_cohort([c.model.id for c in cohorts]),
            "tier": schema.labels(np.zeros(len(cohort)), [schema.TIER]),
            "generation": of_cohort([c.model.generation for c in cohorts]),
            "age_band": age_band[place].astype(np.int16),
            "tenant": schema.labels(tenant, self._tenants),
            "workload": of_owner([a.workload for a in activities]),
            "workload_class": of_owner([a.workload_class for a in activities]),
            "state": schema.labels(state, schema.STATES),
            "gpu_hours": gpu_s / HOUR_S,
            "energy_kwh": energy_kwh,
            "facility_energy_kwh": energy_kwh * pue[cohort],
        }

    def checks(self, jobs_allocated_gpu_s: float) -> list[Check]:
        """The conservation laws of GPU time and energy."""
        end_s = float(self._edges[-1])
        usage = self.usage
        cohort = _codes(usage["cohort"], [c.name for c in self._cohorts])
        state = _codes(usage["state"], schema.STATES)
        hours, energy = usage["gpu_hours"], usage["energy_kwh"]
        allocated = state >= schema.STATES.index("stalled")
        checks = [
            Check(
                f"cohort {c.name}: hours of all states = installed GPUs x time in service",
                float(hours[cohort == k].sum()),
                c.gpus * max(0.0, end_s - max(c.delivered_s, 0.0)) / HOUR_S,
            )
            for k, c in enumerate(self._cohorts)
        ]
        idle_w = np.array([c.model.power_w(0.0) for c in self._cohorts])
        idle = np.isin(state, [schema.STATES.index(s) for s in ("idle_no_queue", "idle_queue")])
        idle_kwh = float((hours * idle_w[cohort])[idle].sum()) / 1000
        checks += [
            Check(
                "GPU hours of stalled, lost and productive = GPU hours of allocations",
                float(hours[allocated].sum()),
                self.allocated_gpu_s / HOUR_S,
            ),
            Check(
                "GPU hours of allocations = GPU hours of jobs",
                self.allocated_gpu_s / HOUR_S,
                jobs_allocated_gpu_s / HOUR_S,
            ),
        ]
        return [
            *checks,
            Check(
                "energy of all states = energy of allocations + energy of idle GPUs",
                float(energy.sum()),
                self.allocated_j / 3.6e6 + idle_kwh,
            ),
        ]


def _codes(column: Any, names: Sequence[str]) -> Ints:
    """Positions in *names* of the values of a dictionary column; -1 for null."""
    index = {name: i for i, name in enumerate(names)}
    if hasattr(column, "combine_chunks"):
        column = column.combine_chunks()
    code = np.array([index[v] for v in column.dictionary.to_pylist()] or [-1], np.int64)
    taken = column.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return np.where(taken < 0, -1, code[taken])


class _Pairs:
    """Finds the activity of a row by the names of its workload and class."""

    def __init__(self, activities: Sequence[Activity]) -> None:
        self._workloads = sorted({a.workload for a in activities})
        self._classes = sorted({a.workload_class for a in activities})
        self._index = np.full((len(self._workloads), len(self._classes)), -1)
        for i, a in enumerate(activities):
            self._index[self._workloads.index(a.workload), self._classes.index(a.workload_class)] = i

    def codes(self, batch: pa.Table) -> Ints:
        workload = _codes(batch["workload"], self._workloads)
        return np.asarray(self._index[workload, _codes(batch["workload_class"], self._classes)], np.int64)


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet as pq

    columns = ["start_s", "end_s", "restart_s", "lost_s", "gpus", "gpu_share", "power_w"]
    columns += ["cohort", "tenant", "workload", "workload_class"]
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns, use_threads=False)


def _node_intervals(
    nodes: pa.Table, cohorts: Sequence[Cohort], end_s: float
) -> Iterator[tuple[int, Floats, Floats, Floats, Any]]:
    """For each cohort, the states of its nodes: start, end, GPUs, and whether they are up."""
    time_s = nodes["time_s"].to_numpy()
    node = nodes["node"].to_numpy()
    gpus = nodes["gpus"].to_numpy().astype(np.float64)
    up = _codes(nodes["state"], schema.NODE_STATES) == 0
    cohort = _codes(nodes["cohort"], [c.name for c in cohorts])
    order = np.lexsort((np.arange(len(node)), time_s, node))
    time_s, node, gpus, up, cohort = time_s[order], node[order], gpus[order], up[order], cohort[order]
    until = np.append(time_s[1:], end_s)
    until[np.append(node[1:] != node[:-1], True)] = end_s  # the last change of a node holds to the end
    for k in range(len(cohorts)):
        mine = cohort == k
        yield k, time_s[mine], until[mine], gpus[mine], up[mine]
