"""What every reader of jobs promises, whatever it reads."""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fleetsim_traces import READERS, Trace, TraceError, detect, read_trace, schema, write_jobs
from fleetsim_traces.generate import generate_jobs

CSV = """\
when;took;cards;who;state
2020-03-01T10:00:05+08:00;1.5;2;ann;DONE
2020-03-01T02:00:00Z;oops;1;bob;DONE
2020-03-01T01:00:00Z;2;1;ann;KILLED
2020-03-01T01:00:00Z;0;0;bob;DONE
"""
COLUMNS = {
    "submit_s": {"column": "when", "zone": "UTC"},
    "duration_s": {"column": "took", "unit": "h"},
    "gpus": "cards",
    "tenant": "who",
    "status": {"column": "state", "map": {"DONE": "completed"}},
    "separator": ";",
}
PHILLY = """\
timestamp,duration,num_gpus,gpu_time,cluster
2017-10-09 07:01:55,66.0,1,66.0,6214e9
2017-10-09 06:13:03,2951.0,2,5902.0,11cb48
2017-10-09 06:13:03,-1,2,-2,11cb48

never,5.0,2,10.0,11cb48
"""
SWF = """\
; Version: 2.2
; UnixStartTime: 1000000000
  2  20  3  7  4 -1 -1  4 9 -1 1 5 6 -1 -1 -1 -1 -1
  1  10 -1  7 -1 -1 -1  8 -1 -1 0 -1 -1 -1 -1 -1 -1 -1
  3  30 -1 -1  4 -1 -1  4 -1 -1 5 -1 -1 -1 -1 -1 -1 -1
  4  40 -1  5  0 -1 -1 -1 -1 -1 5 -1 -1 -1 -1 -1 -1 -1
  5  50
"""


