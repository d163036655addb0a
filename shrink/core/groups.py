"""Which indices of which tensors live or die together.

A *unit* is the smallest thing that can be removed. Every index of every dimension carries a set of
units and is alive while all of them are. Units are numbered 0, 1, 2, ...; -1 stands for "nothing
here can be removed".
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Units = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Label:
    """Unit ids along one dimension, possibly different ones for every index of other dimensions.

    Args:
        ids: shape (*row sizes, size of the dimension); -1 where nothing can be removed.
        rows: the other dimensions of the tensor that `ids` depends on. With rows the dimension is
            *ragged*: every surviving row keeps equally many indices, each row its own.
    """

    ids: Units
    rows: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Dim:
    """One dimension of one tensor: its size and the units that its indices carry.

    An index is alive while its unit in *every* label is. No labels: the dimension never changes.
    """

    size: int
    labels: tuple[Label, ...] = ()

    def alive(self, kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Mark the surviving indices, shape (size,), of a dimension without ragged labels.

        Args:
            kept: shape (units + 1,); the last entry stands for unit -1 and must be True.
        """
        mask = np.ones(self.size, dtype=np.bool_)
        for label in self.labels:
            mask &= kept[label.ids]
        return mask


@dataclass(frozen=True, eq=False)
class Axis:
    """A dimension of a stored tensor (parameter or buffer) that can shrink.

    Args:
        units: arrays of shape (size,); an index is alive while its unit in every array is
            (-1: always).
    """

    tensor: str
    dim: int
    size: int
    units: tuple[Units, ...]


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Units of one kind: they touch the same axes in the same way.

    Args:
        name: first axis it slices, `layer1.0.conv1.weight:0`.
        parts: unit ids, shape (parts, size). Every part keeps the same *number* of units, each its
            own (conv groups, attention heads); most groups have one part.
        axes: (tensor, dim) of every stored axis that shrinks with the group.
        structure: equal for groups that play the same role in equal blocks (isomorphic ranking).
        nested: True for units inside other units (the dims inside a head, the channels inside a
            conv group): the planner removes the outer ones first.
        stride: stored channels that go with one unit of each part (a whole head: its head_dim), per
            axis at most: what alignment must consider.
        least: units that every part keeps at least.
    """

    name: str
    parts: Units
    axes: tuple[tuple[str, int], ...]
    structure: str
    nested: bool = False
    stride: int = 1
    least: int = 1

    @property
    def size(self) -> int:
        """Units per part."""
        return int(self.parts.shape[1])


@dataclass(frozen=True)
class Balance:
    """Counts that must agree: the sum of `weight * kept(group)` is equal on both sides.

    `kept(group)` is the number of units kept in each part of the group.
    """

    left: tuple[tuple[int, int], ...]
    right: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Frozen:
    """Stored axes that stay whole, and why.

    Args:
        axes: (tensor, dim) of the axes.
        size: indices per axis.
        reason: `"network output"`, `"no rule for aten::foo"`, `"user: keep=head.*"`.
        where: module path and source line of the cause, as far as known.
    """

    axes: tuple[tuple[str, int], ...]
    size: int
    reason: str
    where: str = ""

    @property
    def module(self) -> str:
        """Module path of the cause; empty if it is the model itself or not known."""
        return self.where.partition(" (")[0] if self.where.endswith(")") else self.where

    @property
    def source(self) -> str:
        """`file:line` of the user's code at the cause; empty if not known."""
        return self.where.partition(" (")[2].removesuffix(")")


@dataclass(frozen=True, eq=False)
class Polynomial:
    """Sums of products of kept counts, evaluated for many candidates at once.

    Term t is `coefficients[t] * prod(counts[factors[t]])`; factor index -1 stands for 1.
    Row r of the result is the sum of the terms with `rows[t] == r`.
    """

    coefficients: NDArray[np.float64]
    factors: NDArray[np.int64]
    rows: NDArray[np.int64]
    size: int

    def __call__(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Evaluate at `counts` of shape (..., groups); returns shape (..., size)."""
        padded = np.concatenate([counts, np.ones((*counts.shape[:-1], 1))], axis=-1)
        terms = padded[..., self.factors].prod(axis=-1) * self.coefficients
        out = np.zeros((*counts.shape[:-1], self.size))
        if self.size == 1:
            return terms.sum(axis=-1, keepdims=True)  # type: ignore[no-any-return]  # numpy
        for row in range(self.size):
            out[..., row] = terms[..., self.rows == row].sum(axis=-1)
        return out


@dataclass(frozen=True, eq=False)
class ChannelGroups:
    """Everything the later stages need to know of the coupling of one graph.

    Args:
        unit_count: number of units.
        axes: every stored axis that can shrink.
        groups: what can be removed; disjoint, and together all units.
        balances: constraints between the counts of groups.
        frozen: what cannot, with reasons.
        values: for each graph node, one tuple of `Dim` per tensor it returns.
        group_of: group of each unit, shape (units + 1,); the last entry stands for unit -1.
    """

    unit_count: int
    axes: tuple[Axis, ...]
    groups: tuple[ChannelGroup, ...]
    balances: tuple[Balance, ...]
    frozen: tuple[Frozen, ...]
    values: Mapping[str, tuple[tuple[Dim, ...], ...]]
    group_of: Units
