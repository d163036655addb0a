"""Grafts: modules whose forward cannot fit are replaced, and behave as what they replace."""

import copy
import io

import pytest
import torch
from torch import Tensor, nn

import shrink
from shrink.core.errors import InputError
from shrink.rewrite.graft import Graft


class Block(nn.Module):
    """Attention over a few tokens, by torch.nn's own module."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.embed = nn.Linear(12, 32)
        self.attention = nn.MultiheadAttention(32, 8, dropout=dropout, batch_first=True)
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.head(self.attention(x, x, x, need_weights=False)[0])


@pytest.fixture(scope="module")
def result() -> shrink.Result:
    torch.manual_seed(0)
    return shrink.compress(Block(dropout=0.5), torch.randn(1, 6, 12), params=0.5, measure=False)


def test_only_the_smallest_module_is_replaced(result: shrink.Result) -> None:
    assert [g["module"] for g in result.report.grafts] == ["attention"]
    assert isinstance(result.model.attention, Graft)
    assert type(result.model) is Block
    assert result.report.verification.passed


def test_names_are_those_of_the_original(result: shrink.Result) -> None:
    assert list(result.model.state_dict()) == list(Block().state_dict())


def test_any_batch_size_runs(result: shrink.Result) -> None:
    model = copy.deepcopy(result.model).eval()
    x = torch.randn(3, 6, 12)
    together, one_by_one = model(x), torch.cat([model(x[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, one_by_one)


def test_dropout_follows_train_and_eval(result: shrink.Result) -> None:
    model, x = copy.deepcopy(result.model), torch.randn(2, 6, 12)
    assert not torch.equal(model.train()(x), model.train()(x))
    assert torch.equal(model.eval()(x), model.eval()(x))


def test_it_trains_copies_and_pickles(result: shrink.Result) -> None:
    model, x = copy.deepcopy(result.model).eval(), torch.randn(2, 6, 12)
    model(x).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    file = io.BytesIO()
    torch.save(result.model, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False).eval()
    assert torch.equal(loaded(x), model(x))


def _agrees_with_a_cut_at(result: shrink.Result, model: nn.Module, inputs: object) -> bool:
    """Compare a smaller model with the same cut made and captured at other sizes."""
    again = shrink.apply(result.plan, model, inputs)
    assert again.report.verification.passed
    args = inputs if isinstance(inputs, tuple) else (inputs,)
    with torch.no_grad():
        return torch.allclose(result.model.eval()(*args), again.model.eval()(*args), atol=1e-5)


def test_any_length_runs_as_if_cut_at_that_length(result: shrink.Result) -> None:
    torch.manual_seed(0)
    assert _agrees_with_a_cut_at(result, Block(dropout=0.5), torch.randn(3, 9, 12))


class Windows(nn.Module):
    """Attention in windows over a padded image, as Swin's."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(24, 72)
        self.proj = nn.Linear(24, 24)

    def forward(self, x: Tensor) -> Tensor:
        n, h, w, c = x.shape
        x = nn.functional.pad(x, (0, 0, 0, -w % 4, 0, -h % 4))
        rows, columns = x.shape[1] // 4, x.shape[2] // 4
        x = x.view(n, rows, 4, columns, 4, c).transpose(2, 3).reshape(n * rows * columns, 16, c)
        q, k, v = self.qkv(x).reshape(-1, 16, 3, 3, c // 3).permute(2, 0, 3, 1, 4)
        x = (q @ k.transpose(-2, -1) * (c // 3) ** -0.5).softmax(-1) @ v
        x = self.proj(x.transpose(1, 2).reshape(-1, 16, c))
        x = x.view(n, rows, columns, 4, 4, c).transpose(2, 3).reshape(n, rows * 4, columns * 4, c)
        return x[:, :h, :w]


class Image(nn.Module):
    """Windows between a stem and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, stride=2, padding=1)
        self.windows = Windows()
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.windows(self.stem(x).permute(0, 2, 3, 1)).mean((1, 2)))


@pytest.mark.parametrize("size", [(2, 3, 16, 16), (1, 3, 20, 34)])
def test_any_resolution_runs_as_if_cut_at_that_resolution(size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = Image()
    result = shrink.compress(model, torch.randn(1, 3, 16, 16), params=0.5, measure=False)
    assert [g["module"] for g in result.report.grafts] == ["windows"]
    assert _agrees_with_a_cut_at(result, model, torch.randn(size))


class Fixed(nn.Module):
    """Runs at one length only."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 16)
        self.mix = Mixing()
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mix(self.embed(x)).mean(1))


class Mixing(nn.Module):
    """Mixes tokens with a matrix of one size; no attribute says how wide they are."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.randn(5, 5))

    def forward(self, x: Tensor) -> Tensor:
        return (self.mix @ x).unflatten(2, (2 * 2, 2 * 2)).flatten(2)


def test_what_runs_at_one_size_refuses_others_by_name() -> None:
    torch.manual_seed(0)
    result = shrink.compress(Fixed(), torch.randn(2, 5, 6), params=0.7873, align=1, measure=False)
    assert [g["module"] for g in result.report.grafts] == ["mix"], result.report.grafts
    with pytest.raises(InputError) as caught:
        result.model(torch.randn(2, 7, 6))
    assert caught.value.where == "Mixing"
    assert "any from 1, 5," in caught.value.what
    assert caught.value.fix


class Dropping(nn.Module):
    """Drops whole examples in training by operators of its own, as stochastic depth does."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x).view(x.shape[0], -1, 16).relu()
        if self.training:
            y = y * torch.empty(y.shape[0], 1, 16).bernoulli_(0.5)
            y = nn.functional.dropout(y, 0.5)
        return (x.view(x.shape[0], -1, 16) + y).view(x.shape)


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.block, self.head = nn.Linear(6, 16), Dropping(), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.embed(x)))


