"""Blocks over tokens (N, T, C)."""

import math
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.laws.blocks import (
    Layout,
    Made,
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
from tests.laws.networks import (
    FusedAttention,
    GatedLinear,
    PackedAttention,
    Residual,
    SeparateAttention,
    Twice,
)


def around(random: Random, at: Layout, body: nn.Module) -> tuple[nn.Module, Layout]:
    """Put a block behind a norm and beside a connection, or neither."""
    kind = random.choice(["pre", "pre", "post", "bare"])
    if kind == "bare":
        return body, at
    if kind == "post":
        return nn.Sequential(Residual(body), last_norm(random, at.channels)), at
    return Residual(nn.Sequential(last_norm(random, at.channels), body)), at


def heads_of(random: Random, at: Layout) -> int:
    return random.choice(divisors(at.channels, 1, 2, 2, 4))


@block("tokens")
def plain(random: Random, at: Layout) -> Made:
    out = random.choice([4, 8, 12, 16])
    return nn.Sequential(nn.Linear(at.channels, out), pointwise(random)), at.to(out)


@block("tokens")
def fused(random: Random, at: Layout) -> Made:
    return around(random, at, FusedAttention(at.channels, heads_of(random, at)))


@block("tokens")
def separate(random: Random, at: Layout) -> Made:
    return around(random, at, SeparateAttention(at.channels, heads_of(random, at)))


@block("tokens")
def packed(random: Random, at: Layout) -> Made:
    bias = random.random() < 0.7
    return around(random, at, PackedAttention(at.channels, heads_of(random, at), bias))


@block("tokens")
def packed_cross(random: Random, at: Layout) -> Made:
    """Attend from learned queries, or from another width, by torch's own module."""
    heads = heads_of(random, at)
    other = random.choice([4, 6])
    first = random.random() < 0.5

    def forward(m: Any, x: Tensor) -> Tensor:
        memory = m.other(x)
        if first:
            return x + m.attention(x, memory, memory)[0]
        y = m.attention(x.transpose(0, 1), memory.transpose(0, 1), memory.transpose(0, 1))[0]
        return x + y.transpose(0, 1)

    attention = nn.MultiheadAttention(at.channels, heads, kdim=other, vdim=other, batch_first=first)
    return made(
        "PackedCross", forward, attention=attention, other=nn.Linear(at.channels, other)
    ), at


@block("tokens")
def learned_queries(random: Random, at: Layout) -> Made:
    heads, count = heads_of(random, at), 3

    def forward(m: Any, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        q = m.q(m.queries).view(1, m.count, m.heads, -1).transpose(1, 2).expand(n, -1, -1, -1)
        k, v = m.kv(x).view(n, t, 2, m.heads, -1).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v)
        return m.out(y.transpose(1, 2).flatten(2))

    c = at.channels
    return made(
        "LearnedQueries", forward, queries=parameter(count, c), q=nn.Linear(c, c),
        kv=nn.Linear(c, 2 * c), out=nn.Linear(c, c), heads=heads, count=count,
    ), at.to(c, (count,))  # fmt: skip


def rotate(x: Tensor, how: str) -> Tensor:
    """Rotate pairs of dims by their position (RoPE)."""
    t, d = x.shape[-2:]
    angles = torch.arange(t, device=x.device)[:, None] / 10 ** (
        torch.arange(d // 2, device=x.device) / d
    )
    if how == "halves":
        angles = torch.cat([angles, angles], -1)
        a, b = x.chunk(2, -1)
        return x * angles.cos() + torch.cat([-b, a], -1) * angles.sin()
    a, b = x[..., ::2], x[..., 1::2]
    turned = (a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos())
    return torch.stack(turned, -1).flatten(-2)


@block("tokens")
def decoder(random: Random, at: Layout) -> Made:
    """Attend as language models do: grouped queries, RoPE, norms of queries and keys, masks."""
    head_dim = random.choice([2, 4])
    heads = random.choice([2, 4])
    shared = random.choice(divisors(heads, 1, 2, 4))
    rope = random.choice(["", "halves", "pairs"])
    normed = random.random() < 0.3
    mask = random.choice(["", "causal", "made", "table"])
    repeat = random.choice(["interleave", "expand", "flag"])
    dims = {"head_dim": head_dim, "heads": heads, "shared": heads // shared}

    def forward(m: Any, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        q = m.q(x).view(n, t, -1, m.head_dim).transpose(1, 2)
        k, v = (f(x).view(n, t, -1, m.head_dim).transpose(1, 2) for f in (m.k, m.v))
        q, k = m.q_norm(q), m.k_norm(k)
        if rope:
            q, k = rotate(q, rope), rotate(k, rope)
        if repeat == "interleave":
            k, v = (y.repeat_interleave(m.shared, 1) for y in (k, v))
        elif repeat == "expand":
            k, v = (
                y[:, :, None].expand(-1, -1, m.shared, -1, -1).reshape(n, m.heads, t, m.head_dim)
                for y in (k, v)
            )
        options: dict[str, Any] = {"enable_gqa": True} if repeat == "flag" else {}
        if mask == "causal":
            options["is_causal"] = True
        elif mask == "made":
            options["attn_mask"] = torch.ones(t, t, dtype=torch.bool, device=x.device).tril()
        elif mask == "table":
            options["attn_mask"] = m.table[None, :, :t, :t]
        y = functional.scaled_dot_product_attention(q, k, v, **options)
        return m.out(y.transpose(1, 2).reshape(n, t, -1))

    c, inner, few = at.channels, heads * head_dim, heads // dims["shared"] * head_dim
    body = made(
        "DecoderAttention", forward, q=nn.Linear(c, inner, bias=False), k=nn.Linear(c, few),
        v=nn.Linear(c, few, bias=False), out=nn.Linear(inner, c),
        q_norm=last_norm(random, head_dim) if normed else nn.Identity(),
        k_norm=last_norm(random, head_dim) if normed else nn.Identity(),
        table=parameter(heads, 80, 80) if mask == "table" else None, **dims,
    )  # fmt: skip
    return around(random, at, body)


@block("tokens")
def linear_attention(random: Random, at: Layout) -> Made:
    heads = heads_of(random, at)
    how = random.choice(["elu", "relu", "softmax"])

    def forward(m: Any, x: Tensor) -> Tensor:
        n, t, c = x.shape
        q, k, v = m.qkv(x).view(n, t, 3, m.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        if how == "softmax":
            q, k = q.softmax(-1), k.softmax(-2)
        elif how == "elu":
            q, k = functional.elu(q) + 1, functional.elu(k) + 1
        else:
            q, k = q.relu(), k.relu()
        y = torch.einsum("nhtd,nhde->nhte", q, torch.einsum("nhtd,nhte->nhde", k, v))
        if how != "softmax":
            y = y / (torch.einsum("nhtd,nhd->nht", q, k.sum(2)) + 1e-2)[..., None]
        return m.out(y.transpose(1, 2).reshape(n, t, c))

    c = at.channels
    body = made(
        "LinearAttention", forward, qkv=nn.Linear(c, 3 * c), out=nn.Linear(c, c), heads=heads
    )
    return around(random, at, body)


@block("tokens")
def feed_forward(random: Random, at: Layout) -> Made:
    hidden = width(random)
    return around(
        random,
        at,
        nn.Sequential(
            nn.Linear(at.channels, hidden),
            pointwise(random),
            nn.Dropout(0.1),
            nn.Linear(hidden, at.channels, bias=random.random() < 0.5),
        ),
    )


@block("tokens")
def gated(random: Random, at: Layout) -> Made:
    hidden = random.choice([4, 6, 8])
    how = random.choice(["fused", "two", "glu"])
    if how == "fused":
        return around(random, at, GatedLinear(at.channels, hidden))
    up, gate, down = (
        nn.Linear(at.channels, hidden * (2 if how == "glu" else 1)),
        nn.Linear(at.channels, hidden),
        nn.Linear(hidden, at.channels),
    )
    if how == "glu":
        return around(random, at, nn.Sequential(up, nn.GLU(), down))
    body = made(
        "GatedUnit", lambda m, x: m.down(functional.silu(m.gate(x)) * m.up(x)),
        up=up, gate=gate, down=down,
    )  # fmt: skip
    return around(random, at, body)


@block("tokens")
def torch_layer(random: Random, at: Layout) -> Made:
    """Use torch's own encoder or decoder layer."""
    heads, hidden = heads_of(random, at), width(random)
    options: dict[str, Any] = {"batch_first": True, "norm_first": random.random() < 0.5}
    if random.random() < 0.6:
        return nn.TransformerEncoderLayer(
            at.channels, heads, hidden, activation=random.choice(["relu", "gelu"]), **options
        ), at
    layer = nn.TransformerDecoderLayer(at.channels, heads, hidden, **options)
    return made("Decode", lambda m, x: m.layer(x, x.flip(1)), layer=layer), at


@block("tokens")
def mixer(random: Random, at: Layout) -> Made:
    """Mix tokens by layers over positions."""
    hidden, count = width(random), at.size[0]
    body = nn.Sequential(nn.Linear(count, hidden), pointwise(random), nn.Linear(hidden, count))
    return Residual(
        made("Mixer", lambda m, x: m.body(x.transpose(1, 2)).transpose(1, 2), body=body)
    ), at


@block("tokens")
def along(random: Random, at: Layout) -> Made:
    """Convolve along the tokens."""
    out = random.choice([at.channels, 8])
    groups = at.channels if out == at.channels and random.random() < 0.5 else 1
    body = nn.Sequential(
        nn.Conv1d(at.channels, out, 3, padding=1, groups=groups), nn.BatchNorm1d(out), nn.SiLU()
    )
    return made("Along", lambda m, x: m.body(x.transpose(1, 2)).transpose(1, 2), body=body), at.to(
        out
    )


@block("tokens")
def recurrent(random: Random, at: Layout) -> Made:
    kind = random.choice([nn.LSTM, nn.GRU, nn.RNN])
    hidden, layers = random.choice([4, 6, 8]), random.choice([1, 1, 2])
    both = random.random() < 0.4
    body = kind(
        at.channels, hidden, layers, batch_first=True, bidirectional=both,
        bias=random.random() < 0.8,
    )  # fmt: skip
    how = random.choice(["plain", "flip", "pack"])

    def forward(m: Any, x: Tensor) -> Tensor:
        if how == "flip":
            return m.body(x.flip(1))[0].flip(1)
        y, state = m.body(x)
        state = state[0] if isinstance(state, tuple) else state
        return y + state[-1].mean() if how == "pack" else y

    return made("Recurrent", forward, body=body), at.to(hidden * (2 if both else 1))


@block("tokens")
def cells(random: Random, at: Layout) -> Made:
    """Run a cell over the tokens in a loop."""
    if at.size[0] > 6:
        return None
    hidden = random.choice([4, 6, 8])
    kind = random.choice([nn.LSTMCell, nn.GRUCell, nn.RNNCell])
    start = random.choice(["none", "zeros", "learned"]) if kind is not nn.LSTMCell else "none"

    def forward(m: Any, x: Tensor) -> Tensor:
        state = None
        if start == "zeros":
            state = torch.zeros(len(x), m.hidden, device=x.device, dtype=x.dtype)
        elif start == "learned":
            state = m.start.expand(len(x), -1)
        found = []
        for token in x.unbind(1):
            state = m.cell(token, state)
            found.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(found, 1)

    return made(
        "Cells", forward, cell=kind(at.channels, hidden), hidden=hidden, start=parameter(hidden)
    ), at.to(hidden)


@block("tokens")
def experts(random: Random, at: Layout) -> Made:
    """Weigh experts by a softmax over gates."""
    hidden, count = random.choice([4, 6]), 2
    how = random.choice(["modules", "stacked"])

    def forward(m: Any, x: Tensor) -> Tensor:
        w = m.gate(x).softmax(-1)
        if how == "modules":
            return sum(e(x) * w[..., i : i + 1] for i, e in enumerate(m.experts))
        y = torch.einsum("ntc,ech->nteh", x, m.up).relu()
        return torch.einsum("nteh,ehc,nte->ntc", y, m.down, w)

    c = at.channels
    parts = [
        nn.Sequential(nn.Linear(c, hidden), nn.ReLU(), nn.Linear(hidden, c)) for _ in range(count)
    ]
    return around(
        random,
        at,
        made(
            "Experts", forward, gate=nn.Linear(c, count), experts=parts,
            up=parameter(count, c, hidden), down=parameter(count, hidden, c),
        ),
    )  # fmt: skip


@block("tokens")
def positions(random: Random, at: Layout) -> Made:
    """Add learned or computed positions, or a class token."""
    t, c = at.size[0], at.channels
    how = random.choice(["learned", "looked-up", "sine", "token"])

    def forward(m: Any, x: Tensor) -> Tensor:
        if how == "learned":
            return x + m.table
        if how == "looked-up":
            return x * math.sqrt(x.shape[-1]) + m.embed(torch.arange(x.shape[1], device=x.device))
        if how == "sine":
            return x + m.fixed[: x.shape[1]]
        return torch.cat([m.token.expand(len(x), -1, -1), x], 1)

    size = (t + 1,) if how == "token" else (t,)
    return made(
        "Positions", forward, table=parameter(1, t, c), embed=nn.Embedding(t, c),
        fixed=buffer(torch.randn(t, c)), token=parameter(1, 1, c),
    ), at.to(c, size)  # fmt: skip


@block("tokens")
def tied(random: Random, at: Layout) -> Made:
    """Let two layers share a weight."""
    a, b = nn.Linear(at.channels, at.channels), nn.Linear(at.channels, at.channels)
    b.weight = a.weight
    if random.random() < 0.5:
        return around(random, at, nn.Sequential(a, pointwise(random), b))
    hidden = width(random)

    def forward(m: Any, x: Tensor) -> Tensor:
        return functional.linear(m.act(m.up(x)), m.up.weight.t(), m.bias)

    body = made(
        "TiedBack", forward, up=nn.Linear(at.channels, hidden), act=pointwise(random),
        bias=parameter(at.channels),
    )  # fmt: skip
    return around(random, at, body)


@block("tokens")
def merged(random: Random, at: Layout) -> Made:
    """Merge neighbouring tokens into one of twice the width (patch merging)."""
    if at.size[0] % 2 or at.channels > 16:
        return None
    out = width(random)
    how = random.choice(["view", "cat"])

    def forward(m: Any, x: Tensor) -> Tensor:
        n, t, c = x.shape
        y = x.reshape(n, t // 2, 2 * c) if how == "view" else torch.cat([x[:, ::2], x[:, 1::2]], -1)
        return m.reduce(m.norm(y))

    return made(
        "Merged", forward, norm=last_norm(random, 2 * at.channels),
        reduce=nn.Linear(2 * at.channels, out, bias=False),
    ), at.to(out, (at.size[0] // 2,))  # fmt: skip


@block("tokens")
def skip(random: Random, at: Layout) -> Made:
    body, after = draw(random, at)
    if after.kind != "tokens" or after.size != at.size:
        return None
    way = nn.Identity() if after == at else nn.Linear(at.channels, after.channels)
    join = random.choice(["add", "cat", "mul"])

    def forward(m: Any, x: Tensor) -> Tensor:
        a, b = m.body(x), m.way(x)
        if join == "cat":
            return torch.cat([a, b], -1)
        return a + b if join == "add" else a * b

    channels = after.channels * (2 if join == "cat" else 1)
    return made("SkipTokens", forward, body=body, way=way), after.to(channels)


@block("tokens")
def again(random: Random, at: Layout) -> Made:
    body, after = draw(random, at)
    return (Twice(body), at) if after == at else None


@block("tokens")
def to_vector(random: Random, at: Layout) -> Made:
    c, t = at.channels, at.size[0]
    ways: list[tuple[Any, int]] = [
        (lambda _, x: x[:, 0], c),
        (lambda _, x: x[:, -1], c),
        (lambda _, x: x.mean(1), c),
        (lambda _, x: x.amax(1), c),
        (lambda m, x: (m.score(x).softmax(1) * x).sum(1), c),
        (lambda _, x: torch.cat([x.mean(1), x.max(1).values], 1), 2 * c),
    ]
    if c * t <= 512:
        ways.append((lambda _, x: x.flatten(1), c * t))
    forward, features = random.choice(ways)
    return made("TokensToVector", forward, score=nn.Linear(c, 1)), Layout("vector", features)


@block("tokens")
def to_maps(random: Random, at: Layout) -> Made:
    t = at.size[0]
    side = math.isqrt(t)
    if side * side == t and side > 1 and random.random() < 0.7:
        size: tuple[int, ...] = (side, side)
    elif t > 1:
        size = (t,)
    else:
        return None
    ways: list[Any] = [
        lambda m, x: x.transpose(1, 2).unflatten(2, m.size),
        lambda m, x: x.transpose(1, 2).reshape(len(x), -1, *m.size),
        lambda m, x: x.permute(0, 2, 1).reshape(x.shape[0], x.shape[2], *m.size),
    ]
    return made("ToMaps", random.choice(ways), size=size), Layout("maps", at.channels, size)
