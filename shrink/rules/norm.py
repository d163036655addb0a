"""Normalisation layers: statistics, affine terms and running buffers follow the channels."""

from collections.abc import Mapping
from typing import Any

import torch

from shrink.rules import labels
from shrink.rules.labels import Value
from shrink.rules.registry import couples, normalises, resizes
from shrink.rules.site import Call, Resized, Site

aten = torch.ops.aten


@couples(aten.batch_norm.default, aten.instance_norm.default)
def couple_channel_norm(site: Site) -> Value:
    """Tie the channels to scale, shift and running statistics; each channel is by itself.

    Shapes: x (N, C, *S); weight, bias, running_mean, running_var (C,). Statistics of the input are
    those of the positions that are kept; running ones look at each position by itself.
    Source: torch.nn.functional.batch_norm, torch.nn.functional.instance_norm.
    """
    x = site["input"]
    for dim in (1, *_averaged(site.operator, site.arguments, x.rank)):
        labels.flat(site.store, x, dim)
        labels.without_rows_on(site.store, x, [dim])
    for name in ("weight", "bias", "running_mean", "running_var"):
        if site[name] is not None:
            site.tie(x, 1, site[name], 0)
    return x  # type: ignore[no-any-return]  # a Value by the schema


def _averaged(operator: Any, arguments: Mapping[str, Any], rank: int) -> tuple[int, ...]:
    """List the dimensions over which a channel's own statistics are taken."""
    if operator is aten.instance_norm.default:
        return tuple(range(2, rank)) if arguments["use_input_stats"] else ()
    return (0, *range(2, rank)) if arguments["training"] else ()


@normalises(aten.batch_norm.default, aten.instance_norm.default)
def normalise_channel_norm(call: Call) -> Mapping[str, tuple[int, ...]]:
    """Normalise over the positions that are kept."""
    rank = len(call.inputs_before["input"])
    return {"input": _averaged(call.operator, call.arguments, rank)}


@couples(aten.layer_norm.default, aten.rms_norm.default)
def couple_layer_norm(site: Site) -> Value:
    """Tie the normalised dimensions to scale and shift; the statistics are those of what is kept.

    Shapes: x (*, *normalized_shape); weight, bias normalized_shape.
    Source: torch.nn.functional.layer_norm.
    """
    x, weight = site["input"], site["weight"]
    bias = site.arguments.get("bias")
    count = len(site["normalized_shape"])
    for back in range(1, count + 1):
        labels.flat(site.store, x, -back)
        for affine in (weight, bias):
            if affine is not None:
                site.tie(x, -back, affine, -back)
    labels.without_rows_on(site.store, x, range(x.rank - count, x.rank))
    return x  # type: ignore[no-any-return]  # a Value by the schema


@couples(aten.group_norm.default)
def couple_group_norm(site: Site) -> Value:
    """Tie channels to scale and shift; every norm group keeps equally many channels.

    Shapes: x (N, C, *S); weight, bias (C,); `num_groups` stays.
    Source: torch.nn.functional.group_norm.
    """
    x, groups = site["input"], site["num_groups"]
    for dim in range(1, x.rank):
        labels.flat(site.store, x, dim)
        labels.without_rows_on(site.store, x, [dim])
    for name in ("weight", "bias"):
        if site[name] is not None:
            site.tie(x, 1, site[name], 0)
    balance_parts(site, x, 1, groups)
    return x  # type: ignore[no-any-return]  # a Value by the schema


@couples(aten._weight_norm.default, aten._weight_norm_interface.default)
def couple_weight_norm(site: Site) -> Value | list[Value]:
    """Tie a direction and its lengths; what is removed adds nothing to a length.

    Shapes: v any; g like v with size 1 but along `dim`; result like v, and the norms like g.
    Source: torch.nn.utils.parametrizations.weight_norm.
    """
    v, g = site["v"], site["g"]
    because = site.because("meets a dimension of fixed size")
    made = labels.broadcast(site.store, [v, g], v.shape, because)
    if len(site.shapes) == 1:
        return made
    norms = [labels.of(site.store, made, d) if n > 1 else () for d, n in enumerate(g.shape)]
    return [made, Value(g.shape, list(norms))]


def balance_parts(site: Site, value: Value, dim: int, parts: int) -> None:
    """Demand that equal consecutive parts of a dimension keep equally many indices."""
    found = site.labels(value, dim)
    if parts > 1 and found:
        cut = [label.ids.reshape(parts, -1) for label in found]
        site.store.balance([[ids[part] for ids in cut] for part in range(parts)])


@resizes(aten.layer_norm.default, aten.rms_norm.default)
def resize_layer_norm(call: Call) -> Resized:
    """Name the sizes that are left."""
    count = len(call["normalized_shape"])
    return call.replace(normalized_shape=list(call.after[0][-count:]))


@normalises(aten.layer_norm.default, aten.rms_norm.default)
def normalise_layer_norm(call: Call) -> Mapping[str, tuple[int, ...]]:
    """Normalise over what is kept of the last dimensions."""
    return _normalised(call, tuple(range(-len(call["normalized_shape"]), 0)))


@normalises(aten.group_norm.default)
def normalise_group_norm(call: Call) -> Mapping[str, tuple[int, ...]]:
    """Normalise over what is kept of each group's channels, and of the positions."""
    affine = {n: (0,) for n in ("weight", "bias") if call[n] is not None}
    return {"input": tuple(range(1, len(call.inputs_before["input"]))), **affine}


def _normalised(call: Call, dims: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    affine = {n: dims for n in ("weight", "bias") if call.arguments.get(n) is not None}
    return {"input": dims, **affine}
