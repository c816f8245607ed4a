"""Exact readings of tiny files of each public source, with the arithmetic in sight."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fleetsim_traces import Trace, TraceError, detect, read_trace
from fleetsim_traces.shipped import MAPPINGS, shipped


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


def rows(trace: Trace, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in trace.jobs.select(list(names)).to_pylist()]


HELIOS = "job_id,user,vc,gpu_num,cpu_num,node_num,state,submit_time,start_time,end_time,duration,queue\n"
ACME = (
    "job_id,user,node_num,gpu_num,cpu_num,type,state,"
    "submit_time,start_time,end_time,duration,queue,gpu_time\n"
)
OPENB = (
    "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,"
    "creation_time,deletion_time,scheduled_time\n"
)


def test_helios(tmp_path: Path) -> None:
    text = (
        "7,u1,6214e9,8,64,1,COMPLETED,2020-04-01 00:00:10,2020-04-01 00:00:20,2020-04-01 00:01:20,60,10\n"
        "8,u2,vcA,1,4,1,NODE_FAIL,2020-04-01 00:00:10,2020-04-01 00:00:11,2020-04-01 00:01:20,99,1\n"
    )
    trace = read_trace(write(tmp_path / "h", HELIOS + text))
    assert trace.epoch == datetime(2020, 3, 31, 16, 0, 10, tzinfo=UTC)  # Shanghai is UTC+8
    assert rows(trace, "job_id", "submit_s", "start_s", "duration_s", "gpus", "tenant", "user", "status") == [
        ("7", 0, 10, 60, 8, "6214e9", "u1", "completed"),
        ("8", 0, 1, 99, 1, "vcA", "u2", "node_fail"),
    ]
    assert trace.notes == ("1 rows have a duration that is not end_time - start_time.",)  # 69 s, not 99


def test_acme_mixed_zones_classes_and_kalos_durations(tmp_path: Path) -> None:
    text = (
        "a,u1,1,8,64,Pretrain,CANCELLED,2023-05-17 11:00:00+00:00,"
        "2023-05-17 11:00:10+00:00,2023-05-17 11:01:10+00:00,70,10,560\n"
        "b,u1,1,8,64,Evaluation,FAILED,2023-05-17 19:00:05+08:00,"
        "2023-05-17 19:00:05+08:00,2023-05-17 19:00:06+08:00,1,0,8\n"
        "c,u1,1,8,64,Other,FAILED,2023-05-17 19:00:05+08:00,,,0,0,0\n"
    )
    trace = read_trace(write(tmp_path / "a", ACME + text))
    assert trace.epoch == datetime(2023, 5, 17, 11, tzinfo=UTC)
    assert rows(trace, "job_id", "submit_s", "duration_s", "workload_class", "status") == [
        ("a", 0, 60, "training", "cancelled"),  # 70 s is counted from submission
        ("b", 5, 1, "batch", "failed"),
    ]
    assert trace.skipped == {"never started": 1}
    assert trace.notes[0] == "1 rows have a duration that is not end_time - start_time; not used."


def test_openb_shares_models_and_quality_of_service(tmp_path: Path) -> None:
    text = (
        "p0,1,1,1,460,V100M32|V100M16|V100M32,LS,Running,10,110,20\n"
        "p1,1,1,8,1000,T4,Burstable,Succeeded,5,9,6\n"
        "p2,1,1,2,1000,,BE,Failed,11,12,11\n"
    )
    trace = read_trace(write(tmp_path / "o", OPENB + text))
    columns = ("job_id", "start_s", "duration_s", "gpus", "gpu_model", "priority", "status")
    assert rows(trace, *columns) == [
        ("p1", 6, 3, 8, "T4", 1, "completed"),
        ("p0", 20, 90, 1, "V100M16|V100M32", 2, "running"),
        ("p2", 11, 1, 2, None, 0, "failed"),
    ]
    assert trace.jobs["gpu_share"].to_pylist() == pytest.approx([1, 0.46, 1])
    assert trace.notes[0].startswith("1 pods were alive at the end")


def test_openb_pods_without_gpus_are_taken_where_they_are_wanted(tmp_path: Path) -> None:
    text = (
        "p0,6000,12288,1,460,,LS,Running,10,110,20\n"
        "p1,8000,30517,0,0,,BE,Succeeded,11,19,16\n"
        "p2,0,0,0,0,,BE,Succeeded,12,19,16\n"
    )
    path = write(tmp_path / "o", OPENB + text)
    assert rows(read_trace(path), "job_id", "cpu_milli", "memory_mib") == [("p0", 6000, 12288)]
    trace = read_trace(path, cpu_jobs=True)
    assert rows(trace, "job_id", "gpus", "gpu_share", "cpu_milli", "memory_mib")[1:] == [
        ("p1", 0, 1, 8000, 30517)
    ]
    assert (trace.rows_read, trace.skipped) == (2, {"no GPU asked for": 1})  # p2 asks for nothing at all


def test_openb_sizes_without_times(tmp_path: Path) -> None:
    text = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\nb,1,1,2,1000\na,1,1,1,300\n"
    trace = read_trace(write(tmp_path / "o", text))
    assert rows(trace, "job_id", "submit_s", "duration_s", "gpus") == [("b", 0, 0, 2), ("a", 0, 0, 1)]
    assert trace.notes == ("The list has no times: every pod is submitted at 0 s with a run time of 0 s.",)


def test_dlrm_instances_older_and_younger_than_the_trace(tmp_path: Path) -> None:
    text = (
        "instance_sn,role,app_name,gpu_request,creation_time,scheduled_time,deletion_time\n"
        "i0,HN,a,1,,,\ni1,HN,a,1,100.0,105.0,\ni2,HN,b,1,,,50\n"
    )
    trace = read_trace(write(tmp_path / "d", text))
    assert rows(trace, "job_id", "submit_s", "start_s", "duration_s", "tenant", "status") == [
        ("i0", 0, 0, 2678400, "a", "running"),
        ("i2", 0, 0, 50, "b", "completed"),
        ("i1", 100, 105, 2678295, "a", "running"),
    ]
    assert [note[:1] for note in trace.notes[:2]] == ["2", "2"]


def test_spot_workers_and_fractions(tmp_path: Path) -> None:
    text = (
        "job_name,organization,gpu_model,cpu_request,gpu_request,worker_num,submit_time,duration,job_type\n"
        "1,13,A10,8,0.25,4,0,60,Spot\n2,13,H800,8,1.5,2,5,60,HP\n"
    )
    trace = read_trace(write(tmp_path / "s", text))
    columns = ("job_id", "gpus", "gpu_share", "priority", "gpu_model", "tenant")
    assert rows(trace, *columns) == [("1", 4, 0.25, 0, "A10", "13"), ("2", 4, 0.75, 1, "H800", "13")]


SUPERCLOUD = (
    "id_job,id_user,partition,priority,state,timelimit,time_submit,time_start,time_end,tres_alloc,tres_req\n"
)


def test_supercloud_ids_that_lost_digits(tmp_path: Path) -> None:
    line = ',42770100000000.0,normal,9,3,60,1609535912,1609535922,1609535982,"1=2,1002=2","1=2,1002=2"\n'
    trace = read_trace(
        write(tmp_path / "s", SUPERCLOUD + "16051200000000.0" + line + "16051200000000.0" + line)
    )
    columns = ("job_id", "gpus", "gpu_model", "duration_s", "estimate_s", "user")
    assert rows(trace, *columns) == [
        (line_number, 2, "volta", 60, 3600, "user-42770100000000") for line_number in ("2", "3")
    ]
    assert "lost digits" in trace.notes[0]
    whole = read_trace(write(tmp_path / "s", SUPERCLOUD + "0012345678901234567890" + line))
    assert rows(whole, "job_id") == [("0012345678901234567890",)]  # never a number


def test_gen_parallel_times_are_running_sums(tmp_path: Path) -> None:
    text = (
        "u_id,user,gpu_num,cpu_num,node_num,interval,run_time,wall_time,new_status\n"
        "0,1,4,1,1,0,84,0,Pass\n1,1,0,1,1,94,87,0,Pass\n2,3,1,1,1,6,83,100,Killed\n"
    )
    trace = read_trace(write(tmp_path / "g", text))
    columns = ("job_id", "submit_s", "duration_s", "estimate_s", "user", "status")
    assert rows(trace, *columns) == [
        ("0", 0, 84, None, "user-1", "completed"),
        ("2", 100, 83, 100, "user-3", "killed"),
    ]


ATTEMPT = {
    "start_time": "2017-10-07 01:12:09",
    "end_time": "2017-10-07 01:13:23",
    "detail": [{"ip": "m47", "gpus": ["gpu0", "gpu1"]}, {"ip": "m48", "gpus": ["gpu0"]}],
}


def philly_job(**change: Any) -> dict[str, Any]:
    job = {"status": "Pass", "vc": "6214e9", "jobid": "application_1_2", "user": "u"}
    return {**job, "submitted_time": "2017-10-07 01:11:39", "attempts": [ATTEMPT], **change}


def test_philly_log_sums_attempts(tmp_path: Path) -> None:
    again = {**ATTEMPT, "start_time": "2017-10-07 01:13:30", "end_time": "2017-10-09 06:53:12"}
    unfinished = {**ATTEMPT, "start_time": "2017-10-09 07:00:00", "end_time": None}
    jobs = [philly_job(attempts=[ATTEMPT, again, unfinished]), philly_job(jobid="b", attempts=[unfinished])]
    path = write(tmp_path / "log", json.dumps(jobs))
    assert detect(path) == "philly-log"
    trace = read_trace(path)
    assert trace.epoch == datetime(2017, 10, 7, 8, 11, 39, tzinfo=UTC)  # PDT is UTC-7
    assert rows(trace, "job_id", "start_s", "duration_s", "gpus", "tenant", "status") == [
        ("application_1_2", 30, 74 + 193182, 3, "6214e9", "completed")  # 193,256 s in the flattened CSV
    ]
    assert sum(trace.skipped.values()) == 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("[1]", "not a job"),
        ("{}", "not a list of jobs"),
        ('[{"jobid": 1,\n]', ":2: not JSON"),
        ("[" * 100_000, "not JSON that can be read"),
        (json.dumps([philly_job(attempts=[{**ATTEMPT, "end_time": "later"}])]), "times that are none"),
        (
            json.dumps([philly_job(attempts=[{**ATTEMPT, "end_time": "2017-10-07 01:00:00"}])]),
            "ends before it",
        ),
        (json.dumps([philly_job(attempts=7, status=[], vc=None)]), "no jobs in it that can be used"),
        ("[]", "no jobs in it"),
    ],
)
def test_philly_log_that_cannot_be_used(tmp_path: Path, data: str, said: str) -> None:
    with pytest.raises(TraceError) as caught:
        read_trace(write(tmp_path / "log", data), "philly-log")
    assert said in str(caught.value)


TASKS = (
    "j1,worker,2.0,Terminated,100.0,160.0,600.0,29.3,50.0,MISC\n"
    "j1,chief,1.0,Terminated,110.0,170.0,600.0,29.3,200.0,MISC\n"
    "j1,ps,1.0,Terminated,100.0,999.0,600.0,29.3,,CPU\n"
    "j2,worker,1.0,Running,100.0,,600.0,29.3,100.0,T4\n"
)


def test_pai_task_table_alone(tmp_path: Path) -> None:
    trace = read_trace(write(tmp_path / "tasks.csv", TASKS))
    # 2 instances of half a GPU, 1 of two: 4 GPUs used as 3
    assert rows(trace, "job_id", "submit_s", "duration_s", "gpus", "gpu_share", "status", "user") == [
        ("j1", 0, 70, 4, 0.75, "completed", None)
    ]
    assert trace.epoch == datetime(1970, 1, 1, 0, 1, 40, tzinfo=UTC)
    assert trace.skipped == {"no end on record": 1}


def test_pai_folder_with_the_tables_beside(tmp_path: Path) -> None:
    write(tmp_path / "pai_task_table.csv", TASKS)
    write(tmp_path / "pai_job_table.csv", "j1,i1,ann,Failed,40.0,180.0\n")
    write(
        tmp_path / "pai_instance_table.csv",
        "j1,worker,n1,w1,i1,Terminated,120.0,150.0,m\nj1,worker,n2,w2,i1,Terminated,130.0,155.0,m\n",
    )
    write(
        tmp_path / "pai_group_tag_table.csv",
        "inst_id,user,gpu_type_spec,group,workload\ni1,ann,V100,g,bert\n",
    )
    assert detect(tmp_path) == "pai"
    trace = read_trace(tmp_path)
    # workers run from 120 to 155, the chief (no instances on record) from 110 to 170
    assert rows(trace, "submit_s", "start_s", "duration_s", "status", "user", "gpu_model") == [
        (0, 70, 60, "failed", "ann", "V100")
    ]
    with pytest.raises(TraceError, match="a folder, not a file"):
        read_trace(tmp_path.parent)


def test_gavel_run_times_come_from_throughputs(tmp_path: Path) -> None:
    line = "ResNet-18 (batch size 32)\tpython3 main.py\t--num_steps\t1\t{}\t{}\t{}\n"
    path = tmp_path / "deep" / "x.trace"
    path.parent.mkdir()
    write(path, line.format(500, "7.5", 2) + line.format(500, "8", 4))
    with pytest.raises(TraceError, match="without the table of steps a second"):
        read_trace(path)
    table = {
        gpu: {
            "('ResNet-18 (batch size 32)', 2)": {"null": rate, "('x', 1)": [1, 2]},
            "('ResNet-18 (batch size 32)', 4)": {"null": 0.0},
        }
        for gpu, rate in (("v100", 5.0), ("k80", 1.0))
    }
    write(tmp_path / "simulation_throughputs.json", json.dumps(table))
    trace = read_trace(path, bad_rows="drop")
    assert rows(trace, "submit_s", "duration_s", "gpus") == [(7.5, 100, 2)]
    assert trace.rejected == {"it does not fit (0 steps a second)": 1}
    assert rows(read_trace(path, gpu="k80", bad_rows="drop"), "duration_s") == [(500,)]
    with pytest.raises(TraceError, match=r"no throughputs for GPU 'h100'\. It has v100, k80"):
        read_trace(path, gpu="h100")


@pytest.mark.parametrize("name", MAPPINGS)
def test_shipped_mapping_fits_its_header(name: str) -> None:
    columns = {source.column for source in shipped(name).sources.values() if source.column}
    assert columns == set(MAPPINGS[name][1]) | (columns & {"job_id"})


def test_options_belong_to_formats(tmp_path: Path) -> None:
    path = write(tmp_path / "h", HELIOS)
    with pytest.raises(TraceError, match=r"format helios has no such option\. It has none"):
        read_trace(path, zone="UTC")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sn,cpu_milli,memory_mib,gpu,model\nn,1,1,1,T4\n", r"a node list \(openb\), not jobs"),
        ("time,active,total\n2017-10-03 00:00:00,312,420\n", r"a state table \(philly-nodes\), not jobs"),
        ('{"a": 1}', "neither Philly's job log nor a Kubernetes pod list"),
    ],
)
def test_other_tables_are_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(TraceError, match=said):
        read_trace(write(tmp_path / "x", text))
