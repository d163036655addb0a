"""Integers that modules store, wherever they keep them, and copies with other values.

An integer may stand in an attribute, a list, a configuration object, a partial function, a closure
or on the class. What is changed is copied on the way to it: a configuration that several modules
share keeps its values for the others.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from shrink.core.copies import parts_of, replace_parts
from shrink.rewrite.sizes import find_resizer

_LONGEST = 64  # lists of numbers that may be widths
_DEEPEST = 4  # parts inside parts
_OWN = frozenset(vars(nn.Module()))  # what every module has
_ABSENT: Any = object()

Place = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Edit:
    """One stored integer and the value it may have to take.

    Args:
        place: attribute of the module, then the parts inside it.
        choice: which of several possible values this is, from 0.
    """

    holder: nn.Module
    place: Place
    new: int
    choice: int

    @property
    def name(self) -> str:
        """Name the place as in code, `config.hidden_size`."""
        return ".".join(map(str, self.place))


@dataclass(eq=False)
class Applied:
    """Edits that have been made and can be undone."""

    before: list[tuple[nn.Module, str, Any]] = field(default_factory=list)

    def undo(self) -> None:
        """Give the modules what they had."""
        for holder, name, value in reversed(self.before):
            if value is _ABSENT:
                del vars(holder)[name]
            else:
                vars(holder)[name] = value


def apply(edits: Sequence[Edit]) -> Applied:
    """Make the edits."""
    by_attribute: dict[tuple[int, str], list[Edit]] = {}
    for edit in edits:
        by_attribute.setdefault((id(edit.holder), edit.place[0]), []).append(edit)
    done = Applied()
    for (_, name), together in by_attribute.items():
        holder = together[0].holder
        done.before.append((holder, name, vars(holder).get(name, _ABSENT)))
        news = {e.place[1:]: e.new for e in together}
        vars(holder)[name] = _with(getattr(holder, name), news)
    return done


def _with(value: Any, news: Mapping[Place, int]) -> Any:
    if () in news:
        return news[()]
    inner: dict[Any, dict[Place, int]] = {}
    for place, new in news.items():
        inner.setdefault(place[0], {})[place[1:]] = new
    parts = parts_of(value)
    return replace_parts(value, {k: _with(parts[k], n) for k, n in inner.items()})


def find_edits(
    modules: Iterable[nn.Module], changes: Mapping[int, Sequence[int]]
) -> Iterator[Edit]:
    """List the integers that modules store and that equal a size that changes.

    Args:
        changes: size -> the values it takes, likeliest first.
    """
    for holder in modules:
        if find_resizer(holder) is not None:
            continue
        for name, value in _members(holder).items():
            for place, number in _integers(value, (name,), set()):
                for choice, new in enumerate(changes.get(number, ())):
                    yield Edit(holder, place, new, choice)


def _members(module: nn.Module) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind in reversed(type(module).__mro__):
        if not kind.__module__.startswith("torch.") and kind is not object:
            data = {k: v for k, v in vars(kind).items() if isinstance(v, int | list | tuple | dict)}
            found.update((k, v) for k, v in data.items() if not k.startswith("__"))
    return found | {k: v for k, v in vars(module).items() if k not in _OWN}


def _integers(value: Any, place: Place, seen: set[int]) -> Iterator[tuple[Place, int]]:
    if type(value) is int:
        yield place, value
        return
    if isinstance(value, nn.Module | Tensor | ModuleType | type | str | bytes | float | bool):
        return
    if id(value) in seen or len(place) > _DEEPEST:
        return
    seen.add(id(value))
    parts = parts_of(value)
    if len(parts) > _LONGEST and all(isinstance(v, int | float) for v in parts.values()):
        return  # a table of data, not of widths
    for key, part in parts.items():
        yield from _integers(part, (*place, key), seen)
