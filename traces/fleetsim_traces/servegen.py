"""ServeGen: client pools of Alibaba Cloud Model Studio, rates and distributions to draw requests from.

*Citation.* Y. Xiang et al., "ServeGen: Workload Characterization and Generation of Large Language Model
Serving in Production", NSDI 2026. *Licence.* Apache-2.0.

*How to obtain.* github.com/alibaba/ServeGen, ``data/<category>/<model>``. A client is ``chunk-N-trace.csv``
without a header: start of a window (s, every 600), rate (requests/s), coefficient of variation of the gaps,
``Gamma`` or ``Weibull`` (empty: no traffic), its shape and scale; and ``chunk-N-dataset.json``: for each
start (s, every 21600) ``input_tokens``, ``output_tokens``, for reasoning models also ``reason_ratio``, each
the text of ``{value: probability}``.

*Rows.* m-small: 43 clients of 2,016 windows; deepseek-r1: 73 clients of 144 windows.

*What is drawn.* :func:`read_pool` reads the pool as it is. :func:`draw` makes requests of it: in each window
of a client a stationary renewal process with the fitted law, its mean set to the stated rate; lengths are
independent draws from the distribution of the client's period, else of the nearest period that has one, else
of another client's. Input and output are independent, gaps too, and bursts end with their window: the pool
says nothing of these. Requests so drawn are marked as generated.

*Known defects.* Some clients have no dataset. The fitted scale and the stated rate differ by a few per cent.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleetsim_traces.delimited import split_rows
from fleetsim_traces.errors import Problem, TraceError
from fleetsim_traces.request_rows import finish
from fleetsim_traces.requests import MAX_TOKENS, RequestTrace
from fleetsim_traces.rows import BadRows, Draft
from fleetsim_traces.text import fail, read_text, shorten
from fleetsim_traces.times import number

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    Floats = npt.NDArray[np.float64]

COLUMNS = ("start_s", "rate_per_s", "cv", "pattern", "shape", "scale")
PATTERNS = ("Gamma", "Weibull")
WINDOW_S = 600.0
PERIOD_S = 21600.0
MAX_REQUESTS = 20_000_000
_TRACE = re.compile(r"chunk-(\d+)-trace\.csv")
_FIELDS = {"input_tokens": MAX_TOKENS, "output_tokens": MAX_TOKENS, "reason_ratio": 1.0}

Law = tuple["Floats", "Floats"]  # values and their cumulative probability
Lengths = Mapping[float, Mapping[str, Law]]  # by start of the period


@dataclass(frozen=True)
class Pool:
    """Clients of one model: *windows* (``client`` and :data:`COLUMNS`), and *lengths* where known."""

    source: str
    model: str
    windows: pl.DataFrame
    lengths: Mapping[str, Lengths]


def read_pool(path: Path) -> Pool:
    """Read the folder of a model, or one client's ``chunk-N-trace.csv``; raises TraceError for faults."""
    import polars as pl

    files = sorted(path.glob("chunk-*-trace.csv")) if path.is_dir() else [path]
    files.sort(key=lambda file: int(found[1]) if (found := _TRACE.fullmatch(file.name)) else -1)
    if not files:
        raise fail(path, "no chunk-N-trace.csv in it", "Name the folder of one model.")
    windows, lengths = [], {}
    for file in files:
        found = _TRACE.fullmatch(file.name)
        client = f"client-{found[1]}" if found else "client-0"
        windows.append(_windows(file).with_columns(pl.lit(client).alias("client")))
        dataset = file.with_name(f"chunk-{found[1]}-dataset.json") if found else None
        if dataset is not None and dataset.is_file() and (known := _lengths(dataset)):
            lengths[client] = known
    return Pool(str(path), files[0].resolve().parent.name, pl.concat(windows), lengths)


def read(path: Path, *, bad_rows: BadRows = "refuse", seed: int = 0) -> RequestTrace:
    """Draw the requests of the whole pool at *path*; see :func:`draw` for a part of one that is too large."""
    return draw(read_pool(path), seed=seed, bad_rows=bad_rows)


