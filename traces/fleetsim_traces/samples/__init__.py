"""Traces that ship with the package: generated, never a record of a real cluster."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from fleetsim_traces.text import fail

SAMPLES = {
    "philly-like-10k": "10,000 training jobs as in Microsoft Philly, 13 days (generated, seed 2017)",
}


def sample(name: str) -> Path:
    """The path of the bundled sample *name*; raises TraceError where there is none."""
    if name not in SAMPLES:
        raise fail("sample", f"no bundled sample {name!r}", f"There are {', '.join(SAMPLES)}.")
    return Path(str(files("fleetsim_traces.samples").joinpath(f"{name}.parquet")))
