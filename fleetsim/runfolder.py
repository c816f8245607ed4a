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
from fleetsim.schema import TABLES, VERSION, schema

if TYPE_CHECKING:
    import polars as pl

MANIFEST = "manifest.json"
SWEEP = "sweep.json"  # of a folder of runs

#: What reading relies on.
_MANIFEST_KINDS: dict[str, type | tuple[type, ...]] = {
    "scenario": dict,
    "seed": int,
    "start": str,
    "end_s": (int, float),
    "sources": dict,
    "rejected": dict,
    "checks": list,
    "activities": list,
}

_DAMAGED = "The folder is damaged: run the scenario again."


@contextmanager
def writing(target: Path, force: bool = False) -> Iterator[Path]:
    """A temporary sibling of *target* to write into; renamed to *target* when the block ends well.

    If the block fails, or the process is interrupted, nothing is left and an older run stays as it was. An
    existing *target* is refused without *force*, and never replaced if it is anything but a run. Raises
    :class:`InputError`.
    """
    check_target(target, force)
    target = Path.cwd() / target  # "." has a name too
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
    parent = next((folder for folder in (Path.cwd() / target).parents if folder.exists()), None)
    if parent is not None and not parent.is_dir():
        raise InputError([Problem(str(parent), "is not a folder", f"{target} cannot be made in it.")])
    if not target.exists() and not target.is_symlink():
        return
    if not force:
        remedy = "Choose another name, or replace it with --force."
        raise InputError([Problem(str(target), "exists already", remedy)])
    empty = target.is_dir() and not any(target.iterdir())
    if target.is_symlink() or not (empty or _is_run(target)):
        remedy = "Only a run is replaced, even with --force. Move it away, or choose another name."
        raise InputError([Problem(str(target), "is not a run", remedy)])


def _is_run(folder: Path) -> bool:
    try:
        return {"schema", "scenario", "checks"} <= _read_manifest(folder).keys()
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def _read_manifest(folder: Path) -> dict[str, Any]:
    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    if not isinstance(manifest, dict):
        raise TypeError("not an object")
    return manifest


def _swap(partial: Path, target: Path) -> None:
    old = target.with_name(f".{target.name}.old-{os.getpid()}")
    try:
        if target.exists():
            target.rename(old)
        partial.rename(target)
    except BaseException:
        if old.exists() and not target.exists():
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
        return _read_manifest(self.path)

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
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        if (run.path / SWEEP).is_file():
            remedy = f"See it with `fleetsim sweep {place}`, or name one of the runs in it."
            raise InputError([Problem(place, "is a sweep: a folder of runs", remedy)]) from None
        what = "no such folder" if not run.path.is_dir() else f"no usable {MANIFEST} ({type(error).__name__})"
        raise InputError([Problem(place, what, "Name a folder written by `fleetsim run`.")]) from None
    if version != VERSION:
        remedy = "Run the scenario again with this version."
        raise InputError(
            [Problem(place, f"written with table schema {version!r}, this reads {VERSION!r}", remedy)]
        )
    problems = [*_manifest_problems(run), *_table_problems(run)]
    if problems:
        raise InputError(problems)
    return run


def _manifest_problems(run: Run) -> Iterator[Problem]:
    for key, kind in _MANIFEST_KINDS.items():
        if not isinstance(run.manifest.get(key), kind):
            yield Problem(f"{run.path / MANIFEST} {key}", "is missing or damaged", _DAMAGED)


def _table_problems(run: Run) -> Iterator[Problem]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    missing = [table for table in TABLES if not (run.path / f"{table}.parquet").is_file()]
    if missing:
        yield Problem(str(run.path), f"lacks {', '.join(missing)}", _DAMAGED)
    for table in TABLES:
        path = run.path / f"{table}.parquet"
        if table in missing:
            continue
        try:
            found = pq.read_schema(path)
        except (OSError, pa.ArrowException) as error:
            yield Problem(str(path), str(error).splitlines()[0] or type(error).__name__, _DAMAGED)
            continue
        if not found.equals(schema(table)):
            yield Problem(str(path), f"has not the columns of the table {table}", _DAMAGED)
