"""What holds of every compressed network, whatever it is made of."""

import copy
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import shrink
from shrink.artifact.plan_file import plan_from_text, plan_to_text
from shrink.capture.capture import capture
from shrink.core.inputs import as_inputs, describe, tensors_in
from shrink.core.plan import Plan
from shrink.measure.macs import count_macs
from shrink.rules.cost import find_macs
from tests.laws.networks import Network, networks
from tests.laws.reachable import compress
from tests.rules.test_cost import CONTRACTIONS


@dataclass(frozen=True)
class Case:
    """A network and what is asked for."""

    network: Network
    flops: float
    align: int | str
    criterion: str
    seed: int

    def compress(self, model: nn.Module) -> shrink.Result:
        """Compress to the budget, or to the one that the refusal names as reachable."""
        options: dict[str, Any] = {"criterion": self.criterion, "seed": self.seed}
        result = compress(model, self.network.inputs(), self.flops, align=self.align, **options)
        assume(result is not None)
        assert result is not None
        return result


CASES = st.builds(
    Case,
    networks(),
    st.integers(40, 80).map(lambda percent: percent / 100),
    st.sampled_from([1, "auto"]),
    st.sampled_from(["l2", "random"]),
    st.integers(0, 9),
)


def certificate_passes(case: Case) -> None:
    result = case.compress(case.network.build())
    assert result.report.verification is not None
    assert result.report.verification.passed
    assert result.report.verification.error <= 1e-9


def sliced_is_masked(case: Case) -> None:
    """The original with its removed weights zeroed computes what the smaller network does."""
    assume(not case.network.normalises_channels)
    model, x = case.network.build(), case.network.inputs().double()
    result = case.compress(model)
    masked = copy.deepcopy(model).double()
    stored = dict(masked.state_dict())
    for name, dims in result.plan.keep.items():
        for dim, kept in dims.items():
            removed = sorted(set(range(stored[name].shape[dim])) - set(kept))
            stored[name].index_fill_(dim, torch.tensor(removed), 0)
    smaller = copy.deepcopy(result.model).double()
    with torch.no_grad():
        expected, found = tensors_in(masked(x)), tensors_in(smaller(x))
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-9 * float(b.abs().max()))


def weights_are_those_kept(case: Case) -> None:
    model = case.network.build()
    result = case.compress(model)
    smaller = result.model.state_dict()
    assert list(smaller) == list(model.state_dict())
    for name, tensor in model.state_dict().items():
        expected = tensor
        for dim, kept in result.plan.keep.get(name, {}).items():
            expected = expected.index_select(dim, torch.tensor(kept))
        assert torch.equal(smaller[name], expected), name
    assert any(smaller[n].shape != t.shape for n, t in model.state_dict().items())


def plan_can_be_replayed(case: Case) -> None:
    model = case.network.build()
    result = case.compress(model)
    plan = plan_from_text(plan_to_text(result.plan))
    assert plan == result.plan
    replayed = shrink.apply(plan, model, verify=False).model
    assert_equal_state(result.model, replayed)
    assert_equal_state(result.model, case.compress(case.network.build()).model)


def keeping_all_is_the_identity(case: Case) -> None:
    model, x = case.network.build(), case.network.inputs()
    same = shrink.apply(Plan({}, {}, inputs=describe(as_inputs(x))), model)
    assert same.report.model["form"] == "module"
    assert_equal_state(model, same.model)
    assert same.report.after.macs == same.report.before.macs
    with torch.no_grad():
        for a, b in zip(tensors_in(model(x)), tensors_in(same.model(x)), strict=True):
            assert torch.equal(a, b)


def caller_is_left_alone(case: Case) -> None:
    model, x = case.network.build(), case.network.inputs()
    model.train(case.seed % 2 == 0)
    list(model.modules())[-1].eval()
    next(model.parameters()).requires_grad_(requires_grad=False)
    with torch.random.fork_rng(devices=[]):
        sum(t.sum() for t in tensors_in(model(x))).backward()
    before = fingerprint(model)
    case.compress(model)
    assert fingerprint(model) == before
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()


