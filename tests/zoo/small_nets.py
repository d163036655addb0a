"""Small networks, one per way in which models are written."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import DeformConv2d, roi_align


class Recurrent(nn.Module):
    """Tokens through a recurrent layer, classified by the mean over time."""

    def __init__(self, kind: str, *, layers: int = 1, both_ways: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        make = getattr(nn, kind)
        self.cells = make(16, 24, layers, batch_first=True, bidirectional=both_ways)
        self.head = nn.Linear(48 if both_ways else 24, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        y, _ = self.cells(self.embed(tokens))
        return self.head(y.mean(1))


class LastState(nn.Module):
    """Both directions' last states, classified; with projections if asked for."""

    def __init__(self, projection: int = 0) -> None:
        super().__init__()
        self.cells = nn.LSTM(12, 24, 2, bidirectional=True, proj_size=projection)
        self.head = nn.Linear(2 * (projection or 24), 5)

    def forward(self, x: Tensor) -> Tensor:
        _, (hidden, _) = self.cells(x.transpose(0, 1))
        return self.head(torch.cat([hidden[-2], hidden[-1]], dim=1))


class Translator(nn.Module):
    """One GRU's states start another."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.GRU(12, 24, 2, batch_first=True)
        self.decoder = nn.GRU(12, 24, 2, batch_first=True)
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        _, state = self.encoder(x)
        y, _ = self.decoder(x, state)
        return self.head(y)


class Cell(nn.Module):
    """A cell unrolled by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(12, 16)
        self.cell = nn.LSTMCell(16, 24)
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        hidden = memory = x.new_zeros(x.shape[0], 24)
        for step in range(x.shape[1]):
            hidden, memory = self.cell(self.inner(x[:, step]), (hidden, memory))
        return self.head(hidden)


def rotate_half(x: Tensor) -> Tensor:
    left, right = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
    return torch.cat((-right, left), dim=-1)


class Decoder(nn.Module):
    """A decoder block: RMS norms, rotary positions, grouped queries, SwiGLU, tied embedding."""

    def __init__(self, rotary: str = "half", grouping: str = "expand") -> None:
        super().__init__()
        self.rotary, self.grouping = rotary, grouping
        self.embed = nn.Embedding(24, 32)
        self.norm1, self.norm2 = nn.RMSNorm(32), nn.RMSNorm(32)
        self.q, self.k, self.v = nn.Linear(32, 32), nn.Linear(32, 16), nn.Linear(32, 16)
        self.q_norm, self.k_norm = nn.RMSNorm(8), nn.RMSNorm(8)
        self.out = nn.Linear(32, 32)
        self.gate, self.up, self.down = nn.Linear(32, 48), nn.Linear(32, 48), nn.Linear(48, 32)
        self.norm3 = nn.RMSNorm(32)
        self.head = nn.Linear(32, 24, bias=False)
        self.head.weight = self.embed.weight
        frequency = 1.0 / 100 ** (torch.arange(0, 8, 2) / 8)
        self.register_buffer("angles", torch.outer(torch.arange(6.0), frequency))

    def rotate(self, x: Tensor) -> Tensor:
        if self.rotary == "complex":
            turned = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
            turned = turned * torch.polar(torch.ones_like(self.angles), self.angles)
            return torch.view_as_real(turned).flatten(-2)
        angles = torch.cat([self.angles, self.angles], dim=-1)
        return x * angles.cos() + rotate_half(x) * angles.sin()

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        b, n, _ = x.shape
        y = self.norm1(x)
        q = self.q(y).view(b, n, -1, 8).transpose(1, 2)
        k = self.k(y).view(b, n, -1, 8).transpose(1, 2)
        v = self.v(y).view(b, n, -1, 8).transpose(1, 2)
        q, k = self.rotate(self.q_norm(q)), self.rotate(self.k_norm(k))
        if self.grouping == "fused":
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        else:
            if self.grouping == "interleave":
                k, v = k.repeat_interleave(2, dim=1), v.repeat_interleave(2, dim=1)
            else:
                k, v = (t[:, :, None].expand(b, 2, 2, n, 8).reshape(b, 4, n, 8) for t in (k, v))
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, n, 32))
        y = self.norm2(x)
        x = x + self.down(functional.silu(self.gate(y)) * self.up(y))
        return self.head(self.norm3(x))


