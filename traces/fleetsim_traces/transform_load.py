"""More or less load, and the same again: how a job table becomes another rate without losing its bursts.

Logs are bursty because users submit in batches. Dropping jobs one by one turns a
batch of 100 into ten single jobs at a tenth of the load, and the index of dispersion D of their counts falls
to 1 + (D - 1) / 10: queues of such a thinned log are far too short. Doubling each job in place does the
opposite. :func:`thin` therefore keeps or drops whole batches (or users), and :func:`multiply` lays copies of
the log over it, each turned round in time by whole weeks or days, so that hour and weekday stay and the
copies are busy on different days. Both leave D about where it was.
"""

from __future__ import annotations

from math import ceil, inf
from typing import TYPE_CHECKING, Literal

import numpy as np

from fleetsim_traces.text import fail

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

    Ints = npt.NDArray[np.int64]

DAY_S = 86_400.0
YEAR_S = 365.25 * DAY_S
BATCH_GAP_S = 300.0  # jobs of one owner that follow closer than this belong together
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

    ``batch``: jobs of one owner (tenant and user) no more than *gap_s* after another of the same; ``user`` or
    ``tenant``: all of one; ``job``: each alone. Numbers run from 0 without gaps.
    """
    import polars as pl

    if by == "job":
        return np.arange(jobs.height)
    keys = {"tenant": ["tenant"], "user": ["tenant", "user"], "batch": ["tenant", "user"]}[by]
    owner = jobs.select(pl.struct(*(pl.col(k).cast(pl.String) for k in keys)).rank("dense")).to_series()
    code = owner.to_numpy().astype(np.int64) - 1
    if by != "batch":
        return code
    submit_s = jobs["submit_s"].to_numpy()
    order = np.lexsort((np.arange(len(code)), code))  # stable: in order of submission within an owner
    starts = np.ones(len(code), dtype=bool)
    starts[1:] = (np.diff(code[order]) != 0) | (np.diff(submit_s[order]) > gap_s)
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

    Groups are taken in random order; the one that crosses the line is kept if that comes nearer to it. So the
    number of jobs is off by at most half of one group. Batches keep D of their counts (see the module); users
    also keep each user's habits, and are the better choice where many remain.
    """
    if not 0 <= share <= 1:
        raise fail("share", f"{share:g} is not from 0 to 1")
    if share == 1 or not jobs.height:
        return jobs
    group = groups(jobs, by, gap_s)
    size = np.bincount(group)
    order = rng.permutation(len(size))
    reached = np.concatenate(([0], np.cumsum(size[order])))
    taken = int(np.argmin(np.abs(reached - share * jobs.height)))
    keep = np.zeros(len(size), dtype=bool)
    keep[order[:taken]] = True
    return jobs.filter(keep[group])


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
    one.

    Each copy is turned round within *length_s* (default: to the last submission) by whole weeks where there
    are three, else by whole days where there are three, else by any time; what passes the end comes in again
    at 0. A last part that is no whole week or day stays where it is. Identities of
    copies end in ``.1``, ``.2`` and so on, of jobs and of users: more load is more users, not busier ones.
    Recorded starts keep their wait. Jobs that are ``warm`` stay at 0 in every copy.
    """
    import polars as pl

    if not 0 < load < inf:
        raise fail("load", f"{load:g} is not above 0")
    if jobs.height * load > MAX_JOBS:
        raise fail("load", f"{load:g} makes more than {MAX_JOBS:,} jobs")
    if not jobs.height:
        return jobs
    last_s = float(jobs["submit_s"][-1])
    length_s = max(last_s, 1.0) if length_s is None else length_s
    if length_s < last_s:
        raise fail("length_s", f"{length_s:g} s is shorter than the {last_s:g} s to the last submission")
    whole, fraction = divmod(load, 1.0)
    if not whole:
        return thin(jobs, fraction, rng, by=by, gap_s=gap_s)
    unit_s = next((u for u in (7 * DAY_S, DAY_S) if length_s >= 3 * u), length_s)
    units = int(length_s // unit_s)
    turns = rng.permutation(units - 1) + 1 if units > 1 else np.zeros(1)
    parts = [jobs]
    for number in range(1, ceil(load)):
        part = jobs if number < whole else thin(jobs, fraction, rng, by=by, gap_s=gap_s)
        by_s = float(turns[(number - 1) % len(turns)]) * unit_s if units > 1 else rng.uniform(0, length_s)
        named = [pl.col("job_id") + f".{number}"]
        if "user" in part.columns and part["user"].null_count() < part.height:
            named.append((pl.col("user").cast(pl.String) + f".{number}").cast(part.schema["user"]))
        parts.append(_turned(part, units * unit_s, by_s).with_columns(named))
    return pl.concat(parts).sort("submit_s", maintain_order=True)


def _turned(jobs: pl.DataFrame, round_s: float, by_s: float) -> pl.DataFrame:
    """*jobs* before *round_s* turned round in it by *by_s*; later ones and warm ones stay."""
    import polars as pl

    stays = pl.col("submit_s") >= round_s
    if "warm" in jobs.columns:
        stays = stays | pl.col("warm")
    turned = pl.when(stays).then("submit_s").otherwise((pl.col("submit_s") + by_s) % round_s)
    return moved_to(jobs, turned).sort("submit_s", maintain_order=True)


def repeat(
    jobs: pl.DataFrame,
    until_s: float,
    rng: np.random.Generator,
    *,
    every_s: float | None = None,
    load: float = 1.0,
    growth_per_year: float = 0.0,
    by: By = "batch",
) -> pl.DataFrame:
    """*jobs* again and again until *until_s*, one pass every *every_s* (default: whole days to the last job).

    A pass that begins at t has ``load * (1 + growth_per_year) ** (t / year)`` times the jobs
    (:func:`multiply`). Identities of pass k end in ``~k``. Jobs that are ``warm`` are in the first alone.
    """
    import polars as pl

    if not jobs.height:
        return jobs
    if every_s is None:
        every_s = max(1, ceil(float(jobs["submit_s"][-1]) / DAY_S)) * DAY_S
    if not (every_s > 0 and until_s / every_s < MAX_PASSES and growth_per_year > -1):
        raise fail(
            "repeat", f"every {every_s:g} s until {until_s:g} s, growing by {growth_per_year:g} a year"
        )
    length_s = max(every_s, float(jobs["submit_s"][-1]))
    passes: list[pl.DataFrame] = []
    total = 0
    while (begins_s := len(passes) * every_s) < until_s or not passes:
        number = len(passes)
        again = jobs.filter(~pl.col("warm")) if number and "warm" in jobs.columns else jobs
        more = multiply(
            again, load * (1 + growth_per_year) ** (begins_s / YEAR_S), rng, length_s=length_s, by=by
        )
        total += more.height
        if total > MAX_JOBS:
            raise fail("repeat", f"load, repetition and growth make more than {MAX_JOBS:,} jobs")
        passes.append(shift(more, begins_s).with_columns(pl.col("job_id") + f"~{number}") if number else more)
    whole = pl.concat(passes)
    return (whole.sort("submit_s", maintain_order=True)).filter(pl.col("submit_s") < until_s)
