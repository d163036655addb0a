"""Capture: the same operators as torch.export, names and sources on them, nothing left behind."""

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn

from shrink.capture.capture import capture
from shrink.core.errors import CaptureError
from shrink.core.inputs import as_inputs

IMAGE = torch.zeros(1, 3, 64, 64)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return torch.relu(self.layer(x))
        return self.layer(x)


@pytest.mark.parametrize("name", ["resnet18", "shufflenet_v2_x0_5", "mobilenet_v3_small"])
def test_operators_are_those_of_torch_export(name: str) -> None:
    model = torchvision.models.get_model(name, weights=None).eval()
    exported = torch.export.export(model, (IMAGE,), strict=False)
    wanted = [str(n.target) for n in exported.graph.nodes if n.op == "call_function"]
    graph = capture(model, as_inputs(IMAGE))
    assert graph.capture == "meta"
    assert [str(n.target) for n in graph.ops] == wanted


def test_nodes_carry_module_source_and_tensor_names() -> None:
    model = torchvision.models.resnet18(weights=None)
    graph = capture(model, as_inputs(IMAGE))
    first = graph.ops[0]
    assert graph.calls[first.meta["call"]].path == "conv1"
    assert first.meta["source"].startswith("models/resnet.py:")
    assert set(graph.tensors.values()) <= set(graph.stored)
    assert "fc.weight" in graph.tensors.values()


def test_the_model_is_left_as_it_was() -> None:
    model = torchvision.models.resnet18(weights=None).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    capture(model, as_inputs(IMAGE))
    assert model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_control_flow_on_data_is_recorded_on_the_example() -> None:
    graph = capture(Branching(), as_inputs(torch.ones(2, 4)))
    assert graph.capture == "real"
    assert any("relu" in str(n.target) for n in graph.ops)


def test_a_wrong_input_shape_names_the_place_and_a_remedy() -> None:
    with pytest.raises(CaptureError) as caught:
        capture(nn.Sequential(nn.Linear(4, 4), nn.Linear(5, 2)), as_inputs(torch.zeros(1, 4)))
    assert caught.value.where == "1"
    assert "example inputs" in caught.value.fix


def test_constants_made_in_forward_keep_their_numbers() -> None:
    class Scaled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.tensor([1.0, 2.0])

    graph = capture(Scaled(), as_inputs(torch.zeros(3, 2)))
    (constant,) = graph.constants.values()
    assert constant.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("make", [torch.zeros_like, torch.ones_like, torch.empty_like])
def test_tensors_made_like_another_need_no_data(make: Callable[[Tensor], Tensor]) -> None:
    class Accumulating(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return make(x).add_(x)

    graph = capture(Accumulating(), as_inputs(torch.zeros(3, 2)))
    assert graph.capture == "meta"
    assert not graph.constants


def test_training_only_branches_are_captured_beside() -> None:
    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head, self.aux = nn.Linear(4, 8), nn.Linear(8, 2), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
            x = self.body(x)
            return (self.head(x), self.aux(x)) if self.training else self.head(x)

    graph = capture(Auxiliary(), as_inputs(torch.zeros(1, 4)))
    assert graph.training is not None
    assert "aux.weight" in graph.training.tensors.values()
