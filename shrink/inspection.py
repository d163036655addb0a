"""What can be removed from a model and what cannot, without removing anything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from shrink.capture.capture import capture
from shrink.core.inputs import as_inputs
from shrink.facts import Costs
from shrink.groups.find import find_groups
from shrink.measure.macs import count_params
from shrink.request import Progress, Stages
from shrink.rules.registry import Couple


@dataclass(frozen=True)
class Inspection:
    """What can be removed from a model, and what cannot.

    Args:
        groups: `name, size, parts, nested, axes, structure` of every channel group.
        frozen: `axes, size, reason, where` of what stays whole.
        prunable_macs, prunable_params: share of the cost that removing every removable unit but
            one would save, in [0, 1].
        macs, params: of the whole model, at the batch of the example inputs.
        capture: which capture was used.
    """

    groups: tuple[Mapping[str, Any], ...]
    frozen: tuple[Mapping[str, Any], ...]
    prunable_macs: float
    prunable_params: float
    macs: int
    params: int
    capture: str


def inspect(
    model: nn.Module,
    example_inputs: Any,  # Any: as for `compress`
    *,
    keep: Sequence[str] = (),
    only: Sequence[str] = (),
    free: Sequence[str] = (),
    rules: Mapping[Any, Couple] | None = None,
    strict: bool = False,
    progress: Progress | None = None,
) -> Inspection:
    """List what can be removed from a model, and what cannot, with the reasons."""
    start = Stages(progress)
    inputs = as_inputs(example_inputs)
    with start("capture"):
        graph = capture(model, inputs)
    with start("groups"):
        groups = find_groups(graph, keep=keep, only=only, free=free, rules=rules, strict=strict)
    costs = Costs(graph, groups, model)
    least = np.ones(len(groups.groups), dtype=np.int64)
    saved = {
        kind: 1.0 - float(costs.of(kind)(least)) / max(costs.full(kind), 1.0)
        for kind in ("flops", "params")
    }
    return Inspection(
        groups=tuple(
            {
                "name": g.name,
                "size": g.size,
                "parts": len(g.parts),
                "nested": g.nested,
                "axes": [list(a) for a in g.axes],
                "structure": g.structure,
            }
            for g in groups.groups
        ),
        frozen=tuple(
            {
                "axes": [list(a) for a in f.axes],
                "size": f.size,
                "reason": f.reason,
                "where": f.where,
            }
            for f in groups.frozen
            if f.reason
        ),
        prunable_macs=saved["flops"],
        prunable_params=saved["params"],
        macs=round(costs.full("flops")),
        params=count_params(model),
        capture=graph.capture,
    )
