"""The folder of a sweep: a run folder for each run, ``sweep.json`` (what runs, and how far), and two tables.

``sweep.parquet`` has a row for each run that is done: its axes' values and its figures.
``generations.parquet`` has them by generation, and by tier where there are several: a row for each figure.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from fleetsim import experiment, runfolder
from fleetsim import scenario as scenarios
from fleetsim.errors import InputError, Problem
from fleetsim.runfolder import SWEEP, Run, open_run
from fleetsim.sweeps import workers
from fleetsim.sweeps.sweep import Member, Sweep, few
from fleetsim.sweeps.table import RUN_FIGURES, generation_frame, generation_rows, run_figures
from fleetsim.words import Spec
from fleetsim.workload import trace_file
from fleetsim_traces.atomic import atomic

if TYPE_CHECKING:
    import polars as pl

RUNS, GENERATIONS = "sweep.parquet", "generations.parquet"

#: Between two writings of sweep.json while runs end, s.
SAVE_EVERY_S = 1.0


class PointOf(Spec):
    """A combination of the axes' values, in sweep.json."""

    point: int
    name: str
    values: dict[str, Any]


class RunOf(Spec):
    """A run of a sweep, in sweep.json; ``folder`` lies beside it."""

    point: int = Field(ge=0)
    replication: int = Field(ge=0)
    seed: int
    folder: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    status: Literal["waiting", "done", "failed"] = "waiting"
    error: str | None = None


class Record(Spec):
    """What sweep.json says."""

    sweep: Literal["1"]
    scenario: str
    question: str
    file: str
    overrides: list[str]
    axes: dict[str, list[Any]]
    replications: int
    seeds: list[int]
    points: list[PointOf]
    runs: list[RunOf]


@dataclass(frozen=True)
class SweepRun:
    """A sweep's folder as it stands: its record, its runs and its tables."""

    path: Path
    record: Record

    @property
    def done(self) -> list[RunOf]:
        """The runs that are done."""
        return [run for run in self.record.runs if run.status == "done"]

    def open(self, run: RunOf) -> Run:
        """One of the runs that are done. Raises :class:`InputError` if it cannot be read any more."""
        return open_run(self.path / run.folder)

    @cached_property
    def runs(self) -> pl.DataFrame:
        """sweep.parquet: a row for each run that is done."""
        return self._table(RUNS)

    @cached_property
    def generations(self) -> pl.DataFrame:
        """generations.parquet: point, replication, generation, tier (null: all), figure, value."""
        return self._table(GENERATIONS)

    def _table(self, name: str) -> pl.DataFrame:
        import polars as pl

        try:
            return pl.read_parquet(self.path / name, glob=False, hive_partitioning=False)
        except (OSError, pl.exceptions.PolarsError) as error:
            what = str(error).splitlines()[0]
            raise InputError([Problem(str(self.path / name), what, "Run the sweep again.")]) from None


@dataclass(frozen=True)
class Progress:
    """How far a sweep has come: runs that have ended, ``failed`` of them, and were there before (``kept``);
    how many there are, and those under way with the share that is done."""

    ended: int
    failed: int
    kept: int
    of: int
    running: Mapping[str, float]


@dataclass(frozen=True)
class _Task:
    """What a process needs to do one run, or to read one that is kept."""

    member: Member
    text: str
    place: str
    words: tuple[str, ...]
    roots: tuple[Path, ...]
    folder: Path
    keep: bool
    force: bool


