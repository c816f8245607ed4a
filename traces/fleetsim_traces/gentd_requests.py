"""Alibaba GenTD26, the request side: image generation with diffusion models and LoRA adapters.

*Citation.* Alibaba clusterdata, cluster-trace-v2026-GenAI. *Licence.* None is stated in the folder.

*How to obtain.* github.com/alibaba/clusterdata, ``cluster-trace-v2026-GenAI/lora_request_trace.csv``.
Columns: ``gmt_create`` (local, shifted), ``predict_type``, ``predict_status``, ``exec_time_seconds``,
``groupId``, ``prompt_length``, ``negative_prompt_length`` (characters), ``num_images_per_prompt``,
``num_inference_steps``, ``checkpoint_model_version_id``, ``num_lora``.

*What is taken.* ``groupId`` is the tenant, the checkpoint the service, ``predict_type`` the kind, the
execution time ``latency_s``. Prompts are counted in characters there, so token columns are null.

*Known defects.* The date is shifted by an unknown amount: hours of the day are those of China if the shift is
whole days, which the page does not say; read as UTC. Execution time is whole seconds, without the wait.
PENDING and PROCESSING requests never ended in the log: kept, with their status; some have no model. There is
no job side: the files beside it are a day's samples of serving pods and of queues, without submission, end or
number of GPUs.
"""

from __future__ import annotations

from pathlib import Path

from fleetsim_traces.delimited import load
from fleetsim_traces.request_rows import UNIX, finish
from fleetsim_traces.requests import RequestTrace
from fleetsim_traces.rows import BadRows, Check, Draft, numbers
from fleetsim_traces.times import unix_s

HEADER = (
    "gmt_create", "predict_type", "predict_status", "exec_time_seconds", "groupId", "prompt_length",
    "negative_prompt_length", "num_images_per_prompt", "num_inference_steps", "checkpoint_model_version_id",
    "num_lora",
)  # fmt: skip
_STATUS = {"SUCCEED": "completed", "FAILED": "failed", "PENDING": "pending", "PROCESSING": "processing"}


def read(path: Path, *, bad_rows: BadRows = "refuse") -> RequestTrace:
    """Read the CSV at *path*; ``request_id`` is its line."""
    import polars as pl

    cells = load(path, HEADER)
    made = pl.col("gmt_create").str.strip_chars()
    frame = cells.rows.frame.select(
        "line",
        unix_s(made.str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False, time_unit="us"), "UTC").alias(
            "arrival_s"
        ),
        made.alias("time:raw"),
        pl.when(pl.col("checkpoint_model_version_id") != "")
        .then("checkpoint_model_version_id")
        .otherwise(pl.lit("unknown"))
        .alias("service"),
        pl.col("groupId").alias("tenant"),
        pl.col("predict_type").alias("kind"),
        pl.col("predict_status").replace(_STATUS).alias("status"),
        *numbers(images="num_images_per_prompt", steps="num_inference_steps", latency_s="exec_time_seconds"),
    )
    checks = [
        Check(
            "gmt_create is not a date and time",
            "time:raw",
            pl.col("arrival_s").is_null(),
            "Write YYYY-MM-DD HH:MM:SS.",
        )
    ]
    return finish(
        Draft(
            path=path,
            format="gentd-requests",
            frame=frame,
            checks=checks,
            misfits=cells.rows.misfits,
            fields=len(cells.names),
            epoch=UNIX,
            rebase=True,
            notes=["Dates were shifted by their publisher; read as UTC."],
        ),
        bad_rows,
        tokens=False,
    )
