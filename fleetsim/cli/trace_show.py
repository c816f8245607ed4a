"""What ``fleetsim trace info`` prints: a profile of jobs or of requests, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from fleetsim_traces.errors import Problem

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MOST_COUNTS = 12  # more GPU counts than this are shown in powers of two


def show_jobs(console: Console, facts: Mapping[str, Any], samples: Sequence[Problem]) -> None:
    """Print a profile of jobs."""
    _title(console, facts, "GENERATED look-alike: no cluster ran these jobs")
    _facts_table(console, facts)
    _shares(console, "GPUs per job", [{**row, "key": row["gpus"]} for row in facts["gpus"]], buckets=True)
    _durations(console, facts["duration_s"])
    _arrivals(console, facts["arrivals"])
    tenants = facts["tenants"]
    more = tenants["count"] - len(tenants["top"])
    _shares(
        console,
        "tenant",
        [{**row, "key": row["tenant"]} for row in tenants["top"]],
        note=(f"and {more:,} more; " if more else "")
        + f"Gini {tenants['gini_jobs']:.2f} by jobs, {tenants['gini_gpu_hours']:.2f} by GPU-hours; "
        f"HHI {tenants['hhi_jobs']:.2f}, {tenants['hhi_gpu_hours']:.2f}",
    )
    if any(row["status"] is not None for row in facts["status"]):
        _shares(console, "status", [{**row, "key": row["status"] or "unknown"} for row in facts["status"]])
    _remarks(console, facts, samples)


def show_requests(console: Console, facts: Mapping[str, Any], samples: Sequence[Problem]) -> None:
    """Print a profile of requests."""
    from rich.text import Text

    _title(console, facts, "GENERATED: no service answered these requests")
    count = f"{facts['requests']:,}"
    if facts["rejected"]:
        count += f" of {facts['rows_read']:,} rows"
    per_s = facts["rates"]["per_s"]
    rate = "no time between them"
    if facts["per_s"]:
        size, unit = (1, "s") if facts["per_s"] >= 0.1 else (3600, "h")
        rate = f"{facts['per_s'] * size:,.3g} requests/{unit}"
        if len(per_s) > 1:
            low, high, bin_s = min(per_s) * size, max(per_s) * size, facts["rates"]["bin_s"]
            rate += f"; {low:,.3g} to {high:,.3g} in any {duration(bin_s)}"
    rows = [("requests", count), ("arrived", _span(facts)), ("rate", rate)]
    tokens = {name: known for name, known in facts["tokens"].items() if known}
    if tokens:
        silent = tokens["output"]["zero"] if "output" in tokens else 0
        text = ", ".join(f"{known['sum']:,.0f} {name}" for name, known in tokens.items())
        rows.append(("tokens", text + (f"; {silent:,} requests without output" if silent else "")))
    if prefix := facts["prefix"]:
        rows.append(("prefixes", f"{prefix['reused']:.1%} of {prefix['blocks']:,} blocks seen before"))
    rows += [(name, f"{facts[name]['count']:,}") for name in ("tenants", "services")]
    _pairs(console, rows)

    spreads = dict(tokens)
    spreads |= {
        n.removesuffix("_s"): facts[n] for n in ("ttft_s", "latency_s", "images", "steps") if facts[n]
    }
    if spreads:
        quantiles = [name for name in next(iter(spreads.values())) if name not in ("known", "zero", "sum")]
        table = _table(console, "<of a request", *(f">{name}" for name in quantiles))
        for name, known in spreads.items():
            form = duration if name in ("ttft", "latency") else _amount
            table.add_row(name, *(form(known[quantile]) for quantile in quantiles))
        console.print()
        console.print(table)

    where = f"hour, {facts['by_hour']['zone']}" if facts["by_hour"]["zone"] else "hour from the start"
    bin_s = facts["rates"]["bin_s"]
    if facts["span_s"] >= 86_400:
        console.print(Text(f"\n arrivals by {where}", style="bold"))
        _hours_of_day(console, facts["by_hour"]["counts"])
    console.print(Text(f"\n rate, a column for each {duration(bin_s)}", style="bold"))
    console.print(Text(f" {_columns(console, per_s)}"))
    _burstiness(console, facts["burstiness"])
    for name in ("tenants", "services"):
        if facts[name]["count"] > 1:
            more = facts[name]["count"] - len(facts[name]["top"])
            _request_shares(console, name[:-1], facts[name]["top"], f"and {more:,} more" if more > 0 else "")
    for name in ("kind", "status"):
        if any(row["name"] is not None for row in facts[name]):
            _request_shares(console, name, facts[name])
    _remarks(console, facts, samples)


def _burstiness(console: Console, facts: Mapping[str, Any]) -> None:
    from rich.text import Text

    known = {name: value for name, value in facts["dispersion"].items() if value is not None}
    if known:
        table = _table(console, "<burstiness", *(f">{name}" for name in known))
        table.add_row("variance/mean of counts", *(f"{value:,.3g}" for value in known.values()))
        console.print()
        console.print(table)
    if facts["gap_cv"] is not None:
        note = f" gaps between arrivals: variation {facts['gap_cv']:.2f}"
        note += f", {facts['shared']:.0%} of them 0" if facts["shared"] >= 0.005 else ""
        console.print(Text(f"{note}; a Poisson process has 1 in all of these.", style="dim"))


def _request_shares(console: Console, title: str, rows: Sequence[Mapping[str, Any]], note: str = "") -> None:
    """Requests and tokens by something, with a bar for each share; no tokens where none are known."""
    from rich.text import Text

    known = any(row["tokens"] for row in rows)
    width = max(6, min(24, (console.width - 60) // 2))
    columns = [f"<{title}", ">requests", ">share", "<"] + [">tokens", ">share", "<"] * known
    table = _table(console, *columns)
    for row in rows:
        cells = [f"{row['requests']:,}", _percent(row["share"]), _bar(console, row["share"], width)]
        if known:
            share = row["tokens_share"]
            cells += [f"{row['tokens']:,}", _percent(share), _bar(console, share, width)]
        table.add_row(Text(clean(str(row["name"] or "unknown"), 24)), *cells)
    console.print()
    console.print(table)
    if note:
        console.print(Text(f" {note}", style="dim"))


def _title(console: Console, facts: Mapping[str, Any], warning: str) -> None:
    from rich.text import Text

    console.print(Text(clean(Path(facts["source"]).name), style="bold"), Text(f"({clean(facts['format'])})"))
    if facts["generated"]:
        console.print(Text(warning, style="yellow"))
    console.print()


def _remarks(console: Console, facts: Mapping[str, Any], samples: Sequence[Problem]) -> None:
    """Rows that were left out, and notes."""
    from rich.padding import Padding
    from rich.text import Text

    if facts["rejected"]:
        console.print(Text("\n Rows left out", style="bold"))
        for reason, count in facts["rejected"].items():
            console.print(Text(f" {count:>9,}  {reason}"))
        for problem in samples:
            console.print(Padding(Text(clean(str(problem)), style="dim"), (0, 0, 0, 1)))
    if facts["notes"]:
        console.print(Text("\n Notes", style="bold"))
        for note in facts["notes"]:
            console.print(Padding(Text(clean(note)), (0, 0, 0, 1)))


def _span(facts: Mapping[str, Any]) -> str:
    span = duration(facts["span_s"])
    if not facts["epoch"]:
        return span
    first = datetime.fromisoformat(facts["epoch"]).astimezone(UTC)
    try:
        last = f"{first + timedelta(seconds=facts['span_s']):%Y-%m-%d}"
    except OverflowError:
        last = "beyond the year 9999"
    days = f"{first:%Y-%m-%d}" if last == f"{first:%Y-%m-%d}" else f"{first:%Y-%m-%d} to {last}"
    return f"{days} UTC, {span}"


def _pairs(console: Console, rows: Sequence[tuple[str, str]]) -> None:
    table = _table(console, "", "", header=False)
    for name, value in rows:
        table.add_row(name, value)
    console.print(table)


def _facts_table(console: Console, facts: Mapping[str, Any]) -> None:
    jobs = f"{facts['jobs']:,}"
    if facts["rejected"]:
        jobs += f" of {facts['rows_read']:,} rows"
    hours = f"{_hours(facts['gpu_hours'])} GPU-hours"
    if facts["mean_gpus"] is not None:
        hours += f"; {facts['mean_gpus']:,.0f} GPUs busy on average if nothing waited"
    people = f"{facts['tenants']['count']:,}"
    if facts["users"]:
        people += f", with {facts['users']:,} users"
    _pairs(console, [("jobs", jobs), ("submitted", _span(facts)), ("demand", hours), ("tenants", people)])


def _shares(
    console: Console, title: str, rows: Sequence[Mapping[str, Any]], *, buckets: bool = False, note: str = ""
) -> None:
    """Jobs and GPU-hours by something, with a bar for each share."""
    from rich.text import Text

    if buckets and len(rows) > _MOST_COUNTS:
        rows = _powers(rows)
    width = max(6, min(24, (console.width - 60) // 2))
    table = _table(console, f"<{title}", ">jobs", ">share", "<", ">GPU-hours", ">share", "<")
    for row in rows:
        table.add_row(
            Text(clean(str(row["key"]), 24)),
            f"{row['jobs']:,}",
            _percent(row["jobs_share"]),
            _bar(console, row["jobs_share"], width),
            _hours(row["gpu_hours"]),
            _percent(row["gpu_hours_share"]),
            _bar(console, row["gpu_hours_share"], width),
        )
    console.print()
    console.print(table)
    if note:
        console.print(Text(f" {note}", style="dim"))


def _powers(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """GPU counts put together up to each power of two."""
    found: dict[int, dict[str, Any]] = {}
    for row in rows:
        top = 1 << (row["key"] - 1).bit_length()
        label = str(top) if top <= 2 else f"{top // 2 + 1}-{top}"
        into = found.setdefault(top, {"key": label})
        for name in ("jobs", "jobs_share", "gpu_hours", "gpu_hours_share"):
            into[name] = into.get(name, 0) + row[name]
    return list(found.values())


def _durations(console: Console, facts: Mapping[str, Any]) -> None:
    table = _table(console, "<run time", *(f">{name}" for name in facts["by_jobs"]))
    for label, key in (("of jobs", "by_jobs"), ("of GPU time", "by_gpu_time")):
        table.add_row(label, *(duration(value) for value in facts[key].values()))
    console.print()
    console.print(table)


def _arrivals(console: Console, facts: Mapping[str, Any]) -> None:
    from rich.text import Text

    hours, days = facts["by_hour"], facts["by_weekday"]
    where = f"hour, {facts['zone']}" if facts["zone"] else "hour from the start (no date known)"
    console.print(Text(f"\n arrivals by {where}", style="bold"))
    _hours_of_day(console, hours)
    if days:
        total = sum(days)
        line = "  ".join(f"{day} {n / total:.1%}" for day, n in zip(_DAYS, days, strict=True))
        console.print(Text(f" {line}"))


def _hours_of_day(console: Console, counts: Sequence[float]) -> None:
    from rich.text import Text

    bars = "".join(c * 2 + " " for c in _columns(console, counts))
    axis = "".join(f"{hour:<6}" for hour in range(0, 24, 2))
    console.print(Text(f" {bars}"), Text(f" {axis}", style="dim"), sep="\n")


def _columns(console: Console, values: Sequence[float]) -> str:
    """A character for each value, as high as its part of the largest."""
    levels, top = "▁▂▃▄▅▆▇█" if _is_unicode(console) else "_.:-=+*#", max(values)
    return "".join(levels[min(7, int(8 * n / top))] if n else " " for n in values)


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _table(console: Console, *columns: str, header: bool = True) -> Table:
    """A plain table; a column's name is preceded by < or > for its side."""
    from rich.table import Table

    table = Table(box=None, show_header=header, header_style="bold", padding=(0, 1, 0, 1), pad_edge=True)
    for column in columns:
        side, name = column[:1], column[1:]
        table.add_column(name, justify="right" if side == ">" else "left", no_wrap=side == ">")
    return table


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.0005 or share == 0 else "<0.1%"


def _hours(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _bar(console: Console, share: float, width: int) -> str:
    eighths = round(share * width * 8)
    if not _is_unicode(console):
        return "#" * round(share * width)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _is_unicode(console: Console) -> bool:
    return bool(console.encoding.lower().startswith("utf"))


def duration(seconds: float) -> str:
    for limit, size, unit in ((60, 1, "s"), (3600, 60, "m"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86400:,.3g} d" if seconds < 86_400_000 else f"{seconds / 86400:,.0f} d"


def size(path: Path) -> str:
    """How large a file is."""
    count = path.stat().st_size
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"


def clean(text: str, width: int = 400) -> str:
    """Text of a file fit for a terminal: no control characters, not endless."""
    text = "".join(c if c.isprintable() else "\ufffd" for c in text)
    return text if len(text) <= width else f"{text[: width - 3]}..."
