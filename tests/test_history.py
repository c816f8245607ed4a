"""``fleetsim history``: what arrives is what the readings say, at a receiver of the test and at real ones."""

from __future__ import annotations

import json
import math
import shutil
import socket
import struct
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from model.support import A100, Job, cohort
from telemetry.support import readings, simulate
from write_request import read

from fleetsim import history
from fleetsim.cli import cli
from fleetsim.errors import InputError
from fleetsim.runfolder import Run
from fleetsim.telemetry.sensors import Telemetry
from fleetsim_collectors.catalogue import Family
from fleetsim_collectors.exposition import number
from fleetsim_collectors.remote_write import STALE_BITS, label_parts, messages

#: 2026-01-01, the start of the run.
EPOCH_MS = 1_767_225_600_000

Key = tuple[tuple[str, str], ...]
Stored = dict[Key, list[tuple[int, int]]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three hours of two nodes of two GPUs. Each fails after 2 h and is back 20 min later; jobs follow at
    once on jobs."""
    jobs = [Job(0, 1800, 2), Job(0, 1200, 1), Job(60, 3600, 2), Job(120, 900, 1), Job(180, 1500, 1)]
    failure = {"name": "f", "script": [{"after": "2h", "down": "20min"}]}
    return simulate(
        tmp_path_factory.mktemp("h"), jobs, [cohort(A100, nodes=2, gpus_per_node=2)], horizon="3h",
        failures=[failure],
    )  # fmt: skip


class Receiver(ThreadingHTTPServer):
    """A remote write endpoint that keeps samples, and answers as *plan* says while it lasts."""

    daemon_threads = True

    def __init__(self, plan: list[Any]) -> None:
        self.plan, self.newest_ms, self.requests = plan, 0, 0
        self.stored: Stored = defaultdict(list)
        self.headers: list[dict[str, str]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/api/v1/write"

    def take(self, body: bytes) -> str:
        """Keep the samples, all or none; what is wrong with them, as Prometheus says it."""
        size, shift = 0, 0
        for byte in body:  # the length that a block of Snappy begins with
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        found = read(pa.decompress(body, size, codec="snappy", asbytes=True))
        for labels, samples in found:
            assert labels == sorted(labels)
            for i, (_, ms) in enumerate(samples):
                last = samples[i - 1][1] if i else self.stored.get(tuple(labels), [(0, 0)])[-1][1]
                if ms <= last:
                    return "out of order sample"
                if ms < self.newest_ms - 3_600_000:
                    return "out of bounds"
        for labels, samples in found:
            self.stored[tuple(labels)] += samples
            self.newest_ms = max(self.newest_ms, samples[-1][1])
        return ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests += 1
        self.server.headers.append(dict(self.headers))
        step = self.server.plan.pop(0) if self.server.plan else 204
        wrong = self.server.take(body) if step in (204, "stored, then broken") else ""
        if isinstance(step, str):
            self.close_connection = True
            return
        status, text = (400, wrong) if wrong else (step, f"told to say {step}")
        self.send_response(status)
        self.send_header("Content-Length", str(len(text) if status != 204 else 0))
        self.end_headers()
        if status != 204:
            self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def receiver(*plan: Any) -> Iterator[Receiver]:
    server = Receiver(list(plan))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """No waits; those asked for."""
    asked: list[float] = []
    monkeypatch.setattr("fleetsim.history.time.sleep", asked.append)
    return asked


def call(run: Run, *words: str) -> Result:
    return CliRunner().invoke(cli, ["history", str(run.path), *words])


def sent(run: Run, server: Receiver, *words: str) -> dict[str, Any]:
    result = call(run, "--remote-write", server.url, "--json", "-q", *words)
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def number_of(family: Family, row: dict[str, Any]) -> float:
    value = row[family.value]
    return float(family.of(value) if family.of else value)


def of(stored: Stored, metric: str) -> dict[tuple[str, str], list[tuple[float, int, bool]]]:
    """Samples of *metric* by host and GPU: value, ms, and whether it is a stale marker."""
    found = defaultdict(list)
    for key, samples in stored.items():
        labels = dict(key)
        if labels["__name__"] == metric:
            host = labels.get("Hostname") or labels["instance"].partition(":")[0]
            for bits, ms in samples:
                value = struct.unpack("<d", struct.pack("<Q", bits))[0]
                found[host, labels.get("gpu", labels.get("uuid", ""))].append((value, ms, bits == STALE_BITS))
    return {place: sorted(samples, key=lambda s: s[1]) for place, samples in found.items()}


def test_every_value_arrives_once_and_exactly(run: Run) -> None:
    with receiver() as server:
        said = sent(run, server, "--step", "15s")
    frame = readings(run, 0, 10_800, 15)
    total = 0
    for family in history.EXPORTERS["dcgm"].families:
        rows = frame.filter(pl.col(family.value).is_not_null()).to_dicts()
        got = sorted(
            (host, int(gpu), ms, value)
            for (host, gpu), samples in of(server.stored, family.name).items()
            for value, ms, stale in samples
            if not stale
        )
        want = sorted(
            (r["hostname"], r["gpu"], EPOCH_MS + round(r["time_s"] * 1000), number_of(family, r))
            for r in rows
        )
        assert got == want, family.name
        total += len(want)
    markers = sum(bits == STALE_BITS for s in server.stored.values() for bits, _ in s)
    assert (said["samples"], said["stale_markers"]) == (total, markers)
    assert total == sum(map(len, server.stored.values())) - markers > 20 * len(frame)
    assert (said["first_ms"], said["last_ms"]) == (EPOCH_MS, EPOCH_MS + 10_785_000)
    assert (said["requests"], said["retries"]) == (
        server.requests,
        0,
    ) and server.requests == 3  # an hour each
    headers = server.headers[0]
    assert headers["Content-Encoding"] == "snappy" and headers["X-Prometheus-Remote-Write-Version"] == "0.1.0"
    assert not run.path.with_name("run.history.json").exists()


def test_a_job_that_ends_is_marked_at_the_time_it_is_missed(run: Run) -> None:
    with receiver() as server:
        sent(run, server)
    frame = readings(run, 0, 10_800, 60).select("hostname", "gpu", "time_s", "job", "tenant")
    held = {
        (host, str(gpu), EPOCH_MS + round(t * 1000)): str(job) for host, gpu, t, job, _ in frame.iter_rows()
    }
    changes = 0
    for key, samples in server.stored.items():
        labels = dict(key)
        if labels["__name__"] != "fleetsim_gpu_allocation":
            continue
        for i, (bits, ms) in enumerate(samples):
            holder = held[labels["Hostname"], labels["gpu"], ms]
            assert (holder == labels["job_id"]) == (bits != STALE_BITS)
            gone = held.get((labels["Hostname"], labels["gpu"], ms + 60_000), holder) != holder
            if bits != STALE_BITS and gone:
                changes += 1
                assert samples[i + 1] == (STALE_BITS, ms + 60_000)
    assert changes >= 5


def test_a_node_that_goes_down_is_marked_and_comes_back(run: Run) -> None:
    """Down from 2 h to 2 h 20 min: the slice of the third hour begins with the markers of the second."""
    with receiver() as server:
        sent(run, server)
    for samples in of(server.stored, "DCGM_FI_DEV_GPU_TEMP").values():
        minutes = [(ms - EPOCH_MS) // 60_000 for _, ms, _ in samples]
        assert minutes == [*range(121), *range(140, 180)]
        assert [m for m, (_, _, stale) in zip(minutes, samples, strict=True) if stale] == [120]


def test_an_xid_ends_the_series_of_the_one_before(tmp_path: Path) -> None:
    """A GPU fails: 79 is read for a minute before the node goes down."""
    fail = {"name": "f", "unit": "gpu", "hazard": [{"per_year": 30.0}], "xids": {"79": 1.0},
            "repairs": [{"name": "r", "median": "1h"}]}  # fmt: skip
    run = simulate(
        tmp_path, [Job(0, 60)], [cohort(A100, gpus_per_node=2)], horizon="60d", seed=4, failures=[fail]
    )
    failure = run.scan("failures").collect().row(0, named=True)
    down_s = failure["time_s"]
    start_s = math.floor(down_s) - 300
    with receiver() as server:
        sent(run, server, "--start", f"{start_s}s", "--end", f"{start_s + 600}s", "--step", "15s")
    ticks_s = range(start_s, start_s + 600, 15)
    seen_s = [t for t in ticks_s if down_s - 60 <= t < down_s]
    missed_s = seen_s[-1] + 15
    markers = {}
    for key, samples in server.stored.items():
        labels = dict(key)
        if labels["__name__"] == "DCGM_FI_DEV_XID_ERRORS":
            place = labels["gpu"], labels["err_code"]
            markers[place] = [(ms - EPOCH_MS) // 1000 for bits, ms in samples if bits == STALE_BITS]
    failed, other = str(failure["gpu"]), str(1 - failure["gpu"])
    assert markers == {(failed, "0"): [seen_s[0]], (failed, "79"): [missed_s], (other, "0"): [missed_s]}


def test_nvidia_smi_names(run: Run) -> None:
    with receiver() as server:
        sent(run, server, "--families", "nvidia_smi", "--nodes", "1", "--end", "1h")
    names = {dict(key)["__name__"] for key in server.stored}
    assert {"nvidia_smi_power_draw_watts", "nvidia_smi_compute_app_info"} < names
    assert all(name.startswith("nvidia_smi_") for name in names)
    frame = readings(run, 0, 3600, 60, nodes=[1])
    for metric, column, scale in (
        ("nvidia_smi_memory_used_bytes", "fb_used_mib", 2.0**20),
        ("nvidia_smi_utilization_gpu_ratio", "gpu_util_pct", 0.01),
    ):
        values = [v for s in of(server.stored, metric).values() for v, _, stale in s if not stale]
        assert len(values) == len(frame)
        assert math.fsum(values) == pytest.approx(sum(frame[column].to_list()) * scale)
    used = [
        v
        for s in of(server.stored, "nvidia_smi_compute_app_used_memory_bytes").values()
        for v, _, x in s
        if not x
    ]
    assert sum(used) == frame.filter(pl.col("job").is_not_null())["fb_used_mib"].sum() * 2**20
    assert {dict(key)["instance"] for key in server.stored} == {"node-00001:9835"}


def layout(key: list[int], tick: list[int], times: int, lead: int = 0) -> list[tuple[int, int, bool]]:
    """Row, time and marker of each sample."""
    made = history._layout(
        np.array(key, np.int64),
        np.array(tick, np.int64),
        np.arange(len(key)),
        (1 << 36) + np.arange(times),
        lead,
    )
    assert made.counts.sum() == len(made.rows)
    times_ms = (made.times_ms - (1 << 36)).tolist()
    return list(zip(made.rows.tolist(), times_ms, made.stale.tolist(), strict=True))


def test_markers_stand_where_a_series_is_not_at_the_next_time() -> None:
    """Series 7 is there at 0, 1 and 3 of 0 to 4; series 8 at 4, the last time."""
    assert layout([7, 7, 7, 8], [0, 1, 3, 4], 5) == [
        (0, 0, False), (1, 1, False), (1, 2, True), (2, 3, False), (2, 4, True), (3, 4, False),
    ]  # fmt: skip


def test_a_series_of_the_slice_before_is_marked_at_the_first_time() -> None:
    """Time 0 belongs to the slice before: series 1 goes on, series 2 has ended."""
    assert layout([1, 2, 1], [0, 0, 1], 2, lead=1) == [(2, 1, False), (1, 1, True)]
    assert layout([], [], 2, lead=1) == []


def test_slices_are_within_an_hour_and_cover_the_grid_once() -> None:
    grid = history.Grid(0.0, 86_400.0, 7.0, EPOCH_MS, 514)
    seen: list[float] = []
    for n in range(grid.slices):
        times_s, times_ms, lead = grid.slice(n)
        assert times_ms[-1] - times_ms[lead] < 3_600_000
        assert not lead or times_s[0] == seen[-1]
        seen += times_s[lead:].tolist()
    assert seen == [7.0 * k for k in range(12_343)]  # 86,400 / 7 = 12,342.9


def test_cuts_change_nothing(run: Run) -> None:
    """Slices of three times instead of sixty."""
    found, exporter = Telemetry(run), history.EXPORTERS["dcgm"]
    made: list[Stored] = []
    for each in (3, 60):
        grid = history.Grid(0.0, 10_800.0, 60.0, EPOCH_MS, each)
        stored: Stored = defaultdict(list)
        for n in range(grid.slices):
            blocks = history.blocks(found, exporter, grid, n, label_parts)
            for message in messages(history.series(blocks)):
                for labels, samples in read(message.body):
                    stored[tuple(labels)] += samples
        made.append(stored)
    assert made[0] == made[1]


@pytest.mark.parametrize("step", [429, 500, 503, "broken"])
def test_sent_again_until_it_is_taken(run: Run, quick: list[float], step: Any) -> None:
    with receiver(step, 204, step, step) as server:
        said = sent(run, server)
        assert said["retries"] == 3 and said["already_stored"] == 0
        assert said["requests"] == 3 and server.requests == 6
        assert said["samples"] + said["stale_markers"] == sum(map(len, server.stored.values()))
    assert quick == [0.5, 0.5, 1.0]


def test_stored_but_not_acknowledged_counts_once(run: Run, quick: list[float]) -> None:
    with receiver(204, "stored, then broken") as server:
        said = sent(run, server)
        assert (said["already_stored"], said["retries"], said["requests"]) == (1, 1, 3)
        assert said["samples"] + said["stale_markers"] == sum(map(len, server.stored.values()))


def test_a_refusal_is_not_sent_again_and_says_why(run: Run, quick: list[float], tmp_path: Path) -> None:
    with receiver(400) as server:
        result = call(run, "--remote-write", server.url, "-q", "--resume", str(tmp_path / "s"))
        assert result.exit_code == 1 and server.requests == 1 and quick == []
    assert "refused, 400: told to say 400" in result.stderr


def test_out_of_order_says_what_prometheus_needs(run: Run, quick: list[float], tmp_path: Path) -> None:
    with receiver() as server:
        sent(run, server)
        result = call(run, "--remote-write", server.url, "-q", "--resume", str(tmp_path / "s"))
    assert result.exit_code == 1
    assert "out of order sample" in result.stderr and "out_of_order_time_window" in result.stderr


def test_goes_on_after_the_last_acknowledged_request(run: Run, quick: list[float], tmp_path: Path) -> None:
    """All tries of the second request fail, its samples stored by the first of them."""
    state = tmp_path / "state.json"
    words = ("--resume", str(state), "--until-now")
    with receiver(204, "stored, then broken", *[503] * 8) as server:
        result = call(run, "--remote-write", server.url, "-q", *words)
        assert result.exit_code == 1 and "9 tries failed; the last: answered 503" in result.stderr
        kept = json.loads(state.read_text())
        assert (kept["slice"], kept["requests"], kept["counts"]["requests"]) == (1, 0, 1)
        other = call(run, "--remote-write", server.url, "-q", *words, "--step", "30s")
        assert other.exit_code == 2 and "other step_s" in other.stderr
        said = sent(run, server, *words)
        assert (said["requests"], said["already_stored"], said["retries"]) == (
            3,
            1,
            0,
        )  # of those that were acknowledged
        times = sorted({ms for s in server.stored.values() for _, ms in s})
        assert said["samples"] + said["stale_markers"] == sum(map(len, server.stored.values()))
    # moved once, not twice; nothing between the marker at 2 h and 2 h 20 min
    assert np.diff(times).tolist() == [60_000] * 120 + [1_200_000] + [60_000] * 39
    assert abs(times[-1] / 1000 - time.time()) < 120
    assert not state.exists()


def test_goes_on_within_a_slice(
    run: Run, quick: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many small requests; the sixth is refused."""
    monkeypatch.setattr(history, "messages", partial(messages, most=20_000))
    words = ("--resume", str(tmp_path / "state.json"))
    with receiver(*[204] * 5, 400) as server:
        assert call(run, "--remote-write", server.url, "-q", *words).exit_code == 1
        kept = json.loads((tmp_path / "state.json").read_text())
        assert (kept["slice"], kept["requests"]) == (0, 5)
        result = call(run, "--remote-write", server.url, *words)
        assert result.exit_code == 0, result.output
        broken = dict(server.stored)
    assert "Goes on after slice 0 of 3" in result.stderr
    with receiver() as server:
        said = sent(run, server)
        assert server.stored == broken
    assert (
        f"{said['samples']:,} samples and {said['stale_markers']:,} stale markers of 4 GPUs" in result.stdout
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"asked": 1, "counts": {}, "epoch_ms": 1, "slice": 1, "requests": 1}',
        '{"asked": {}, "counts": {"x": 1}}',
    ],
)
def test_a_state_that_is_none_is_refused(run: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "s").write_text(text)
    result = call(run, "--remote-write", "http://127.0.0.1:1/", "--resume", str(tmp_path / "s"))
    assert result.exit_code == 2 and "Delete it." in result.stderr


