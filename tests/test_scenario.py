"""Scenarios of strangers: every fault with its place, its value and a remedy, and all of them at once."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from inspect import cleandoc
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from life.aging import AGING, ALL

from fleetsim import safeyaml, scenario
from fleetsim.errors import InputError, Problem
from fleetsim.policies.packing import PACKINGS
from fleetsim.policies.placement import PLACEMENTS
from fleetsim.policies.queue import QUEUES
from fleetsim.scenario import Scenario, parse
from fleetsim.spec import ScenarioSpec
from fleetsim.words import Spec, WorkloadClass
from fleetsim.workload import load_jobs
from fleetsim_traces.samples import SAMPLES, sample

DAY_S = 86_400.0

#: Sound. A test puts one fault (or ten) into it; ``@@`` marks where its place is to be.
SOUND = """\
name: x
start: 2026-01-01
horizon: 30d
sites:
  - {name: north, it_power_kw: 100}
cohorts:
  - {name: a, gpu_model: t4, nodes: 1}
tenants:
  - {name: red}
workloads:
  - {name: w, trace: philly-like-10k, reference_gpu: t4, tenant: red}
scheduler: {queue: fifo}
"""
WORKLOAD = "{name: w, trace: philly-like-10k, reference_gpu: t4, tenant: red}"

#: A scenario that uses every key there is.
FULL: dict[str, Any] = {
    "name": "full",
    "question": "What is allowed?",
    "start": "2026-01-01T06:00:00Z",
    "horizon": "3y",
    "seed": 7,
    "usage_period": "quarter",
    "sites": [{"name": "north", "pue": 1.1, "it_power_kw": 1e6}],
    "cohorts": [
        {
            "name": "a", "gpu_model": "t4", "nodes": 3, "gpus_per_node": 4, "site": "north",
            "delivered": "-1y6mo", "earlier_age": "6mo", "tenants": ["red"],
            "topology": {
                "nodes_per_domain": 1, "nodes_per_rack": 2, "racks_per_spine": 2,
                "penalty": {"domain": 1, "rack": 1.05, "spine": 1.15, "beyond": 1.3},
            },
        },
    ],
    "tenants": [
        {"name": "all", "deserved_gpus": 4},
        {
            "name": "red", "gpu_models": ["t4"], "parent": "all", "priority": -1, "share": 0.5,
            "deserved_gpus": 2.5, "over_quota_weight": 0, "max_gpus": 12, "preemptible": True,
            "notice": "30s",
        },
    ],
    "workloads": [
        {
            "name": "w", "trace": "philly-like-10k", "format": "jobs",
            "columns": {"submit_s": "t", "gpus": {"a": [1]}}, "bad_rows": "drop",
            "workload_class": "batch", "reference_gpu": "t4", "tenants": {"red": ["vc-01", "*"]},
            "select": {"min_gpus": 1, "max_gpus": 8, "tenants": ["vc-01"], "statuses": ["failed"]},
            "window": {"start": "1d", "end": "9d", "warm_start": True}, "starts": "2026-02-01",
            "time_scale": 2.5, "load": 0.5,
            "repeat": {"every": "10d", "growth_per_year": -0.5, "until": "2y"},
            "min_memory_gb": 8, "gpu_models": ["t4"], "gpu_names": {"V100M16": ["v100-sxm2-16"], "*": []},
            "busy_share": 0.5, "sm_active": 1, "mfu": 0,
        },
        {
            "name": "v", "generate": {"family": "philly", "jobs": 10, "seed": 3}, "reference_gpu": "t4",
            "tenant": "red",
        },
    ],
    "scheduler": {"queue": "fifo_skip", "placement": "consolidate", "prefer": "listed"},
    "maintenance": [
        {
            "cohort": "a", "first": 1, "nodes": 2, "at": "90d", "lasts": "4h", "every": "90d", "drain": "1d",
            "stop": True,
        },
    ],
    "reservations": [
        {"cohort": "a", "tenant": "red", "nodes": 1, "at": "2026-03-01", "lasts": "2w"},
        {
            "cohort": "a", "tenant": "red", "gpus": 5, "at": "1d", "lasts": "8h", "every": "1d",
            "drain": "1h", "stop": True,
        },
    ],
}  # fmt: skip

#: A scenario with the keys that only shared GPUs have.
SHARED: dict[str, Any] = {
    "name": "shared", "start": "2026-01-01", "horizon": "30d",
    "cohorts": [
        {
            "name": "a", "gpu_model": "a100-sxm-80", "nodes": 2, "known_as": "G2", "cpus": 96,
            "memory_gb": 768.5, "mig_gpus": 4,
        },
    ],
    "workloads": [
        {"name": "v", "trace": "pods.csv", "format": "openb", "cpu_jobs": True, "reference_gpu": "t4"},
        {"name": "w", "trace": "philly-like-10k", "mig": "1g.10gb", "reference_gpu": "a100-sxm-80"},
    ],
    "scheduler": {
        "queue": "smallest", "placement": "fgd", "sharing": {"replicas": 4, "interference": 0.05},
    },
}  # fmt: skip

#: Schedulers with the keys that only some queues have.
SCHEDULERS: list[dict[str, Any]] = [
    {
        "queue": "easy", "depth": 9,
        "estimate": {"source": "trace", "factor": 1.5, "error": 0.5, "default": "1h", "seed": 3},
    },
    {"queue": "qssf", "on_misfit": "skip"},
    {"queue": "quota", "preemptive": True, "on_misfit": "skip"},
    {
        "queue": "fair_share", "on_misfit": "stop",
        "fair_share": {
            "half_life": "3d", "fair_share": 0.5, "age": 2.0, "size": 0.1, "priority": 1.0, "max_age": "1d",
            "every": "1min",
        },
    },
    {"queue": "sjf", "placement": "first_fit", "defragment": {"every": "2h", "moves": 4}},
    {"queue": "las", "las_thresholds_gpu_s": [60.0, 600.0]},
    {
        "queue": "srtf", "admit": "afresh", "interval": "60s",
        "restart": {
            "setup": "1s", "checkpoint": "30min", "checkpoint_cost": "30s", "charge": "every_pass",
            "costs": [{"up_to_gpus": 8, "users": ["u"], "workloads": ["own"], "cost": "7s"}, {"cost": 60}],
        },
    },
]  # fmt: skip


def faulty(*changes: tuple[str, str]) -> tuple[str, list[str]]:
    """SOUND with *changes*, and the places of their marks in the order of the file."""
    text = SOUND
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} must be in the text once"
        text = text.replace(old, new)
    places = []
    while "@@" in text:
        before, text = text.split("@@", 1)
        places.append(f"f.yaml:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}")
        text = before + text
    return text, places


def problems(text: str, *overrides: str) -> list[Problem]:
    with pytest.raises(InputError) as caught:
        parse(text, "f.yaml", overrides)
    return list(caught.value.problems)


def test_the_sound_scenario_is_sound() -> None:
    read = parse(SOUND, "f.yaml")
    assert (read.spec.name, read.horizon_s, read.place) == ("x", 30 * DAY_S, "f.yaml")
    (only,) = read.cohorts
    assert (only.nodes, only.gpus_per_node, only.site.name, only.site.pue) == (1, 4, "north", 1.25)
    assert [model.id for model in read.references] == ["t4"]
    assert read.since_start_s("2026-01-03") == 2 * DAY_S


NESTED = "  - {name: a, gpu_model: t4, nodes: 1, gpu_per_node: @@4}"
FAULTS: dict[str, tuple[str, str, str, list[str]]] = {
    # name: old text, new text with the mark, path, what the message and the remedy must hold
    "unknown key": (
        "name: x\n", "name: x\nhorizn: @@3\n", "horizn",
        ["unknown key", "Did you mean horizon?", "Known: name, question, start, horizon, seed"],
    ),
    "unknown key inside": (
        "  - {name: a, gpu_model: t4, nodes: 1}", NESTED, "cohorts[0].gpu_per_node",
        ["unknown key", "Did you mean gpus_per_node or gpu_model?", "Known: name, gpu_model, nodes"],
    ),
    "unknown key far inside": (
        "tenant: red}", "tenant: red, select: {min_gpu: @@2}}", "workloads[0].select.min_gpu",
        ["unknown key", "Did you mean min_gpus", "Known: min_gpus, max_gpus, tenants, statuses"],
    ),
    "text for a number": ("nodes: 1}", "nodes: @@many}", "cohorts[0].nodes", ["valid integer", "not 'many'"]),
    "true is no number": ("nodes: 1}", "nodes: @@true}", "cohorts[0].nodes", ["valid integer", "not True"]),
    "half a node": ("nodes: 1}", "nodes: @@1.5}", "cohorts[0].nodes", ["valid integer", "not 1.5"]),
    "no node": ("nodes: 1}", "nodes: @@0}", "cohorts[0].nodes", ["greater than or equal to 1", "not 0"]),
    "a quoted number": ("nodes: 1}", "nodes: @@'4'}", "cohorts[0].nodes", ["valid integer", "not '4'"]),
    "a number for a text": ("name: x\n", "name: @@7\n", "name", ["valid string", "not 7"]),
    "no list": (
        "cohorts:\n  - {name: a, gpu_model: t4, nodes: 1}\n", "cohorts: @@3\n", "cohorts",
        ["valid list", "not 3"],
    ),
    "an empty list": (
        "  - {name: a, gpu_model: t4, nodes: 1}\n", "  @@[]\n", "cohorts", ["at least 1 item"],
    ),
    "no mapping": ("{name: a, gpu_model: t4, nodes: 1}", "@@a", "cohorts[0]", ["not 'a'"]),
    "a list for a duration": ("horizon: 30d", "horizon: @@[1]", "horizon", ["not [1]"]),
    "nothing for a duration": ("horizon: 30d", "horizon: @@~", "horizon", ["not None"]),
    "a key is missing": ("start: 2026-01-01\n", "", "start", ["missing", "fleetsim scenario schema"]),
    "a key inside is missing": (
        "  - {name: a, gpu_model: t4, nodes: 1}", "  - @@{name: a, gpu_model: t4}", "cohorts[0].nodes",
        ["missing"],
    ),
    "a policy": (
        "{queue: fifo}", "{queue: @@fifo_skp}", "scheduler.queue",
        ["'fifo_skp'", "Did you mean fifo_skip", "Known: fifo, fifo_skip"],
    ),
    "a placement": (
        "{queue: fifo}", "{placement: @@next_fit}", "scheduler.placement",
        ["'next_fit'", "Known: best_fit, first_fit, worst_fit, consolidate, spread, by_size, topology, pool"],
    ),
    "a preference": (
        "{queue: fifo}", "{prefer: @@quickest}", "scheduler.prefer",
        ["'fastest', 'slowest' or 'listed'", "not 'quickest'"],
    ),
    "a class": (
        "tenant: red}", "tenant: red, workload_class: @@trainig}", "workloads[0].workload_class",
        ["'training', 'fine_tuning', 'inference', 'batch' or 'interactive'", "not 'trainig'"],
    ),
    "a period": (
        "name: x\n", "name: x\nusage_period: @@fortnight\n", "usage_period",
        ["'fortnight'", "Known: hour, day, week, month, quarter, year"],
    ),
    "a GPU model": (
        "gpu_model: t4", "gpu_model: @@h100", "cohorts[0].gpu_model",
        ["unknown GPU model 'h100'", "Did you mean h100-pcie-80 or h100-sxm-80?", "fleetsim gpu list"],
    ),
    "a reference": (
        "reference_gpu: t4", "reference_gpu: @@a100-smx-80", "workloads[0].reference_gpu",
        ["unknown GPU model 'a100-smx-80'", "Did you mean a100-sxm-80"],
    ),
    "a GPU model of a tenant": (
        "- {name: red}", "- {name: red, gpu_models: [t4, @@a10O]}", "tenants[0].gpu_models[1]",
        ["unknown GPU model 'a10O'", "fleetsim gpu list"],
    ),
    "what a name stands for": (
        "tenant: red}", "tenant: red, gpu_names: {T4: [t4], V100|G2: [t4, @@v100-sxm2-61]}}",
        "workloads[0].gpu_names.V100|G2[1]",
        ["unknown GPU model 'v100-sxm2-61'", "Did you mean v100-sxm2-16"],
    ),
    "GPU models that nobody has": (
        "tenant: red}", "tenant: red, gpu_models: @@[l4, a10]}", "workloads[0].gpu_models",
        ["no cohort has any of l4, a10", "The fleet has: t4."],
    ),
    "a site": (
        "nodes: 1}", "nodes: 1, site: @@nroth}", "cohorts[0].site",
        ["no site 'nroth'", "Did you mean north?", "Sites are: north."],
    ),
    "a tenant": (
        "tenant: red}", "tenant: @@rde}", "workloads[0].tenant",
        ["no tenant 'rde'", "Did you mean red?", "Tenants are: red."],
    ),
    "a tenant of a map": (
        "tenant: red}", "tenants: @@{green: ['*']}}", "workloads[0].tenants",
        ["no tenant 'green'", "Tenants are: red."],
    ),
    "a tenant without a name": ("tenant: red}", "tenant: @@''}", "workloads[0].tenant", ["''"]),
    "a tenant and a map": (
        "tenant: red}", "tenant: red, tenants: @@{red: ['*']}}", "workloads[0].tenants",
        ["`tenant` is given too", "Keep one of the two."],
    ),
    "a tenant mapped twice": (
        "tenant: red}", "tenants: @@{red: [vc-01, vc-02, vc-01]}}", "workloads[0].tenants",
        ["'vc-01' is mapped 2 times", "Map it to one tenant."],
    ),
    "two of a name": (
        "- {name: red}", "@@- {name: red}\n  - {name: blue}\n  - {name: red}", "tenants",
        ["the name 'red' occurs 2 times", "Names are unique in a section."],
    ),
    "a name with a blank": (
        "name: a,", "name: @@a b,", "cohorts[0].name",
        ["'a b' is not a name", "Use letters, digits, '-', '_' and '.', 63 at most."],
    ),
    "a name that ends a line": ("name: a,", 'name: @@"a\\n",', "cohorts[0].name", ["'a\\n' is not a name"]),
    "a name that leads away": ("name: a,", "name: @@../a,", "cohorts[0].name", ["'../a' is not a name"]),
    "a long name": ("name: a,", f"name: @@{'a' * 64},", "cohorts[0].name", ["is not a name", "63 at most"]),
    "delivered too late": (
        "nodes: 1}", "nodes: 1, delivered: @@31d}", "cohorts[0].delivered",
        ["'31d' is 1 d after the horizon", "Deliver it earlier, lengthen the horizon, or leave the cohort"],
    ),
    "delivered at a date too late": (
        "nodes: 1}", "nodes: 1, delivered: @@2026-02-01}", "cohorts[0].delivered",
        ["'2026-02-01' is 1 d after"],
    ),
    "delivered as it ends": ("nodes: 1}", "nodes: 1, delivered: @@30d}", "cohorts[0].delivered", ["'30d'"]),
    "delivered some day": (
        "nodes: 1}", "nodes: 1, delivered: @@soon}", "cohorts[0].delivered",
        ["'soon' is neither a date (2026-01-31) nor an offset from the start (-3y, 90d)"],
    ),
    "a list for a date": (
        "nodes: 1}", "nodes: 1, delivered: @@[a]}", "cohorts[0].delivered", ["not ['a']"],
    ),
    "a negative age": (
        "nodes: 1}", "nodes: 1, earlier_age: @@-1d}", "cohorts[0].earlier_age",
        ["'-1d' must not be negative"],
    ),
    "an age beyond reason": (
        "nodes: 1}", "nodes: 1, earlier_age: @@40000y}", "cohorts[0].earlier_age", ["'40000y'"],
    ),
    "delivered before there were computers": (
        "nodes: 1}", "nodes: 1, delivered: @@-40000y}", "cohorts[0].delivered", ["'-40000y'"],
    ),
    "a negative horizon": (
        "horizon: 30d", "horizon: @@-30d", "horizon", ["'-30d' must be longer than zero"],
    ),
    "no horizon at all": ("horizon: 30d", "horizon: @@0", "horizon", ["must be longer than zero"]),
    "a horizon in words": (
        "horizon: 30d", "horizon: @@soon", "horizon",
        ["'soon' is not a duration", "90d, 36h, 1y6mo (s, min, h, d, w, mo, y)"],
    ),
    "an endless horizon": ("horizon: 30d", f"horizon: @@{'9' * 400}d", "horizon", ["is not a duration"]),
    "a horizon beyond the calendar": ("horizon: 30d", "horizon: @@9000y", "horizon", ["'9000y'"]),
    "a bad date": (
        "start: 2026-01-01", "start: @@2026-13-01", "start",
        ["'2026-13-01' is not a date: write 2026-01-31 or 2026-01-31T12:00:00Z"],
    ),
    "a date before the calendar": (
        "start: 2026-01-01", "start: @@0001-01-01T00:00:00+14:00", "start", ["is not a date"],
    ),
    "a date that is a number": (
        "start: 2026-01-01", "start: @@20260101", "start", ["valid string", "not 20260101"],
    ),
    "power above the site's": (
        "nodes: 1}", "nodes: 1000}", "sites[0].it_power_kw",
        ["100 kW, but its servers reserve 700.0 kW", "Place fewer nodes there or give the site more power."],
    ),
    "neither trace nor generated": (
        f"  - {WORKLOAD}", "  - @@{name: w, reference_gpu: t4}", "workloads[0]",
        ["needs one of `trace` and `generate`", "Name a trace file or sample, or generate jobs."],
    ),
    "both trace and generated": (
        f"  - {WORKLOAD}", "  - @@{name: w, reference_gpu: t4, trace: a, generate: {jobs: 5}}",
        "workloads[0]", ["needs one of `trace` and `generate`"],
    ),
    "columns of a generated trace": (
        "trace: philly-like-10k,", "generate: {jobs: 5}, columns: @@{a: b},", "workloads[0].columns",
        ["a generated workload has no columns to map", "Leave it out."],
    ),
    "a family": (
        "trace: philly-like-10k,", "generate: {jobs: 5, family: @@phily},", "workloads[0].generate.family",
        ["'phily'", "philly"],
    ),
    "a format": (
        "tenant: red}", "tenant: red, format: @@swff}", "workloads[0].format", ["'swff'", "swf"],
    ),
    "a window that closes before it opens": (
        "tenant: red}", "tenant: red, window: {start: 5d, end: @@3d}}", "workloads[0].window.end",
        ["'3d' is not after the start of the window"],
    ),
    "a selection of nothing": (
        "tenant: red}", "tenant: red, select: @@{min_gpus: 5, max_gpus: 3}}", "workloads[0].select",
        ["min_gpus 5 is above max_gpus 3"],
    ),
    "work that starts too late": (
        "tenant: red}", "tenant: red, starts: @@40d}", "workloads[0].starts",
        ["'40d' lies outside the run", "Start between 0 and the horizon."],
    ),
    "work that starts too early": (
        "tenant: red}", "tenant: red, starts: @@-1s}", "workloads[0].starts", ["'-1s' lies outside the run"],
    ),
    "less than no load": (
        "tenant: red}", "tenant: red, load: @@-1}", "workloads[0].load", ["than or equal to 0", "not -1"],
    ),
    "a load beyond reason": (
        "tenant: red}", "tenant: red, load: @@1e5}", "workloads[0].load", ["less than or equal to 10000"],
    ),
    "nothing to plan with": (
        "{queue: fifo}", "@@{queue: easy}", "scheduler.estimate",
        ["missing: `easy` plans with run times", "{source: duration}", "{source: trace}"],
    ),
    "an estimate that nobody reads": (
        "{queue: fifo}", "{queue: qssf, estimate: @@{}}", "scheduler.estimate",
        ["means nothing to queue `qssf`", "Leave it out, or take one of: easy, conservative, sjf."],
    ),
    "a depth that nobody looks into": (
        "{queue: fifo}", "{queue: sjf, depth: @@5}", "scheduler.depth",
        ["means nothing to queue `sjf`", "take one of: easy, conservative."],
    ),
    "a queue that always skips": (
        "{queue: fifo}", "{queue: fifo_skip, on_misfit: @@stop}", "scheduler.on_misfit",
        ["means nothing to queue `fifo_skip`", "take one of: smallest, sjf, qssf, priority"],
    ),
    "a preemptive queue always skips": (
        "{queue: fifo}", "{queue: smallest, preemptive: true, on_misfit: @@stop}", "scheduler.on_misfit",
        ["a queue that stops jobs", "Leave it or `preemptive` out."],
    ),
    "a limit for jobs that need none": (
        "{queue: fifo}", "{queue: sjf, estimate: {default: @@1h}}", "scheduler.estimate.default",
        ["every job has a run time", "take `source: trace`"],
    ),
    "a seed for nothing": (
        "{queue: fifo}", "{queue: sjf, estimate: {seed: @@1}}", "scheduler.estimate.seed",
        ["there is no `error` to draw", "Leave it out."],
    ),
    "a queue that stops nobody": (
        "{queue: fifo}", "{queue: easy, estimate: {}, preemptive: @@true}", "scheduler.preemptive",
        ["queue `easy` never stops a job", "take one of: srtf", "smallest"],
    ),
    "admission by count to a queue without": (
        "{queue: fifo}", "{queue: las, admit: @@count}", "scheduler.admit",
        ["means nothing to queue `las`", "srtf or srsf"],
    ),
    "jobs placed anew by a queue that stops nobody": (
        "{queue: fifo}", "{queue: smallest, admit: @@afresh}", "scheduler.admit",
        ["does not place running jobs anew", "set `preemptive`"],
    ),
    "interrupts in every pass without passes that interrupt": (
        "{queue: fifo}", "{queue: srtf, restart: {charge: @@every_pass}}", "scheduler.restart.charge",
        ["interrupted in every pass only if", "Add `admit: afresh`"],
    ),
    "rounds of no length": (
        "{queue: fifo}", "@@{queue: max_min}", "scheduler.interval", ["`max_min` works in rounds", "6min"],
    ),
    "a part of a second between passes": (
        "{queue: fifo}", "{queue: fifo, interval: @@1.5}", "scheduler.interval", ["Give whole seconds"],
    ),
    "thresholds of another queue": (
        "{queue: fifo}", "{queue: srtf, las_thresholds_gpu_s: @@[60.0]}", "scheduler.las_thresholds_gpu_s",
        ["means nothing to queue `srtf`", "take `las`"],
    ),
    "weights of another queue": (
        "{queue: fifo}", "{queue: fifo, fair_share: @@{age: 2.0}}", "scheduler.fair_share",
        ["means nothing to queue `fifo`", "take `fair_share`"],
    ),
    "thresholds that fall": (
        "{queue: fifo}", "{queue: las, las_thresholds_gpu_s: @@[60.0, 30.0]}",
        "scheduler.las_thresholds_gpu_s", ["must be above zero and rise"],
    ),
    "a delay of no spread": (
        "nodes: 1}", "nodes: 1, delay: @@{median: 30d}}", "cohorts[0].delay.sigma", ["missing"],
    ),
    "a delay of another key": (
        "nodes: 1}", "nodes: 1, delay: {median: 30d, sigma: 1, sigmaa: @@2}}", "cohorts[0].delay.sigmaa",
        ["unknown key", "Did you mean sigma?", "Known: median, sigma."],
    ),
    "a delay before its time": (
        "nodes: 1}", "nodes: 1, delay: @@-1d}", "cohorts[0].delay", ["'-1d' must not be negative"],
    ),
    "a list for a delay": (
        "nodes: 1}", "nodes: 1, delay: @@[1]}", "cohorts[0].delay",
        ["a number or a text with units is needed, not [1]"],
    ),
    "an XID that is none": (
        "{queue: fifo}\n", "{queue: fifo}\nfailures:\n  - name: f\n    script: [{after: 1d, down: 1d}]\n"
        "    xids: {79a: @@1}\n",
        "failures[0].xids.79a", ["'79a' is no key of this mapping", "[1-9][0-9]{0,2}"],
    ),
    "a curve that is no list of pairs": (
        "{queue: fifo}\n",
        "{queue: fifo}\nfailures:\n  - name: f\n    hazard: [{curve: [[0, 1], @@[1y]]}]\n"
        "    repairs: [{name: r}]\n",
        "failures[0].hazard[0].curve[1][1]", ["missing"],
    ),
    "a checkpoint that nobody writes": (
        "{queue: fifo}", "{restart: {checkpoint_cost: @@30s}}", "scheduler.restart.checkpoint_cost",
        ["no checkpoint is written in the course of a job: `checkpoint: when_stopped`", "`checkpoint: 1h`"],
    ),
    "a share above one": (
        "tenant: red}", "tenant: red, mfu: @@40}", "workloads[0].mfu", ["less than or equal to 1", "not 40"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_alone(fault: str) -> None:
    """One fault is one problem: where it stands, what is there, and what would be right. Nothing follows."""
    old, new, path, fragments = FAULTS[fault]
    text, places = faulty((old, new))
    found = problems(text)
    assert len(found) == 1, found
    (problem,) = found
    parent = {"a key is missing": "f.yaml:1:1", "power above the site's": "f.yaml:5:32"}
    assert problem.place == f"{places[0] if places else parent[fault]} {path}"
    said = f"{problem.message} {problem.remedy}"
    for fragment in fragments:
        assert fragment in said
    assert "CohortSpec" not in said and "after validation" not in said  # the words of a library


def test_repetition_for_ever_is_refused() -> None:
    repeating = ("tenant: red}", "tenant: red, repeat: @@{}}")
    text, (place,) = faulty(("horizon: 30d", "horizon: drain"), repeating)
    assert problems(text) == [
        Problem(
            f"{place} workloads[0].repeat", "repeats for ever, since the horizon is `drain`", "Give `until`."
        )
    ]
    parse(faulty(repeating)[0], "f.yaml")
    until = faulty(("horizon: 30d", "horizon: drain"), ("tenant: red}", "tenant: red, repeat: {until: 9d}}"))
    parse(until[0], "f.yaml")


def test_all_faults_at_once() -> None:
    """Twelve faults of all sorts in one file: all are reported, each at its own place, and nothing else."""
    text, places = faulty(
        ("name: x\n", "name: x\nhorizn: @@3\n"),
        ("start: 2026-01-01", "start: @@2026-13-01"),
        (
            "  - {name: a, gpu_model: t4, nodes: 1}",
            "  @@- {name: a, gpu_model: t4, nodes: @@many}\n"
            "  - {name: b, gpu_model: @@h100, nodes: 1}\n"
            "  - {name: b, gpu_model: t4, nodes: 1, site: @@nroth}\n"
            "  - {name: c, gpu_model: t4, nodes: 1, delivered: @@31d}\n"
            "  - {name: d, gpu_model: t4, nodes: 1000, earlier_age: @@-3d}\n"
            "  - {name: e, gpu_model: t4, nodes: 1000}",
        ),
        (
            f"  - {WORKLOAD}",
            "  - @@{name: w, reference_gpu: t4, tenant: @@blue}\n"
            "  - {name: v, trace: a, reference_gpu: t4, select: {min_gpu: @@1}}",
        ),
        ("{queue: fifo}", "{queue: @@fifo_skp}"),
    )
    found = problems(text)
    expected = [
        (places[0], "horizn", "Did you mean horizon?"),
        (places[1], "start", "'2026-13-01' is not a date"),
        (places[2], "cohorts", "the name 'b' occurs 2 times"),
        (places[3], "cohorts[0].nodes", "not 'many'"),
        (places[4], "cohorts[1].gpu_model", "unknown GPU model 'h100'. Did you mean h100-pcie-80"),
        (places[5], "cohorts[2].site", "no site 'nroth'. Did you mean north?"),
        (places[6], "cohorts[3].delivered", "'31d' is 1 d after the horizon"),
        (places[7], "cohorts[4].earlier_age", "'-3d' must not be negative"),
        (places[8], "workloads[0]", "needs one of `trace` and `generate`"),
        (places[9], "workloads[0].tenant", "no tenant 'blue'. Tenants are: red."),
        (places[10], "workloads[1].select.min_gpu", "Did you mean min_gpus"),
        (places[11], "scheduler.queue", "'fifo_skp' is not known. Did you mean fifo_skip"),
    ]
    power = ("f.yaml:6:32", "sites[0].it_power_kw", "100 kW, but its servers reserve")
    by_place = {problem.place: str(problem) for problem in found}
    for place, path, fragment in (*expected, power):
        assert fragment in by_place[f"{place} {path}"]
    assert len(found) == len(expected) + 1


def test_power_is_told_of_its_own_site() -> None:
    """A fault in another site does not move it; every site has its own limit."""
    text, places = faulty(
        (
            "- {name: north, it_power_kw: 100}",
            "- {name: @@bad name}\n"
            "  - {name: north, it_power_kw: @@0.1}\n"
            "  - {name: south, it_power_kw: 0.7}",
        ),
        (
            "  - {name: a, gpu_model: t4, nodes: 1}",
            "  - {name: a, gpu_model: t4, nodes: 1, site: north}\n"
            "  - {name: b, gpu_model: t4, nodes: 1, site: south}",
        ),
    )
    assert [(p.place, p.message) for p in problems(text)] == [
        (f"{places[0]} sites[0].name", "'bad name' is not a name"),
        (f"{places[1]} sites[1].it_power_kw", "0.1 kW, but its servers reserve 0.7 kW"),
    ]


def test_a_fault_names_its_nearest_place_in_the_file() -> None:
    """What is missing stands nowhere: its place is what it is missing from."""
    assert [p.place for p in problems("name: x\n")] == [
        f"f.yaml:1:1 {key}" for key in ("start", "horizon", "workloads", "cohorts")
    ]


@pytest.mark.parametrize("text", ["", "- a\n", "just words\n", "3\n", "~\n"])
def test_what_is_no_mapping_is_no_scenario(text: str) -> None:
    assert problems(text) == [
        Problem("f.yaml", "a scenario is a mapping of keys", "See `fleetsim scenario show philly-small`.")
    ]


@pytest.mark.parametrize(
    "text",
    [
        SOUND.replace("name: x\n", 'name: x\n"\\e[31mred\\n": 3\n'),
        SOUND.replace("queue: fifo", 'queue: "\\e[2J"'),
        SOUND.replace("tenant: red}", 'tenant: "\\e[31m"}'),
        SOUND.replace("horizon: 30d", 'horizon: "\\e[31m"'),
        SOUND.replace("tenant: red}", 'tenants: {"\\x07": ["*"]}}'),
        SOUND.replace("gpu_model: t4", 'gpu_model: "\\e]0;owned\\a"'),
    ],
)
def test_no_message_commands_a_terminal(text: str) -> None:
    """Keys and values are shown with their control characters written out."""
    for problem in problems(text):
        assert str(problem).isprintable(), str(problem)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("queue: fifo", "queue: "),
        ("horizon: 30d", "horizon: "),
        ("start: 2026-01-01", "start: "),
        ("tenant: red}", "tenant: red, starts: "),
        ("name: x\n", "name: "),
        ("gpu_model: t4", "gpu_model: "),
        ("tenant: red}", "tenant: "),
        ("nodes: 1}", "nodes: 1, site: "),
    ],
)
def test_no_message_repeats_a_whole_file(old: str, new: str) -> None:
    end = "}" if old.endswith("}") else "\n" if old.endswith("\n") else ""
    text, _ = faulty((old, f"{new}{'a' * 100_000}{end}"))
    (problem,) = problems(text)
    assert len(str(problem)) < 500


def test_a_long_key_is_shown_short() -> None:
    """In the path of the problem, and in the paths of what stands below it."""
    (problem,) = problems(SOUND + f"{'k' * 900}: 1\n")
    assert problem.message == "unknown key"
    assert " kkkkkkkkkk" in problem.place
    assert len(str(problem)) < 500


def test_elements_are_counted_as_they_stand() -> None:
    """The faulty ones included: the second is [1] also where the first is no cohort at all."""
    text, places = faulty(
        ("  - {name: a, gpu_model: t4, nodes: 1}", "  - @@7\n  - {name: a, gpu_model: @@t5, nodes: 1}")
    )
    assert [p.place for p in problems(text)] == [
        f"{places[0]} cohorts[0]",
        f"{places[1]} cohorts[1].gpu_model",
    ]


# Bombs


def test_a_bomb_of_aliases_is_refused_before_it_goes_off() -> None:
    lines = ["a0: &a0 [lol]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30))]
    found = problems("\n".join(lines))
    assert found[0] == Problem(
        "f.yaml:1:5", "anchor or alias 'a0'", "Write the value out where it is needed."
    )
    assert len(found) == safeyaml.MAX_PROBLEMS


@pytest.mark.parametrize("depth", [60, 100_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    (problem,) = problems("name: " + "[" * depth)
    assert (problem.message, problem.remedy) == ("nested deeper than 50 levels", "Flatten it.")
    assert problem.place.startswith("f.yaml:1:")


def test_a_deep_value_within_the_limit_is_shown_short() -> None:
    (problem,) = problems(SOUND + "deep: " + "[" * 45 + "]" * 45)
    assert problem.message == "unknown key"
    assert len(str(problem)) < 500


def test_code_is_never_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    (problem,) = problems(f"name: !!python/object/apply:os.mkdir ['{mark}']\n")
    assert "python/object/apply:os.mkdir" in problem.message
    assert not mark.exists()


# Overrides


def changed(*overrides: str) -> ScenarioSpec:
    return parse(SOUND, "f.yaml", overrides).spec


def test_an_override_sets_what_the_file_would() -> None:
    assert changed("horizon=5d").horizon == "5d"
    assert changed("horizon=86400").horizon == 86_400
    assert changed("cohorts.a.nodes=3").cohorts[0].nodes == 3
    assert changed("cohorts.0.nodes=3").cohorts[0].nodes == 3
    assert changed("cohorts.0={name: z, gpu_model: l4, nodes: 2}").cohorts[0].gpu_model == "l4"
    assert changed("seed=7", "seed=8").seed == 8  # the last one holds
    assert changed("question=Is 2 = 2?").question == "Is 2 = 2?"  # only the first sign counts
    assert changed("question='a: b'").question == "a: b"
    assert changed("workloads.w.tenants={red: ['*']}", "workloads.w.tenant=").workloads[0].tenants == {
        "red": ["*"]
    }


def test_an_override_makes_the_mappings_it_needs() -> None:
    assert changed("workloads.w.select.min_gpus=2").workloads[0].select.min_gpus == 2
    assert changed("workloads.0.repeat.growth_per_year=0.5").workloads[0].repeat is not None
    assert changed("scheduler.prefer=listed").scheduler.prefer == "listed"
    assert changed("scheduler.prefer=listed").scheduler.queue == "fifo"  # beside what is there


def test_an_override_finds_an_element_by_the_name_it_was_given() -> None:
    assert changed("cohorts.a.name=b", "cohorts.b.nodes=4").cohorts[0].nodes == 4


def test_a_number_that_is_a_name_is_a_name_first() -> None:
    text = SOUND.replace("name: red", "name: '0', gpu_models: [l4]}\n  - {name: red")
    spec = parse(text, "f.yaml", ["tenants.0.gpu_models=[t4]", "tenants.1.gpu_models=[l4]"]).spec
    assert [(t.name, t.gpu_models) for t in spec.tenants] == [("0", ["t4"]), ("red", ["l4"])]


OVERRIDES: dict[str, tuple[str, str, list[str]]] = {
    # the override, the place after it, fragments
    "cohorts.0.nodes=many": ("cohorts.0.nodes=many", " cohorts[0].nodes", ["valid integer, not 'many'"]),
    "cohorts.a.nodes=1=2": ("cohorts.a.nodes=1=2", " cohorts[0].nodes", ["not '1=2'"]),
    "cohorts.b.nodes=3": ("cohorts.b.nodes=3", "", ["no element 'b' in cohorts", "There are: a."]),
    "cohorts.7.nodes=3": ("cohorts.7.nodes=3", "", ["no element '7' in cohorts", "There are: a."]),
    "cohorts.-1.nodes=3": ("cohorts.-1.nodes=3", "", ["no element '-1' in cohorts"]),
    "cohorts.=3": ("cohorts.=3", "", ["no element '' in cohorts"]),
    "scheduler.queu=fifo": ("scheduler.queu=fifo", " scheduler.queu", ["unknown key", "Did you mean queue?"]),
    "scheduler.queue=lifo": ("scheduler.queue=lifo", " scheduler.queue", ["'lifo'", "Known: fifo"]),
    "nodes=3": ("nodes=3", " nodes", ["unknown key", "Known: name, question"]),
    "name.first=3": ("name.first=3", "", ["name holds no keys"]),
    "nonsense": ("nonsense", "", ["not of the form path=value", "For example: --set cohorts.a100.nodes=4"]),
    "=3": ("=3", "", ["not of the form path=value"]),
    "fresh.deep.key=3": ("fresh.deep.key=3", " fresh", ["unknown key"]),
    "cohorts.a.delivered=60d": (
        "cohorts.a.delivered=60d", " cohorts[0].delivered", ["'60d' is 30 d after the horizon"],
    ),
    "workloads.w.tenant=rde": ("workloads.w.tenant=rde", " workloads[0].tenant", ["Did you mean red?"]),
    "sites.0.it_power_kw=0.1": (
        "sites.0.it_power_kw=0.1", " sites[0].it_power_kw", ["0.1 kW, but its servers reserve 0.7 kW"],
    ),
    # what is below an overridden value stands in the override and no longer in the file
    "cohorts.0={...}": (
        "cohorts.0={name: z, gpu_model: t4, nodes: 0}", " cohorts[0].nodes", ["equal to 1, not 0"],
    ),
    "cohorts=[...]": (
        "cohorts=[{name: z, gpu_model: t4, nodes: 0}]", " cohorts[0].nodes", ["equal to 1, not 0"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OVERRIDES)
def test_a_fault_of_an_override_is_placed_at_the_override(case: str) -> None:
    override, after, fragments = OVERRIDES[case]
    (problem,) = problems(SOUND, override)
    assert re.fullmatch(re.escape(f"--set {override}") + r"(:\d+:\d+)?" + re.escape(after), problem.place)
    for fragment in fragments:
        assert fragment in str(problem)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("horizon=[", "not YAML"),
        ("horizon=&a 5d", "anchor or alias 'a'"),
        ("horizon=!!python/name:os.system", "tag "),
        ("seed=12345678901234567890", "integer of 20 digits"),
        ("name=6214e9", "may be a number or an identifier"),
        ("name=a: b: c", "not YAML"),
        ("question=" + "[" * 60, "nested deeper than 50 levels"),
    ],
)
def test_a_value_that_is_no_yaml_is_reported_with_the_override(override: str, message: str) -> None:
    (problem,) = problems(SOUND, override)
    assert re.fullmatch(re.escape(f"--set {override}") + r":\d+:\d+", problem.place)
    assert message in problem.message


def test_the_largest_seed_of_the_specification_can_be_written() -> None:
    most = scenario.json_schema()["properties"]["seed"]["maximum"]
    assert changed(f"seed={most}").seed == most
    assert parse(SOUND + f"seed: {most}\n", "f.yaml").spec.seed == most
    (problem,) = problems(SOUND, f"seed={most + 1}")
    assert problem.place.startswith(f"--set seed={most + 1}")


def test_faults_of_the_file_and_of_overrides_come_together() -> None:
    text, (place,) = faulty(("gpu_model: t4", "gpu_model: @@t5"))
    found = {p.place: p.message for p in problems(text, "nonsense", "seed=[", "scheduler.queue=lifo")}
    assert len(found) == 4
    assert found["--set nonsense"] == "not of the form path=value"
    assert found[f"{place} cohorts[0].gpu_model"] == "unknown GPU model 't5'"
    assert "'lifo' is not known" in found["--set scheduler.queue=lifo scheduler.queue"]


@pytest.mark.parametrize("path", ["x" + ".a" * 3000, "workloads.w.columns" + ".a" * 3000])
def test_a_path_of_an_override_has_an_end(path: str) -> None:
    """As deep nesting in the file is: refused, in few words."""
    (problem,) = problems(SOUND, f"{path}=1")
    assert len(problem.message) < 200


# The specification


def holds(whole: Any, part: Any) -> bool:
    """Whether *whole* is *part*, and perhaps more keys."""
    if isinstance(part, dict):
        return all(key in whole and holds(whole[key], value) for key, value in part.items())
    if isinstance(part, list):
        return len(whole) == len(part) and all(map(holds, whole, part))
    return bool(whole == part)


def under(scheduler: dict[str, Any]) -> dict[str, Any]:
    """FULL with another scheduler; its tenants are not preemptible, which not every queue knows."""
    tenants = [{**tenant, "preemptible": False, "notice": 0} for tenant in FULL["tenants"]]
    return {**FULL, "tenants": tenants, "scheduler": scheduler}


@pytest.mark.parametrize(
    "given",
    [FULL, SHARED, *map(under, SCHEDULERS), *ALL.values()],
    ids=["full", "shared", *(str(s["queue"]) for s in SCHEDULERS), *ALL],
)
def test_every_key_can_be_used_and_comes_back(given: dict[str, Any]) -> None:
    """A specification written out and read again is equal: what the manifest holds can be run again."""
    spec = parse(json.dumps(given), "f.yaml").spec
    dumped = spec.model_dump(mode="json")
    assert ScenarioSpec.model_validate(dumped) == spec
    assert parse(json.dumps(dumped), "again.yaml").spec == spec
    assert holds(dumped, given)


def test_the_seed_of_an_error_is_drawn_from_the_scenarios() -> None:
    """It is written down, so what the manifest holds draws the same; without an error there is none."""
    seeds = [
        parse(json.dumps({**under(scheduler), "seed": seed}), "f.yaml").spec.scheduler.estimate
        for seed in (1, 2)
        for scheduler in ({"queue": "easy", "estimate": {"error": 1}}, {"queue": "easy", "estimate": {}})
    ]
    first, without, second, _ = [estimate.seed for estimate in seeds if estimate is not None]
    assert without is None
    assert None not in (first, second) and first != second


def test_the_full_scenario_uses_every_key() -> None:
    def unused(spec: type[Spec], given: list[dict[str, Any]], path: str) -> Iterator[str]:
        for name, field in spec.model_fields.items():
            values = [g[name] for g in given if name in g]
            if not values:
                yield f"{path}.{name}"
            for kind in specs_in(field.annotation):
                inner = [v for value in values for v in (value if isinstance(value, list) else [value])]
                yield from unused(kind, inner, f"{path}.{name}")

    listed = {"file": "nodes.csv", "gpu_names": {"T4": "t4"}, "bad_rows": "drop", "site": "north"}
    listed |= {"delivered": "-1y", "earlier_age": "1y"}
    given = [FULL, SHARED, {"node_list": listed}, *({"scheduler": s} for s in SCHEDULERS), *ALL.values()]
    assert list(unused(ScenarioSpec, given, "")) == []


def specs_in(annotation: Any) -> Iterator[type[Spec]]:
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        yield annotation
    for part in get_args(annotation):
        yield from specs_in(part)


@pytest.mark.parametrize("name", scenario.bundled())
def test_a_bundled_scenario_is_valid_and_asks_something(name: str) -> None:
    read = scenario.read(name)
    assert read.spec.name == name  # of its file
    assert read.spec.question.endswith("?")
    again = parse(json.dumps(read.spec.model_dump(mode="json")), "again.yaml")
    assert again.spec == read.spec
    few = [f"workloads.{i}.load=0.01" for i in range(len(read.spec.workloads))]
    jobs, sources = load_jobs(scenario.read(name, few))
    assert len(jobs) > 0
    assert [s.workload for s in sources] == [w.name for w in read.spec.workloads]


def test_scenarios_are_found_by_name_and_by_path(tmp_path: Path) -> None:
    assert scenario.read("philly-small").place == str(scenario.folder() / "philly-small.yaml")
    file = tmp_path / "mine.yaml"
    file.write_text(SOUND)
    assert scenario.read(str(file)).spec.name == "x"
    for name, what in (("phily-small", "no such file or bundled scenario"), (str(tmp_path), "is a folder")):
        with pytest.raises(InputError) as caught:
            scenario.read(name)
        (problem,) = caught.value.problems
        assert (problem.place, problem.message) == (name, what)
        assert f"Bundled are: {', '.join(scenario.bundled())}." in problem.remedy
    with pytest.raises(InputError, match=r"Did you mean philly-small\?"):
        scenario.read("phily-small")


def test_a_file_goes_before_a_bundled_scenario_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("philly-small").write_text(SOUND)
    assert scenario.read("philly-small").spec.name == "x"


# Whatever stands in place of a value

JUNK: list[Any] = [
    None, True, -1, 0, 1, 2**62, 0.5, -1e300, 1e300, "", "x", "*", "drain", "-3y", "9" * 400 + "d", "100000y",
    "0001-01-01T00:00:00+14:00", "9999-12-31", "2026-13-01", "\x1b[31m", "a\nb", "..", "a\0b", "t4", "l4",
    "[", [], {}, [[]], [None], ["x"], {"a": 1}, {"": {}}, {"\x1b[31m": 1}, [{"name": "x"}], {"name": 3},
    "a" * 70, "ä", "½", "٣d", "inference", "batch", "slot", "cash_out", "margin", "pressure", "node", "job",
    "h100-1", "b200-sxm-180", "shed", "power_cap", {"median": "1d", "sigma": 1}, {"sharing": {}}, [["1y"]],
    {"every": "1d", "count": 1000}, [[0, 1], ["1y", 2]],
]  # fmt: skip


def paths(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, element in inner:
        yield from paths(element, (*path, key))


WHOLE = [FULL, *ALL.values()]
PLACES = [(n, path) for n, tree in enumerate(WHOLE) for path in paths(tree) if path]


def put(tree: Any, path: tuple[str | int, ...], junk: Any) -> None:
    """Put *junk* at *path*, if an earlier change has left such a place."""
    *inner, last = path
    with contextlib.suppress(KeyError, IndexError, TypeError):
        for step in inner:
            tree = tree[step]
        tree[last] = copy.deepcopy(junk)  # a later change may go into it


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(PLACES), st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(JUNK)), max_size=2),
    st.sampled_from(JUNK),
)  # fmt: skip
def test_junk_is_read_or_refused_in_a_line(
    first: tuple[int, tuple[str | int, ...]],
    changes: list[tuple[tuple[int, tuple[str | int, ...]], Any]],
    junk: Any,
) -> None:
    """Any value anywhere: a scenario, or problems that can be printed, each in one short line."""
    tree = json.loads(json.dumps(WHOLE[first[0]]))
    put(tree, first[1], junk)
    for (_, path), other in changes:
        put(tree, path, other)
    try:
        assert isinstance(parse(json.dumps(tree), "f.yaml"), Scenario)
    except InputError as error:
        assert error.problems
        for problem in error.problems:
            assert str(problem).isprintable() and len(str(problem)) < 600, str(problem)[:700]


# The schema for editors

KEYWORDS = {
    "$schema", "$defs", "$ref", "title", "description", "type", "properties", "required",
    "additionalProperties", "items", "anyOf", "enum", "const", "default",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "pattern", "minLength",
    "maxLength", "patternProperties", "prefixItems", "maxItems",
}  # fmt: skip
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "integer": (int,), "number": (int, float),
    "boolean": (bool,), "null": (type(None),),
}  # fmt: skip


def subschemas(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every schema of a JSON Schema document, itself included."""
    yield node
    for key in ("$defs", "properties", "patternProperties"):
        for inner in node.get(key, {}).values():
            yield from subschemas(inner)
    several = [*node.get("anyOf", []), *node.get("prefixItems", [])]
    for inner in [*several, node.get("items"), node.get("additionalProperties")]:
        if isinstance(inner, Mapping):
            yield from subschemas(inner)


