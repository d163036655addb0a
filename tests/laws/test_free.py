"""Inputs and outputs that are free to shrink: proven, replayed, and the plan says what is left."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import shrink


class Ends(nn.Module):
    """A stem with a norm over the input, a hidden layer, and two heads, one of them a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.LayerNorm(12)
        self.body = nn.Linear(12, 160)
        self.head, self.more = nn.Linear(160, 40), nn.Linear(160, 6)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.body(self.enter(x)).relu()
        return self.head(hidden).softmax(-1), self.more(hidden)


X = torch.randn(3, 12, generator=torch.Generator().manual_seed(0))


def compressed(*free: str, seed: int = 0) -> shrink.Result:
    torch.manual_seed(0)
    model = Ends()
    return shrink.compress(
        model, X, params=0.5, align=1, free=free, criterion="random", seed=seed, measure=False
    )


@pytest.mark.parametrize(
    ("free", "ends"),
    [
        ([], set()),
        (["output.0"], {"output.0"}),
        (["head", "more"], {"output.0", "output.1"}),
        (["input"], {"input"}),
        (["input:1", "output"], {"input", "output.0", "output.1"}),
    ],
    ids=["nothing", "one-output", "by-layer", "input", "all"],
)
def test_what_is_free_may_go_and_all_else_is_proven_to_stay(
    free: list[str], ends: set[str]
) -> None:
    result = compressed(*free)
    assert result.report.verification is not None
    assert result.report.verification.error <= 1e-9
    assert set(result.plan.interface) <= ends
    assert set(result.plan.interface) >= {e for e in ends if e in ("output.0", "input")}
    outputs = result.model(*result.inputs.args)
    sizes = {"input": result.inputs.args[0].shape[1], "output.0": 40, "output.1": 6}
    sizes |= {f"output.{i}": y.shape[1] for i, y in enumerate(outputs)}
    whole = {"input": 12, "output.0": 40, "output.1": 6}
    for name, size in sizes.items():
        kept = result.plan.interface.get(name, {1: tuple(range(whole[name]))})[1]
        assert len(kept) == size
    assert list(result.plan.request["free"]) == free


def test_what_is_left_of_the_outputs_is_what_the_plan_says() -> None:
    torch.manual_seed(0)
    model = nn.Linear(8, 200).eval()
    x = torch.randn(4, 8)
    result = shrink.compress(model, x, params=0.5, align=1, free=["output"], measure=False)
    (kept,) = result.plan.interface["output"].values()
    assert torch.equal(result.model(x), model(x)[:, list(kept)])


def test_a_plan_with_free_ends_is_replayed_and_verified_from_its_folder(tmp_path: Path) -> None:
    result = compressed("input", "output.0")
    result.save(tmp_path / "out")
    written = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert set(written["interface"]) == {"input", "output.0"}
    plan = shrink.load_plan(tmp_path / "out")
    assert plan.interface == result.plan.interface
    torch.manual_seed(0)
    model = Ends()
    again = shrink.apply(plan, model)
    assert again.plan.interface == plan.interface
    for name, tensor in result.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor)
    assert shrink.verify(tmp_path / "out", model).passed
    x = result.inputs.args[0]
    loaded = shrink.load(tmp_path / "out")(x)
    assert torch.allclose(loaded[0], result.model(x)[0], atol=1e-6)


def test_the_user_reads_that_the_ends_can_be_freed() -> None:
    torch.manual_seed(0)
    with pytest.raises(shrink.PlanError) as caught:
        shrink.compress(nn.Linear(8, 20), X[:, :8], params=0.5, measure=False)
    assert "network output" in caught.value.what
