"""Models without data: what can be decided is, what cannot is refused with a remedy."""

import pytest
import torch
from torch import nn

import shrink

X = torch.randn(1, 3, 8, 8)


def build(device: str) -> nn.Module:
    with torch.device(device):
        return nn.Sequential(
            nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 8, 3)
        )


def test_inspect_needs_no_data() -> None:
    found, usual = (shrink.inspect(build(device), X) for device in ("meta", "cpu"))
    assert found.groups == usual.groups
    assert found.prunable_macs == usual.prunable_macs


def test_a_random_plan_needs_no_data_and_fits_the_real_model() -> None:
    result = shrink.compress(
        build("meta"), X, flops=0.5, criterion="random", verify=False, measure=False
    )
    assert all(p.is_meta for p in result.model.parameters())
    smaller = shrink.apply(result.plan, build("cpu"), X).model
    assert [p.shape for p in smaller.parameters()] == [p.shape for p in result.model.parameters()]


def test_norms_of_nothing_are_refused() -> None:
    with pytest.raises(shrink.InputError) as caught:
        shrink.compress(build("meta"), X, flops=0.5, verify=False, measure=False)
    assert caught.value.where == "0.weight"
    assert "criterion='random'" in caught.value.fix


def test_what_would_have_to_run_is_refused() -> None:
    with pytest.raises(shrink.InputError) as caught:
        shrink.compress(build("meta"), X, flops=0.5, criterion="random")
    assert caught.value.where == "0.weight"
    assert caught.value.fix == "verify=False, measure=False"
