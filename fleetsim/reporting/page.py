"""HTML pages that load nothing: the parts that every page of charts shares.

Colours are CSS variables, so one chart is right in light, dark and in print; a picture has them written out.
The data of the charts are JSON in a block of their own, in which every ``<`` is escaped: no text of a
scenario or a trace can become markup or script.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import zip_longest
from typing import Any

#: Of the page itself: ink, quiet ink, lines and paper, light and dark.
PAPER = {
    "ink": ("#1f2328", "#e6edf3"),
    "quiet": ("#59636e", "#9198a1"),
    "grid": ("#d8dee4", "#30363d"),
    "paper": ("#ffffff", "#0d1117"),
    "card": ("#f6f8fa", "#151b23"),
}
FONT = "system-ui, Segoe UI, Helvetica, Arial, sans-serif"

Colours = Mapping[str, tuple[str, str]]


class Look:
    """The colours of a chart by name: of a page (*dark* is None), or of a light or dark picture.

    *palette* has, by name, the colour on light and on dark paper; those of :data:`PAPER` are always there.
    """

    def __init__(self, palette: Colours, dark: bool | None = None) -> None:
        self._colours = {**PAPER, **palette}
        self.dark = dark

    @property
    def page(self) -> bool:
        """Whether this is for a page, which has the titles and legends outside the charts."""
        return self.dark is None

    def __getitem__(self, name: str) -> str:
        colours = self._colours[name]
        return f"var(--{name})" if self.dark is None else colours[self.dark]


def config(look: Look) -> dict[str, Any]:
    """The Vega-Lite configuration that all charts share."""
    axis = {
        "labelColor": look["quiet"], "titleColor": look["quiet"], "gridColor": look["grid"],
        "domainColor": look["grid"], "tickColor": look["grid"], "titleFontWeight": "normal",
        "titlePadding": 8, "labelOverlap": "greedy", "labelFontSize": 11, "titleFontSize": 12,
    }  # fmt: skip
    legend = {"labelColor": look["ink"], "titleColor": look["ink"], "labelFontSize": 12,
              "titleFontWeight": "normal"}  # fmt: skip
    background = None if look.page else look["paper"]
    return {
        "background": background, "font": FONT, "axis": axis, "legend": legend, "view": {"stroke": None}
    }  # fmt: skip


def variables(palette: Colours) -> str:
    """CSS rules that define the colours of *palette* and of the page: light, dark, and light on paper."""
    every = {**PAPER, **palette}
    light, dark = ("".join(f"--{name}:{pair[i]};" for name, pair in every.items()) for i in (0, 1))
    return (
        f":root{{color-scheme:light dark;{light}}}\n"
        f"@media screen and (prefers-color-scheme: dark){{:root{{{dark}}}}}\n"
        "@media print{:root{color-scheme:light}}"
    )


def page(title: str, body: str, specs: Mapping[str, Mapping[str, Any]], palette: Colours) -> str:
    """One HTML page around *body* (HTML), in which elements have the ids of *specs* (Vega-Lite).

    The libraries are inlined once. *title* is text.
    """
    data = json.dumps(specs, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return "".join(
        (
            _HEAD,
            f"<title>{html.escape(title)}</title>\n<style>\n{variables(palette)}\n{_STYLE}</style>\n",
            f"<h1>{html.escape(title)}</h1>\n{body}\n",
            f'<script type="application/json" id="specs">{data}</script>\n',
            f'<script type="module">{_script()}</script>\n</html>\n',
        )
    )


@cache
def _script() -> str:
    """The libraries and what draws with them."""
    import vl_convert

    return str(vl_convert.javascript_bundle(_SCRIPT)).replace("</script", "<\\/script")


def figure(name: str, label: str, inside: str = "", height: int = 250) -> str:
    """The element in which the chart *name* is drawn; *inside* is HTML that stands above it.

    *height* is the room in pixels that is kept until it is drawn.
    """
    words, style = html.escape(label), f"min-height:{height}px"
    chart = f'<div id="{name}" class="chart" style="{style}" role="img" aria-label="{words}"></div>'
    return f"<figure>{inside}{chart}</figure>"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]], title: str = "", words: int = 0) -> str:
    """A table of texts, the first of each row its name; it scrolls by itself where it is too wide.

    Columns are set as numbers, but for the names and the first *words* of them.
    """
    kinds = [" class=text"] * words
    head = "".join(
        f"<th scope=col{kind}>{html.escape(name)}</th>"
        for name, kind in zip_longest(heads, kinds, fillvalue="")
    )
    lines = []
    for name, *cells in rows:
        tail = "".join(
            f"<td{kind}>{html.escape(cell)}</td>" for cell, kind in zip_longest(cells, kinds, fillvalue="")
        )
        lines.append(f"<tr><th scope=row>{html.escape(name)}</th>{tail}</tr>")
    above = f"<h3>{html.escape(title)}</h3>" if title else ""
    inner = "\n".join(lines)
    return (
        f'{above}<div class="wide" tabindex=0><table><thead><tr><td></td>{head}</tr></thead>\n'
        f"<tbody>{inner}</tbody></table></div>"
    )


# Charts off the screen are drawn when they come near it; all are before the page is printed.
_SCRIPT = """
const specs = JSON.parse(document.getElementById("specs").textContent);
const draw = (name) => {
  const spec = specs[name];
  delete specs[name];
  return spec && vegaEmbed(document.getElementById(name), spec, {actions: false, renderer: "svg"});
};
const all = () => Promise.all(Object.keys(specs).map(draw));
const near = new IntersectionObserver((seen) => {
  for (const one of seen) if (one.isIntersecting) { near.unobserve(one.target); draw(one.target.id); }
}, {rootMargin: "800px"});
for (const name of Object.keys(specs)) near.observe(document.getElementById(name));
addEventListener("beforeprint", all);
globalThis.drawAll = all;
"""

_HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:;
 script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
"""

