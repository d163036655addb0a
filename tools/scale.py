"""Measure how the pipeline scales, and write docs/SCALE.md.

python tools/scale.py fit [FAMILY]...         CPU seconds per stage over depth, and the exponent
python tools/scale.py decoder [PARAMS]...     decoders of about that many million parameters
python tools/scale.py document                write docs/SCALE.md from what was measured

Every model is compressed in a process of its own with one thread; results are kept in
docs/scale.json, so that runs can be repeated and added to one by one.
"""

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # its usual name

import shrink
from shrink.capture.capture import capture
from shrink.core.inputs import Inputs

DOCS = Path(__file__).parents[1] / "docs"
RESULTS = DOCS / "scale.json"
DEPTHS = (8, 16, 32, 64, 128, 256)
STAGES = ("capture", "groups", "importance", "plan", "rewrite", "verify")
BAR = 1.15
_LIMIT_SECONDS = 1200
_REPEATS = 2  # the quickest counts


class Block(nn.Module):
    """A residual block with a bottleneck."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(width, width // 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(width // 2)
        self.expand = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Add to `x` of shape (N, width, H, W)."""
        return F.relu(x + self.norm2(self.expand(F.relu(self.norm(self.reduce(x))))))


class Growing(nn.Module):
    """Layers that each read all before them, in dense blocks of eight."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.blocks = nn.ModuleList()
        self.transitions = nn.ModuleList()
        for _ in range(depth // 8):
            self.blocks.append(
                nn.ModuleList(nn.Conv2d(16 + 8 * i, 8, 3, padding=1) for i in range(8))
            )
            self.transitions.append(nn.Conv2d(16 + 64, 16, 1))
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images of shape (N, 3, H, W)."""
        x = self.stem(x)
        for layers, transition in zip(self.blocks, self.transitions, strict=True):
            for layer in layers:  # type: ignore[attr-defined]  # a list of modules
                x = torch.cat([x, F.relu(layer(x))], 1)
            x = transition(x)
        return self.head(x.mean((2, 3)))


