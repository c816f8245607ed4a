"""Multi-Instance GPU (MIG): the profiles each GPU model has, and where on the GPU an instance may lie.

A GPU in MIG mode is cut into *memory slices* (8; the A30 has 4) and *compute slices* (7; the A30 has 4). A
profile such as ``3g.20gb`` takes 3 compute slices and some neighbouring memory slices, and may begin only at
the memory slices listed for it; two instances must not overlap in memory slices. The positions are so
chosen that the compute slices of instances which do not overlap are never too many.

Figures: NVIDIA, "Multi-Instance GPU User Guide", chapters "Supported MIG Profiles" (names, slices) and
"Getting Started with MIG" (positions as ``nvidia-smi mig -lgipp`` prints them, e.g. ``{0,4}:4`` for 3g); for
the GB200, the names in the default configuration of NVIDIA's GPU Operator. Profiles with media engines
(``+me``) are left out: they lie where the plain ones do, and engines are not modelled. MIG mode itself
changes only on a GPU without instances and without other work.

Positions in use are a bit mask of memory slices, bit 0 the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from fleetsim.errors import InputError, Problem
from fleetsim.safeyaml import show, suggest

__all__ = ["PROFILES", "Profile", "find_profile", "moves", "open_positions", "share"]

OCCUPANCIES = 256
"""Bit masks of 8 memory slices."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What an instance takes of a GPU: compute and memory slices, its memory by name, where it may begin."""

    name: str
    compute: int
    memory_gb: int
    size: int  # memory slices
    starts: tuple[int, ...]  # first memory slice

    def mask(self, start: int) -> int:
        """Memory slices of an instance that begins at *start*."""
        return ((1 << self.size) - 1) << start

    def free_starts(self, used: int) -> list[int]:
        """Where an instance may begin on a GPU whose slices *used* are taken."""
        return [start for start in self.starts if not used & self.mask(start)]


def _profiles(gb: str, rows: tuple[tuple[int, int, tuple[int, ...]], ...]) -> tuple[Profile, ...]:
    return tuple(
        Profile(f"{compute}g.{memory}gb", compute, int(memory), size, starts)
        for memory, (compute, size, starts) in zip(gb.split(), rows, strict=True)
    )


#: Compute slices, memory slices, starts.
_OF_SEVEN = (
    (1, 1, (0, 1, 2, 3, 4, 5, 6)),
    (1, 2, (0, 2, 4, 6)),
    (2, 2, (0, 2, 4)),
    (3, 4, (0, 4)),
    (4, 4, (0,)),
    (7, 8, (0,)),
)
_OF_FOUR = ((1, 1, (0, 1, 2, 3)), (2, 2, (0, 2)), (4, 4, (0,)))

PROFILES: dict[str, tuple[Profile, ...]] = {
    "a30": _profiles("6 12 24", _OF_FOUR),
    "a100-sxm-40": _profiles("5 10 10 20 20 40", _OF_SEVEN),
    "a100-sxm-80": _profiles("10 20 20 40 40 80", _OF_SEVEN),
    "h100-pcie-80": _profiles("10 20 20 40 40 80", _OF_SEVEN),
    "h100-sxm-80": _profiles("10 20 20 40 40 80", _OF_SEVEN),
    "h200-sxm-141": _profiles("18 35 35 71 71 141", _OF_SEVEN),
    "b200-sxm-180": _profiles("23 45 45 90 90 180", _OF_SEVEN),
    "gb200-nvl72": _profiles("23 47 47 93 93 186", _OF_SEVEN),
}
"""Profiles by the model's id in the catalogue, smallest first."""


def find_profile(model_id: str, name: str, place: str) -> Profile:
    """The profile *name* of a GPU model; raises :class:`InputError` at *place*, with the profiles it has."""
    profiles = {profile.name: profile for profile in PROFILES.get(model_id, ())}
    if name in profiles:
        return profiles[name]
    if profiles:
        remedy = f"{suggest(name, profiles)}It has {', '.join(profiles)}."
    else:
        remedy = f"Models with MIG are {', '.join(PROFILES)}."
    raise InputError([Problem(place, f"GPU model {show(model_id)} has no MIG profile {show(name)}", remedy)])


def share(model_id: str, profile: Profile) -> float:
    """The part of a GPU that an instance counts for: its compute slices of all (7; A30: 4)."""
    return profile.compute / PROFILES[model_id][-1].compute


def open_positions(model_id: str, used: int) -> int:
    """In how many ways one more instance, of whatever profile, can be placed on a GPU."""
    return sum(len(profile.free_starts(used)) for profile in PROFILES[model_id])


@cache
def moves(model_id: str, name: str) -> tuple[tuple[int, int], ...]:
    """For every mask of memory slices in use: where an instance of *name* goes, and what that costs.

    Each is ``(start, open positions lost)``. The start is the legal one that leaves the most positions open,
    the lowest of several; it is -1 where none is legal, as it is for a profile that the model does not have.
    """
    profile = next((profile for profile in PROFILES.get(model_id, ()) if profile.name == name), None)
    best = []
    for used in range(OCCUPANCIES):
        lost = (
            [
                (open_positions(model_id, used) - open_positions(model_id, used | profile.mask(start)), start)
                for start in profile.free_starts(used)
            ]
            if profile
            else []
        )
        best.append((min(lost)[1], min(lost)[0]) if lost else (-1, 0))
    return tuple(best)