def run(
    sweep: Sweep,
    out: str | Path,
    *,
    jobs: int | None = None,
    force: bool = False,
    tell: Callable[[Progress], None] = lambda _: None,
) -> SweepRun:
    """Do the runs of *sweep* in the folder *out*, up to *jobs* at once (default: as many as cores).

    A run that is there already, of the same scenario, seed, versions and traces, is kept. One that differs is
    replaced with *force*; without it :class:`InputError` is raised before anything is run. A run that fails
    stops no other: its ``status`` and ``error`` say so. If this is interrupted, the runs that are done stay,
    and doing it again goes on from there.
    """
    out = Path(out)
    check_folder(out)
    kept, changed = _kept(sweep, out)
    if changed and not force:
        raise InputError(few(changed))
    tasks = [
        _Task(m, sweep.text, sweep.place, sweep.words(m), sweep.roots, out / m.folder, m in kept, force)
        for m in sorted(sweep.members, key=lambda m: m not in kept)
    ]
    out.mkdir(parents=True, exist_ok=True)
    ledger = _Ledger(sweep, out)
    ledger.save()

    def told(shares: Mapping[int, float]) -> None:
        running = {tasks[t].member.folder: share for t, share in shares.items() if not tasks[t].keep}
        failed = sum(error is not None for error in ledger.ended.values())
        read = sum(member in kept for member in ledger.ended)
        tell(Progress(len(ledger.ended) + len(kept) - read, failed, len(kept), len(tasks), running))

    outcomes = workers.run_all(_work, tasks, jobs or workers.cores(), told)
    try:
        for outcome in outcomes:
            ledger.take(tasks[outcome.task].member, outcome.result, outcome.error)
    finally:
        outcomes.close()
        ledger.save()
        ledger.write_tables()
    return open_sweep(out)


def open_sweep(path: str | Path) -> SweepRun:
    """The sweep in the folder *path*. Raises :class:`InputError` if there is none that can be read."""
    path = Path(path)
    file = path / SWEEP
    try:
        record = Record.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        remedy = "Name a folder that `fleetsim run` wrote for a scenario with axes or replications."
        if (path / runfolder.MANIFEST).is_file():
            raise InputError(
                [Problem(str(path), "is one run", f"See it with `fleetsim show {path}`.")]
            ) from None
        if not file.is_file():
            what = "is no sweep" if path.is_dir() else "no such folder"
            raise InputError([Problem(str(path), what, remedy)]) from None
        why = error.strerror if isinstance(error, OSError) else f"is damaged: {error.errors()[0]['msg']}"
        raise InputError([Problem(str(file), why or "cannot be read", "Run the sweep again.")]) from None
    if any(run.point >= len(record.points) for run in record.runs):
        raise InputError([Problem(str(file), "is damaged: a run of no point", "Run the sweep again.")])
    return SweepRun(path, record)


def check_folder(out: Path) -> None:
    """Raise :class:`InputError` if a sweep may not be written to *out*."""
    runfolder.check_target(out / "_", force=False)  # that folders can be made there
    if out.exists() and not (out / SWEEP).is_file() and any(out.iterdir()):
        what = "is a run" if (out / runfolder.MANIFEST).is_file() else "exists already and is no sweep"
        raise InputError([Problem(str(out), what, "Choose another name for the folder of the sweep.")])


def _kept(sweep: Sweep, out: Path) -> tuple[set[Member], list[Problem]]:
    """The runs that are done already, and what is wrong with others that are there."""
    kept: set[Member] = set()
    problems: list[Problem] = []
    digests: dict[Path, str] = {}
    for member in sweep.members:
        folder = out / member.folder
        if not folder.exists():
            continue
        if (differs := _difference(sweep.scenario(member), folder, digests)) is None:
            kept.add(member)
        else:
            remedy = "Replace it with --force, or choose another folder for the sweep."
            problems.append(Problem(str(folder), differs, remedy))
    return kept, problems


def _difference(wanted: scenarios.Scenario, folder: Path, digests: dict[Path, str]) -> str | None:
    """Why the run in *folder* is not the one that is *wanted*, or None."""
    try:
        manifest = open_run(folder).manifest
    except InputError as error:
        return f"cannot be kept: {error.problems[0].message}"
    if manifest.get("versions") != experiment.versions():
        return "was written by other versions"
    spec, found = wanted.spec.model_dump(mode="json"), manifest["scenario"]
    if keys := [key for key in {**spec, **found} if found.get(key) != spec.get(key)]:
        return f"is of another scenario: it differs in {', '.join(keys)}"
    if manifest.get("node_list") != (dict(wanted.node_list) if wanted.node_list else None):
        return "is of another list of nodes"
    for workload in wanted.spec.workloads:
        if workload.trace is not None:
            path = trace_file(wanted, workload.trace, wanted.place)
            if path not in digests:
                with path.open("rb") as file:
                    digests[path] = hashlib.file_digest(file, "sha256").hexdigest()
            if manifest["sources"].get(workload.name, {}).get("sha256") != digests[path]:
                return f"is of another trace {workload.trace}"
    return None


