"""Record one forward pass over tensors without data, one node per ATen operator of the model.

The operators are those of `torch.export` (training IR) and `make_fx(pre_dispatch=True)`:
convolution, norms, linear and attention stay whole, in-place operators stay as written. Recording
costs a tenth of an export and keeps what an export drops: the arguments of every module call.
"""

import contextlib
import copy
import operator
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import ProxyTorchDispatchMode

from shrink.capture.shapes import run_on_meta
from shrink.core.errors import CaptureError
from shrink.core.graph import Graph, ModuleCall
from shrink.core.inputs import Inputs, map_tensors

Run = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]

_TORCH = f"{Path(torch.__file__).parent}/"


class _Recorder(ProxyTorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """Sees every operator above autograd and composite decompositions.

    It derives from the mode of `make_fx` because torch admits no other class at the PreDispatch
    key; nothing of its tracing is used.
    """

    def __init__(self, world: "_World") -> None:
        super().__init__(None, "fake", pre_dispatch=True)  # type: ignore[arg-type]  # no tracer
        self.world = world
        self.graph = fx.Graph()
        self.ops: list[fx.Node] = []
        # id of a tensor -> the tensor, lest the id be used again, and the node of its present value
        self.nodes: dict[int, tuple[weakref.ref[Tensor], fx.Node]] = {}
        self.made: dict[int, tuple[Tensor, fx.Node]] = {}  # by storage: arange, zeros, ...
        self.names: dict[int, str] = {}  # id of a stored tensor -> its name
        self.tensors: dict[str, str] = {}
        self.constants: dict[str, Tensor] = {}
        self.calls: list[ModuleCall] = []
        self.stack: list[int] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:  # Any: the signature is torch's
        kwargs = kwargs or {}
        before = map_tensors((args, kwargs), self.node_of)
        if torch.Tag.inplace_view in func.tags:  # which changes the shape of what is remembered
            for node in self._nodes_of(before):
                node.meta["val"] = map_tensors(node.meta["val"], torch.empty_like)
        result = self.world.run(func, args, kwargs)
        if func is torch.ops.prim.device.default:
            return result
        node = self.graph.call_function(func, *before)
        node.meta["val"] = map_tensors(result, self.world.remember)
        node.meta["call"] = self.stack[-1] if self.stack else 0
        node.meta["source"] = _source()
        self.ops.append(node)
        if isinstance(result, Tensor):
            self.bind(result, node)
            if not node.all_input_nodes or func._schema.name.endswith("_like"):
                # torch hands out another object of the same storage
                self.made[result.untyped_storage()._cdata] = (result, node)
        else:
            for position, part in enumerate(result if isinstance(result, tuple | list) else ()):
                if isinstance(part, Tensor):
                    item = self.graph.call_function(operator.getitem, (node, position))
                    item.meta = {**node.meta, "val": node.meta["val"][position]}
                    self.ops.append(item)
                    self.bind(part, item)
        return result

    def _nodes_of(self, arguments: Any) -> list[fx.Node]:
        found: list[fx.Node] = []
        fx.map_arg(arguments, found.append)
        return found

    def bind(self, tensor: Tensor, node: fx.Node) -> None:
        """Remember which node made the present value of a tensor."""
        self.nodes[id(tensor)] = (weakref.ref(tensor), node)

    def node_of(self, tensor: Tensor) -> fx.Node:
        """Find the node that made the present value of a tensor."""
        found, node = self.nodes.get(id(tensor), (None, None))
        if found is None or node is None or found() is not tensor:
            name = self.names.get(id(tensor))
            made, node = self.made.get(tensor.untyped_storage()._cdata, (None, None))
            if name is None and made is not None and node is not None and _same(made, tensor):
                return node
            if name is None:  # a tensor that is neither input, stored, nor made by an operator
                name = f"constant_{len(self.constants)}"
                self.constants[name] = _with_data(tensor)
            node = self.graph.create_node("get_attr", name)
            node.meta["val"] = self.world.remember(tensor)
            self.tensors[node.name] = name
            self.bind(tensor, node)
        return node

    def enter(self, path: str, args: tuple[Any, ...], kwargs: Any) -> None:
        parent = self.stack[-1] if self.stack else -1
        call_args, call_kwargs = map_tensors((args, kwargs), self.node_of)
        start = len(self.ops)
        self.stack.append(len(self.calls))
        self.calls.append(ModuleCall(path, call_args, call_kwargs, None, start, start, parent))

    def leave(self, output: Any) -> None:
        index = self.stack.pop()
        call = self.calls[index]
        self.calls[index] = ModuleCall(
            call.path,
            call.args,
            call.kwargs,
            map_tensors(output, self.node_of),
            call.start,
            len(self.ops),
            call.parent,
        )


def _same(a: Tensor, b: Tensor) -> bool:
    return (a.shape, a.stride(), a.dtype) == (b.shape, b.stride(), b.dtype)


def _with_data(constant: Tensor) -> Tensor:
    """Get a constant that `forward` made from literals, as numbers.

    Raises:
        CaptureError: its numbers are not known where this pass is recorded.
    """
    data = constant.constant if isinstance(constant, FakeTensor) else constant
    if data is None or data.is_meta:
        raise CaptureError("a constant made in `forward` has no data here")
    return data


def _source() -> str:
    """Name the line of the model's code that runs now: the innermost frame outside torch."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_TORCH) and file != __file__:
            return f"{'/'.join(file.rsplit('/', 2)[-2:])}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


@dataclass(frozen=True, eq=False)
class _World:
    """What tensors a forward pass is recorded on.

    Args:
        convert: gets a tensor there.
        enter: context in which the forward pass runs.
        run: how operators run.
        remember: what is kept of a tensor in the graph.
    """

    name: str
    convert: Callable[[Tensor], Tensor]
    enter: Callable[[], contextlib.AbstractContextManager[Any]]
    run: Run
    remember: Callable[[Tensor], Tensor]


def _meta_world() -> _World:
    """Meta tensors: quick, but everything is on the device "meta"."""

    def convert(tensor: Tensor) -> Tensor:
        if tensor.is_meta:
            return tensor
        empty = torch.empty_like(tensor, device="meta")
        if isinstance(tensor, nn.Parameter):
            return nn.Parameter(empty, requires_grad=tensor.requires_grad)
        return empty

    return _World("meta", convert, lambda: torch.device("meta"), run_on_meta, _itself)


def _fake_world() -> _World:
    """Fake tensors: slower, but they know devices and mix with tensors made on the CPU."""
    fakes = FakeTensorMode(allow_non_fake_inputs=True)

    return _World("fake", fakes.from_tensor, lambda: fakes, _run_as_is, _itself)


def _real_world() -> _World:
    """The tensors themselves: control flow may depend on data, and arithmetic is really run."""

    def convert(tensor: Tensor) -> Tensor:
        return tensor if isinstance(tensor, nn.Parameter) else tensor.detach().clone()

    def remember(tensor: Tensor) -> Tensor:
        return torch.empty_like(tensor, device="meta")

    return _World("real", convert, contextlib.nullcontext, _run_as_is, remember)


def _run_as_is(operator_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return operator_(*args, **kwargs)


def _itself(tensor: Tensor) -> Tensor:
    return tensor


_WORLDS = {"meta": _meta_world, "fake": _fake_world, "real": _real_world}


def _copy(model: nn.Module, world: _World) -> nn.Module:
    """Copy a model's Python structure with tensors of that world.

    The user's forward may store things on its modules; on a copy it does so without harm.
    """
    memo: dict[int, Any] = {}
    held = [*model.parameters(), *model.buffers()]
    for module in model.modules():
        held += [v for v in vars(module).values() if isinstance(v, Tensor)]
    for tensor in held:
        memo[id(tensor)] = world.convert(tensor)
    return copy.deepcopy(model, memo)


@contextlib.contextmanager
def _tracing() -> Iterator[None]:
    """Keep nn.MultiheadAttention and the transformer layers from their fused inference kernels."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def record(
    model: nn.Module,
    inputs: Inputs,
    *,
    path: str = "",
    training: bool = False,
    worlds: Sequence[str] = ("meta", "fake"),
) -> Graph:
    """Record one forward pass of `model`.

    Args:
        model: left untouched.
        inputs: tensors with or without data; only shapes and dtypes are used.
        path: dotted name of `model` inside a larger one, put before the names of its tensors.
        training: in training mode instead of evaluation mode.
        worlds: kinds of tensors without data to try, in order. `"meta"` ones are quick; `"fake"`
            ones know devices and mix with tensors that the code makes on the CPU; `"real"` ones
            have data, and run real arithmetic.

    Raises:
        CaptureError: the forward pass fails on tensors without data (data-dependent control flow,
            a wrong input shape); the cause is chained.
    """
    *first, last = worlds
    for name in first:
        with contextlib.suppress(CaptureError):
            return _attempt(model, inputs, path, _WORLDS[name](), training=training)
    return _attempt(model, inputs, path, _WORLDS[last](), training=training)


