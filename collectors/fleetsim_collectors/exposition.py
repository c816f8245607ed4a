"""Prometheus text format 0.0.4, written from samples.

HELP and TYPE come once per family, families by name and samples by label values, so the text does not depend
on the order in which samples come in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from math import inf, isnan

from fleetsim_collectors.catalogue import Family, Histogram, Sample

#: What an HTTP server must call this text; Prometheus 3 refuses a page without it.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def render(samples: Iterable[Sample]) -> Iterator[str]:
    """The text of *samples*, one family at a time; join the pieces for the whole page.

    A family without samples is not mentioned. Raises ``ValueError``, with family and labels, for what a
    server would refuse or misread: a set of labels given twice, or not as many values as labels; a counter or
    a histogram that is negative, infinite or not a number; two definitions under one name.
    """
    grouped: dict[str, tuple[Family, list[tuple[tuple[str, ...], float | Histogram]]]] = {}
    for family, labels, value in samples:
        known, rows = grouped.setdefault(family.name, (family, []))
        if known is not family and known != family:
            raise ValueError(f"{family.name} is defined twice, differently")
        rows.append((tuple(["" if v is None else str(v) for v in labels]), value))
    for _, (family, rows) in sorted(grouped.items()):
        rows.sort(key=lambda row: row[0])
        yield "".join(_family(family, rows))


def number(value: float) -> str:
    """*value* in the fewest digits that read back as the same float64.

    >>> number(3), number(0.1), number(1e21), number(float("-inf")), number(float("nan"))
    ('3', '0.1', '1e+21', '-Inf', 'NaN')
    """
    value = float(value)
    if isnan(value):
        return "NaN"
    if value in (inf, -inf):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value).removesuffix(".0")


@lru_cache(maxsize=1 << 16)
def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _family(family: Family, rows: list[tuple[tuple[str, ...], float | Histogram]]) -> Iterator[str]:
    name, kind = family.name, family.kind
    text = family.help.replace("\\", "\\\\").replace("\n", "\\n")
    yield f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
    openings = [f'{label}="' for label in family.labels]
    bounds = [f'le="{number(bound)}"' for bound in (*family.buckets, inf)]
    before: tuple[str, ...] | None = None
    for labels, value in rows:
        if labels == before or len(labels) != len(openings):
            what = "given twice" if labels == before else f"not values of {family.labels}"
            raise ValueError(f"{name}: labels {labels} are {what}")
        before = labels
        block = ",".join([f'{o}{_escaped(v)}"' for o, v in zip(openings, labels, strict=True) if v])
        if isinstance(value, Histogram):
            if kind != "histogram" or not _sound(value, len(bounds)):
                raise ValueError(f"{name}{labels}: {value} is no value of a {kind} of {len(bounds)} buckets")
            start = f"{name}_bucket{{{block}," if block else f"{name}_bucket{{"
            for bound, count in zip(bounds, value.counts, strict=True):
                yield f"{start}{bound}}} {count}\n"
            block = f"{{{block}}}" if block else ""
            yield f"{name}_sum{block} {number(value.sum)}\n{name}_count{block} {value.counts[-1]}\n"
            continue
        if kind == "histogram" or (kind == "counter" and not 0 <= value < inf):
            raise ValueError(f"{name}{labels}: {value} is no value of a {kind}")
        yield f"{name}{{{block}}} {number(value)}\n" if block else f"{name} {number(value)}\n"


def _sound(value: Histogram, buckets: int) -> bool:
    counts = value.counts
    ascending = all(0 <= a <= b for a, b in zip((0, *counts), counts, strict=False))
    return len(counts) == buckets and ascending and 0 <= value.sum < inf
