"""The kit finds rules that tie too little, freeze too much, or are not there."""

import pytest
import torch
from torch import Tensor, nn

import shrink
from shrink.core.errors import InputError
from shrink.rules import labels
from shrink.rules.labels import Value
from shrink.rules.registry import find_couple
from shrink.rules.site import Site
from shrink.testing import check_rule, read


@torch.library.custom_op("shrink_tests::mix", mutates_args=())
def mix(x: Tensor, gate: Tensor) -> Tensor:
    """Weigh the channels of every step, then smooth over channels' neighbours in time."""
    smooth = x * gate
    return smooth + 0.5 * torch.roll(smooth, 1, 1)


@mix.register_fake
def _(x: Tensor, gate: Tensor) -> Tensor:
    return torch.empty_like(x) if gate.dim() else x


def right(site: Site) -> Value:
    site.tie(site["x"], 2, site["gate"], 0)
    site.freeze(site["x"], [1], "neighbour in time")
    return Value(site.shape, [labels.of(site.store, site["x"], d) for d in range(3)])


def unsound(site: Site) -> Value:
    labels.of(site.store, site["gate"], 0)
    site.freeze(site["x"], [1], "neighbour in time")
    return Value(site.shape, [labels.of(site.store, site["x"], d) for d in range(3)])


def unsound_in_time(site: Site) -> Value:
    site.tie(site["x"], 2, site["gate"], 0)
    return Value(site.shape, [labels.of(site.store, site["x"], d) for d in range(3)])


def timid(site: Site) -> Value:
    site.freeze(site["x"], [0, 1], "no reason")
    site.tie(site["x"], 2, site["gate"], 0)
    return Value(site.shape, [labels.of(site.store, site["x"], d) for d in range(3)])


def broken(site: Site) -> Value:
    return site["nothing"]  # type: ignore[no-any-return]  # there is none


SAMPLES = [(torch.randn(3, 5, 6), torch.randn(6)), (torch.randn(2, 4, 7), torch.randn(7))]


def test_a_right_rule_passes() -> None:
    check_rule(mix, *SAMPLES, rules={mix: right})


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (unsound, "y:0 cut to"),
        (unsound_in_time, "x:1 cut to"),
        (timid, "freezes x:0, whose indices could be removed"),
        (broken, "the rule for shrink_tests::mix fails"),
    ],
    ids=["a-tie-is-missing", "a-freeze-is-missing", "needlessly-frozen", "raises"],
)
def test_a_wrong_rule_is_told_what_is_wrong(rule: object, says: str) -> None:
    with pytest.raises(shrink.VerificationError) as caught:
        check_rule(mix, *SAMPLES, rules={mix: rule})  # type: ignore[dict-item]  # wrong on purpose
    assert says in caught.value.what
    assert caught.value.where == "sample 0"
    assert caught.value.fix


def test_no_rule_is_said_first() -> None:
    with pytest.raises(shrink.VerificationError) as caught:
        check_rule(mix, *SAMPLES)
    assert caught.value.what == "no rule for shrink_tests::mix"
    assert "couples" in caught.value.fix


def test_what_stays_on_purpose_is_no_fault() -> None:
    check_rule(mix, *SAMPLES, rules={mix: timid}, fixed={"x": [0]})


def test_a_module_and_a_function_can_be_checked() -> None:
    check_rule(nn.Conv2d(4, 6, 3, groups=2), [torch.randn(2, 4, 5, 5)])
    check_rule(
        lambda x, y: torch.einsum("bij,jk->bik", x, y), [torch.randn(2, 3, 4), torch.randn(4, 5)]
    )


def test_a_rule_that_depends_on_the_precision_is_refused() -> None:
    def moody(site: Site) -> Value:
        moody.calls += 1  # type: ignore[attr-defined]  # counts calls
        if moody.calls > 1:  # type: ignore[attr-defined]  # that of another precision
            site.freeze(site["x"], [0], "mood")
        return right(site)

    moody.calls = 0  # type: ignore[attr-defined]  # counts calls
    with pytest.raises(shrink.VerificationError, match="unlike"):
        check_rule(mix, SAMPLES[0], rules={mix: moody}, complete=False)


class Swish(torch.autograd.Function):
    """What users write; its operators are recorded."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * x.sigmoid()


def test_an_autograd_function_needs_no_rule() -> None:
    assert read(Swish.apply, (2, 3)) == "x0=out0:ab x1=out1:cde"
    check_rule(Swish.apply, [torch.randn(2, 3)])


@pytest.mark.parametrize(
    "key",
    [mix, "shrink_tests::mix", torch.ops.shrink_tests.mix, torch.ops.shrink_tests.mix.default],
)
def test_an_operator_can_be_named_in_four_ways(key: object) -> None:
    assert find_couple(torch.ops.shrink_tests.mix.default, {key: right}) is right


def test_a_custom_operator_is_registered_once() -> None:
    @torch.library.custom_op("shrink_tests::once", mutates_args=())
    def once(x: Tensor) -> Tensor:
        return x.clone()

    shrink.couples(once)(right)
    assert find_couple(torch.ops.shrink_tests.once.default, {}) is right
    with pytest.raises(InputError):
        shrink.couples("shrink_tests::once")(right)


def test_a_module_that_is_checked_is_left_as_it_was() -> None:
    layer = nn.Linear(4, 3)
    check_rule(layer, [torch.randn(2, 4)], complete=False)
    assert layer.training
    assert layer.weight.dtype == layer.bias.dtype == torch.float32
