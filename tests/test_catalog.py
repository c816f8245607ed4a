"""The catalogue: its own figures against hand arithmetic, and what a broken row or file says."""

from __future__ import annotations

import math
import pickle
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetsim.catalog import ESTIMATE, FIGURES, Catalog, GpuModel, load_catalog, parse_catalog
from fleetsim.errors import InputError, Problem
from fleetsim.gpu_model import COOLING

CLASSES = ("training", "fine_tuning", "inference", "batch", "interactive")

SERVER = {  # id: (overhead W per GPU, slot kW per GPU), worked out apart from the code, to 0.1 W
    "p100-sxm2-16": (100.0, 0.4),
    "v100-sxm2-16": (137.5, 0.4375),
    "v100-sxm2-32": (137.5, 0.4375),
    "t4": (105.0, 0.175),
    "a10": (175.0, 0.325),
    "a30": (185.0, 0.35),
    "a40": (200.0, 0.5),
    "a100-sxm-40": (412.5, 0.8125),
    "a100-sxm-80": (412.5, 0.8125),
    "l4": (103.0, 0.175),
    "l40s": (200.0, 0.55),
    "h100-pcie-80": (250.0, 0.6),
    "h100-sxm-80": (575.0, 1.275),
    "h200-sxm-141": (575.0, 1.275),
    "b200-sxm-180": (787.5, 1.7875),
    "gb200-nvl72": (466.7, 1.6667),
    "gb300-nvl72": (433.3, 1.8333),
    "mi250x": (290.0, 0.85),
    "mi300x": (425.0, 1.175),
    "mi325x": (437.5, 1.4375),
    "tpu-v4": (158.0, 0.35),
    "tpu-v5e": (125.0, 0.325),
    "tpu-v5p": (200.0, 0.65),
    "trainium2": (250.0, 0.75),
    "gaudi3": (412.5, 1.3125),
}

GOOD = """\
schema: fleetsim-gpu-catalogue/1
sources: {sheet: a data sheet}
price_kinds: {on_demand: list price}
models:
- id: good
  name: Good
  vendor: V
  generation: G
  announced: [2020-01-01, sheet]
  available: [2020-02-01, sheet]
  form_factor: SXM
  cooling: air
  memory_type: HBM
  interconnect: link
  memory_gb: [80, sheet]
  memory_bw_gb_s: [2000, sheet]
  bf16_tflops: [300, sheet, 'a remark']
  tdp_w: [400, sheet]
  idle_w: [50, estimate]
  context_w: [30, estimate]
  power_exponent: [0.5, estimate]
  gpus_per_server: [8, sheet]
  server_max_w: [6400, sheet]
  server_idle_w: [800, estimate]
  interconnect_gb_s: [600, sheet]
  mig_max_instances: [7, sheet]
  scaleup_domain_gpus: [8, sheet]
  rel_training: [1.0, sheet]
  rel_inference: [1.0, sheet]
  rental_prices:
  - [2024-02, 2, on_demand, estimate]
  - [2023-01, 4.1, on_demand, sheet]
"""


def broken(line: str) -> Catalog:
    """A catalogue of the sound model and a copy of it, ``bad``, in which *line* takes the place of its field.

    ``-field`` takes the field away; a line with a field that the row has not is added.
    """
    rows = GOOD[GOOD.index("- id: good") : GOOD.index("  rental_prices")].replace("good", "bad").splitlines()
    field = line.removeprefix("-").partition(":")[0]
    kept = [row for row in rows if not row.startswith(f"  {field}:")]
    assert line[0] != "-" or len(kept) < len(rows)
    at = next((n for n, row in enumerate(rows) if row not in kept), len(rows))
    new = [] if line[0] == "-" else [f"  {line}"]
    return parse_catalog(GOOD + "\n".join(kept[:at] + new + kept[at:]), "c.yaml")


