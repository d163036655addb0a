"""Small forms of configurations: what shrinks, and what keeps its ratio."""

from typing import Any

import pytest

from shrink.models.tiny_config import keep_layers, make_shallow, make_tiny

DECODER = {
    "model_type": "decoder",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128256,
    "bos_token_id": 128000,
    "eos_token_id": [128001, 128009],
    "pad_token_id": None,
    "max_position_embeddings": 8192,
    "rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24]},
    "hidden_act": "silu",
    "tie_word_embeddings": False,
}


def test_a_decoder_keeps_its_ratios() -> None:
    tiny = make_tiny(DECODER)
    assert (tiny["num_hidden_layers"], tiny["num_attention_heads"]) == (2, 8)
    assert tiny["num_key_value_heads"] == 2
    assert tiny["head_dim"] == 16
    assert tiny["hidden_size"] == tiny["num_attention_heads"] * tiny["head_dim"]
    assert tiny["intermediate_size"] * 2 == tiny["hidden_size"] * 7
    assert sum(tiny["rope_parameters"]["mrope_section"]) * 2 == tiny["head_dim"]
    kept = ("max_position_embeddings", "hidden_act", "tie_word_embeddings", "pad_token_id")
    assert all(tiny[k] == DECODER[k] for k in kept)


def test_special_tokens_stay_distinct_inside_the_smaller_vocabulary() -> None:
    tiny = make_tiny(DECODER)
    ids = [tiny["bos_token_id"], *tiny["eos_token_id"]]
    assert tiny["vocab_size"] == 1024
    assert len(set(ids)) == 3
    assert all(0 <= i < 1024 for i in ids)


def test_heads_that_no_number_divides_stay_and_get_narrower() -> None:
    swin = {
        "model_type": "swin",
        "embed_dim": 96,
        "depths": [2, 2, 6, 2],
        "num_layers": 4,
        "num_heads": [3, 6, 12, 24],
        "window_size": 7,
        "image_size": 224,
        "hidden_size": 768,
    }
    tiny = make_tiny(swin)
    assert tiny["num_heads"] == [3, 6, 12, 24]
    assert tiny["depths"] == [2, 2, 2, 2]
    assert tiny["num_layers"] == 4  # stages
    assert tiny["embed_dim"] * 8 == tiny["hidden_size"] < swin["hidden_size"]
    assert tiny["window_size"] == 7


def test_every_kind_of_layer_stays() -> None:
    kinds = ["sliding"] * 5 + ["full"]
    config = {**DECODER, "num_hidden_layers": 12, "layer_types": kinds * 2}
    tiny = make_tiny(config)
    assert tiny["num_hidden_layers"] == 6
    assert tiny["layer_types"] == kinds


def test_experts_stay_more_than_are_chosen_in_every_group() -> None:
    config = {
        **DECODER,
        "n_routed_experts": 256,
        "num_experts_per_tok": 8,
        "n_group": 8,
        "topk_group": 4,
        "moe_intermediate_size": 2048,
        "first_k_dense_replace": 3,
    }
    tiny = make_tiny(config)
    assert tiny["n_routed_experts"] == 16
    assert (tiny["num_experts_per_tok"], tiny["n_group"], tiny["topk_group"]) == (8, 8, 4)
    assert tiny["first_k_dense_replace"] == 1


def test_widths_that_are_equal_stay_equal_across_inner_configurations() -> None:
    vision = {
        "model_type": "vision",
        "hidden_size": 1024,
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "image_size": 1024,
        "patch_size": 16,
        "num_channels": 3,
    }
    text = {**DECODER, "encoder_hidden_size": 1024, "image_token_id": 128100}
    config = {"model_type": "both", "vision_config": vision, "text_config": text}
    tiny = make_tiny({**config, "projection_dim": 1024, "image_token_id": 128100})
    widths = (tiny["vision_config"]["hidden_size"], tiny["text_config"]["encoder_hidden_size"])
    assert len({*widths, tiny["projection_dim"]}) == 1
    assert widths[0] < 1024
    assert tiny["image_token_id"] == tiny["text_config"]["image_token_id"] < 1024
    assert tiny["vision_config"]["image_size"] == 128
    assert tiny["vision_config"]["num_channels"] == 3


def test_positions_of_layers_follow_their_count() -> None:
    config = {**DECODER, "global_attn_indexes": [7, 15, 23, 31], "no_rope_layers": [1, 1, 1, 0] * 8}
    tiny = make_tiny(config)
    assert tiny["global_attn_indexes"] == [0, 1]
    assert tiny["no_rope_layers"] == [1, 1]


def test_a_shallow_form_is_as_wide_as_before() -> None:
    shallow = make_shallow(DECODER)
    changed = {k for k, v in shallow.items() if v != DECODER[k]}
    assert changed == {"num_hidden_layers", "vocab_size", "bos_token_id", "eos_token_id"}


@pytest.mark.parametrize(("layers", "expected"), [(2, ["a", "b"]), (3, ["a", "b", "a"]), (5, None)])
def test_lists_by_layer_fit_an_overridden_count(layers: int, expected: Any) -> None:
    before = {"num_hidden_layers": 4, "layer_types": ["a", "b", "a", "b"], "other": [1, 2]}
    made = keep_layers({**before, "num_hidden_layers": layers}, before)
    assert made.get("layer_types") == expected
    assert made["other"] == [1, 2]


@pytest.mark.parametrize(
    ("size", "expected"),
    [(224, 224), (1024, 128), ([512, 864], [128, 208]), (600, 144)],
)
def test_large_images_shrink_to_whole_patches(size: Any, expected: Any) -> None:
    config = {"model_type": "vision", "image_size": size, "patch_size": 16}
    assert make_tiny(config)["image_size"] == expected


def test_the_argument_is_left_alone() -> None:
    config = {**DECODER, "text_config": dict(DECODER)}
    make_tiny(config)
    assert config == {**DECODER, "text_config": DECODER}
