"""Pod lists: GPUs of containers, gangs, times, what is left out."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetsim_traces import Trace, TraceError, detect, read_trace

DAY = datetime(2024, 3, 10, tzinfo=UTC)


def stamp(second: float) -> str:
    return (DAY + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(
    name: str, asks: dict[str, Any], times: tuple[float | None, ...] = (0, 10, 70), **more: Any
) -> dict[str, Any]:
    """A pod created, started and ended at *times*; without an end it runs, without a start it waits."""
    created, began, ended = times
    state: dict[str, Any] = {}
    if ended is not None:
        state = {"terminated": {"startedAt": stamp(began or 0), "finishedAt": stamp(ended)}}
    elif began is not None:
        state = {"running": {"startedAt": stamp(began)}}
    phase = "Pending" if began is None else "Running" if ended is None else "Succeeded"
    meta = {"name": name, "namespace": "ml", "creationTimestamp": stamp(created or 0), **more.pop("meta", {})}
    containers = [{"resources": {"limits": asks, "requests": asks}}]
    return {
        "metadata": meta,
        "spec": {"containers": containers, **more.pop("spec", {})},
        "status": {"phase": phase, "containerStatuses": [{"state": state}], **more},
    }


def read(path: Path, *items: Any, **options: Any) -> Trace:
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=4))
    assert detect(path) == "kubernetes"
    return read_trace(path, **options)


def rows(trace: Trace, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in trace.jobs.select(list(names)).to_pylist()]


GPU = "nvidia.com/gpu"


def test_a_pod(tmp_path: Path) -> None:
    spec = {
        "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"},
        "priority": 1000,
        "activeDeadlineSeconds": 3600,
    }
    trace = read(tmp_path / "k", pod("a", {GPU: "2", "cpu": "8"}, spec=spec))
    assert trace.epoch == DAY
    columns = (
        "job_id",
        "submit_s",
        "start_s",
        "duration_s",
        "gpus",
        "tenant",
        "gpu_model",
        "priority",
        "estimate_s",
    )
    assert rows(trace, *columns, "status") == [
        ("ml/a", 0, 10, 60, 2, "ml", "NVIDIA-A100-SXM4-80GB", 1000, 3600, "completed")
    ]


def test_gpus_of_containers_and_init_containers(tmp_path: Path) -> None:
    def ask(n: int, **more: Any) -> dict[str, Any]:
        return {"resources": {"limits": {GPU: str(n)}}, **more}

    two = {"containers": [ask(1), ask(2), {}], "initContainers": [ask(2)]}
    big = {"containers": [ask(1)], "initContainers": [ask(4), ask(2)]}
    sidecar = {"containers": [ask(1)], "initContainers": [ask(1, restartPolicy="Always")]}
    trace = read(tmp_path / "k", *(pod(f"p{i}", {}, spec=spec) for i, spec in enumerate((two, big, sidecar))))
    assert rows(trace, "gpus") == [(3,), (4,), (2,)]


@pytest.mark.parametrize(
    ("cpu", "memory", "cpu_milli", "memory_mib"),
    [
        ("8", "64Gi", 8000, 65536),
        ("500m", "512Mi", 500, 512),
        (1.5, "1G", 1500, 954),  # 1e9 / 2**20 = 953.67, rounded up
        ("2e1", 134217728, 20000, 128),
        ("0.1k", "1Ti", 100000, 1048576),
        ("many", "-1", 0, 0),
    ],
)
def test_cpu_and_memory_of_a_pod(
    tmp_path: Path, cpu: object, memory: object, cpu_milli: int, memory_mib: int
) -> None:
    trace = read(tmp_path / "k", pod("a", {GPU: "1", "cpu": cpu, "memory": memory}))
    assert rows(trace, "cpu_milli", "memory_mib") == [(cpu_milli, memory_mib)]


def test_cpu_of_containers_and_of_gangs(tmp_path: Path) -> None:
    """Requests before limits, init containers where they ask for more; of a gang, what ran at one time."""

    def ask(cpu: int, **more: Any) -> dict[str, Any]:
        return {"resources": {"limits": {GPU: "1", "cpu": "99"}, "requests": {"cpu": cpu}}, **more}

    gang = {"labels": {"training.kubeflow.org/job-name": "g"}}
    trace = read(
        tmp_path / "k",
        pod("a", {}, spec={"containers": [ask(1), ask(2)], "initContainers": [ask(5), ask(4)]}),
        pod("b", {}, spec={"containers": [ask(1)], "initContainers": [ask(3, restartPolicy="Always")]}),
        pod("w0", {GPU: "1", "cpu": "2"}, (0, 10, 70), meta=gang),
        pod("w1", {GPU: "1", "cpu": "2"}, (0, 10, 40), meta=gang),
        pod("w2", {GPU: "1", "cpu": "3"}, (0, 40, 70), meta=gang),
        pod("boss", {"cpu": "1"}, (0, 5, 90), meta=gang),
        pod("z", {GPU: "1", "cpu": "7"}, (0, 10, 10)),
    )
    assert rows(trace, "job_id", "gpus", "cpu_milli") == [
        ("ml/a", 2, 5000), ("ml/b", 2, 4000), ("ml/g", 2, 6000), ("ml/z", 1, 7000),
    ]  # fmt: skip


def test_pods_of_cpu_alone_are_taken_where_they_are_wanted(tmp_path: Path) -> None:
    pods = pod("a", {GPU: "1"}), pod("b", {"cpu": "2"}), pod("c", {})
    assert rows(read(tmp_path / "k", *pods), "job_id") == [("ml/a",)]
    assert rows(read(tmp_path / "k", *pods, cpu_jobs=True), "job_id", "gpus", "cpu_milli") == [
        ("ml/a", 1, 0),
        ("ml/b", 0, 2000),
    ]


def test_parts_of_a_gpu(tmp_path: Path) -> None:
    trace = read(
        tmp_path / "k",
        pod("a", {"nvidia.com/mig-3g.20gb": "2"}),
        pod("b", {"amd.com/gpu": "1"}),
        pod("c", {"nvidia.com/gpu.shared": 1}),
    )
    assert rows(trace, "gpus", "min_memory_gb") == [(2, 20), (1, None), (1, None)]
    assert trace.jobs["gpu_share"].to_pylist() == pytest.approx([3 / 7, 1, 1])


@pytest.mark.parametrize(
    "meta",
    [
        {"labels": {"training.kubeflow.org/job-name": "g"}},
        {"annotations": {"scheduling.k8s.io/group-name": "g"}},
        {"labels": {"kueue.x-k8s.io/pod-group-name": "g"}},
        {"labels": {"jobset.sigs.k8s.io/jobset-name": "g"}},
        {"ownerReferences": [{"kind": "Job", "name": "g"}]},
        {"ownerReferences": [{"kind": "PyTorchJob", "name": "g"}]},
    ],
)
def test_a_gang_is_one_job(tmp_path: Path, meta: dict[str, Any]) -> None:
    trace = read(
        tmp_path / "k",
        *(pod(f"w{i}", {GPU: "8"}, (0, 10 + i, 100), meta=meta) for i in range(4)),
        pod("launcher", {}, (0, 5, 101), meta=meta),
        pod("other", {GPU: "1"}, meta={**meta, "namespace": "b"}),
    )
    assert rows(trace, "start_s", "duration_s", "gpus", "tenant") == [(5, 96, 32, "ml"), (10, 60, 1, "b")]


def test_replaced_and_following_pods_count_once(tmp_path: Path) -> None:
    meta = {"ownerReferences": [{"kind": "Job", "name": "j"}]}
    failed = pod("a", {GPU: "4"}, (0, 10, 20), meta=meta, phase="Failed")
    trace = read(
        tmp_path / "k",
        failed,
        pod("b", {GPU: "4"}, (20, 20, 50), meta=meta),
        pod("c", {GPU: "4"}, (0, 10, 50), meta=meta),
    )
    assert rows(trace, "gpus", "duration_s", "status") == [(8, 40, "failed")]


@pytest.mark.parametrize("kind", ["ReplicaSet", "StatefulSet", "DaemonSet"])
def test_replicas_of_a_service_are_jobs_of_their_own(tmp_path: Path, kind: str) -> None:
    meta = {"ownerReferences": [{"kind": kind, "name": "s"}]}
    trace = read(tmp_path / "k", *(pod(f"r{i}", {GPU: "1"}, meta=meta) for i in range(3)))
    assert rows(trace, "job_id") == [("ml/r0",), ("ml/r1",), ("ml/r2",)]


def test_pods_without_an_end_a_start_or_a_gpu(tmp_path: Path) -> None:
    trace = read(
        tmp_path / "k",
        pod("runs", {GPU: "1"}, (0, 10, None)),
        pod("waits", {GPU: "1"}, (400, None, None)),  # the latest time of the list
        pod("cpu", {"cpu": "1"}),
    )
    assert rows(trace, "job_id", "duration_s", "status") == [("ml/runs", 390, "running")]
    assert trace.skipped == {"no GPU asked for": 1, "never started": 1}
    assert trace.notes[0].startswith("1 pods were still running")


def test_an_evicted_pod_ends_with_its_last_condition(tmp_path: Path) -> None:
    evicted = pod("a", {GPU: "1"}, (0, 10, 20))
    evicted["status"] = {
        "phase": "Failed",
        "reason": "Evicted",
        "startTime": stamp(12),
        "conditions": [{"type": "Ready", "lastTransitionTime": stamp(t)} for t in (12, 42)],
    }
    assert rows(read(tmp_path / "k", evicted), "start_s", "duration_s", "status") == [(12, 30, "failed")]


def test_bad_pods_are_rejected_by_reason(tmp_path: Path) -> None:
    lost = pod("lost", {GPU: "1"})
    lost["status"] = {"phase": "Failed", "startTime": stamp(1)}
    late = pod("late", {GPU: "1"}, meta={"creationTimestamp": "tomorrow"})
    trace = read(
        tmp_path / "k",
        pod("good", {GPU: "1"}),
        pod("half", {GPU: "500m"}),
        lost,
        late,
        pod("back", {GPU: "1"}, (0, 70, 10)),
        bad_rows="drop",
    )
    assert trace.rejected == {
        "gpus is not a number": 1,
        "no end, though it is not running": 1,
        "creationTimestamp is not a timestamp": 1,
        "the end is before the start": 1,
    }


@pytest.mark.parametrize(
    "item", [None, 7, [], {}, {"metadata": [], "spec": {"containers": 3}, "status": "x"}]
)
def test_items_of_any_shape_do_no_harm(tmp_path: Path, item: Any) -> None:
    trace = read(tmp_path / "k", pod("a", {GPU: "1"}), item, bad_rows="drop")
    assert trace.jobs.num_rows == 1
    with pytest.raises(TraceError):
        read(tmp_path / "k", item)


@given(
    st.lists(
        st.tuples(st.integers(0, 10**7), st.integers(0, 999), st.integers(0, 10**6), st.integers(1, 64)),
        min_size=1,
        max_size=15,
    )
)
@settings(deadline=None, max_examples=50)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, jobs: list[tuple[int, int, int, int]]) -> None:
    items = [
        pod(f"p{i}", {GPU: str(gpus)}, (submit, submit + wait, submit + wait + took))
        for i, (submit, wait, took, gpus) in enumerate(jobs)
    ]
    trace = read(tmp_path_factory.mktemp("k8s") / "k", *items)
    zero = min(job[0] for job in jobs)
    assert rows(trace, "submit_s", "start_s", "duration_s", "gpus") == [
        (submit - zero, submit + wait - zero, took, gpus)
        for submit, wait, took, gpus in sorted(jobs, key=lambda job: job[0])
    ]
