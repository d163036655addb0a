"""The search: from the common order of steps into the window."""

import itertools

import numpy as np
import pytest

from shrink.plan import search as module
from shrink.plan.ladder import build_ladders
from shrink.plan.rank import place_steps, rank_units
from shrink.plan.search import Search
from tests.plan.chains import chain, params, random_importance


def make(sizes: list[int], ratio: float, *, align: int = 1, slack: float = 0.01) -> Search:
    groups = chain(sizes)
    ladders = build_ladders(groups, align=align)
    cost = params(groups)
    full = float(cost(np.array(sizes)))
    shares = rank_units(groups, random_importance(groups), "local")
    return Search(
        ladders=ladders,
        places=place_steps(groups, ladders, shares),
        cost=cost,
        low=(1 - slack) * ratio * full,
        high=ratio * full,
    )


def test_equal_shares_are_taken_where_they_fit() -> None:
    search = make([64] * 6, 0.5, slack=0.05)
    counts = search.ladders.at(search.run().levels)
    assert counts.max() - counts.min() <= 1


def test_floor_above_the_budget_is_returned_as_it_is() -> None:
    search = make([8, 8], 0.01)
    found = search.run()
    assert search.ladders.at(found.levels).tolist() == [1, 1]
    assert found.cost > search.high


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.7, 0.9])
def test_small_networks_are_searched_exhaustively(ratio: float) -> None:
    search = make([5, 6, 4], ratio, slack=0.0)
    costs = [
        float(search.cost(np.array(counts)))
        for counts in itertools.product(range(1, 6), range(1, 7), range(1, 5))
    ]
    assert search.run().cost == max(cost for cost in costs if cost <= search.high)


@pytest.mark.parametrize("ratio", [0.3, 0.45, 0.6])
def test_what_swaps_cannot_reach_is_tried_at_random(
    monkeypatch: pytest.MonkeyPatch, ratio: float
) -> None:
    monkeypatch.setattr(module, "_EXHAUSTIVE", 0)
    monkeypatch.setattr(module, "_ROUNDS", 0)
    search = make([17, 23, 12, 31, 9], ratio, slack=1.5e-3)
    missed = search.run()
    assert missed.cost < search.low
    found = search.scatter(missed)
    assert search.low <= found.cost <= search.high
    assert np.array_equal(search.scatter(missed).levels, found.levels)


@pytest.mark.parametrize("ratio", [0.25, 0.4, 0.55, 0.7])
def test_swaps_close_a_narrow_gap(monkeypatch: pytest.MonkeyPatch, ratio: float) -> None:
    monkeypatch.setattr(module, "_EXHAUSTIVE", 0)
    search = make([17, 23, 12, 31, 9], ratio, slack=1e-3)
    found = search.run()
    assert search.low <= found.cost <= search.high
    assert found.cost == float(search.cost(search.ladders.at(found.levels)))
