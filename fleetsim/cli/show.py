"""``fleetsim show``: what happened in a run, as tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleetsim.cli.options import RUN

if TYPE_CHECKING:
    from rich.console import Console

MOST_TENANTS = 12
WIDE = 96  # columns that a table with bars needs


@click.command()
@RUN
@click.option("--json", "as_json", is_flag=True, help="Print every figure as JSON, with definitions.")
def show(run_folder: Path, as_json: bool) -> None:
    """Show what happened in RUN: utilisation by generation, age and rung, by tenant and class, and waits.

    \b
    Example:
      fleetsim show runs/first
      fleetsim show runs/first --json | jq .fleet.allocation
    """
    from fleetsim.cli.console import stdout
    from fleetsim.runfolder import open_run
    from fleetsim.summary import summarise

    summary = summarise(open_run(run_folder))
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    console = stdout()
    headline(console, summary)
    _by_age(console, summary["by_generation_and_age"])
    if summary["by_tier"]:
        _rungs(console, summary)
    if summary["failures"]:
        _failures(console, summary)
    if summary["retirements"]:
        _retirements(console, summary)
    _who_used_what(console, summary["by_tenant"], summary["who_used_what"])
    _classes(console, summary["by_class"])
    _waits(console, summary["waits"])


def headline(console: Console, summary: Mapping[str, Any]) -> None:
    """The run in a dozen lines: what it was, the utilisation chain, energy and jobs."""
    from fleetsim.cli.console import bar, percent, plain
    from fleetsim.summary import span, unknown_models
    from fleetsim.units import streamline

    fleet, jobs, scheduler = summary["fleet"], summary["jobs"], summary["scheduler"]
    console.print(f"{plain(summary['name'])}, {span(summary)}", style="bold", soft_wrap=True)
    if summary["question"]:
        console.print(plain(summary["question"], 400), style="italic", soft_wrap=True)
    rule = "GPUs shared" if scheduler.get("sharing") is not None else f"prefer {scheduler['prefer']}"
    policy = f"queue {scheduler['queue']}, placement {scheduler['placement']}, {rule}"
    console.print(f"{policy}, seed {summary['seed']}", style="dim")
    if summary["generated"]:
        console.print(
            f"Generated workload, not a measured one: {', '.join(summary['generated'])}", style="dim"
        )
    console.print(f"\nOf {streamline(fleet['installed_gpu_hours'])} installed GPU hours")
    for label, key, meaning in (
        ("in service", "availability", "not down"),
        ("allocated", "allocated", "held by a job"),
        ("productive", "time_effective", "held, and running to some end"),
        ("fleet MFU", "fleet_mfu", "model FLOPs / peak FLOPs"),
        ("idle, queued", "idle_queue", "free while jobs waited"),
    ):
        if key == "availability" and fleet[key] == 1:
            continue
        console.print(f"  {label:<13}", bar(fleet[key], 24), f"{percent(fleet[key]):>7}  {meaning}", sep="")
    it, meter = streamline(fleet["energy_mwh"]), streamline(fleet["facility_energy_mwh"])
    console.print(f"Energy: {it} MWh of IT, {meter} MWh at the meter")
    counts = [f"{jobs[s]:,} {s}" for s in ("completed", "running", "queued", "rejected") if s in jobs]
    console.print(f"Jobs: {jobs['submitted']:,} submitted, of which {', '.join(counts) or 'none ran'}")
    for reason, number in summary["rejected"].items():
        console.print(f"  rejected: {number:,} {reason}", style="yellow")
    for workload, asked in summary["unknown_gpu_models"].items():
        console.print(f"  {plain(workload)}: {plain(unknown_models(asked), 400)}", style="yellow")
    for workload, reasons in summary["left_out"].items():
        what = ", ".join(f"{number:,} {reason}" for reason, number in reasons.items())
        console.print(f"  {plain(workload)}: left out {what}", style="dim")
    console.print()


def _by_age(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    from fleetsim.cli.console import bar, percent, print_table
    from fleetsim.summary import age_band
    from fleetsim.units import streamline

    console.print("Utilisation by generation and age", style="bold")
    wide = console.width >= WIDE
    figures = ["allocated", "productive", "idle, queued", "GPU h", "MWh"]
    heads = ["generation", "age", *([""] if wide else []), *figures]
    cells = [
        [
            r["generation"],
            age_band(r["age_band"]),
            *([bar(r["allocated"], 10)] if wide else []),
            percent(r["allocated"]),
            percent(r["time_effective"]),
            percent(r["idle_queue"]),
            streamline(r["installed_gpu_hours"]),
            streamline(r["energy_mwh"]),
        ]
        for r in rows
    ]
    print_table(console, heads, cells, left=3 if wide else 2)


def _rungs(console: Console, summary: Mapping[str, Any]) -> None:
    """Each rung: how much of it is used, and how old the cards are that are."""
    from fleetsim.cli.console import percent, print_table
    from fleetsim.summary import age_band
    from fleetsim.units import streamline

    bands = sorted({r["age_band"] for r in summary["tier_by_age"] if r["allocated"]})
    held = {(r["tier"], r["age_band"]): r["allocated"] for r in summary["tier_by_age"]}
    cascade = f"cascade by {summary['rules']['cascade']}" if summary["ladder"] else "no cascade"
    console.print(f"Rungs of the ladder, and the age of the GPUs in use there ({cascade})", style="bold")
    cells = []
    for r in summary["by_tier"]:
        whole = sum(held.get((r["tier"], band), 0.0) for band in bands)
        shares = [held.get((r["tier"], band), 0.0) / whole if whole else None for band in bands]
        cells.append(
            [
                r["tier"],
                streamline(r["installed_gpu_hours"]),
                percent(r["allocated"]),
                percent(r["time_effective"]),
                *("" if share == 0 else percent(share) for share in shares),
            ]
        )
    heads = ["rung", "GPU h", "allocated", "productive", *map(age_band, bands)]
    print_table(console, heads, cells)


def _failures(console: Console, summary: Mapping[str, Any]) -> None:
    from fleetsim.cli.console import print_table
    from fleetsim.units import HOUR_S, human, streamline

    console.print("Failures", style="bold")
    days = summary["fleet"]["installed_gpu_hours"] / 24
    cells = [
        [
            r["failure"],
            f"{r['failures']:,}",
            streamline(r["failures"] / days * 8000) if days else "",
            "" if r["median_down_h"] is None else human(r["median_down_h"] * HOUR_S),
            "" if r["mean_down_h"] is None else human(r["mean_down_h"] * HOUR_S),
            f"{r['jobs_stopped']:,}",
        ]
        for r in summary["failures"]
    ]
    rate = "per 8,000 GPU-days"
    print_table(console, ["failure", "times", rate, "down, median", "down, mean", "jobs stopped"], cells)


def _retirements(console: Console, summary: Mapping[str, Any]) -> None:
    from fleetsim.cli.console import print_table
    from fleetsim.summary import age_band

    rule = f" (rule {summary['rules']['retirement']})" if summary["rules"]["retirement"] else ""
    console.print(f"GPUs that left the fleet, by cause and age{rule}", style="bold")
    rows = summary["retirements"]
    bands = sorted({r["age_band"] for r in rows})
    gpus = {(r["cause"], r["age_band"]): r["gpus"] for r in rows}
    cells = [
        [cause, f"{sum(gpus.get((cause, band), 0) for band in bands):,}"]
        + [f"{gpus[cause, band]:,}" if (cause, band) in gpus else "" for band in bands]
        for cause in dict.fromkeys(r["cause"] for r in rows)
    ]
    print_table(console, ["cause", "GPUs", *map(age_band, bands)], cells)


def _who_used_what(
    console: Console, tenants: Sequence[Mapping[str, Any]], used: Sequence[Mapping[str, Any]]
) -> None:
    from fleetsim.cli.console import percent, print_table
    from fleetsim.units import streamline

    generations = list(dict.fromkeys(r["generation"] for r in used))
    hours = {(r["tenant"], r["generation"]): r["allocated_gpu_hours"] for r in used}
    console.print("Who used what: tenants, and the generations their GPU hours ran on", style="bold")
    cells = [
        [
            r["tenant"],
            streamline(r["allocated_gpu_hours"]),
            percent(r["share"]),
            *(percent(hours.get((r["tenant"], g), 0.0) / r["allocated_gpu_hours"]) for g in generations),
            streamline(r["energy_mwh"]),
        ]
        for r in tenants[:MOST_TENANTS]
    ]
    heads = ["tenant", "GPU h", "of all", *(f"on {g}" for g in generations), "MWh"]
    print_table(console, heads, cells)
    if len(tenants) > MOST_TENANTS:
        rest = f"and {len(tenants) - MOST_TENANTS} smaller tenants, all in --json"
        console.print(f" {rest}\n", style="dim")


def _classes(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    from fleetsim.cli.console import percent, print_table
    from fleetsim.units import streamline

    console.print("Workload classes", style="bold")
    cells = [
        [
            r["workload_class"],
            streamline(r["allocated_gpu_hours"]),
            percent(r["share"]),
            streamline(r["productive_gpu_hours"]),
            streamline(r["energy_mwh"]),
        ]
        for r in rows
    ]
    print_table(console, ["class", "GPU h", "of all", "productive GPU h", "MWh"], cells)


def _waits(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    from fleetsim.cli.console import percent, print_table
    from fleetsim.units import human

    columns = {"mean": "mean_s", "p50": "p50_s", "p95": "p95_s", "p99": "p99_s", "longest": "max_s"}
    if console.width < WIDE:
        del columns["p99"]
    console.print("Queue waits of the jobs that started, by GPUs of the job", style="bold")
    cells = [
        [
            "all" if r["gpus"] is None else str(r["gpus"]),
            f"{r['jobs']:,}",
            percent(r["share_waiting"]),
            *(human(r[k]) for k in columns.values()),
        ]
        for r in rows
    ]
    print_table(console, ["GPUs", "jobs", "waited", *columns], cells)
