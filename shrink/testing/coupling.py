"""Write what one layer ties as one line of text, index by index.

Every index of every dimension is the letter of its unit: a convolution from two channels to three
is `x1=weight1:ab weight0=bias0=out1:cde`, and a flatten of (2, 2) is `x1:ab x2:cd out1:aabb*cdcd`,
where index 1 lives while both `a` and `d` do. `-` is an index that is never removed; dimensions of
which nothing can be are left out. Letters that differ between rows stand in brackets, with the
dimensions that the rows are of: `out2:[ab|cd]1`. `{ab|cd}` keep equally many. At the end, after
`!`, come the reasons for what is frozen.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from string import ascii_letters
from typing import Any

from torch import Tensor, fx, nn, ones

from shrink.capture.capture import capture
from shrink.core.groups import Label
from shrink.core.inputs import Inputs
from shrink.groups.propagate import propagate
from shrink.groups.resolve import Resolution, resolve
from shrink.rules.labels import Store, Value, of
from shrink.rules.registry import Couple


def read(
    layer: Callable[..., Any],
    *arguments: tuple[int, ...] | Tensor,
    rules: Mapping[Any, Couple] | None = None,
) -> str:
    """Label every dimension afresh, run the rules and write the answer as text.

    Args:
        layer: a module, or a function of tensors.
        arguments: their shapes (they are called x, y, z, u, v, w), or tensors to pass as they are.
        rules: coupling rules by operator, before the registered ones.
    """
    given = dict(zip("xyzuvw", arguments, strict=False))
    tensors = {n: a for n, a in given.items() if isinstance(a, Tensor)}
    graph = capture(_Labelled(layer, given).eval(), Inputs((), tensors))
    found = propagate(graph, extra=rules or {}, strict=False, free=None)
    outputs: list[fx.Node] = []
    fx.map_arg(graph.fx.output_node().args, outputs.append)
    results = [found.values[node.name][0] for node in outputs]
    names = [f"out{letter}" for letter in "abcdef"] if len(results) > 1 else ["out"]
    own = {n.removeprefix("layer."): v for n, v in found.stored.items() if n not in given}
    values = {
        **{n: found.stored[n] for n in given if n in found.stored},
        **own,
        **dict(zip(names, results, strict=False)),
    }
    return write(found.store, values)


def write(store: Store, values: dict[str, Value]) -> str:
    """Write the labels of values as text."""
    for value in values.values():
        for dim in range(value.rank):
            of(store, value, dim)  # what no rule has looked at is free
    spell = _Spelling(resolve(store))
    words: dict[str, list[str]] = {}
    reasons: dict[str, list[str]] = {}
    for name, value in values.items():
        for dim, labels in enumerate(value.labels):
            word = spell(labels or ())
            if word:
                words.setdefault(word, []).append(f"{name}{dim}")
            for code in spell.reasons(labels or ()):
                reasons.setdefault(store.reasons[code].text, []).append(f"{name}{dim}")
    text = [f"{'='.join(names)}:{word}" for word, names in words.items()]
    for parts in store.balances:
        balanced = [spell(Label(ids) for ids in part) for part in parts]
        text += ["{" + "|".join(balanced) + "}"] if any(balanced) else []
    text += [f"!{reason}: {' '.join(names)}" for reason, names in reasons.items() if reason]
    return " ".join(dict.fromkeys(text))


def as_attribute(operator: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap what a module cannot hold and be copied: the custom operators of torch.library."""
    if isinstance(operator, nn.Module):
        return operator

    def call(*arguments: Any) -> Any:  # Any: whatever the operator takes and returns
        return operator(*arguments)

    return call


class _Labelled(nn.Module):
    """A layer whose arguments are parameters, so that all their dimensions get labels."""

    def __init__(self, layer: Callable[..., Any], given: dict[str, Any]) -> None:
        super().__init__()
        self.layer = as_attribute(layer)
        self.given = given
        for name, shape in given.items():
            if not isinstance(shape, Tensor):
                setattr(self, name, nn.Parameter(ones(shape)))

    def forward(self, **tensors: Tensor) -> Any:
        return self.layer(*(tensors.get(n, getattr(self, n, None)) for n in self.given))


@dataclass
class _Spelling:
    """Letters for units, in order of first use."""

    resolution: Resolution
    letters: dict[int, str] = field(default_factory=lambda: {0: "-"})

    def __call__(self, labels: Iterable[Label]) -> str:
        words = []
        for label in labels:
            for units in self.resolution.expand(label.ids):
                for unit in units.ravel().tolist():
                    self.letters.setdefault(unit, ascii_letters[len(self.letters) - 1])
                rows = [
                    "".join(self.letters[unit] for unit in row)
                    for row in units.reshape(-1, units.shape[-1]).tolist()
                ]
                dims = "".join(map(str, label.rows))
                words.append(f"[{'|'.join(rows)}]{dims}" if label.rows else rows[0])
        return "*".join(dict.fromkeys(words))

    def reasons(self, labels: Iterable[Label]) -> list[int]:
        codes = (self.resolution.reason[self.resolution.roots[x.ids]].ravel() for x in labels)
        return sorted({int(code) for found in codes for code in found if code})
