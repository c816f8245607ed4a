"""Chatbot-arena load with one tenant a model: the real trace of VTC, ten minutes, 27 tenants.

*Citation.* Y. Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024; the load is that of L.
Zheng et al., "LMSYS-Chat-1M", ICLR 2024. *Licence.* Apache-2.0 (Ying1123/VTC-artifact).

*How to obtain.* github.com/Ying1123/VTC-artifact, ``fair_bench/real_trace.pkl``: a pickle, which is never
loaded here; have it written as CSV where it is trusted. Columns: ``req_id``, ``model_dir``, ``adapter_dir``
(the tenant), ``prompt_len``, ``output_len`` (tokens), ``req_time`` (s).

*Rows.* 1,500 in 600 s. *Known defects.* The authors rescaled time to reach that rate. No date.
"""

from __future__ import annotations

from pathlib import Path

from fleetsim_traces.delimited import load
from fleetsim_traces.request_rows import finish
from fleetsim_traces.requests import RequestTrace
from fleetsim_traces.rows import BadRows, Draft, numbers

HEADER = ("req_id", "model_dir", "adapter_dir", "prompt_len", "output_len", "req_time")


def read(path: Path, *, bad_rows: BadRows = "refuse") -> RequestTrace:
    """Read the CSV at *path*; ``tenant`` is the adapter, ``service`` the base model."""
    import polars as pl

    cells = load(path, HEADER)
    frame = cells.rows.frame.select(
        "line",
        pl.col("req_id").alias("request_id"),
        pl.col("model_dir").alias("service"),
        pl.col("adapter_dir").alias("tenant"),
        *numbers(prompt_tokens="prompt_len", output_tokens="output_len", arrival_s="req_time"),
    )
    return finish(
        Draft(
            path=path,
            format="arena",
            frame=frame,
            misfits=cells.rows.misfits,
            fields=len(cells.names),
            notes=["Time was rescaled by the authors of the trace."],
        ),
        bad_rows,
    )
