"""Which reader reads each data file of the real traces, or why none does.

The table of ``traces/README.md`` is generated from this declaration by ``test_coverage.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Covered:
    """Files matching *glob* (in the folder of real traces) and their *reader*, or the *reason* for none.

    A star also matches slashes; a file belongs to the first row that matches. *kind* is the table: jobs,
    nodes, states or requests. *rows* is the number of its rows, where known; *rejected* counts those at fault
    by reason.
    """

    glob: str
    kind: str = ""
    reader: str = ""
    reason: str = ""
    rows: int | None = None
    rejected: Mapping[str, int] = field(default_factory=dict)

    def told(self) -> str:
        """The reader and what it leaves out, or why there is none, as the documentation has it."""
        left_out = "".join(f"; {count:,} rows left out: {why}" for why, count in self.rejected.items())
        return f"`{self.reader}`{left_out}" if self.reader else self.reason


def none(glob: str, reason: str) -> Covered:
    """Files that no reader reads."""
    return Covered(glob, reason=reason)


_OPENB = "alibaba-gpu-v2023-openb/openb_"
_TELEMETRY = "a day's samples of serving pods, without submission, end or number of GPUs: no jobs"
_AGGREGATE = "figures computed from a trace, not its rows"

COVERAGE = (
    # jobs; test_coverage.py adds up their GPU-hours row by row
    Covered("philly/philly.csv", "jobs", "philly"),
    Covered("acme/converted_kalos_trace.csv", "jobs", "acme-converted", rows=229),
    Covered(f"{_OPENB}pod_list_default.csv", "jobs", "openb", rows=8152 - 897 - 1052),
    Covered(f"{_OPENB}pod_list_cpu*.csv", "jobs", "openb", rows=6203),
    Covered(f"{_OPENB}pod_list_gpus*.csv", "jobs", "openb"),
    Covered(f"{_OPENB}pod_list_multigpu*.csv", "jobs", "openb"),
    Covered("alibaba-gpu-v2025-dlrm/disaggregated_DLRM_trace.csv", "jobs", "dlrm", rows=5352),
    Covered("alibaba-v2026-spot-gpu/derived/outputs/longest_jobs_top200.csv", "jobs", "spot", rows=200),
    Covered(
        "alibaba-v2026-spot-gpu/derived/outputs_extra/outliers_high_cpu_per_gpu.csv", "jobs", "spot", rows=500
    ),
    Covered("mit-supercloud/slurm-log-queueing-clean.csv", "jobs", "supercloud", rows=487),
    Covered("gen-parallel-workloads/*.csv", "jobs", "gen-parallel"),
    Covered(
        "gavel/traces/msr/seed=0/*.trace",
        "jobs",
        "gavel",
        rows=1627,
        rejected={"no throughput for job type and GPUs": 373},
    ),
    Covered("tiresias/60_job.csv", "jobs", "tiresias", rows=60),
    Covered("tiresias/tf_job.csv", "jobs", "tiresias", rows=1, rejected={"job_id repeats an earlier row": 1}),
    Covered("scheduler-inputs/trace_philly992.csv", "jobs", "tiresias", rows=992),
    Covered("scheduler-inputs/muri_trace*.csv", "jobs", "muri"),
    Covered("scheduler-inputs/muri_testbed_trace.csv", "jobs", "muri", rows=400),
    Covered("scheduler-inputs/shockwave_120job.csv", "jobs", "shockwave", rows=120),
    Covered("scheduler-inputs/helios_philly_slice.csv.gz", "jobs", "sia", rows=15984),
    Covered("swf/NASA-iPSC-1993-3.1-cln.swf.gz", "jobs", "swf", rows=18239),
    Covered("swf/lublin_256.swf", "jobs", "swf", rows=10000),
    # nodes
    Covered(f"{_OPENB}node_list_all_node.csv", "nodes", "openb", rows=1523),
    Covered(f"{_OPENB}node_list_gpu_node.csv", "nodes", "openb", rows=1213),
    Covered("alibaba-v2026-spot-gpu/node_info_df.csv", "nodes", "spot", rows=4278),
    Covered("alibaba-gpu-v2020-pai/pai_machine_spec.csv", "nodes", "pai", rows=1897),
    Covered("tiresias/cluster_spec.csv", "nodes", "tiresias", rows=16),
    Covered("tiresias/n160g8.csv", "nodes", "tiresias", rows=160),
    Covered("tiresias/n256g8.csv", "nodes", "tiresias", rows=256),
    Covered("tiresias/n32g4.csv", "nodes", "tiresias", rows=32),
    # states
    Covered("helios/Earth_vcs/*/cluster_sequence_vc.csv.gz", "states", "helios-vc", rows=44640),
    Covered("helios/Earth_vcs/Earth_gpu_number.csv", "states", "helios-gpus", rows=181 * 25),
    Covered("helios/Venus/cluster_gpu_number.csv", "states", "helios-gpus", rows=181 * 25),
    Covered("philly/philly_node_sequence.csv.gz", "states", "philly-nodes", rows=105644),
    Covered("philly/philly_vc.csv", "states", "philly-vcs", rows=11),
    Covered(
        "alibaba-v2026-spot-gpu/derived/outputs_extra/hourly_concurrency.csv",
        "states",
        "spot-hours",
        rows=4419,
    ),
    # no jobs, nodes or states
    none("*README.md", "a description"),
    none("helios/helios_cluster_summary.csv", _AGGREGATE),
    none("acme/cluster_summary.csv", _AGGREGATE),
    none("acme/utilization/util_pkl/*.csv", "quantiles of telemetry"),
    none(
        "alibaba-gpu-v2020-pai/*.header",
        "names of columns; the job, task and instance tables themselves are not there",
    ),
    none("alibaba-gpu-v2020-pai/mini-batch-time/*.csv", "times of mini-batches of three jobs"),
    none(
        "alibaba-v2026-spot-gpu/derived/outputs_extra/hourly_concurrency_top_models.csv",
        "GPUs asked for by model: states are of clusters and virtual clusters",
    ),
    none("alibaba-v2026-spot-gpu/derived/*.csv", _AGGREGATE),
    none("alibaba-v2026-genai/pod_*.csv.gz", _TELEMETRY),
    none("alibaba-v2026-genai/*latency*.csv.gz", "latencies of loading models, no requests of users"),
    none("alibaba-v2026-genai/pipeline_inference_data_anon.csv.gz", _TELEMETRY),
    none("alibaba-v2026-genai/q*.csv.gz", "rates and queue lengths, no requests"),
    none("mit-supercloud/timeseries.csv.gz", "telemetry of one job"),
    none("gavel/simulation_throughputs.json", "steps a second: the `gavel` reader takes run times from it"),
    none("scheduler-inputs/muri_overhead_s.csv", "restart costs, no jobs"),
    none("scheduler-inputs/splitwise_perf_table.csv", "speeds of a model, no requests"),
    none("titan-gpu-life/*.csv.gz", "lives of GPUs, no jobs"),
    none("zeus-nsdi23/*.csv", "energy of trainings, no jobs"),
    none("ml-energy-leaderboard/*.json", "energy of models, no requests"),
    none("nlr-genai-power-h100/*.csv", "power of benchmarks, no jobs"),
    none("nvidia-smi-csv/*.csv", "telemetry of one GPU"),
    none("power-traces-browser/*.json", "power of benchmarks, no jobs"),
    none("splitwise-sim/perf_model.csv", "speeds of a model, no requests"),
    none("burstgpt-derived/burstgpt_analysis.json", _AGGREGATE),
    none("servegen/data/*-dataset.json", "token distributions that the `servegen` reader draws from"),
    # requests
    Covered("azure-llm-2023/AzureLLMInferenceTrace_conv.csv", "requests", "azure-llm", rows=19366),
    Covered("mooncake-fast25/conversation_trace.jsonl", "requests", "mooncake", rows=12031),
    Covered("alibaba-v2026-genai/lora_request_trace.csv", "requests", "gentd-requests", rows=17764),
    Covered("vtc-arena/real_trace.csv", "requests", "arena", rows=1080),
    Covered("scheduler-inputs/splitwise_requests.csv", "requests", "splitwise", rows=482),
    Covered("servegen/data/*-trace.csv", "requests", "servegen"),
)
