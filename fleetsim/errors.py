"""The errors fleetsim raises on purpose, and the exit code each one means.

::

    Exception
     ├─ FleetsimError        exit 1   a run that failed
     │   ├─ InputError       exit 2   a scenario, catalogue or run folder that cannot be used
     │   └─ BooksError       exit 1   a run whose books do not balance: a fault of fleetsim itself
     └─ fleetsim_traces.errors.TraceError (a ValueError)   exit 2   a trace that cannot be read
"""

from __future__ import annotations

from collections.abc import Sequence

from fleetsim_traces.errors import Problem

__all__ = ["BooksError", "FleetsimError", "InputError", "Problem"]


class FleetsimError(Exception):
    """A run failed; the text says where and what to do."""

    exit_code = 1


class InputError(FleetsimError):
    """Input that is not usable; ``problems`` lists every fault with place, value and remedy."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class BooksError(FleetsimError):
    """A conservation law does not hold for a finished run."""
