"""A scenario in which nodes come, move down the ladder, fail and leave: every key that says so, somewhere."""

from __future__ import annotations

from typing import Any

#: Sound. Three generations of A100 (8 x 0.8125 kW = 6.5 kW a node), H100 (10.2) and B200 (14.3).
AGING: dict[str, Any] = {
    "name": "aging", "start": "2026-01-01", "horizon": "5y", "seed": 3, "replications": 2,
    "axes": {"cascade.enabled": [True, False]},
    "sites": [
        {
            "name": "north", "it_power_kw": 500, "over_power": "shed", "cooling": "air", "rack_kw": 42,
            "carbon_g_per_kwh": 380,
        },
        {"name": "south", "cooling": "liquid"},
    ],
    "cohorts": [
        {
            "name": "a100", "gpu_model": "a100-sxm-80", "nodes": 4, "delivered": "-2y", "tier": "inference",
            "contract_until": "2027-01-01", "capex_usd_per_gpu": 25000,
        },
        {
            "name": "h100", "gpu_model": "h100-sxm-80", "nodes": 2, "delivered": "90d", "ordered": "-90d",
            "delay": "30d", "burn_in": "3d", "series": {"every": "12mo", "count": 3},
        },
        {
            "name": "b200", "gpu_model": "b200-sxm-180", "nodes": 2, "site": "south", "delivered": "1y",
            "delay": {"median": "60d", "sigma": 0.8},
        },
    ],
    "tenants": [{"name": "red"}, {"name": "blue"}],
    "workloads": [
        {
            "name": "w", "trace": "philly-like-10k", "reference_gpu": "a100-sxm-80", "tenant": "red",
            "workload_class": "inference", "data_type": "bf16", "latency": "strict",
        },
    ],
    "tiers": [
        {
            "name": "frontier", "next": "inference", "classes": ["training", "fine_tuning"], "min_gpus": 1,
            "max_gpus": 64, "tenants": ["red"], "latency": "relaxed", "min_memory_gb": 80, "data_type": "fp8",
            "min_domain_gpus": 8, "leave_at": "2y",
        },
        {"name": "inference", "classes": ["inference"], "leave_at": "4y"},
        {"name": "batch"},
        {"name": "sold", "for_sale": True},
    ],
    "cascade": {"enabled": True, "rule": "age", "unit": "node", "drain": "3d"},
    "retirement": {"rule": "fixed_age", "age": "6y", "drain": "1d", "sell": False},
    "failures": [
        {
            "name": "wear", "unit": "gpu", "gpu_models": ["h100-sxm-80"], "cohorts": ["h100-2", "h100"],
            "hazard": [{"per_year": 0.01}, {"shape": 3.0, "scale": "9y"}, {"curve": [[0, 0.1], ["1y", 0]]}],
            "lemons": {"share": 0.02, "factor": 20.0}, "xids": {"79": 1.0, "48": 0.5},
            "repairs": [
                {"name": "reset", "share": 0.6, "median": 0},
                {"name": "swap", "share": 0.3, "median": "4d", "sigma": 0.5, "replaces": "gpu"},
                {"name": "scrap", "share": 0.1, "retires": True},
            ],
            "powered": True,
        },
        {
            "name": "jobs", "unit": "job", "hazard": [{"per_year": 2.0}],
            "jobs": {"min_gpus": 8, "max_gpus": 64},
        },
        {"name": "written", "cohorts": ["a100"], "script": [{"after": "90d", "down": "2d"}]},
    ],
    "spares": [{"gpu_model": "h100-sxm-80", "gpus": 2, "nodes": 1, "rma": "21d"}],
    "economics": {
        "usd_per_kwh": 0.09, "load_factor": 0.6, "discount_rate": 0.12, "life": "4y",
        "book": {"life": "6y", "changes": [{"after": "2y", "life": "5y"}]},
        "gpu_models": [
            {
                "gpu_model": "h100-sxm-80", "utilisation": 0.9, "opex_usd_per_gpu_year": 1000,
                "capex_usd_per_gpu": 36000, "residual_usd_per_gpu": 4000,
            },
        ],
        "prices": [
            {"gpu_models": ["b200-sxm-180"], "points": [["2026-01-01", 4.5], ["2y", 3]]},
            {"tiers": ["batch"], "usd_per_gpu_hour": 0.8},
            {"usd_per_gpu_hour": 2, "change_per_year": -0.2},
        ],
        "market": {
            "floor": 0.04, "decay_per_year": 0.5, "per_successor": 0.2, "depth_per_month": 0.05,
            "discount_per_percent": 0.02, "max_discount": 0.3,
        },
    },
}  # fmt: skip

#: Other ways down the ladder; only age has ages.
CASCADES: list[dict[str, Any]] = [
    {"rule": "successor", "successors": 2},
    {"rule": "pressure", "review": "2w", "step": 0.2, "min_wait": "2h"},
    {"rule": "margin", "unit": "node", "review": "3mo"},
]

#: Other ways out of the fleet.
RETIREMENTS: list[dict[str, Any]] = [
    {"rule": "cash_out", "review": "2mo"},
    {"rule": "naive", "successor": "b200-sxm-180"},
    {"rule": "slot", "successor": "b200-sxm-180", "retrofit_usd_per_kw": 3000},
    {"rule": "failure", "failures": 3},
]


def without_ages() -> list[dict[str, Any]]:
    """The tiers, left at no age."""
    return [{key: value for key, value in tier.items() if key != "leave_at"} for tier in AGING["tiers"]]


#: All of them.
ALL: dict[str, dict[str, Any]] = {
    "age": AGING,
    **{c["rule"]: {**AGING, "tiers": without_ages(), "cascade": c} for c in CASCADES},
    **{f"retire by {r['rule']}": {**AGING, "retirement": r} for r in RETIREMENTS},
}
