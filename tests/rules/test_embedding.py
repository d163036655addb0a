"""Embeddings: columns are features, rows stay."""

import torch
from torch import Tensor, nn

from shrink.capture.capture import capture
from shrink.core.inputs import Inputs
from shrink.groups.find import find_groups
from tests.rules.couplings import read


def test_columns_are_features_and_rows_stay() -> None:
    words = torch.zeros(1, 2, dtype=torch.long)
    assert read(nn.Embedding(4, 3), words) == "weight1=out2:abc"


class Tied(nn.Module):
    """One table as embedding and as classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4, 3)

    def forward(self, words: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.table(words), x @ self.table.weight.T


def test_a_table_used_twice_ties_features_to_inputs() -> None:
    words = torch.zeros(1, 2, dtype=torch.long)
    assert read(Tied(), words, (2, 3)) == "y0=outb0:ab y1=table.weight1=outa2:cde"


class Positions(nn.Module):
    """Positions that are a buffer, as in BERT."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("positions", torch.arange(5).expand(1, -1))
        self.words = nn.Embedding(4, 3)
        self.places = nn.Embedding(5, 3)

    def forward(self, words: Tensor) -> Tensor:
        return self.words(words) + self.places(self.positions[:, :2])


def test_stored_positions_that_are_looked_up_stay() -> None:
    words = torch.zeros(1, 2, dtype=torch.long)
    graph = capture(Positions(), Inputs((words,)))
    axes = [axis for axis in find_groups(graph).axes if axis.tensor == "positions"]
    assert all((units[:2] == -1).all() for axis in axes for units in axis.units)
    assert "positions of a look-up" in [f.reason for f in find_groups(graph).frozen]
