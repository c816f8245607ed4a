"""One reading of one scenario file: its problems, each with its place, and the overrides from outside."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from fleetsim import safeyaml
from fleetsim.catalog import GpuModel, load_catalog
from fleetsim.errors import InputError, Problem
from fleetsim.spec import ScenarioSpec
from fleetsim.words import Spec

Loc = tuple[str | int, ...]

#: Where, what, and what would be right.
Fault = tuple[Loc, str, str]

S = TypeVar("S", bound=Spec)


class Reading:
    """Collects the problems of the scenario *raw*, of which *places* says where in the file its parts stand.

    Messages call the file *place*. Files that the scenario names may lie in *roots*.
    """

    def __init__(
        self, raw: dict[str, Any], place: str, places: Mapping[Loc, str], roots: Sequence[Path]
    ) -> None:
        self.raw = raw
        self.place = place
        self.roots = tuple(roots)
        self.problems: list[Problem] = []
        self.faulty: frozenset[str] = frozenset()  # sections of which some part is not right in itself
        self._places = dict(places)

    def fault(self, loc: Loc, message: str, remedy: str = "") -> None:
        self.problems.append(Problem(self.where(loc), message, remedy))

    def faults(self, found: Iterable[Fault]) -> None:
        for loc, message, remedy in found:
            self.fault(loc, message, remedy)

    def where(self, loc: Loc) -> str:
        """``file:line:column path`` of *loc*, or of its nearest parent that stands in the file."""
        nearest = (self._places[loc[:n]] for n in range(len(loc), -1, -1) if loc[:n] in self._places)
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in loc).lstrip(".")
        return f"{next(nearest, self.place)} {path}".rstrip()

    def model(self, loc: Loc, name: str) -> GpuModel | None:
        """The model *name* of the catalogue; None and a problem if there is none."""
        try:
            return load_catalog().find(name, self.where(loc))
        except InputError as error:
            self.problems += error.problems
            return None

    def spec(self) -> ScenarioSpec | None:
        """The scenario as specified; None and problems if anything is wrong in itself."""
        try:
            return ScenarioSpec.model_validate(self.raw)
        except ValidationError as error:
            found: dict[Loc, Any] = {}
            for fault in error.errors(include_url=False):
                found.setdefault(self._loc(fault), fault)  # of the branches of a union, the first
        self.faulty = frozenset(str(loc[0]) for loc in found)
        outer = {loc[:n] for loc in found for n in range(len(loc))}
        for loc, fault in found.items():
            if not (loc in outer and isinstance(fault["input"], dict)):  # else a branch of mappings says more
                self.fault(loc, *_explain(fault, loc))
        return None

    def valid(self, section: str, kind: type[S]) -> dict[int, S]:
        """The elements of a section that are right in themselves, by their index."""
        elements = self.raw.get(section)
        adapter = TypeAdapter(kind)
        found: dict[int, S] = {}
        for i, element in enumerate(elements if isinstance(elements, list) else []):
            try:
                found[i] = adapter.validate_python(element)
            except ValidationError:
                continue  # reported with the whole
        return found

    def one(self, section: str, kind: type[S]) -> S | None:
        """A section that is a mapping; None if it is not there, or not right in itself."""
        try:
            return TypeAdapter(kind).validate_python(self.raw.get(section))
        except ValidationError:
            return None  # reported with the whole, or left out

    def names(self, section: str) -> list[str]:
        """The names of the elements of a section, right or not."""
        elements = self.raw.get(section)
        return [
            str(e["name"])
            for e in (elements if isinstance(elements, list) else [])
            if isinstance(e, dict) and "name" in e
        ]

    def override(self, text: str) -> None:
        """Apply ``path=value``: steps are keys, list indexes, or the ``name`` of a list's element."""
        path, sign, value = text.partition("=")
        place = f"--set {text}"

        def problem(message: str, remedy: str = "", at: str = place) -> None:
            self.problems.append(Problem(at, message, remedy))

        if not sign or not path:
            problem("not of the form path=value", "For example: --set cohorts.a100.nodes=4")
            return
        steps = path.strip().split(".")
        if len(steps) > safeyaml.MAX_DEPTH:
            at_most = f"At most {safeyaml.MAX_DEPTH}."
            problem(f"a path of {len(steps)} steps", at_most, f"--set {path[:40]}...")
            return
        at: Any = self.raw
        loc: Loc = ()
        for n, step in enumerate(steps):
            last = n == len(steps) - 1
            key: str | int = step
            if isinstance(at, list):
                names = [e.get("name") if isinstance(e, dict) else None for e in at]
                if step in names:
                    key = names.index(step)
                elif step.isdecimal() and int(step) < len(at):
                    key = int(step)
                else:
                    known = ", ".join(str(name) for name in names if name) or f"0 to {len(at) - 1}"
                    problem(f"no element {step!r} in {'.'.join(steps[:n])}", f"There are: {known}.")
                    return
            elif isinstance(at, dict):
                if not last and step not in at:
                    at[step] = {}
                    self._places[(*loc, step)] = place
            else:
                problem(f"{'.'.join(steps[:n])} holds no keys")
                return
            loc = (*loc, key)
            if last:
                try:
                    at[key] = safeyaml.load_yaml(value, place)
                except InputError as error:
                    self.problems += error.problems
                for stale in [known for known in self._places if known[: len(loc)] == loc]:
                    del self._places[stale]  # what stood there and below it in the file
                self._places[loc] = place
            else:
                at = at[key]

    def _loc(self, fault: Any) -> Loc:
        """Where a pydantic error belongs: in the file there are no steps for the branches of a union."""
        at: Any = self.raw
        loc: Loc = ()
        *steps, last = fault["loc"]  # never empty: the scenario is a mapping
        for step in steps:
            if isinstance(step, int) or (isinstance(at, dict) and step in at):
                loc = (*loc, step)
                at = at[step]
        there = isinstance(last, int) or fault["type"] == "missing" or (isinstance(at, dict) and last in at)
        return (*loc, last) if there else loc


