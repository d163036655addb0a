"""A loaded program as a module: the original's tensors under their names, and its graph."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from shrink.artifact.reader import Fixed, Given, ProgramGraph, Stored
from shrink.core.errors import ArtifactError, InputError


class Program(nn.Module):
    """Computes what the exported model computed in eval mode.

    Parameters, buffers and `state_dict` keys are the original's; submodules only hold tensors.

    Args:
        graph: the program.
        state: parameters and buffers by name; tied ones are the same tensor.
        constants: tensors that are not in the state dict, by name.

    Raises:
        KeyError, TypeError, ValueError, RuntimeError: names or types do not fit the program.
    """

    def __init__(
        self, graph: ProgramGraph, state: Mapping[str, Tensor], constants: Mapping[str, Tensor]
    ) -> None:
        super().__init__()
        self._graph = graph
        self._owners: list[tuple[nn.Module, str]] = []
        parameters: dict[int, nn.Parameter] = {}
        stored = [source for source in graph.inputs if isinstance(source, Stored)]
        names = {source.name for source in stored if source.kind != "constant"}
        if names != state.keys():
            raise ValueError(f"program and weights differ in {sorted(names ^ state.keys())[:3]}")
        for source in stored:
            tensor = (constants if source.kind == "constant" else state)[source.name]
            owner, leaf = self._owner(source.name)
            if source.kind == "parameter":
                shared = parameters.setdefault(
                    id(tensor), nn.Parameter(tensor, requires_grad=source.requires_grad)
                )
                owner.register_parameter(leaf, shared)
            else:
                owner.register_buffer(leaf, tensor, persistent=source.kind == "buffer")
            self._owners.append((owner, leaf))
        super().train(mode=False)

    def _owner(self, name: str) -> tuple[nn.Module, str]:
        *path, leaf = name.split(".")
        owner: nn.Module = self
        for part in path:
            if part not in owner._modules:
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        return owner, leaf

    def train(self, mode: bool = True) -> "Program":  # noqa: FBT001, FBT002 - nn.Module's signature
        """Accept eval mode only: what the model does in training was not exported.

        Raises:
            ArtifactError: `mode` is True.
        """
        if mode:
            raise ArtifactError(
                "a loaded program runs in eval mode only",
                where="train()",
                fix="smaller = shrink.apply(plan, model), load model.safetensors into it, train it",
            )
        return super().train(mode=False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # Any: as the original's forward
        """Run the program.

        Shapes: as the example inputs; the batch may differ where the manifest says `"any"`.

        Raises:
            InputError: arguments or sizes are not those that the program was exported with.
        """
        leaves, spec = pytree.tree_flatten(self._arrange(args, kwargs))
        if spec != self._graph.in_spec:
            raise InputError(
                "arguments are not built as the example inputs were",
                where="forward",
                fix="pass the same tuples, lists and dicts of tensors",
            )
        given = iter(leaves)
        owners = iter(self._owners)
        values = []
        for source in self._graph.inputs:
            if isinstance(source, Stored):
                owner, leaf = next(owners)
                values.append(getattr(owner, leaf))
            else:
                values.append(_checked(next(given), source))
        device = next((v.device for v in values if isinstance(v, Tensor)), torch.device("cpu"))
        return pytree.tree_unflatten(self._graph.module(device, *values), self._graph.out_spec)

    def _arrange(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Pass each argument in the place or under the name it was exported with."""
        spec, names = self._graph.in_spec, self._graph.argument_names
        first, second = pytree.tree_unflatten([0] * spec.num_leaves, spec)
        bound = dict(zip(names, args, strict=False)) | kwargs
        wanted = (*names[: len(first)], *second)
        if len(args) > len(names) or len(wanted) != len(first) + len(second):
            return args, kwargs  # forward(*args): only the structure is known
        if len(bound) != len(args) + len(kwargs) or bound.keys() != set(wanted):
            raise InputError(
                f"arguments {', '.join(bound)} where the program takes {', '.join(wanted)}",
                where="forward",
                fix="pass the arguments that the model was compressed with",
            )
        return tuple(bound[n] for n in names[: len(first)]), {n: bound[n] for n in second}


def _checked(value: Any, source: Given | Fixed) -> Any:
    if isinstance(source, Fixed):
        if type(value) is not type(source.value) or value != source.value:
            raise InputError(
                f"argument {value!r:.40} where the program was exported with {source.value!r}",
                where="forward",
                fix=f"pass {source.value!r}, or compress again with the value you need",
            )
        return value
    shape = tuple(value.shape) if isinstance(value, Tensor) else None
    if (
        shape is None
        or len(shape) != len(source.shape)
        or any(size is not None and size != n for n, size in zip(shape, source.shape, strict=True))
    ):
        expected = ", ".join("batch" if n is None else str(n) for n in source.shape)
        raise InputError(
            f"input {type(value).__name__ if shape is None else shape} where the program "
            f"takes a tensor of shape ({expected})",
            where="forward",
            fix="pass inputs of the shape that the model was compressed for",
        )
    return value
