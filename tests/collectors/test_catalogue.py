"""The catalogue says everything once, and the reference table says what the catalogue says."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import fleetsim_collectors
from fleetsim_collectors.catalogue import LABELS, RUN_FAMILIES, Family, markdown, samples

README = Path(__file__).parents[2] / "collectors" / "README.md"
BEGIN, END = "<!-- families: made from the catalogue, begin -->\n", "<!-- families: end -->"

#: Words of base units (Prometheus) that a name may end in, and of the things counted.
UNITS = {"1": "info", "s": "seconds", "J": "joules", "ratio": "ratio", "GPU h": "gpu_hours"}


def test_every_row_says_what_it_is() -> None:
    assert len({f.name for f in RUN_FAMILIES}) == len(RUN_FAMILIES) >= 15
    for family in RUN_FAMILIES:
        assert family.name.startswith("fleetsim_") and family.unit.strip()
        assert family.help[0].isupper() or family.help.startswith("GPU")
        assert len(family.help) > 20 and family.help.endswith(".")
        assert family.labels[0] == "run", "runs must be told apart"
        assert (family.kind == "counter") == family.name.endswith("_total")
        if family.unit in UNITS:
            assert family.name.removesuffix("_total").endswith(UNITS[family.unit])
    used = {label for f in RUN_FAMILIES for labels in f.series.values() for label in labels}
    assert used == set(LABELS) and all(LABELS.values())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"name": "9gpus"}, "'9gpus' is not a metric name"),
        ({"labels": ("a-b",)}, "'a-b' is not a label name"),
        ({"labels": ("__name__",)}, "'__name__' is not a label name"),
        ({"labels": ("a", "a")}, "given twice"),
        ({"kind": "histogram"}, "a histogram has buckets"),
        ({"buckets": (1.0,)}, "a histogram has buckets"),
        ({"kind": "histogram", "buckets": (1.0,), "labels": ("le",)}, "no label le"),
        ({"kind": "histogram", "buckets": (2.0, 1.0)}, "do not ascend"),
        ({"kind": "histogram", "buckets": (1.0, float("inf"))}, "not finite"),
    ],
)
def test_faulty_rows_are_refused(change: dict[str, Any], complaint: str) -> None:
    sound: dict[str, Any] = {
        "name": "x",
        "unit": "s",
        "kind": "gauge",
        "help": "h",
        "labels": (),
        "source": "t",
        "value": "v",
    }
    assert Family(**sound).series == {"x": ()}
    with pytest.raises(ValueError, match=complaint):
        Family(**{**sound, **change})


def test_samples_leave_out_what_is_not_known() -> None:
    family = Family("x", "s", "gauge", "h", ("a",), "t", "v")
    rows: list[dict[str, Any]] = [{"a": "p", "v": 0.0}, {"a": "q", "v": None}]
    assert list(samples([family], {"t": rows})) == [(family, ("p",), 0.0)]
    with pytest.raises(KeyError, match="'t'"):
        list(samples([family], {}))


def test_histogram_series() -> None:
    family = Family("w", "s", "histogram", "h", ("a",), "t", "v", (1.0,))
    assert family.series == {"w_bucket": ("a", "le"), "w_sum": ("a",), "w_count": ("a",)}


def test_golden_reference_table(request: pytest.FixtureRequest) -> None:
    text = README.read_text("utf-8")
    head, _, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    assert rest and end, "the markers of the table are gone"
    wanted = f"{head}{BEGIN}{markdown()}{END}{tail}"
    if request.config.getoption("--update-golden"):
        README.write_text(wanted, "utf-8")
    assert README.read_text("utf-8") == wanted, "out of date: run pytest with --update-golden"


#: What is imported when it is needed, by modules that no agent on a GPU node uses.
LAZY = {"remote_write.py": {"numpy"}}


def test_package_needs_nothing_but_the_standard_library() -> None:
    modules = list(Path(fleetsim_collectors.__file__).parent.glob("**/*.py"))
    assert len(modules) >= 3
    for module in modules:
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for top in (re.match(r"\w*", name)[0] for name in names):  # type: ignore[index]
                own = {"fleetsim_collectors", *LAZY.get(module.name, ())}
                assert top in sys.stdlib_module_names or top in own, f"{module}: {top}"
