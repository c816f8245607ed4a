"""What tests of sweeps share: a scenario that takes no time, and work that other processes can import."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from model.support import A100, V100, cohort

#: Two generations of 8 GPUs; the jobs are drawn from the seed.
SCENARIO: dict[str, Any] = {
    "name": "small",
    "question": "How much load keeps the old cards busy?",
    "start": "2026-01-01",
    "horizon": "4d",
    "seed": 3,
    "usage_period": "day",
    "cohorts": [cohort(V100, name="old", delivered="-4y"), cohort(A100, name="new")],
    "workloads": [{"name": "w", "generate": {"family": "philly", "jobs": 40}, "reference_gpu": V100}],
    "scheduler": {"queue": "fifo_skip"},
}


def write(folder: Path, axes: Mapping[str, Any], replications: int = 1, **more: Any) -> Path:
    """The scenario with axes, as a file in *folder*. JSON is YAML."""
    path = folder / "small.yaml"
    path.write_text(json.dumps({**SCENARIO, **more, "axes": axes, "replications": replications}, indent=1))
    return path


def double(task: int, tell: Callable[[float], None]) -> int:
    """Twice the task."""
    tell(0.5)
    return 2 * task


def odd_fails(task: int, tell: Callable[[float], None]) -> int:
    """Even tasks; odd ones raise."""
    if task % 2:
        raise ValueError(f"{task} is odd")
    return task


def one_dies(task: int, tell: Callable[[float], None]) -> int:
    """As if the system had run out of memory in task 1."""
    if task == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def slow(task: Path, tell: Callable[[float], None]) -> None:
    """Work that tidies up: a file is there as long as it goes on."""
    task.write_text(str(os.getpid()))
    try:
        for step in range(1000):
            time.sleep(0.02)
            tell(step / 1000)
    finally:
        task.unlink()


class EndsWhoeverReadsIt:
    """Work with which no process can start."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (7,)

    def __call__(self, task: Any, tell: Any) -> None:
        raise AssertionError("no process got this far")
