"""Azure LLM inference, 2023 (an hour) and 2024 (a week): one row a request.

*Citation.* 2023: P. Patel et al., "Splitwise: Efficient Generative LLM Inference Using Phase Splitting", ISCA
2024. 2024: J. Stojkovic et al., "DynamoLLM: Designing LLM Inference Clusters for Performance and Energy
Efficiency", HPCA 2025. *Licence.* CC-BY-4.0.

*How to obtain.* github.com/Azure/AzurePublicDataset: ``data/AzureLLMInferenceTrace_{code,conv}.csv`` and the
release assets ``AzureLLMInferenceTrace_{code,conv}_1week.csv``. Columns: ``TIMESTAMP``, ``ContextTokens``,
``GeneratedTokens``.

*Rows.* 2023: conversation 19,366, code 8,819. The 2024 layout is read from its documented form; it was not
run on the originals.

*Known defects.* 2023: lines end in CR LF; seven digits of fraction, no UTC offset (read as UTC); one hour of
2023-11-16, though its page says November 11. 2024: an offset, and the fraction is left out when it is zero.
Neither says who asked: tenant and service are unknown; the file's name tells code from conversation.
"""

from __future__ import annotations

from pathlib import Path

from fleetsim_traces.delimited import load
from fleetsim_traces.request_rows import UNIX, finish
from fleetsim_traces.requests import RequestTrace
from fleetsim_traces.rows import BadRows, Check, Draft, numbers
from fleetsim_traces.times import iso, unix_s

HEADER = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


def read(path: Path, *, bad_rows: BadRows = "refuse") -> RequestTrace:
    """Read the CSV at *path*; ``request_id`` is its line."""
    import polars as pl

    cells = load(path, HEADER)
    naive, offset_s = iso(pl.col("TIMESTAMP"))
    frame = cells.rows.frame.select(
        "line",
        (unix_s(naive, "UTC") - offset_s.fill_null(0)).alias("arrival_s"),
        pl.col("TIMESTAMP").alias("time:raw"),
        offset_s.is_null().alias("bare"),
        *numbers(prompt_tokens="ContextTokens", output_tokens="GeneratedTokens"),
    )
    checks = [
        Check(
            "TIMESTAMP is not a date and time",
            "time:raw",
            pl.col("arrival_s").is_null(),
            "Write YYYY-MM-DD HH:MM:SS.ffffff, with or without an offset.",
        )
    ]
    bare = frame["bare"].all()
    return finish(
        Draft(
            path=path,
            format="azure-llm",
            frame=frame,
            checks=checks,
            misfits=cells.rows.misfits,
            fields=len(cells.names),
            epoch=UNIX,
            rebase=True,
            notes=["Timestamps have no UTC offset; read as UTC."] if bare else [],
        ),
        bad_rows,
    )
