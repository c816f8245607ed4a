"""XID errors: what the driver calls them, what it then asks for, and how to count them from readings."""

from __future__ import annotations

from fleetsim_collectors.readings import Columns, plain

#: The driver's names of the XIDs that data centre GPUs report (docs.nvidia.com/deploy/xid-errors; the texts
#: are those of dcgm-exporter's label ``err_msg``). 0 is no error.
TEXTS = {
    0: "No Error",
    13: "Graphics Engine Exception",
    31: "GPU memory page fault",
    43: "GPU stopped processing",
    45: "Preemptive cleanup, due to previous errors -- Most likely to see when running multiple cuda",
    48: "Double Bit ECC Error",
    61: "Internal micro-controller breakpoint/warning",
    62: "Internal micro-controller halt",
    63: "ECC page retirement or row remapping recording event",
    64: "ECC page retirement or row remapper recording failure",
    74: "NVLINK Error",
    79: "GPU has fallen off the bus",
    92: "High single-bit ECC error rate",
    94: "Contained ECC error",
    95: "Uncontained ECC error",
    109: "Context Switch Timeout Error",
    119: "GSP RPC Timeout",
    120: "GSP Error",
    136: "ALI Training Fail",
    140: "Unrecovered ECC Error",
    143: "GPU Initialization Failure",
    144: "NVLINK: Saw Error",
    145: "NVLINK: RLW Error",
    146: "NVLINK: TLW Error",
    147: "NVLINK: TREX Error",
    148: "NVLINK: NVLPW_CTRL Error",
    149: "NVLINK: NETIR Error",
    150: "NVLINK: MSE Error",
    154: "GPU Recovery Action Changed",
    171: "Uncorrectable DRAM Error",
    172: "Uncorrectable SRAM Error",
}

#: XIDs after which the GPU works again only when it is reset, or (79: it is not on the bus) its node booted.
RESET = frozenset({48, 62, 64, 74, 95, 119, 120})
BOOT = frozenset({79})


def recovery_action(xid: int) -> int:
    """What NVML would recommend after *xid*: 0 nothing, 1 GPU reset, 2 node reboot (nvml.h)."""
    return 2 if xid in BOOT else int(xid in RESET)


class XidLog:
    """XIDs of each GPU as events, seen by comparing readings.

    A reading holds the last XID only. Of several between two readings one is seen, and a second one of the
    same code is not; dcgm-exporter's gauge has the same gap.
    """

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._events: dict[tuple[str, int], tuple[int, float]] = {}

    def observe(self, readings: Columns, unix_s: float) -> None:
        """Take in *readings* made at *unix_s*, Unix time in s."""
        for uuid, xid in zip(plain(readings["uuid"]), plain(readings["xid"]), strict=True):
            if xid is None or xid != xid or xid == self._last.get(uuid, 0):
                continue
            self._last[uuid] = xid = int(xid)
            if xid:
                count, _ = self._events.get((uuid, xid), (0, 0.0))
                self._events[uuid, xid] = count + 1, unix_s

    def columns(self) -> Columns:
        """A row for each GPU and code seen: ``uuid``, ``xid``, ``events`` and ``last_s``, Unix time in s."""
        keys = sorted(self._events)
        return {
            "uuid": [uuid for uuid, _ in keys],
            "xid": [xid for _, xid in keys],
            "events": [self._events[key][0] for key in keys],
            "last_s": [self._events[key][1] for key in keys],
        }