def faults(catalog: Catalog, model_id: str = "bad") -> tuple[Problem, ...]:
    with pytest.raises(InputError) as caught:
        catalog.find(model_id, "s.yaml:3")
    return caught.value.problems


def refused(text: str) -> tuple[Problem, ...]:
    with pytest.raises(InputError) as caught:
        parse_catalog(text, "c.yaml")
    return caught.value.problems


# --- what ships -------------------------------------------------------------------------------------------


def test_every_model_loads_and_every_figure_has_a_source() -> None:
    catalog = load_catalog()
    assert len(catalog) == 25
    for model in catalog.values():
        present = {name for name in FIGURES if getattr(model, name) is not None} | {"announced", "available"}
        assert set(model.sources) == present, model.id
        assert set(model.sources.values()) <= set(catalog.sources), model.id
        assert set(model.remarks) <= present, model.id
        assert len(present) >= 14, model.id
        for price in model.rental_prices:
            assert price.source in catalog.sources and price.kind in catalog.price_kinds
        assert model.available.isoformat()[:7] <= min(price.month for price in model.rental_prices)
    assert load_catalog() is catalog


def test_every_source_is_used_and_says_what_it_is() -> None:
    catalog = load_catalog()
    used = {source for model in catalog.values() for source in model.sources.values()}
    used |= {price.source for model in catalog.values() for price in model.rental_prices}
    said = " ".join(text for model in catalog.values() for text in (*model.remarks.values(), model.notes))
    for key, meaning in catalog.sources.items():
        assert len(meaning) > 10, key
        assert key in used or key in said, key
    assert set(catalog.price_kinds) == {p.kind for model in catalog.values() for p in model.rental_prices}
    assert {"NVIDIA", "AMD", "Google", "AWS", "Intel"} == {model.vendor for model in catalog.values()}


def test_computed_server_figures() -> None:
    catalog = load_catalog()
    computed = {
        model.id: (round(model.overhead_w_per_gpu, 1), round(model.slot_kw_per_gpu, 4))
        for model in catalog.values()
    }
    assert computed == SERVER


def test_h100_by_hand() -> None:
    h100 = load_catalog()["h100-sxm-80"]
    assert (h100.tdp_w, h100.idle_w, h100.gpus_per_server, h100.server_max_w) == (700, 70, 8, 10200)
    assert h100.overhead_w_per_gpu == 575  # (10200 - 8 * 700) / 8 = 4600 / 8
    assert h100.slot_kw_per_gpu == 1.275  # 10.2 / 8
    assert (h100.context_w, h100.power_exponent, h100.server_idle_w) == (50, 0.7, 1300)
    assert h100.idle_power_w == 232.5  # 70 + 1300 / 8
    # the GPU is at 50 of its 630 W, and so is the server: 70 + 50 + 162.5 + (575 - 162.5) * 50 / 630
    assert h100.context_power_w == pytest.approx(282.5 + 412.5 * 50 / 630, rel=1e-12)
    # 0.25 ** 0.7 = 0.378929: the GPU at 120 + 580 * 0.378929 = 339.779 W, 269.779 of its 630
    gpu_w = 120 + 580 * 0.25**0.7
    assert gpu_w == pytest.approx(339.779, abs=5e-4)
    expected_w = gpu_w + 162.5 + 412.5 * (gpu_w - 70) / 630
    assert h100.busy_power_w(0.25) == pytest.approx(expected_w, rel=1e-12)
    assert h100.busy_power_w(0.0) == pytest.approx(h100.context_power_w, rel=1e-12)
    assert h100.busy_power_w(1.0) == 1275  # 700 + 575, the slot
    assert h100.memory_gb == 80 and h100.bf16_tflops == 989 and h100.fp4_tflops is None
    assert h100.sources["idle_w"] == "idle-logs" and h100.sources["rel_training"] == ESTIMATE


