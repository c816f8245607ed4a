"""Readings of GPUs at any times: every value from the one state that the GPU is in.

What a reading says holds for the second before it (the sampling period), or for the first second of the state
if it is younger; counters and temperature hold for the instant. Utilisation is the share of that second in
which kernels ran, all activities are that share x the constants of the job's class, and power is the mean
over it. A reading is a function of the run, the time and the GPU: grid, selection and order change nothing.

The books count the writing of checkpoints, and work that was lost later, as work; so do readings. The mean
of ``gr_engine_active`` over an attempt, less its set-up, is exactly the busy share of its class; over any
other time it is off by at most a quarter of a cycle (0.5 to 15 s, by class) for each attempt that was under
way at an end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil, inf
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fleetsim.records import Floats, Ints
from fleetsim.telemetry import hardware as hw
from fleetsim.telemetry import noise
from fleetsim.telemetry.history import History
from fleetsim.telemetry.placing import IDLE, OFF, WORK
from fleetsim.telemetry.state import Gpus, Load, Work, busy_s

if TYPE_CHECKING:
    from fleetsim.runfolder import Run

#: Sampling period of the sensors, s (NVML: power is a mean over 1 s, utilisation over 1/6 to 1 s).
PERIOD_S = 1.0

#: Readings of a batch, about: small enough for the processor's cache, large enough for NumPy.
BATCH = 1 << 15

_GPU_IDLE, _HW_THERMAL = 0x1, 0x48  # hardware thermal slowdown comes with hardware slowdown


@dataclass(frozen=True)
class Readings:
    """Some readings, in order of time, node and GPU: an array for each column of the reading table.

    *absent* says of a column where it is null; a column that is not there has no null. A column of labels is
    of positions in ``labels[name]``.
    """

    values: Mapping[str, NDArray[Any]]
    absent: Mapping[str, NDArray[np.bool_]]
    labels: Mapping[str, tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.values["time_s"])


class Telemetry:
    """The sensors of the GPUs of *run*: those with an index among *gpus* of *nodes*, by default all.

    *inlet_c* is the temperature of the air or liquid that reaches them. Where it makes a GPU too hot, the GPU
    is slowed and draws less than the books of the run say. Readings are right before *until_s*; what begins
    later is not read. Raises :class:`~fleetsim.errors.InputError` for a run that shares GPUs, and for nodes
    and GPUs that are not in it.
    """

    def __init__(
        self,
        run: Run,
        nodes: Collection[int] | None = None,
        gpus: Collection[int] | None = None,
        inlet_c: float = hw.INLET_C,
        until_s: float = inf,
    ) -> None:
        self.history = History.read(run, nodes, gpus, until_s)
        self.gpus = Gpus(run, self.history, inlet_c)
        self.work = Work.of(run, self.history, self.gpus.limits.any)
        self.load = Load.of(self.history, self.gpus, self.work)

    def __len__(self) -> int:
        """GPUs, in service or not."""
        return len(self.history.node)

    def batches(
        self, start_s: float, end_s: float, step_s: float, size: int = BATCH
    ) -> Iterator[tuple[int, Readings]]:
        """Readings at *start_s*, *start_s* + *step_s* and so on before *end_s*, some at a time.

        With each batch comes how many times have been read by then. Memory does not grow with their number.
        """
        times = ticks(start_s, end_s, step_s)
        each = max(1, size // max(1, len(self)))
        for first in range(0, times, each):
            last = min(times, first + each)
            yield last, self.at(np.asarray(start_s + step_s * np.arange(first, last), np.float64))

    def at(self, time_s: Floats) -> Readings:
        """Readings at ascending times (s from the start of the run) of all GPUs whose nodes are up then."""
        spells, gpus = self.history.spells, self.gpus
        time_s = np.asarray(time_s, np.float64)
        spell = spells.changes.at(time_s).ravel()
        up = (spell >= 0) & (spells.state[spell] != OFF) if len(spells.state) else spell >= 0
        which = np.nonzero(up)[0]
        row, gpu = np.divmod(which, len(self))
        spell, t = spell[which], time_s[row]
        state, attempt = spells.state[spell], spells.attempt[spell]
        held, load, work = state != IDLE, self.load, self.work

        since_s = t - spells.start_s[spell]
        share, ran_s = self._kernels(spell, state, attempt, since_s)
        low_w, more_w = load.low_w[spell], load.high_w[spell] - load.low_w[spell]
        power_w = low_w + more_w * share
        power_w *= 1 + hw.NOISE * noise.drifting(gpus.key[gpu], t, hw.NOISE_S)
        energy_mj = load.energy_mj[spell] + np.floor((low_w * since_s + more_w * ran_s) * 1000).astype(
            np.int64
        )
        tends_to_c = load.tends_to_c[spell]
        temp_c = tends_to_c + (load.begins_c[spell] - tends_to_c) * np.exp(-since_s / hw.THERMAL_TAU_S)
        too_hot = temp_c >= gpus.halves_c[gpu]
        clock = np.where(held, load.clock_mhz[spell], self._of_model("idle_mhz")[gpu])
        bits = np.where(held, np.where(share > 0, load.bits[spell], 0), _GPU_IDLE)
        sm, dram = share * work.sm[attempt], share * work.dram[attempt]
        total, reserved = self._of_model("total_mib")[gpu], self._of_model("reserved_mib")[gpu]
        used = np.round((total - reserved) * work.memory[attempt]).astype(np.int32)
        moved = np.floor(load.nvlink_bytes_s[spell] * ran_s).astype(np.int64)
        values: dict[str, Any] = {
            "gpu_util_pct": np.rint(100 * share),
            "mem_copy_util_pct": np.rint(100 * dram),
            "gr_engine_active": share,
            "sm_active": sm,
            "sm_occupancy": hw.OCCUPANCY_PER_SM * sm,
            "tensor_active": share * work.tensor[attempt],
            "dram_active": dram,
            "fp32_active": hw.FP32_PER_SM * sm,
            "fp16_active": hw.FP16_PER_SM * sm,
            "fb_total_mib": total,
            "fb_used_mib": used,
            "fb_free_mib": total - reserved - used,
            "fb_reserved_mib": reserved,
            "sm_clock_mhz": np.where(too_hot & held, clock // 2, clock),
            "mem_clock_mhz": np.where(
                held, self._of_model("memory_mhz")[gpu], self._of_model("memory_idle_mhz")[gpu]
            ),
            "sm_clock_max_mhz": self._of_model("boost_mhz")[gpu],
            "gpu_temp_c": np.rint(temp_c),
            "mem_temp_c": np.rint(temp_c + hw.MEMORY_WARMER_C),
            "power_w": power_w,
            "power_limit_w": self._limit_w(time_s, row, gpu),
            "energy_mj": energy_mj,
            "pcie_tx_bytes_s": np.rint(share * work.tx_bytes_s[attempt]),
            "pcie_rx_bytes_s": np.rint(share * work.rx_bytes_s[attempt]),
            "nvlink_bytes": load.nvlink_bytes[spell] + moved,
            "throttle_reasons": bits | np.where(too_hot & held, _HW_THERMAL, 0),
            "pstate": np.where(held, 0, self._of_model("pstate")[gpu]),
            "processes": held,
            "job": work.job[attempt],
            "tenant": work.tenant[attempt],
            **self._errors(time_s, which),
        }
        nobody = ~held
        return self._readings(t, gpu, values, {"job": nobody, "tenant": nobody})

    def _kernels(self, spell: Ints, state: Ints, attempt: Ints, since_s: Floats) -> tuple[Floats, Floats]:
        """For how much of the sampling period kernels ran, and for how long since the spell began."""
        share, ran_s = np.zeros(len(spell)), np.zeros(len(spell))
        some = np.nonzero(state == WORK)[0]
        if not len(some):
            return share, ran_s
        since_s, row = since_s[some], attempt[some]
        spells = self.history.spells
        length_s = spells.end_s[spell[some]] - spells.start_s[spell[some]]
        from_s = np.maximum(since_s - PERIOD_S, 0.0)
        to_s = np.minimum(from_s + PERIOD_S, length_s)
        busy, cycle_s, key = self.work.busy[row], self.work.cycle_s[row], self.work.key[row]
        ran_to_s = busy_s(to_s, busy, cycle_s, key)
        part = (ran_to_s - busy_s(from_s, busy, cycle_s, key)) / np.maximum(to_s - from_s, 1e-12)
        share[some] = np.clip(part, 0.0, 1.0)
        if (young := np.nonzero(since_s < PERIOD_S)[0]).size:
            ran_to_s[young] = busy_s(since_s[young], busy[young], cycle_s[young], key[young])
        ran_s[some] = ran_to_s
        return share, ran_s

    def _limit_w(self, time_s: Floats, row: Ints, gpu: Ints) -> Floats:
        shares = self.gpus.limits.at(self.gpus.cohorts, time_s)
        if shares is None:
            return self.gpus.tdp_w[gpu]
        limits = np.asarray(self.gpus.limit_w(shares[:, self.gpus.cohort]), np.float64)
        return np.asarray(limits[row, gpu])

    def _errors(self, time_s: Floats, which: Ints) -> dict[str, Any]:
        """Columns that only errors change."""
        xids = self.history.xids
        names = ("xid", "uncorrectable_remapped_rows", "ecc_dbe_total", "ecc_sbe_total", "row_remap_failure")
        if not len(xids.xid):
            return dict.fromkeys(names, np.zeros(len(which), np.int64))
        at = xids.changes.at(time_s).ravel()[which]
        counts = xids.xid, xids.remapped_rows, xids.double_bits, xids.single_bits, xids.remap_fails > 0
        return {name: np.where(at >= 0, v[at], 0) for name, v in zip(names, counts, strict=True)}

    def _of_model(self, name: str) -> NDArray[Any]:
        """A figure of the driver of each GPU; what it does not report is 0 here, and made null later."""
        return self._drivers[name]

    @cached_property
    def _drivers(self) -> dict[str, NDArray[Any]]:
        models = self.history.models
        drivers = [hw.driver(m) for m in models]
        table: dict[str, list[int]] = {
            name: [getattr(d, name) or 0 for d in drivers]
            for name in ("idle_mhz", "boost_mhz", "memory_idle_mhz", "memory_mhz", "total_mib")
        }
        table["reserved_mib"] = [round(hw.RESERVED_SHARE * d.total_mib) for d in drivers]
        table["pstate"] = [hw.idle_pstate(m) for m in models]
        return {name: np.array(v, np.int32)[self.history.model] for name, v in table.items()}

    @cached_property
    def _labels(self) -> dict[str, tuple[tuple[str, ...], Ints | None]]:
        """Names of every column of labels, and for each GPU its position; None: one name each."""
        h = self.history
        nodes, of_node = np.unique(h.node, return_inverse=True)
        pairs = list(zip(h.node.tolist(), h.index.tolist(), strict=True))
        slots = np.unique(h.index)
        drivers = [hw.driver(m) for m in h.models]
        return {
            "hostname": (tuple(f"node-{n:05d}" for n in nodes.tolist()), of_node),
            "uuid": (tuple(_uuid(h.seed, n, i) for n, i in pairs), np.arange(len(pairs))),
            "pci_bus_id": (tuple(map(_bus, slots.tolist())), np.searchsorted(slots, h.index)),
            "gpu_model": (tuple(m.id for m in h.models), h.model),
            "model_name": (tuple(d.name for d in drivers), h.model),
            "driver_version": (tuple(d.version or "" for d in drivers), h.model),
            "tenant": (h.tenants, None),
        }

    @cached_property
    def _unreported(self) -> dict[str, NDArray[np.bool_]]:
        """Of each column that some GPU does not report: which."""
        gone = [hw.unreported(m) for m in self.history.models]
        names = sorted(set().union(*gone))
        found = {n: np.array([n in g for g in gone])[self.history.model] for n in names}
        return {n: mask for n, mask in found.items() if mask.any()}

    def _readings(self, t: Floats, gpu: Ints, values: dict[str, Any], absent: dict[str, Any]) -> Readings:
        from fleetsim_collectors.readings import COLUMNS

        named = {"time_s": t, "node": self.history.node[gpu], "gpu": self.history.index[gpu], **values}
        for name, (_, code) in self._labels.items():
            if code is not None:
                named[name] = code[gpu]
        zero = np.zeros(len(t), np.int8)
        columns = {
            c.name: np.asarray(named.get(c.name, zero)).astype("int32" if c.kind == "label" else c.kind)
            for c in COLUMNS
        }
        absent = {**{n: mask[gpu] for n, mask in self._unreported.items()}, **absent}
        return Readings(columns, absent, {name: names for name, (names, _) in self._labels.items()})


def ticks(start_s: float, end_s: float, step_s: float) -> int:
    """How many of *start_s*, *start_s* + *step_s* and so on are before *end_s*, but for rounding.

    >>> ticks(0, 60, 15), ticks(0, 61, 15), ticks(0, 0.3, 0.1), ticks(5, 5, 1)
    (4, 5, 3, 0)
    """
    return max(0, ceil((end_s - start_s) / step_s - 1e-9))


def _uuid(seed: int, node: int, gpu: int) -> str:
    """Name of a GPU as drivers write it; the same for the same seed, node and index."""
    h = hashlib.sha256(f"{seed}\x1f{node}\x1f{gpu}".encode()).hexdigest()
    return f"GPU-{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:32]}"


def _bus(gpu: int) -> str:
    return f"{gpu // 64:08X}:{0x03 + 3 * (gpu % 64):02X}:00.0"
