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
from fleetsim.life.power import capped_sites
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


#: Parts of an attempt. Restarting is at its beginning, losing at its end; the others are in between, mixed.
_WORKING, _RESTARTING, _LOSING, _WRITING = range(4)


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


class _Level:
    """A piecewise constant function of time, to be integrated exactly; 0 before its first time."""

    def __init__(self, time_s: Any, value: Any, end_s: float) -> None:
        self.time_s, self.value = time_s, value
        self._times = np.append(time_s, max(end_s, time_s[-1] if len(time_s) else end_s))
        self._total = np.concatenate([[0.0], np.cumsum(np.diff(self._times) * value)])
        self._end_s = end_s

    def between(self, start_s: Floats, end_s: Floats) -> Floats:
        """The integral over each interval."""
        return np.asarray(
            np.interp(end_s, self._times, self._total) - np.interp(start_s, self._times, self._total),
            np.float64,
        )

    def where(self, other: _Level) -> _Level:
        """This, times *other*."""
        time_s = np.union1d(self.time_s, other.time_s)
        values = []
        for level in (self, other):
            at = np.searchsorted(level.time_s, time_s, "right") - 1
            values.append(np.where(at >= 0, np.append(level.value, 0.0)[at], 0.0))
        return _Level(time_s, values[0] * values[1], self._end_s)


