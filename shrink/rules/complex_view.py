"""Complex numbers as pairs of reals: the pair stays, everything else passes."""

import torch

from shrink.rules import labels
from shrink.rules.labels import Value
from shrink.rules.registry import couples
from shrink.rules.site import Site

aten = torch.ops.aten


@couples(aten.view_as_complex.default)
def couple_view_as_complex(site: Site) -> Value:
    """Read pairs as complex numbers.

    Shapes: x (*S, 2); result (*S).
    Source: torch.view_as_complex.
    """
    x = site["self"]
    site.freeze(x, [-1], "real and imaginary part")
    return labels.drop_dims(site.store, x, [x.rank - 1])


@couples(aten.view_as_real.default)
def couple_view_as_real(site: Site) -> Value:
    """Read complex numbers as pairs.

    Shapes: x (*S); result (*S, 2).
    Source: torch.view_as_real.
    """
    x = site["self"]
    labels_of_pairs = [labels.of(site.store, x, d) for d in range(x.rank)]
    return Value(site.shape, [*labels_of_pairs, ()])
