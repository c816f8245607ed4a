"""What the tables of a run say of the GPUs of some nodes: when they were up, who held them, what failed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fleetsim.catalog import load_catalog
from fleetsim.errors import InputError, Problem
from fleetsim.gpu_model import GpuModel
from fleetsim.records import Floats, Ints
from fleetsim.telemetry.coded import coded
from fleetsim.telemetry.placing import Changes, Spells, place, spells

if TYPE_CHECKING:
    from fleetsim.runfolder import Run

#: XIDs of errors in memory rows that are remapped, of double-bit errors, of single-bit ones, and of a
#: remapping that failed (NVIDIA's XID catalogue).
REMAPS, DOUBLE_BITS, SINGLE_BITS, REMAP_FAILS = (48, 63, 94), (48, 94, 95), (92,), (64,)

#: A failure takes its node out of service at once; its XID is read for so long before, as the time that a
#: health check needs to see it. Estimate: a check a minute.
NOTICED_S = 60.0


@dataclass(frozen=True)
class Attempts:
    """Attempts at jobs on one node each, as columns. ``activity`` is a row of the manifest's activities."""

    job: Ints
    attempt: Ints
    tenant: Ints
    activity: Ints
    node: Ints  # position among the nodes chosen
    gpus: Ints
    start_s: Floats
    end_s: Floats
    restart_s: Floats
    power_w: Floats


@dataclass(frozen=True)
class Xids:
    """After each error and each boot that follows one: last XID since boot, and counts of the GPU's life."""

    changes: Changes
    xid: Ints
    remapped_rows: Ints
    double_bits: Ints
    single_bits: Ints
    remap_fails: Ints


@dataclass(frozen=True)
class History:
    """The GPUs chosen, in order of node and index, and what became of each."""

    seed: int
    end_s: float
    models: tuple[GpuModel, ...]
    node: Ints
    index: Ints
    in_node: Ints  # GPUs of its node
    model: Ints  # position in models
    model_of_node: Ints  # likewise, of the nodes that attempts name
    cohort: tuple[str, ...]  # of each GPU
    tenants: tuple[str, ...]
    attempts: Attempts
    spells: Spells
    xids: Xids

    @classmethod
    def read(
        cls,
        run: Run,
        nodes: Collection[int] | None = None,
        gpus: Collection[int] | None = None,
        until_s: float = inf,
    ) -> History:
        """Read what *run* says of the GPUs with an index among *gpus* of *nodes*; None is all of them.

        Attempts that begin at *until_s* or later are left out: what is before does not depend on them.

        Raises :class:`InputError` for a run that shares GPUs, for models that are not in the catalogue, for
        nodes and GPUs that are not in the run.
        """
        _check_shares(run)
        states = _Nodes(run)
        chosen = states.choose(nodes, gpus)
        attempts, follows, tenants = _attempts(run, states.number[chosen], until_s)
        sizes = states.gpus[chosen]
        count = np.repeat(np.arange(len(chosen)), sizes)  # node of each GPU, all of the chosen nodes
        first = np.cumsum(sizes) - sizes
        index = np.arange(len(count)) - first[count]
        row, at = place(
            attempts.node, attempts.start_s, attempts.end_s, attempts.gpus, follows, sizes.tolist(),
            str(run.path / "allocations.parquet"),
        )  # fmt: skip
        lowest = at[_starts(attempts.gpus)]
        held = first[attempts.node[row]] + at
        wanted = np.ones(len(count), bool) if gpus is None else np.isin(index, list(gpus))
        new = np.cumsum(wanted) - 1
        keep = wanted[held]
        row, held = row[keep], new[held[keep]]
        up_node, up_s, down_s = states.up(chosen)
        up_gpu = np.repeat(np.arange(len(up_node)), sizes[up_node])
        which = first[up_node[up_gpu]] + np.arange(len(up_gpu)) - _starts(sizes[up_node])[up_gpu]
        keep = wanted[which]
        up_gpu, which = up_gpu[keep], new[which[keep]]
        start_s, end_s = attempts.start_s[row], attempts.end_s[row]
        lives = spells(
            int(wanted.sum()),
            (which, up_s[up_gpu], down_s[up_gpu]),
            (held, start_s, start_s + attempts.restart_s[row], end_s, row),
            float(run.manifest["end_s"]),
        )
        node, index = count[wanted], index[wanted]
        models = states.models
        return cls(
            seed=run.manifest["seed"],
            end_s=float(run.manifest["end_s"]),
            models=models,
            node=states.number[chosen][node],
            index=index,
            in_node=sizes[node],
            model=states.model[chosen][node],
            model_of_node=states.model[chosen],
            cohort=tuple(states.cohort[k] for k in chosen[node].tolist()),
            tenants=tenants,
            attempts=attempts,
            spells=lives,
            xids=_xids(run, lives, states.number[chosen], node, index, attempts, lowest),
        )


