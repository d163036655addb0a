"""The counts that groups may have: from all units down to a floor, in aligned steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np
from numpy.typing import NDArray

from shrink.core.groups import Balance, ChannelGroup, ChannelGroups

Counts = NDArray[np.int64]

_BALANCED_LEVELS = 64  # most levels looked for where counts of several groups must agree


@dataclass(frozen=True, eq=False)
class Ladders:
    """Admissible counts of every *component*: groups that balances tie together, or one group.

    Level 0 of a component keeps everything; every further level keeps less.

    Args:
        members: group indices of each component, ascending.
        component: component of each group, shape (groups,).
        lengths: number of levels of each component.
        offsets: where each group's counts begin in `counts`, shape (groups,).
        counts: kept units per part, level by level, group after group.
    """

    members: tuple[tuple[int, ...], ...]
    component: Counts
    lengths: Counts
    offsets: Counts
    counts: Counts

    def at(self, levels: Counts) -> Counts:
        """Return kept counts, shape (..., groups), at `levels` of shape (..., components)."""
        result: Counts = self.counts[self.offsets + levels[..., self.component]]
        return result

    def of(self, group: int) -> Counts:
        """Return the counts of one group from its first level to its last."""
        first = self.offsets[group]
        return self.counts[first : first + self.lengths[self.component[group]]]


def find_components(groups: ChannelGroups) -> tuple[tuple[int, ...], ...]:
    """Partition the groups into those whose counts depend on each other."""
    root = list(range(len(groups.groups)))

    def find(group: int) -> int:
        while root[group] != group:
            root[group] = root[root[group]]
            group = root[group]
        return group

    for balance in groups.balances:
        first, *rest = _net_weights(balance) or (0,)
        for group in rest:
            low, high = sorted((find(first), find(group)))
            root[high] = low
    members: dict[int, list[int]] = {}
    for group in range(len(groups.groups)):
        members.setdefault(find(group), []).append(group)
    return tuple(tuple(component) for component in members.values())


def build_ladders(groups: ChannelGroups, *, align: int, min_keep: int = 1) -> Ladders:
    """List the admissible counts of every component.

    Args:
        groups: what can be removed, and which counts must agree.
        align: stored channels come out as multiples of this, or stay whole.
        min_keep: units that every part of every group keeps at least.
    """
    members = find_components(groups)
    balances: dict[int, list[dict[int, int]]] = {}  # by their first group
    for balance in groups.balances:
        weights = _net_weights(balance)
        if weights:
            balances.setdefault(next(iter(weights)), []).append(weights)
    solved: dict[tuple[object, ...], Counts] = {}  # repeated blocks share their ladders

    ladders: list[Counts] = []  # per component: (levels, members)
    for component in members:
        sizes = np.array([groups.groups[g].size for g in component])
        steps = np.array([_step(groups.groups[g], align) for g in component])
        rows = _balance_rows(component, balances)
        floors = np.array([max(groups.groups[g].least, min_keep) for g in component])
        floors = np.minimum(sizes, floors)
        key = (*(a.tobytes() for a in (sizes, steps, floors)), tuple(map(tuple, rows.tolist())))
        if key not in solved:
            solved[key] = (
                _balanced_ladder(sizes, steps, floors, rows)
                if len(component) > 1
                else _single_ladder(int(sizes[0]), int(steps[0]), int(floors[0]))
            )
        ladders.append(solved[key])

    component_of = np.zeros(len(groups.groups), dtype=np.int64)
    columns: dict[int, Counts] = {}
    for index, component in enumerate(members):
        component_of[list(component)] = index
        columns |= {g: ladders[index][:, i] for i, g in enumerate(component)}
    flat = [columns[g] for g in range(len(groups.groups))]
    starts = np.cumsum([0, *(len(column) for column in flat)])
    return Ladders(
        members=members,
        component=component_of,
        lengths=np.array([len(ladder) for ladder in ladders], dtype=np.int64),
        offsets=starts[:-1].astype(np.int64),
        counts=np.concatenate(flat) if flat else np.zeros(0, dtype=np.int64),
    )


def _step(group: ChannelGroup, align: int) -> int:
    """Units per aligned step: a whole head of 64 channels is aligned to 8 by itself."""
    return align // gcd(align, group.stride)


def _net_weights(balance: Balance) -> dict[int, int]:
    """Return group -> weight, left minus right, without the groups that cancel out."""
    weights: dict[int, int] = {}
    for group, weight in balance.left:
        weights[group] = weights.get(group, 0) + weight
    for group, weight in balance.right:
        weights[group] = weights.get(group, 0) - weight
    return {group: weight for group, weight in weights.items() if weight}


def _balance_rows(
    component: Sequence[int], balances: Mapping[int, Sequence[Mapping[int, int]]]
) -> NDArray[np.int64]:
    """Write the balances among `component` as rows of a matrix whose product with counts is 0."""
    own = [weights for group in component for weights in balances.get(group, ())]
    table = [[weights.get(group, 0) for group in component] for weights in own]
    return np.array(table, dtype=np.int64).reshape(len(own), len(component))


def _single_ladder(size: int, step: int, floor: int) -> Counts:
    """List the counts of one group on its own; shape (levels, 1)."""
    lowest = -(-floor // step) * step
    aligned = np.arange((size - 1) // step * step, lowest - 1, -step, dtype=np.int64)
    return np.concatenate([[size], aligned]).astype(np.int64)[:, None]


def _balanced_ladder(
    sizes: Counts, steps: Counts, floors: Counts, rows: NDArray[np.int64]
) -> Counts:
    """List counts that satisfy every balance, near equal shares of all members; (levels, members).

    Rounded members balance by themselves where each balance has a sum to derive from the rest; an
    integer program finds the others.
    """
    lowest = -(-floors // steps) * steps
    whole = lowest > sizes  # no aligned count between floor and size
    steps, lowest = np.where(whole, sizes, steps), np.where(whole, sizes, lowest)
    single = np.ones_like(steps)
    programs = (
        _Program(rows, steps, lowest),
        _Program(rows, single, floors, side_steps=steps),  # align at least the sums
        _Program(rows, single, floors),
    )
    sums = _find_sums(rows, sizes)
    levels = [sizes]
    for share in _shares(sizes, steps):
        wanted = sizes.astype(np.float64) * share
        previous = levels[-1]
        rounded = np.rint(wanted / steps).astype(np.int64) * steps
        rounded = np.clip(rounded, lowest, previous // steps * steps)
        for row, member in sums:
            rounded[member] -= rows[row] @ rounded * rows[row, member]
        balanced = not (rows @ rounded).any() and not (rounded % steps).any()
        balanced &= bool(((lowest <= rounded) & (rounded <= previous)).all())
        solutions = (program.nearest(wanted, sizes, previous) for program in programs)
        counts = rounded if balanced else next((x for x in solutions if x is not None), None)
        if counts is not None and (counts < previous).any():
            levels.append(counts)
    return np.stack(levels)


def _shares(sizes: Counts, steps: Counts) -> NDArray[np.float64]:
    """List the shares to look for balanced counts at: those of the member with most steps."""
    finest = int(np.argmax(sizes // steps))
    size, step = int(sizes[finest]), int(steps[finest])
    if size // step > _BALANCED_LEVELS:
        return np.arange(_BALANCED_LEVELS - 1, -1, -1) / _BALANCED_LEVELS
    return np.arange((size - 1) // step * step, -1, -step) / size


def _find_sums(rows: NDArray[np.int64], sizes: Counts) -> list[tuple[int, int]]:
    """Pair balances with a member that they determine, in an order in which all can be derived."""
    sums: list[tuple[int, int]] = []
    left = list(range(len(rows)))
    while left:
        once = (rows[left] != 0).sum(axis=0) == 1  # members of no other balance that is left
        found = [
            (row, int(np.argmax(np.where(usable, sizes, -1))))
            for row in left
            if (usable := once & (np.abs(rows[row]) == 1)).any()
        ]
        if not found:
            break
        sums.append(found[0])
        left.remove(found[0][0])
    return sums[::-1]


@dataclass(frozen=True, eq=False)
class _Program:
    """Counts that balance, as an integer program.

    Args:
        rows: balances, shape (balances, members); their product with the counts is 0.
        steps: counts are multiples of these, shape (members,).
        floors: lowest counts, shape (members,).
        side_steps: the left side of every balance is a multiple of its members' largest one.
    """

    rows: NDArray[np.int64]
    steps: Counts
    floors: Counts
    side_steps: Counts | None = None

    def nearest(
        self, wanted: NDArray[np.float64], sizes: Counts, ceilings: Counts
    ) -> Counts | None:
        """Return the counts nearest to `wanted`, relative to `sizes`; None where there are none."""
        from scipy.optimize import (  # noqa: PLC0415 (half a second that few models need)
            Bounds,
            LinearConstraint,
            milp,
        )

        n = len(sizes)
        sides = len(self.rows) if self.side_steps is not None else 0
        # variables: counts in steps (n), distance from `wanted` (n), left sides in steps (sides)
        width = 2 * n + sides
        balance = np.zeros((len(self.rows), width))
        balance[:, :n] = self.rows * self.steps
        distance = np.zeros((2 * n, width))
        distance[:n, :n], distance[n:, :n] = np.diag(self.steps), -np.diag(self.steps)
        distance[:n, n : 2 * n] = distance[n:, n : 2 * n] = -np.eye(n)
        constraints = [
            LinearConstraint(balance, 0, 0),
            LinearConstraint(distance, -np.inf, np.concatenate([wanted, -wanted])),
        ]
        if self.side_steps is not None:
            left = np.zeros((sides, width))
            left[:, :n] = np.maximum(self.rows, 0) * self.steps
            for i, row in enumerate(self.rows):
                left[i, 2 * n + i] = -self.side_steps[row != 0].max()
            constraints.append(LinearConstraint(left, 0, 0))
        result = milp(
            np.concatenate([np.zeros(n), 1 / sizes, np.zeros(sides)]),
            integrality=np.concatenate([np.ones(n), np.zeros(n), np.ones(sides)]),
            bounds=Bounds(
                np.concatenate([-(-self.floors // self.steps), np.zeros(n + sides)]),
                np.concatenate([ceilings // self.steps, np.full(n + sides, np.inf)]),
            ),
            constraints=constraints,
        )
        if result.x is None:
            return None
        counts: Counts = np.rint(result.x[:n]).astype(np.int64) * self.steps
        return None if (self.rows @ counts).any() else counts
