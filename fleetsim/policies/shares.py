"""What each tenant may expect of a fleet: the division of GPUs among tenants, and how it was kept.

The rule is that of NVIDIA's KAI Scheduler ("resource division" of its proportion plugin). No clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleetsim.spec import TenantSpec


def divide(
    gpus: float,
    deserved: Sequence[float],
    request: Sequence[float],
    weight: Sequence[float],
    priority: Sequence[int],
) -> tuple[list[float], float]:
    """Divide *gpus* among queues, listed oldest first; return the share of each, and what nobody gets.

    *request* is what a queue could use now: what it has and waits for, but no more than its limit. First each
    queue gets the smaller of *deserved* and *request*, even if there are not so many GPUs; then nothing is
    left. What is left goes to queues that want more, the class of the highest *priority* first until it
    wants nothing: in proportion to *weight*, rounded down to whole GPUs unless the request is met, and in
    rounds as requests are met; then what rounding left goes GPU by GPU to those that lost the largest
    fractions, ties to the older queue. Weight 0 gets nothing of it.
    """
    share = [d if d < r else r for d, r in zip(deserved, request, strict=True)]
    left = max(0.0, gpus - sum(share))
    wanting = [i for i, has in enumerate(share) if has < request[i] and weight[i]] if left else []
    for urgency in sorted({priority[i] for i in wanting}, reverse=True):
        open_ = [i for i in wanting if priority[i] == urgency]
        while open_ and left:
            per_weight = left / sum([weight[i] for i in open_])
            more: list[int] = []
            lost: list[tuple[float, int]] = []
            for i in open_:
                fair = per_weight * weight[i]
                wants = request[i] - share[i]
                if wants <= fair:
                    share[i] = request[i]
                    left -= wants
                    continue
                whole = floor(fair)
                share[i] += whole
                left -= whole
                more.append(i)
                lost.append((whole - fair, i))
            if len(more) == len(open_):  # no request was met: only what rounding lost is left
                for _, i in sorted(lost):
                    given = min(1.0, left, request[i] - share[i])
                    share[i] += given
                    left -= given
                more = [i for i in more if share[i] < request[i]]
            left = max(0.0, left)
            open_ = more
    return share, left


@dataclass(frozen=True, slots=True)
class Tree:
    """Tenants as a hierarchy, in columns. Node 0 is the fleet; then come its parts, then theirs and so on."""

    names: tuple[str, ...]
    parent: tuple[int, ...]  # -1 for the fleet
    children: tuple[tuple[int, ...], ...]  # one after the other, as listed
    path: tuple[tuple[int, ...], ...]  # the node and all it is a part of, but the fleet; innermost first
    deserved: tuple[float, ...]
    weight: tuple[float, ...]
    limit: tuple[float, ...]  # inf for none
    priority: tuple[int, ...]

    @classmethod
    def of(cls, tenants: Sequence[TenantSpec], others: Sequence[str] = ()) -> Tree:
        """The tree of *tenants*; *others* stand beside them and deserve nothing."""
        rows = [
            (t.name, t.parent, t.deserved_gpus, t.over_quota_weight, t.max_gpus, t.priority) for t in tenants
        ] + [(name, None, 0.0, 1.0, None, 0) for name in others]
        order = [row for row in rows if row[1] is None]
        for whole in order:
            order += [row for row in rows if row[1] == whole[0]]  # the loop goes on to them
        names = ["", *(row[0] for row in order)]
        parent = [-1, *(names.index(row[1] or "") for row in order)]
        children: list[list[int]] = [[] for _ in parent]
        path: list[tuple[int, ...]] = [()]
        for node in range(1, len(parent)):
            children[parent[node]].append(node)
            path.append((node, *path[parent[node]]))
        deserved, weight, limit, priority = zip(
            *[(0.0, 0.0, None, 0), *(row[2:] for row in order)], strict=True
        )
        return cls(
            tuple(names),
            tuple(parent),
            tuple(map(tuple, children)),
            tuple(path),
            deserved,
            weight,
            tuple(inf if most is None else float(most) for most in limit),
            priority,
        )

    def fair_shares(self, gpus: float, request: Sequence[float]) -> tuple[list[float], list[float]]:
        """Share of every node, and what each asks for, if a leaf could use *request* (of other nodes: 0).

        A parent asks for what its parts ask for, up to its limit, and divides its share among them.
        """
        asks = list(request)
        for node in range(len(asks) - 1, 0, -1):
            asks[node] = min(asks[node], self.limit[node])
            asks[self.parent[node]] += asks[node]
        share = [float(gpus)] + [0.0] * (len(asks) - 1)
        for node, parts in enumerate(self.children):
            if parts:
                these = slice(parts[0], parts[-1] + 1)
                columns = self.deserved[these], asks[these], self.weight[these], self.priority[these]
                share[these], _ = divide(share[node], *columns)
        return share, asks


class Shares:
    """What :meth:`Tree.fair_shares` says of *gpus* GPUs, kept up to date as leaves ask for more and less."""

    def __init__(self, tree: Tree, gpus: int) -> None:
        self._tree = tree
        self._request = [0.0] * len(tree.names)  # of a whole, what its parts ask for
        self._share, self._asks = tree.fair_shares(gpus, self._request)
        self._wholes = []  # those above come first; with what divide() reads, and the wholes among the parts
        for node, parts in enumerate(tree.children):
            if parts:
                these = slice(parts[0], parts[-1] + 1)
                columns = tree.deserved[these], tree.weight[these], tree.priority[these]
                self._wholes.append((node, these, *columns, [part for part in parts if tree.children[part]]))
        self._changed: set[int] = set()  # leaves with other requests than those that the shares are made for

    def ask(self, leaf: int, gpus: int) -> None:
        """*leaf* could use *gpus* more."""
        self._request[leaf] += gpus
        self._changed.add(leaf)

    def now(self) -> list[float]:
        """Fair share of every node."""
        if not self._changed:
            return self._share
        tree, share, asks, request = self._tree, self._share, self._asks, self._request
        stale: set[int] = set()  # wholes that must be divided anew
        for leaf in self._changed:
            for node in tree.path[leaf]:
                before, after = asks[node], min(request[node], tree.limit[node])
                if after == before:
                    break
                whole = tree.parent[node]
                if min(before, after) < share[node] + 1:  # else it changes nobody's share
                    stale.add(whole)
                asks[node] = after
                request[whole] += after - before
        self._changed.clear()
        for whole, these, deserved, weight, priority, below in self._wholes if stale else ():
            if whole in stale:
                if request[whole] <= share[whole] and all(weight):
                    found = asks[these]  # enough for all
                else:
                    found, _ = divide(share[whole], deserved, asks[these], weight, priority)
                stale.update([node for node in below if found[node - these.start] != share[node]])
                share[these] = found
        return share
