"""Look-alikes of inference logs: the families, their figures, and how close they come to real logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleetsim_traces import TraceError
from fleetsim_traces.generate_requests import (
    check_requests,
    columns_of,
    fit_requests,
    generate_requests,
)  # fmt: skip
from fleetsim_traces.parameters import REQUEST_FAMILIES, RequestParameters, dump, load_family, parse
from fleetsim_traces.quality import table
from fleetsim_traces.request_reading import read_requests
from fleetsim_traces.requests import request_schema, write_requests
from fleetsim_traces.samples import REQUEST_SAMPLES, sample


@pytest.mark.parametrize("name", REQUEST_FAMILIES)
def test_every_family_generates(name: str, tmp_path: Path) -> None:
    p = load_family(name, kind=RequestParameters)
    made = generate_requests(name, requests=4000, seed=1)
    assert made.requests.schema.equals(request_schema(), check_metadata=True)
    assert (made.generated, made.format) == (True, f"{name}-like")
    arrival_s, prompt, output = columns_of(made)
    assert (np.diff(arrival_s) >= 0).all()
    assert prompt.min() >= 1
    assert (output == 0).mean() == pytest.approx(p.failed_share, abs=0.01)
    again = generate_requests(name, requests=4000, seed=1)
    assert made.requests.equals(again.requests, check_metadata=True)
    assert parse(dump(p).encode(), name, RequestParameters) == p
    back = read_requests(write_requests(made, tmp_path / "r.parquet"))
    assert back.requests.equals(made.requests)
    assert back.generated


def test_rate_ticks_and_clients() -> None:
    made = generate_requests("servegen", seconds=3600, requests_per_s=20, seed=2)
    assert made.requests.num_rows == 72_000
    clients = made.requests["tenant"].to_pylist()
    assert clients.count("client-001") / len(clients) == pytest.approx(0.16, abs=0.01)
    ticks = columns_of(generate_requests("mooncake", requests=2000))[0]
    assert (np.rint(ticks / 3) * 3 == ticks).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"family": "azure"}, "no family 'azure'"),
        ({"family": "helios"}, "a family of jobs, not of requests"),
        ({"seconds": 3, "requests": 4}, "seconds: given together with requests"),
        ({"seconds": float("nan")}, "seconds: nan"),
        ({"requests_per_s": 0}, "requests_per_s: 0 is not above 0"),
        ({"requests": 0}, "requests: 0 is not from 1"),
        ({"seed": -1}, "seed: -1 is negative"),
    ],
)
def test_arguments_out_of_range(options: dict[str, Any], said: str) -> None:
    with pytest.raises(TraceError, match=said):
        generate_requests(**options)


@pytest.mark.parametrize(
    ("folder", "name", "bounds"),
    [
        (
            "azure-llm-2023",
            "AzureLLMInferenceTrace_conv.csv",
            {"prompt_tokens.ks": 0.03, "prompt_tokens.wasserstein": 25, "output_tokens.ks": 0.03,
             "output_tokens.wasserstein": 6, "gap.ks": 0.03, "gap.wasserstein": 0.02, "correlation": 0.03,
             "dispersion.1s": 0.08, "dispersion.10s": 0.15, "dispersion.1min": 0.25},
        ),
        (
            "mooncake-fast25",
            "conversation_trace.jsonl",
            {"prompt_tokens.ks": 0.03, "output_tokens.ks": 0.03, "gap.ks": 0.04, "correlation": 0.03,
             "dispersion.1s": 0.08, "dispersion.10s": 0.15, "dispersion.1min": 0.3},
        ),
    ],
)  # fmt: skip
def test_close_to_real(real_traces: Path, folder: str, name: str, bounds: dict[str, float]) -> None:
    trace = read_requests(real_traces / folder / name)
    p = fit_requests(trace)
    for seed in (1, 2, 3):
        made = generate_requests(p, requests=trace.requests.num_rows, seed=seed)
        report = check_requests(trace, made)
        for measure, bound in bounds.items():
            distance = report["measures"][measure]["distance"]
            assert distance <= bound, (measure, distance, seed)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert len(table(report).splitlines()) == 1 + len(report["measures"])


def test_bundled_sample_is_what_the_generator_makes() -> None:
    path = sample("azure-conv-like-10k")
    made = generate_requests("azure-conv", requests=10_000, seed=2023)
    assert read_requests(path).requests.equals(made.requests)
    assert path.stat().st_size < 300_000
    assert all(sample(name).is_file() for name in REQUEST_SAMPLES)


def test_too_few_to_fit() -> None:
    made = generate_requests("azure-conv", requests=199)
    with pytest.raises(TraceError, match="199 requests"):
        fit_requests(made)
