"""Copies of a model: of its structure, with other tensors, referring to nothing of the original."""

import copy
import functools
import types
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from shrink.core.errors import ShrinkError

_DEEPEST = 6  # of objects inside objects
_PLAIN = int | float | complex | str | bytes | None


def copy_model(model: nn.Module, tensors: Mapping[int, Any], error: type[ShrinkError]) -> nn.Module:
    """Copy a model, putting other tensors in place of its own.

    Functions that refer to the model (a lambda over `self`) are copied too: `copy.deepcopy` alone
    leaves them with the original.

    Args:
        tensors: id of a tensor of the model -> what the copy holds instead. Tensors that are not
            named are copied.
        error: raised if the model holds what cannot be copied, naming the module.
    """
    memo = dict(tensors)
    for tensor in _derived(model):
        memo.setdefault(id(tensor), tensor.detach().clone())
    functions = [f for f in _functions(model) if _closes_over(f, nn.Module | Tensor)]
    for function in functions:
        memo[id(function)] = _with_cells(function, [types.CellType() for _ in _cells(function)])
    try:
        made: nn.Module = copy.deepcopy(model, memo)
        for function in functions:
            for old, new in zip(_cells(function), _cells(memo[id(function)]), strict=True):
                new.cell_contents = copy.deepcopy(old.cell_contents, memo)
    except Exception as cause:  # user classes may raise anything in __deepcopy__
        where, member = _culprit(model, memo)
        raise error(
            f"cannot be copied{member}: {cause}",
            where=where or type(model).__name__,
            fix="make the model work with copy.deepcopy",
        ) from cause
    return made


def _derived(model: nn.Module) -> Iterator[Tensor]:
    """List tensors that a module worked out from others (`torch.nn.utils.weight_norm`)."""
    for module in model.modules():
        yield from (v for v in vars(module).values() if isinstance(v, Tensor) and not v.is_leaf)


def _functions(model: nn.Module) -> list[types.FunctionType]:
    """List the functions with closures that modules hold, however deep."""
    found: dict[int, types.FunctionType] = {}
    seen: set[int] = set()
    for module in model.modules():
        for value in vars(module).values():
            if not isinstance(value, _PLAIN):
                _look_into(value, found, seen, 0)
    return list(found.values())


def _look_into(
    value: Any, found: dict[int, types.FunctionType], seen: set[int], depth: int
) -> None:
    if isinstance(value, nn.Module | Tensor | type | types.ModuleType):
        return
    if id(value) in seen or depth > _DEEPEST:
        return
    seen.add(id(value))
    if isinstance(value, types.FunctionType) and _cells(value):
        found[id(value)] = value
    for part in parts_of(value).values():
        if not isinstance(part, _PLAIN):
            _look_into(part, found, seen, depth + 1)


def parts_of(value: Any) -> dict[Any, Any]:
    """List what a container, closure, partial function or plain object holds, by name."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list | tuple):
        return dict(enumerate(value))
    if isinstance(value, functools.partial):
        return {"func": value.func, "args": value.args, "keywords": value.keywords}
    if isinstance(value, types.FunctionType):
        return dict(zip(value.__code__.co_freevars, map(_contents, _cells(value)), strict=True))
    if isinstance(value, type | types.ModuleType | types.MethodType):
        return {}
    return dict(getattr(value, "__dict__", {}))


def replace_parts(value: Any, parts: Mapping[Any, Any]) -> Any:
    """Copy such a value, one level deep, with some parts replaced."""
    if not parts:
        return value
    if isinstance(value, list | tuple):
        items = [parts.get(i, v) for i, v in enumerate(value)]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, functools.partial):
        new = {**parts_of(value), **parts}
        return functools.partial(new["func"], *new["args"], **new["keywords"])
    if isinstance(value, types.FunctionType):
        named = zip(value.__code__.co_freevars, _cells(value), strict=True)
        return _with_cells(value, [types.CellType(parts[n]) if n in parts else c for n, c in named])
    made = copy.copy(value)
    if isinstance(value, Mapping):
        made.update(parts)
    else:
        vars(made).update(parts)  # also of a frozen dataclass
    return made


def _cells(function: types.FunctionType) -> tuple[types.CellType, ...]:
    return function.__closure__ or ()


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _with_cells(function: types.FunctionType, cells: list[types.CellType]) -> types.FunctionType:
    made = types.FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        tuple(cells),
    )
    made.__kwdefaults__ = function.__kwdefaults__
    made.__dict__.update(function.__dict__)
    made.__qualname__ = function.__qualname__
    return made


def _closes_over(value: Any, kinds: Any, depth: int = 0) -> bool:
    parts = parts_of(value).values()
    return depth <= _DEEPEST and any(
        isinstance(p, kinds)
        or isinstance(getattr(p, "__self__", None), kinds)
        or _closes_over(p, kinds, depth + 1)
        for p in parts
    )


def _culprit(model: nn.Module, memo: Mapping[int, Any]) -> tuple[str, str]:
    """Name the innermost module, and its member, that cannot be copied."""
    known = {id(m): m for m in model.modules()}
    for path, module in reversed(list(model.named_modules())):
        for name, value in vars(module).items():
            try:
                copy.deepcopy(value, {**memo, **known})
            except Exception:  # noqa: BLE001, PERF203  # as above
                return path, f" because of `{name}`"
    return "", ""
