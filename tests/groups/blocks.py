"""Blocks of sequence models and oddly written layers, each as small as shows how it couples."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Mamba(nn.Module):
    """A selective state space: causal depthwise convolution, then a scan step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(8, 16), nn.RMSNorm(16)
        self.in_proj = nn.Linear(16, 64, bias=False)
        self.conv = nn.Conv1d(32, 32, 4, groups=32, padding=3)
        self.x_proj, self.dt_proj = nn.Linear(32, 10, bias=False), nn.Linear(2, 32)
        self.log_a = nn.Parameter(torch.log(torch.arange(1.0, 5)).repeat(32, 1))
        self.skip = nn.Parameter(torch.ones(32))
        self.out_proj, self.head = nn.Linear(32, 16, bias=False), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        u, gate = self.in_proj(self.norm(x)).chunk(2, dim=-1)
        u = self.conv(u.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2)
        u = functional.silu(u)
        step, b, c = self.x_proj(u).split([2, 4, 4], dim=-1)
        step = functional.softplus(self.dt_proj(step))[..., None]
        decay = torch.exp(-step * torch.exp(self.log_a))
        added = step * b[:, :, None] * u[..., None]
        state, seen = torch.zeros_like(added[:, 0]), []
        for t in range(x.shape[1]):
            state = decay[:, t] * state + added[:, t]
            seen.append((state * c[:, t, None]).sum(-1))
        y = torch.stack(seen, dim=1) + u * self.skip
        return self.head(x + self.out_proj(y * functional.silu(gate)))


class Experts(nn.Module):
    """A mixture of gated experts in 3-d parameters, chosen by the two largest probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.router = nn.Linear(8, 16), nn.Linear(16, 4, bias=False)
        self.up = nn.Parameter(torch.randn(4, 16, 48) / 4)
        self.down = nn.Parameter(torch.randn(4, 24, 16) / 5)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(0, 1)
        weight, chosen = self.router(x).softmax(-1).topk(2, dim=-1)
        share = torch.zeros_like(x[:, :4]).scatter(1, chosen, weight)
        gate, y = torch.bmm(x.expand(4, -1, -1), self.up).chunk(2, dim=-1)
        y = torch.bmm(y * functional.silu(gate), self.down) * share.t()[..., None]
        return self.head(x + y.sum(0))


class SpatialGate(nn.Module):
    """gMLP: half of the features gate the others by a product over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.fc1 = nn.Linear(8, 32), nn.Linear(32, 64)
        self.norm, self.mix = nn.LayerNorm(32), nn.Conv1d(6, 6, 1)
        self.fc2, self.head = nn.Linear(32, 32), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        u, v = functional.gelu(self.fc1(x)).chunk(2, dim=-1)
        return self.head(x + self.fc2(u * self.mix(self.norm(v))))


class Scans(nn.Module):
    """Running sums and rolls, beside the channels and along them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 32), nn.Linear(32, 32)
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x.cumsum(1) + x.roll(1, 1) + x.sort(1).values
        y = self.second(x).roll(3, -1).cumsum(-1) / 8
        return self.head(y + y.cumprod(-1) + y.logcumsumexp(-1))


class InPlaceViews(nn.Module):
    """Views that change the shape of the tensor itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 32), nn.Linear(32, 32)
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).unsqueeze_(1).transpose_(1, 2).squeeze_(2)
        return self.head(self.second(x).mul_(2).add_(x))


class Diagonals(nn.Module):
    """Square matrices made of lines, and lines taken of matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(8, 16), nn.Linear(16, 5)
        self.line = nn.Parameter(torch.randn(16))
        self.square = nn.Parameter(torch.randn(16, 16))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x) @ (torch.diag(self.line) + torch.eye(16))
        return self.head(functional.relu(x @ self.square) + self.square.diagonal())


class Widths(nn.Module):
    """Numbers that depend on a width, read from shapes and from an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 32), nn.Linear(32, 32)
        self.head, self.scale = nn.Linear(32, 5), 32**-0.5

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.first(x))
        x = self.second(x / x.shape[-1] + x.mean(-1, keepdim=True)) * self.scale
        x = x + x.sum(-1, keepdim=True) / x.shape[-1] - x.std(-1, keepdim=True)
        return self.head(functional.normalize(x, dim=-1) + x.shape[-1] / 100)


class Bare(nn.Module):
    """Parameters that meet the network's input before anything else."""

    def __init__(self) -> None:
        super().__init__()
        self.place, self.weight = nn.Parameter(torch.randn(6, 8)), nn.Parameter(torch.randn(8, 32))
        self.gain, self.head = nn.Parameter(torch.randn(6, 1)), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(functional.relu((x + self.place) @ self.weight) * self.gain)


BLOCKS = (Mamba, Experts, SpatialGate, Scans, InPlaceViews, Diagonals, Widths, Bare)