def objections(value: Any, node: Mapping[str, Any], root: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """What an editor would underline in *value*: the keywords of KEYWORDS, as the draft defines them."""
    if "$ref" in node:
        yield from objections(value, root["$defs"][node["$ref"].removeprefix("#/$defs/")], root, path)
    if "anyOf" in node and all(list(objections(value, one, root, path)) for one in node["anyOf"]):
        yield f"{path}: nothing of anyOf"
    kinds = TYPES[node["type"]] if "type" in node else (object,)
    if not isinstance(value, kinds) or (
        isinstance(value, bool) and bool not in kinds and object not in kinds
    ):
        yield f"{path}: not {node['type']}"
        return
    if value not in node.get("enum", [value]) or value != node.get("const", value):
        yield f"{path}: not one of the enum"
    if isinstance(value, dict):
        yield from (f"{path}: lacks {key}" for key in node.get("required", ()) if key not in value)
        for key, inner in value.items():
            if key in node.get("properties", {}):
                yield from objections(inner, node["properties"][key], root, f"{path}.{key}")
            elif "patternProperties" in node:
                ((pattern, kind),) = node["patternProperties"].items()
                if not re.search(pattern, key):
                    yield f"{path}.{key}: unknown"
                yield from objections(inner, kind, root, f"{path}.{key}")
            elif node.get("additionalProperties") is False:
                yield f"{path}.{key}: unknown"
            elif isinstance(node.get("additionalProperties"), Mapping):
                yield from objections(inner, node["additionalProperties"], root, f"{path}.{key}")
    if isinstance(value, list):
        if len(value) < node.get("minItems", 0):
            yield f"{path}: too few"
        if len(value) > node.get("maxItems", len(value)):
            yield f"{path}: too many"
        for i, inner in enumerate(value):
            kind = node["prefixItems"][i] if i < len(node.get("prefixItems", ())) else node.get("items", {})
            yield from objections(inner, kind, root, f"{path}[{i}]")
    if isinstance(value, str) and "pattern" in node and not re.search(node["pattern"], value):
        yield f"{path}: pattern"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = node.get("minimum", value), node.get("maximum", value)
        if not low <= value <= high or not node.get("exclusiveMinimum", value - 1) < value:
            yield f"{path}: out of range"


def test_the_schema_is_one_of_draft_2020_12() -> None:
    """Only keywords of the draft, every reference resolves, every object is closed: what JSON can hold."""
    schema = scenario.json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(schema, allow_nan=False)) == schema
    for node in subschemas(schema):
        assert set(node) <= KEYWORDS, set(node) - KEYWORDS
        assert node.get("type", "object") in TYPES
        if "$ref" in node:
            assert node["$ref"].removeprefix("#/$defs/") in schema["$defs"]
        if "properties" in node:
            assert node["type"] == "object"
            assert node["additionalProperties"] is False
            assert set(node.get("required", ())) <= set(node["properties"])