def test_too_much_is_refused_with_its_cost(run: Run) -> None:
    """10,800 s / 1 ms x 4 GPUs x 28 families = 1,209,600,000."""
    result = call(run, "--victoriametrics", "http://127.0.0.1:1", "--step", "0.001s")
    assert result.exit_code == 2
    assert "1,209,600,000 samples" in result.stderr and "--yes" in result.stderr
    assert not run.path.with_name("run.history.json").exists()


@pytest.mark.parametrize(
    "words, said",
    [
        ((), "Name one of"),
        (("--openmetrics", "a", "--remote-write", "http://h"), "Name one of"),
        (("--openmetrics", "a", "--resume", "b"), "--resume is for what is sent"),
        (("--openmetrics", "/nowhere/a"), "no such folder"),
        (("--remote-write", "localhost:9090"), "not an http or https URL"),
        (("--remote-write", "http://h:99999/"), "not a URL"),
        (("--remote-write", "http://u:p@h/"), "has a user"),
        (("--remote-write", "http://h/a b"), "has a blank"),
        (("--remote-write", "http://h/", "--start", "4h"), "The run goes from 0"),
        (("--remote-write", "http://h/", "--nodes", "9"), "not in the run"),
    ],
)
def test_bad_options(run: Run, words: tuple[str, ...], said: str) -> None:
    result = call(run, *words)
    assert result.exit_code == 2 and said in result.stderr


