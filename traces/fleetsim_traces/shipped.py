"""Column mappings that come with the package, for the input files of published schedulers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path

from fleetsim_traces import generic
from fleetsim_traces.mapping import ColumnMap
from fleetsim_traces.rows import BadRows
from fleetsim_traces.table import Trace

# name -> what it reads, and the column names that tell its files
MAPPINGS = {
    "muri": ("Muri simulator and testbed inputs", ("job_id", "num_gpu", "submit_s", "duration_s")),
    "shockwave": ("Shockwave inputs", ("job_id", "num_gpu", "arrival_s", "duration_s")),
    "sia": ("Philly slices by virtual cluster, as cut for Sia", ("vc", "gpu_num", "submit_time", "duration")),
    "tiresias": ("Tiresias simulator inputs", ("job_id", "num_gpu", "submit_time", "duration")),
}


@cache
def shipped(name: str) -> ColumnMap:
    """The mapping called *name* in :data:`MAPPINGS`."""
    import yaml

    text = files("fleetsim_traces").joinpath("mappings", f"{name}.yaml").read_text("utf-8")
    return ColumnMap.from_dict(yaml.safe_load(text), f"mappings/{name}.yaml")


def reader(name: str) -> Callable[..., Trace]:
    """A reader of files with the shipped mapping *name*."""

    def read(path: Path, *, bad_rows: BadRows = "refuse") -> Trace:
        return replace(generic.read(path, columns=shipped(name), bad_rows=bad_rows), format=name)

    return read
