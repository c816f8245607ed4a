"""Run folders: written whole or not at all, and read back."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleetsim.errors import InputError, Problem
from fleetsim.schema import TABLES, VERSION

if TYPE_CHECKING:
    import polars as pl

MANIFEST = "manifest.json"


@contextmanager
def writing(target: Path, force: bool = False) -> Iterator[Path]:
    """A temporary sibling of *target* to write into; renamed to *target* when the block ends well.

    If the block fails, or the process is interrupted, nothing is left and an older run stays as it was. An
    existing *target* is refused without *force*, and never replaced if it is anything but a run. Raises
    :class:`InputError`.
    """
    check_target(target, force)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        for file in partial.iterdir():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        _swap(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_target(target: Path, force: bool) -> None:
    """Raise :class:`InputError` if *target* may not be written; cheap enough to ask before a long run."""
    if not target.exists() and not target.is_symlink():
        return
    if not force:
        raise InputError(
            [Problem(str(target), "exists already", "Choose another name, or replace it with --force.")]
        )
    empty = target.is_dir() and not any(target.iterdir())
    if target.is_symlink() or not (empty or (target / MANIFEST).is_file()):
        remedy = "Only a run is replaced, even with --force. Move it away, or choose another name."
        raise InputError([Problem(str(target), "is not a run", remedy)])


def _swap(partial: Path, target: Path) -> None:
    old = target.with_name(f".{target.name}.old-{os.getpid()}")
    if target.exists():
        target.rename(old)
    try:
        partial.rename(target)
    except BaseException:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


@dataclass(frozen=True)
class Run:
    """A finished run."""

    path: Path

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What was run, with what, and what the audit found."""
        manifest: dict[str, Any] = json.loads((self.path / MANIFEST).read_text("utf-8"))
        return manifest

    def scan(self, table: str) -> pl.LazyFrame:
        """One of the tables of ``schema.TABLES``, lazily."""
        import polars as pl

        return pl.scan_parquet(self.path / f"{table}.parquet", glob=False)


def open_run(path: str | Path) -> Run:
    """The run in the folder *path*. Raises :class:`InputError` if there is none that can be read."""
    run = Run(Path(path))
    place = str(path)
    try:
        version = str(run.manifest["schema"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = "no such folder" if not run.path.is_dir() else f"no usable {MANIFEST} ({type(error).__name__})"
        raise InputError([Problem(place, what, "Name a folder written by `fleetsim run`.")]) from None
    if version != VERSION:
        remedy = "Run the scenario again with this version."
        raise InputError(
            [Problem(place, f"written with table schema {version!r}, this reads {VERSION!r}", remedy)]
        )
    missing = [t for t in TABLES if not (run.path / f"{t}.parquet").is_file()]
    if missing:
        raise InputError(
            [Problem(place, f"lacks {', '.join(missing)}", "The folder is damaged: run the scenario again.")]
        )
    return run
