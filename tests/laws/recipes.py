"""Recipes of random networks: a seed or a drawn example names one, and parts can be left out."""

from dataclasses import dataclass, replace
from random import Random
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from shrink.core.inputs import Inputs
from tests.laws import maps, tokens, vectors
from tests.laws.blocks import BLOCKS, Layout, conv, made, pointwise, width

FAMILIES = (maps, tokens, vectors)
STARTS = {
    "image": ("maps", (3, 8, 8)),
    "line": ("maps", (2, 16)),
    "volume": ("maps", (2, 4, 4, 4)),
    "words": ("tokens", (6,)),
    "series": ("tokens", (6, 5)),
    "table": ("vector", (6,)),
}
HEADS = ("linear", "linear", "deep", "two", "dict", "features", "pixels", "tied")
VOCABULARY = 11


@dataclass(frozen=True)
class Recipe:
    """How to make a network: the same recipe makes the same one.

    Args:
        start: of `STARTS`.
        blocks: names of blocks and their seeds; those that do not fit where they stand are left
            out, so that any part of a recipe is a recipe.
        head: of `HEADS`.
        second: what a second input does: `""` (there is none), `"condition"`, `"context"`.
        named: whether inputs are keyword arguments.
        seed: of weights and of what is left to draw.
    """

    start: str
    blocks: tuple[tuple[str, int], ...]
    head: str
    second: str
    named: bool
    seed: int

    def build(self) -> nn.Module:
        """Make the network, leaving the global random state as it was."""
        random = Random(self.seed)  # noqa: S311  # nothing is secret
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            stem, at = _stem(random, self.start)
            layers = [stem]
            if self.second:
                layers.append(_second(random, self.second, at))
            for name, seed in self.blocks:
                make = BLOCKS[at.kind].get(name)
                found = make(Random(seed), at) if make else None  # noqa: S311
                if found is not None:
                    layers.append(found[0])
                    at = found[1]
            head = _head(random, self.head, at, stem)
            model = _network(stem, layers[1:], head, self.second)
            _randomise(model)
        return model.eval()

    def inputs(self, batch: int = 2, seed: int = 0) -> Inputs:
        generator = torch.Generator().manual_seed(self.seed + 7919 * seed)
        shape = STARTS[self.start][1]
        if self.start == "words":
            x = torch.randint(VOCABULARY, (batch, *shape), generator=generator)
            x[0, :2] = torch.tensor([0, VOCABULARY - 1])
        else:
            x = torch.randn(batch, *shape, generator=generator)
        given = {"x": x}
        if self.second:
            given["z"] = torch.randn(batch, 5, generator=generator)
        return Inputs((), given) if self.named else Inputs(tuple(given.values()))


def _stem(random: Random, start: str) -> tuple[nn.Module, Layout]:
    kind, shape = STARTS[start]
    c = random.choice([8, 8, 12, 16])
    if start == "words":
        return nn.Embedding(VOCABULARY, c), Layout(kind, c, shape)
    if kind == "maps":
        at = Layout(kind, shape[0], shape[1:])
        return nn.Sequential(conv(random, at, c), pointwise(random)), at.to(c)
    return nn.Linear(shape[-1], c), Layout(kind, c, shape[:-1])


def _second(random: Random, how: str, at: Layout) -> nn.Module:
    """Take a second input in: scale and shift (FiLM), or add its features as context."""
    c, ones = at.channels, at.dims if at.kind == "maps" else 0
    hidden = width(random)

    def forward(m: Any, x: Tensor, z: Tensor) -> Tensor:
        y = m.read(z)
        if at.kind == "tokens":
            y = y.unsqueeze(1)
        y = y.reshape(*y.shape, *(1,) * ones)
        channel = -1 if at.kind == "tokens" else 1
        if how == "condition":
            scale, shift = y.chunk(2, channel)
            return x * (1 + scale) + shift
        return x + y

    outs = 2 * c if how == "condition" else c
    read = nn.Sequential(nn.Linear(5, hidden), pointwise(random), nn.Linear(hidden, outs))
    return made("Second", forward, read=read)


