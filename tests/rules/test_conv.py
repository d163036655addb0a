"""Convolutions: what each layout ties together."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.rules.couplings import read

aten = torch.ops.aten

ROWS = [
    pytest.param(
        nn.Conv2d(2, 3, 3),
        [(1, 2, 4, 4)],
        "x1=weight1:ab weight0=bias0=out1:cde !position read by a convolution: x2 x3",
        id="dense",
    ),
    pytest.param(
        nn.Conv2d(2, 3, 3, bias=False),
        [(1, 2, 4, 4)],
        "x1=weight1:ab weight0=out1:cde !position read by a convolution: x2 x3",
        id="no-bias",
    ),
    pytest.param(
        nn.Conv2d(2, 3, 3, padding="same"),
        [(1, 2, 4, 4)],
        "x1=weight1:ab weight0=bias0=out1:cde !position read by a convolution: x2 x3",
        id="padding-by-name",
    ),
    pytest.param(
        nn.Conv1d(2, 3, 1),
        [(2, 2, 4)],
        "x0=out0:ab x1=weight1:cd x2=out2:efgh weight0=bias0=out1:ijk",
        id="1d-batch",
    ),
    pytest.param(
        nn.Conv3d(2, 3, 1),
        [(2, 3, 3, 3)],
        "x0=weight1:ab x1=out1:cde x2=out2:fgh x3=out3:ijk weight0=bias0=out0:lmn",
        id="3d-no-batch",
    ),
    pytest.param(
        nn.Conv2d(4, 4, 3, groups=4),
        [(1, 4, 4, 4)],
        "x1=weight0=bias0=out1:abcd !position read by a convolution: x2 x3",
        id="depthwise",
    ),
    pytest.param(
        nn.Conv2d(2, 4, 3, groups=2),
        [(1, 2, 4, 4)],
        "x1:ab weight0=bias0=out1:aabb*cdef {cd|ef} !position read by a convolution: x2 x3",
        id="depthwise-two-filters",
    ),
    pytest.param(
        nn.Conv2d(4, 4, 3, groups=2),
        [(1, 4, 4, 4)],
        "x1:aabb*cdcd weight0=bias0=out1:aabb*efgh weight1:cd {cd|cd} {ef|gh} "
        "!position read by a convolution: x2 x3",
        id="grouped",
    ),
    pytest.param(
        nn.Conv2d(4, 2, 3, groups=2),
        [(1, 4, 4, 4)],
        "x1:aabb*cdcd weight0=bias0=out1:ab weight1:cd {cd|cd} "
        "!position read by a convolution: x2 x3",
        id="grouped-one-filter",
    ),
    pytest.param(
        nn.ConvTranspose2d(2, 3, 2),
        [(1, 2, 4, 4)],
        "x1=weight0:ab weight1=bias0=out1:cde !position read by a convolution: x2 x3",
        id="transposed",
    ),
    pytest.param(
        nn.ConvTranspose1d(2, 3, 2, bias=False),
        [(1, 2, 4)],
        "x1=weight0:ab weight1=out1:cde !position read by a convolution: x2",
        id="transposed-1d",
    ),
    pytest.param(
        nn.ConvTranspose2d(4, 4, 2, groups=2),
        [(1, 4, 4, 4)],
        "x1=weight0:aabb*cdef weight1:gh bias0=out1:aabb*ghgh {cd|ef} "
        "!position read by a convolution: x2 x3",
        id="transposed-grouped",
    ),
    pytest.param(
        nn.ConvTranspose2d(4, 4, 2, groups=4),
        [(1, 4, 4, 4)],
        "x1=weight0=bias0=out1:abcd !position read by a convolution: x2 x3",
        id="transposed-depthwise",
    ),
    pytest.param(
        functional.conv2d,
        [(1, 2, 4, 4), (3, 2, 1, 1)],
        "x1=y1:ab x2=out2:cdef x3=out3:ghij y0=out1:klm",
        id="weight-from-elsewhere",
    ),
    pytest.param(
        nn.Conv2d(2, 3, (3, 1), bias=False),
        [(1, 2, 4, 2)],
        "x1=weight1:ab x3=out3:cd weight0=out1:efg !position read by a convolution: x2",
        id="along-one-dimension",
    ),
    pytest.param(
        lambda x, y: aten.convolution(
            x, y, None, [1], [0], [1], transposed=False, output_padding=[0], groups=1
        ),
        [(1, 2, 4), (3, 2, 2)],
        "x1=y1:ab y0=out1:cde !position read by a convolution: x2",
        id="any",
    ),
    pytest.param(
        lambda x, y: aten.convolution(
            x, y, None, [1], [0], [1], transposed=True, output_padding=[0], groups=1
        ),
        [(1, 2, 4), (2, 3, 2)],
        "x1=y0:ab y1=out1:cde !position read by a convolution: x2",
        id="any-transposed",
    ),
    pytest.param(
        torch.conv_tbc,
        [(4, 2, 2), (3, 2, 3), (3,)],
        "x1=out1:ab x2=y1:cd y2=z0=out2:efg !position read by a convolution: x0",
        id="time-first",
    ),
    pytest.param(
        nn.Conv1d(2, 3, 1, stride=2, bias=False),
        [(1, 2, 4)],
        "x1=weight1:ab weight0=out1:cde !position read by a convolution: x2",
        id="pointwise-strided",
    ),
]


@pytest.mark.parametrize(("layer", "shapes", "expected"), ROWS)
def test_couples(layer: nn.Module, shapes: list[tuple[int, ...]], expected: str) -> None:
    assert read(layer, *shapes) == expected
