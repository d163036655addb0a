"""The planner against every combination of widths, on networks small enough to list them all."""

import itertools

import numpy as np
import pytest

from shrink.core.errors import PlanError
from shrink.core.groups import Balance, ChannelGroups
from shrink.plan.budget import SLACK, Budget
from shrink.plan.choose import Choice, choose
from shrink.plan.options import Options
from tests.plan.chains import chain, params, random_importance


def problem(seed: int) -> tuple[ChannelGroups, float]:
    """Draw a chain of two to four groups, some of heads, some in parts, some that must balance."""
    draw = np.random.default_rng(seed)
    count = int(draw.integers(2, 5))
    sizes = [int(n) for n in draw.integers(2, 21, count)]
    balances = []
    if count > 2 and draw.random() < 0.4:
        sizes[2] = sizes[0]
        balances = [Balance(((0, 1),), ((2, 1),))]
    groups = chain(
        sizes,
        parts=[int(n) for n in draw.choice([1, 1, 2], count)],
        strides=[int(n) for n in draw.choice([1, 1, 2, 8], count)],
        balances=balances,
    )
    return groups, float(draw.uniform(0.2, 0.9))


def reachable(groups: ChannelGroups, ratio: float, align: int) -> list[float]:
    """List the cost of every admissible combination within the budget, relative to the whole."""
    cost = params(groups)
    allowed = [
        [n for n in range(1, g.size + 1) if n == g.size or n * g.stride % align == 0]
        for g in groups.groups
    ]
    counts = np.array(list(itertools.product(*allowed)))
    for balance in groups.balances:
        ((left, _),), ((right, _),) = balance.left, balance.right
        counts = counts[counts[:, left] == counts[:, right]]
    shares = cost(counts) / float(cost(np.array([g.size for g in groups.groups])))
    return [float(s) for s in shares if s <= ratio]


def attempt(groups: ChannelGroups, ratio: float, options: Options) -> Choice | PlanError:
    """Choose, or return the error."""
    importance = random_importance(groups)
    try:
        return choose(groups, importance, Budget("params", ratio), params(groups), options)
    except PlanError as error:
        return error


@pytest.mark.parametrize("align", [1, 8, "auto"])
def test_a_budget_is_met_wherever_some_combination_meets_it(align: int | str) -> None:
    met = missed = 0
    for seed in range(30):
        groups, ratio = problem(seed)
        best = max(reachable(groups, ratio, 1 if align == "auto" else int(align)), default=0.0)
        options = Options(align=align)  # type: ignore[arg-type]  # one of the three
        choice = attempt(groups, ratio, options)
        if isinstance(choice, PlanError):
            assert best < (1 - SLACK) * ratio, f"seed {seed}: {best} meets {ratio}"
            assert not best or choice.closest == pytest.approx(best), f"seed {seed}"
            missed += 1
        else:
            assert (1 - SLACK) * ratio <= choice.reached <= ratio
            met += 1
    assert met
    assert missed
