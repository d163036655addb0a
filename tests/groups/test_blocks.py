"""Blocks of many kinds: each loses something, provably, and nothing stays whole unsaid."""

import pytest
import torch
from torch import nn

from shrink.capture.capture import capture
from shrink.core.inputs import as_inputs
from shrink.groups.find import find_groups
from tests.groups.blocks import BLOCKS, Bare, Experts
from tests.laws.reachable import compress

X = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))


def build(block: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return block().eval()


@pytest.mark.parametrize("block", BLOCKS)
def test_every_dimension_can_shrink_or_says_why_not(block: type[nn.Module]) -> None:
    model = build(block)
    found = find_groups(capture(model, as_inputs(X)))
    known = {(axis.tensor, axis.dim) for axis in found.axes}
    known |= {axis for entry in found.frozen if entry.reason for axis in entry.axes}
    dims = {
        (name, dim)
        for name, tensor in model.named_parameters()
        for dim, size in enumerate(tensor.shape)
        if size > 1
    }
    assert dims <= known
    assert all(entry.reason for entry in found.frozen)


@pytest.mark.parametrize("block", BLOCKS)
def test_much_of_it_goes_and_is_proven(block: type[nn.Module]) -> None:
    result = compress(build(block), X, 0.6, align=1)
    assert result is not None
    assert result.report.verification is not None
    assert result.report.verification.error < 1e-9
    assert 0.4 < result.report.request["reached"]["flops"] <= 0.6


def test_a_parameter_that_meets_the_input_first_names_it() -> None:
    found = find_groups(capture(build(Bare), as_inputs(X)))
    (entry,) = [f for f in found.frozen if ("place", 1) in f.axes]
    assert entry.reason == "network input"
    assert "blocks.py" in entry.where


def test_hidden_features_of_experts_go_together() -> None:
    found = find_groups(capture(build(Experts), as_inputs(X)))
    (hidden,) = [g for g in found.groups if ("down", 1) in g.axes]
    assert ("up", 2) in hidden.axes
    assert hidden.size == 24
