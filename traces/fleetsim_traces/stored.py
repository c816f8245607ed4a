"""What the two tables of our own have in common in Parquet: how they are written, checked and read back."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleetsim_traces.atomic import atomic
from fleetsim_traces.errors import Problem, TraceError
from fleetsim_traces.text import fail, shorten
from fleetsim_traces.times import instant

if TYPE_CHECKING:
    import pyarrow as pa

TRACE_KEY = b"fleetsim.trace"


def write(table: pa.Table, facts: Mapping[str, Any], path: str | Path) -> Path:
    """Write *table* with *facts* of it at *path*, whole or not at all; raises OSError where the disk does."""
    import pyarrow.parquet as pq

    path = Path(path)
    metadata = {**table.schema.metadata, TRACE_KEY: json.dumps(facts, sort_keys=True).encode()}
    with atomic(path) as file:
        pq.write_table(table.replace_schema_metadata(metadata), file, compression="zstd")
    return path


def require_table(
    path: Path,
    found: pa.Schema,
    target: pa.Schema,
    version_key: bytes,
    version: str,
    what: str,
    optional: Collection[str] = (),
) -> None:
    """Raise TraceError unless *found* is the schema *target* of *what* (a job or a request table).

    Columns that are *optional* may be absent.
    """
    there = (found.metadata or {}).get(version_key)
    if there is None:
        raise fail(path, f"Parquet, but not a {what}", "Read it with format generic and a column mapping.")
    if there != version.encode():
        text = shorten(there.decode(errors="replace"))
        raise fail(path, f"{what} version {text}, not {version}", "Write it again with this fleetsim.")
    problems = [
        Problem(str(path), f"column {field.name} is {found.field(field.name).type}, not {field.type}")
        if field.name in found.names
        else Problem(str(path), f"no column {field.name}")
        for field in target
        if (field.name not in optional or field.name in found.names)
        and (found.names.count(field.name) != 1 or not _is_same(found.field(field.name).type, field.type))
    ]
    problems += [
        Problem(str(path), f"column {shorten(name)} is not of the {what}")
        for name in sorted(set(found.names) - set(target.names))
    ]
    if problems:
        raise TraceError(problems)


def _is_same(found: Any, wanted: Any) -> bool:
    """Equal types; text may or may not be dictionary-encoded, for that is how the file was opened."""
    import pyarrow as pa

    plain = [kind.value_type if pa.types.is_dictionary(kind) else kind for kind in (found, wanted)]
    return bool(plain[0] == plain[1])


@dataclass(frozen=True)
class Origin:
    """What a table says of where its rows first came from; *zero_s* is the source's clock at the epoch."""

    format: str | None
    epoch: datetime | None
    notes: list[str]
    generated: bool
    zero_s: float | None


def origin(metadata: Mapping[bytes, bytes] | None) -> Origin:
    """What :func:`write` was told; nothing where that is absent or unusable: metadata is untrusted too."""
    try:
        facts = json.loads((metadata or {}).get(TRACE_KEY, b"{}"))
    except (ValueError, RecursionError):
        facts = None
    facts = facts if isinstance(facts, dict) else {}
    notes = facts.get("notes")
    notes = [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []
    dropped = facts.get("rejected")
    if isinstance(dropped, dict) and dropped:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in dropped.items())
        notes.append(f"Rows left out when it was first read: {reasons}.")
    name, zero_s = facts.get("format"), facts.get("zero_s")
    return Origin(
        format=name if isinstance(name, str) else None,
        epoch=instant(facts.get("epoch")),
        notes=notes,
        generated=facts.get("generated") is True,
        zero_s=float(zero_s) if isinstance(zero_s, (int, float)) else None,
    )
