"""Float64 by layers: each has its parameters in float64 while it runs, and no longer."""

from functools import partial

import pytest
import torch
from torch import nn

from shrink.verify.precision import Loan, in_float64, lend, lendable


def loans_of(model: nn.Module) -> dict[int, Loan]:
    return {id(p): partial(p.data.to, torch.float64) for p in model.parameters()}


class Watch(nn.Module):
    """Notes which parameters of a network are in float64 when it runs."""

    def __init__(self, network: list[nn.Module]) -> None:
        super().__init__()
        self.network = network
        self.raised: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.raised.append(
            sum(p.dtype == torch.float64 for m in self.network for p in m.parameters())
        )
        return x


def test_one_layer_at_a_time_is_raised_and_all_are_given_back() -> None:
    layers: list[nn.Module] = [nn.Linear(4, 4) for _ in range(3)]
    watch = Watch(layers)
    model = nn.Sequential(layers[0], watch, layers[1], watch, layers[2])
    before = {n: (p, p.data_ptr()) for n, p in model.named_parameters()}
    loans = loans_of(model)
    with lend(model, loans), in_float64(loans):
        assert model(torch.ones(2, 4).double()).dtype == torch.float64
    assert watch.raised == [0, 0]
    for name, parameter in model.named_parameters():
        assert parameter is before[name][0]
        assert parameter.dtype == torch.float32
        assert parameter.data_ptr() == before[name][1]


def test_parameters_come_back_when_a_layer_fails() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(5, 4))
    loans = loans_of(model)
    with pytest.raises(RuntimeError), lend(model, loans), in_float64(loans):
        model(torch.ones(2, 4).double())
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_layers_with_fused_kernels_keep_their_parameters() -> None:
    model = nn.ModuleList([nn.TransformerEncoderLayer(8, 2), nn.Linear(8, 8)])
    assert lendable(model) == frozenset(map(id, model[1].parameters()))


def test_a_literal_is_raised_after_it_was_rounded() -> None:
    with in_float64():
        x = torch.ones(1) * torch.tensor(0.1, dtype=torch.float32)
    assert x.dtype == torch.float64
