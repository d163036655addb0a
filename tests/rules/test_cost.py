"""Multiply-adds per operator: against numbers by hand, fvcore, and torch's own counter."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from shrink.core.inputs import Inputs, map_tensors
from shrink.measure.macs import count_macs
from shrink.rules.cost import counted, find_macs, macs, uncounted

aten = torch.ops.aten

# What torch's FlopCounterMode counts too, at two per multiply-add.
CONTRACTIONS = {
    "addmm",
    "baddbmm",
    "bmm",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose2d",
    "einsum",
    "linear",
    "matmul",
    "mm",
    "scaled_dot_product_attention",
}


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        """Call the function."""
        return self.function(*inputs)


def exported(model: nn.Module, *inputs: Tensor) -> list[fx.Node]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # recurrent layers re-assign their flat weights
        program = torch.export.export(model.eval(), inputs, strict=False)
    return [node for node in program.graph.nodes if node.op == "call_function"]


def shapes(value: object) -> object:
    """Replace nodes and tensors by their sizes in nested lists and tuples."""
    if isinstance(value, fx.Node):
        return shapes(value.meta["val"])
    if isinstance(value, list | tuple):
        return [shapes(item) for item in value]
    return map_tensors(value, lambda tensor: tuple(tensor.shape))


def from_graph(nodes: list[fx.Node]) -> Counter[str]:
    """Sum the formulas over a graph, by operator."""
    total: Counter[str] = Counter()
    for node in nodes:
        formula = find_macs(node.target)
        if formula is not None:
            value = node.meta["val"]
            outputs = value if isinstance(value, list | tuple) else [value]
            kwargs = {name: shapes(argument) for name, argument in node.kwargs.items()}
            count = formula(tuple(shapes(node.args)), kwargs, tuple(shapes(outputs)))
            total[node.target._schema.name.removeprefix("aten::")] += count
    return total


@pytest.fixture
def unfused_attention() -> Iterator[None]:
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(True)


def rand(*sizes: int) -> Tensor:
    return torch.rand(sizes)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(q, k, v, scale=0.5, enable_gqa=True)


CALLS = {
    "conv": (nn.Conv2d(4, 6, 3), [rand(2, 4, 8, 8)], 2 * 6 * 4 * 9 * 36),
    "conv groups": (nn.Conv2d(4, 6, 3, groups=2), [rand(2, 4, 8, 8)], 2 * 6 * 2 * 9 * 36),
    "conv unbatched": (nn.Conv2d(4, 6, 3), [rand(4, 8, 8)], 6 * 4 * 9 * 36),
    "conv same": (nn.Conv2d(4, 6, 3, padding="same"), [rand(2, 4, 8, 8)], 2 * 6 * 4 * 9 * 64),
    "conv 1d": (nn.Conv1d(4, 6, 3), [rand(2, 4, 8)], 2 * 6 * 4 * 3 * 6),
    "conv 3d": (nn.Conv3d(4, 6, 3), [rand(2, 4, 5, 5, 5)], 2 * 6 * 4 * 27 * 27),
    "conv transpose": (
        nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2),
        [rand(2, 4, 5, 5)],
        2 * 4 * 3 * 9 * 25,
    ),
    "linear": (nn.Linear(4, 6), [rand(2, 3, 4)], 2 * 3 * 4 * 6),
    "linear vector": (nn.Linear(4, 6), [rand(4)], 24),
    "bilinear": (nn.Bilinear(3, 4, 5), [rand(2, 3), rand(2, 4)], 2 * 3 * 4 * 5),
    "matmul": (Call(torch.matmul), [rand(2, 3, 4), rand(2, 4, 5)], 2 * 3 * 4 * 5),
    "matmul wide": (Call(torch.matmul), [rand(2, 3, 4), rand(4, 5)], 2 * 3 * 4 * 5),
    "matrix vector": (Call(torch.matmul), [rand(3, 4), rand(4)], 12),
    "vector matrix": (Call(torch.matmul), [rand(4), rand(4, 5)], 20),
    "vectors": (Call(torch.matmul), [rand(4), rand(4)], 4),
    "mm": (Call(torch.mm), [rand(3, 4), rand(4, 5)], 60),
    "bmm": (Call(torch.bmm), [rand(2, 3, 4), rand(2, 4, 5)], 120),
    "mv": (Call(torch.mv), [rand(3, 4), rand(4)], 12),
    "addmm": (Call(torch.addmm), [rand(5), rand(3, 4), rand(4, 5)], 60),
    "baddbmm": (Call(torch.baddbmm), [rand(2, 3, 5), rand(2, 3, 4), rand(2, 4, 5)], 120),
    "tensordot": (
        Call(lambda x, y: torch.tensordot(x, y, dims=([1], [0]))),
        [rand(3, 4), rand(4, 5, 2)],
        3 * 4 * 5 * 2,
    ),
    "einsum": (
        Call(lambda q, k: torch.einsum("B H i d, B H j d -> B H i j", q, k)),
        [rand(2, 3, 57, 8), rand(2, 3, 59, 8)],
        2 * 3 * 57 * 59 * 8,
    ),
    "einsum dots": (
        Call(lambda x, y: torch.einsum("...ij,jk", x, y)),
        [rand(2, 7, 3, 4), rand(4, 5)],
        2 * 7 * 3 * 4 * 5,
    ),
    "einsum chain": (
        Call(lambda x, y, z: torch.einsum("ij,jk,kl->il", x, y, z)),
        [rand(3, 4), rand(4, 5), rand(5, 6)],
        3 * 4 * 5 + 3 * 5 * 6,
    ),
    "attention": (
        Call(functional.scaled_dot_product_attention),
        [rand(2, 3, 5, 8), rand(2, 3, 7, 8), rand(2, 3, 7, 9)],
        2 * 3 * 5 * 7 * (8 + 9),
    ),
    "attention grouped": (
        Call(attend),
        [rand(2, 4, 5, 8), rand(2, 2, 7, 8), rand(2, 2, 7, 8)],
        2 * 4 * 5 * 7 * (8 + 8),
    ),
    "multi-head": (
        nn.MultiheadAttention(8, 2, batch_first=True),
        [rand(2, 5, 8)] * 3,
        4 * 2 * 5 * 8 * 8 + 2 * 2 * 5 * 5 * 8,
    ),
    "lstm": (
        nn.LSTM(4, 6, num_layers=2, bidirectional=True),
        [rand(3, 5, 4)],
        15 * 2 * 24 * ((4 + 6) + (12 + 6)),
    ),
    "gru": (nn.GRU(4, 6, batch_first=True), [rand(3, 5, 4)], 15 * 18 * (4 + 6)),
    "rnn": (nn.RNN(4, 6), [rand(5, 4)], 5 * 6 * (4 + 6)),
    "lstm cell": (nn.LSTMCell(4, 6), [rand(3, 4)], 3 * 24 * (4 + 6)),
    "gru cell": (nn.GRUCell(4, 6), [rand(3, 4)], 3 * 18 * (4 + 6)),
    "batch norm": (nn.BatchNorm2d(4), [rand(2, 4, 3, 3)], 72 * 2),
    "batch norm plain": (nn.BatchNorm2d(4, affine=False), [rand(2, 4, 3, 3)], 72),
    "batch norm batch": (nn.BatchNorm1d(4, track_running_stats=False), [rand(2, 4)], 8 * 5),
    "instance norm": (nn.InstanceNorm2d(4), [rand(2, 4, 3, 3)], 72 * 4),
    "group norm": (nn.GroupNorm(2, 4), [rand(2, 4, 3, 3)], 72 * 5),
    "layer norm": (nn.LayerNorm(4), [rand(2, 4)], 8 * 5),
    "layer norm plain": (nn.LayerNorm(4, elementwise_affine=False), [rand(2, 4)], 8 * 4),
    "layer norm vector": (nn.LayerNorm(4), [rand(4)], 4 * 5),
    "rms norm": (nn.RMSNorm(4), [rand(2, 4)], 8 * 5),
    "pool": (nn.AdaptiveAvgPool2d(1), [rand(2, 4, 3, 3)], 72),
    "nearest": (nn.Upsample(scale_factor=2), [rand(1, 2, 3, 3)], 72),
    "bilinear resize": (nn.Upsample(scale_factor=2, mode="bilinear"), [rand(1, 2, 3, 3)], 72 * 4),
    "grid": (
        Call(lambda x, grid: functional.grid_sample(x, grid, align_corners=False)),
        [rand(1, 2, 3, 3), rand(1, 5, 5, 2)],
        50 * 4,
    ),
    "deformable": (
        torchvision.ops.DeformConv2d(4, 6, 3),
        [rand(1, 4, 8, 8), rand(1, 18, 6, 6)],
        6 * 4 * 9 * 36,
    ),
}


@pytest.mark.parametrize(("model", "inputs", "expected"), CALLS.values(), ids=CALLS.keys())
def test_graph_and_fvcore_give_the_number_by_hand(
    model: nn.Module, inputs: list[Tensor], expected: int
) -> None:
    assert from_graph(exported(model, *inputs)).total() == expected
    assert count_macs(model, Inputs(tuple(inputs)))[0] == expected


MODELS = [
    "resnet18",
    "mobilenet_v3_small",
    pytest.param("shufflenet_v2_x0_5", marks=pytest.mark.slow),
    pytest.param("mnasnet0_5", marks=pytest.mark.slow),
    pytest.param("vit_b_32", marks=pytest.mark.slow),
    pytest.param("densenet121", marks=pytest.mark.slow),
    pytest.param("swin_t", marks=pytest.mark.slow),
    pytest.param("swin_v2_t", marks=pytest.mark.slow),
    pytest.param("convnext_tiny", marks=pytest.mark.slow),
    pytest.param("googlenet", marks=pytest.mark.slow),
    pytest.param("efficientnet_b0", marks=pytest.mark.slow),
    pytest.param("maxvit_t", marks=pytest.mark.slow),
    pytest.param("r3d_18", marks=pytest.mark.slow),
]


@pytest.mark.usefixtures("unfused_attention")
@pytest.mark.parametrize("name", MODELS)
def test_whole_models_agree_with_fvcore_and_flop_counter(name: str) -> None:
    options: dict[str, Any] = {"init_weights": False} if name == "googlenet" else {}
    if name == "vit_b_32":
        options = {"image_size": 64}
    model = torchvision.models.get_model(name, weights=None, **options).eval()
    size = 224 if name == "maxvit_t" else 64
    x = rand(1, 3, 4, size, size) if name == "r3d_18" else rand(1, 3, size, size)

    nodes = exported(model, x)
    by_operator = from_graph(nodes)
    with torch.no_grad(), FlopCounterMode(display=False) as oracle:
        model(x)
    total, left_out = count_macs(model, Inputs((x,)))

    assert by_operator.total() == total
    contractions = sum(n for name, n in by_operator.items() if name in CONTRACTIONS)
    assert 2 * contractions == oracle.get_total_flops()
    from_nodes = uncounted(node.target for node in nodes)
    assert left_out.keys() - {"element-wise"} == from_nodes.keys() - {"element-wise"}


class Symbol:
    """A size that knows nothing but + and *, as the planner's polynomials."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __add__(self, other: "Symbol | int") -> "Symbol":
        return Symbol(self.value + (other.value if isinstance(other, Symbol) else other))

    def __mul__(self, other: "Symbol | int") -> "Symbol":
        return Symbol(self.value * (other.value if isinstance(other, Symbol) else other))

    __radd__ = __add__
    __rmul__ = __mul__
    __eq__ = None  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


