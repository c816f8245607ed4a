"""What every spell of a GPU means physically: power, energy, heat and clocks, from the catalogue and the
books."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fleetsim.gpu_model import GpuModel
from fleetsim.records import Floats, Ints
from fleetsim.telemetry import hardware as hw
from fleetsim.telemetry import noise
from fleetsim.telemetry.history import History
from fleetsim.telemetry.limits import Limits
from fleetsim.telemetry.placing import OFF, SETUP, WORK

if TYPE_CHECKING:
    from fleetsim.runfolder import Run

#: A power or clock that is lower by no more than this share is not lower: what adding floats costs.
SAME = 1e-6

#: Power at this share of the limit counts as limited by it.
AT_LIMIT = 0.995


def board_w(model: GpuModel, it_w: Any) -> Any:
    """Power of one GPU alone, in W, from that with its share of the server, *it_w*.

    The server outside its GPUs goes in a straight line with them (``GpuModel.context_power_w``), so that the
    inverse is one too: from ``idle_w`` at ``idle_power_w`` to ``tdp_w`` at the slot.
    """
    share = (it_w - model.idle_power_w) / (model.slot_kw_per_gpu * 1000 - model.idle_power_w)
    return model.idle_w + share * (model.tdp_w - model.idle_w)


@dataclass(frozen=True)
class Work:
    """Attempts, as what runs on the GPUs they hold. The last row stands for no attempt.

    In work of length L kernels run in ``n = max(1, round(L / cycle_s))`` equal cycles for the share ``busy``
    of each, so that the mean over an attempt is exactly the share of the books. In each cycle the pause lies
    where ``key`` says, alike on all GPUs of the job.
    """

    busy: Floats
    cycle_s: Floats
    key: noise.Keys
    busy_w: Floats  # of the board while kernels run
    capped: NDArray[np.bool_]  # by a limit of the site
    pace: Floats  # clock / clock without that limit
    job: Ints
    tenant: Ints
    memory: Floats  # share of the memory that can be had
    sm: Floats  # activities while kernels run
    tensor: Floats
    dram: Floats
    tx_bytes_s: Floats
    rx_bytes_s: Floats
    nvlink: Floats  # share of the bandwidth

    @classmethod
    def of(cls, run: Run, history: History, limited: bool) -> Work:
        """The attempts of *history*; only where sites are *limited* can they draw less than the model
        says."""
        a = history.attempts
        kinds = run.manifest["activities"] or [_NOTHING]
        habits = [hw.HABITS[k["workload_class"]] for k in kinds]
        activity = np.append(a.activity, 0)

        def each(values: list[float]) -> Floats:
            found: Floats = np.array(values, np.float64)[activity]
            found[-1] = 0.0
            return found

        busy, sm = each([k["busy_share"] for k in kinds]), each([k["sm_active"] for k in kinds])
        length_s = np.append(a.end_s - a.start_s - a.restart_s, 1.0)
        cycle_s = each([h.cycle_s for h in habits])
        count = np.maximum(1.0, np.round(np.maximum(length_s, 0.0) / np.where(cycle_s > 0, cycle_s, 1.0)))
        keys = noise.keys(history.seed, "attempt", np.append(a.job, -1), np.append(a.attempt, -1))
        spread = hw.MEMORY_SPREAD * (2 * noise.unit(noise.mixed(keys, np.full(len(keys), -1))) - 1)
        busy_w, capped, pace = np.zeros(len(busy)), np.zeros(len(busy), bool), np.ones(len(busy))
        model_of = history.model_of_node[a.node]
        for m, model in enumerate(history.models):
            mine = np.nonzero(model_of == m)[0]
            full_w = model.busy_power_w(sm[mine])
            it_w = full_w
            if limited:
                it_w = _busy_w(model, a.power_w[mine] / a.gpus[mine], busy[mine], a, mine, full_w)
                context_w = model.context_power_w
                pace[mine] = ((it_w - context_w) / np.maximum(full_w - context_w, 1e-9)) ** (1 / 3)
            busy_w[mine], capped[mine] = board_w(model, it_w), it_w < full_w * (1 - SAME)
        gang = np.append(a.gpus > 1, False)
        return cls(
            busy=busy,
            cycle_s=np.maximum(length_s, 0.0) / count,
            key=keys,
            busy_w=busy_w,
            capped=capped,
            pace=np.where(capped, pace, 1.0),
            job=np.append(a.job, -1),
            tenant=np.append(a.tenant, -1),
            memory=each([h.memory for h in habits]) * (1 + spread),
            sm=sm,
            tensor=np.minimum(sm, each([k["mfu"] * hw.TENSOR_PER_MFU for k in kinds])),
            dram=each([h.dram for h in habits]),
            tx_bytes_s=each([h.pcie_tx_gb_s * 1e9 for h in habits]),
            rx_bytes_s=each([h.pcie_rx_gb_s * 1e9 for h in habits]),
            nvlink=np.where(gang, each([h.nvlink for h in habits]), 0.0),
        )


def busy_s(since_s: Floats, busy: Floats, cycle_s: Floats, key: noise.Keys) -> Floats:
    """For how long kernels ran in the first *since_s* of the work of attempts: see :class:`Work`.

    In every cycle they run for ``busy * cycle_s``. The pause begins at a random place and goes on at the
    start of the cycle if its end is reached, so that at any fixed time of the cycle the chance to meet it is
    the same: sampling at a multiple of the cycle is as good as any. The result never falls with *since_s*,
    not even by rounding: counters are made of it.
    """
    done = since_s / cycle_s
    whole = np.floor(done)
    part = done - whole
    begins = noise.unit(noise.mixed(key, whole.astype(np.int64)))
    ends = begins + (1.0 - busy)
    over = np.minimum(np.maximum(ends - 1.0, 0.0), begins)  # goes on at the start of the cycle
    ran = np.clip(part, over, begins) - over + np.maximum(part - ends, 0.0)
    return np.asarray(cycle_s * np.minimum(whole * busy + ran, (whole + 1) * busy))


_NOTHING = {"workload_class": "batch", "busy_share": 0.0, "sm_active": 0.0, "mfu": 0.0}


def _busy_w(model: GpuModel, mean_w: Floats, busy: Floats, a: Any, mine: Ints, full_w: Floats) -> Floats:
    """IT power of a GPU while kernels run, from its mean over an attempt as the allocations have it."""
    working = 1 - a.restart_s[mine] / (a.end_s[mine] - a.start_s[mine])
    share = busy * working
    above_w = (mean_w - model.context_power_w) / np.where(share > 0, share, 1.0)
    it_w = model.context_power_w + above_w
    return np.where(
        (share > 0) & (it_w < full_w * (1 - SAME)), np.maximum(it_w, model.context_power_w), full_w
    )


class Gpus:
    """What is particular to each GPU and does not change: its model's figures, its sensor and its cooling.

    ``gain`` is what its power sensor reads too much, as a share; it has mean 0 over the GPUs of a node, so
    that the sum over a node is right while all of them do the same.
    """

    def __init__(self, run: Run, history: History, inlet_c: float) -> None:
        def each(values: list[float]) -> Floats:
            return np.asarray(np.array(values, np.float64)[history.model])

        models = history.models
        drivers = [hw.driver(m) for m in models]
        self.idle_w = each([m.idle_w for m in models])
        self.context_w = each([m.idle_w + m.context_w for m in models])
        self.tdp_w = each([m.tdp_w for m in models])
        self.boost_mhz = each([d.boost_mhz or 0 for d in drivers])
        self.nvlink_bytes_s = each([m.interconnect_gb_s * 1e9 for m in models])
        self.slows_c = each([d.slows_c for d in drivers])
        self.halves_c = each([d.halves_c for d in drivers])
        self.inlet_c = inlet_c
        k_per_w = each(
            [d.k_per_w or (67 - hw.INLET_C) / m.tdp_w for d, m in zip(drivers, models, strict=True)]
        )
        self.key = noise.keys(history.seed, "gpu", history.node, history.index)
        apart = 2 * noise.unit(noise.mixed(self.key, np.full(len(self.key), -1))) - 1
        self.k_per_w = k_per_w * (1 + hw.COOLING_SPREAD * apart)
        nodes, first, at = np.unique(history.node, return_index=True, return_inverse=True)
        sizes = history.in_node[first]
        of = np.repeat(np.arange(len(nodes)), sizes)  # all GPUs of these nodes, chosen or not
        begins = np.cumsum(sizes) - sizes
        drawn = noise.unit(noise.keys(history.seed, "gain", nodes[of], np.arange(len(of)) - begins[of]))
        drawn = 2 * (drawn - (np.bincount(of, drawn, len(nodes)) / sizes)[of])
        self.gain = hw.GAIN_SD * 3**0.5 * drawn[begins[at] + history.index]
        self.limits = Limits(run, {m.id: m for m in models})
        self.cohorts = tuple(dict.fromkeys(history.cohort))
        self.cohort = np.array([self.cohorts.index(c) for c in history.cohort], np.int64)
        lowest = np.array([self.limits.lowest(c) for c in self.cohorts])[self.cohort]
        slot_w = each([m.slot_kw_per_gpu * 1000 for m in models])
        self.slope = (self.tdp_w - self.idle_w) / (slot_w - each([m.idle_power_w for m in models]))
        self.slot_w = slot_w
        self.lowest_w = self.limit_w(lowest)

    def limit_w(self, share: Any) -> Any:
        """Power limit of the boards in W at *share* of the maximum of the slot; at 1 the model's limit."""
        return self.tdp_w - (1 - share) * self.slot_w * self.slope

    def sensed_w(self, gpu: Ints, board_w: Floats) -> Floats:
        """What the sensors of *gpu* read on average at *board_w*: never above the lowest limit there was."""
        most = 2 * 3**0.5 * hw.GAIN_SD
        room_w = np.clip((self.lowest_w[gpu] - board_w) / most, 0.0, board_w)
        return np.asarray(board_w + self.gain[gpu] * room_w)


