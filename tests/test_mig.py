"""MIG: which instances fit on a GPU together, where the next one goes, what it counts for."""

from __future__ import annotations

import pytest

from fleetsim.catalog import load_catalog
from fleetsim.errors import InputError
from fleetsim.mig import PROFILES, find_profile, moves, open_positions, share

A100, A30 = "a100-sxm-40", "a30"
EIGHT = 8


def together(model: str, names: str, used: int = 0) -> bool:
    """Whether instances of all the profiles fit on one GPU, in some positions."""
    first, _, rest = names.partition(" ")
    if not first:
        return True
    profile = find_profile(model, first, "test")
    return any(together(model, rest, used | profile.mask(start)) for start in profile.free_starts(used))


@pytest.mark.parametrize(
    "names",
    [
        "7g.40gb",
        "4g.20gb 3g.20gb",
        "4g.20gb 2g.10gb 1g.5gb",
        "4g.20gb 1g.5gb 1g.5gb 1g.5gb",
        "3g.20gb 3g.20gb",
        "3g.20gb 2g.10gb 2g.10gb",
        "3g.20gb 2g.10gb 1g.5gb",
        "3g.20gb 1g.5gb 1g.5gb 1g.5gb 1g.5gb",
        "2g.10gb 2g.10gb 2g.10gb 1g.5gb",
        "2g.10gb 2g.10gb 2g.10gb 1g.10gb",
        "1g.10gb 1g.10gb 1g.10gb 1g.10gb",
        "1g.5gb 1g.5gb 1g.5gb 1g.5gb 1g.5gb 1g.5gb 1g.5gb",
        "1g.5gb 3g.20gb 1g.5gb 2g.10gb",
    ],
)
def test_sets_that_fit_on_an_a100(names: str) -> None:
    assert together(A100, names)


@pytest.mark.parametrize(
    "names",
    [
        "7g.40gb 1g.5gb",
        "4g.20gb 4g.20gb",
        "4g.20gb 3g.20gb 1g.5gb",
        "4g.20gb 2g.10gb 2g.10gb",
        "3g.20gb 3g.20gb 1g.5gb",
        "3g.20gb 2g.10gb 2g.10gb 1g.5gb",
        "2g.10gb 2g.10gb 2g.10gb 2g.10gb",
        "1g.10gb 1g.10gb 1g.10gb 1g.10gb 1g.5gb",
        "1g.5gb 1g.5gb 1g.5gb 1g.5gb 1g.5gb 1g.5gb 1g.5gb 1g.5gb",
    ],
)
def test_sets_that_do_not(names: str) -> None:
    assert not together(A100, names)


def test_an_a30_has_four_slices() -> None:
    assert together(A30, "2g.12gb 1g.6gb 1g.6gb")
    assert together(A30, "1g.6gb 1g.6gb 1g.6gb 1g.6gb")
    assert not together(A30, "2g.12gb 2g.12gb 1g.6gb")
    assert not together(A30, "4g.24gb 1g.6gb")


@pytest.mark.parametrize("model", PROFILES)
def test_no_layout_needs_more_compute_slices_than_there_are(model: str) -> None:
    """Memory slices decide what fits; every set of instances that do not overlap has compute enough."""
    most = {0: 0}  # memory slices in use -> the most compute slices that the instances may have
    for used in range(256):
        if used in most:
            for profile in PROFILES[model]:
                for start in profile.free_starts(used):
                    with_it = used | profile.mask(start)
                    most[with_it] = max(most.get(with_it, 0), most[used] + profile.compute)
    assert max(most.values()) == PROFILES[model][-1].compute


