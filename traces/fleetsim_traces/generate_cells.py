"""Who asks for what: a cell is a tenant and a GPU count, with its share of the jobs and its tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fleetsim_traces.distributions import Table, draw
from fleetsim_traces.generate_arrivals import stream
from fleetsim_traces.parameters import Distribution, LogNormal, Parameters, Tenant

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]


def as_table(distribution: Distribution) -> Table:
    """A distribution of a family as quantiles."""
    if isinstance(distribution, LogNormal):
        return distribution.table()
    return Table.of_quantiles(distribution)


def nearest(by_gpus: Mapping[int, Any], gpus: int) -> int:
    """The row for *gpus*: the nearest at or below it, else the lowest."""
    return max((n for n in by_gpus if n <= gpus), default=min(by_gpus))


class Cells:
    """Every pair of tenant and GPU count: its share of the jobs, and its tables."""

    def __init__(self, p: Parameters) -> None:
        self.tables: list[Table] = []
        known: dict[Any, int] = {}

        def number(key: Any, distribution: Distribution) -> int:
            if key not in known:
                known[key] = len(self.tables)
                self.tables.append(as_table(distribution))
            return known[key]

        self.tenants: list[tuple[str, Tenant]] = []
        rows: list[tuple[float, ...]] = []  # share of jobs, tenant, GPUs, two tables
        for entry, t in enumerate(p.tenants):
            ranks = np.arange(1, t.count + 1) ** -float(t.exponent)
            pmf = t.gpu_count_share or p.gpu_count_share
            for i, part in enumerate(ranks / ranks.sum()):
                tenant = len(self.tenants)
                self.tenants.append((t.name if t.count == 1 else f"{t.name}-{i + 1:02d}", t))
                for gpus, share in pmf.items():
                    both = [
                        number((kind, entry, gpus), own[gpus])
                        if own and gpus in own
                        else number((kind, None, nearest(common, gpus)), common[nearest(common, gpus)])
                        for kind, own, common in (
                            ("duration", t.duration_s_by_gpus, p.duration_s_by_gpus),
                            ("batch", t.batch_jobs_by_gpus, p.batches.jobs_by_gpus),
                        )
                    ]
                    rows.append((t.jobs_share * part * share / sum(pmf.values()), tenant, gpus, *both))
        columns = list(zip(*rows, strict=True))
        self.share = np.array(columns[0]) / sum(columns[0])
        self.tenant, self.gpus, self.duration, self.batch = (np.array(c, np.int64) for c in columns[1:])
        self.batch_mean = np.array([t.mean(whole=True) for t in self.tables])[self.batch]

    def gpu_seconds(self, p: Parameters) -> float:
        """Mean GPU time of a job."""
        part = np.ones(len(self.share))
        if p.gpu_share_of_single:
            shares = p.gpu_share_of_single
            part[self.gpus == 1] = sum(k * v for k, v in shares.items()) / sum(shares.values())
        means = np.array([t.mean() for t in self.tables])[self.duration]
        return float((self.share * part * self.gpus * means).sum())


def batches_of(cells: Cells, jobs: int, seed: int) -> tuple[Ints, Ints]:
    """The cell of each batch and the number of its jobs, *jobs* in all; the last is cut to fit."""
    pick, sizes = stream(seed, "cells"), stream(seed, "batch_jobs")
    weight = cells.share / cells.batch_mean
    chance = np.cumsum(weight) / weight.sum()
    chunk = int(jobs * weight.sum() * 1.05) + 16
    found: list[tuple[Ints, Ints]] = []
    total = 0
    while total < jobs:
        cell = np.minimum(np.searchsorted(chance, pick.random(chunk), side="right"), len(chance) - 1)
        value = draw(cells.tables, cells.batch[cell], sizes.standard_normal(chunk))
        size = np.minimum(np.maximum(1.0, np.rint(value)), jobs).astype(np.int64)
        found.append((cell, size))
        total += int(size.sum())
    cell, size = (np.concatenate(column) for column in zip(*found, strict=True))
    reached = np.cumsum(size)
    last = int(np.searchsorted(reached, jobs))
    size = size[: last + 1].copy()
    size[-1] -= reached[last] - jobs
    return cell[: last + 1], size


def users_of(seed: int, cells: Cells, tenant: Ints) -> list[str | None]:
    """A user for each batch: of its tenant, by rank^-exponent; None where users are unknown."""
    users: npt.NDArray[Any] = np.full(len(tenant), None, dtype=object)
    draws = stream(seed, "users").random(len(tenant))
    order = np.argsort(tenant, kind="stable")
    edges = np.searchsorted(tenant[order], np.arange(len(cells.tenants) + 1))
    for i, (name, t) in enumerate(cells.tenants):
        rows = order[edges[i] : edges[i + 1]]
        if t.users and len(rows):
            chance = np.cumsum(_user_shares(t))
            rank = np.minimum(np.searchsorted(chance, draws[rows] * chance[-1], side="right"), t.users - 1)
            users[rows] = np.array([f"{name}-user-{k:03d}" for k in range(1, t.users + 1)], object)[rank]
    return users.tolist()  # type: ignore[no-any-return]


def _user_shares(t: Tenant) -> Floats:
    """The known head, then the rest by rank."""
    head = np.array(t.user_head_share)
    tail = np.arange(len(head) + 1, t.users + 1) ** -float(t.user_exponent)
    rest = max(0.0, 1.0 - head.sum())
    shares: Floats = np.concatenate((head, rest * tail / tail.sum())) if len(tail) else head
    return shares
