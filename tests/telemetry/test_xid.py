"""XIDs, and the counters of memory errors that they move."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from model.support import A100, Job, cohort
from telemetry.support import frame, readings, simulate

from fleetsim.runfolder import Run
from fleetsim.telemetry.history import NOTICED_S
from fleetsim.telemetry.sensors import Telemetry

DAY_S = 86_400.0


def failing(folder: Path, xids: dict[str, float], **rule: Any) -> Run:
    """Sixty days of two nodes of four GPUs that fail often."""
    fail = {"name": "f", "hazard": [{"per_year": 30.0}], "xids": xids, **rule}
    jobs = [Job(0, 50 * DAY_S, 2), Job(0, 50 * DAY_S, 3), Job(100, 40 * DAY_S, 1)]
    return simulate(folder, jobs, [cohort(A100, nodes=2, gpus_per_node=4)], horizon="60d", seed=4,
                    failures=[fail])  # fmt: skip


def at(run: Run, time_s: float) -> pl.DataFrame:
    return readings(run, time_s, time_s + 0.001, 1)


def test_the_xid_of_a_gpu_shows_before_its_node_goes_and_is_gone_when_it_is_back(tmp_path: Path) -> None:
    run = failing(tmp_path, {"79": 1.0}, unit="gpu", repairs=[{"name": "r", "median": "1h"}])
    failures = run.scan("failures").collect().filter(pl.col("down_s").is_not_null())
    assert failures.height > 10
    for time_s, node, gpu, down_s in failures.select("time_s", "node", "gpu", "down_s").rows():
        ours = at(run, time_s - NOTICED_S / 2).filter(pl.col("node") == node)
        assert dict(ours.select("gpu", "xid").rows()) == {g: 79 if g == gpu else 0 for g in range(4)}
        assert at(run, time_s - 1.01 * NOTICED_S).filter(pl.col("node") == node)["xid"].to_list() == [0] * 4
        assert at(run, time_s).filter(pl.col("node") == node).height == 0
        back = at(run, time_s + down_s).filter(pl.col("node") == node)
        assert back["xid"].to_list() == [0] * 4 and back["energy_mj"].to_list() == [0] * 4


def test_memory_errors_are_counted_for_life(tmp_path: Path) -> None:
    """94 is a contained double-bit error whose row is remapped; 64 says that it could not be."""
    run = failing(tmp_path, {"94": 3.0, "64": 1.0}, unit="gpu", repairs=[{"name": "r", "median": "1h"}])
    failures = run.scan("failures").collect()
    last = at(run, 60 * DAY_S - 1)
    assert last.height == 8
    for row in last.rows(named=True):
        mine = failures.filter((pl.col("node") == row["node"]) & (pl.col("gpu") == row["gpu"]))
        remaps = mine.filter(pl.col("xid") == 94).height
        assert (row["uncorrectable_remapped_rows"], row["ecc_dbe_total"]) == (remaps, remaps)
        assert row["row_remap_failure"] == (mine.filter(pl.col("xid") == 64).height > 0)
        assert row["ecc_sbe_total"] == row["correctable_remapped_rows"] == 0
    assert last["uncorrectable_remapped_rows"].sum() > 3 and last["row_remap_failure"].max() == 1


def test_the_xid_of_a_job_stays_on_its_first_gpu(tmp_path: Path) -> None:
    """A job fails, not its node, which does not boot: the XID stays to the end."""
    run = failing(tmp_path, {"31": 1.0}, unit="job", jobs={"min_gpus": 3})
    first = run.scan("failures").collect().row(0, named=True)
    before, after = at(run, first["time_s"] - 1), at(run, first["time_s"])
    held = before.filter((pl.col("job") == first["job"]) & (pl.col("node") == first["node"]))
    assert before["xid"].max() == 0
    wrong = after.filter(pl.col("xid") == 31).select("node", "gpu").rows()
    assert wrong == [(first["node"], held["gpu"].min())]
    assert set(wrong) <= set(at(run, 60 * DAY_S - 1).filter(pl.col("xid") == 31).select("node", "gpu").rows())


def test_the_xid_of_a_node_is_on_its_first_gpu(tmp_path: Path) -> None:
    """Here nothing takes any time: the node is back at once, has booted, and the XID is gone."""
    run = failing(tmp_path, {"79": 1.0}, repairs=[{"name": "r", "median": 0}])
    for time_s, node in run.scan("failures").collect().select("time_s", "node").rows():
        before = at(run, time_s - 1).filter(pl.col("node") == node)
        assert before.filter(pl.col("xid") > 0).select("gpu", "xid").rows() == [(0, 79)]
        after = at(run, time_s).filter(pl.col("node") == node)
        assert after["xid"].to_list() == [0] * 4 and after["energy_mj"].to_list() == [0] * 4


def test_a_selection_does_not_move_xids(tmp_path: Path) -> None:
    run = failing(tmp_path, {"31": 1.0, "48": 1.0}, unit="job", jobs={"min_gpus": 3})
    grid = 0.0, 60 * DAY_S, DAY_S
    whole = frame(Telemetry(run), *grid)
    part = frame(Telemetry(run, gpus=[1, 2]), *grid)
    assert part["xid"].to_numpy().tolist() == whole.filter(pl.col("gpu").is_in([1, 2]))["xid"].to_list()
    assert np.unique(whole["xid"]).size > 1
