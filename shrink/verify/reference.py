"""Run the original's graph with every removed slice neutralised.

Weights and buffers are zero where the plan removes them, and so is every activation that carries a
removed unit. Norms, softmaxes and maxima over a removed dimension are those of the kept indices,
for they are defined by the indices that are there.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from shrink.core.graph import Graph
from shrink.core.groups import ChannelGroups, Dim
from shrink.rules.registry import find_normalised
from shrink.rules.site import Call, bind, unbind

Read = Callable[[str], Tensor]
_LARGE = 1 << 23  # elements; a tensor of more does not stay from one use to the next


class ReferenceFailure(Exception):  # noqa: N818  # no fault of the user's
    """An operator of the reference cannot run: a rule coupled or cleared what it must not."""


def run_reference(
    graph: Graph,
    groups: ChannelGroups,
    kept: NDArray[np.bool_],
    inputs: list[Tensor],
    read: Read,
    *,
    watch: frozenset[str] = frozenset(),
) -> tuple[Any, dict[str, Tensor]]:
    """Run the graph and neutralise what the plan removes.

    Args:
        kept: surviving units, shape (units + 1,).
        inputs: tensors for the placeholders, in order.
        read: gives the stored tensor of a name, with its removed slices zeroed.
        watch: nodes whose values are wanted.

    Returns:
        what the model returns, and the values of the watched nodes.

    Raises:
        ReferenceFailure: naming the module.
    """
    nodes = list(graph.fx.nodes)
    passing = {n.name for n in nodes if n.op == "get_attr" and _is_passing(n)}
    last_use = {s.name: n.name for n in nodes for s in n.all_input_nodes}
    values: dict[str, Any] = {}
    watched: dict[str, Tensor] = {}
    feed = iter(inputs)
    result: Any = None
    device = inputs[0].device if inputs else torch.device("cpu")
    masks = _Masks(kept, device)
    for node in nodes:
        sources = node.all_input_nodes
        for source in sources:
            if source.name in passing:
                values[source.name] = read(graph.tensors[source.name])
        if node.op == "placeholder":
            values[node.name] = masks.clear(next(feed), groups.values[node.name][0])
        elif node.op == "get_attr" and node.name not in passing:
            values[node.name] = read(graph.tensors[node.name])
        elif node.op == "call_function":
            values[node.name] = _call(node, graph, groups, masks, values)
        elif node.op == "output":
            result = fx.map_arg(node.args[0], lambda n: values[n.name])
        if node.name in watch:
            watched[node.name] = values[node.name].clone()  # later operators may write into it
        for source in sources:
            if last_use[source.name] == node.name or source.name in passing:
                del values[source.name]
    return result, watched


def _is_passing(tensor: fx.Node) -> bool:
    """Tell whether a stored tensor is large and only ever read: it may be made anew for each use.

    A tied embedding would otherwise stand in memory from the first layer to the last.
    """
    if tensor.meta["val"].numel() < _LARGE:
        return False
    schemas = [getattr(user.target, "_schema", None) for user in tensor.users]
    return all(
        schema is not None and all(a.alias_info is None for a in schema.arguments)
        for schema in schemas
    )


class _Masks:
    """Which elements of a value carry a removed unit; worked out once per dimension."""

    def __init__(self, kept: NDArray[np.bool_], device: torch.device) -> None:
        self.kept = kept
        self.device = device
        self.dead: dict[tuple[int, int, int], list[Tensor]] = {}

    def of(self, value: tuple[Dim, ...]) -> list[Tensor]:
        """Give masks (True where removed) that broadcast to the value."""
        rank = len(value)
        found = []
        for d, dim in enumerate(value):
            if not dim.labels:
                continue
            key = (id(dim), d, rank)
            if key not in self.dead:
                self.dead[key] = [
                    _placed(~self.kept[x.ids], (*x.rows, d), rank)
                    for x in dim.labels
                    if not self.kept[x.ids].all()
                ]
            found += self.dead[key]
        return found

    def clear(self, tensor: Tensor, value: tuple[Dim, ...]) -> Tensor:
        """Copy an input with what is removed of it zeroed, if anything is."""
        for mask in self.of(value):
            tensor = tensor.masked_fill(mask.to(tensor.device), 0)
        return tensor

    def indices(self, dim: Dim) -> Tensor | None:
        """Give the surviving indices of a dimension, or None if all survive."""
        alive = dim.alive(self.kept)
        return None if alive.all() else torch.from_numpy(np.flatnonzero(alive))


def _placed(mask: NDArray[np.bool_], dims: tuple[int, ...], rank: int) -> Tensor:
    """Lay a mask whose axes are `dims` out so that it broadcasts to a value of that rank."""
    order = np.argsort(dims)
    shape = [1] * rank
    for axis in order:
        shape[dims[axis]] = mask.shape[axis]
    return torch.from_numpy(np.ascontiguousarray(mask.transpose(order)).reshape(shape))


def _call(
    node: fx.Node,
    graph: Graph,
    groups: ChannelGroups,
    masks: _Masks,
    values: Mapping[str, Any],
) -> Any:
    try:
        return _run(node, groups, masks, values)
    except RuntimeError as error:
        path = graph.calls[node.meta["call"]].path
        msg = f"{path} ({node.target} of the reference: {error})"
        raise ReferenceFailure(msg) from error


def _run(node: fx.Node, groups: ChannelGroups, masks: _Masks, values: Mapping[str, Any]) -> Any:
    if node.target is operator.getitem:
        source, index = node.args
        return values[source.name][index]  # type: ignore[union-attr,index]  # a node and an int
    args, kwargs = fx.map_arg((node.args, dict(node.kwargs)), lambda n: values[n.name])
    device = masks.device  # captured without data, on no real device
    args = tuple(device if isinstance(v, torch.device) else v for v in args)
    kwargs = {k: device if isinstance(v, torch.device) else v for k, v in kwargs.items()}
    selected = _select(node, groups, masks)
    if selected:
        result = _run_on_kept(node, args, kwargs, selected)
    else:
        result = node.target(*args, **kwargs)  # type: ignore[operator]  # an operator
    parts = [result] if isinstance(result, Tensor) else list(result or ())
    cleared = []
    # results that are no tensors come after those of which anything can be removed
    known = [*groups.values[node.name], *([()] * len(parts))]
    for part, value in zip(parts, known, strict=False):
        for mask in masks.of(value):
            if 0 in part.stride() and not mask.all():
                part = part.clone()  # noqa: PLW2901  # an expanded view has one element for many
            part.masked_fill_(mask.to(part.device), 0)
        cleared.append(part)
    return cleared[0] if isinstance(result, Tensor) else cleared


def _select(node: fx.Node, groups: ChannelGroups, masks: _Masks) -> dict[str, dict[int, Tensor]]:
    """Find the arguments of which only kept indices may enter: name -> dimension -> indices."""
    rule = find_normalised(node.target)
    if rule is None:
        return {}
    arguments = bind(node.target, node.args, node.kwargs)
    tensors = {n: groups.values[v.name][0] for n, v in arguments.items() if isinstance(v, fx.Node)}
    shapes = {n: tuple(d.size for d in v) for n, v in tensors.items()}
    call = Call(node.target, arguments, (), (), shapes, shapes, {})
    found: dict[str, dict[int, Tensor]] = {}
    for name, dims in rule(call).items():
        for dim in dims:
            indices = masks.indices(tensors[name][dim])
            if indices is not None:
                found.setdefault(name, {})[dim % len(tensors[name])] = indices
    return found


def _run_on_kept(
    node: fx.Node,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    selected: Mapping[str, Mapping[int, Tensor]],
) -> Any:
    """Run an operator on kept indices; put a result that has them back in its full shape."""
    arguments = bind(node.target, args, kwargs)
    full: Tensor = arguments[next(iter(selected))]
    for name, dims in selected.items():
        for dim, indices in dims.items():
            arguments[name] = arguments[name].index_select(dim, indices.to(full.device))
    reduced: Tensor = arguments[next(iter(selected))]
    if "normalized_shape" in arguments:
        count = len(arguments["normalized_shape"])
        arguments["normalized_shape"] = list(reduced.shape[-count:])
    new_args, new_kwargs = unbind(node.target, arguments)
    result = node.target(*new_args, **new_kwargs)  # type: ignore[operator]  # an operator
    # not by the shape of the result: the maximum over one kept index looks like that index
    if not isinstance(result, Tensor) or node.meta["val"].shape != full.shape:
        return result
    for dim, indices in selected[next(iter(selected))].items():
        shape = list(result.shape)
        shape[dim] = full.shape[dim]
        spread = result.new_zeros(shape)
        result = spread.index_copy(dim, indices.to(result.device), result)
    return result