def count(run: Run, nodes: Collection[int] | None, gpus: Collection[int] | None) -> tuple[int, int]:
    """How many nodes and GPUs :meth:`History.read` would read; quick. Raises :class:`InputError` as it
    does."""
    _check_shares(run)
    states = _Nodes(run)
    sizes = states.gpus[states.choose(nodes, gpus)]
    wanted = sizes if gpus is None else sum((sizes > g).astype(int) for g in set(gpus))
    return len(sizes), int(np.sum(wanted))


def attempts_of(run: Run) -> int:
    """How many rows the allocations have: what reading a run takes goes with it."""
    import pyarrow.parquet as pq

    return int(pq.read_metadata(run.path / "allocations.parquet").num_rows)


def _starts(sizes: Ints) -> Ints:
    return np.cumsum(sizes) - sizes


def _check_shares(run: Run) -> None:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    sharing = (run.manifest["scenario"].get("scheduler") or {}).get("sharing") is not None
    share = pq.read_table(run.path / "allocations.parquet", columns=["gpu_share"])["gpu_share"]
    if sharing or (len(share) and pc.min(share).as_py() < 1):
        what = "shares GPUs among jobs (`scheduler.sharing`, or jobs with a gpu_share below 1)"
        remedy = "Readings of shared GPUs and MIG instances are not derived. Run it with whole GPUs."
        raise InputError([Problem(str(run.path), what, remedy)])


class _Nodes:
    """The nodes of a run, by number: their models, GPUs and states."""

    def __init__(self, run: Run) -> None:
        import pyarrow.parquet as pq

        table = pq.read_table(run.path / "node_states.parquet")
        node = table["node"].to_numpy().astype(np.int64)
        time_s = table["time_s"].to_numpy()
        state, names = coded(table["state"])
        order = np.lexsort((np.arange(len(node)), time_s, node))
        self._node, self._time_s = node[order], time_s[order]
        self._is_up = (state == (names.index("up") if "up" in names else -2))[order]
        self.number, first = np.unique(node, return_index=True)
        self.gpus = table["gpus"].to_numpy().astype(np.int64)[first]
        cohort, cohorts = coded(table["cohort"])
        self.cohort = [cohorts[c] for c in cohort[first].tolist()]
        model, ids = coded(table["gpu_model"])
        place, catalog = str(run.path / "node_states.parquet"), load_catalog()
        self.models = tuple(catalog.find(i, place) for i in ids)
        self.model = model[first]

    def choose(self, nodes: Collection[int] | None, gpus: Collection[int] | None) -> Ints:
        """Positions of *nodes*. Raises :class:`InputError` for nodes and GPUs that are not there."""
        problems = []
        if missing := sorted(set(nodes or ()) - set(self.number.tolist())):
            some = ", ".join(map(str, missing[:5])) + (" ..." if len(missing) > 5 else "")
            last = int(self.number[-1]) if len(self.number) else "none"
            problems.append(Problem("nodes", f"{some}: not in the run", f"The last of its nodes is {last}."))
        chosen = np.arange(len(self.number))
        if nodes is not None:
            chosen = chosen[np.isin(self.number, list(nodes))]
        most = int(self.gpus[chosen].max(initial=0))
        if wrong := sorted(g for g in gpus or () if g >= most and len(chosen)):
            some = ", ".join(map(str, wrong[:5]))
            problems.append(Problem("gpus", f"{some}: no such GPU", f"Nodes have GPUs 0 to {most - 1}."))
        if problems:
            raise InputError(problems)
        return chosen

    def up(self, chosen: Ints) -> tuple[Ints, Floats, Floats]:
        """Times in service of the nodes at *chosen*: position in it, start and end, infinite if none."""
        at = np.searchsorted(self.number[chosen], self._node)
        mine = np.append(self.number[chosen], -1)[np.minimum(at, len(chosen))] == self._node
        at, time_s, is_up = at[mine], self._time_s[mine], self._is_up[mine]
        new = np.append(True, at[1:] != at[:-1])[: len(at)]
        was_up = np.append(False, is_up[:-1])[: len(at)] & ~new
        changes = is_up != was_up
        at, time_s, is_up = at[changes], time_s[changes], is_up[changes]
        ends = np.append(time_s[1:], np.inf)[: len(at)]
        ends[np.append(at[1:] != at[:-1], True)[: len(at)]] = np.inf
        return at[is_up], time_s[is_up], ends[is_up]


