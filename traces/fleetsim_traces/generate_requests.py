"""Look-alikes of inference request logs, and the fit that makes them: the request side of ``generate``.

Imitated: the rate by hour and weekday, bursts at nested scales down to a second, the clock's tick (arrivals
of Mooncake come every 3 s), tokens of prompts and outputs and their correlation, clients' shares, failed
requests. Not imitated: conversations and shared prefixes (``session`` and ``prefix_hashes`` stay null),
tokens that differ by client or by hour, latencies, and whatever ties one request to another.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fleetsim_traces.distributions import scores_of_ranks
from fleetsim_traces.fit_arrivals import load_cv
from fleetsim_traces.fit_tables import quantiles, round_to
from fleetsim_traces.generate import START
from fleetsim_traces.generate_arrivals import begins, stream
from fleetsim_traces.generate_cells import as_table
from fleetsim_traces.generate_marginals import require
from fleetsim_traces.parameters import REQUEST_FAMILIES, Arrivals, RequestParameters, load_family
from fleetsim_traces.quality import decades, dispersion, ks, wasserstein
from fleetsim_traces.requests import COLUMNS, PREFIX, RequestTrace, request_schema
from fleetsim_traces.table import MAX_TIME_S
from fleetsim_traces.text import fail

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

WINDOWS_S = {"1s": 1, "10s": 10, "1min": 60, "10min": 600}
_PROBABILITIES = (0.005, *(i / 50 for i in range(1, 50)), 0.99, 0.995, 0.999)  # tokens have many steps
_LEVELS_S = (1, 10, 60, 600, 3600, 86_400)


def generate_requests(
    family: str | Path | RequestParameters = "azure-conv",
    *,
    requests: int | None = None,
    seconds: float | None = None,
    requests_per_s: float | None = None,
    seed: int = 0,
    start: datetime = START,
) -> RequestTrace:
    """Make requests that look like *family*; the same arguments give the same table.

    *requests* or *seconds* says how many (default 10,000 requests), at *requests_per_s* or the family's own
    rate. Hours count on the clock of *start*, the instant of ``arrival_s = 0``. Raises TraceError for
    arguments out of range.
    """
    p = family
    if not isinstance(p, RequestParameters):
        p = load_family(p, REQUEST_FAMILIES, RequestParameters)
    name = "fitted" if isinstance(family, RequestParameters) else Path(family).stem
    rate = p.requests_per_s if requests_per_s is None else requests_per_s
    if requests is not None and seconds is not None:
        raise fail("seconds", "given together with requests", "Keep one of the two.")
    if not 0 < rate <= 1e6:
        raise fail("requests_per_s", f"{rate:g} is not above 0 and up to 1e6")
    if seconds is not None and not 0 < seconds < MAX_TIME_S / 10:
        raise fail("seconds", f"{seconds:g} is not above 0 and below 1e9")
    number = (
        requests if requests is not None else 10_000 if seconds is None else max(1, round(seconds * rate))
    )
    require("requests", number, seed, start)
    return RequestTrace(
        requests=_table(p, number, number / rate, seed, start),
        format=f"{name}-like",
        source=f"generate_requests({name!r}, requests={number}, seed={seed})",
        epoch=start.astimezone(UTC),
        rows_read=number,
        notes=(
            f"Generated: {p.about}; {number:,} requests, {rate:g} a second, seed {seed}. Nobody sent them.",
        ),
        generated=True,
    )


def _table(p: RequestParameters, number: int, seconds: float, seed: int, start: datetime) -> Any:
    import pyarrow as pa

    arrival_s = begins(p.arrivals, seed, number, start, seconds / 86_400)
    if p.arrivals.time_step_s:
        arrival_s = np.floor(arrival_s / p.arrivals.time_step_s) * p.arrivals.time_step_s
    first = stream(seed, "prompt_tokens").standard_normal(number)
    own = stream(seed, "output_tokens").standard_normal(number)
    second = p.correlation * first + np.sqrt(1 - p.correlation**2) * own
    prompt = np.maximum(1, np.rint(as_table(p.prompt_tokens).at(first))).astype(np.int32)
    output = np.maximum(1, np.rint(as_table(p.output_tokens).at(second))).astype(np.int32)
    failed = stream(seed, "failed").random(number) < p.failed_share
    output[failed] = 0
    head = np.array(p.client_head_share)
    tail = np.arange(len(head) + 1, p.clients + 1) ** -float(p.client_exponent)
    chance = np.cumsum(
        np.concatenate((head, max(0.0, 1 - head.sum()) * tail / tail.sum())) if len(tail) else head
    )
    client = np.searchsorted(chance, stream(seed, "clients").random(number) * chance[-1], side="right")
    names = pa.array([f"client-{i:03d}" for i in range(1, p.clients + 1)])
    given = {
        "request_id": pa.array(np.char.add("request-", np.arange(1, number + 1).astype(str))),
        "arrival_s": pa.array(arrival_s),
        "service": pa.DictionaryArray.from_arrays(
            pa.array(np.zeros(number, np.int32)), pa.array([p.service])
        ),
        "tenant": names.take(pa.array(client)).dictionary_encode(),
        "prompt_tokens": pa.array(prompt),
        "output_tokens": pa.array(output),
        "status": pa.array(np.where(failed, "failed", "completed")).dictionary_encode(),
    }
    schema = request_schema()
    columns = [*(c.name for c in COLUMNS), PREFIX]
    return pa.Table.from_arrays(
        [given[n].cast(schema.field(n).type) if n in given else pa.nulls(number, schema.field(n).type)
         for n in columns],
        schema=schema,
    )  # fmt: skip


def fit_requests(
    trace: RequestTrace, *, about: str | None = None, service: str = "model"
) -> RequestParameters:
    """Parameters from which :func:`generate_requests` makes look-alikes of *trace*; as ``fit`` does for jobs.

    Raises TraceError for fewer than 200 requests with tokens, or no time between them.
    """
    arrival_s, prompt, output = columns_of(trace)
    span_s = float(arrival_s[-1] - arrival_s[0]) if len(arrival_s) else 0.0
    if len(arrival_s) < 200 or span_s <= 0:
        raise fail(trace.source, f"{len(arrival_s):,} requests over {span_s:,.0f} s are too few to fit")
    done = output > 0
    level = np.ones(int(span_s // 3600) + 2)
    ticks = np.diff(np.unique(arrival_s))
    ticking = len(ticks) < len(arrival_s) / 4  # most share their time with another
    step_s = round(float(np.median(ticks)), 1) if ticking else 0.0
    lengths = tuple(s for s in _LEVELS_S if s > step_s)
    cv = load_cv(arrival_s - arrival_s[0], np.arange(len(arrival_s)), level, span_s, lengths)
    tie = _correlation(prompt[done], output[done])
    return RequestParameters(
        version=1,
        kind="requests",
        about=(about or f"requests as in {trace.format}")[:200],
        source=f"Fitted by fleetsim_traces to {len(arrival_s):,} requests over {span_s / 3600:.2f} hours.",
        requests_per_s=round_to(len(arrival_s) / span_s, 4),
        arrivals=Arrivals(load_cv_by_s=cv, time_step_s=step_s),
        service=service,
        prompt_tokens=quantiles(np.maximum(prompt, 1.0), probabilities=_PROBABILITIES),
        output_tokens=quantiles(output[done], probabilities=_PROBABILITIES),
        correlation=float(np.clip(round_to(tie, 3), -1, 1)),
        failed_share=round_to(float(1 - done.mean()), 4),
    )


def _correlation(one: Floats, other: Floats) -> float:
    """Correlation of the normal scores of two quantities."""
    return float(np.corrcoef(scores_of_ranks(one), scores_of_ranks(other))[0, 1])


def columns_of(trace: RequestTrace) -> tuple[Floats, Floats, Floats]:
    """Arrival, prompt and output tokens of the requests that have both."""
    import pyarrow.compute as pc

    known = trace.requests.filter(
        pc.and_(*(pc.is_valid(trace.requests[n]) for n in ("prompt_tokens", "output_tokens")))
    )
    a, b, c = (
        known[n].to_numpy().astype(np.float64) for n in ("arrival_s", "prompt_tokens", "output_tokens")
    )
    return a, b, c


def check_requests(trace: RequestTrace, generated: RequestTrace) -> dict[str, Any]:
    """The report of ``quality.check`` for requests: tokens, gaps, correlation, bursts from 1 s to 10 min."""
    sides = [columns_of(t) for t in (trace, generated)]
    measures: dict[str, Any] = {}

    def add(name: str, about: str, unit: str, values: Any, distance: float | None) -> None:
        measures[name] = {"about": about, "unit": unit, "trace": values[0], "generated": values[1],
                          "distance": distance}  # fmt: skip

    for name, unit, (a, b) in (
        ("prompt_tokens", "token", [s[1] for s in sides]),
        ("output_tokens", "token", [s[2] for s in sides]),
        ("gap", "s", [np.diff(s[0]) for s in sides]),
    ):
        what = name.replace("_", " ")
        add(f"{name}.ks", f"{what}: Kolmogorov-Smirnov (median)", "", (np.median(a), np.median(b)), ks(a, b))
        add(
            f"{name}.wasserstein",
            f"{what}: Wasserstein (mean)",
            unit,
            (a.mean(), b.mean()),
            wasserstein(a, b),
        )
    ties = [_correlation(s[1], s[2]) for s in sides]
    add("correlation", "rank correlation of prompt and output", "", ties, abs(ties[0] - ties[1]))
    for label, window_s in WINDOWS_S.items():
        index = [dispersion(s[0], window_s) for s in sides]
        add(f"dispersion.{label}", f"dispersion of counts in {label}", "decades", index, decades(*index))
    plain = {
        k: {n: float(v) if isinstance(v, np.floating) else v for n, v in m.items()}
        for k, m in measures.items()
    }
    return {
        "trace": {"requests": len(sides[0][0])},
        "generated": {"requests": len(sides[1][0])},
        "measures": plain,
    }
