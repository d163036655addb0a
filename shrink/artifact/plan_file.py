"""Plans as JSON text that a person can read: `docs/PLAN.md`."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from shrink.artifact import strict_json
from shrink.core.errors import ArtifactError
from shrink.core.plan import Decision, Plan

FORMAT = "shrink.plan"
VERSION = 1

MAX_BYTES = 256 << 20
# A few characters can stand for many indices, so what they expand to is bounded too.
MAX_SIZE = 1 << 24
MAX_INDICES = 1 << 26

_RANGES = re.compile(r"[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*")


def plan_to_text(plan: Plan) -> str:
    """Write a plan as JSON text, one tensor and one decision per line.

    Returns:
        Text that `plan_from_text` turns into an equal plan.
    """
    head = {
        "format": FORMAT,
        "version": VERSION,
        "model": plan.model,
        "request": plan.request,
        "inputs": plan.inputs,
    }
    tensors: dict[str, Any] = {}  # Any: JSON values
    for name, shape in plan.shapes.items():
        tensors[name] = {"shape": shape}
        if name in plan.keep:
            dims = plan.keep[name].items()
            tensors[name]["keep"] = {str(dim): _to_ranges(keep) for dim, keep in dims}
    lines = [f"  {_dump(key)}: {_dump(value)}" for key, value in head.items()]
    if plan.interface:
        interface = {
            name: {str(dim): _to_ranges(keep) for dim, keep in dims.items()}
            for name, dims in plan.interface.items()
        }
        lines.append(f'  "interface": {_dump(interface)}')
    lines.append('  "decisions": ' + _block("[]", (_dump(asdict(d)) for d in plan.decisions)))
    entries = (f"{_dump(name)}: {_dump(value)}" for name, value in tensors.items())
    lines.append('  "tensors": ' + _block("{}", entries))
    return "{\n" + ",\n".join(lines) + "\n}\n"


def plan_from_text(text: str | bytes, *, where: str = "plan") -> Plan:
    """Read a plan.

    Args:
        text: what `plan_to_text` wrote, edited by hand or not.
        where: what the text is called in errors.

    Raises:
        ArtifactError: the text is not a plan of this version, or a part of it is missing, of the
            wrong type, or keeps indices that are not ascending or not in the tensor.
    """
    return _build(strict_json.parse(text, where=where), where)


def read_plan(path: Path) -> Plan:
    """Read a plan file; see `plan_from_text`.

    Raises:
        ArtifactError: also when the file cannot be read or is larger than a plan can be.
    """
    return _build(strict_json.read(path, limit=MAX_BYTES), str(path))


def _build(data: Mapping[str, Any], where: str) -> Plan:
    if data.get("format") != FORMAT or data.get("version") != VERSION:
        raise ArtifactError(
            f"format {data.get('format')!r} version {data.get('version')!r} instead of "
            f"{FORMAT!r} version {VERSION}",
            where=where,
            fix="make the plan with this version: shrink compress MODEL --flops 0.5 --out DIR",
        )
    try:
        keep, shapes = _read_tensors(_typed(data, "tensors", dict))
        return Plan(
            keep=keep,
            shapes=shapes,
            inputs=_typed(data, "inputs", dict),
            decisions=tuple(_read_decision(d) for d in _typed(data, "decisions", list)),
            request=_typed(data, "request", dict),
            model=_typed(data, "model", str),
            interface=_read_interface(_typed(data, "interface", dict))
            if "interface" in data
            else {},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"damaged plan: {error}", where=where, fix="restore the file, or compress again"
        ) from error


def _read_tensors(
    tensors: Mapping[str, Any],
) -> tuple[dict[str, dict[int, tuple[int, ...]]], dict[str, tuple[int, ...]]]:
    keep: dict[str, dict[int, tuple[int, ...]]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    total = 0
    for name, entry in tensors.items():
        shape = tuple(_typed(entry, "shape", list))
        if not all(type(n) is int and 0 <= n <= MAX_SIZE for n in shape):
            raise ValueError(f"{name} has shape {list(shape)}")
        shapes[name] = shape
        if "keep" not in entry:
            continue
        keep[name] = {}
        for dim, ranges in _typed(entry, "keep", dict).items():
            if dim not in map(str, range(len(shape))):
                raise ValueError(f"{name} of shape {list(shape)} has no dim {dim!r}")
            indices = _from_ranges(ranges, shape[int(dim)], f"{name} dim {dim}")
            keep[name][int(dim)] = indices
            total += len(indices)
            if total > MAX_INDICES:
                raise ValueError(f"more than {MAX_INDICES} kept indices")
    return keep, shapes


def _read_interface(
    entries: Mapping[str, Any],
) -> dict[str, dict[int, tuple[int, ...]]]:
    found: dict[str, dict[int, tuple[int, ...]]] = {}
    for name, dims in entries.items():
        found[name] = {}
        for dim in _typed(entries, name, dict):
            if not re.fullmatch("[0-9]{1,2}", dim):
                raise ValueError(f"{name} has no dim {dim!r}")
            found[name][int(dim)] = _from_ranges(dims[dim], MAX_SIZE, f"{name} dim {dim}")
    return found


def _read_decision(entry: Mapping[str, Any]) -> Decision:
    size, kept, parts = (_typed(entry, key, int) for key in ("size", "kept", "parts"))
    return Decision(_typed(entry, "group", str), size, kept, parts)


def _typed(data: Mapping[str, Any], key: str, expected: type) -> Any:
    """Look up a JSON value of exactly one type (`bool` is not an `int` here)."""
    if type(data) is not dict:
        raise TypeError(f"expected an object with {key!r}, found {data!r:.40}")
    if key not in data:
        raise ValueError(f"{key!r} is missing")
    if type(data[key]) is not expected:
        raise TypeError(f"{key!r} is {data[key]!r:.40}, not a {expected.__name__}")
    return data[key]


def _to_ranges(indices: tuple[int, ...]) -> str:
    """Write ascending indices as `0-31,33`."""
    runs: list[list[int]] = []
    for i in indices:
        if runs and i == runs[-1][1] + 1:
            runs[-1][1] = i
        else:
            runs.append([i, i])
    return ",".join(f"{a}-{b}" if a < b else f"{a}" for a, b in runs)


def _from_ranges(text: str, size: int, what: str) -> tuple[int, ...]:
    if type(text) is not str or not _RANGES.fullmatch(text):
        raise ValueError(f"{what} keeps {text!r:.40}, not indices such as '0-31,33'")
    indices: list[int] = []
    for run in text.split(","):
        first, _, last = run.partition("-")
        low, high = int(first), int(last or first)
        if low > high or high >= size or (indices and low <= indices[-1]):
            raise ValueError(f"{what} keeps {run!r}: not ascending, or outside its {size} indices")
        indices += range(low, high + 1)
    return tuple(indices)


def _dump(value: Any) -> str:  # Any: JSON values
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _block(brackets: str, entries: Iterable[str]) -> str:
    body = ",\n".join(f"    {entry}" for entry in entries)
    return f"{brackets[0]}\n{body}\n  {brackets[1]}" if body else brackets
