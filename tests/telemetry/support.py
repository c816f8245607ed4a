"""Small runs and their readings: what the tests of telemetry share."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from model.support import Job, cohort, text, trace, workload

from fleetsim import experiment, scenario
from fleetsim.runfolder import Run
from fleetsim.telemetry import table
from fleetsim.telemetry.sensors import Telemetry


def simulate(
    folder: Path,
    jobs: Sequence[Job],
    cohorts: Sequence[Mapping[str, Any]] | None = None,
    **more: Any,
) -> Run:
    """The run of *jobs* on *cohorts* (one node of eight A100), written to *folder*."""
    words = text(cohorts or [cohort()], [workload("w", **more.pop("workload", {}))], **more)
    return experiment.run(scenario.parse(words, "test"), folder / "run", traces={"w": trace(jobs)})


def frame(found: Telemetry, start_s: float, end_s: float, step_s: float, size: int = 1 << 15) -> pl.DataFrame:
    """All readings of *found* on a grid."""
    batches = [table.arrow(b) for _, b in found.batches(start_s, end_s, step_s, size)]
    made = pl.from_arrow(pa.Table.from_batches(batches, table.schema()))
    assert isinstance(made, pl.DataFrame)
    return made.with_columns(pl.col(pl.Categorical).cast(pl.String))


def readings(
    run: Run,
    start_s: float,
    end_s: float,
    step_s: float,
    nodes: Collection[int] | None = None,
    gpus: Collection[int] | None = None,
    inlet_c: float = 25.0,
    size: int = 1 << 15,
) -> pl.DataFrame:
    """Readings of *run* on a grid."""
    return frame(Telemetry(run, nodes, gpus, inlet_c), start_s, end_s, step_s, size)
