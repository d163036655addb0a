"""Budgets refuse what is no ratio."""

import pytest

from shrink.core.errors import InputError
from shrink.plan.budget import Budget


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.5, 1.5, float("nan"), float("inf")])
def test_ratio_outside_the_open_interval_is_refused(ratio: float) -> None:
    with pytest.raises(InputError, match="between 0 and 1") as caught:
        Budget("flops", ratio)
    assert caught.value.where == f"flops={ratio:g}"
    assert caught.value.fix == "flops=0.5"


def test_a_percentage_is_answered_with_its_ratio() -> None:
    with pytest.raises(InputError) as caught:
        Budget("params", 40)
    assert caught.value.fix == "params=0.4"


def test_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(InputError) as caught:
        Budget("flop", 0.5)
    assert (caught.value.where, caught.value.fix) == ("flop=0.5", "flops=0.5")


def test_valid_budget_is_kept_as_given() -> None:
    assert (Budget("params", 0.25).kind, Budget("params", 0.25).ratio) == ("params", 0.25)
