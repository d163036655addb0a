"""The copy that is measured: shared where it can be, converted where it must be."""

import pytest
import torch
from torch import Tensor, nn

from shrink.core.errors import InputError
from shrink.core.inputs import Inputs
from shrink.measure.prepare import prepare


class _Remembers(nn.Module):
    """Keeps its last result, as a position cache does, and counts its calls in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last = self.linear(x)
        return self.last


def test_running_leaves_no_trace_on_the_model() -> None:
    net = _Remembers()
    prepared = prepare(net, Inputs((torch.rand(2, 4),)))
    with torch.inference_mode():
        prepared.run()
    assert net.training
    assert not prepared.model.training
    assert net.last is None
    assert net.calls.item() == 0


def test_parameters_are_shared_until_they_need_conversion() -> None:
    net = nn.Linear(4, 4)
    call = Inputs((torch.rand(2, 4),))
    same = prepare(net, call).model.get_parameter("weight")
    half = prepare(net, call, dtype=torch.bfloat16).model.get_parameter("weight")
    assert same.data_ptr() == net.weight.data_ptr()
    assert half.dtype == torch.bfloat16
    assert net.weight.dtype == torch.float32


def test_dtype_changes_floating_tensors_only() -> None:
    net = nn.Sequential(nn.BatchNorm1d(4))
    call = Inputs((torch.rand(2, 4),), {"index": torch.tensor([1])})
    prepared = prepare(net, call, dtype=torch.float64)
    assert prepared.model.get_buffer("0.num_batches_tracked").dtype == torch.int64
    assert prepared.model.get_buffer("0.running_mean").dtype == torch.float64
    assert prepared.inputs.args[0].dtype == torch.float64
    assert prepared.inputs.kwargs["index"].dtype == torch.int64


@pytest.mark.parametrize(
    ("net", "size", "layout"),
    [
        (nn.Conv2d(3, 4, 3), (1, 3, 8, 8), torch.channels_last),
        (nn.Conv3d(3, 4, 3), (1, 3, 8, 8, 8), torch.channels_last_3d),
    ],
    ids=["2d", "3d"],
)
def test_channels_last_lays_out_weights_and_inputs(
    net: nn.Module, size: tuple[int, ...], layout: torch.memory_format
) -> None:
    prepared = prepare(net, Inputs((torch.rand(size),)), channels_last=True)
    assert prepared.model.get_parameter("weight").is_contiguous(memory_format=layout)
    assert prepared.inputs.args[0].is_contiguous(memory_format=layout)
    assert net.get_parameter("weight").is_contiguous()


def test_tied_parameters_stay_tied() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    copy = prepare(nn.Sequential(first, second), Inputs((torch.rand(1, 4),)), dtype=torch.float64)
    assert copy.model.get_parameter("0.weight") is copy.model.get_parameter("1.weight")


def test_computed_tensors_on_modules_are_copied() -> None:
    net = nn.Linear(4, 4)
    net.scaled = net.weight * 2  # no leaf: deepcopy alone refuses it
    prepared = prepare(net, Inputs((torch.rand(1, 4),)))
    assert torch.equal(prepared.model.scaled, net.scaled)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")
def test_absent_cuda_is_one_clear_error() -> None:
    with pytest.raises(InputError, match="CUDA is not available") as caught:
        prepare(nn.Linear(4, 4), Inputs((torch.rand(1, 4),)), device="cuda:0")
    assert caught.value.where == "device=cuda:0"
    assert caught.value.fix == "use device='cpu'"
