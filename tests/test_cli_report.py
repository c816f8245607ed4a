"""``fleetsim report``: a page and pictures from the command line, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import report_runs as hand
from click.testing import CliRunner, Result

from fleetsim.cli import cli


def invoke(*words: object) -> Result:
    return CliRunner().invoke(cli, ["report", *map(str, words)])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hand.write(tmp_path_factory.mktemp("runs") / "by-hand")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A run with little to draw."""
    tables = {"usage": hand.USAGE[:4], "node_states": hand.NODE_STATES[:4]}
    return hand.write(tmp_path / "small", tables, tiers=[], economics=None)


def test_a_page(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    result = invoke(run, "-o", target)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.endswith(f"Wrote {target}.\n")
    text = target.read_text("utf-8")
    assert text.startswith("<!doctype html>") and text.rstrip().endswith("</html>")
    assert "<title>by-hand</title>" in text
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_a_title_and_several_runs(run: Path, small: Path, tmp_path: Path) -> None:
    assert invoke(run, small, "-o", tmp_path / "a.html").exit_code == 0
    assert "<title>by-hand: by-hand, small</title>" in (tmp_path / "a.html").read_text("utf-8")
    assert invoke(run, small, "-o", tmp_path / "a.html", "--title", "On & off").exit_code == 0  # replaced
    assert "<title>On &amp; off</title>" in (tmp_path / "a.html").read_text("utf-8")


def test_pictures_have_the_names_of_the_charts(small: Path, tmp_path: Path) -> None:
    result = invoke(small, "-o", tmp_path / "page.html", "--png", tmp_path / "new" / "png")
    assert result.exit_code == 0
    names = sorted(path.name for path in (tmp_path / "new" / "png").iterdir())
    assert names == [
        "carbon.png", "classes.png", "funnel-by-generation-1.png", "funnel-over-time.png", "funnel.png",
        "power-site-1.png", "tenants.png", "utilisation-by-generation-1.png", "utilisation.png",
    ]  # fmt: skip
    assert f"Wrote {len(names)} pictures into {tmp_path / 'new' / 'png'}.\n" in result.stderr


def test_what_is_wrong_is_said_and_nothing_is_written(run: Path, tmp_path: Path) -> None:
    assert invoke(run).exit_code == 2  # no page named
    assert invoke("-o", tmp_path / "page.html").exit_code == 2
    result = invoke(tmp_path / "none", run, run, "-o", tmp_path / "page.html")
    assert result.exit_code == 2 and "2 problems" in result.stderr
    assert "no such folder" in result.stderr and "is the same folder as" in result.stderr
    missing = invoke(run, "-o", tmp_path / "none" / "page.html")
    assert missing.exit_code == 1 and "No such file or directory" in missing.stderr
    assert list(tmp_path.iterdir()) == []


def test_help_has_an_example() -> None:
    text = invoke("--help").stdout
    assert "fleetsim report runs/first -o first.html --png pictures" in text
