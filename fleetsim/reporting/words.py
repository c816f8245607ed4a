"""What a report says in words: what the scenario assumes, and what each figure means."""

from __future__ import annotations

import html
import json
import shlex
from collections.abc import Sequence
from typing import Any

import yaml

from fleetsim import comparison
from fleetsim.reporting.facts import FIGURES, LOWER_CLASSES, Facts, difference, figure_of, say, short
from fleetsim.reporting.page import table
from fleetsim.reporting.parts import Section, of_each, paragraph
from fleetsim.summary import added

MOST_YAML = 200_000  # characters of a scenario that are shown
TILES = (
    "installed_gpu_hours", "time_effective", "fleet_mfu", "allocated_age_y", "wait_p50_s", "wait_p99_s",
    "facility_energy_mwh", "carbon_t", "retired_gpus", "ettr", "margin_usd",
    "margin_usd_per_kw_year", "book_value_usd",
)  # fmt: skip


def headline(runs: Sequence[Facts]) -> Section:
    """The figures of the runs with their meanings; of several runs, with differences from the first."""
    keys = _keys(runs)
    if len(runs) > 1:
        lead = paragraph(f"Differences are from {runs[0].name}.", "quiet")
        return Section("headline", "Headline figures", [lead, *caution(runs), _figures(runs, keys)])
    values = runs[0].headline
    tiles = "".join(
        f"<div><b>{html.escape(say(figure_of(key).unit, values[key]))}</b>"
        f"<span>{html.escape(_bare(figure_of(key).label))}</span></div>"
        for key in TILES
        if key in keys
    )
    every = "".join(
        f"<div><dt>{html.escape(figure.label)}<b>{html.escape(say(figure.unit, values[key]))}</b></dt>"
        f"<dd>{html.escape(figure.meaning)}</dd></div>"
        for key in keys
        for figure in [figure_of(key)]
    )
    parts = [f'<div class="tiles">{tiles}</div>', *caution(runs), f'<dl class="facts">{every}</dl>']
    return Section("headline", "Headline figures", parts)


def _bare(label: str) -> str:
    """A label without the sign of its place in the chain."""
    text = label.lstrip("x= ")
    return text[:1].upper() + text[1:]


def _keys(runs: Sequence[Facts]) -> list[str]:
    """Keys of the figures that any of *runs* has; causes of retirement after their sum."""
    found = [key for key in FIGURES if any(run.headline[key] is not None for run in runs)]
    causes = sorted({key for run in runs for key in run.headline if key.startswith("retired:")})
    if causes:
        at = found.index("retired_gpus") + 1
        found[at:at] = causes
    return found


def _figures(runs: Sequence[Facts], keys: Sequence[str]) -> str:
    """The table of several runs."""
    heads = "".join(f"<th scope=col>{html.escape(run.name)}</th>" for run in runs)
    lines = []
    for key in keys:
        figure = figure_of(key)
        values = [run.headline.get(key) for run in runs]
        cells = [f"<td><b>{html.escape(say(figure.unit, values[0]))}</b></td>"]
        for value in values[1:]:
            change = html.escape(difference(figure.unit, values[0], value))
            cells.append(f"<td><b>{html.escape(say(figure.unit, value))}</b><small>{change}</small></td>")
        lines.append(f"<tr><th scope=row>{html.escape(figure.label)}</th>{''.join(cells)}</tr>")
    body = "\n".join(lines)
    terms = "".join(
        f"<dt>{html.escape(figure_of(key).label)}</dt><dd>{html.escape(figure_of(key).meaning)}</dd>"
        for key in keys
    )
    return (
        f'<div class="wide figures" tabindex=0><table><thead><tr><td></td>{heads}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
        f"<details><summary>What the figures mean</summary><dl>{terms}</dl></details>"
    )


def caution(runs: Sequence[Facts]) -> list[str]:
    """What every figure about rungs, lives and values rests on, in a line for each run."""
    return of_each(runs, assumes, "assumes")


def assumes(run: Facts) -> str:
    """Retirement rule, cascade, and the demand of lower rungs, in a line; empty where there is none of it."""
    if not (run.has_ladder or run.scenario.get("retirement") or run.scenario.get("economics")):
        return ""
    text = f"This rests on what the scenario assumes. Retirement: {retirement(run)}. "
    if run.has_ladder:
        text += f"Cascade: {cascade(run)}. "
    return f"{text}Demand on the reference GPU: {demand(run)}."


