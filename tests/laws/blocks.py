"""What random networks are built of: the current layout, the registry of blocks, and parts.

A block takes the layout before it and returns a module with the layout after it, or None where it
does not fit. `maps.py`, `tokens.py` and `vectors.py` hold the blocks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from random import Random
from typing import Any, TypeVar

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Layout:
    """What flows between two blocks, without the batch.

    Args:
        kind: `"maps"` (N, C, *size), `"tokens"` (N, T, C) or `"vector"` (N, C).
        channels: C.
        size: spatial sizes, (T,), or nothing.
    """

    kind: str
    channels: int
    size: tuple[int, ...] = ()

    @property
    def dims(self) -> int:
        return len(self.size)

    @property
    def points(self) -> int:
        return prod(self.size)

    def to(self, channels: int, size: tuple[int, ...] | None = None) -> "Layout":
        return Layout(self.kind, channels, self.size if size is None else size)


Made = tuple[nn.Module, Layout] | None
Make = Callable[[Random, Layout], Made]
BLOCKS: dict[str, dict[str, Make]] = {"maps": {}, "tokens": {}, "vector": {}}
_M = TypeVar("_M", bound=Make)


def block(kind: str, name: str = "") -> Callable[[_M], _M]:
    """Register a block of a layout under the name of its function."""

    def register(make: _M) -> _M:
        BLOCKS[kind][name or make.__name__] = make
        return make

    return register


def made(name: str, forward: Callable[..., Any], **held: Any) -> nn.Module:
    """Make a module of a class of its own that holds modules, tensors and numbers.

    Args:
        forward: called with the module and its inputs.
        held: attributes; a list of modules becomes a ModuleList.
    """
    module: nn.Module = type(name, (nn.Module,), {"forward": forward})()
    for key, value in held.items():
        listed = isinstance(value, list) and value and isinstance(value[0], nn.Module)
        setattr(module, key, nn.ModuleList(value) if listed else value)
    return module


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape) / 2 + 0.1)


def buffer(value: Tensor, *, persistent: bool = True) -> nn.Buffer:
    return nn.Buffer(value, persistent=persistent)


def width(random: Random) -> int:
    return random.choice([4, 6, 8, 8, 12, 16])


def activation(random: Random, channels: int) -> nn.Module:
    """Draw an activation; PReLU has one slope or one per channel (dimension 1)."""
    kinds: list[Callable[[], nn.Module]] = [
        nn.ReLU, lambda: nn.ReLU(inplace=True), nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.ReLU6,
        nn.Hardswish, nn.Softplus, nn.Mish, nn.ELU, nn.SELU, nn.LeakyReLU, nn.Identity, nn.PReLU,
        lambda: nn.PReLU(channels),
    ]  # fmt: skip
    return random.choice(kinds)()


def pointwise(random: Random) -> nn.Module:
    """Draw an activation that does not know its channels."""
    return random.choice([nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid])()


def divisors(n: int, *candidates: int) -> list[int]:
    return [d for d in candidates if n % d == 0]


CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
AVG_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)


def conv(random: Random, at: Layout, out: int, kernel: int = 3, **options: Any) -> nn.Module:
    """Make a convolution that keeps the sizes unless told otherwise."""
    options = {"padding": kernel // 2, "bias": random.random() < 0.6, **options}
    return CONVS[at.dims - 1](at.channels, out, kernel, **options)


def norm(random: Random, at: Layout) -> nn.Module:
    """Draw a norm over dimension 1 of maps."""
    c, d = at.channels, at.dims - 1
    kinds: list[Callable[[], nn.Module]] = [
        lambda: BATCH_NORMS[d](c),
        lambda: BATCH_NORMS[d](c),
        lambda: BATCH_NORMS[d](c, affine=False),
        lambda: nn.GroupNorm(random.choice(divisors(c, 1, 2, 4, c)), c),
        nn.Identity,
        nn.Identity,
    ]
    if at.points > 1:
        kinds.append(lambda: INSTANCE_NORMS[d](c, affine=random.random() < 0.5))
    return random.choice(kinds)()


def last_norm(random: Random, channels: int) -> nn.Module:
    """Draw a norm over the last dimension."""
    return random.choice(
        [nn.LayerNorm, nn.LayerNorm, nn.RMSNorm, lambda c: nn.LayerNorm(c, bias=False), root_mean]
    )(channels)


def root_mean(channels: int) -> nn.Module:
    """Make an RMS norm as language models write it."""

    def forward(m: Any, x: Tensor) -> Tensor:
        return m.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5))

    return made("RootMean", forward, weight=parameter(channels))


def unit(random: Random, at: Layout, out: int, kernel: int = 3, **options: Any) -> nn.Module:
    """Make a convolution, a norm and an activation."""
    return nn.Sequential(
        conv(random, at, out, kernel, **options), norm(random, at.to(out)), activation(random, out)
    )


def draw(random: Random, at: Layout) -> tuple[nn.Module, Layout]:
    """Make a block that fits; of those that do, any."""
    names = list(BLOCKS[at.kind])
    while True:
        found = BLOCKS[at.kind][random.choice(names)](random, at)
        if found is not None:
            return found
