"""Capture a model as a graph."""

from torch import nn

from shrink.capture.dispatch import record
from shrink.core.graph import Graph
from shrink.core.inputs import Inputs


def capture(model: nn.Module, inputs: Inputs) -> Graph:
    """Capture what the model computes in evaluation mode.

    Args:
        model: left untouched, its mode too.
        inputs: example inputs; only shapes, dtypes and devices are used.

    Raises:
        CaptureError: the forward pass depends on tensor values, or the inputs do not fit.
    """
    return record(model, inputs)
