"""Untrusted JSON: a whole document, with the line of what cannot be parsed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fleetsim_traces.text import fail, read_text, shorten


def load_json(path: Path) -> Any:
    """The document in *path*, plain or packed; raises TraceError where it is not JSON."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        remedy = "Is the file whole?"
        raise fail(
            f"{path}:{error.lineno}", f"not JSON ({error.msg}, column {error.colno})", remedy
        ) from None
    except (RecursionError, ValueError) as error:
        raise fail(path, f"not JSON that can be read ({shorten(error, 100)})") from None


def text_at(value: object, *keys: str) -> str | None:
    """The text (or whole number, written out) found in nested dictionaries under *keys*, else None."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None


def dict_at(value: object, *keys: str) -> dict[str, Any]:
    """The dictionary found under *keys*, else an empty one."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def list_at(value: object, *keys: str) -> list[Any]:
    """The list found under *keys*, else an empty one."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, list) else []
