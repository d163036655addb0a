"""Every row of the rules' tables, run: cutting what a rule leaves free is zeroing it."""

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from shrink.testing import check_rule

# detect: its boxes are no random numbers
FILES = (
    "attention", "complex_view", "constant", "conv", "embedding", "index", "join", "linear",
    "norm", "pointwise", "pool", "recurrent", "reduce", "shape", "window",
)  # fmt: skip


def rows() -> Iterator[Any]:  # Any: parameters of pytest
    for file in FILES:
        module = importlib.import_module(f"tests.rules.test_{file}")
        for row in getattr(module, "ROWS", ()):
            if row.id == "projection":  # torch tells one by its size: not the hidden one
                continue
            yield pytest.param(*row.values[:2], id=f"{file}-{row.id}")


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")  # of the one index that is left
@pytest.mark.parametrize(("layer", "arguments"), list(rows()))
def test_the_rules_row_is_sound(layer: Callable[..., object], arguments: list[Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    sample = [
        a if isinstance(a, Tensor) else torch.randn(a, generator=generator) for a in arguments
    ]
    check_rule(layer, sample, trials=6, complete=False)
