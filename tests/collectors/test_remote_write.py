"""The remote write encoder, read back by a protobuf reader of the test's own."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from write_request import fields, read

from fleetsim_collectors.remote_write import (
    SAMPLE_BYTES,
    STALE_BITS,
    TIMES_MS,
    Message,
    Series,
    label_parts,
    labelled,
    messages,
    samples,
    stamped,
    varint,
)


def bits(value: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


def one(labels: dict[str, object], values: list[float], times_ms: list[int]) -> Message:
    rows = samples(stamped(np.array(times_ms)), np.array(values))
    (message,) = messages([Series(labelled("up", label_parts(labels)), rows)])
    return message


def test_bytes_by_hand() -> None:
    """1.5 is 0x3ff8...; 2**35 ms is a varint of five empty groups of 7 bits and a 1."""
    message = one({"job": "x"}, [1.5], [1 << 35])
    name = b"\x0a\x0e" + b"\x0a\x08__name__" + b"\x12\x02up"
    job = b"\x0a\x08" + b"\x0a\x03job" + b"\x12\x01x"
    sample = b"\x12\x10" + b"\x09\0\0\0\0\0\0\xf8\x3f" + b"\x10\x80\x80\x80\x80\x80\x01"
    assert message.body == b"\x0a\x2c" + name + job + sample  # 16 + 10 + 18 = 44 bytes
    assert message == (message.body, 1, 1, 0)
    assert len(sample) == SAMPLE_BYTES


def test_labels_are_in_order_of_their_names_and_empty_ones_left_out() -> None:
    labels = {"pod": "p", "UUID": "u", "gpu": 0, "_x": 1, "Z": None, "__a": "b", "__x": "c", "e": ""}
    (series,) = read(one(labels, [0.0], [1 << 40]).body)
    names = [name for name, _ in series[0]]
    assert names == ["UUID", "__a", "__name__", "__x", "_x", "gpu", "pod"] == sorted(names)
    assert dict(series[0])["gpu"] == "0"
    with pytest.raises(ValueError, match="__name__"):
        label_parts({"__name__": "x"})


def test_text_that_is_no_utf_8_does_not_stop_the_rest() -> None:
    (series,) = read(one({"a": "\udc80é"}, [0.0], [1 << 40]).body)
    assert series[0][1] == ("a", "?é")


def test_stale_markers_are_the_nan_of_prometheus() -> None:
    stamps = stamped(np.array([1 << 36, (1 << 36) + 1]))
    rows = samples(stamps, np.array([1.0, 2.0]), np.array([False, True]))
    (message,) = messages([Series(labelled("up", label_parts({})), rows, 1)])
    assert read(message.body)[0][1] == [(bits(1.0), 1 << 36), (0x7FF0000000000002, (1 << 36) + 1)]
    assert bits(float("nan")) != STALE_BITS
    assert (message.samples, message.stale) == (2, 1)


def test_stamps_are_shared_and_not_changed() -> None:
    stamps = stamped(np.array([1 << 36]))
    before = stamps.copy()
    samples(stamps, np.array([7.0]))
    assert (stamps == before).all()


@pytest.mark.parametrize("ms", [TIMES_MS[0] - 1, TIMES_MS[-1] + 1, 1_700_000_000])
def test_times_that_take_other_than_six_bytes_are_refused(ms: int) -> None:
    """The last of them is a time in seconds."""
    with pytest.raises(ValueError, match=f"^{ms} ms is not between"):
        stamped(np.array([1 << 36, ms]))


def test_messages_are_cut_between_series() -> None:
    head = labelled("m", label_parts({}))
    rows = samples(stamped(np.arange(3) + (1 << 36)), np.arange(3.0))
    size = 2 + len(head) + 3 * SAMPLE_BYTES
    made = list(messages([Series(head, rows)] * 5, 2 * size))
    assert [(m.series, m.samples, len(m.body)) for m in made] == [(2, 6, 2 * size)] * 2 + [(1, 3, size)]
    assert [m.series for m in messages([Series(head, rows)] * 2, 1)] == [1, 1]
    assert list(messages([])) == []


_TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=300)
_NAME = st.from_regex(r"(?!__name__\Z)[a-zA-Z_][a-zA-Z0-9_]{0,20}", fullmatch=True)
_SAMPLE = st.tuples(st.floats(width=64), st.integers(TIMES_MS[0], TIMES_MS[-1]))


@given(st.lists(st.tuples(st.dictionaries(_NAME, _TEXT, max_size=4), st.lists(_SAMPLE)), max_size=4))
def test_what_is_written_is_read_back(written: list[tuple[dict[str, str], list[tuple[float, int]]]]) -> None:
    series = []
    for labels, pairs in written:
        values = np.array([v for v, _ in pairs], np.float64)
        stamps = stamped(np.array([t for _, t in pairs], np.int64))
        series.append(Series(labelled("m", label_parts(labels)), samples(stamps, values)))
    found = [one for m in messages(series, 200) for one in read(m.body)]
    assert [(dict(labels), values) for labels, values in found] == [
        ({**labels, "__name__": "m"}, [(bits(v), t) for v, t in pairs]) for labels, pairs in written
    ]
    assert all(labels == sorted(labels) for labels, _ in found)


@given(st.integers(0, 1 << 63))
def test_varints(number: int) -> None:
    assert list(fields(b"\x08" + varint(number))) == [(1, 0, number)]