def test_the_schema_knows_every_key_and_says_what_it_means() -> None:
    schema = scenario.json_schema()

    def compare(spec: type[Spec], node: Mapping[str, Any]) -> int:
        assert list(node["properties"]) == list(spec.model_fields)
        assert node["description"] == cleandoc(spec.__doc__ or "")
        assert set(node.get("required", ())) == {n for n, f in spec.model_fields.items() if f.is_required()}
        seen = 1
        for name, field in spec.model_fields.items():
            if field.description:
                assert node["properties"][name]["description"] == field.description
            for kind in specs_in(field.annotation):
                seen += compare(kind, schema["$defs"][kind.__name__])
        return seen

    assert compare(ScenarioSpec, schema) == 1 + len(schema["$defs"])


def test_the_schema_lists_what_may_be_chosen() -> None:
    def choices(kind: str, name: str) -> list[str]:
        """The enumeration of a key, null beside it or not."""
        node = scenario.json_schema()["$defs"][kind]["properties"][name]
        (found,) = [one["enum"] for one in [node, *node.get("anyOf", [])] if "enum" in one]
        return list(found)

    assert choices("SchedulerSpec", "queue") == list(QUEUES)
    assert choices("SchedulerSpec", "placement") == list(dict.fromkeys((*PLACEMENTS, *PACKINGS)))
    assert choices("WorkloadSpec", "workload_class") == list(get_args(WorkloadClass))


