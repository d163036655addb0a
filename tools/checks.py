"""Checks of a smaller model that do not rest on the compiler's own, for workers of one model.

A worker runs in a process of its own and prints JSON lines; each adds facts to those before, so
that a process that is killed has said how far it came.
"""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from shrink.core.errors import CaptureError, ShrinkError
from shrink.core.inputs import Inputs, map_tensors, tensors_in
from shrink.core.plan import Plan
from shrink.measure.macs import count_macs


def say(**facts: object) -> None:
    """Add facts to those already said."""
    print(json.dumps(facts), flush=True)


def check_runs(
    original: nn.Module,
    smaller: nn.Module,
    inputs: Inputs,
    training_inputs: Inputs,
    *,
    lengths_may_differ: bool = False,
) -> None:
    """Run both modes and one backward pass, and compare the shapes of all outputs.

    Args:
        lengths_may_differ: for models that choose by value how many results there are: only what
            follows the first dimension is compared.

    Raises:
        ValueError: the shapes differ, or nothing has a gradient.
    """
    say(stage="forward in eval mode")
    with torch.no_grad():
        results = smaller.eval()(*inputs.args, **inputs.kwargs)
    _compare(shapes_of(original.eval(), inputs), results, lengths=not lengths_may_differ)
    say(stage="forward in train mode")
    results = smaller.train()(*training_inputs.args, **training_inputs.kwargs)
    _compare(shapes_of(original.train(), training_inputs), results, lengths=not lengths_may_differ)
    original.eval()
    say(stage="backward in train mode")
    outputs = [x for x in tensors_in(results) if x.requires_grad]
    torch.stack([x.abs().mean() for x in outputs]).sum().backward()
    if not any(p.grad is not None for p in smaller.parameters()):
        raise ValueError("no parameter has a gradient")
    smaller.zero_grad(set_to_none=True)
    smaller.eval()


def _compare(expected: list[tuple[int, ...]], results: object, *, lengths: bool) -> None:
    found = [tuple(x.shape) for x in tensors_in(results)]
    if not lengths:
        expected, found = ([s[1:] for s in shapes] for shapes in (expected, found))
    if found != expected:
        raise ValueError("the output shapes changed")


def count_both(original: nn.Module, smaller: nn.Module, inputs: Inputs) -> int:
    """Count the MACs of both models with fvcore or torch, which know nothing of plans.

    Returns:
        those of the original.
    """
    say(stage="count MACs")
    models = original.eval(), smaller.eval()
    try:
        before, after = (count_macs(m, inputs)[0] for m in models)
        say(counted_by="fvcore")
    except CaptureError:  # torch.jit cannot trace it
        before, after = (_count_by_torch(m, inputs) for m in models)
        say(counted_by="torch")
    say(macs_before=before, macs_after=after, params=sum(p.numel() for p in smaller.parameters()))
    return before


def _count_by_torch(model: nn.Module, inputs: Inputs) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*inputs.args, **inputs.kwargs)
    return counter.get_total_flops() // 2


def difference_to_masked(
    original: nn.Module, smaller: nn.Module, plan: Plan, inputs: Inputs
) -> float:
    """Compare the smaller model with the original whose removed weights are zero, in float64.

    What it computes is the smaller model's output only where nothing is normalised over a removed
    dimension; the caller knows.

    Returns:
        largest relative difference over the outputs.
    """
    masked = copy.deepcopy(original).double()
    stored = {
        **dict(masked.named_parameters(remove_duplicate=False)),
        **dict(masked.named_buffers(remove_duplicate=False)),
    }
    with torch.no_grad():
        for name, dims in plan.keep.items():
            for dim, kept in dims.items():
                gone = torch.ones(stored[name].shape[dim], dtype=torch.bool)
                gone[list(kept)] = False
                stored[name].index_fill_(dim, gone.nonzero()[:, 0], 0)
        doubled = map_tensors(inputs, lambda x: x.double() if x.is_floating_point() else x)
        expected, found = (
            [x for x in tensors_in(m(*doubled.args, **doubled.kwargs)) if x.is_floating_point()]
            for m in (masked, copy.deepcopy(smaller).double())
        )
    return max(
        float((a - b).abs().max() / b.abs().max().clamp_min(1e-300))
        for a, b in zip(found, expected, strict=True)
        if b.numel()
    )


def shapes_of(model: nn.Module, inputs: Inputs) -> list[tuple[int, ...]]:
    """List the shapes of a model's outputs: without arithmetic, where it runs without data."""
    with torch.no_grad():
        try:
            empty = copy.deepcopy(model).to("meta")
            given = map_tensors(inputs, lambda x: x.to("meta"))
            return [tuple(x.shape) for x in tensors_in(empty(*given.args, **given.kwargs))]
        except Exception:  # noqa: BLE001  it needs data; whatever is wrong shows below
            results = model(*inputs.args, **inputs.kwargs)
            return [tuple(x.shape) for x in tensors_in(results)]


def twice(inputs: Inputs) -> Inputs:
    """Give the inputs as a batch of two."""
    return map_tensors(inputs, lambda x: torch.cat([x, x.flip(0)]) if x.dim() else x)


def first_line(error: Exception) -> str:
    """Say what an error says, on one line."""
    if isinstance(error, ShrinkError):
        return " | ".join(part for part in (error.where, error.what) if part)
    return (str(error).strip() or "no message").splitlines()[0]


def bytes_of(model: nn.Module) -> int:
    """Bytes of the parameters and buffers."""
    tensors: Iterator[Tensor] = (t for get in (model.parameters, model.buffers) for t in get())
    return sum(t.numel() * t.element_size() for t in tensors)


def peak_of(function: Callable[[], Any]) -> tuple[Any, int]:  # Any: what the function returns
    """Call a function; returns its result and the peak resident bytes meanwhile."""
    Path("/proc/self/clear_refs").write_text("5")  # the mark begins again at what is resident now
    result = function()
    return result, _status("VmHWM")


def resident() -> int:
    """Bytes resident now."""
    return _status("VmRSS")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))
