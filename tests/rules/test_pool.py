"""Pooling and resampling: positions are fixed, channels pass."""

from collections.abc import Callable

import pytest
from torch import nn
from torch.nn import functional

from tests.rules.couplings import read

ROWS = [
    pytest.param(
        nn.MaxPool2d(2),
        [(2, 3, 4, 4)],
        "x0=out0:ab x1=out1:cde !position read by a pooling or resampling window: x2 x3",
        id="max",
    ),
    pytest.param(
        nn.MaxPool2d(2, return_indices=True),
        [(1, 3, 4, 4)],
        "x1=outa1=outb1:abc !position read by a pooling or resampling window: x2 x3",
        id="max-with-indices",
    ),
    pytest.param(
        nn.AvgPool1d(2),
        [(1, 3, 4)],
        "x1=out1:abc !position read by a pooling or resampling window: x2",
        id="average-1d",
    ),
    pytest.param(
        nn.AdaptiveAvgPool2d(1),
        [(1, 3, 4, 4)],
        "x1=out1:abc !position read by a pooling or resampling window: x2 x3",
        id="adaptive",
    ),
    pytest.param(
        nn.AdaptiveAvgPool3d(1),
        [(3, 2, 2, 2)],
        "x0=out0:abc !position read by a pooling or resampling window: x1 x2 x3",
        id="adaptive-3d-no-batch",
    ),
    pytest.param(
        nn.Upsample(scale_factor=2),
        [(1, 3, 2, 2)],
        "x1=out1:abc !position read by a pooling or resampling window: x2 x3",
        id="nearest",
    ),
    pytest.param(
        lambda x: functional.interpolate(x, size=(4, 4), mode="bilinear"),
        [(1, 3, 2, 2)],
        "x1=out1:abc !position read by a pooling or resampling window: x2 x3",
        id="bilinear",
    ),
    pytest.param(
        nn.ReflectionPad2d(1),
        [(1, 3, 2, 2)],
        "x1=out1:abc !padded dimension: x2 x3",
        id="reflection-pad",
    ),
    pytest.param(
        nn.PixelShuffle(2),
        [(1, 8, 1, 1)],
        "x1:aaaabbbb out1:ab",
        id="pixel-shuffle",
    ),
    pytest.param(
        nn.Sequential(nn.Conv2d(3, 24, 1, groups=3, bias=False), nn.PixelShuffle(2)),
        [(1, 3, 1, 1)],
        "x1:abc 0.weight0:aaaaaaaabbbbbbbbcccccccc out1:aabbcc",
        id="pixel-shuffle-after-conv-groups",
    ),
    pytest.param(
        nn.PixelUnshuffle(2),
        [(1, 2, 2, 2)],
        "x1:ab out1:aaaabbbb !position made into channels: x2 x3 out1",
        id="pixel-unshuffle",
    ),
    pytest.param(
        nn.ChannelShuffle(2),
        [(1, 6, 1, 1)],
        "x1:abcabc out1:aabbcc {abc|abc} !channel shuffle: out1",
        id="channel-shuffle",
    ),
    pytest.param(
        lambda x, y: nn.functional.grid_sample(x, y, align_corners=False),
        [(1, 2, 2, 2), (1, 1, 1, 2)],
        "x1=out1:ab !position read by a sampling grid: x2 x3 y3",
        id="grid-sample",
    ),
    pytest.param(
        lambda x: nn.functional.max_unpool2d(
            *nn.functional.max_pool2d(x, 2, return_indices=True), 2
        ),
        [(1, 2, 2, 2)],
        "x1=out1:ab !position read by a pooling or resampling window: x2 x3",
        id="unpool",
    ),
]


@pytest.mark.parametrize(("layer", "shapes", "expected"), ROWS)
def test_couples(
    layer: Callable[..., object], shapes: list[tuple[int, ...]], expected: str
) -> None:
    assert read(layer, *shapes) == expected
