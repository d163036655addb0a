"""Peak memory: what is alive at once, by hand, and by the CUDA allocator."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from shrink.core.graph import Graph
from shrink.core.inputs import Inputs
from shrink.measure.memory import activation_peak_bytes, cuda_peak_bytes
from shrink.measure.prepare import prepare

SIZE = 100 * 4  # bytes of the input and of every result below


class _Call(nn.Module):
    def __init__(self, function: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> object:
        return self.function(x)


def captured(model: nn.Module, *inputs: Tensor) -> Graph:
    """Export a model as the graph type of the pipeline; its stored tensors become placeholders."""
    program = torch.export.export(model.eval(), inputs, strict=False)
    return Graph(
        fx=program.graph,
        ops=tuple(node for node in program.graph.nodes if node.op == "call_function"),
        tensors={},
        stored=dict(model.state_dict()),
        aliases={},
        inputs=(),
        calls=(),
        constants={},
        capture="export",
    )


def branches(x: Tensor) -> Tensor:
    kept = x.exp()
    return kept + kept.sin().cos()


def rewrites(x: Tensor) -> Tensor:
    return x.exp().relu_().add_(1)


def looks(x: Tensor) -> Tensor:
    base = x.exp()
    left, right = base.view(10, 10).transpose(0, 1).chunk(2)
    return left + right


def views_outlive(x: Tensor) -> Tensor:
    part = x.exp()[:1]
    return part + x.sin().cos().sum()


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x.exp().sin().cos(), 2 * SIZE),
        (branches, 3 * SIZE),
        (rewrites, SIZE),
        (looks, SIZE + SIZE // 2),
        (lambda x: x.exp().view(10, 10).t().reshape(100), 2 * SIZE),
        (views_outlive, 3 * SIZE),
        (lambda x: (x.exp(), x.sin(), x.cos()), 3 * SIZE),
        (lambda x: x.view(10, 10), 0),
    ],
    ids=["chain", "branches", "in-place", "views", "copy", "view-outlives", "outputs", "input"],
)
def test_peak_is_the_most_alive_at_once_and_the_input(
    function: Callable[[Tensor], object], expected: int
) -> None:
    assert activation_peak_bytes(captured(_Call(function), torch.rand(100))) == SIZE + expected


def test_stored_tensors_count_used_or_not() -> None:
    net = nn.Linear(100, 100, bias=False)
    net.register_buffer("unused", torch.zeros(7))
    graph = Graph(
        **{**vars(captured(_Call(torch.exp), torch.rand(100))), "stored": dict(net.state_dict())}
    )
    assert activation_peak_bytes(graph) == 100 * 100 * 4 + 7 * 4 + 2 * SIZE


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_peak_covers_weights_input_and_results_alone() -> None:
    elsewhere = torch.zeros(1 << 24, device="cuda")
    net = nn.Sequential(nn.Linear(1024, 1024, bias=False), nn.ReLU())
    call = Inputs((torch.rand(1024, 1024),))
    peak = cuda_peak_bytes(prepare(net, call, device="cuda"))
    tensor = 1024 * 1024 * 4
    assert 3 * tensor < peak <= 5 * tensor < elsewhere.nbytes
