"""When nodes leave the fleet, and the secondary market where they are sold."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Generator, Sequence

import simpy

from fleetsim.catalog import load_catalog
from fleetsim.engine import DELIVERY
from fleetsim.life import economics
from fleetsim.life.cascade import margin_usd_per_kw_year
from fleetsim.life.crew import Crew
from fleetsim.life.money import Money
from fleetsim.life.spec import RetirementSpec
from fleetsim.units import UNIT_S, YEAR_S, duration_s


class Retirement:
    """Has *crew* retire nodes as *rule* says. *end_s* is the end of the run."""

    def __init__(self, crew: Crew, rule: RetirementSpec, money: Money | None, end_s: float) -> None:
        self._crew, self._rule, self._money, self._end_s = crew, rule, money, end_s
        self._drain_s = duration_s(rule.drain)
        self._failures: Counter[int] = Counter()  # by node
        if rule.rule == "fixed_age":
            crew.came.append(self._fixed_age)
        elif rule.rule != "failure":
            crew.clock.process(self._reviews())

    def failed(self, cohort: int, node: int) -> None:
        """*node* has failed, and would be repaired."""
        self._failures[node] += 1
        if self._rule.rule == "failure" and self._failures[node] == self._rule.failures:
            self._crew.retire(cohort, [node], "failure")

    def _fixed_age(self, cohort: int, rung: int, nodes: Sequence[int]) -> None:
        """Nodes have come into service: they leave at the age."""
        if rung == self._crew.entry(cohort):
            self._crew.clock.process(self._aged(cohort, nodes))

    def _aged(self, cohort: int, nodes: Sequence[int]) -> Generator[simpy.Event]:
        c, clock = self._crew.cohorts[cohort], self._crew.clock
        assert self._rule.age is not None
        at_s = max(c.born_s + duration_s(self._rule.age), c.contract_until_s)
        if at_s > clock.now:
            if at_s >= self._end_s:
                return
            yield clock.moment(at_s, DELIVERY)
        self._crew.retire(cohort, nodes, "fixed_age", self._drain_s)

    def _reviews(self) -> Generator[simpy.Event]:
        """Process: look at every cohort on every rung, again and again."""
        crew = self._crew
        every_s = duration_s(self._rule.review)
        at_s = 0.0
        while at_s < self._end_s:
            yield crew.clock.moment(at_s, DELIVERY)
            for k, cohort in enumerate(crew.cohorts):
                for rung, standing in list(crew.standing[k].items()):
                    settled = [n for n in standing if not crew.busy(n)]
                    free = crew.clock.now >= cohort.contract_until_s
                    if settled and free and self._is_due(k, crew.names[rung]):
                        crew.retire(k, settled, self._rule.rule, self._drain_s)
            at_s += every_s

    def _is_due(self, k: int, tier: str) -> bool:
        """Whether the rule says that *tier* is no place for cohort *k* any more."""
        crew, money, rule = self._crew, self._money, self._rule
        assert money is not None
        cohort, now, terms = crew.cohorts[k], crew.clock.now, money.terms
        margin_old = margin_usd_per_kw_year(crew, money, k, tier)
        margin_new = annuity_new = holding_old = 0.0
        if rule.successor is not None:
            model = load_catalog()[rule.successor]
            price, kw = money.price(model.id, tier), model.slot_kw_per_gpu
            retrofit = rule.retrofit_usd_per_kw is not None
            fits = retrofit or cohort.site.takes(model, model.gpus_per_server)
            if price is None or not fits or money.available_s[model.id] > now:
                return False
            usd = float(price.at(now))
            margin_new = float(economics.expected_margin(terms, model.id, kw, cohort.site.pue, usd))
            capex_usd = money.capex_usd_per_gpu[model.id]
            if rule.rule == "slot":
                assert capex_usd is not None
                annuity_new = economics.annuity_usd_per_kw_year(
                    capex_usd,
                    money.residual_usd_per_gpu(model.id),
                    kw,
                    terms.discount_rate,
                    terms.life_y,
                    rule.retrofit_usd_per_kw or 0.0,
                )
                if rule.sell:
                    holding_old = economics.holding_usd_per_kw_year(
                        market_value_usd(crew, money, k, now),
                        market_value_usd(crew, money, k, now + YEAR_S),
                        terms.discount_rate,
                        cohort.model.slot_kw_per_gpu,
                    )
        return economics.RULES[rule.rule](margin_old, holding_old, margin_new, annuity_new)


class SecondaryMarket:
    """Sells what has left the fleet, once a month, oldest stock first, as far as there are buyers.

    ``depth_per_month`` is a part of the GPUs of a model that were ever in service. What is not sold waits.
    What broke for good is scrapped, and all but what comes to a rung for sale if there are no *offers*.
    """

    def __init__(self, crew: Crew, money: Money, offers: bool, end_s: float) -> None:
        self._crew, self._money, self._offers, self._end_s = crew, money, offers, end_s
        self._stock: dict[str, deque[tuple[int, int]]] = {}  # (cohort, GPUs) by model, in order of leaving
        self._served: Counter[str] = Counter()  # GPUs ever in service, by model
        self._wanted: dict[
            str, float
        ] = {}  # of each model, the part of a GPU that buyers took less than asked
        crew.came.append(self._came)
        crew.left.append(self._left)
        crew.clock.process(self._months())

    def _came(self, cohort: int, rung: int, nodes: Sequence[int]) -> None:
        c = self._crew.cohorts[cohort]
        if rung == self._crew.entry(cohort):
            self._served[c.model.id] += len(nodes) * c.gpus_per_node

    def _left(self, cohort: int, nodes: Sequence[int], cause: str) -> None:
        c = self._crew.cohorts[cohort]
        offered = cause == "sale" or (self._offers and cause != "failure")
        if offered and c.capex_usd_per_gpu is not None:
            self._stock.setdefault(c.model.id, deque()).append((cohort, len(nodes) * c.gpus_per_node))

    def _months(self) -> Generator[simpy.Event]:
        at_s = UNIT_S["mo"]
        while at_s < self._end_s:
            yield self._crew.clock.moment(at_s, DELIVERY)
            for model, stock in self._stock.items():
                self._sell(model, stock)
            at_s += UNIT_S["mo"]

    def _sell(self, model: str, stock: deque[tuple[int, int]]) -> None:
        crew, market = self._crew, self._money.terms.market
        served, most = self._served[model], economics.sellable_share(market)
        wanted = most * served + self._wanted.get(model, 0.0) + 1e-9
        left = min(int(wanted), sum(gpus for _, gpus in stock))
        self._wanted[model] = wanted % 1 if left == int(wanted) else 0.0
        discount = economics.sale_discount(min(left / served, most), market) if left else 0.0
        while left:
            cohort, gpus = stock.popleft()
            sold = min(gpus, left)
            left -= sold
            if gpus > sold:
                stock.appendleft((cohort, gpus - sold))
            usd = market_value_usd(crew, self._money, cohort, crew.clock.now) * (1 - discount)
            crew.observer.sold(crew.clock.now, cohort, sold, usd, discount)


def market_value_usd(crew: Crew, money: Money, cohort: int, at_s: float) -> float:
    """What a GPU of *cohort* fetches on the secondary market at *at_s*; 0 if its price is unknown."""
    c, terms = crew.cohorts[cohort], money.terms
    successors_y = [(s - c.born_s) / YEAR_S for s in terms.successors_s[c.model.id]]
    share = economics.residual_share((at_s - c.born_s) / YEAR_S, successors_y, terms.market)
    return (c.capex_usd_per_gpu or 0.0) * float(share)