def test_t4_by_hand() -> None:
    t4 = load_catalog()["t4"]
    assert t4.overhead_w_per_gpu == 105  # (700 - 4 * 70) / 4 = 420 / 4
    assert t4.slot_kw_per_gpu == 0.175  # 0.7 / 4
    assert t4.idle_power_w == 50  # 10 + 160 / 4
    assert t4.context_power_w == pytest.approx(50 + 125 * 16 / 60, rel=1e-12)  # slot - idle = 175 - 50
    assert t4.busy_power_w(1.0) == 175
    assert t4.bf16_tflops is None and t4.mig_max_instances == 0


def test_gb200_by_hand() -> None:
    gb200 = load_catalog()["gb200-nvl72"]
    # with all GPUs at the limit the rack draws what it is rated for
    assert 72 * gb200.busy_power_w(1.0) == pytest.approx(120_000, rel=1e-12)
    assert 72 * gb200.idle_power_w == pytest.approx(19_080)  # 72 * 140 + 9000
    # 50 of 1,060 W up: 19,080 + (120,000 - 19,080) * 50 / 1060
    assert 72 * gb200.context_power_w == pytest.approx(19_080 + 100_920 * 50 / 1060)
    assert gb200.rack_kw == 72 * gb200.slot_kw_per_gpu


def test_power_of_an_array_is_that_of_its_elements() -> None:
    a100 = load_catalog()["a100-sxm-80"]
    sm_active = np.array([0.0, 0.25, 1.0])
    drawn_w = a100.busy_power_w(sm_active)
    assert drawn_w.tolist() == pytest.approx([a100.busy_power_w(s) for s in (0.0, 0.25, 1.0)], rel=1e-15)
    assert sm_active.tolist() == [0.0, 0.25, 1.0]


def made(**figures: float) -> GpuModel:
    return replace(load_catalog()["h100-sxm-80"], **figures)  # type: ignore[arg-type]


def test_a_straight_line_and_a_constant_server_are_the_worked_example_w27() -> None:
    """TDP 700, idle 70, overhead (10200 - 8 * 700) / 8 = 575 W: idle + (TDP - idle) * u + overhead."""
    line = made(power_exponent=1, context_w=0, server_idle_w=8 * 575)
    expected = {0.0: 645.0, 0.3: 834.0, 0.7: 1086.0, 1.0: 1275.0}
    assert {u: line.busy_power_w(u) for u in expected} == pytest.approx(expected, rel=1e-12)
    assert line.idle_power_w == line.context_power_w == 645.0
    pue = 1.25
    facility = {0.0: 806.25, 0.3: 1042.5, 0.7: 1357.5, 1.0: 1593.75}
    assert {u: pue * line.busy_power_w(u) for u in facility} == pytest.approx(facility, rel=1e-12)


def test_idle_servers_draw_what_such_servers_draw() -> None:
    """A DGX H100 idles near 2 kW, a fifth of its rating; no server idles at half of what it may draw."""
    catalog = load_catalog()
    assert 8 * catalog["h100-sxm-80"].idle_power_w == 1860  # 8 * 70 + 1300, of 10,200
    assert 8 * catalog["a100-sxm-80"].idle_power_w == 1364  # 8 * 58 + 900, of 6,500
    for model in catalog.values():
        share = model.idle_power_w / model.busy_power_w(1.0)
        assert 0.1 < share < (0.5 if model.vendor == "Google" else 0.3), model.id  # TPUs idle high


def test_training_on_a_dgx_h100_draws_what_was_measured() -> None:
    """Measured on eight H100: 76 % of 10.2 kW (arXiv 2506.14551), at most 8.4 kW (arXiv 2412.08602).

    The model draws that with 58 % and 68 % of the SMs active: what training shows.
    """
    h100 = load_catalog()["h100-sxm-80"]
    assert 8 * h100.busy_power_w(0.578) == pytest.approx(0.76 * 10_200, rel=1e-3)
    assert 8 * h100.busy_power_w(0.683) == pytest.approx(8_400, rel=1e-3)


