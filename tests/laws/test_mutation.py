"""A rule that forgets one tie is found out: the result is refused, never returned."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from shrink.core.errors import RewriteError, VerificationError
from shrink.rules import labels
from shrink.rules.labels import Value
from shrink.rules.registry import Couple, find_couple
from shrink.rules.site import Site
from tests.laws.networks import Residual
from tests.laws.reachable import compress

aten = torch.ops.aten


class _Forgetful(Site):
    """A site that ignores ties with one argument."""

    forgotten = ""

    def tie(self, a: Value, dim_a: int, b: Value, dim_b: int) -> None:
        ignored = self[self.forgotten]
        if a is not ignored and b is not ignored:
            super().tie(a, dim_a, b, dim_b)


def without(argument: str, operator: Any) -> dict[Any, Couple]:
    """Make the operator's rule forget the ties with an argument."""
    rule = find_couple(operator, {})
    assert rule is not None

    def couple(site: Site) -> Value | list[Value]:
        forgetful = _Forgetful(**{f.name: getattr(site, f.name) for f in fields(site)})
        forgetful.forgotten = argument
        return rule(forgetful)

    return {operator: couple}


def first_operand_only(site: Site) -> Value:
    """Add as if the second operand had nothing to do with it."""
    x = site.values()[0]
    return Value(site.shape, [labels.of(site.store, x, d) for d in range(x.rank)])


def joined_in_reverse(site: Site) -> Value:
    """Concatenate the labels in the wrong order."""
    return labels.concatenate(
        site.store, site["tensors"][::-1], site["dim"], site.because("joined")
    )


def queries_without_keys(site: Site) -> Value:
    """Attend as if queries and keys need not be of one width."""
    query, value = site["query"], site["value"]
    outer = [labels.of(site.store, query, d) for d in range(query.rank - 1)]
    return Value(site.shape, [*outer, labels.of(site.store, value, -1)])


def uncut(site: Site) -> Value:
    """Flatten as if positions were not spread over the channels' columns."""
    result = labels.unlabelled(site.shape)
    ids = labels.of(site.store, site["self"], 1)[0].ids
    result.labels[1] = (labels.Label(ids.repeat(site.shape[1] // len(ids))[::-1]),)
    return result


class Attention(nn.Module):
    """Attention with a free width of queries and keys."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(6, 16), nn.Linear(6, 16), nn.Linear(6, 8)
        self.out = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.scaled_dot_product_attention(self.query(x), self.key(x), self.value(x))
        return self.out(y)


class Join(nn.Module):
    """Two convolutions of different width side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 12, 1)
        self.out = nn.Conv2d(20, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.cat([self.first(x), self.second(x)], 1))


def convolutions(*middle: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 16, 1), *middle, nn.Conv2d(16, 4, 1))


def image() -> Tensor:
    return torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def tokens() -> Tensor:
    return torch.randn(1, 5, 6, generator=torch.Generator().manual_seed(0))


MUTATIONS = [
    pytest.param(convolutions, image, without("input", aten.conv2d.default), id="conv-input"),
    pytest.param(convolutions, image, without("bias", aten.conv2d.default), id="conv-bias"),
    pytest.param(
        lambda: convolutions(nn.BatchNorm2d(16)),
        image,
        without("running_var", aten.batch_norm.default),
        id="batch-norm-statistics",
    ),
    pytest.param(
        lambda: convolutions(nn.PReLU(16)), image, without("weight", aten.prelu.default), id="prelu"
    ),
    pytest.param(
        lambda: convolutions(Residual(nn.Conv2d(16, 16, 1))),
        image,
        {aten.add.Tensor: first_operand_only},
        id="add",
    ),
    pytest.param(Join, image, {aten.cat.default: joined_in_reverse}, id="cat"),
    pytest.param(
        lambda: nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.Linear(16, 4)),
        tokens,
        without("weight", aten.layer_norm.default),
        id="layer-norm-affine",
    ),
    pytest.param(
        lambda: nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4)),
        tokens,
        without("input", aten.linear.default),
        id="linear-input",
    ),
    pytest.param(
        Attention,
        tokens,
        {aten.scaled_dot_product_attention.default: queries_without_keys},
        id="attention-queries-keys",
    ),
    pytest.param(
        lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.Flatten(), nn.Linear(128, 4)),
        image,
        {aten.flatten.using_ints: uncut},
        id="flatten-order",
    ),
]


@pytest.mark.parametrize(("make", "inputs", "mutated"), MUTATIONS)
def test_a_forgotten_tie_is_found_out(
    make: Callable[[], nn.Module], inputs: Callable[[], Tensor], mutated: dict[Any, Couple]
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make().eval()
    result = compress(model, inputs(), 0.6, align=1)
    assert result is not None
    assert result.report.verification is not None
    assert result.report.verification.passed
    with pytest.raises((VerificationError, RewriteError)) as caught:
        compress(model, inputs(), 0.6, align=1, rules=mutated)
    assert caught.value.exit_code == 3
    assert caught.value.where
