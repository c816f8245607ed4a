"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

OVERRIDES = click.option(
    "--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Override a key: cohorts.a100.nodes=4."
)
ROOTS = click.option(
    "--traces",
    "roots",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder that traces may lie in, besides the scenario's own.",
)
RUN = click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
