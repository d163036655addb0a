"""Embeddings: columns are features, rows stay."""

import torch
from torch import Tensor, nn

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
