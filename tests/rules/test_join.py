"""Joins: several tensors become one, side by side."""

from collections.abc import Callable

import pytest
import torch

from tests.rules.couplings import read

ROWS = [
    pytest.param(
        lambda x, y: torch.hstack([x, y]),
        [(2, 2), (2, 1)],
        "x0=y0=out0:ab x1:cd out1:cd-",
        id="hstack",
    ),
    pytest.param(
        lambda x, y: torch.hstack([x, y]),
        [(2,), (3,)],
        "x0:ab y0:cde out0:abcde",
        id="hstack-lines",
    ),
    pytest.param(
        lambda x, y: torch.vstack([x, y]),
        [(2,), (2,)],
        "x0=y0=out1:ab",
        id="vstack-lines",
    ),
    pytest.param(
        lambda x, y: torch.dstack([x, y]),
        [(2, 2), (2, 2)],
        "x0=y0=out0:ab x1=y1=out1:cd",
        id="dstack",
    ),
    pytest.param(
        lambda x, y: torch.column_stack([x, y]),
        [(2,), (2, 2)],
        "x0=y0=out0:ab y1:cd out1:-cd",
        id="column-stack",
    ),
    pytest.param(
        torch.broadcast_tensors,
        [(2, 1), (3,)],
        "x0=outa0=outb0:ab y0=outa1=outb1:cde",
        id="broadcast-tensors",
    ),
    pytest.param(
        lambda x, y: torch.meshgrid(x, y, indexing="ij"),
        [(2,), (3,)],
        "x0=outa0=outb0:ab y0=outa1=outb1:cde",
        id="meshgrid",
    ),
    pytest.param(
        lambda x, y: torch.meshgrid(x, y, indexing="xy"),
        [(2,), (3,)],
        "x0=outa1=outb1:ab y0=outa0=outb0:cde",
        id="meshgrid-xy",
    ),
]


@pytest.mark.parametrize(("layer", "arguments", "expected"), ROWS)
def test_couples(
    layer: Callable[..., object], arguments: list[tuple[int, ...]], expected: str
) -> None:
    assert read(layer, *arguments) == expected
