"""Choosing: the budget is met, by the most important units, or refused with the closest value."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shrink.core.errors import InputError, PlanError
from shrink.core.groups import Balance, ChannelGroups, Frozen
from shrink.plan.budget import Budget
from shrink.plan.choose import Choice, choose, keep_most_important
from shrink.plan.options import RANKINGS, Options
from tests.plan.chains import chain, params, random_importance


def run(groups: ChannelGroups, ratio: float, seed: int = 0, **options: object) -> Choice:
    return choose(
        groups,
        random_importance(groups, seed),
        Budget("params", ratio),
        params(groups),
        Options(**options),
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([16, 24, 32, 48, 64, 100]), min_size=4, max_size=10),
    st.floats(0.15, 0.95),
    st.sampled_from(RANKINGS),
    st.integers(0, 99),
)
def test_budget_is_met_exactly_counted(
    sizes: list[int], ratio: float, ranking: str, seed: int
) -> None:
    groups = chain(sizes)
    choice = run(groups, ratio, seed, ranking=ranking)
    cost = params(groups)
    assert choice.reached == float(cost(choice.counts)) / float(cost(np.array(sizes)))
    assert 0.99 * ratio <= choice.reached <= ratio
    assert (choice.counts >= 1).all()
    assert (choice.counts <= sizes).all()
    for group, count in zip(groups.groups, choice.counts, strict=True):
        assert choice.kept[group.parts].sum(axis=1).tolist() == [count]
        if group.name not in choice.finer:
            assert count == group.size or count % 8 == 0
    again = run(groups, ratio, seed, ranking=ranking)
    assert (again.kept == choice.kept).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(2, 12), min_size=1, max_size=4), st.floats(0.1, 0.95))
def test_refusal_of_a_tiny_network_comes_with_a_remedy_that_works(
    sizes: list[int], ratio: float
) -> None:
    groups = chain(sizes)
    refused = None
    try:
        choice = run(groups, ratio)
    except PlanError as error:
        refused = error
        ratio = float(error.fix.removeprefix("params="))
        choice = run(groups, ratio)
    assert 0.99 * ratio <= choice.reached <= ratio
    assert refused is None or choice.reached == pytest.approx(refused.closest, rel=0.01)


@settings(max_examples=20, deadline=None)
@given(st.integers(16, 64), st.integers(16, 64), st.floats(0.3, 0.9))
def test_balanced_counts_agree(a: int, b: int, ratio: float) -> None:
    groups = chain([a, 40, b, a + b, 56], balances=[Balance(((0, 1), (2, 1)), ((3, 1),))])
    counts = run(groups, ratio).counts
    assert counts[0] + counts[2] == counts[3]


def test_local_ranking_takes_the_same_share_of_every_group() -> None:
    groups = chain([64, 128, 256, 512])
    counts = run(groups, 0.5).counts
    assert np.ptp(counts / np.array([64, 128, 256, 512])) <= 0.13


def test_global_ranking_spares_the_important_group() -> None:
    groups = chain([64, 64, 64, 64])
    importance = random_importance(groups)
    importance[groups.groups[2].parts] += 1
    counts = choose(
        groups, importance, Budget("params", 0.5), params(groups), Options(ranking="global")
    ).counts
    assert counts[2] == 64
    assert counts[[0, 1, 3]].min() >= 7


def test_most_important_units_stay_and_ties_go_to_the_lower_index() -> None:
    groups = chain([4], parts=[2])
    importance = np.array([1.0, 3.0, 2.0, 3.0, 5.0, 5.0, 5.0, 5.0])
    kept = keep_most_important(groups, importance, np.array([2]))
    assert np.flatnonzero(kept).tolist() == [1, 3, 4, 5, 8]


def test_nested_groups_shrink_only_when_the_others_do_not_suffice() -> None:
    groups = chain([64, 64, 64, 64], nested=[1])
    assert run(groups, 0.6).counts[1] == 64
    assert run(groups, 0.02).counts[1] < 64


def test_parts_keep_equal_counts_of_their_own_units() -> None:
    groups = chain([64, 16, 64, 64], parts=[1, 4, 1, 1], strides=[1, 4, 1, 1])
    choice = run(groups, 0.5)
    assert 1 < choice.counts[1] < 16
    rows = choice.kept[groups.groups[1].parts]
    assert set(rows.sum(axis=1)) == {choice.counts[1]}
    assert len({row.tobytes() for row in rows}) > 1


def test_auto_leaves_multiples_of_8_where_they_suffice() -> None:
    choice = run(chain([64, 128, 256, 512, 128, 64]), 0.5)
    assert not (choice.counts % 8).any()
    assert (choice.finer, choice.notes) == ({}, ())


def test_auto_says_which_groups_it_aligned_finer() -> None:
    choice = run(chain([16, 24, 16]), 0.5)
    odd = [f"layer{i}.weight:0" for i in range(3) if choice.counts[i] % 8]
    assert odd
    assert sorted(choice.finer) == odd
    assert all(f"{name} (multiples of {m})" in choice.notes[0] for name, m in choice.finer.items())


def test_auto_refines_one_group_where_one_closes_the_gap() -> None:
    groups = chain([64, 64, 32])
    with pytest.raises(PlanError):
        run(groups, 0.63, align=8)
    assert len(run(groups, 0.63).finer) == 1


@pytest.mark.parametrize("align", [1, 4, 8, 16, 32])
def test_explicit_alignment_holds(align: int) -> None:
    counts = run(chain([256, 512, 256, 512, 384, 320, 448, 192]), 0.5, align=align).counts
    assert not (counts % align).any()


def test_min_keep_is_a_floor() -> None:
    assert run(chain([64, 64, 64]), 0.2, min_keep=20).counts.min() >= 20


def test_floor_above_the_budget_names_the_closest_ratio() -> None:
    groups = chain([8, 8])
    with pytest.raises(PlanError, match="smallest network") as caught:
        run(groups, 0.05)
    smallest = float(params(groups)(np.array([1, 1])))
    assert caught.value.closest == smallest / float(params(groups)(np.array([8, 8])))
    assert caught.value.where == "params=0.05"
    assert caught.value.fix.startswith("params=0.")


def test_explicit_alignment_that_cannot_meet_the_budget_points_to_auto() -> None:
    with pytest.raises(PlanError, match="multiples of 32") as caught:
        run(chain([64, 64]), 0.8, align=32)
    assert caught.value.fix == "align='auto'"
    assert 0 < caught.value.closest < 0.8 * 0.99


def test_nothing_to_prune_lists_the_reasons() -> None:
    places = [Frozen(((f"head{i}.weight", 0),), 10, "network output", f"head{i}") for i in range(5)]
    frozen = [*places, Frozen((("odd.weight", 1),), 100, "no rule for aten::foo")]
    with pytest.raises(PlanError, match="nothing to prune") as caught:
        run(chain([], frozen=frozen), 0.5)
    assert "network output (50 channels: head0, head1, head2, ...)" in caught.value.what
    assert "no rule for aten::foo (100 channels: odd.weight:1)" in caught.value.what
    assert "inspect" in caught.value.fix


def test_importance_that_is_not_finite_names_the_group() -> None:
    groups = chain([8, 8])
    importance = random_importance(groups)
    importance[9] = np.nan
    with pytest.raises(PlanError, match="NaN") as caught:
        choose(groups, importance, Budget("params", 0.5), params(groups))
    assert caught.value.where == "layer1.weight:0"
    assert "l2" in caught.value.fix


def test_importance_of_the_wrong_shape_is_refused() -> None:
    groups = chain([8, 8])
    with pytest.raises(InputError, match=r"\(3,\) for 16 units") as caught:
        choose(groups, np.ones(3), Budget("params", 0.5), params(groups))
    assert caught.value.where == "criterion"
    assert "groups.unit_count" in caught.value.fix


def test_order_of_balances_does_not_matter() -> None:
    groups = chain(
        [32, 32, 32, 48], balances=[Balance(((0, 1),), ((1, 1),)), Balance(((1, 1),), ((2, 1),))]
    )
    swapped = replace(groups, balances=groups.balances[::-1])
    assert run(groups, 0.5).counts.tolist() == run(swapped, 0.5).counts.tolist()
