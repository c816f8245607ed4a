"""More or less load, and the same again: how a job table becomes another rate without losing its bursts.

Logs are bursty because users submit in batches. Dropping jobs one by one turns a
batch of 100 into ten single jobs at a tenth of the load, and the index of dispersion D of their counts falls
to 1 + (D - 1) / 10: queues of such a thinned log are far too short. Doubling each job in place does the
opposite. :func:`thin` therefore keeps or drops whole batches (or users), and :func:`multiply` lays copies of
the log over it, each turned round in time by whole weeks or days, so that hour and weekday stay and the
copies are busy on different days. Both leave D about where it was.

Draws nest: with one stream, what a lower load keeps a higher one keeps too, and a copy lies where it lay.
"""

from __future__ import annotations

from math import ceil, inf
from typing import TYPE_CHECKING, Literal

import numpy as np

from fleetsim_traces.text import fail

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

    Flags = npt.NDArray[np.bool_]
    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

DAY_S = 86_400.0
WEEK_S = 7 * DAY_S
YEAR_S = 365 * DAY_S  # as in scenarios
BATCH_GAP_S = 300.0  # jobs of one owner that follow closer than this belong together
BATCH_S = 3600.0  # longest batch: owners who never pause would else be one
MAX_JOBS = 100_000_000
MAX_PASSES = 100_000
By = Literal["batch", "user", "tenant", "job"]


def moved_to(jobs: pl.DataFrame, submit_s: pl.Expr) -> pl.DataFrame:
    """*jobs* submitted at *submit_s*; recorded starts keep their wait."""
    import polars as pl

    if "start_s" not in jobs.columns:
        return jobs.with_columns(submit_s=submit_s)
    return jobs.with_columns(submit_s=submit_s, start_s=submit_s + pl.col("start_s") - pl.col("submit_s"))


def moved_by(jobs: pl.DataFrame, seconds: float) -> pl.DataFrame:
    """All times *seconds* later."""
    import polars as pl

    return jobs.with_columns(pl.col("submit_s", *({"start_s"} & set(jobs.columns))) + seconds)


def shift(jobs: pl.DataFrame, seconds: float) -> pl.DataFrame:
    """All times *seconds* later; raises TraceError where one would be negative."""
    if jobs.height and not float(jobs["submit_s"][0]) + seconds >= 0:  # NaN fails too
        raise fail("shift", f"{seconds:g} s puts the first submission before 0")
    return moved_by(jobs, seconds)


