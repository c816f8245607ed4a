"""One run of a report: its tables as the measures need them, each read once, and its headline figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import fsum
from typing import TYPE_CHECKING, Any

from fleetsim import summary, units
from fleetsim.catalog import load_catalog
from fleetsim.reporting import lifetimes, measures
from fleetsim.reporting.measures import PERIOD, Row
from fleetsim.runfolder import Run

if TYPE_CHECKING:
    import polars as pl

#: Workload classes that live on lower rungs: always shown where there is a ladder, also with no demand.
LOWER_CLASSES = ("inference", "batch")


@dataclass(frozen=True)
class Figure:
    """A headline figure: what it is called, its unit, and what it means."""

    label: str
    unit: str
    meaning: str


_D = summary.DEFINITIONS

FIGURES: dict[str, Figure] = {
    "installed_gpu_hours": Figure("Installed", "GPU h", _D["installed_gpu_hours"]),
    "availability": Figure("Availability", "share", _D["availability"]),
    "allocation": Figure("x allocation", "share", _D["allocation"]),
    "busy": Figure("x busy", "share", _D["busy"]),
    "goodput": Figure("x goodput", "share", _D["goodput"]),
    "time_effective": Figure("= productive time", "share", _D["time_effective"]),
    "mfu": Figure("x MFU", "share", _D["mfu"]),
    "fleet_mfu": Figure("= fleet MFU", "share", "productive time x MFU: model FLOPs / peak FLOPs installed"),
    "idle_queue": Figure("Idle while jobs waited", "share", _D["idle_queue"]),
    "jobs": Figure("Jobs submitted", "jobs", "warm jobs included, rejected ones too"),
    "completed": Figure("Jobs completed", "jobs", "before the run ended"),
    "wait_p50_s": Figure("Wait, median", "s", _D["wait"]),
    "wait_p99_s": Figure("Wait, p99", "s", "99 % of the jobs that started waited no longer"),
    "queued": Figure("Jobs waiting at the end", "jobs", "in the queue when the run ended"),
    "installed_age_y": Figure(
        "Mean age, installed", "y", "years of age weighted by installed GPU hours; earlier life included"
    ),
    "allocated_age_y": Figure("Mean age, in use", "y", "the same, weighted by allocated GPU hours"),
    "retired_gpus": Figure("GPUs retired", "GPUs", "that left the fleet during the run, by whatever cause"),
    "sold_gpus": Figure("GPUs sold", "GPUs", "of those, on the secondary market"),
    "failures": Figure("Failures", "times", "of nodes, GPUs and jobs"),
    "ettr": Figure(
        "ETTR", "share",
        "effective training time ratio: productive hours / hours from first start to end, both x GPUs, of "
        "completed jobs; set-up, checkpoints, lost work, restarts and waits after a stop are missing to 1",
    ),
    "energy_mwh": Figure("IT energy", "MWh", _D["energy_mwh"]),
    "facility_energy_mwh": Figure("Energy at the meter", "MWh", _D["facility_energy_mwh"]),
    "pue": Figure("PUE", "1", "energy at the meter / IT energy"),
    "carbon_t": Figure("Carbon", "t", "CO2 equivalent of the energy at the meter of sites with an intensity"),
    "rent_usd": Figure("Rent", "USD", "allocated GPU hours x the scenario's price of a GPU hour"),
    "energy_usd": Figure("Cost of energy", "USD", "energy at the meter x price"),
    "opex_usd": Figure("Other running cost", "USD", "of installed GPUs, without energy and depreciation"),
    "margin_usd": Figure("Margin", "USD", "rent - energy - other running cost; before depreciation"),
    "margin_usd_per_kw_year": Figure(
        "Margin per kW-year", "USD/kW/y", "margin / (kW that the slots of installed nodes reserve x years)"
    ),
    "book_value_usd": Figure("Book value at the end", "USD", "not yet written off, of what is installed"),
    "market_value_usd": Figure(
        "Market value at the end", "USD", "at which the installed GPUs would sell one by one"
    ),
    "intrinsic_value_usd": Figure(
        "Intrinsic value at the end", "USD", "of keeping the installed GPUs for as long as that pays"
    ),
    "sales_usd": Figure("Proceeds of sales", "USD", "GPUs sold x price, discount taken off"),
}  # fmt: skip


class Facts:
    """A run and what the report needs of it."""

    def __init__(self, name: str, run: Run) -> None:
        self.name, self.run = name, run
        self.manifest: Mapping[str, Any] = run.manifest
        self.scenario: Mapping[str, Any] = run.manifest["scenario"]
        self.end_s = float(run.manifest["end_s"])
        self._start_ms = round(units.instant(run.manifest["start"]).timestamp() * 1000)

    def ms(self, seconds: float) -> int:
        """Milliseconds of the Unix epoch at *seconds* from the start."""
        return self._start_ms + round(seconds * 1000)

    @cached_property
    def usage(self) -> pl.DataFrame:
        """``summary.usage_measures`` of the run."""
        return summary.usage_measures(self.run)

    @cached_property
    def spells(self) -> pl.DataFrame:
        """``measures.node_spells`` of the run."""
        return measures.node_spells(self.run.scan("node_states").collect(), self.end_s)

    @cached_property
    def jobs(self) -> pl.DataFrame:
        """The columns of jobs that measures use."""
        columns = (
            "workload", "workload_class", "gpus", "gpu_share", "reference_duration_s", "status", "warm",
            "start_s", "end_s", "wait_s", "allocated_gpu_s", "restart_gpu_s", "lost_gpu_s",
            "checkpoint_gpu_s", "failures",
        )  # fmt: skip
        return self.run.scan("jobs").select(columns).collect()

    @cached_property
    def failures(self) -> pl.DataFrame:
        """The table of failures."""
        return self.run.scan("failures").collect()

    @cached_property
    def sales(self) -> pl.DataFrame:
        """The table of sales."""
        return self.run.scan("sales").collect()

    @cached_property
    def ledger(self) -> pl.DataFrame:
        """The ledger, empty without money."""
        return self.run.scan("ledger").collect()

    @cached_property
    def ages(self) -> list[Row]:
        """``measures.mean_ages`` by tier."""
        import polars as pl

        held = self.run.scan("allocations").select(
            "node", "start_s", "end_s", gpus=pl.col("gpus") * pl.col("gpu_share")
        )
        return measures.mean_ages(held.collect(), self.spells, ["tier"])

    def mean_age_y(self, kind: str) -> float | None:
        """Mean age of the installed or allocated GPU hours of the whole fleet."""
        rows = [row for row in self.ages if row[f"{kind}_age_y"] is not None]
        hours = fsum(row[f"{kind}_gpu_hours"] for row in rows)
        return fsum(row[f"{kind}_age_y"] * row[f"{kind}_gpu_hours"] for row in rows) / hours if rows else None

    @cached_property
    def periods(self) -> list[tuple[float, float]]:
        """The periods of the usage table, in order."""
        return sorted(self.usage.select(PERIOD).unique().rows())

    @cached_property
    def waits(self) -> list[Row]:
        """``measures.waits_by_size`` of the run."""
        return measures.waits_by_size(self.jobs)

    @cached_property
    def offered(self) -> list[Row]:
        """``measures.offered`` of the run."""
        return measures.offered(self.jobs, self.end_s)

    @cached_property
    def tiers(self) -> list[str]:
        """The rungs in the order of the ladder, and any other that the tables have."""
        ladder = [tier["name"] for tier in self.scenario.get("tiers") or []]
        return [*ladder, *sorted(set(self.usage["tier"]) - set(ladder))]

    @property
    def has_ladder(self) -> bool:
        """Whether the scenario has rungs."""
        return bool(self.scenario.get("tiers"))

    @property
    def retires(self) -> bool:
        """Whether any node left the fleet."""
        return bool((self.spells["state"] == "retired").any())

    @cached_property
    def generations(self) -> list[str]:
        """Generations of the fleet by age."""
        return [row["generation"] for row in summary.utilisation(self.usage, ["generation"])]

    @cached_property
    def sites(self) -> dict[str, str]:
        """The site of each cohort of the run."""
        first = self.scenario["sites"][0]["name"]
        listed = (self.scenario.get("node_list") or {}).get("site") or first
        found = dict.fromkeys(self.spells["cohort"].unique(), listed)
        for cohort in self.scenario["cohorts"]:
            count = (cohort.get("series") or {}).get("count", 0)
            for name in (cohort["name"], *(f"{cohort['name']}-{n + 1}" for n in range(count))):
                if name in found:
                    found[name] = cohort.get("site") or first
        return found

    @cached_property
    def slot_kw(self) -> dict[str, float]:
        """kW that the slot of a GPU reserves, by model."""
        catalog = load_catalog()
        return {m: catalog[m].slot_kw_per_gpu for m in self.spells["gpu_model"].unique() if m in catalog}

    @cached_property
    def headline(self) -> dict[str, float | None]:
        """The figures of :data:`FIGURES`; None where the run has no such thing. Retirements by cause follow
        as ``retired:cause``."""
        chain = summary.utilisation(self.usage, [])[0]
        found: dict[str, float | None] = {key: chain.get(key) for key in FIGURES}
        statuses = dict(self.jobs["status"].cast(str).value_counts().rows())
        wait = self.jobs["wait_s"].drop_nulls()
        retired = lifetimes.retirements(self.spells)
        carbon = self.usage["carbon_kg"].drop_nulls()
        found |= {
            "jobs": self.jobs.height,
            "completed": statuses.get("completed", 0),
            "queued": statuses.get("queued", 0),
            "wait_p50_s": wait.quantile(0.5, "linear"),
            "wait_p99_s": wait.quantile(0.99, "linear"),
            "pue": chain["facility_energy_mwh"] / chain["energy_mwh"] if chain["energy_mwh"] else None,
            "carbon_t": fsum(carbon) / 1000 if len(carbon) else None,
            "installed_age_y": self.mean_age_y("installed"),
            "allocated_age_y": self.mean_age_y("allocated"),
            "retired_gpus": sum(row["gpus"] for row in retired) if retired else None,
            "sold_gpus": int(self.sales["gpus"].sum()) if self.sales.height else None,
            "sales_usd": fsum(row["usd"] for row in lifetimes.sold(self.sales))
            if self.sales.height
            else None,
        }
        if self.scenario.get("failures"):
            found["failures"] = self.failures.height
            sizes = lifetimes.ettr_by_size(self.jobs)
            found["ettr"] = sizes[-1]["ettr"] if sizes else None
        if self.ledger.height:
            found |= lifetimes.money(self.ledger)
        for row in retired:
            key = f"retired:{row['cause']}"
            found[key] = (found.get(key) or 0) + row["gpus"]
        return found


def figure_of(key: str) -> Figure:
    """The figure of a key of ``Facts.headline``."""
    if key.startswith("retired:"):
        cause = key.partition(":")[2]
        return Figure(f"retired: {cause.replace('_', ' ')}", "GPUs", f"of those, with the cause {cause}")
    return FIGURES[key]


def short(number: float) -> str:
    """Three digits and a word.

    >>> [short(x) for x in (0.123, 12.34, 9876, 43_210, 5_611_234, 2.5e9, -1_500_000)]
    ['0.123', '12.3', '9,876', '43.2 k', '5.61 M', '2.50 bn', '-1.50 M']
    """
    for limit, name in ((1e9, "bn"), (1e6, "M"), (1e4, "k")):
        if abs(number) >= limit:
            return f"{units.streamline(number / (1e3 if name == 'k' else limit))} {name}"
    return units.streamline(number)


def say(unit: str, value: float | None) -> str:
    """A figure for people, with its unit.

    >>> say("share", 0.5), say("s", 5400), say("GPU h", 5.6e6), say("jobs", 12), say("y", None)
    ('50.0 %', '1 h 30 min', '5.60 M GPU h', '12', '-')
    """
    if value is None:
        return "-"
    if unit == "share":
        return f"{100 * value:.1f} %"
    if unit == "s":
        return units.human(value)
    if unit in ("1", "y"):
        return f"{value:.3f}" if unit == "1" else f"{value:.2f} y"
    if unit in ("jobs", "times", "GPUs"):
        count = short(value) if value >= 1e5 else f"{value:,.0f}"
        return count if unit != "GPUs" else f"{count} GPU{'s' * (count != '1')}"
    if unit == "MWh" and value >= 1e4:
        return f"{short(value / 1000)} GWh"
    return f"{short(value)} {unit}"


def difference(unit: str, base: float | None, value: float | None) -> str:
    """*value* against *base*: shares in percentage points, all else in per cent.

    >>> difference("share", 0.5, 0.52), difference("MWh", 100, 90), difference("s", 0, 5)
    ('+2.0 pp', '-10.0 %', '+5 s')
    """
    if base is None or value is None:
        return ""
    if value == base:
        return "="
    if unit == "share":
        return f"{100 * (value - base):+.1f} pp".replace("-0.0", "+0.0")
    if not base:
        return f"+{say(unit, value)}" if value > 0 else say(unit, value)
    return f"{100 * (value - base) / abs(base):+.1f} %"
