"""The column mapping: every problem at once, with its path and a suggestion."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from fleetsim_traces import ColumnMap, Source, TraceError, load_columns, read_trace

GOOD: dict[str, Any] = {"submit_s": "t", "duration_s": "d", "gpus": "n"}


def problems(data: object) -> list[str]:
    with pytest.raises(TraceError) as caught:
        ColumnMap.from_dict(data)
    return [str(problem) for problem in caught.value.problems]


def test_plain_data_becomes_a_mapping() -> None:
    made = ColumnMap.from_dict(
        {**GOOD, "status": {"column": "s", "map": {"A": "failed"}}, "epoch": datetime(1970, 1, 1, tzinfo=UTC)}
    )
    assert made.sources["gpus"] == Source(column="n")
    assert made.sources["status"].map == {"A": "failed"}
    assert made.epoch == datetime(1970, 1, 1, tzinfo=UTC)


def test_all_problems_at_once() -> None:
    assert problems(
        {
            "submit_s": {"column": "t", "zone": "America/New_Yrok"},
            "gpu": "n",
            "tenant": {"colum": "vc"},
            "estimate_s": {"column": "e", "unit": "sec"},
            "separator": "::",
            "epoch": date(1970, 1, 1),
        }
    ) == [
        "columns.submit_s.zone: no time zone 'America/New_Yrok'. Did you mean America/New_York?",
        "columns.gpu: not a column of the job table. Did you mean gpus?",
        "columns.tenant.colum: unknown key. Did you mean column?",
        "columns.tenant: neither column nor value. Give one of them.",
        "columns.estimate_s.unit: 'sec' is not a unit of estimate_s. Choose from ns, us, ms, s, min, h, d.",
        'columns.separator: \'::\' is not one character. Write ";" or "\\t".',
        "columns.epoch: '1970-01-01' is not an instant. "
        "Write it with its offset, such as 1970-01-01T00:00:00Z.",
        "columns: nothing feeds duration_s. Add `duration_s: source_column` or start_s and end_s.",
        "columns: nothing feeds gpus. Add `gpus: source_column`.",
    ]


@pytest.mark.parametrize(
    ("key", "spec", "said"),
    [
        ("gpus", 8, "'8' is not a column name"),
        ("gpus", "", "an empty name"),
        ("gpus", {"value": "many"}, "'many' is not a number"),
        ("gpus", {"value": True}, "'True' is not a number"),
        ("gpus", {"value": float("nan")}, "'nan' is not a number"),
        ("gpus", {"column": ["n"]}, "a list is not text"),
        ("gpus", {"column": "n", "unit": "s"}, "'s' is not a unit of gpus"),
        ("gpus", {"column": "n", "zone": "UTC"}, "gpus is not a point in time"),
        ("gpus", {"column": "n", "map": {"a": "b"}}, "gpus is a number"),
        ("user", {"column": "n", "map": "a"}, "'a' is not a mapping to names"),
        ("user", {"value": 3}, "'3' is not text"),
        ("submit_s", {"value": 3}, "cannot be the same for every row"),
        ("submit_s", {"column": "t", "zone": "UTC", "unit": "s"}, "zone: given together with unit"),
        ("submit_s", {"column": "t", "format": "%Y"}, "format: given without zone"),
        ("submit_s", {"column": "t", "format": "%Y%z", "zone": "UTC"}, "an offset (%z) is not supported"),
        ("epoch", "0001-01-01T00:00+14:00", "is not an instant"),
        ("end_s", "e", "end_s: given together with duration_s"),
    ],
)
def test_one_problem(key: str, spec: object, said: str) -> None:
    assert any(said in problem for problem in problems({**GOOD, key: spec}))


def test_not_a_mapping() -> None:
    assert problems(["submit_s"])[0].startswith("columns: must be a mapping, not a list.")
    assert "given without start_s" in problems({"submit_s": "t", "gpus": "n", "end_s": "e"})[-1]


def test_yaml_file(tmp_path: Path) -> None:
    path = tmp_path / "mapping.yaml"
    path.write_text("submit_s: {column: t, unit: ms}\nduration_s: d\ngpus: n\nepoch: 1970-01-01T00:00:00Z\n")
    made = load_columns(path)
    assert made == ColumnMap(
        {"submit_s": Source("t", unit="ms"), "duration_s": Source("d"), "gpus": Source("n")},
        epoch=datetime(1970, 1, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("submit_s: [t\n", "mapping.yaml:2: not YAML"),
        ("!!python/object/apply:os.mkdir [oops]\n", "mapping.yaml:1: not YAML"),
        ("- a\n", "must be a mapping, not a list"),
        ("\x01", "not YAML"),
        ("", "empty file"),
        ("a: " + "[" * 5000, "not YAML"),
        # aliases of aliases: must not be written out in the message
        ("a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
            f"{c}: &{c} [{', '.join(['*' + chr(ord(c) - 1)] * 9)}]\n" for c in "bcdefghijklmnop"
        ) + "gpus: {value: *p, column: *p}\nuser: {map: *p, column: u}\n",
        "gpus.value: a list is not a number"),
    ],
)  # fmt: skip
def test_yaml_file_that_cannot_be_used(
    tmp_path: Path, text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mapping.yaml"
    path.write_text(text)
    with pytest.raises(TraceError) as caught:
        load_columns(path)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 10_000
    assert not (tmp_path / "oops").exists()


def test_epoch_beyond_the_calendar(tmp_path: Path) -> None:
    path = tmp_path / "g.csv"
    path.write_text("t,d,n\n4000000000,1,1\n")
    with pytest.raises(TraceError, match=r"4,000,000,000 s after 9999-12-31 .* is beyond the calendar"):
        read_trace(path, columns={**GOOD, "epoch": "9999-12-31T00:00Z"})


def test_source_columns_that_are_absent(tmp_path: Path) -> None:
    path = tmp_path / "g.csv"
    path.write_text("t,dur,n\n1,1,1\n")
    with pytest.raises(TraceError) as caught:
        read_trace(path, columns={**GOOD, "duration_s": "durr", "user": "zzz"})
    assert [str(problem) for problem in caught.value.problems] == [
        f"{path}:1: no column 'durr' (for duration_s). Did you mean dur?",
        f"{path}:1: no column 'zzz' (for user). Choose from t, dur, n.",
    ]
