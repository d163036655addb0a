"""Reductions drop dimensions; where order matters, the dimension is frozen."""

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional

from tests.rules.couplings import read

ROWS = [
    pytest.param(lambda x: x.sum(1), [(2, 3)], "x0=out0:ab x1:cde", id="sum"),
    pytest.param(
        lambda x: x.mean((2, 3)),
        [(2, 3, 2, 2)],
        "x0=out0:ab x1=out1:cde x2:fg x3:hi",
        id="mean-of-positions",
    ),
    pytest.param(
        lambda x: x.mean(1, keepdim=True),
        [(2, 3, 2)],
        "x0=out0:ab x1:cde x2=out2:fg",
        id="mean-keeps-dim",
    ),
    pytest.param(lambda x: x.mean(), [(2, 3)], "x0:ab x1:cde", id="mean-of-all"),
    pytest.param(lambda x: x.amax(-1), [(2, 3)], "x0=out0:ab x1:cde", id="amax"),
    pytest.param(lambda x: x.max(1), [(2, 3)], "x0=outa0=outb0:ab x1:cde", id="max-with-indices"),
    pytest.param(
        lambda x: torch.var_mean(x, 1), [(2, 3)], "x0=outa0=outb0:ab x1:cde", id="var-mean"
    ),
    pytest.param(
        lambda x: torch.linalg.vector_norm(x, dim=-1, keepdim=True),
        [(2, 3)],
        "x0=out0:ab x1:cde",
        id="norm",
    ),
    pytest.param(
        lambda x: functional.softmax(x, -1), [(2, 3)], "x0=out0:ab x1=out1:cde", id="softmax"
    ),
    pytest.param(
        lambda x: functional.log_softmax(x, 0), [(2, 3)], "x0=out0:ab x1=out1:cde", id="log-softmax"
    ),
    pytest.param(
        lambda x: x.cumsum(1),
        [(2, 3)],
        "x0=out0:ab x1=out1:cde",
        id="cumsum",
    ),
    pytest.param(lambda x: x.cumprod(1), [(2, 3)], "x0=out0:ab x1=out1:cde", id="cumprod"),
    pytest.param(
        lambda x: x.msort(),
        [(2, 3)],
        "x1=out1:abc !order along the dimension matters: x0",
        id="msort",
    ),
    pytest.param(
        functional.pairwise_distance,
        [(2, 3), (2, 3)],
        "x0=y0=out0:ab x1=y1:cde",
        id="pairwise-distance",
    ),
    pytest.param(lambda x: x.renorm(2, 0, 1.0), [(2, 3)], "x0=out0:ab x1=out1:cde", id="renorm"),
    pytest.param(lambda x: x.flip(0), [(2, 3)], "x0:ab x1=out1:cde out0:ba", id="flip"),
    pytest.param(
        lambda x: x.argmax(1),
        [(2, 3)],
        "x0=out0:ab !order along the dimension matters: x1",
        id="argmax",
    ),
    pytest.param(
        lambda x: x.topk(2, 1),
        [(2, 3)],
        "x0=outa0=outb0:ab !order along the dimension matters: x1",
        id="topk",
    ),
    pytest.param(
        lambda x: x.sort(0),
        [(2, 3)],
        "x1=outa1=outb1:abc !order along the dimension matters: x0",
        id="sort",
    ),
    pytest.param(
        lambda x: torch.linalg.vector_norm(x, -1, dim=1),
        [(2, 2)],
        "x0=out0:ab !norm of negative order: x1",
        id="norm-of-negative-order",
    ),
    pytest.param(
        torch.nn.functional.cosine_similarity,
        [(2, 3), (2, 3)],
        "x0=y0=out0:ab x1=y1:cde",
        id="cosine-similarity",
    ),
    pytest.param(
        lambda x: torch.fft.rfft(x, dim=1).abs(),
        [(2, 4)],
        "x0=out0:ab !order along the dimension matters: x1",
        id="fourier",
    ),
    pytest.param(
        torch.tril, [(2, 2, 2)], "x0=out0:ab !rows and columns of one matrix: x1 x2", id="tril"
    ),
]


@pytest.mark.parametrize(("layer", "shapes", "expected"), ROWS)
def test_couples(
    layer: Callable[..., object], shapes: list[tuple[int, ...]], expected: str
) -> None:
    assert read(layer, *shapes) == expected
