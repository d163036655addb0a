"""What a forward pass decides by values: comparisons, maxima, selections, conversions to integers.

Where two models decide alike, they do the same steps, and their outputs can be compared whole.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from shrink.core.inputs import tensors_in


class Decisions(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """Notes every integer or boolean tensor that an operator makes from floating-point ones."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        self.noted: list[Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:  # Any: the signature is torch's
        result = func(*args, **(kwargs or {}))
        made = [t for t in tensors_in(result) if not t.is_floating_point()]
        if made and any(t.is_floating_point() for t in tensors_in((args, kwargs))):
            self.noted += [t.clone() for t in made if not t.is_complex()]
        return result

    def agree(self, other: "Decisions") -> bool:
        """Tell whether another pass decided alike.

        Tensors of several dimensions may have lost channels: these are not compared.
        """
        return len(self.noted) == len(other.noted) and all(
            torch.equal(a, b) if a.shape == b.shape else a.dim() == b.dim() > 1
            for a, b in zip(self.noted, other.noted, strict=True)
        )
