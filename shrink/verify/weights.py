"""What the two models compute with: float64, removed slices zero, nothing zero by accident."""

import contextlib
import copy
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shrink.core.plan import Plan
from shrink.verify.precision import LOW, Loan, lend, lendable

Read = Callable[[str], Tensor]


@dataclass(frozen=True)
class Perturb:
    """Disturbs tensors of one number per channel, and tensors that are all zero.

    Those are where networks agree by accident: fresh norm statistics, layer scales of 1e-6, heads
    that start at zero. What is positive stays positive, and what is zero becomes nonzero.
    """

    seed: int
    zero: frozenset[str]
    names: frozenset[str]

    @classmethod
    def of(cls, stored: Mapping[str, Tensor], seed: int) -> "Perturb":
        """Prepare for the tensors of a model."""
        zero = (n for n, t in stored.items() if t.is_floating_point() and not t.any())
        return cls(seed, frozenset(zero), frozenset(stored))

    def applies(self, name: str, shape: tuple[int, ...]) -> bool:
        """Tell whether a tensor of this name and original shape is disturbed."""
        return name in self.names and (name in self.zero or sum(n > 1 for n in shape) <= 1)

    def __call__(
        self,
        name: str,
        tensor: Tensor,
        dims: Mapping[int, tuple[int, ...]],
        shape: tuple[int, ...],
    ) -> Tensor:
        """Disturb a whole tensor, or alike what is kept of it.

        Args:
            dims: kept indices by dimension, if `tensor` is what is kept.
            shape: of the whole tensor.
        """
        if not self.applies(name, shape):
            return tensor
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()) + self.seed)
        noise = torch.rand(shape, generator=generator, dtype=torch.float64)
        for dim, indices in dims.items():
            noise = noise.index_select(dim, torch.tensor(indices))
        noise = noise.to(tensor.device)
        return tensor * (1 + noise / 2) + noise / 10


def stored_tensors(model: nn.Module) -> dict[str, Tensor]:
    """List parameters and buffers under every name they have, detached."""
    named = (
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    )
    return {name: tensor.detach() for name, tensor in named}


def attributes(model: nn.Module) -> dict[str, Tensor]:
    """List the tensors that modules hold as plain attributes, by dotted name."""
    return {
        f"{owner}.{name}" if owner else name: value
        for owner, module in model.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, Tensor)
    }


def reader(
    stored: Mapping[str, Tensor], constants: Mapping[str, Tensor], plan: Plan, perturb: Perturb
) -> Read:
    """Give a function that makes a tensor of the original in float64, removed slices zeroed."""

    def read(name: str) -> Tensor:
        tensor = stored.get(name)
        if tensor is None:  # made by the forward pass itself from literals
            return raised(constants[name].clone())
        if not tensor.is_floating_point():
            tensor = tensor.clone()
        else:
            tensor = perturb(name, tensor.to(torch.float64, copy=True), {}, tuple(tensor.shape))
        for dim, indices in plan.keep.get(name, {}).items():
            gone = np.ones(tensor.shape[dim], dtype=np.bool_)
            gone[list(indices)] = False
            removed = torch.from_numpy(np.flatnonzero(gone)).to(tensor.device)
            tensor.index_fill_(dim, removed, 0)
        return tensor

    return read


def raised(tensor: Tensor) -> Tensor:
    """Raise a floating tensor to float64."""
    return tensor.double() if tensor.is_floating_point() else tensor


@contextlib.contextmanager
def as_float64(model: nn.Module, plan: Plan, perturb: Perturb) -> Iterator[Mapping[int, Loan]]:
    """Put a model in float64 and evaluation mode, one-per-channel terms perturbed; then undo it.

    Buffers and perturbed terms are raised at once. Other parameters, the bulk, are raised by the
    module at work and given back by it, so that one layer at a time stands in memory twice.

    Yields:
        the parameters on loan, for `in_float64`.
    """
    movable = lendable(model)
    loans: dict[int, Loan] = {}
    aside: list[tuple[Tensor, Tensor]] = []
    wide: list[tuple[Tensor, torch.dtype]] = []
    try:
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if not tensor.is_floating_point():
                continue
            data = tensor.data
            shape = plan.shapes.get(name, tuple(tensor.shape))
            if perturb.applies(name, shape):
                aside.append((tensor, data))
                doubled = data.to(torch.float64)
                tensor.data = perturb(name, doubled, plan.keep.get(name, {}), shape)
            elif id(tensor) in movable:
                loans[id(tensor)] = partial(data.to, torch.float64)
            else:  # there and back is exact
                wide.append((tensor, tensor.dtype))
                tensor.data = data.to(torch.float64)
        with _evaluating(model), lend(model, loans):
            yield loans
    finally:
        for tensor, data in aside:
            tensor.data = data
        for tensor, dtype in wide:
            tensor.data = tensor.data.to(dtype)


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode, and tensors that are plain attributes in float64."""
    modes = {m: m.training for m in model.modules()}
    held: list[tuple[nn.Module, str, Tensor]] = []
    try:
        model.eval()
        for module in model.modules():
            for name, value in list(vars(module).items()):
                if isinstance(value, Tensor) and value.is_floating_point():
                    held.append((module, name, value))
                    setattr(module, name, value.to(torch.float64))
        yield
    finally:
        for module, name, value in held:
            setattr(module, name, value)
        for module, mode in modes.items():
            module.training = mode


@contextlib.contextmanager
def zeroed(
    model: nn.Module, read: Read, perturb: Perturb
) -> Iterator[tuple[nn.Module, Mapping[int, Loan]]]:
    """Copy a model in evaluation mode, its tensors as `read` gives them.

    The bulk of the parameters share the original's memory and are read by the module at work.

    Yields:
        the copy, and its parameters on loan, for `in_float64`.
    """
    movable = lendable(model)
    memo: dict[int, Any] = {}
    loans: dict[int, Loan] = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        bulky = id(tensor) in movable and not perturb.applies(name, tuple(tensor.shape))
        on_loan = bulky and tensor.dtype in LOW
        made = tensor.detach() if on_loan else read(name)
        if isinstance(tensor, nn.Parameter):
            made = nn.Parameter(made, requires_grad=False)
        if on_loan:
            loans[id(made)] = partial(read, name)
        memo[id(tensor)] = made
    duplicate = copy.deepcopy(model, memo).eval()
    with lend(duplicate, loans):
        yield duplicate, loans
