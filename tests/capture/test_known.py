"""Values known without data: numbers from Python and what follows from them; nothing else."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from shrink.capture.capture import capture
from shrink.capture.dispatch import record
from shrink.core.errors import CaptureError
from shrink.core.inputs import as_inputs

ELSEWHERE = torch.full((4,), 2.0)


class Body(nn.Module):
    def __init__(self, forward: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("ready", torch.tensor([True, False]))
        self.tables = [torch.arange(4)]
        self.body = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, self.layer(x))


def _branch_on_a_mask(_: nn.Module, x: Tensor) -> Tensor:
    return x.relu() if (torch.arange(4) > 2).any() else x


def _loop_over_positions(_: nn.Module, x: Tensor) -> Tensor:
    return sum((x[:, i] for i in torch.arange(0, 4, 2).tolist()), x[:, 0]).relu()


def _select_by_a_mask(_: nn.Module, x: Tensor) -> Tensor:
    return x[:, torch.ones(4, 4).tril()[2] > 0].relu()


def _read_after_writing(_: nn.Module, x: Tensor) -> Tensor:
    order = torch.zeros(4, dtype=torch.long)
    order[1:] = torch.arange(3)
    return x.relu() if order.max().item() == 2 else x


def _read_a_flag(self: nn.Module, x: Tensor) -> Tensor:
    return x.relu() if self.ready[0] else x


def _read_a_list(self: nn.Module, x: Tensor) -> Tensor:
    return x[:, self.tables[0]].relu()


def _numbers_of_numpy(_: nn.Module, x: Tensor) -> Tensor:
    return (x * torch.from_numpy(ELSEWHERE.numpy())).relu()


def _numbers_from_elsewhere(_: nn.Module, x: Tensor) -> Tensor:
    return (x * ELSEWHERE + x.new_tensor([1.0])).relu()


@pytest.mark.parametrize(
    "forward",
    [
        _branch_on_a_mask,
        _loop_over_positions,
        _select_by_a_mask,
        _read_after_writing,
        _read_a_flag,
        _read_a_list,
        _numbers_of_numpy,
        _numbers_from_elsewhere,
    ],
)
def test_numbers_of_the_code_are_known_without_data(
    forward: Callable[[nn.Module, Tensor], Tensor],
) -> None:
    model, x = Body(forward), torch.randn(3, 4)
    graph = record(model, as_inputs(x), worlds=("meta",))
    last = graph.ops[-1]
    assert str(last.target) == "aten.relu.default"
    assert tuple(last.meta["val"].shape) == tuple(model(x).shape)


def test_constants_keep_their_numbers_though_forward_writes_into_them() -> None:
    def write(_: nn.Module, x: Tensor) -> Tensor:
        scale = torch.tensor([1.0, 2.0, 3.0, 4.0])
        scale[0] = 5
        return x * scale

    graph = capture(Body(write), as_inputs(torch.zeros(3, 4)))
    (constant,) = graph.constants.values()
    assert graph.capture == "meta"
    assert constant.tolist() == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    "read",
    [
        lambda self, x: x * self.layer.weight.sum().item(),
        lambda _, x: x if x.sum() > 0 else -x,
        lambda _, x: x * torch.linspace(0, 1, 4)[1].item(),  # float32 here, float64 when verified
        lambda _, x: x * torch.rand(4).argmax().item(),
        lambda _, x: x * torch.zeros(4).copy_(x[0]).argmax().item(),
    ],
    ids=["weights", "inputs", "floats", "random", "written"],
)
def test_other_values_are_read_from_data(read: Callable[[nn.Module, Tensor], Tensor]) -> None:
    model, x = Body(read), as_inputs(torch.ones(3, 4))
    with pytest.raises(CaptureError):
        record(model, x, worlds=("meta",))
    assert capture(model, x).capture == "real"


def test_a_tensor_that_is_no_part_of_the_model_is_not_written_into() -> None:
    outside = torch.zeros(4)

    def write(_: nn.Module, x: Tensor) -> Tensor:
        return outside.add_(x[0])

    with pytest.raises(CaptureError, match="no part of the model"):
        record(Body(write), as_inputs(torch.ones(3, 4)), worlds=("meta",))
    assert not outside.any()
