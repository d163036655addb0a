"""Blocks over vectors (N, C)."""

from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from tests.laws.blocks import (
    Layout,
    Made,
    activation,
    block,
    buffer,
    divisors,
    draw,
    last_norm,
    made,
    parameter,
    pointwise,
    width,
)
from tests.laws.networks import Concat, Gate, Residual, Twice


def any_norm(random: Random, channels: int) -> nn.Module:
    return random.choice(
        [
            lambda: nn.BatchNorm1d(channels),
            lambda: last_norm(random, channels),
            lambda: nn.GroupNorm(random.choice(divisors(channels, 1, 2, 4)), channels),
            nn.Identity,
        ]
    )()


@block("vector")
def plain(random: Random, at: Layout) -> Made:
    out = width(random)
    return nn.Sequential(
        nn.Linear(at.channels, out), any_norm(random, out), activation(random, out)
    ), at.to(out)


@block("vector")
def residual(random: Random, at: Layout) -> Made:
    hidden = width(random)
    return Residual(
        nn.Sequential(
            any_norm(random, at.channels),
            nn.Linear(at.channels, hidden),
            pointwise(random),
            nn.Linear(hidden, at.channels),
        )
    ), at


@block("vector")
def dense(random: Random, at: Layout) -> Made:
    growth = width(random)
    return Concat(nn.Linear(at.channels, growth)), at.to(at.channels + growth)


@block("vector")
def gated(random: Random, at: Layout) -> Made:
    out = random.choice([4, 6, 8])
    return nn.Sequential(
        nn.Linear(at.channels, 2 * out), random.choice([Gate, lambda: nn.GLU(1)])()
    ), at.to(out)


@block("vector")
def crossed(random: Random, at: Layout) -> Made:
    """Cross features (DCN), or use a factorised product."""
    how = random.choice(["cross", "factors", "gate"])

    def forward(m: Any, x: Tensor) -> Tensor:
        if how == "cross":
            return x * (x @ m.line)[:, None] + m.shift + x
        if how == "factors":
            return x + (x @ m.left) @ m.right
        return x * torch.sigmoid(x @ m.left @ m.right + m.shift)

    c = at.channels
    return made(
        "Crossed", forward, line=parameter(c), shift=parameter(c), left=parameter(c, 3),
        right=parameter(3, c),
    ), at  # fmt: skip


@block("vector")
def in_heads(random: Random, at: Layout) -> Made:
    """View features as heads and work on each."""
    heads, dim = random.choice([2, 4]), random.choice([2, 4])
    how = random.choice(["einsum", "bmm", "norm", "softmax", "linear", "scale"])

    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.up(x).view(-1, m.heads, m.dim)
        if how == "einsum":
            y = torch.einsum("nhd,hde->nhe", y, m.weight)
        elif how == "bmm":
            y = torch.bmm(y.transpose(0, 1), m.weight).transpose(0, 1)
        elif how == "norm":
            y = functional.normalize(y, dim=-1)
        elif how == "softmax":
            y = y.softmax(1)
        elif how == "linear":
            y = m.each(y)
        else:
            y = y * m.scale[:, None] + m.scale[None, :, None]
        return m.down(y.flatten(1))

    inner = heads * dim
    return made(
        "InHeads", forward, up=nn.Linear(at.channels, inner), down=nn.Linear(inner, at.channels),
        weight=parameter(heads, dim, dim), each=nn.Linear(dim, dim), scale=parameter(heads),
        heads=heads, dim=dim,
    ), at  # fmt: skip


@block("vector")
def interactions(random: Random, at: Layout) -> Made:
    """Sum products of pairs of features (factorisation machine)."""
    out = width(random)

    def forward(m: Any, x: Tensor) -> Tensor:
        pairs = (x @ m.factors).square() - x.square() @ m.factors.square()
        return torch.cat([m.line(x), pairs / 2], 1)

    return made(
        "Interactions", forward, line=nn.Linear(at.channels, out), factors=parameter(at.channels, 4)
    ), at.to(out + 4)


@block("vector")
def bilinear(random: Random, at: Layout) -> Made:
    out, a, b = width(random), width(random), width(random)
    how = random.choice(["module", "outer"])

    def forward(m: Any, x: Tensor) -> Tensor:
        p, q = m.a(x), m.b(x)
        if how == "module":
            return m.both(p, q)
        return m.outer((p[:, :, None] * q[:, None, :]).flatten(1))

    return made(
        "Bilinear", forward, a=nn.Linear(at.channels, a), b=nn.Linear(at.channels, b),
        both=nn.Bilinear(a, b, out), outer=nn.Linear(a * b, out),
    ), at.to(out)  # fmt: skip


@block("vector")
def permuted(random: Random, at: Layout) -> Made:
    order = list(range(at.channels))
    random.shuffle(order)
    ways: list[Any] = [
        lambda m, x: x[:, m.order],
        lambda _, x: x.flip(-1),
        lambda _, x: x.roll(1, -1),
        lambda _, x: torch.cat(x.chunk(2, 1)[::-1], 1),
    ]
    return made("Permuted", random.choice(ways), order=buffer(torch.tensor(order))), at


@block("vector")
def parametrized(random: Random, at: Layout) -> Made:
    out = width(random)
    way = random.choice([parametrizations.weight_norm, parametrizations.spectral_norm])
    return nn.Sequential(way(nn.Linear(at.channels, out)), pointwise(random)), at.to(out)


@block("vector")
def quantised(random: Random, at: Layout) -> Made:
    """Read a table at softly chosen entries."""
    entries, out = 5, width(random)

    def forward(m: Any, x: Tensor) -> Tensor:
        distance = torch.cdist(m.up(x), m.table)
        return (-distance).softmax(-1) @ m.table

    return made(
        "SoftTable", forward, up=nn.Linear(at.channels, out), table=parameter(entries, out)
    ), at.to(out)


@block("vector")
def skip(random: Random, at: Layout) -> Made:
    body, after = draw(random, at)
    if after.kind != "vector":
        return None
    return made(
        "SkipVector", lambda m, x: m.body(x) + m.way(x), body=body,
        way=nn.Linear(at.channels, after.channels),
    ), after  # fmt: skip


@block("vector")
def again(random: Random, at: Layout) -> Made:
    body, after = draw(random, at)
    return (Twice(body), at) if after == at else None


@block("vector")
def to_maps(random: Random, at: Layout) -> Made:
    c = random.choice([4, 8])
    size = random.choice([(2, 2), (4,)])
    ways: list[Any] = [
        lambda m, x: m.up(x).unflatten(1, (-1, *m.size)),
        lambda m, x: m.up(x).view(-1, m.channels, *m.size),
    ]
    return made(
        "VectorToMaps", random.choice(ways), up=nn.Linear(at.channels, 4 * c), size=size, channels=c
    ), Layout("maps", c, size)


@block("vector")
def to_tokens(random: Random, at: Layout) -> Made:
    c = random.choice([4, 8])
    ways: list[Any] = [
        lambda m, x: m.up(x).view(len(x), 4, -1),
        lambda m, x: torch.stack(m.up(x).chunk(4, 1), 1),
    ]
    return made("VectorToTokens", random.choice(ways), up=nn.Linear(at.channels, 4 * c)), Layout(
        "tokens", c, (4,)
    )
