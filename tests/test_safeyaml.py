"""Reading YAML of strangers: what is text, what a number, and what is refused with which line."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetsim import safeyaml
from fleetsim.errors import InputError, Problem
from fleetsim.safeyaml import load_located, load_yaml, read_text, suggest


@pytest.fixture(params=["libyaml", "python"], autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs with both parsers: not every machine has libyaml."""
    if request.param == "libyaml" and not yaml.__with_libyaml__:
        pytest.skip("PyYAML without libyaml")
    loader = yaml.CSafeLoader if request.param == "libyaml" else yaml.SafeLoader
    monkeypatch.setattr(safeyaml, "_LOADER", loader)


def problems(text: str) -> tuple[Problem, ...]:
    with pytest.raises(InputError) as caught:
        load_yaml(text, "f.yaml")
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("-7", -7),
        ("0", 0),
        ("1e6", 1e6),  # a string in YAML 1.1
        ("50e6", 50e6),
        ("1.5e-3", 0.0015),
        ("6214.0e9", 6.214e12),
        (".5", 0.5),
        ("3.", 3.0),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("on", "on"),
        ("no", "no"),
        ("Yes", "Yes"),
        ("12:30", "12:30"),  # 750 in YAML 1.1
        ("12:30:45", "12:30:45"),
        ("017", "017"),  # 15 in YAML 1.1
        ("012e4", "012e4"),
        ("0x1f", "0x1f"),
        ("1_000", "1_000"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("2024-01-31", "2024-01-31"),
        ("1.2.3", "1.2.3"),
        ("ee9e8c", "ee9e8c"),
        ("'12'", "12"),
        ('"true"', "true"),
        ("'6214e9'", "6214e9"),
        ("''", ""),
        ("|\n  12\n", "12\n"),
    ],
)
def test_what_a_value_means(text: str, value: Any) -> None:
    found = load_yaml(f"key: {text}", "f.yaml")
    assert found == {"key": value}
    assert repr(found) == repr({"key": value})  # 1 is not 1.0, nor True


def test_keys_are_text_as_written() -> None:
    document = "on: 1\n6214e9: 2\n103959: 3\ntrue: 4\n~: 5\n2024-01-01: 6\n'': 7\n"
    keys = ["on", "6214e9", "103959", "true", "~", "2024-01-01", ""]
    assert load_yaml(document, "f.yaml") == dict(zip(keys, range(1, 8), strict=True))


def test_a_tree_and_where_its_values_stand() -> None:
    text = "name: x\nfleet:\n  - {gpu: t4, nodes: 3}\n  - []\n"
    value, places = load_located(text, "f.yaml")
    assert value == {"name": "x", "fleet": [{"gpu": "t4", "nodes": 3}, []]}
    assert places == {
        (): "f.yaml:1:1",
        ("name",): "f.yaml:1:7",
        ("fleet",): "f.yaml:3:3",
        ("fleet", 0): "f.yaml:3:5",
        ("fleet", 0, "gpu"): "f.yaml:3:11",
        ("fleet", 0, "nodes"): "f.yaml:3:22",
        ("fleet", 1): "f.yaml:4:5",
    }
    assert load_yaml("", "f.yaml") is None
    assert load_yaml("# nothing\n", "f.yaml") is None


TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc", min_size=1), inner),
    max_leaves=20,
)
PER_PARSER = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100
)


@PER_PARSER
@given(TREES)
def test_json_is_read_as_json(tree: object) -> None:
    assert repr(load_yaml(json.dumps(tree, indent=1), "f.json")) == repr(tree)


