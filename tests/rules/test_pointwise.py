"""Element-wise operators: index meets index; size 1 broadcasts."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.rules.couplings import read

ROWS = [
    pytest.param(torch.relu, [(2, 3)], "x0=out0:ab x1=out1:cde", id="relu"),
    pytest.param(lambda x: x.clone().relu_(), [(2, 3)], "x0=out0:ab x1=out1:cde", id="in-place"),
    pytest.param(nn.Hardswish(inplace=False), [(2,)], "x0=out0:ab", id="hardswish"),
    pytest.param(torch.add, [(2, 3), (2, 3)], "x0=y0=out0:ab x1=y1=out1:cde", id="add"),
    pytest.param(
        torch.add,
        [(2, 3, 2, 2), (3, 1, 1)],
        "x0=out0:ab x1=y0=out1:cde x2=out2:fg x3=out3:hi",
        id="add-broadcast",
    ),
    pytest.param(torch.mul, [(2, 1), (1, 3)], "x0=out0:ab y1=out1:cde", id="outer-product"),
    pytest.param(torch.mul, [(2, 3), ()], "x0=out0:ab x1=out1:cde", id="scalar-tensor"),
    pytest.param(lambda x: x * 2 + 1, [(2, 3)], "x0=out0:ab x1=out1:cde", id="numbers"),
    pytest.param(
        lambda x, y: torch.where(x > 0, x, y),
        [(2, 3), (3,)],
        "x0=out0:ab x1=y0=out1:cde",
        id="where",
    ),
    pytest.param(
        lambda x: x + torch.tensor([1.0, 2.0, 3.0]), [(2, 3)], "x0=out0:ab", id="meets-a-constant"
    ),
    pytest.param(nn.Dropout(), [(2, 3)], "x0=out0:ab x1=out1:cde", id="dropout"),
    pytest.param(
        lambda x: x.to(torch.float64).contiguous(), [(2, 3)], "x0=out0:ab x1=out1:cde", id="copies"
    ),
    pytest.param(
        lambda x, y: x.type_as(y), [(2,), (3,)], "x0=out0:ab y0:cde", id="type-as-another"
    ),
    pytest.param(
        nn.PReLU(3),
        [(2, 3, 2)],
        "x0=out0:ab x1=weight0=out1:cde x2=out2:fg",
        id="prelu-per-channel",
    ),
    pytest.param(nn.PReLU(), [(2, 3)], "x0=out0:ab x1=out1:cde", id="prelu-shared"),
    pytest.param(lambda x: functional.gelu(x, approximate="tanh"), [(2,)], "x0=out0:ab", id="gelu"),
    pytest.param(
        torch.linalg.inv, [(2, 2)], "!rows and columns of one matrix: x0 x1", id="no-rule"
    ),
    pytest.param(
        lambda x, y: torch.lerp(x, y, 0.5),
        [(2, 3), (2, 3)],
        "x0=y0=out0:ab x1=y1=out1:cde",
        id="lerp",
    ),
    pytest.param(nn.GLU(1), [(2, 4)], "x0=out0:ab x1:cdcd out1:cd", id="glu"),
    pytest.param(lambda x: torch.rsub(x, 1), [(2,)], "x0=out0:ab", id="alias"),
    pytest.param(lambda x: x.abs_(), [(2,)], "x0=out0:ab", id="in-place"),
]


@pytest.mark.parametrize(("layer", "shapes", "expected"), ROWS)
def test_couples(
    layer: Callable[..., object], shapes: list[tuple[int, ...]], expected: str
) -> None:
    assert read(layer, *shapes) == expected