@dataclass(frozen=True)
class Load:
    """What each spell does to its GPU: sensed power without kernels and with, and all counters at its
    start."""

    low_w: Floats
    high_w: Floats
    energy_mj: Ints
    nvlink_bytes: Ints
    nvlink_bytes_s: Floats  # while kernels run
    begins_c: Floats
    tends_to_c: Floats
    clock_mhz: NDArray[np.int16]  # while a process holds the GPU
    bits: NDArray[np.int16]  # throttle reasons while kernels run

    @classmethod
    def of(cls, history: History, gpus: Gpus, work: Work) -> Load:
        """The load of every spell. A work that would be hotter than the slowdown temperature is slowed to
        it."""
        s = history.spells
        gpu, row = s.gpu, s.attempt
        busy = np.where(s.state == WORK, work.busy[row], 0.0)
        low_w = np.where(s.state >= SETUP, gpus.context_w[gpu], gpus.idle_w[gpu])
        low_w = np.where(s.state == OFF, 0.0, gpus.sensed_w(gpu, low_w))
        high_w = np.where(busy > 0, np.maximum(gpus.sensed_w(gpu, work.busy_w[row]), low_w), low_w)
        k_per_w = gpus.k_per_w[gpu]
        slows_w = (gpus.slows_c[gpu] - gpus.inlet_c) / k_per_w  # mean power that it can be rid of
        mean_w = low_w + busy * (high_w - low_w)
        hot = (busy > 0) & (mean_w > slows_w)
        cool_w = low_w + np.maximum(slows_w - low_w, 0.0) / np.where(hot, busy, 1.0)
        slower = np.where(hot, ((cool_w - low_w) / np.maximum(high_w - low_w, 1e-9)) ** (1 / 3), 1.0)
        high_w = np.where(hot, cool_w, high_w)
        mean_w = low_w + busy * (high_w - low_w)
        length_s = s.end_s - s.start_s
        tends_to_c = gpus.inlet_c + k_per_w * mean_w
        limited = (high_w >= AT_LIMIT * gpus.tdp_w[gpu]) | work.capped[row]
        bits = np.where((busy > 0) & limited & ~hot, _POWER, 0) | np.where(hot, _THERMAL, 0)
        pace = np.where(s.state == WORK, work.pace[row] * slower, 1.0)
        nvlink_bytes_s = np.where(s.state == WORK, work.nvlink[row] * gpus.nvlink_bytes_s[gpu], 0.0)
        working = s.state == WORK
        ran_s = busy_s(length_s, busy, np.where(working, work.cycle_s[row], 1.0), work.key[row])
        used_mj = np.floor((low_w * length_s + (high_w - low_w) * ran_s) * 1000)  # as in a reading at the end
        boot = np.maximum.accumulate(np.where(s.boots, np.arange(len(gpu)), 0))

        def counter(added: Ints) -> Ints:
            """What had been added since the boot when each spell began. Integers: exact however long."""
            before = np.cumsum(added) - added
            return np.asarray(before - before[boot], np.int64)

        return cls(
            low_w=low_w,
            high_w=high_w,
            energy_mj=counter(used_mj.astype(np.int64)),
            nvlink_bytes=counter(np.floor(nvlink_bytes_s * ran_s).astype(np.int64)),
            nvlink_bytes_s=nvlink_bytes_s,
            begins_c=_begins_c(s.gpu, tends_to_c, length_s),
            tends_to_c=tends_to_c,
            clock_mhz=np.round(gpus.boost_mhz[gpu] * pace).astype(np.int16),
            bits=bits.astype(np.int16),
        )


_POWER, _THERMAL = 0x4, 0x20


def _begins_c(gpu: Ints, tends_to_c: Floats, length_s: Floats) -> Floats:
    """Temperature at the start of each spell: of the first of a GPU as if it had always been so.

    ``dT/dt = (T_end - T) / tau`` has the solution ``T_end + (T_0 - T_end) * exp(-t / tau)``.
    """
    keeps = np.exp(-length_s / hw.THERMAL_TAU_S)
    first = np.append(True, gpu[1:] != gpu[:-1])[: len(gpu)]
    found = np.empty(len(gpu))
    now_c = 0.0
    block = 1 << 16  # lists of all at once would take more room than the arrays
    for at in range(0, len(gpu), block):
        here = slice(at, at + block)
        begins = []
        for end_c, kept, new in zip(
            tends_to_c[here].tolist(), keeps[here].tolist(), first[here].tolist(), strict=True
        ):
            begins.append(now_c := end_c if new else now_c)
            now_c = end_c + (now_c - end_c) * kept
        found[here] = begins
    return found
