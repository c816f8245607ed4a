"""Pages in a real browser: every chart draws, nothing is fetched, nothing is cut off, in any light."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import report_runs as hand
from playwright.sync_api import Browser, Dialog, Page, sync_playwright

from fleetsim import report as reporting
from fleetsim.charts import trace_page
from fleetsim.runfolder import open_run
from fleetsim_traces.generate import generate_jobs

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")

WIDTHS = (390, 1280)
PAPERS = {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}
HOSTILE = "<img src=x onerror=alert(1)>"

#: Draws what is not on the screen yet, as printing does.
ALL = "dispatchEvent(new Event('beforeprint'))"
DRAWN = "[...document.querySelectorAll('.chart')].every(c => c.querySelector('svg'))"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report of one run, of two with names of strangers, of one with next to nothing, and a workload."""
    folder = tmp_path_factory.mktemp("pages")
    one = open_run(hand.write(folder / "by-hand"))
    names = {"tenant": HOSTILE, "failure": HOSTILE}
    tables = {
        table: [{k: names.get(k, v) for k, v in row.items()} for row in rows]
        for table, rows in hand.TABLES.items()
    }
    two = open_run(
        hand.write(folder / f"a very long name of a run, that goes on and on {HOSTILE}", tables, name=HOSTILE)
    )
    bare: dict[str, Any] = {k: [] for k in ("tiers", "failures", "workloads", "cohorts")}
    none = open_run(hand.write(folder / "empty", {}, **bare, economics=None, retirement=None))
    texts = {
        "one": reporting.report([one]).page(),
        "two": reporting.report([one, two]).page(),
        "none": reporting.report([none]).page(),
        "trace": trace_page(generate_jobs("philly-tenants", jobs=500, seed=3), title="jobs", gpus=100),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, "utf-8")
    return {name: folder / f"{name}.html" for name in texts}


@dataclass
class Seen:
    """A page that is open, and what it said and asked for."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


def look(browser: Browser, path: Path, width: int = 1280, scheme: Any = "light") -> Seen:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    seen = Seen(page)

    def refuse(dialog: Dialog) -> None:
        seen.said.append(dialog.message)
        dialog.dismiss()

    page.on("console", lambda message: seen.said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: seen.said.append(str(error)))
    page.on("dialog", refuse)
    page.on("request", lambda request: seen.asked.append(request.url))
    page.goto(path.as_uri())
    return seen


@pytest.mark.parametrize(
    ("name", "width", "scheme"),
    [(name, width, scheme) for name in ("one", "two") for width in WIDTHS for scheme in PAPERS]
    + [("none", 390, "dark"), ("trace", 390, "light")],
)
def test_everything_draws_and_fits(
    browser: Browser, pages: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    seen = look(browser, pages[name], width, scheme)
    page = seen.page
    page.evaluate(ALL)
    page.wait_for_function(DRAWN)
    charts = page.eval_on_selector_all(
        ".chart",
        """all => all.map(c => {
            const svg = c.querySelector("svg"), box = svg.getBoundingClientRect();
            const marks = [...svg.querySelectorAll(".role-mark path, .role-mark text, .mark-rect path")];
            const drawn = marks.filter(m => m.textContent || (m.getAttribute("d") || "").length > 6);
            return {id: c.id, right: box.right, height: box.height, marks: drawn.length};
        })""",
    )
    assert (len(charts) > 4) == (name != "none")
    for chart in charts:
        assert chart["marks"] > 0 and chart["height"] > 30, chart
        assert chart["right"] <= width, chart
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == PAPERS[scheme]
    assert seen.said == []
    assert seen.asked == [pages[name].as_uri()]
    page.context.close()


def test_charts_are_drawn_when_they_come_near(browser: Browser, pages: dict[str, Path]) -> None:
    page = look(browser, pages["one"]).page
    page.locator("#utilisation").scroll_into_view_if_needed()
    page.locator("#utilisation svg").wait_for()
    assert page.locator("#failures-by-kind svg").count() == 0
    page.locator("#failures-by-kind").scroll_into_view_if_needed()
    page.locator("#failures-by-kind svg").wait_for()
    page.context.close()


def test_colours_follow_the_reader_without_drawing_again(browser: Browser, pages: dict[str, Path]) -> None:
    page = look(browser, pages["one"]).page
    page.locator("#utilisation").scroll_into_view_if_needed()
    page.locator("#utilisation svg").wait_for()
    fill = """() => getComputedStyle(document.querySelector("#utilisation .mark-area path")).fill"""
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(fill)
    assert light == "rgb(0, 158, 115)"  # productive, #009E73
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(fill) == "rgb(45, 184, 143)"  # #2DB88F
    page.emulate_media(color_scheme="dark", media="print")
    assert (page.evaluate(fill), page.evaluate(paper)) == (light, PAPERS["light"])
    page.context.close()


def test_the_pointer_is_told_the_figures(browser: Browser, pages: dict[str, Path]) -> None:
    page = look(browser, pages["one"]).page
    chart = page.locator("#utilisation")
    chart.scroll_into_view_if_needed()
    chart.locator("svg").wait_for()
    box = chart.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)  # in the first period
    tip = page.locator("#vg-tooltip-element")
    tip.wait_for()
    text = tip.inner_text()
    assert "productive" in text and "2" in text and "Jan 01, 2026" in text
    page.context.close()


def test_names_of_strangers_are_shown_as_they_are(browser: Browser, pages: dict[str, Path]) -> None:
    seen = look(browser, pages["two"])
    seen.page.evaluate(ALL)
    seen.page.wait_for_function(DRAWN)
    assert seen.page.locator("img").count() == 0
    texts = seen.page.eval_on_selector_all("#failures-by-kind-2 text", "all => all.map(t => t.textContent)")
    assert any(text.startswith("<img src=x") for text in texts)
    assert HOSTILE in seen.page.locator("h1").inner_text()
    assert seen.said == []
    seen.page.context.close()


def test_it_prints(browser: Browser, pages: dict[str, Path]) -> None:
    page = look(browser, pages["one"], scheme="dark").page
    page.evaluate(ALL)
    page.wait_for_function(DRAWN)
    assert len(page.pdf(format="A4")) > 50_000
    page.context.close()
