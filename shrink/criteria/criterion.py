"""What a criterion is."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from shrink.core.groups import ChannelGroups


@runtime_checkable
class Criterion(Protocol):
    """A method that says how much each unit matters."""

    @property
    def name(self) -> str:
        """What the user calls it and the report prints."""
        ...

    def __call__(
        self, groups: ChannelGroups, tensors: Mapping[str, torch.Tensor]
    ) -> NDArray[np.float64]:
        """Rate every unit.

        Args:
            groups: what is coupled.
            tensors: the model's named parameters and buffers, read and never written.

        Returns:
            Importance of shape (units,), finite and on one scale across groups; higher survives.
        """
        ...
