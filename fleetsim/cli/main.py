"""The root group and the one place where errors become messages and exit codes."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Sequence
from typing import Any

import click

from fleetsim import __version__
from fleetsim.cli.compare import compare
from fleetsim.cli.gpu import gpu
from fleetsim.cli.history import history
from fleetsim.cli.lifetimes import lifetimes
from fleetsim.cli.metrics import metrics
from fleetsim.cli.report import report
from fleetsim.cli.run import query, run
from fleetsim.cli.scenario import scenario
from fleetsim.cli.show import show
from fleetsim.cli.sweep import sweep
from fleetsim.cli.telemetry import telemetry
from fleetsim.cli.trace import trace


class Root(click.Group):
    """Turns every expected failure into one message on stderr and the exit code it means."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command. Exit codes: 0 good, 1 a run failed, 2 usage or input."""
        from fleetsim.errors import FleetsimError
        from fleetsim_traces.errors import TraceError

        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            if isinstance(error, BrokenPipeError):  # the reader of our output has gone: not an error
                sys.stderr.close()
                ctx.exit(0)
            if isinstance(error, (FleetsimError, TraceError)):
                _report(error)
                ctx.exit(getattr(error, "exit_code", 2))
            if isinstance(error, OSError):
                place = f" {error.filename!r}" if error.filename else ""
                click.echo(f"Error: {error.strerror or error}{place}", err=True)
                ctx.exit(1)
            click.echo(
                f"Error: unexpected {type(error).__name__}: {error}\n"
                "This is a fault of fleetsim. Run again as `fleetsim --debug ...` and report the traceback.",
                err=True,
            )
            ctx.exit(1)


def _report(error: Exception) -> None:
    problems: Sequence[Any] = getattr(error, "problems", ())
    if not problems:
        click.echo(f"Error: {error}", err=True)
        return
    many = f"{len(problems)} problems:" if len(problems) > 1 else "1 problem:"
    click.echo(f"Error: {many}", err=True)
    for problem in problems:
        click.echo(f"  {problem}", err=True)


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, message="fleetsim %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an unexpected failure.")
def cli(debug: bool) -> None:
    """Replay real workloads through an aging, mixed GPU fleet and see who used what.

    \b
    Example:
      fleetsim run philly-small -o runs/first
      fleetsim show runs/first
    """


for _command in (
    *(run, show, compare, report, sweep, query, metrics, telemetry, history),
    *(scenario, trace, gpu, lifetimes),
):
    cli.add_command(_command)


def main() -> None:
    """Entry point of the console script. Being told to end cleans up as Ctrl-C does."""
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is signal.SIG_DFL:  # nohup?
            signal.signal(getattr(signal, name), signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a bar that the locale cannot write is no reason to fail
    try:
        cli(prog_name="fleetsim")
    except OSError as error:  # even --help can meet a full disk
        sys.exit(f"Error: {error.strerror or error}")