def test_power_by_batch_size_saturates_as_measured() -> None:
    """Llama 3.1 8B on one H100 (ML.ENERGY): W of the GPU alone by batch size.

    With 120 W at no activity (idle 70 + context 50) and 700 W at the limit, these are the SM activities that
    the model takes for them. They rise with the batch, a half already at 8, and fall short of 1 at 256; a
    straight line to the limit would put 8 at 0.63 and 256 at 0.98.
    """
    measured_w = {8: 486, 16: 513, 32: 560, 64: 610, 128: 669, 256: 691}
    sm_active = {8: 0.518, 16: 0.573, 32: 0.674, 64: 0.786, 128: 0.925, 256: 0.978}
    h100 = load_catalog()["h100-sxm-80"]
    alone = made(server_max_w=8 * 700, server_idle_w=0)  # no server around the GPU
    assert {b: alone.busy_power_w(s) for b, s in sm_active.items()} == pytest.approx(measured_w, rel=1e-3)
    drawn_w = [h100.busy_power_w(s) for s in (0.0, 0.25, 0.5, 0.75, 1.0)]
    steps = [new - old for old, new in pairwise(drawn_w)]
    assert steps == sorted(steps, reverse=True) and steps[-1] > 0  # every quarter adds less than the last
    assert steps[0] > 2 * steps[-1]
    assert measured_w[8] / measured_w[256] == pytest.approx(0.70, abs=0.005)


@given(
    model=st.sampled_from(sorted(load_catalog())).map(load_catalog().__getitem__),
    one=st.floats(0, 1),
    other=st.floats(0, 1),
)
def test_power_rises_with_activity_from_idle_to_the_slot(model: GpuModel, one: float, other: float) -> None:
    slot_w = model.server_max_w / model.gpus_per_server
    low, high = sorted((one, other))
    low_w, high_w = model.busy_power_w(low), model.busy_power_w(high)
    idle_w, context_w = model.idle_power_w, model.context_power_w
    assert 0 < idle_w <= context_w < slot_w
    assert context_w * (1 - 1e-12) <= low_w <= high_w <= slot_w
    assert model.busy_power_w(1.0) == slot_w == 1000 * model.slot_kw_per_gpu
    # the GPU and the server around it, told apart
    gpu_w = model.idle_w + model.context_w
    gpu_w += (model.tdp_w - gpu_w) * low**model.power_exponent
    position = (gpu_w - model.idle_w) / (model.tdp_w - model.idle_w)
    idle_share_w = model.server_idle_w / model.gpus_per_server
    around_w = idle_share_w + (model.overhead_w_per_gpu - idle_share_w) * position
    assert low_w == pytest.approx(gpu_w + around_w, rel=1e-9)


def test_the_figures_of_power_are_where_they_were_measured() -> None:
    """A process adds 26 to 50 W on parts with HBM and 66 W on the L40S (arXiv 2605.23918)."""
    catalog = load_catalog()
    measured = {m.id: m.context_w for m in catalog.values() if m.sources["context_w"] == "context-step"}
    assert measured == {"a100-sxm-80": 26, "h100-sxm-80": 50, "l40s": 66}
    for model in catalog.values():
        assert model.context_w <= (50 if "HBM" in model.memory_type else 66), model.id
        assert 0.6 <= model.power_exponent <= 0.8, model.id
        assert model.server_idle_w <= model.gpus_per_server * model.overhead_w_per_gpu, model.id
        for name in ("context_w", "server_idle_w"):
            assert model.remarks[name], f"{model.id}.{name} has no reasoning"


def test_cooling_is_air_or_liquid() -> None:
    liquid = {model.id for model in load_catalog().values() if model.cooling == "liquid"}
    assert liquid == {"gb200-nvl72", "gb300-nvl72", "tpu-v4", "tpu-v5p"}
    assert {model.cooling for model in load_catalog().values()} == set(COOLING)


