"""Copies hold smaller tensors and refer to nothing of the original."""

import threading

import pytest
import torch
from torch import Tensor, nn

import shrink
from shrink.core.errors import RewriteError
from shrink.rewrite.slice import slice_copy


class Pointing(nn.Module):
    """Refers to itself by a bound method and by a closure."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 16)
        self.head = nn.Linear(16, 3)
        self.act = self._act
        self.tail = lambda x: self.head(x) + 1

    def _act(self, x: Tensor) -> Tensor:
        return self.first(x).relu()

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.act(x))


def test_methods_and_closures_refer_to_the_copy() -> None:
    model = Pointing()
    result = shrink.compress(model, torch.randn(2, 6), params=0.5093, align=1, measure=False)
    assert result.report.verification.passed
    assert result.model.first.out_features < 16
    assert result.model.act.__self__ is result.model
    assert result.model.tail.__closure__[0].cell_contents is result.model
    assert model.tail.__closure__[0].cell_contents is model


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.spectral_norm])
def test_weights_that_a_hook_derives_come_out_small(norm: object) -> None:
    model = nn.Sequential(
        norm(nn.Linear(6, 16)), nn.ReLU(), norm(nn.Linear(16, 16)), nn.Linear(16, 3)
    )
    model(torch.randn(2, 6)).sum().backward()  # leaves weights that deepcopy refuses
    result = shrink.compress(model, torch.randn(2, 6), params=0.6, align=1, measure=False)
    assert result.report.verification.passed
    for layer in (result.model[0], result.model[2]):
        assert layer.weight.shape == (layer.out_features, layer.in_features)
    assert result.model[2].in_features < 16


def test_what_cannot_be_copied_is_named() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    model[1].lock = threading.Lock()
    with pytest.raises(RewriteError) as caught:
        slice_copy(model, {})
    assert caught.value.where == "1"
    assert "`lock`" in caught.value.what
    assert caught.value.fix
