"""``fleetsim metrics``: a finished run for Prometheus."""

from __future__ import annotations

from pathlib import Path

import click

#: Samples of one page beyond which the user is told what they cost.
MANY_SAMPLES = 10_000


@click.command()
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write FILE, whole or not at all, in place of standard output.",
)
@click.option("--name", metavar="TEXT", help="Value of the label `run`. Default: the name of the folder.")
@click.option(
    "--tenants", type=click.IntRange(0), default=50, show_default=True, metavar="N",
    help="Tenants named one by one, those with most GPU hours; all others are summed as `(other)`.",
)  # fmt: skip
def metrics(run_folder: Path, output: Path | None, name: str | None, tenants: int) -> None:
    """Print RUN as Prometheus metrics: GPU hours, energy, utilisation, jobs and waits.

    A finished run is a set of totals, so the page is one scrape: serve the file to Prometheus, or write it
    (as FILE.prom) to the folder that node_exporter's textfile collector reads.

    \b
    Example:
      fleetsim metrics runs/first | grep gpu_hours
      fleetsim metrics runs/first -o pages/first.txt
    """
    from fleetsim.metrics import page
    from fleetsim.runfolder import open_run

    made = page(open_run(run_folder), name, tenants)
    if made.tenants_summed:
        click.echo(
            f"Note: tenant=\"(other)\" sums the {made.tenants_summed:,} with fewest GPU hours; "
            "--tenants N names more.", err=True,
        )  # fmt: skip
    if made.samples > MANY_SAMPLES:
        click.echo(
            f"Note: {made.samples:,} samples, more than a Prometheus target should have; "
            "--tenants N with a smaller N makes fewer.", err=True,
        )  # fmt: skip
    body = made.text.encode()
    if output is None:
        click.echo(body, nl=False)  # bytes: the format is UTF-8 whatever the terminal is
    else:
        _write(output, body)


def _write(target: Path, body: bytes) -> None:
    """Replace *target* by *body* in one step, so that nobody reads half a page.

    Raises :class:`~fleetsim.errors.InputError` if it is something else than a file, or has no folder.
    """
    import os

    from fleetsim.errors import InputError, Problem

    target = target.resolve()  # a symbolic link stays; what it points to is replaced
    if target.exists() and not target.is_file():
        raise InputError([Problem(str(target), "is not a regular file", "Leave out -o for standard output.")])
    if not target.parent.is_dir():
        raise InputError([Problem(str(target.parent), "no such folder", "Make it first.")])
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
