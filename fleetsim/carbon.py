"""The carbon of energy, hour by hour, from a file."""

from __future__ import annotations

import math
from pathlib import Path

from fleetsim.errors import InputError, Problem
from fleetsim.safeyaml import show
from fleetsim_traces.delimited import open_sheet

COLUMNS = ("hour", "g_per_kwh")

#: A hundred years.
MAX_HOURS = 876_000

MAX_PROBLEMS = 20  # of a file, before reading stops


def read_carbon(path: Path) -> tuple[float, ...]:
    """Grams of CO2 per kWh of each hour, of a delimited file with the columns ``hour`` and ``g_per_kwh``.

    Hours are 0, 1, 2 ..., from the start of the scenario. Raises :class:`InputError` with the line of every
    fault (the first 20), and ``TraceError`` for a file that is no table.
    """
    remedy = "A row is an hour and its grams of CO2 per kWh: 0,412.5."
    if not path.stat().st_size:
        raise InputError([Problem(str(path), "an empty file", remedy)])
    sheet = open_sheet(path)
    if sorted(sheet.names) != sorted(COLUMNS):
        message = f"the columns are {', '.join(sheet.names) or 'none'}"
        raise InputError([Problem(f"{path}:1", message, f"They must be {' and '.join(COLUMNS)}.")])
    rows = sheet.rows()
    problems = [Problem(f"{path}:{m.line}", f"{m.fields} fields", remedy) for m in rows.misfits]
    if rows.frame.height > MAX_HOURS:
        message = f"{rows.frame.height:,} hours"
        raise InputError([Problem(str(path), message, f"At most {MAX_HOURS:,}, a hundred years.")])
    hours, grams = (rows.frame[str(sheet.names.index(name))].to_list() for name in COLUMNS)
    found: list[float] = []
    for n, (line, hour, text) in enumerate(zip(rows.frame["line"].to_list(), hours, grams, strict=True)):
        if len(problems) >= MAX_PROBLEMS:
            break
        place = f"{path}:{line}"
        if hour.strip() != str(n) and not rows.misfits:
            problems.append(
                Problem(place, f"hour {show(hour)}", f"It must be {n}: 0, 1, 2 ..., none left out.")
            )
            break  # those after it would all be wrong
        found.append(_grams(text))
        if not 0 <= found[-1] < math.inf:
            problems.append(Problem(place, f"g_per_kwh {show(text)}", "A number, 0 or more."))
    if not found and not problems:
        problems.append(Problem(str(path), "no hour at all", remedy))
    if problems:
        raise InputError(problems[:MAX_PROBLEMS])
    return tuple(found)


def _grams(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
