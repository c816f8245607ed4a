"""Observed lives from a CSV or Parquet file, and what ``fleetsim lifetimes`` tells about them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fleetsim.errors import InputError, Problem
from fleetsim.life.survival import (
    LEVEL,
    HazardByAge,
    Lives,
    Survival,
    WeibullFit,
    fit_weibull,
    hazard_by_age,
    kaplan_meier,
)
from fleetsim.safeyaml import suggest
from fleetsim.units import UNIT_S, YEAR_S, duration_s, streamline
from fleetsim.words import MAX_SPAN_Y
from fleetsim_traces.delimited import Misfit, open_sheet
from fleetsim_traces.doors import choice, guarded
from fleetsim_traces.errors import TraceError
from fleetsim_traces.mapped import numbered
from fleetsim_traces.parquet import is_parquet, open_file, read_table
from fleetsim_traces.rows import BadRows, Check, Draft, sift
from fleetsim_traces.text import shorten
from fleetsim_traces.times import number

if TYPE_CHECKING:
    import polars as pl

MOST_GROUPS = 20  # told apart in a picture by colour and dashes
MOST_BANDS = 500
NO_GROUP = "(none)"
#: Of bands and intervals, for people.
PERCENT = f"{100 * LEVEL:.0f} %"
_YES, _NO = ("true", "t", "yes", "y", "1", "1.0"), ("false", "f", "no", "n", "0", "0.0")


@dataclass(frozen=True)
class Columns:
    """Which columns of a file say what; *unit* (s, h, d or y) is that of durations and entries."""

    duration: str
    dead: str
    group: str | None = None
    entry: str | None = None
    unit: str = "s"

    def named(self) -> dict[str, str]:
        """The column of each part that has one."""
        parts = {"duration": self.duration, "dead": self.dead, "group": self.group, "entry": self.entry}
        return {part: name for part, name in parts.items() if name is not None}


@dataclass(frozen=True)
class Observed:
    """The lives of a file by group, in order of name (one group "all" without a column of groups)."""

    groups: Mapping[str, Lives]
    rows_read: int
    rejected: Mapping[str, int]


@dataclass(frozen=True)
class Group:
    """What is made of the lives of a group. *weibull* is None where there is no fit, as *no_fit* says."""

    name: str
    lives: Lives
    survival: Survival
    hazard: HazardByAge
    weibull: WeibullFit | None
    no_fit: str


def read_lives(path: str | Path, columns: Columns, *, bad_rows: str = "refuse") -> Observed:
    """Read the CSV (plain or packed) or Parquet file at *path*.

    A duration is the age at which a life ended or was last seen; an entry is the age from which it was
    watched (default 0). The column of the dead holds true or false, yes or no, 1 or 0, in any case; lives
    without a group are "(none)". Raises ``TraceError`` with every fault: columns that are missing or have
    two parts to play, and rows, unless *bad_rows* is ``drop``.
    """
    return guarded(_read, Path(path), {"columns": columns, "bad_rows": choice(bad_rows)})


def _read(path: Path, *, columns: Columns, bad_rows: BadRows) -> Observed:
    import polars as pl

    given = columns.named()
    cells, misfits, fields = _cells(path, given)
    made: list[pl.Expr] = [pl.col("line")]
    for part in given:
        raw = pl.col(part).cast(pl.String).fill_null("")
        made.append(raw.alias(f"{part}:raw"))
        if part in ("duration", "entry"):
            made.append((number(raw) * UNIT_S[columns.unit]).alias(part))
        elif part == "dead":
            word = raw.str.strip_chars().str.to_lowercase()
            made.append(pl.when(word.is_in(_YES)).then(True).when(word.is_in(_NO)).then(False).alias(part))
        else:
            made.append(raw.str.strip_chars().replace("", NO_GROUP).alias(part))
    frame = cells.select(made)
    draft = Draft(path, "lives", frame, checks=_checks(given, columns.unit), misfits=misfits, fields=fields)
    found = sift(draft, bad_rows, (), (), None, "lives")
    return Observed(_grouped(path, found.frame, columns), found.rows_read, found.rejected)


def _cells(path: Path, given: Mapping[str, str]) -> tuple[pl.DataFrame, list[Misfit], int]:
    """The columns of the file under the names of their parts, and ``line``."""
    import polars as pl

    if not is_parquet(path):
        sheet = open_sheet(path)
        _require(f"{path}:1", given, sheet.names)
        rows = sheet.rows(list(given.values()))
        places = {part: str(sheet.names.index(name)) for part, name in given.items()}
        frame = rows.frame.select("line", *(pl.col(place).alias(part) for part, place in places.items()))
        return frame, rows.misfits, len(sheet.names)
    with open_file(path) as file:
        names = file.schema_arrow.names
        _require(str(path), given, names)
        cells = numbered(pl.DataFrame(pl.from_arrow(read_table(path, file, list(given.values())))))
    cells = cells.rename({str(i): part for i, part in enumerate(given)})
    problems = [
        Problem(str(path), f"column {shorten(name)} holds {kind}", "Numbers, text and booleans can be read.")
        for part, name in given.items()
        if not ((kind := cells.schema[part]).is_numeric() or kind in (pl.String, pl.Boolean))
    ]
    if problems:
        raise TraceError(problems)
    return cells, [], len(given)


def _require(place: str, given: Mapping[str, str], present: Sequence[str]) -> None:
    """Raise TraceError unless each part has a column of its own that is there once."""
    problems, has = [], f"It has: {', '.join(present[:30])}{', ...' if len(present) > 30 else ''}."
    for part, name in given.items():
        if name not in present:
            remedy = f"{suggest(name, present)}Name it with --{part}. {has}"
            problems.append(Problem(place, f"no column {shorten(name)} (--{part})", remedy))
        elif present.count(name) > 1:
            problems.append(Problem(place, f"two columns are called {shorten(name)}", "Rename one."))
    for part, other in ((a, b) for a in given for b in given if a < b and given[a] == given[b]):
        message = f"--{part} and --{other} both name column {shorten(given[part])}"
        problems.append(Problem(place, message, "Name a column for each."))
    if problems:
        raise TraceError(problems)


def _checks(given: Mapping[str, str], unit: str) -> list[Check]:
    import polars as pl

    checks: list[Check] = []

    def check(part: str, fault: str, bad: pl.Expr, remedy: str = "") -> None:
        checks.append(Check(f"{shorten(given[part])} {fault}", f"{part}:raw", bad, remedy))

    for part, hint in (("duration", ""), ("entry", "Write 0 where a life is known from its beginning.")):
        if part not in given:
            continue
        value, empty = pl.col(part), pl.col(f"{part}:raw").str.strip_chars() == ""
        check(part, "is missing", empty, hint)
        check(part, "is not a number", value.is_null(), f"Write a number ({unit}).")
        check(part, "is not finite", ~value.is_finite(), f"Write a number ({unit}).")
        long = value > MAX_SPAN_Y * YEAR_S
        check(part, f"is over {MAX_SPAN_Y:,} years", long, f"Is the unit right (--unit {unit})?")
    check("duration", "is not above 0", pl.col("duration") <= 0, "A life has a length: leave the row out.")
    if "entry" in given:
        check("entry", "is negative", pl.col("entry") < 0, "Write the age at which watching began.")
        late = pl.col("entry") >= pl.col("duration")
        check("entry", "is not before the end of its life", late, "Both count from the beginning of life.")
    check("dead", "is neither true nor false", pl.col("dead").is_null(), "Write true or false, or 1 or 0.")
    return checks


def _grouped(path: Path, frame: pl.DataFrame, columns: Columns) -> dict[str, Lives]:
    import polars as pl

    if columns.group is None:
        frame = frame.with_columns(pl.lit("all").alias("group"))
    if columns.entry is None:
        frame = frame.with_columns(pl.lit(0.0).alias("entry"))
    names = frame["group"].unique().sort().to_list()
    if len(names) > MOST_GROUPS:
        message = f"column {shorten(columns.group)} has {len(names):,} different groups"
        raise TraceError([Problem(str(path), message, f"Name one with {MOST_GROUPS} or fewer (--group).")])
    parts = {name: frame.filter(pl.col("group") == name) for name in names}
    return {
        name: Lives(*(part[column].to_numpy() for column in ("duration", "dead", "entry")))
        for name, part in parts.items()
    }


def analyse(observed: Observed, band_s: float) -> list[Group]:
    """Survival, hazard in age bands of *band_s* (s) and Weibull fit of each group.

    Raises ``InputError`` where that makes more than :data:`MOST_BANDS` bands.
    """
    longest_s = max(float(lives.age_s.max()) for lives in observed.groups.values())
    if longest_s / band_s > MOST_BANDS:
        message = f"{longest_s / band_s:,.0f} age bands up to {span(math.ceil(longest_s))}"
        remedy = f"Make {MOST_BANDS} or fewer: choose longer ones, such as {_round_band(longest_s)}."
        raise InputError([Problem("--bin", message, remedy)])
    groups = []
    for name, lives in observed.groups.items():
        bands = math.ceil(float(lives.age_s.max()) / band_s)
        fit, no_fit = None, ""
        try:
            fit = fit_weibull(lives)
        except ValueError as error:
            no_fit = str(error)
        hazard = hazard_by_age(lives, [band_s * i for i in range(bands + 1)])
        groups.append(Group(name, lives, kaplan_meier(lives), hazard, fit, no_fit))
    return groups


def _round_band(longest_s: float) -> str:
    """The shortest of some usual age bands that makes 50 bands or fewer."""
    usual = ("1min", "10min", "1h", "6h", "1d", "1w", "1mo", "3mo", "6mo", "1y", "5y", "20y")
    return next(text for text in usual if longest_s / duration_s(text) <= 50)


def span(seconds: float) -> str:
    """A duration as scenarios write it, read back as the same number of seconds.

    >>> span(0), span(47304000), span(100), span(0.5)
    ('0', '1y6mo', '1min40s', '0.5s')
    """
    whole, rest = divmod(seconds, 1)
    text = ""
    for unit in ("y", "mo", "d", "h", "min"):
        count, whole = divmod(whole, UNIT_S[unit])
        text += f"{count:.0f}{unit}" if count else ""
    if whole or rest:
        text += f"{np.format_float_positional(whole + rest, trim='-')}s"
    return text or "0"


#: Heads of :func:`band_rows`.
HEADS = ("age", "at risk", "deaths", "years", f"%/year ({PERCENT})", f"% survive ({PERCENT})")


def band_rows(group: Group) -> list[list[str]]:
    """A row of text under :data:`HEADS` for each age band in which some of *group* were watched.

    Lives watched at its beginning, deaths and years watched in it, failures per year with their interval,
    and the share that survives its end (or the age of the last that was watched), with its band.
    """
    table = group.hazard
    alive, low, high = group.survival.at(np.minimum(table.to_s, group.lives.age_s.max()))

    def percent(share: float, digits: int) -> str:
        return f"{100 * share:,.{digits if share < 1 else 0}f}"

    return [
        [
            f"{span(table.from_s[i])}-{span(table.to_s[i])}",
            f"{table.at_risk[i]:,}",
            f"{table.deaths[i]:,}",
            streamline(table.exposure_s[i] / YEAR_S),
            f"{percent(table.per_year[i], 2)} ({percent(table.low[i], 2)}-{percent(table.high[i], 2)})",
            f"{percent(alive[i], 1)} ({percent(low[i], 1)}-{percent(high[i], 1)})",
        ]
        for i in np.flatnonzero(table.exposure_s > 0)
    ]


def headlines(group: Group) -> list[str]:
    """What there is to say about *group* in a line or two: how many, how long, which Weibull."""
    lives, fit = group.lives, group.weibull
    median, low, high = (x / YEAR_S for x in group.survival.median_s())
    told = "not reached"
    if median < math.inf:
        told = f"{_years(median)} ({_years(low)} {f'to {_years(high)}' if high < math.inf else 'or later'})"
    lines = [
        f"{len(lives):,} {'life' if len(lives) == 1 else 'lives'}, {lives.deaths:,} "
        f"{'death' if lives.deaths == 1 else 'deaths'} in "
        f"{streamline(lives.exposure_s / YEAR_S)} years watched; median life {told}"
    ]
    if fit is None:
        return [*lines, f"no Weibull fit: {group.no_fit}"]
    scale, error = (x / YEAR_S for x in (fit.scale_s, fit.scale_std_error_s))
    return [
        *lines,
        f"Weibull fit: shape {fit.shape:.3g} ± {_short(fit.shape_std_error)}, scale {streamline(scale)} ± "
        f"{_short(error)} y (standard errors); mean life {_years(fit.mean_s / YEAR_S)}",
    ]


def _years(years: float) -> str:
    return f"{streamline(years)} y"


def _short(number: float) -> str:
    """Two significant digits."""
    return streamline(float(f"{number:.2g}"))


def facts(group: Group) -> dict[str, Any]:
    """All that is known of *group* as plain values; ages in s, rates per year, None where unknown."""
    median_s, low_s, high_s = group.survival.median_s()
    fit = group.weibull
    return {
        "group": group.name,
        "lives": len(group.lives),
        "deaths": group.lives.deaths,
        "exposure_years": group.lives.exposure_s / YEAR_S,
        "median_s": _plain(median_s),
        "median_low_s": _plain(low_s),
        "median_high_s": _plain(high_s),
        "weibull": None if fit is None else {**asdict(fit), "mean_s": fit.mean_s, "median_s": fit.median_s},
        "no_weibull": group.no_fit or None,
        "hazard_by_age": _columns(group.hazard),
        "kaplan_meier": _columns(group.survival),
    }


def _columns(table: HazardByAge | Survival) -> dict[str, list[Any]]:
    return {
        name: [_plain(x) for x in column.tolist()] for name, column in vars(table).items() if name != "level"
    }


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


#: What the figures of :func:`facts` mean.
DEFINITIONS = {
    "lives": "rows of the file",
    "deaths": "lives whose end was seen; the others are right-censored at their duration",
    "exposure_years": "time under observation of all lives together, years of 365 days",
    "median_s": f"first age (s) at which at most half survive, with the {PERCENT} ends where the band "
    "crosses one half; null: not reached",
    "weibull": "survival exp(-(age / scale)**shape), maximum likelihood, standard errors from the observed "
    "information",
    "hazard_by_age": "in age bands over from_s up to to_s: per_year is deaths / exposure_s in failures per "
    f"year, low and high its exact Poisson interval ({PERCENT}, Garwood); at_risk are lives watched just "
    "after from_s; null: nobody was watched",
    "kaplan_meier": "from each age of a death (age_s) to the next: survival, its Greenwood standard error, "
    f"the pointwise {PERCENT} band low to high (log-log), and the Nelson-Aalen cumulative hazard",
}
