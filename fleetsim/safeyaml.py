"""Reading YAML that a stranger wrote: no code, no bombs, no surprises, and every fault with its line.

The documents that fleetsim reads (scenarios, the catalogue) are plain trees, so this reader is stricter than
YAML. It differs from ``yaml.safe_load`` as follows:

- Anchors, aliases, tags and a second document are refused. Nothing expands: no small file becomes large.
- Two equal keys in one mapping are refused; a key is always text, as written (``6214e9:`` and ``on:`` too).
- A value is a boolean only if it reads ``true`` or ``false`` (or ``True``, ``TRUE``, ...); ``yes``, ``no``,
  ``on`` and ``off`` are text. It is null if it is empty or reads ``~`` or ``null``.
- Numbers are decimal: ``12``, ``-0.5``, ``.5``, ``1e6``, ``1.5e-3``. What only YAML 1.1 takes for a number or
  a date stays text: ``12:30``, ``0x1f``, ``017``, ``1_000``, ``.inf``, ``2024-01-31``.
- An integer of four or more digits with an exponent, such as ``6214e9``, may be a number or an identifier
  (hashes of public traces look like that) and is refused: write ``'6214e9'`` or ``6214.0e9``.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import yaml

from fleetsim.errors import InputError, Problem

__all__ = ["MAX_BYTES", "MAX_DEPTH", "Loc", "load_located", "load_yaml", "read_text", "show", "suggest"]

MAX_BYTES = 10_000_000
MAX_DEPTH = 50
MAX_PROBLEMS = 20  # a broken file is reported until here, then reading stops
MAX_DIGITS = 18  # of an integer: what 64 bits hold

Loc = tuple[str | int, ...]
"""Where a value stands in a document: ``("models", 3, "tdp_w")``. The form pydantic calls ``loc``."""

_CONTROL = yaml.reader.Reader.NON_PRINTABLE  # what no YAML text may hold: control characters, half surrogates
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # we use the parser only; libyaml's is much faster
_HALF = re.compile("[\ud800-\udfff]")
_NULL = {"", "~", "null", "Null", "NULL"}
_BOOLEAN = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*|(?=[eE]))|\.[0-9]+)([eE][-+]?[0-9]+)?")
_AMBIGUOUS = re.compile(r"[0-9]{4,}[eE][0-9]+")


def load_yaml(text: str, place: str) -> object:
    """Return the one document of *text* as dicts, lists, str, int, float, bool and None.

    *place* names the text in messages, usually its file. Raises :class:`InputError` with every fault found,
    at ``place:line:column``: syntax, equal keys, anchors, aliases, tags, ambiguous or too large numbers, more
    than one document, more than :data:`MAX_DEPTH` levels, more than :data:`MAX_BYTES` bytes.
    """
    return _build(text, _Builder(place, None))


def load_located(text: str, place: str) -> tuple[object, Mapping[Loc, str]]:
    """Like :func:`load_yaml`, and with it ``place:line:column`` of every value, by its path in the document.

    ``{"a": [1, 2]}`` has the paths ``()``, ``("a",)``, ``("a", 0)`` and ``("a", 1)``.
    """
    places: dict[Loc, str] = {}
    return _build(text, _Builder(place, places)), places


def _build(text: str, builder: _Builder) -> object:
    if junk := _CONTROL.search(text):
        line = text.count("\n", 0, junk.start()) + 1
        problem = Problem(
            f"{builder.place}:{line}", f"character {junk.group()!r}", "Save as plain UTF-8 text."
        )
        raise InputError([problem])
    if len(text.encode()) > MAX_BYTES:
        raise InputError([_too_large(builder.place)])
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except _Stop:
        pass
    except yaml.MarkedYAMLError as error:
        what = ", ".join(part for part in (error.problem, error.context) if part)
        remedy = "Indent with spaces only and quote text that holds ': ' or ' #' or starts with a sign."
        builder.problems.append(builder.problem(error.problem_mark, f"not YAML: {what}", remedy))
    if builder.problems:
        raise InputError(builder.problems)
    return builder.root


def read_text(path: Path) -> str:
    """Return the text of the file *path*, for :func:`load_yaml`.

    Raises :class:`InputError` if it is over :data:`MAX_BYTES` bytes (no more are read) or not UTF-8, and
    ``OSError`` if it cannot be read at all.
    """
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InputError([_too_large(str(path))])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        raise InputError(
            [Problem(f"{path}:{line}", f"byte 0x{byte:02x} is not UTF-8 text", "Save as UTF-8.")]
        ) from None


def show(value: object) -> str:
    """Return *value* as it appears in a message: quoted and escaped, at most 60 characters of it."""
    text = repr(value[:100] if isinstance(value, (str, list)) else value)
    return text if len(text) <= 60 else text[:57] + "..."


def suggest(wanted: str, known: Iterable[str]) -> str:
    """``"Did you mean a or b? "``: up to three of *known* that contain or resemble *wanted*; or ``""``."""
    lower, names = wanted.lower()[:100], list(known)
    near = [name for name in names if lower and lower in name.lower()]
    near = near or difflib.get_close_matches(lower, names, n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(near[:3])}? " if near else ""


def _too_large(place: str) -> Problem:
    return Problem(
        place, f"more than {MAX_BYTES // 1_000_000} MB of YAML", "Keep tables in Parquet or CSV files."
    )


Container = dict[str, object] | list[object]


class _Mark(Protocol):
    """A position in the text, from 0; PyYAML has two classes of it."""

    line: int
    column: int


@dataclass
class _Open:
    """A mapping or sequence whose end has not been read."""

    value: Container
    loc: Loc
    key: str | None = None  # of a mapping: the key that waits for its value


class _Stop(Exception):
    """Enough is known: reading on would only repeat or guess."""


class _Builder:
    """Builds the tree from parser events, with a stack of its own: depth costs no recursion."""

    def __init__(self, place: str, places: dict[Loc, str] | None) -> None:
        self.place = place
        self.root: object = None
        self.problems: list[Problem] = []
        self._places = places
        self._documents = 0
        self._open: list[_Open] = []

    def problem(self, mark: _Mark | None, message: str, remedy: str) -> Problem:
        return Problem(self._at(mark), message, remedy)

    def fault(self, mark: _Mark | None, message: str, remedy: str) -> None:
        self.problems.append(self.problem(mark, message, remedy))
        if len(self.problems) == MAX_PROBLEMS:
            raise _Stop

    def take(self, event: yaml.Event) -> None:
        mark = event.start_mark
        if isinstance(event, (yaml.AliasEvent, yaml.ScalarEvent, yaml.CollectionStartEvent)) and event.anchor:
            self.fault(
                mark, f"anchor or alias {show(event.anchor)}", "Write the value out where it is needed."
            )
        if isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)) and event.tag:
            self.fault(
                mark,
                f"tag {show(event.tag)}",
                "Leave it out: values are text, numbers, true, false and null.",
            )
        if isinstance(event, yaml.ScalarEvent) and _HALF.search(event.value):  # libyaml refuses it by itself
            self.fault(
                mark, f"half a character in {show(event.value)}", "Write the character, not its escape."
            )
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    self.fault(mark, "a second document", "Keep one document in a file; remove the '---'.")
                    raise _Stop
            case yaml.ScalarEvent() if self._wants_key():
                self._take_key(event)
            case yaml.ScalarEvent():
                self._place_value(event, event.value if not event.implicit[0] else self._plain(event))
            case yaml.AliasEvent() if not self._wants_key():
                self._place_value(event, None)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent() | yaml.AliasEvent():
                if self._wants_key():
                    self.fault(
                        mark, "a key that is not text", "Write 'key: value', with brackets or braces quoted."
                    )
                    raise _Stop
                if len(self._open) == MAX_DEPTH:
                    self.fault(mark, f"nested deeper than {MAX_DEPTH} levels", "Flatten it.")
                    raise _Stop
                value: Container = {} if isinstance(event, yaml.MappingStartEvent) else []
                self._open.append(_Open(value, self._place_value(event, value)))
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._open.pop()

    def _at(self, mark: _Mark | None) -> str:
        return f"{self.place}:{mark.line + 1}:{mark.column + 1}" if mark else self.place

    def _wants_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].value, dict) and self._open[-1].key is None

    def _take_key(self, event: yaml.ScalarEvent) -> None:
        inner = self._open[-1]
        if event.value in inner.value:
            self.fault(
                event.start_mark, f"key {show(event.value)} for the second time", "Keep one of the two."
            )
        inner.key = event.value

    def _place_value(self, event: yaml.Event, value: object) -> Loc:
        """Put *value* where it belongs and return its path."""
        if not self._open:
            self.root = value
            loc: Loc = ()
        else:
            inner = self._open[-1]
            if isinstance(inner.value, dict):
                step: str | int = inner.key or ""
                inner.value[str(step)] = value
                inner.key = None
            else:
                step = len(inner.value)
                inner.value.append(value)
            loc = (*inner.loc, step)
        if self._places is not None:
            self._places[loc] = self._at(event.start_mark)
        return loc

    def _plain(self, event: yaml.ScalarEvent) -> object:
        """What the unquoted text of *event* means."""
        text: str = event.value
        if text in _NULL:
            return None
        if text in _BOOLEAN:
            return _BOOLEAN[text]
        if _INTEGER.fullmatch(text):
            if len(text.lstrip("+-")) <= MAX_DIGITS:
                return int(text)
            self.fault(event.start_mark, f"integer of {len(text)} digits", "Quote it if it is an identifier.")
        elif _AMBIGUOUS.fullmatch(text):
            remedy = "Write it in quotes, or with a point for the number: 6214.0e9."
            self.fault(event.start_mark, f"{show(text)} may be a number or an identifier", remedy)
        elif _FLOAT.fullmatch(text):
            number = float(text)
            if math.isfinite(number):
                return number
            self.fault(
                event.start_mark, f"{show(text)} is too large a number", "Quote it if it is an identifier."
            )
        return text