def draw(
    pool: Pool,
    *,
    seed: int = 0,
    from_s: float = 0.0,
    to_s: float = math.inf,
    factor: float = 1.0,
    bad_rows: BadRows = "refuse",
) -> RequestTrace:
    """Draw the requests of the windows that start from *from_s* to before *to_s*, at *factor* times the rate.

    Raises TraceError where that is no request or more than :data:`MAX_REQUESTS`, and where no client has
    lengths.
    """
    import polars as pl

    busy = pool.windows.filter(
        (pl.col("rate_per_s") > 0) & pl.col("start_s").is_between(from_s, to_s, "left")
    )
    expected = float(busy["rate_per_s"].sum()) * WINDOW_S * factor
    if not 0 < factor < math.inf or not 0 < expected <= MAX_REQUESTS:
        remedy = f"Choose fewer windows or a factor for at most {MAX_REQUESTS:,}: servegen.draw."
        raise fail(pool.source, f"about {expected:,.0f} requests would be drawn", remedy)
    if not pool.lengths:
        raise fail(pool.source, "no client has lengths", "Put its chunk-N-dataset.json beside the trace.")
    drawn = [
        _client(pool, name, rows, seed, factor)
        for (name,), rows in busy.group_by("client", maintain_order=True)
    ]
    frame = pl.concat([rows for rows in drawn if rows.height]).sort("arrival_s", maintain_order=True)
    strangers = busy.filter(~pl.col("client").is_in(list(pool.lengths)))["client"].n_unique()
    notes = [
        f"Drawn from the fitted windows of {busy['client'].n_unique():,} clients, seed {seed}: not a log."
    ]
    if strangers:
        notes.append(f"{strangers:,} clients have no lengths of their own; those of other clients stand in.")
    return finish(
        Draft(
            path=Path(pool.source),
            format="servegen",
            frame=frame.with_row_index("line", 1).with_columns(pl.col("line").cast(pl.Int64)),
            constants={"service": pool.model},
            notes=notes,
            generated=True,
        ),
        bad_rows,
    )


