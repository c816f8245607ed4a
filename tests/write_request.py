"""A reader of remote write messages, apart from the writer that it tests."""

from __future__ import annotations

import struct
from collections.abc import Iterator

Read = list[tuple[list[tuple[str, str]], list[tuple[int, int]]]]


def fields(data: bytes) -> Iterator[tuple[int, int, bytes | int]]:
    """Number, wire type and value of every field of a message."""
    at = 0

    def whole() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = whole()
        if tag & 7 == 0:
            yield tag >> 3, 0, whole()
        else:
            size = 8 if tag & 7 == 1 else whole()
            assert tag & 7 in (1, 2) and at + size <= len(data)
            yield tag >> 3, tag & 7, data[at : at + size]
            at += size


def read(body: bytes) -> Read:
    """Series of a WriteRequest: labels as they come, and bits of the value and time of every sample."""
    found: Read = []
    for number, wire, one in fields(body):
        assert (number, wire) == (1, 2) and isinstance(one, bytes)
        labels, values = [], []
        for number, wire, part in fields(one):
            assert wire == 2 and isinstance(part, bytes)
            inside = {n: v for n, _, v in fields(part)}
            first, second = inside[1], inside[2]
            assert isinstance(first, bytes)
            if number == 1:
                assert isinstance(second, bytes)
                labels.append((first.decode(), second.decode()))
            else:
                assert number == 2 and isinstance(second, int)
                values.append((struct.unpack("<Q", first)[0], second))
        found.append((labels, values))
    return found
