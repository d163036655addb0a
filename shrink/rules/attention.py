"""Fused attention."""

import math

import torch

from shrink.rules import labels
from shrink.rules.labels import Value
from shrink.rules.linear import contract
from shrink.rules.registry import couples, resizes
from shrink.rules.site import Call, Resized, Site

aten = torch.ops.aten


@couples(aten.scaled_dot_product_attention.default)
def couple_attention(site: Site) -> Value:
    """Tie query and key dims, heads of all three, and give the result the value's dims.

    Shapes: query (*B, L, E); key (*B, S, E); value (*B, S, E_v); result (*B, L, E_v).
    Source: torch.nn.functional.scaled_dot_product_attention.
    """
    weights, value = _attend(site, site["attn_mask"])
    because = site.because("meets a dimension of fixed size")
    return labels.reshape(site.store, contract(site, weights, value), site.shape, because)


_FUSED = (
    aten._scaled_dot_product_flash_attention.default,
    aten._scaled_dot_product_flash_attention_for_cpu.default,
    aten._scaled_dot_product_efficient_attention.default,
    aten._scaled_dot_product_cudnn_attention.default,
)


@couples(*_FUSED)
def couple_fused_attention(site: Site) -> list[Value]:
    """Tie heads as `scaled_dot_product_attention` does; their dims are what the kernel was for.

    Shapes: as there, and the log of sums (B, H, L or more) and states of the kernel's chance.
    Source: torch.nn.attention.SDPBackend.
    """
    for name in ("query", "key", "value"):
        site.freeze(site[name], [-1], "head dims of a fused kernel")
    mask = site.arguments.get("attn_mask", site.arguments.get("attn_bias"))
    weights, value = _attend(site, mask)
    site.freeze(weights, [-2], "position of a fused kernel")
    result, sums = contract(site, weights, value), labels.unlabelled(site.shapes[1])
    for dim in range(2):
        sums.labels[dim] = labels.of(site.store, weights, dim)
    return [result, sums, *(labels.unlabelled(shape) for shape in site.shapes[2:])]


def _attend(site: Site, mask: Value | None) -> tuple[Value, Value]:
    """Tie queries, keys and mask; return the weights and what they weigh, by heads alike."""
    store, because = site.store, site.because("meets a dimension of fixed size")
    query, key, value = site["query"], site["key"], site["value"]
    grouped = site.arguments.get("enable_gqa") and query.shape[-3] != key.shape[-3]
    if grouped:  # every key head serves a run of query heads
        query = labels.reshape(store, query, _grouped(query, key), because)
        key = labels.insert_dim(store, key, key.rank - 2)
        value = labels.insert_dim(store, value, value.rank - 2)
    order = [*range(key.rank - 2), key.rank - 1, key.rank - 2]
    weights = contract(site, query, labels.permute(store, key, order))
    if mask is not None:
        if grouped and mask.rank > 2:
            mask = _grouped_mask(store, mask, key.shape[-4], because)
        weights = labels.broadcast(store, [weights, mask], weights.shape, because)
    site.freeze(weights, [weights.rank - 1], "position attended to")
    return weights, value


def _grouped_mask(store: labels.Store, mask: Value, shared: int, because: labels.Reason) -> Value:
    """View a mask's heads as the query's are."""
    heads = mask.shape[-3]
    cut = (1, 1) if heads == 1 else (shared, heads // shared)
    return labels.reshape(store, mask, (*mask.shape[:-3], *cut, *mask.shape[-2:]), because)


def _grouped(query: Value, key: Value) -> tuple[int, ...]:
    heads, shared = query.shape[-3], key.shape[-3]
    return (*query.shape[:-3], shared, heads // shared, *query.shape[-2:])


@resizes(aten.scaled_dot_product_attention.default)
def resize_attention(call: Call) -> Resized:
    """Keep the default scale 1 / sqrt(E) of the original width."""
    before, after = call.inputs_before["query"][-1], call.inputs_after["query"][-1]
    if call["scale"] is None and before != after:
        return call.replace(scale=1.0 / math.sqrt(before))
    return call.replace()
