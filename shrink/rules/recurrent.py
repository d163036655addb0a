"""Recurrent layers: a hidden unit is one row of every gate, and whatever reads it.

All layers and directions of one call keep equally many hidden units, each its own: the state is one
tensor with one size for all of them.
"""

import numpy as np
import torch

from shrink.core.groups import Label, Units
from shrink.rules import labels
from shrink.rules.labels import Value
from shrink.rules.registry import couples
from shrink.rules.site import Site

aten = torch.ops.aten


@couples(
    aten.lstm.input,
    aten.lstm.data,
    aten.gru.input,
    aten.gru.data,
    aten.rnn_tanh.input,
    aten.rnn_tanh.data,
    aten.rnn_relu.input,
    aten.rnn_relu.data,
)
def couple_recurrent(site: Site) -> list[Value]:
    """Tie the hidden units of each layer and direction over gates, recurrence and readers.

    Shapes: x (T, N, F), (N, T, F) or packed (steps, F); state (layers * directions, N, H) each; per
    layer and direction w_ih (gates * H, F or directions * H), w_hh (gates * H, H), biases
    (gates * H,), with projections also w_hr (P, H), P then being what readers see; result
    (..., directions * H) and the states.
    Source: torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN, "Variables".
    """
    x, states = next(iter(site.arguments.values())), site["hx"]
    states = states if isinstance(states, list) else [states]
    site.freeze(x, range(x.rank - 1), "position of a sequence")
    labels.without_rows_on(site.store, x, range(x.rank))
    for state in states:
        site.freeze(state, [0, 1], "state of a recurrent layer")
    directions = 2 if site["bidirectional"] else 1
    cells = site["num_layers"] * directions
    per_cell = len(site["params"]) // cells
    projected = per_cell == 2 * (1 + site["has_biases"]) + 1
    hidden, seen = [], []
    below = x
    for cell in range(cells):
        weights = site["params"][cell * per_cell : (cell + 1) * per_cell]
        units, read = _couple_cell(site, below, weights, projected=projected)
        hidden.append(units)
        seen.append(read)
        if (cell + 1) % directions == 0:
            layer = np.concatenate(seen[-directions:])
            below = Value((layer.size,), [_line(layer)])
    site.store.balance([[units] for units in hidden])
    _couple_states(site, states, np.stack(seen), np.stack(hidden))
    result = labels.unlabelled(site.shape)
    result.labels[-1] = below.labels[0]
    return [result, *states]


def _couple_cell(
    site: Site, x: Value, weights: list[Value], *, projected: bool
) -> tuple[Units, Units]:
    """Tie the weights of one layer and direction; return its hidden units and what readers see."""
    w_ih, w_hh, rest = weights[0], weights[1], weights[2:]
    size = rest[-1].shape[1] if projected else w_hh.shape[1]
    gates = w_hh.shape[0] // size
    units = site.store.mint(size) if size > 1 else np.zeros(size, dtype=np.int64)
    rows = Value((gates * size,), [_line(np.tile(units, gates))])
    line = Value((size,), [_line(units)])
    site.tie(x, -1, w_ih, 1)
    for tensor in (w_ih, w_hh, *(rest[:-1] if projected else rest)):
        site.tie(rows, 0, tensor, 0)
    if not projected:
        site.tie(line, 0, w_hh, 1)
        return units, units
    site.tie(line, 0, rest[-1], 1)
    # torch tells by the sizes of the two states whether there is a projection
    site.store.keep_least(units, rest[-1].shape[0] + 1)
    site.fix(rest[-1], [0])
    site.fix(w_hh, [1])
    return units, np.zeros(rest[-1].shape[0], dtype=np.int64)


def _couple_states(site: Site, states: list[Value], seen: Units, hidden: Units) -> None:
    """Tie each state's last dimension to the units, which differ by layer and direction."""
    for state, units in zip(states, (seen, hidden), strict=False):
        known = state.labels[2]
        if not units.any():
            site.freeze(state, [2], "state of a recurrent layer")
        elif known is None:  # zeros: any layer may lose any of them
            state.labels[2] = (Label(units, (0,)),) if len(units) > 1 else _line(units[0])
        elif len(known) == 1 and known[0].rows == (0,):  # the states of another such layer
            site.store.tie(known[0].ids, units)
        else:
            for row in units:
                site.tie(state, 2, Value((row.size,), [_line(row)]), 0)


def _line(units: Units) -> tuple[Label, ...]:
    return (Label(units),) if units.any() else ()


@couples(
    aten.lstm_cell.default,
    aten.gru_cell.default,
    aten.rnn_tanh_cell.default,
    aten.rnn_relu_cell.default,
)
def couple_cell(site: Site) -> Value | list[Value]:
    """Tie the hidden units of one step over gates, recurrence and states.

    Shapes: x (N, F) or (F,); states (N, H) or (H,); w_ih (gates * H, F); w_hh (gates * H, H);
    biases (gates * H,); result: the next states.
    Source: torch.nn.LSTMCell, torch.nn.GRUCell, torch.nn.RNNCell.
    """
    x, states = site["input"], site["hx"]
    states = states if isinstance(states, list) else [states]
    because = site.because("meets a dimension of fixed size")
    weights = [site[n] for n in ("w_ih", "w_hh", "b_ih", "b_hh") if site[n] is not None]
    labels.without_rows_on(site.store, x, range(x.rank))
    units, _ = _couple_cell(site, x, weights, projected=False)
    made = labels.drop_dims(site.store, x, [x.rank - 1])
    made = Value((*made.shape, units.size), [*made.labels, _line(units)])
    made = labels.broadcast(site.store, [made, *states], site.shape, because)
    return [made for _ in site.shapes] if len(site.shapes) > 1 else made


@couples(aten._pack_padded_sequence.default)
def couple_pack(site: Site) -> list[Value]:
    """Carry the features; the positions of all sequences become one dimension.

    Shapes: input (T, N, *F) or (N, T, *F); result (steps, *F) and the batch size of every step.
    Source: torch.nn.utils.rnn.pack_padded_sequence.
    """
    x = site["input"]
    site.freeze(x, [0, 1], "position of a sequence")
    made = labels.insert_dim(site.store, labels.drop_dims(site.store, x, [0, 1]), 0)
    return [Value(site.shapes[0], made.labels), labels.unlabelled(site.shapes[1])]


@couples(aten._pad_packed_sequence.default)
def couple_pad(site: Site) -> list[Value]:
    """Carry the features of packed sequences back to padded ones.

    Shapes: data (steps, *F); result (T, N, *F) or (N, T, *F) and the lengths.
    Source: torch.nn.utils.rnn.pad_packed_sequence.
    """
    data = site["data"]
    site.freeze(data, [0], "position of a sequence")
    made = labels.drop_dims(site.store, data, [0])
    for _ in range(2):
        made = labels.insert_dim(site.store, made, 0)
    return [Value(site.shapes[0], made.labels), labels.unlabelled(site.shapes[1])]
