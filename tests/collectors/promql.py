"""As much of PromQL as the dashboards use: parsed, checked against a catalogue, and evaluated at one instant.

Vectors are mappings from a set of labels to a value, in order. What is not understood raises ``ValueError``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, float]

TOKEN = re.compile(
    r'\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<word>[a-zA-Z_:][\w:]*)|"(?P<text>[^"\\]*)"|(?P<op>=~|!~|!=|[={}(),*/+-]))'
)
BINARY = ({"and"}, {"+", "-"}, {"*", "/"})  # weakest first
ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b if b else inf if a > 0 else -inf if a < 0 else float("nan"),
}
MATCH: dict[str, Callable[[str, str], bool]] = {
    "=": lambda have, want: have == want,
    "!=": lambda have, want: have != want,
    "=~": lambda have, want: re.fullmatch(want, have) is not None,
    "!~": lambda have, want: re.fullmatch(want, have) is None,
}


@dataclass(frozen=True)
class Node:
    """A part of an expression: ``number``, ``text``, ``select``, ``call``, ``sum`` or a binary operator."""

    kind: str
    name: str = ""
    args: tuple[Node, ...] = ()
    labels: tuple[str, ...] | None = None  # of by (...) or on (...)
    matchers: tuple[tuple[str, str, str], ...] = ()

    def walk(self) -> Iterable[Node]:
        yield self
        for arg in self.args:
            yield from arg.walk()


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        at = 0
        text = text.rstrip()
        while at < len(text):
            match = TOKEN.match(text, at)
            if not match:
                raise ValueError(f"not understood: {text[at:]!r}")
            self.tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
            at = match.end()
        self.tokens.append(("end", ""))

    def take(self, *wanted: str) -> str:
        kind, value = self.tokens[0]
        if value not in wanted if kind == "op" else kind not in wanted:
            raise ValueError(f"{value!r} where {' or '.join(wanted)} was due")
        self.tokens.pop(0)
        return value

    def at(self, *values: str) -> bool:
        return self.tokens[0][0] != "text" and self.tokens[0][1] in values

    def items(self, opening: str, closing: str, item: Callable[[], object]) -> list[object]:
        self.take(opening)
        found = []
        while not self.at(closing):
            found.append(item())
            if not self.at(closing):
                self.take(",")
        self.take(closing)
        return found

    def names(self) -> tuple[str, ...]:
        return tuple(map(str, self.items("(", ")", lambda: self.take("word"))))

    def expression(self, level: int = 0) -> Node:
        if level == len(BINARY):
            return self.operand()
        left = self.expression(level + 1)
        while self.at(*BINARY[level]):
            name = self.tokens.pop(0)[1]
            labels = None
            if self.at("on"):
                self.take("word")
                labels = self.names()
            left = Node("binary", name, (left, self.expression(level + 1)), labels)
        return left

    def operand(self) -> Node:
        kind, value = self.tokens[0]
        if kind in ("number", "text"):
            self.take(kind)
            return Node(kind, value)
        if self.at("("):
            self.take("(")
            inside = self.expression()
            self.take(")")
            return inside
        name = self.take("word")
        if name == "sum":
            labels: tuple[str, ...] = ()
            if self.at("by"):
                self.take("word")
                labels = self.names()
            return Node("sum", name, self.arguments(), labels)
        if self.at("("):
            return Node("call", name, self.arguments())
        matchers = self.items("{", "}", self.matcher) if self.at("{") else []
        return Node("select", name, matchers=tuple(matchers))  # type: ignore[arg-type]

    def arguments(self) -> tuple[Node, ...]:
        return tuple(self.items("(", ")", self.expression))  # type: ignore[arg-type]

    def matcher(self) -> tuple[str, str, str]:
        return self.take("word"), self.take(*MATCH), self.take("text")


def parse(text: str) -> Node:
    """The tree of an expression, its Grafana variables filled in."""
    parser = _Parser(text)
    node = parser.expression()
    parser.take("end")
    return node


def check(node: Node, series: Mapping[str, Sequence[str]]) -> set[str]:
    """Labels the result can have; ``ValueError`` for a metric or label that *series* does not know."""

    def known(labels: Iterable[str], there: set[str]) -> set[str]:
        if missing := set(labels) - there:
            raise ValueError(f"{node.name}: no label {', '.join(sorted(missing))}")
        return set(labels)

    args = [check(arg, series) for arg in node.args]
    if node.kind in ("number", "text"):
        return set()
    if node.kind == "select":
        if node.name not in series:
            raise ValueError(f"no metric {node.name}")
        known((label for label, _, _ in node.matchers), set(series[node.name]))
        return set(series[node.name])
    if node.kind == "sum":
        return known(node.labels or (), args[0])
    if node.kind == "call":
        if node.name == "label_join":
            known((arg.name for arg in node.args[3:]), args[0])
            return args[0] | {node.args[1].name}
        if node.name == "histogram_quantile":
            return args[1] - known(["le"], args[1])
        if node.name in ("topk", "sort_desc"):
            return args[-1]
        raise ValueError(f"no function {node.name}")
    vectors = [a for arg, a in zip(node.args, args, strict=True) if arg.kind != "number"]
    if node.labels is not None:
        for labels in args:
            known(node.labels, labels)
    elif len(vectors) == 2 and args[0] != args[1]:
        raise ValueError(
            f"{node.name}: sides with labels {sorted(args[0])} and {sorted(args[1])} never match"
        )
    if len(vectors) == 2 and node.labels is not None and node.name != "and":
        return set(node.labels)
    return vectors[0] if vectors else set()


def evaluate(node: Node, samples: Sequence[tuple[str, Mapping[str, str], float]]) -> Vector | float:
    """The value of an expression over *samples*: name, labels and value of every series."""
    if node.kind == "number":
        return float(node.name)
    if node.kind == "select":
        return {
            frozenset(labels.items()): value
            for name, labels, value in samples
            if name == node.name
            and all(MATCH[op](labels.get(label, ""), want) for label, op, want in node.matchers)
        }
    if node.kind == "sum":
        added: Vector = {}
        for labels, value in _vector(node.args[0], samples).items():
            kept = _only(labels, node.labels or ())
            added[kept] = added.get(kept, 0.0) + value
        return added
    if node.kind == "call":
        return _call(node, samples)
    left, right = (evaluate(arg, samples) for arg in node.args)
    operate = ARITHMETIC.get(node.name)
    if operate is None:
        assert isinstance(left, dict) and isinstance(right, dict)
        there = {_key(labels, node.labels) for labels in right}
        return {labels: value for labels, value in left.items() if _key(labels, node.labels) in there}
    if isinstance(left, dict) and isinstance(right, dict):
        others = {_key(labels, node.labels): value for labels, value in right.items()}
        mine = {_key(labels, node.labels): value for labels, value in left.items()}
        if len(others) < len(right) or len(mine) < len(left):
            raise ValueError(f"{node.name}: many-to-many matching")
        return {key: operate(value, others[key]) for key, value in mine.items() if key in others}
    if isinstance(left, dict):
        assert isinstance(right, float)
        return {labels: operate(value, right) for labels, value in left.items()}
    raise ValueError(f"{node.name}: a number on the left is not supported")


def _call(node: Node, samples: Sequence[tuple[str, Mapping[str, str], float]]) -> Vector:
    if node.name == "label_join":
        _, to, separator, *sources = (arg.name for arg in node.args)
        return {
            frozenset(
                {**dict(labels), to: separator.join(dict(labels).get(s, "") for s in sources)}.items()
            ): v
            for labels, v in _vector(node.args[0], samples).items()
        }
    values = _vector(node.args[-1], samples)
    if node.name == "histogram_quantile":
        buckets: dict[Labels, list[tuple[float, float]]] = {}
        for labels, count in values.items():
            rest = frozenset(pair for pair in labels if pair[0] != "le")
            buckets.setdefault(rest, []).append((float(dict(labels)["le"]), count))
        return {labels: _quantile(float(node.args[0].name), sorted(b)) for labels, b in buckets.items()}
    ordered = sorted(values.items(), key=lambda item: -item[1])
    return dict(ordered[: int(node.args[0].name)] if node.name == "topk" else ordered)


def _quantile(level: float, buckets: list[tuple[float, float]]) -> float:
    """As Prometheus does: linear within the bucket that holds the rank; its lower bound in the last one."""
    rank = level * buckets[-1][1]
    i = next(i for i, (_, count) in enumerate(buckets) if count >= rank)
    bound, count = buckets[i]
    if i == len(buckets) - 1:
        return buckets[-2][0]
    if i == 0:
        return bound if bound <= 0 else bound * rank / count
    start, before = buckets[i - 1]
    return start + (bound - start) * (rank - before) / (count - before)


def _vector(node: Node, samples: Sequence[tuple[str, Mapping[str, str], float]]) -> Vector:
    value = evaluate(node, samples)
    if not isinstance(value, dict):
        raise ValueError(f"{node.name} is a number where a vector was due")
    return value


def _only(labels: Labels, names: Iterable[str]) -> Labels:
    return frozenset(pair for pair in labels if pair[0] in set(names))


def _key(labels: Labels, names: tuple[str, ...] | None) -> Labels:
    return labels if names is None else _only(labels, names)
