"""Complex numbers as pairs: the pair stays, everything else passes."""

from collections.abc import Callable

import pytest
import torch

from tests.rules.couplings import read

ROWS = [
    pytest.param(
        torch.view_as_complex,
        [(2, 2)],
        "x0=out0:ab !real and imaginary part: x1",
        id="as-complex",
    ),
    pytest.param(
        lambda x: torch.view_as_real(torch.view_as_complex(x) * 2),
        [(2, 2)],
        "x0=out0:ab !real and imaginary part: x1",
        id="as-real",
    ),
    pytest.param(
        lambda x, y: torch.view_as_complex(x) * torch.polar(y, y),
        [(2, 3, 2), (3,)],
        "x0=out0:ab x1=y0=out1:cde !real and imaginary part: x2",
        id="rotary",
    ),
]


@pytest.mark.parametrize(("layer", "arguments", "expected"), ROWS)
def test_couples(
    layer: Callable[..., object], arguments: list[tuple[int, ...]], expected: str
) -> None:
    assert read(layer, *arguments) == expected
