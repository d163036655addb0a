"""Two hundred random networks; `tools/fuzz.py` runs them by the thousand."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import nn

import shrink
from shrink.core.inputs import as_inputs
from shrink.core.plan import Plan
from tests.laws.blocks import BLOCKS
from tests.laws.fuzz import BAD, examine, reduce, request_of
from tests.laws.masked import Lost, second_opinion
from tests.laws.recipes import HEADS, STARTS, Recipe, from_seed

NETWORKS = 200
CHUNKS = 8


@pytest.mark.filterwarnings("ignore")  # of torch, about what random networks do
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_networks(chunk: int) -> None:
    outcomes = [examine(seed, _short(seed)) for seed in range(chunk, NETWORKS, CHUNKS)]
    for found in outcomes:
        if found.kind in BAD:
            recipe = reduce(
                _short(found.seed),
                lambda part, bad=found: examine(bad.seed, part).kind == bad.kind,
            )
            pytest.fail(f"{found}\n{recipe}\n{request_of(found.seed)}\n{recipe.build()}")
    kinds = Counter(found.kind for found in outcomes)
    assert kinds["ok"] > len(outcomes) / 3, kinds
    assert sum(bool(found.lost) for found in outcomes) <= 2


def _short(seed: int) -> Recipe:
    """Shorten a recipe, for speed: two blocks are enough for most of what goes wrong."""
    recipe = from_seed(seed)
    return replace(recipe, blocks=recipe.blocks[:2])


def test_a_recipe_makes_the_same_network_twice() -> None:
    for seed in range(20):
        a, b = (from_seed(seed).build().state_dict() for _ in range(2))
        assert list(a) == list(b)
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_every_block_occurs() -> None:
    recipes = [from_seed(seed) for seed in range(2000)]
    drawn = {name for recipe in recipes for name, _ in recipe.blocks}
    assert drawn == {name for blocks in BLOCKS.values() for name in blocks}
    assert {recipe.start for recipe in recipes} == set(STARTS)
    assert {recipe.head for recipe in recipes} == set(HEADS)


def test_a_failing_recipe_is_reduced() -> None:
    recipe = Recipe("line", (("plain", 1), ("gated", 2), ("pooled", 3)), "dict", "context", True, 0)  # noqa: FBT003
    small = reduce(recipe, lambda part: any(name == "gated" for name, _ in part.blocks))
    assert small == Recipe("line", (("gated", 2),), "linear", "", False, 0)  # noqa: FBT003


def test_a_recipe_that_no_longer_fails_is_kept() -> None:
    recipe = from_seed(0)
    assert reduce(recipe, lambda _: False) == recipe


@pytest.fixture
def normed() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = nn.Sequential(nn.Linear(4, 12), nn.LayerNorm(12), nn.Softmax(-1), nn.Linear(12, 3))
    return body.eval()


def test_the_second_opinion_agrees_over_norms_and_softmaxes(normed: nn.Module) -> None:
    result = shrink.compress(normed, torch.randn(2, 4), flops=0.5, align=1, measure=False)
    assert second_opinion(normed, result.model, result.plan, result.inputs) < 1e-10


def test_the_second_opinion_sees_one_wrong_weight(normed: nn.Module) -> None:
    result = shrink.compress(normed, torch.randn(2, 4), flops=0.5, align=1, measure=False)
    with torch.no_grad():
        result.model[0].weight[0, 0] += 1e-4
    assert second_opinion(normed, result.model, result.plan, result.inputs) > 1e-6


def test_the_second_opinion_is_of_the_channels_that_the_plan_keeps(normed: nn.Module) -> None:
    result = shrink.compress(normed, torch.randn(2, 4), flops=0.5, align=1, measure=False)
    assert second_opinion(normed, result.model, Plan({}, {}), result.inputs) > 1e-3


def test_no_second_opinion_of_other_operations(normed: nn.Module) -> None:
    with pytest.raises(Lost):
        second_opinion(normed, normed[:2], Plan({}, {}), as_inputs(torch.randn(2, 4)))
