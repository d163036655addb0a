"""Writing plans: units to indices and back."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shrink.core.errors import InputError, PlanError
from shrink.core.groups import Axis, ChannelGroup, ChannelGroups
from shrink.core.plan import Decision, Plan
from shrink.plan.choose import Choice, keep_most_important
from shrink.plan.write import alive_units, to_plan
from tests.plan.chains import chain, couple, random_importance, shapes


def keep(groups: ChannelGroups, counts: list[int], seed: int = 0) -> Choice:
    kept = keep_most_important(groups, random_importance(groups, seed), np.array(counts))
    return Choice(np.array(counts), kept, reached=0.5, finer={}, notes=())


def write(groups: ChannelGroups, choice: Choice) -> Plan:
    return to_plan(groups, choice, shapes(groups), inputs={"a": 1}, request={"flops": 0.5})


def test_only_axes_that_lose_something_are_written() -> None:
    groups = chain([4, 6])
    choice = keep(groups, [4, 2])
    plan = write(groups, choice)
    survivors = tuple(np.flatnonzero(choice.kept[4:10]).tolist())
    assert plan.keep == {
        "layer1.weight": {0: survivors},
        "layer1.bias": {0: survivors},
        "layer2.weight": {1: survivors},
    }
    assert plan.shapes == {"layer1.weight": (6, 4), "layer1.bias": (6,), "layer2.weight": (10, 6)}
    assert plan.decisions == (
        Decision("layer0.weight:0", 4, 4),
        Decision("layer1.weight:0", 6, 2),
    )
    assert (plan.inputs, plan.request) == ({"a": 1}, {"flops": 0.5})


def heads() -> ChannelGroups:
    """Couple the 3 heads of 4 dims in one dimension of 12, and a frozen tail of 2."""
    head = np.concatenate([np.repeat([0, 1, 2], 4), [-1, -1]])
    dims = np.concatenate([np.tile([3, 4, 5, 6], 3), [-1, -1]])
    axis = Axis("q.weight", 0, 14, (head, dims))
    return couple(
        [axis],
        [
            ChannelGroup("q.weight:0", np.array([[0, 1, 2]]), (("q.weight", 0),), "h", stride=4),
            ChannelGroup(
                "q.weight:0/4", np.array([[3, 4, 5, 6]]), (("q.weight", 0),), "d", nested=True
            ),
        ],
    )


def test_an_index_survives_only_with_all_its_units() -> None:
    kept = np.array([True, False, True, True, True, False, True, True])
    choice = Choice(np.array([2, 3]), kept, 0.5, {}, ())
    plan = to_plan(heads(), choice, {"q.weight": (14, 5)}, inputs={}, request={})
    assert plan.keep == {"q.weight": {0: (0, 1, 3, 8, 9, 11, 12, 13)}}
    assert (alive_units(heads(), plan) == kept).all()


def test_an_axis_that_would_vanish_is_refused() -> None:
    groups = chain([4])
    choice = Choice(np.array([0]), np.array([False] * 4 + [True]), 0.5, {}, ())
    with pytest.raises(PlanError, match="no index of dimension 0") as caught:
        write(groups, choice)
    assert caught.value.where == "layer0.weight"
    assert "min_keep" in caught.value.fix


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.data())
def test_kept_to_plan_to_kept_is_the_identity(sizes: list[int], data: st.DataObject) -> None:
    groups = chain(sizes, parts=[data.draw(st.integers(1, 3)) for _ in sizes])
    counts = [data.draw(st.integers(1, size)) for size in sizes]
    choice = keep(groups, counts, data.draw(st.integers(0, 99)))
    plan = write(groups, choice)
    assert (alive_units(groups, plan) == choice.kept).all()


def change(plan: Plan, tensor: str, dim: int, indices: tuple[int, ...]) -> Plan:
    dims = {**plan.keep[tensor], dim: indices}
    return replace(plan, keep={**plan.keep, tensor: dims})


def test_plan_whose_tensors_disagree_is_refused() -> None:
    groups = chain([4, 6])
    plan = change(write(groups, keep(groups, [4, 2])), "layer2.weight", 1, (0, 1, 2))
    with pytest.raises(InputError, match="do not go together") as caught:
        alive_units(groups, plan)
    assert caught.value.where.startswith("layer")
    assert "shrink compress" in caught.value.fix


def test_plan_that_misses_a_tensor_is_refused() -> None:
    groups = chain([4, 6])
    plan = write(groups, keep(groups, [4, 2]))
    less = replace(plan, keep={k: v for k, v in plan.keep.items() if k != "layer1.bias"})
    with pytest.raises(InputError, match="do not go together") as caught:
        alive_units(groups, less)
    assert caught.value.where == "layer1.bias"
    assert "again" in caught.value.fix


def test_plan_of_another_size_is_refused() -> None:
    plan = write(chain([4, 8]), keep(chain([4, 8]), [4, 2]))
    with pytest.raises(InputError, match="size 8 of dimension 0, the model has 6") as caught:
        alive_units(chain([4, 6]), plan)
    assert caught.value.where == "layer1.weight"
    assert "again" in caught.value.fix


def test_plan_that_slices_what_cannot_shrink_is_refused() -> None:
    plan = write(chain([4, 6]), keep(chain([4, 6]), [4, 2]))
    with pytest.raises(InputError, match="cannot shrink") as caught:
        alive_units(chain([4]), plan)
    assert caught.value.where == "layer1.weight"
    assert "again" in caught.value.fix


def test_plan_with_indices_out_of_shape_is_refused() -> None:
    plan = write(chain([4]), keep(chain([4]), [2]))
    with pytest.raises(ValueError, match="invalid indices"):
        change(plan, "layer0.bias", 0, (1, 9))
