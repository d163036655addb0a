"""What a report says of a run: costs, widths, and what stayed whole."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from shrink.capture.capture import capture
from shrink.core.errors import ShrinkError
from shrink.core.graph import Graph
from shrink.core.groups import ChannelGroups
from shrink.core.inputs import Inputs, describe, tensors_in
from shrink.core.plan import Plan
from shrink.core.report import Cost, LayerWidth, Speedup
from shrink.groups.cost import cost_of_macs, cost_of_params
from shrink.measure.latency import compare_latency, speedup
from shrink.measure.macs import count_macs, count_params
from shrink.measure.memory import activation_peak_bytes, cuda_peak_bytes
from shrink.measure.prepare import Prepared, prepare
from shrink.remedies import list_frozen
from shrink.report.sentences import gather_frozen
from shrink.rewrite.rewrite import Rewrite
from shrink.rules.cost import find_macs, uncounted


class Costs:
    """The cost of a plan as a function of the kept counts."""

    def __init__(self, graph: Graph, groups: ChannelGroups, model: nn.Module) -> None:
        names = {n for n, _ in model.named_parameters()}
        self.polynomials = {
            "flops": cost_of_macs(graph, groups, find_macs),
            "params": cost_of_params(graph, groups, names),
        }
        self.sizes = np.array([g.size for g in groups.groups], dtype=np.int64)

    def of(self, kind: str) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
        """Give the cost in `"flops"` or `"params"` of kept counts, shape (..., groups) -> (...)."""
        return lambda counts: self.polynomials[kind](counts)[..., 0]

    def full(self, kind: str) -> float:
        """Give the cost of the whole model."""
        return float(self.of(kind)(self.sizes))


@dataclass(frozen=True, eq=False)
class Facts:
    """What the report says of the model besides numbers."""

    original: nn.Module
    made: Rewrite
    graph: Graph
    groups: ChannelGroups
    inputs: Inputs
    name: str
    weights: str
    kinds: Mapping[str, str] = field(default_factory=dict)

    def model(self) -> dict[str, Any]:
        """Say which model it was, in what form it came out, and on which inputs."""
        return {
            "name": self.name,
            "class": type(self.original).__qualname__,
            "weights": self.weights,
            "form": self.made.form,
            "capture": self.graph.capture,
            "inputs": describe(self.inputs),
        }

    def layers(self, plan: Plan) -> tuple[LayerWidth, ...]:
        """List the width of every layer before and after."""
        found = []
        for path, module in self.original.named_modules():
            weight = getattr(module, "weight", None)
            if isinstance(weight, nn.Parameter) and weight.dim() > 1:
                name = f"{path}.weight" if path else "weight"
                kept = plan.keep.get(name, {}).get(0)
                before = weight.shape[0]
                after = len(kept) if kept else before
                found.append(LayerWidth(path, type(module).__name__, before, after))
        return tuple(found)

    def frozen(self) -> tuple[dict[str, Any], ...]:
        """Gather what stayed whole by reason."""
        return gather_frozen(list_frozen(self.groups))


def measure_both(
    model: nn.Module,
    smaller: nn.Module,
    inputs: tuple[Inputs, Inputs],
    graph: Graph,
    device: torch.device,
    dtype: torch.dtype,
    *,
    channels_last: bool,
    seed: int,
) -> tuple[Cost, Cost, Speedup, list[str]]:
    """Measure two models in turns; also what the reader must know of the count."""
    pair = [
        prepare(m, x, device=device, dtype=dtype, channels_last=channels_last)
        for m, x in zip((model, smaller), inputs, strict=True)
    ]
    timings = compare_latency(pair)
    before, notes = count_cost(model, inputs[0], graph, pair[0])
    after, _ = count_cost(smaller, inputs[1], None, pair[1])
    gain = speedup(timings[0].samples_ms, timings[1].samples_ms, seed=seed)
    return (
        replace(before, latency_ms=timings[0].latency),
        replace(after, latency_ms=timings[1].latency),
        gain,
        notes,
    )


def count_cost(
    model: nn.Module, inputs: Inputs, graph: Graph | None, prepared: Prepared
) -> tuple[Cost, list[str]]:
    """Count what can be counted without a clock; fvcore's count, or the graph's without fvcore."""
    graph = graph or capture(model, inputs)
    notes = []
    try:
        macs, left_out = count_macs(model, inputs)
    except ShrinkError as error:
        macs, left_out = graph_macs(graph), uncounted(n.target for n in graph.ops)
        notes.append(f"MACs counted from the graph: {error.what}")
    if prepared.device.type == "cuda":
        peak = cuda_peak_bytes(prepared)
    else:
        peak = activation_peak_bytes(graph)
    return Cost(macs, count_params(model), None, peak, left_out), notes


def graph_macs(graph: Graph) -> int:
    """Count the multiply-adds of a graph as it is."""
    total = 0
    for node in graph.ops:
        formula = find_macs(node.target)
        if formula is not None:
            args, kwargs = torch.fx.map_arg((node.args, dict(node.kwargs)), _shape)
            shapes = tuple(tuple(t.shape) for t in tensors_in(node.meta["val"]))
            total += formula(args, kwargs, shapes)
    return total


def _shape(node: torch.fx.Node) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def batch_of(inputs: Inputs) -> int:
    """Read the batch size: the first dimension of the first tensor that has one."""
    return next((len(t) for t in tensors_in(inputs) if t.dim()), 1)
