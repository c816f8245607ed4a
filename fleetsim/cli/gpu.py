"""``fleetsim gpu``: look at the catalogue of GPU models."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from fleetsim.catalog import Catalog, GpuModel
    from fleetsim.errors import Problem

PIPE_COLUMNS = 140  # of a pipe or file, where nothing need be cut


@click.group()
def gpu() -> None:
    """Look at the GPU models that a fleet can be built from.

    \b
    Example:
      fleetsim gpu list
      fleetsim gpu show h100-sxm-80
    """


@gpu.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one object a model.")
def list_models(as_json: bool) -> None:
    """List every GPU model with its main figures.

    Power is per GPU: the limit (TDP) and idle draw of the GPU alone, and the kW of IT power that a slot
    reserves for it and its share of the server. Training and inference are throughput relative to the A100
    SXM4 80GB. Names are left out where fewer than 100 columns are free.

    \b
    Example:
      fleetsim gpu list
      fleetsim gpu list --json | jq '.[] | select(.memory_gb >= 80).id'
    """
    from fleetsim.catalog import load_catalog
    from fleetsim.errors import InputError

    models: list[GpuModel] = []
    problems: list[Problem] = []
    catalog = load_catalog()
    for model_id in catalog:
        try:
            models.append(catalog[model_id])
        except InputError as error:  # show the sound rows first
            problems += error.problems
    if as_json:
        click.echo(json.dumps([_main_figures(model) for model in models], indent=2))
    else:
        _print(_list_table(models, with_names=_columns() >= 100))
    if problems:
        raise InputError(problems)


@gpu.command()
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: every figure with unit and source.")
def show(model: str, as_json: bool) -> None:
    """Show every figure of one GPU MODEL, with its source.

    \b
    Example:
      fleetsim gpu show h100-sxm-80
      fleetsim gpu show h100-sxm-80 --json | jq .figures.idle_w
    """
    from fleetsim.catalog import load_catalog

    catalog = load_catalog()
    found = catalog.find(model, "MODEL")
    if as_json:
        click.echo(json.dumps(_everything(found, catalog), indent=2))
    else:
        _print(*_pages(_everything(found, catalog)))


def _main_figures(model: GpuModel) -> dict[str, Any]:
    return {
        "id": model.id,
        "name": model.name,
        "vendor": model.vendor,
        "generation": model.generation,
        "available": model.available.isoformat(),
        "memory_gb": model.memory_gb,
        "tdp_w": model.tdp_w,
        "idle_w": model.idle_w,
        "slot_kw_per_gpu": model.slot_kw_per_gpu,
        "rel_training": model.rel_training,
        "rel_inference": model.rel_inference,
    }


def _everything(model: GpuModel, catalog: Catalog) -> dict[str, Any]:
    """All there is to say about *model*; the text and the JSON both come from here."""
    from dataclasses import asdict

    from fleetsim.catalog import FIGURES

    def figure(
        value: object, unit: str, meaning: str, source: str | None, remark: str = ""
    ) -> dict[str, Any]:
        return {"value": value, "unit": unit, "meaning": meaning, "source": source, "remark": remark}

    figures = {}
    for name in ("announced", "available"):
        date = getattr(model, name).isoformat()
        figures[name] = figure(date, "date", name, model.sources[name], model.remarks.get(name, ""))
    for name, (unit, meaning, _) in FIGURES.items():
        source, remark = model.sources.get(name), model.remarks.get(name, "")
        figures[name] = figure(getattr(model, name), unit, meaning, source, remark)
    share = "GPU with its share of the server"
    to_slot = "+ (slot - idle_power_w) x context_w / (tdp_w - idle_w)"
    for name, value, unit, meaning, remark in (
        (
            "overhead_w_per_gpu",
            model.overhead_w_per_gpu,
            "W",
            "server outside its GPUs, at most",
            "server / GPUs - TDP",
        ),
        ("slot_kw_per_gpu", model.slot_kw_per_gpu, "kW", "slot power per GPU", "server / GPUs"),
        (
            "idle_power_w",
            model.idle_power_w,
            "W",
            f"{share}, nothing allocated",
            f"{share}, nothing allocated: idle_w + server_idle_w / GPUs",
        ),
        (
            "context_power_w",
            model.context_power_w,
            "W",
            f"{share}, allocated, no kernel running",
            f"the same, allocated, no kernel running: idle_power_w {to_slot}",
        ),
        *(
            (
                name,
                model.busy_power_w(sm_active),
                "W",
                f"{share}, kernels running, SM activity {sm_active:g}",
                f"the same, kernels running, SM activity s = {sm_active:g}: context_power_w "
                "+ (slot - context_power_w) x s ^ power_exponent",
            )
            for name, sm_active in (("busy_half_power_w", 0.5), ("busy_full_power_w", 1.0))
        ),
    ):
        figures[name] = figure(value, unit, meaning, "computed", remark)
    prices = [asdict(price) for price in model.rental_prices]
    cited = {entry["source"] for entry in [*figures.values(), *prices]}
    texts = {key: text for key, text in catalog.sources.items() if key in cited}
    plain = (
        "id",
        "name",
        "vendor",
        "generation",
        "form_factor",
        "cooling",
        "memory_type",
        "interconnect",
        "notes",
    )
    return {
        **{name: getattr(model, name) for name in plain},
        "figures": figures,
        "rental_prices": prices,
        "sources": texts,
    }


def _table(*headings: str, wrap: str = "") -> Table:
    """A table without rules; a heading with ``>`` is of numbers, the column called *wrap* may wrap."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2 if _columns() >= 110 else 1, 0, 0), header_style="bold")
    for heading in headings:
        text = heading.removeprefix(">")
        justify: Literal["left", "right"] = "right" if heading != text else "left"
        table.add_column(text, justify=justify, no_wrap=heading != wrap, overflow="ellipsis")
    table.columns[0].style = "cyan"
    return table


