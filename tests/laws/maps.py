"""Blocks over maps (N, C, *size) of one, two or three spatial dimensions."""

import math
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from tests.laws.blocks import (
    AVG_POOLS,
    BATCH_NORMS,
    MAX_POOLS,
    TRANSPOSED,
    Layout,
    Made,
    activation,
    block,
    buffer,
    conv,
    divisors,
    draw,
    last_norm,
    made,
    norm,
    parameter,
    pointwise,
    unit,
    width,
)
from tests.laws.networks import (
    Concat,
    Gate,
    Residual,
    Shuffle,
    SqueezeExcite,
    Twice,
)


def ones(at: Layout) -> tuple[int, ...]:
    return (1,) * at.dims


def spatial(at: Layout) -> tuple[int, ...]:
    return tuple(range(2, 2 + at.dims))


def last(at: Layout) -> tuple[int, ...]:
    """Order of dimensions that puts the channels last."""
    return (0, *spatial(at), 1)


def first(at: Layout) -> tuple[int, ...]:
    """Order of dimensions that puts the last channels back."""
    return (0, at.dims + 1, *range(1, at.dims + 1))


@block("maps")
def plain(random: Random, at: Layout) -> Made:
    out = width(random)
    kernel = random.choice([1, 3, 3])
    options: dict[str, Any] = {}
    if kernel == 3 and random.random() < 0.3:
        options = random.choice(
            [
                {"padding": "same"},
                {"dilation": 2, "padding": 2},
                {"padding_mode": random.choice(["circular", "replicate"])},
            ]
        )
    return unit(random, at, out, kernel, **options), at.to(out)


