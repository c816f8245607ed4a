"""The documentation is true: its commands run, its output is the output, its reference is the schema.

``pytest tests/test_docs.py --update-golden`` rewrites what is shown.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import get_args

import click
import pytest
from click.testing import CliRunner

from fleetsim import safeyaml, scenario, schema
from fleetsim.cli import cli
from fleetsim.life.spec import CascadeSpec, FailureSpec, RetirementSpec
from fleetsim.policies.packing import PACKINGS
from fleetsim.policies.placement import PLACEMENTS
from fleetsim.policies.queue import QUEUES
from fleetsim.spec import SiteSpec

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
WIDTH = "100"


def fences(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def replace_output(path: Path, of: str, wanted: str, update: bool) -> None:
    """The part of *path* marked as the output of *of* equals *wanted*."""
    text = path.read_text("utf-8")
    pattern = re.compile(rf"(<!-- output of: {re.escape(of)} -->\n)(.*?)(<!-- end of output -->)", re.DOTALL)
    found = pattern.search(text)
    assert found, f"{path.name} has no part marked as the output of {of!r}"
    if update:
        path.write_text(text[: found.start(2)] + wanted + text[found.end(2) :], "utf-8")
        return
    assert found[2] == wanted, f"{path.name} is out of date: run pytest tests/test_docs.py --update-golden"


def invoke(*words: str) -> str:
    result = CliRunner().invoke(cli, words, env={"COLUMNS": WIDTH}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_output_shown_in_the_readme_is_what_the_demo_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    invoke("run", "philly-small", "-o", "runs/demo", "-q")
    shown = "\n".join(line.rstrip() for line in invoke("show", "runs/demo").splitlines()).rstrip()
    update = request.config.getoption("--update-golden")
    replace_output(README, "fleetsim show runs/demo", f"```text\n{shown}\n```\n", update)


def test_the_reference_of_the_tables_is_made_from_the_schema(request: pytest.FixtureRequest) -> None:
    update = request.config.getoption("--update-golden")
    replace_output(ROOT / "fleetsim" / "README.md", "schema reference", schema.markdown() + "\n", update)


def test_every_command_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the page, in an empty folder, with the scenario shown there and a log of two jobs."""
    monkeypatch.chdir(tmp_path)
    text = README.read_text("utf-8")
    (scenario,) = fences(text, "yaml")
    Path("my-fleet.yaml").write_text(scenario)
    Path("my-jobs.csv").write_text(
        "JobID,Submit,Hours,GPUs,Account\n7,2026-01-01 09:00:00,1.5,8,lab\n8,2026-01-01 10:00:00,2,16,lab\n"
    )
    commands = [
        shlex.split(line, comments=True)
        for block in fences(text, "sh")
        for line in block.splitlines()
        if line.startswith("fleetsim ")
    ]
    assert len(commands) > 15
    for command in commands:
        words = command[1 : command.index(">")] if ">" in command else command[1:]
        invoke(*words)
    assert Path("look-alike.parquet").is_file()
    assert Path("runs/ours/jobs.parquet").is_file()


def test_the_make_targets_named_in_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    named = set(re.findall(r"`?make ([a-z]+)", README.read_text("utf-8"))) - {"sets"}
    assert {"demo", "test", "bench"} <= named
    for target in named & {"demo", "test", "bench", "wheel", "golden"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def commands_of(group: click.Group, prefix: str = "fleetsim") -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found |= commands_of(command, f"{prefix} {name}")
        else:
            found[f"{prefix} {name}"] = command
    return found


@pytest.mark.parametrize("name", sorted(commands_of(cli)))
def test_every_command_is_in_the_readme_and_its_help_has_an_example(name: str) -> None:
    assert name in README.read_text("utf-8")
    assert f"{name} " in invoke(*name.split()[1:], "--help").split("Example:")[1] or name.endswith(
        ("list", "schema")
    )


def test_links_of_the_documentation_lead_somewhere() -> None:
    for page in [README, *ROOT.glob("*/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"


def test_every_policy_is_described() -> None:
    """Each name that a scenario can give is in the page on scheduling."""
    page = (ROOT / "fleetsim" / "SCHEDULING.md").read_text("utf-8")
    for name in (*QUEUES, *PLACEMENTS, *PACKINGS):
        assert f"`{name}`" in page, name


def test_the_life_of_nodes_is_described() -> None:
    """Each rule that a scenario can give is in the page on it, and the scenario there is one."""
    page = (ROOT / "fleetsim" / "LIFE.md").read_text("utf-8")
    for part in (CascadeSpec, RetirementSpec, FailureSpec, SiteSpec):
        for key, field in part.model_fields.items():
            for choice in get_args(field.annotation) if key in ("rule", "unit", "over_power") else ():
                assert f"`{choice}`" in page, f"{key}: {choice}"
    example = safeyaml.load_yaml(page.split("```yaml\n")[1].split("```")[0], "LIFE.md")
    assert isinstance(example, dict)
    given = example | {
        "name": "x",
        "start": "2026-01-01",
        "horizon": "1y",
        "cohorts": [{"name": "a", "gpu_model": "a100-sxm-80", "nodes": 8}],
        "workloads": [{"name": "w", "trace": "philly-like-10k", "reference_gpu": "a100-sxm-80"}],
    }
    assert scenario.parse(json.dumps(given), "LIFE.md").spec.cascade
