"""Recurrent layers: a hidden unit is a row of every gate and a column of every reader."""

from collections.abc import Callable

import pytest
from torch import nn

from tests.rules.couplings import read

ROWS = [
    pytest.param(
        nn.LSTM(2, 2),
        [(3, 1, 2)],
        "x2=weight_ih_l01:ab weight_ih_l00=weight_hh_l00=bias_ih_l00=bias_hh_l00:cdcdcdcd "
        "weight_hh_l01=outa2=outb2=outc2:cd {cd} !position of a sequence: x0",
        id="lstm",
    ),
    pytest.param(
        nn.GRU(2, 2),
        [(3, 1, 2)],
        "x2=weight_ih_l01:ab weight_ih_l00=weight_hh_l00=bias_ih_l00=bias_hh_l00:cdcdcd "
        "weight_hh_l01=outa2=outb2:cd {cd} !position of a sequence: x0",
        id="gru",
    ),
    pytest.param(
        nn.LSTM(2, 2, bidirectional=True, bias=False),
        [(3, 1, 2)],
        "x2=weight_ih_l01=weight_ih_l0_reverse1:ab weight_ih_l00=weight_hh_l00:cdcdcdcd "
        "weight_hh_l01:cd weight_ih_l0_reverse0=weight_hh_l0_reverse0:efefefef "
        "weight_hh_l0_reverse1:ef outa2:cdef outb2=outc2:[cd|ef]0 {cd|ef} !position of a "
        "sequence: x0 !state of a recurrent layer: outb0 outc0",
        id="lstm-both-ways",
    ),
    pytest.param(
        nn.RNN(2, 2, 2),
        [(3, 1, 2)],
        "x2=weight_ih_l01:ab "
        "weight_ih_l00=weight_hh_l00=weight_hh_l01=bias_ih_l00=bias_hh_l00=weight_ih_l11:cd "
        "weight_ih_l10=weight_hh_l10=weight_hh_l11=bias_ih_l10=bias_hh_l10=outa2:ef "
        "outb2:[cd|ef]0 {cd|ef} !position of a sequence: x0 !state of a recurrent layer: "
        "outb0",
        id="two-layers",
    ),
    pytest.param(
        nn.RNN(2, 2, nonlinearity="relu"),
        [(3, 1, 2), (1, 1, 2)],
        "x2=weight_ih_l01:ab "
        "y2=weight_ih_l00=weight_hh_l00=weight_hh_l01=bias_ih_l00=bias_hh_l00=outa2=outb2:cd "
        "{cd} !position of a sequence: x0",
        id="given-state",
    ),
    pytest.param(
        nn.LSTM(2, 3, proj_size=2, bias=False),
        [(3, 1, 2)],
        "x2=weight_ih_l01:ab weight_ih_l00=weight_hh_l00:cdecdecdecde "
        "weight_hr_l01=outc2:cde {cde} !position of a sequence: x0 !state of a recurrent "
        "layer: outb2",
        id="projection",
    ),
    pytest.param(
        nn.GRU(2, 1),
        [(3, 1, 2)],
        "x2=weight_ih_l01:ab !position of a sequence: x0",
        id="one-unit",
    ),
    pytest.param(
        nn.LSTMCell(2, 2),
        [(1, 2)],
        "x1=weight_ih1:ab weight_ih0=weight_hh0=bias_ih0=bias_hh0:cdcdcdcd "
        "weight_hh1=outa1=outb1:cd",
        id="lstm-cell",
    ),
    pytest.param(
        nn.GRUCell(2, 2, bias=False),
        [(1, 2), (1, 2)],
        "x1=weight_ih1:ab y1=weight_hh1=out1:cd weight_ih0=weight_hh0:cdcdcd",
        id="gru-cell",
    ),
    pytest.param(
        nn.RNNCell(2, 2),
        [(2,)],
        "x0=weight_ih1:ab weight_ih0=weight_hh0=weight_hh1=bias_ih0=bias_hh0=out0:cd",
        id="rnn-cell",
    ),
]


@pytest.mark.parametrize(("layer", "arguments", "expected"), ROWS)
def test_couples(
    layer: Callable[..., object], arguments: list[tuple[int, ...]], expected: str
) -> None:
    assert read(layer, *arguments) == expected
