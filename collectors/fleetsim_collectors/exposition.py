"""Prometheus text format 0.0.4, written from samples or from columns. HELP and TYPE come once per family.

:func:`render` sorts families by name and samples by label values, so that its text does not depend on the
order in which samples come in. :func:`render_columns` keeps the order it is given and is for many GPUs many
times: the labels of a GPU are formatted once and remembered, its numbers are formatted a column at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from math import inf, isnan
from typing import Any

from fleetsim_collectors.catalogue import Family, Histogram, Sample
from fleetsim_collectors.readings import Columns, plain

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


def render_columns(families: Iterable[Family], tables: Mapping[str, Columns]) -> Iterator[str]:
    """The text of *families* from columns: *tables* by name of the source, one piece a family, in that order.

    Labels are columns of the family's table too. A row whose value is None or not a number has no sample:
    absent is not zero; a family without samples is not mentioned. Raises ``KeyError`` if a table or column
    that the catalogue names is missing, and ``ValueError`` for a set of labels given twice and for columns of
    different lengths.
    """
    blocks: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for family in families:
        table, key = tables[family.source], (family.source, family.labels)
        values = plain(table[family.value])
        if key not in blocks:
            if family.labels:
                rows = zip(*[plain(table[label]) for label in family.labels], strict=True)
                blocks[key] = [label_block(family.labels, row) for row in rows]
            else:
                blocks[key] = [" "] * len(values)
            if len(set(blocks[key])) < len(blocks[key]):
                twice = Counter(blocks[key]).most_common(1)[0][0]
                raise ValueError(f"{family.name}: labels {twice.strip()} are given twice")
        if text := _column(family, blocks[key], values):
            yield text


@lru_cache(maxsize=1 << 17)  # five a GPU of both exporters: all of 25,000 GPUs
def label_block(names: tuple[str, ...], values: tuple[str | int | None, ...]) -> str:
    r"""Labels as they stand between the name and the value; None and the empty text are no label at all.

    >>> label_block(("gpu", "job", "note"), (0, None, 'a "b"'))
    '{gpu="0",note="a \\"b\\""} '
    """
    pairs = [(n, str(v)) for n, v in zip(names, values, strict=True) if v is not None and v != ""]
    inside = ",".join([f'{name}="{_escaped(value)}"' for name, value in pairs])
    return f"{{{inside}}} " if inside else " "


def _column(family: Family, blocks: list[str], values: list[Any]) -> str:
    if len(values) != len(blocks):
        raise ValueError(f"{family.name}: {len(values)} values for {len(blocks)} sets of labels")
    if None in values or isnan(sum(values)):
        known = [i for i, value in enumerate(values) if value is not None and value == value]
        blocks, values = [blocks[i] for i in known], [values[i] for i in known]
    if not values:
        return ""
    name = family.name
    numbers = map(family.of, values) if family.of else values
    texts = map(family.form.__mod__ if family.form else shortest, numbers)
    rows = f"\n{name}".join([block + text for block, text in zip(blocks, texts, strict=True)])
    return f"{_head(family)}{name}{rows}\n"


@lru_cache(maxsize=1 << 14)
def shortest(value: float) -> str:
    """*value* as Go's exporters write it: fewest digits, an exponent from a million on.

    >>> shortest(700), shortest(0.07), shortest(1.98e9), shortest(631.95), shortest(85520809984)
    ('700', '0.07', '1.98e+09', '631.95', '8.5520809984e+10')
    """
    text = number(value + 0.0)  # -0 is 0, which is the same to the cache
    if not 1e6 <= abs(value) < inf:
        return text
    digits = text.partition("e")[0].lstrip("-").replace(".", "").strip("0")
    return f"{value:.{len(digits) - 1}e}"


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
    text = text.encode("utf-8", "replace").decode()  # what cannot be sent must not stop the page
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _head(family: Family) -> str:
    text = family.help.replace("\\", "\\\\").replace("\n", "\\n")
    return f"# HELP {family.name} {text}\n# TYPE {family.name} {family.kind}\n"


def _family(family: Family, rows: list[tuple[tuple[str, ...], float | Histogram]]) -> Iterator[str]:
    name, kind = family.name, family.kind
    yield _head(family)
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