@PER_PARSER
@given(st.text("-:[]{},&*!'\"#|>%@?~ \n\tab01e.\\", max_size=40) | st.text(max_size=40))
def test_junk_is_read_or_refused_but_never_crashes(text: str) -> None:
    with contextlib.suppress(InputError):
        load_yaml(text, "f.yaml")


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a: {b: 1", "f.yaml:", "not YAML"),
        ("a:\n\t- b", "f.yaml:2:1", "not YAML"),
        ("a: b: c", "f.yaml:1:5", "not YAML"),
        ("a: @home", "f.yaml:1:4", "not YAML"),
        ("a: 1\nb: 2\na: 3", "f.yaml:3:1", "key 'a' for the second time"),
        ("x: {a: 1, 'a': 2}", "f.yaml:1:11", "key 'a' for the second time"),
        ("a: &name 1", "f.yaml:1:4", "anchor or alias 'name'"),
        ("a: *name", "f.yaml:1:4", "anchor or alias 'name'"),
        ("a: !!python/object/apply:os.system [ls]", "f.yaml:1:4", "python/object/apply:os.system'"),
        ("a: !secret x", "f.yaml:1:4", "tag '!secret'"),
        ("? [a]\n: 1", "f.yaml:1:3", "a key that is not text"),
        ("--- 1\n--- 2", "f.yaml:2:1", "a second document"),
        ("vc: 6214e9", "f.yaml:1:5", "'6214e9' may be a number or an identifier"),
        ("a: 1e999", "f.yaml:1:4", "'1e999' is too large a number"),
        ("a: 1234567890123456789", "f.yaml:1:4", "integer of 19 digits"),
        ("a: 1\nb: \x00", "f.yaml:2", r"character '\x00'"),
        ("a: \x1b[31m", "f.yaml:1", r"character '\x1b'"),
        ("a: \ud800", "f.yaml:1", r"character '\ud800'"),
        ("[" * 5000, "f.yaml:1:51", "nested deeper than 50 levels"),
        ("- " * 5000 + "a", "f.yaml:1:101", "nested deeper than 50 levels"),
    ],
)
def test_refused_with_the_place_and_a_remedy(text: str, place: str, message: str) -> None:
    (problem,) = problems(text)
    assert problem.place.startswith(place)
    assert message in problem.message
    assert problem.remedy


def test_half_a_character_is_refused() -> None:
    for text in (
        r'a: "\ud800"',
        r'"\ud83d\ude00": 1',
    ):  # what JSON writers make of a character beyond 16 bits
        (problem,) = problems(text)
        assert problem.place.startswith("f.yaml:1:")


def test_depth_is_allowed_up_to_the_limit() -> None:
    depth = safeyaml.MAX_DEPTH
    value = load_yaml("[" * depth + "]" * depth, "f.yaml")
    for _ in range(depth - 1):
        assert isinstance(value, list)
        (value,) = value
    assert value == []


def test_every_fault_is_reported_in_order() -> None:
    found = problems("a: &x 1\nb: *x\na: 2\nc: 1e999\n")
    assert [problem.place for problem in found] == ["f.yaml:1:4", "f.yaml:2:4", "f.yaml:3:1", "f.yaml:4:4"]


def test_a_very_broken_file_is_reported_up_to_a_limit() -> None:
    assert len(problems("a: 1\n" * 1000)) == safeyaml.MAX_PROBLEMS


def test_billion_laughs_never_expand() -> None:
    lines = ["a0: &a0 [lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]  # 10^29 if expanded
    found = problems("\n".join(lines))
    assert len(found) == safeyaml.MAX_PROBLEMS
    assert found[0] == Problem(
        "f.yaml:1:5", "anchor or alias 'a0'", "Write the value out where it is needed."
    )


def test_size_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (problem,) = problems("#" * (safeyaml.MAX_BYTES + 1))
    assert problem.message == "more than 10 MB of YAML"
    path = tmp_path / "large.yaml"
    path.write_bytes(b"#" * (safeyaml.MAX_BYTES + 1))
    with pytest.raises(InputError, match="more than 10 MB"):
        read_text(path)
    monkeypatch.setattr(safeyaml, "MAX_BYTES", 10)
    assert load_yaml("k: ééé1", "f.yaml") == {"k": "ééé1"}  # 3 + 3 * 2 + 1 bytes
    assert "more than" in problems("k: ééé12")[0].message


def test_messages_do_not_repeat_a_whole_file() -> None:
    key = "k" * 100_000
    (problem,) = problems(f"? {key}\n: 1\n? {key}\n: 2")
    assert len(problem.message) < 100


def test_reading_a_file(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: caf\xc3\xa9\r\n")  # byte order mark, UTF-8, Windows line end
    assert load_yaml(read_text(path), "f.yaml") == {"name": "café"}
    path.write_bytes(b"name: ok\nother: \xff\xfe\x00junk")
    with pytest.raises(InputError) as caught:
        read_text(path)
    (problem,) = caught.value.problems
    assert problem == Problem(f"{path}:2", "byte 0xff is not UTF-8 text", "Save as UTF-8.")
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "absent.yaml")


def test_suggest() -> None:
    models = ["a100-sxm-80", "h100-pcie-80", "h100-sxm-80", "t4"]
    assert suggest("H100", models) == "Did you mean h100-pcie-80 or h100-sxm-80? "
    assert suggest("a100-smx-80", models).startswith("Did you mean a100-sxm-80")
    assert suggest("zzz", models) == ""
    assert suggest("", models) == ""