def test_speed_by_hand() -> None:
    catalog = load_catalog()
    a100, h100, v100 = catalog["a100-sxm-80"], catalog["h100-sxm-80"], catalog["v100-sxm2-16"]
    assert h100.speed("training", a100) == h100.speed("fine_tuning", a100) == 2.2
    assert h100.speed("inference", a100) == 3.0
    assert h100.speed("batch", a100) == pytest.approx(math.sqrt(2.2 * 3.0), rel=1e-12)  # 2.569
    assert h100.speed("interactive", a100) == 1.0
    assert v100.speed("training", h100) == pytest.approx(0.45 / 2.2, rel=1e-12)
    with pytest.raises(ValueError, match="'gaming' is none of training, fine_tuning, inference, batch, int"):
        h100.speed("gaming", a100)


@pytest.mark.parametrize("workload_class", CLASSES)
def test_speeds_are_consistent_over_all_pairs(workload_class: str) -> None:
    models = list(load_catalog().values())
    middle = load_catalog()["l40s"]
    for one in models:
        assert one.speed(workload_class, one) == pytest.approx(1.0, rel=1e-12)
        for other in models:
            there = one.speed(workload_class, other)
            assert there * other.speed(workload_class, one) == pytest.approx(1.0, rel=1e-12)
            detour = one.speed(workload_class, middle) * middle.speed(workload_class, other)
            assert there == pytest.approx(detour, rel=1e-12)


def test_order_of_generations() -> None:
    ladder = (
        "p100-sxm2-16 v100-sxm2-16 a100-sxm-80 h100-sxm-80 h200-sxm-141 b200-sxm-180 gb200-nvl72 gb300-nvl72"
    )
    models = [load_catalog()[model_id] for model_id in ladder.split()]
    for old, new in pairwise(models):
        assert old.available < new.available
        assert old.rel_training < new.rel_training and old.rel_inference < new.rel_inference
        per_kw = [model.rel_inference / model.slot_kw_per_gpu for model in (old, new)]
        assert per_kw[0] < per_kw[1], f"{new.id} is no better per kW than {old.id}"
    for model in load_catalog().values():
        assert model.scaleup_domain_gpus in (1, model.gpus_per_server) or model.vendor == "Google"
        assert (model.fp8_tflops is None) or model.fp8_tflops >= (model.bf16_tflops or 0)


def test_a_model_travels_to_other_processes() -> None:
    model = load_catalog()["a30"]
    assert pickle.loads(pickle.dumps(model)) == model
    assert hash(model) == hash(load_catalog()["a30"])
    assert asdict(model)["sources"]["mig_max_instances"] == "mig-guide"


# --- finding ----------------------------------------------------------------------------------------------


def test_unknown_model_names_the_place_and_the_nearest() -> None:
    (problem,) = faults(load_catalog(), "h100")
    assert str(problem) == (
        "s.yaml:3: unknown GPU model 'h100'. Did you mean h100-pcie-80 or h100-sxm-80? "
        "List them with `fleetsim gpu list`."
    )
    (problem,) = faults(load_catalog(), "\x1b[2J" * 100)
    assert problem.remedy == "List them with `fleetsim gpu list`."
    assert "\x1b" not in problem.message and len(problem.message) < 90


def test_mapping() -> None:
    catalog = parse_catalog(GOOD, "c.yaml")
    assert list(catalog) == ["good"] and "good" in catalog and "bad" not in catalog
    with pytest.raises(KeyError):
        catalog["bad"]
    good = catalog.find("good", "s.yaml:3")
    assert good is catalog["good"] and isinstance(good, GpuModel)
    assert [(price.month, price.usd_per_gpu_hour) for price in good.rental_prices] == [
        ("2023-01", 4.1),  # in order of time
        ("2024-02", 2.0),
    ]
    assert good.remarks == {"bf16_tflops": "a remark"}
    assert good.fp16_tflops is None and good.launch_price_usd_per_gpu is None and good.notes == ""
    assert good.sources["idle_w"] == ESTIMATE


