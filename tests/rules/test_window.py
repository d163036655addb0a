"""Sliding windows: positions are fixed, channels pass."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from tests.rules.couplings import read

ROWS = [
    pytest.param(
        lambda x: x.unfold(1, 2, 1),
        [(2, 3)],
        "x0=out0:ab !position read by a window: x1",
        id="unfold",
    ),
    pytest.param(
        nn.Unfold(2),
        [(1, 2, 2, 2)],
        "x1:ab out1:aaaabbbb !position read by a window: x2 x3",
        id="im2col",
    ),
    pytest.param(
        nn.Unfold((1, 2)),
        [(2, 2, 2)],
        "x0:ab out0:aabb !position read by a window: x1 x2",
        id="im2col-unbatched",
    ),
    pytest.param(
        lambda x, y: torch.stft(x, 2, 2, window=y, center=False, return_complex=True),
        [(2, 4), (2,)],
        "x0=out0:ab !position of a signal or bin of its spectrum: x1 y0",
        id="stft",
    ),
    pytest.param(
        lambda x, y: torch.istft(torch.complex(x, x), 2, 1, window=y),
        [(2, 2, 3), (2,)],
        "x0=out0:ab !position of a signal or bin of its spectrum: x1 x2 y0",
        id="istft",
    ),
    pytest.param(
        nn.Fold((2, 2), 2),
        [(1, 8, 1)],
        "x1:aaaabbbb out1:ab",
        id="col2im",
    ),
]


@pytest.mark.parametrize(("layer", "arguments", "expected"), ROWS)
def test_couples(
    layer: Callable[..., object], arguments: list[tuple[int, ...]], expected: str
) -> None:
    assert read(layer, *arguments) == expected