@pytest.mark.parametrize("model", PROFILES)
def test_profiles_agree_with_the_catalogue(model: str) -> None:
    gpu = load_catalog()[model]
    smallest, largest = PROFILES[model][0], PROFILES[model][-1]
    assert gpu.mig_max_instances == len(smallest.starts)
    assert largest.memory_gb == gpu.memory_gb
    assert share(model, largest) == 1
    assert share(model, smallest) == 1 / gpu.mig_max_instances
    for profile in PROFILES[model]:
        assert max(profile.starts) + profile.size <= EIGHT
        eighths = gpu.memory_gb * profile.size / largest.size
        assert profile.memory_gb == pytest.approx(eighths, rel=0.05)


def test_shares_are_of_compute_slices() -> None:
    assert share(A100, find_profile(A100, "3g.20gb", "t")) == 3 / 7
    assert share(A100, find_profile(A100, "1g.10gb", "t")) == 1 / 7
    assert share(A30, find_profile(A30, "2g.12gb", "t")) == 1 / 2
    assert find_profile("h200-sxm-141", "1g.35gb", "t").memory_gb == 35


def test_open_positions_of_an_empty_gpu() -> None:
    assert open_positions(A100, 0) == 7 + 4 + 3 + 2 + 1 + 1
    assert open_positions(A30, 0) == 4 + 2 + 1
    assert open_positions(A100, 0b11110000) == 4 + 2 + 2 + 1 + 1
    assert open_positions(A100, 255) == 0


@pytest.mark.parametrize(
    ("name", "used", "move"),
    [
        ("3g.20gb", 0, (4, 8)),  # leaves 4 x 1g, 2 x 1g.10gb, 2 x 2g, 3g and 4g of 18
        ("2g.10gb", 0, (4, 6)),
        ("1g.5gb", 0, (6, 4)),  # costs 1g, 1g.10gb, 3g and 7g
        ("1g.5gb", 0b01000000, (4, 3)),  # costs itself, a 1g.10gb and a 2g; 3g and 7g are gone
        ("1g.5gb", 0b01010000, (5, 1)),  # nothing else fits there any more
        ("4g.20gb", 0b11110000, (0, 10)),
        ("3g.20gb", 0b00010001, (-1, 0)),
        ("7g.40gb", 0b10000000, (-1, 0)),
    ],
)
def test_where_the_next_instance_goes(name: str, used: int, move: tuple[int, int]) -> None:
    assert moves(A100, name)[used] == move


def test_the_rule_keeps_room_that_the_first_position_would_not() -> None:
    """3g, then 2g twice: at the first free position 3g takes 0 to 3, and only one 2g is left."""
    used = {"rule": 0, "first": 0}
    for name, fits in (("3g.20gb", True), ("2g.10gb", True), ("2g.10gb", False)):
        profile = find_profile(A100, name, "t")
        used["rule"] |= profile.mask(moves(A100, name)[used["rule"]][0])
        assert bool(profile.free_starts(used["first"])) == fits
        if fits:
            used["first"] |= profile.mask(profile.free_starts(used["first"])[0])
    assert used["rule"] == 255


@pytest.mark.parametrize("model", PROFILES)
def test_no_other_position_would_leave_more_open(model: str) -> None:
    for profile in PROFILES[model]:
        for used, (start, lost) in enumerate(moves(model, profile.name)):
            left = [open_positions(model, used | profile.mask(at)) for at in profile.free_starts(used)]
            assert (start in profile.starts) == bool(left)
            if left:
                assert open_positions(model, used) - lost == max(left)
                assert start == profile.free_starts(used)[left.index(max(left))]


def test_a_profile_that_the_model_does_not_have() -> None:
    with pytest.raises(InputError, match=r"f\.yaml:3: .*'a30' has no MIG profile '3g\.20gb'") as caught:
        find_profile(A30, "3g.20gb", "f.yaml:3")
    assert "It has 1g.6gb, 2g.12gb, 4g.24gb." in str(caught.value)
    with pytest.raises(InputError, match="Models with MIG are a30, a100-sxm-40"):
        find_profile("t4", "1g.5gb", "f.yaml:3")
    assert set(moves(A30, "3g.20gb")) == {(-1, 0)}
