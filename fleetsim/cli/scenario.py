"""``fleetsim scenario``: look at scenarios, check them, and get their schema."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fleetsim.cli.options import OVERRIDES, ROOTS


@click.group()
def scenario() -> None:
    """Look at scenarios, check them, and get their schema.

    \b
    Example:
      fleetsim scenario list
      fleetsim scenario validate my-fleet.yaml
    """


@scenario.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: name and question of each.")
def list_(as_json: bool) -> None:
    """List the bundled scenarios and the question each one asks.

    \b
    Example:
      fleetsim scenario list
    """
    from fleetsim import scenario as scenarios

    questions = {name: scenarios.read(name).spec.question for name in scenarios.bundled()}
    if as_json:
        click.echo(json.dumps([{"name": n, "question": q} for n, q in questions.items()], indent=2))
        return
    width = max(map(len, questions))
    for name, question in questions.items():
        click.echo(f"{name:<{width}}  {question}")


@scenario.command()
@click.argument("name")
def show(name: str) -> None:
    """Print the file of a scenario, to read or to start one's own from.

    \b
    Example:
      fleetsim scenario show philly-small > my-fleet.yaml
    """
    from fleetsim import safeyaml
    from fleetsim import scenario as scenarios

    click.echo(safeyaml.read_text(scenarios.find(name)), nl=False)


@scenario.command()
@click.argument("name")
@OVERRIDES
@ROOTS
@click.option("--json", "as_json", is_flag=True, help="Print what would be run as JSON.")
def validate(name: str, overrides: tuple[str, ...], roots: tuple[Path, ...], as_json: bool) -> None:
    """Check a scenario and its traces without running it; every problem is reported at once.

    Of a scenario with axes every point is checked, and the traces of the scenario as it stands.

    \b
    Example:
      fleetsim scenario validate my-fleet.yaml
      fleetsim scenario validate mixed-fleet --set horizon=5y
    """
    from fleetsim import scenario as scenarios
    from fleetsim.cli.console import counting, plain
    from fleetsim.eligibility import REJECT_REASONS, build_pools, find_shapes
    from fleetsim.shared import share_fleet
    from fleetsim.summary import unknown_models
    from fleetsim.sweeps import sweep
    from fleetsim.workload import load_jobs

    with counting("Checking points") as tell:
        wanted = sweep.plan(name, overrides, roots, tell)
    parsed = wanted.base if wanted else scenarios.read(name, overrides, roots)
    jobs, sources = load_jobs(parsed)
    spec = parsed.spec
    if spec.scheduler.sharing:
        rejected = share_fleet(jobs, parsed.cohorts, spec).shapes.rejected
    else:
        plans = build_pools(parsed.cohorts, spec.tiers, spec.descends).plans
        rejected = find_shapes(jobs, plans, spec.workloads, spec.tenants, spec.scheduler).rejected
    left_out = {s.workload: s.left_out for s in sources if s.left_out}
    will_be = {
        reason: n for code, reason in enumerate(REJECT_REASONS) if (n := int((rejected == code).sum()))
    }
    unknown = {s.workload: names for s in sources if (names := s.facts["unknown_gpu_models"])}
    facts = {
        "name": spec.name,
        "runs": len(wanted.members) if wanted else 1,
        "cohorts": len(parsed.cohorts),
        "nodes": sum(c.nodes for c in parsed.cohorts),
        "gpus": sum(c.gpus for c in parsed.cohorts),
        "jobs": len(jobs),
        "left_out": left_out,
        "will_be_rejected": will_be,
        "unknown_gpu_models": unknown,
    }
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    click.echo(
        f"{parsed.place} is valid: {facts['cohorts']} cohorts, {facts['nodes']:,} nodes, "
        f"{facts['gpus']:,} GPUs, {len(jobs):,} jobs."
    )
    if wanted:
        click.echo(f"  a sweep of {len(wanted.members):,} runs at {len(wanted.points):,} points, all valid")
    for title, reasons in (*left_out.items(), ("rejected when submitted", will_be)):
        for reason, count in reasons.items():
            click.echo(f"  {title}: {count:,} {reason}")
    for workload, asked in unknown.items():
        click.echo(f"  {workload}: {plain(unknown_models(asked), 400)}")


@scenario.command()
def schema() -> None:
    """Print the JSON Schema of scenario files, for completion and checks in an editor.

    \b
    Example:
      fleetsim scenario schema > scenario.schema.json
      (in the YAML file)  # yaml-language-server: $schema=scenario.schema.json
    """
    from fleetsim import scenario as scenarios

    click.echo(json.dumps(scenarios.json_schema(), indent=2))