def test_times_that_no_sample_can_have() -> None:
    with pytest.raises(InputError, match="not between 1971 and 2109"):
        history.Grid.of(0.0, 1.0, 1.0, datetime(1970, 6, 1, tzinfo=UTC), 1)


def test_openmetrics_text(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "t.om"
    result = call(run, "--openmetrics", str(target), "--step", "90s", "--json")
    assert result.exit_code == 0, result.output
    lines = target.read_text().splitlines()
    said = json.loads(result.stdout)
    assert lines.pop() == "# EOF" and len(lines) == said["samples"]
    assert said["bytes"] == target.stat().st_size
    frame = readings(run, 0, 10_800, 90)
    row = frame.row(5, named=True)
    labels = f'instance="{row["hostname"]}:9400",job="dcgm",gpu="{row["gpu"]}",UUID="{row["uuid"]}"'
    (line,) = [
        x for x in lines
        if x.startswith(f"DCGM_FI_DEV_POWER_USAGE{{{labels}") and x.endswith(f" {EPOCH_MS // 1000 + 90}.000")
    ]  # fmt: skip
    assert line.split()[-2] == number(row["power_w"])
    assert "NaN" not in target.read_text()
    assert [p.name for p in tmp_path.iterdir()] == ["t.om"]


def program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed: apt-get install prometheus victoria-metrics")
    return path


@contextmanager
def serving(folder: Path, command: Callable[[int], list[str]], health: str) -> Iterator[str]:
    """A server on a free loopback port; ended with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command(port), stdout=log, stderr=log, cwd=folder) as process,
    ):
        try:
            for _ in range(300):
                try:
                    urllib.request.urlopen(url + health, timeout=5).close()
                    break
                except OSError:
                    assert process.poll() is None, (folder / "log").read_text()
                    time.sleep(0.1)
            yield url
        finally:
            process.kill()


@contextmanager
def prometheus(folder: Path, data: Path | None = None) -> Iterator[str]:
    binary = program("prometheus")
    (folder / "p.yml").write_text("global: {}\n")
    with serving(
        folder,
        lambda port: [
            binary, "--config.file=p.yml", f"--storage.tsdb.path={data or folder / 'tsdb'}",
            "--storage.tsdb.retention.time=100y", "--web.enable-remote-write-receiver",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        "/-/ready",
    ) as url:  # fmt: skip
        yield url


@contextmanager
def victoria_metrics(folder: Path) -> Iterator[str]:
    binary = program("victoria-metrics")
    with serving(
        folder,
        lambda port: [
            binary, f"-storageDataPath={folder / 'vm'}", "-retentionPeriod=100y",
            f"-httpListenAddr=127.0.0.1:{port}", "-search.latencyOffset=0s",
        ],
        "/health",
    ) as url:  # fmt: skip
        yield url


def ask(url: str, path: str, **words: Any) -> list[dict[str, Any]]:
    query = urllib.parse.urlencode(words)
    with urllib.request.urlopen(f"{url}/api/v1/{path}?{query}", timeout=30) as answer:
        found = json.load(answer)
    assert found["status"] == "success"
    return list(found["data"]["result"])


LAST_S = EPOCH_MS // 1000 + 10_800 - 30


def agrees(run: Run, url: str, exact: bool = True) -> None:
    """Counts and sums over all times are those of the readings; power value by value.

    VictoriaMetrics keeps decimals of its own, so that fractions are not *exact* there.
    """
    frame = readings(run, 0, 10_800, 30)
    by_gpu = frame.partition_by("uuid", as_dict=True)
    for family in history.EXPORTERS["dcgm"].families:
        counts = ask(url, "query", query=f"sum by (UUID) (count_over_time({family.name}[4h]))", time=LAST_S)
        sums = ask(url, "query", query=f"sum by (UUID) (sum_over_time({family.name}[4h]))", time=LAST_S)
        for got, what in ((counts, "count"), (sums, "sum")):
            for one in got:
                column = by_gpu[(one["metric"]["UUID"],)][family.value].drop_nulls()
                made = [float(family.of(v) if family.of else v) for v in column]
                want = len(made) if what == "count" else math.fsum(made)
                whole = column.dtype.is_integer()
                value = float(one["value"][1])
                assert (
                    value == want if whole else value == pytest.approx(want, rel=1e-14 if exact else 1e-11)
                ), family.name
        reported = frame.filter(pl.col(family.value).is_not_null())["uuid"].n_unique()
        assert len(counts) == len(sums) == reported, family.name
    for one in ask(url, "query", query="DCGM_FI_DEV_POWER_USAGE[4h]", time=LAST_S):
        power_w = by_gpu[(one["metric"]["UUID"],)]["power_w"].to_list()
        values = [float(v) for _, v in one["values"] if v != "NaN"]  # VictoriaMetrics shows markers
        assert values == power_w if exact else values == pytest.approx(power_w, rel=1e-11)


def never_twice(run: Run, url: str) -> None:
    """Jobs change hands: at no time has a GPU two holders, and those it has are those of the readings."""
    frame = readings(run, 0, 10_800, 30).filter(pl.col("job").is_not_null())
    want = dict(frame.group_by("time_s").len().iter_rows())
    (got,) = ask(
        url, "query_range", query="sum(fleetsim_gpu_allocation)", start=EPOCH_MS // 1000, end=LAST_S, step=30
    )
    assert {float(t) - EPOCH_MS // 1000: int(v) for t, v in got["values"]} == want
    most = ask(
        url, "query_range", query="max(count by (UUID) (fleetsim_gpu_allocation))",
        start=EPOCH_MS // 1000, end=LAST_S, step=30,
    )  # fmt: skip
    assert {v for one in most for _, v in one["values"]} == {"1"}


def test_prometheus_has_the_readings(run: Run, tmp_path: Path) -> None:
    with prometheus(tmp_path) as url:
        result = call(run, "--remote-write", f"{url}/api/v1/write", "--step", "30s", "-q")
        assert result.exit_code == 0, result.output
        agrees(run, url)
        never_twice(run, url)
        words = ("--step", "30s", "-q", "--resume", str(tmp_path / "again"))
        again = call(run, "--remote-write", f"{url}/api/v1/write", *words)
        assert again.exit_code == 1 and "out of" in again.stderr


def test_victoria_metrics_has_the_readings(run: Run, tmp_path: Path) -> None:
    with victoria_metrics(tmp_path) as url:
        result = call(run, "--victoriametrics", f"{url}/", "--step", "30s", "-q")
        assert result.exit_code == 0, result.output
        urllib.request.urlopen(f"{url}/internal/force_flush", timeout=30).close()
        agrees(run, url, exact=False)
        never_twice(run, url)


def test_promtool_takes_the_text(run: Run, tmp_path: Path) -> None:
    promtool = program("promtool")
    assert call(run, "--openmetrics", str(tmp_path / "t.om"), "--step", "30s", "-q").exit_code == 0
    command = [
        promtool,
        "tsdb",
        "create-blocks-from",
        "--max-block-duration=24h",
        "openmetrics",
        "-q",
        "t.om",
    ]
    subprocess.run([*command, "tsdb"], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    with prometheus(tmp_path) as url:
        agrees(run, url)
