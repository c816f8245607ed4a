"""The past of a run as series of an exporter: into Prometheus or VictoriaMetrics by remote write, or as text.

Every series that would have been scraped from the nodes is there, at every time of a grid, with the target's
labels ``instance`` and ``job``; a node that is down has none. Where a series ends before the grid does (its
node goes down, its job ends, its XID changes) a stale marker stands at the next time of the grid, where a
scrape would have missed it; at the end of the grid there is none, so that a later part can follow.

All series advance together in slices of less than an hour, since Prometheus takes nothing older than its
newest sample less an hour. Cuts are the same each time, so that a broken history goes on at the request after
the last one that was acknowledged.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from fleetsim import __version__
from fleetsim.errors import FleetsimError, InputError, Problem
from fleetsim.records import Floats, Ints
from fleetsim.telemetry.sensors import Readings, Telemetry, ticks
from fleetsim_collectors import dcgm, nvidia_smi
from fleetsim_collectors.catalogue import Family
from fleetsim_collectors.exposition import label_block, number
from fleetsim_collectors.readings import COLUMNS, Columns
from fleetsim_collectors.remote_write import (
    HEADERS,
    SAMPLE_BYTES,
    TIMES_MS,
    Series,
    label_parts,
    labelled,
    messages,
    samples,
    stamped,
)

if TYPE_CHECKING:
    from fleetsim.runfolder import Run

Head = TypeVar("Head")
Labels = dict[str, Any]

#: What a slice spans at most, and the readings it holds, about: they are what memory goes by.
SLICE_S, SLICE_READINGS = 3600.0, 1 << 18

#: Waits before another try, s; then it is given up.
WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0)

#: The longest that a receiver may ask us to wait, s, and to answer.
LONGEST_WAIT_S, ANSWER_S = 120.0, 120.0

#: What Prometheus says of samples that it already has, if they are sent again.
ALREADY = ("out of order sample", "duplicate sample for timestamp")

#: Labels that change while a GPU stays the same, and the column of the readings that they follow.
CHANGING = {
    "err_code": "xid",
    "err_msg": "xid",
    "job_id": "job",
    "tenant": "tenant",
    "pid": "job",
    "process_name": "job",
}

#: Values that no column of the readings has: the column they are taken from, and the one that says if at all.
TAKEN_FROM = {"job_memory_mib": ("fb_used_mib", "job")}


class Exporter(NamedTuple):
    """An exporter on every node: its families of GPUs, their columns, and the target's port and job."""

    families: tuple[Family, ...]
    table: Callable[[Columns], Columns]
    port: int
    job: str


def _of_gpus(families: Sequence[Family]) -> tuple[Family, ...]:
    return tuple(f for f in families if f.source == "readings")


EXPORTERS = {
    "dcgm": Exporter(_of_gpus(dcgm.families()), dcgm.table, 9400, "dcgm"),
    "nvidia_smi": Exporter(_of_gpus(nvidia_smi.families()), nvidia_smi.table, 9835, "nvidia_gpu_exporter"),
}