def demand(run: Facts) -> str:
    """GPU hours asked for by class; those of the lower rungs also where they are zero."""
    rows = added(_frame(run), ["workload_class"], ["hours"]) if run.offered else []
    hours = {row["workload_class"]: row["hours"] for row in rows}
    classes = sorted(hours) + [c for c in LOWER_CLASSES if c not in hours and run.has_ladder]
    return ", ".join(f"{c.replace('_', ' ')} {short(hours.get(c, 0.0))} GPU h" for c in classes)


def _frame(run: Facts) -> Any:
    import polars as pl

    return pl.DataFrame(run.offered).select("workload_class", "hours")


def cascade(run: Facts) -> str:
    """The rule by which nodes go down, in words."""
    rule = run.scenario.get("cascade")
    if not rule or not rule.get("enabled"):
        return "off, nodes stay on the rung where they begin"
    what = {
        "age": "by age",
        "successor": f"when {rule.get('successors', 1)} newer cohorts have come to the rung",
        "pressure": "when jobs wait for a lower rung",
        "margin": "when a slot kW earns more one rung down",
    }
    unit = "single nodes" if rule.get("unit") == "node" else "whole cohorts"
    return f"{what.get(rule['rule'], rule['rule'])}, {unit}, drained for at most {rule.get('drain')}"


def retirement(run: Facts) -> str:
    """The rule by which nodes leave, in words."""
    rule = run.scenario.get("retirement")
    if not rule:
        return "none, nodes stay to the end"
    what = {
        "fixed_age": f"at {rule.get('age')} of age",
        "cash_out": "when a node earns less than it costs to run",
        "naive": f"when a slot kW would earn more with {rule.get('successor')}, whose price is not counted",
        "slot": f"when a slot kW would earn more with {rule.get('successor')} after the annuity of its price",
        "failure": f"at failure {rule.get('failures')} of a node",
    }
    return what.get(rule["rule"], str(rule["rule"]))


def assumptions(runs: Sequence[Facts]) -> Section:
    """The scenario's question and what it takes as given, run by run."""
    parts: list[Any] = []
    for run in runs:
        s = run.scenario
        if len(runs) > 1:
            parts.append(f"<h3>{html.escape(run.name)}</h3>")
        if s.get("question"):
            parts.append(paragraph(f"Question: {s['question']}"))
        parts.append(_terms(_rules(run)))
        if run.has_ladder:
            parts.append(_ladder(run))
        parts.append(_demand(run))
    return Section("assumptions", "What the scenario assumes", parts)


def _terms(rows: Sequence[tuple[str, str]]) -> str:
    cells = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in rows)
    return f'<dl class="terms">{cells}</dl>'


def _rules(run: Facts) -> list[tuple[str, str]]:
    s, money = run.scenario, run.scenario.get("economics")
    scheduler = s.get("scheduler") or {}
    rows = [
        ("Scenario", str(s["name"])),
        ("Retirement", retirement(run)),
        ("Cascade", cascade(run) if run.has_ladder else "no ladder: one rung for all"),
        ("Failures", ", ".join(f["name"] for f in s.get("failures") or []) or "none"),
    ]
    if money:
        life = (money.get("book") or {}).get("life")
        rows.append(
            (
                "Money",
                f"{money.get('usd_per_kwh')} USD/kWh, discounted at {100 * money.get('discount_rate', 0):g} "
                f"% a year, written off over {life}, economic life {money.get('life')}",
            )
        )
    rows += [
        ("Scheduling", f"queue {scheduler.get('queue')}, placement {scheduler.get('placement')}"),
        ("Seed and versions", f"seed {run.manifest['seed']}; " + ", ".join(
            f"{name} {text}" for name, text in run.manifest.get("versions", {}).items())),
        ("Books", f"{len(run.manifest['checks'])} conservation laws checked, all hold"),
    ]  # fmt: skip
    return rows


