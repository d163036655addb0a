"""Ranking: which steps come first."""

import numpy as np

from shrink.plan.ladder import build_ladders
from shrink.plan.rank import place_steps, rank_units
from tests.plan.chains import chain, random_importance


def test_local_steps_come_at_the_ratio_halfway_between_their_counts() -> None:
    groups = chain([32, 16])
    shares = rank_units(groups, random_importance(groups), "local")
    places = place_steps(groups, build_ladders(groups, align=8), shares)
    np.testing.assert_allclose(places[0], [0, 0.125, 0.375, 0.625], atol=1e-3)
    np.testing.assert_allclose(places[1], [0, 0.25], atol=1e-3)


def test_local_ties_go_to_the_less_important_group() -> None:
    groups = chain([16, 16])
    importance = np.concatenate([np.full(16, 2.0), np.full(16, 1.0)])
    places = place_steps(
        groups, build_ladders(groups, align=8), rank_units(groups, importance, "local")
    )
    assert places[1][1] < places[0][1]


def test_global_ranking_empties_the_less_important_group_first() -> None:
    groups = chain([10, 10])
    shares = rank_units(groups, np.concatenate([np.arange(10), 10 + np.arange(10.0)]), "global")
    assert shares[0].max() < 0.5 < shares[1].min()
    assert (np.diff(shares[0]) < 0).all()


def test_equal_importance_ranks_in_proportion() -> None:
    groups = chain([8, 4])
    shares = rank_units(groups, np.ones(12), "global")
    np.testing.assert_allclose(shares[0][::2] + shares[0][1::2], 2 * shares[1], atol=0.2)


def test_isomorphic_ranking_compares_equal_structures_only() -> None:
    groups = chain([4, 4, 4], structures=["a", "b", "a"])
    importance = np.concatenate([np.full(4, 1.0), np.full(4, 0.1), np.full(4, 2.0)])
    shares = rank_units(groups, importance, "isomorphic")
    assert shares[0].max() < 0.5 < shares[2].min()
    np.testing.assert_allclose(shares[1], [0.875, 0.625, 0.375, 0.125])


def test_nested_steps_and_collapse_come_last() -> None:
    groups = chain([40, 40], nested=[1])
    places = place_steps(
        groups,
        build_ladders(groups, align=1),
        rank_units(groups, random_importance(groups), "local"),
    )
    outer, nested = (place[1:].astype(int).tolist() for place in places)
    assert outer == [0] * 36 + [2] * 3
    assert nested == [1] * 36 + [2] * 3
