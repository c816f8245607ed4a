"""Mooncake: an hour of requests to Kimi, with the prompt's blocks as hashes.

*Citation.* R. Qin et al., "Mooncake: Trading More Storage for Less Computation", FAST 2025. *Licence.*
Apache-2.0.

*How to obtain.* github.com/kvcache-ai/Mooncake, ``FAST25-release/traces/*.jsonl``. One object a line:
``timestamp`` (ms from the start), ``input_length``, ``output_length`` (tokens), ``hash_ids`` (one for each
block of 512 prompt tokens; equal leading ids share a prefix).

*Rows.* conversation 12,031, toolagent 23,608, synthetic 3,993.

*Known defects.* Arrivals come in ticks of about 3 s: nine in ten share a timestamp with another. Ids are of
one file only. No date, no tenant.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fleetsim_traces.delimited import MAX_ROW_BYTES
from fleetsim_traces.request_rows import finish
from fleetsim_traces.requests import PREFIX, RequestTrace
from fleetsim_traces.rows import BadRows, Check, Draft
from fleetsim_traces.text import fail, read_text

BLOCK_TOKENS = 512
KEYS = ("timestamp", "input_length", "output_length", "hash_ids")
_NUMBERS = KEYS[:3]


def read(path: Path, *, bad_rows: BadRows = "refuse") -> RequestTrace:
    """Read the JSON lines at *path*; ``request_id`` is the line."""
    import polars as pl

    rows: list[tuple[Any, ...]] = []
    data = read_text(path)
    begin, line = 0, 0
    while begin < len(data):
        line += 1
        end = data.find(b"\n", begin) + 1 or len(data)
        if end - begin > MAX_ROW_BYTES:
            raise fail(f"{path}:{line}", f"a line of {end - begin:,} bytes", "Write one request a line.")
        text = bytes(data[begin:end]).strip()
        begin = end
        if text:
            found = parse(text)
            wrong = None if found else text[:200].decode(errors="replace")
            rows.append((line, wrong, *(found or (None,) * len(KEYS))))
    kinds = [(name, pl.Float64()) for name in _NUMBERS]
    schema = [("line", pl.Int64()), ("wrong", pl.String()), *kinds, (PREFIX, pl.List(pl.Int64))]
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    blocks = (pl.col("input_length") / BLOCK_TOKENS).ceil()
    unlike = frame.filter(pl.col(PREFIX).list.len() != blocks).height
    note = f"{unlike:,} requests have not one hash for each {BLOCK_TOKENS} tokens of the prompt."
    return finish(
        Draft(
            path=path,
            format="mooncake",
            frame=frame.select(
                "line",
                "wrong",
                pl.col("timestamp").alias("arrival_s"),
                pl.col("input_length").alias("prompt_tokens"),
                pl.col("output_length").alias("output_tokens"),
                PREFIX,
            ),
            checks=[Check(f"not a JSON object of {', '.join(KEYS)}", "wrong", pl.col("wrong").is_not_null())],
            notes=[note] if unlike else [],
        ),
        bad_rows,
    )


def parse(text: bytes) -> tuple[float, float, float, list[int]] | None:
    """Seconds, tokens in and out, and hashes of a line; None where it is anything else or has a key twice."""
    try:
        pairs = json.loads(text, object_pairs_hook=list, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        return None
    found = dict(pairs)
    if sorted(found) != sorted(KEYS) or len(pairs) != len(KEYS):
        return None
    numbers = [found[key] for key in _NUMBERS]
    hashes = found["hash_ids"]
    if not all(type(n) in (int, float) and abs(n) < 1e300 for n in numbers) or not isinstance(hashes, list):
        return None
    if not all(type(h) is int and abs(h) < 2**63 for h in hashes):
        return None
    return float(numbers[0]) / 1000, float(numbers[1]), float(numbers[2]), hashes


def _refuse(constant: str) -> float:
    raise ValueError(constant)
