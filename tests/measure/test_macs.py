"""Counting a whole model: odd inputs and outputs, what is left out, and nothing left behind."""

import copy
import logging
import sys
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from shrink.core.errors import CaptureError, InputError
from shrink.core.inputs import Inputs
from shrink.measure.macs import count_macs, count_params


class _Keyed(nn.Module):
    """Takes containers and keywords, returns a dict with more than tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 6)
        self.unused = nn.Linear(4, 6)

    def forward(
        self, pair: list[Tensor], *, extra: Mapping[str, Tensor] | None = None, scale: float = 1.0
    ) -> dict[str, object]:
        x = self.linear(pair[0]) + self.linear(pair[1])
        if extra is not None:
            x = x + self.linear(extra["x"])
        return {"y": x * scale, "name": "y", "parts": [x, None]}


class _Fails(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError(f"no such luck in {self.linear(x).dim()} dimensions\nmore")


def test_shared_parameters_count_once() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    assert count_params(nn.Sequential(first, second)) == 16 + 4 + 4


def test_containers_keywords_and_non_tensors_pass_through() -> None:
    call = Inputs(([torch.rand(2, 4), torch.rand(2, 4)],), {"extra": {"x": torch.rand(2, 4)}})
    assert count_macs(_Keyed(), call) == (3 * 2 * 4 * 6, {"element-wise": 3})


def test_batch_multiplies_the_count() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.MaxPool2d(2))
    one, left_out = count_macs(net, Inputs((torch.rand(1, 3, 16, 16),)))
    five, _ = count_macs(net, Inputs((torch.rand(5, 3, 16, 16),)))
    assert five == 5 * one
    assert left_out == {"max_pool2d": 2}


def test_fused_transformer_layers_are_counted_whole() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    for parameter in layer.parameters():
        parameter.requires_grad_(requires_grad=False)  # what lets torch fuse the layer
    total, _ = count_macs(nn.TransformerEncoder(layer, 2), Inputs((torch.rand(2, 5, 8),)))
    linear = 2 * 5 * 8 * (3 * 8 + 8 + 16 + 16)
    assert total == 2 * (linear + 2 * (2 * 5 * 5 * 8) + 2 * (2 * 5 * 8 * 5))


def test_model_and_global_state_stay_as_they_were(caplog: pytest.LogCaptureFixture) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.SiLU())
    net[1].eval()
    before = copy.deepcopy(net.state_dict())
    modes = [module.training for module in net.modules()]
    random_state = torch.get_rng_state()
    with caplog.at_level(logging.DEBUG):
        count_macs(net, Inputs((torch.rand(1, 3, 8, 8, generator=torch.Generator()),)))

    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.is_grad_enabled()
    assert not caplog.records


def test_failing_forward_is_one_clear_error_and_leaves_no_hooks() -> None:
    net = _Fails()
    with pytest.raises(CaptureError, match="no such luck in 2 dimensions\n  fix") as caught:
        count_macs(net, Inputs((torch.rand(1, 4),)))
    assert caught.value.where == "_Fails"
    assert caught.value.fix == "check the example inputs"
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_absent_fvcore_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fvcore.nn", None)
    with pytest.raises(InputError, match="fvcore is not installed") as caught:
        count_macs(nn.Linear(4, 6), Inputs((torch.rand(1, 4),)))
    assert caught.value.fix == "pip install fvcore"
