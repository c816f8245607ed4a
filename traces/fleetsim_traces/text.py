"""Untrusted text: all of a file, unpacked and checked, and how it is quoted in messages.

A file may not unpack to more than :data:`MAX_BYTES`. Nothing read here is ever evaluated.
"""

from __future__ import annotations

import codecs
from pathlib import Path

from fleetsim_traces.errors import Problem, TraceError
from fleetsim_traces.packed import Damaged, foreign, packing, unpacked

MAX_BYTES = 4 << 30  # of text after unpacking; raise it for a larger log on a larger machine
MAX_TEXT = 1000  # characters of an identity or a name
_CHUNK_BYTES = 16 << 20


def fail(place: object, message: str, remedy: str = "") -> TraceError:
    """A TraceError with one problem."""
    return TraceError([Problem(str(place), message, remedy)])


def shorten(value: object, width: int = 60) -> str:
    """*value* quoted for a message: control characters escaped, cut to *width* characters."""
    text = str(value)
    return repr(text) if len(text) <= width else f"{text[: width - 3]!r}..."


def require_file(path: Path) -> None:
    """Raise TraceError unless *path* is a regular file with something in it."""
    if path.is_dir():
        raise fail(path, "a folder, not a file", "Name the file inside it.")
    if not path.exists():
        raise fail(path, "no such file", "Check the name.")
    if not path.is_file():
        raise fail(path, "not a regular file", "Save it to a file first.")
    if path.stat().st_size == 0:
        raise fail(path, "empty file", "Fetch it again: a trace has at least one job.")


def read_bytes(path: Path, size: int | None = None) -> bytes:
    """The first *size* bytes of *path* (None: all), unpacked where its content is gzip, zstd or xz.

    Raises TraceError for a file that :func:`require_file` refuses, that cannot be read, whose packed data is
    damaged or cut short, that holds more than :data:`MAX_BYTES`, or that is plainly of another kind: an
    archive, a pickle, a web page.
    """
    require_file(path)
    chunks: list[bytes] = []
    count = 0
    try:
        # a plain file comes in one piece, which join hands on without a copy
        most = size or max(_CHUNK_BYTES, min(path.stat().st_size, MAX_BYTES) + 1)
        for chunk in unpacked(path, most):
            if not chunks and (found := foreign(chunk)):
                raise fail(path, *found)
            chunks.append(chunk)
            count += len(chunk)
            if count > MAX_BYTES:
                raise fail(
                    path,
                    f"more than {MAX_BYTES:,} bytes of text",
                    "Split it, or raise fleetsim_traces.text.MAX_BYTES.",
                )
            if size and count >= size:
                break
    except Damaged as error:
        what = f"{packing(path)} data {error} after {count:,} bytes of text"
        raise fail(path, what, "Fetch it again.") from None
    except OSError as error:
        raise fail(path, f"cannot be read: {error.strerror or error}") from None
    return b"".join(chunks)[:size]


def read_text(path: Path) -> bytes:
    """All of :func:`read_bytes`, as UTF-8 without its byte order mark.

    Raises TraceError also for bytes that are not UTF-8 text, with the line of the first.
    """
    data = read_bytes(path).removeprefix(codecs.BOM_UTF8)
    check_text(path, data)
    if not data[:4096].strip() and not data.strip():
        raise fail(path, "empty file", "Fetch it again: a trace has at least one job.")
    return data


def check_text(path: Path, data: bytes, *, final: bool = True) -> None:
    """Raise TraceError unless *data* is UTF-8 text. With *final* False the last character may be cut."""
    nul = data.find(b"\0")
    if nul >= 0:
        raise fail(
            f"{path}:{line_at(data, nul)}",
            "binary data (a NUL byte), not text",
            "Traces are text (plain or packed) or Parquet.",
        )
    if data.isascii():
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(data), _CHUNK_BYTES):
        last = start + _CHUNK_BYTES >= len(data)
        held = len(decoder.getstate()[0])  # bytes of a character cut by the previous chunk
        try:
            decoder.decode(data[start : start + _CHUNK_BYTES], final=last and final)
        except UnicodeDecodeError as error:
            at = start - held + error.start
            raise fail(
                f"{path}:{line_at(data, at)}",
                f"byte 0x{data[at]:02x} is not UTF-8 text",
                "Convert the file, for example with iconv -f latin1 -t utf-8.",
            ) from None


def line_at(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1
