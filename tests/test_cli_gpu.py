"""``fleetsim gpu``: what a person and a script see."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from fleetsim import catalog as catalog_module
from fleetsim.catalog import FIGURES, Catalog, load_catalog, parse_catalog
from fleetsim.cli.gpu import gpu
from fleetsim.cli.main import Root


@click.group(cls=Root)
def root() -> None:
    """The root group as fleetsim has it, with this command alone."""


root.add_command(gpu)


def run(runner: CliRunner, *arguments: str, columns: int | None = None) -> Result:
    return runner.invoke(
        root, ["gpu", *arguments], env={"COLUMNS": None if columns is None else str(columns)}
    )


@pytest.mark.parametrize("columns", [80, 100, 120, None])
def test_list_fits_and_cuts_nothing(runner: CliRunner, columns: int | None) -> None:
    result = run(runner, "list", columns=columns)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert len(lines) == 2 + len(load_catalog())
    assert max(map(len, lines)) <= (columns or 140)
    assert "…" not in result.stdout and "\x1b" not in result.stdout
    assert [line.split()[0] for line in lines[2:]] == list(load_catalog())
    row = next(line for line in lines if line.startswith("h100-sxm-80"))
    name = [] if columns == 80 else ["H100", "SXM5", "80GB"]
    assert row.split()[1:] == [*name, "Hopper", "2022", "80", "700", "70", "1.275", "2.20", "3.00"]


def test_list_json(runner: CliRunner) -> None:
    rows = json.loads(run(runner, "list", "--json").stdout)
    assert [row["id"] for row in rows] == list(load_catalog())
    assert rows[3] == {
        "id": "t4",
        "name": "T4",
        "vendor": "NVIDIA",
        "generation": "Turing",
        "available": "2018-09-13",
        "memory_gb": 16,
        "tdp_w": 70,
        "idle_w": 10,
        "slot_kw_per_gpu": 0.175,
        "rel_training": 0.15,
        "rel_inference": 0.12,
    }


@pytest.mark.parametrize("columns", [80, 100, 120])
def test_show_has_every_figure_with_unit_and_source(runner: CliRunner, columns: int) -> None:
    result = run(runner, "show", "h100-sxm-80", columns=columns)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "H100 SXM5 80GB (h100-sxm-80)"
    assert max(map(len, lines)) <= columns and "…" not in result.stdout and "\x1b" not in result.stdout
    cells = {line.split()[0]: line.split() for line in lines if line[:1].strip()}  # not what wraps
    assert set(FIGURES) <= set(cells)
    assert cells["idle_w"][1:4] == ["70", "W", "idle-logs"]
    assert cells["server_max_w"][1:4] == ["10,200", "W", "dgx"]
    assert cells["rel_training"][1:5] == ["2.2", "x", "A100", "estimate"]
    assert cells["fp4_tflops"][1:] == ["-"]
    assert cells["idle_power_w"][1:4] == ["232.5", "W", "computed"]  # 70 + 1300 / 8
    assert cells["context_power_w"][1:4] == ["315.238", "W", "computed"]  # 232.5 + 1042.5 * 50 / 630
    assert cells["busy_half_power_w"][1:4] == ["906.041", "W", "computed"]  # 1275 - (1 - 0.5^0.7) * 959.762
    assert cells["busy_full_power_w"][1:4] == ["1,275", "W", "computed"]
    words = " ".join(result.stdout.split())
    for said in ("nothing allocated", "allocated, no kernel", "kernels running, SM activity"):
        assert said in words
    assert cells["2026-02"][1:] == ["6.155", "neocloud_list", "coreweave-2026"]
    assert "nvidia-smi readings without load" in result.stdout  # what the source key stands for
    assert "used 15,000-28,000" in result.stdout  # the note


def test_every_model_can_be_shown(runner: CliRunner) -> None:
    for model in load_catalog().values():
        result = run(runner, "show", model.id, columns=80)
        assert result.exit_code == 0 and model.name in result.stdout and "…" not in result.stdout


def test_show_json_agrees_with_the_catalogue(runner: CliRunner) -> None:
    shown = json.loads(run(runner, "show", "gaudi3", "--json").stdout)
    model = load_catalog()["gaudi3"]
    assert (shown["id"], shown["generation"]) == ("gaudi3", "Gaudi")
    for name, figure in FIGURES.items():
        assert shown["figures"][name] == {
            "value": getattr(model, name),
            "unit": figure.unit,
            "meaning": figure.meaning,
            "source": model.sources.get(name),
            "remark": model.remarks.get(name, ""),
        }
    assert shown["figures"]["available"]["value"] == "2024-09-24"
    assert shown["figures"]["slot_kw_per_gpu"]["value"] == 1.3125
    powers = {name: entry for name, entry in shown["figures"].items() if name.endswith("_power_w")}
    assert [*powers] == ["idle_power_w", "context_power_w", "busy_half_power_w", "busy_full_power_w"]
    assert {(entry["unit"], entry["source"]) for entry in powers.values()} == {("W", "computed")}
    assert powers["idle_power_w"]["value"] == 275  # 150 + 1000 / 8
    assert powers["context_power_w"]["value"] == model.context_power_w
    assert powers["busy_half_power_w"]["value"] == model.busy_power_w(0.5)
    assert powers["busy_full_power_w"]["value"] == 1312.5  # 10500 / 8
    assert powers["idle_power_w"]["meaning"] == "GPU with its share of the server, nothing allocated"
    assert shown["rental_prices"] == [
        {"month": "2025-06", "usd_per_gpu_hour": 2.5, "kind": "neocloud", "source": "estimate"}
    ]
    cited = {figure["source"] for figure in shown["figures"].values()} - {"computed", None}
    assert set(shown["sources"]) == cited


def test_unknown_model_is_exit_2_with_a_suggestion(runner: CliRunner) -> None:
    result = run(runner, "show", "h100")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "MODEL: unknown GPU model 'h100'. Did you mean h100-pcie-80 or h100-sxm-80?" in result.stderr


def test_a_broken_row_is_reported_beside_the_sound_ones(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).parent.parent / "seeds/catalog/gpu-models.yaml").read_text(encoding="utf-8")
    broken: Catalog = parse_catalog(text.replace("idle_w: [10, ", "idle_w: [71, "), "c.yaml")  # the T4's
    monkeypatch.setattr(catalog_module, "load_catalog", lambda: broken)
    result = run(runner, "list", "--json")
    assert result.exit_code == 2
    assert [row["id"] for row in json.loads(result.stdout)] == [name for name in broken if name != "t4"]
    assert "t4.idle_w: 71 W is not below tdp_w, 70 W" in result.stderr
    assert run(runner, "show", "l4").exit_code == 0
    assert run(runner, "show", "t4").exit_code == 2


@pytest.mark.parametrize("arguments", [(), ("list",), ("show",)])
def test_help_has_an_example(runner: CliRunner, arguments: tuple[str, ...]) -> None:
    result = run(runner, *arguments, "--help")
    assert result.exit_code == 0
    example = result.stdout.split("Example:\n")[1].splitlines()[0].strip()
    words = example.split()
    assert words[:2] == ["fleetsim", "gpu"]
    assert run(runner, *words[2:]).exit_code == 0


def test_help_loads_nothing_heavy() -> None:
    heavy = "numpy polars pyarrow rich.table yaml"
    code = f"import sys, fleetsim.cli.gpu; print([name for name in '{heavy}'.split() if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
