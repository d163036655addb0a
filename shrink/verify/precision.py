"""Run a forward pass in float64 whatever precision its code asks for."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_LOW = frozenset({torch.float32, torch.float16, torch.bfloat16})


class _Double(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """Raises lower precisions, asked for (`.float()`) or of tensors made from literals.

    A literal is raised after it was rounded, as the captured graph has it.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:  # Any: the signature is torch's
        kwargs = {k: _raised(v) for k, v in (kwargs or {}).items()}
        result = func(*(_raised(v) for v in args), **kwargs)
        if isinstance(result, torch.Tensor) and result.dtype in _LOW:
            return result.to(torch.float64)
        return result


def _raised(value: Any) -> Any:
    return torch.float64 if isinstance(value, torch.dtype) and value in _LOW else value


@contextlib.contextmanager
def in_float64() -> Iterator[None]:
    """Make float64 the precision of everything that runs inside."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Double(), torch.no_grad():  # type: ignore[no-untyped-call]  # torch's own
            yield
    finally:
        torch.set_default_dtype(default)
