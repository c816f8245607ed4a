"""Gavel's arrival traces: jobs in steps, and the table of steps a second that turns them into time.

*Citation.* D. Narayanan et al., "Heterogeneity-Aware Cluster Scheduling Policies for Deep Learning
Workloads", OSDI 2020. *Licence.* MIT.

*How to obtain.* github.com/stanford-futuredata/gavel, ``scheduler/traces/msr/seed=0/*.trace`` (some 2,000
jobs each) and ``scheduler/simulation_throughputs.json``.

*What is taken.* Tab-separated, no header: job type, command, step flag, whether data is needed, total steps,
arrival (s), GPUs. The run time is steps divided by the steps a second of that job type at that GPU count,
alone, on *gpu* (V100 unless said). The table is *throughputs*, else ``simulation_throughputs.json`` in the
folder of the trace or up to four above it, as in the repository. Commands are not read, much less run.

*Known defects.* Arrival times follow a Philly virtual cluster, job types are sampled: no date, no users.
0 steps a second means that the job does not fit, and many job types have no entry at their GPU count
(Recommendation, CycleGAN and A3C on several GPUs, any type on 16 or more): both are rejected, 373 of the
2,000 rows of ``ee9e8c.trace``. Recommendation is slower on V100 than on P100 in this table.
"""

from __future__ import annotations

from pathlib import Path

from fleetsim_traces.delimited import split_rows
from fleetsim_traces.jsontext import dict_at, load_json
from fleetsim_traces.rows import BadRows, Check, Draft, finish, numbers
from fleetsim_traces.table import Trace
from fleetsim_traces.text import fail, read_text

FIELDS = ("type", "command", "flag", "data", "steps", "arrival", "gpus")
TABLE = "simulation_throughputs.json"
_UP = 4


def is_row(line: str) -> bool:
    """True where *line* looks like one of a trace."""
    cells = line.split("\t")
    return len(cells) == len(FIELDS) and "(batch size" in cells[0] and cells[-3].strip().isdigit()


def read(
    path: Path, *, throughputs: str | Path | None = None, gpu: str = "v100", bad_rows: BadRows = "refuse"
) -> Trace:
    """Read the trace at *path* with run times on *gpu*; raises TraceError for what cannot be used."""
    import polars as pl

    table = Path(throughputs) if throughputs else _table(path)
    data = load_json(table)
    if not dict_at(data, gpu):
        known = ", ".join(data) if isinstance(data, dict) else "none"
        raise fail(table, f"no throughputs for GPU {gpu!r}", f"It has {known}.")
    rates = {}
    for key, found in data[gpu].items():
        rate = found.get("null") if isinstance(found, dict) else None
        if isinstance(rate, (int, float)):
            rates[key] = float(rate)
    rows = split_rows(path, read_text(path), list(FIELDS), separator="\t", quoted=False)
    key = pl.format("('{}', {})", pl.col("type").str.strip_chars(), pl.col("gpus").str.strip_chars())
    frame = rows.frame.select(
        "line",
        *numbers(submit_s="arrival", steps="steps", gpus="gpus"),
        key.alias("key"),
        key.replace_strict(rates, default=None, return_dtype=pl.Float64).alias("rate"),
    ).with_columns((pl.col("steps") / pl.col("rate")).alias("duration_s"))
    draft = Draft(
        path=path,
        format="gavel",
        frame=frame,
        checks=[
            Check(
                "no throughput for job type and GPUs", "key", pl.col("rate").is_null(), f"See {table.name}."
            ),
            Check("it does not fit (0 steps a second)", "key", pl.col("rate") <= 0),
            Check("total steps are not a number", "steps:raw", pl.col("steps").is_null()),
        ],
        misfits=rows.misfits,
        fields=len(FIELDS),
        notes=[f"Run times are total steps at the rate of {gpu} in {table.name}."],
        constants={"workload_class": "training"},
    )
    return finish(draft, bad_rows)


def _table(path: Path) -> Path:
    for folder in [*path.resolve().parents][: _UP + 1]:
        if (folder / TABLE).is_file():
            return folder / TABLE
    raise fail(path, f"steps without the table of steps a second ({TABLE})", "Put it beside the trace.")
