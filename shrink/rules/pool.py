"""Pooling, resampling and padding-like operators: positions are fixed, channels pass."""

import torch

from shrink.rules import labels
from shrink.rules.labels import Value
from shrink.rules.registry import couples
from shrink.rules.site import Site

aten = torch.ops.aten


def _over_last(count: int, *operators: object) -> None:
    """Register operators that read positions of the last `count` dimensions only.

    Shapes: x (*, *S) with `count` dimensions S; result (*, *T).
    """

    @couples(*operators)
    def couple(site: Site) -> Value | list[Value]:
        x = site.values()[0]
        spatial = range(x.rank - count, x.rank)
        site.freeze(x, spatial, "position read by a pooling or resampling window")
        labels.without_rows_on(site.store, x, spatial)
        made = []
        for shape in site.shapes:
            value = labels.unlabelled(shape)
            value.labels[: x.rank - count] = [
                labels.of(site.store, x, d) for d in range(x.rank - count)
            ]
            made.append(value)
        return made[0] if len(made) == 1 else made


_over_last(
    1,
    aten.avg_pool1d.default,
    aten.max_pool1d.default,
    aten.adaptive_avg_pool1d.default,
    aten.adaptive_max_pool1d.default,
    aten.upsample_nearest1d.vec,
    aten.upsample_nearest1d.default,
    aten.upsample_linear1d.vec,
    aten.upsample_linear1d.default,
    aten._upsample_nearest_exact1d.vec,
    aten._upsample_nearest_exact1d.default,
    aten.max_pool1d_with_indices.default,
    aten.reflection_pad1d.default,
    aten.replication_pad1d.default,
)
_over_last(
    2,
    aten.avg_pool2d.default,
    aten.max_pool2d.default,
    aten.max_pool2d_with_indices.default,
    aten.adaptive_avg_pool2d.default,
    aten.adaptive_max_pool2d.default,
    aten.upsample_nearest2d.vec,
    aten.upsample_nearest2d.default,
    aten._upsample_nearest_exact2d.vec,
    aten._upsample_nearest_exact2d.default,
    aten.upsample_bilinear2d.vec,
    aten.upsample_bilinear2d.default,
    aten.upsample_bicubic2d.vec,
    aten.upsample_bicubic2d.default,
    aten._upsample_bilinear2d_aa.vec,
    aten._upsample_bicubic2d_aa.vec,
    aten._upsample_bilinear2d_aa.default,
    aten._upsample_bicubic2d_aa.default,
    aten.reflection_pad2d.default,
    aten.replication_pad2d.default,
)
_over_last(
    3,
    aten.avg_pool3d.default,
    aten.max_pool3d.default,
    aten.adaptive_avg_pool3d.default,
    aten.adaptive_max_pool3d.default,
    aten.upsample_nearest3d.vec,
    aten.upsample_nearest3d.default,
    aten.upsample_trilinear3d.vec,
    aten.upsample_trilinear3d.default,
    aten._upsample_nearest_exact3d.vec,
    aten._upsample_nearest_exact3d.default,
    aten.max_pool3d_with_indices.default,
    aten.reflection_pad3d.default,
    aten.replication_pad3d.default,
)


@couples(aten.affine_grid_generator.default)
def couple_affine_grid(site: Site) -> Value:
    """Freeze what says where to sample: it makes positions.

    Source: torch.nn.functional.affine_grid.
    """
    theta = site["theta"]
    site.freeze(theta, range(theta.rank), "matrix of a sampling grid")
    return labels.unlabelled(site.shape)


@couples(aten.fractional_max_pool2d.default, aten.fractional_max_pool3d.default)
def couple_fractional_pool(site: Site) -> list[Value]:
    """Pass the channels; the random numbers that place the windows are one line per channel.

    Shapes: x (*, C, *S); samples (N, C, d); results (*, C, *T).
    Source: torch.nn.functional.fractional_max_pool2d.
    """
    x, samples = site["self"], site["random_samples"]
    spatial = range(x.rank - len(site["output_size"]), x.rank)
    site.freeze(x, spatial, "position read by a pooling or resampling window")
    labels.without_rows_on(site.store, x, spatial)
    site.tie(x, spatial[0] - 1, samples, 1)
    channels = [labels.of(site.store, x, d) for d in range(spatial[0])]
    return [Value(s, [*channels, *[()] * len(spatial)]) for s in site.shapes]


