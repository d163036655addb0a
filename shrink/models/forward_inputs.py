"""Example inputs for a model that says by names and a configuration what it wants to be given.

What a tensor is follows from the name of the argument, its shape from the configuration; where
names leave a choice of layouts, the first on which the model runs is taken.
"""

import inspect
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from shrink.core.inputs import Inputs, describe
from shrink.models.source import describe_tensor
from shrink.models.tiny_config import Config

TOKENS = 64  # of a text, unless the model takes fewer
DECODED_TOKENS = 16
_FRAMES = 128  # of a spectrogram, unless the configuration fixes them
_WAVE_FRAMES = 50  # of a wave, after the convolutions that read it: a second of speech
_PIXELS = 224

Layouts = Sequence[Mapping[str, Any]]


def propose_inputs(model: nn.Module, config: Config) -> Iterator[dict[str, Any]]:
    """Propose example inputs, likeliest first, as descriptions for `make_inputs`.

    Args:
        model: with the `main_input_name` and `dummy_inputs` of transformers, where it has them.
        config: its configuration, others inside it.
    """
    parameters = inspect.signature(model.forward).parameters
    needed = [
        n
        for n, p in parameters.items()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    main = getattr(model, "main_input_name", "")
    known = [n for n in parameters if n in _ARGUMENTS]
    least = [n for n in parameters if n in (main, *needed)]
    for names in (known, least):
        if not names or any(n not in _ARGUMENTS for n in {*names, *needed}):
            continue
        layouts = [_ARGUMENTS[n](config, n) for n in names]
        for choice in itertools.product(*layouts):
            yield {"args": [], "kwargs": dict(zip(names, choice, strict=True))}
    dummies = getattr(model, "dummy_inputs", None)
    if dummies:
        yield describe(Inputs((), dummies))


def _look_up(config: Config, names: Sequence[str], near: str = "") -> Any:  # Any: a JSON value
    """Find the first of these names in a configuration, or in those inside it.

    Args:
        near: what the names of inner configurations to ask first begin with.
    """
    inner = [(k, v) for k, v in config.items() if isinstance(v, Mapping) and "model_type" in v]
    preferred = [dict(v) for k, v in inner if near and k.startswith(near)]
    others = [dict(v) for k, v in inner if not (near and k.startswith(near))]
    for place in preferred:
        found = _look_up(place, names)
        if found is not None:
            return found
    for name in names:
        if config.get(name) is not None:
            return config[name]
    return next((f for o in others if (f := _look_up(o, names)) is not None), None)


def _integer(config: Config, names: Sequence[str], near: str, default: int) -> int:
    found = _look_up(config, names, near)
    return found if type(found) is int and found > 0 else default


def _special_tokens(config: Config) -> Iterator[int]:
    for key, value in config.items():
        if isinstance(value, Mapping) and "model_type" in value:
            yield from _special_tokens(dict(value))
        elif re.fullmatch(r".*token_(id|index)s?|.*_id", key):
            yield from (v for v in (value if isinstance(value, list) else [value]) if v is not None)


def _tokens(config: Config, name: str) -> Layouts:
    """Lay out token ids, of the widest range without a special one."""
    near = "decoder" if name.startswith("decoder") else "text"
    vocabulary = _integer(config, ("vocab_size", "decoder_vocab_size"), near, 256)
    special = {v for v in _special_tokens(config) if type(v) is int and 0 <= v < vocabulary}
    edges = [-1, *sorted(special), vocabulary]
    low, high = max(itertools.pairwise(edges), key=lambda edge: edge[1] - edge[0])
    positions = ("max_position_embeddings", "n_positions", "max_target_positions")
    most = _integer(config, positions, near, TOKENS)
    length = min(DECODED_TOKENS if name.startswith("decoder") else TOKENS, most)
    tokens = describe_tensor(1, length, dtype="int64")
    tokens["tensor"]["range"] = [low + 1, max(high - 1, low + 1)]
    return [tokens]


def _images(config: Config, name: str) -> Layouts:
    """Lay out images (1, C, H, W), or clips (1, T, C, H, W) where the configuration has frames."""
    size = _look_up(config, ("image_size", "input_size", "img_size"), "vision")
    if isinstance(size, Mapping):
        size = [size.get("height", _PIXELS), size.get("width", _PIXELS)]
    if type(size) is int:
        size = [size, size]
    if not isinstance(size, list | tuple) or len(size) < 2:
        size = [_PIXELS, _PIXELS]
    colours = _integer(config, ("num_channels", "in_channels", "in_chans"), "vision", 3)
    colours = colours if colours <= 4 else 3  # more are features
    picture = (colours, *size[-2:])
    frames = _integer(config, ("num_frames", "frames_per_clip"), "vision", 0)
    clip = describe_tensor(1, frames or 8, *picture)
    image = describe_tensor(1, *picture)
    if name.endswith("videos"):
        return [clip]
    return [clip, image] if frames else [image, clip]


def _waves(config: Config, _: str) -> Layouts:
    """Lay out spectrograms (1, T, F) where the configuration has bins, else waves."""
    bins = _integer(config, ("num_mel_bins",), "audio", 0)
    frames = _integer(config, ("max_length", "spectrogram_length"), "audio", _FRAMES)
    strides = _look_up(config, ("conv_stride", "upsampling_ratios", "downsampling_ratios"), "audio")
    samples = _WAVE_FRAMES * (math.prod(strides) if isinstance(strides, list | tuple) else 320)
    channels = _integer(config, ("audio_channels",), "audio", 1)
    waves = [describe_tensor(1, samples), describe_tensor(1, channels, samples)]
    spectrogram = describe_tensor(1, frames, bins or 80)
    return [spectrogram, *waves] if bins else [*waves, spectrogram]


def _spectrograms(config: Config, _: str) -> Layouts:
    """Lay out spectrograms (1, F, T) or (1, T, F), as long as the encoder's positions."""
    names = ("num_mel_bins", "input_feat_per_channel", "feature_projection_input_dim", "input_dim")
    sizes = [_look_up(config, (n,), "audio") for n in names]
    bins = next((n for n in sizes if type(n) is int), 80)
    source = _integer(config, ("max_source_positions",), "audio", 0)
    frames = 2 * source or _FRAMES
    wide = _integer(config, ("spec_size",), "audio", 256) * 4
    return [
        describe_tensor(1, bins, frames),
        describe_tensor(1, min(frames, _FRAMES), bins),
        describe_tensor(1, 1, wide, bins),
    ]


_ARGUMENTS: Mapping[str, Callable[[Config, str], Layouts]] = {
    "input_ids": _tokens,
    "decoder_input_ids": _tokens,
    "pixel_values": _images,
    "pixel_values_videos": _images,
    "input_values": _waves,
    "decoder_input_values": lambda config, _: [
        describe_tensor(1, DECODED_TOKENS, _integer(config, ("num_mel_bins",), "decoder", 80))
    ],
    "input_features": _spectrograms,
}
