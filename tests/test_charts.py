"""Charts of a workload: what they plot is worked out by hand; pages need no network and stay small."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleetsim.charts import offered_load, trace_charts, trace_page, trace_png
from fleetsim_traces import Trace, TraceError
from fleetsim_traces.generate import generate_jobs


@pytest.fixture(scope="module")
def trace() -> Trace:
    return generate_jobs("philly-tenants", jobs=2000, seed=3)


def test_offered_load_by_hand() -> None:
    # two GPUs in 0-10, three more in 5-20; the last submission is at 20
    submit_s, duration_s, busy = np.array([0.0, 5, 20]), np.array([10.0, 15, 4]), np.array([2.0, 3, 1])
    at, level = offered_load(submit_s, duration_s, busy, points=4)
    assert at.tolist() == [2.5, 7.5, 12.5, 17.5]
    assert level.tolist() == pytest.approx([2, 5, 3, 3])
    # halves: (2 x 5 + 5 x 5) / 10 and 3
    assert offered_load(submit_s, duration_s, busy, points=2)[1].tolist() == pytest.approx([3.5, 3])


def values(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for rows in spec["datasets"].values() for row in rows]


def test_what_is_plotted(trace: Trace) -> None:
    charts = {name: chart.to_dict() for name, chart in trace_charts(trace, gpus=800).items()}
    assert list(charts) == ["arrivals", "load", "durations", "sizes", "tenants"]
    arrivals = values(charts["arrivals"])
    assert len(arrivals) == 168
    # jobs per hour, each hour of the week weighed by how often it came
    assert {row["day"] for row in arrivals} <= {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"}
    assert sum(row["jobs"] or 0 for row in arrivals) > 0
    assert any(row.get("label") == "800 GPUs installed" for row in values(charts["load"]))
    for name in ("durations", "sizes", "tenants"):
        for by in ("by jobs", "by GPU time"):
            curve = [row["y"] for row in values(charts[name]) if row.get("by") == by]
            assert curve == sorted(curve)
            assert curve[-1] == pytest.approx(1)
    sizes = [row for row in values(charts["sizes"]) if row["by"] == "by jobs"]
    assert sizes[0]["y"] == pytest.approx(np.mean(np.asarray(trace.jobs["gpus"]) == 1), abs=1e-4)


def test_every_axis_has_a_title(trace: Trace) -> None:
    for name, chart in trace_charts(trace).items():
        text = json.dumps(chart.to_dict())
        titles = re.findall(r'"title": "([^"]+)"', text)
        assert len(titles) >= 2 or name == "arrivals", name
    assert "(s, log scale)" in json.dumps(trace_charts(trace)["durations"].to_dict())


def test_page_loads_nothing(trace: Trace) -> None:
    page = trace_page(trace, title="<b>mine</b> & yours", gpus=800)
    assert "&lt;b&gt;mine&lt;/b&gt; &amp; yours" in page
    assert "<b>mine" not in page
    assert len(page) < 1_500_000
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"src\s*=|href\s*=|@import|url\(", markup.replace("default-src 'none'", ""))
    assert "default-src 'none'" in page  # the browser refuses what the libraries might try
    assert page.count("</script>") == 2  # the data, and the code
    assert page.count("No cluster ran them.") == 1  # once, not in the heading and the notes
    assert trace.generated


def test_picture(trace: Trace, tmp_path: Path) -> None:
    path = trace_png(trace, tmp_path / "p.png", title="mine", gpus=800)
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert 50_000 < len(data) < 3_000_000
    assert trace_png(trace, tmp_path / "d.png", dark=True).read_bytes() != data


def test_odd_traces_have_charts(trace: Trace) -> None:
    import pyarrow.compute as pc

    one = dataclasses.replace(trace, jobs=trace.jobs.slice(0, 1), epoch=None)
    assert len(trace_charts(one)) == 5
    idle = trace.jobs.set_column(
        trace.jobs.schema.get_field_index("duration_s"),
        trace.jobs.schema.field("duration_s"),
        pc.multiply(trace.jobs["duration_s"], 0.0),
    )
    assert len(trace_charts(dataclasses.replace(trace, jobs=idle))) == 5
    with pytest.raises(TraceError, match="no time zone"):
        trace_charts(trace, zone="Mars")
