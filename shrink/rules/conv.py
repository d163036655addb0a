"""Convolutions."""

import torch

from shrink.core.groups import Label
from shrink.rules import labels
from shrink.rules.labels import Value
from shrink.rules.norm import balance_parts
from shrink.rules.registry import couples, resizes
from shrink.rules.site import Call, Resized, Site

aten = torch.ops.aten


@couples(
    aten.conv1d.default,
    aten.conv2d.default,
    aten.conv3d.default,
    aten.conv1d.padding,
    aten.conv2d.padding,
    aten.conv3d.padding,
)
def couple_conv(site: Site) -> Value:
    """Tie the input's channels to the filters that read them.

    Shapes: x (N, C_in, *S); weight (C_out, C_in / groups, *K); result (N, C_out, *T). Along a
    dimension where the kernel is 1 wide, without stride or padding, positions pass.
    Source: torch.nn.functional.conv2d, "Parameters".
    """
    return _couple(site, filters=0, reads=1)


@couples(aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input)
def couple_conv_transpose(site: Site) -> Value:
    """Tie the input's channels to the filters that read them, the weight's axes being swapped.

    Shapes: x (N, C_in, *S); weight (C_in, C_out / groups, *K); result (N, C_out, *T).
    Source: torch.nn.functional.conv_transpose2d, "Parameters".
    """
    return _couple(site, filters=1, reads=0)


@couples(aten.convolution.default)
def couple_any_conv(site: Site) -> Value:
    """Tie as the convolution does that it is, or the transposed one.

    Source: torch.nn.functional.conv2d, torch.nn.functional.conv_transpose2d, "Parameters".
    """
    return _couple(site, filters=int(site["transposed"]), reads=int(not site["transposed"]))


@couples(aten.conv_tbc.default)
def couple_conv_tbc(site: Site) -> Value:
    """Tie the input's channels, which come last, to the weight's rows that read them.

    Shapes: x (T, N, C_in); weight (K, C_in, C_out); bias (C_out,); result (T_out, N, C_out).
    Source: torch.conv_tbc.
    """
    x, weight = site["self"], site["weight"]
    site.freeze(x, [0], "position read by a convolution")
    site.fix(weight, [0])
    labels.without_rows_on(site.store, x, range(x.rank))
    site.tie(x, 2, weight, 1)
    result = Value(site.shape, [(), labels.of(site.store, x, 1), site.labels(weight, 2)])
    site.tie(result, 2, site["bias"], 0)
    return result


@couples("torchvision::deform_conv2d")
def couple_deform_conv(site: Site) -> Value:
    """Tie as a convolution does; each offset group reads equally many channels.

    Shapes: x (N, C_in, H, W); weight (C_out, C_in / groups, *K); offset (N, 2 G K_h K_w, *T); mask
    (N, G K_h K_w, *T); result (N, C_out, *T), with G = `offset_groups`.
    Source: torchvision.ops.deform_conv2d.
    """
    for name in ("offset", "mask"):
        site.freeze(site[name], range(site[name].rank), "offset of a deformable convolution")
    balance_parts(site, site["input"], 1, site["offset_groups"])
    return _couple(site, filters=0, reads=1)


def _couple(site: Site, *, filters: int, reads: int) -> Value:
    x, weight, bias, groups = site["input"], site["weight"], site["bias"], site["groups"]
    channel = x.rank - weight.rank + 1  # 0 without a batch dimension
    passed = _passed(site, weight)
    read = [channel + 1 + i for i in range(weight.rank - 2) if i not in passed]
    site.freeze(x, read, "position read by a convolution")
    site.fix(weight, range(2, weight.rank))
    labels.without_rows_on(site.store, x, range(channel, x.rank))
    if groups == 1:
        site.tie(x, channel, weight, reads)
        out = site.labels(weight, filters)
    else:
        out = _couple_groups(site, x, channel, weight, filters, reads)
    result = labels.unlabelled(site.shape)
    if channel:
        result.labels[0] = labels.of(site.store, x, 0)
    result.labels[channel] = out
    for i in passed:
        result.labels[channel + 1 + i] = site.labels(x, channel + 1 + i)
    if bias is not None:
        site.tie(result, channel, bias, 0)
    return result


def _passed(site: Site, weight: Value) -> list[int]:
    """List the spatial dimensions along which every position is by itself: 1 wide, not padded."""
    if "stride" not in site.arguments:  # a deformable one reads wherever its offsets say
        return []
    rank = weight.rank - 2
    named = {n: site.arguments.get(n, 0) for n in ("stride", "padding", "output_padding")}
    named["padding"] = 0 if isinstance(named["padding"], str) else named["padding"]
    each = {
        n: list(v) * (rank // len(v)) if isinstance(v, list | tuple) else [v] * rank
        for n, v in named.items()
    }
    return [
        i
        for i in range(rank)
        if weight.shape[2 + i] == 1
        and each["stride"][i] in (0, 1)
        and each["padding"][i] == each["output_padding"][i] == 0
    ]


def _couple_groups(
    site: Site, x: Value, channel: int, weight: Value, filters: int, reads: int
) -> tuple[Label, ...]:
    """Tie conv groups: a whole group goes on both sides, and inside all keep the same count.

    One axis of the weight lists all channels of its side, so every group chooses its own; the other
    counts inside a group and is shared, so there the same positions go in every group. A depthwise
    convolution is the case of one channel per group.
    """
    store, groups = site.store, site["groups"]
    cut = labels.split(store, _line(site, x, channel), [[groups, x.shape[channel] // groups]])
    if filters == 0:
        if cut.shape[1] > 1:
            site.tie(cut, 1, weight, reads)
        made = labels.split(store, _line(site, weight, 0), [[groups, weight.shape[0] // groups]])
        site.tie(cut, 0, made, 0)
        return site.labels(weight, 0)
    site.tie(x, channel, weight, reads)
    per_group = labels.of(store, weight, filters)
    made = Value((groups, weight.shape[filters]), [cut.labels[0], per_group])
    because = site.because("channels of a transposed convolution with groups")
    merged = labels.merge(store, made, [[0, 1]], [groups * weight.shape[filters]], because)
    return labels.of(store, merged, 0)


def _line(site: Site, value: Value, dim: int) -> Value:
    return Value((value.shape[dim],), [site.labels(value, dim)])


@resizes(
    aten.conv1d.default,
    aten.conv2d.default,
    aten.conv3d.default,
    aten.conv1d.padding,
    aten.conv2d.padding,
    aten.conv3d.padding,
    aten.conv_transpose1d.default,
    aten.conv_transpose2d.input,
    aten.conv_transpose3d.input,
    aten.convolution.default,
    "torchvision::deform_conv2d",
)
def resize_conv(call: Call) -> Resized:
    """Count the conv groups that are left: channels over channels per group."""
    if call["groups"] == 1:
        return call.replace()
    weight_before, weight_after = call.inputs_before["weight"], call.inputs_after["weight"]
    x_after = call.inputs_after["input"]
    channel = len(x_after) - len(weight_before) + 1
    transposed = call.arguments.get("transposed", "transpose" in call.operator._schema.name)
    per_group = call.after[0][channel] if transposed else x_after[channel]
    return call.replace(groups=int(per_group // max(weight_after[1], 1)))