def symbolic(value: object) -> object:
    """Replace the sizes in tuples by symbols; lists hold arguments that are no sizes."""
    if isinstance(value, tuple):
        return tuple(Symbol(n) if isinstance(n, int) else symbolic(n) for n in value)
    return [symbolic(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("model", "inputs", "expected"), CALLS.values(), ids=CALLS.keys())
def test_formulas_only_add_and_multiply_sizes(
    model: nn.Module, inputs: list[Tensor], expected: int
) -> None:
    total: Symbol | int = 0
    for node in exported(model, *inputs):
        formula = find_macs(node.target)
        if formula is not None:
            value = node.meta["val"]
            outputs = value if isinstance(value, list | tuple) else [value]
            args = tuple(symbolic(item) for item in shapes(node.args))
            total = total + formula(args, {}, tuple(symbolic(item) for item in shapes(outputs)))
    assert isinstance(total, Symbol)
    assert total.value == expected


def test_registering_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="aten::conv2d has a formula already"):
        macs(aten.conv2d.padding)(lambda *_: 0)


def test_overloads_and_names_find_the_same_formula() -> None:
    assert find_macs(aten.conv2d.default) is find_macs(aten.conv2d.padding)
    assert find_macs("aten::conv2d") is find_macs(aten.conv2d) is counted()["aten::conv2d"]
    assert find_macs(aten.relu.default) is None


def test_uncounted_operators_are_named_and_element_wise_ones_summed_up() -> None:
    ops = [
        *[aten.max_pool2d.default] * 2,
        aten.relu_.default,
        aten.conv2d.default,
        aten.view.default,
        aten.unflatten.int,
        aten.add_.Tensor,
        aten.softmax.int,
        aten.hardswish_.default,
        "aten::gelu",
        "custom::mystery",
        "prim::PythonOp.Mine",
    ]
    assert uncounted(ops) == {
        "element-wise": 4,
        "max_pool2d": 2,
        "custom::mystery": 1,
        "prim::PythonOp.Mine": 1,
    }
