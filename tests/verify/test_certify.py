"""The certificate: it passes what is right, and finds what is wrong."""

import pytest
import torch
from torch import nn

import shrink
from shrink import api
from shrink.capture.capture import capture
from shrink.core.graph import Graph
from shrink.core.inputs import as_inputs
from shrink.core.report import Certificate
from shrink.groups.find import find_groups
from shrink.plan.write import alive_units
from shrink.verify.certify import certify

X = torch.randn(1, 3, 8, 8)


def build(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 4),
    )


def certificate_of(model: nn.Module, result: shrink.Result) -> Certificate:
    return certificate_of_graph(model, result, capture(model, as_inputs(X)))


def certificate_of_graph(model: nn.Module, result: shrink.Result, graph: Graph) -> Certificate:
    groups = find_groups(graph)
    kept = alive_units(groups, result.plan)
    return certify(model, result.model, as_inputs(X), graph, groups, kept, result.plan)


@pytest.fixture
def made() -> tuple[nn.Module, shrink.Result]:
    model = build()
    return model, shrink.compress(model, X, flops=0.5, align=1, measure=False)


def test_what_is_right_passes(made: tuple[nn.Module, shrink.Result]) -> None:
    found = certificate_of(*made)
    assert found.passed
    assert found.error <= 1e-12
    assert found.dtype == "float64"


@pytest.mark.parametrize("name", ["0.weight", "1.running_var", "3.bias", "6.weight"])
def test_any_wrong_weight_fails_and_is_named(
    made: tuple[nn.Module, shrink.Result], name: str
) -> None:
    model, result = made
    tensor = result.model.state_dict()[name]
    tensor[0] += 0.01
    found = certificate_of(model, result)
    assert not found.passed
    assert found.first_difference == name.partition(".")[0]


def test_swapped_channels_fail(made: tuple[nn.Module, shrink.Result]) -> None:
    model, result = made
    weight = result.model.state_dict()["3.weight"]
    weight.copy_(weight.flip(1))
    assert not certificate_of(model, result).passed


def test_a_head_of_zeros_is_no_excuse() -> None:
    model = build()
    nn.init.zeros_(model[6].weight)
    result = shrink.compress(model, X, flops=0.5, align=1, measure=False)
    result.model.state_dict()["0.weight"][0] += 0.01
    assert not certificate_of(model, result).passed


def test_the_smaller_model_is_given_back_bit_for_bit(
    made: tuple[nn.Module, shrink.Result],
) -> None:
    model, _ = made
    result = shrink.compress(model, X, flops=0.5, align=1, verify=False, measure=False)
    before = {k: v.clone() for k, v in result.model.state_dict().items()}
    assert {v.dtype for v in before.values()} == {torch.float32, torch.int64}
    certificate_of(model, result)
    after = result.model.state_dict()
    assert all(torch.equal(v, before[k]) and v.dtype == before[k].dtype for k, v in after.items())


class Tied(nn.Module):
    """Reads a parameter of a module that does not run, and of one that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 200)
        self.mix = nn.Linear(200, 200, bias=False)
        self.bank = nn.Linear(200, 200)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.mix(self.mix(self.embed(ids)).relu())
        x = x + nn.functional.linear(x, self.bank.weight, self.bank.bias).relu()
        return nn.functional.linear(x, self.embed.weight.float())


def test_shared_parameters_and_functional_reads_are_in_float64() -> None:
    torch.manual_seed(0)
    model, ids = Tied(), torch.randint(0, 20, (2, 5))
    result = shrink.compress(model, ids, params=0.49, align=1, measure=False)
    assert result.report.verification is not None
    assert result.report.verification.error <= 1e-13  # a step in float32 leaves 1e-7


def test_an_exception_in_the_smaller_model_fails_and_names_its_module(
    made: tuple[nn.Module, shrink.Result],
) -> None:
    model, result = made
    result.model[3].groups = 3
    found = certificate_of(model, result)
    assert not found.passed
    assert found.error == float("inf")
    assert found.first_difference.startswith("3 (RuntimeError: ")


def test_outputs_of_zeros_prove_nothing() -> None:
    class Nothing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = build()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x) * 0

    model = Nothing()
    with pytest.raises(shrink.VerificationError) as caught:
        shrink.compress(model, X, flops=0.5, align=1, measure=False)
    assert "nothing" in str(caught.value) or "no output" in str(caught.value)


class Chosen(nn.Module):
    """Runs its head only if its input says so; `build` before, selection by value after."""

    def __init__(self, least: float = 0.0) -> None:
        super().__init__()
        self.least = least
        self.body = build()
        self.head = nn.Sequential(nn.Linear(4, 256), nn.ReLU(), nn.Linear(256, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(x)
        if x.abs().sum() > self.least:
            x = self.head(x[x[:, 0] > -1e9])
        return x[x[:, 0] > -1e9]


def test_a_model_that_depends_on_data_is_compared_block_by_block() -> None:
    torch.manual_seed(0)
    model = Chosen()
    result = shrink.compress(model, X, params=0.5, align=1, measure=False)
    assert result.report.model["capture"] == "real"
    assert result.report.verification is not None
    assert result.report.verification.error <= 1e-12
    result.model.state_dict()["body.3.weight"][0] += 0.01
    found = certificate_of(model, result)
    assert not found.passed
    assert found.first_difference == "body.3"


def test_a_block_that_does_not_run_is_not_proven() -> None:
    torch.manual_seed(0)
    model = Chosen()
    result = shrink.compress(model, X, params=0.5, align=1, measure=False)
    graph = capture(model, as_inputs(X))
    model.least = float("inf")  # as if fresh inputs never reached the head
    found = certificate_of_graph(model, result, graph)
    assert not found.passed
    assert found.error == float("inf")
    assert found.first_difference.startswith("head.")
    assert found.first_difference.endswith("could not be compared")


def test_a_failed_certificate_stops_compress(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = Certificate(
        passed=False, error=1.0, tolerance=1e-9, dtype="float64", device="cpu", trials=1
    )
    monkeypatch.setattr(api, "certify", lambda *_, **__: failed)
    with pytest.raises(shrink.VerificationError) as caught:
        shrink.compress(build(), X, flops=0.5, align=1, measure=False)
    assert caught.value.exit_code == 3


class Averaging(nn.Module):
    """Keeps a running mean in evaluation too, written in place or anew, and counts its calls."""

    def __init__(self, *, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place
        self.body, self.head = nn.Linear(8, 16), nn.Linear(16, 4)
        self.register_buffer("mean", torch.rand(16))
        self.register_buffer("calls", torch.ones((), dtype=torch.long))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.body(x))
        if self.in_place:
            self.mean.mul_(0.9).add_(x.mean(0) * 0.1)
        else:
            self.mean = self.mean * 0.9 + x.mean(0) * 0.1
        self.calls += 1
        return self.head(x - self.mean) / self.calls


@pytest.mark.parametrize("in_place", [True, False])
def test_state_that_forward_writes_begins_alike_and_is_left_as_it_was(in_place: bool) -> None:  # noqa: FBT001
    torch.manual_seed(0)
    model = Averaging(in_place=in_place)
    mean = model.mean.clone()
    found = shrink.compress(model, torch.randn(4, 8), flops=0.5, measure=False)
    assert found.report.verification.passed
    assert torch.equal(model.mean, mean)
    assert torch.equal(found.model.mean, mean[list(found.plan.keep["mean"][0])])
    assert model.calls == found.model.calls == 1
