"""Sweeps: one scenario at all combinations of its axes, each as often as it has replications.

:func:`plan` says which runs that is, and checks them all before any is done.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

from fleetsim import safeyaml
from fleetsim import scenario as scenarios
from fleetsim.errors import InputError, Problem
from fleetsim.safeyaml import Loc
from fleetsim.scenario import Scenario
from fleetsim.streams import stream
from fleetsim.workload import trace_file

#: Runs of one sweep, at most.
MOST_RUNS = 10_000

#: Problems that are said at once.
MOST_PROBLEMS = 100

#: What makes one scenario of each point, whatever the file says.
_ONE = ("axes={}", "replications=1")

#: Keys that cannot be axes, and what to do instead.
_NOT_AXES = {
    "axes": "Name keys of the scenario.",
    "replications": "It is the number of runs of every point.",
    "seed": "Give `replications`: they draw their own seeds.",
    "name": "Runs of a sweep are named after its axes.",
}


@dataclass(frozen=True)
class Point:
    """One combination of the axes' values; ``overrides`` make a scenario of it, as ``--set`` does."""

    number: int
    values: Mapping[str, Any]
    overrides: tuple[str, ...]
    name: str


@dataclass(frozen=True)
class Member:
    """One run of a sweep, in the folder of the name ``folder``."""

    point: int
    replication: int
    seed: int
    folder: str


@dataclass(frozen=True)
class Sweep:
    """A scenario with axes, replications or both, of which every point can be run.

    ``overrides`` are those from outside, without axes and replications, which are those of ``base``.
    """

    text: str
    place: str
    roots: tuple[Path, ...]
    overrides: tuple[str, ...]
    base: Scenario
    points: tuple[Point, ...]

    @cached_property
    def seeds(self) -> list[int]:
        """The seed of each replication, the same at every point."""
        return seeds(self.base.spec.seed, self.base.spec.replications)

    @cached_property
    def members(self) -> list[Member]:
        """All runs: by points, then by replications."""
        return [
            Member(p.number, r, seed, f"{p.name}_r{r}" if p.name else f"r{r}")
            for p in self.points
            for r, seed in enumerate(self.seeds)
        ]

    def words(self, member: Member) -> tuple[str, ...]:
        """The overrides that make *member* of the scenario."""
        return (*self.overrides, *_ONE, *self.points[member.point].overrides, f"seed={member.seed}")

    def scenario(self, member: Member) -> Scenario:
        """The scenario of *member*: what ``fleetsim run`` with these words would run."""
        return scenarios.parse(self.text, self.place, self.words(member), self.roots)


def seeds(seed: int, replications: int) -> list[int]:
    """Seeds of the replications of a scenario: its own first, then one drawn for each number.

    >>> seeds(7, 3)[0], seeds(7, 3) == seeds(7, 5)[:3]
    (7, True)
    """
    drawn = (int(stream(seed, "replication", r).integers(2**53)) for r in range(1, replications))
    return [seed, *drawn]


def plan(
    name: str,
    overrides: Sequence[str] = (),
    roots: Sequence[Path] = (),
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> Sweep | None:
    """The sweep of the scenario *name* with *overrides* (see :func:`fleetsim.scenario.read`).

    None if it has no axes and one replication: then it is one run. Every point is read and checked; *tell*
    hears of how many that is done. Raises :class:`InputError` with the problems of the scenario as it stands
    and of all its points, each once and with the points that have it.
    """
    path = scenarios.find(name)
    return parse(safeyaml.read_text(path), str(path), overrides, (path.parent, *roots), tell)


@dataclass(frozen=True)
class _Source:
    """The text of a scenario, what was said from outside, and where each axis stands."""

    text: str
    place: str
    overrides: tuple[str, ...]
    roots: tuple[Path, ...]
    places: Mapping[Loc, str]

    @cached_property
    def others(self) -> tuple[str, ...]:
        """The overrides but those of axes and replications."""
        keys = ("axes", "replications")
        return tuple(o for o in self.overrides if o.partition("=")[0].strip() not in keys)

    def read(self, overrides: Sequence[str]) -> Scenario:
        """The scenario with *overrides*. Raises :class:`InputError`."""
        return scenarios.parse(self.text, self.place, overrides, self.roots)

    def where(self, *loc: str | int) -> str:
        """``file:line:column axes.path[i]`` of an axis or of one of its values."""
        where = next((self.places[loc[:n]] for n in range(len(loc), -1, -1) if loc[:n] in self.places), "")
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in loc)
        return f"{where} axes{path}".strip()


