"""How long a job is believed to run, by what its user, or the scenario, says."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import numpy as np

from fleetsim import units
from fleetsim.errors import InputError, Problem
from fleetsim.streams import stream

if TYPE_CHECKING:
    from fleetsim.records import Jobs
    from fleetsim.spec import EstimateSpec


def estimates_s(jobs: Jobs, spec: EstimateSpec) -> array[float]:
    """Estimated run time of every job on the reference GPU, s.

    The true run time or the limit of the trace (``default`` where it has none), times ``factor``, times a
    log-normal error of median 1, drawn in order of arrival. Only a factor of 1 without error is exact.
    Raises :class:`InputError` if a job has neither limit nor default.
    """
    source = jobs.duration_s
    if spec.source == "trace":
        source = np.full(len(jobs), np.nan) if jobs.estimate_s is None else jobs.estimate_s
        if spec.default is not None:
            source = np.where(np.isnan(source), units.duration_s(spec.default), source)
        if missing := int(np.isnan(source).sum()):
            raise InputError(
                [
                    Problem(
                        "scheduler.estimate.source",
                        f"'trace', but it gives no limit for {missing:,} of {len(jobs):,} jobs",
                        "Give `default`, the limit of such jobs, or estimate from `duration`.",
                    )
                ]
            )
    estimate = source * spec.factor
    if spec.error:
        assert spec.seed is not None  # the scenario has drawn one
        estimate = estimate * np.exp(stream(spec.seed, "estimate").normal(0.0, spec.error, len(jobs)))
    return array("d", estimate.astype(np.float64).tobytes())
