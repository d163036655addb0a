"""Hand-made coupled channels: chains of linear layers."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from shrink.core.groups import Axis, Balance, ChannelGroup, ChannelGroups, Frozen, Polynomial


def chain(
    sizes: Sequence[int],
    *,
    parts: Sequence[int] = (),
    strides: Sequence[int] = (),
    nested: Sequence[int] = (),
    structures: Sequence[str] = (),
    balances: Sequence[Balance] = (),
    frozen: Sequence[Frozen] = (),
) -> ChannelGroups:
    """Couple the rows of `layer{i}.weight` with the columns of `layer{i + 1}.weight`.

    Group i has `sizes[i]` units in each of `parts[i]` parts; `nested` lists groups.
    """
    groups, axes, first = [], [], 0
    for i, size in enumerate(sizes):
        n = parts[i] if parts else 1
        units = np.arange(first, first + n * size)
        first += n * size
        ends = (f"layer{i}.weight", 0), (f"layer{i}.bias", 0), (f"layer{i + 1}.weight", 1)
        axes += [Axis(name, dim, n * size, (units,)) for name, dim in ends]
        groups.append(
            ChannelGroup(
                name=f"layer{i}.weight:0",
                parts=units.reshape(n, size),
                axes=ends,
                structure=structures[i] if structures else "linear",
                nested=i in nested,
                stride=strides[i] if strides else 1,
            )
        )
    return couple(axes, groups, balances=balances, frozen=frozen)


def couple(
    axes: Sequence[Axis],
    groups: Sequence[ChannelGroup],
    *,
    balances: Sequence[Balance] = (),
    frozen: Sequence[Frozen] = (),
) -> ChannelGroups:
    """Put axes and groups together; units are numbered from 0."""
    count = sum(group.parts.size for group in groups)
    group_of = np.full(count + 1, -1)
    for i, group in enumerate(groups):
        group_of[group.parts] = i
    return ChannelGroups(
        unit_count=count,
        axes=tuple(axes),
        groups=tuple(groups),
        balances=tuple(balances),
        frozen=tuple(frozen),
        values={},
        group_of=group_of,
    )


def shapes(
    groups: ChannelGroups, *, inputs: int = 3, outputs: int = 10
) -> dict[str, tuple[int, ...]]:
    """Give the shapes of the tensors of `chain`."""
    widths = [inputs, *(group.parts.size for group in groups.groups), outputs]
    named: dict[str, tuple[int, ...]] = {}
    for i, (before, after) in enumerate(pairwise(widths)):
        named[f"layer{i}.weight"] = (after, before)
        named[f"layer{i}.bias"] = (after,)
    return named


def params(
    groups: ChannelGroups, *, inputs: int = 3, outputs: int = 10
) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
    """Count the parameters of `chain` exactly, as a function of counts per part."""
    ends = [-1, *range(len(groups.groups)), -1]
    scale = [inputs, *(len(group.parts) for group in groups.groups), outputs]
    terms: list[tuple[float, tuple[int, int]]] = []
    for i in range(len(ends) - 1):
        terms.append((scale[i] * scale[i + 1], (ends[i], ends[i + 1])))
        terms.append((scale[i + 1], (-1, ends[i + 1])))
    polynomial = Polynomial(
        np.array([coefficient for coefficient, _ in terms], dtype=np.float64),
        np.array([factors for _, factors in terms]),
        np.zeros(len(terms), dtype=np.int64),
        1,
    )
    return lambda counts: polynomial(counts)[..., 0]


def random_importance(groups: ChannelGroups, seed: int = 0) -> NDArray[np.float64]:
    """Draw importance in [0, 1)."""
    return np.random.default_rng(seed).random(groups.unit_count)
