"""`report.md`: the whole report as Markdown."""

from collections.abc import Iterable, Sequence

from shrink.core.report import Report
from shrink.report import sentences


def to_markdown(report: Report) -> str:
    """Write a report as Markdown."""
    lines = [
        f"# {report.model.get('name') or 'model'}",
        "",
        f"{sentences.describe_model(report.model)}; {sentences.describe_budget(report.request)}.",
        "",
        *(f"> **Warning:** {_escape(text)}\n" for text in report.warnings),
        *_table(("", "before", "after", "after / before"), sentences.compare_costs(report), "lrrr"),
        "",
        f"{sentences.describe_conditions(report.environment, report.before)}.",
        "",
        sentences.describe_certificate(report.verification),
        "",
    ]
    if uncounted := sentences.describe_uncounted(report.before):
        lines += [uncounted, ""]
    if report.grafts:
        grafts = [(g.get("module", ""), g.get("reason", "")) for g in report.grafts]
        lines += _section("Regenerated from the graph", ("module", "reason"), grafts, "ll")
    if report.frozen:
        lines += ["## Kept whole", ""]
        lines += [f"- {_escape(sentences.describe_frozen(entry))}" for entry in report.frozen]
        lines.append("")
    if report.layers:
        layers = [(x.name, x.kind, str(x.before), str(x.after)) for x in report.layers]
        lines += _section("Widths", ("layer", "kind", "before", "after"), layers, "llrr")
    request = {key: value for key, value in report.request.items() if value not in (None, [], "")}
    lines += _section("Request", ("option", "value"), list(sentences.flatten(request)), "ll")
    known = {key: value for key, value in report.environment.items() if value is not None}
    environment = list(sentences.flatten(known))
    lines += _section("Environment", ("", "value"), environment, "ll")
    if report.seconds:
        seconds = [(stage, f"{value:.2f}") for stage, value in report.seconds.items()]
        lines += _section("Time", ("stage", "s"), seconds, "lr")
    return "\n".join(lines).rstrip() + "\n"


def _section(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], alignment: str
) -> list[str]:
    return [f"## {title}", "", *_table(header, rows, alignment), ""]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], alignment: str) -> list[str]:
    marks = ["---:" if letter == "r" else "---" for letter in alignment]
    return [_line(header), _line(marks), *(_line(row) for row in rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_escape(cell) for cell in cells)} |"


def _escape(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