def costs_are_exact(case: Case) -> None:
    model, x = case.network.build(), case.network.inputs()
    result = case.compress(model)
    for cost, network in ((result.report.before, model), (result.report.after, result.model)):
        assert cost.macs == count_macs(network, as_inputs(x))[0]
        assert cost.params == sum(p.numel() for p in network.parameters())
        with FlopCounterMode(display=False) as counter:  # with grad: attention is not fused away
            network(x)
        assert counter.get_total_flops() == 2 * contractions(network, x)
    reached = result.report.after.macs / result.report.before.macs
    assert 0.99 * result.plan.request["flops"] <= reached <= result.plan.request["flops"]


def smaller_is_a_whole_module(case: Case) -> None:
    """It trains, evaluates, copies and pickles."""
    model, x = case.network.build(), case.network.inputs()
    smaller = case.compress(model).model
    assert not smaller.training
    with torch.no_grad():
        outputs = tensors_in(smaller(x))
        for twin in (copy.deepcopy(smaller), pickled(smaller)):
            for a, b in zip(tensors_in(twin(x)), outputs, strict=True):
                assert torch.equal(a, b)
        for a, b in zip(outputs, tensors_in(model(x)), strict=True):
            assert a.shape == b.shape
    smaller.train()
    with torch.random.fork_rng(devices=[]):
        sum(t.square().sum() for t in tensors_in(smaller(x))).backward()
        used = {n for n, p in model.named_parameters()}
    assert {n for n, p in smaller.named_parameters() if p.grad is not None} == used
    assert all(p.grad.isfinite().all() for p in smaller.parameters())


LAWS: dict[Callable[[Case], None], int] = {
    certificate_passes: 12,
    sliced_is_masked: 12,
    weights_are_those_kept: 8,
    plan_can_be_replayed: 6,
    keeping_all_is_the_identity: 6,
    caller_is_left_alone: 6,
    costs_are_exact: 6,
    smaller_is_a_whole_module: 8,
}


def hold(law: Callable[[Case], None], examples: int, *, shrink_failures: bool = False) -> None:
    """Check a law on drawn cases; what fails is a description that makes the same network."""

    @settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink) if shrink_failures else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(CASES)
    def check(case: Case) -> None:
        law(case)

    check()


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law(law: Callable[[Case], None]) -> None:
    hold(law, LAWS[law])


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law_on_many(law: Callable[[Case], None]) -> None:
    hold(law, 25, shrink_failures=True)


def assert_equal_state(a: nn.Module, b: nn.Module) -> None:
    left, right = a.state_dict(), b.state_dict()
    assert list(left) == list(right)
    for name, tensor in left.items():
        assert torch.equal(tensor, right[name]), name


def fingerprint(model: nn.Module) -> list[Any]:
    """Write down all that a caller could see change, the global random state included."""
    facts: list[Any] = [torch.get_rng_state().tolist()]
    for name, module in model.named_modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        plain = {k: v for k, v in vars(module).items() if isinstance(v, int | float | tuple | str)}
        facts.append((name, id(module), module.training, [len(h) for h in hooks], plain))
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        grad = None if tensor.grad is None else tensor.grad.tolist()
        facts.append((name, id(tensor), tensor.requires_grad, tensor._version, grad))
        facts.append(tensor.tolist())
    return facts


def contractions(model: nn.Module, x: Tensor) -> int:
    """Count the multiply-adds of convolutions, linear layers, products and attention."""
    total = 0
    for node in capture(model, as_inputs(x)).ops:
        name = getattr(getattr(node.target, "_schema", None), "name", "")
        if name.removeprefix("aten::") in CONTRACTIONS:
            formula = find_macs(node.target)
            assert formula is not None, name
            args, kwargs = torch.fx.map_arg(
                (node.args, dict(node.kwargs)), lambda n: tuple(n.meta["val"].shape)
            )
            total += int(formula(args, kwargs, (tuple(node.meta["val"].shape),)))
    return total


def pickled(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)