class Attention(nn.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, width: int, heads: int, shared: int) -> None:
        super().__init__()
        self.heads, self.shared, self.head_dim = heads, shared, width // heads
        self.q_proj = nn.Linear(width, heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(width, shared * self.head_dim, bias=False)
        self.v_proj = nn.Linear(width, shared * self.head_dim, bias=False)
        self.o_proj = nn.Linear(heads * self.head_dim, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Attend over `x` of shape (N, L, width); `cos`, `sin` of shape (L, head_dim)."""
        batch, length, _ = x.shape
        q = self.q_proj(x).view(batch, length, self.heads, self.head_dim).transpose(1, 2)
        k = self.k_proj(x).view(batch, length, self.shared, self.head_dim).transpose(1, 2)
        v = self.v_proj(x).view(batch, length, self.shared, self.head_dim).transpose(1, 2)
        q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        k = k.repeat_interleave(self.heads // self.shared, 1)
        v = v.repeat_interleave(self.heads // self.shared, 1)
        x = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(x.transpose(1, 2).reshape(batch, length, self.heads * self.head_dim))


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], -1)
    return x * cos + turned * sin


class Layer(nn.Module):
    """A decoder layer: attention and SwiGLU, root-mean-square norms first."""

    def __init__(self, width: int, heads: int, shared: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attention = Attention(width, heads, shared)
        self.gate_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Transform `x` of shape (N, L, width)."""
        x = x + self.attention(self.norm1(x), cos, sin)
        h = self.norm2(x)
        return x + self.down_proj(F.silu(self.gate_proj(h)) * self.up_proj(h))


class Decoder(nn.Module):
    """A language model of the usual kind, its embedding tied to its head."""

    def __init__(
        self, *, layers: int, width: int, heads: int, shared: int, hidden: int, vocabulary: int
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(Layer(width, heads, shared, hidden) for _ in range(layers))
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embed.weight
        rates = 1e4 ** (-torch.arange(0, width // heads, 2, dtype=torch.float32) * heads / width)
        angles = torch.outer(torch.arange(256.0), rates).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Give scores of shape (N, L, vocabulary) for token ids of shape (N, L)."""
        x = self.embed(ids)
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.head(self.norm(x))


def _residual(depth: int) -> nn.Module:
    blocks = [Block(32) for _ in range(depth // 2)]
    ends = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)
    return nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), *blocks, *ends)


def _plain(depth: int) -> nn.Module:
    widths = [3, *([32] * depth)]
    layers = [m for a, b in pairwise(widths) for m in (nn.Conv2d(a, b, 3, padding=1), nn.ReLU())]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def _transformer(depth: int) -> nn.Module:
    return Decoder(layers=depth // 4, width=64, heads=4, shared=2, hidden=128, vocabulary=100)


def _ids(vocabulary: int, length: int) -> Tensor:
    return torch.arange(length)[None] % vocabulary


FAMILIES: Mapping[str, tuple[Callable[[int], nn.Module], Tensor]] = {
    "plain": (_plain, torch.randn(1, 3, 8, 8)),
    "residual": (_residual, torch.randn(1, 3, 8, 8)),
    "dense": (Growing, torch.randn(1, 3, 8, 8)),
    "transformer": (_transformer, _ids(100, 16)),
}
DECODERS: Mapping[int, Mapping[str, int]] = {  # by million parameters
    100: {"layers": 8, "width": 768, "heads": 12, "shared": 4, "hidden": 2816, "vocabulary": 32000},
    300: {
        "layers": 12,
        "width": 1280,
        "heads": 20,
        "shared": 4,
        "hidden": 4096,
        "vocabulary": 64000,
    },
    1000: {
        "layers": 16,
        "width": 2048,
        "heads": 32,
        "shared": 8,
        "hidden": 6144,
        "vocabulary": 128256,
    },
}


class Gauge:
    """CPU seconds and peak resident bytes of every stage."""

    def __init__(self) -> None:
        self.stages: dict[str, dict[str, float]] = {}

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Measure one stage."""
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        cpu, wall = time.process_time(), time.perf_counter()
        try:
            yield
        finally:
            self.stages[stage] = {
                "cpu_s": time.process_time() - cpu,
                "wall_s": time.perf_counter() - wall,
                "peak_bytes": _resident("VmHWM"),
            }


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def measure_fit(family: str, depth: int) -> dict[str, Any]:
    """Compress one network of a family, several times; the quickest of each stage counts."""
    build, inputs = FAMILIES[family]
    torch.manual_seed(0)
    model = build(depth)
    shrink.compress(build(8), inputs, flops=0.5, measure=False)  # what the first call alone costs
    best: dict[str, float] = {}
    for _ in range(_REPEATS):
        gauge = Gauge()
        result = shrink.compress(model, inputs, flops=0.5, measure=False, progress=gauge)
        for stage, found in gauge.stages.items():
            best[stage] = min(best.get(stage, np.inf), found["cpu_s"])
    nodes = len(capture(model, Inputs((inputs,))).ops)
    return {"nodes": nodes, "cpu_s": best, "error": result.report.verification.error}


def measure_decoder(millions: int, dtype: str) -> dict[str, Any]:
    """Compress one decoder of 64 tokens with random weights."""
    sizes = DECODERS[millions]
    torch.manual_seed(0)
    base = _resident("VmRSS")
    torch.set_default_dtype(getattr(torch, dtype))
    model = Decoder(**sizes)
    torch.set_default_dtype(torch.float32)
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    gauge = Gauge()
    began = time.perf_counter()
    ids = _ids(sizes["vocabulary"], 64)
    result = shrink.compress(model, ids, flops=0.5, measure=False, progress=gauge)
    proof = result.report.verification
    return {
        **sizes,
        "dtype": dtype,
        "params": sum(p.numel() for p in model.parameters()),
        "model_bytes": size,
        "wall_s": time.perf_counter() - began,
        "cpu_s": {k: v["cpu_s"] for k, v in gauge.stages.items()},
        "peak_bytes": max(v["peak_bytes"] for v in gauge.stages.values()),
        "base_bytes": base,
        "reached": result.report.request["reached"]["flops"],
        "error": proof.error,
        "arithmetic": proof.dtype,
    }


def _in_process(*arguments: str) -> Any:
    """Run a measurement in a process of its own, with one thread."""
    done = subprocess.run(  # noqa: S603  # this very file
        [sys.executable, __file__, "worker", *arguments],
        capture_output=True,
        text=True,
        timeout=_LIMIT_SECONDS,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1] if done.stderr else "killed"}
    return json.loads(done.stdout)


def exponent(nodes: Sequence[float], seconds: Sequence[float]) -> float:
    """Fit seconds = a * nodes^b over the larger half of the sizes; return b.

    The smallest networks cost mostly what every call costs, which would flatter the exponent.
    """
    half = len(nodes) // 2
    slope, _ = np.polyfit(np.log(nodes[half:]), np.log(seconds[half:]), 1)
    return float(slope)


def render(results: Mapping[str, Any]) -> str:
    """Write the page."""
    where = results["environment"]
    lines = [
        "# How cost grows with the model",
        "",
        "Written by `python tools/scale.py document` from `docs/scale.json`, which",
        "`python tools/scale.py fit` and `python tools/scale.py decoder` fill.",
        f"Device: {where['device']}; one thread; torch {where['torch']}; batch 1.",
        "",
        "## Time over the number of nodes",
        "",
        f"CPU seconds (the quickest of {_REPEATS}, float32 weights, certificate in float64) of "
        "networks of one family",
        f"with {DEPTHS[0]} to {DEPTHS[-1]} layers; the last row of each is b in",
        f"`seconds = a * nodes^b`, fitted to the larger half, to be at most {BAR}.",
        "",
        f"| family | layers | nodes | {' | '.join(STAGES)} |",
        f"|---|---|---|{'---|' * len(STAGES)}",
    ]
    for family, runs in results.get("fit", {}).items():
        found = sorted((int(d), r) for d, r in runs.items() if "cpu_s" in r)
        for depth, run in found:
            cells = " | ".join(f"{run['cpu_s'][s]:.3f}" for s in STAGES)
            lines.append(f"| {family} | {depth} | {run['nodes']} | {cells} |")
        nodes = [r["nodes"] for _, r in found]
        if len(found) < 4:
            continue
        slopes = (exponent(nodes, [r["cpu_s"][s] for _, r in found]) for s in STAGES)
        lines.append(f"| {family} | **b** | | {' | '.join(f'**{b:.2f}**' for b in slopes)} |")
    lines += [
        "",
        "## Decoders",
        "",
        "Grouped-query attention, SwiGLU, rotary positions, tied embedding; 64 tokens; flops=0.5.",
        "CPU seconds are of capture to verify, one thread. Peak is the resident memory of the",
        "process; the ratio leaves out what Python and torch take before the model is made.",
        "",
        "| parameters | dtype | model | layers x width | vocabulary | CPU seconds | peak | "
        "peak / model | reached MACs | certificate |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    gib = 2**30
    for run in results.get("decoder", {}).values():
        if "params" in run:
            lines.append(
                f"| {run['params'] / 1e6:.0f} M | {run['dtype']} | "
                f"{run['model_bytes'] / gib:.2f} GiB | {run['layers']} x {run['width']} | "
                f"{run['vocabulary']} | {sum(run['cpu_s'].values()):.1f} | "
                f"{run['peak_bytes'] / gib:.2f} GiB | "
                f"{(run['peak_bytes'] - run['base_bytes']) / run['model_bytes']:.2f} | "
                f"{run['reached']:.4f} | {run['error']:.1e} ({run['arithmetic']}) |"
            )
    return "\n".join([*lines, ""])


def main() -> int:
    """Measure, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("fit", "decoder", "document", "worker"))
    parser.add_argument("names", nargs="*")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--depths", type=int, nargs="+", default=DEPTHS)
    arguments = parser.parse_args()
    if arguments.what == "worker":
        kind, name, detail = arguments.names
        torch.set_num_threads(1)
        found = (
            measure_fit(name, int(detail)) if kind == "fit" else measure_decoder(int(name), detail)
        )
        print(json.dumps(found))
        return 0
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    results["environment"] = {"device": _processor(), "torch": torch.__version__}
    if arguments.what == "fit":
        for family in arguments.names or FAMILIES:
            for depth in arguments.depths:
                found = _in_process("fit", family, str(depth))
                results.setdefault("fit", {}).setdefault(family, {})[str(depth)] = found
                print(family, depth, found)
                RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    if arguments.what == "decoder":
        for millions in arguments.names or map(str, DECODERS):
            found = _in_process("decoder", millions, arguments.dtype)
            results.setdefault("decoder", {})[f"{millions} {arguments.dtype}"] = found
            print(found)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    (DOCS / "SCALE.md").write_text(render(results))
    return 0


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    sys.exit(main())
