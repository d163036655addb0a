"""A forward pass that leaves something behind, and what is left of it."""

from typing import Any

import torch
from torch import Tensor, nn

from shrink import compress
from shrink.core.remember import unchanged


class Caching(nn.Module):
    """Keeps a bias for every device, as LeViT does, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(16, 32)
        self.last = nn.Linear(32, 4)
        self.bias = nn.Parameter(torch.rand(1, 4))
        self.cache: dict[str, Tensor] = {}
        self.seen: list[int] = []
        self.calls = 0

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        self.seen.append(len(x))
        if "bias" not in self.cache:
            self.cache["bias"] = self.bias.expand(1, 4) * 2
        return self.last(self.first(x).relu()) + self.cache["bias"]


def test_members_and_containers_are_put_back() -> None:
    model = Caching()
    cache = model.cache
    with unchanged(model):
        model(torch.rand(2, 16))
        model.added = 1
    assert model.calls == 0
    assert model.cache is cache
    assert cache == {}
    assert model.seen == []
    assert not hasattr(model, "added")


def test_a_compressed_model_holds_nothing_of_its_proof() -> None:
    model = Caching().eval()
    smaller = compress(model, torch.rand(1, 16), flops=0.5, align=1, measure=False).model
    assert model.cache == {}
    assert smaller.cache == {}
    assert smaller.eval()(torch.rand(3, 16)).dtype == torch.float32