@couples(aten.grid_sampler.default, aten.grid_sampler_2d.default, aten.grid_sampler_3d.default)
def couple_grid_sampler(site: Site) -> Value:
    """Read channels at the positions a grid names.

    Shapes: x (N, C, *S); grid (N, *T, d); result (N, C, *T).
    Source: torch.nn.functional.grid_sample.
    """
    x, grid = site["input"], site["grid"]
    text = "position read by a sampling grid"
    site.freeze(x, [d for d in range(x.rank) if d != 1], text)
    site.freeze(grid, range(grid.rank), text)
    result = labels.unlabelled(site.shape)
    result.labels[1] = site.labels(x, 1)
    return result


@couples(aten.max_unpool2d.default, aten.max_unpool3d.default)
def couple_unpool(site: Site) -> Value:
    """Put values back where their maxima were found; channels pass.

    Shapes: x, indices (*, C, *S); result (*, C, *T).
    Source: torch.nn.functional.max_unpool2d.
    """
    count = len(site["output_size"])
    x, indices = site["self"], site["indices"]
    joint = labels.broadcast(site.store, [x, indices], x.shape, site.because("unpooling"))
    spatial = range(x.rank - count, x.rank)
    site.freeze(joint, spatial, "position read by a pooling or resampling window")
    labels.without_rows_on(site.store, joint, spatial)
    result = labels.unlabelled(site.shape)
    result.labels[: x.rank - count] = joint.labels[: x.rank - count]
    return result


@couples(aten.pixel_shuffle.default)
def couple_pixel_shuffle(site: Site) -> Value:
    """Move channels into positions: the channels of one output channel go together.

    Shapes: x (*, C r^2, H, W); result (*, C, H r, W r).
    Source: torch.nn.functional.pixel_shuffle.
    """
    store, x, r = site.store, site["self"], site["upscale_factor"]
    batch, (channels, high, wide) = x.shape[:-3], x.shape[-3:]
    because = site.because("position made from channels")
    n, left = len(batch), channels // r**2
    cut = labels.reshape(store, x, (*batch, left, r**2, high, wide), because)
    site.freeze(cut, [n + 1], because.text)
    whole = labels.drop_dims(store, cut, [n + 1])
    for _ in range(2):
        whole = labels.insert_dim(store, whole, n + 1)
    spread = Value((*batch, left, r, r, high, wide), whole.labels)
    moved = labels.permute(store, spread, [*range(n), n, n + 3, n + 1, n + 4, n + 2])
    return labels.reshape(store, moved, site.shape, because)


@couples(aten.pixel_unshuffle.default)
def couple_pixel_unshuffle(site: Site) -> Value:
    """Move positions into channels: the channels made from one input channel go together.

    Shapes: x (*, C, H r, W r); result (*, C r^2, H, W).
    Source: torch.nn.functional.pixel_unshuffle.
    """
    store, x, r = site.store, site["self"], site["downscale_factor"]
    batch, (channels, high, wide) = x.shape[:-3], x.shape[-3:]
    because = site.because("position made into channels")
    site.freeze(x, [-1, -2], because.text)
    cut = labels.reshape(store, x, (*batch, channels, high // r, r, wide // r, r), because)
    n = len(batch)
    moved = labels.permute(store, cut, [*range(n), n, n + 2, n + 4, n + 1, n + 3])
    return labels.reshape(store, moved, site.shape, because)


@couples(aten.channel_shuffle.default, aten.native_channel_shuffle.default)
def couple_channel_shuffle(site: Site) -> Value:
    """Interleave equal parts of the channels; all parts keep equally many.

    Shapes: x (N, C, *S), result likewise.
    Source: torch.nn.functional.channel_shuffle.
    """
    store, x, parts = site.store, site["self"], site["groups"]
    because = site.because("channel shuffle")
    batch, channels, rest = x.shape[0], x.shape[1], x.shape[2:]
    cut = labels.reshape(store, x, (batch, parts, channels // parts, *rest), because)
    site.freeze(cut, [1], because.text)
    moved = labels.permute(store, cut, [0, 2, 1, *range(3, cut.rank)])
    return labels.reshape(store, moved, site.shape, because)
