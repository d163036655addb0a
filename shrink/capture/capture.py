"""Capture a model as a graph."""

from dataclasses import replace

import torch
from torch import nn
from torch.fx import Node
from torch.nn.parameter import is_lazy

from shrink.capture.dispatch import record
from shrink.core.errors import CaptureError, InputError
from shrink.core.graph import Graph, map_nodes
from shrink.core.inputs import Inputs, enlarge_batch, tensors_in

_SPARSE = frozenset(
    {torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc}
)


def capture(model: nn.Module, inputs: Inputs) -> Graph:
    """Capture what the model computes in evaluation mode, and training-only branches beside it.

    Args:
        model: left untouched, its mode too.
        inputs: example inputs; only shapes and dtypes are used, unless the forward pass depends on
            values: then it is run once on them.

    Raises:
        CaptureError: the forward pass fails, on these inputs too.
        InputError: the model or its inputs are of a kind that cannot be captured.
    """
    check_kinds(model, inputs)
    graph = _record(model, inputs)
    returned: list[Node] = []
    map_nodes(graph.calls[0].output, returned.append)
    if not returned:
        raise InputError(
            "returns nothing in which a tensor is found",
            where=type(model).__name__,
            fix="return tensors, or tuples, lists, dicts or dataclasses of tensors",
        )
    read = set(graph.tensors.values())
    if all(name in read for name, _ in model.named_parameters()):
        return graph
    try:  # two examples: batch norm refuses to train on one
        training = record(model, enlarge_batch(inputs), training=True)
    except CaptureError:
        return graph
    more = set(training.tensors.values()) - read
    return replace(graph, training=training) if more & set(graph.stored) else graph


def _record(model: nn.Module, inputs: Inputs) -> Graph:
    try:
        return record(model, inputs)
    except CaptureError:  # control flow that depends on data (the proposals of a detector)
        return record(model, inputs, worlds=("real",))


def check_kinds(model: nn.Module, inputs: Inputs) -> None:
    """Refuse what no graph can be made of, before anything else touches it.

    Raises:
        InputError: naming the module, tensor or input.
    """
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule) and any(True for _ in module.parameters()):
            raise InputError(
                "is TorchScript, of which no parameter can be cut",
                where=path or type(model).__name__,
                fix="pass the module that it was scripted or traced from",
            )
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise InputError(
                "has no shape yet",
                where=name,
                fix="run one forward pass of the model first: it gives lazy modules their shapes",
            )
        if _is_sparse(tensor):
            raise InputError(
                "is a sparse tensor, of which no channels can be cut",
                where=name,
                fix="hold it as a dense one: tensor.to_dense()",
            )
    if any(t.is_nested or t.is_quantized or _is_sparse(t) for t in tensors_in(inputs)):
        raise InputError(
            "a nested, quantized or sparse tensor among the example inputs",
            where="example_inputs",
            fix="pass dense tensors of floating-point numbers or integers",
        )


def _is_sparse(tensor: torch.Tensor) -> bool:
    return tensor.layout in _SPARSE
