"""Gathers, scatters and writes by index: indexed dimensions stay, others pass."""

from collections.abc import Callable

import pytest
import torch

from tests.rules.couplings import read

ROWS = [
    pytest.param(
        lambda x: torch.relu(x)[:, torch.tensor([2, 0, 1])],
        [(2, 3)],
        "x0=out0:ab !gathered by index, whose numbers would have to change: x1",
        id="channels-by-number",
    ),
    pytest.param(
        lambda x: x.gather(0, torch.tensor([[0], [1]]).expand(-1, x.shape[1])),
        [(2, 3)],
        "x1=out1:abc !gathered or written by index: x0",
        id="gather",
    ),
    pytest.param(
        lambda x: x.gather(0, torch.tensor([[0, 1, 1]])),
        [(2, 3)],
        "!gathered or written by index: x0 !meets a dimension of fixed size: x1 out1",
        id="gather-fixed",
    ),
    pytest.param(
        lambda x: x.gather(0, torch.tensor([[0, 1]])),
        [(2, 3)],
        "!gathered or written by index: x0 x1",
        id="gather-short",
    ),
    pytest.param(
        lambda x: torch.take_along_dim(x, torch.tensor([[0]]), 1),
        [(2, 3)],
        "x0=out0:ab !gathered or written by index: x1",
        id="take-along-dim",
    ),
    pytest.param(
        lambda x: torch.take_along_dim(x, torch.tensor([0])),
        [(2, 3)],
        "!gathered or written by index: x0 x1",
        id="take-flattened",
    ),
    pytest.param(
        lambda x, y: x.scatter_add(0, torch.tensor([[0], [1]]).expand(-1, 2), y),
        [(3, 2), (2, 2)],
        "x1=y1=out1:ab !gathered or written by index: x0 y0 out0",
        id="scatter-add",
    ),
    pytest.param(
        lambda x: x.scatter(0, torch.tensor([[0]]).expand(-1, 2), 1.0),
        [(3, 2)],
        "x1=out1:ab !gathered or written by index: x0 out0",
        id="scatter-value",
    ),
    pytest.param(
        lambda x, y: x.scatter(0, torch.tensor([[0, 1]]), y),
        [(3, 3), (1, 2)],
        "!gathered or written by index: x0 x1 y1 out0 out1",
        id="scatter-short",
    ),
    pytest.param(
        lambda x, y: x.index_put((torch.tensor([0, 1]),), y),
        [(3, 2), (2, 2)],
        "x1=y1=out1:ab !gathered or written by index: x0 y0 out0",
        id="index-put",
    ),
    pytest.param(
        lambda x, y: x.index_put((torch.tensor([0]), torch.tensor([1])), y),
        [(2, 2, 2), (1, 2)],
        "x2=y1=out2:ab !gathered or written by index: x0 x1 out0 out1",
        id="index-put-two",
    ),
    pytest.param(
        lambda x, y: x.index_put((torch.tensor([[True, False]]),), y),
        [(1, 2, 2), (2,)],
        "x2=y0=out2:ab !gathered or written by index: x1 out1",
        id="index-put-mask",
    ),
    pytest.param(
        lambda x, y: x.index_add(0, torch.tensor([0]), y),
        [(2, 3), (1, 3)],
        "x1=y1=out1:abc !gathered or written by index: x0 out0",
        id="index-add",
    ),
    pytest.param(
        lambda x: x.index_fill(0, torch.tensor([0]), 0.0),
        [(2, 3)],
        "x1=out1:abc !gathered or written by index: x0 out0",
        id="index-fill",
    ),
    pytest.param(
        lambda x, y: x.slice_scatter(y, 0, 0, 1),
        [(2, 3), (1, 3)],
        "x1=y1=out1:abc !gathered or written by index: x0 out0",
        id="slice-scatter",
    ),
    pytest.param(
        lambda x, y: x.select_scatter(y, 0, 1),
        [(2, 3), (3,)],
        "x1=y0=out1:abc !gathered or written by index: x0 out0",
        id="select-scatter",
    ),
    pytest.param(
        lambda x: x.masked_scatter(x > 0, x),
        [(2, 2)],
        "!elements picked by a mask: x0 x1",
        id="masked-scatter",
    ),
    pytest.param(
        lambda x: torch.bucketize(x, torch.tensor([0.0, 1.0])),
        [(2,)],
        "x0=out0:ab",
        id="bucketize",
    ),
    pytest.param(
        torch.bucketize,
        [(2,), (3,)],
        "x0=out0:ab !table in which numbers are looked up: y0",
        id="bucketize-table",
    ),
    pytest.param(
        torch.searchsorted,
        [(2, 3), (2, 2)],
        "!table in which numbers are looked up: x0 x1 y0 y1 out0 out1",
        id="searchsorted-rows",
    ),
]


@pytest.mark.parametrize(("layer", "arguments", "expected"), ROWS)
def test_couples(
    layer: Callable[..., object], arguments: list[tuple[int, ...]], expected: str
) -> None:
    assert read(layer, *arguments) == expected