def test_operators_that_only_training_has_are_written_too() -> None:
    torch.manual_seed(0)
    result = shrink.compress(Deep(), torch.randn(2, 6), params=0.5633, align=1, measure=False)
    assert [g["module"] for g in result.report.grafts] == ["block"]
    model, x = result.model, torch.randn(64, 6)
    assert torch.equal(model.eval()(x), model.eval()(x))
    assert not torch.equal(model.train()(x), model.train()(x))
    assert "bernoulli" in model.block.training_code
    assert "bernoulli" not in model.block.code
    model(x).sum().backward()
    assert model.block.fc.weight.grad is not None


def _encoder(**options: bool) -> nn.Module:
    layer = nn.TransformerEncoderLayer(24, 3, 32, **options)
    return nn.TransformerEncoder(layer, 1)


class Masked(nn.Module):
    """torch.nn's encoder between two linear layers, with whatever masks are given."""

    def __init__(self, **options: bool) -> None:
        super().__init__()
        self.embed, self.body, self.head = nn.Linear(6, 24), _encoder(**options), nn.Linear(24, 3)

    def forward(self, x: Tensor, masks: str = "none", pad: Tensor | None = None) -> Tensor:
        causal = nn.Transformer.generate_square_subsequent_mask(len(x))
        mask = causal if masks == "causal" else None
        return self.head(self.body(self.embed(x), mask=mask, src_key_padding_mask=pad))


@pytest.mark.filterwarnings("ignore:.*nested_tensor.*:UserWarning")
@pytest.mark.parametrize(
    "options",
    [{"batch_first": True}, {"batch_first": False}, {"batch_first": True, "norm_first": True}],
    ids=str,
)
@pytest.mark.parametrize("masks", ["none", "causal", "padding"])
def test_transformer_encoders_are_pruned_whole(options: dict[str, bool], masks: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 5, 6)
    pad = torch.zeros(5, 5, dtype=torch.bool)
    pad[1, 3:] = True
    inputs = (x, masks, pad) if masks == "padding" else (x, masks)
    result = shrink.compress(Masked(**options), inputs, params=0.5, measure=False)
    assert result.report.verification.passed
    assert [g["module"] for g in result.report.grafts] == ["body.layers.0.self_attn"]
    model = result.model
    model.train()(*inputs).sum().backward()
    assert model.embed.out_features < 24
    expected = model.eval()(*inputs)
    with torch.no_grad():  # where torch would take its fused kernels
        torch.testing.assert_close(model(*inputs), expected)


class Translating(nn.Module):
    """torch.nn's whole transformer, which compares its inputs with a stored width."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.target = nn.Linear(6, 24), nn.Linear(6, 24)
        self.body = nn.Transformer(24, 3, 1, 1, 32, batch_first=True)
        self.head = nn.Linear(24, 3)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        mask = self.body.generate_square_subsequent_mask(y.shape[1])
        return self.head(self.body(self.source(x), self.target(y), tgt_mask=mask))


@pytest.mark.filterwarnings("ignore:.*nested_tensor.*:UserWarning")
def test_a_whole_transformer_is_pruned_and_keeps_its_class() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(2, 4, 6), torch.randn(2, 5, 6)
    result = shrink.compress(Translating(), inputs, params=0.5, measure=False)
    assert result.report.verification.passed
    assert type(result.model.body) is nn.Transformer
    assert result.model.body.d_model == result.model.source.out_features < 24
    assert {g["class"] for g in result.report.grafts} == {"MultiheadAttention"}


def test_hooks_of_the_replaced_module_run_once_as_part_of_its_code() -> None:
    torch.manual_seed(0)
    model = Block()
    model.attention.register_forward_pre_hook(lambda _, args: tuple(a + 1 for a in args))
    model.attention.register_forward_hook(lambda _, __, output: (output[0] * 2, output[1]))
    result = shrink.compress(model, torch.randn(1, 6, 12), params=0.5, measure=False)
    assert isinstance(result.model.attention, Graft)
    assert result.report.verification.passed
    assert len(model.attention._forward_hooks) == 1  # the caller's own


class Shifted(nn.Module):
    """Attention whose forward stores no width, with a module that other blocks use too."""

    def __init__(self, position: nn.Module) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 16)
        self.norm = nn.LayerNorm(16)
        self.position = position

    def forward(self, x: Tensor) -> Tensor:
        y = self.position(self.fc(x)).unflatten(1, (2 * 2, 2 * 2)).flatten(1)
        return self.norm(x + y)


class Sharing(nn.Module):
    """Two blocks that no attribute can mend, around one shared module (as CoaT's)."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Linear(16, 16)
        self.embed, self.head = nn.Linear(6, 16), nn.Linear(16, 3)
        self.one, self.two = Shifted(self.position), Shifted(self.position)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.two(self.one(self.embed(x))))


def test_blocks_that_share_a_module_are_replaced_together() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(2, 6)
    result = shrink.compress(Sharing(), inputs, params=0.5773, align=1, measure=False)
    assert result.report.verification.passed
    assert [g["module"] for g in result.report.grafts] == [""]
    assert result.model.one.norm.normalized_shape == (result.model.embed.out_features,)
    assert result.model.one.position is result.model.two.position
    result.model.train()(inputs).sum().backward()
