"""Reports for the terminal, as `rich` renderables."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from shrink.core.report import Cost, Report
from shrink.report import sentences, units


def show_report(report: Report, *, layers: bool = False) -> RenderableType:
    """Lay out one run: costs before and after, the proof, and what the reader must know.

    Args:
        report: what the run found.
        layers: add the width of every layer before and after.
    """
    costs = _table("", ">before", ">after", ">after / before")
    for row in sentences.compare_costs(report):
        _add(costs, *row)
    parts: list[RenderableType] = [
        Text(sentences.describe_model(report.model), style="bold"),
        Text(sentences.describe_budget(report.request)),
        costs,
        Text(sentences.describe_conditions(report.environment, report.before), style="dim"),
    ]
    if layers:
        parts.append(_show_layers(report))
    certificate = report.verification
    style = "green" if certificate and certificate.passed else "bold red"
    parts.append(Text(sentences.describe_certificate(certificate), style=style))
    parts += [
        Text(f"regenerated from the graph: {graft.get('module', '')} ({graft.get('reason', '')})")
        for graft in report.grafts
    ]
    parts += [
        Text(f"kept whole: {sentences.describe_frozen(f)}", style="dim") for f in report.frozen
    ]
    if uncounted := sentences.describe_uncounted(report.before):
        parts.append(Text(uncounted, style="yellow"))
    parts += [_warn(warning) for warning in report.warnings]
    return Group(*parts)


def show_comparison(reports: Mapping[str, Report]) -> RenderableType:
    """Lay out several runs, one line each, by the name they go by (their folder)."""
    table = _table("", "model", ">MACs", ">parameters", ">latency, ms", ">latency ratio", "proof")
    for name, report in reports.items():
        after, certificate = report.after, report.verification
        _add(
            table,
            name,
            str(report.model.get("name", "")),
            f"{units.count(after.macs)} ({units.percent(after.macs, report.before.macs)})",
            f"{units.count(after.params)} ({units.percent(after.params, report.before.params)})",
            units.latency(after.latency_ms) if after.latency_ms else "-",
            units.speedup(report.speedup) if report.speedup else "-",
            "none" if certificate is None else "passed" if certificate.passed else "FAILED",
        )
    notes = [_warn(f"{name}: {text}") for name, r in reports.items() for text in r.warnings]
    return Group(table, *notes)


def show_measurement(
    name: str, cost: Cost, environment: Mapping[str, Any], warnings: Sequence[str] = ()
) -> RenderableType:
    """Lay out the cost of one model."""
    table = _table("", f">{name}")
    for row in sentences.list_costs(cost):
        _add(table, *row)
    notes = [_warn(text) for text in warnings]
    if uncounted := sentences.describe_uncounted(cost):
        notes.insert(0, Text(uncounted, style="yellow"))
    return Group(table, Text(sentences.describe_conditions(environment, cost), style="dim"), *notes)


def show_inspection(
    name: str, inspection: Mapping[str, Any], warnings: Sequence[str] = ()
) -> RenderableType:
    """Lay out what can be removed from a model and what cannot.

    Args:
        name: the model.
        inspection: `shrink.api.Inspection` as plain data (docs/REPORT.md).
        warnings: about the model.
    """
    groups = _table("group", ">units", ">parts", ">slices")
    for group in inspection["groups"]:
        _add(
            groups,
            f"{'  ' if group['nested'] else ''}{group['name']}",
            str(group["size"]),
            str(group["parts"]),
            str(len(group["axes"])),
        )
    frozen = _table("kept whole", ">size", "reason", "where")
    for entry in inspection["frozen"]:
        names = [f"{tensor}:{dim}" for tensor, dim in entry["axes"]]
        more = f" +{len(names) - 1}" if len(names) > 1 else ""
        _add(
            frozen,
            f"{(names or [''])[0]}{more}",
            str(entry["size"]),
            entry["reason"],
            entry["where"],
        )
    macs, params = inspection["prunable_macs"], inspection["prunable_params"]
    tables = [table for table in (groups, frozen) if table.row_count]
    summary = (
        f"{units.count(inspection['macs'])} MACs, {units.percent(macs, 1)} in prunable layers; "
        f"{units.count(inspection['params'])} parameters, {units.percent(params, 1)} in prunable "
        f"layers; captured by {inspection['capture']}"
    )
    return Group(Text(name, style="bold"), *tables, Text(summary), *map(_warn, warnings))


def to_text(renderable: RenderableType, *, width: int = 100) -> str:
    """Render without colour, lines without trailing blanks."""
    console = Console(
        file=io.StringIO(), width=width, color_system=None, force_terminal=False, soft_wrap=False
    )
    with console.capture() as capture:
        console.print(renderable)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def _show_layers(report: Report) -> Table:
    table = _table("layer", "kind", ">before", ">after")
    for layer in report.layers:
        _add(table, layer.name, layer.kind, str(layer.before), str(layer.after))
    return table


def _table(*columns: str) -> Table:
    """Make a table; `>` before a name aligns its column to the right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        # Text: a name in brackets is no markup
        table.add_column(
            Text(column.removeprefix(">")),
            justify="right" if column.startswith(">") else "left",
            overflow="fold",
        )
    return table


def _add(table: Table, *cells: str) -> None:
    table.add_row(*(Text(cell) for cell in cells))


def _warn(text: str) -> Text:
    return Text.assemble((" WARNING ", "bold black on yellow"), " ", (text, "bold yellow"))
