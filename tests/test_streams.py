"""Random draws: one stream per cause, that nothing else can shift, the same on every machine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetsim.streams import stream

CAUSES: list[tuple[str | int, ...]] = [
    ("load", "w", 0),
    ("load", "w", 1),
    ("load", "v", 0),
    ("loa", "dw", 0),
    ("copies", "w", 0),
    ("load", "w"),
    ("load",),
    (),
]


@pytest.mark.parametrize(
    ("seed", "cause", "draws"),
    [
        (0, ("load", "w", 0), [0.7947825828647574, 0.28971091285806205, 0.8877950927639594]),
        (7, ("load", "w", 0), [0.39388101628010685, 0.8067444811123063, 0.9029712428884765]),
        (7, ("copies", "w", 3), [0.7715093568699359, 0.264063142537588, 0.6077172870061662]),
        (2**63 - 1, ("generate", "philly"), [0.35886623203791923, 0.592905320077126, 0.3543704743644588]),
    ],
)
def test_the_draws_of_a_release_are_those_of_the_next(
    seed: int, cause: tuple[str | int, ...], draws: list[float]
) -> None:
    """Pinned: a change here changes the results of every scenario that draws, and is a change of version."""
    assert stream(seed, *cause).random(3).tolist() == draws


@given(st.integers(0, 2**63 - 1), st.lists(st.text(max_size=5) | st.integers(0, 99), max_size=4))
def test_a_seed_and_a_cause_are_all_that_counts(seed: int, cause: list[str | int]) -> None:
    other = stream(seed, "another", "cause")
    other.random(100)  # what others draw shifts nothing
    assert np.array_equal(stream(seed, *cause).random(4), stream(seed, *cause).random(4))


def test_every_cause_and_every_seed_has_its_own_draws() -> None:
    """Also where the parts of the names run together: ("loa", "dw") is not ("load", "w")."""
    first = {stream(seed, *cause).random() for seed in (0, 1, 2**40) for cause in CAUSES}
    assert len(first) == 3 * len(CAUSES)


def test_streams_are_independent() -> None:
    """20,000 uniform draws of each cause: means of 1/2 and no correlation, within five deviations."""
    count = 20_000
    draws = np.array([stream(3, *cause).random(count) for cause in CAUSES])
    assert np.abs(draws.mean(axis=1) - 0.5).max() < 5 * np.sqrt(1 / 12 / count)
    correlation = np.corrcoef(draws) - np.eye(len(CAUSES))
    assert np.abs(correlation).max() < 5 / np.sqrt(count)


def test_consecutive_seeds_are_independent() -> None:
    """Replications take seeds 0, 1, 2 ...: no correlation between them, within five deviations."""
    count = 5_000
    correlation = np.corrcoef([stream(seed, "load", "w").random(count) for seed in range(30)])
    assert np.abs(correlation - np.eye(30)).max() < 5 / np.sqrt(count)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError):
        stream(-1, "load")
