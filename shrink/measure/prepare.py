"""A copy of a model and its inputs, ready to run: device, dtype, memory layout, eval mode."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from shrink.core.errors import InputError
from shrink.core.inputs import Inputs, map_tensors

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


@dataclass(frozen=True, eq=False)
class Prepared:
    """A model of ours, in eval mode, with inputs on the same device."""

    model: nn.Module
    inputs: Inputs
    device: torch.device

    def run(self) -> object:
        """Make one forward pass."""
        return self.model(*self.inputs.args, **self.inputs.kwargs)


def prepare(
    model: nn.Module,
    inputs: Inputs,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    channels_last: bool = False,
) -> Prepared:
    """Copy a model in eval mode, so that running it leaves no trace on the caller's.

    Parameters that need no conversion are shared with the caller's model: the copy then costs the
    memory of the buffers alone.

    Args:
        model: the model to copy.
        inputs: arguments of `forward`.
        device: where to run.
        dtype: of floating-point parameters, buffers and inputs; None keeps theirs.
        channels_last: lay out tensors of 4 and 5 dimensions with the channels last.

    Raises:
        InputError: CUDA is asked for and absent.
    """
    device = torch.device(device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError("CUDA is not available", where=f"device={device}", fix="use device='cpu'")

    def convert(tensor: Tensor) -> Tensor:
        floating = tensor.is_floating_point()
        converted = tensor.detach().to(device=device, dtype=dtype if floating else None)
        if channels_last and converted.dim() in _CHANNELS_LAST:
            converted = converted.contiguous(memory_format=_CHANNELS_LAST[converted.dim()])
        return converted

    # `deepcopy` takes what the memo holds instead of copying it
    memo: dict[int, Any] = {
        id(p): nn.Parameter(convert(p), requires_grad=False) for p in model.parameters()
    }
    memo |= {id(buffer): convert(buffer).clone() for buffer in model.buffers()}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:  # which `deepcopy` refuses
                memo[id(value)] = convert(value)
    return Prepared(copy.deepcopy(model, memo).eval(), map_tensors(inputs, convert), device)