def _attempt(
    model: nn.Module, inputs: Inputs, path: str, world: _World, *, training: bool
) -> Graph:
    prefix = f"{path}." if path else ""
    try:
        duplicate = _copy(model, world)
        duplicate.train(training)  # some models' own `train` returns nothing
    except Exception as error:  # user classes may raise anything in __deepcopy__
        raise CaptureError(
            f"cannot be copied: {error}",
            where=type(model).__name__,
            fix="make the model work with copy.deepcopy",
        ) from error
    recorder = _Recorder(world)
    stored: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    named = (
        *duplicate.named_parameters(remove_duplicate=False),
        *duplicate.named_buffers(remove_duplicate=False),
    )
    for name, tensor in named:
        if id(tensor) in recorder.names:
            aliases[prefix + name] = recorder.names[id(tensor)]
        else:
            recorder.names[id(tensor)] = prefix + name
            stored[prefix + name] = world.remember(tensor)
    for owner, module in duplicate.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and id(value) not in recorder.names:
                recorder.names[id(value)] = f"{prefix}{owner}.{name}" if owner else prefix + name
    fake_inputs = map_tensors(inputs, world.convert)
    placeholders: list[str] = []

    def add_placeholder(tensor: Tensor) -> None:
        node = recorder.graph.placeholder(f"input_{len(placeholders)}")
        node.meta["val"] = world.remember(tensor)
        recorder.bind(tensor, node)
        placeholders.append(node.name)

    map_tensors(fake_inputs, add_placeholder)
    for name, module in duplicate.named_modules():
        full = prefix + name if name else path

        def enter(_: nn.Module, args: Any, kwargs: Any, full: str = full) -> None:
            recorder.enter(full, args, kwargs)

        def leave(_: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
            recorder.leave(output)

        module.register_forward_pre_hook(enter, with_kwargs=True)
        module.register_forward_hook(leave, with_kwargs=True)
    try:
        with _tracing(), world.enter(), recorder, enable_python_dispatcher():
            output = duplicate(*fake_inputs.args, **fake_inputs.kwargs)
    except Exception as error:  # whatever the user's forward raises
        where = recorder.calls[recorder.stack[-1]].path if recorder.stack else path
        line = recorder.ops[-1].meta["source"] if recorder.ops else ""
        raise CaptureError(
            f"the forward pass fails on {world.name} tensors, after {line or 'its start'}: "
            f"{str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}",
            where=where or type(model).__name__,
            fix="check the example inputs, and that no branch depends on tensor values",
        ) from error
    recorder.graph.output(map_tensors(output, recorder.node_of))
    return Graph(
        fx=recorder.graph,
        ops=tuple(recorder.ops),
        tensors=recorder.tensors,
        stored=stored,
        aliases=aliases,
        inputs=tuple(placeholders),
        calls=tuple(recorder.calls),
        constants=recorder.constants,
        capture=world.name,
    )
