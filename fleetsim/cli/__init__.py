"""The ``fleetsim`` command: parse, call, print.

Every command module imports click alone; what a command needs is imported when it runs, so that
``fleetsim --help`` is instant.
"""

from __future__ import annotations

from fleetsim.cli.main import cli, main

__all__ = ["cli", "main"]
