"""Finished runs to publish, and their pages read back by the parser of prometheus_client."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fleetsim import experiment, scenario
from fleetsim.metrics import Page, page
from fleetsim.runfolder import Run

Scraped = list[tuple[str, dict[str, str], float]]

#: Three generations, two sites, two classes, a birthday; gangs that fit nowhere, and a queue at the end.
SCENARIO = """
name: mixed
start: 2026-01-05
horizon: 20d
sites: [{name: main, pue: 1.2}, {name: far, pue: 1.5}]
cohorts:
  - {name: old, gpu_model: v100-sxm2-16, nodes: 4, delivered: -1085d}
  - {name: used, gpu_model: t4, nodes: 1, gpus_per_node: 4, earlier_age: 18mo}
  - {name: new, gpu_model: a100-sxm-80, nodes: 2, delivered: 3d, site: far}
workloads:
  - {name: research, generate: {family: philly, jobs: 2000}, reference_gpu: v100-sxm2-16}
  - {name: service, generate: {family: philly, jobs: 300, seed: 7}, reference_gpu: t4,
     workload_class: inference, tenant: serving, gpu_models: [t4]}
"""


def simulate(folder: Path, *overrides: str) -> Run:
    return experiment.run(scenario.parse(SCENARIO, "mixed.yaml", overrides), folder)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return simulate(tmp_path_factory.mktemp("a") / "mixed")


@pytest.fixture(scope="session")
def run_page(run: Run) -> Page:
    return page(run)


@pytest.fixture(scope="session")
def scraped(run_page: Page) -> Scraped:
    return read_back(run_page)


def read_back(page: Page) -> Scraped:
    """What Prometheus would have after a scrape: name, labels and value of every series."""
    families = text_string_to_metric_families(page.text)
    return [(s.name, s.labels, float(s.value)) for family in families for s in family.samples]
