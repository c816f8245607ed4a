"""A fleet from a list of its nodes: equal nodes become a cohort, numbered as in the file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleetsim.catalog import GpuModel, load_catalog
from fleetsim.errors import InputError, Problem
from fleetsim.records import Cohort, Site
from fleetsim.safeyaml import suggest
from fleetsim_traces.nodes import read_nodes

#: Name of the GPU model, GPUs, cores (None: unknown), host memory in GB (likewise).
Kind = tuple[str | None, int, float | None, float | None]


@dataclass(frozen=True)
class NodeList:
    """The nodes with GPUs of a file: the numbers of each kind of node, and ``facts`` about their source.

    CPU and host memory are unknown (None) of all nodes if they are of one.
    """

    kinds: Mapping[Kind, tuple[int, ...]]
    facts: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path, bad_rows: str) -> NodeList:
        """Read the list at *path*; raises ``TraceError`` for what cannot be used."""
        found = read_nodes(path, bad_rows=bad_rows)
        table = found.nodes.filter(found.nodes["gpus"].to_numpy() > 0)
        columns = [table[name].to_pylist() for name in ("gpu_model", "gpus", "cpus", "memory_gb")]
        for column in columns[2:]:
            if None in column:
                column[:] = [None] * len(column)
        kinds: dict[Kind, list[int]] = {}
        for number, kind in enumerate(zip(*columns, strict=True)):
            kinds.setdefault(kind, []).append(number)
        left_out = {**found.rejected, "no GPU": found.nodes.num_rows - table.num_rows}
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        facts = {"source": path.name, "format": found.format, "sha256": digest, "nodes": table.num_rows}
        return cls(
            {kind: tuple(numbers) for kind, numbers in kinds.items()},
            {**facts, "left_out": {reason: rows for reason, rows in left_out.items() if rows}},
        )

    def models(self, given: Mapping[str, str], place: str) -> dict[str | None, GpuModel]:
        """The model of the catalogue that each name of the list is taken for.

        Raises :class:`InputError` at *place* for names that stand for nothing, and for what is *given* in
        vain.
        """
        catalog = load_catalog()
        names = dict.fromkeys(kind[0] for kind in self.kinds)
        texts = sorted(name for name in names if name is not None)
        problems = [
            Problem(
                f"{place}.{name}",
                f"the list has no GPU model {name!r}",
                f"{suggest(name, texts)}{_has(texts)}",
            )
            for name in given
            if name not in ("*", *texts)
        ]
        found: dict[str | None, GpuModel] = {}
        missing: list[str] = []
        for name in names:
            itself = name if name in catalog else None
            target = given.get(name or "*", given.get("*", itself))
            if target is None:
                missing.append(name or "(none)")
                continue
            try:
                found[name] = catalog.find(target, f"{place}.{name if name in given else '*'}")
            except InputError as error:
                problems += error.problems
        if missing:
            remedy = f"Say which they are taken for: gpu_names: {{{missing[0]}: {next(iter(catalog))}}}."
            remedy = remedy.replace("(none)", "'*'")
            message = f"the catalogue has no GPU model {', '.join(sorted(missing))}"
            problems.append(Problem(place, message, remedy))
        if problems:
            raise InputError(list(dict.fromkeys(problems)))
        return found

    def cohorts(
        self, models: Mapping[str | None, GpuModel], site: Site, delivered_s: float, earlier_age_s: float
    ) -> list[Cohort]:
        """A cohort of each kind of node, in the order in which they come in the file."""
        made: list[Cohort] = []
        for (name, gpus, cpus, memory_gb), numbers in self.kinds.items():
            model = models[name]
            made.append(
                Cohort(
                    _called(name or model.id, gpus, cpus, memory_gb, {c.name for c in made}),
                    model,
                    site,
                    len(numbers),
                    gpus,
                    delivered_s,
                    earlier_age_s,
                    first_node=numbers[0],
                    known_as=None if name == model.id else name,
                    cpu_milli=milli(cpus),
                    memory_mib=mib(memory_gb),
                    numbers=numbers,
                )
            )
        return made


def milli(cpus: float | None) -> int | None:
    """Cores in thousandths."""
    return None if cpus is None else round(cpus * 1000)


def mib(memory_gb: float | None) -> int | None:
    """GB in whole MiB; what is left over of one is lost, beyond what dividing floats costs."""
    return None if memory_gb is None else int(memory_gb * 1e9 / 2**20 + 1e-3)


def _called(
    model: str, gpus: int, cpus: float | None, memory_gb: float | None, taken: Collection[str]
) -> str:
    """A name such as ``P100-2gpu-16cpu-120gib``."""
    parts = [re.sub(r"[^A-Za-z0-9_.-]", "-", model)[:32], f"{gpus}gpu"]
    parts += [] if cpus is None else [f"{cpus:g}cpu"]
    parts += [] if memory_gb is None else [f"{memory_gb * 1e9 / 2**30:.4g}gib"]
    name = "-".join(parts)
    again = sum(other == name or other.startswith(f"{name}_") for other in taken)
    return f"{name}_{again + 1}" if again else name


def _has(names: list[str]) -> str:
    return f"It has: {', '.join(names) or 'none'}."
