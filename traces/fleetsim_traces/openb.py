"""Alibaba openb 2023: pods of a cluster that shares GPUs.

*Citation.* Q. Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation
Gradient Descent", USENIX ATC 2023. *Licence.* none stated in the folder; the same files are in
github.com/hkust-adsl/kubernetes-scheduler-simulator under Apache-2.0.

*How to obtain.* github.com/alibaba/clusterdata, ``cluster-trace-gpu-v2023/csv/openb_pod_list_*.csv``: 24
lists, ``default`` with 8,152 pods; node lists go to :func:`fleetsim_traces.nodes.read_nodes`.

*What is taken.* ``gpu_milli`` is the share of each GPU (1000 the whole), ``gpu_spec`` the models asked for,
sorted and joined by ``|`` where there are several, empty for any. ``priority`` is the QoS: 2 for LS
(latency-sensitive) and Guaranteed, 1 for Burstable, 0 for BE. Pending pods, which never ran, and pods without
GPUs are left out and counted; with *cpu_jobs* the latter are jobs too, of 0 GPUs.

*Known defects.* No date: times count from the start of the trace. Pods deleted at the last instant
(12,902,960 s in most lists) were still alive, so their run time is a lower bound; their number is noted.
Nearly all load is in the last 38 days. Models can repeat in ``gpu_spec``. The ``multigpu*`` lists have five
columns only, no times: their pods are read as submitted together at 0 s with a run time of 0 s, in the
order of the file, and tell of sizes alone. Pod names are unique in a list but not the same pod in another.
"""

from __future__ import annotations

from pathlib import Path

from fleetsim_traces.delimited import load
from fleetsim_traces.rows import NEVER_STARTED, BadRows, Check, Draft, finish, no_gpu, numbers
from fleetsim_traces.table import Trace

HEADER = ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli")
TIMES = ("gpu_spec", "qos", "pod_phase", "creation_time", "deletion_time", "scheduled_time")
QOS = {"LS": 2.0, "Guaranteed": 2.0, "Burstable": 1.0, "BE": 0.0}
PHASES = {"Running": "running", "Succeeded": "completed", "Failed": "failed", "Pending": "pending"}


def read(path: Path, *, cpu_jobs: bool = False, bad_rows: BadRows = "refuse") -> Trace:
    """Read the pod list at *path*, with *cpu_jobs* pods without GPUs too; raises TraceError."""
    import polars as pl

    table = load(path, HEADER, TIMES)
    timed = "creation_time" in table.names
    frame = table.rows.frame.select(
        "line",
        pl.col("name").alias("job_id"),
        *numbers(gpus="num_gpu", gpu_share="gpu_milli", cpu_milli="cpu_milli", memory_mib="memory_mib"),
        pl.col("gpu_spec").str.split("|").list.unique().list.sort().list.join("|").alias("gpu_model"),
        pl.col("qos").replace_strict(QOS, default=None, return_dtype=pl.Float64).alias("priority"),
        pl.col("pod_phase").replace_strict(PHASES, default=None, return_dtype=pl.String).alias("status"),
        *(
            numbers(submit_s="creation_time", start_s="scheduled_time", end_s="deletion_time")
            if timed
            else [pl.lit(0.0).alias("submit_s"), pl.lit(0.0).alias("duration_s")]
        ),
    ).with_columns(
        pl.when(pl.col("gpus") == 0).then(1.0).otherwise(pl.col("gpu_share") / 1000).alias("gpu_share")
    )
    checks, skips, notes = [], [no_gpu(cpu_jobs)], []
    if timed:
        frame = frame.with_columns((pl.col("end_s") - pl.col("start_s")).alias("duration_s"))
        skips.append(Check(f"{NEVER_STARTED} (Pending)", "line", pl.col("status") == "pending"))
        checks = [
            Check(f"{source} is not a number", f"{name}:raw", pl.col(name).is_null())
            for name, source in (
                ("submit_s", "creation_time"),
                ("start_s", "scheduled_time"),
                ("end_s", "deletion_time"),
            )
        ]
        checks.append(Check("deletion_time is before scheduled_time", "end_s:raw", pl.col("duration_s") < 0))
        alive = frame.filter(
            (pl.col("end_s") == pl.col("end_s").max()) & (pl.col("status") == "running")
        ).height
        notes = [f"{alive:,} pods were alive at the end of the trace: their run time is a lower bound."]
    else:
        notes = ["The list has no times: every pod is submitted at 0 s with a run time of 0 s."]
    draft = Draft(
        path=path,
        format="openb",
        frame=frame,
        skips=skips,
        checks=checks,
        misfits=table.rows.misfits,
        fields=len(table.names),
        notes=notes,
    )
    return finish(draft, bad_rows)
