"""BurstGPT: requests of a university campus to ChatGPT and GPT-4 on Azure, 110 days.

*Citation.* Y. Wang et al., "BurstGPT: A Real-World Workload Dataset to Optimize LLM Serving Systems", KDD
2025. *Licence.* CC-BY-4.0.

*How to obtain.* Releases of github.com/HPMLL/BurstGPT, for example ``BurstGPT_1.csv``. Columns: ``Timestamp``
(s from the start of the collection), ``Model``, ``Request tokens``, ``Response tokens``, ``Total tokens``,
``Log Type``; files of release 2.0 also have ``Session ID`` and ``Elapsed time`` (s).

*Rows.* By its page: file 1 1,429,737, file 2 3,858,400, file 3 5,344,021. This reader follows the documented
columns and is tested on constructed rows: the originals were not at hand, only figures derived from them.

*Known defects.* No date. A response of 0 tokens is a failed request (2 to 7 per cent): kept, ``status``
failed; the files ``without_fails`` have none. Timestamps are whole seconds, so requests share them.
"""

from __future__ import annotations

from pathlib import Path

from fleetsim_traces.delimited import load
from fleetsim_traces.request_rows import finish
from fleetsim_traces.requests import RequestTrace
from fleetsim_traces.rows import BadRows, Draft, numbers

HEADER = ("Timestamp", "Model", "Request tokens", "Response tokens", "Total tokens", "Log Type")
LATER = ("Session ID", "Elapsed time")


def read(path: Path, *, bad_rows: BadRows = "refuse") -> RequestTrace:
    """Read the CSV at *path*; ``request_id`` is its line, ``service`` the model, ``kind`` the log type."""
    import polars as pl

    cells = load(path, HEADER, LATER)
    frame = cells.rows.frame.select(
        "line",
        *numbers(arrival_s="Timestamp"),
        pl.col("Model").alias("service"),
        pl.col("Log Type").alias("kind"),
        pl.col("Session ID").alias("session"),
        *numbers(prompt_tokens="Request tokens", output_tokens="Response tokens", latency_s="Elapsed time"),
    ).with_columns(
        pl.when(pl.col("output_tokens") == 0)
        .then(pl.lit("failed"))
        .otherwise(pl.lit("completed"))
        .alias("status")
    )
    return finish(
        Draft(
            path=path,
            format="burstgpt",
            frame=frame,
            misfits=cells.rows.misfits,
            fields=len(cells.names),
            rebase=True,
        ),
        bad_rows,
    )
