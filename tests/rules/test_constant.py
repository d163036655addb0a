"""Tensors made from literals: uniform ones follow, indexed ones hold."""

from collections.abc import Callable

import pytest
import torch

from tests.rules.couplings import read

ROWS = [
    pytest.param(
        lambda x: x + torch.zeros(3),
        [(2, 3)],
        "x0=out0:ab x1=out1:cde",
        id="zeros-follow",
    ),
    pytest.param(
        lambda x: x * x.new_ones(2, 1), [(2, 3)], "x0=out0:ab x1=out1:cde", id="ones-broadcast"
    ),
    pytest.param(
        lambda x: torch.cat([torch.full((2, 1), 7.0), x], 1),
        [(2, 3)],
        "x0=out0:ab x1:cde out1:-cde",
        id="full",
    ),
    pytest.param(lambda x: x + torch.arange(3), [(2, 3)], "x0=out0:ab", id="arange-holds"),
    pytest.param(
        lambda x: x @ torch.eye(3),
        [(2, 3)],
        "x0=out0:ab x1=out1:cde",
        id="eye",
    ),
    pytest.param(
        lambda x: x @ torch.eye(3, 4),
        [(2, 3)],
        "x0=out0:ab !meets a dimension of fixed size: x1",
        id="eye-not-square",
    ),
]


@pytest.mark.parametrize(("layer", "shapes", "expected"), ROWS)
def test_couples(
    layer: Callable[..., object], shapes: list[tuple[int, ...]], expected: str
) -> None:
    assert read(layer, *shapes) == expected