def _work(task: _Task, tell: Callable[[float], None]) -> tuple[dict[str, Any], pl.DataFrame]:
    """Do one run in a process of its own; return its figures, and those by generation."""

    def seen(now: experiment.Progress) -> None:
        tell(min(1.0, now.now_s / now.end_s) if now.end_s else 1.0)

    if task.keep:
        made = open_run(task.folder)
    else:
        read = scenarios.parse(task.text, task.place, task.words, task.roots)
        made = experiment.run(read, task.folder, force=task.force, progress=seen)
    return run_figures(made), generation_rows(made)


@dataclass
class _Ledger:
    """What is known of a sweep's runs while they are done, and the files that say so."""

    sweep: Sweep
    out: Path
    ended: dict[Member, str | None] = field(default_factory=dict)  # why it failed
    rows: dict[Member, tuple[dict[str, Any], pl.DataFrame]] = field(default_factory=dict)
    saved: float = 0.0

    def take(self, member: Member, result: Any, error: str | None) -> None:
        self.ended[member] = error
        if error is None:
            self.rows[member] = result
        if time.monotonic() - self.saved > SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        """Write sweep.json."""
        sweep, spec = self.sweep, self.sweep.base.spec
        record = Record(
            sweep="1",
            scenario=spec.name,
            question=spec.question,
            file=sweep.place,
            overrides=list(sweep.overrides),
            axes=spec.axes,
            replications=spec.replications,
            seeds=sweep.seeds,
            points=[PointOf(point=p.number, name=p.name, values=dict(p.values)) for p in sweep.points],
            runs=[*self._runs()],
        )
        with atomic(self.out / SWEEP) as file:
            file.write(json.dumps(record.model_dump(), indent=1, ensure_ascii=False).encode() + b"\n")
        self.saved = time.monotonic()

    def _runs(self) -> Iterator[RunOf]:
        for member in self.sweep.members:
            status: Literal["waiting", "done", "failed"] = "waiting"
            if member in self.ended:
                status = "done" if self.ended[member] is None else "failed"
            yield RunOf(**vars(member), status=status, error=self.ended.get(member))

    def write_tables(self) -> None:
        """Write sweep.parquet and generations.parquet, of the runs that are done."""
        import polars as pl

        done = [member for member in self.sweep.members if member in self.rows]
        ids = {"point": pl.Int32, "replication": pl.Int32, "seed": pl.Int64, "folder": pl.String}
        axes = [
            _column(path, [self.sweep.points[member.point].values[path] for member in done])
            for path in self.sweep.base.spec.axes
        ]
        figures = pl.DataFrame([self.rows[m][0] for m in done], dict.fromkeys(RUN_FIGURES, pl.Float64))
        runs = pl.DataFrame(list(map(vars, done)), ids).with_columns(*axes, *figures.get_columns())
        parts = [
            frame.select(
                pl.lit(point, pl.Int32).alias("point"),
                pl.lit(replication, pl.Int32).alias("replication"),
                pl.all(),
            )
            for point, replication, frame in (
                (0, 0, generation_frame()),  # for the columns
                *((m.point, m.replication, self.rows[m][1]) for m in done),
            )
        ]
        generations = pl.concat(parts)
        for name, table in ((RUNS, runs), (GENERATIONS, generations)):
            with atomic(self.out / name) as file:
                table.write_parquet(file)


def _column(name: str, values: Sequence[Any]) -> pl.Series:
    """Values of an axis as a column: numbers as numbers, text as text, anything else as JSON."""
    import polars as pl

    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    if numbers and all(isinstance(v, int) and abs(v) < 2**63 for v in values):
        return pl.Series(name, values, pl.Int64)
    if numbers:
        return pl.Series(name, map(float, values), pl.Float64)
    if all(isinstance(v, bool) for v in values):
        return pl.Series(name, values, pl.Boolean)
    texts = [v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in values]
    return pl.Series(name, texts, pl.String)
