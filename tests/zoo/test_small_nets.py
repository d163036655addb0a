"""Small networks of every kind: halved, proven, still trainable."""

import math
from typing import Any

import pytest
import torch
from torch import nn

import shrink
from shrink.core.errors import PlanError
from shrink.core.inputs import as_inputs, tensors_in
from tests.zoo import small_nets as nets

TOKENS = torch.arange(12).reshape(2, 6)
STEPS = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0))
POINTS = torch.randn(2, 7, 6, generator=torch.Generator().manual_seed(0))
IMAGE = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))

NETS: dict[str, tuple[Any, Any]] = {
    "lstm": (lambda: nets.Recurrent("LSTM"), TOKENS),
    "bilstm-2": (lambda: nets.Recurrent("LSTM", layers=2, both_ways=True), TOKENS),
    "gru-2": (lambda: nets.Recurrent("GRU", layers=2), TOKENS),
    "rnn-both-ways": (lambda: nets.Recurrent("RNN", both_ways=True), TOKENS),
    "last-state": (nets.LastState, STEPS),
    "projected-lstm": (lambda: nets.LastState(8), STEPS),
    "encoder-decoder": (nets.Translator, STEPS),
    "lstm-cell": (nets.Cell, STEPS),
    "decoder-expand": (nets.Decoder, TOKENS),
    "decoder-interleave": (lambda: nets.Decoder(grouping="interleave"), TOKENS),
    "decoder-fused": (lambda: nets.Decoder(grouping="fused"), TOKENS),
    "decoder-complex": (lambda: nets.Decoder("complex"), TOKENS),
    "unet": (nets.UNet, IMAGE),
    "glu-conv1d": (nets.GatedConv, POINTS.transpose(1, 2)),
    "conv3d": (nets.Volume, torch.ones(1, 1, 4, 4, 4)),
    "vit": (nets.Patches, IMAGE),
    "windows": (nets.Windows, IMAGE[..., :8, :8]),
    "linear-attention": (nets.LinearAttention, POINTS),
    "pixel-shuffle": (nets.Upscaler, IMAGE),
    "literals": (nets.Literals, torch.ones(2, 1, 16, 16)),
    "many-ends": (nets.ManyEnds, {"left": POINTS, "right": POINTS[..., :4]}),
    "picker": (nets.Picker, POINTS),
    "deformable": (nets.Deformed, IMAGE),
    "unfold": (nets.Unfolded, IMAGE[..., :6, :6]),
    "multihead": (nets.Attending, (POINTS, POINTS[..., :4])),
}


def halve(model: nn.Module, example: Any) -> shrink.Result:
    """Compress to half the multiply-adds, or to the nearest that so few channels can make."""
    try:
        return shrink.compress(model, example, flops=0.5, measure=False)
    except PlanError as error:
        if error.closest is None:
            raise
        nearest = math.ceil(error.closest * 1e4) / 1e4
        return shrink.compress(model, example, flops=nearest, measure=False)


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")  # torch's own slow path
@pytest.mark.parametrize("name", NETS)
def test_half_the_network_is_proven_and_trains(name: str) -> None:
    make, example = NETS[name]
    torch.manual_seed(0)
    model: nn.Module = make().eval()

    result = halve(model, example)

    reached = result.report.request["reached"]["flops"]
    assert 0.45 < reached < 0.53
    assert result.report.verification is not None
    assert result.report.verification.error < 1e-9
    assert list(result.model.state_dict()) == list(model.state_dict())
    given = as_inputs(example)
    outputs = tensors_in(result.model.train()(*given.args, **given.kwargs))
    torch.stack([v.pow(2).sum() for v in outputs]).sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in result.model.parameters())


def test_lstm_module_stores_what_is_left() -> None:
    torch.manual_seed(0)
    model = nets.Recurrent("LSTM", layers=2, both_ways=True).eval()

    cells: Any = halve(model, TOKENS).model.cells

    assert cells.hidden_size == cells.weight_hh_l1_reverse.shape[1] < 24
    assert cells.input_size == cells.weight_ih_l0.shape[1]
    assert cells.weight_ih_l1.shape[1] == 2 * cells.hidden_size
