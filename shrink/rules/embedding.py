"""Embeddings: rows are entries of a vocabulary, columns are features."""

import torch

from shrink.rules import labels
from shrink.rules.labels import Value
from shrink.rules.registry import couples
from shrink.rules.site import Site

aten = torch.ops.aten


@couples(aten.embedding.default)
def couple_embedding(site: Site) -> Value:
    """Give the result the table's columns; entries of the vocabulary are never removed.

    Shapes: weight (V, D); indices (*); result (*, D).
    Source: torch.nn.functional.embedding.
    """
    weight = site["weight"]
    site.fix(weight, [0])
    _keep_looked_up(site)
    result = labels.unlabelled(site.shape)
    result.labels[-1] = site.labels(weight, 1)
    return result


def _keep_looked_up(site: Site) -> None:
    """Freeze the positions whose entries are looked up: they may be a stored table themselves."""
    for value in site.values():
        if value is not site["weight"]:
            site.freeze(value, range(value.rank), "positions of a look-up")


@couples(aten.embedding_bag.default, aten.embedding_bag.padding_idx)
def couple_embedding_bag(site: Site) -> list[Value]:
    """Give the bags the table's columns; entries of the vocabulary are never removed.

    Shapes: weight (V, D); result (bags, D), and three tensors of positions.
    Source: torch.nn.functional.embedding_bag.
    """
    weight = site["weight"]
    site.fix(weight, [0])
    _keep_looked_up(site)
    made = [labels.unlabelled(s) for s in site.shapes]
    made[0].labels[-1] = site.labels(weight, 1)
    if len(site.shapes[-1]) == 2:  # where each maximum was found
        made[-1].labels[-1] = made[0].labels[-1]
    return made
