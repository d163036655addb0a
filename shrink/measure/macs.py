"""Multiply-adds and parameters of a model, by fvcore."""

import contextlib
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch._C import Value

from shrink.core.errors import CaptureError, InputError
from shrink.core.inputs import Inputs, map_tensors, tensors_in
from shrink.measure.prepare import Prepared, prepare
from shrink.rules.cost import Formula, counted, uncounted

# fvcore's own handles. Those it has for `einsum` (rounds to four digits), `matmul` (fails for a
# vector on the right) and `layer_norm` (fails below two and above five dimensions) are replaced.
_FVCORE = frozenset(
    {
        "aten::adaptive_avg_pool2d",
        "aten::addmm",
        "aten::batch_norm",
        "aten::bmm",
        "aten::grid_sampler",
        "aten::group_norm",
        "aten::instance_norm",
        "aten::linear",
        "aten::mm",
        "aten::upsample_bilinear2d",
        "aten::upsample_nearest2d",
    }
)


def count_params(model: nn.Module) -> int:
    """Count parameter elements, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, inputs: Inputs) -> tuple[int, dict[str, int]]:
    """Count the multiply-adds of one forward pass in eval mode.

    Args:
        model: a copy of it is traced once on the inputs; it and the random state stay as they are.
        inputs: arguments of `forward`.

    Returns:
        The multiply-adds at the batch of the inputs, and the operators that were left out, by name
        (`shrink.rules.cost.uncounted`).

    Raises:
        InputError: fvcore is not installed.
        CaptureError: the model cannot be traced on these inputs.

    Source: fvcore.nn.FlopCountAnalysis, with the handles of `shrink.rules.cost` added.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # importing fvcore and tracing warn of torch's future
        try:
            from fvcore.nn import FlopCountAnalysis  # noqa: PLC0415  # warns when imported
        except ImportError as error:
            raise InputError("fvcore is not installed", fix="pip install fvcore") from error

        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        prepared = prepare(model, inputs, device=device)
        tensors = tuple(tensors_in(prepared.inputs))
        analysis = FlopCountAnalysis(_Flat(prepared), tensors)
        analysis.unsupported_ops_warnings(enabled=False).uncalled_modules_warnings(enabled=False)
        analysis.tracer_warnings("none")
        for kind in counted().keys() - _FVCORE:
            analysis.set_op_handle(kind, _handle(counted()[kind]))
        cuda = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(cuda), _unfused(), torch.no_grad():
            try:
                total = analysis.total()
            except Exception as error:  # whatever the user's forward raises
                first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise CaptureError(
                    f"fvcore cannot trace the forward pass: {first_line}",
                    where=type(model).__name__,
                    fix="check the example inputs",
                ) from error
    return int(total), uncounted(analysis.unsupported_ops().elements())


class _Flat(nn.Module):
    """A call of the model as a function of its tensors, which is all that a jit trace takes."""

    def __init__(self, prepared: Prepared) -> None:
        super().__init__()
        self.model = prepared.model
        self.inputs = prepared.inputs

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        remaining = iter(tensors)
        call = map_tensors(self.inputs, lambda _: next(remaining))
        return tuple(tensors_in(self.model(*call.args, **call.kwargs)))


def _handle(formula: Formula) -> Callable[[list[Value], list[Value]], int]:
    """Make fvcore's kind of handle, a function of jit values."""

    def handle(inputs: list[Value], outputs: list[Value]) -> int:
        args = tuple(_argument(value) for value in inputs)
        shapes = tuple(_sizes(value) for value in outputs)
        return int(formula(args, {}, shapes))

    return handle


def _argument(value: Value) -> object:
    """Read a jit value: the sizes of a tensor, the items of a list, or a constant."""
    if value.isCompleteTensor():
        return _sizes(value)
    if value.node().kind() == "prim::ListConstruct":
        return [_argument(item) for item in value.node().inputs()]
    return value.toIValue()


def _sizes(value: Value) -> tuple[int, ...]:
    return tuple(value.type().sizes())  # type: ignore[attr-defined]  # the type of a tensor has it


@contextlib.contextmanager
def _unfused() -> Iterator[None]:
    """Keep `nn.MultiheadAttention` on its plain path: the fused kernel is one opaque operator."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
