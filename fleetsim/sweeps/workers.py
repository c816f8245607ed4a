"""Tasks in parallel processes: results as they come, how far each has got, and nothing left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import connection, resource_tracker
from typing import TYPE_CHECKING, Any

from fleetsim.errors import FleetsimError
from fleetsim_traces.errors import TraceError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

#: A process tells how far it is, and the caller is told, at most this often, s.
TELL_EVERY_S = 0.5

#: What a process may take to tidy up when it is told to end, s.
PATIENCE_S = 10.0

#: A task and what tells how far it is (0 to 1), in; its result out.
Work = Callable[[Any, Callable[[float], None]], Any]


@dataclass(frozen=True)
class Outcome:
    """How task number ``task`` ended: its ``result``, or why there is none (``error``)."""

    task: int
    result: Any = None
    error: str | None = None


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    task: int | None = None
    ready: bool = False


@dataclass
class _Crew:
    """The processes at work; when it is dissolved none of them is left, nor half of what they wrote."""

    work: Work
    processes: int
    of: dict[Connection, _Worker] = field(default_factory=dict)

    def hire(self) -> None:
        context = multiprocessing.get_context("spawn")
        pipe, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self.work, self.processes), daemon=True)
        with _no_interrupt():
            process.start()
        theirs.close()  # else its end would not be seen
        self.of[pipe] = _Worker(process, pipe)

    def dissolve(self, workers: Sequence[_Worker], *, at_once: bool) -> None:
        for worker in workers:
            worker.pipe.close()  # a worker that waits for a task ends now
            if at_once:
                worker.process.terminate()
        for worker in workers:
            worker.process.join(PATIENCE_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            del self.of[worker.pipe]


def run_all(
    work: Work, tasks: Sequence[Any], processes: int, tell: Callable[[dict[int, float]], None]
) -> Generator[Outcome]:
    """Do *work* for all *tasks* in up to *processes* processes; yield outcomes in the order they end.

    *work* is a function of a module, *tasks* and results can be pickled. *tell* hears at least twice a second
    which tasks are under way and how far each is. An exception in a task, or the end of its process, fails
    this task and no other. When the generator is closed, or the caller interrupted, the processes are told to
    end (as by SIGTERM, so that they tidy up), and waited for. Raises :class:`FleetsimError` if processes
    cannot be started.
    """
    waiting = deque(range(len(tasks)))
    shares: dict[int, float] = {}
    crew = _Crew(work, processes)

    def hand_out(worker: _Worker) -> None:
        if not waiting:
            crew.dissolve([worker], at_once=False)
            return
        worker.task = waiting.popleft()
        shares[worker.task] = 0.0
        worker.pipe.send(tasks[worker.task])

    try:
        for _ in range(min(processes, len(tasks))):
            crew.hire()
        while crew.of:
            for pipe in connection.wait(list(crew.of), TELL_EVERY_S):
                worker = crew.of[pipe]  # type: ignore[index]  # only pipes are waited for
                try:
                    message = worker.pipe.recv()
                except (EOFError, OSError):
                    crew.dissolve([worker], at_once=False)
                    how = _ending(worker.process.exitcode)
                    if not worker.ready or worker.task is None:
                        raise FleetsimError(f"a process for the runs did not start: {how}") from None
                    del shares[worker.task]
                    yield Outcome(worker.task, error=f"its process {how}")
                    if waiting:
                        crew.hire()
                    continue
                if isinstance(message, float) and worker.task is not None:
                    shares[worker.task] = message
                    continue
                if worker.ready and worker.task is not None:
                    del shares[worker.task]
                    yield Outcome(worker.task, *message)
                worker.ready = True
                hand_out(worker)
            tell(shares)
    finally:
        crew.dissolve(list(crew.of.values()), at_once=True)


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = " (out of memory? try fewer --jobs)" if name == "SIGKILL" else ""
        return f"was ended by {name}{hint}"
    return f"ended with exit code {code}"


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """A process started here never hears Ctrl-C, which goes to all of a terminal: its parent ends it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # its own start would lift the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection, work: Work, processes: int) -> None:
    """What a process does: the tasks that come, until no more can."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ.setdefault("POLARS_MAX_THREADS", str(max(1, cores() // processes)))
    told = 0.0

    def tell(share: float) -> None:
        nonlocal told
        if (now := time.monotonic()) - told >= TELL_EVERY_S:
            told = now
            pipe.send(float(share))  # fails, and so ends the task, where nobody waits for it any more

    try:
        pipe.send("ready")
        while True:
            task = pipe.recv()
            outcome: tuple[Any, str | None]
            try:
                outcome = (work(task, tell), None)
            except Exception as error:
                outcome = (None, _words(error))
            pipe.send(outcome)
    except (EOFError, OSError, KeyboardInterrupt):
        return  # the parent has gone, has no more tasks, or says so


def _words(error: Exception) -> str:
    """Why a task failed, in a line."""
    if isinstance(error, (FleetsimError, TraceError)):
        return "; ".join(str(error).splitlines())
    if isinstance(error, OSError):
        return f"{error.strerror or error}" + (f" {error.filename!r}" if error.filename else "")
    return f"unexpected {type(error).__name__}: {error}. This is a fault of fleetsim"
