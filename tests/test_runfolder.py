"""Run folders: written whole or not at all, put only where a run stood, read back or refused in words."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from model.support import Job, cohort, text, trace, workload

from fleetsim import experiment, scenario
from fleetsim.errors import InputError, Problem
from fleetsim.runfolder import MANIFEST, Run, check_target, open_run, writing
from fleetsim.schema import TABLES
from fleetsim.summary import summarise


def simulate(target: Path, *, force: bool = False, seed: int = 0) -> Run:
    read = scenario.parse(text([cohort()], [workload()], horizon="1h", seed=seed), "test")
    return experiment.run(read, target, force=force, traces={"w": trace([Job(0, 60), Job(5, 60, 9)])})


def snapshot(folder: Path) -> dict[str, bytes | str]:
    """Everything in *folder* by its path: the bytes of files, the targets of links."""
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }


def problem_of(action: Callable[[], object]) -> Problem:
    with pytest.raises(InputError) as caught:
        action()
    (problem,) = caught.value.problems
    assert str(problem).isprintable() and problem.remedy
    return problem


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, to be copied and never changed."""
    return simulate(tmp_path_factory.mktemp("runs") / "made").path


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A run of one's own, to be damaged."""
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


# Writing


def test_a_folder_appears_when_it_is_finished(tmp_path: Path) -> None:
    """Until then it is a hidden sibling: on the same disk, and nobody's run."""
    target = tmp_path / "runs" / "deep" / "first"
    with writing(target) as folder:
        (folder / MANIFEST).write_text("{}")
        assert not target.exists()
        assert folder.parent == target.parent
        assert folder.name.startswith(".")
    assert snapshot(tmp_path / "runs") == {
        "deep": "folder",
        "deep/first": "folder",
        f"deep/first/{MANIFEST}": b"{}",
    }


@pytest.mark.parametrize("error", [RuntimeError("boom"), OSError(28, "No space left"), KeyboardInterrupt()])
@pytest.mark.parametrize("older", [True, False])
def test_a_block_that_fails_leaves_what_was_there(run: Path, error: BaseException, older: bool) -> None:
    target = run if older else run.with_name("new")
    before = snapshot(run.parent)
    with pytest.raises(type(error)), writing(target, force=True) as folder:
        (folder / "jobs.parquet").write_bytes(b"half")
        raise error
    assert snapshot(run.parent) == before


