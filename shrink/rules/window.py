"""Sliding windows made into a dimension, and back: positions are fixed, channels pass."""

import numpy as np
import torch

from shrink.core.groups import Label
from shrink.rules import labels
from shrink.rules.labels import Value
from shrink.rules.registry import couples
from shrink.rules.site import Site

aten = torch.ops.aten


@couples(aten.unfold.default)
def couple_unfold(site: Site) -> Value:
    """Cut a dimension into windows, which come last; the other dimensions pass.

    Shapes: x (*S); result (*S, size), dimension `dimension` counting windows.
    Source: torch.Tensor.unfold.
    """
    x = site["self"]
    dim = site["dimension"] % max(x.rank, 1)
    site.freeze(x, [dim] if x.rank else [], "position read by a window")
    labels.without_rows_on(site.store, x, [dim])
    passed = [() if d == dim else labels.of(site.store, x, d) for d in range(x.rank)]
    return Value(site.shape, [*passed, ()])


@couples(aten.im2col.default)
def couple_im2col(site: Site) -> Value:
    """Write windows as columns: every channel stands once per position of the window.

    Shapes: x (N, C, H, W) or (C, H, W); result (N, C * window, L) or (C * window, L).
    Source: torch.nn.functional.unfold.
    """
    x = site["self"]
    channel = x.rank - 3
    site.freeze(x, [channel + 1, channel + 2], "position read by a window")
    labels.without_rows_on(site.store, x, range(x.rank))
    times = site.shape[channel] // x.shape[channel]
    result = labels.unlabelled(site.shape)
    if channel:
        result.labels[0] = labels.of(site.store, x, 0)
    result.labels[channel] = tuple(Label(np.repeat(y.ids, times)) for y in site.labels(x, channel))
    return result


@couples(aten.stft.default, aten.stft.center, aten.istft.default)
def couple_spectrum(site: Site) -> Value:
    """Freeze positions and bins, as every bin mixes all positions of a window; the batch passes.

    Shapes: signal (N, T) or (T,); spectrum (N, F, frames) or (F, frames).
    Source: torch.stft, torch.istft.
    """
    x, window = site["self"], site["window"]
    batch = x.rank - (2 if site.operator is aten.istft.default else 1)
    text = "position of a signal or bin of its spectrum"
    site.freeze(x, range(batch, x.rank), text)
    if window is not None:
        site.freeze(window, [0], text)
    labels.without_rows_on(site.store, x, range(batch, x.rank))
    result = labels.unlabelled(site.shape)
    result.labels[:batch] = [labels.of(site.store, x, d) for d in range(batch)]
    return result


@couples(aten.col2im.default)
def couple_col2im(site: Site) -> Value:
    """Add columns up where their windows lie: a channel's positions go together.

    Shapes: x (N, C * window, L) or (C * window, L); result (N, C, H, W) or (C, H, W).
    Source: torch.nn.functional.fold.
    """
    x = site["self"]
    channel = x.rank - 2
    channels = site.shape[channel]
    because = site.because("position of a window")
    sizes = (*x.shape[:channel], channels, x.shape[channel] // channels, x.shape[-1])
    cut = labels.reshape(site.store, x, sizes, because)
    site.freeze(cut, [-1, -2], because.text)
    made = labels.drop_dims(site.store, cut, [cut.rank - 1, cut.rank - 2])
    return Value(site.shape, [*made.labels, (), ()])
