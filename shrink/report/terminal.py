"""Reports for the terminal, as `rich` renderables."""

import io
import re
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
    name: str,
    inspection: Mapping[str, Any],
    warnings: Sequence[str] = (),
    *,
    everything: bool = False,
) -> RenderableType:
    """Lay out what can be removed from a model and what cannot.

    Args:
        name: the model.
        inspection: `shrink.Inspection` as plain data (docs/INSPECT.md).
        warnings: about the model.
        everything: every group and frozen dimension on a line of its own, instead of one line for
            groups that play the same role and one for each reason.
    """
    macs, params = inspection["prunable_macs"], inspection["prunable_params"]
    parts: list[RenderableType] = [
        Text(name, style="bold"),
        Text(f"{units.count(inspection['macs'])} MACs, {units.percent(macs, 1)} prunable"),
        Text(
            f"{units.count(inspection['params'])} parameters, {units.percent(params, 1)} prunable"
        ),
    ]
    if inspection["groups"]:
        groups = _table("can be removed", "what", ">units", ">MACs", ">parameters")
        for row in _list_groups(inspection["groups"], everything=everything):
            _add(groups, *row)
        parts.append(groups)
        text = "MACs, parameters: the share that goes with all units of a line but one per group"
        parts.append(Text(text, style="dim"))
    else:
        parts.append(Text("nothing can be removed", style="bold red"))
    parts.append(Text(sentences.describe_form(inspection)))
    parts += [Text(f"  {line}") for line in _list_grafts(inspection["grafts"], everything)]
    if everything and inspection["frozen"]:
        frozen = _table("kept whole", ">size", "reason", "where")
        for entry in inspection["frozen"]:
            names = " ".join(f"{tensor}:{dim}" for tensor, dim in entry["axes"])
            _add(frozen, names, str(entry["size"]), entry["reason"], entry["where"])
        parts.append(frozen)
    for entry in sentences.gather_frozen(inspection["frozen"]):
        what, _, remedy = sentences.describe_frozen(entry).partition("; to change that: ")
        if not everything:
            parts.append(Text(f"kept whole: {what}", style="dim"))
        if remedy:
            shown = f"{entry['reason']}: {remedy}" if everything else remedy
            parts.append(Text(f"  to change that: {shown}"))
    parts.append(Text(f"captured on {inspection['capture']} tensors", style="dim"))
    return Group(*parts, *map(_warn, warnings))


def _list_groups(
    groups: Sequence[Mapping[str, Any]], *, everything: bool
) -> list[tuple[str, str, str, str, str]]:
    """List groups, those that play the same role in equal blocks together unless all are wanted."""
    alike: dict[Any, list[Mapping[str, Any]]] = {}  # Any: of groups, what makes them alike
    for position, group in enumerate(groups):
        role = (group["structure"], group["kind"], group["size"], group["parts"])
        alike.setdefault(position if everything else role, []).append(group)
    rows = []
    for found in alike.values():
        group = found[0]
        names = [g["name"] for g in found]
        name = "*".join(_common_pieces(names))
        times = f" x{len(found)}" if len(found) > 1 else ""
        size = f"{group['parts']} x {group['size']}" if group["parts"] > 1 else str(group["size"])
        shares = (sum(g[key] for g in found) for key in ("macs_share", "params_share"))
        rows.append(
            (
                f"{'  ' if group['nested'] else ''}{name}{times}",
                group["kind"],
                size,
                *(units.percent(share, 1) for share in shares),
            )
        )
    return rows


def _list_grafts(grafts: Sequence[Mapping[str, str]], everything: bool) -> list[str]:  # noqa: FBT001
    """List modules to regenerate, those whose names differ in numbers only together."""
    alike: dict[tuple[str, str], list[str]] = {}
    for graft in grafts:
        module = graft["module"]
        role = module if everything else re.sub(r"[0-9]+", "*", module)
        alike.setdefault((role, graft["class"]), []).append(module)
    return [
        f"{'*'.join(_common_pieces(names)) or 'the whole model'} ({kind})"
        + (f" x{len(names)}" if len(names) > 1 else "")
        for (_, kind), names in alike.items()
    ]


def _common_pieces(names: Sequence[str]) -> list[str]:
    """Cut names that differ in numbers only where the numbers differ."""
    pieces = [re.split(r"([0-9]+)", name) for name in names]
    if len({len(p) for p in pieces}) > 1:
        return [names[0]]
    out = [""]
    for column in zip(*pieces, strict=True):
        if len(set(column)) == 1:
            out[-1] += column[0]
        else:
            out.append("")
    return out


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
