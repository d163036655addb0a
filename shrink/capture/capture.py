"""Capture a model as a graph."""

from dataclasses import replace

from torch import nn

from shrink.capture.dispatch import record
from shrink.core.errors import CaptureError
from shrink.core.graph import Graph
from shrink.core.inputs import Inputs, enlarge_batch


def capture(model: nn.Module, inputs: Inputs) -> Graph:
    """Capture what the model computes in evaluation mode, and training-only branches beside it.

    Args:
        model: left untouched, its mode too.
        inputs: example inputs; only shapes and dtypes are used, unless the forward pass depends on
            values: then it is run once on them.

    Raises:
        CaptureError: the forward pass fails, on these inputs too.
    """
    try:
        graph = record(model, inputs)
    except CaptureError:  # control flow that depends on data (the proposals of a detector)
        return record(model, inputs, worlds=("real",))
    read = set(graph.tensors.values())
    if all(name in read for name, _ in model.named_parameters()):
        return graph
    try:  # two examples: batch norm refuses to train on one
        training = record(model, enlarge_batch(inputs), training=True)
    except CaptureError:
        return graph
    more = set(training.tensors.values()) - read
    return replace(graph, training=training) if more & set(graph.stored) else graph
