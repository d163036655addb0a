"""Networks that once went wrong, reduced to what it takes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import shrink
from shrink.core.errors import VerificationError
from shrink.rules import labels
from shrink.rules.labels import Value
from shrink.rules.site import Site
from tests.laws.networks import Branches, FusedAttention
from tests.laws.reachable import compress

aten = torch.ops.aten


class Wider(nn.Module):
    """Attention whose block narrows while its heads stay: `reshape(b, n, c)` no longer fits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 8)
        self.attention = FusedAttention(8, 1)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.attention(x))


class Made(nn.Module):
    """A network that makes a tensor in its forward."""

    def __init__(self, make: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.make = make
        self.stem = nn.Linear(4, 16)
        self.hidden = nn.Linear(16, 16)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.hidden(self.make(self.stem(x)))))


class Positions(nn.Module):
    """Learned positions, looked up by number."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.table, self.head = nn.Linear(4, 16), nn.Embedding(6, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x) + self.table(torch.arange(x.shape[1], device=x.device)))


class Crossing(nn.Module):
    """A parameter that one view cuts across and another use would let shrink."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(4, 6))
        self.stem, self.head = nn.Linear(5, 4), nn.Linear(6, 8)
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.table.view(6, 4).sum()
        return self.last(torch.relu(self.head(self.stem(x) @ self.table) * scale))


def tokens(features: int) -> Tensor:
    return torch.randn(2, 6, features, generator=torch.Generator().manual_seed(0))


def passes(model: nn.Module, x: Tensor, flops: float, **options: object) -> bool:
    result = compress(model.eval(), x, flops, align=1, **options)
    assert result is not None
    assert result.report.verification is not None
    return result.report.verification.passed


def test_a_grouped_convolution_that_keeps_one_group_is_a_plain_one() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1, groups=2), nn.Conv2d(8, 3, 1))
    result = compress(model.eval(), torch.zeros(1, 3, 4, 4), 0.5, align=1)
    assert result is not None
    assert result.model[1].groups == 1


def test_heads_that_stay_while_the_block_narrows() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Wider()
    keep = ["attention.qkv.bias"]
    assert passes(model, tokens(6), 0.7, keep=keep)


@pytest.mark.parametrize(
    "make",
    [
        lambda y: y + torch.arange(6.0)[:, None],
        pytest.param(
            lambda y: y * torch.tensor(2.0),
        ),
        lambda y: y + torch.ones(y.shape[-1]),
        lambda y: y * torch.linspace(0, 1, 16),
        lambda y: torch.cat([y, torch.zeros(y.shape[0], 1, 16)], 1),
        lambda y: y.as_strided((2, 6, 4, 4), (96, 16, 4, 1)).softmax(2).flatten(2),
        lambda y: y.mT.contiguous().as_strided((2, 16, 5, 2), (96, 6, 1, 1)).sum(3).mT,
        lambda y: (y @ y.mT).masked_fill(~torch.ones(6, 6).tril().bool(), -9.0).softmax(-1) @ y,
    ],
    ids=[
        "counted",
        "number",
        "ones",
        "table",
        "padding",
        "strides-of-a-view",
        "strides-of-windows",
        "causal-mask",
    ],
)
def test_tensors_made_in_forward_keep_their_values(make: Callable[[Tensor], Tensor]) -> None:
    assert passes(Made(make), tokens(4), 0.6)


@pytest.mark.parametrize(
    "make",
    [lambda y: y * y.amax(-1, keepdim=True), lambda y: y / y.std(1, keepdim=True)],
    ids=["maximum", "deviation"],
)
def test_a_reduction_over_the_one_feature_that_is_kept(make: Callable[[Tensor], Tensor]) -> None:
    assert passes(Made(make), tokens(4), 0.01)


def test_conv_groups_go_whole_where_their_channels_become_positions() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 12, 1),
        nn.Conv2d(12, 24, 3, groups=3),
        nn.PixelShuffle(2),
        nn.Conv2d(6, 3, 1),
    )
    result = compress(model.eval(), torch.zeros(1, 3, 8, 8), 0.4, align=1)
    assert result is not None
    assert result.report.verification.passed
    assert result.model[1].groups < 3


def test_positions_counted_in_forward() -> None:
    assert passes(Positions(), tokens(4), 0.6)


def test_a_view_that_crosses_binds_a_parameter_wherever_it_is_used() -> None:
    assert passes(Crossing(), tokens(5), 0.8)
    frozen = shrink.inspect(Crossing().eval(), tokens(5)).frozen
    assert any(["table", 1] in list(entry["axes"]) for entry in frozen)


def test_a_wrong_rule_of_the_caller_is_a_failed_verification() -> None:
    def forget(site: Site) -> Value:
        return Value(site.shape, [labels.of(site.store, site["input"], d) for d in range(3)])

    model = nn.Sequential(nn.Linear(4, 16), nn.LayerNorm(16), nn.Linear(16, 4)).eval()
    with pytest.raises(VerificationError):
        compress(model, tokens(4), 0.5, align=1, rules={aten.layer_norm.default: forget})


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    cut = Branches([4, 8], [nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 1)])
    model = nn.Sequential(nn.Conv2d(3, 12, 1), cut, nn.Conv2d(16, 4, 1)).eval()
    assert passes(model, torch.zeros(1, 3, 4, 4), 0.5)
    assert capfd.readouterr() == ("", "")


class Private(nn.Module):
    """A network of operators that torch's own functions come down to."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(4, 48)
        self.kernel = nn.Parameter(torch.randn(3, 16, 16))
        self.bias = nn.Parameter(torch.randn(16))
        self.filters = nn.Parameter(torch.randn(16, 16, 1))
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).view(2, 6, 3, 4, 4).permute(2, 0, 3, 1, 4).unbind(0)
        x = aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)[0]
        x = torch.conv_tbc(
            x.transpose(1, 2).reshape(2, 6, 16).transpose(0, 1).contiguous(),
            self.kernel,
            self.bias,
            1,
        )
        x = aten.convolution(
            x.permute(1, 2, 0),
            self.filters,
            None,
            [1],
            [0],
            [1],
            transposed=True,
            output_padding=[0],
            groups=1,
        )
        return self.head(x.mT)


def test_private_operators_are_pruned_as_their_public_kin() -> None:
    assert passes(Private(), tokens(4), 0.6)
