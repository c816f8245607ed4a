"""``fleetsim lifetimes``: what it reads, prints and draws, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from click.testing import CliRunner, Result

from fleetsim import safeyaml
from fleetsim.cli import cli
from fleetsim.life.hazards import Curve
from fleetsim.life.lives import span
from fleetsim.life.spec import HazardSpec
from fleetsim.units import YEAR_S as Y
from fleetsim.units import duration_s

LIVES = """card,days,failed,kind
1,100,1,a
2,400,0,a
3,800,yes,b
4,90,no,b
5,300,TRUE,a
6,700,f,
"""
COLUMNS = ("--duration", "days", "--unit", "d", "--dead", "failed")


def invoke(*words: object) -> Result:
    return CliRunner().invoke(cli, ["lifetimes", *map(str, words)], env={"COLUMNS": "100"})


@pytest.fixture
def cards(tmp_path: Path) -> Path:
    path = tmp_path / "cards.csv"
    path.write_text(LIVES)
    return path


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """2,000 lives: 10 end at a quarter of a year, 20 at three quarters, the others are seen for the year."""
    path = tmp_path / "many.parquet"
    ends = [0.25] * 10 + [0.75] * 20 + [1.0] * 1970
    pl.DataFrame({"age": ends, "dead": [e < 1 for e in ends]}).write_parquet(path)
    return path


def test_the_table_by_hand(cards: Path) -> None:
    """Group a: deaths at 100 and 300 d, one seen until 400 d: 800 d are 2.19 years."""
    result = invoke(cards, *COLUMNS, "--group", "kind")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = [re.split(r"\s{2,}", line.strip()) for line in result.stdout.splitlines()]
    assert ["(none)"] in rows and ["a"] in rows and ["b"] in rows
    assert "3 lives, 2 deaths in 2.19 years watched; median life 0.822 y (0.274 y or later)" in result.stdout
    # 0-182.5 d: three at risk for 100 + 182.5 + 182.5 d; 1 death in 1.274 years is 78.5 % a year
    assert ["0-6mo", "3", "1", "1.27", "78.49 (1.99-437)", "66.7 (5.4-94.5)"] in rows
    assert ["6mo-1y", "2", "1", "0.822", "122 (3.08-678)", "33.3 (0.9-77.4)"] in rows
    assert "2 lives, 1 death in 2.44 years watched" in result.stdout
    assert "no Weibull fit: it needs two deaths at different ages, of 1" in result.stdout


def test_all_at_once_without_groups(cards: Path) -> None:
    result = invoke(cards, *COLUMNS)
    assert result.stdout.splitlines()[0] == "all"
    assert "6 lives, 3 deaths in 6.55 years watched" in result.stdout  # 2,390 d


def test_json_has_every_figure_and_its_definition(cards: Path) -> None:
    result = invoke(cards, *COLUMNS, "--group", "kind", "--json")
    found = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (found["rows_read"], found["rejected"]) == (6, {})
    none, a, b = found["groups"]
    assert [g["group"] for g in (none, a, b)] == ["(none)", "a", "b"]
    assert set(a) - {"group", "no_weibull"} <= {*found["definitions"], "median_low_s", "median_high_s"}
    assert a["median_s"] == 300 * 86_400 and a["median_high_s"] is None
    assert a["kaplan_meier"]["age_s"] == [100 * 86_400, 300 * 86_400]
    assert a["kaplan_meier"]["survival"] == pytest.approx([2 / 3, 1 / 3])
    assert a["kaplan_meier"]["hazard"] == pytest.approx([1 / 3, 1 / 3 + 1 / 2])
    assert b["kaplan_meier"]["std_error"] == [None]  # nobody is left
    assert a["hazard_by_age"]["deaths"] == [1, 1, 0]
    assert a["weibull"]["shape"] > 1 and a["no_weibull"] is None
    assert b["weibull"] is None and "two deaths" in b["no_weibull"]
    assert none["exposure_years"] == pytest.approx(700 / 365)


def test_csv_and_parquet_of_any_kind_agree(cards: Path, tmp_path: Path) -> None:
    expected = json.loads(invoke(cards, *COLUMNS, "--json").stdout)["groups"]
    whole = tmp_path / "cards.parquet"
    died = [True, False, True, False, True, False]
    days = pl.Series([100, 400, 800, 90, 300, 700], dtype=pl.Int16)
    pl.DataFrame({"days": days, "failed": died, "kind": ["a"] * 6}).write_parquet(whole)
    assert json.loads(invoke(whole, *COLUMNS, "--json").stdout)["groups"] == expected
    hours = tmp_path / "hours.csv"
    hours.write_text("h,x\n" + "".join(f"{24 * d},{int(x)}\n" for d, x in zip(days, died, strict=True)))
    again = invoke(hours, "--duration", "h", "--unit", "h", "--dead", "x", "--json")
    assert json.loads(again.stdout)["groups"] == expected


def test_lives_watched_from_a_later_age(tmp_path: Path) -> None:
    """4 y with a death, watched from 3 y; 2 years without one from 1 y: 1 + 1 years, not 6."""
    path = tmp_path / "late.csv"
    path.write_text("age,dead,since\n4,1,3\n2,0,1\n")
    result = invoke(path, "--duration", "age", "--unit", "y", "--entry", "since", "--bin", "1y", "--json")
    (found,) = json.loads(result.stdout)["groups"]
    assert found["exposure_years"] == 2
    assert found["hazard_by_age"]["per_year"] == [None, 0, None, 1]
    assert found["hazard_by_age"]["at_risk"] == [0, 1, 0, 1]
    table = invoke(path, "--duration", "age", "--unit", "y", "--entry", "since", "--bin", "1y").stdout
    assert "1y-2y" in table and "3y-4y" in table and "2y-3y" not in table  # nobody was watched then


def test_yaml_can_be_pasted_into_a_scenario(many: Path) -> None:
    """10 / (2,000 x 0.5 - 10 x 0.25) years, and 20 / (1,990 x 0.5 - 20 x 0.25)."""
    result = invoke(many, "--duration", "age", "--unit", "y", "--yaml")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "# all: 30 deaths of 2,000 lives in many.parquet\n"
        "# [age, failures per year]; the last rate, of 20 deaths, holds for ever\n"
        "hazard:\n"
        "- curve:\n"
        "  - [0, 0.01003]\n"
        "  - [6mo, 0.0202]\n"
    )
    read = safeyaml.load_yaml(result.stdout, "lives")
    assert isinstance(read, dict)
    (part,) = [HazardSpec.model_validate(h) for h in read["hazard"]]
    curve = Curve([(duration_s(age), rate) for age, rate in part.curve or ()])
    assert curve.rate(0.2 * Y) * Y == pytest.approx(10 / 997.5, rel=1e-3)
    assert curve.rate(9 * Y) * Y == pytest.approx(20 / 990, rel=1e-3)


def test_yaml_of_groups_is_a_document_each_and_rates_stay_numbers(tmp_path: Path) -> None:
    """PyYAML reads 1e-05 as text: rates are written out."""
    path = tmp_path / "g.csv"
    path.write_text("kind,dead,age\n" + "x,0,900\n" * 200 + "x,1,900\n" + "y: #1,1,500\n")
    result = invoke(path, "--duration", "age", "--unit", "y", "--group", "kind", "--yaml", "--bin", "900y")
    x, y = yaml.safe_load_all(result.stdout)
    assert x == {"hazard": [{"curve": [[0, 0.000005528]]}]}  # 1 / (201 x 900)
    assert y == {"hazard": [{"curve": [[0, 0.002]]}]}


@pytest.mark.parametrize("seconds", [0, 0.5, 1, 59, 3600, 15_768_000, 47_304_000.0, Y, 3 * Y + 86_401.25])
def test_ages_are_written_as_scenarios_read_them(seconds: float) -> None:
    text = span(seconds)
    assert (float(text) if text == "0" else duration_s(text)) == seconds


def test_all_faults_of_rows_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(
        "card,days,failed,from\n1,100,1,0\n2,-4,0,0\n3,x,0,0\n4,90,no,95\n5,300\n6,1e9,no,1\n7,nan,no,1\n"
        "8,20,,0\n9,20,maybe,0\n10,20,0,-1\n11,20,0,\n12,,0,0\n"
    )
    result = invoke(path, *COLUMNS, "--entry", "from")
    assert (result.exit_code, result.stdout) == (2, "")
    lines = [line.strip() for line in result.stderr.splitlines()]
    assert "11 of 12 rows cannot be used" in lines[1] and "--bad-rows drop" in lines[1]
    assert sorted(lines[2:]) == sorted(
        f"{path}:{text}"
        for text in (
            "3: 'days' is not above 0: '-4'. A life has a length: leave the row out.",
            "4: 'days' is not a number: 'x'. Write a number (d).",
            "5: 'from' is not before the end of its life: '95'. Both count from the beginning of life.",
            "6: 2 fields in '5,300'. Write 4.",
            "7: 'days' is over 1,000 years: '1e9'. Is the unit right (--unit d)?",
            "8: 'days' is not finite: 'nan'. Write a number (d).",
            "9: 'failed' is neither true nor false: ''. Write true or false, or 1 or 0.",
            "10: 'failed' is neither true nor false: 'maybe'. Write true or false, or 1 or 0.",
            "11: 'from' is negative: '-1'. Write the age at which watching began.",
            "12: 'from' is missing: ''. Write 0 where a life is known from its beginning.",
            "13: 'days' is missing: ''.",
        )
    )
    kept = invoke(path, *COLUMNS, "--entry", "from", "--bad-rows", "drop")
    assert kept.exit_code == 0
    assert "1 life, 1 death" in kept.stdout
    assert "Left out 1 of 12 rows: 'days' is not above 0.\n" in kept.stderr


def test_all_faults_of_columns_are_told_at_once(cards: Path) -> None:
    result = invoke(cards, "--duration", "day", "--dead", "kind", "--group", "kind", "--entry", "since")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "Error: 3 problems:",
        f"  {cards}:1: no column 'day' (--duration). Did you mean days? Name it with --duration. "
        "It has: card, days, failed, kind.",
        f"  {cards}:1: no column 'since' (--entry). Name it with --entry. It has: card, days, failed, kind.",
        f"  {cards}:1: --dead and --group both name column 'kind'. Name a column for each.",
    ]


def test_columns_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.parquet"
    pl.DataFrame({"duration": [[1]], "dead": [pl.Series([0.0]).cast(pl.Datetime)[0]]}).write_parquet(path)
    result = invoke(path)
    assert result.exit_code == 2
    assert "column 'duration' holds List(Int64)" in result.stderr
    assert "column 'dead' holds Datetime" in result.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--bin", "1h"], "--bin: 19,200 age bands up to 2y2mo9d4h. Make 500 or fewer: choose longer ones"),
        (["--bin", "soon"], "'soon' is not a duration"),
        (["--bin", "0d"], "'0d' must be longer than zero"),
        (["--json", "--yaml"], "--yaml and --json both print on stdout: choose one"),
        (["--unit", "w"], "'w' is not one of"),
    ],
)
def test_what_cannot_be_is_refused(cards: Path, words: list[str], told: str) -> None:
    result = invoke(cards, *COLUMNS, *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in " ".join(result.stderr.split())


def test_groups_that_are_too_many_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.csv"
    path.write_text("serial,duration,dead\n" + "".join(f"{i},5,0\n" for i in range(21)))
    result = invoke(path, "--group", "serial")
    assert result.exit_code == 2
    assert "'serial' has 21 different groups. Name one with 20 or fewer (--group)." in result.stderr


def test_no_file_and_no_lives(tmp_path: Path) -> None:
    assert "no such file" in invoke(tmp_path / "none.csv").stderr
    (tmp_path / "empty.csv").write_text("duration,dead\n")
    result = invoke(tmp_path / "empty.csv")
    assert (result.exit_code, "no lives in it" in result.stderr) == (2, True)


def test_pictures_are_written_whole_and_their_names_told_on_stderr(cards: Path, tmp_path: Path) -> None:
    page, picture = tmp_path / "out" / "p.html", tmp_path / "out" / "p.png"
    assert invoke(cards, *COLUMNS, "--html", page).exit_code == 1  # no such folder
    page.parent.mkdir()
    words = (cards, *COLUMNS, "--group", "kind", "--html", page, "--png", picture, "--json")
    result = invoke(*words)
    assert (result.exit_code, result.stderr) == (0, f"Wrote {page} and {picture}.\n")
    json.loads(result.stdout)
    assert picture.read_bytes().startswith(b"\x89PNG")
    first = page.read_bytes()
    assert sorted(p.name for p in page.parent.iterdir()) == ["p.html", "p.png"]
    invoke(*words)
    assert page.read_bytes() == first


def test_the_page_loads_nothing_and_escapes_names(tmp_path: Path) -> None:
    path = tmp_path / "<b>&.csv"
    path.write_text("duration,dead,kind\n5,1,</script><script>alert(1)\n9,1,</script><script>alert(1)\n")
    page = tmp_path / "p.html"
    assert invoke(path, "--group", "kind", "--bin", "2s", "--html", page).exit_code == 0
    text = page.read_text()
    assert "<title>Lives in &lt;b&gt;&amp;.csv</title>" in text
    assert "<script>alert" not in text
    markup = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"src\s*=|href\s*=|@import|url\(", markup.replace("default-src", ""))


def test_what_is_drawn(many: Path) -> None:
    """Steps of survival from 1, its band around it; a step and a bar for each age band."""
    from fleetsim.life.lives import Columns, analyse, read_lives
    from fleetsim.life.survival_charts import survival_charts
    from fleetsim.reporting.page import Look

    groups = analyse(read_lives(many, Columns("age", "dead", unit="y")), Y / 2)
    charts = survival_charts(groups, Look({f"group-{i}": ("#000", "#fff") for i in range(5)}, False))

    def rows(name: str) -> list[dict[str, Any]]:
        spec = charts[name].to_dict()
        assert re.search(r'"title": "Age \((years|days)\)"', json.dumps(spec))
        return [row for part in spec["datasets"].values() for row in part]

    curve = rows("survival")
    assert (curve[0]["age"], curve[0]["share"]) == (0, 1)
    assert curve[-1]["share"] == pytest.approx(1970 / 2000)
    assert all(row["low"] <= row["share"] <= row["high"] for row in curve)
    bars = [row for row in rows("hazard") if "low" in row]
    assert [row["rate"] for row in bars] == pytest.approx([10 / 997.5, 20 / 990], rel=1e-4)
    assert all(row["age"] < row["at"] < row["until"] for row in bars)
