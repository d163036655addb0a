"""Choosing how many units of each group survive, and which."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from math import ceil, floor, log10
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shrink.core.errors import InputError, PlanError
from shrink.core.groups import ChannelGroups, Frozen
from shrink.plan.budget import SLACK, Budget
from shrink.plan.ladder import Counts, build_ladders
from shrink.plan.options import Options
from shrink.plan.rank import place_steps, rank_units
from shrink.plan.search import CostFunction, Found, Search

_COARSE = 8  # what `auto` begins with
_FINER = (4, 2, 1)
_PLACES = 3  # places an error names per reason


@dataclass(frozen=True, eq=False)
class Choice:
    """What survives.

    Args:
        counts: kept units per part of each group, shape (groups,).
        kept: shape (units + 1,); the last entry stands for unit -1 and is True.
        reached: cost after / cost before.
        finer: groups that `align="auto"` could not leave at multiples of 8 channels (or whole),
            by the multiple they came out with.
        notes: the same as sentences.
    """

    counts: Counts
    kept: NDArray[np.bool_]
    reached: float
    finer: Mapping[str, int]
    notes: tuple[str, ...]


def choose(
    groups: ChannelGroups,
    importance: NDArray[np.float64],
    budget: Budget,
    cost: CostFunction,
    options: Options | None = None,
) -> Choice:
    """Find the counts that meet the budget, and keep the most important units of every group.

    Args:
        groups: what can be removed.
        importance: shape (units,); higher survives. On one scale across groups where the ranking
            compares them.
        budget: what the result may cost; met within [-1 %, 0 %].
        cost: exact cost of kept counts per part, shape (..., groups) -> (...), rising with each.
        options: alignment, ranking and floor; the defaults if None.

    Returns:
        The choice. Ties go to the unit with the lower index, so equal input gives equal plans.

    Raises:
        InputError: importance has the wrong shape.
        PlanError: nothing can be removed, the budget cannot be met, or importance is not finite.
    """
    options = options or Options()
    if importance.shape != (groups.unit_count,):
        raise InputError(
            f"importance has shape {importance.shape} for {groups.unit_count} units",
            where="criterion",
            fix="return one number per unit, numpy array of shape (groups.unit_count,)",
        )
    if not groups.groups:
        raise PlanError(
            f"nothing to prune: {_summarise(groups.frozen)}",
            where="model",
            fix="run `shrink inspect MODEL` for every frozen layer and its reason",
        )
    for group in groups.groups:
        if not np.isfinite(importance[group.parts]).all():
            raise PlanError(
                "importance is NaN or infinite",
                where=group.name,
                fix="check the weights and the calibration data, or use criterion='l2'",
            )

    full = float(cost(np.array([group.size for group in groups.groups], dtype=np.int64)))
    shares = rank_units(groups, importance, options.ranking)

    @cache
    def prepare(multiple: int) -> Search:
        ladders = build_ladders(groups, align=multiple, min_keep=options.min_keep)
        return Search(
            ladders=ladders,
            places=place_steps(groups, ladders, shares),
            cost=cost,
            low=(1 - SLACK) * budget.ratio * full,
            high=budget.ratio * full,
        )

    search = prepare(_COARSE if options.align == "auto" else options.align)
    found = search.run()
    counts, reached = search.ladders.at(found.levels), found.cost
    finer = {}
    if options.align == "auto" and not search.low <= reached <= search.high:
        counts, reached = _search_finer(search, found, prepare)
        finer = _finer_groups(groups, counts)
    if reached < search.low:  # before it is called unreachable
        search = prepare(1 if options.align == "auto" else options.align)
        scattered = search.scatter(search.run())
        if scattered.cost > reached:
            counts, reached = search.ladders.at(scattered.levels), scattered.cost
            finer = _finer_groups(groups, counts) if options.align == "auto" else {}
    if reached > search.high or reached < search.low:
        raise _unreachable(budget, options.align, reached / full, is_floor=reached > search.high)

    names = ", ".join(f"{name} (multiples of {multiple})" for name, multiple in finer.items())
    return Choice(
        counts=counts,
        kept=keep_most_important(groups, importance, counts),
        reached=reached / full,
        finer=finer,
        notes=(f"the budget needed widths that are no multiples of 8: {names}",) if finer else (),
    )


def keep_most_important(
    groups: ChannelGroups, importance: NDArray[np.float64], counts: Counts
) -> NDArray[np.bool_]:
    """Mark the `counts` most important units of every part of every group; shape (units + 1,)."""
    kept = np.ones(groups.unit_count + 1, dtype=np.bool_)
    for group, count in zip(groups.groups, counts, strict=True):
        best_first = np.argsort(-importance[group.parts], axis=1, kind="stable")
        kept[np.take_along_axis(group.parts, best_first[:, count:], axis=1)] = False
    return kept


def _search_finer(
    coarse: Search, found: Found, prepare: Callable[[int], Search]
) -> tuple[Counts, float]:
    """Meet the budget with finer steps: in few groups if the coarse ladders reach below it.

    Args:
        coarse: the search that missed the window.
        found: where it ended.
        prepare: makes the search over ladders that align to a multiple.

    Returns:
        Counts and their cost: in the window, or the closest below it, or the floor.
    """
    best = coarse.ladders.at(found.levels), found.cost
    if found.cost <= coarse.high:
        ceilings = coarse.ladders.at(np.maximum(found.levels - 1, 0))
        for search in map(prepare, _FINER):
            best = _refine(search, best, ceilings)
            if best[1] >= search.low:
                return best
    for search in map(prepare, _FINER):
        found = search.run()
        missed = best[1] > search.high
        if missed or best[1] < found.cost <= search.high:
            best = search.ladders.at(found.levels), found.cost
        if search.low <= best[1] <= search.high:
            break
    return best


def _refine(search: Search, best: tuple[Counts, float], ceilings: Counts) -> tuple[Counts, float]:
    """Raise components of one group, one after another, to counts between two coarse levels.

    The first to be tried is the one that closes the gap by itself; else the one that closes most.
    """
    counts, cost = best
    while cost < search.low:
        candidates: list[Counts] = []
        place: list[float] = []
        for index, component in enumerate(search.ladders.members):
            group = component[0]
            if len(component) > 1:
                continue  # the coarse counts of several groups need not be on the finer ladder
            ladder = search.ladders.of(group)
            for level in np.flatnonzero((ladder > counts[group]) & (ladder < ceilings[group])):
                raised = counts.copy()
                raised[group] = ladder[level]
                candidates.append(raised)
                place.append(float(search.places[index][level]))
        if not candidates:
            break
        costs = search.cost_of(np.stack(candidates))
        within = (costs >= search.low) & (costs <= search.high)
        if within.any():
            chosen = int(np.argmax(np.where(within, place, -np.inf)))
        elif (costs <= search.high).any():
            chosen = int(np.argmax(np.where(costs <= search.high, costs, -np.inf)))
        else:
            break
        counts, cost = candidates[chosen], float(costs[chosen])
    return counts, cost


def _finer_groups(groups: ChannelGroups, counts: Counts) -> dict[str, int]:
    """Return the groups whose stored channels are no multiple of 8, and the multiple they are."""
    finer = {}
    for group, count in zip(groups.groups, counts, strict=True):
        channels = int(count) * group.stride
        if count < group.size and channels % _COARSE:
            finer[group.name] = next(m for m in _FINER if channels % m == 0)
    return finer


def _unreachable(
    budget: Budget, align: int | Literal["auto"], closest: float, *, is_floor: bool
) -> PlanError:
    """Say what cannot be met, the nearest that can, and how to ask for it."""
    where = f"{budget.kind}={budget.ratio:g}"
    if align != "auto" and align > 1:
        fix = "align='auto'"
    elif closest < 1:
        fix = f"{budget.kind}={_round_up(closest)}"
    else:
        fix = "run `shrink inspect MODEL` for what is frozen and why"
    what = (
        f"the smallest network that keeps every layer alive costs {closest:.4g} of the original"
        if is_floor
        else f"no combination of widths costs between {(1 - SLACK) * budget.ratio:.4g} and "
        f"{budget.ratio:g} of the original; the closest below costs {closest:.4g}"
    )
    if align != "auto" and align > 1:
        what += f" at widths that are multiples of {align}"
    return PlanError(what, where=where, fix=fix, closest=closest)


def _round_up(ratio: float) -> float:
    """Round up to four digits: far less than what a met budget may fall short by."""
    digits = 3 - floor(log10(ratio))
    return ceil(ratio * 10.0**digits) / 10.0**digits


def _summarise(frozen: tuple[Frozen, ...]) -> str:
    """Gather frozen axes by reason: how many channels, and the first places."""
    reasons: dict[str, list[Frozen]] = {}
    for item in frozen:
        reasons.setdefault(item.reason, []).append(item)
    if not reasons:
        return "no stored tensor has a channel dimension"
    lines = []
    for reason, items in sorted(reasons.items(), key=lambda pair: -sum(f.size for f in pair[1])):
        places = [item.where or ":".join(map(str, item.axes[0])) for item in items if item.axes]
        more = ", ..." if len(places) > _PLACES else ""
        channels = sum(item.size for item in items)
        lines.append(f"{reason} ({channels} channels: {', '.join(places[:_PLACES])}{more})")
    return "; ".join(lines)
