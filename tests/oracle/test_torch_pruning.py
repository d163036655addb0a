"""Our groups against those of Torch-Pruning, an independent implementation.

For single channels of every convolution and linear layer: the indices of parameters and buffers
that go with the channel are the same for both.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch_pruning
from torch import Tensor, nn
from torchvision import models

from shrink.capture.capture import capture
from shrink.core.groups import ChannelGroups
from shrink.core.inputs import as_inputs
from shrink.groups.find import find_groups

Removed = set[tuple[str, int, int]]


class Small(nn.Module):
    """Residual, concatenation of the same tensor, and a flatten into a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.left = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.right = nn.Conv2d(8, 6, 1)
        self.join = nn.Conv2d(14, 4, 3, padding=1)
        self.depth = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.head = nn.Linear(4 * 16, 10)
        self.last = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.cat([self.left(x) + x, self.right(x)], 1)
        x = self.depth(self.join(x))
        return self.last(torch.relu(self.head(torch.flatten(x, 1))))


def ours(groups: ChannelGroups, tensor: str, index: int) -> Removed | None:
    """List what goes with an index of a tensor's first dimension.

    None if it may not go, or if it is one of several units (channels inside conv groups).
    """
    axis = next((a for a in groups.axes if (a.tensor, a.dim) == (tensor, 0)), None)
    if axis is None or len(axis.units) > 1 or axis.units[0][index] < 0:
        return None
    unit = axis.units[0][index]
    return {
        (a.tensor, a.dim, int(i))
        for a in groups.axes
        for units in a.units
        for i in np.flatnonzero(units == unit)
    }


def theirs(graph: torch_pruning.DependencyGraph, layer: nn.Module, index: int) -> Removed:
    """List what Torch-Pruning cuts together with an output channel of a layer."""
    names = {id(m): n for n, m in graph.model.named_modules()}
    pruner = graph.get_pruner_of_module(layer)
    found: Removed = set()
    for dependency, indices in graph.get_pruning_group(layer, pruner.prune_out_channels, [index]):
        module = dependency.target.module
        if id(module) not in names:  # an operator without parameters
            continue
        reads = dependency.handler.__name__ == "prune_in_channels" and (
            isinstance(module, nn.Linear) or getattr(module, "groups", 0) == 1
        )
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if tensor.dim() and not (reads and name != "weight"):
                found |= {(f"{names[id(module)]}.{name}", int(reads), int(i)) for i in indices}
    return found


MODELS = [
    pytest.param(Small, 4, id="small"),
    pytest.param(models.resnet18, 32, id="resnet18"),
    pytest.param(models.mobilenet_v2, 32, id="mobilenet_v2"),
    pytest.param(models.squeezenet1_1, 64, id="squeezenet1_1"),
    pytest.param(models.regnet_x_400mf, 32, id="regnet_x_400mf"),
    pytest.param(models.vgg11_bn, 32, id="vgg11_bn", marks=pytest.mark.slow),
    pytest.param(models.densenet121, 32, id="densenet121", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("make", "size"), MODELS)
def test_the_same_indices_go_together(make: Callable[[], nn.Module], size: int) -> None:
    model, x = make().eval(), torch.zeros(1, 3, size, size)
    groups = find_groups(capture(model, as_inputs(x)))
    graph = torch_pruning.DependencyGraph().build_dependency(model, x)
    compared = 0
    for name, layer in model.named_modules():
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        for index in {0, len(layer.weight) // 2, len(layer.weight) - 1}:
            expected = ours(groups, f"{name}.weight", index)
            if expected is not None:
                assert theirs(graph, layer, index) == expected, (name, index)
                compared += 1
    assert compared >= 15