@pytest.mark.parametrize("name", ["", "aging", *scenario.bundled()])
def test_the_schema_accepts_what_is_valid(name: str) -> None:
    ours = {"": FULL, "aging": AGING}
    own = ours.get(name)
    text = json.dumps(own) if own else (scenario.folder() / f"{name}.yaml").read_text("utf-8")
    schema = scenario.json_schema()
    assert list(objections(safeyaml.load_yaml(text, name), schema, schema)) == []


@pytest.mark.parametrize(
    ("fault", "objection"),
    [
        ("unknown key", ".horizn: unknown"),
        ("unknown key inside", ".cohorts[0].gpu_per_node: unknown"),
        ("text for a number", ".cohorts[0].nodes: not integer"),
        ("no node", ".cohorts[0].nodes: out of range"),
        ("a key is missing", ": lacks start"),
        ("a policy", ".scheduler.queue: not one of the enum"),
        ("a class", ".workloads[0].workload_class: "),
        ("an empty list", ".cohorts: too few"),
        ("a list for a duration", ".horizon: nothing of anyOf"),
        ("a name with a blank", ".cohorts[0].name: pattern"),
        ("an XID that is none", ".failures[0].xids.79a: unknown"),
        ("less than no load", ".workloads[0].load: out of range"),
    ],
)
def test_an_editor_sees_what_the_schema_can_say(fault: str, objection: str) -> None:
    old, new, _, _ = FAULTS[fault]
    schema = scenario.json_schema()
    found = list(objections(safeyaml.load_yaml(faulty((old, new))[0], "f.yaml"), schema, schema))
    assert len(found) == 1 and found[0].startswith(objection)


