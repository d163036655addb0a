"""Record one forward pass over tensors without data, one node per ATen operator of the model.

The operators are those of `torch.export` (training IR) and `make_fx(pre_dispatch=True)`:
convolution, norms, linear and attention stay whole, in-place operators stay as written. Recording
costs a tenth of an export and keeps what an export drops: the arguments of every module call.
"""

import contextlib
import operator
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import ProxyTorchDispatchMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import _disable_current_modes

from shrink.capture.known import SELECTORS, Known, OnMeta, OnReal, reads_values
from shrink.capture.shapes import run_on_meta
from shrink.core.copies import copy_model
from shrink.core.errors import CaptureError
from shrink.core.graph import Graph, ModuleCall
from shrink.core.inputs import Inputs, map_tensors
from shrink.core.nested import as_dicts

aten = torch.ops.aten

Run = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]

_Place = tuple[Any, ...]
_NOT_THE_MODEL = (f"{Path(torch.__file__).parent}/", f"{Path(__file__).parent}/")


class _Recorder(ProxyTorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """Sees every operator above autograd and composite decompositions.

    It derives from the mode of `make_fx` because torch admits no other class at the PreDispatch
    key; nothing of its tracing is used.
    """

    def __init__(self, world: "_World", flags: Mapping[str, Tensor]) -> None:
        super().__init__(None, "fake", pre_dispatch=True)  # type: ignore[arg-type]  # no tracer
        self.world = world
        self.flags = flags
        self.graph = fx.Graph()
        self.ops: list[fx.Node] = []
        # id of a tensor -> the tensor, lest the id be used again, and the node of its present value
        self.nodes: dict[int, tuple[weakref.ref[Tensor], fx.Node]] = {}
        # by memory: torch may hand out another object of the same (`zeros`, `x.data`)
        self.memory: dict[_Place, tuple[StorageWeakRef, fx.Node]] = {}
        self.homes: dict[_Place, str] = {}  # of stored tensors
        self.stored: dict[str, Tensor] = {}
        self.names: dict[int, str] = {}  # id of a stored tensor -> its name
        self.numbers: dict[int, tuple[Tensor, Tensor]] = {}  # id of a tensor -> it and its data
        self.mixed = False  # whether tensors with data take part where others have none
        self.tensors: dict[str, str] = {}
        self.constants: dict[str, Tensor] = {}
        self.twins: dict[int, tuple[Tensor, Tensor]] = {}  # id of a tensor with data -> its twin
        self.known = Known(self._stored_data)
        self.calls: list[ModuleCall] = []
        self.stack: list[int] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:  # Any: the signature is torch's
        kwargs = kwargs or {}
        if any(isinstance(v, torch.Generator) for v in kwargs.values()):
            raise CaptureError(
                "draws from a torch.Generator, of whose numbers a smaller model draws others",
                fix="draw the numbers before `forward`, and pass them in or register them",
            )
        if func.namespace == "profiler":  # marks a stretch of time
            return func(*args, **kwargs)
        if func is aten.detach_.default or (func is aten.lift_fresh.default and args[0].is_meta):
            return args[0]
        if func is aten.lift_fresh.default and self.world.name == "meta":
            return self.without_data(args[0])
        before = map_tensors((args, kwargs), self.node_of)
        if self.mixed:
            args, kwargs = self._all_on_meta(func, args, kwargs)
        if torch.Tag.inplace_view in func.tags:  # which changes the shape of what is remembered
            for node in self._nodes_of(before):
                node.meta["val"] = map_tensors(node.meta["val"], torch.empty_like)
        reads = self.world.name == "meta" and reads_values(func, args)
        result = (self._known_result if reads else self.world.run)(func, args, kwargs)
        if func is torch.ops.prim.device.default or (
            reads and not isinstance(result, Tensor | tuple)
        ):
            return result  # which Python reads: a literal from here on
        node = self._add(func, before, map_tensors(result, self.world.remember))
        if isinstance(result, Tensor):
            self.bind(result, node)
        elif isinstance(result, tuple | list):
            self._bind_parts(result, node)
        return result

    def _add(self, func: Any, arguments: tuple[Any, Any], value: Any) -> fx.Node:
        node = self.graph.call_function(func, *arguments)
        node.meta["val"] = value
        node.meta["call"] = self.stack[-1] if self.stack else 0
        node.meta["source"] = _source()
        self.ops.append(node)
        self.known.note(node)
        return node

    def leave_torch(self, tensor: Tensor) -> None:
        """Note that Python code reads all numbers of a tensor."""
        self._add(aten.item.default, ((self.node_of(tensor),), {}), None)

    def _bind_parts(self, result: Sequence[Any], node: fx.Node) -> None:
        for position, part in enumerate(result):
            if isinstance(part, Tensor):
                item = self.graph.call_function(operator.getitem, (node, position))
                item.meta = {**node.meta, "val": node.meta["val"][position]}
                self.ops.append(item)
                self.known.note(item)
                self.bind(part, item)

    def _known_result(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        """Run an operator that reads values where those are known.

        Raises:
            CaptureError: they are not.
        """
        first: tuple[Tensor, ...] = ()
        if str(func) in SELECTORS:  # what it selects from may have any values
            first = (torch.zeros((), dtype=args[0].dtype).expand(args[0].shape),)
            args = args[1:]
        nodes = self._nodes_of(map_tensors((args, kwargs), self.node_of))
        values = self.known.values(nodes)
        if values is None:
            raise CaptureError(f"{func} reads values of tensors that have no data")
        feed = iter(values)
        args, kwargs = map_tensors((args, kwargs), lambda _: next(feed))
        result = func(*first, *args, **kwargs)
        if isinstance(result, float):  # the certificate computes another, in float64
            raise CaptureError(f"{func} reads a number whose last bits depend on precision")
        return map_tensors(result, lambda t: t.to("meta"))

    def read(self, tensor: Tensor) -> Tensor | None:
        """Give the numbers of a tensor without data, if they are known."""
        if tensor.is_floating_point() or tensor.is_complex():  # its last bits depend on precision
            return None
        values = self.known.values([self.node_of(tensor)])
        return values[0] if values else None

    def without_data(self, tensor: Tensor) -> Tensor:
        """Give a tensor that stands for one with data."""
        if tensor.is_meta:
            return tensor
        if id(tensor) not in self.twins:
            twin = torch.empty_like(tensor, device="meta")
            self.numbers[id(twin)] = (twin, tensor)
            self.twins[id(tensor)] = (tensor, twin)
        return self.twins[id(tensor)][1]

    def _all_on_meta(
        self, func: Any, args: tuple[Any, ...], kwargs: Any
    ) -> tuple[tuple[Any, ...], Any]:
        """Put tensors without data in the places of others.

        Raises:
            CaptureError: the operator writes into its arguments, maybe into one of those.
        """
        met: list[Tensor] = []
        map_tensors((args, kwargs), met.append)
        if all(t.is_meta for t in met):
            return args, kwargs
        if func._schema.is_mutable and not met[0].is_meta:
            raise CaptureError("writes into a tensor that is no part of the model")
        return map_tensors((args, kwargs), self.without_data)  # type: ignore[no-any-return]

    def _stored_data(self, node: fx.Node) -> Tensor | None:
        """Give the data of a literal, or of a buffer of integers: others may be disturbed."""
        name = self.tensors[node.name]
        return self.constants.get(name, self.flags.get(name))

    def _nodes_of(self, arguments: Any) -> list[fx.Node]:
        found: list[fx.Node] = []
        fx.map_arg(arguments, found.append)
        return found

    def bind(self, tensor: Tensor, node: fx.Node) -> None:
        """Remember which node made the present value of a tensor."""
        self.nodes[id(tensor)] = (weakref.ref(tensor), node)
        if tensor.layout is torch.strided:
            kept = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
            self.memory[_place(tensor)] = kept, node  # lest the memory be taken for another

    def node_of(self, tensor: Tensor) -> fx.Node:
        """Find the node that made the present value of a tensor."""
        found, node = self.nodes.get(id(tensor), (None, None))
        if found is None or node is None or found() is not tensor:
            place = _place(tensor) if tensor.layout is torch.strided else ()
            name = self.names.get(id(tensor))
            if name is None and place in self.memory:
                node = self.memory[place][1]
                self.nodes[id(tensor)] = (weakref.ref(tensor), node)
                return node
            name = name or self.homes.get(place)
            if name is None:  # a tensor that is neither input, stored, nor made by an operator
                name = f"constant_{len(self.constants)}"
                self.constants[name] = self._with_data(tensor)
                self.mixed |= self.world.name == "meta" and not tensor.is_meta
            node = self.graph.create_node("get_attr", name)
            node.meta["val"] = self.world.remember(tensor)
            if name in self.constants:
                node.meta["constant"] = self.constants[name]
            self.tensors[node.name] = name
            self.bind(tensor, node)
        return node

    def _with_data(self, constant: Tensor) -> Tensor:
        """Get a constant that `forward` made from literals, as numbers.

        Raises:
            CaptureError: its numbers are not known where this pass is recorded.
        """
        data: Tensor | None = constant
        if isinstance(constant, FakeTensor):
            data = constant.constant
        elif constant.is_meta:
            data = self.numbers.get(id(constant), (None, None))[1]
        if data is None:
            raise CaptureError("a constant made in `forward` has no data here")
        with _disable_current_modes():  # they would make the copy one without data
            return data.detach().clone()

    def name_stored(self, model: nn.Module, prefix: str) -> dict[str, str]:
        """Name what the modules hold; return the further names of tied tensors."""
        aliases: dict[str, str] = {}
        named = (
            *model.named_parameters(remove_duplicate=False),
            *model.named_buffers(remove_duplicate=False),
        )
        for name, tensor in named:
            if id(tensor) in self.names:
                aliases[prefix + name] = self.names[id(tensor)]
                continue
            self.names[id(tensor)] = prefix + name
            if tensor.layout is torch.strided:
                self.homes[_place(tensor)] = prefix + name
            self.stored[prefix + name] = self.world.remember(tensor)
        for owner, module in model.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, Tensor) and id(value) not in self.names:
                    self.names[id(value)] = f"{prefix}{owner}.{name}" if owner else prefix + name
        return aliases

    def watch(self, module: nn.Module, path: str) -> None:
        """Note every call of a module; what its own hooks do belongs to the call."""

        def enter(_: nn.Module, args: Any, kwargs: Any) -> None:
            self.enter(path, args, kwargs)

        def leave(_: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
            self.leave(output)

        module.register_forward_pre_hook(enter, with_kwargs=True, prepend=True)
        module.register_forward_hook(leave, with_kwargs=True)

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


def _place(tensor: Tensor) -> _Place:
    """Tell where a tensor's elements are, and how they lie there.

    Raises:
        CaptureError: it stands for a slice of another, inside a transform of functions.
    """
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        raise CaptureError(
            "inside torch.vmap or another transform of torch.func, operators cannot be recorded",
            fix="write the function for whole batches: torch's operators take leading dimensions",
        )
    storage = tensor.untyped_storage()._cdata
    return (storage, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)


def _source() -> str:
    """Name the line of the model's code that runs now: the innermost outside torch and capture."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code is not _attempt.__code__:  # beyond is the caller
        file = frame.f_code.co_filename
        if not file.startswith(_NOT_THE_MODEL):
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
    enter: Callable[[_Recorder], contextlib.AbstractContextManager[Any]]
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

    return _World("meta", convert, lambda recorder: OnMeta(recorder.read), run_on_meta, _itself)


def _fake_world() -> _World:
    """Fake tensors: slower, but they know devices and mix with tensors made on the CPU."""
    fakes = FakeTensorMode(allow_non_fake_inputs=True)

    return _World("fake", fakes.from_tensor, lambda _: fakes, _run_as_is, _itself)


def _real_world() -> _World:
    """The tensors themselves: control flow may depend on data, and arithmetic is really run."""

    def convert(tensor: Tensor) -> Tensor:
        return tensor if isinstance(tensor, nn.Parameter) else tensor.detach().clone()

    def remember(tensor: Tensor) -> Tensor:
        return torch.empty_like(tensor, device="meta")

    return _World(
        "real", convert, lambda recorder: OnReal(recorder.leave_torch), _run_as_is, remember
    )


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
    return copy_model(model, memo, CaptureError)


@contextlib.contextmanager
def _tracing() -> Iterator[None]:
    """Keep torch from running other code than the model's: fused kernels, compiled functions."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    # A model that is compiled has loaded the compiler; to load it takes seconds.
    compiles = "torch._dynamo" in sys.modules
    eager = torch.compiler.set_stance("force_eager") if compiles else contextlib.nullcontext()
    try:
        with torch.no_grad(), eager, torch.random.fork_rng(range(torch.cuda.device_count())):
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
    duplicate = _copy(model, world)
    try:
        duplicate.train(training)  # some models' own `train` returns nothing
    except Exception as error:  # and some refuse
        raise CaptureError(f"cannot be put in training mode: {error}", where=path) from error
    flags = {
        prefix + name: buffer
        for name, buffer in model.named_buffers(remove_duplicate=False)
        if not (buffer.is_floating_point() or buffer.is_complex() or buffer.is_meta)
    }
    recorder = _Recorder(world, flags)
    aliases = recorder.name_stored(duplicate, prefix)
    fake_inputs = map_tensors(inputs, world.convert)
    placeholders: list[str] = []

    def add_placeholder(tensor: Tensor) -> None:
        node = recorder.graph.placeholder(f"input_{len(placeholders)}")
        node.meta["val"] = world.remember(tensor)
        recorder.bind(tensor, node)
        placeholders.append(node.name)

    map_tensors(fake_inputs, add_placeholder)
    for name, module in duplicate.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):  # which takes no hooks
            recorder.watch(module, prefix + name if name else path)
    try:
        with _tracing(), world.enter(recorder), recorder, enable_python_dispatcher():
            output = duplicate(*fake_inputs.args, **fake_inputs.kwargs)
    except Exception as error:  # whatever the user's forward raises
        where = recorder.calls[recorder.stack[-1]].path if recorder.stack else path
        line = recorder.ops[-1].meta["source"] if recorder.ops else ""
        raise CaptureError(
            f"the forward pass fails on {world.name} tensors, after {line or 'its start'}: "
            f"{str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}",
            where=where or type(model).__name__,
            fix=getattr(error, "fix", "")
            or "check the example inputs, and that no branch depends on tensor values",
        ) from error
    recorder.graph.output(as_dicts(map_tensors(output, recorder.node_of)))
    return Graph(
        fx=recorder.graph,
        ops=tuple(recorder.ops),
        tensors=recorder.tensors,
        stored=recorder.stored,
        aliases=aliases,
        inputs=tuple(placeholders),
        calls=tuple(recorder.calls),
        constants=recorder.constants,
        capture=world.name,
    )
