"""The reference page of the GPU metrics, ``collectors/METRICS.md``, made from the catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fleetsim_collectors import dcgm, nvidia_smi
from fleetsim_collectors.catalogue import Family
from fleetsim_collectors.readings import COLUMNS, THROTTLE_BITS
from fleetsim_collectors.xids import TEXTS


def markdown() -> str:
    """The page. What a family is made from is a column of the reading."""
    parts = [
        "# GPU metrics\n\nMade from the catalogue by `pytest tests/collectors --update-golden`.\n",
        "## The reading\nThe state of one GPU at one time; every metric below derives from it. Null is what "
        "the GPU or its driver does not report: it has no sample, never a zero. A node that is down or "
        "retired has no readings.\n",
        _table(
            ("column", "type", "unit", "meaning"),
            ((f"`{c.name}`", f"{c.kind}{' or null' * c.nullable}", c.unit, c.description) for c in COLUMNS),
        ),
        "Bits of `throttle_reasons`: "
        + ", ".join(f"{bit:#x} {name}" for name, bit in THROTTLE_BITS.items())
        + ".\n",
        "## dcgm-exporter\nEvery row carries `gpu`, `UUID`, `pci_bus_id`, `device`, `modelName`, `Hostname` "
        "and `DCGM_FI_DRIVER_VERSION`, in this order, then the attributes by name. Power is written to the "
        "milliwatt. What `DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL` counts is not documented there, and users "
        "report MB/s under the type counter (KempnerInstitute/kempnerpulse#10); here it counts bytes, both "
        "ways.\n",
        "On by default there:\n",
        _families(dcgm.DEFAULT),
        "On by default here too:\n",
        _families((*dcgm.EXTRA, dcgm.ALLOCATION)),
        "On request:\n",
        _families(dcgm.OPTIONAL),
        "Switches: the label of the host "
        + ", ".join(f"`{name}`" for name in dcgm.HOSTNAME_LABELS)
        + "; who holds a GPU "
        + ", ".join(f"`{name}`" for name in dcgm.ATTRIBUTION_LABELS)
        + ".\n",
        _meanings("label", dcgm.LABELS),
        "Not here:\n",
        _meanings("family", dcgm.LEFT_OUT, "why"),
        "## nvidia_gpu_exporter\nEvery row of a GPU carries `uuid`; the other labels are on "
        "`nvidia_smi_gpu_info`.\n",
        _families((*nvidia_smi.FAMILIES, *nvidia_smi.XID_FAMILIES, *nvidia_smi.HEALTH)),
        "Assumed for a simulated GPU, because dashboards ask for it and no reading says it:\n",
        _families(nvidia_smi.ASSUMED),
        _meanings("family", nvidia_smi.ASSUMPTIONS, "assumption"),
        _meanings("label", nvidia_smi.LABELS),
        "Not here:\n",
        _meanings("family", nvidia_smi.LEFT_OUT, "why"),
        "## XIDs\nTexts of `err_msg`. A code that is not listed has no `err_code` and no `err_msg`.\n",
        _table(("XID", "text"), ((str(xid), text) for xid, text in TEXTS.items())),
    ]
    return "\n".join(parts)


def _families(families: Iterable[Family]) -> str:
    rows = ((f"`{f.name}`", f.kind, f.unit, f"`{f.value}`", f.help) for f in families)
    return _table(("family", "type", "unit", "from", "help"), rows)


def _meanings(what: str, meanings: Mapping[str, str], head: str = "meaning") -> str:
    return _table((what, head), ((f"`{name}`", meaning) for name, meaning in meanings.items()))


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [" | ".join(row) for row in (head, *rows)]
    columns = lines[0].count(" | ") + 1
    return (
        "\n".join([f"| {lines[0]} |", "|" + "---|" * columns, *(f"| {line} |" for line in lines[1:])]) + "\n"
    )
