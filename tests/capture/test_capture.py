"""Capture: the same operators as torch.export, names and sources on them, nothing left behind."""

import warnings
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn

import shrink
from shrink.capture.capture import capture
from shrink.core.errors import CaptureError, InputError
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


def _made(make: Callable[[Tensor], Tensor]) -> nn.Module:
    class Made(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return make(self.layer(x))

    return Made()


def _shift(x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    out[:, :2] = x[:, 2:]
    return out


def _swap(x: Tensor) -> Tensor:
    out = torch.empty_like(x)
    first, second = out.chunk(2, 1)
    first.copy_(x[:, 2:])
    second.copy_(x[:, :2])
    return out


@pytest.mark.parametrize(
    ("make", "made_by"),
    [
        (_shift, "zeros_like"),
        (_swap, "empty_like"),
        (lambda x: torch.empty(x.shape).copy_(x).add(1), "empty"),
        (lambda x: x.new_zeros(x.shape).add_(x), "new_zeros"),
        (lambda x: torch.full((3, 4), 2.0).masked_fill_(x > 0, 1.0), "full"),
        (lambda x: x + 0 * torch.randn(3, 4), "randn"),
        (lambda x: x.data + x.detach(), "linear"),
    ],
)
def test_made_tensors_are_linked_to_their_uses(
    make: Callable[[Tensor], Tensor], made_by: str
) -> None:
    graph = capture(_made(make), as_inputs(torch.zeros(3, 4)))
    (made,) = [n for n in graph.ops if str(n.target).startswith(f"aten.{made_by}.")]
    assert graph.capture == "meta"
    assert not graph.constants
    assert made.users


def test_data_of_a_parameter_is_that_parameter() -> None:
    class Data(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(x, self.layer.weight.data, self.layer.bias)

    graph = capture(Data(), as_inputs(torch.zeros(3, 4)))
    assert sorted(graph.tensors.values()) == ["layer.bias", "layer.weight"]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("explicit", [False, True])
def test_recurrent_layers_need_no_data(kind: type[nn.RNNBase], explicit: bool) -> None:  # noqa: FBT001
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = kind(4, 6, num_layers=2, bidirectional=True, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            zeros = torch.zeros(4, len(x), 6)
            states = (zeros, zeros) if isinstance(self.rnn, nn.LSTM) else zeros
            output: Tensor = self.rnn(x, states if explicit else None)[0]
            return output

    graph = capture(Recurrent(), as_inputs(torch.zeros(3, 5, 4)))
    assert graph.capture == "meta"
    assert any("zeros" in str(n.target) for n in graph.ops)
    assert not graph.constants


def test_hooks_of_the_model_belong_to_the_call_of_their_module() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    model[0].register_forward_pre_hook(lambda _, args: (args[0] + 1,))
    model[0].register_forward_hook(lambda _, __, output: output * 2)
    graph = capture(model, as_inputs(torch.zeros(1, 4)))
    (call,) = [c for c in graph.calls if c.path == "0"]
    names = [n.target._schema.name for n in graph.ops[call.start : call.stop]]
    assert names == ["aten::add", "aten::linear", "aten::mul"]


def test_compiled_models_are_captured_by_their_own_code() -> None:
    graph = capture(torch.compile(nn.Linear(4, 2)), as_inputs(torch.zeros(1, 4)))
    assert sorted(graph.tensors.values()) == ["_orig_mod.bias", "_orig_mod.weight"]


def test_scripted_activations_are_captured_and_scripted_weights_refused() -> None:
    class Swish(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.sigmoid(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        act, layer = torch.jit.script(Swish()), torch.jit.script(nn.Linear(4, 4))
    graph = capture(nn.Sequential(nn.Linear(4, 4), act), as_inputs(torch.zeros(1, 4)))
    assert any("sigmoid" in str(n.target) for n in graph.ops)
    with pytest.raises(InputError) as caught:
        capture(nn.Sequential(nn.Linear(4, 4), layer), as_inputs(torch.zeros(1, 4)))
    assert caught.value.where == "1"
    assert "scripted" in caught.value.fix


def test_nested_inputs_and_invisible_outputs_are_refused_with_a_remedy() -> None:
    class Silent(nn.Module):
        def forward(self, x: Tensor) -> None:
            self.seen = x

    with pytest.raises(InputError) as caught:
        capture(Silent(), as_inputs(torch.zeros(1, 4)))
    assert caught.value.where == "Silent"
    assert "dataclasses" in caught.value.fix
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nested tensors are a prototype
        nested = torch.nested.nested_tensor([torch.zeros(2, 4), torch.zeros(3, 4)])
    with pytest.raises(InputError) as caught:
        capture(nn.Linear(4, 4), as_inputs(nested))
    assert caught.value.where == "example_inputs"
    assert "dense" in caught.value.fix


def _sparse() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4))
    model.register_buffer("graph", torch.eye(4).to_sparse())
    return model


@pytest.mark.parametrize(
    ("make", "where", "fix"),
    [
        (lambda: nn.Sequential(nn.LazyLinear(8), nn.Linear(8, 4)), "0.weight", "forward pass"),
        (_sparse, "graph", "to_dense"),
    ],
    ids=["lazy", "sparse"],
)
def test_tensors_without_a_dense_shape_are_refused_with_a_remedy(
    make: Callable[[], nn.Module], where: str, fix: str
) -> None:
    x, dense = torch.zeros(1, 4), nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4))
    plan = shrink.compress(dense, x, flops=0.5, measure=False).plan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lazy modules announce themselves
        model = make()
    for ask in (
        lambda: shrink.compress(model, x, flops=0.5),
        lambda: shrink.inspect(model, x),
        lambda: shrink.measure(model, x, device="cpu"),
        lambda: shrink.apply(plan, model),
    ):
        with pytest.raises(InputError) as caught:
            ask()
        assert caught.value.where == where
        assert fix in caught.value.fix


def _seeded(x: Tensor) -> Tensor:
    return x + torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("make", "what", "fix"),
    [
        (torch.func.vmap(torch.relu), "torch.vmap", "whole batches"),
        (_seeded, "torch.Generator", "before `forward`"),
    ],
    ids=["vmap", "generator"],
)
def test_what_cannot_be_recorded_is_named_with_its_own_remedy(
    make: Callable[[Tensor], Tensor], what: str, fix: str
) -> None:
    with pytest.raises(CaptureError) as caught:
        capture(_made(make), as_inputs(torch.zeros(3, 4)))
    assert what in caught.value.what
    assert fix in caught.value.fix
