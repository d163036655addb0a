"""From units to channel groups: units that touch the same dimensions in the same way."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from shrink.core.groups import Axis, Balance, ChannelGroup, Units


@dataclass(eq=False)
class Partition:
    """Which group each unit belongs to, and how counts of groups make widths."""

    groups: tuple[ChannelGroup, ...]
    balances: tuple[Balance, ...]
    group_of: Units  # shape (units + 1,); the last entry (unit -1) is -1
    unmet: tuple[int, ...]  # balances that no counts of groups can state


def terms_of(
    arrays: Sequence[Units], group_of: Units, sizes: Sequence[int]
) -> dict[tuple[int, ...], float]:
    """Write the width of a dimension as a sum of products of kept counts.

    Args:
        arrays: unit ids along the dimension, shape (size,) each, -1 where there is none.
        group_of: group of each unit.
        sizes: units per part of each group.

    Returns:
        sorted group indices -> coefficient; the empty tuple is the constant part.
    """
    if not arrays:
        return {}
    kinds = np.stack([group_of[a] for a in arrays])
    if len(kinds) > 1:
        kinds.sort(axis=0)
    base = len(sizes) + 1  # one code per combination of groups; -1 becomes 0
    codes = kinds[0] + 1
    for row in kinds[1:]:
        codes = codes * base + row + 1
    if len(kinds) == 1:
        counts = np.bincount(codes)
        present = np.flatnonzero(counts)
        counts = counts[present]
    else:
        present, counts = np.unique(codes, return_counts=True)
    terms: dict[tuple[int, ...], float] = {}
    for code, count in zip(present.tolist(), counts.tolist(), strict=True):
        factors: tuple[int, ...] = ()
        rest = code
        while rest:
            rest, group = divmod(rest, base)
            factors = (group - 1, *factors) if group else factors
        terms[factors] = terms.get(factors, 0.0) + count / math.prod(sizes[g] for g in factors)
    return terms


def partition(
    outer: NDArray[np.bool_],
    axes: Sequence[Axis],
    dims: Sequence[tuple[Units, ...]],
    balances: Sequence[tuple[tuple[Units, ...], ...]],
    floors: Sequence[tuple[tuple[Units, ...], int]],
) -> Partition:
    """Partition units by the dimensions they touch and how often.

    Args:
        outer: for each unit, whether it is a row that a split made: others lie inside it.
        axes: stored axes that can shrink.
        dims: unit arrays of every different dimension, stored ones included.
        balances: for each balance, for each part, its unit arrays.
        floors: unit arrays of a dimension, and how many of its indices stay at least.
    """
    hashes = np.zeros(len(outer) + 1, dtype=np.uint64)
    marked = [*dims, *(p for parts in balances for p in parts)]
    codes = np.random.default_rng(0).integers(1 << 63, size=len(marked), dtype=np.uint64)
    for code, arrays in zip(codes, marked, strict=True):
        for array in arrays:
            np.add.at(hashes, array.ravel(), code)
    _, first, group_of = np.unique(hashes[:-1], return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))  # groups in order of their first unit
    group_of = np.append(order[group_of], -1).astype(np.int64)
    members = _members(group_of, len(first))
    parents = _merge_parts(balances, group_of, members)
    roots = sorted(set(parents))
    renumber = {root: i for i, root in enumerate(roots)}
    parts_of: list[list[Units]] = [[] for _ in roots]
    for group, units in enumerate(members):
        parts_of[renumber[parents[group]]].append(units)
    merged = np.array([renumber[p] for p in parents] + [-1], dtype=np.int64)
    group_of = merged[group_of]
    sizes = [len(parts[0]) for parts in parts_of]
    stated, unmet = _state(balances, group_of, sizes)
    rows = [bool(outer[parts[0][0]]) for parts in parts_of]
    touched, strides, nested = _axes_of(axes, group_of, sizes, rows)
    least = _least(floors, group_of, sizes)
    groups = tuple(
        ChannelGroup(
            name=_name(touched[i][0], 1 if i in nested else strides[i]),
            parts=np.stack(parts_of[i]),
            axes=tuple(touched[i]),
            structure=_structure(touched[i], sizes[i]),
            nested=i in nested,
            stride=1 if i in nested else strides[i],
            least=least[i],
        )
        for i in range(len(roots))
    )
    return Partition(groups, stated, group_of, unmet)


def _name(axis: tuple[str, int], stride: int) -> str:
    return f"{axis[0]}:{axis[1]}" + (f" in blocks of {stride}" if stride > 1 else "")


def _state(
    balances: Sequence[tuple[tuple[Units, ...], ...]], group_of: Units, sizes: Sequence[int]
) -> tuple[tuple[Balance, ...], tuple[int, ...]]:
    """Write balances as equations of counts; name those that no such equation can state."""
    stated: list[Balance] = []
    unmet: list[int] = []
    for index, parts in enumerate(balances):
        sides = [terms_of([a.ravel() for a in arrays], group_of, sizes) for arrays in parts]
        for left, right in pairwise(sides):
            if left == right:
                continue
            left, right = _reduced(left, right)  # noqa: PLW2901  # the same equation
            linear = all(len(f) == 1 for f in (*left, *right) if f)
            whole = all(float(c).is_integer() for c in (*left.values(), *right.values()))
            if not linear or not whole or left.get((), 0) != right.get((), 0):
                unmet.append(index)
                break
            stated.append(Balance(_side(left), _side(right)))
    return tuple(dict.fromkeys(stated)), tuple(unmet)


def _reduced(
    left: Mapping[tuple[int, ...], float], right: Mapping[tuple[int, ...], float]
) -> tuple[dict[tuple[int, ...], float], dict[tuple[int, ...], float]]:
    """Divide both sides by the factors that all their terms have."""
    shared = set.intersection(*(set(f) for f in (*left, *right)))

    def divide(side: Mapping[tuple[int, ...], float]) -> dict[tuple[int, ...], float]:
        return {tuple(g for g in f if g not in shared): c for f, c in side.items()}

    return divide(left), divide(right)


def _side(terms: Mapping[tuple[int, ...], float]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted((factors[0], int(c)) for factors, c in terms.items() if factors))


def _members(group_of: Units, count: int) -> list[Units]:
    order = np.argsort(group_of[:-1], kind="stable")
    ends = np.cumsum(np.bincount(group_of[:-1], minlength=count))
    return np.split(order, ends[:-1]) if count else []


def _merge_parts(
    balances: Sequence[tuple[tuple[Units, ...], ...]], group_of: Units, members: list[Units]
) -> list[int]:
    """Join groups of which a balance says that they keep equally many: each is one part."""
    parents = list(range(len(members)))

    def root(group: int) -> int:
        while parents[group] != group:
            group = parents[group]
        return group

    for parts in balances:
        alone: list[int] = []
        for arrays in parts:
            group = int(group_of[arrays[0].flat[0]]) if len(arrays) == 1 and arrays[0].size else -1
            if group < 0 or arrays[0].size != len(members[group]):
                break
            if not np.array_equal(np.sort(arrays[0].ravel()), members[group]):
                break
            alone.append(group)
        else:
            roots = sorted({root(g) for g in alone})
            for other in roots[1:]:
                parents[other] = roots[0]
    return [root(g) for g in range(len(members))]


def _axes_of(
    axes: Sequence[Axis], group_of: Units, sizes: Sequence[int], rows: Sequence[bool]
) -> tuple[list[list[tuple[str, int]]], list[int], set[int]]:
    """List the axes of each group, the stored indices that go with one unit, and who is nested."""
    touched: list[list[tuple[str, int]]] = [[] for _ in sizes]
    strides: list[int] = [0] * len(sizes)
    nested: set[int] = set()
    known: dict[tuple[int, ...], dict[tuple[int, ...], float]] = {}
    for axis in axes:
        key = tuple(id(a) for a in axis.units)
        if key not in known:
            known[key] = terms_of(axis.units, group_of, sizes)
            for factors in known[key]:
                if any(rows[g] for g in factors):
                    nested.update(g for g in factors if not rows[g])
        steps: dict[int, float] = {}
        for factors, coefficient in known[key].items():
            for group in factors:
                others = math.prod(sizes[g] for g in factors if g != group)
                steps[group] = steps.get(group, 0.0) + coefficient * others
        for group, step in sorted(steps.items()):
            touched[group].append((axis.tensor, axis.dim))
            if not rows[group] or step > 1:  # an entry per head (a bias table) aligns with nothing
                strides[group] = math.gcd(strides[group], round(step))
    return touched, [max(s, 1) for s in strides], nested


def _least(
    floors: Sequence[tuple[tuple[Units, ...], int]], group_of: Units, sizes: Sequence[int]
) -> list[int]:
    """Share a floor out among the groups whose units stand along a dimension."""
    least = [1] * len(sizes)
    for arrays, count in floors:
        for units in arrays:
            free = units[units >= 0]
            wanted = count - (units.size - free.size)
            if len(arrays) > 1:  # several units decide over one index: none of them may go
                wanted = free.size
            for group in np.unique(group_of[free]).tolist():
                least[group] = max(least[group], -(-sizes[group] * wanted // free.size))
    return least


def _structure(axes: Sequence[tuple[str, int]], size: int) -> str:
    kinds = sorted({f"{re.sub(r'[0-9]+', '*', tensor)}:{dim}" for tensor, dim in axes})
    return f"{size} " + " ".join(kinds)