# Tenants

#: Changes to SOUND (its fleet has 4 GPUs) that make one fault: its path, what message and remedy must hold.
TENANCY: dict[str, tuple[list[tuple[str, str]], str, list[str]]] = {
    "no such parent": (
        [("- {name: red}", "- {name: red, parent: @@bleu}\n  - {name: blue}")], "tenants[0].parent",
        ["no tenant 'bleu'", "Did you mean blue?", "Tenants are: red, blue."],
    ),
    "a part of itself": (
        [
            (
                "- {name: red}",
                "- {name: red, parent: blue}\n  - {name: blue, parent: @@red}\n  - {name: z, parent: red}",
            )
        ],
        "tenants[1].parent", ["a part of itself: blue -> red -> blue", "One of them has no parent."],
    ),
    "its own parent": (
        [("- {name: red}", "- {name: red, parent: @@red}")], "tenants[0].parent",
        ["a part of itself: red -> red"],
    ),
    "a limit below what it deserves": (
        [("- {name: red}", "- {name: red, deserved_gpus: 3, max_gpus: @@2}")], "tenants[0].max_gpus",
        ["2 is below its deserved_gpus, 3", "Raise it"],
    ),
    "more than is installed": (
        [
            ("- {name: red}", "- {name: red, deserved_gpus: 2}\n  - {name: blue, deserved_gpus: @@2.5}"),
            ("queue: fifo", "queue: quota"),
        ],
        "tenants[1].deserved_gpus",
        ["tenants deserve 4.5 GPUs together, but 4 are installed", "Deliver more nodes"],
    ),
    "parts above the whole": (
        [
            (
                "- {name: red}",
                "- {name: red, parent: blue, deserved_gpus: 2}\n  - {name: blue, deserved_gpus: @@1}",
            ),
            ("queue: fifo", "queue: quota"),
        ],
        "tenants[1].deserved_gpus", ["1, but its parts deserve 2 together", "Give it 2 or more"],
    ),
    "jobs of a whole": (
        [
            ("- {name: red}", "- {name: red}\n  - {name: blue, parent: red}"),
            ("queue: fifo", "queue: quota"),
            ("tenant: red}", "tenant: @@red}"),
        ],
        "workloads[0].tenant",
        ["'red' has parts; in queue `quota` only they have jobs", "Name one of the parts."],
    ),
    "parts in two clusters": (
        [
            ("nodes: 1}", "nodes: 1, tenants: [red]}\n  - {name: b, gpu_model: t4, nodes: 1}"),
            ("- {name: red}", "- {name: red, parent: z}\n  - {name: blue, parent: @@z}\n  - {name: z}"),
            ("queue: fifo", "queue: quota"),
        ],
        "tenants[1].parent", ["other parts of 'z' run in another virtual cluster"],
    ),
    "more than its cluster has": (
        [
            ("nodes: 1}", "nodes: 1, tenants: [red]}\n  - {name: b, gpu_model: t4, nodes: 1}"),
            ("- {name: red}", "- {name: red, deserved_gpus: @@5}\n  - {name: blue, deserved_gpus: 3}"),
            ("queue: fifo", "queue: quota"),
        ],
        "tenants[0].deserved_gpus", ["tenants deserve 5 GPUs together, but 4 are installed where they run"],
    ),
    "nodes for a stranger": (
        [("nodes: 1}", "nodes: 1, tenants: [red, @@blue]}")], "cohorts[0].tenants[1]",
        ["no tenant 'blue'", "Tenants are: red."],
    ),
    "nodes for a whole": (
        [
            ("nodes: 1}", "nodes: 1, tenants: [@@red]}"),
            ("- {name: red}", "- {name: red}\n  - {name: b, parent: red}"),
        ],
        "cohorts[0].tenants[0]", ["'red' has parts", "Name those of them that run here."],
    ),
    "nodes for nobody": (
        [("nodes: 1}", "nodes: 1, tenants: @@[]}")], "cohorts[0].tenants", ["needs at least 1 item, not []"],
    ),
    "notice to whom nobody stops": (
        [("- {name: red}", "- {name: red, notice: @@30s}")], "tenants[0].notice",
        ["its jobs are never stopped", "Give `preemptible: true`"],
    ),
    "preemptible where the queue stops jobs": (
        [("- {name: red}", "- {name: red, preemptible: @@true}"), ("queue: fifo", "queue: srtf")],
        "tenants[0].preemptible", ["queue `srtf` does not know such jobs", "Take one of: fifo, fifo_skip"],
    ),
    "preemptible and preemptive": (
        [
            ("- {name: red}", "- {name: red, preemptible: @@true}"),
            ("queue: fifo", "queue: sjf, preemptive: true"),
        ],
        "tenants[0].preemptible",
        ["queue `sjf` that stops jobs itself does not know such jobs", "not preemptive"],
    ),
    "no weight at all": (
        [("queue: fifo", "queue: fair_share, fair_share: @@{fair_share: 0}")], "scheduler.fair_share",
        ["all weights are 0", "Give one of the factors a weight."],
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", TENANCY)
def test_each_fault_of_tenants_alone(fault: str) -> None:
    changes, path, fragments = TENANCY[fault]
    text, (place,) = faulty(*changes)
    (problem,) = problems(text)
    assert problem.place == f"{place} {path}"
    for fragment in fragments:
        assert fragment in f"{problem.message} {problem.remedy}"


def test_sound_tenants_of_every_kind_are_sound() -> None:
    tenants = """\
  - {name: red, parent: all, deserved_gpus: 2, max_gpus: 2}
  - {name: blue, parent: all, deserved_gpus: 2}
  - {name: all, deserved_gpus: 4}"""
    text, _ = faulty(
        ("  - {name: red}", tenants), ("queue: fifo", "queue: quota, preemptive: true, on_misfit: skip")
    )
    assert [tenant.parent for tenant in parse(text, "f.yaml").spec.tenants] == ["all", "all", None]


# Where traces may lie


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a scenario and a trace, and a trace outside of it."""
    inside = tmp_path / "inside"
    (inside / "deeper").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for path in (inside / "in.parquet", inside / "deeper/deep.parquet", tmp_path / "elsewhere/out.parquet"):
        shutil.copy(sample("philly-like-10k"), path)
    (inside / "s.yaml").write_text(SOUND)
    return inside


def load(place: Path, trace: str, *roots: Path) -> int:
    read = scenario.read(str(place / "s.yaml"), [f"workloads.w.trace={json.dumps(trace)}"], roots)
    return len(load_jobs(read)[0])


def refusal(place: Path, trace: str, *roots: Path) -> Problem:
    with pytest.raises(InputError) as caught:
        load(place, trace, *roots)
    (problem,) = caught.value.problems
    assert str(problem).isprintable() and len(str(problem)) < 1000
    return problem


@pytest.mark.parametrize(
    "trace", ["in.parquet", "./in.parquet", "deeper/deep.parquet", "deeper/../in.parquet"]
)
def test_a_trace_beside_the_scenario_is_read(place: Path, trace: str) -> None:
    assert load(place, trace) == 10_000


def test_the_scenario_may_be_anywhere(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative to its own folder and not to the current one."""
    monkeypatch.chdir(place.parent)
    assert load(Path("inside"), "in.parquet") == 10_000
    assert "no trace 'out.parquet'" in refusal(Path("inside"), "out.parquet").message
    monkeypatch.chdir(place)
    assert load(Path(), "in.parquet") == 10_000


def test_a_bundled_sample_needs_no_place(place: Path) -> None:
    assert load(place, "philly-like-10k") == 10_000


@pytest.mark.parametrize(
    "trace",
    ["../elsewhere/out.parquet", "deeper/../../elsewhere/out.parquet", "out.parquet", "~/out.parquet",
     "/etc/passwd", "/dev/zero", "no-such.parquet", "in.parquet/x"],
)  # fmt: skip
def test_a_trace_elsewhere_is_refused(place: Path, trace: str) -> None:
    problem = refusal(place, trace)
    assert problem.place == f"{place / 's.yaml'} workloads[0].trace"
    assert problem.message == f"no trace {trace!r} where traces may lie"
    assert f"(looked in: {place.resolve()})" in problem.remedy
    assert "--traces" in problem.remedy and ", ".join(SAMPLES) in problem.remedy


def test_an_absolute_path_is_refused_outside_and_allowed_inside(place: Path) -> None:
    outside = place.parent / "elsewhere/out.parquet"
    assert refusal(place, str(outside)).message == f"no trace {str(outside)!r} where traces may lie"
    assert load(place, str(place / "in.parquet")) == 10_000


@pytest.mark.parametrize("folder", [False, True])
def test_a_link_out_of_the_folder_is_refused(place: Path, folder: bool) -> None:
    outside = place.parent / "elsewhere"
    (place / "link").symlink_to(outside if folder else outside / "out.parquet")
    name = "link/out.parquet" if folder else "link"
    assert refusal(place, name).message == f"no trace {name!r} where traces may lie"
    assert load(place, name, outside) == 10_000  # allowed once its folder is


def test_a_link_within_the_folder_is_followed(place: Path) -> None:
    (place / "link.parquet").symlink_to("deeper/deep.parquet")
    assert load(place, "link.parquet") == 10_000


def test_the_scenario_may_be_reached_through_a_link(place: Path) -> None:
    (place.parent / "door").symlink_to(place)
    assert load(place.parent / "door", "in.parquet") == 10_000


def test_traces_may_lie_in_a_folder_given(place: Path) -> None:
    elsewhere = place.parent / "elsewhere"
    assert load(place, "out.parquet", elsewhere) == 10_000
    assert load(place, "in.parquet", elsewhere) == 10_000
    problem = refusal(place, "../inside/../secret.parquet", elsewhere)
    assert f"(looked in: {place.resolve()}, {elsewhere.resolve()})" in problem.remedy


@pytest.mark.parametrize("trace", ["loop", "a\0b", "x" * 5000, "", ".", "deeper", "pipe"])
def test_what_is_no_file_is_refused(place: Path, trace: str) -> None:
    """Links in a circle, names that no file can have, folders, pipes: a problem, never a crash or a wait."""
    (place / "loop").symlink_to("loop")
    os.mkfifo(place / "pipe")
    assert refusal(place, trace).message


def test_a_near_miss_of_a_sample_is_suggested(place: Path) -> None:
    assert refusal(place, "philly-like-10").remedy.startswith("Did you mean philly-like-10k? ")


def test_every_bad_trace_is_reported(place: Path) -> None:
    """Two workloads, two problems."""
    text = SOUND.replace(WORKLOAD, WORKLOAD + "\n  - " + WORKLOAD.replace("name: w", "name: v"))
    (place / "s.yaml").write_text(text.replace("philly-like-10k", "gone"))
    with pytest.raises(InputError) as caught:
        load_jobs(scenario.read(str(place / "s.yaml")))
    assert [p.place.split()[-1] for p in caught.value.problems] == [
        "workloads[0].trace",
        "workloads[1].trace",
    ]
