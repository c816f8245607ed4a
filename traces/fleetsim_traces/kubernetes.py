"""Pods of a Kubernetes cluster, as ``kubectl get pods --all-namespaces --output json`` prints them.

*How to obtain.* The command above; ``kubectl`` shows the pods that still exist, so collect often, or keep
finished ones. *Citation, licence, row counts.* Those of the cluster's owner.

*What is taken.* GPUs are the extended resources of the containers: ``nvidia.com/gpu``, ``amd.com/gpu``,
``gpu.intel.com/i915`` and ``xe``, and MIG profiles (``nvidia.com/mig-1g.5gb``: share and memory of the
profile); init containers count where they ask for more than the others together. The namespace is the tenant,
``nodeSelector`` ``nvidia.com/gpu.product`` the model, ``activeDeadlineSeconds`` the estimate,
``spec.priority`` the priority. CPU and memory are the containers' requests, else their limits, with init
containers as above. Submission is ``creationTimestamp``, start the earliest container's (else
``startTime``), the end the latest container's.

*Gangs.* Pods of one group become one job: the group of volcano, kueue, coscheduling, JobSet, the Kubeflow
training operator, Ray or LeaderWorkerSet by their labels, else the owner, unless that keeps a service running
(ReplicaSet, StatefulSet, DaemonSet) or is a node. Its GPUs, CPU and memory are the most that ran at one
time, so that pods which replace failed ones, or follow one another, count once; it runs from the first start
to the last end.

*Known defects.* A pod without an end is taken to run until the latest time in the list: a lower bound, and
their number is noted. Pods that never started, or ask for no GPU, are left out and counted. A pod that asks
for two kinds of GPU counts the larger. ``nvidia.com/gpu.shared`` (time slicing, MPS) counts as a whole GPU:
the list does not tell the part. The number of a pod in the list stands for the line.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fleetsim_traces import mig
from fleetsim_traces.jsontext import dict_at, list_at, load_json, text_at
from fleetsim_traces.rows import NEVER_STARTED, BadRows, Check, Draft, finish, no_gpu
from fleetsim_traces.table import Trace
from fleetsim_traces.text import fail
from fleetsim_traces.times import instants, number

GPUS = ("nvidia.com/gpu", "nvidia.com/gpu.shared", "amd.com/gpu", "gpu.intel.com/i915", "gpu.intel.com/xe")
MIG = "nvidia.com/mig-"
GROUPS = (
    "scheduling.k8s.io/group-name",  # volcano
    "volcano.sh/job-name",
    "kueue.x-k8s.io/pod-group-name",
    "scheduling.x-k8s.io/pod-group",  # coscheduling
    "pod-group.scheduling.sigs.k8s.io",
    "jobset.sigs.k8s.io/jobset-name",
    "training.kubeflow.org/job-name",
    "ray.io/cluster",
    "leaderworkerset.sigs.k8s.io/name",
)
SERVICES = ("ReplicaSet", "ReplicationController", "StatefulSet", "DaemonSet", "Node")
PRODUCT = "nvidia.com/gpu.product"
STATUS = {"Succeeded": "completed", "Failed": "failed", "Running": "running", "Pending": "pending"}
_SUFFIXES = {"": 1.0, "m": 1e-3, "k": 1e3, "K": 1e3}
_SUFFIXES |= {letter: 1000.0**power for power, letter in enumerate("MGTPE", 2)}
_SUFFIXES |= {f"{letter}i": 1024.0**power for power, letter in enumerate("KMGTPE", 1)}
_TEXTS = (
    "created",
    "began",
    "ended",
    "gpus",
    "kind",
    "cpu",
    "memory",
    "group",
    "name",
    "tenant",
    "model",
    "priority",
    "limit_s",
    "phase",
)


def read(path: Path, *, cpu_jobs: bool = False, bad_rows: BadRows = "refuse") -> Trace:
    """Read the pod list at *path*, with *cpu_jobs* pods without GPUs too; raises TraceError."""
    import polars as pl

    data = load_json(path)
    if not isinstance(data, dict) or not isinstance(data.get("items"), list):
        raise fail(
            path, "not a list of pods", "Write it with kubectl get pods --all-namespaces --output json."
        )
    pods = pl.DataFrame(
        [_pod(item) for item in data["items"]], schema=dict.fromkeys(_TEXTS, pl.String), orient="row"
    )
    pods = pods.select(
        pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("line"),
        *(
            instants(pods[name].fill_null(""), "UTC").alias(f"{name}_s")
            for name in ("created", "began", "ended")
        ),
        pl.all(),
    )
    last_s = pods.select(pl.max_horizontal("created_s", "began_s", "ended_s").max()).item()
    pods = pods.with_columns(
        number(pl.col("gpus")).alias("count"),
        pl.col("cpu", "memory").cast(pl.Float64),
        (pl.col("phase") == "Running").fill_null(False).alias("open"),
    ).with_columns(pl.coalesce("ended_s", pl.when("open").then(pl.lit(last_s))).alias("ended_s"))
    never = pl.col("start_s").is_null() & pl.col("began:raw").is_null()
    running = pods.filter(pl.col("open") & (pl.col("count") > 0)).height
    note = f"{running:,} pods were still running: their run time is up to the latest time in the list."
    draft = Draft(
        path=path,
        format="kubernetes",
        frame=_gangs(pods),
        skips=[no_gpu(cpu_jobs), Check(NEVER_STARTED, "line", never)],
        checks=[
            Check("creationTimestamp is not a timestamp", "created:raw", pl.col("submit_s").is_null()),
            Check("a start is not a timestamp", "began:raw", pl.col("start_s").is_null()),
            Check("no end, though it is not running", "phase", pl.col("end_s").is_null()),
            Check("the end is before the start", "phase", pl.col("duration_s") < 0),
        ],
        epoch=datetime(1970, 1, 1, tzinfo=UTC),
        rebase=True,
        notes=[note] * bool(running),
    )
    return finish(draft, bad_rows)


def _pod(item: object) -> tuple[str | None, ...]:
    """The facts of a pod, as texts in the order of ``_TEXTS``."""
    meta, spec, status = (dict_at(item, key) for key in ("metadata", "spec", "status"))
    namespace, name = text_at(meta, "namespace") or "default", text_at(meta, "name")
    kind, gpus = _demand(spec)
    containers = list_at(status, "containerStatuses")
    over, running = ([dict_at(c, "state", key) for c in containers] for key in ("terminated", "running"))
    starts = [text for state in (*over, *running) if (text := text_at(state, "startedAt"))]
    ends = [text for state in over if (text := text_at(state, "finishedAt"))]
    phase = text_at(status, "phase")
    if not ends and phase in ("Succeeded", "Failed"):  # evicted: the last change of a condition is left
        ends = [t for c in list_at(status, "conditions") if (t := text_at(c, "lastTransitionTime"))]
    group = _group(meta)
    return (
        text_at(meta, "creationTimestamp"),
        min(starts, default=None) or text_at(status, "startTime"),
        max(ends, default=None) if phase in ("Succeeded", "Failed") else None,
        gpus,
        kind,
        *(str(_host(spec, name)) for name in ("cpu", "memory")),
        f"{namespace}/{group}" if group else None,
        f"{namespace}/{name}" if name else None,
        namespace,
        text_at(spec, "nodeSelector", PRODUCT),
        text_at(spec, "priority"),
        text_at(spec, "activeDeadlineSeconds"),
        phase,
    )


def _demand(spec: dict[str, Any]) -> tuple[str | None, str]:
    """Which GPU resource a pod asks for and how many of it."""
    sums: dict[str, int] = {}
    tops: dict[str, int] = {}
    for containers in ("containers", "initContainers"):
        for container in list_at(spec, containers):
            asks = {
                **dict_at(container, "resources", "limits"),
                **dict_at(container, "resources", "requests"),
            }
            for key, value in asks.items():
                if key in GPUS or key.startswith(MIG):
                    if not str(value).isdigit():
                        return key, str(value)
                    sidecar = text_at(container, "restartPolicy") == "Always"
                    if containers == "containers" or sidecar:
                        sums[key] = sums.get(key, 0) + int(value)
                    else:
                        tops[key] = max(tops.get(key, 0), int(value))
    best = max(
        ((max(sums.get(key, 0), tops.get(key, 0)), key) for key in {**sums, **tops}), default=(0, None)
    )
    return best[1], str(best[0])


def _host(spec: dict[str, Any], resource: str) -> float:
    """How much of ``cpu`` or ``memory`` a pod asks for: cores, or bytes; 0 where it does not say."""
    total = top = 0.0
    for containers in ("containers", "initContainers"):
        for container in list_at(spec, containers):
            asks = {
                **dict_at(container, "resources", "limits"),
                **dict_at(container, "resources", "requests"),
            }
            amount = _quantity(str(asks.get(resource, 0)))
            if containers == "containers" or text_at(container, "restartPolicy") == "Always":
                total += amount
            else:
                top = max(top, amount)
    return max(total, top)


def _quantity(text: str) -> float:
    """A quantity as ``500m``, ``1.5``, ``16Gi`` or ``2e9``; 0 for anything else."""
    found = re.fullmatch(r"(\d+\.?\d*(?:[eE]\d{1,2})?)(m|k|[KMGTPE]i?)?", text)
    return float(found[1]) * _SUFFIXES[found[2] or ""] if found else 0.0


def _group(meta: dict[str, Any]) -> str | None:
    """The gang of a pod, or None where it is alone."""
    for key in GROUPS:
        for place in ("labels", "annotations"):
            if name := text_at(meta, place, key):
                return name
    for owner in list_at(meta, "ownerReferences"):
        kind, name = text_at(owner, "kind"), text_at(owner, "name")
        if kind and name and kind not in SERVICES:
            return f"{kind}/{name}"
    return None


def _gangs(pods: Any) -> Any:
    """One row for each gang or single pod."""
    import polars as pl

    pods = pods.with_columns(
        pl.coalesce("group", "name", pl.format("pod-{}", "line")).alias("job_id"),
        pl.col("kind").fill_null(""),
    )
    ran = pods.filter(pl.col("began_s").is_not_null() & pl.col("ended_s").is_not_null())
    asked = pl.col("count", "cpu", "memory")
    steps = pl.concat(
        [
            ran.select("job_id", pl.col("ended_s").alias("at"), -asked, begins=pl.lit(False)),
            ran.select("job_id", pl.col("began_s").alias("at"), asked, begins=pl.lit(True)),
        ]
    ).sort("job_id", "at", "begins")  # at equal times ends go first
    peak = (
        steps.with_columns(asked.fill_null(0).cum_sum().over("job_id"))
        .group_by("job_id")
        .agg(
            pl.col("count").max().alias("peak"),
            pl.col("cpu", "memory").max(),
        )
    )
    big = pl.col("count") == pl.col("count").max()
    jobs = pods.group_by("job_id", maintain_order=True).agg(
        pl.col("line").first(),
        pl.col("created_s").min().alias("submit_s"),
        pl.col("created").first().alias("created:raw"),
        pl.col("began_s").min().alias("start_s"),
        pl.col("began").drop_nulls().first().alias("began:raw"),
        pl.when(pl.col("began").is_not_null()).then("ended_s").max().alias("end_s"),
        pl.col("count").max().alias("largest"),
        pl.col("cpu", "memory").max().name.suffix("_largest"),
        pl.col("gpus").filter(pl.col("count").is_null()).first().alias("unread"),
        pl.col("kind").filter(big).first().fill_null("").alias("kind"),
        pl.col("tenant").first(),
        pl.col("model").drop_nulls().first().alias("gpu_model"),
        number(pl.col("priority")).max(),
        number(pl.col("limit_s")).max().alias("estimate_s"),
        pl.col("phase").first(),
        *((pl.col("phase") == phase).any().alias(phase) for phase in STATUS),
    )
    status = pl.coalesce(
        pl.when(pl.col(phase)).then(pl.lit(STATUS[phase]))
        for phase in ("Failed", "Running", "Pending", "Succeeded")
    )
    return jobs.join(peak, on="job_id", how="left", maintain_order="left").with_columns(
        pl.when(pl.col("unread").is_null()).then(pl.max_horizontal("peak", "largest")).alias("gpus"),
        pl.col("unread").fill_null("").alias("gpus:raw"),
        (pl.max_horizontal("cpu", "cpu_largest") * 1000).round().alias("cpu_milli"),
        (pl.max_horizontal("memory", "memory_largest") / 2**20).ceil().alias("memory_mib"),
        (pl.col("end_s") - pl.col("start_s")).alias("duration_s"),
        mig.share(pl.col("kind")).alias("gpu_share"),
        mig.memory_gb(pl.col("kind")).alias("min_memory_gb"),
        status.alias("status"),
    )
