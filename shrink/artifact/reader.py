"""The graph of a `.pt2` file as a `torch.fx` module, read as data.

`torch.export.load` unpickles, evaluates symbolic expressions as Python and resolves any dotted
name, so it must not see a file of unknown origin. Here one JSON member is read, only operators
that compute on tensors and numbers are accepted, and no name of the file reaches generated code.
"""

import keyword
import math
import operator
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision.ops  # noqa: F401 - registers torch.ops.torchvision
from torch import fx
from torch.utils import _pytree as pytree

from shrink.artifact import strict_json
from shrink.core.errors import ArtifactError

MAX_JSON_BYTES = 512 << 20
SCHEMA_MAJOR = 8

_IDENTIFIER = re.compile(r"[A-Za-z]\w*|_[A-Za-z]\w*", re.ASCII)
_NAMESPACES = ("aten", "torchvision")
# Operators of those namespaces that touch files.
_REFUSED = ("aten::from_file", "aten::save")
_NUMBER_OPERATORS: Mapping[str, Callable[..., Any]] = {
    **{
        f"_operator.{name}": getattr(operator, name)
        for name in (
            *("add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "pos", "pow", "getitem"),
            *("eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "lshift", "rshift"),
        )
    },
    **{f"math.{name}": getattr(math, name) for name in ("trunc", "ceil", "floor", "sqrt")},
    **{
        f"torch.{name}": getattr(torch, name)
        for name in ("sym_int", "sym_float", "sym_not", "sym_max", "sym_min", "sym_ite")
    },
}

# Numbers of torch/_export/serde/schema.py.
_DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    9: torch.complex32,
    10: torch.complex64,
    11: torch.complex128,
    12: torch.bool,
    13: torch.bfloat16,
    28: torch.uint16,
    29: torch.float8_e4m3fn,
    30: torch.float8_e5m2,
    31: torch.float8_e4m3fnuz,
    32: torch.float8_e5m2fnuz,
    34: torch.uint32,
    35: torch.uint64,
}
_MEMORY_FORMATS = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
_TABLES: Mapping[str, Mapping[int, Any]] = {
    "as_scalar_type": _DTYPES,
    "as_memory_format": _MEMORY_FORMATS,
    "as_layout": {7: torch.strided},
}
# Lists, and how their items are tagged.
_LISTS = {
    "as_tensors": "as_tensor",
    "as_optional_tensors": "as_optional_tensor",
    "as_sym_ints": "as_sym_int",
    "as_sym_floats": "as_sym_float",
    "as_sym_bools": "as_sym_bool",
    "as_ints": "as_int",
    "as_floats": "as_float",
    "as_bools": "as_bool",
    "as_strings": "as_string",
}
_MAPPINGS = {"builtins.dict": dict, "collections.OrderedDict": OrderedDict}
_NOT_FINITE = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}


@dataclass(frozen=True)
class Stored:
    """A tensor of the model that the graph takes as an argument.

    Args:
        kind: `"parameter"`, `"buffer"` (in the state dict) or `"constant"` (not in it).
    """

    name: str
    kind: str
    requires_grad: bool = False


@dataclass(frozen=True)
class Given:
    """A tensor that the caller passes; None stands for any size."""

    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Fixed:
    """A number, string or None that the program was exported with."""

    value: int | float | bool | str | None


@dataclass(frozen=True, eq=False)
class ProgramGraph:
    """A program without its tensors.

    Args:
        source: the JSON it was read from, of which pickling and copying make it again.
        module: takes the device, then the value of every entry of `inputs`; returns a tuple.
        inputs: where each argument comes from.
        in_spec, out_spec: structure of `(args, kwargs)` and of the result.
        argument_names: parameter names of the original `forward`, as far as they are known.
    """

    source: bytes
    module: fx.GraphModule
    inputs: tuple[Stored | Given | Fixed, ...]
    in_spec: pytree.TreeSpec
    out_spec: pytree.TreeSpec
    argument_names: tuple[str, ...]

    # An fx module is pickled as code and traced again, which loses its autocast regions.
    def __reduce__(self) -> tuple[Callable[[bytes], "ProgramGraph"], tuple[bytes]]:
        return _read, (self.source,)


def read_program(path: Path) -> ProgramGraph:
    """Read the graph of a `.pt2` file that torch 2.6 or later wrote.

    Raises:
        ArtifactError: the file is damaged, or holds something that is not accepted.
    """
    try:
        return _read(_json_member(path))
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise _damaged(path, error) from error
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ArtifactError:
    return ArtifactError(
        f"not a program that can be loaded: {error}",
        where=str(path),
        fix="compress again, or shrink.apply(plan, model) and load model.safetensors into that",
    )


