"""What was captured: a `torch.fx` graph of ATen ops with shapes, tensor names and module calls."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Graph as FxGraph
from torch.fx import Node


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
    `meta["source"]` (`file:line` of the user's code). The graph is for analysis; it keeps in-place
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
        capture: on which tensors without data it was recorded (`"meta"`, `"fake"`).
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
    capture: str
    training: "Graph | None" = None
