"""Prometheus remote write 1.0: series and samples as the protobuf message ``WriteRequest``, by hand.

``WriteRequest{1: TimeSeries{1: Label{1: name, 2: value}, 2: Sample{1: double value, 2: int64 timestamp}}}``
(prometheus/prometheus, ``prompb/remote.proto``, ``prompb/types.proto``). From 1971 to 2109 a time in
milliseconds is a varint of 6 bytes, so that every sample is 18 bytes and all samples are one array. The
message must still be compressed, as one raw Snappy block. NumPy is imported only where it is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Headers of a request (the version is that of the protocol).
HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}

#: Bits of the NaN that says that a series has ended (prometheus/prometheus, ``model/value``).
STALE_BITS = 0x7FF0000000000002

#: Bytes of a sample in a message.
SAMPLE_BYTES = 18

#: Times that take 6 bytes, ms: from 1971-02-02 to 2109-05-15.
TIMES_MS = range(1 << 35, 1 << 42)

#: Bytes of a message before compression, about; receivers take 32 MiB or more.
MESSAGE_BYTES = 8 << 20

_NAME = b"__name__"


class Series(NamedTuple):
    """Some samples of one series: its labels (:func:`labelled`), and rows of :func:`samples`."""

    labels: bytes
    samples: memoryview
    stale: int = 0  # how many of them are stale markers


class Message(NamedTuple):
    """One ``WriteRequest``, not compressed, and what is in it. Samples count stale markers too."""

    body: bytes
    series: int
    samples: int
    stale: int


def label_parts(labels: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """*labels* by name, those before ``__name__`` and those after it; None and the empty text are left out.

    Series of several metrics that have the same labels share them: see :func:`labelled`. Raises
    ``ValueError`` if ``__name__`` is among them.
    """
    before: list[bytes] = []
    after: list[bytes] = []
    for name in sorted(labels):
        value = labels[name]
        key = name.encode()
        if key == _NAME:
            raise ValueError("__name__ is the name of the metric: give it to labelled()")
        if value is not None and value != "":
            (before if key < _NAME else after).append(_label(key, str(value)))
    return b"".join(before), b"".join(after)


def labelled(metric: str, parts: tuple[bytes, bytes]) -> bytes:
    """All labels of a series of *metric*, in order of their names."""
    return parts[0] + _label(_NAME, metric) + parts[1]


def _label(key: bytes, value: str) -> bytes:
    text = value.encode("utf-8", "replace")  # what cannot be sent must not stop the rest
    inside = b"\x0a" + varint(len(key)) + key + b"\x12" + varint(len(text)) + text
    return b"\x0a" + varint(len(inside)) + inside


def varint(number: int) -> bytes:
    """A whole number from 0 on as protobuf writes it: 7 bits a byte, the lowest first.

    >>> varint(1), varint(300)
    (b'\\x01', b'\\xac\\x02')
    """
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def stamped(times_ms: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Samples at *times_ms* (Unix time, ms), a row each, their values still 0.

    Raises ``ValueError`` for times outside ``TIMES_MS``.
    """
    import numpy as np

    times_ms = np.asarray(times_ms, np.int64)
    for outside in (int(times_ms.min()), int(times_ms.max())) if len(times_ms) else ():
        if outside not in TIMES_MS:
            raise ValueError(f"{outside} ms is not between {TIMES_MS[0]} (1971) and {TIMES_MS[-1]} (2109)")
    rows = np.zeros((len(times_ms), SAMPLE_BYTES), np.uint8)
    rows[:, :3] = 0x12, 0x10, 0x09
    rows[:, 11] = 0x10
    for byte in range(6):
        rows[:, 12 + byte] = times_ms >> 7 * byte & 0x7F | (0x80 if byte < 5 else 0)
    return rows


def samples(
    stamps: NDArray[np.uint8], values: NDArray[np.float64], stale: NDArray[np.bool_] | None = None
) -> memoryview:
    """*values* at the times of *stamps* (:func:`stamped`), as bytes; where *stale*, a marker instead.

    *stamps* is not changed: metrics read at the same times share it.
    """
    import numpy as np

    bits = np.array(values, "<f8").view(np.uint64)
    if stale is not None:
        bits[stale] = STALE_BITS
    rows = stamps.copy()
    rows[:, 3:11] = bits.view(np.uint8).reshape(-1, 8)
    return rows.reshape(-1).data


def messages(series: Iterable[Series], most: int = MESSAGE_BYTES) -> Iterator[Message]:
    """*series* in that order, in messages of up to *most* bytes, or of one series that takes more."""
    parts: list[bytes | memoryview] = []
    size = count = stale = held = 0
    for one in series:
        data = one.samples
        head = b"\x0a" + varint(len(one.labels) + len(data)) + one.labels
        if parts and size + len(head) + len(data) > most:
            yield Message(b"".join(parts), held, count, stale)
            parts, size, count, stale, held = [], 0, 0, 0, 0
        parts += head, data
        size += len(head) + len(data)
        count += len(data) // SAMPLE_BYTES
        stale += one.stale
        held += 1
    if parts:
        yield Message(b"".join(parts), held, count, stale)
