"""Dashboards ask only for what the catalogue has, show what the books say, and are laid out soundly."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleetsim.catalog import load_catalog
from fleetsim.metrics import page
from fleetsim.runfolder import Run
from fleetsim.schema import STATES
from fleetsim.summary import summarise
from fleetsim_collectors.catalogue import RUN_FAMILIES

from .conftest import Scraped, read_back
from .promql import Vector, check, evaluate, parse

GRAFANA = Path(__file__).parents[2] / "grafana"
BOARDS = {path.name: json.loads(path.read_text("utf-8")) for path in GRAFANA.glob("dashboards/*.json")}
SERIES = {name: labels for family in RUN_FAMILIES for name, labels in family.series.items()}
TYPES = {"stat", "bargauge", "barchart", "table"}
UNITS = {"short", "none", "percentunit", "watth", "s", "dateTimeAsIso"}

#: Okabe and Ito, and viridis: palettes whose colours stay apart for the colour-blind.
OKABE_ITO = {"#0072B2", "#E69F00", "#CC79A7", "#009E73", "#999999", "#D55E00", "#56B4E9"}
VIRIDIS = {"#482878", "#3E4989", "#31688E", "#1F9E89", "#35B779", "#6ECE58", "#B5DE2B", "#FDE725"}

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


EVERY_PANEL = pytest.mark.parametrize(
    "panel",
    [pytest.param(p, id=f"{name}-{p['title']}") for name, board in BOARDS.items() for p in board["panels"]],
)
EVERY_BOARD = pytest.mark.parametrize("board", list(BOARDS.values()), ids=list(BOARDS))


def targets(panel: dict[str, Any]) -> Iterator[tuple[str, set[str], str]]:
    """Expression, labels of its result and legend of each target of *panel*."""
    for target in panel["targets"]:
        expression = target["expr"].replace("$run", "mixed")
        yield expression, check(parse(expression), SERIES), target.get("legendFormat", "")


def test_there_is_a_dashboard() -> None:
    assert list(BOARDS) == ["fleet-overview.json"]


@EVERY_PANEL
def test_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    assert panel["type"] in TYPES
    assert panel["title"].strip() and len(panel["description"]) > 20 and panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["datasource"] == DATASOURCE and panel["targets"]
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references)
    for target in panel["targets"]:
        # totals: one value, not a curve
        assert target["datasource"] == DATASOURCE and target["instant"] and not target["range"]
        assert len(panel["targets"]) == 1 or target["legendFormat"]


@EVERY_PANEL
def test_expressions_use_the_catalogue_and_one_run(panel: dict[str, Any]) -> None:
    for expression, labels, legend in targets(panel):
        assert set(re.findall(r"{{(\w+)}}", legend)) <= labels
        selected = [node for node in parse(expression).walk() if node.kind == "select"]
        assert selected and all(("run", "=", "mixed") in node.matchers for node in selected)
        for transformation in panel.get("transformations", []):
            options = transformation["options"]
            if transformation["id"] == "groupingToMatrix":
                assert {options["rowField"], options["columnField"]} <= labels
            else:
                assert transformation["id"] == "filterFieldsByName"
                assert set(options["include"]["names"]) == labels


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("fleetsim_gpu_hour_total", "no metric fleetsim_gpu_hour_total"),
        ('fleetsim_gpu_hours_total{team="x"}', "no label team"),
        ("sum by (node) (fleetsim_gpu_hours_total)", "no label node"),
        ("sum by (tenant) (sum by (state) (fleetsim_gpu_hours_total))", "no label tenant"),
        ("histogram_quantile(0.5, sum(fleetsim_job_wait_seconds_bucket))", "no label le"),
        ("sum by (le) (fleetsim_job_wait_seconds_sum)", "no label le"),
        ("fleetsim_job_wait_seconds", "no metric fleetsim_job_wait_seconds"),
        ("fleetsim_queue_jobs * on (tenant) fleetsim_queue_gpus", "no label tenant"),
        ("fleetsim_queue_jobs / fleetsim_mfu_ratio", "never match"),
        ('label_join(fleetsim_queue_jobs, "card", "-", "generation")', "no label generation"),
        ("rate(fleetsim_queue_jobs)", "no function rate"),
        ("sum(fleetsim_queue_jobs", "was due"),
        ("fleetsim_queue_jobs fleetsim_queue_gpus", "was due"),
        ("fleetsim_queue_jobs[5m]", "not understood"),
    ],
)
def test_the_check_finds_faults(expression: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        check(parse(expression), SERIES)


@EVERY_BOARD
def test_layout_and_variables(board: dict[str, Any]) -> None:
    assert board["schemaVersion"] >= 38 and board["uid"] and board["title"] and board["description"]
    assert board.get("id") is None, "an id belongs to one Grafana"
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = {}
    for panel in panels:
        grid = panel["gridPos"]
        assert grid["x"] >= 0 and grid["w"] > 0 and grid["h"] > 0 and grid["x"] + grid["w"] <= 24
        columns, rows = range(grid["x"], grid["x"] + grid["w"]), range(grid["y"], grid["y"] + grid["h"])
        cells[panel["title"]] = {(x, y) for x in columns for y in rows}
    for (a, mine), (b, other) in combinations(cells.items(), 2):
        assert not mine & other, f"{a} overlaps {b}"
    assert len(cells) == len(panels), "two panels have one title"
    variables = {v["name"]: v for v in board["templating"]["list"]}
    assert set(variables) == {"datasource", "run"} and variables["datasource"]["type"] == "datasource"
    metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variables["run"]["definition"]).groups()  # type: ignore[union-attr]
    assert label in SERIES[metric] and variables["run"]["query"]["query"] == variables["run"]["definition"]
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(panels))) == set(variables)


@EVERY_BOARD
def test_colours_stay_apart_for_the_colour_blind(board: dict[str, Any]) -> None:
    used = set(re.findall(r'"(?:fixedColor|color)": "([^"]*)"', json.dumps(board["panels"])))
    assert used and used <= OKABE_ITO | VIRIDIS
    by_column = {"state": set(STATES), "generation": {load_catalog()[m].generation for m in load_catalog()}}
    seen = set()
    for panel in board["panels"]:
        for transformation in panel.get("transformations", []):
            if transformation["id"] == "groupingToMatrix":
                column = transformation["options"]["columnField"]
                overrides = panel["fieldConfig"]["overrides"]
                colours = {
                    o["matcher"]["options"]: o["properties"][0]["value"]["fixedColor"] for o in overrides
                }
                assert set(colours) == by_column[column] and len(set(colours.values())) == len(colours)
                seen.add(column)
    assert seen == set(by_column)


@pytest.fixture(scope="module")
def shown(run: Run, scraped: Scraped) -> dict[tuple[str, str], Vector]:
    """What every target shows of *run*, by title of its panel and legend, beside another run."""
    both = [*scraped, *read_back(page(run, name="another"))]
    found = {}
    for panel in BOARDS["fleet-overview.json"]["panels"]:
        for expression, _, legend in targets(panel):
            value = evaluate(parse(expression), both)
            assert isinstance(value, dict) and value, f"{panel['title']} shows nothing"
            found[panel["title"], legend] = value
    return found


def test_figures_are_those_of_the_summary(run: Run, shown: dict[tuple[str, str], Vector]) -> None:
    summary = summarise(run)
    fleet, jobs, waits = summary["fleet"], summary["jobs"], summary["waits"][0]
    figures = {
        ("Installed GPU hours", ""): fleet["installed_gpu_hours"],
        ("Allocated", ""): fleet["allocation"],
        ("Productive", ""): fleet["time_effective"],
        ("Idle while jobs waited", ""): fleet["idle_queue"],
        ("Energy at the meter", ""): fleet["facility_energy_mwh"] * 1e6,
        ("Jobs submitted", ""): jobs["submitted"],
        ("Utilisation chain", "allocated"): fleet["allocation"],
        ("Utilisation chain", "productive"): fleet["time_effective"],
        ("Utilisation chain", "model FLOPs"): fleet["fleet_mfu"],
        ("Queue waits", "mean"): waits["mean_s"],
        ("Waiting at the end", "jobs"): jobs["queued"],
    }
    for key, wanted in figures.items():
        assert list(shown[key].values()) == [pytest.approx(wanted, rel=1e-9)], key
    at_once = 1 - waits["share_waiting"]
    assert list(shown["Started within", "at once"].values()) == [pytest.approx(at_once, rel=1e-9)]


def test_tables_are_those_of_the_summary(run: Run, shown: dict[tuple[str, str], Vector]) -> None:
    summary = summarise(run)

    def by(title: str, *labels: str) -> dict[tuple[str, ...], float]:
        (vector,) = (vector for (t, _), vector in shown.items() if t == title)
        return {tuple(dict(found)[label] for label in labels): value for found, value in vector.items()}

    cards = {(r["generation"], str(r["age_band"])): r for r in summary["by_generation_and_age"]}
    for title, key, scale in (
        ("Allocated, by generation and age", "allocation", 1),
        ("Productive, by generation and age", "time_effective", 1),
        ("Energy at the meter, by generation and age", "facility_energy_mwh", 1e6),
    ):
        wanted = {card: pytest.approx(row[key] * scale, rel=1e-9) for card, row in cards.items()}
        assert by(title, "generation", "age_band") == wanted
    hours = {
        (f"{generation}, age {band}", state): value
        for (generation, band), row in cards.items()
        for state, value in (
            ("idle_queue", row["idle_queue_gpu_hours"]),
            ("idle_no_queue", row["idle_no_queue_gpu_hours"]),
            ("stalled", row["allocated_gpu_hours"] - row["productive_gpu_hours"] - row["lost_gpu_hours"]),
            ("lost", row["lost_gpu_hours"]),
            ("down", row["down_gpu_hours"]),
            ("productive", row["productive_gpu_hours"]),
        )
        if value  # a state that did not occur has no series
    }
    title = "Where GPU hours went, by generation and age"
    assert by(title, "card", "state") == pytest.approx(hours, rel=1e-9)
    first = [row["tenant"] for row in summary["by_tenant"][:15]]
    used = {(r["tenant"], r["generation"]): r["allocated_gpu_hours"] for r in summary["who_used_what"]}
    assert by("Who used which generation", "tenant", "generation") == {
        key: pytest.approx(value, rel=1e-9) for key, value in used.items() if key[0] in first
    }
    classes = {(r["workload_class"],): r["allocated_gpu_hours"] for r in summary["by_class"]}
    assert by("GPU hours by workload class", "workload_class") == pytest.approx(classes, rel=1e-9)
    energy = sorted(((r["tenant"], r["energy_mwh"] * 1e6) for r in summary["by_tenant"]), key=lambda r: -r[1])
    shown_energy = by("IT energy, by tenant", "tenant")
    assert [tenant for (tenant,) in shown_energy] == [tenant for tenant, _ in energy[:15]]
    assert list(shown_energy.values()) == pytest.approx([wh for _, wh in energy[:15]], rel=1e-9)


def test_estimated_waits_lie_in_the_bucket_of_the_exact_ones(
    run: Run, shown: dict[tuple[str, str], Vector]
) -> None:
    bounds = [*next(f for f in RUN_FAMILIES if f.name == "fleetsim_job_wait_seconds").buckets, float("inf")]
    exact = summarise(run)["waits"][0]
    for legend in ("p50", "p95", "p99"):
        (estimate,) = shown["Queue waits", legend].values()
        upper = next(bound for bound in bounds if exact[f"{legend}_s"] <= bound)
        assert ([0.0, *bounds])[bounds.index(upper)] <= estimate <= upper


def test_provisioning_finds_the_dashboards() -> None:
    def read(kind: str) -> dict[str, Any]:
        (path,) = (GRAFANA / "provisioning" / kind).glob("*.yaml")
        found: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
        assert found["apiVersion"] == 1
        return found

    (source,) = read("datasources")["datasources"]
    assert source["type"] == DATASOURCE["type"] and source["url"].startswith("http://localhost:")
    (provider,) = read("dashboards")["providers"]
    assert provider["type"] == "file"
    assert f"/grafana/dashboards:{provider['options']['path']}:ro" in (GRAFANA / "README.md").read_text(
        "utf-8"
    )
