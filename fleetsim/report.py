"""The report of one run, or of several side by side: a page that works offline, and its pictures."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleetsim import comparison, summary
from fleetsim.errors import InputError, Problem
from fleetsim.reporting import sections, sections_life, sections_power, words
from fleetsim.reporting.drawing import PALETTE, Chart, Series, finished
from fleetsim.reporting.facts import Facts
from fleetsim.reporting.page import Look, figure, page
from fleetsim.reporting.parts import Omitted, Panels, Section, paragraph
from fleetsim.runfolder import Run, open_run

#: Runs that stand side by side: with more, nothing can be read.
MOST_RUNS = 12

_MADE: tuple[Callable[[Sequence[Facts]], Section | Omitted], ...] = (
    sections.utilisation,
    sections.tiers,
    sections.who_used_what,
    sections.funnel,
    sections.queue,
    sections_life.survival,
    sections_power.power,
    sections_life.value,
    sections_life.failures,
)


@dataclass(frozen=True)
class Report:
    """What :func:`report` found. *left_out* are the sections that the runs have no data for."""

    title: str
    heading: str  # HTML
    sections: Sequence[Section]
    left_out: Sequence[Omitted]

    def page(self) -> str:
        """The report as one HTML page that loads nothing from anywhere."""
        look = Look(PALETTE)
        links = "".join(f'<a href="#about-{s.name}">{html.escape(s.title)}</a>' for s in self.sections)
        specs = {chart.name: finished(chart, look) for chart, _ in self.charts()}
        body = "\n".join(_section(section, specs) for section in self.sections)
        return page(
            self.title, f"{self.heading}<nav>{links}</nav>\n{body}\n{self._omitted()}", specs, PALETTE
        )

    def charts(self) -> Iterator[tuple[Chart, str]]:
        """All charts in order, each with the run or the generation that it is of, if there are several."""
        for section in self.sections:
            for part in section.parts:
                if isinstance(part, Panels):
                    yield from part.charts

    def pictures(self, dark: bool = False) -> Iterator[tuple[str, bytes]]:
        """The charts as PNG, each with the name of a file: that of the chart, which is stable."""
        import vl_convert

        look = Look(PALETTE, dark)
        for chart, label in self.charts():
            spec = json.dumps(finished(chart, look, "" if chart.small else label))
            yield f"{chart.name}.png", vl_convert.vegalite_to_png(spec, vl_version="6.4", scale=2)

    def _omitted(self) -> str:
        if not self.left_out:
            return ""
        items = "; ".join(f"{one.title} ({one.reason})" for one in self.left_out)
        return paragraph(f"Left out, for lack of data: {items}.", "quiet")


def open_runs(paths: Sequence[str | Path]) -> list[Run]:
    """The runs in the folders *paths*. Raises :class:`InputError` for more than :data:`MOST_RUNS`, the same
    folder twice, and folders that are not runs: all problems at once."""
    if len(paths) > MOST_RUNS:
        remedy = f"Name at most {MOST_RUNS}, or compare many with `fleetsim compare`."
        raise InputError([Problem("RUN", f"{len(paths)} given", remedy)])
    return [open_run(paths[0])] if len(paths) == 1 else comparison.open_runs(paths)


def report(runs: Sequence[Run], title: str | None = None) -> Report:
    """The report of *runs*; the first is the one that the others are compared with.

    The default *title* is made of the names of the scenarios, or of the runs if there are several.
    """
    names = comparison.run_names([run.path for run in runs])
    facts = [Facts(name, run) for name, run in zip(names, runs, strict=True)]
    scenarios = ", ".join(dict.fromkeys(str(run.manifest["scenario"]["name"]) for run in runs))
    made = [make(facts) for make in _MADE]
    first = [words.headline(facts), words.assumptions(facts)]
    if len(facts) > 1:
        first.append(words.differences(facts))
    return Report(
        title or (scenarios if len(runs) == 1 else f"{scenarios}: {', '.join(names)}"),
        _heading(facts),
        [*first, *(one for one in made if isinstance(one, Section)), words.scenario(facts)],
        [one for one in made if isinstance(one, Omitted)],
    )


def _heading(runs: Sequence[Facts]) -> str:
    """What was asked and simulated, and a warning where the workload is not a measured one."""
    questions = dict.fromkeys(str(run.scenario.get("question") or "") for run in runs)
    parts = [paragraph(text, "question") for text in questions if text]
    for run in runs:
        head = f"{run.name}: " if len(runs) > 1 else ""
        span = summary.span({"start": run.manifest["start"], "end_s": run.end_s})
        generated = [name for name, source in run.manifest["sources"].items() if source["generated"]]
        kind = f" Generated workload, not a measured one: {', '.join(generated)}." if generated else ""
        parts.append(paragraph(f"{head}simulated {span}, seed {run.manifest['seed']}.{kind}", "quiet"))
    return "".join(parts)


def _section(section: Section, specs: Mapping[str, Any]) -> str:
    """The HTML of a section; neighbours of half the width stand in one grid."""
    found, halves = [f'<section id="about-{section.name}"><h2>{html.escape(section.title)}</h2>'], list[str]()

    def close() -> None:
        if halves:
            found.append(f'<div class="charts">{"".join(halves)}</div>')
            halves.clear()

    for part in section.parts:
        if isinstance(part, str):
            close()
            found.append(part)
        elif part.charts and part.half and len(part.charts) == 1:
            halves.append(_group(part, specs))
        elif part.charts:
            close()
            found.append(_group(part, specs))
    close()
    return "".join([*found, "</section>"])


def _group(part: Panels, specs: Mapping[str, Any]) -> str:
    """The HTML of charts of one kind, with their title, unit and legend once."""
    items = "".join(_legend(one) for one in part.series)
    legend = f'<ul class="legend">{items}</ul>' if items else ""
    head = f'<h3>{html.escape(part.title)}</h3><p class="quiet unit">{html.escape(part.unit)}</p>{legend}'
    figures = [
        figure(
            chart.name, f"{chart.title}, {label}" if label else chart.title,
            f"<figcaption>{html.escape(label)}</figcaption>" if label else "",
            specs[chart.name]["height"],
        )
        for chart, label in part.charts
    ]  # fmt: skip
    if len(figures) == 1 and not part.charts[0][1]:
        return f'<div class="group">{head}{figures[0]}</div>'
    kind = "charts small" if part.charts[0][0].small else "charts"
    return f'<div class="group">{head}<div class="{kind}">{"".join(figures)}</div></div>'


def _legend(series: Series) -> str:
    return f'<li><i style="background:var(--{series.colour})"></i>{html.escape(series.label)}</li>'