HELIOS = """\
job_id,user,vc,gpu_num,cpu_num,node_num,state,submit_time,start_time,end_time,duration,queue
1,u1,vcA,8,64,1,COMPLETED,2020-04-01 00:00:10,2020-04-01 00:00:20,2020-04-01 00:01:20,60,10
2,u1,vcA,0,64,1,COMPLETED,2020-04-01 00:00:10,2020-04-01 00:00:20,2020-04-01 00:01:20,60,10
3,u2,vcB,1,4,1,CANCELLED,2020-04-01 00:00:05,,,0,0
4,u2,vcB,1,4,1,FAILED,2020-04-01 00:00:05,2020-04-01 00:00:06,2020-04-01 00:00:07,1,1
5,u2,vcB,1,4,1,FAILED,today,2020-04-01 00:00:06,2020-04-01 00:00:07,1,1
6,u2,vcB,-1,4,1,FAILED,2020-04-01 00:00:05,2020-04-01 00:00:06,2020-04-01 00:00:07,1,1
"""
ACME = """\
job_id,user,node_num,gpu_num,cpu_num,type,state,submit_time,start_time,end_time,duration,queue,gpu_time
a,u1,1,8,64,SFT,COMPLETED,2023-05-17 11:00:58+00:00,2023-05-17 11:01:08+00:00,2023-05-17 11:02:08+00:00,70,10,560
b,u1,1,0,64,Other,COMPLETED,2023-05-17 11:00:58+00:00,2023-05-17 11:01:08+00:00,2023-05-17 11:02:08+00:00,60,10,0
c,u1,1,8,64,Debug,FAILED,2023-05-17 19:00:58+08:00,2023-05-17 19:01:08+08:00,2023-05-17 19:01:08+08:00,0,10,0
d,u1,1,8,64,Debug,FAILED,2023-05-17 19:00:58+08:00,2023-05-17 19:01:08+08:00,later,9,10,0
"""  # noqa: E501
CONVERTED = """\
job_id,arrival_time,num_iteration,iteration_computing_time,iteration_networking_time,gpu_workers,ps,gpu_per_worker
0,0.0,208,0.5,0.25,8,0,8.0
1,3.0,x,0.5,0.25,8,0,8.0
2,5.0,10,0.5,0.75,1,0,8.0
"""
OPENB = """\
name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time
p0,1,1,1,460,V100M32|V100M16|V100M32,LS,Running,10,110,20
p1,1,1,0,0,,BE,Running,10,110,20
p2,1,1,1,1000,,BE,Pending,10,110,
p3,1,1,8,1000,,Burstable,Failed,5,4,6
p4,1,1,8,1000,T4,Burstable,Succeeded,5,9,6
"""
OPENB_SIZES = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\np0,1,1,2,1000\np1,1,1,0,0\np2,1,1,1,1500\n"
DLRM = """\
instance_sn,role,app_name,cpu_request,gpu_request,creation_time,scheduled_time,deletion_time
i0,HN,app,12,1,,,
i1,HN,app,12,1,100.0,105.0,
i2,CN,app,12,0,100.0,105.0,200
i3,HN,app,12,1,100.0,,200
i4,HN,app2,12,1,100.0,150,200
"""
SPOT = """\
job_name,organization,gpu_model,cpu_request,gpu_request,worker_num,submit_time,duration,job_type
1,13,A10,8,0.25,4,0,60,Spot
2,13,H800,8,8,2,5,60,HP
3,13,A10,8,0,4,5,60,HP
4,13,A10,8,1,0,5,60,HP
5,13,A10,8,1,1,5,60,LP
"""
SUPERCLOUD = """\
id_job,id_user,nodelist,partition,priority,state,timelimit,time_submit,time_start,time_end,tres_alloc,tres_req
7,1,"['a', 'b']",normal,9,3,60,1609535912,1609535922,1609535982,"1=20,2=17,4=1,5=20,1002=2","1=20,1002=2"
8,1,['a'],normal,9,5,4294967295,1609535912,1609535922,1609535982,"1=20,2=17","1=20"
9,1,['a'],normal,9,4,4294967295,1609535912,0,1609535982,,"1=20,1001=1"
10,1,['a'],normal,9,6,4294967295,1609535912,1609535922,0,"1=20,1001=1","1=20,1001=1"
"""
PARALLEL = """\
u_id,user,gpu_num,cpu_num,node_num,interval,run_time,wall_time,new_status
0,1,4,1,1,0,84,0,Pass
1,1,0,1,1,94,87,0,Pass
2,1,1,1,1,6,83,100,Killed
3,1,1,1,1,x,83,100,Killed
"""
SACCT = """\
JobID|User|Account|State|Submit|Start|End|Elapsed|Timelimit|ReqTRES|AllocTRES
1|ann|ml|COMPLETED|2024-03-10T01:00:00|2024-03-10T01:00:05|2024-03-11T03:00:05|1-02:00:00|2-00:00:00|gres/gpu:a100=8|cpu=32,gres/gpu:a100=8,gres/gpu=8
1.batch||ml|COMPLETED|2024-03-10T01:00:05|2024-03-10T01:00:05|2024-03-11T03:00:05|1-02:00:00|||
2_[3-5]|bob|ml|PENDING|2024-03-10T01:00:00|Unknown|Unknown|00:00:00|UNLIMITED|gres/gpu=1|
3|bob|ml|CANCELLED by 1000|2024-03-10T01:00:00|2024-03-10T01:30:00|2024-03-10T01:40:00|10:00|UNLIMITED|gres/gpu=1|gres/gpu=1
4|bob|ml|COMPLETED|2024-03-10T01:00:00|2024-03-10T01:30:00|2024-03-10T01:40:00|10:00|UNLIMITED|cpu=1|cpu=1
5|bob|ml|COMPLETED|soon|2024-03-10T01:30:00|2024-03-10T01:40:00|10:00|UNLIMITED|gres/gpu=1|gres/gpu=1
"""  # noqa: E501
TASKS = """\
j1,worker,2.0,Terminated,100.0,160.0,600.0,29.3,50.0,MISC
j1,ps,1.0,Terminated,100.0,160.0,600.0,29.3,,MISC
j2,ps,1.0,Terminated,100.0,160.0,600.0,29.3,,CPU
j3,worker,1.0,Running,100.0,,600.0,29.3,100.0,T4
j4,worker,1.0,Failed,90.0,95,600.0,29.3,800.0,V100
j5,worker,many,Failed,90.0,95,600.0,29.3,800.0,V100
"""
GAVEL = (
    "A (batch size 8)\tpython3 a.py\t-n\t1\t500\t0.0\t1\nA (batch size 9)\tpython3 a.py\t-n\t1\t500\t5\t1\n"
)
RATES = {"v100": {"('A (batch size 8)', 1)": {"null": 5.0}}}
META = {"name": "a", "namespace": "ml", "creationTimestamp": "2024-03-10T01:00:00Z"}
POD = {
    "metadata": META,
    "spec": {"containers": [{"resources": {"limits": {"nvidia.com/gpu": "2"}}}]},
    "status": {
        "phase": "Succeeded",
        "containerStatuses": [
            {
                "state": {
                    "terminated": {"startedAt": "2024-03-10T01:00:09Z", "finishedAt": "2024-03-10T01:01:09Z"}
                }
            }
        ],
    },
}
ATTEMPT = {
    "start_time": "2017-10-07 01:12:09",
    "end_time": "2017-10-07 01:13:23",
    "detail": [{"ip": "m1", "gpus": ["gpu0"]}],
}
LOG = {"status": "Pass", "vc": "6214e9", "user": "u", "submitted_time": "2017-10-07 01:11:39"}


