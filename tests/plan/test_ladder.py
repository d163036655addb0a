"""Ladders: which counts a component may have."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shrink.core.groups import Balance
from shrink.plan.ladder import build_ladders, find_components
from tests.plan.chains import chain


@pytest.mark.parametrize(
    ("size", "stride", "align", "min_keep", "expected"),
    [
        (32, 1, 8, 1, [32, 24, 16, 8]),
        (30, 1, 8, 1, [30, 24, 16, 8]),
        (8, 1, 8, 1, [8]),
        (6, 1, 8, 1, [6]),
        (4, 1, 1, 1, [4, 3, 2, 1]),
        (3, 64, 8, 1, [3, 2, 1]),  # heads of 64 channels
        (12, 4, 8, 1, [12, 10, 8, 6, 4, 2]),
        (6, 12, 8, 1, [6, 4, 2]),
        (32, 1, 8, 9, [32, 24, 16]),
        (12, 1, 8, 10, [12]),
        (4, 1, 1, 9, [4]),
    ],
)
def test_single_group(
    size: int, stride: int, align: int, min_keep: int, expected: list[int]
) -> None:
    ladders = build_ladders(chain([size], strides=[stride]), align=align, min_keep=min_keep)
    assert ladders.of(0).tolist() == expected


def test_balances_join_components() -> None:
    groups = chain([8] * 5, balances=[Balance(((3, 1),), ((0, 1),)), Balance(((4, 2),), ((3, 2),))])
    assert find_components(groups) == ((0, 3, 4), (1,), (2,))


def test_balance_that_always_holds_joins_nothing() -> None:
    groups = chain([8, 8], balances=[Balance(((0, 1), (1, 1)), ((1, 1), (0, 1)))])
    assert find_components(groups) == ((0,), (1,))


def test_equal_groups_step_together() -> None:
    ladders = build_ladders(chain([32, 32], balances=[Balance(((0, 1),), ((1, 1),))]), align=8)
    assert ladders.of(0).tolist() == ladders.of(1).tolist() == [32, 24, 16, 8]


def test_sum_of_unequal_groups_balances() -> None:
    groups = chain([24, 40, 64], balances=[Balance(((0, 1), (1, 1)), ((2, 1),))])
    ladders = build_ladders(groups, align=8)
    a, b, both = (ladders.of(i) for i in range(3))
    assert (a + b).tolist() == both.tolist()
    assert len(both) >= 5
    assert not (np.concatenate([a, b, both]) % 8).any()


def test_sums_align_where_members_cannot() -> None:
    groups = chain([10, 6, 16], balances=[Balance(((0, 1), (1, 1)), ((2, 1),))])
    ladders = build_ladders(groups, align=8)
    assert ladders.of(2).tolist() == [16, 8]
    assert (ladders.of(0) + ladders.of(1)).tolist() == [16, 8]


def test_levels_are_looked_up_for_many_candidates() -> None:
    groups = chain([32, 16, 32], balances=[Balance(((0, 1),), ((2, 1),))])
    ladders = build_ladders(groups, align=8)
    levels = np.array([[[0, 0], [1, 1]], [[3, 0], [2, 1]]])
    assert ladders.at(levels).tolist() == [[[32, 16, 32], [24, 8, 24]], [[8, 16, 8], [16, 8, 16]]]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=3),
    st.lists(st.integers(1, 3), min_size=3, max_size=3),
    st.sampled_from([1, 4, 8]),
)
def test_balanced_ladders_are_exact_and_fall(
    sizes: list[int], weights: list[int], align: int
) -> None:
    total = sum(size * weight for size, weight in zip(sizes, weights, strict=False))
    left = tuple((i, weights[i]) for i in range(len(sizes)))
    groups = chain([*sizes, total], balances=[Balance(left, ((len(sizes), 1),))])
    ladders = build_ladders(groups, align=align)
    table = np.stack([ladders.of(i) for i in range(len(sizes) + 1)], axis=1)
    assert table[0].tolist() == [*sizes, total]
    assert (np.diff(table, axis=0) <= 0).all()
    assert (np.diff(table.sum(axis=1)) < 0).all()
    assert (table >= 1).all()
    assert (table[:, :-1] @ weights[: len(sizes)] == table[:, -1]).all()
    if align == 1:
        assert len(table) >= min(max(sizes), 2)
