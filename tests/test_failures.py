"""When a run fails: one line that says why, the right exit code, nothing left behind, older runs untouched.

Failures are provoked inside (a call that raises) and from outside, in processes of their own: a file that
may not grow, a full device, Ctrl-C, a request to end, and an end without notice.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner, Result
from model.support import Job, cohort, text, trace, workload

from fleetsim import books, experiment, recorder, scenario
from fleetsim.books import Books, Check, verify
from fleetsim.cli import cli
from fleetsim.engine import Replay
from fleetsim.errors import BooksError, FleetsimError, InputError
from fleetsim.experiment import Progress
from fleetsim.recorder import Recorder, TableWriter
from fleetsim.runfolder import open_run
from fleetsim_traces import write_jobs

COMMAND = (sys.executable, "-m", "fleetsim")
NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def snapshot(folder: Path) -> dict[str, bytes]:
    """All files under *folder*, and folders as nothing."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small scenario, and a run of it in ``runs/old``: to be copied and never changed."""
    folder = tmp_path_factory.mktemp("sound")
    write_jobs(trace([Job(0, 60, 2), Job(5, 60, 8), Job(9, 10, 9)]), folder / "t.parquet")
    (folder / "s.yaml").write_text(text([cohort()], [workload(trace="t.parquet")], horizon="1h"))
    experiment.run(scenario.read(str(folder / "s.yaml")), folder / "runs" / "old")
    return folder


@pytest.fixture
def place(sound: Path, tmp_path: Path) -> Path:
    """A copy of one's own of that."""
    return shutil.copytree(sound, tmp_path / "place")


def simulate(runner: CliRunner, place: Path, name: str = "old", *words: str) -> Result:
    arguments = ["run", str(place / "s.yaml"), "-o", str(place / "runs" / name), "--force", *words]
    return runner.invoke(cli, arguments)


# From inside


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


class Counting:
    """Calls through, and raises at the *last* call."""

    def __init__(self, call: Callable[..., Any], last: int, error: BaseException) -> None:
        self.call, self.left, self.error = call, last, error

    def __get__(self, instance: object, owner: type) -> Callable[..., Any]:
        def bound(*values: Any, **named: Any) -> Any:
            self.left -= 1
            if not self.left:
                raise self.error
            return self.call(instance, *values, **named)

        return bound


#: Where it may go wrong, in the order in which a run comes by.
STAGES: list[tuple[Any, str, int]] = [
    (Recorder, "__init__", 1),
    (Recorder, "node_changed", 1),
    (Replay, "_burst", 1),
    (Recorder, "gather", 1),
    (Replay, "close", 1),
    (Recorder, "close", 1),
    (TableWriter, "write", 1),
    (TableWriter, "write", 3),
    (Books, "__init__", 1),
    (TableWriter, "write", 6),
    (Books, "checks", 1),
]


FAILURES: list[tuple[BaseException, str]] = [
    (NO_SPACE, r"Error: .*No space left on device.*\n"),
    (KeyboardInterrupt(), r"\s*Aborted!\n"),
    (RuntimeError("boom"), r"Error: unexpected RuntimeError: boom\nThis is a fault of fleetsim\. .*\n"),
]


def fail_at(stage: tuple[Any, str, int], error: BaseException, patch: pytest.MonkeyPatch) -> None:
    owner, method, call = stage
    patch.setattr(owner, method, Counting(getattr(owner, method), call, error))


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: f"{stage[0].__name__}.{stage[1]}-{stage[2]}")
@pytest.mark.parametrize(("error", "said"), FAILURES)
def test_a_run_that_fails_leaves_nothing(
    place: Path,
    runner: CliRunner,
    monkeypatch: pytest.MonkeyPatch,
    stage: tuple[Any, str, int],
    error: BaseException,
    said: str,
) -> None:
    """Wherever it fails: exit 1, one message, no partial folder, and the older run to the byte as it was."""
    before = snapshot(place)
    fail_at(stage, error, monkeypatch)
    result = simulate(runner, place)
    assert result.exit_code == 1, result.output
    assert re.fullmatch(said, result.stderr), result.stderr
    assert result.stdout == ""
    assert snapshot(place) == before