def pods() -> str:
    other = {**POD, "metadata": {**META, "name": "b"}, "spec": {"containers": []}}
    late = {**POD, "metadata": {"name": "c", "creationTimestamp": "tomorrow"}}
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [POD, other, late]})


def log() -> str:
    jobs = [
        {**LOG, "jobid": "a", "attempts": [ATTEMPT, ATTEMPT]},
        {**LOG, "jobid": "b", "attempts": []},
        {**LOG, "jobid": "c", "attempts": [ATTEMPT], "submitted_time": "None"},
    ]
    return json.dumps(jobs)


def gavel(path: Path) -> None:
    path.write_text(GAVEL)
    path.with_name("simulation_throughputs.json").write_text(json.dumps(RATES))


@dataclass(frozen=True)
class Case:
    """A file with *good* usable rows out of *rows*, and *skipped* that are no GPU jobs of their own."""

    write: Callable[[Path], Any]
    rows: int
    good: int
    columns: dict[str, Any] | None = None
    detected: str = ""
    skipped: int = 0
    dated: bool = True


def text(content: str) -> Callable[[Path], Any]:
    return lambda path: path.write_text(content)


def packed(content: str, codec: str) -> Callable[[Path], Any]:
    if codec == "xz":
        return lambda path: path.write_bytes(lzma.compress(content.encode()))
    return lambda path: path.write_bytes(pa.Codec(codec).compress(content.encode(), asbytes=True))


CASES = {
    "generic": Case(text(CSV), 4, 2, COLUMNS, "generic"),
    "philly": Case(text(PHILLY), 4, 2, detected="philly"),
    "philly gzip": Case(lambda p: p.write_bytes(gzip.compress(PHILLY.encode())), 4, 2, detected="philly"),
    "philly xz": Case(packed(PHILLY, "xz"), 4, 2, detected="philly"),
    "philly zstd": Case(packed(PHILLY, "zstd"), 4, 2, detected="philly"),
    "philly-log": Case(text(log()), 2, 1, detected="philly-log", skipped=1),
    "helios": Case(text(HELIOS), 4, 2, detected="helios", skipped=2),
    "acme": Case(text(ACME), 3, 2, detected="acme", skipped=1),
    "acme-converted": Case(text(CONVERTED), 3, 2, detected="acme-converted", dated=False),
    "openb": Case(text(OPENB), 3, 2, detected="openb", skipped=2, dated=False),
    "openb sizes": Case(text(OPENB_SIZES), 2, 1, detected="openb", skipped=1, dated=False),
    "dlrm": Case(text(DLRM), 4, 3, detected="dlrm", skipped=1, dated=False),
    "spot": Case(text(SPOT), 4, 2, detected="spot", skipped=1, dated=False),
    "supercloud": Case(text(SUPERCLOUD), 2, 1, detected="supercloud", skipped=2),
    "gen-parallel": Case(text(PARALLEL), 3, 2, detected="gen-parallel", skipped=1, dated=False),
    "sacct": Case(text(SACCT), 3, 2, detected="sacct", skipped=2),
    "kubernetes": Case(text(pods()), 2, 1, detected="kubernetes", skipped=1),
    "pai": Case(text(TASKS), 3, 2, detected="pai", skipped=2),
    "gavel": Case(gavel, 2, 1, detected="gavel", dated=False),
    "tiresias": Case(
        text("job_id,num_gpu,submit_time,model_name,duration\n0,1,0,x,9\n1,0,0,x,9\n"), 2, 1,
        detected="tiresias", dated=False,
    ),
    "muri": Case(
        text("job_id,num_gpu,submit_s,duration_s,model_name\n0,1,0,9,x\n1,1,0,-9,x\n"), 2, 1,
        detected="muri", dated=False,
    ),
    "shockwave": Case(
        text("job_id,job_type,num_gpu,mode,duration_s,arrival_s\n0,LM (batch size 10),1,gns,9,0\n"), 1, 1,
        detected="shockwave", dated=False,
    ),
    "sia": Case(
        text("vc,seq,gpu_num,submit_time,duration\n6214e9,0,1,70,61\n"), 1, 1, detected="sia", dated=False
    ),
    "swf": Case(text(SWF), 5, 2, detected="swf"),
    "swf gzip": Case(lambda p: p.write_bytes(gzip.compress(SWF.encode())), 5, 2, detected="swf"),
    "jobs": Case(lambda p: write_jobs(generate_jobs(jobs=50), p), 50, 50, detected="jobs"),
}  # fmt: skip


