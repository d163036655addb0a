"""Linear layers and products: contracted dimensions are tied, the others pass."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.rules.couplings import read

ROWS = [
    pytest.param(nn.Linear(2, 3), [(1, 2)], "x1=weight1:ab weight0=bias0=out1:cde", id="linear"),
    pytest.param(
        nn.Linear(2, 3, bias=False),
        [(2,)],
        "x0=weight1:ab weight0=out0:cde",
        id="linear-of-a-vector",
    ),
    pytest.param(
        nn.Linear(2, 3),
        [(2, 1, 2)],
        "x0=out0:ab x2=weight1:cd weight0=bias0=out2:efg",
        id="linear-of-tokens",
    ),
    pytest.param(
        functional.linear, [(2, 3), (3,)], "x0=out0:ab x1=y0:cde", id="weight-is-a-vector"
    ),
    pytest.param(torch.mm, [(2, 3), (3, 2)], "x0=out0:ab x1=y0:cde y1=out1:fg", id="mm"),
    pytest.param(
        torch.bmm, [(2, 2, 3), (2, 3, 2)], "x0=y0=out0:ab x1=out1:cd x2=y1:efg y2=out2:hi", id="bmm"
    ),
    pytest.param(
        torch.matmul,
        [(2, 1, 2, 3), (2, 3, 2)],
        "x0=out0:ab x2=out2:cd x3=y1:efg y0=out1:hi y2=out3:jk",
        id="matmul-broadcasts",
    ),
    pytest.param(torch.matmul, [(2, 3), (3,)], "x0=out0:ab x1=y0:cde", id="matrix-by-vector"),
    pytest.param(torch.matmul, [(3,), (3, 2)], "x0=y0:abc y1=out0:de", id="vector-by-matrix"),
    pytest.param(torch.dot, [(3,), (3,)], "x0=y0:abc", id="dot"),
    pytest.param(
        torch.addmm, [(2,), (2, 3), (3, 2)], "x0=z1=out1:ab y0=out0:cd y1=z0:efg", id="addmm-bias"
    ),
    pytest.param(
        torch.baddbmm,
        [(2, 2, 2), (2, 2, 3), (2, 3, 2)],
        "x0=y0=z0=out0:ab x1=y1=out1:cd x2=z2=out2:ef y2=z1:ghi",
        id="baddbmm",
    ),
    pytest.param(
        lambda x, y: torch.einsum("bhqd,bhkd->bhqk", x, y),
        [(1, 2, 2, 2), (1, 2, 3, 2)],
        "x1=y1=out1:ab x2=out2:cd x3=y3:ef y2=out3:ghi",
        id="einsum",
    ),
    pytest.param(
        lambda x, y: torch.einsum("ij,kj", x, y),
        [(2, 2), (2, 2)],
        "x0=out0:ab x1=y1:cd y0=out1:ef",
        id="einsum-implicit",
    ),
    pytest.param(
        lambda x: torch.einsum("ii->i", x),
        [(2, 2)],
        "x0=x1=out0:ab",
        id="einsum-diagonal",
    ),
    pytest.param(
        lambda x, y: torch.einsum("iij,j->ij", x, y),
        [(2, 2, 3), (3,)],
        "x0=x1=out0:ab x2=y0=out1:cde",
        id="einsum-diagonal-and-sum",
    ),
    pytest.param(torch.inner, [(2, 3), (4, 3)], "x0=out0:ab x1=y1:cde y0=out1:fghi", id="inner"),
    pytest.param(
        torch.cross,
        [(2, 3), (2, 3)],
        "x0=y0=out0:ab !coordinates of a cross product: x1 y1 out1",
        id="cross",
    ),
    pytest.param(torch.kron, [(2,), (3,)], "x0:ab y0:cde out0:aaabbb*cdecde", id="kron-lines"),
    pytest.param(
        torch.kron,
        [(2, 1), (3,)],
        "x0=out0:ab y0=out1:cde",
        id="kron-of-different-rank",
    ),
    pytest.param(
        torch.addbmm,
        [(3, 5), (2, 3, 4), (2, 4, 5)],
        "x0=y1=out0:abc x1=z2=out1:defgh y0=z0:ij y2=z1:klmn",
        id="addbmm",
    ),
    pytest.param(lambda x: x.mT @ x, [(2, 3)], "x0:ab x1=out0=out1:cde", id="gram-matrix"),
    pytest.param(
        nn.Bilinear(2, 2, 3),
        [(1, 2), (1, 2)],
        "x1=weight1:ab y1=weight2:cd weight0=bias0=out1:efg",
        id="bilinear",
    ),
    pytest.param(
        lambda x, y: torch.tensordot(x, y, dims=([1], [0])),
        [(2, 3), (3, 2)],
        "x0=out0:ab x1=y0:cde y1=out1:fg",
        id="tensordot",
    ),
    pytest.param(torch.outer, [(2,), (3,)], "x0=out0:ab y0=out1:cde", id="outer"),
    pytest.param(torch.linalg.vecdot, [(2, 3), (2, 3)], "x0=y0=out0:ab x1=y1:cde", id="vecdot"),
    pytest.param(torch.cdist, [(2, 3), (4, 3)], "x0=out0:ab x1=y1:cde y0=out1:fghi", id="cdist"),
    pytest.param(
        lambda x, y: torch.einsum("...i,ij->...j", x, y),
        [(2, 2), (2, 3)],
        "x0=out0:ab x1=y0:cd y1=out1:efg",
        id="einsum-ellipsis",
    ),
    pytest.param(
        lambda x, y: torch.einsum("ij,jk", x, y),
        [(2, 2), (2, 3)],
        "x0=out0:ab x1=y0:cd y1=out1:efg",
        id="einsum-implicit",
    ),
    pytest.param(
        lambda x, y: torch.einsum("bi,bi->b", x, y),
        [(2, 2), (1, 2)],
        "x0=out0:ab x1=y1:cd",
        id="einsum-broadcast",
    ),
]


@pytest.mark.parametrize(("layer", "shapes", "expected"), ROWS)
def test_couples(
    layer: Callable[..., object], shapes: list[tuple[int, ...]], expected: str
) -> None:
    assert read(layer, *shapes) == expected