def _ladder(run: Facts) -> str:
    sums = {
        row["tier"]: row for row in added(run.usage, ["tier"], ["installed_gpu_hours", "allocated_gpu_hours"])
    }
    rows = []
    for tier in run.scenario["tiers"]:
        gang = _gang(tier.get("min_gpus") or 1, tier.get("max_gpus"))
        admits = [", ".join(tier.get("classes") or ["all classes"]), gang]
        if tier.get("tenants"):
            admits.append("tenants " + ", ".join(tier["tenants"]))
        if tier.get("latency") == "relaxed":
            admits.append("no strict latency")
        needs = [
            f"{tier['min_memory_gb']:g} GB" if tier.get("min_memory_gb") else "",
            str(tier.get("data_type") or ""),
            f"domain of {tier['min_domain_gpus']}" if (tier.get("min_domain_gpus") or 1) > 1 else "",
        ]
        mine = sums.get(tier["name"], {"installed_gpu_hours": 0.0, "allocated_gpu_hours": 0.0})
        rows.append(
            (
                tier["name"],
                "for sale" if tier.get("for_sale") else "; ".join(admits),
                ", ".join(filter(None, needs)) or "-",
                str(tier.get("leave_at") or "-"),
                f"{short(mine['installed_gpu_hours'])} GPU h",
                f"{short(mine['allocated_gpu_hours'])} GPU h",
            )
        )
    heads = ("admits", "needs", "left at age", "installed", "allocated")
    return table(heads, rows, "The ladder, top first", words=3)


def _gang(least: int, most: int | None) -> str:
    """The gangs that a rung admits, in words.

    >>> _gang(1, None), _gang(8, None), _gang(1, 4), _gang(2, 4)
    ('any gang', 'at least 8 GPUs', 'at most 4 GPUs', '2 to 4 GPUs')
    """
    if most is None:
        return "any gang" if least == 1 else f"at least {least} GPUs"
    return f"at most {most} GPUs" if least == 1 else f"{least} to {most} GPUs"


def _demand(run: Facts) -> str:
    generated = {name: s.get("generated") for name, s in run.manifest["sources"].items()}
    words = {w["name"]: w for w in run.scenario["workloads"]}
    rows = []
    for row in run.offered:
        spec = words.get(row["workload"], {})
        growth = (spec.get("repeat") or {}).get("growth_per_year") or 0.0
        mean = "-" if row["mean_gpus"] is None else f"{short(row['mean_gpus'])} GPUs"
        rows.append(
            (
                str(row["workload"]),
                str(row["workload_class"]),
                f"{spec.get('trace') or '-'}{' (generated)' if generated.get(row['workload']) else ''}",
                f"{100 * growth:+g} % a year" if growth else "-",
                f"{short(row['jobs']) if row['jobs'] >= 1e5 else format(row['jobs'], ',')}",
                f"{short(row['hours'])} GPU h",
                mean,
            )
        )
    heads = ("class", "trace", "growth", "jobs", "asked for", "on average")
    return table(heads, rows, "Demand, as on each workload's reference GPU", words=2)


def differences(runs: Sequence[Facts]) -> Section:
    """What differs between the scenarios, and where to look for jobs paired one by one."""
    keys = [
        (
            one["key"],
            *("-" if v is None else v if isinstance(v, str) else json.dumps(v) for v in one["values"]),
        )
        for one in comparison.differences([run.run for run in runs])
    ]
    names = shlex.join(str(run.run.path) for run in runs)
    return Section(
        "differences",
        "What differs between the scenarios",
        [
            table([run.name for run in runs], keys) if keys else paragraph("Nothing: the same scenario."),
            paragraph(f"Job by job, with intervals: fleetsim compare {names}", "quiet"),
        ],
    )


def scenario(runs: Sequence[Facts]) -> Section:
    """The whole scenario and the checks of the books, folded."""
    parts: list[Any] = []
    for run in runs:
        head = f" of {html.escape(run.name)}" if len(runs) > 1 else ""
        text = yaml.safe_dump(_set(run.scenario), sort_keys=False, allow_unicode=True, width=100)
        if len(text) > MOST_YAML:
            text = f"{text[:MOST_YAML]}\n# ... cut here: the rest is in manifest.json of the run\n"
        checks = [
            (c["law"], f"{c['left']:,.10g}", f"{c['right']:,.10g}", f"{c['relative_error']:.1e}")
            for c in run.manifest["checks"]
        ]
        laws = table(("left side", "right side", "relative error"), checks)
        parts += [
            f"<details><summary>The scenario{head} in full</summary><pre>{html.escape(text)}</pre></details>",
            f"<details><summary>The {len(checks)} laws of its books{head}</summary>{laws}</details>",
        ]
    return Section("scenario", "The scenario, and the checks of its books", parts)


def _set(part: Any) -> Any:
    """A scenario without the keys that are not set."""
    if isinstance(part, dict):
        return {k: _set(v) for k, v in part.items() if v is not None and v != [] and v != {}}
    return [_set(v) for v in part] if isinstance(part, list) else part
