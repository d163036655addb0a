"""What the user can write to let a frozen dimension shrink."""

from collections.abc import Callable
from typing import Any

from shrink.core.groups import ChannelGroups

_REMEDIES: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("network output", lambda _: "free=['output'] (--free output), if fewer outputs will do"),
    ("network input", lambda _: "free=['input'] (--free input), if the model may be given less"),
    (
        "no rule for ",
        lambda name: f"a rule for it: @shrink.couples({name!r}), see docs/RULES.md",
    ),
    (
        "the rule for ",
        lambda rest: f"a correct rule for {rest.split()[0]}: shrink.testing.check_rule tests it",
    ),
    ("user: only=", lambda globs: f"name the layer too: only={globs} ..."),
    ("user: ", lambda option: f"leave out {option}"),
    ("not read by the forward pass", lambda _: "example inputs that reach it, or drop it"),
)


def remedy_for(reason: str) -> str:
    """Say what to write; empty where the operator itself needs the dimension as it is."""
    for start, write in _REMEDIES:
        if reason.startswith(start):
            return write(reason.removeprefix(start))
    return ""


def list_frozen(groups: ChannelGroups) -> tuple[dict[str, Any], ...]:
    """List what stays whole, each with its reason, the place in the code and the remedy."""
    return tuple(
        {
            "axes": [list(axis) for axis in entry.axes],
            "size": entry.size,
            "reason": entry.reason,
            "where": entry.where,
            "module": entry.module,
            "source": entry.source,
            "remedy": remedy_for(entry.reason),
        }
        for entry in groups.frozen
        if entry.reason
    )