class UNet(nn.Module):
    """Down and up again, with skips by concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.PReLU(16))
        self.down2 = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.GroupNorm(4, 32), nn.PReLU())
        self.up = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.merge = nn.Conv2d(32, 16, 3, padding=1)
        self.out = nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down1(x)
        y = self.up(self.down2(functional.max_pool2d(skip, 2)))
        return self.out(functional.relu(self.merge(torch.cat([skip, y], dim=1))))


class GatedConv(nn.Module):
    """Sequences through GLU gates, with weights given as direction and length."""

    def __init__(self) -> None:
        super().__init__()
        norm = nn.utils.parametrizations.weight_norm
        self.first = norm(nn.Conv1d(6, 32, 3, padding=1))
        self.second = nn.Conv1d(16, 32, 3, padding=1)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.glu(self.first(x), dim=1)
        return self.head(functional.glu(self.second(y), dim=1).mean(-1))


class Volume(nn.Module):
    """Three spatial dimensions, pooled and upsampled."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(1, 16, 3, padding=1)
        self.norm = nn.InstanceNorm3d(16, affine=True)
        self.second = nn.ConvTranspose3d(16, 16, 2, stride=2, groups=4)
        self.out = nn.Conv3d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.avg_pool3d(functional.gelu(self.norm(self.first(x))), 2)
        return self.out(functional.interpolate(self.second(y), scale_factor=2, mode="trilinear"))


