"""What a report says, as words and rows; the terminal and Markdown print the same ones."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from shrink.core.report import Certificate, Cost, Report
from shrink.report import units

BUDGETS = ("flops", "params", "latency", "latency_ms", "memory")


class Row(NamedTuple):
    """One quantity before and after."""

    quantity: str
    before: str
    after: str
    ratio: str


def describe_model(model: Mapping[str, Any]) -> str:
    """Name the model and where its weights come from."""
    weights = model.get("weights")
    return f"{model.get('name') or 'model'}" + (f", weights {weights}" if weights else "")


def describe_budget(request: Mapping[str, Any]) -> str:
    """Say what was asked for and what was reached, as ratios of the original."""
    reached = request.get("reached") or {}
    parts = [
        f"{key} {request[key]:g}" + (f" (reached {reached[key]:.4f})" if key in reached else "")
        for key in BUDGETS
        if request.get(key) is not None
    ]
    return f"budget {', '.join(parts)}" if parts else "no budget"


def compare_costs(report: Report) -> list[Row]:
    """List the quantities that were measured, with units."""
    before, after = report.before, report.after
    rows = [
        Row(
            "MACs",
            units.count(before.macs),
            units.count(after.macs),
            units.percent(after.macs, before.macs),
        ),
        Row(
            "parameters",
            units.count(before.params),
            units.count(after.params),
            units.percent(after.params, before.params),
        ),
    ]
    if before.latency_ms and after.latency_ms:
        ratio = (
            units.speedup(report.speedup)
            if report.speedup
            else units.percent(after.latency_ms.median, before.latency_ms.median)
        )
        rows.append(
            Row(
                "latency, ms",
                units.latency(before.latency_ms),
                units.latency(after.latency_ms),
                ratio,
            )
        )
    if before.peak_bytes is not None and after.peak_bytes is not None:
        rows.append(
            Row(
                "peak memory",
                units.size(before.peak_bytes),
                units.size(after.peak_bytes),
                units.percent(after.peak_bytes, before.peak_bytes),
            )
        )
    return rows


def list_costs(cost: Cost) -> list[tuple[str, str]]:
    """List the quantities of one model, with units."""
    rows = [("MACs", units.count(cost.macs)), ("parameters", units.count(cost.params))]
    if cost.latency_ms:
        rows.append(("latency, ms", units.latency(cost.latency_ms)))
    if cost.peak_bytes is not None:
        rows.append(("peak memory", units.size(cost.peak_bytes)))
    return rows


def describe_conditions(environment: Mapping[str, Any], cost: Cost) -> str:
    """Say under what conditions the figures hold."""
    known = [
        ("device_name", "{}"),
        ("device", "{}"),
        ("dtype", "{}"),
        ("batch", "batch {}"),
    ]
    parts = [
        text.format(environment[key])
        for key, text in known
        if environment.get(key) not in (None, "")
    ]
    if threads := environment.get("threads"):
        parts.append(f"{threads} thread{'s' if threads != 1 else ''}")
    if environment.get("channels_last"):
        parts.append("channels_last")
    if cost.latency_ms:
        parts.append(f"latency: median [p10, p90] of {cost.latency_ms.runs} runs")
    return ", ".join(parts)


def describe_certificate(certificate: Certificate | None) -> str:
    """Say what was proven."""
    if certificate is None:
        return "not verified: verification was switched off"
    relation = "<=" if certificate.passed else "exceeds"
    figures = (
        f"relative error {certificate.error:.1e} {relation} {certificate.tolerance:.0e}"
        f" ({certificate.dtype} on {certificate.device}, {certificate.trials} random inputs)"
    )
    if certificate.passed:
        return f"verified: computes what the original computes without the channels, {figures}"
    place = f", first at {certificate.first_difference}" if certificate.first_difference else ""
    return f"VERIFICATION FAILED: {figures}{place}"


def gather_frozen(entries: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Gather what stays whole by reason: how many channels, the first places, and the remedy."""
    reasons: dict[str, dict[str, Any]] = {}
    for entry in entries:
        reason = entry["reason"]
        known = {"reason": reason, "channels": 0, "places": [], "remedy": entry["remedy"]}
        found = reasons.setdefault(reason, known)
        found["channels"] += entry["size"]
        place = entry["where"] or entry["axes"][0][0]
        if place not in found["places"]:
            found["places"].append(place)
    return tuple(reasons.values())


def describe_frozen(frozen: Mapping[str, Any]) -> str:
    """Say how many channels stayed whole for one reason, and where first."""
    places = list(frozen.get("places", ()))
    more = f" and {len(places) - 3} more" if len(places) > 3 else ""
    where = f" ({', '.join(map(str, places[:3]))}{more})" if places else ""
    remedy = f"; to change that: {frozen['remedy']}" if frozen.get("remedy") else ""
    return f"{frozen.get('channels', 0)} channels: {frozen.get('reason', '')}{where}{remedy}"


def describe_form(inspection: Mapping[str, Any]) -> str:
    """Say what pruning would make of the model's classes."""
    if inspection["problem"]:
        return f"cannot be rewritten: {inspection['problem']}"
    count = len(inspection["grafts"])
    return {
        "module": "pruned, it stays in its own classes",
        "grafts": f"pruned, {count} modules would be regenerated from the graph:",
        "program": "pruned, the whole model would be regenerated from the graph",
    }.get(inspection["form"], "")


def describe_uncounted(cost: Cost) -> str:
    """Name the operators that the MACs leave out; empty if none."""
    names = ", ".join(f"{name} x{n}" for name, n in sorted(cost.uncounted.items()))
    return f"MACs leave out: {names}" if names else ""


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """List nested plain data as (dotted key, text)."""
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        elif isinstance(value, tuple | list):
            yield f"{prefix}{key}", ", ".join(map(str, value))
        else:
            yield f"{prefix}{key}", str(value)
