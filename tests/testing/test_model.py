"""A user's own check that a model can be pruned."""

import pytest
import torch
from torch import Tensor, nn

import shrink
from shrink.testing import check_model


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


def test_a_model_that_computes_something_else_when_smaller_fails() -> None:
    class Counts(nn.Module):
        """Its result depends on how many channels there are, behind the graph's back."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 64), nn.Linear(64, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x)) * float(self.a.weight.shape[0])

    with pytest.raises(shrink.ShrinkError):
        check_model(Counts(), torch.randn(2, 8), flops=(0.5,), seeds=(0,))
