"""Widths that Python code stores are found wherever they stand, and shared ones stay shared."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import shrink


@dataclass(frozen=True)
class Config:
    """As Hugging Face models keep their sizes."""

    hidden: int = 32
    depth: int = 2


def _flatten(x: Tensor, width: int) -> Tensor:
    return x.reshape(x.shape[0], width, -1)


def _closure(width: int) -> Callable[[Tensor], Tensor]:
    return lambda x: _flatten(x, width)


class Net(nn.Module):
    """Two convolutions; between them the width of the first is used as a number."""

    on_class = 32

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where
        self.first = nn.Conv2d(3, 32, 3, padding=1)
        self.second = nn.Conv2d(32, 48, 3, padding=1)
        self.head = nn.Linear(48, 5)
        self.dim = 32
        self.config = Config()
        self.nested = {"widths": [32, 48], "other": SimpleNamespace(n=32)}
        self.function = partial(_flatten, width=32)
        self.closure = _closure(32)

    def between(self, x: Tensor) -> Tensor:
        match self.where:
            case "assert":
                assert x.shape[1] == self.dim
                return x.flatten(2)
            case "dataclass":
                return _flatten(x, self.config.hidden)
            case "nested":
                return _flatten(_flatten(x, self.nested["widths"][0]), self.nested["other"].n)
            case "partial":
                return self.function(x)
            case "closure":
                return self.closure(x)
            case _:
                return _flatten(x, self.on_class)

    def forward(self, x: Tensor) -> Tensor:
        x = self.between(self.first(x)).unflatten(2, (8, 8))
        return self.head(self.second(x).mean((2, 3)))


@pytest.mark.parametrize("where", ["assert", "dataclass", "nested", "partial", "closure", "class"])
def test_a_stored_width_is_mended_without_replacing_the_module(where: str) -> None:
    model = Net(where)
    result = shrink.compress(model, torch.randn(2, 3, 8, 8), params=0.5, measure=False)
    assert result.report.verification.passed
    assert result.report.grafts == ()
    assert result.model.first.out_channels < 32
    assert (model.dim, model.config.hidden, Net.on_class) == (32, 32, 32)
    assert model.nested["widths"] == [32, 48]


class Checked(nn.Module):
    """Has no operators of its own, only a child and a check."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = 32
        self.inner = nn.Conv2d(32, 32, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] != self.dim:
            raise ValueError(x.shape)
        return self.inner(x)


def test_a_check_in_a_module_without_operators_is_found_by_running_the_whole() -> None:
    model = nn.Sequential(nn.Conv2d(3, 32, 1), Checked(), nn.Flatten(), nn.Linear(32 * 16, 4))
    result = shrink.compress(model, torch.randn(2, 3, 4, 4), params=0.5, measure=False)
    assert result.report.verification.passed
    assert result.report.grafts == ()
    assert result.model[1].dim == result.model[0].out_channels < 32


class Block(nn.Module):
    """Reads its width from a configuration that all blocks share."""

    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        self.config = config
        self.up = nn.Linear(16, 32)
        self.down = nn.Linear(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.up(x).relu().view(x.shape[0], self.config.hidden))


def test_blocks_that_share_a_configuration_may_come_out_different() -> None:
    config = SimpleNamespace(hidden=32)
    model = nn.Sequential(nn.Linear(8, 16), Block(config), Block(config), nn.Linear(16, 4))
    with torch.no_grad():  # the second block is worth less
        model[2].up.weight[:20] = 1e-3 * torch.randn(20, 16)
        model[2].up.bias[:20] = 0
    result = shrink.compress(
        model, torch.randn(2, 8), params=0.6, measure=False, ranking="global", align=1
    )
    assert result.report.verification.passed
    assert result.report.grafts == ()
    for block in (result.model[1], result.model[2]):
        assert block.config.hidden == block.up.out_features
    assert result.model[1].up.out_features != result.model[2].up.out_features
    assert config.hidden == 32
