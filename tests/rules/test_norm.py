"""Norms: scale, shift and statistics follow the channels."""

import pytest
import torch
from torch import nn

from tests.rules.couplings import read

aten = torch.ops.aten

ROWS = [
    pytest.param(
        nn.BatchNorm2d(2),
        [(3, 2, 2, 2)],
        "x0=out0:abc x1=weight0=bias0=running_mean0=running_var0=out1:de x2=out2:fg x3=out3:hi",
        id="batch",
    ),
    pytest.param(
        nn.BatchNorm1d(2),
        [(3, 2)],
        "x0=out0:abc x1=weight0=bias0=running_mean0=running_var0=out1:de",
        id="batch-1d",
    ),
    pytest.param(
        nn.BatchNorm2d(2, affine=False),
        [(1, 2, 2, 2)],
        "x1=running_mean0=running_var0=out1:ab x2=out2:cd x3=out3:ef",
        id="batch-no-affine",
    ),
    pytest.param(
        nn.BatchNorm2d(2, track_running_stats=False),
        [(1, 2, 2, 2)],
        "x1=weight0=bias0=out1:ab x2=out2:cd x3=out3:ef",
        id="batch-no-statistics",
    ),
    pytest.param(
        nn.InstanceNorm2d(2),
        [(1, 2, 2, 2)],
        "x1=out1:ab x2=out2:cd x3=out3:ef",
        id="instance",
    ),
    pytest.param(
        nn.InstanceNorm2d(2, affine=True),
        [(1, 2, 2, 2)],
        "x1=weight0=bias0=out1:ab x2=out2:cd x3=out3:ef",
        id="instance-affine",
    ),
    pytest.param(nn.LayerNorm(3), [(1, 2, 3)], "x1=out1:ab x2=weight0=bias0=out2:cde", id="layer"),
    pytest.param(
        nn.LayerNorm(3, bias=False),
        [(1, 2, 3)],
        "x1=out1:ab x2=weight0=out2:cde",
        id="layer-no-bias",
    ),
    pytest.param(
        nn.LayerNorm(3, elementwise_affine=False),
        [(1, 2, 3)],
        "x1=out1:ab x2=out2:cde",
        id="layer-no-affine",
    ),
    pytest.param(
        nn.LayerNorm([2, 3]),
        [(2, 2, 3)],
        "x0=out0:ab x1=weight0=bias0=out1:cd x2=weight1=bias1=out2:efg",
        id="layer-of-two-dims",
    ),
    pytest.param(nn.RMSNorm(3), [(1, 2, 3)], "x1=out1:ab x2=weight0=out2:cde", id="rms"),
    pytest.param(
        nn.GroupNorm(2, 4),
        [(1, 4, 2)],
        "x1=weight0=bias0=out1:abcd x2=out2:ef {ab|cd}",
        id="group",
    ),
    pytest.param(
        nn.GroupNorm(1, 4),
        [(1, 4, 2)],
        "x1=weight0=bias0=out1:abcd x2=out2:ef",
        id="group-of-all",
    ),
    pytest.param(
        nn.GroupNorm(2, 4, affine=False), [(1, 4)], "x1=out1:abcd {ab|cd}", id="group-no-affine"
    ),
    pytest.param(
        nn.Sequential(nn.Flatten(), nn.GroupNorm(2, 4)),
        [(1, 2, 2)],
        "x1:ab x2:cd 1.weight0=1.bias0=out1:aabb*cdcd {aa*cd|bb*cd}",
        id="group-of-merged",
    ),
    pytest.param(
        lambda x, y: torch._weight_norm(x, y, 0),
        [(2, 3), (2, 1)],
        "x0=y0=out0:ab x1=out1:cde",
        id="weight-norm",
    ),
]


@pytest.mark.parametrize(("layer", "shapes", "expected"), ROWS)
def test_couples(layer: nn.Module, shapes: list[tuple[int, ...]], expected: str) -> None:
    assert read(layer, *shapes) == expected
