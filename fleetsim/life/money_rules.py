"""What a scenario says of money, checked against itself and against the catalogue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from fleetsim.catalog import load_catalog
from fleetsim.life.money import capex_usd_per_gpu
from fleetsim.life.spec import EconomicsSpec, PriceSpec
from fleetsim.reading import Fault, Loc, unknown, unknown_model
from fleetsim.spec import CohortSpec
from fleetsim.units import duration_s, since


def faults(
    economics: EconomicsSpec, rungs: Sequence[str], cohorts: Mapping[int, CohortSpec], start: datetime
) -> Iterator[Fault]:
    """Everything wrong with *economics*, where the ladder has these *rungs*."""
    yield from _models(economics, cohorts)
    yield from _book(economics)
    for i, p in enumerate(economics.prices):
        yield from _price(("economics", "prices", i), p, rungs, start)
    market = economics.market
    if market.max_discount and not market.discount_per_percent:
        message = "0, so every card finds a buyer in a month without a discount"
        remedy = "Give more than 0, or leave max_discount out and raise depth_per_month."
        yield ("economics", "market", "discount_per_percent"), message, remedy


def is_priced(economics: EconomicsSpec, gpu_model: str, rung: str) -> bool:
    """Whether some entry of the prices holds *gpu_model* on *rung*."""
    return any(
        (p.gpu_models is None or gpu_model in p.gpu_models) and (p.tiers is None or rung in p.tiers)
        for p in economics.prices
    )


def _models(economics: EconomicsSpec, cohorts: Mapping[int, CohortSpec]) -> Iterator[Fault]:
    """What is assumed of models: each once, and worth no more used than new."""
    catalog = load_catalog()
    listed = Counter(m.gpu_model for m in economics.gpu_models)
    residual: dict[str, float] = {}
    for i, m in enumerate(economics.gpu_models):
        loc: Loc = ("economics", "gpu_models", i)
        yield from unknown_model((*loc, "gpu_model"), m.gpu_model)
        if listed[m.gpu_model] > 1:
            message = f"{m.gpu_model} is listed {listed[m.gpu_model]} times"
            yield (*loc, "gpu_model"), message, "Say all of a model at once."
        if m.residual_usd_per_gpu is None or m.gpu_model not in catalog:
            continue
        residual[m.gpu_model] = m.residual_usd_per_gpu
        price = capex_usd_per_gpu(catalog[m.gpu_model], economics)
        if price is not None and m.residual_usd_per_gpu > price:
            message = f"{m.residual_usd_per_gpu:,g} USD is above the price when new, {price:,g} USD"
            yield (*loc, "residual_usd_per_gpu"), message, "Give less, or a higher capex_usd_per_gpu."
    for k, c in cohorts.items():
        left = residual.get(c.gpu_model, 0.0)
        if c.capex_usd_per_gpu is not None and c.capex_usd_per_gpu < left:
            message = f"{c.capex_usd_per_gpu:,g} USD is below the residual of {c.gpu_model}, {left:,g} USD"
            yield ("cohorts", k, "capex_usd_per_gpu"), message, "Give more, or a lower residual_usd_per_gpu."


def _book(economics: EconomicsSpec) -> Iterator[Fault]:
    """Changes of estimate come one after the other, while there is something left to write off."""
    loc: Loc = ("economics", "book", "changes")
    before, life = 0.0, economics.book.life
    for i, change in enumerate(economics.book.changes):
        after = duration_s(change.after)
        if after <= before:
            message = f"{change.after!r} is not after the change before it"
            yield (*loc, i, "after"), message, "Ages rise."
        elif after >= duration_s(life):
            message = f"{change.after!r}, but all is written off at {life!r}"
            yield (*loc, i, "after"), message, "Change the estimate before."
        if duration_s(change.life) <= after:
            message = f"{change.life!r} is over when it takes effect, at {change.after!r}"
            yield (*loc, i, "life"), message, "It is counted from delivery: give more."
        before, life = after, change.life


def _price(loc: Loc, p: PriceSpec, rungs: Sequence[str], start: datetime) -> Iterator[Fault]:
    """One path, of what there is."""
    if (p.usd_per_gpu_hour is None) == (p.points is None):
        yield loc, "needs one of `usd_per_gpu_hour` and `points`", "For example: {usd_per_gpu_hour: 1.5}."
    if p.change_per_year and p.usd_per_gpu_hour is None:
        message = "changes a price that is not given by `usd_per_gpu_hour`"
        yield (*loc, "change_per_year"), message, "Write the change into the points."
    for n, (when, usd) in enumerate(p.points or ()):
        if usd < 0:
            yield (*loc, "points", n, 1), f"{usd:g} USD is negative", "Give 0 or more."
        if n and since(start, when) <= since(start, (p.points or ())[n - 1][0]):
            yield (*loc, "points", n, 0), f"{when!r} is not after the point before it", "Times rise."
    for k, name in enumerate(p.gpu_models or ()):
        yield from unknown_model((*loc, "gpu_models", k), name)
    for k, name in enumerate(p.tiers or ()):
        if name not in rungs:
            yield (*loc, "tiers", k), *unknown("tier", name, rungs)
