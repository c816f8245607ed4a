"""How evenly tenants are served: Jain's index, and completion on a private share of the fleet."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from fleetsim.records import Floats

PRIVATE_SHARE = (
    "N: tenants with a job that could run. Each alone has S = (mean GPUs up) / N divisible GPUs of the "
    "fleet's mean speed for the job's class, and serves its own jobs first in, first out: with w = GPUs x "
    "duration, the work up to the end of job j is done at B(j) = max(B(j-1), submission) + w / S, and its "
    "JCT is max(B(j) - submission, duration). The same for every policy on one fleet and workload"
)


def jain(shares: Sequence[float]) -> float | None:
    """Jain's fairness index of *shares* (Jain, Chiu and Hawe, 1984): None if there is none above zero.

    >>> jain([1, 1, 1, 1]), jain([1, 0, 0, 0])
    (1.0, 0.25)
    """
    squares = sum(x * x for x in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else None


def private_share_jct_s(
    submit_s: Floats, gpu_s: Floats, duration_s: Floats, tenant: Any, gpus: float
) -> Floats:
    """JCT in s of every job if its tenant alone had *gpus* divisible GPUs: ``PRIVATE_SHARE``.

    Arrays in order of submission; *tenant* is a number. Themis (Mahajan et al., NSDI 2020) compares with the
    completion time on 1/N of the cluster; a tenant there has one application, here a stream of jobs, so what
    it submits at once must wait for itself on a private share too. GPUs that can be divided at will make the
    private share look good: rho is rather too large than too small.
    """
    order = np.argsort(tenant, kind="stable")
    submit_s, service_s = submit_s[order], gpu_s[order] / gpus
    jct_s = np.empty(len(order))
    for first, after in pairwise(np.flatnonzero(np.diff(tenant[order], prepend=-1, append=-1)).tolist()):
        arrived_s, work_s = submit_s[first:after], np.cumsum(service_s[first:after])
        # B(j) without the recursion: all work up to j, after the latest start that leaves no pause behind it
        done_s = work_s + np.maximum.accumulate(arrived_s - (work_s - service_s[first:after]))
        jct_s[order[first:after]] = done_s - arrived_s
    return np.maximum(jct_s, duration_s)


def entitlement_met(
    deserved_gpus: float, held: tuple[Floats, Floats], wanted: tuple[Floats, Floats], end_s: float
) -> float | None:
    """Of the GPU time that a tenant had a right to and wanted, the part that it held, up to *end_s*.

    *held* and *wanted* (by its jobs that run or wait) are change points ``(time_s, change in GPUs)``, in any
    order. At every moment the right is the lesser of what it deserves and what it wants. None if it never
    wanted anything.
    """
    time_s, at = np.unique(np.concatenate([held[0], wanted[0], [end_s]]), return_inverse=True)
    split = len(held[0])
    gpus, asked = (
        np.cumsum(np.bincount(where, change, len(time_s)))
        for where, change in ((at[:split], held[1]), (at[split:-1], wanted[1]))
    )
    span_s = np.clip(np.diff(time_s, append=end_s), 0, None) * (time_s < end_s)
    right = np.minimum(asked, deserved_gpus)
    total = float(span_s @ right)
    return float(span_s @ np.minimum(gpus, right)) / total if total else None