# --- broken rows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message", "remedy"),
    [
        ("tdp_w: [-400, sheet]", "-400 W is out of range", "Write more than 0."),
        ("tdp_w: [0, sheet]", "0 W is out of range", "Write more than 0."),
        ("idle_w: [-1, sheet]", "-1 W is out of range", "Write 0 or more."),
        ("idle_w: [400, sheet]", "400 W is not below tdp_w, 400 W", "Idle is the lower of the two."),
        (
            "context_w: [351, sheet]",
            "351 W above idle_w, 50 W, is above tdp_w, 400 W",
            "what a process without kernels adds",
        ),
        ("-context_w", "missing", "Write [W, source]"),
        ("power_exponent: [1.01, sheet]", "1.01 is above 1", "Write 1 for linear, less if it saturates."),
        ("power_exponent: [0, sheet]", "0 exponent is out of range", "Write more than 0."),
        (
            "server_idle_w: [3201, sheet]",
            "3201 W is above its maximum, 6400 - 3200 = 3200 W",
            "the server outside its GPUs",
        ),
        ("cooling: water", "'water' is none of air, liquid", "Write one of them."),
        ("cooling: 3", "3 is not a text", "Write a text"),
        ("-memory_gb", "missing", "Write [GB, source]"),
        ("memory_gb:", "missing", "Write [GB, source]"),
        ("memory_gb: [lots, sheet]", "'lots' is not a number", "Write digits: more than 0, in GB."),
        ("memory_gb: [true, sheet]", "True is not a number", "in GB"),
        ("memory_gb: [~, sheet]", "None is not a number", "in GB"),
        ("memory_gb: [.nan, sheet]", "'.nan' is not a number", "in GB"),
        ("memory_gb: 80", "80 is not a value with its source", "a key of `sources` or 'estimate'"),
        ("memory_gb: [80]", "[80] is not a value with its source", "a key of `sources` or 'estimate'"),
        ("memory_gb: [80, 5]", "[80, 5] is not a value with its source", "Write [GB, source]"),
        (
            "memory_gb: [80, sheet, 3]",
            "[80, 'sheet', 3] is not a value with its source",
            "Write [GB, source]",
        ),
        ("memory_gb: [80, sheets]", "unknown source 'sheets'", "Did you mean sheet? Write [GB, source]"),
        ("-rel_training", "missing", "Write [x A100, source]"),
        ("-rel_inference", "missing", "Write [x A100, source]"),
        ("rel_training: [0.0, sheet]", "0.0 x A100 is out of range", "Write more than 0."),
        ("bf16_tflops: [0, sheet]", "0 TFLOPS is out of range", "Write more than 0."),
        ("gpus_per_server: [7.5, sheet]", "7.5 is not a whole number of GPUs", "Write one."),
        ("gpus_per_server: [0, sheet]", "0 GPUs is out of range", "Write more than 0."),
        ("server_max_w: [3199, sheet]", "3199 W is less than 8 GPUs of 400 W draw, 3200 W", "whole server"),
        ("vendor: 12", "12 is not a text", "Write a text, numbers in quotes."),
        ("-vendor", "missing", "Write a text"),
        ("notes: [a]", "['a'] is not a text", "Write a text"),
        ("announced: [2020-13-01, sheet]", "'2020-13-01' is not a date", "Write YYYY-MM-DD."),
        ("announced: [soon, sheet]", "'soon' is not a date", "Write YYYY-MM-DD."),
        ("-available", "missing", "Write [YYYY-MM-DD, source]"),
        ("available: [2019-12-31, sheet]", "2019-12-31 is before the announcement on 2020-01-01", "Correct"),
        ("tdp: [400, sheet]", "unknown field", "Did you mean tdp_w?"),
        ("zzzz: 1", "unknown field", "Remove it."),
        (
            "rental_prices: [[2024-13, 1, on_demand, sheet]]",
            "'2024-13'",
            "Write [YYYY-MM, USD, kind, source]",
        ),
        ("rental_prices: [[2024-01, 0, on_demand, sheet]]", "['2024-01', 0, 'on_demand'", "Write [YYYY-MM"),
        ("rental_prices: [[2024-01, 1, gift, sheet]]", "'gift'", "`price_kinds`"),
        ("rental_prices: [[2024-01, 1, on_demand, x]]", "'x'", "`sources`"),
        ("rental_prices: 2.5", "2.5 is not a rental price", "Write [YYYY-MM"),
    ],
)
def test_a_bad_figure_is_reported_when_it_is_asked_for(line: str, message: str, remedy: str) -> None:
    catalog = broken(line)
    assert catalog.find("good", "s.yaml:3").tdp_w == 400  # the broken row stops nobody else
    assert list(catalog) == ["good", "bad"] and "bad" in catalog
    (problem,) = faults(catalog)
    assert problem.place.endswith(f": bad.{line.removeprefix('-').partition(':')[0]}")
    assert message in problem.message
    assert remedy in problem.remedy


