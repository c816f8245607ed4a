"""Which GPUs of its nodes an attempt holds, and what changes of each GPU when."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fleetsim.errors import InputError, Problem
from fleetsim.records import Floats, Ints

#: What a GPU is in, by code. In set-up a process holds it and no kernel runs.
OFF, IDLE, SETUP, WORK = range(4)

#: Which of several changes at one time holds: a later one here. A job's end, going down, coming up, a start.
_ENDS, _FALLS, _RISES, _STARTS = range(4)

#: By how much an attempt may seem to begin before another has ended: rounding of sums of times, s.
ROUNDING_S = 1e-6


@dataclass(frozen=True)
class Changes:
    """Changes of many things, those of each in order of time: of thing g, ``first[g]`` to ``first[g +
    1]``."""

    first: Ints
    time_s: Floats

    @classmethod
    def of(cls, things: int, thing: Ints, time_s: Floats) -> Changes:
        """*thing* says of each change what changes; it ascends, and so do the times of each."""
        return cls(np.searchsorted(thing, np.arange(things + 1)), time_s)

    def at(self, time_s: Floats) -> Ints:
        """The latest change of each thing at each of ascending times, one row a time; -1 if there is none."""
        things = len(self.first) - 1
        index = np.empty((len(time_s), things), np.int64)
        if not len(time_s):
            return index
        index[:] = before = self._latest(time_s[0])
        if len(time_s) > 1 and (more := self._latest(time_s[-1]) - before).any():
            thing = np.repeat(np.arange(things), more)
            nth = np.arange(len(thing)) - np.repeat(np.cumsum(more) - more, more)
            change = before[thing] + 1 + nth
            row = np.searchsorted(time_s, self.time_s[change], "left")
            come = np.bincount(row * things + thing, minlength=index.size).reshape(index.shape)
            index += np.cumsum(come, axis=0)
        return np.where(index < self.first[:-1], -1, index)

    def _latest(self, time_s: float) -> Ints:
        """The last change of each thing up to *time_s*; the one before its first if there is none."""
        low, high = self.first[:-1] - 1, self.first[1:] - 1
        while (open_ := low < high).any():
            middle = (low + high + 1) // 2
            past = open_ & (self.time_s[middle] <= time_s)
            low, high = np.where(past, middle, low), np.where(open_ & ~past, middle - 1, high)
        return low


def place(
    node: Ints,
    start_s: Floats,
    end_s: Floats,
    gpus: Ints,
    follows: Ints,
    gpus_of: Sequence[int],
    where: str,
) -> tuple[Ints, Ints]:
    """Give each attempt GPUs of its node: the lowest indexes that are free, in order of start.

    Attempts are in order of node and start. *follows* is the attempt that one only continues, whose GPUs it
    keeps, else -1. An attempt that ends frees its GPUs for one that starts then. Returns, for every GPU of
    every attempt, the attempt and the index in the node. Raises :class:`InputError` naming *where* if a node
    has not so many GPUs.
    """
    masks = [0] * len(node)
    indexes: dict[int, tuple[int, ...]] = {}
    found: list[int] = []
    free, at, ends = 0, -1, list[tuple[float, int]]()
    rows = zip(node.tolist(), start_s.tolist(), end_s.tolist(), gpus.tolist(), follows.tolist(), strict=True)
    for row, (n, start, end, count, earlier) in enumerate(rows):
        if n != at:
            at, free, ends = n, (1 << gpus_of[n]) - 1, []
        while ends and ends[0][0] <= start:
            free |= heapq.heappop(ends)[1]
        while free.bit_count() < count and ends and ends[0][0] <= start + ROUNDING_S:
            free |= heapq.heappop(ends)[1]
        if free.bit_count() < count:
            fault = f"gives out more than the {gpus_of[n]} GPUs of a node after {start:g} s"
            raise InputError([Problem(where, fault, "The folder is damaged: run the scenario again.")])
        mask = masks[earlier] if earlier >= 0 else 0
        if mask.bit_count() != count or mask & ~free:
            mask = 0
            for _ in range(count):
                lowest = free & -free
                mask |= lowest
                free ^= lowest
        else:
            free &= ~mask
        masks[row] = mask
        heapq.heappush(ends, (end, mask))
        if mask not in indexes:
            indexes[mask] = tuple(i for i in range(mask.bit_length()) if mask >> i & 1)
        found.extend(indexes[mask])
    return np.repeat(np.arange(len(node)), gpus), np.array(found, np.int64)


@dataclass(frozen=True)
class Spells:
    """Times in which a GPU is in one state, all of one GPU after another.

    ``state`` is one of OFF to WORK; ``attempt`` holds the GPU, else -1; ``boots`` where a node came up.
    """

    changes: Changes
    gpu: Ints
    end_s: Floats
    state: Ints
    attempt: Ints
    boots: Ints

    @property
    def start_s(self) -> Floats:
        """When each begins."""
        return self.changes.time_s


def spells(
    gpus: int,
    up: tuple[Ints, Floats, Floats],
    held: tuple[Ints, Floats, Floats, Floats, Ints],
    end_s: float,
) -> Spells:
    """What each of *gpus* GPUs is in when, until *end_s*.

    *up* are the times in which GPUs are in service: GPU, start and end (infinite if it never ends). *held*
    are those in which attempts hold them: GPU, start, end of the set-up, end, and the attempt.
    """
    up_gpu, up_s, down_s = up
    gpu, start_s, ready_s, stop_s, attempt = held
    order = np.lexsort((start_s, gpu))
    gpu, attempt = gpu[order], attempt[order]
    start_s, ready_s, stop_s = start_s[order], ready_s[order], stop_s[order]
    if len(gpu):  # rounding: one cannot end after the next has begun
        follows = np.append(gpu[1:] == gpu[:-1], False)
        stop_s = np.where(follows, np.minimum(stop_s, np.append(start_s[1:], np.inf)), stop_s)
    ready_s = np.minimum(ready_s, stop_s)
    falls, prepares, works = np.isfinite(down_s), ready_s > start_s, stop_s > ready_s
    none = np.full(max(len(gpu), len(up_gpu)), -1, np.int32)  # as small as can be: there may be millions
    parts = [  # GPU, time, rank, state, attempt
        (up_gpu, up_s, _RISES, IDLE, none[: len(up_gpu)]),
        (up_gpu[falls], down_s[falls], _FALLS, OFF, none[: falls.sum()]),
        (gpu[prepares], start_s[prepares], _STARTS, SETUP, attempt[prepares]),
        (gpu[works], ready_s[works], _STARTS, WORK, attempt[works]),
        (gpu, stop_s, _ENDS, IDLE, none[: len(gpu)]),
    ]
    gpu = np.concatenate([p[0] for p in parts]).astype(np.int32)
    time_s = np.concatenate([p[1] for p in parts])
    rank, state = (np.concatenate([np.full(len(p[0]), p[i], np.int8) for p in parts]) for i in (2, 3))
    attempt = np.concatenate([p[4] for p in parts]).astype(np.int32)
    order = np.lexsort((rank, time_s, gpu))
    gpu, time_s, rank, state, attempt = gpu[order], time_s[order], rank[order], state[order], attempt[order]
    boots = rank == _RISES
    if len(gpu):
        same = np.append((gpu[1:] == gpu[:-1]) & (time_s[1:] == time_s[:-1]), False)
        if same.any():  # the last at one time holds; a boot just before it still was one
            group = np.concatenate([[0], np.cumsum(~same)[:-1]])
            boots = np.bincount(group, boots) > 0
        gpu, time_s, state, attempt = gpu[~same], time_s[~same], state[~same], attempt[~same]
        last = np.append(gpu[1:] != gpu[:-1], True)
        until_s = np.where(last, np.maximum(time_s, end_s), np.append(time_s[1:], 0.0))
    else:
        until_s = time_s
    return Spells(Changes.of(gpus, gpu, time_s), gpu, until_s, state, attempt, np.asarray(boots))
