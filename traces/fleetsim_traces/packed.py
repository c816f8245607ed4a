"""Bytes of a file, unpacked by what its content says (gzip, zstd, xz), and files that are no trace."""

from __future__ import annotations

import gzip
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path

MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\0": "xz"}
XZ_MEMORY_BYTES = 256 << 20  # a dictionary may ask for gigabytes; xz -9 needs 65 MiB

# first bytes -> what it is, what to do
FOREIGN = {
    b"PK\x03\x04": ("a zip archive", "Unpack it and name the file inside."),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "Unpack it and name the file inside."),
    b"BZh": ("bzip2 data", "Unpack it with bunzip2."),
    b"\xff\xfe": ("UTF-16 text", "Convert the file, for example with iconv -f utf-16 -t utf-8."),
    b"\xfe\xff": ("UTF-16 text", "Convert the file, for example with iconv -f utf-16 -t utf-8."),
    b"SQLite format 3\0": ("an SQLite database", "Export the table as CSV."),
    b"\x89HDF\r\n": ("an HDF5 file", "Export the table as CSV or Parquet."),
    b"ARROW1": ("an Arrow IPC file", "Write the table as Parquet."),
    b"version https://git-lfs": ("a Git LFS pointer, not the file", "Fetch the file with git lfs pull."),
    b"%PDF": ("a PDF document", "Name the log itself."),
}
_PICKLE = (
    "Loading a pickle runs code, so it is never loaded. Save the table as CSV or Parquet where it was made."
)


class Damaged(Exception):
    """Packed data that cannot be unpacked; the message continues "gzip data ..."."""


def packing(path: Path) -> str:
    """``gzip``, ``zstd``, ``xz``, or nothing where the content of *path* is not packed."""
    with path.open("rb") as file:
        head = file.read(6)
    return next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), "")


def unpacked(path: Path, size: int) -> Iterator[bytes]:
    """Pieces of *path* of up to *size* bytes, unpacked; raises :class:`Damaged`, or OSError."""
    readers = {"gzip": _gzip, "zstd": _zstd, "xz": _xz, "": _plain}
    yield from readers[packing(path)](path, size)


def _plain(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(size):
            yield chunk


def _gzip(path: Path, size: int) -> Iterator[bytes]:
    try:
        with gzip.open(path) as file:
            while chunk := file.read(size):
                yield chunk
    except EOFError:
        raise Damaged("ends early") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise Damaged(f"is damaged ({error})") from None


def _zstd(path: Path, size: int) -> Iterator[bytes]:
    import pyarrow as pa

    try:
        with pa.input_stream(str(path), compression="zstd") as file:
            while chunk := file.read(size):
                yield chunk
    except (pa.ArrowException, OSError) as error:
        text = str(error).partition("\n")[0]
        raise Damaged("ends early" if "runcated" in text else f"is damaged ({text})") from None


def _xz(path: Path, size: int) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            rest = file.read(size)
            while rest:
                unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES)
                while not unpacker.eof:
                    if chunk := unpacker.decompress(rest, max_length=size):
                        yield chunk
                    rest = file.read(size) if unpacker.needs_input and not unpacker.eof else b""
                    if not rest and unpacker.needs_input and not unpacker.eof:
                        raise Damaged("ends early")
                # streams may follow one another, with zeros between
                rest = (unpacker.unused_data or file.read(size)).lstrip(b"\0") or file.read(size)
    except lzma.LZMAError as error:
        raise Damaged(f"is damaged ({error})") from None


def foreign(head: bytes) -> tuple[str, str] | None:
    """What a file that begins with *head* is, and what to do, where it plainly is no trace; else None."""
    for magic, found in FOREIGN.items():
        if head.startswith(magic):
            return found
    if head[257:262] == b"ustar":
        return "a tar archive", "Unpack it (tar -xf) and name the file inside."
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a Python pickle", _PICKLE
    if head.startswith((b"(lp", b"(dp", b"ccopy_reg", b"cnumpy", b"cpandas")):
        return "a Python pickle", _PICKLE
    if head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        return "a web page, not the file", "Download the raw file."
    return None
