"""What was captured: a `torch.fx` graph of ATen ops with shapes, tensor names and module calls."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Graph as FxGraph
from torch.fx import Node

from shrink.core.nested import map_leaves


@dataclass(frozen=True, eq=False)
class ModuleCall:
    """One call of one submodule: what went in, what came out, and the nodes in between.

    Args:
        path: dotted name of the module; empty for the model itself.
        args, kwargs, output: as the module saw them, with graph nodes in place of tensors.
        start, stop: the nodes of the call are `graph.nodes[start:stop]` of `Graph.ops`.
        parent: index of the calling call in `Graph.calls`; -1 for the model itself.
    """

    path: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Any
    start: int
    stop: int
    parent: int


@dataclass(frozen=True, eq=False)
class Graph:
    """A captured model.

    Every node has `meta["val"]` (the fake tensor, or a tuple or list of them, that it returns);
    operator nodes also have `meta["call"]` (index of the innermost `ModuleCall`) and
    `meta["source"]` (`file:line` of the user's code); nodes of constants also have
    `meta["constant"]` (their data). The graph is for analysis; it keeps in-place
    operators as the model wrote them.

    Args:
        fx: nodes in execution order: placeholders, one `get_attr` per stored tensor that is read,
            operators, output.
        tensors: `get_attr` node name -> name of the parameter, buffer or tensor attribute.
        stored: name -> fake tensor for every parameter and buffer, used or not; tied ones share
            the first name.
        aliases: second and further names of tied tensors -> the first name.
        inputs: placeholder names in order of the flattened example inputs.
        calls: module calls in order of entry; the first is the model itself.
        constants: name -> tensor with data, for those that `forward` makes from literals.
        capture: on which tensors it was recorded: `"meta"` or `"fake"` ones, without data, or
            `"real"` ones, where control flow depends on values.
        training: the same model in training mode, where that reads parameters that evaluation
            does not (auxiliary heads); else None.
    """

    fx: FxGraph
    ops: tuple[Node, ...]
    tensors: Mapping[str, str]
    stored: Mapping[str, torch.Tensor]
    aliases: Mapping[str, str]
    inputs: tuple[str, ...]
    calls: tuple[ModuleCall, ...]
    constants: Mapping[str, torch.Tensor]
    capture: str
    training: "Graph | None" = None


def tensors_of(value: Any) -> list[torch.Tensor]:
    """List the tensors that a node returns, given its `meta["val"]`."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [v for v in value if isinstance(v, torch.Tensor)]
    return []


def shapes_of(value: Any) -> tuple[tuple[int, ...], ...]:
    """List the shapes of the tensors that a node returns, given its `meta["val"]`."""
    return tuple(tuple(t.shape) for t in tensors_of(value))


def map_nodes(value: Any, function: Callable[[Node], Any]) -> Any:
    """Apply `function` to every node in nested containers; copy the containers."""
    return map_leaves(value, Node, function)


_SELECTING = frozenset({"aten::topk", "aten::sort", "aten::argsort", "torchvision::nms"})


def selects_by_value(node: Node) -> bool:
    """Tell whether an operator's result depends on values as a whole: what it picks, its shape."""
    tags = getattr(node.target, "tags", ())
    name = getattr(getattr(node.target, "_schema", None), "name", "")
    if name == "aten::index":  # by positions; only masks select
        return any(t.dtype in (torch.bool, torch.uint8) for t in _inputs(node))
    return (
        torch.Tag.dynamic_output_shape in tags
        or torch.Tag.data_dependent_output in tags
        or name in _SELECTING
    )


def _inputs(node: Node) -> list[torch.Tensor]:
    return [t for source in node.all_input_nodes for t in tensors_of(source.meta["val"])][1:]