def locate(roots: Sequence[Path], name: str) -> Path | None:
    """The file or folder *name* in one of *roots*, where it must lie whatever links say; None if nowhere."""
    for root in roots:
        try:
            path = (root / name).resolve()
            found = path.exists()
        except (OSError, RuntimeError, ValueError):  # a loop of links, a name too long, a null byte
            continue
        if found and any(path.is_relative_to(allowed) for allowed in roots):
            return path
    return None


def beside(roots: Sequence[Path]) -> str:
    """Where files that a scenario names may lie, for a message."""
    looked = ", ".join(map(str, roots)) or "none"
    return f"It lies beside its scenario or in a folder given with --traces (looked in: {looked})."


def unknown(what: str, name: str, known: Sequence[str]) -> tuple[str, str]:
    """Message and remedy of a *name* that is none of the *known* ones."""
    remedy = f"{safeyaml.suggest(name, known)}{what.capitalize()}s are: {', '.join(known)}."
    return f"no {what} {name!r}", remedy


def unknown_model(loc: Loc, name: str) -> Iterator[Fault]:
    """The fault if *name* is no model of the catalogue."""
    try:
        load_catalog().find(name, "")
    except InputError as error:
        yield from ((loc, f"{p.place} {p.message}".strip(), p.remedy) for p in error.problems)


def _explain(fault: Any, loc: Loc) -> tuple[str, str]:
    """Message and remedy of one pydantic error, which belongs to *loc*."""
    kind, context = fault["type"], fault.get("ctx", {})
    shown = safeyaml.show(fault["input"])
    match kind:
        case "extra_forbidden":
            known = _keys_at(fault["loc"][:-1])
            remedy = f"{safeyaml.suggest(str(fault['loc'][-1]), known)}Known: {', '.join(known)}."
            return "unknown key", remedy
        case "missing":
            return "missing", "Give it a value; `fleetsim scenario schema` lists every key."
        case "value_error":
            return str(context["error"]), ""
        case "too_short":
            return f"needs at least {context['min_length']} item, not {shown}", ""
        case "model_type":
            return f"a mapping of keys is needed, not {shown}", "Write {name: ..., ...}."
        case "string_type" | "float_type" if loc != tuple(fault["loc"]):
            return f"a number or a text with units is needed, not {shown}", "For example: 90d, 36h, 1y6mo."
        case "string_pattern_mismatch" if fault["loc"][-1] != "[key]":
            return f"{shown} is not a name", "Use letters, digits, '-', '_' and '.', 63 at most."
        case "string_pattern_mismatch":
            return f"{shown} is no key of this mapping", f"Its keys match {context['pattern']}."
        case _:
            return f"{fault['msg'][:1].lower()}{fault['msg'][1:]}, not {shown}", ""


def _keys_at(loc: Sequence[str | int]) -> list[str]:
    """Keys that the specification knows at *loc*."""
    spec: type[Spec] = ScenarioSpec
    for step in loc:
        if isinstance(step, str) and step in spec.model_fields:
            spec = next(_specs_in(spec.model_fields[step].annotation))
    return list(spec.model_fields)


def _specs_in(annotation: Any) -> Iterator[type[Spec]]:
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _specs_in(part)
