"""Request files of the Splitwise simulator, splitwise-sim.

*Citation.* P. Patel et al., "Splitwise: Efficient Generative LLM Inference Using Phase Splitting", ISCA 2024.
*Licence.* MIT (the simulator); rows made from Azure LLM 2023 are CC-BY-4.0.

*How to obtain.* github.com/Mutinifni/splitwise-sim, ``traces/*.csv``, made by ``generate_trace.py``. Columns:
``request_id``, ``arrival_timestamp`` (s), ``prompt_size``, ``token_size`` (tokens), and perhaps
``request_type``, ``application_id``, ``batch_size``.

*Known defects.* No date. Generated, or thinned from Azure LLM 2023. ``batch_size`` and ``request_type`` are
always the same and not used.
"""

from __future__ import annotations

from pathlib import Path

from fleetsim_traces.delimited import load
from fleetsim_traces.request_rows import finish
from fleetsim_traces.requests import RequestTrace
from fleetsim_traces.rows import BadRows, Draft, numbers

HEADER = ("request_id", "arrival_timestamp", "prompt_size", "token_size")
MORE = ("request_type", "application_id", "batch_size")


def read(path: Path, *, bad_rows: BadRows = "refuse") -> RequestTrace:
    """Read the CSV at *path*; ``service`` is the application, where the file has one."""
    import polars as pl

    cells = load(path, HEADER, MORE)
    frame = cells.rows.frame.select(
        "line",
        "request_id",
        pl.when(pl.col("application_id") != "")
        .then("application-" + pl.col("application_id"))
        .otherwise(pl.lit("unknown"))
        .alias("service"),
        *numbers(arrival_s="arrival_timestamp", prompt_tokens="prompt_size", output_tokens="token_size"),
    )
    return finish(
        Draft(
            path=path,
            format="splitwise",
            frame=frame,
            misfits=cells.rows.misfits,
            fields=len(cells.names),
        ),
        bad_rows,
    )
