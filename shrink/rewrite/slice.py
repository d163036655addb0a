"""Copy a model with smaller tensors: every tensor is cut once, straight from the original."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from shrink.core.copies import copy_model
from shrink.core.errors import RewriteError


def slice_copy(model: nn.Module, keep: Mapping[str, Mapping[int, tuple[int, ...]]]) -> nn.Module:
    """Copy a model, keeping the named indices of its parameters and buffers.

    The copy shares nothing with the original and holds no gradients. Memory: the original plus
    what is kept.

    Args:
        model: left untouched.
        keep: tensor name -> dimension -> indices that survive.

    Raises:
        RewriteError: the model cannot be copied.
    """
    cut: dict[int, Tensor] = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if id(tensor) not in cut:
            cut[id(tensor)] = _cut(tensor, keep.get(name, {}))
    smaller = copy_model(model, cut, RewriteError)
    for module in smaller.modules():
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, WeightNorm | SpectralNorm):  # which leave a tensor on the module
                with torch.no_grad():
                    derive: Any = hook.compute_weight  # Any: the two differ in their arguments
                    more = (False,) if isinstance(hook, SpectralNorm) else ()
                    setattr(module, hook.name, derive(module, *more))
    return smaller


def _cut(tensor: Tensor, dims: Mapping[int, tuple[int, ...]]) -> Tensor:
    data = tensor.detach()
    # The dimension that loses most goes first, so that little is copied twice.
    for dim, indices in sorted(dims.items(), key=lambda d: len(d[1]) / tensor.shape[d[0]]):
        data = data.index_select(dim, torch.tensor(indices, device=data.device))
    if data.data_ptr() == tensor.data_ptr():
        data = data.clone()
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(data, requires_grad=tensor.requires_grad)
    return data.requires_grad_(tensor.requires_grad)
