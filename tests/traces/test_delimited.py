"""Delimited text: the quick way and the careful way agree, and the quick one is taken where it can be."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetsim_traces import TraceError, delimited
from fleetsim_traces.delimited import open_sheet, split_rows
from fleetsim_traces.rows import all_differ
from fleetsim_traces.text import read_text
from fleetsim_traces.times import by_value, instants, number, scaled, unix_seconds

HEADER = b"a,b,c\n"
IRREGULAR = {
    "quotes": b'1,"x\ny",3\n4,5,6\n',
    "blank line": b"1,2,3\n\n4,5,6\n",
    "blank lines at the end": b"1,2,3\n4,5,6\n\n\n",
    "too short": b"1,2,3\n4,5\n6,7,8\n",
    "too long": b"1,2,3\n4,5,6,7\n8,9,10\n",
    "short and long": b"1,2,3\n4,5\n6,7,8,9\n",
    "only separators": b"1,2,3\n,,\n4,5,6\n",
    "lone carriage returns": b"1,2,3\r4,5,6\r7,8,9\n",
}
REGULAR = {
    "plain": b"1,2,3\n4,5,6\n",
    "no line end": b"1,2,3\n4,5,6",
    "windows": b"1,2,3\r\n4,5,6\r\n",
    "empty last": b"1,2,\n4,5,\n",
    "empty first": b",2,3\n,5,6\n",
    "accents": "ä,é,日本\nü,ö,€\n".encode(),
    "like numbers": b"0012,1e5,0x10\n007,nan,-0\n",
}


def careful(path: Path) -> tuple[list[tuple[object, ...]], list[delimited.Misfit]]:
    """The rows as the splitter that trusts nothing reads them: a comment that never comes asks for it."""
    found = split_rows(path, read_text(path), ["0", "1", "2"], start=len(HEADER), comment="\x01")
    return found.frame.select("line", "0", "1", "2").rows(), found.misfits


@pytest.mark.parametrize("piece", [8, 9, 1 << 18])
@pytest.mark.parametrize("name", [*IRREGULAR, *REGULAR])
def test_both_ways_agree(name: str, piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "_PIECE_BYTES", piece)
    path = tmp_path / "t.csv"
    path.write_bytes(HEADER + {**IRREGULAR, **REGULAR}[name])
    found = open_sheet(path).rows()
    assert (found.frame.select("line", "0", "1", "2").rows(), found.misfits) == careful(path)


@given(st.text('1 ,\n\r\t"é', max_size=40))
def test_both_ways_agree_on_any_text(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_bytes(HEADER + text.encode())

        def outcome(read: object) -> object:
            try:
                return read()  # type: ignore[operator]
            except TraceError as error:
                return str(error)

        def quick() -> object:
            found = open_sheet(path).rows()
            return found.frame.select("line", "0", "1", "2").rows(), found.misfits

        assert outcome(quick) == outcome(lambda: careful(path))


@pytest.mark.parametrize("name", REGULAR)
def test_regular_text_is_left_in_its_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "[a]*.csv"  # a name, not a pattern
    path.write_bytes(HEADER + REGULAR[name])
    monkeypatch.delattr(delimited, "read_text")
    assert open_sheet(path).rows().frame.height == 2


@pytest.mark.parametrize("bad", [b"1,2,\0\n", b"1,2,\xff\n", b"1,2,\xc3"])
def test_bytes_that_are_no_text_are_reported_wherever_they_are(
    bad: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(HEADER + b"1,2,3\n" * 10 + bad)
    for piece in (7, 64, 1 << 18):
        monkeypatch.setattr(delimited, "_PIECE_BYTES", piece)
        with pytest.raises(TraceError, match=r"t\.csv:12: .*not"):
            open_sheet(path).rows(["a"])


def test_a_file_that_changed_since_it_was_looked_over_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(HEADER + b"1,2,3\n")
    sheet = open_sheet(path)
    path.write_bytes(HEADER + b"1,2,3\n4,5,6\n7,8\n")
    found = sheet.rows()
    assert found.frame.height == 2
    assert [m.line for m in found.misfits] == [4]


def test_numbers_among_blanks_are_read() -> None:
    cells = pl.DataFrame({"n": [" 1", "2\t", "", "x", "3"]})
    assert cells.select(number(pl.col("n")))["n"].to_list() == [1, 2, None, None, 3]


def test_scaled_values_are_the_nearest() -> None:
    values = pl.DataFrame({"n": [float(n) for n in range(1, 2000)] + [None]})
    found = values.select(scaled(pl.col("n"), Fraction(1, 1000)))["n"].to_list()
    assert found == [n / 1000 for n in range(1, 2000)] + [None]


def test_by_value_reckons_empty_cells_too() -> None:
    cells = pl.Series("n", ["a", None, "b", "a"])
    name = pl.when(pl.col("n") == "a").then(pl.lit("x")).otherwise(pl.lit("y"))
    first, second = by_value(cells, name, pl.col("n"))
    assert first.to_list() == ["x", "y", "y", "x"]
    assert second.to_list() == cells.to_list()


def test_equal_cells_are_found() -> None:
    assert all_differ(pl.Series(["a", "b", "c"]).hash())
    assert not all_differ(pl.Series(["a", "b", "a"]).hash())


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_one_form_of_timestamps_is_read_as_any_form_is(zone: str) -> None:
    stamps = ["2024-03-31T00:30:00", "2024-03-31T02:30:00", "2024-10-27T02:30:00", "", "None"]
    for tail in ("", "Z"):
        cells = pl.Series("t", [s + tail * ("T" in s) for s in stamps])
        mixed = pl.concat([cells, pl.Series("t", ["2024-01-01T00:00:00.5"])])  # makes it go the slow way
        assert instants(cells, zone).to_list() == instants(mixed, zone).to_list()[:-1]
    single = instants(pl.Series("t", ["2024-1-01T00:00:00", "2024-01-01T00:00:00"]), zone).to_list()
    assert single[0] is None and single[1] is not None


def test_the_last_day_of_the_calendar_is_read() -> None:
    cells = pl.Series("t", ["9999-12-31 12:00:00", "2017-08-07 00:00:00"]).str.to_datetime()
    assert unix_seconds(cells, "America/Los_Angeles").is_not_null().all()
