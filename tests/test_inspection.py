"""Inspection: what each group is and saves, and why the rest stays."""

import json

import msgspec
import pytest
import torch
from torch import Tensor, nn

import shrink
from shrink.remedies import remedy_for
from shrink.report.document import to_json


class Zoo(nn.Module):
    """One of each kind: embedding, recurrent units, heads, a grouped convolution, features."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 12)
        self.memory = nn.LSTM(12, 10, batch_first=True)
        self.attend = nn.MultiheadAttention(10, 2, batch_first=True)
        self.mix = nn.Conv1d(10, 8, 1)
        self.grouped = nn.Conv1d(8, 8, 1, groups=2)
        self.hidden, self.out = nn.Linear(8, 14), nn.Linear(14, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x, _ = self.memory(self.words(tokens))
        x, _ = self.attend(x, x, x, need_weights=False)
        x = self.grouped(self.mix(x.transpose(1, 2)).relu()).mean(2)
        return self.out(self.hidden(x).relu())


TOKENS = torch.arange(5).repeat(2, 1)


def test_every_kind_of_unit_is_called_what_it_is() -> None:
    found = shrink.inspect(Zoo(), TOKENS)
    kinds = {group["name"].split(".")[0]: group["kind"] for group in found.groups}
    every = {(group["name"].split(" in ")[0], group["kind"]) for group in found.groups}
    assert ("words.weight:1", "embedding width") in every
    assert kinds["memory"] == "recurrent units"
    assert {"heads", "head dims"} <= {kind for name, kind in every if name.startswith("attend")}
    assert {"conv groups", "channels of conv groups"} & {kind for _, kind in every}
    assert ("hidden.weight:0", "features") in every
    assert found.form == "grafts"
    assert [graft["module"] for graft in found.grafts] == ["attend"]


def test_shares_are_what_removing_one_group_alone_saves() -> None:
    model = nn.Sequential(
        nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 2)
    )
    found = shrink.inspect(model, torch.zeros(1, 4))
    assert (found.macs, found.params, found.form, found.problem) == (280, 312, "module", "")
    first, second = found.groups
    assert first["macs_share"] == pytest.approx(9 * (4 + 20) / 280)
    assert second["params_share"] == pytest.approx(19 * (10 + 1 + 2) / 312)
    assert found.prunable_macs == pytest.approx(1 - (4 + 1 + 2) / 280)


def test_what_stays_names_the_line_and_the_remedy() -> None:
    found = shrink.inspect(Zoo(), TOKENS)
    (output,) = [entry for entry in found.frozen if entry["reason"] == "network output"]
    assert output["module"] == "out"
    line = Zoo.forward.__code__.co_firstlineno + 4
    assert output["source"] == f"tests/test_inspection.py:{line}"
    assert output["where"] == f"out (tests/test_inspection.py:{line})"
    assert "free=['output']" in output["remedy"]


def test_a_model_without_code_of_its_own_has_no_line() -> None:
    found = shrink.inspect(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), torch.zeros(1, 4))
    (output,) = [entry for entry in found.frozen if entry["reason"] == "network output"]
    assert (output["module"], output["source"]) == ("1", "")


def test_a_remedy_that_is_pasted_works() -> None:
    names = [g["name"] for g in shrink.inspect(Zoo(), TOKENS, free=["output"]).groups]
    assert "out.weight:0" in names


def test_a_model_with_nothing_to_remove_is_described_all_the_same() -> None:
    found = shrink.inspect(nn.Linear(4, 2), torch.zeros(1, 4))
    assert (found.groups, found.form, found.prunable_macs) == ((), "none", 0)
    assert {entry["reason"] for entry in found.frozen} == {"network output", "network input"}


def test_the_model_is_left_as_it_was() -> None:
    model = Zoo().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    shrink.inspect(model, TOKENS)
    assert model.training
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


def test_as_json_it_has_the_documented_keys() -> None:
    document = json.loads(to_json(msgspec.to_builtins(shrink.inspect(Zoo(), TOKENS))))
    assert document["schema_version"] == 1
    keys = {"name", "kind", "size", "parts", "nested", "axes", "structure"}
    assert set(document["groups"][0]) == keys | {"macs_share", "params_share"}
    keys = {"axes", "size", "reason", "where", "module", "source", "remedy"}
    assert all(set(entry) == keys for entry in document["frozen"])


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("no rule for mylib::scan", "@shrink.couples('mylib::scan')"),
        ("the rule for mylib::scan fails: x", "shrink.testing.check_rule"),
        ("user: keep=head.*", "leave out keep=head.*"),
        ("user: only=layer1", "only=layer1 ..."),
        ("network input", "free=['input']"),
    ],
)
def test_reasons_have_remedies(reason: str, remedy: str) -> None:
    assert remedy in remedy_for(reason)


def test_what_an_operator_needs_has_none() -> None:
    assert remedy_for("position read by a convolution") == ""
