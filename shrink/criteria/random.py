"""Random importance: the baseline that every criterion has to beat."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from shrink.core.groups import ChannelGroups


@dataclass(frozen=True)
class RandomOrder:
    """Rate units by a seeded uniform draw; no global generator is touched."""

    seed: int = 0
    name: str = "random"

    def __call__(
        self,
        groups: ChannelGroups,
        tensors: Mapping[str, torch.Tensor],  # noqa: ARG002 (part of the protocol)
    ) -> NDArray[np.float64]:
        """Rate every unit in [0, 1); shape (units,)."""
        return np.random.default_rng(self.seed).random(groups.unit_count)
