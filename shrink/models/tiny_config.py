"""Small forms of configurations: the same structure with fewer layers and narrower ones.

No table of models: what a number means is read from its name, and everything that may be equal,
divide or be divided by something else is divided by the same factor wherever it stands. All head
counts shrink by one factor, all head sizes by another, and all widths by the product of the two.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Config = dict[str, Any]  # Any: JSON values

LAYERS = re.compile(
    r"(n|num|encoder|decoder|num_\w+|\w+_num)?_?(hidden_)?(layers?|blocks|depths?)"
    r"|blocks_per_stage|num_block_repeats|stage_numb?_(of_)?(layers|blocks)"
)
_STAGES = re.compile(r".*(feat_extract|feature|residual|shared|nextn|adapter|encoder_blocks).*")
_HEADS = re.compile(r"(?!(.*_)?(d|dim)_head)(.*_)?heads?(_per_stage)?")
_HEAD_SIZES = re.compile(r"(.*_)?(head_dim|head_size|d_kv|d_head|dim_head|kv_channels|rotary_dim)")
_WIDTHS = re.compile(
    r"(.*_)?(hidden|intermediate|embedding|projection|proj|inner|ffn|pooler_output|classifier_proj)"
    r"_(size|sizes|dim|dims)|hidden_sizes?|(.*_)?(d_model|d_ff|d_inner|n_embd|n_inner|embd?_dims?)"
    r"|(.*_)?(hidden_size|intermediate_size|ffn_dim|mlp_dim|dim|dims|rank|filters|channels|width)"
    r"(_.*)?|(.*_)?(embed_dim|num_pos_feats|ffn_hidden_size|conv_dim|bottleneck)(_.*)?"
)
_NOT_WIDTHS = re.compile(
    r".*(input|kernel|num_channels|audio_channels|in_chans|vocab|state|conv_L|mel|freq|label).*"
    r"|max_.*|query_dim"
)
_EXPERTS = re.compile(r"(n|num|moe_num)_(local_|routed_)?experts")
_TOKEN = re.compile(r".*token_(id|index)s?|.*_id")
_NARROWEST = 32  # smaller numbers are no widths
_FEWEST_TOKENS = 1024
_LARGEST_IMAGE = 224
# A dense layer or none before the experts; an encoder's length, which fixes its input's.
_MOST = {"first_k_dense_replace": 1, "max_source_positions": 128}


@dataclass(frozen=True)
class _Factors:
    """What counts and sizes of heads are divided by; widths by both."""

    heads: int
    head_size: int

    @property
    def width(self) -> int:
        return self.heads * self.head_size


def make_tiny(config: Config) -> Config:
    """Write a configuration small: few layers, narrow ones, few tokens, small images.

    Ratios stay: heads to their keys and values, experts to groups, widths to each other.
    """
    return _remap_tokens(_tiny(config, _find_factors(list(_configs(config)))))


def make_shallow(config: Config) -> Config:
    """Write a configuration with few layers and tokens, but as wide as it was."""
    return _remap_tokens(_tiny(config, _Factors(1, 1)))


def keep_layers(config: Config, before: Config) -> Config:
    """Fit what is stored per layer to layer counts that differ from those `before`."""
    made = dict(config)
    counts = {
        old: config[key]
        for key, old in _layer_counts(before).items()
        if type(config.get(key)) is int and config[key] != old
    }
    for key, value in config.items():
        old = before.get(key)
        if isinstance(value, list) and isinstance(old, list) and len(value) == len(old) in counts:
            count = counts[len(value)]
            if count <= len(value):
                made[key] = value[:count]
            else:
                del made[key]  # the class works it out again
        elif _is_config(value) and _is_config(old):
            made[key] = keep_layers(dict(value), dict(before[key]))
        elif key == "per_layer_config" and value and counts:
            made[key] = {k: v for k, v in value.items() if int(k) < max(counts.values())}
    return made


def _layer_counts(config: Config) -> dict[str, int]:
    """List the layer counts of a configuration, but not the numbers of stages of several layers."""
    stages = {len(v) for k, v in config.items() if _is_layers(k) and isinstance(v, list | tuple)}
    return {k: v for k, v in config.items() if _is_layers(k) and type(v) is int and v not in stages}


def _is_layers(name: str) -> bool:
    return bool(LAYERS.fullmatch(name)) and not _STAGES.fullmatch(name)


def _is_config(value: Any) -> bool:
    return isinstance(value, Mapping) and "model_type" in value


def _configs(config: Config) -> Iterator[Config]:
    """List a configuration and those inside it."""
    yield config
    for value in config.values():
        if _is_config(value):
            yield from _configs(dict(value))


def _numbers(value: Any) -> list[int]:
    found = value if isinstance(value, list | tuple) else [value]
    return [v for v in found if type(v) is int] if all(type(v) is int for v in found) else []


def _find_factors(configs: list[Config]) -> _Factors:
    counts: list[int] = []
    sizes: list[int] = []
    widths: list[int] = []
    for config in configs:
        heads = {k: _numbers(v) for k, v in config.items() if _HEADS.fullmatch(k)}
        counts += [n for ns in heads.values() for n in ns if n > 1]
        for key, value in config.items():
            if _HEAD_SIZES.fullmatch(key):
                sizes += [n for n in _numbers(value) if n > 1]
            elif _is_width(key):
                widths += [n for n in _numbers(value) if n >= _NARROWEST]
        sizes += _implied_sizes(config, heads)
    few = _divisor(counts, lambda f: max(counts) // f >= 4 and min(counts) // f >= 2)
    if sizes:
        return _Factors(few, _divisor(sizes, lambda f: max(sizes) // f >= 16 and _even(sizes, f)))
    return _Factors(few, _divisor(widths, lambda f: min(widths) // (few * f) >= 16))


def _implied_sizes(config: Config, heads: Mapping[str, list[int]]) -> list[int]:
    """Work out the sizes of heads that are a width divided by a number of heads, by stage."""
    found = []
    for name in ("hidden_size", "d_model", "n_embd", "embed_dim", "dim", "hidden_sizes"):
        for key, counts in heads.items():
            if not re.search(r"key_value|kv|linear|index", key):
                pairs = zip(_numbers(config.get(name)), counts, strict=False)
                found += [w // n for w, n in pairs if n and w % n == 0 and w // n >= 8]
    return found


def _even(sizes: list[int], factor: int) -> bool:
    return all(size // factor % 2 == 0 for size in sizes if size % 2 == 0)


def _divisor(numbers: list[int], fits: Any) -> int:  # Any: a predicate of a factor
    """Find the largest common divisor that fits; 1 if none does."""
    common = math.gcd(*numbers)
    return max((f for f in range(2, common + 1) if common % f == 0 and fits(f)), default=1)


def _is_width(name: str) -> bool:
    return (
        bool(_WIDTHS.fullmatch(name))
        and not _NOT_WIDTHS.fullmatch(name)
        and not _HEAD_SIZES.fullmatch(name)
        and not _HEADS.fullmatch(name)
    )


def _tiny(config: Config, factors: _Factors) -> Config:
    count = _count_layers(config)
    made = {k: _scale(k, v, config, factors, count) for k, v in config.items()}
    return keep_layers(made, config)


def _count_layers(config: Config) -> int:
    """Count the first layers among which every kind of layer is: two at least."""
    kinds = config.get("layer_types") or config.get("layers_block_type") or []
    return max([2, *(kinds.index(kind) + 1 for kind in set(kinds))])


def _scale(key: str, value: Any, config: Config, factors: _Factors, layers: int) -> Any:
    if isinstance(value, Mapping):
        if _is_config(value):
            return _tiny(dict(value), factors)
        return {
            k: [n // factors.head_size for n in v] if k == "mrope_section" else v
            for k, v in value.items()
        }
    if isinstance(value, list | tuple):
        if value and _numbers(value):
            return _scale_list(key, list(value), config, factors, layers)
        return value
    if type(value) is not int:
        return value
    return _scale_number(key, value, config, factors, layers)


def _scale_list(
    key: str, value: list[int], config: Config, factors: _Factors, layers: int
) -> list[int]:
    depth = max(_layer_counts(config).values(), default=0)
    positions = re.search(r"(index|indexes|indices|idx|idxs|_layers|_blocks)$", key)
    if positions and not _is_layers(key) and value == sorted(set(value)) and value[-1] < depth:
        return sorted({v * layers // depth for v in value})
    if "image_size" in key:
        return [_shrink_image(v, max(value), config) for v in value]
    return [_scale_number(key, v, config, factors, layers) for v in value]


def _scale_number(key: str, value: int, config: Config, factors: _Factors, layers: int) -> int:
    if _is_layers(key):
        is_count = isinstance(config[key], list | tuple) or key in _layer_counts(config)
        return min(value, layers) if is_count else value
    if key in _MOST:
        return min(value, _MOST[key])
    if "vocab_size" in key:
        return min(value, _FEWEST_TOKENS)
    if "image_size" in key:
        return _shrink_image(value, value, config)
    if _EXPERTS.fullmatch(key):
        return _count_experts(value, config)
    return _scale_width(key, value, factors)


def _scale_width(key: str, value: int, factors: _Factors) -> int:
    for names, factor in ((_HEADS, factors.heads), (_HEAD_SIZES, factors.head_size)):
        if names.fullmatch(key):
            return max(value // factor, 1) if value > 0 else value
    if _is_width(key) and value >= _NARROWEST:
        exact, rest = divmod(value, factors.width)
        return exact if not rest else max(8, round(value / factors.width / 8) * 8)
    return value


def _shrink_image(size: int, longest: int, config: Config) -> int:
    """Halve a side until the longest is small, and cut it to whole patches."""
    made = size >> max(0, math.ceil(math.log2(max(longest, 1) / _LARGEST_IMAGE)))
    patch = config.get("patch_size")
    return made - made % patch if type(patch) is int and made >= patch > 0 < size - made else made


def _count_experts(count: int, config: Config) -> int:
    chosen = [v for k, v in config.items() if "per_tok" in k or "topk" in k or "top_k" in k]
    parts = [v for k, v in config.items() if k in ("n_group", "num_expert_group")]
    fewest = max([4, *(2 * v for v in (*chosen, *parts) if type(v) is int)])
    step = max([1, *(v for v in parts if type(v) is int)])
    return min(count, math.ceil(fewest / step) * step)


def _remap_tokens(config: Config) -> Config:
    """Move special tokens into the smaller vocabularies, distinct ones to distinct ones."""
    if not any(k == "vocab_size" for c in _configs(config) for k in c):
        return config
    moved: dict[int, int] = {}

    def move(value: int) -> int:
        if value < _FEWEST_TOKENS:
            return value
        return moved.setdefault(value, _FEWEST_TOKENS - 1 - len(moved))

    def walk(inner: Config) -> Config:
        made = dict(inner)
        for key, value in inner.items():
            if _TOKEN.fullmatch(key) and type(value) is int:
                made[key] = move(value)
            elif _TOKEN.fullmatch(key) and isinstance(value, list) and _numbers(value):
                made[key] = [move(v) for v in value]
            elif _is_config(value):
                made[key] = walk(dict(value))
        return made

    return walk(config)