def _attempts(run: Run, number: Ints, until_s: float) -> tuple[Attempts, Ints, tuple[str, ...]]:
    """Those of the nodes *number* that took any time, in order of node and start; at equal times those that
    only continue another first, then by job.

    Also the row that each only continues, else -1 (a job that goes on at another power limit has a row of its
    own for that); and the names of the tenants.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    numbers = ["job", "attempt", "gpus", "start_s", "end_s", "restart_s", "power_w", "node"]
    table = pq.read_table(
        run.path / "allocations.parquet",
        columns=[*numbers, "tenant", "workload", "workload_class"],
        filters=pc.field("node").isin(pa.array(number, pa.int32()))
        & (pc.field("end_s") > pc.field("start_s"))
        & (pc.field("start_s") < until_s),
    )
    tenant, names = coded(table["tenant"])
    ranks = np.array([sorted(names).index(n) for n in names] + [-1])
    workload, workloads = coded(table["workload"])
    kind, kinds = coded(table["workload_class"])
    activity = np.full((len(workloads) + 1, len(kinds) + 1), -1)
    for i, a in enumerate(run.manifest["activities"]):
        if a["workload"] in workloads and a["workload_class"] in kinds:
            activity[workloads.index(a["workload"]), kinds.index(a["workload_class"])] = i
    columns = {name: table[name].to_numpy() for name in numbers}
    follows = _continues(columns)
    order = np.lexsort((columns["job"], follows < 0, columns["start_s"], columns["node"]))
    position = np.empty(len(order) + 1, np.int64)
    position[order], position[-1] = np.arange(len(order)), -1
    ints = {n: columns[n][order].astype(np.int64) for n in ("job", "attempt", "gpus")}
    floats = {n: columns[n][order] for n in ("start_s", "end_s", "restart_s", "power_w")}
    attempts = Attempts(
        **ints,
        **floats,
        tenant=ranks[tenant[order]],
        activity=activity[workload[order], kind[order]],
        node=np.searchsorted(number, columns["node"][order]),
    )
    return attempts, position[follows[order]], tuple(sorted(names))


def _continues(columns: Mapping[str, NDArray[Any]]) -> Ints:
    """The row that each continues: same job, attempt and node, ending where this one starts; else -1."""
    node, job, attempt = (columns[name] for name in ("node", "job", "attempt"))
    order = np.lexsort((columns["start_s"], attempt, job, node))
    before, after = order[:-1], order[1:]
    same = (node[before] == node[after]) & (job[before] == job[after]) & (attempt[before] == attempt[after])
    same &= columns["end_s"][before] == columns["start_s"][after]
    found = np.full(len(order), -1)
    found[after[same]] = before[same]
    return found


def _xids(
    run: Run, lives: Spells, number: Ints, node: Ints, index: Ints, attempts: Attempts, lowest: Ints
) -> Xids:
    """The XIDs of the failures, on GPUs: the one that failed; of a node its first; of a job its first there.

    *number* are the nodes, *node* and *index* say which GPUs of them were chosen, *lowest* is the first GPU
    of each attempt.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(run.path / "failures.parquet", filters=pc.field("xid").is_valid())
    rows = table.select(["time_s", "node", "gpu", "job", "xid"]).to_pylist()
    gpu_of = {pair: g for g, pair in enumerate(zip(number[node].tolist(), index.tolist(), strict=True))}
    some = np.nonzero(np.isin(attempts.job, [r["job"] for r in rows if r["job"] is not None]))[0]
    ended = zip(attempts.job[some].tolist(), attempts.end_s[some].tolist(), some.tolist(), strict=True)
    stopped = {
        (job, int(number[attempts.node[row]]), end_s): int(lowest[row]) for job, end_s, row in ended
    }  # a failure is when an attempt ended
    found: dict[int, list[tuple[float, int]]] = {}
    for r in rows:
        place = stopped.get((r["job"], r["node"], r["time_s"]), 0) if r["gpu"] is None else r["gpu"]
        gpu = gpu_of.get((r["node"], place))
        if gpu is None:  # not among the chosen
            continue
        at_s = r["time_s"]
        if r["job"] is None:
            up_s = _boots(lives, gpu)
            at_s = max(at_s - NOTICED_S, float(up_s[up_s < at_s].max(initial=0.0)))
        found.setdefault(gpu, []).append((at_s, r["xid"]))
    columns: list[tuple[float, ...]] = []
    for gpu in sorted(found):
        counts = [0, 0, 0, 0]
        boots = [(t, 0) for t in _boots(lives, gpu).tolist()]
        for at_s, xid in sorted([*found[gpu], *boots], key=lambda change: (change[0], change[1] != 0)):
            for i, kinds in enumerate((REMAPS, DOUBLE_BITS, SINGLE_BITS, REMAP_FAILS)):
                counts[i] += xid in kinds
            columns.append((gpu, at_s, xid, *counts))
    made = np.array(columns, np.float64).reshape(-1, 7).T
    thing, xid_, *counted = (made[i].astype(np.int64) for i in (0, 2, 3, 4, 5, 6))
    return Xids(Changes.of(len(node), thing, made[1]), xid_, *counted)


def _boots(lives: Spells, gpu: int) -> Floats:
    """When the node of *gpu* came up, each time."""
    mine = slice(*lives.changes.first[gpu : gpu + 2].tolist())
    return np.asarray(lives.start_s[mine][lives.boots[mine]])