class Patches(nn.Module):
    """A small ViT: class token, positions, fused qkv, LayerScale, attention written out."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 32, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, 32))
        self.place = nn.Parameter(torch.randn(1, 17, 32) / 10)
        self.norm1, self.norm2 = nn.LayerNorm(32), nn.LayerNorm(32)
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
        self.scale1 = nn.Parameter(torch.full((32,), 1e-5))
        self.fc1, self.fc2 = nn.Linear(32, 64), nn.Linear(64, 32)
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.place
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(b, n, 3, 4, c // 4).permute(2, 0, 3, 1, 4)
        weights = ((q * (c // 4) ** -0.5) @ k.transpose(-2, -1)).softmax(dim=-1)
        x = x + self.scale1 * self.out((weights @ v).transpose(1, 2).reshape(b, n, c))
        x = x + self.fc2(functional.gelu(self.fc1(self.norm2(x))))
        return self.head(x[:, 0])


class Windows(nn.Module):
    """Shifted windows with a table of relative positions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 1)
        self.norm = nn.LayerNorm(32)
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
        self.table = nn.Parameter(torch.randn(49, 4) / 10)
        at = torch.stack(torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")).flatten(1)
        offset = at[:, :, None] - at[:, None, :] + 3
        self.register_buffer("index", offset[0] * 7 + offset[1])
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        b, h, w, c = x.shape
        y = torch.roll(self.norm(x), shifts=(-2, -2), dims=(1, 2))
        y = y.view(b, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
        q, k, v = self.qkv(y).reshape(-1, 16, 3, 4, c // 4).permute(2, 0, 3, 1, 4)
        q, k = functional.normalize(q, dim=-1), functional.normalize(k, dim=-1)
        bias = self.table[self.index.view(-1)].view(16, 16, 4).permute(2, 0, 1)
        y = ((q @ k.transpose(-2, -1)) * 10 + bias).softmax(-1) @ v
        y = self.out(y.transpose(1, 2).reshape(-1, 16, c))
        y = y.view(b, h // 4, w // 4, 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        x = x + torch.roll(y, shifts=(2, 2), dims=(1, 2))
        return self.head(x.mean((1, 2)))


class LinearAttention(nn.Module):
    """Attention without a softmax over positions, by einsum with an ellipsis."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.qkv = nn.Linear(6, 32), nn.Linear(32, 96)
        self.out = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.embed(x)
        q, k, v = (t.unflatten(-1, (4, -1)) for t in self.qkv(y).chunk(3, dim=-1))
        q, k = functional.elu(q) + 1, functional.elu(k) + 1
        context = torch.einsum("bnhd,bnhe->bhde", k, v)
        scale = 1 / torch.einsum("...nhd,...hd->...nh", q, k.sum(1))
        return self.out(torch.einsum("bnhd,bhde,bnh->bnhe", q, context, scale).flatten(2))


class Upscaler(nn.Module):
    """Super-resolution by pixel shuffle, and back."""

    def __init__(self) -> None:
        super().__init__()
        self.fold = nn.PixelUnshuffle(2)
        self.first = nn.Conv2d(12, 32, 3, padding=1)
        self.second = nn.Conv2d(32, 64, 3, padding=1)
        self.grow = nn.PixelShuffle(2)
        self.out = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.grow(self.second(functional.relu(self.first(self.fold(x))))))


class Literals(nn.Module):
    """The first network of every tutorial: its sizes stand in `forward` as numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 16, 3)
        self.fc1, self.fc2 = nn.Linear(576, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.max_pool2d(functional.relu(self.conv2(functional.relu(self.conv1(x)))), 2)
        return functional.log_softmax(self.fc2(functional.relu(self.fc1(y.view(-1, 576)))), dim=1)


class ManyEnds(nn.Module):
    """Two inputs, a dict of outputs, one module called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, 32), nn.Linear(4, 32)
        self.shared = nn.Sequential(nn.Linear(32, 32), nn.ReLU())
        self.heads = nn.ModuleDict({"kind": nn.Linear(32, 3), "place": nn.Linear(64, 4)})

    def forward(self, left: Tensor, *, right: Tensor) -> dict[str, Tensor | tuple[Tensor, ...]]:
        a, b = self.shared(self.left(left)), self.shared(self.right(right))
        both = torch.cat([a, b], dim=-1)
        return {"kind": self.heads["kind"](a + b), "place": self.heads["place"](both).split(2, -1)}


class Picker(nn.Module):
    """Gathers, scatters and masks along positions; channels pass."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(6, 32), nn.Linear(32, 32)
        self.mask_token = nn.Parameter(torch.zeros(32))
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        best = y.detach().sum(-1).topk(3, dim=1).indices[..., None].expand(-1, -1, y.shape[-1])
        picked = self.outer(y.gather(1, best))
        y = torch.where(y.mean(-1, keepdim=True) > 10, self.mask_token, y)
        return self.head(y.scatter_add(1, best, picked).cumsum(1))


class Deformed(nn.Module):
    """A deformable convolution, then channels read at regions of interest."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.offset = nn.Conv2d(16, 18, 3, padding=1)
        self.deform = DeformConv2d(16, 16, 3, padding=1)
        boxes = [[0.0, 1, 1, 6, 6], [0, 0, 0, 4, 4]]
        self.register_buffer("boxes", torch.tensor(boxes))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.stem(x))
        y = self.deform(y, self.offset(y) / 10)
        return self.head(roi_align(y, self.boxes, 2).mean((2, 3)))


class Unfolded(nn.Module):
    """Convolution written as unfold, product and fold."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix = nn.Conv2d(3, 16, 1), nn.Linear(144, 144)
        self.out = nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        columns = functional.unfold(self.stem(x), 3, padding=1)
        mixed = self.mix(columns.transpose(1, 2)).transpose(1, 2)
        return self.out(functional.fold(mixed, x.shape[-2:], 3, padding=1) / math.sqrt(9))


class Attending(nn.Module):
    """`nn.MultiheadAttention` with its weights asked for, across two sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.memory = nn.Linear(6, 32), nn.Linear(4, 32)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        memory = self.memory(memory)
        y, weights = self.attention(self.x(x), memory, memory, need_weights=True)
        return self.head(y + weights.max(dim=-1, keepdim=True).values)
