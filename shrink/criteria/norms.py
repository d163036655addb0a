"""Group norms: the size of the weights that a unit would take with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from shrink.core.errors import InputError
from shrink.core.groups import Axis, ChannelGroups

_CPU_BLOCK = 1 << 18  # elements per step: fits a core's cache
_DEVICE_BLOCK = 1 << 24  # elements per step: few enough launches


@dataclass(frozen=True)
class GroupNorm:
    """Rate a unit by the mean norm of its slices of all coupled parameters.

    The slice of a unit in one axis is everything that leaves the tensor with it: one filter, or
    the 49 columns of a linear layer behind a 7 x 7 map. Buffers (running statistics) do not count.
    Importance is divided by the mean of its group, so that groups of different size compare.

    Args:
        name: what the user calls it.
        order: 1 for sums of magnitudes, 2 for Euclidean norms.

    Source: Fang et al., DepGraph, CVPR 2023 (arXiv:2301.12900), section 3.3.
    """

    name: str
    order: int

    def __call__(
        self, groups: ChannelGroups, tensors: Mapping[str, torch.Tensor]
    ) -> NDArray[np.float64]:
        """Rate every unit; shape (units,), mean 1 in every group that is not all zeros.

        Every floating tensor is read once, in blocks: the memory needed on top of the tensors is
        one block and one number per slice.

        Raises:
            InputError: a parameter is NaN or infinite, or a buffer is NaN.
        """
        wanted: dict[str, list[Axis]] = {}
        for axis in groups.axes:
            wanted.setdefault(axis.tensor, []).append(axis)

        total = np.zeros(groups.unit_count)
        slices = np.zeros(groups.unit_count)
        carriers: dict[int, _Carriers] = {}  # by identity of the units
        for name, tensor in tensors.items():
            if not (tensor.is_floating_point() or tensor.is_complex()):
                continue
            is_parameter = isinstance(tensor, nn.Parameter)
            axes = wanted.get(name, []) if is_parameter else []
            if tensor.is_meta:
                raise InputError(
                    f"without data (on the meta device) it has no {self.name} norm",
                    where=name,
                    fix="criterion='random', or load the weights",
                )
            powers = _slice_powers(tensor.detach(), [axis.dim for axis in axes], self.order)
            # a buffer may hold infinities on purpose: attention masks do
            bad = ~np.isfinite(powers[-1]) if is_parameter else np.isnan(powers[-1])
            if bad.any():
                raise InputError(
                    "weights are NaN or infinite",
                    where=name,
                    fix="load weights of a trained model, or train from an earlier checkpoint",
                )
            for axis, power in zip(axes, powers, strict=False):
                for units in axis.units:
                    if id(units) not in carriers:
                        carriers[id(units)] = _Carriers.of(units)
                    mine = carriers[id(units)]
                    total[mine.window] += mine.norms(power, self.order)
                    slices[mine.window] += mine.present

        importance = total / np.maximum(slices, 1)
        for group in groups.groups:
            mean = importance[group.parts].mean()
            if mean > 0:
                importance[group.parts] = importance[group.parts] / mean
        return importance


def _slice_powers(
    tensor: torch.Tensor, dims: Sequence[int], order: int
) -> list[NDArray[np.float64]]:
    """Sum |x|^order over every slice along each of `dims`, and then along dimension 0.

    Returns:
        One array of shape (tensor.shape[dim],) per dim, and a last one of shape
        (tensor.shape[0],), which is finite only if all elements are.
    """
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    wide = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    if tensor.dim() < 2:
        values = _to_numpy(tensor.reshape(-1).to(wide))
        sums = np.abs(values) if order == 1 else values * values
        return [sums for _ in dims] + [sums]

    # One pass over the memory for all dims: reducing along dimension 1 directly is strided, and
    # ten times slower on a large linear layer.
    size, length = len(tensor), tensor[0].numel() if len(tensor) else 0
    step = max(1, (_CPU_BLOCK if tensor.device.type == "cpu" else _DEVICE_BLOCK) // max(1, length))
    make = partial(torch.empty, dtype=wide, device=tensor.device)
    # allocated once: blocks that come and go between results fragment the heap to a second copy
    scratch, rows, columns = make(min(step, size), length), make(size), make(length).zero_()
    share = make(length)
    for start in range(0, size, step):
        block = tensor[start : start + step]
        power = scratch[: len(block)]
        power.view(block.shape).copy_(block)
        power.abs_() if order == 1 else power.square_()
        torch.sum(power, 1, out=rows[start : start + len(block)])
        if max(dims, default=0) > 0:
            columns += torch.sum(power, 0, out=share)

    by_row = _to_numpy(rows)
    sums_of = {0: by_row}
    for dim in {dim for dim in dims if dim > 0}:
        grid = columns.reshape(tensor.shape[1:]).movedim(dim - 1, 0)
        sums_of[dim] = _to_numpy(grid.reshape(tensor.shape[dim], -1).sum(1))
    return [sums_of[dim] for dim in dims] + [by_row]


def _to_numpy(sums: torch.Tensor) -> NDArray[np.float64]:
    return np.asarray(sums.cpu().numpy(), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class _Carriers:
    """Where the indices of an axis add to, prepared once for axes that share their units.

    Args:
        carried: indices that carry a unit; None for all.
        local: their units, counted from the first one.
        window: the range of units they span.
        present: which units of the range there are.
    """

    carried: NDArray[np.bool_] | None
    local: NDArray[np.int64]
    window: slice
    present: NDArray[np.bool_]

    @classmethod
    def of(cls, units: NDArray[np.int64]) -> "_Carriers":
        """Prepare one array of units."""
        carried = units >= 0
        local = units[carried]
        first = int(local.min()) if len(local) else 0
        local = local - first
        present = np.bincount(local) > 0
        every = None if len(local) == len(units) else carried
        return cls(every, local, slice(first, first + len(present)), present)

    def norms(self, powers: NDArray[np.float64], order: int) -> NDArray[np.float64]:
        """Return the norm of each unit's slice, for the units of `window`."""
        mine = powers if self.carried is None else powers[self.carried]
        sums = np.bincount(self.local, weights=mine).astype(np.float64)
        norms: NDArray[np.float64] = sums if order == 1 else np.sqrt(sums)
        return norms
