"""What was wrong with an input, where, and what would be right.

``TraceError(ValueError)`` carries every :class:`Problem` found, not only the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One fault of an input.

    *place* is a file with its line, or a path inside a document; *message* says what is wrong, with the
    offending value in it; *remedy* says what would be right.
    """

    place: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        """One line, however long or strange the input: control characters are written out."""
        tail = f" {_tidy(self.remedy, 400)}" if self.remedy else ""
        return f"{_tidy(self.place, 160)}: {_tidy(self.message, 240)}.{tail}"


def _tidy(text: str, most: int) -> str:
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: 4 * most])
    return text if len(text) <= most else f"{text[: most - 60]} ... {text[-55:]}"


class TraceError(ValueError):
    """A trace that cannot be read as asked; ``problems`` lists every reason."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))
