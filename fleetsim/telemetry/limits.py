"""Power limits of sites with ``over_power: power_cap``, from what was installed there when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fleetsim.gpu_model import GpuModel
from fleetsim.records import Floats, Ints
from fleetsim.telemetry.coded import coded

if TYPE_CHECKING:
    from fleetsim.runfolder import Run


class Limits:
    """The share of their maximum that the GPUs of each cohort may draw, as it changes; 1 without a limit."""

    def __init__(self, run: Run, models: dict[str, GpuModel]) -> None:
        scenario = run.manifest["scenario"]
        self._caps_kw = {
            s["name"]: s["it_power_kw"]
            for s in scenario.get("sites") or ()
            if s.get("over_power") == "power_cap" and s.get("it_power_kw")
        }
        self._changes: dict[str, tuple[Floats, Floats]] = {}
        self._site: dict[str, str] = {}
        if self._caps_kw:
            self._read(run, models)

    def _read(self, run: Run, models: dict[str, GpuModel]) -> None:
        import pyarrow.parquet as pq

        table = pq.read_table(run.path / "node_states.parquet")
        cohort, names = coded(table["cohort"])
        state, states = coded(table["state"])
        model, ids = coded(table["gpu_model"])
        self._site = sites(run, names)
        node, time_s = table["node"].to_numpy(), table["time_s"].to_numpy()
        kw = np.array([models[i].slot_kw_per_gpu for i in ids])[model] * table["gpus"].to_numpy()
        installed = np.isin(state, [i for i, s in enumerate(states) if s in ("up", "down")])
        order = np.lexsort((np.arange(len(node)), time_s, node))
        was = np.append(False, installed[order][:-1]) & np.append(False, node[order][1:] == node[order][:-1])
        change_kw = (installed[order].astype(int) - was) * kw[order]
        site = np.array([self._site[n] for n in names])[cohort[order]]
        for name, cap_kw in self._caps_kw.items():
            here = site == name
            times, at = np.unique(time_s[order][here], return_inverse=True)
            used_kw = np.cumsum(np.bincount(at, change_kw[here], len(times)))
            share = np.where(used_kw > cap_kw * (1 + 1e-9), cap_kw / np.maximum(used_kw, cap_kw), 1.0)
            self._changes[name] = times, share

    @property
    def any(self) -> bool:
        """Whether a site has one."""
        return bool(self._changes)

    def lowest(self, cohort: str) -> float:
        """The lowest share that *cohort* was ever limited to."""
        return float(self._changes.get(self._site.get(cohort, ""), (0.0, np.ones(1)))[1].min())

    def at(self, cohorts: Sequence[str], time_s: Floats) -> Floats | None:
        """The share of each of *cohorts* at each time, one row a time; None if no site has a limit."""
        if not self._changes:
            return None
        shares = np.ones((len(time_s), len(cohorts)))
        for k, cohort in enumerate(cohorts):
            if (found := self._changes.get(self._site[cohort])) is not None:
                index: Ints = np.searchsorted(found[0], time_s, "right")
                shares[:, k] = np.append(1.0, found[1])[index]
        return shares


def sites(run: Run, cohorts: Sequence[str]) -> dict[str, str]:
    """The site of each of *cohorts*, as the scenario in the manifest says."""
    scenario = run.manifest["scenario"]
    first = scenario["sites"][0]["name"]
    found = dict.fromkeys(cohorts, (scenario.get("node_list") or {}).get("site") or first)
    for c in scenario["cohorts"]:
        count = (c.get("series") or {}).get("count", 0)
        for name in (c["name"], *(f"{c['name']}-{n + 1}" for n in range(count))):
            if name in found:
                found[name] = c.get("site") or first
    return found
