"""A user's own check that a model can be pruned."""

import pytest
import torch
from torch import Tensor, nn

import shrink
from shrink.rules import labels
from shrink.rules.labels import Value
from shrink.rules.site import Site
from shrink.testing import check_model


@torch.library.custom_op("shrink_tests::gated", mutates_args=())
def gated(x: Tensor, gate: Tensor) -> Tensor:
    """Weigh channels; a kernel that reads as many of the gate as it needs."""
    return x * gate[: x.shape[-1]]


@gated.register_fake
def _(x: Tensor, gate: Tensor) -> Tensor:
    return torch.empty_like(x) if gate.dim() else x


def test_every_budget_and_seed_is_verified() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 96), nn.ReLU(), nn.Linear(96, 64), nn.ReLU(), nn.Linear(64, 3)
    )
    reports = check_model(model, torch.randn(2, 6), flops=(0.6, 0.3), seeds=(0, 1))
    assert [round(r.request["flops"], 1) for r in reports] == [0.6, 0.6, 0.3, 0.3]
    assert all(r.verification is not None and r.verification.passed for r in reports)


def test_a_budget_that_cannot_be_met_gives_way_to_the_closest() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    (report,) = check_model(model, torch.randn(2, 6), flops=(0.5,), seeds=(0,))
    assert report.request["flops"] == pytest.approx(0.4, abs=1e-3)


def test_a_model_without_anything_to_remove_fails() -> None:
    with pytest.raises(shrink.PlanError):
        check_model(nn.Linear(4, 2), torch.randn(2, 4))


def test_options_of_compress_are_passed_on() -> None:
    x = torch.randn(2, 64)
    reports = check_model(nn.Linear(64, 128), x, flops=(0.5,), seeds=(0,), free=["output"])
    assert reports[0].request["free"] == ["output"]


def test_a_wrong_rule_does_not_pass() -> None:
    def untied(site: Site) -> Value:
        labels.of(site.store, site["gate"], 0)
        x = site["x"]
        return Value(site.shape, [labels.of(site.store, x, d) for d in range(x.rank)])

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 64), nn.Linear(64, 2)
            self.gate = nn.Parameter(torch.rand(64))

        def forward(self, x: Tensor) -> Tensor:
            return self.b(gated(self.a(x), self.gate))

    with pytest.raises(shrink.ShrinkError) as caught:
        check_model(Gated(), torch.randn(2, 8), flops=(0.5,), seeds=(0,), rules={gated: untied})
    assert caught.value.exit_code == 3
