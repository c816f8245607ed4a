"""Where the data files that ship with fleetsim lie, in a checkout and in an installed wheel."""

from __future__ import annotations

from pathlib import Path


def folder(name: str) -> Path:
    """Return the folder of assets called *name*: ``seeds`` or ``grafana``."""
    bundled = Path(__file__).parent / "_data" / name
    return bundled if bundled.is_dir() else Path(__file__).parent.parent / name
