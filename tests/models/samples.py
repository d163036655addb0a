"""Small networks and their weights."""

import torch
from torch import nn

from shrink import models
from shrink.core.inputs import tensors_in


def shapes(resolved: models.ResolvedModel) -> list[tuple[int, ...]]:
    return [tuple(t.shape) for t in tensors_in(resolved.inputs)]


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU())


def state() -> dict[str, torch.Tensor]:
    return {k: torch.full_like(v, 0.5) for k, v in net().state_dict().items()}