def groups(jobs: pl.DataFrame, by: By = "batch", gap_s: float = BATCH_GAP_S) -> Ints:
    """A number for each job, equal for those that belong together.

    ``batch``: jobs of one owner (tenant and user) no more than *gap_s* after another of the same, for
    ``BATCH_S`` at most; ``warm`` ones, whose submission is forgotten, are alone. ``user`` or ``tenant``: all
    of one; ``job``: each alone. Numbers run from 0 without gaps.
    """
    import polars as pl
    import pyarrow as pa

    if by == "job":
        return np.arange(jobs.height)
    owner = np.zeros(jobs.height, np.int64)
    for key in ("tenant",) if by == "tenant" else ("tenant", "user"):
        own = jobs[key].cast(pl.Categorical).to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
        owner = (owner << 32) + own + 1
    # numbered by first appearance: what polars numbers names by depends on what it has seen before
    code: Ints = pa.array(owner).dictionary_encode().indices.to_numpy().astype(np.int64)
    if by != "batch":
        return code
    # stable: in order of submission within an owner; few bits are sorted many times as fast
    order = np.argsort(code.astype(np.min_scalar_type(code.max(initial=0))), kind="stable")
    at_s = jobs["submit_s"].to_numpy()[order]
    starts = np.ones(len(code), dtype=bool)
    starts[1:] = (np.diff(code[order]) != 0) | (np.diff(at_s) > gap_s)
    begins_s = at_s[starts][np.cumsum(starts) - 1]
    starts[1:] |= np.diff((at_s - begins_s) // BATCH_S) != 0
    if "warm" in jobs.columns:
        warm = jobs["warm"].to_numpy()[order]
        starts |= warm
        starts[1:] |= warm[:-1]
    batch = np.empty(len(code), np.int64)
    batch[order] = np.cumsum(starts) - 1
    return batch


def thin(
    jobs: pl.DataFrame,
    share: float,
    rng: np.random.Generator,
    *,
    by: By = "batch",
    gap_s: float = BATCH_GAP_S,
) -> pl.DataFrame:
    """*share* (0 to 1) of the jobs: whole groups (:func:`groups`), kept by chance until there are enough.

    Groups are taken in random order; the one that crosses the line is kept with the chance that makes the
    number of jobs right on average, so it is off by less than one group. Batches keep D of their counts (see
    the module); users also keep each user's habits, and are the better choice where many remain.
    """
    if not 0 <= share <= 1:
        raise fail("share", f"{share:g} is not from 0 to 1")
    if share == 1 or not jobs.height:
        return jobs
    group = groups(jobs, by, gap_s)
    return jobs.filter(_some(np.bincount(group), share, rng)[group])


def _some(size: Ints, share: float, rng: np.random.Generator) -> Flags:
    """Which of the groups of *size* jobs to keep for *share* of the jobs."""
    order, chance = rng.permutation(len(size)), rng.random()
    reached = np.cumsum(size[order])
    wanted = share * reached[-1]
    taken = int(np.searchsorted(reached, wanted, side="right"))
    kept = reached[taken - 1] if taken else 0
    if taken < len(size) and chance * size[order[taken]] < wanted - kept:
        taken += 1
    keep = np.zeros(len(size), dtype=bool)
    keep[order[:taken]] = True
    return keep


def multiply(
    jobs: pl.DataFrame,
    load: float,
    rng: np.random.Generator,
    *,
    length_s: float | None = None,
    by: By = "batch",
    gap_s: float = BATCH_GAP_S,
) -> pl.DataFrame:
    """*load* times as many jobs over the same time, as bursty as before: 2.3 is the log, a copy and 0.3 of
    one (:func:`thin`).

    Each copy is turned round within *length_s* (default: to the last submission) by whole weeks where there
    are three, then by whole days where there are three, then by any time: what passes the end comes in again
    at the opening. No two copies are turned alike. Identities of copies end in ``~0.1``, ``~0.2`` and so on,
    and their users in ``.1``, ``.2``: more load is more users, not busier ones. Recorded starts keep their
    wait. Jobs that are ``warm`` stay at 0 in every copy.
    """
    if not 0 < load < inf:
        raise fail("load", f"{load:g} is not above 0", "1 is the log as it is.")
    return _laid(jobs, np.zeros(1), np.array([load]), rng, inf, length_s, by, gap_s)


def repeat(
    jobs: pl.DataFrame,
    until_s: float,
    rng: np.random.Generator,
    *,
    every_s: float | None = None,
    load: float = 1.0,
    growth_per_year: float = 0.0,
    length_s: float | None = None,
    by: By = "batch",
    gap_s: float = BATCH_GAP_S,
) -> pl.DataFrame:
    """*jobs* again and again until *until_s*, one pass every *every_s* (default: *length_s* in whole days).

    A pass that begins at t has ``load * (1 + growth_per_year) ** (t / year)`` times the jobs
    (:func:`multiply`, which says what *length_s* is). Identities of pass k end in ``~k``, those of its copies
    in ``~k.1``, ``~k.2`` and so on. Jobs that are ``warm`` are in the first pass alone.
    """
    if every_s is None:
        every_s = max(1, ceil(_length(jobs, length_s) / DAY_S)) * DAY_S
    if not (every_s > 0 and until_s / every_s < MAX_PASSES):
        message = f"every {every_s:g} s until {until_s:g} s, more than {MAX_PASSES:,} times"
        raise fail("repeat", message, "Repeat a longer window.")
    if not growth_per_year > -1:
        raise fail("repeat", f"growing by {growth_per_year:g} a year", "-0.3 is 30 % less after a year.")
    begins_s: Floats = np.arange(max(1, ceil(until_s / every_s)), dtype=np.float64) * every_s
    with np.errstate(over="ignore"):  # refused when they are added up
        loads: Floats = load * (1 + growth_per_year) ** (begins_s / YEAR_S)
    return _laid(jobs, begins_s, loads, rng, until_s, length_s, by, gap_s)


def _length(jobs: pl.DataFrame, length_s: float | None) -> float:
    """The time that *jobs* fill, s: *length_s* if given, else to the last submission; at least a second."""
    last_s = float(jobs["submit_s"][-1]) if jobs.height else 0.0
    if length_s is not None and length_s < last_s:
        raise fail("length_s", f"{length_s:g} s is shorter than the {last_s:g} s to the last submission")
    return max(last_s if length_s is None else length_s, 1.0)


def _laid(
    jobs: pl.DataFrame,
    begins_s: Floats,
    loads: Floats,
    rng: np.random.Generator,
    until_s: float,
    length_s: float | None,
    by: By,
    gap_s: float,
) -> pl.DataFrame:
    """One pass of *jobs* at each of *begins_s*, each job about ``loads`` times in it; submissions before
    *until_s* alone, in their order."""
    import polars as pl

    length_s = _length(jobs, length_s)
    with np.errstate(over="ignore"):  # too many, as is said next
        total = jobs.height * float(loads.sum())
    if total > MAX_JOBS:
        message = f"load, repetition and growth make more than {MAX_JOBS:,} jobs"
        raise fail("load", message, "Lower one of them.")
    if not jobs.height or (len(loads) == 1 and loads[0] == 1):
        return jobs.filter(pl.col("submit_s") < until_s)
    submit_s = jobs["submit_s"].to_numpy()
    warm = jobs["warm"].to_numpy() if "warm" in jobs.columns else np.zeros(jobs.height, dtype=bool)
    group = groups(jobs, by, gap_s) if np.any(loads % 1) else None
    size = np.zeros(0, np.int64) if group is None else np.bincount(group)
    chances, turned = rng.spawn(2)
    turns = _turns(ceil(loads.max()) - 1, length_s, turned)
    at_s = [submit_s, *(np.where(warm, submit_s, _turned(submit_s, length_s, *t)) for t in turns)]

    rows: list[Ints] = []
    times_s: list[Floats] = []
    marks: list[tuple[int, int]] = []  # pass and copy
    for number, (begin_s, load) in enumerate(zip(begins_s.tolist(), loads.tolist(), strict=True)):
        again = np.flatnonzero(~warm) if number else np.arange(jobs.height)
        some = again if group is None else again[_some(size, load % 1, chances)[group[again]]]
        for copy in range(ceil(load)):
            row = again if copy + 1 <= load else some
            rows.append(row)
            times_s.append(at_s[copy][row] + begin_s)
            marks.append((number, copy))
    piece = np.repeat(np.arange(len(rows)), [len(r) for r in rows])
    row, time_s = np.concatenate(rows), np.concatenate(times_s)
    order = np.argsort(time_s, kind="stable")
    order = order[: np.searchsorted(time_s, until_s, sorter=order)]
    row, time_s, piece = row[order], time_s[order], piece[order]

    def marked(column: str, ends: list[str]) -> pl.Expr:
        end = pl.Series(ends, dtype=pl.String).gather(piece)
        return (pl.col(column).cast(pl.String) + end).cast(jobs.schema[column])

    found = moved_to(jobs[row], pl.lit(pl.Series(time_s)))
    if marks != [(0, 0)]:
        found = found.with_columns(marked("job_id", [_mark(*m) for m in marks]))
    if turns and "user" in jobs.columns and jobs["user"].null_count() < jobs.height:
        found = found.with_columns(marked("user", [f".{copy}" if copy else "" for _, copy in marks]))
    return found


def _mark(number: int, copy: int) -> str:
    """What the identities of a copy in a pass end in."""
    return f"~{number}.{copy}" if copy else f"~{number}" if number else ""


def _turns(copies: int, length_s: float, rng: np.random.Generator) -> list[tuple[float, float]]:
    """How far to turn each of *copies* within *length_s*, s, and in a round of how many s."""
    found: list[tuple[float, float]] = []
    for unit_s in (WEEK_S, DAY_S):
        if length_s >= 3 * unit_s and len(found) < copies:
            units = ceil(length_s / unit_s)
            steps = (rng.permutation(units - 1) + 1) * unit_s
            weeks = steps % WEEK_S == 0 if found else np.zeros(len(steps), dtype=bool)  # taken already
            found += [(by_s, units * unit_s) for by_s in steps[~weeks].tolist()]
    while len(found) < copies:
        found.append((float(rng.uniform(0, length_s)), length_s))
    return found[:copies]


def _turned(submit_s: Floats, length_s: float, by_s: float, round_s: float) -> Floats:
    """*submit_s* turned by *by_s*; where that leads beyond *length_s*, into the rest of the last week or day,
    a second time."""
    turned = (submit_s + by_s) % round_s
    return np.where(turned < length_s, turned, (turned + by_s) % round_s)
