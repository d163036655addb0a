"""What is kept: the pruning instructions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Decision:
    """What the plan does to one channel group, for people to read.

    Args:
        group: name of the group: its first tensor and dimension, `layer1.0.conv1.weight:0`.
        size: units per part before.
        kept: units per part after.
        parts: parts that keep equal counts (conv groups, heads); 1 for most groups.
    """

    group: str
    size: int
    kept: int
    parts: int = 1


@dataclass(frozen=True)
class Plan:
    """The channels that survive, by tensor name, dimension and index.

    Args:
        keep: for every sliced parameter or buffer, and every sliced dimension of it, the indices
            that survive, ascending. Tensors and dimensions not named stay whole.
        shapes: the original shape of every tensor in `keep`, so that a model that does not fit
            is refused.
        inputs: a description of the example inputs the plan was made with
            (`shrink.capture.inputs.describe`), so that the plan can be replayed without them.
        decisions: the same by channel group.
        interface: what survives of the inputs and outputs that were free to shrink, by name
            (`input`, `output.logits`) and dimension, ascending.
        request: budget and options as asked for, JSON values only.
        model: name of the model as the user wrote it, or its class.
    """

    keep: Mapping[str, Mapping[int, tuple[int, ...]]]
    shapes: Mapping[str, tuple[int, ...]]
    inputs: Mapping[str, Any] = field(default_factory=dict)
    decisions: tuple[Decision, ...] = ()
    request: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""
    interface: Mapping[str, Mapping[int, tuple[int, ...]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, dims in self.keep.items():
            for dim, indices in dims.items():
                size = self.shapes[name][dim]
                ascending = indices == tuple(sorted(set(indices)))
                if not indices or not ascending or indices[0] < 0 or indices[-1] >= size:
                    msg = f"plan keeps invalid indices of {name} dim {dim} (size {size})"
                    raise ValueError(msg)