def _client(pool: Pool, client: object, windows: pl.DataFrame, seed: int, factor: float) -> pl.DataFrame:
    """The requests of one client; its random numbers depend on its name and the seed alone."""

    import numpy as np
    import polars as pl

    name = str(client)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(zlib.crc32(name.encode()),)))
    parts: dict[str, list[Floats]] = {"arrival_s": [], **{field: [] for field in _FIELDS}}
    names = sorted(pool.lengths)
    for row in windows.iter_rows(named=True):
        gaps = _arrivals(rng, row, factor)
        donor = name if name in pool.lengths else names[rng.integers(len(names))]
        laws = pool.lengths[donor]
        period = _nearest(list(laws), row["start_s"] // PERIOD_S * PERIOD_S)
        parts["arrival_s"].append(row["start_s"] + gaps)
        for field in _FIELDS:
            parts[field].append(_pick(rng, laws[period].get(field), len(gaps)))
    whole = {field: np.concatenate(values) for field, values in parts.items()}
    output = np.round(whole["output_tokens"])
    reasoning = pl.Series(np.round(whole["reason_ratio"] * output)).fill_nan(None)
    return pl.DataFrame(
        {
            "arrival_s": np.round(whole["arrival_s"], 6),
            "tenant": [name] * len(output),
            "prompt_tokens": np.round(whole["input_tokens"]),
            "output_tokens": output,
            "reasoning_tokens": reasoning,
        }
    )


def _arrivals(rng: np.random.Generator, row: Mapping[str, Any], factor: float) -> Floats:
    """Arrivals in a window, from its start: a renewal process that has been running for ever."""

    import numpy as np

    rate, shape = row["rate_per_s"] * factor, row["shape"]
    gamma = row["pattern"] == "Gamma"
    mean = shape if gamma else math.gamma(1 + 1 / shape)
    unit_s = 1 / (rate * mean)
    # the gap in progress is longer the likelier it is met, and is met anywhere in it
    first = rng.gamma(shape + 1) if gamma else rng.gamma(1 + 1 / shape) ** (1 / shape)
    at = [np.array([first * unit_s * rng.random()])]
    while at[-1][-1] < WINDOW_S:
        count = int((WINDOW_S - at[-1][-1]) * rate * 1.1) + 16
        gaps = rng.gamma(shape, size=count) if gamma else rng.weibull(shape, size=count)
        at.append(at[-1][-1] + np.cumsum(gaps) * unit_s)
    times = np.concatenate(at)
    return times[times < WINDOW_S]


def _pick(rng: np.random.Generator, law: Law | None, size: int) -> Floats:
    import numpy as np

    if law is None:
        return np.full(size, math.nan)
    values, reached = law
    places = np.searchsorted(reached, rng.random(size) * reached[-1], side="right")
    found: Floats = values[places.clip(max=len(values) - 1)]
    return found


def _nearest(periods: list[float], start_s: float) -> float:
    """The one of *periods* that starts nearest to *start_s*, the first of two as near."""

    import numpy as np

    return periods[int(np.argmin(np.abs(np.array(periods) - start_s)))]


def _windows(path: Path) -> pl.DataFrame:
    """The windows of one client, checked."""
    import polars as pl

    rows = split_rows(path, read_text(path), list(COLUMNS))
    problems = [
        Problem(f"{path}:{m.line}", f"{m.fields} fields in {shorten(m.text)}", f"Write {len(COLUMNS)}.")
        for m in rows.misfits
    ]
    numbers = [name for name in COLUMNS if name != "pattern"]
    frame = rows.frame.with_columns(number(pl.col(name)) for name in numbers)
    idle = (pl.col("rate_per_s") == 0) & (pl.col("pattern") == "")
    range_s = pl.col("start_s").is_between(0, 1e10) & (pl.col("start_s") % WINDOW_S == 0)
    rated = pl.col("rate_per_s").is_between(0, 1e6) & (pl.col("cv") >= 0)
    shaped = pl.col("pattern").is_in(PATTERNS) & pl.col("shape").is_between(1e-4, 1e6) & (pl.col("scale") > 0)
    good = (range_s & rated & (idle | shaped)).fill_null(False)
    wrong = frame.filter(~good).head(20)["line"].to_list()
    texts = rows.frame.filter(pl.col("line").is_in(wrong)).select("line", *COLUMNS).rows()
    problems += [
        Problem(
            f"{path}:{row[0]}",
            f"not a window: {shorten(','.join(row[1:]))}",
            "Write start (a multiple of 600 s), rate, CV, Gamma or Weibull or nothing, shape, scale.",
        )
        for row in texts
    ]
    if frame["start_s"].is_duplicated().any():
        problems.append(Problem(str(path), "a window starts twice", "Keep one."))
    if problems:
        raise TraceError(problems)
    return frame.drop("line")


def _lengths(path: Path) -> Lengths:
    """The distributions of one client by period, those without traffic left out."""
    try:
        data = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise fail(path, f"not JSON ({shorten(error)})") from None
    if not isinstance(data, dict):
        raise fail(path, "not a JSON object of windows")
    found: dict[float, dict[str, Law]] = {}
    problems: list[Problem] = []
    for start, fields in data.items():
        try:
            laws = dict(_laws(fields))
            if laws:
                found[float(start)] = laws
        except (ValueError, RecursionError) as error:
            problems.append(Problem(f"{path}: window {shorten(start)}", str(error)))
    if problems:
        raise TraceError(problems)
    return found


def _laws(fields: Any) -> Iterator[tuple[str, Law]]:
    import numpy as np

    if not isinstance(fields, dict) or not {"input_tokens", "output_tokens"} <= set(fields):
        raise ValueError("no input_tokens and output_tokens")
    for name, top in _FIELDS.items():
        text = fields.get(name, "{}")
        try:  # a Python dictionary, of numbers only: quoting the keys makes it JSON, and nothing is run
            law = json.loads(re.sub(r"([\d.eE+-]+):", r'"\1":', text))
            values = np.array([float(value) for value in law])
            weights = np.array(list(law.values()), dtype=np.float64)
        except (TypeError, ValueError, AttributeError):
            raise ValueError(f"{name} is {shorten(text)}, not {{value: probability}}") from None
        if len(values) == 0:
            continue
        good = (values >= 0) & (values <= top) & (weights >= 0) & (weights <= 1)
        if weights.ndim != 1 or not good.all() or weights.sum() <= 0:
            raise ValueError(f"{name} has a value or a probability out of range")
        yield name, (values, np.cumsum(weights))
