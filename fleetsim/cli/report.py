"""``fleetsim report``: a page about one run or several, for those who were not there."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="PAGE",
    help="The page to write.",
)
@click.option("--png", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              help="Write every chart as a picture into this folder, too.")  # fmt: skip
@click.option("--title", help="Title of the page. Default: the name of the scenario.")
def report(runs: tuple[Path, ...], output: Path, png: Path | None, title: str | None) -> None:
    """Write a page about RUN: what was used, by whom, at which age, what it drew, lost and earned.

    The page is one file that works offline. Of several runs the charts stand side by side on the same scales,
    and figures are compared with the first RUN. Existing files are replaced.

    \b
    Example:
      fleetsim report runs/first -o first.html
      fleetsim report runs/cascade-on runs/cascade-off -o cascade.html --title "Does the ladder pay?"
      fleetsim report runs/first -o first.html --png pictures
    """
    from fleetsim import report as reporting
    from fleetsim.cli.trace_input import patience
    from fleetsim_traces.atomic import atomic

    with patience(f"Reporting on {len(runs)} run{'s' * (len(runs) > 1)}"):
        made = reporting.report(reporting.open_runs(runs), title)
        with atomic(output) as file:
            file.write(made.page().encode())
    click.echo(f"Wrote {output}.", err=True)
    if png is not None:
        with patience("Drawing pictures"):
            png.mkdir(parents=True, exist_ok=True)
            pictures = 0
            for name, picture in made.pictures():
                with atomic(png / name) as file:
                    file.write(picture)
                pictures += 1
        click.echo(f"Wrote {pictures} pictures into {png}.", err=True)