def _list_table(models: list[GpuModel], with_names: bool) -> Table:
    names = ["\nname"] if with_names else []
    power = (">TDP\nW", ">idle\nW", ">slot kW\n/GPU")
    table = _table(
        "\nid", *names, "\ngeneration", ">from\nyear", ">mem.\nGB", *power, ">train\nx A100", ">infer\nx A100"
    )
    for model in models:
        table.add_row(
            model.id,
            *([model.name] if with_names else []),
            model.generation,
            str(model.available.year),
            _text(model.memory_gb),
            _text(model.tdp_w),
            _text(model.idle_w),
            f"{model.slot_kw_per_gpu:.3f}",
            f"{model.rel_training:.2f}",
            f"{model.rel_inference:.2f}",
        )
    return table


def _pages(everything: dict[str, Any]) -> list[RenderableType]:
    from rich.text import Text

    build = f"{everything['form_factor']}, {everything['cooling']} cooled, {everything['memory_type']}"
    kind = f"{everything['vendor']} {everything['generation']}, {build}, {everything['interconnect']}"
    figures = _table("figure", ">value", "unit", "source", "remark", wrap="remark")
    for name, entry in everything["figures"].items():
        if entry["value"] is None:
            figures.add_row(name, "-")
        else:
            figures.add_row(name, _text(entry["value"]), entry["unit"], entry["source"], entry["remark"])
    prices = _table("rental", ">USD/GPU-h", "kind", "source")
    for price in everything["rental_prices"]:
        prices.add_row(price["month"], f"{price['usd_per_gpu_hour']:.3f}", price["kind"], price["source"])
    sources = _table("source", "what it is", wrap="what it is")
    for key, text in everything["sources"].items():
        sources.add_row(key, text)
    pages: list[RenderableType] = [
        Text(f"{everything['name']} ({everything['id']})", style="bold"),
        Text(kind),
    ]
    if everything["notes"]:
        pages.append(Text(f"Note: {everything['notes']}"))
    for table in (figures, prices, sources):
        if table.row_count:
            pages += ["", table]
    return pages


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{round(value, 3):,.10g}"


def _columns() -> int:
    """How wide to print: the terminal, ``COLUMNS`` if it is set, or a width at which nothing is cut."""
    from rich.console import Console

    return Console().width if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_COLUMNS


def _print(*pages: RenderableType) -> None:
    """Print through click, which drops colours where they do not belong; no line ends in blanks."""
    from rich.console import Console

    console = Console(width=_columns(), highlight=False, markup=False)
    with console.capture() as capture:
        for page in pages:
            console.print(page)
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))