def parse(
    text: str,
    place: str,
    overrides: Sequence[str] = (),
    roots: Sequence[Path] = (),
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> Sweep | None:
    """The sweep of a scenario's *text*, which *place* names in messages: see :func:`plan`."""
    raw, located = safeyaml.load_located(text, place)
    said: dict[str, Any] = {**raw} if isinstance(raw, dict) else {}
    places = {loc[1:]: where for loc, where in located.items() if loc[:1] == ("axes",)}
    for override in overrides:
        path, _, value = override.partition("=")
        if path.strip() in ("axes", "replications"):
            said[path.strip()] = safeyaml.load_yaml(value, f"--set {override}")
            if path.strip() == "axes":
                places = {(): "--set axes"}
    if not said.get("axes") and said.get("replications", 1) == 1:
        return None
    source = _Source(text, place, tuple(overrides), tuple(roots), places)
    base: Scenario | None = None
    problems: list[Problem] = []
    try:
        base = source.read(overrides)
    except InputError as error:
        problems += error.problems
    axes = said.get("axes") or {}
    if isinstance(axes, dict) and all(isinstance(values, list) for values in axes.values()):
        faults = [*_axis_faults(axes, source, raw)]
        runs = prod(map(len, axes.values())) * (base.spec.replications if base else 1)
        if runs > MOST_RUNS:
            remedy = f"At most {MOST_RUNS:,}: take fewer values or replications."
            faults.append(Problem(source.where(), f"{runs:,} runs", remedy))
        if not faults:
            points = [*_points(axes)]
            problems = _merged(problems, points, source, tell)
            if not problems and base is not None:
                return Sweep(text, place, base.roots, source.others, base, tuple(points))
        problems += faults
    raise InputError(few(problems))


def few(problems: Sequence[Problem]) -> list[Problem]:
    """The first :data:`MOST_PROBLEMS`, and how many more there are: thousands of points are no reading."""
    shown = list(problems[:MOST_PROBLEMS])
    if more := len(problems) - len(shown):
        shown.append(Problem("sweep", f"and {more:,} more problems", "See to these first."))
    return shown


def _axis_faults(axes: Mapping[str, list[Any]], source: _Source, raw: object) -> Iterator[Problem]:
    """What is wrong with the axes themselves."""
    for path, values in axes.items():
        place = source.where(path)
        if not values:
            yield Problem(place, "has no values", "Give it at least one, or leave it out.")
        for value, count in Counter(map(_canonical, values)).items():
            if count > 1:
                yield Problem(place, f"has the value {value} {count} times", "Give each value once.")
    keys = [(axis, key, _steps(raw, key)) for axis in axes for key in paths(axis)]
    for n, (axis, key, steps) in enumerate(keys):
        place = source.where(axis)
        if steps[0] in _NOT_AXES:
            yield Problem(place, f"{key} cannot be an axis", _NOT_AXES[str(steps[0])])
        for _, other, theirs in (*keys[:n], *keys[n + 1 :]):
            if steps[: len(theirs)] == theirs:
                what = "is" if steps == theirs else "lies within"
                yield Problem(place, f"{key} {what} {other}, which is swept too", "Sweep one of the two.")
        for override in source.others:
            if _steps(raw, override.partition("=")[0].strip())[: len(steps)] == steps:
                remedy = "Leave one of the two out; --set axes={} takes all axes away."
                yield Problem(f"--set {override}", f"is on the axis {axis}", remedy)


def paths(axis: str) -> list[str]:
    """The keys that an axis sets to one value: mostly one; with commas between them, several.

    >>> paths("workloads.a.load, workloads.b.load")
    ['workloads.a.load', 'workloads.b.load']
    """
    return [path.strip() for path in axis.split(",")]


def _steps(raw: object, path: str) -> Loc:
    """*path* with the names of a list's elements as their indexes, so that one key has one way to it."""
    steps: list[str | int] = []
    for step in path.split("."):
        key: str | int = step
        if isinstance(raw, list):
            names = [e.get("name") if isinstance(e, dict) else None for e in raw]
            key = names.index(step) if step in names else int(step) if step.isdecimal() else step
            raw = raw[key] if isinstance(key, int) and key < len(raw) else None
        else:
            raw = raw.get(step) if isinstance(raw, dict) else None
        steps.append(key)
    return tuple(steps)


def _points(axes: Mapping[str, list[Any]]) -> Iterator[Point]:
    """All combinations, the last axis fastest."""
    labels = axis_labels(list(axes))
    for number, chosen in enumerate(itertools.product(*axes.values())):
        values = dict(zip(axes, chosen, strict=True))
        name = "_".join(f"{_safe(labels[path])}-{_slug(value)}" for path, value in values.items())
        if len(name) > 120:
            name = f"{name[:100]}-{_digest(name)}"
        words = tuple(word for axis, value in values.items() for word in _words(axis, value))
        yield Point(number, values, words, name)


def _words(axis: str, value: Any) -> list[str]:
    """The overrides that give *axis* its *value*."""
    return [f"{path}={json.dumps(value, ensure_ascii=False)}" for path in paths(axis)]


def axis_labels(axes: Sequence[str]) -> dict[str, str]:
    """A short name of each axis: the last steps of its keys, as many as tell it from the others.

    >>> axis_labels(["workloads.a.load", "workloads.b.load", "retirement.rule"])
    {'workloads.a.load': 'a.load', 'workloads.b.load': 'b.load', 'retirement.rule': 'rule'}
    >>> axis_labels(["workloads.a.load, workloads.b.load"])
    {'workloads.a.load, workloads.b.load': 'load'}
    """
    labels = {}
    for axis in axes:
        first, *more = paths(axis)
        steps = first.split(".")
        ends = [".".join(steps[-n:]) for n in range(1, len(steps) + 1)]
        ends = [end for end in ends if all(f".{path}".endswith(f".{end}") for path in more)]
        ends.append("+".join(path.rpartition(".")[2] for path in (first, *more)))
        others = [f".{path}" for other in axes if other != axis for path in paths(other)]
        labels[axis] = next((e for e in ends if not any(o.endswith(f".{e}") for o in others)), axis)
    return labels


def shown(value: Any) -> str:
    """A value of an axis for people, as YAML has it in a line.

    >>> shown(0.5), shown("fifo"), shown([{"rule": "slot", "sell": False}, None])
    ('0.5', 'fifo', '[{rule: slot, sell: false}, null]')
    """
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {shown(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    return value if isinstance(value, str) else json.dumps(value)


def _canonical(value: Any) -> str:
    """*value* as text that is the same for values that mean the same: 1 and 1.0, but not true."""

    def plain(part: Any) -> Any:
        if isinstance(part, float) and part.is_integer():
            return int(part)
        if isinstance(part, list):
            return list(map(plain, part))
        return {k: plain(v) for k, v in part.items()} if isinstance(part, dict) else part

    return json.dumps(plain(value), sort_keys=True, ensure_ascii=False)


def _slug(value: Any) -> str:
    """*value* as part of a file name: readable, and different for values that differ.

    >>> _slug(0.5), _slug(2.0), _slug("fixed_age"), _slug({"rule": "slot"})
    ('0.5', '2', 'fixed_age', 'rule-slot-a17f29')
    """
    text = _canonical(value)
    if isinstance(value, (int, float)) or value is None:  # true and false are int
        return text
    if isinstance(value, str) and re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,39}", value):
        try:
            if safeyaml.load_yaml(value, "") == value:  # else it reads like a number, or null
                return value
        except InputError:
            pass
    return f"{_safe(text)}-{_digest(text)}".lstrip("-")


def _safe(text: str) -> str:
    return re.sub(r"[^a-z0-9._]+", "-", text.lower())[:24].strip("-._")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def _merged(
    known: Sequence[Problem], points: Sequence[Point], source: _Source, tell: Callable[[int, int], None]
) -> list[Problem]:
    """The problems of all points, each once: those of the scenario as it stands (*known*) first."""
    found: dict[Problem, list[str]] = {problem: [] for problem in known}
    everywhere = set(known)
    for point in points:
        for problem in _problems(point, source):
            found.setdefault(problem, []).append(point.name)
        tell(point.number + 1, len(points))
    return [
        problem if problem in everywhere or len(names) == len(points) else _of(problem, names)
        for problem, names in found.items()
    ]


def _problems(point: Point, source: _Source) -> list[Problem]:
    """What is wrong with one point; a trace must be there, but is not read."""
    try:
        read = source.read((*source.others, *_ONE, *point.overrides))
    except InputError as error:
        return [_at_axis(problem, point, source) for problem in error.problems]
    problems: list[Problem] = []
    for i, workload in enumerate(read.spec.workloads):
        if workload.trace is not None:
            try:
                trace_file(read, workload.trace, f"{source.place} workloads[{i}]")
            except InputError as error:
                problems += error.problems
    return problems


def _at_axis(problem: Problem, point: Point, source: _Source) -> Problem:
    """*problem* with the place of the axis, where it is one of a value that the axis has set."""
    for axis, value in point.values.items():
        if any(problem.place.startswith(f"--set {word}") for word in _words(axis, value)):
            where = f"{source.where(axis)} = {safeyaml.show(value)}"
            return Problem(where, problem.message, problem.remedy)
    return problem


def _of(problem: Problem, names: Sequence[str]) -> Problem:
    """*problem* with the points that have it."""
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    what = "points" if len(names) > 1 else "point"
    message = f"{problem.message} ({what} {', '.join(names[:3])}{more})"
    return Problem(problem.place, message, problem.remedy)
