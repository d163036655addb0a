"""How far apart two results are."""

import math

import torch

from shrink.core.inputs import Inputs
from shrink.verify.compare import difference, observe, run

INF = float("inf")


def test_it_is_relative_to_the_largest_value() -> None:
    assert difference(torch.tensor([4.0, 1.0]), torch.tensor([4.0, 0.0])) == 0.25


def test_every_tensor_counts() -> None:
    one = torch.ones(2)
    assert difference([one, {"a": one * 2}], [one, {"a": one}]) == 1.0


def test_nothing_to_tell_apart_is_no_agreement() -> None:
    assert difference([], []) is None
    assert difference(torch.zeros(0, 3), torch.zeros(0, 3)) is None
    assert difference(torch.zeros(3), torch.zeros(3)) is None
    assert difference(torch.zeros(3), torch.ones(3)) == 1.0


def test_equal_infinities_agree_and_hide_nothing() -> None:
    masked = torch.tensor([-INF, 1.0])
    assert difference(masked, masked.clone()) == 0.0
    assert difference(torch.tensor([-INF, 1.5]), masked) == 0.5
    assert difference(torch.tensor([0.0, 1.0]), masked) == INF


def test_nan_never_agrees() -> None:
    undefined, one = torch.tensor([float("nan"), 1.0]), torch.ones(2)
    for found in (
        difference(undefined, undefined.clone()),
        difference([undefined, one], [one, one]),
        difference([one, undefined], [one, one]),
    ):
        assert found is not None
        assert math.isnan(found)


def test_other_shapes_numbers_and_exceptions_differ() -> None:
    one = torch.ones(2)
    assert difference(torch.ones(3), one) == INF
    assert difference([one, one], one) == INF
    assert difference(ValueError("no"), one) == INF


def test_a_module_is_seen_with_what_it_was_given_before_it_wrote_into_it() -> None:
    model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.ReLU(inplace=True))
    seen: dict = {}
    observe(model, Inputs((torch.tensor([-1.0, 2.0]),)), frozenset({"1"}), seen)
    ((args, _), output) = seen["1", 0]
    assert args[0].tolist() == [-1.0, 2.0]
    assert output.tolist() == [0.0, 2.0]


def test_an_exception_is_returned() -> None:
    assert isinstance(run(torch.nn.Linear(2, 2), Inputs((torch.ones(3),))), RuntimeError)
