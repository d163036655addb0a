"""Run a forward pass in float64 whatever precision its code asks for."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

LOW = frozenset({torch.float32, torch.float16, torch.bfloat16})
Loan = Callable[[], Tensor]
"""Makes a parameter in float64, for as long as something reads it."""

_FUSED = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder)


_DRAWS = frozenset(
    f"aten::{name}"
    for name in (
        "rand",
        "randn",
        "rand_like",
        "randn_like",
        "normal",
        "normal_",
        "uniform",
        "uniform_",
        "exponential",
        "exponential_",
        "bernoulli",
        "bernoulli_",
    )
)


class _Double(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own
    """Raises lower precisions, asked for (`.float()`), of tensors made from literals, or on loan.

    A literal is raised after it was rounded, as the captured graph has it.
    """

    def __init__(self, loans: Mapping[int, Loan]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        self.loans = loans

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:  # Any: the signature is torch's
        kwargs = {k: self._raised(v) for k, v in (kwargs or {}).items()}
        if func is not torch.ops.aten._to_copy.default:  # which raises by itself
            args = tuple(self._raised(v) for v in args)
        # the model has no generator of its own; what draws from one disturbs weights
        draws = torch.Tag.nondeterministic_seeded in func.tags and not kwargs.get("generator")
        if draws:
            torch.manual_seed(0)  # the same shape, the same draw
        result = func(*args, **kwargs)
        if draws and func._schema.name in _DRAWS and result.is_floating_point():
            result.fill_(0.5)  # the same for every channel: some are cut
        if isinstance(result, Tensor) and result.dtype in LOW:
            return result.to(torch.float64)
        return result

    def _raised(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            if value.dtype not in LOW:
                return value
            return self.loans.get(id(value), partial(value.to, torch.float64))()
        if isinstance(value, tuple | list):
            return type(value)(self._raised(v) for v in value)
        return torch.float64 if isinstance(value, torch.dtype) and value in LOW else value


@contextlib.contextmanager
def in_float64(loans: Mapping[int, Loan] | None = None) -> Iterator[None]:
    """Make float64 the precision of everything that runs inside.

    Args:
        loans: by identity of a parameter of lower precision, what an operator gets in its place.
    """
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        cuda = range(torch.cuda.device_count())
        with torch.random.fork_rng(cuda), _Double(loans or {}), torch.no_grad():
            yield
    finally:
        torch.set_default_dtype(default)


class _Lender:
    """Swaps the data of parameters while modules that own them run."""

    def __init__(self, model: nn.Module, loans: Mapping[int, Loan]) -> None:
        self.loans = loans
        self.running: Counter[int] = Counter()
        # read here: in float64, reading `data` is an operator and makes a copy
        self.own = {id(p): (p, p.data) for p in model.parameters() if id(p) in loans}

    def lends_to(self, module: nn.Module) -> list[Tensor]:
        return [p for p in module.parameters(recurse=False) if id(p) in self.own]

    def enter(self, module: nn.Module, _: Any) -> None:
        for parameter in self.lends_to(module):
            if not self.running[id(parameter)]:
                parameter.data = self.loans[id(parameter)]()
            self.running[id(parameter)] += 1

    def leave(self, module: nn.Module, _: Any, __: Any) -> None:
        for parameter in self.lends_to(module):
            self.running[id(parameter)] -= 1
            if not self.running[id(parameter)]:
                parameter.data = self.own[id(parameter)][1]

    def restore(self) -> None:
        for parameter, data in self.own.values():
            parameter.data = data


@contextlib.contextmanager
def lend(model: nn.Module, loans: Mapping[int, Loan]) -> Iterator[None]:
    """Put the parameters on loan in their places while the module that owns them runs.

    Afterwards every parameter has its own data again, bit for bit. Code that reads a parameter of
    another module gets its loan operator by operator, from `in_float64`.
    """
    lender = _Lender(model, loans)
    handles = []
    for module in filter(lender.lends_to, model.modules()):
        handles.append(module.register_forward_pre_hook(lender.enter, prepend=True))
        handles.append(module.register_forward_hook(lender.leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        lender.restore()


def lendable(model: nn.Module) -> frozenset[int]:
    """List parameters, by identity, that may come and go with the module that owns them.

    Those of torch.nn's transformer layers stay: with hooks these layers leave their fused kernels,
    which the user will run.
    """
    fused = [p for m in model.modules() if isinstance(m, _FUSED) for p in m.parameters()]
    return frozenset(map(id, model.parameters())) - frozenset(map(id, fused))