def _json_member(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        members = [
            member
            for member in archive.infolist()
            if member.filename == "serialized_exported_program.json"  # torch 2.6
            or member.filename.endswith("/models/model.json")
        ]
        if len(members) != 1:
            raise ValueError(f"{len(members)} graphs in the archive, expected one")
        # Stored as it is: what the file's own size bounds cannot unpack into more.
        if members[0].compress_type != zipfile.ZIP_STORED or members[0].flag_bits & 1:
            raise ValueError("the graph is compressed or encrypted")
        if members[0].file_size > min(MAX_JSON_BYTES, path.stat().st_size):
            raise ValueError(f"a graph of {members[0].file_size} bytes")
        return archive.read(members[0])


# Any below: JSON values, and the values and nodes of a graph.


def _read(source: bytes) -> ProgramGraph:
    program = strict_json.decode(source)
    if program["schema_version"]["major"] != SCHEMA_MAJOR:
        raise ValueError(f"schema {program['schema_version']}, expected major {SCHEMA_MAJOR}")
    root = program["graph_module"]
    graph, signature = root["graph"], root["signature"]
    call = next(c["signature"] for c in root["module_call_graph"] if c["fqn"] == "")
    for spec in signature["output_specs"]:
        if list(spec) != ["user_output"]:
            raise ValueError(f"an output of kind {list(spec)}")
    inputs = tuple(_source(spec, graph["tensor_values"]) for spec in signature["input_specs"])
    in_spec, out_spec = (_structure(call[key]) for key in ("in_spec", "out_spec"))
    given = sum(not isinstance(source, Stored) for source in inputs)
    if (given, len(graph["outputs"])) != (in_spec.num_leaves, out_spec.num_leaves):
        raise ValueError("inputs and outputs do not fit their structure")
    args, kwargs = pytree.tree_unflatten([0] * given, in_spec)
    if type(args) is not tuple or type(kwargs) is not dict:
        raise ValueError("inputs are not (args, kwargs)")
    names = tuple(map(str, call.get("forward_arg_names") or ()))
    module = _GraphReader(graph).module()
    return ProgramGraph(source, module, inputs, in_spec, out_spec, names)


def _source(spec: Mapping[str, Any], tensors: Mapping[str, Any]) -> Stored | Given | Fixed:
    ((kind, value),) = spec.items()
    if kind in ("parameter", "buffer"):
        gradient = tensors[value["arg"]["name"]]["requires_grad"] is True
        kind = kind if value.get("persistent", True) else "constant"
        return Stored(value[f"{next(iter(spec))}_name"], kind, requires_grad=gradient)
    if kind == "tensor_constant":
        return Stored(value["tensor_constant_name"], "constant")
    if kind == "constant_input":
        return Fixed(_literal(value["value"]))
    if kind == "user_input":
        arg = value["arg"]
        if "as_tensor" not in arg:
            return Fixed(_literal(arg))
        sizes = tensors[arg["as_tensor"]["name"]]["sizes"]
        return Given(tuple(n.get("as_int") for n in sizes))
    raise ValueError(f"an input of kind {kind!r}")


def _structure(text: str) -> pytree.TreeSpec:
    """Read the structure of arguments or results."""
    version, spec = strict_json.decode(f'{{"spec": {text}}}')["spec"]
    if version != 1:
        raise ValueError(f"structure of version {version}")
    return pytree.tree_structure(_container(spec))


def _container(spec: Mapping[str, Any]) -> Any:
    kind, context = spec["type"], spec["context"]
    children = [_container(child) for child in spec["children_spec"]]
    if kind is None:
        return 0
    if kind == "builtins.list":
        return children
    if kind == "builtins.tuple":
        return tuple(children)
    if kind not in _MAPPINGS:
        raise ValueError(f"a structure of kind {kind!r}")
    keys = strict_json.decode(f'{{"keys": {context}}}')["keys"]
    if type(keys) is not list or not all(type(key) in (str, int) for key in keys):
        raise ValueError(f"a structure with keys {keys!r:.40}")
    return _MAPPINGS[kind](zip(keys, children, strict=True))


def _literal(arg: Mapping[str, Any]) -> Any:
    """Read a number, string or None, of exactly the type that its tag says."""
    ((kind, value),) = arg.items()
    if kind == "as_none":
        return None
    if kind == "as_float" and type(value) is str:
        return _NOT_FINITE[value]
    expected = {"as_int": int, "as_float": float, "as_bool": bool, "as_string": str}[kind]
    if type(value) is not expected:
        raise TypeError(f"{value!r:.40} tagged {kind}")
    return value


def _with_grad(
    enabled: bool,  # noqa: FBT001 - the order in which the file has them
    body: Callable[..., Any],
    device: torch.device,
    *args: Any,
) -> Any:
    with torch.set_grad_enabled(enabled):
        return body(device, *args)


def _with_autocast(
    _device_type: str,
    dtype: torch.dtype | None,
    enabled: bool,  # noqa: FBT001
    cache_enabled: bool | None,  # noqa: FBT001
    body: Callable[..., Any],
    device: torch.device,
    *args: Any,
) -> Any:
    with torch.autocast(device.type, dtype, enabled, cache_enabled):
        return body(device, *args)


_REGIONS: Mapping[str, Callable[..., Any]] = {
    "torch.ops.higher_order.wrap_with_set_grad_enabled": _with_grad,
    "torch.ops.higher_order.wrap_with_autocast": _with_autocast,
}


class _GraphReader:
    """Builds one graph; the bodies of its higher-order calls are read by readers of their own."""

    def __init__(self, graph: Mapping[str, Any]) -> None:
        self._fx = fx.Graph()
        self._nodes: dict[str, fx.Node] = {}
        self._bodies: dict[str, fx.GraphModule] = {}
        # Devices are not part of the program: it runs where its tensors are.
        self._device = self._fx.placeholder("device")
        for i, arg in enumerate(graph["inputs"]):
            node = self._fx.placeholder(f"argument_{i}")
            ((kind, value),) = arg.items()
            if kind == "as_tensor":
                self._name(value["name"], node)
            elif kind == "as_sym_int":
                self._name(value["as_name"], node)
            else:
                _literal(arg)
        for call in graph["nodes"]:
            self._call(call)
        outputs = [self._value(arg) for arg in graph["outputs"]]
        single = graph.get("is_single_tensor_return") is True
        self._fx.output(outputs[0] if single else tuple(outputs))

    def module(self) -> fx.GraphModule:
        return fx.GraphModule(self._bodies, self._fx, "Program")

    def _name(self, name: str, node: fx.Node) -> None:
        if type(name) is not str or name in self._nodes:
            raise ValueError(f"value {name!r} is defined twice")
        self._nodes[name] = node

    def _call(self, call: Mapping[str, Any]) -> None:
        target, arguments = call["target"], call["inputs"]
        kwargs: dict[str, Any] = {}
        function: Callable[..., Any]
        if target in _NUMBER_OPERATORS:
            function = _NUMBER_OPERATORS[target]
            args = [self._value(a["arg"]) for a in arguments]
        elif target in _REGIONS:
            function = _REGIONS[target]
            args = [v for a in arguments for v in self._body_or_value(a)]
        else:
            function = _operator(target)
            args, kwargs = self._by_schema(function, arguments)
        node = self._fx.call_function(function, tuple(args), kwargs)
        outputs = call["outputs"]
        if len(outputs) == 1 and call.get("is_hop_single_tensor_return") is not False:
            self._bind(outputs[0], node)
        else:
            for i, output in enumerate(outputs):
                self._bind(output, self._item(node, i))

    def _by_schema(
        self, function: torch._ops.OpOverload, arguments: Sequence[Mapping[str, Any]]
    ) -> tuple[list[Any], dict[str, Any]]:
        values = {a["name"]: self._value(a["arg"]) for a in arguments}
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        positional = True
        for parameter in function._schema.arguments:
            name = parameter.name
            positional = positional and not parameter.kwarg_only and name in values
            if positional:
                args.append(values.pop(name))
            elif name in values and not keyword.iskeyword(name):
                kwargs[name] = values.pop(name)
        if values:
            raise ValueError(f"{function} takes no argument {sorted(values)}")
        return args, kwargs

    def _body_or_value(self, argument: Mapping[str, Any]) -> list[Any]:
        if argument["name"] != "":
            raise ValueError("a higher-order call with keyword arguments")
        if "as_graph" not in argument["arg"]:
            return [self._value(argument["arg"])]
        name = f"body_{len(self._bodies)}"
        self._bodies[name] = _GraphReader(argument["arg"]["as_graph"]["graph"]).module()
        return [self._fx.create_node("get_attr", name), self._device]

    def _item(self, node: fx.Node, i: int) -> fx.Node:
        return self._fx.call_function(operator.getitem, (node, i))

    def _bind(self, output: Mapping[str, Any], node: fx.Node) -> None:
        ((kind, value),) = output.items()
        if kind == "as_tensor":
            self._name(value["name"], node)
        elif kind in ("as_sym_int", "as_sym_float", "as_sym_bool"):
            self._name(value["as_name"], node)
        elif kind == "as_tensors":
            for i, item in enumerate(value):
                self._name(item["name"], self._item(node, i))
        elif kind != "as_none":
            raise ValueError(f"an operator returns {kind!r}")

    def _value(self, arg: Mapping[str, Any]) -> Any:
        ((kind, value),) = arg.items()
        if kind in _LISTS:
            return [self._value({_LISTS[kind]: item}) for item in value]
        if kind in _TABLES:
            return _TABLES[kind][value]
        if kind == "as_tensor":
            return self._nodes[value["name"]]
        if kind == "as_device":
            return self._device
        if kind in ("as_optional_tensor", "as_sym_int", "as_sym_float", "as_sym_bool"):
            return self._nodes[value["as_name"]] if "as_name" in value else self._value(value)
        return _literal(arg)


def _operator(target: str) -> torch._ops.OpOverload:
    """Look up an operator by its full name, among those that only compute."""
    parts = target.split(".")
    known = len(parts) == 5 and parts[:2] == ["torch", "ops"] and parts[2] in _NAMESPACES
    if known and all(_IDENTIFIER.fullmatch(part) for part in parts[3:]):
        found = getattr(getattr(getattr(torch.ops, parts[2]), parts[3]), parts[4], None)
        if isinstance(found, torch._ops.OpOverload) and found._schema.name not in _REFUSED:
            return found
    raise ValueError(f"operator {target!r:.80} is not accepted")
