"""Small random networks that couple channels in every way real ones do."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional


class Residual(nn.Module):
    """A block added to its input."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Concat(nn.Module):
    """A block's output beside its input."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.body(x), x], 1)


class Branches(nn.Module):
    """Channels cut into parts, each with a block of its own, and joined in another order."""

    def __init__(self, sizes: list[int], parts: list[nn.Module]) -> None:
        super().__init__()
        self.sizes = sizes
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        cut = x.split(self.sizes, 1)
        return torch.cat([m(t) for m, t in zip(self.parts, cut, strict=True)][::-1], 1)


class Gate(nn.Module):
    """One half of the channels gates the other (GLU)."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        return a * torch.sigmoid(b)


class Shuffle(nn.Module):
    """Channel shuffle as networks write it: view, transpose, flatten."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x = x.view(n, self.groups, c // self.groups, h, w).transpose(1, 2).contiguous()
        return x.view(n, c, h, w)


class SqueezeExcite(nn.Module):
    """Channels gated by their means."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, squeezed, 1)
        self.up = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = functional.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(self.up(functional.relu(self.down(pooled))))


class Scale(nn.Module):
    """One factor per channel (LayerScale)."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(shape) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Twice(nn.Module):
    """One module called twice."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(functional.relu(self.body(x)))


class ChannelsLast(nn.Module):
    """A block over the last dimension of what is an image outside (ConvNeXt)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class FusedAttention(nn.Module):
    """Attention from one projection, viewed as (3, heads, head_dim)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.head_dim = dim // heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        y = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).reshape(b, n, c))


class SeparateAttention(nn.Module):
    """Attention from three projections, written out as matrix products."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads) ** -0.5
        self.q, self.k, self.v, self.out = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = (
            m(x).view(b, n, self.heads, -1).transpose(1, 2) for m in (self.q, self.k, self.v)
        )
        weights = (q @ k.transpose(-2, -1) * self.scale).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).flatten(2))


class PackedAttention(nn.Module):
    """Attention by torch's own module."""

    def __init__(self, dim: int, heads: int, bias: bool) -> None:  # noqa: FBT001  # as torch has it
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, bias=bias, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class GatedLinear(nn.Module):
    """A SwiGLU feed-forward block."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(dim, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.up(x).chunk(2, -1)
        return self.down(functional.silu(gate) * value)


class Tokens(nn.Module):
    """Patches as tokens, with a class token and positions."""

    def __init__(self, dim: int, patches: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, dim, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, dim))
        self.position = nn.Parameter(torch.randn(1, patches + 1, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        return torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position


class Pick(nn.Module):
    """The class token, or the mean of all tokens."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0] if self.how == "token" else x.mean(1)


