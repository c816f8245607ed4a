"""The ladder: which rungs a model may stand on, and which comes below which."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fleetsim.gpu_model import GpuModel
from fleetsim.life.spec import DataType, TierSpec


def computes(model: GpuModel, data_type: DataType | None) -> bool:
    """Whether *model* computes with *data_type* in hardware: its throughput is known. None: any will do.

    A model with bf16 counts as one with fp16 too.
    """
    if data_type is None or (data_type == "fp16" and model.bf16_tflops is not None):
        return True
    throughput: float | None = getattr(model, f"{data_type}_tflops")
    return throughput is not None


def meets(model: GpuModel, tier: TierSpec, gpus_per_node: int) -> bool:
    """Whether nodes with *gpus_per_node* of *model* may stand on *tier*; see :func:`lacks`."""
    return next(lacks(model, tier, gpus_per_node), None) is None


def lacks(model: GpuModel, tier: TierSpec, gpus_per_node: int) -> Iterator[str]:
    """What nodes with *gpus_per_node* of *model* lack of the needs of *tier*, in words.

    The scale-up domain is the model's, or the node where that is larger.
    """
    if model.memory_gb < tier.min_memory_gb:
        yield f"{model.memory_gb:g} GB is less than {tier.min_memory_gb:g} GB"
    if not computes(model, tier.data_type):
        yield f"no {tier.data_type}"
    domain = max(model.scaleup_domain_gpus, gpus_per_node)
    if domain < tier.min_domain_gpus:
        yield f"a domain of {domain} is less than {tier.min_domain_gpus} GPUs"


def entry(model: GpuModel, tiers: Sequence[TierSpec], gpus_per_node: int) -> str | None:
    """The rung on which nodes begin: the first whose needs they meet and which is not for sale, if any."""
    return next((t.name for t in tiers if not t.for_sale and meets(model, t, gpus_per_node)), None)


def ladder(tiers: Sequence[TierSpec]) -> dict[str, str | None]:
    """Each rung and the one below it: its ``next``, else the next in the list.

    Below the last one there is none, nor below one that is for sale.
    """
    following = [*(t.name for t in tiers), None][1:]
    return {
        t.name: None if t.for_sale else t.next or lower for t, lower in zip(tiers, following, strict=True)
    }


def below(tiers: Sequence[TierSpec], rung: str) -> list[str]:
    """The rungs below *rung*, in the order in which nodes come to them; it ends where it would go round."""
    down, found = ladder(tiers), [rung]
    while (lower := down.get(found[-1])) is not None and lower not in found:
        found.append(lower)
    return found[1:]
