"""The catalogue of GPU models: what a fleet can be built from, with the source of every figure.

``seeds/catalog/gpu-models.yaml`` holds the data; ``seeds/README.md`` says how to add a model. Faults of a row
are raised when it is asked for: a broken one does not stop a scenario that leaves it alone.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache
from typing import Any, TypeGuard

from fleetsim.assets import folder
from fleetsim.errors import InputError, Problem
from fleetsim.gpu_model import COOLING, ESTIMATE, FIGURES, Figure, GpuModel, RentalPrice
from fleetsim.safeyaml import Loc, load_located, read_text, show, suggest

__all__ = [
    "ESTIMATE",
    "FIGURES",
    "Catalog",
    "Figure",
    "GpuModel",
    "RentalPrice",
    "load_catalog",
    "parse_catalog",
]

SCHEMA = "fleetsim-gpu-catalogue/1"
_TYPES = {f.name: str(f.type) for f in fields(GpuModel) if f.name not in ("sources", "remarks")}


class Catalog(Mapping[str, GpuModel]):
    """GPU models by id, in the order of the file. Asking for a row with faults raises :class:`InputError`.

    ``sources`` and ``price_kinds`` say what the keys in the rows stand for.
    """

    def __init__(
        self,
        rows: Mapping[str, GpuModel | list[Problem]],
        sources: Mapping[str, str],
        kinds: Mapping[str, str],
    ) -> None:
        self._rows, self.sources, self.price_kinds = rows, sources, kinds

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, model_id: object) -> bool:
        return model_id in self._rows  # with faults or without

    def __getitem__(self, model_id: str) -> GpuModel:
        if isinstance(row := self._rows[model_id], list):
            raise InputError(row)
        return row

    def find(self, model_id: str, place: str) -> GpuModel:
        """Return the model *model_id*, which the input at *place* asks for.

        Raises :class:`InputError`: at *place* if there is no such model, with the nearest ids; at its row in
        the catalogue for everything there that cannot be right.
        """
        if model_id in self:
            return self[model_id]
        remedy = f"{suggest(model_id, self)}List them with `fleetsim gpu list`."
        raise InputError([Problem(place, f"unknown GPU model {show(model_id)}", remedy)])


@cache
def load_catalog() -> Catalog:
    """Return the catalogue that ships with fleetsim, read once; errors as in :func:`parse_catalog`."""
    path = folder("seeds") / "catalog" / "gpu-models.yaml"
    return parse_catalog(read_text(path), str(path))


def parse_catalog(text: str, place: str) -> Catalog:
    """Return the catalogue written in *text*; *place* names it in messages.

    Raises :class:`InputError` for faults of the whole: not YAML, another schema, unknown parts, no list of
    rows, a row without an id, equal ids. Faults inside a row are raised when that row is asked for.
    """
    document, places = load_located(text, place)
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise InputError([Problem(place, "not a GPU catalogue", f"Start it with 'schema: {SCHEMA}'.")])
    problems: list[Problem] = []

    def fault(message: str, remedy: str, *loc: str | int) -> None:
        problems.append(Problem(places.get(loc, place), message, remedy))

    for part in document:
        if part not in ("schema", "sources", "price_kinds", "models"):
            fault(f"unknown part {show(part)}", "There are schema, sources, price_kinds and models.", part)
    for part in ("sources", "price_kinds"):
        table = document.get(part)
        if not isinstance(table, dict) or not all(isinstance(meaning, str) for meaning in table.values()):
            fault(f"{part} is not a table of texts", "Write 'key: text' lines, numbers quoted.", part)
    rows = document.get("models")
    if not isinstance(rows, list) or not rows:
        fault("models is not a list of rows", "Start each row with '- id: name'.", "models")
        rows = []
    where: dict[str, int] = {}
    for index, row in enumerate(rows):
        model_id = row.get("id") if isinstance(row, dict) else row
        if not isinstance(row, dict) or not isinstance(model_id, str) or not model_id:
            fault(f"a row with the id {show(model_id)}", "Start it with '- id: name'.", "models", index)
        elif (first := where.setdefault(model_id, index)) != index:
            remedy = f"The first is at {places['models', first]}."
            fault(f"id {show(model_id)} for the second time", remedy, "models", index)
    if problems:
        raise InputError(problems)
    sources, kinds = {**document["sources"], ESTIMATE: "our own estimate"}, document["price_kinds"]
    reader = _Reader(places, sources, kinds)
    read = {model_id: reader.read(rows[index], ("models", index)) for model_id, index in where.items()}
    return Catalog(read, sources, kinds)


class _Fault(Exception):
    """What is wrong with a field, and what would be right."""


class _Reader:
    """Makes a :class:`GpuModel` of a row, or the list of its faults."""

    def __init__(
        self, places: Mapping[Loc, str], sources: Mapping[str, str], kinds: Mapping[str, str]
    ) -> None:
        self._places, self._sources, self._kinds = places, sources, kinds

    def read(self, row: Mapping[str, object], loc: Loc) -> GpuModel | list[Problem]:
        problems: list[Problem] = []
        values: dict[str, Any] = {}
        sources: dict[str, str] = {}
        remarks: dict[str, str] = {}

        def fault(name: str, message: str, remedy: str) -> None:
            place = self._places.get((*loc, name), self._places[loc])
            problems.append(Problem(f"{place}: {row['id']}.{name}", message, remedy))

        for name in row:
            if name not in _TYPES:
                fault(name, "unknown field", suggest(name, _TYPES) or "Remove it.")
        for name, kind in _TYPES.items():
            raw = row.get(name)
            try:
                if name == "rental_prices":
                    values[name] = self._rental_prices(raw)
                elif name == "cooling":
                    values[name] = _choice(raw, COOLING)
                elif kind == "str":
                    values[name] = _text("" if raw is None and name == "notes" else raw)
                elif raw is None and kind.endswith("None"):
                    values[name] = None
                else:
                    value, sources[name], remark = self._sourced(name, raw)
                    values[name] = (
                        _date(value) if kind == "datetime.date" else _number(value, kind, FIGURES[name])
                    )
                    if remark:
                        remarks[name] = remark
            except _Fault as error:
                fault(name, *error.args)
        if not problems:
            for name, message, remedy in _contradictions(**values):
                fault(name, message, remedy)
        return problems or GpuModel(**values, sources=sources, remarks=remarks)

    def _sourced(self, name: str, raw: object) -> tuple[object, str, Any]:
        """``[value, source]`` or ``[value, source, remark]``."""
        unit = FIGURES[name].unit if name in FIGURES else "YYYY-MM-DD"
        remedy = f"Write [{unit}, source], the source a key of `sources` or '{ESTIMATE}'."
        match raw:
            case None:
                raise _Fault("missing", remedy)
            case [value, str(source), *remark] if remark == [] or [*map(type, remark)] == [str]:
                if source not in self._sources:
                    raise _Fault(f"unknown source {show(source)}", suggest(source, self._sources) + remedy)
                return value, source, remark[0] if remark else None
        raise _Fault(f"{show(raw)} is not a value with its source", remedy)

    def _rental_prices(self, raw: object) -> tuple[RentalPrice, ...]:
        prices = []
        for entry in raw if isinstance(raw, list) else [] if raw is None else [raw]:
            match entry:
                case [str(month), usd, str(kind), str(source)] if (
                    re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", month)
                    and (_is_number(usd) and usd > 0)
                    and (kind in self._kinds and source in self._sources)
                ):
                    prices.append(RentalPrice(month, float(usd), kind, source))
                case _:
                    remedy = "Write [YYYY-MM, USD, kind, source] with keys of `price_kinds` and `sources`."
                    raise _Fault(f"{show(entry)} is not a rental price", remedy)
        return tuple(sorted(prices, key=lambda price: price.month))


def _text(raw: object) -> str:
    if not isinstance(raw, str):
        raise _Fault(
            "missing" if raw is None else f"{show(raw)} is not a text", "Write a text, numbers in quotes."
        )
    return raw


def _choice(raw: object, choices: tuple[str, ...]) -> str:
    if (text := _text(raw)) not in choices:
        raise _Fault(f"{show(text)} is none of {', '.join(choices)}", "Write one of them.")
    return text


def _date(value: object) -> datetime.date:
    try:
        return datetime.date.fromisoformat(str(value))
    except ValueError:
        raise _Fault(f"{show(value)} is not a date", "Write YYYY-MM-DD.") from None


def _number(value: object, kind: str, figure: Figure) -> float:
    least = "0 or more" if figure.zero else "more than 0"
    if not _is_number(value):
        raise _Fault(f"{show(value)} is not a number", f"Write digits: {least}, in {figure.unit}.")
    if value < 0 or (value == 0 and not figure.zero):
        raise _Fault(f"{value} {figure.unit} is out of range", f"Write {least}.")
    if kind == "int" and value != int(value):
        raise _Fault(f"{value} is not a whole number of {figure.unit}", "Write one.")
    return int(value) if kind == "int" else float(value)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _contradictions(
    *,
    idle_w: float,
    context_w: float,
    tdp_w: float,
    power_exponent: float,
    gpus_per_server: int,
    server_max_w: float,
    server_idle_w: float,
    **rest: Any,
) -> Iterator[tuple[str, str, str]]:
    """Figures that are each possible but not together: field, message, remedy."""
    if idle_w >= tdp_w:
        yield "idle_w", f"{idle_w:g} W is not below tdp_w, {tdp_w:g} W", "Idle is the lower of the two."
    elif idle_w + context_w > tdp_w:
        message = f"{context_w:g} W above idle_w, {idle_w:g} W, is above tdp_w, {tdp_w:g} W"
        yield "context_w", message, "It is what a process without kernels adds."
    if power_exponent > 1:
        yield "power_exponent", f"{power_exponent:g} is above 1", "Write 1 for linear, less if it saturates."
    outside_w = server_max_w - (gpus_w := gpus_per_server * tdp_w)
    if outside_w < 0:
        message = f"{server_max_w:g} W is less than {gpus_per_server} GPUs of {tdp_w:g} W draw, {gpus_w:g} W"
        yield "server_max_w", message, "It is the whole server, GPUs included."
    elif server_idle_w > outside_w:
        message = f"{server_idle_w:g} W is above its maximum, {server_max_w:g} - {gpus_w:g} = {outside_w:g} W"
        yield "server_idle_w", message, "It is the server outside its GPUs."
    if rest["available"] < rest["announced"]:
        message = f"{rest['available']} is before the announcement on {rest['announced']}"
        yield "available", message, "Correct one of the dates."