_STYLE = """\
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 24px 20px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
h1 { font-size: 24px; line-height: 1.25; margin: 0 0 12px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 0 0 4px; }
h3 { font-size: 15px; margin: 0 0 2px; overflow-wrap: anywhere; }
p { margin: 4px 0 10px; max-width: 85ch; overflow-wrap: anywhere; }
.quiet, summary, dl { color: var(--quiet); font-size: 13px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(165px, 1fr)); gap: 10px;
  margin: 12px 0; }
.tiles div { border: 1px solid var(--grid); border-radius: 8px; padding: 10px 12px; background: var(--card); }
.tiles b { display: block; font-size: 19px; font-variant-numeric: tabular-nums; }
.tiles span { color: var(--quiet); font-size: 13px; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
td, th { padding: 3px 0 3px 16px; text-align: right; white-space: nowrap; font-weight: normal;
  vertical-align: top; border-bottom: 1px solid var(--grid); }
th[scope=row], thead td { position: sticky; left: 0; min-width: 104px; max-width: 40vw; padding-left: 0;
  text-align: left; white-space: normal; overflow-wrap: anywhere; color: var(--quiet);
  background: var(--paper); }
th[scope=col] { font-weight: 600; }
td.text, th.text { text-align: left; }
td.text { white-space: normal; min-width: 110px; }
dt { color: var(--ink); margin-top: 6px; }
dd { margin: 0 0 0 16px; max-width: 80ch; }
summary { cursor: pointer; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr));
  gap: 26px 32px; margin: 14px 0 6px; }
.small { grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); }
.charts > *, figure { margin: 0; width: 100%; min-width: 0; }
.charts table { width: 100%; }
.chart { width: 100%; }
.vega-embed, .vega-embed svg { display: block; width: 100%; }
#vg-tooltip-element { font: 13px/1.4 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; max-width: 90vw;
  color: var(--ink) !important; background: var(--card) !important;
  border: 1px solid var(--grid) !important; }
#vg-tooltip-element td.key { color: var(--quiet) !important; }
nav { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 14px 0 4px; font-size: 13px; }
a { color: inherit; }
section { margin-top: 36px; border-top: 1px solid var(--grid); padding-top: 14px; }
.question { font-size: 17px; }
.assumes { border-left: 3px solid var(--grid); padding-left: 10px; color: var(--quiet); font-size: 13px; }
section > h3 { margin-top: 22px; }
.group { margin-top: 18px; min-width: 0; }
.charts > .group { margin-top: 0; }
.unit { margin: 0 0 4px; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 2px 0 6px; padding: 0;
  font-size: 13px; }
.legend li { overflow-wrap: anywhere; }
.legend i { display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin-right: 6px; }
figcaption { font-size: 13px; font-weight: 600; overflow-wrap: anywhere; }
th small, td small { display: block; font-size: 12px; color: var(--quiet); max-width: 62ch; }
.figures table { width: 100%; }
.figures th[scope=row] { color: var(--ink); }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); gap: 0 28px; }
.facts div { border-bottom: 1px solid var(--grid); padding: 5px 0; }
.facts dt { display: flex; justify-content: space-between; gap: 12px; margin: 0; font-size: 14px; }
.facts dd { margin: 0; font-size: 12px; }
.facts b { font-variant-numeric: tabular-nums; white-space: nowrap; }
.terms { display: grid; grid-template-columns: max-content 1fr; gap: 3px 18px; margin: 8px 0; }
.terms dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
.terms dt { margin: 0; }
details { margin: 8px 0; }
pre { overflow-x: auto; font-size: 12px; background: var(--card); padding: 12px; border-radius: 8px; }
@media (max-width: 480px) {
  body { padding: 16px; }
  .tiles b { font-size: 16px; }
  table { font-size: 13px; }
  td, th { padding-left: 10px; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 11pt; }
  figure, .tiles div, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .wide { overflow: visible; }
  th, td { white-space: normal; }
  .vega-embed svg { max-width: 100%; height: auto; }
}
"""
