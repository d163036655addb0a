"""Grafts: modules whose forward cannot fit are replaced, and behave as what they replace."""

import copy
import io

import pytest
import torch
from torch import Tensor, nn

import shrink
from shrink.rewrite.graft import Graft


class Block(nn.Module):
    """Attention over a few tokens, by torch.nn's own module."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.embed = nn.Linear(12, 32)
        self.attention = nn.MultiheadAttention(32, 8, dropout=dropout, batch_first=True)
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.head(self.attention(x, x, x, need_weights=False)[0])


@pytest.fixture(scope="module")
def result() -> shrink.Result:
    torch.manual_seed(0)
    return shrink.compress(Block(dropout=0.5), torch.randn(1, 6, 12), params=0.5, measure=False)


def test_only_the_smallest_module_is_replaced(result: shrink.Result) -> None:
    assert [g["module"] for g in result.report.grafts] == ["attention"]
    assert isinstance(result.model.attention, Graft)
    assert type(result.model) is Block
    assert result.report.verification.passed


def test_names_are_those_of_the_original(result: shrink.Result) -> None:
    assert list(result.model.state_dict()) == list(Block().state_dict())


def test_any_batch_size_runs(result: shrink.Result) -> None:
    model = copy.deepcopy(result.model).eval()
    x = torch.randn(3, 6, 12)
    together, one_by_one = model(x), torch.cat([model(x[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, one_by_one)


def test_dropout_follows_train_and_eval(result: shrink.Result) -> None:
    model, x = copy.deepcopy(result.model), torch.randn(2, 6, 12)
    assert not torch.equal(model.train()(x), model.train()(x))
    assert torch.equal(model.eval()(x), model.eval()(x))


def test_it_trains_copies_and_pickles(result: shrink.Result) -> None:
    model, x = copy.deepcopy(result.model).eval(), torch.randn(2, 6, 12)
    model(x).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    file = io.BytesIO()
    torch.save(result.model, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False).eval()
    assert torch.equal(loaded(x), model(x))
