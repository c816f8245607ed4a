"""Traces that ship with the package: generated, never a record of a real cluster."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from fleetsim_traces.text import fail

SAMPLES = {
    "philly-like-10k": "10,000 training jobs as in Microsoft Philly, 13 days (generated, seed 2017)",
    "helios-like-10k": "10,000 training jobs as in SenseTime Helios, 14 days (generated, seed 2020)",
}

REQUEST_SAMPLES = {
    "azure-conv-like-10k": "10,000 LLM requests as in Azure conversations, 30 min (generated, seed 2023)",
}


def sample(name: str) -> Path:
    """The path of the bundled sample *name*; raises TraceError where there is none."""
    known = (*SAMPLES, *REQUEST_SAMPLES)
    if name not in known:
        raise fail("sample", f"no bundled sample {name!r}", f"There are {', '.join(known)}.")
    return Path(str(files("fleetsim_traces.samples").joinpath(f"{name}.parquet")))
