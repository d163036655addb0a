"""What the graph of the smaller model must look like: shapes and literals of every call."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import fx

from shrink.core.graph import Graph
from shrink.core.groups import ChannelGroups, Dim
from shrink.rules.registry import find_resize
from shrink.rules.site import Call, bind, unbind

Kept = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Rewritten:
    """A call whose literals follow the smaller widths.

    Args:
        args, kwargs: with graph nodes in place of tensors.
        factor: constant that the result must be multiplied with; 1 for almost all.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    factor: float = 1.0


@dataclass(frozen=True, eq=False)
class Prediction:
    """The graph after the cut.

    Args:
        shapes: node name -> shape of every tensor it returns.
        calls: node name -> the call, for those whose literals change.
        resized: names of the nodes of which a shape changes.
    """

    shapes: Mapping[str, tuple[tuple[int, ...], ...]]
    calls: Mapping[str, Rewritten]
    resized: frozenset[str]


def predict(graph: Graph, groups: ChannelGroups, kept: Kept) -> Prediction:
    """Predict shapes and literals after removing the units that are not kept.

    Args:
        kept: shape (units + 1,); the last entry is True.
    """
    known: dict[int, int] = {}
    shapes = {
        name: tuple(tuple(_width(d, kept, known) for d in value) for value in values)
        for name, values in groups.values.items()
    }
    resized = frozenset(
        name
        for name, values in groups.values.items()
        if shapes[name] != tuple(tuple(d.size for d in value) for value in values)
    )
    calls = {}
    for node in graph.ops:
        rule = find_resize(node.target)
        if rule is None or not (
            node.name in resized or any(n.name in resized for n in node.all_input_nodes)
        ):
            continue
        call = _call(node, groups, shapes, kept)
        found = rule(call)
        if found.factor != 1.0 or dict(found.arguments) != dict(call.arguments):
            calls[node.name] = Rewritten(*unbind(node.target, found.arguments), found.factor)
    return Prediction(shapes, calls, resized)


def _width(dim: Dim, kept: Kept, known: dict[int, int]) -> int:
    if not dim.labels:
        return dim.size
    key = id(dim)
    if key not in known:
        if any(label.rows for label in dim.labels):
            # Rows that survive keep equally many; rows of removed heads may keep fewer.
            rows = [kept[x.ids].reshape(-1, dim.size) for x in dim.labels]
            count = max(len(r) for r in rows)
            known[key] = int(
                np.logical_and.reduce([np.broadcast_to(r, (count, dim.size)) for r in rows])
                .sum(axis=1)
                .max()
            )
        else:
            known[key] = int(dim.alive(kept).sum())
    return known[key]


class _Masks(Sequence["Kept | None"]):
    """Which indices of each dimension survive, worked out when asked for."""

    def __init__(self, value: tuple[Dim, ...], kept: Kept) -> None:
        self.value = value
        self.kept = kept

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, dim: Any) -> Any:  # Any: sequences also take slices
        found = self.value[dim]
        return None if any(x.rows for x in found.labels) else found.alive(self.kept)


def _call(
    node: fx.Node,
    groups: ChannelGroups,
    shapes: Mapping[str, tuple[tuple[int, ...], ...]],
    kept: Kept,
) -> Call:
    arguments = bind(node.target, node.args, node.kwargs)
    tensors = {name: v for name, v in arguments.items() if isinstance(v, fx.Node)}
    return Call(
        operator=node.target,
        arguments=arguments,
        before=tuple(tuple(d.size for d in v) for v in groups.values[node.name]),
        after=shapes[node.name],
        inputs_before={
            n: tuple(d.size for d in groups.values[v.name][0]) for n, v in tensors.items()
        },
        inputs_after={n: shapes[v.name][0] for n, v in tensors.items()},
        kept={n: _Masks(groups.values[v.name][0], kept) for n, v in tensors.items()},
    )


def literals(node: fx.Node, prediction: Prediction) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Read the arguments a node will have after the cut."""
    call = prediction.calls.get(node.name)
    return (call.args, call.kwargs) if call else (node.args, node.kwargs)
