"""A model as `program.pt2`."""

import logging
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, ShapesCollection, export
from torch.export import save as save_program
from torch.utils import _pytree as pytree

from shrink.core.inputs import Inputs, map_tensors, tensors_in

# torch 2.6 wants a bound on a dynamic size.
MAX_BATCH = 1 << 20


def export_model(model: nn.Module, inputs: Inputs, path: Path) -> tuple[dict[str, Tensor], str]:
    """Export `model` in eval mode to `path`, for any batch size where that is possible.

    The values of the example inputs stay out of the file, and so do source paths and classes.

    Args:
        path: a file name that ends with `.pt2`.

    Returns:
        The tensors that the program reads and the state dict lacks, by name, and the batch sizes
        that it takes: `"any"` or `"fixed"`.

    Raises:
        Exception: whatever `torch.export` raises for a model that it cannot take.
    """
    with _eval_mode(model), _quiet(), torch.enable_grad():
        program, batch = _export(model, inputs)
        for module in program.graph_module.modules():
            if isinstance(module, torch.fx.GraphModule):
                for node in module.graph.nodes:
                    node.meta.pop("stack_trace", None)
        signature = program.module_call_graph[0].signature
        if signature is not None:
            spec = signature.out_spec
            result = pytree.tree_unflatten(range(spec.num_leaves), spec)
            signature.out_spec = pytree.tree_structure(_plain(result))
        save_program(program, path)
    constants = {k: v for k, v in program.constants.items() if isinstance(v, Tensor)}
    return constants, batch


def _export(model: nn.Module, inputs: Inputs) -> tuple[ExportedProgram, str]:
    sizes = {t.shape[0] if t.ndim else None for t in tensors_in(inputs)}
    if len(sizes) == 1 and (size := sizes.pop()):
        # A batch of 1 would be taken for a constant.
        blank = map_tensors(inputs, lambda t: t.new_zeros((max(size, 2), *t.shape[1:])))
        batch = Dim("batch", min=1, max=MAX_BATCH)
        shapes = ShapesCollection()  # type: ignore[no-untyped-call]
        for tensor in tensors_in(blank):
            shapes[tensor] = {0: batch}
        kwargs = dict(blank.kwargs)
        try:
            dynamic = shapes.dynamic_shapes(model, blank.args, kwargs)  # type: ignore[no-untyped-call]
            return export(model, blank.args, kwargs, dynamic_shapes=dynamic, strict=False), "any"
        except Exception:  # noqa: BLE001, S110 - export says in many types that a size is fixed
            pass
    blank = map_tensors(inputs, torch.zeros_like)
    return export(model, blank.args, dict(blank.kwargs), strict=False), "fixed"


def _plain(value: Any) -> Any:  # Any: containers of anything
    """Make tuples of named tuples and dicts of other mappings: their classes stay behind."""
    if isinstance(value, tuple | list):
        return (list if type(value) is list else tuple)(map(_plain, value))
    if isinstance(value, Mapping):
        make = OrderedDict if type(value) is OrderedDict else dict
        return make((key, _plain(item)) for key, item in value.items())
    return value


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    try:
        for module in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what torch says of a failed export: it prints and logs the whole graph."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