class TwoOutputs(nn.Module):
    """Two heads on one trunk; a dict of outputs."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first = first
        self.second = second

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"first": self.first(x), "second": self.second(x)}


def _width(random: Random) -> int:
    return random.choice([4, 8, 12, 16])


def _norm(random: Random, channels: int) -> nn.Module:
    return random.choice([nn.BatchNorm2d, nn.BatchNorm2d, lambda _: nn.Identity()])(channels)


def _conv(random: Random, c_in: int, c_out: int, kernel: int = 3, **options: int) -> nn.Module:
    conv = nn.Conv2d(
        c_in, c_out, kernel, padding=kernel // 2, bias=random.random() < 0.5, **options
    )  # type: ignore[arg-type]
    return nn.Sequential(conv, _norm(random, c_out))


Made = tuple[nn.Module, int]


def plain(random: Random, c: int) -> Made:
    out = _width(random)
    activation = random.choice([nn.ReLU(inplace=True), nn.GELU(), nn.PReLU(), nn.PReLU(out)])
    return nn.Sequential(_conv(random, c, out), activation), out


def residual(random: Random, c: int) -> Made:
    hidden = _width(random)
    body = nn.Sequential(_conv(random, c, hidden), nn.ReLU(), _conv(random, hidden, c))
    return Residual(body), c


def bottleneck(random: Random, c: int) -> Made:
    hidden, groups = _width(random), random.choice([1, 2, 4])
    middle = _conv(random, hidden, hidden, groups=groups)
    body = nn.Sequential(
        _conv(random, c, hidden, 1), nn.ReLU(), middle, nn.ReLU(), _conv(random, hidden, c, 1)
    )
    return Residual(body), c


def dense(random: Random, c: int) -> Made:
    growth = _width(random)
    return Concat(nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(), _conv(random, c, growth))), c + growth


def concat_residual(random: Random, c: int) -> Made:
    growth = _width(random)
    return nn.Sequential(
        Concat(_conv(random, c, growth)), Residual(_conv(random, c + growth, c + growth, 1))
    ), c + growth


def branches(random: Random, c: int) -> Made:
    cut = random.randrange(1, c)
    outs = [_width(random), _width(random)]
    ways = [_conv(random, n, o) for n, o in zip((cut, c - cut), outs, strict=True)]
    return Branches([cut, c - cut], ways), sum(outs)


def gate(random: Random, c: int) -> Made:
    out = _width(random)
    return nn.Sequential(_conv(random, c, 2 * out), Gate()), out


def shuffle(random: Random, c: int) -> Made:
    out, groups = _width(random), random.choice([2, 4])
    return nn.Sequential(
        _conv(random, c, out, 1),
        nn.ReLU(),
        random.choice([Shuffle, nn.ChannelShuffle])(groups),
        _conv(random, out, out, groups=random.choice([1, groups, out])),
    ), out


def depthwise(random: Random, c: int) -> Made:
    hidden, out = _width(random), _width(random)
    times = random.choice([1, 1, 2])
    return nn.Sequential(
        _conv(random, c, hidden, 1),
        nn.ReLU6(),
        _conv(random, hidden, times * hidden, groups=hidden),
        nn.Hardswish(),
        _conv(random, times * hidden, out, 1),
    ), out


def grouped(random: Random, c: int) -> Made:
    hidden, out, groups = _width(random), _width(random), random.choice([2, 4])
    return nn.Sequential(
        _conv(random, c, hidden, 1), nn.ReLU(), _conv(random, hidden, out, groups=groups)
    ), out


def squeeze_excite(random: Random, c: int) -> Made:
    out = _width(random)
    return nn.Sequential(_conv(random, c, out), SqueezeExcite(out, _width(random))), out


def scaled(random: Random, c: int) -> Made:
    body = nn.Sequential(
        _conv(random, c, c, groups=c), _conv(random, c, _width(random), 1), nn.GELU()
    )
    hidden = body[1][0].out_channels
    return Residual(nn.Sequential(body, _conv(random, hidden, c, 1), Scale((c, 1, 1)))), c


def transposed(random: Random, c: int) -> Made:
    out = _width(random)
    return nn.Sequential(nn.ConvTranspose2d(c, out, 2, 2), nn.ReLU(), nn.MaxPool2d(2)), out


def shared(random: Random, c: int) -> Made:
    return Twice(_conv(random, c, c)), c


def pool(random: Random, c: int) -> Made:
    return random.choice([nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(3, 1, 1), nn.Dropout(0.1)]), c


def group_norm(random: Random, c: int) -> Made:
    out, groups = _width(random), random.choice([1, 2, 4])
    return nn.Sequential(_conv(random, c, out), nn.GroupNorm(groups, out), nn.SiLU()), out


def convnext(random: Random, c: int) -> Made:
    hidden = _width(random)
    body = nn.Sequential(nn.LayerNorm(c), nn.Linear(c, hidden), nn.GELU(), nn.Linear(hidden, c))
    return Residual(ChannelsLast(body)), c


def pixel_shuffle(random: Random, c: int) -> Made:
    out = random.choice([4, 8])
    return nn.Sequential(_conv(random, c, 4 * out), nn.PixelShuffle(2), nn.AvgPool2d(2)), out


IMAGE_BLOCKS: dict[str, Callable[[Random, int], Made]] = {
    f.__name__: f
    for f in (
        plain, residual, bottleneck, dense, concat_residual, branches, gate, shuffle, depthwise,
        grouped, squeeze_excite, scaled, transposed, shared, pool, group_norm, convnext,
        pixel_shuffle,
    )
}  # fmt: skip


def _attended(kind: Callable[..., nn.Module]) -> Callable[[Random, int], nn.Module]:
    def make(random: Random, dim: int) -> nn.Module:
        options = {"bias": random.random() < 0.5} if kind is PackedAttention else {}
        return kind(dim, random.choice([1, 2, 4]), **options)

    return make


def _feed_forward(random: Random, dim: int) -> nn.Module:
    hidden = _width(random)
    return nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(0.1), nn.Linear(hidden, dim))


TOKEN_BLOCKS: dict[str, Callable[[Random, int], nn.Module]] = {
    "fused_attention": _attended(FusedAttention),
    "separate_attention": _attended(SeparateAttention),
    "packed_attention": _attended(PackedAttention),
    "feed_forward": _feed_forward,
    "gated_linear": lambda random, dim: GatedLinear(dim, _width(random)),
    "shared_linear": lambda _, dim: Twice(nn.Linear(dim, dim)),
}


@dataclass(frozen=True)
class Network:
    """How to make a network: the same description makes the same one.

    Args:
        blocks: names of blocks, of `IMAGE_BLOCKS` or of `TOKEN_BLOCKS`.
        head: what follows the blocks.
        norms: whether token blocks have a LayerNorm before them.
        seed: of sizes and weights.
    """

    blocks: tuple[str, ...]
    head: str
    norms: bool
    seed: int

    @property
    def of_tokens(self) -> bool:
        return self.blocks[0] in TOKEN_BLOCKS

    @property
    def normalises_channels(self) -> bool:
        """Tell whether a norm's statistics depend on which channels there are."""
        spans = {"group_norm", "convnext"} & set(self.blocks)
        return bool(spans) or (self.of_tokens and self.norms)

    def build(self) -> nn.Module:
        """Make the network, leaving the global random state as it was."""
        random = Random(self.seed)  # noqa: S311  # nothing is secret
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model = self._tokens(random) if self.of_tokens else self._image(random)
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm):
                    nn.init.uniform_(module.weight, 0.5, 1.5)
                    nn.init.uniform_(module.bias, -0.5, 0.5)
                if isinstance(module, nn.BatchNorm2d):
                    nn.init.uniform_(module.running_mean, -0.5, 0.5)
                    nn.init.uniform_(module.running_var, 0.5, 1.5)
        return model.eval()

    def inputs(self, batch: int = 2) -> Tensor:
        return torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(self.seed))

    def _image(self, random: Random) -> nn.Module:
        channels = _width(random)
        layers: list[nn.Module] = [nn.Sequential(_conv(random, 3, channels), nn.ReLU())]
        for name in self.blocks:
            block, channels = IMAGE_BLOCKS[name](random, channels)
            layers.append(block)
        pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        wide = [nn.AvgPool2d(4), nn.Flatten(), nn.Linear(4 * channels, 5)]
        heads = {
            "pooled": lambda: nn.Sequential(*pooled, nn.Linear(channels, 5)),
            "flat": lambda: nn.Sequential(*wide),
            "convolution": lambda: nn.Conv2d(channels, 5, 1),
            "two": lambda: TwoOutputs(
                nn.Sequential(*wide), nn.Sequential(nn.Conv2d(channels, 6, 1), nn.Sigmoid())
            ),
        }
        return nn.Sequential(*layers, heads[self.head]())

    def _tokens(self, random: Random) -> nn.Module:
        dim = random.choice([8, 16])
        layers: list[nn.Module] = [Tokens(dim, 4)]
        for name in self.blocks:
            norm = [nn.LayerNorm(dim)] if self.norms else []
            layers.append(Residual(nn.Sequential(*norm, TOKEN_BLOCKS[name](random, dim))))
        norm = [nn.LayerNorm(dim)] if self.norms else []
        return nn.Sequential(*layers, *norm, Pick(self.head), nn.Linear(dim, 5))


def networks() -> st.SearchStrategy[Network]:
    """Draw networks of one to four blocks."""
    seeds = st.integers(0, 2**16)
    image = st.builds(
        Network,
        st.lists(st.sampled_from(list(IMAGE_BLOCKS)), min_size=1, max_size=4).map(tuple),
        st.sampled_from(["pooled", "flat", "convolution", "two"]),
        st.just(value=True),
        seeds,
    )
    tokens = st.builds(
        Network,
        st.lists(st.sampled_from(list(TOKEN_BLOCKS)), min_size=1, max_size=3).map(tuple),
        st.sampled_from(["token", "mean"]),
        st.booleans(),
        seeds,
    )
    return st.one_of(image, image, tokens)
