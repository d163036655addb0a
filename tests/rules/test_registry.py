"""The tables of rules: one rule per operator, and nothing that is not one."""

import pytest
import torch

from shrink.core.errors import InputError
from shrink.rules import families, registry
from shrink.rules.labels import Value
from shrink.rules.registry import (
    couples,
    coupling_rules,
    find_couple,
    find_normalised,
    find_resize,
    is_pointwise,
    normalises,
    resizes,
)
from shrink.rules.site import Site, bind, unbind

aten = torch.ops.aten


def nothing(site: Site) -> Value:
    raise NotImplementedError(site)


@pytest.mark.parametrize(
    ("register", "operator"),
    [
        (couples, aten.relu.default),
        (couples, aten.conv2d.default),
        (resizes, aten.view.default),
        (normalises, aten.layer_norm.default),
    ],
)
def test_registering_twice_is_refused(register: object, operator: object) -> None:
    if register is couples and find_couple(operator, {}) is find_couple(aten.add.Tensor, {}):
        operator = aten.add.Tensor
    with pytest.raises(InputError) as caught:
        register(operator)(nothing)  # type: ignore[operator]
    assert caught.value.where == str(operator)
    assert "already" in caught.value.what


def test_every_coupling_rules_operator_exists() -> None:
    assert len(families.FAMILIES) >= 10
    for operator in coupling_rules():
        if isinstance(operator, str):  # of a library that need not be there
            namespace, _, name = operator.partition("::")
            assert namespace != "torchvision" or hasattr(torch.ops.torchvision, name), operator
        else:
            assert isinstance(operator, torch._ops.OpOverload), operator


@pytest.mark.parametrize("table", [registry._RESIZES, registry._NORMALISES])
def test_what_is_resized_or_normalised_is_coupled(table: dict[object, object]) -> None:
    assert table
    for operator in table:
        assert find_couple(operator, {}) is not None, operator


def test_element_wise_operators_need_no_line() -> None:
    silu = aten.silu.default
    assert is_pointwise(silu)
    assert find_couple(silu, {}) is find_couple(aten.add.Tensor, {})
    assert find_resize(silu) is None
    assert find_normalised(silu) is None


def test_an_unknown_operator_has_no_rule() -> None:
    assert find_couple(aten.histc.default, {}) is None


def test_the_callers_rule_comes_first() -> None:
    assert find_couple(aten.relu.default, {aten.relu.default: nothing}) is nothing
    assert find_couple(aten.relu.default, {}) is not nothing


@pytest.mark.parametrize(
    ("operator", "args", "kwargs"),
    [
        (aten.view.default, ("x", [1, -1]), {}),
        (aten.conv2d.default, ("x", "w", None, [2, 2]), {}),
        (aten.scaled_dot_product_attention.default, ("q", "k", "v"), {"scale": 0.5}),
        (aten.sum.dim_IntList, ("x", [1], True), {}),
    ],
)
def test_binding_a_call_and_writing_it_again_is_the_identity(
    operator: object, args: tuple[object, ...], kwargs: dict[str, object]
) -> None:
    assert unbind(operator, bind(operator, args, kwargs)) == (args, kwargs)