def test_every_reader_has_a_case() -> None:
    assert {case.detected for case in CASES.values()} == set(READERS)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def path(case: Case, tmp_path: Path) -> Path:
    path = tmp_path / "workload.dat"  # a name that says nothing
    case.write(path)
    return path


@pytest.fixture
def trace(case: Case, path: Path) -> Trace:
    return read_trace(path, columns=case.columns, bad_rows="drop")


def test_format_is_told_from_content(case: Case, path: Path) -> None:
    assert detect(path) == case.detected


def test_schema_is_exact(trace: Trace) -> None:
    assert trace.jobs.schema.equals(schema(), check_metadata=True)
    trace.jobs.validate(full=True)


def test_no_null_where_forbidden(trace: Trace) -> None:
    for field in schema():
        assert field.nullable or trace.jobs[field.name].null_count == 0, field.name


def test_rows_are_sorted_unique_and_in_range(trace: Trace) -> None:
    submit_s = trace.jobs["submit_s"].to_pylist()
    assert submit_s == sorted(submit_s)
    assert submit_s[0] >= 0
    assert len(set(trace.jobs["job_id"].to_pylist())) == trace.jobs.num_rows
    assert min(trace.jobs["gpus"].to_pylist()) >= 1
    assert min(trace.jobs["duration_s"].to_pylist()) >= 0


def test_epoch_is_utc_where_the_source_has_dates(case: Case, trace: Trace) -> None:
    assert (trace.epoch is not None) == case.dated
    assert trace.epoch is None or trace.epoch.utcoffset() == timedelta(0)


def test_counts_add_up(case: Case, trace: Trace) -> None:
    assert (trace.jobs.num_rows, trace.rows_read) == (case.good, case.rows)
    assert sum(trace.rejected.values()) == case.rows - case.good
    assert len(trace.samples) == case.rows - case.good  # all of these few are shown
    assert sum(trace.skipped.values()) == case.skipped
    for reason, count in trace.skipped.items():
        assert f"{count:,} rows left out: {reason}." in trace.notes


def test_reading_again_gives_the_same(case: Case, path: Path, trace: Trace) -> None:
    again = read_trace(path, columns=case.columns, bad_rows="drop")
    assert again.jobs.equals(trace.jobs, check_metadata=True)
    assert (again.epoch, again.rejected, again.notes) == (trace.epoch, trace.rejected, trace.notes)


def test_written_table_reads_back_the_same(trace: Trace, tmp_path: Path) -> None:
    again = read_trace(write_jobs(trace, tmp_path / "jobs.parquet"))
    assert again.jobs.equals(trace.jobs, check_metadata=True)
    assert (again.epoch, again.format, again.generated) == (trace.epoch, trace.format, trace.generated)
    assert set(trace.notes) <= set(again.notes)
    for reason in trace.rejected:
        assert any(reason in note for note in again.notes)


def test_refusing_shows_counts_places_and_remedy(case: Case, path: Path, trace: Trace) -> None:
    if not trace.rejected:
        assert read_trace(path, columns=case.columns).jobs.equals(trace.jobs)
        return
    with pytest.raises(TraceError) as caught:
        read_trace(path, columns=case.columns)
    summary, *examples = caught.value.problems
    assert f"{case.rows - case.good} of {case.rows} rows" in summary.message
    assert "drop" in summary.remedy
    assert all(reason in summary.message for reason in trace.rejected)
    assert tuple(examples) == trace.samples
