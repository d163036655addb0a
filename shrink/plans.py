"""Plans as the whole model has them: tied tensors, inputs and outputs, and plans made before."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from shrink.core.errors import InputError
from shrink.core.graph import Graph
from shrink.core.groups import ChannelGroups
from shrink.core.inputs import Inputs, describe
from shrink.core.plan import Plan
from shrink.groups.find import find_groups
from shrink.groups.globs import kept_interface
from shrink.plan.choose import Choice
from shrink.plan.write import alive_units, to_plan
from shrink.rules.registry import Couple


def write_plan(
    graph: Graph,
    groups: ChannelGroups,
    choice: Choice,
    inputs: Inputs,
    request: Mapping[str, Any],
    name: str,
) -> Plan:
    """Write what a choice keeps: of every stored tensor, and of inputs and outputs that are free.

    Args:
        request: budget and options as asked for.
        name: of the model.
    """
    shapes = {n: tuple(t.shape) for n, t in graph.stored.items()}
    plan = to_plan(groups, choice, shapes, inputs=describe(inputs), request=request)
    interface = kept_interface(graph, groups, choice.kept)
    return replace(_with_aliases(plan, graph), model=name, interface=interface)


def read_kept(plan: Plan, graph: Graph, groups: ChannelGroups) -> NDArray[np.bool_]:
    """Read from a plan which units survive, shape (units + 1,).

    Raises:
        InputError: the plan was made for another model.
    """
    keep = {n: d for n, d in plan.keep.items() if n not in graph.aliases}
    plan = replace(plan, keep=keep, shapes={n: plan.shapes[n] for n in keep})
    return alive_units(groups, plan)


def find_groups_again(
    plan: Plan, graph: Graph, rules: Mapping[Any, Couple] | None = None
) -> ChannelGroups:
    """Find the groups under the options that a plan was made with."""
    chosen = {option: plan.request.get(option, ()) for option in ("keep", "only", "free")}
    return find_groups(graph, rules=rules, **chosen)


def check_fit(plan: Plan, model: nn.Module) -> None:
    """Refuse a model whose tensors are not those the plan was made for."""
    shapes = {
        n: tuple(t.shape)
        for n, t in (
            *model.named_parameters(remove_duplicate=False),
            *model.named_buffers(remove_duplicate=False),
        )
    }
    for name, shape in plan.shapes.items():
        if shapes.get(name) != tuple(shape):
            found = f"shape {shapes[name]}" if name in shapes else "no such tensor"
            raise InputError(
                f"the plan was made for shape {tuple(shape)}, the model has {found}",
                where=name,
                fix=f"apply it to {plan.model or 'the model it was made for'}",
            )


def _with_aliases(plan: Plan, graph: Graph) -> Plan:
    """Name tied tensors under every name they have."""
    extra = {a: plan.keep[n] for a, n in graph.aliases.items() if n in plan.keep}
    shapes = {a: plan.shapes[graph.aliases[a]] for a in extra}
    return replace(plan, keep={**plan.keep, **extra}, shapes={**plan.shapes, **shapes})
