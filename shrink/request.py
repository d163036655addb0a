"""What the caller asked for, read and checked before any work is done."""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch
from torch import nn

from shrink.core.errors import InputError
from shrink.plan.budget import Budget

Progress = Callable[[str], AbstractContextManager[None]]
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def choose_device(device: str) -> torch.device:
    """Read a device name; `"auto"` is CUDA where there is one.

    Raises:
        InputError: no such device here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
    except RuntimeError:
        raise InputError(f"unknown device {device!r}", where="device", fix="device='cpu'") from None
    if target.type == "cuda" and not torch.cuda.is_available():
        raise InputError("CUDA is not available here", where="device", fix="device='cpu'")
    return target


def check_weights(model: nn.Module, *, run: bool = False) -> None:
    """Refuse a model with parameters that are not finite numbers.

    Args:
        run: whether the model is to run: parameters without data (on "meta") are then refused, too.

    Raises:
        InputError: naming the first such parameter.
    """
    for name, tensor in model.named_parameters():
        if tensor.is_meta and run:
            raise InputError(
                "without data (on the meta device) the model can be neither verified nor timed",
                where=name,
                fix="verify=False, measure=False",
            )
        if tensor.is_meta:
            continue
        if tensor.is_floating_point() and not torch.isfinite(tensor.detach().sum()):
            bad = ~torch.isfinite(tensor.detach())
            if bad.any():
                raise InputError(
                    f"{int(bad.sum())} of {tensor.numel()} values are NaN or infinite",
                    where=name,
                    fix="load finite weights",
                )


class Stages:
    """Runs stages under the caller's progress and remembers how long each took."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Run one stage."""
        began = time.perf_counter()
        try:
            with self.progress(stage) if self.progress else contextlib.nullcontext():
                yield
        finally:
            self.seconds[stage] = time.perf_counter() - began


def find_dtype(name: str) -> torch.dtype:
    """Read the name of an arithmetic.

    Raises:
        InputError: no such arithmetic.
    """
    if name not in DTYPES:
        raise InputError(f"unknown dtype {name!r}", where="dtype", fix="dtype='fp32'")
    return DTYPES[name]


def read_budget(flops: float | None, params: float | None) -> Budget:
    """Read the one budget that was given.

    Raises:
        InputError: none was, or several.
    """
    given = [(k, v) for k, v in (("flops", flops), ("params", params)) if v is not None]
    if len(given) != 1:
        raise InputError(
            "exactly one budget is needed" if not given else "only one budget at a time",
            where="flops, params",
            fix="flops=0.5",
        )
    ((kind, ratio),) = given
    return Budget(kind, ratio)
