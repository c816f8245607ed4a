"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

ROOT = Path(__file__).parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite golden files from today's output")


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner()


def shared(env: str, folder: str) -> Path:
    """A folder of material that is not part of the project; tests that need it skip where it is absent."""
    return Path(os.environ.get(env, ROOT.parent / "shared" / folder))


@pytest.fixture
def real_traces() -> Path:
    """Real public traces (``FLEETSIM_TRACES``); the test skips where there are none."""
    path = shared("FLEETSIM_TRACES", "traces")
    if not path.is_dir():
        pytest.skip(f"no real traces at {path}; set FLEETSIM_TRACES")
    return path


@pytest.fixture
def cases() -> Path:
    """Results of other simulators (``FLEETSIM_CASES``); the test skips where there are none."""
    path = shared("FLEETSIM_CASES", "cases")
    if not path.is_dir():
        pytest.skip(f"no peer cases at {path}; set FLEETSIM_CASES")
    return path
