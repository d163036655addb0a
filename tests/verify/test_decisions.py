"""Models whose steps depend on data or chance: proven whole where both sides decide alike."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import shrink
from shrink.verify.decisions import Decisions


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(6, 24), nn.Linear(64, 3)
        self.rnn = nn.LSTM(24, 32, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.inner(x), lengths, batch_first=True)
        padded, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        logits: Tensor = self.head(padded.sum(1))
        return logits


class Steps(nn.Module):
    """Two layers with something in between that is no tensor operation."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 48), nn.Linear(48, 128), nn.Linear(128, 3)
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        if self.kind == "mean":
            x = x * (1 + x.mean().item())
        elif self.kind == "numpy":
            x = x * torch.from_numpy(x.detach().numpy().mean(1, keepdims=True))
        elif self.kind == "noise":
            x = x + torch.randn_like(x)
        x = nn.functional.dropout(self.second(x), training=self.kind == "dropout")
        logits: Tensor = self.head(x.relu())
        return logits


def test_packed_sequences_lose_hidden_units() -> None:
    inputs = (torch.randn(3, 7, 6), torch.tensor([7, 5, 2]))
    result = shrink.compress(Packed().eval(), inputs, flops=0.6, measure=False)
    assert result.report.model["capture"] == "real"
    assert result.report.verification is not None
    assert result.report.verification.passed
    assert len(result.plan.keep["rnn.weight_ih_l0"][0]) < 128


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("mean", "averaged, in a module"), ("numpy", "read as numbers by Python code")],
)
def test_what_python_sees_of_a_width_stays_whole(kind: str, reason: str) -> None:
    result = shrink.compress(Steps(kind).eval(), torch.randn(4, 6), flops=0.6, measure=False)
    assert any(reason in entry["reason"] for entry in result.report.frozen)
    assert 0 not in result.plan.keep.get("first.weight", {})


@pytest.mark.parametrize("kind", ["noise", "dropout"])
def test_chance_is_the_same_on_both_sides_and_left_as_it_was(kind: str) -> None:
    model, x = Steps(kind).eval(), torch.randn(4, 6)
    state = torch.get_rng_state()
    result = shrink.compress(model, x, flops=0.7, measure=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(result.plan.keep["first.weight"][0]) < 48


def test_decisions_agree_unless_a_choice_differs() -> None:
    def decide(x: Tensor, width: int) -> Decisions:
        with Decisions() as noted:
            x.topk(2)
            _ = torch.zeros(2, width) > 0
        return noted

    x = torch.tensor([3.0, 1.0, 2.0])
    assert decide(x, 4).agree(decide(x + 1, 3))
    assert not decide(x, 4).agree(decide(-x, 4))