class Books:
    """Adds up the tables of the run in *folder*. ``usage`` are the columns of the usage table."""

    def __init__(
        self,
        folder: Path,
        cohorts: Sequence[Cohort],
        activities: Sequence[Activity],
        tenants: Sequence[str],
        tiers: Sequence[str],
        edges: Floats,
    ) -> None:
        import pyarrow.parquet as pq

        self._cohorts = cohorts
        self._activities = activities
        self._tenants = tenants
        self._tiers = tiers
        self._edges = edges
        end_s = float(edges[-1])
        nodes = pq.read_table(folder / "node_states.parquet")
        cohort = _codes(nodes["cohort"], [c.name for c in cohorts])
        tier = _codes(nodes["tier"], tiers)
        #: Cohorts on rungs, as cohort x rungs + rung: what hours are added up for.
        self._groups: Ints = np.unique(cohort * len(tiers) + tier)
        self._cohort = self._groups // len(tiers)
        cells = [_Cells(cohort, edges) for cohort in cohorts]
        self._cells = [cells[k] for k in self._cohort]
        queue = pq.read_table(folder / "queue.parquet")
        waits = _Level(queue["time_s"].to_numpy(), queue["jobs_waiting"].to_numpy() > 0, end_s)
        self._levels = [_levels(cohorts[k], waits, end_s) for k in self._cohort]
        shape = [len(c) for c in self._cells]
        # By cell: GPU seconds, GPU seconds while jobs waited, and both weighted with the carbon intensity.
        up = [np.zeros((4, n)) for n in shape]
        held = [np.zeros((4, n)) for n in shape]
        down = [np.zeros((4, n)) for n in shape]  # GPU seconds, J, J x carbon intensity
        keys: list[Ints] = []
        limited = bool(capped_sites(cohorts))
        # By key: GPU seconds, and x carbon intensity; then the J that power limits saved, and likewise.
        amounts: list[list[Floats]] = [[], [], [], []] if limited else [[], []]
        self.allocated_gpu_s = 0.0
        self.allocated_j = 0.0

        for g, start_s, until_s, gpus, is_up, idle_w in _node_intervals(
            nodes, np.searchsorted(self._groups, cohort * len(tiers) + tier), len(self._groups), end_s
        ):
            row, cell, a, b = self._cells[g].split(start_s, until_s)
            working, off = is_up[row], ~is_up[row]
            for i, spent in enumerate(self._measures(g, a, b)):
                up[g][i] += np.bincount(cell, spent * gpus[row] * working, shape[g])
                if i in (0, 2):
                    j = spent * idle_w[row] * off
                    down[g][i + 1] += np.bincount(cell, j, shape[g])
            down[g][0] += np.bincount(cell, (b - a) * gpus[row] * off, shape[g])

        names = [c.name for c in cohorts]
        of_activity = _Pairs(activities)
        for batch in _batches(folder / "allocations.parquet"):
            start_s, end_s_, restart_s, lost_s, writing_s, share = (
                batch[name].to_numpy()
                for name in ("start_s", "end_s", "restart_s", "lost_s", "checkpoint_s", "gpu_share")
            )
            gpus_all = batch["gpus"].to_numpy() * share
            self.allocated_gpu_s += float(np.sum(gpus_all * (end_s_ - start_s)))
            self.allocated_j += float(np.sum(batch["power_w"].to_numpy() * (end_s_ - start_s)))
            owner = _codes(batch["tenant"], tenants) * len(activities) + of_activity.codes(batch)
            of_group = _codes(batch["cohort"], names) * len(tiers) + _codes(batch["tier"], tiers)
            group = np.searchsorted(self._groups, of_group)
            if limited:
                less_w = self._less_w(batch, gpus_all, self._cohort[group], of_activity.codes(batch))
            from_s, to_s = start_s + restart_s, end_s_ - lost_s
            parts = [(_WORKING, from_s, to_s, np.arange(len(start_s)), np.ones(len(start_s)))]
            if (some := np.nonzero(writing_s)[0]).size:
                share_of = writing_s[some] / (to_s - from_s)[some]
                parts[0][-1][some] -= share_of
                parts.append((_WRITING, from_s[some], to_s[some], some, share_of))
            for part, from_s, to_s in (
                (_RESTARTING, start_s, start_s + restart_s),
                (_LOSING, end_s_ - lost_s, end_s_),
            ):
                if (some := np.nonzero(to_s > from_s)[0]).size:
                    parts.append((part, from_s[some], to_s[some], some, np.ones(len(some))))
            for part, from_s, to_s, rows, weight in parts:
                mine_gpus, mine_owner, mine_group = gpus_all[rows] * weight, owner[rows], group[rows]
                for g in np.unique(mine_group).tolist():
                    mine = np.nonzero(mine_group == g)[0]
                    row, cell, a, b = self._cells[g].split(from_s[mine], to_s[mine])
                    gpus = mine_gpus[mine][row]
                    owners = len(tenants) * len(activities)
                    key, at_key = np.unique(
                        ((part * len(self._groups) + g) * owners + mine_owner[mine][row]) * (max(shape) + 1)
                        + cell,
                        return_inverse=True,
                    )
                    keys.append(key)
                    for amount in amounts:
                        amount.append(np.zeros(len(key)))
                    weights = (gpus, gpus * less_w[rows][mine][row]) if limited else (gpus,)
                    for i, spent in enumerate(self._measures(g, a, b)):
                        held[g][i] += np.bincount(cell, gpus * spent, shape[g])
                        if i in (0, 2):
                            for k, each in enumerate(weights):
                                amounts[2 * k + i // 2][-1] += np.bincount(at_key, each * spent, len(key))

        self.down_j = sum(float(d[1].sum()) for d in down)
        self.usage = self._usage(keys, amounts, down, up, held)

    def _less_w(self, batch: pa.RecordBatch, gpus: Floats, cohort: Ints, activity: Ints) -> Floats:
        """By how many W a GPU of each allocation draws less while kernels run than without a power limit."""
        models, activities = [c.model for c in self._cohorts], self._activities
        sm_active = np.array([a.sm_active for a in activities])
        busy_w = np.array([m.busy_power_w(sm_active) for m in models])[cohort, activity]
        context_w = np.array([m.context_power_w for m in models])[cohort]
        length_s = batch["end_s"].to_numpy() - batch["start_s"].to_numpy()
        busy = 1 - batch["restart_s"].to_numpy() / np.maximum(length_s, 1e-300)
        busy = busy * np.array([a.busy_share for a in activities])[activity]
        above_w = batch["power_w"].to_numpy() / gpus - context_w  # on average, of a GPU held
        less_w = busy_w - context_w - above_w / np.where(busy > 0, busy, 1.0)
        return np.where((busy > 0) & (less_w > TOLERANCE * busy_w), less_w, 0.0)

    def _measures(self, group: int, start_s: Floats, end_s: Floats) -> Iterator[Floats]:
        """Seconds of each interval; of them while jobs waited; both x carbon intensity, if that is known."""
        yield end_s - start_s
        for level in self._levels[group]:
            yield level.between(start_s, end_s)

    def _usage(
        self,
        keys: list[Ints],
        amounts: Sequence[list[Floats]],
        down: list[Floats],
        up: list[Floats],
        held: list[Floats],
    ) -> dict[str, Any]:
        """Rows of the usage table: three states of allocated time by owner, two of idle time, and down.

        *amounts* are, by part and key, GPU seconds, the same x carbon intensity, and, where there are power
        limits, the J that they saved and these x carbon intensity.
        """
        import pyarrow as pa

        cohorts, activities, of_group = self._cohorts, self._activities, self._cohort
        stride = max(map(len, self._cells), default=0) + 1
        key, at_key = np.unique(np.concatenate([*keys, np.zeros(0, np.int64)]), return_inverse=True)
        by_part = [
            np.bincount(at_key, np.concatenate([*amount, np.zeros(0)]), len(key)).astype(np.float64)
            for amount in amounts
        ]
        part, key = np.divmod(key, max(1, len(of_group)) * len(self._tenants) * len(activities) * stride)
        key, at_key = np.unique(key, return_inverse=True)
        owner, cell = key // stride, key % stride
        activity = owner % len(activities)
        owner //= len(activities)
        tenant, group = owner % len(self._tenants), owner // len(self._tenants)
        busy_share = np.array([a.busy_share for a in activities])[activity]

        def states(amounts: Floats) -> tuple[Floats, Floats, Floats]:
            """Stalled, lost and productive."""
            spent, restarting, losing = (
                np.bincount(at_key, amounts * which, len(key))
                for which in (part >= 0, part == _RESTARTING, part >= _LOSING)
            )
            busy, lost = (spent - restarting) * busy_share, losing * busy_share
            return spent - busy, lost, busy - lost

        sm_active = np.array([a.sm_active for a in activities])
        idle_w = np.array([c.model.idle_power_w for c in cohorts])[of_group]
        context_w = np.array([c.model.context_power_w for c in cohorts])[of_group]
        busy_w = np.array([c.model.busy_power_w(sm_active) for c in cohorts])[of_group]
        none = np.full(sum(map(len, self._cells)), -1)
        idle_group = np.repeat(np.arange(len(of_group)), [len(c) for c in self._cells])
        idle_cell = np.concatenate([np.arange(len(c)) for c in self._cells] or [np.zeros(0, np.int64)])
        nothing = np.zeros((4, 0))
        free = np.concatenate([nothing, *(u - h for u, h in zip(up, held, strict=True))], axis=1)
        is_down = np.concatenate([nothing, *down], axis=1)
        idle_waiting, idle_quiet = free[1], free[0] - free[1]
        # What adding and subtracting floats leaves grows with the cohort's hours, not with those of one cell.
        whole = np.repeat([u[0].sum() for u in up], [u.shape[1] for u in up])
        if ((idle_waiting < -TOLERANCE * whole) | (idle_quiet < -TOLERANCE * whole)).any():
            raise BooksError("the books of the run do not balance: more GPU time was allocated than was up.")
        noise = 1e-3 * TOLERANCE * whole
        idle_quiet = np.where(idle_quiet > noise, idle_quiet, 0.0)
        idle_waiting = np.where(idle_waiting > noise, idle_waiting, 0.0)

        w = idle_w[idle_group]
        idle = idle_group, idle_cell, none, none
        parts = [  # state, group, cell, tenant, activity, GPU seconds, J, J x carbon intensity
            ("down", *idle, is_down[0], is_down[1], is_down[3]),
            ("idle_no_queue", *idle, idle_quiet, idle_quiet * w, (free[2] - free[3]) * w),
            ("idle_queue", *idle, idle_waiting, idle_waiting * w, free[3] * w),
        ]
        watts = context_w[group], busy_w[group, activity], busy_w[group, activity]
        of_states = [states(amount) for amount in by_part]
        for i, (name, w) in enumerate(zip(schema.STATES[3:], watts, strict=True)):
            gpu_s, gram, *less = (amount[i] for amount in of_states)
            joules, weighted = gpu_s * w, gram * w
            if less and i:  # nothing is saved while no kernel runs
                joules, weighted = joules - less[0], weighted - less[1]
            parts.append((name, group, cell, tenant, activity, gpu_s, joules, weighted))
        state = np.concatenate([np.full(len(p[1]), schema.STATES.index(p[0])) for p in parts])
        group, cell, tenant, activity, gpu_s, joules, weighted = (
            np.concatenate([p[i] for p in parts]) for i in range(1, 8)
        )
        empty = np.zeros(0, np.int64)
        period = np.concatenate([empty, *(c.period for c in self._cells)])
        age_band = np.concatenate([empty, *(c.age_band for c in self._cells)])
        offset = np.cumsum([0, *map(len, self._cells)])[:-1]
        place = offset[group] + cell
        order = np.lexsort((activity, tenant, state, group, age_band[place], period[place]))
        order = order[gpu_s[order] > 0]
        state, group, tenant, activity = state[order], group[order], tenant[order], activity[order]
        cohort, tier = of_group[group], self._groups[group] % len(self._tiers)
        place, gpu_s = place[order], gpu_s[order]
        energy_kwh = joules[order] / 3.6e6
        pue = np.array([c.site.pue for c in cohorts])[cohort]
        carbon_kg = weighted[order] / 3.6e6 * pue / 1000
        known = np.array([bool(c.site.carbon_g_per_kwh) for c in cohorts])[cohort]

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
            "tier": schema.labels(tier, self._tiers),
            "generation": of_cohort([c.model.generation for c in cohorts]),
            "age_band": age_band[place].astype(np.int16),
            "tenant": schema.labels(tenant, self._tenants),
            "workload": of_owner([a.workload for a in activities]),
            "workload_class": of_owner([a.workload_class for a in activities]),
            "state": schema.labels(state, schema.STATES),
            "gpu_hours": gpu_s / HOUR_S,
            "energy_kwh": energy_kwh,
            "facility_energy_kwh": energy_kwh * pue,
            "carbon_kg": pa.array(carbon_kg, mask=~known),
        }

    def checks(self, jobs_allocated_gpu_s: float, installed_gpu_s: Sequence[float]) -> list[Check]:
        """The conservation laws of GPU time and energy. *installed_gpu_s* is the model's count, by cohort."""
        usage = self.usage
        cohort = _codes(usage["cohort"], [c.name for c in self._cohorts])
        state = _codes(usage["state"], schema.STATES)
        hours, energy = usage["gpu_hours"], usage["energy_kwh"]
        allocated = state >= schema.STATES.index("stalled")
        checks = [
            Check(
                f"cohort {c.name}: hours of all states = installed GPUs x time in service",
                float(hours[cohort == k].sum()),
                installed_gpu_s[k] / HOUR_S,
            )
            for k, c in enumerate(self._cohorts)
        ]
        idle_w = np.array([c.model.idle_power_w for c in self._cohorts])
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
                (self.allocated_j + self.down_j) / 3.6e6 + idle_kwh,
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

    columns = ["start_s", "end_s", "restart_s", "lost_s", "checkpoint_s", "gpus", "gpu_share", "power_w"]
    columns += ["cohort", "tier", "tenant", "workload", "workload_class"]
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns, use_threads=False)


