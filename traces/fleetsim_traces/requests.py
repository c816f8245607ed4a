"""The request table: one row an inference request, whatever the source.

:data:`COLUMNS` and :data:`PREFIX` are the single declaration, as in ``table.py``. A request of an LLM has
tokens; one of an image model has images and steps, and its token columns are null.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, final

from fleetsim_traces import stored
from fleetsim_traces.errors import Problem
from fleetsim_traces.table import MAX_TIME_S, Column, arrow_schema, columns_markdown, facts

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = "1"  # of the schema; readers refuse any other
VERSION_KEY = b"fleetsim.requests.version"
MAX_TOKENS = 2**31 - 1

COLUMNS = (
    Column(
        "request_id", "text", "", "Identity in the source; the line or row number where the source has none."
    ),
    Column(
        "arrival_s", "float64", "s", "Arrival, from the trace's epoch; rows are sorted by it.",
        minimum=0, maximum=MAX_TIME_S,
    ),
    Column("service", "category", "", "Model or endpoint asked."),
    Column("tenant", "category", "", "Who is charged: customer, client, account or group."),
    Column("kind", "category", "", "Kind of request, in the source's words: chat, API, ...", nullable=True),
    Column("session", "text", "", "Conversation the request belongs to.", nullable=True),
    Column(
        "prompt_tokens", "int32", "token", "Tokens of the prompt; null where the source counts none.",
        nullable=True, minimum=0, maximum=MAX_TOKENS,
    ),
    Column(
        "output_tokens", "int32", "token", "Tokens produced, 0 for a failed request; null as above.",
        nullable=True, minimum=0, maximum=MAX_TOKENS,
    ),
    Column(
        "reasoning_tokens", "int32", "token", "Those of output_tokens that are reasoning, not answer.",
        nullable=True, minimum=0, maximum=MAX_TOKENS,
    ),
    Column(
        "images", "int32", "image", "Images asked for, of an image model.",
        nullable=True, minimum=0, maximum=1e6,
    ),
    Column(
        "steps", "int32", "step", "Denoising steps for each image.",
        nullable=True, minimum=0, maximum=1e6,
    ),
    Column("status", "category", "", "How it ended: completed, failed, ...", nullable=True),
    Column(
        "ttft_s", "float32", "s", "Time to the first token the source recorded.",
        nullable=True, minimum=0, maximum=MAX_TIME_S,
    ),
    Column(
        "latency_s", "float32", "s", "Time to the last token, or to the result, the source recorded.",
        nullable=True, minimum=0, maximum=MAX_TIME_S,
    ),
)  # fmt: skip
BY_NAME: Mapping[str, Column] = {column.name: column for column in COLUMNS}
TOKENS = ("prompt_tokens", "output_tokens")

PREFIX = "prefix_hashes"
_PREFIX_ABOUT = "One hash for each block of the prompt, from its start: equal leading hashes share a prefix."


@final
@dataclass(frozen=True)
class RequestTrace:
    """Requests in the request table, and what is known about where they came from.

    Fields are those of :class:`~fleetsim_traces.table.Trace`. *zero_s* is the reading of the source's own
    clock at ``arrival_s = 0`` (seconds since 1970 UTC where *epoch* is known).
    """

    requests: pa.Table
    format: str
    source: str
    epoch: datetime | None
    rows_read: int
    rejected: Mapping[str, int] = field(default_factory=dict)
    samples: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    generated: bool = False
    zero_s: float = 0.0


def request_schema() -> pa.Schema:
    """The Arrow schema of the request table, with unit and description of each field and the version."""
    import pyarrow as pa

    about = {"unit": "", "description": _PREFIX_ABOUT}
    plain = arrow_schema(COLUMNS, {VERSION_KEY: VERSION.encode()})
    return plain.append(pa.field(PREFIX, pa.list_(pa.int64()), metadata=about))


def request_columns_markdown() -> str:
    """The columns as a Markdown table, for the documentation."""
    return columns_markdown(COLUMNS) + f"| `{PREFIX}` | list of int64 |  | yes | {_PREFIX_ABOUT} |\n"


def write_requests(trace: RequestTrace, path: str | Path) -> Path:
    """Write *trace* as a Parquet file at *path*, replacing what is there, and return the path.

    The file appears whole or not at all; ``read_requests`` gives back format, epoch, notes and the rest.
    Raises OSError where the disk does.
    """
    return stored.write(trace.requests, {**facts(trace), "zero_s": trace.zero_s}, path)
