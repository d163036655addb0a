"""Operators of detectors: regions are positions, channels pass."""

from collections.abc import Callable

import pytest
from torchvision import ops

from tests.rules.couplings import read

ROWS = [
    pytest.param(
        lambda x, y: ops.roi_align(x, y, 2),
        [(1, 2, 4, 4), (3, 5)],
        "x1=out1:ab !position read by a region of interest: x2 x3",
        id="roi-align",
    ),
    pytest.param(
        lambda x, y: ops.roi_pool(x, y, 2),
        [(1, 2, 4, 4), (3, 5)],
        "x1=out1:ab !position read by a region of interest: x2 x3",
        id="roi-pool",
    ),
    pytest.param(
        lambda x, y: ops.ps_roi_align(x, y, 2),
        [(1, 4, 4, 4), (3, 5)],
        "!read as boxes or as positions in a region: x1 x2 x3 y0 y1",
        id="ps-roi-align",
    ),
    pytest.param(
        lambda x, y, z, u, v: ops.deform_conv2d(x, y, z, v, mask=u),
        [(1, 4, 1, 1), (1, 4, 1, 1), (2, 4, 1, 1), (1, 2, 1, 1), (2,)],
        "x1=z1:abcd z0=v0=out1:ef {ab|cd} !offset of a deformable convolution: y1 u1",
        id="deform-conv",
    ),
]


@pytest.mark.parametrize(("layer", "arguments", "expected"), ROWS)
def test_couples(
    layer: Callable[..., object], arguments: list[tuple[int, ...]], expected: str
) -> None:
    assert read(layer, *arguments) == expected
