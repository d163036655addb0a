"""The certificate: it passes what is right, and finds what is wrong."""

import pytest
import torch
from torch import nn

import shrink
from shrink import api
from shrink.capture.capture import capture
from shrink.core.inputs import as_inputs
from shrink.core.report import Certificate
from shrink.groups.find import find_groups
from shrink.plan.write import alive_units
from shrink.verify.certify import certify

X = torch.randn(1, 3, 8, 8)


def build(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 4),
    )


def certificate_of(model: nn.Module, result: shrink.Result) -> Certificate:
    graph = capture(model, as_inputs(X))
    groups = find_groups(graph)
    kept = alive_units(groups, result.plan)
    return certify(model, result.model, as_inputs(X), graph, groups, kept, result.plan)


@pytest.fixture
def made() -> tuple[nn.Module, shrink.Result]:
    model = build()
    return model, shrink.compress(model, X, flops=0.5, align=1, measure=False)


def test_what_is_right_passes(made: tuple[nn.Module, shrink.Result]) -> None:
    found = certificate_of(*made)
    assert found.passed
    assert found.error <= 1e-12
    assert found.dtype == "float64"


@pytest.mark.parametrize("name", ["0.weight", "1.running_var", "3.bias", "6.weight"])
def test_any_wrong_weight_fails_and_is_named(
    made: tuple[nn.Module, shrink.Result], name: str
) -> None:
    model, result = made
    tensor = result.model.state_dict()[name]
    tensor[0] += 0.01
    found = certificate_of(model, result)
    assert not found.passed
    assert found.first_difference == name.partition(".")[0]


def test_swapped_channels_fail(made: tuple[nn.Module, shrink.Result]) -> None:
    model, result = made
    weight = result.model.state_dict()["3.weight"]
    weight.copy_(weight.flip(1))
    assert not certificate_of(model, result).passed


def test_a_head_of_zeros_is_no_excuse() -> None:
    model = build()
    nn.init.zeros_(model[6].weight)
    result = shrink.compress(model, X, flops=0.5, align=1, measure=False)
    result.model.state_dict()["0.weight"][0] += 0.01
    assert not certificate_of(model, result).passed


def test_the_smaller_model_is_given_back_bit_for_bit(
    made: tuple[nn.Module, shrink.Result],
) -> None:
    model, result = made
    before = {k: v.clone() for k, v in result.model.state_dict().items()}
    certificate_of(model, result)
    after = result.model.state_dict()
    assert all(torch.equal(v, before[k]) and v.dtype == before[k].dtype for k, v in after.items())


def test_a_failed_certificate_stops_compress(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = Certificate(
        passed=False, error=1.0, tolerance=1e-9, dtype="float64", device="cpu", trials=1
    )
    monkeypatch.setattr(api, "certify", lambda *_, **__: failed)
    with pytest.raises(shrink.VerificationError) as caught:
        shrink.compress(build(), X, flops=0.5, align=1, measure=False)
    assert caught.value.exit_code == 3
