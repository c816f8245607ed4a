"""Time slicing in a run: who shares a GPU with whom at present, and how fast each of them goes."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from fleetsim.sharing import SharedPool, slice_rate


class Slicing:
    """Jobs that take turns on the GPUs of *pool*.

    Of each job ``rate`` is its speed, alone on its GPUs being 1, and ``held`` the GPUs it counts for: of each
    of its GPUs one over the jobs on it, so that they add up to the GPUs in use. Both hold from the start of
    the job or the change before on, and after its end for observers to read; the engine sets them.
    """

    def __init__(self, pool: SharedPool, interference: float, jobs: int) -> None:
        self.rate = array("d", bytes(8 * jobs))
        self.held = array("d", bytes(8 * jobs))
        self.touched: set[int] = set()  # nodes where jobs came or went since the last changes()
        self._pool = pool
        self._interference = interference
        self._on: dict[int, dict[int, int]] = {}  # by node: handle of each job

    def came(self, job: int, where: tuple[int, ...]) -> None:
        """*job* was started, at the rate of 1 until it is changed."""
        node, handle = where
        self.rate[job], self.held[job] = 1.0, 0.0
        self._on.setdefault(node, {})[job] = handle
        self.touched.add(node)

    def gone(self, job: int, where: tuple[int, ...]) -> None:
        """*job* has left its GPUs."""
        del self._on[where[0]][job]
        self.touched.add(where[0])

    def changes(self) -> Iterator[tuple[int, float, float]]:
        """Jobs whose rate or GPUs must change now: job, rate, held; by node, in the order they started."""
        for node in sorted(self.touched):
            for job, handle in self._on[node].items():
                crowds = self._pool.crowds(node, handle)
                if crowds is None:
                    rate, held = 1.0, self._pool.gpus_held(node, handle)
                else:
                    rate = slice_rate(max(crowds, default=1), self._interference)
                    held = sum(1 / jobs for jobs in crowds)
                if (rate, held) != (self.rate[job], self.held[job]):
                    yield job, rate, held
        self.touched.clear()
