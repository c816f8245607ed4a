"""A run as its tables tell it: where nodes stood and what ran on them. Shared by the tests of their life."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import polars as pl
from model.support import History

HOUR_S, DAY_S = 3600.0, 86_400.0
MONTH_S, YEAR_S = 730 * HOUR_S, 8760 * HOUR_S


@dataclass(frozen=True)
class Stay:
    """A node in one state on one rung, from one change to the next."""

    start_s: float
    end_s: float
    state: str
    cause: str
    tier: str
    idle_w: float


def stays(run: History) -> dict[int, list[Stay]]:
    """What became of each node, in order of time; the last state holds to the end of the run."""
    changes: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    columns = ("node", "time_s", "state", "cause", "tier", "idle_power_w")
    for node, *change in run["node_states"].select(columns).rows():
        changes[node].append(tuple(change))
    found = {}
    for node, of_node in changes.items():
        ends = [change[0] for change in of_node[1:]] + [run.manifest["end_s"]]
        found[node] = [
            Stay(time_s, end_s, *rest) for (time_s, *rest), end_s in zip(of_node, ends, strict=True)
        ]
    return found


def story(run: History, node: int) -> list[tuple[float, str, str, str]]:
    """(time, state, cause, rung) of each change of *node*."""
    return [(s.start_s, s.state, s.cause, s.tier) for s in stays(run)[node]]


def attempts(run: History, job: int) -> list[tuple[float, float, str, list[int], str]]:
    """(start, end, rung, nodes, outcome) of each attempt at *job*."""
    rows = run["allocations"].filter(pl.col("job") == job).sort("attempt", "node")
    found: dict[int, tuple[float, float, str, list[int], str]] = {}
    for n, start_s, end_s, tier, node, outcome in rows.select(
        "attempt", "start_s", "end_s", "tier", "node", "outcome"
    ).rows():
        found.setdefault(n, (start_s, end_s, tier, [], outcome))[3].append(node)
    return [found[n] for n in sorted(found)]


def events(run: History, kind: str) -> list[tuple[float, str, str]]:
    """(time, subject, detail) of the events of a kind."""
    rows = run["events"].filter(pl.col("kind").cast(pl.String) == kind)
    return rows.select("time_s", "subject", "detail").rows()
