"""One order for every step down every ladder."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shrink.core.groups import ChannelGroups
from shrink.plan.ladder import Ladders

_COLLAPSED = 0.1  # share of a group below which it gives way only when all others have, too
_TIE = 1e-3  # of the distance between two units


def rank_units(
    groups: ChannelGroups, importance: NDArray[np.float64], ranking: str
) -> list[NDArray[np.float64]]:
    """Say at which pruning ratio of its peers each unit goes.

    The peers are the units of its group (`local`), of all groups (`global`), or of the groups that
    play the same role in equal blocks (`isomorphic`).

    Args:
        groups: what can be removed.
        importance: shape (units,); higher survives.
        ranking: `"local"`, `"global"` or `"isomorphic"`.

    Returns:
        Per group an array of shape (size,) in (0, 1), falling: the share of all peers that are
        less important than the group's most important unit, its second, ... (means over parts).

    Source: isomorphic ranking, Fang et al., ECCV 2024 (arXiv:2407.04616), section 3.
    """
    own = [(group.size - np.arange(group.size) - 0.5) / group.size for group in groups.groups]
    curves = [np.sort(importance[group.parts], axis=1).mean(axis=0) for group in groups.groups]
    peers: dict[str, list[int]] = {}
    for index, group in enumerate(groups.groups):
        peers.setdefault(group.structure if ranking == "isomorphic" else "", []).append(index)
    shares = list(own)
    for indices in peers.values():
        # equal importance: from every group in proportion
        ascending = np.concatenate([own[i][::-1] for i in indices])
        order = np.lexsort((ascending, np.concatenate([curves[i] for i in indices])))
        share = np.empty(len(order))
        share[order] = (np.arange(len(order)) + 0.5) / len(order)
        ends = np.cumsum([len(own[i]) for i in indices])[:-1]
        for index, part in zip(indices, np.split(share, ends), strict=True):
            shares[index] = part[::-1]
    if ranking == "local":  # importance decides only which of equally large groups goes first
        return [mine + _TIE * all_ / len(mine) for mine, all_ in zip(own, shares, strict=True)]
    return shares


def place_steps(
    groups: ChannelGroups, ladders: Ladders, shares: Sequence[NDArray[np.float64]]
) -> list[NDArray[np.float64]]:
    """Say at which pruning ratio each component leaves each of its levels for the next.

    A step belongs halfway between its counts. Steps of nested groups (dims inside a head) come
    after those of all others, and steps below a tenth of a group after both.

    Args:
        groups: what can be removed.
        ladders: the admissible counts.
        shares: `rank_units` by group.

    Returns:
        Per component an array of shape (levels,), not falling: its position 0 is 0, and position l
        that of the step from level l - 1 to level l. The whole part is the class of the step.
    """
    places = []
    for component in ladders.members:
        place = np.zeros(max(0, int(ladders.lengths[ladders.component[component[0]]]) - 1))
        collapsed = np.zeros(len(place), dtype=np.bool_)
        for index in component:
            counts = ladders.of(index)
            middle = (counts[:-1] + counts[1:]) / 2
            share, last = shares[index], groups.groups[index].size - 1
            above = np.clip(np.ceil(middle).astype(np.int64) - 1, 0, last)
            below = np.clip(middle.astype(np.int64), 0, last)
            place += (share[above] + share[below]) / (2 * len(component))
            collapsed |= counts[1:] < _COLLAPSED * groups.groups[index].size
        nested = all(groups.groups[index].nested for index in component)
        place = np.where(collapsed, place + 2, place + nested)
        places.append(np.concatenate([[0.0], np.maximum.accumulate(place)]))
    return places