def _levels(cohort: Cohort, waits: _Level, end_s: float) -> list[_Level]:
    """What seconds of *cohort* are weighted with: see ``Books._measures``."""
    hourly = cohort.site.carbon_g_per_kwh
    if not hourly:
        return [waits]
    hours = np.arange(int(end_s // HOUR_S) + 1)
    carbon = _Level(hours * HOUR_S, np.array(hourly)[hours % len(hourly)], end_s)
    return [waits, carbon, waits.where(carbon)]


def _node_intervals(
    nodes: pa.Table, group: Ints, groups: int, end_s: float
) -> Iterator[tuple[int, Floats, Floats, Floats, Any, Floats]]:
    """For each group, states of its installed nodes: start, end, GPUs, whether up, W with nothing running."""
    time_s = nodes["time_s"].to_numpy()
    node = nodes["node"].to_numpy()
    gpus = nodes["gpus"].to_numpy().astype(np.float64)
    idle_w = nodes["idle_power_w"].to_numpy()
    state = _codes(nodes["state"], schema.NODE_STATES)
    order = np.lexsort((np.arange(len(node)), time_s, node))
    until = np.append(time_s[order][1:], end_s)
    until[np.append(node[order][1:] != node[order][:-1], True)] = end_s  # the last change holds to the end
    order, until = order[state[order] < 2], until[state[order] < 2]
    time_s, gpus, up, idle_w, group = (
        time_s[order],
        gpus[order],
        state[order] == 0,
        idle_w[order],
        group[order],
    )
    for k in range(groups):
        mine = group == k
        yield k, time_s[mine], until[mine], gpus[mine], up[mine], idle_w[mine]
