"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of *path* when the block ends, and vanishes where it does not."""
    sibling = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with sibling.open("xb") as file:
            yield file
        sibling.replace(path)
    except BaseException:
        sibling.unlink(missing_ok=True)
        raise
