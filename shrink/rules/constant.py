"""Tensors made in `forward` from literals: a size may follow others where all indices are alike."""

import torch

from shrink.core.groups import Label
from shrink.rules import labels
from shrink.rules.labels import Value
from shrink.rules.registry import couples, resizes
from shrink.rules.site import Call, Resized, Site

aten = torch.ops.aten

_UNIFORM = (
    aten.zeros.default,
    aten.ones.default,
    aten.full.default,
    aten.empty.memory_format,
    aten.new_zeros.default,
    aten.new_ones.default,
    aten.new_full.default,
    aten.new_empty.default,
    aten.rand.default,
    aten.randn.default,
)


@couples(*_UNIFORM)
def couple_uniform(site: Site) -> Value:
    """Let each dimension take the labels of what it meets: the same number stands at every index.

    Shapes: result `size`.
    Source: torch.zeros, torch.full.
    """
    return Value(site.shape, [None] * len(site.shape))


@resizes(*_UNIFORM)
def resize_uniform(call: Call) -> Resized:
    """Name the sizes that are left."""
    return call.replace(size=list(call.after[0]))


@couples(aten.eye.default, aten.eye.m)
def couple_eye(site: Site) -> Value:
    """Let rows and columns go together: what is left is a unit matrix again.

    Shapes: result (n, n); one that is not square keeps all.
    Source: torch.eye.
    """
    rows, columns = site.shape
    if rows != columns or rows == 1:
        return labels.unlabelled(site.shape)
    line = (Label(site.store.mint(rows)),)
    return Value(site.shape, [line, line])


@resizes(aten.eye.default, aten.eye.m)
def resize_eye(call: Call) -> Resized:
    """Name the size that is left."""
    changed = dict(zip(("n", "m"), call.after[0], strict=True))
    return call.replace(**{n: v for n, v in changed.items() if n in call.arguments})


@couples(
    aten.arange.default,
    aten.arange.start,
    aten.arange.start_step,
    aten.linspace.default,
    aten.scalar_tensor.default,
    aten.tril_indices.default,
    aten.triu_indices.default,
    aten.range.default,
    aten.range.step,
    aten.logspace.default,
    aten.randperm.default,
    aten.randint.default,
    aten.randint.low,
    aten.fft_fftfreq.default,
    aten.fft_rfftfreq.default,
    aten.hann_window.default,
    aten.hann_window.periodic,
    aten.hamming_window.default,
    aten.hamming_window.periodic,
    aten.blackman_window.default,
    aten.bartlett_window.default,
    aten.empty_strided.default,
)
def couple_indexed(site: Site) -> Value:
    """Make a tensor whose entries depend on their index: nothing of it can be removed."""
    return labels.unlabelled(site.shape)
