"""Groups: what is protected stays, what is unknown is frozen by name."""

import pytest
import torch
from torch import Tensor, nn

import shrink
from shrink.capture.capture import capture
from shrink.core.groups import ChannelGroups
from shrink.core.inputs import as_inputs
from shrink.groups.find import find_groups
from shrink.plan.ladder import build_ladders


def groups_of(model: nn.Module, x: Tensor, **options: object) -> ChannelGroups:
    return find_groups(capture(model, as_inputs(x)), **options)


def build() -> nn.Module:
    return nn.Sequential(
        nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2)
    )


X = torch.zeros(1, 4)


def test_the_output_stays_and_says_why() -> None:
    found = groups_of(build(), X)
    assert [g.name for g in found.groups] == ["0.weight:0", "2.weight:0"]
    assert [(f.reason, f.axes[0]) for f in found.frozen] == [
        ("network output", ("4.weight", 0)),
        ("network input", ("0.weight", 1)),
    ]


def test_keep_protects_every_dimension_of_a_layer() -> None:
    assert groups_of(build(), X, keep=["2"]).groups == ()


def test_only_restricts_to_some_layers() -> None:
    assert [g.name for g in groups_of(build(), X, only=["0"]).groups] == ["0.weight:0"]


@pytest.mark.parametrize("option", ["keep", "only"])
def test_a_glob_that_matches_nothing_is_an_error(option: str) -> None:
    with pytest.raises(shrink.InputError) as caught:
        groups_of(build(), X, **{option: ["nothing*"]})
    assert caught.value.where == f"{option}=nothing*"
    assert "inspect" in caught.value.fix


class Unknown(nn.Module):
    """Between the layers stands an operator that nobody has a rule for."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 16), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.ops.aten.fill_diagonal_.default(self.first(x), 0.0))


def test_an_operator_without_a_rule_freezes_by_name() -> None:
    found = groups_of(Unknown(), X)
    assert found.groups == ()
    reasons = {f.reason for f in found.frozen}
    assert "no rule for aten::fill_diagonal_" in reasons


def test_an_operator_without_a_rule_is_an_error_if_strict() -> None:
    with pytest.raises(shrink.UnsupportedOpError) as caught:
        groups_of(Unknown(), X, strict=True)
    assert "couples" in caught.value.fix


def test_heads_and_their_dims_are_separate_groups() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.out = nn.Linear(8, 48), nn.Linear(16, 2)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(x).view(1, 5, 3, 4, 4).permute(2, 0, 3, 1, 4).unbind(0)
            y = nn.functional.scaled_dot_product_attention(q, k, v)
            return self.out(y.transpose(1, 2).reshape(1, 5, 16))

    found = groups_of(Attention(), torch.zeros(1, 5, 8))
    heads, dims = sorted(found.groups, key=lambda g: g.nested)
    assert (heads.parts.shape, heads.stride, heads.nested) == ((1, 4), 4, False)
    assert (dims.size, dims.nested) == (4, True)
    assert len(dims.parts) == 8  # four heads of queries with keys, four of values


def test_a_projected_lstm_keeps_more_hidden_units_than_it_projects_to() -> None:
    class Projected(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(4, 16, num_layers=2, proj_size=8, batch_first=True)
            self.head = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x)[0])

    x = torch.randn(2, 3, 4)
    groups = groups_of(Projected(), x)
    (group,) = (g for g in groups.groups if g.size == 16)
    assert group.least == 9
    assert build_ladders(groups, align=1).of(groups.groups.index(group))[-1] == 9
    with pytest.raises(shrink.PlanError) as caught:
        shrink.compress(Projected(), x, params=0.3)
    found = shrink.compress(Projected(), x, params=caught.value.closest, measure=False)
    assert found.report.verification.passed
    assert found.model.rnn.weight_hh_l0.shape == (36, 8)
