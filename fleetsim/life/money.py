"""What a scenario says of money, as the formulas of :mod:`~fleetsim.life.economics` take it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from fleetsim import units
from fleetsim.catalog import load_catalog
from fleetsim.gpu_model import GpuModel
from fleetsim.life.economics import Market, PricePath, Terms, residual_share
from fleetsim.life.spec import EconomicsSpec
from fleetsim.records import Cohort
from fleetsim.units import YEAR_S, duration_s

#: Rented hours over all hours, where a scenario does not say.
UTILISATION = 0.85

#: Running cost without energy, as a share of the price a year, where a scenario does not say.
OPEX_SHARE = 0.03


class Money:
    """Prices, costs and values over the time of one scenario; times in s from its start.

    ``terms`` are the assumptions. *others* are models that the fleet does not have and rules ask about.
    """

    def __init__(
        self, spec: EconomicsSpec, cohorts: Sequence[Cohort], start: datetime, others: Iterable[str] = ()
    ) -> None:
        catalog = load_catalog()
        self.spec = spec
        self._start = start
        models = {c.model.id: c.model for c in cohorts} | {name: catalog[name] for name in others}
        said = {m.gpu_model: m for m in spec.gpu_models}
        capex = {name: capex_usd_per_gpu(model, spec) for name, model in models.items()}
        utilisation, opex = {}, {}
        for name in models:
            m = said.get(name)
            utilisation[name] = m.utilisation if m and m.utilisation is not None else UTILISATION
            given = m.opex_usd_per_gpu_year if m else None
            opex[name] = given if given is not None else OPEX_SHARE * (capex[name] or 0.0)
        shipped = {name: units.since(start, model.available.isoformat()) for name, model in models.items()}
        #: Generations of these models, and when the first of each shipped.
        first: dict[str, float] = {}
        for name, model in models.items():
            first[model.generation] = min(shipped[name], first.get(model.generation, shipped[name]))
        self.terms = Terms(
            usd_per_kwh=spec.usd_per_kwh,
            load_factor=spec.load_factor,
            discount_rate=spec.discount_rate,
            life_y=duration_s(spec.life) / YEAR_S,
            book=(
                (0.0, duration_s(spec.book.life) / YEAR_S),
                *((duration_s(c.after) / YEAR_S, duration_s(c.life) / YEAR_S) for c in spec.book.changes),
            ),
            market=Market(**spec.market.model_dump()),
            utilisation=utilisation,
            opex_usd_per_gpu_year=opex,
            capex_usd_per_gpu={c.name: usd for c in cohorts if (usd := c.capex_usd_per_gpu) is not None},
            successors_s={
                name: sorted(s for generation, s in first.items() if s > first[model.generation])
                for name, model in models.items()
            },
        )
        self.capex_usd_per_gpu = capex
        self.available_s = shipped

    def residual_usd_per_gpu(self, gpu_model: str) -> float:
        """What a new GPU of *gpu_model* is worth at the end of the ``life`` of ``economics``."""
        for m in self.spec.gpu_models:
            if m.gpu_model == gpu_model and m.residual_usd_per_gpu is not None:
                return m.residual_usd_per_gpu
        return (self.capex_usd_per_gpu[gpu_model] or 0.0) * float(
            residual_share(self.terms.life_y, (), self.terms.market)
        )

    def price(self, gpu_model: str, tier: str) -> PricePath | None:
        """Rent of *gpu_model* on *tier*, USD per GPU hour; None where the scenario has no price for it."""
        for p in self.spec.prices:
            if (p.gpu_models is None or gpu_model in p.gpu_models) and (p.tiers is None or tier in p.tiers):
                if p.points is not None:
                    times = [units.since(self._start, when) for when, _ in p.points]
                    return PricePath(tuple(times), tuple(usd for _, usd in p.points))
                return PricePath((0.0,), (p.usd_per_gpu_hour or 0.0,), p.change_per_year)
        return None


def capex_usd_per_gpu(model: GpuModel, spec: EconomicsSpec | None) -> float | None:
    """What a GPU of *model* costs with its share of the server; None if nobody says."""
    for m in spec.gpu_models if spec else ():
        if m.gpu_model == model.id and m.capex_usd_per_gpu is not None:
            return m.capex_usd_per_gpu
    return model.server_price_usd_per_gpu
