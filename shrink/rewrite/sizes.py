"""The sizes that torch.nn's own modules store, by class."""

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

Resizer = Callable[[Any, dict[str, Any]], None]

_RESIZERS: list[tuple[type[nn.Module], Resizer]] = []


def _resizes(*classes: type[nn.Module]) -> Callable[[Resizer], Resizer]:
    def register(resizer: Resizer) -> Resizer:
        _RESIZERS.extend((c, resizer) for c in classes)
        return resizer

    return register


@_resizes(_ConvNd)
def _conv(module: _ConvNd, literals: dict[str, Any]) -> None:
    module.groups = literals.get("groups", module.groups)
    ends = module.weight.shape[0], module.weight.shape[1] * module.groups
    if module.transposed:
        module.in_channels, module.out_channels = ends
    else:
        module.out_channels, module.in_channels = ends


@_resizes(nn.Linear)
def _linear(module: nn.Linear, _: dict[str, Any]) -> None:
    module.out_features, module.in_features = module.weight.shape


@_resizes(_NormBase)
def _batch_norm(module: _NormBase, _: dict[str, Any]) -> None:
    held = module.weight if module.weight is not None else module.running_mean
    if held is not None:
        module.num_features = held.shape[0]


@_resizes(nn.LayerNorm, *([nn.RMSNorm] if hasattr(nn, "RMSNorm") else []))
def _layer_norm(module: nn.LayerNorm, literals: dict[str, Any]) -> None:
    module.normalized_shape = tuple(literals.get("normalized_shape", module.normalized_shape))


@_resizes(nn.GroupNorm)
def _group_norm(module: nn.GroupNorm, _: dict[str, Any]) -> None:
    if module.weight is not None:
        module.num_channels = module.weight.shape[0]


@_resizes(nn.Embedding, nn.EmbeddingBag)
def _embedding(module: nn.Embedding, _: dict[str, Any]) -> None:
    module.num_embeddings, module.embedding_dim = module.weight.shape


@_resizes(nn.PReLU)
def _prelu(module: nn.PReLU, _: dict[str, Any]) -> None:
    module.num_parameters = module.weight.shape[0]


@_resizes(nn.RNNBase)
def _recurrent(module: nn.RNNBase, _: dict[str, Any]) -> None:
    gates = {"LSTM": 4, "GRU": 3}.get(module.mode, 1)
    weight: Any = module.weight_ih_l0  # Any: a parameter, or parametrized
    module.hidden_size, module.input_size = weight.shape[0] // gates, weight.shape[1]


@_resizes(nn.RNNCellBase)
def _recurrent_cell(module: nn.RNNCellBase, _: dict[str, Any]) -> None:
    module.hidden_size, module.input_size = module.weight_hh.shape[1], module.weight_ih.shape[1]


@_resizes(nn.Bilinear)
def _bilinear(module: nn.Bilinear, _: dict[str, Any]) -> None:
    module.out_features, module.in1_features, module.in2_features = module.weight.shape


def find_resizer(module: nn.Module) -> Resizer | None:
    """Find what updates the stored sizes of a module, if torch.nn defines its forward."""
    for known, resizer in _RESIZERS:
        if isinstance(module, known) and type(module).forward is known_forward(module, known):
            return resizer
    return None


def known_forward(module: nn.Module, known: type[nn.Module]) -> Any:  # Any: a function
    """Name the forward that torch.nn gives a module of a known class."""
    for parent in type(module).__mro__:
        if parent.__module__.startswith("torch.nn.") and issubclass(parent, known):
            return parent.forward
    return None


def leave_fast_path(module: nn.Module) -> None:
    """Keep torch.nn's transformer layers from computing an attention in its module's stead.

    In evaluation they read its parameters themselves, unless its projections differ in width.

    Args:
        module: the attention, or one that it stands in.
    """
    for name in ("_qkv_same_embed_dim", "use_nested_tensor"):
        if name in vars(module):
            vars(module)[name] = False