def _head(random: Random, how: str, at: Layout, stem: nn.Module) -> nn.Module:
    c = at.channels
    over = {"maps": tuple(range(2, 2 + at.dims)), "tokens": (1,), "vector": ()}[at.kind]
    hidden = width(random)

    def pool(x: Tensor) -> Tensor:
        return x.mean(over) if over else x

    def linear(m: Any, x: Tensor) -> Any:
        return m.last(pool(x))

    def two(m: Any, x: Tensor) -> Any:
        x = pool(x)
        return m.last(x), m.other(x).softmax(-1)

    def named(m: Any, x: Tensor) -> Any:
        x = pool(x)
        return {"first": m.last(x), "rest": [m.other(x)]}

    def features(m: Any, x: Tensor) -> Any:
        y = m.up(pool(x))
        return m.narrow(y.relu()), y  # a removed channel would show

    def pixels(m: Any, x: Tensor) -> Any:
        return m.wide(x.movedim(1, -1) if at.kind == "maps" else x)

    def tied(m: Any, x: Tensor) -> Any:
        return functional.linear(m.project(pool(x)), m.embedding.weight)

    if how == "tied" and not isinstance(stem, nn.Embedding):
        how = "linear"
    if how == "deep":
        body = nn.Sequential(nn.Linear(c, hidden), nn.ReLU(), nn.Linear(hidden, 5))
        return made("Deep", linear, last=body)
    if how == "tied":
        project = nn.Linear(c, stem.embedding_dim)
        return made("Tied", tied, project=project, embedding=stem)
    if how == "features":
        return made("Features", features, up=nn.Linear(c, hidden), narrow=nn.Linear(hidden, 5))
    forward = {"linear": linear, "two": two, "dict": named, "pixels": pixels}[how]
    return made(
        f"Head{how}", forward, last=nn.Linear(c, 5), other=nn.Linear(c, 3), wide=nn.Linear(c, 4)
    )


def _network(stem: nn.Module, layers: list[nn.Module], head: nn.Module, second: str) -> nn.Module:
    def both(m: Any, x: Tensor, z: Tensor) -> Any:
        x = m.layers[0](m.stem(x), z)
        for layer in m.layers[1:]:
            x = layer(x)
        return m.head(x)

    def one(m: Any, x: Tensor) -> Any:
        x = m.stem(x)
        for layer in m.layers:
            x = layer(x)
        return m.head(x)

    held = layers or [nn.Identity()]
    return made("Network", both if second else one, stem=stem, layers=held, head=head)


def _randomise(model: nn.Module) -> None:
    """Leave no statistic, scale or shift at a value that hides a mistake."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        with torch.no_grad():
            if not tensor.is_floating_point():
                continue
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.numel() and (tensor == tensor.flatten()[0]).all():
                tensor.add_(torch.rand_like(tensor) - 0.5 * (tensor == 0))


def from_seed(seed: int) -> Recipe:
    """Draw the recipe that a seed names."""
    random = Random(seed)  # noqa: S311  # nothing is secret
    start = random.choice(["image", "image", "image", *STARTS])
    kind = STARTS[start][0]
    blocks = []
    for _ in range(random.choice([1, 2, 2, 3, 3, 4, 5])):
        name = random.choice(list(BLOCKS[kind]))
        blocks.append((name, random.randrange(2**16)))
        kind = {"to_vector": "vector", "to_tokens": "tokens", "to_maps": "maps"}.get(name, kind)
    return Recipe(
        start,
        tuple(blocks),
        random.choice(HEADS),
        random.choice(["", "", "", "condition", "context"]),
        random.random() < 0.2,
        random.randrange(2**16),
    )


def parts_of(recipe: Recipe) -> st.SearchStrategy[Recipe]:
    """Draw recipes with some of the blocks and options of one: simpler ones first."""
    count = len(recipe.blocks)

    def keep(flags: list[bool], head: str, second: str, *, named: bool) -> Recipe:
        blocks = tuple(b for b, kept in zip(recipe.blocks, flags, strict=True) if kept)
        return replace(recipe, blocks=blocks, head=head, second=second, named=named)

    return st.builds(
        keep,
        st.lists(st.booleans(), min_size=count, max_size=count),
        st.sampled_from(list(dict.fromkeys(["linear", recipe.head]))),
        st.sampled_from(list(dict.fromkeys(["", recipe.second]))),
        named=st.sampled_from([False, recipe.named]) if recipe.named else st.just(value=False),
    )