def test_a_block_that_fails_while_it_is_renamed_puts_the_older_run_back(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(run.parent)
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.name.startswith(".run.partial"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="Input/output"), writing(run, force=True) as folder:
        (folder / MANIFEST).write_text("{}")
    assert snapshot(run.parent) == before


def test_force_replaces_a_run_and_leaves_nothing_of_it(run: Path) -> None:
    (run / "allocations.parquet").rename(run / "left-over.parquet")  # an older, damaged run is one still
    simulate(run, force=True, seed=7)
    assert open_run(run).manifest["seed"] == 7
    assert {path.name for path in run.iterdir()} == {MANIFEST, *(f"{t}.parquet" for t in TABLES)}
    assert [path.name for path in run.parent.iterdir()] == ["run"]


def test_a_run_is_never_replaced_without_force(run: Path) -> None:
    before = snapshot(run.parent)
    problem = problem_of(lambda: simulate(run))
    assert problem == Problem(str(run), "exists already", "Choose another name, or replace it with --force.")
    assert snapshot(run.parent) == before


def test_an_empty_folder_may_be_filled_with_force(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "exists already" in problem_of(lambda: simulate(tmp_path / "empty")).message
    assert len(snapshot(simulate(tmp_path / "empty", force=True).path)) == len(TABLES) + 1


def a_file(place: Path) -> None:
    place.write_text("my thesis")


def a_folder(place: Path) -> None:
    place.mkdir()
    (place / "thesis.md").write_text("my thesis")


def another_program(place: Path) -> None:
    """Browser extensions, web pages and container images have a file of this name too."""
    a_folder(place)
    (place / MANIFEST).write_text('{"name": "an extension", "manifest_version": 3, "version": "1.0"}')


def a_folder_called_manifest(place: Path) -> None:
    (place / MANIFEST).mkdir(parents=True)
    (place / "thesis.md").write_text("my thesis")


def a_link_to_a_run(place: Path) -> None:
    place.symlink_to(place.with_name("run"))


def a_link_to_a_folder(place: Path) -> None:
    a_folder(place.with_name("other"))
    place.symlink_to(place.with_name("other"))


def a_broken_link(place: Path) -> None:
    place.symlink_to("nowhere")


@pytest.mark.parametrize(
    "make",
    [
        a_file,
        a_folder,
        another_program,
        a_folder_called_manifest,
        a_link_to_a_run,
        a_link_to_a_folder,
        a_broken_link,
    ],
)
def test_only_a_run_is_replaced(run: Path, make: Callable[[Path], None]) -> None:
    """Whatever else is there is refused, with force too, and stays as it is."""
    place = run.with_name("place")
    make(place)
    before = snapshot(run.parent)
    assert problem_of(lambda: check_target(place, False)).message == "exists already"
    problem = problem_of(lambda: simulate(place, force=True))
    assert (problem.place, problem.message) == (str(place), "is not a run")
    assert (
        problem.remedy == "Only a run is replaced, even with --force. Move it away, or choose another name."
    )
    assert snapshot(run.parent) == before


def test_a_place_below_a_file_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("my thesis")
    problem = problem_of(lambda: check_target(tmp_path / "file" / "run", False))
    assert str(tmp_path / "file") in problem.place
    assert snapshot(tmp_path) == {"file": b"my thesis"}


@pytest.mark.parametrize("where", ["run", "empty"])
def test_the_current_folder_is_replaced_or_refused_in_words(
    run: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`-o .`: a path without a name of its own."""
    run.with_name("empty").mkdir()
    monkeypatch.chdir(run.with_name(where))
    with contextlib.suppress(InputError):
        simulate(Path(), force=True)
    assert sorted(path.name for path in run.parent.iterdir()) == ["empty", "run"]
    open_run(run)


def test_leavings_of_a_killed_run_are_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / ".run.partial-1").mkdir()
    (tmp_path / ".run.partial-1" / "jobs.parquet").write_bytes(b"half")
    simulate(tmp_path / "run")
    open_run(tmp_path / "run")
    problem = problem_of(lambda: open_run(tmp_path / ".run.partial-1"))
    assert problem.message == "no usable manifest.json (FileNotFoundError)"


# Reading


def test_a_run_is_what_it_was(run: Path) -> None:
    found = open_run(run)
    assert found.path == run
    assert found.manifest["schema"] == "3"
    assert found.scan("jobs").collect()["job_id"].to_list() == ["0", "1"]
    assert open_run(str(run)).manifest == found.manifest


def test_a_run_may_be_moved_and_called_anything(run: Path) -> None:
    """Names that are patterns, links or percent signs elsewhere are names here."""
    for name in ("run [1]*?", "ü % #{x}", "-run"):
        moved = shutil.copytree(run, run.with_name(name))
        assert summarise(open_run(moved))["jobs"] == {"submitted": 2, "completed": 1, "rejected": 1}


def missing_folder(run: Path) -> None:
    shutil.rmtree(run)


def a_file_instead(run: Path) -> None:
    shutil.rmtree(run)
    run.write_text("my thesis")


@pytest.mark.parametrize("make", [missing_folder, a_file_instead])
def test_what_is_no_folder_is_no_run(run: Path, make: Callable[[Path], None]) -> None:
    make(run)
    problem = problem_of(lambda: open_run(run))
    assert problem == Problem(str(run), "no such folder", "Name a folder written by `fleetsim run`.")


@pytest.mark.parametrize("table", TABLES)
def test_a_missing_table_is_named(run: Path, table: str) -> None:
    (run / f"{table}.parquet").unlink()
    problem = problem_of(lambda: open_run(run))
    assert problem.message == f"lacks {table}"
    assert problem.remedy == "The folder is damaged: run the scenario again."


def test_all_missing_tables_are_named(run: Path) -> None:
    (run / "usage.parquet").unlink()
    (run / "jobs.parquet").unlink()
    (run / "jobs.parquet").mkdir()
    assert problem_of(lambda: open_run(run)).message == "lacks jobs, usage"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no usable manifest.json (JSONDecodeError)"),
        (b"{", "no usable manifest.json (JSONDecodeError)"),
        (b"\xff\xfe", "no usable manifest.json (UnicodeDecodeError)"),
        (b"[]", "no usable manifest.json (TypeError)"),
        (b"{}", "no usable manifest.json (KeyError)"),
        (b'{"schema": "99"}', "written with table schema '99', this reads '3'"),
        (b'{"schema": {"a": 1}}', "written with table schema \"{'a': 1}\", this reads '3'"),
        (b"[" * 100_000, "no usable manifest.json (RecursionError)"),
    ],
)
def test_a_manifest_that_is_none_is_refused(run: Path, content: bytes, message: str) -> None:
    (run / MANIFEST).write_bytes(content)
    problem = problem_of(lambda: open_run(run))
    assert (problem.place, problem.message) == (str(run), message)


def test_a_missing_manifest_is_refused(run: Path) -> None:
    (run / MANIFEST).unlink()
    problem = problem_of(lambda: open_run(run))
    assert problem.message == "no usable manifest.json (FileNotFoundError)"


@pytest.mark.parametrize(
    "key", ["scenario", "seed", "start", "end_s", "sources", "rejected", "checks", "activities"]
)
@pytest.mark.parametrize("absent", [True, False])
def test_a_manifest_that_says_too_little_is_refused(run: Path, key: str, absent: bool) -> None:
    """A key that is gone, or that holds something else, is the folder's damage and no fault of fleetsim."""
    manifest = json.loads((run / MANIFEST).read_text())
    if absent:
        del manifest[key]
    else:
        manifest[key] = None
    (run / MANIFEST).write_text(json.dumps(manifest))
    assert problem_of(lambda: summarise(open_run(run))).place.startswith(str(run))


@pytest.mark.parametrize("table", ["jobs", "usage"])
@pytest.mark.parametrize("damage", ["empty", "cut short", "text", "another table"])
def test_a_damaged_table_is_refused_with_its_name(run: Path, table: str, damage: str) -> None:
    path = run / f"{table}.parquet"
    content = {
        "empty": b"",
        "cut short": path.read_bytes()[:-100],
        "text": b"my thesis\n" * 100,
        "another table": (run / "events.parquet").read_bytes(),
    }
    path.write_bytes(content[damage])
    problem = problem_of(lambda: summarise(open_run(run)))
    assert problem.place.startswith(str(run))
    assert table in f"{problem.place} {problem.message}"


def test_the_manifest_holds_the_scenario_in_full(run: Path) -> None:
    """It can be run again, and is the same run: that is what it is for."""
    manifest = open_run(run).manifest
    again = scenario.parse(json.dumps(manifest["scenario"]), "again")
    jobs = {"w": trace([Job(0, 60), Job(5, 60, 9)])}
    second = experiment.run(again, run.with_name("again"), traces=jobs)
    for table in TABLES:
        assert (second.path / f"{table}.parquet").read_bytes() == (run / f"{table}.parquet").read_bytes()
    differing = {key for key in manifest if manifest[key] != second.manifest[key]}
    assert differing <= {"wall_clock"}


def test_every_check_is_in_the_manifest(run: Path) -> None:
    checks = open_run(run).manifest["checks"]
    assert len(checks) >= 7
    assert all(check["holds"] and check["relative_error"] <= 1e-9 for check in checks)
    assert len({check["law"] for check in checks}) == len(checks)