def test_a_bad_figure_is_reported_with_its_line() -> None:
    catalog = broken("tdp_w: [-400, sheet]")
    line = GOOD.count("\n") + 14  # the fourteenth of the second row
    with pytest.raises(InputError) as caught:
        catalog["bad"]
    assert str(caught.value) == f"c.yaml:{line}:10: bad.tdp_w: -400 W is out of range. Write more than 0."


def test_all_faults_of_a_row_are_reported_at_once() -> None:
    catalog = broken("tdp_w: [no, sheet]\n  speed: 3\n  rack_kw: [-2, sheet]")
    assert [problem.place.split(".")[-1] for problem in faults(catalog)] == ["speed", "tdp_w", "rack_kw"]


# --- broken files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        ("schema: fleetsim-gpu-catalogue/1", "schema: other/2", "c.yaml", "not a GPU catalogue"),
        ("schema: fleetsim-gpu-catalogue/1", "- 1", "c.yaml", "not YAML"),
        (GOOD, "", "c.yaml", "not a GPU catalogue"),
        (GOOD, "[1, 2]", "c.yaml", "not a GPU catalogue"),
        ("models:", "rows:", "c.yaml:5:1", "unknown part 'rows'"),
        ("sources: {sheet: a data sheet}", "sources: [sheet]", "c.yaml:2:10", "sources is not a table"),
        ("sources: {sheet: a data sheet}", "sources: {sheet: 1}", "c.yaml:2:10", "sources is not a table"),
        ("price_kinds: {on_demand: list price}\n", "", "c.yaml", "price_kinds is not a table"),
        ("- id: good", "- 5\n- id: good", "c.yaml:5:3", "a row with the id 5"),
        ("- id: good", "- id: 12", "c.yaml:5:3", "a row with the id 12"),
        ("- id: good\n  name", "- name", "c.yaml:5:3", "a row with the id None"),
        ("- id: good", "- id: good\n- id: good", "c.yaml:6:3", "id 'good' for the second time"),
        ("name: Good", "name: &x Good", "c.yaml:6:9", "anchor or alias 'x'"),
        ("name: Good", "name: Good\n  name: Best", "c.yaml:7:3", "key 'name' for the second time"),
    ],
)
def test_a_broken_file_is_refused_at_once(old: str, new: str, place: str, message: str) -> None:
    assert old in GOOD
    found = refused(GOOD.replace(old, new, 1))
    assert found[0].place.startswith(place)
    assert message in found[0].message
    assert found[0].remedy


def test_models_must_be_a_list_of_rows() -> None:
    head = GOOD[: GOOD.index("models:")]
    for models in ("models: []", "models: {a: 1}", "models: 3", ""):
        (problem,) = refused(head + models)
        assert problem.message == "models is not a list of rows"
