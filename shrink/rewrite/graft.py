"""Replace a module whose `forward` cannot fit by one generated from its part of the graph.

The replacement holds the same parameters, buffers and submodules under the same names, and calls
its submodules as modules, so that it trains, evaluates and loads as the original did. Only its own
operators come from the graph, with the sizes that the plan predicts. It refuses sizes that were
not seen to work, rather than to compute something else.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import gcd
from typing import Any

import torch
from torch import Tensor, fx, nn

from shrink.core.errors import InputError
from shrink.core.graph import Graph
from shrink.core.nested import map_leaves
from shrink.rewrite.train import trained_captures
from shrink.rewrite.variants import Variant, find_call, is_alike
from shrink.rewrite.write import Captures, Slot, UnfitError, Written, leaves_of, write

_NAMESPACE = {
    "torch": torch,
    "device": torch.device,
    "inf": float("inf"),
    "nan": float("nan"),
    "NoneType": type(None),
}


@dataclass(frozen=True)
class Sizes:
    """A tensor among the arguments: for each dimension, its size or what it may be.

    Args:
        fixed: the size, None if it is free.
        least, step: a free size is at least `least`, and a multiple of `step`.
    """

    fixed: tuple[int | None, ...]
    least: tuple[int, ...]
    step: tuple[int, ...]

    def admits(self, shape: Sequence[int]) -> bool:
        """Tell whether a tensor may have this shape."""
        return len(shape) == len(self.fixed) and all(
            n == fixed if fixed is not None else n >= least and n % step == 0
            for n, fixed, least, step in zip(shape, self.fixed, self.least, self.step, strict=True)
        )

    def __str__(self) -> str:
        bounds = zip(self.fixed, self.least, self.step, strict=True)
        sizes = [
            str(fixed) if fixed is not None else f"any from {least}" + f" by {step}" * (step > 1)
            for fixed, least, step in bounds
        ]
        return f"({', '.join(sizes)})"


@dataclass(frozen=True)
class Number:
    """An integer among the arguments that may be any."""


@dataclass(frozen=True)
class Exactly:
    """An argument that is part of the generated code."""

    value: Any


Leaf = Sizes | Number | Exactly


class Graft(nn.Module):
    """A module whose forward was generated from a captured graph.

    Args:
        source: the module it replaces; its parameters, buffers, submodules and attributes are
            taken over.
        written: Python source of `forward(self, *leaves)`.
        training: the same in training mode, where that has operators of its own.
        signature: of the replaced forward.
        leaves: what each argument may be.
    """

    def __init__(
        self,
        source: nn.Module,
        written: Written,
        training: Written | None,
        signature: inspect.Signature,
        leaves: tuple[Leaf, ...],
    ) -> None:
        super().__init__()
        hooks = {n: v for n, v in vars(self).items() if n.startswith("_forward")}
        # the source's own forward hooks are left out: what they did is part of the call
        self.__dict__.update(source.__dict__ | hooks)
        self.replaced = getattr(source, "replaced", type(source).__qualname__)
        self.signature = signature
        self.leaves = leaves
        self.code = written.code
        self.output = written.output
        self.training_code = training.code if training else written.code
        self.training_output = training.output if training else written.output

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # Any: as the replaced forward
        """Compute what the replaced module computes, at the smaller sizes.

        Raises:
            InputError: an argument is not of a size or value that the code was generated for.
        """
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = leaves_of(list(bound.arguments.values()))
        if torch._C._get_tracing_state() is not None:  # sizes are tensors there
            numbers = (isinstance(leaf, Number) for leaf in self.leaves)
            given = [int(v) if n else v for v, n in zip(given, numbers, strict=False)]
        self._check(given)
        if self.training:
            return _fill(self.training_output, _compile(self.training_code)(self, *given))
        return _fill(self.output, _compile(self.code)(self, *given))

    def _check(self, given: Sequence[Any]) -> None:
        if len(given) != len(self.leaves):
            self._refuse(f"{len(given)} arguments", str(len(self.leaves)))
        for value, leaf in zip(given, self.leaves, strict=True):
            if isinstance(leaf, Sizes):
                if not isinstance(value, Tensor):
                    self._refuse(f"{value!r:.40}", "a tensor")
                elif not leaf.admits(value.shape):
                    self._refuse(f"a tensor of shape {tuple(value.shape)}", str(leaf))
            elif isinstance(leaf, Number):
                if not isinstance(value, int | torch.SymInt):
                    self._refuse(f"{value!r:.40}", "an integer")
            elif isinstance(value, Tensor) or (_is_plain(leaf.value) and value != leaf.value):
                self._refuse(f"{value!r:.40}", f"{leaf.value!r:.40}")

    def _refuse(self, given: str, expected: str) -> None:
        raise InputError(
            f"was given {given}; its code was generated for {expected}",
            where=self.replaced,
            fix="compress the model with example inputs of the size you need",
        )

    def extra_repr(self) -> str:
        """Name the class that was replaced."""
        return f"from {self.replaced}"


@cache
def _compile(code: str) -> Callable[..., tuple[Any, ...]]:
    scope: dict[str, Any] = dict(_NAMESPACE)
    exec(compile(code, "<shrink graft>", "exec"), scope)  # noqa: S102  # generated by fx
    made: Callable[..., tuple[Any, ...]] = scope["forward"]
    return made


def _fill(template: Any, values: tuple[Any, ...]) -> Any:
    return map_leaves(template, Slot, lambda slot: values[slot.index])


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def graft(
    module: nn.Module,
    original: nn.Module,
    captures: Captures,
    variants: Sequence[Variant],
    training: Callable[[Sequence[tuple[Graph, int]]], Sequence[Graph]],
) -> tuple[Graft, str]:
    """Generate the replacement of one module from one of its calls.

    Args:
        module: the sliced copy's module.
        original: the original's module, for its signature.
        captures: the call, without other captures.
        variants: captures at other sizes, those of one input dimension together.
        training: captures the original's module alone in training mode, at the sizes of each of
            the given calls; empty if it cannot be trained.

    Returns:
        the replacement, and what a user should know of it.

    Raises:
        RewriteError: its operators use values from outside of it.
    """
    signature = inspect.signature(original.forward)
    usable, unlike = list(variants), list[tuple[Graph, int]]()
    while True:
        found = [(v, find_call(captures.graph, captures.index, v.graph)) for v in usable]
        called = [(v, v.graph, p) for v, p in found if p is not None]
        alike = [is_alike(captures.graph, captures.index, g, p) for _, g, p in called]
        usable = [v for (v, _, _), same in zip(called, alike, strict=True) if same]
        calls = [(g, p) for (_, g, p), same in zip(called, alike, strict=True) if same]
        unlike += [(g, p) for (_, g, p), same in zip(called, alike, strict=True) if not same]
        try:
            written, trained, leaves, note = _write(
                signature, replace(captures, others=calls), training, unlike
            )
            break
        except UnfitError as error:  # that dimension stays as in the example inputs
            axes = usable[max(error.captures)].axes
            usable = [v for v in usable if v.axes != axes]
    made = Graft(module, written, trained, _plain_signature(signature), leaves)
    for name, constant in {**written.constants, **(trained.constants if trained else {})}.items():
        made.register_buffer(name, constant.clone(), persistent=False)
    return made, note


def _write(
    signature: inspect.Signature,
    captures: Captures,
    training: Callable[[Sequence[tuple[Graph, int]]], Sequence[Graph]],
    refused: Sequence[tuple[Graph, int]],
) -> tuple[Written, Written | None, tuple[Leaf, ...], str]:
    """Write a call as it is in evaluation and, if that is different, in training."""
    calls = [(captures.graph, captures.index), *captures.others]
    arguments = [_arguments(signature, *c) for c in calls]
    _require([len(a) == len(arguments[0]) for a in arguments[1:]])
    written = write(captures, arguments)
    local = training(calls[:1])
    in_training, note = trained_captures(captures, local)
    trained = None
    if note.same:
        written = write(replace(captures, trained=note.same), arguments)
    elif in_training is not None:
        local = [*local, *training(calls[1:])]
        _require([is_alike(local[0], 0, g, 0) for g in local[1:]])
        in_training = replace(in_training, others=[(g, 0) for g in local[1:]])
        trained = write(in_training, [_arguments(signature, g, 0) for g in local])
    others = [_arguments(signature, *c) for c in refused]
    return written, trained, tuple(_leaves(captures, arguments, others)), note.text


def _require(alike: Sequence[bool]) -> None:
    unlike = [i for i, same in enumerate(alike) if not same]
    if unlike:
        raise UnfitError(unlike)


def _arguments(signature: inspect.Signature, graph: Graph, index: int) -> list[Any]:
    call = graph.calls[index]
    bound = signature.bind(*call.args, **call.kwargs)
    bound.apply_defaults()
    return leaves_of(list(bound.arguments.values()))


def _leaves(
    captures: Captures, arguments: Sequence[Sequence[Any]], refused: Sequence[Sequence[Any]]
) -> Iterator[Leaf]:
    """Say what each argument may be: what differed between the captures may differ again.

    Args:
        arguments: in each of the captures.
        refused: in those captures in which other operators were called.
    """
    for position, seen in enumerate(zip(*arguments, strict=True)):
        if isinstance(seen[0], fx.Node):
            sizes = captures.prediction.shapes[seen[0].name][0]
            shapes = [tuple(v.meta["val"].shape) for v in seen]
            others = [
                tuple(a[position].meta["val"].shape)
                for a in refused
                if len(a) > position and isinstance(a[position], fx.Node)
            ]
            found = [
                _bound(now, values, {s[d] for s in others if len(s) == len(sizes)} - {values[0]})
                for d, (now, values) in enumerate(
                    zip(sizes, zip(*shapes, strict=True), strict=True)
                )
            ]
            yield Sizes(*(tuple(part) for part in zip(*found, strict=True)) if found else ((),) * 3)
        elif all(type(v) is int for v in seen) and len(set(seen)) > 1:
            yield Number()
        else:
            yield Exactly(seen[0])


def _bound(now: int, seen: Sequence[int], refused: set[int]) -> tuple[int | None, int, int]:
    """Say what one size may be: fixed, or the least one and what it is a multiple of."""
    step = gcd(*seen) if refused else 1
    if len(set(seen)) == 1 or any(n % step == 0 for n in refused - set(seen)):
        return now, 0, 1
    return None, min(2, *seen), step


def _plain_signature(signature: inspect.Signature) -> inspect.Signature:
    """Leave out the annotations, which may not be picklable."""
    empty = inspect.Parameter.empty
    return signature.replace(
        parameters=[p.replace(annotation=empty) for p in signature.parameters.values()],
        return_annotation=inspect.Signature.empty,
    )