@dataclass(frozen=True)
class Grid:
    """Times *start_s*, *start_s* + *step_s* and so on before *end_s*, in slices of *each*.

    *epoch_ms* is the Unix time of second 0 of the run, in ms. Raises :class:`InputError` for times that
    remote write cannot carry in 6 bytes (``TIMES_MS``).
    """

    start_s: float
    end_s: float
    step_s: float
    epoch_ms: int
    each: int

    @classmethod
    def of(cls, start_s: float, end_s: float, step_s: float, epoch: datetime, gpus: int) -> Grid:
        """The grid of a run that starts at *epoch*, cut for *gpus* GPUs."""
        each = max(1, min(int(SLICE_S / step_s), SLICE_READINGS // max(1, gpus)))
        made = cls(start_s, end_s, step_s, round(epoch.timestamp() * 1000), each)
        made._check()
        return made

    def ending(self, now_s: float) -> Grid:
        """This grid moved, so that its end is at *now_s* (Unix time)."""
        made = Grid(self.start_s, self.end_s, self.step_s, round((now_s - self.end_s) * 1000), self.each)
        made._check()
        return made

    def _check(self) -> None:
        first, last = (self.epoch_ms + int(s * 1000) for s in (self.start_s, self.end_s))
        if first not in TIMES_MS or last not in TIMES_MS:
            what = f"{first} to {last} ms since 1970 are not between 1971 and 2109"
            raise InputError([Problem("start", what, "Say --until-now.")])

    def __len__(self) -> int:
        """Times."""
        return ticks(self.start_s, self.end_s, self.step_s)

    @property
    def slices(self) -> int:
        """Slices, the last of which may be shorter."""
        return -(-len(self) // self.each)

    def slice(self, number: int) -> tuple[Floats, Ints, int]:
        """Times of a slice in s of the run and in ms of Unix time, after the last one of the slice before.

        Also how many of that slice there are: none before the first.
        """
        first = number * self.each
        lead = min(1, first)
        which = np.arange(first - lead, min(first + self.each, len(self)))
        times_s = np.asarray(self.start_s + self.step_s * which, np.float64)
        return times_s, self.epoch_ms + np.rint(times_s * 1000).astype(np.int64), lead


class Block(NamedTuple):
    """Samples of one family in one slice, by series and time; *heads* and *counts* are of the series."""

    metric: str
    heads: list[Any]
    counts: Ints
    values: Floats
    times_ms: Ints
    stale: NDArray[np.bool_]
    stamps: NDArray[np.uint8]


class _Layout(NamedTuple):
    rows: Ints  # of the readings, for each sample; of a stale marker the last one before it
    first: Ints  # row of each series
    counts: Ints
    times_ms: Ints
    stale: NDArray[np.bool_]
    stamps: NDArray[np.uint8]


def blocks(
    found: Telemetry, exporter: Exporter, grid: Grid, number: int, form: Callable[[Labels], Head]
) -> Iterator[Block]:
    """Slice *number* of the history of *found*, family by family; *form* makes the heads of their labels."""
    times_s, times_ms, lead = grid.slice(number)
    readings = found.at(times_s)
    v = readings.values
    tick = np.searchsorted(times_s, v["time_s"])
    gpu = v["uuid"].astype(np.int64)  # one name each
    layouts: dict[Any, _Layout] = {}
    heads: dict[Any, list[Head]] = {}
    for family in exporter.families:
        source, says = TAKEN_FROM.get(family.value, (family.value, family.value))
        absent = readings.absent.get(says)
        changing = tuple(sorted({CHANGING[name] for name in family.labels if name in CHANGING}))
        which = (changing, None if absent is None else says)
        if which not in layouts:
            key = gpu
            for column in changing:
                codes, code = np.unique(_filled(readings, column), return_inverse=True)
                key = key * len(codes) + code
            there = np.arange(len(readings)) if absent is None else np.nonzero(~absent)[0]
            layouts[which] = _layout(key[there], tick[there], there, times_ms, lead)
        layout = layouts[which]
        if not len(layout.rows):
            continue
        named = (which, family.labels)
        if named not in heads:
            labels = _labels(readings, layout.first, exporter, family.labels)
            heads[named] = [form(one) for one in labels]
        values = v[source][layout.rows]
        if family.of:
            made = np.fromiter(map(family.of, values.tolist()), np.float64, len(values))
        else:
            made = values.astype(np.float64)
        yield Block(
            family.name, heads[named], layout.counts, made, layout.times_ms, layout.stale, layout.stamps
        )


def _filled(readings: Readings, column: str) -> NDArray[Any]:
    values, absent = readings.values[column], readings.absent.get(column)
    return values if absent is None else np.where(absent, -1, values)


def _layout(key: Ints, tick: Ints, rows: Ints, times_ms: Ints, lead: int) -> _Layout:
    """Samples of series *key*, each followed by a stale marker where the series is not at the next time.

    *tick* is the time of each of *rows*, which are in order of time. The first *lead* times belong to the
    slice before: of them only the markers are here.
    """
    order = np.argsort(key, kind="stable")
    key, tick, rows = key[order], tick[order], rows[order]
    goes_on = np.zeros(len(key), bool)
    goes_on[:-1] = (key[1:] == key[:-1]) & (tick[1:] == tick[:-1] + 1)
    ends = ~goes_on & (tick + 1 < len(times_ms))
    own = tick >= lead
    slots = own.astype(np.int64) + ends
    stale = np.zeros(int(slots.sum()), bool)
    stale[(np.cumsum(slots) - slots + own)[ends]] = True
    times = np.repeat(times_ms[tick], slots)
    times[stale] = times_ms[tick[ends] + 1]
    rows, key = np.repeat(rows, slots), np.repeat(key, slots)
    first = np.nonzero(np.append(True, key[1:] != key[:-1])[: len(key)])[0]
    counts = np.diff(np.append(first, len(key)))
    return _Layout(rows, rows[first], counts, times, stale, stamped(times))


def _labels(readings: Readings, rows: Ints, exporter: Exporter, names: tuple[str, ...]) -> Iterator[Labels]:
    """Labels of the series whose readings are *rows*: those of the target, and *names*."""
    columns: dict[str, list[Any]] = {}
    for c in COLUMNS:
        column = readings.values[c.name][rows].tolist()
        if c.kind == "label":
            column = [readings.labels[c.name][code] for code in column]
        if c.name in readings.absent:
            gone = readings.absent[c.name][rows].tolist()
            column = [None if no else value for value, no in zip(column, gone, strict=True)]
        columns[c.name] = column
    table = exporter.table(columns)
    for host, *values in zip(columns["hostname"], *[table[name] for name in names], strict=True):
        target = {"instance": f"{host}:{exporter.port}", "job": exporter.job}
        yield target | dict(zip(names, values, strict=True))


def series(found: Iterator[Block]) -> Iterator[Series]:
    """The series of blocks whose heads are :func:`label_parts`, for remote write."""
    for block in found:
        data = samples(block.stamps, block.values, block.stale)
        ends = np.cumsum(block.counts)
        stale = np.diff(np.append(0, np.cumsum(block.stale)[ends - 1])).tolist()
        at = 0
        for head, end, markers in zip(block.heads, (ends * SAMPLE_BYTES).tolist(), stale, strict=True):
            yield Series(labelled(block.metric, head), data[at:end], markers)
            at = end


def openmetrics(found: Iterator[Block]) -> Iterator[tuple[str, int]]:
    """Text of blocks whose heads are label blocks, and how many samples are in it; without stale markers.

    OpenMetrics has none, nor any need of types here: blocks of Prometheus keep no types.
    """
    for block in found:
        keep = ~block.stale
        which = np.repeat(np.arange(len(block.counts)), block.counts)[keep].tolist()
        heads = [f"{block.metric}{head}" for head in block.heads]
        rows = zip(which, block.values[keep].tolist(), block.times_ms[keep].tolist(), strict=True)
        lines = [f"{heads[s]}{number(v)} {ms // 1000}.{ms % 1000:03d}\n" for s, v, ms in rows]
        yield "".join(lines), len(lines)


def text_head(labels: Labels) -> str:
    """Labels as they stand in the text, after the name."""
    return label_block(tuple(labels), tuple(labels.values()))


def snappy(body: bytes) -> bytes:
    """*body* as one raw block of Snappy."""
    import pyarrow as pa

    return bytes(pa.compress(body, codec="snappy", asbytes=True))


class SendError(FleetsimError):
    """A receiver did not take the samples; the text is what it said."""


@dataclass
class Counts:
    """What was acknowledged: samples without markers, markers, requests, their bytes, and tries again.

    ``already_stored`` are requests that the receiver refused when they were sent again, since it had stored
    them before the connection broke.
    """

    samples: int = 0
    stale_markers: int = 0
    requests: int = 0
    bytes: int = 0
    retries: int = 0
    already_stored: int = 0


class Receiver:
    """A remote write endpoint, http or https. Raises :class:`InputError` for a URL that is none."""

    def __init__(self, url: str, waits_s: Sequence[float] = WAITS_S) -> None:
        self.url, self._waits_s = url, waits_s
        problem, remedy = "", "For example http://127.0.0.1:9090/api/v1/write."
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise InputError([Problem(url, f"not a URL: {error}", remedy)]) from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            problem = "not an http or https URL"
        elif parts.username is not None or parts.fragment or not url.isascii() or not url.isprintable():
            problem = "has a user, a fragment, or characters that no URL has"
        elif " " in url:
            problem = "has a blank"
        if problem:
            raise InputError([Problem(url, problem, remedy)])
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname or "", port, timeout=ANSWER_S)
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._headers = {**HEADERS, "User-Agent": f"fleetsim/{__version__}"}

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def send(self, body: bytes, counts: Counts, uncertain: bool = False) -> None:
        """Send a compressed message and wait until it is acknowledged.

        After 429, 5xx and broken connections it is sent again, after a wait or as the receiver asks. If what
        became of an earlier try is *uncertain*, a refusal of samples that are there already counts as an
        acknowledgement. Raises :class:`SendError` for other answers, and if all tries fail.
        """
        for wait_s in (*self._waits_s, None):
            asked_s = 0.0
            try:
                self._connection.request("POST", self._path, body, self._headers)
                answer = self._connection.getresponse()
                said, status = _readable(answer.read(4096)), answer.status
                answer.close()
                if answer.will_close:
                    self.close()
            except (OSError, http.client.HTTPException) as error:
                self.close()
                said, status = f"{type(error).__name__}: {error}", 0
            if 200 <= status < 300:
                return
            if status == 400 and uncertain and any(words in said for words in ALREADY):
                counts.already_stored += 1
                return
            if status and status != 429 and status < 500:
                raise SendError(_refused(self.url, status, said))
            if status:
                with suppress(ValueError):
                    asked_s = min(float(answer.headers.get("Retry-After") or 0), LONGEST_WAIT_S)
            uncertain = uncertain or status != 429  # 429 is an answer: nothing was stored
            if wait_s is not None:
                counts.retries += 1
                time.sleep(max(wait_s, asked_s))
        what = f"answered {status}: {said}" if status else said
        raise SendError(
            f"{self.url}: {len(self._waits_s) + 1} tries failed; the last: {what}\n"
            "The same command again goes on from there."
        )


def _readable(data: bytes) -> str:
    text = data.decode("utf-8", "replace").strip()
    return "".join(c if c.isprintable() else " " for c in text)[:500]


def _refused(url: str, status: int, said: str) -> str:
    text = f"{url}: refused, {status}: {said or http.client.responses.get(status, 'no reason given')}"
    if "out of order" in said or "out of bounds" in said or "too old" in said or "duplicate sample" in said:
        text += (
            "\nPrometheus has newer samples. Send to an empty one that scrapes nothing, or set "
            "storage.tsdb.out_of_order_time_window beyond the length of the history."
        )
    elif status == 404:
        text += (
            "\nPrometheus needs --web.enable-remote-write-receiver (--enable-feature=remote-write-receiver "
            "before 2.33), and its path is /api/v1/write."
        )
    return text


@dataclass
class Resume:
    """How far a history has come, in a file that is there until it is whole.

    *asked* is what must be the same for the history to go on. Raises :class:`InputError` if the file is of
    another history or is none.
    """

    path: Path
    asked: Mapping[str, Any]
    epoch_ms: int
    slice: int = 0
    requests: int = 0  # of that slice
    counts: Counts = field(default_factory=Counts)

    def load(self) -> bool:
        """Take what the file says; False if there is none."""
        place = str(self.path)
        try:
            told = json.loads(self.path.read_text("utf-8"))
        except FileNotFoundError:
            if not self.path.parent.is_dir():
                raise InputError([Problem(place, "its folder is not there", "Make it first.")]) from None
            return False
        except (ValueError, OSError) as error:
            raise InputError([Problem(place, f"cannot be read: {error}", "Delete it.")]) from None
        try:
            asked, counts = told["asked"], Counts(**told["counts"])
            numbers = [told[name] for name in ("epoch_ms", "slice", "requests")]
        except (TypeError, KeyError):
            raise InputError([Problem(place, "says not how far a history has come", "Delete it.")]) from None
        whole = all(isinstance(n, int) for n in (*numbers, *asdict(counts).values()))
        if not (isinstance(asked, dict) and whole):
            raise InputError([Problem(place, "has values that cannot be", "Delete it.")])
        if asked != json.loads(json.dumps(self.asked)):
            other = sorted(k for k in {*asked, *self.asked} if asked.get(k) != self.asked.get(k))
            what = f"another history has not come to its end: other {', '.join(other)}"
            remedy = "Give it the same again, delete the file, or say --resume with another."
            raise InputError([Problem(place, what, remedy)])
        self.epoch_ms, self.slice, self.requests = numbers
        self.counts = counts
        return True

    def save(self) -> None:
        """Write the file, whole or not at all."""
        told = {
            "asked": self.asked,
            "epoch_ms": self.epoch_ms,
            "slice": self.slice,
            "requests": self.requests,
            "counts": asdict(self.counts),
        }
        partial = self.path.with_name(f".{self.path.name}.partial-{os.getpid()}")
        partial.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
        partial.replace(self.path)


def asked(
    run: Run, url: str, families: str, grid: Grid, nodes: Collection[int] | None, until_now: bool
) -> dict[str, Any]:
    """What a history is, for :class:`Resume`."""
    said = json.dumps([run.manifest["scenario"], run.manifest["seed"]], sort_keys=True)
    return {
        "run": hashlib.sha256(said.encode()).hexdigest()[:16],
        "fleetsim": __version__,
        "url": url,
        "families": families,
        "start_s": grid.start_s,
        "end_s": grid.end_s,
        "step_s": grid.step_s,
        "nodes": None if nodes is None else sorted(nodes),
        "until_now": until_now,
    }


def send(
    found: Telemetry, exporter: Exporter, grid: Grid, receiver: Receiver, state: Resume, resumed: bool
) -> Iterator[int]:
    """Send what *state* says is still to be sent; yield how many times of the grid are done by then.

    Memory does not grow with the length of the history. The state is saved after every request and deleted at
    the end. Raises :class:`SendError` as :meth:`Receiver.send` does.
    """
    counts = state.counts
    state.save()
    with closing(receiver):
        while state.slice < grid.slices:
            heads = blocks(found, exporter, grid, state.slice, label_parts)
            for i, message in enumerate(messages(series(heads))):
                if i < state.requests:
                    continue
                body = snappy(message.body)
                receiver.send(body, counts, uncertain=resumed)
                resumed = False
                counts.samples += message.samples - message.stale
                counts.stale_markers += message.stale
                counts.requests += 1
                counts.bytes += len(body)
                state.requests = i + 1
                state.save()
            state.slice, state.requests = state.slice + 1, 0
            state.save()
            yield min(state.slice * grid.each, len(grid))
    state.path.unlink()


class Cost(NamedTuple):
    """What a history takes at most, before it is made."""

    gpus: int
    times: int
    series: int
    samples: int
    bytes: int
    seconds: float


class Estimate(NamedTuple):
    """Bytes of a sample as it is sent or written, and samples a second."""

    bytes: float
    per_s: float


#: By the way a history goes. Measured: 40 GPUs, three days at 60 s, receivers on the same two slow cores.
WAYS = {
    "remote_write": Estimate(3.5, 600_000),
    "victoriametrics": Estimate(3.5, 1_000_000),
    "openmetrics": Estimate(285.0, 600_000),
}


@dataclass(frozen=True)
class Size:
    """The size of the history of *gpus* GPUs, *placings* of jobs on GPUs, over *times* times."""

    exporter: Exporter
    gpus: int
    placings: int
    times: int

    @cached_property
    def cost(self) -> Mapping[str, Cost]:
        """The cost of each of ``WAYS``."""
        of_jobs = sum(bool({"job_id", "pid"} & {*f.labels}) for f in self.exporter.families)
        of_gpus = len(self.exporter.families) - of_jobs
        lines = self.gpus * of_gpus + self.placings * of_jobs
        most = self.gpus * len(self.exporter.families) * self.times
        return {
            way: Cost(self.gpus, self.times, lines, most, round(most * e.bytes), most / e.per_s)
            for way, e in WAYS.items()
        }


def placings(run: Run, nodes: Collection[int] | None, start_s: float, end_s: float) -> int:
    """GPUs of all attempts at jobs on *nodes* between these times: the series that jobs can have."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    wanted = (pc.field("end_s") > start_s) & (pc.field("start_s") < end_s)
    if nodes is not None:
        wanted &= pc.field("node").isin(sorted(nodes))
    table = pq.read_table(run.path / "allocations.parquet", columns=["gpus"], filters=wanted)
    return int(pc.sum(table["gpus"]).as_py() or 0)