@block("maps")
def strided(random: Random, at: Layout) -> Made:
    if min(at.size) < 4:
        return None
    out = width(random)
    return unit(random, at, out, stride=2), at.to(out, tuple(n // 2 for n in at.size))


@block("maps")
def residual(random: Random, at: Layout) -> Made:
    hidden = width(random)
    return Residual(
        nn.Sequential(unit(random, at, hidden), conv(random, at.to(hidden), at.channels))
    ), at


@block("maps")
def bottleneck(random: Random, at: Layout) -> Made:
    hidden = random.choice([4, 8, 12])
    groups = random.choice([1, 2, 4, hidden])
    inner = at.to(hidden)
    return Residual(
        nn.Sequential(
            unit(random, at, hidden, 1),
            unit(random, inner, hidden, groups=groups),
            conv(random, inner, at.channels, 1),
        )
    ), at


@block("maps")
def dense(random: Random, at: Layout) -> Made:
    growth = width(random)
    return Concat(unit(random, at, growth)), at.to(at.channels + growth)


@block("maps")
def joined(random: Random, at: Layout) -> Made:
    """Join two blocks and the input, perhaps twice; project."""
    a, b = width(random), width(random)
    twice = random.random() < 0.5
    total = a + b + at.channels * (2 if twice else 1)
    out = width(random)

    def forward(m: Any, x: Tensor) -> Tensor:
        parts = [m.a(x), x, m.b(x)] + ([x] if twice else [])
        return m.out(torch.cat(parts, dim=1))

    return made(
        "Joined", forward, a=unit(random, at, a, 1), b=unit(random, at, b),
        out=conv(random, at.to(total), out, 1),
    ), at.to(out)  # fmt: skip


@block("maps")
def split(random: Random, at: Layout) -> Made:
    if at.channels < 3:
        return None
    cut = random.randrange(1, at.channels)
    sizes = [cut, at.channels - cut]
    outs = [width(random), width(random)]
    parts = [unit(random, at.to(n), o) for n, o in zip(sizes, outs, strict=True)]
    how = random.choice(["split", "slice", "tensor_split", "narrow"])

    def forward(m: Any, x: Tensor) -> Tensor:
        cuts = {
            "split": lambda: x.split(m.sizes, 1),
            "slice": lambda: (x[:, : m.sizes[0]], x[:, m.sizes[0] :]),
            "tensor_split": lambda: x.tensor_split([m.sizes[0]], 1),
            "narrow": lambda: (x.narrow(1, 0, m.sizes[0]), x.narrow(1, m.sizes[0], m.sizes[1])),
        }[how]()
        return torch.cat([p(t) for p, t in zip(m.parts, cuts, strict=True)][::-1], 1)

    return made("Split", forward, parts=parts, sizes=sizes), at.to(sum(outs))


@block("maps")
def partial(random: Random, at: Layout) -> Made:
    """Convolve some channels and leave the others (FasterNet), perhaps by assignment."""
    if at.channels < 4:
        return None
    some = at.channels // 2
    how = random.choice(["assign", "copy", "cat"])

    def forward(m: Any, x: Tensor) -> Tensor:
        if how == "cat":
            a, b = x[:, : m.some], x[:, m.some :]
            return torch.cat([m.body(a), b], 1)
        y = x.clone()
        if how == "assign":
            y[:, : m.some] = m.body(x[:, : m.some])
        else:
            y.narrow(1, 0, m.some).copy_(m.body(x[:, : m.some]))
        return y

    return made("Partial", forward, body=conv(random, at.to(some), some), some=some), at


@block("maps")
def gated(random: Random, at: Layout) -> Made:
    out = random.choice([4, 6, 8])
    how = random.choice(["gate", "glu", "two", "interleaved"])
    up = conv(random, at, 2 * out)
    if how == "gate":
        return nn.Sequential(up, Gate()), at.to(out)
    if how == "glu":
        return nn.Sequential(up, nn.GLU(1)), at.to(out)
    if how == "interleaved":

        def pick(m: Any, x: Tensor) -> Tensor:
            y = m.up(x)
            return y[:, ::2] * torch.sigmoid(y[:, 1::2])

        return made("Interleaved", pick, up=up), at.to(out)

    def forward(m: Any, x: Tensor) -> Tensor:
        return m.act(m.gate(x)) * m.value(x)

    return made(
        "TwoGates", forward, gate=conv(random, at, out), value=conv(random, at, out, 1),
        act=pointwise(random),
    ), at.to(out)  # fmt: skip


@block("maps")
def shuffled(random: Random, at: Layout) -> Made:
    if at.dims != 2:
        return None
    out, groups = random.choice([4, 8, 12]), random.choice([2, 4])
    return nn.Sequential(
        unit(random, at, out, 1),
        random.choice([Shuffle, nn.ChannelShuffle])(groups),
        conv(random, at.to(out), out, groups=random.choice([1, groups, out])),
    ), at.to(out)


@block("maps")
def separable(random: Random, at: Layout) -> Made:
    hidden, out, times = random.choice([4, 6, 8]), width(random), random.choice([1, 1, 2])
    return nn.Sequential(
        unit(random, at, hidden, 1),
        unit(random, at.to(hidden), times * hidden, groups=hidden),
        conv(random, at.to(times * hidden), out, 1),
    ), at.to(out)


@block("maps")
def grouped(random: Random, at: Layout) -> Made:
    hidden, out, groups = random.choice([4, 8, 12]), random.choice([4, 8, 16]), 2
    groups = random.choice([2, 4])
    return nn.Sequential(
        unit(random, at, hidden, 1), unit(random, at.to(hidden), out, groups=groups)
    ), at.to(out)


@block("maps")
def squeeze_excite(random: Random, at: Layout) -> Made:
    squeezed = random.choice([2, 4, 8])
    if at.dims == 2 and random.random() < 0.4:
        return SqueezeExcite(at.channels, squeezed), at

    def forward(m: Any, x: Tensor) -> Tensor:
        y = x.mean(m.over)
        y = m.up(m.act(m.down(y))).sigmoid()
        return x * y.view(*y.shape, *m.ones)

    return made(
        "Excite", forward, down=nn.Linear(at.channels, squeezed), act=pointwise(random),
        up=nn.Linear(squeezed, at.channels), ones=ones(at), over=spatial(at),
    ), at  # fmt: skip


@block("maps")
def spatial_gate(random: Random, at: Layout) -> Made:
    """Gate positions by mean and maximum over channels (CBAM)."""
    reduce = random.choice(["both", "mean", "sum", "max"])

    def forward(m: Any, x: Tensor) -> Tensor:
        found = []
        if reduce in ("both", "mean"):
            found.append(x.mean(1, keepdim=True))
        if reduce in ("both", "max"):
            found.append(x.amax(1, keepdim=True))
        if reduce == "sum":
            found.append(x.sum(1, keepdim=True))
        return x * m.look(torch.cat(found, 1)).sigmoid()

    look = conv(random, at.to(2 if reduce == "both" else 1), 1)
    hidden = width(random)
    return nn.Sequential(unit(random, at, hidden), made("SpatialGate", forward, look=look)), at.to(
        hidden
    )


@block("maps")
def scaled_by_width(random: Random, at: Layout) -> Made:
    hidden = width(random)
    how = random.choice(["sqrt", "stored", "count", "mean"])

    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.up(x)
        if how == "sqrt":
            return y / math.sqrt(y.shape[1])
        if how == "stored":
            return y * m.scale
        if how == "count":
            return y / y.shape[1]
        return y - y.mean(dim=1, keepdim=True)

    return made("ScaledByWidth", forward, up=unit(random, at, hidden), scale=hidden**-0.5), at.to(
        hidden
    )


@block("maps")
def normalised(random: Random, at: Layout) -> Made:
    """Normalise over channels in one of the ways that need all of them."""
    hidden = random.choice([4, 8, 12])
    groups = random.choice([1, 2, 4])

    def forward(m: Any, x: Tensor) -> Tensor:
        return m.how(m.up(x))

    ways = {
        "softmax": lambda x: x.softmax(1),
        "unit": lambda x: functional.normalize(x, dim=1),
        "standard": lambda x: (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 0.1),
        "maximum": lambda x: x / (x.abs().amax(1, keepdim=True) + 1),
        "logsumexp": lambda x: x - x.logsumexp(1, keepdim=True),
        "group": nn.GroupNorm(groups, hidden),
        "layer": nn.Sequential(),
    }
    how = random.choice(list(ways))
    way: Any = ways[how]
    if how == "layer":
        body = last_norm(random, hidden)
        way = made(
            "NormLast", lambda m, x: m.body(x.permute(m.there)).permute(m.back),
            body=body, there=last(at), back=first(at),
        )  # fmt: skip
    return made("Normalised", forward, up=conv(random, at, hidden), how=way), at.to(hidden)


@block("maps")
def channels_last(random: Random, at: Layout) -> Made:
    hidden = width(random)
    body = nn.Sequential(
        last_norm(random, at.channels),
        nn.Linear(at.channels, hidden),
        pointwise(random),
        nn.Linear(hidden, at.channels),
    )

    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.body(m.mix(x).permute(m.there))
        return x + (m.gamma * y).permute(m.back)

    mix = conv(random, at, at.channels, groups=random.choice([1, at.channels]))
    return made(
        "ChannelsLastBlock", forward, body=body, mix=mix, gamma=parameter(at.channels),
        there=last(at), back=first(at),
    ), at  # fmt: skip


@block("maps")
def transposed(random: Random, at: Layout) -> Made:
    out, groups = random.choice([4, 8]), random.choice([1, 1, 2])
    kernel, options = random.choice([(2, {}), (3, {"padding": 1, "output_padding": 1})])
    steps = []
    if at.channels % groups:
        groups = 1
    up = TRANSPOSED[at.dims - 1](
        at.channels, out, kernel, 2, groups=groups, bias=random.random() < 0.5, **options
    )
    steps = [up, norm(random, at.to(out)), activation(random, out)]
    if at.points > 16:
        steps.append(random.choice([MAX_POOLS, AVG_POOLS])[at.dims - 1](2))
        return nn.Sequential(*steps), at.to(out)
    return nn.Sequential(*steps), at.to(out, tuple(2 * n for n in at.size))


@block("maps")
def pooled(random: Random, at: Layout) -> Made:
    d = at.dims - 1
    kinds: list[Any] = [
        lambda: MAX_POOLS[d](3, 1, 1),
        lambda: AVG_POOLS[d](3, 1, 1),
        lambda: nn.Dropout(0.1),
        lambda: made("Roll", lambda _, x: x.roll(1, 2)),
        lambda: made("Clamp", lambda _, x: x.clamp(-1, 1)),
        lambda: made("Masked", lambda _, x: torch.where(x > 0.1, x, x * 0.3)),
        lambda: made("Fill", lambda _, x: x.masked_fill(x < 0, 0.25)),
    ]
    if at.dims == 2:
        kinds += [lambda: nn.Dropout2d(0.1), lambda: nn.LPPool2d(2, 1)]
    return random.choice(kinds)(), at


@block("maps")
def resampled(random: Random, at: Layout) -> Made:
    modes = {1: ["nearest", "linear"], 2: ["nearest", "bilinear", "bicubic"], 3: ["nearest"]}
    mode = random.choice(modes[at.dims])
    up = nn.Upsample(scale_factor=2, mode=mode)
    return nn.Sequential(up, AVG_POOLS[at.dims - 1](2)), at


@block("maps")
def padded(random: Random, at: Layout) -> Made:
    mode = random.choice(["constant", "replicate", "channels"])
    pad = (1, 1) * at.dims

    def forward(m: Any, x: Tensor) -> Tensor:
        if mode == "channels":  # new zero channels, as in ResNets without projections
            return functional.pad(x, (*(0, 0) * m.dims, 1, 2))
        return m.body(functional.pad(x, pad, mode=mode))

    if mode == "channels":
        return made("PadChannels", forward, dims=at.dims), at.to(at.channels + 3)
    out = width(random)
    return made("Pad", forward, body=conv(random, at, out, padding=0), dims=at.dims), at.to(out)


@block("maps")
def pixel_shuffle(random: Random, at: Layout) -> Made:
    if at.dims != 2:
        return None
    out = random.choice([2, 4])
    return nn.Sequential(
        conv(random, at, 4 * out), nn.PixelShuffle(2), pointwise(random), nn.AvgPool2d(2)
    ), at.to(out)


@block("maps")
def space_to_depth(random: Random, at: Layout) -> Made:
    if at.dims != 2 or min(at.size) < 4 or at.channels > 12:
        return None
    size = (at.size[0] // 2, at.size[1] // 2)
    out = width(random)
    reduce = conv(random, at.to(4 * at.channels), out, 1)
    how = random.choice(["unshuffle", "slices", "view"])

    def forward(m: Any, x: Tensor) -> Tensor:
        if how == "slices":
            parts = [x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]
            return m.reduce(torch.cat(parts, 1))
        n, c, h, w = x.shape
        x = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4)
        return m.reduce(x.reshape(n, 4 * c, h // 2, w // 2))

    if how == "unshuffle":
        return nn.Sequential(nn.PixelUnshuffle(2), reduce), at.to(out, size)
    return made("Focus", forward, reduce=reduce), at.to(out, size)


@block("maps")
def reordered(random: Random, at: Layout) -> Made:
    """Reorder channels by a constant, or roll or flip them."""
    c = at.channels
    order = list(range(c))
    random.shuffle(order)
    ways: list[Any] = [
        lambda _, x: x.flip(1),
        lambda m, x: x[:, m.order],
        lambda m, x: x.index_select(1, m.order),
        lambda _, x: torch.cat([x[:, 1:], x[:, :1]], 1),
    ]
    return made("Reordered", random.choice(ways), order=buffer(torch.tensor(order))), at


@block("maps")
def einsum(random: Random, at: Layout) -> Made:
    out = width(random)
    how = random.choice(["einsum", "tensordot", "matmul"])

    def forward(m: Any, x: Tensor) -> Tensor:
        if how == "einsum":
            return torch.einsum("nc...,co->no...", x, m.weight)
        if how == "tensordot":
            return torch.tensordot(x, m.weight, ([1], [0])).movedim(-1, 1)
        return (x.movedim(1, -1) @ m.weight).movedim(-1, 1)

    return made("Product", forward, weight=parameter(at.channels, out)), at.to(out)


@block("maps")
def offset(random: Random, at: Layout) -> Made:
    """Add and multiply raw parameters and buffers; some in place."""
    shape = (at.channels, *ones(at))
    how = random.choice(["out", "in", "attribute"])

    def forward(m: Any, x: Tensor) -> Tensor:
        if how == "in":
            return x.clone().mul_(m.scale).add_(m.shift).relu_()
        if how == "attribute":
            return (x - m.mean) * m.scale
        return torch.addcmul(m.shift.expand_as(x), x, m.scale)

    kept = buffer(torch.randn(shape), persistent=random.random() < 0.5)
    return made("Offset", forward, scale=parameter(*shape), shift=kept, mean=torch.randn(shape)), at


@block("maps")
def parametrized(random: Random, at: Layout) -> Made:
    out = width(random)
    layer = conv(random, at, out)
    how = random.choice(["weight_norm", "old", "spectral"])
    if how == "old":
        layer = parametrizations.weight_norm(layer, dim=1)
    else:
        layer = getattr(parametrizations, how if how != "spectral" else "spectral_norm")(layer)
    return nn.Sequential(layer, activation(random, out)), at.to(out)


@block("maps")
def standardised(random: Random, at: Layout) -> Made:
    """Convolve with weights that the forward pass computes."""
    if at.dims != 2:
        return None
    out = width(random)
    how = random.choice(["standard", "scaled", "factors"])

    def forward(m: Any, x: Tensor) -> Tensor:
        if how == "standard":
            w = m.weight - m.weight.mean((1, 2, 3), keepdim=True)
        elif how == "scaled":
            w = m.weight * m.gain
        else:
            w = (m.left @ m.right)[:, :, None, None]
        return functional.conv2d(x, w, m.bias, padding=w.shape[-1] // 2)

    return made(
        "Computed", forward, weight=parameter(out, at.channels, 3, 3), gain=parameter(out, 1, 1, 1),
        bias=parameter(out), left=parameter(out, 3), right=parameter(3, at.channels),
    ), at.to(out)  # fmt: skip


@block("maps")
def stacked(random: Random, at: Layout) -> Made:
    """Stack branches, weigh them and sum (selective kernels)."""
    out = width(random)
    how = random.choice(["sum", "mean", "select", "einsum"])

    def forward(m: Any, x: Tensor) -> Tensor:
        y = torch.stack([part(x) for part in m.parts], 1)
        if how == "sum":
            return y.sum(1)
        if how == "mean":
            return y.mean(1)
        if how == "einsum":
            return torch.einsum("nk...,k->n...", y, m.weights)
        z = m.gate(y.sum(1).mean(m.over))
        z = z.view(len(z), 2, -1).softmax(1)
        return (y * z.view(*z.shape, *m.ones)).sum(1)

    parts = [unit(random, at, out), unit(random, at, out, 1)]
    return made(
        "Stacked", forward, parts=parts, weights=parameter(2), gate=nn.Linear(out, 2 * out),
        over=spatial(at), ones=ones(at),
    ), at.to(out)  # fmt: skip


@block("maps")
def maxout(random: Random, at: Layout) -> Made:
    out, pieces = random.choice([4, 6, 8]), 2
    pieces_first = random.random() < 0.5

    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.up(x)
        if pieces_first:
            return y.unflatten(1, (m.pieces, -1)).amax(1)
        return y.view(len(y), m.out, m.pieces, *y.shape[2:]).max(2).values

    return made(
        "Maxout", forward, up=conv(random, at, out * pieces), pieces=pieces, out=out
    ), at.to(out)


@block("maps")
def hourglass(random: Random, at: Layout) -> Made:
    """Go down and up again with a connection across (U-Net)."""
    if at.dims == 3 or min(at.size) < 4:
        return None
    a, b, out = width(random), width(random), width(random)
    add = random.random() < 0.4
    b = a if add else b
    inner = at.to(a)

    def forward(m: Any, x: Tensor) -> Tensor:
        kept = m.a(x)
        y = functional.interpolate(m.b(m.down(kept)), scale_factor=2, mode="nearest")
        return m.out(kept + y if add else torch.cat([kept, y], 1))

    return made(
        "Hourglass", forward, a=unit(random, at, a), down=MAX_POOLS[at.dims - 1](2),
        b=unit(random, inner, b), out=conv(random, at.to(a if add else a + b), out),
    ), at.to(out)  # fmt: skip


@block("maps")
def looped(random: Random, at: Layout) -> Made:
    """Run a convolutional cell three times from a state of zeros."""
    hidden = random.choice([4, 6, 8])
    gates = random.choice([1, 2])

    def forward(m: Any, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[0], m.hidden, *x.shape[2:])
        for _ in range(2):
            y = m.cell(torch.cat([x, h], 1))
            if gates == 1:
                h = torch.tanh(y)
            else:
                z, n = y.chunk(2, 1)
                h = h * z.sigmoid() + n.tanh()
        return h

    cell = conv(random, at.to(at.channels + hidden), gates * hidden)
    return made("Looped", forward, cell=cell, hidden=hidden), at.to(hidden)


@block("maps")
def nonlocal_(random: Random, at: Layout) -> Made:
    """Attend over positions with 1x1 convolutions."""
    if at.points > 64:
        return None
    hidden = random.choice([4, 8])
    how = random.choice(["einsum", "bmm"])

    def forward(m: Any, x: Tensor) -> Tensor:
        q, k, v = (f(x).flatten(2) for f in (m.q, m.k, m.v))
        if how == "einsum":
            w = torch.einsum("nci,ncj->nij", q, k).softmax(-1)
            y = torch.einsum("nij,ncj->nci", w, v)
        else:
            w = torch.bmm(q.transpose(1, 2), k).div(m.hidden**0.5).softmax(-1)
            y = torch.bmm(v, w.transpose(1, 2))
        return x + m.out(y.reshape(len(x), -1, *x.shape[2:]))

    q, k, v = (conv(random, at, hidden, 1) for _ in range(3))
    return made(
        "NonLocal", forward, q=q, k=k, v=v, out=conv(random, at.to(hidden), at.channels, 1),
        hidden=hidden,
    ), at  # fmt: skip


@block("maps")
def coordinates(random: Random, at: Layout) -> Made:
    """Join coordinates that the forward pass makes (CoordConv)."""
    if at.dims != 2:
        return None
    out = width(random)

    def forward(m: Any, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        ys = torch.linspace(-1, 1, h, device=x.device).view(1, 1, h, 1).expand(n, 1, h, w)
        xs = torch.arange(w, device=x.device, dtype=x.dtype).expand(n, 1, h, w) / w
        return m.body(torch.cat([x, ys, xs], 1))

    return made("Coordinates", forward, body=conv(random, at.to(at.channels + 2), out)), at.to(out)


@block("maps")
def channel_conv(_: Random, at: Layout) -> Made:
    """Gate channels by a convolution along them (ECA): they must all stay."""
    if at.dims != 2:
        return None

    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.body(x.mean((2, 3)).unsqueeze(1)).squeeze(1)
        return x * y.sigmoid()[:, :, None, None]

    return made("ChannelConv", forward, body=nn.Conv1d(1, 1, 3, padding=1, bias=False)), at


@block("maps")
def skip(random: Random, at: Layout) -> Made:
    """Put any block beside a connection that fits it."""
    body, after = draw(random, at)
    if after.kind != "maps" or after.size != at.size:
        return None
    way = nn.Identity() if after == at else conv(random, at, after.channels, 1)
    join = random.choice(["add", "add_", "mul", "max", "sub"])

    def forward(m: Any, x: Tensor) -> Tensor:
        a, b = m.body(x), m.way(x)
        return {
            "add": lambda: a + b,
            "add_": lambda: (a * 1).add_(b, alpha=0.5),
            "mul": lambda: a * torch.sigmoid(b),
            "max": lambda: torch.maximum(a, b),
            "sub": lambda: 2 - a - b,
        }[join]()

    return made("Skip", forward, body=body, way=way), after


@block("maps")
def again(random: Random, at: Layout) -> Made:
    """Call any block twice, if it fits its own output."""
    body, after = draw(random, at)
    return (Twice(body), at) if after == at else None


@block("maps")
def siamese(random: Random, at: Layout) -> Made:
    """Run one block on two views of the input, perhaps of different sizes."""
    out = width(random)
    body = unit(random, at, out)
    pool = AVG_POOLS[at.dims - 1](2)
    sizes = min(at.size) >= 4 and random.random() < 0.5

    def forward(m: Any, x: Tensor) -> Tensor:
        a = m.body(x)
        b = m.body(m.pool(x) if sizes else x.flip(2))
        if sizes:
            b = b.mean(m.over, keepdim=True)
        return a - b

    return made("Siamese", forward, body=body, pool=pool, over=spatial(at)), at.to(out)


@block("maps")
def tied(random: Random, at: Layout) -> Made:
    """Let two layers share one weight, or one be the other's transpose."""
    hidden = width(random)
    if at.dims == 2 and random.random() < 0.5:

        def forward(m: Any, x: Tensor) -> Tensor:
            y = m.act(functional.conv2d(x, m.weight))
            return functional.conv_transpose2d(y, m.weight)

        return made(
            "Autoencoder", forward, weight=parameter(hidden, at.channels, 1, 1),
            act=pointwise(random),
        ), at  # fmt: skip
    a, b = conv(random, at, at.channels), conv(random, at, at.channels)
    b.weight = a.weight
    return nn.Sequential(a, pointwise(random), b), at


@block("maps")
def batch_norm_first(random: Random, at: Layout) -> Made:
    out = width(random)
    return nn.Sequential(
        BATCH_NORMS[at.dims - 1](at.channels), nn.ReLU(), conv(random, at, out)
    ), at.to(out)


@block("maps")
def attend_windows(random: Random, at: Layout) -> Made:
    """Attend inside windows, perhaps shifted (Swin)."""
    if at.dims != 2 or min(at.size) < 4:
        return None
    heads = random.choice(divisors(at.channels, 1, 2, 4))
    shift = random.random() < 0.4
    table = random.random() < 0.5

    def forward(m: Any, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = x.roll((-1, -1), (2, 3)) if shift else x
        y = y.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, c)
        qkv = m.qkv(y).view(len(y), 4, 3, m.heads, c // m.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        scores = (q * m.scale) @ k.transpose(-2, -1)
        if table:
            bias = m.table[m.index.view(-1)].view(4, 4, -1).permute(2, 0, 1)
            scores = scores + bias.unsqueeze(0)
        y = m.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, 4, c))
        y = y.view(n, h // 2, w // 2, 2, 2, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)
        return x + (y.roll((1, 1), (2, 3)) if shift else y)

    c = at.channels
    return made(
        "Windows", forward, qkv=nn.Linear(c, 3 * c), out=nn.Linear(c, c), heads=heads,
        scale=(c // heads) ** -0.5, table=parameter(9, heads),
        index=buffer(torch.tensor([random.randrange(9) for _ in range(16)]).view(4, 4)),
    ), at  # fmt: skip


@block("maps")
def to_tokens(random: Random, at: Layout) -> Made:
    if at.points > 64:
        return None
    ways: list[Any] = [
        lambda _, x: x.flatten(2).transpose(1, 2),
        lambda _, x: x.view(x.shape[0], x.shape[1], -1).permute(0, 2, 1).contiguous(),
        lambda _, x: x.movedim(1, -1).flatten(1, -2),
    ]
    return made("ToTokens", random.choice(ways)), Layout("tokens", at.channels, (at.points,))


@block("maps")
def to_vector(random: Random, at: Layout) -> Made:
    c, p = at.channels, at.points
    ways: dict[str, tuple[Any, int]] = {
        "mean": (lambda m, x: x.mean(m.over), c),
        "max": (lambda m, x: x.amax(m.over), c),
        "moments": (lambda m, x: torch.cat([x.mean(m.over), x.flatten(2).std(2)], 1), 2 * c),
    }
    if c * p <= 512:
        ways["flatten"] = (lambda _, x: x.flatten(1), c * p)
        ways["view"] = (lambda m, x: x.reshape(-1, m.features), c * p)
        ways["last"] = (lambda m, x: x.permute(m.there).flatten(1), c * p)
    if c <= 12:
        ways["bilinear"] = (lambda _, x: _products(x).flatten(1), c * c)
    forward, features = ways[random.choice(list(ways))]
    return made("ToVector", forward, over=spatial(at), there=last(at), features=features), Layout(
        "vector", features
    )


def _products(x: Tensor) -> Tensor:
    y = x.flatten(2)
    return y @ y.mT / y.shape[-1]
