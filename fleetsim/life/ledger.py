"""Money of a finished run: what each cohort earned and cost on each tier, period by period, and is worth.

Everything is computed from tables of the run folder and the scenario's terms, so that anyone who has both can
compute it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fleetsim import schema
from fleetsim.life import economics
from fleetsim.life.economics import HOURS_PER_YEAR, PricePath, Terms
from fleetsim.records import Cohort, Floats, Ints
from fleetsim.units import YEAR_S

if TYPE_CHECKING:
    import polars as pl

#: States of the usage table in which GPUs are rented.
RENTED = ("stalled", "lost", "productive")

#: States of a node in which it takes a slot.
INSTALLED = ("up", "down")

#: Sale dates a year that the intrinsic value considers.
SALES_PER_YEAR = 12


def ledger(
    usage: pl.DataFrame,
    node_states: pl.DataFrame,
    cohorts: Sequence[Cohort],
    terms: Terms,
    price: Callable[[str, str], PricePath | None],
) -> dict[str, Any]:
    """The columns of the ledger table: a row for each period, cohort and tier that had GPUs installed.

    *usage* and *node_states* are those tables of the run; *price* gives the rent in USD per GPU hour of a
    GPU model on a tier, None where none is known. Rows are in order of period, cohort and name of the tier.

    - ``rent_usd``: exact mean of the price over the period x allocated GPU hours.
    - ``energy_usd``: energy at the meter x price of electricity. ``opex_usd``: by installed GPU hours.
    - ``slot_kw``: installed GPU hours x kW that a GPU's slot reserves / hours of the period.
    - ``margin_usd`` = rent - energy - opex. ``margin_usd_per_kw_year`` = margin / slot kW / years.
    - ``book_value_usd``, ``market_value_usd``, ``intrinsic_value_usd``: of the GPUs that are installed just
      before the period ends; what happens at that instant belongs to the next one.

    Market value is that of a sale without discount. Intrinsic value is of GPUs that stay on their tier until
    they are sold for scrap, at the end of the month within ``terms.horizon_y`` where that pays best; with
    utilisation and load factor as expected, and the scenario's prices and successors known ahead.

    What rests on an unknown rent or capex is null. Raises ``KeyError`` if *terms* lacks a model of *cohorts*.
    """
    import pyarrow as pa

    start_s, first = np.unique(usage["period_start_s"].to_numpy(), return_index=True)
    end_s = usage["period_end_s"].to_numpy()[first]
    tiers = sorted({*usage["tier"].cast(str).unique(), *node_states["tier"].cast(str).unique()})
    lanes = [(cohort, tier) for cohort in cohorts for tier in tiers]
    shape = len(start_s), len(lanes)
    period = np.searchsorted(start_s, usage["period_start_s"].to_numpy())
    place = period * len(lanes) + _lanes(usage, cohorts, tiers)

    def total(column: str, states: Sequence[str] = schema.STATES) -> Floats:
        """Sums of *column* over *states*: in the order of the rows, the same on any number of cores."""
        amounts = usage[column] * usage["state"].cast(str).is_in(states)
        sums = np.bincount(place, amounts.to_numpy(), shape[0] * shape[1])
        return np.asarray(sums, np.float64).reshape(shape)

    hours = total("gpu_hours")
    installed = _installed(node_states, _lanes(node_states, cohorts, tiers), len(lanes), end_s)
    rows = (hours > 0) | (installed > 0)
    mean_usd, book_usd, market_usd, intrinsic_usd = np.full((4, *shape), np.nan)
    for lane, (cohort, tier) in enumerate(lanes):
        if len(p := np.nonzero(rows[:, lane])[0]):
            path = price(cohort.model.id, tier)
            if path is not None:
                mean_usd[p, lane] = path.mean(start_s[p], end_s[p])
            worth_usd = _worth_usd(cohort, path, terms, end_s[p])
            book_usd[p, lane], market_usd[p, lane], intrinsic_usd[p, lane] = worth_usd

    period, lane_of = np.nonzero(rows)
    models = [cohort.model for cohort, _ in lanes]
    opex_usd_per_gpu_year = np.array([terms.opex_usd_per_gpu_year[m.id] for m in models])
    period_y = (end_s - start_s)[period] / YEAR_S
    gpu_years = hours[rows] / HOURS_PER_YEAR
    slot_kw = gpu_years * np.array([m.slot_kw_per_gpu for m in models])[lane_of] / period_y
    rented_hours = total("gpu_hours", RENTED)[rows]
    rent_usd = mean_usd[rows] * rented_hours
    energy_usd = total("facility_energy_kwh")[rows] * terms.usd_per_kwh
    opex_usd = gpu_years * opex_usd_per_gpu_year[lane_of]
    margin_usd = rent_usd - energy_usd - opex_usd
    kw_years = np.where(slot_kw > 0, slot_kw * period_y, np.nan)

    def labels(texts: Sequence[str]) -> Any:
        names = sorted(set(texts))
        return schema.labels(np.array([names.index(text) for text in texts], np.int64)[lane_of], names)

    def known(usd: Floats) -> Any:
        return pa.array(usd, mask=np.isnan(usd))

    return {
        "period_start_s": start_s[period],
        "period_end_s": end_s[period],
        "cohort": labels([cohort.name for cohort, _ in lanes]),
        "gpu_model": labels([m.id for m in models]),
        "generation": labels([m.generation for m in models]),
        "tier": labels([tier for _, tier in lanes]),
        "allocated_gpu_hours": rented_hours,
        "rent_usd": known(rent_usd),
        "energy_usd": energy_usd,
        "opex_usd": opex_usd,
        "margin_usd": known(margin_usd),
        "slot_kw": slot_kw,
        "margin_usd_per_kw_year": known(margin_usd / kw_years),
        "book_value_usd": known(installed[rows] * book_usd[rows]),
        "market_value_usd": known(installed[rows] * market_usd[rows]),
        "intrinsic_value_usd": known(installed[rows] * intrinsic_usd[rows]),
    }


def _worth_usd(
    cohort: Cohort, path: PricePath | None, terms: Terms, time_s: Floats
) -> tuple[Floats, Floats, Floats]:
    """Book, market and intrinsic value of one GPU at each time; NaN where not known."""
    model, kw = cohort.model.id, cohort.model.slot_kw_per_gpu
    capex_usd = terms.capex_usd_per_gpu.get(cohort.name, np.nan)
    successor_ages_y = [(s - cohort.born_s) / YEAR_S for s in terms.successors_s.get(model, ())]
    age_y = (time_s - cohort.born_s) / YEAR_S
    book_usd = economics.book_value(age_y, capex_usd, terms.book)
    market_usd = capex_usd * economics.residual_share(age_y, successor_ages_y, terms.market)
    if path is None:
        return book_usd, market_usd, np.full(len(time_s), np.nan)
    wait_y = np.arange(round(terms.horizon_y * SALES_PER_YEAR) + 1) / SALES_PER_YEAR
    sale_s = time_s[:, None] + wait_y * YEAR_S
    rent_usd = path.mean(sale_s[:, :-1], sale_s[:, 1:])
    margins_usd = kw * economics.expected_margin(terms, model, kw, cohort.site.pue, rent_usd)
    scrap = economics.scrap_share(age_y[:, None] + wait_y, successor_ages_y, terms.market)
    rate, step_y = terms.discount_rate, 1 / SALES_PER_YEAR
    return book_usd, market_usd, economics.intrinsic_value(margins_usd, capex_usd * scrap, step_y, rate)


def _lanes(table: pl.DataFrame, cohorts: Sequence[Cohort], tiers: Sequence[str]) -> Ints:
    """Each row's place among the pairs of cohort and tier."""
    import polars as pl

    def codes(column: str, names: Sequence[str]) -> Ints:
        physical = table[column].cast(pl.String).cast(pl.Enum(names)).to_physical()
        return physical.to_numpy().astype(np.int64)

    return codes("cohort", [c.name for c in cohorts]) * len(tiers) + codes("tier", tiers)


def _installed(node_states: pl.DataFrame, lane: Ints, lanes: int, end_s: Floats) -> Ints:
    """GPUs installed just before each period ends, by period and lane."""
    node, time_s = node_states["node"].to_numpy(), node_states["time_s"].to_numpy()
    order = np.lexsort((np.arange(len(node)), time_s, node))
    node, time_s, lane = node[order], time_s[order], lane[order]
    gpus = (node_states["gpus"] * node_states["state"].cast(str).is_in(INSTALLED)).to_numpy()[order]
    last = np.ones(len(node), bool)  # change of a node: it holds to the end
    last[:-1] = node[1:] != node[:-1]
    until_s = np.where(last, np.inf, np.roll(time_s, -1))
    change = np.zeros((len(end_s) + 1, lanes), np.int64)
    np.add.at(change, (np.searchsorted(end_s, time_s, "right"), lane), gpus)
    np.add.at(change, (np.searchsorted(end_s, until_s, "right"), lane), -gpus)
    return np.cumsum(change, axis=0)[:-1]