def test_after_a_failure_the_next_run_is_made(
    place: Path, runner: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(place)
    for error, _ in FAILURES:
        with monkeypatch.context() as patch:
            fail_at((TableWriter, "write", 2), error, patch)
            assert simulate(runner, place, "new").exit_code == 1
        assert snapshot(place) == before
    assert simulate(runner, place, "new").exit_code == 0
    assert snapshot(place / "runs" / "old") == {
        path.removeprefix("runs/old/"): content
        for path, content in before.items()
        if path.startswith("runs/old/")
    }


def test_a_full_disk_is_named_with_its_folder(
    place: Path, runner: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be several disks: the message says which run could not be written."""
    monkeypatch.setattr(TableWriter, "write", raising(NO_SPACE))
    result = simulate(runner, place)
    assert str(place / "runs" / "old") in result.stderr
    assert result.stderr.count("\n") == 1


def test_progress_that_fails_fails_the_run(place: Path) -> None:
    def progress(_: Progress) -> None:
        raise RuntimeError("the terminal is gone")

    before = snapshot(place)
    with pytest.raises(RuntimeError, match="the terminal is gone"):
        experiment.run(scenario.read(str(place / "s.yaml")), place / "runs" / "new", progress=progress)
    assert snapshot(place) == before


def test_bad_input_leaves_nothing(place: Path, runner: CliRunner) -> None:
    before = snapshot(place)
    for override in ("horizon=soon", "workloads.w.trace=gone.parquet"):
        result = simulate(runner, place, "old", "--set", override)
        assert result.exit_code == 2
        assert result.stderr.startswith("Error: 1 problem:\n")
    assert snapshot(place) == before


# Books that do not balance

LAWS = {
    "jobs submitted = completed + running + waiting + rejected",
    "jobs that neither run nor ended = waiting",
    "GPU seconds of completed jobs at reference speed = GPU seconds asked for",
    "GPU hours of stalled, lost and productive = GPU hours of allocations",
    "GPU hours of allocations = GPU hours of jobs",
    "energy of all states = energy of allocations + energy of idle GPUs",
    "cohort a100-sxm-80: hours of all states = installed GPUs x time in service",
}


def broken(result: Result) -> set[str]:
    """The laws that a failed run names."""
    assert result.exit_code == 1
    first, *lines = result.stderr.splitlines()
    assert first == "Error: the books of the run do not balance; nothing was kept.", result.stderr
    return {re.fullmatch(r"  (.+): (\S+) against (\S+) \(relative error \S+\)", line)[1] for line in lines}  # type: ignore[index]


def test_the_laws_that_are_checked(place: Path) -> None:
    checks = open_run(place / "runs" / "old").manifest["checks"]
    assert {check["law"] for check in checks} >= LAWS


@pytest.mark.parametrize(
    ("owner", "name", "off_by", "laws"),
    [
        (Recorder, "allocated_gpu_s", 1.0, {"GPU hours of allocations = GPU hours of jobs"}),
        (
            Replay,
            "waiting",
            1,
            {
                "jobs submitted = completed + running + waiting + rejected",
                "jobs that neither run nor ended = waiting",
            },
        ),
    ],
)
def test_books_that_do_not_balance_name_the_law(
    place: Path,
    runner: CliRunner,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    off_by: float,
    laws: set[str],
) -> None:
    """A count of the model that is off by one: exit 1, the laws it breaks and no other, nothing kept."""
    before = snapshot(place)
    true = getattr(owner, name).fget
    monkeypatch.setattr(owner, name, property(lambda self: true(self) + off_by))
    assert broken(simulate(runner, place)) == laws
    assert snapshot(place) == before


def test_an_allocation_that_was_never_written_is_missed(
    place: Path, runner: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The audit reads the files: what is not in them is not there, whatever the model says."""
    write = TableWriter.write

    def forgetful(self: TableWriter, columns: dict[str, Any]) -> None:
        if "attempt" in columns:
            columns = {name: column[:-1] for name, column in columns.items()}
        write(self, columns)

    monkeypatch.setattr(TableWriter, "write", forgetful)
    assert broken(simulate(runner, place)) == {"GPU hours of allocations = GPU hours of jobs"}


def test_a_speed_that_was_not_applied_is_missed(
    place: Path, runner: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs that ran twice as long as they asked for at the reference's own speed."""
    gather = Recorder._gather_last

    def slow(self: Recorder, job: Any, outcome: int) -> None:
        self._end_s[job] += 60.0
        gather(self, job, outcome)

    monkeypatch.setattr(Recorder, "_gather_last", slow)
    assert broken(simulate(runner, place)) == {
        "GPU seconds of completed jobs at reference speed = GPU seconds asked for"
    }


def test_an_error_within_the_tolerance_is_none() -> None:
    verify([Check("law", 1.0, 1.0 + 5e-10), Check("nothing", 0.0, 0.0)])
    with pytest.raises(BooksError, match=re.escape("law: 1.0 against 1.000000002 (relative error 2e-09)")):
        verify([Check("fine", 1.0, 1.0), Check("law", 1.0, 1.0 + 2e-9)])
    with pytest.raises(BooksError, match="something from nothing"):
        verify([Check("something from nothing", 0.0, 1e-6)])
    with pytest.raises(BooksError, match="not a number"):
        verify([Check("not a number", float("nan"), 1.0)])


@pytest.mark.parametrize(
    ("jobs", "starts"),
    [
        ([Job(0, 0.1)], "9y"),  # times of 3e8 s are known to 6e-8 s, and so is a length of 0.1 s
        ([Job(0.1, 3.0), Job(0.3, 1.7, 3)], "40y"),
        ([Job(1.000000001, 1e-9)], "1h"),
    ],
)
def test_short_jobs_late_in_a_long_run_balance(tmp_path: Path, jobs: list[Job], starts: str) -> None:
    """A clock of floats is coarser the later it is: what that costs is no fault of the run."""
    words = text([cohort()], [workload(starts=starts)], horizon="50y", usage_period="year")
    run = experiment.run(scenario.parse(words, "test"), tmp_path / "run", traces={"w": trace(jobs)})
    assert run.scan("jobs").collect()["status"].cast(pl.String).to_list() == ["completed"] * len(jobs)


def test_a_drained_run_that_outlasts_the_calendar_is_refused(tmp_path: Path) -> None:
    """How long it takes is known only afterwards; then it is one problem, and not an error of a library."""
    words = text([cohort()], [workload()], start="9999-12-01")
    with pytest.raises(FleetsimError, match="9999"):
        experiment.run(
            scenario.parse(words, "test"), tmp_path / "run", traces={"w": trace([Job(0, 60 * 86_400)])}
        )
    assert list(tmp_path.iterdir()) == []


def test_the_audit_is_not_optional(place: Path, runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run verifies, `--quiet` and `--json` too."""
    monkeypatch.setattr(experiment, "verify", raising(BooksError("the books of the run do not balance")))
    for words in (("--quiet",), ("--json",)):
        result = simulate(runner, place, "old", *words)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == "Error: the books of the run do not balance\n"


def test_the_tolerance_is_that_of_adding_floats() -> None:
    assert books.TOLERANCE == 1e-9
    assert recorder.ROW_GROUP >= 1 << 16  # few row groups: an audit reads every one


# From outside

LONG = """\
name: long
start: 2026-01-01
horizon: 4y
cohorts:
  - {name: a, gpu_model: a100-sxm-80, nodes: 200}
workloads:
  - {name: w, trace: philly-like-10k, reference_gpu: v100-sxm2-16, repeat: {}}
"""


def start(
    place: Path, *words: str, ignored: Sequence[signal.Signals] = (), **more: Any
) -> subprocess.Popen[str]:
    """fleetsim in a process of its own, with the signals that a shell gives it, or some of them ignored."""

    def default_signals() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    return subprocess.Popen([*COMMAND, *words], cwd=place, text=True, preexec_fn=default_signals, **pipes)


def wait_for_its_folder(process: subprocess.Popen[str], place: Path) -> None:
    """Until it has begun to write."""
    deadline = time.monotonic() + 30
    while not any((place / "runs").glob(".*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it never began to write"
        time.sleep(0.01)


@pytest.fixture
def long_run(place: Path) -> Iterator[subprocess.Popen[str]]:
    """A run of many seconds that has begun to write and would replace ``runs/old``."""
    (place / "long.yaml").write_text(LONG)
    process = start(place, "run", "long.yaml", "-o", "runs/old", "--force")
    wait_for_its_folder(process, place)
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_run_that_is_told_to_end_leaves_nothing(
    place: Path, long_run: subprocess.Popen[str], name: str
) -> None:
    """Ctrl-C, the end of a batch slot or of a container, a closed terminal: at once, in silence, whole."""
    old = snapshot(place / "runs" / "old")
    time.sleep(0.1)
    long_run.send_signal(getattr(signal, name))
    told = time.monotonic()
    out, err = long_run.communicate(timeout=20)
    assert time.monotonic() - told < 10
    assert long_run.returncode != 0
    assert out == ""
    assert "Traceback" not in err and len(err.splitlines()) <= 2, err
    assert sorted(path.name for path in (place / "runs").iterdir()) == ["old"]
    assert snapshot(place / "runs" / "old") == old


def test_a_run_under_nohup_outlives_its_terminal(place: Path) -> None:
    """Who had a signal ignored wants it ignored."""
    (place / "long.yaml").write_text(LONG)
    words = ("run", "long.yaml", "-o", "runs/new", "-q", "--set", "horizon=1y")
    process = start(place, *words, ignored=(signal.SIGHUP,))
    wait_for_its_folder(process, place)
    process.send_signal(signal.SIGHUP)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")
    assert open_run(place / "runs" / "new").manifest["end_s"] == 365 * 86_400


def test_a_killed_run_leaves_nothing_that_looks_like_one(
    place: Path, long_run: subprocess.Popen[str]
) -> None:
    """No notice, no cleaning up: what is left is hidden, refused by name, and in nobody's way."""
    old = snapshot(place / "runs" / "old")
    time.sleep(0.1)
    long_run.kill()
    long_run.communicate()
    assert snapshot(place / "runs" / "old") == old
    (left,) = [path for path in (place / "runs").iterdir() if path.name != "old"]
    assert left.name.startswith(".")
    with pytest.raises(InputError, match=r"no usable manifest\.json"):
        open_run(left)
    experiment.run(scenario.read(str(place / "s.yaml")), place / "runs" / "old", force=True)
    open_run(place / "runs" / "old")


@pytest.mark.parametrize("limit", [4, 3000])
def test_a_disk_that_is_full_ends_a_run_in_one_line(place: Path, limit: int) -> None:
    """Files may not grow beyond so many bytes: the first table hits the end, or a later one."""
    before = snapshot(place)

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(
        [*COMMAND, "run", "s.yaml", "-o", "runs/old", "--force"],
        cwd=place,
        capture_output=True,
        text=True,
        preexec_fn=small,
        timeout=60,
    )
    assert done.returncode == 1
    assert re.fullmatch(r"Error: .*File too large.*\n", done.stderr), done.stderr
    assert "runs/old" in done.stderr
    assert done.stdout == ""
    assert snapshot(place) == before


FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")


@needs_full
@pytest.mark.parametrize(
    "words",
    [
        ("show", "runs/old"),
        ("show", "runs/old", "--json"),
        ("query", "runs/old", "SELECT * FROM jobs", "--format", "csv"),
        ("gpu", "list"),
        ("--help",),
        ("--version",),
    ],
)
def test_output_that_cannot_be_written_is_one_line(place: Path, words: tuple[str, ...]) -> None:
    with FULL.open("w") as full:
        process = start(place, *words, stdout=full)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.fullmatch(r"Error: .*No space left on device.*\n", err), err


@needs_full
def test_a_run_is_kept_where_only_its_summary_cannot_be_written(place: Path) -> None:
    with FULL.open("w") as full:
        process = start(place, "run", "s.yaml", "-o", "runs/new", stdout=full)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.fullmatch(r"Error: .*No space left on device.*\n", err), err
    assert open_run(place / "runs" / "new").manifest["jobs"] == 3


def test_a_closed_stdout_is_no_fault(place: Path) -> None:
    """As under some schedulers: the run is made, and nobody is told that fleetsim is at fault."""
    command = " ".join(COMMAND) + " run s.yaml -o runs/new >&-"
    done = subprocess.run(["sh", "-c", command], cwd=place, stderr=subprocess.PIPE, text=True, timeout=60)
    assert "fault of fleetsim" not in done.stderr and "Traceback" not in done.stderr
    assert open_run(place / "runs" / "new").manifest["jobs"] == 3
