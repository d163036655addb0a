"""Leave no trace of a forward pass: caches, counters, whatever modules keep for themselves."""

import contextlib
import copy
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from typing import Any

from torch import nn

_CONTAINERS = (dict, OrderedDict, defaultdict, list, set, deque)


@contextlib.contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Put back, afterwards, what the modules hold and what stands in their containers.

    The contents of tensors are not looked at.
    """
    held = [(module, dict(vars(module))) for module in model.modules()]
    containers = {
        id(value): (value, copy.copy(value))
        for _, members in held
        for value in members.values()
        if type(value) in _CONTAINERS
    }
    try:
        yield
    finally:
        for container, content in containers.values():
            _refill(container, content)
        for module, members in held:
            vars(module).clear()
            vars(module).update(members)


def _refill(container: Any, content: Any) -> None:
    container.clear()
    if isinstance(container, list | deque):
        container.extend(content)
    else:
        container.update(content)
