"""Example inputs from the names of arguments and a configuration."""

from typing import Any

import pytest
import torch
from torch import nn

from shrink.core.inputs import make_inputs
from shrink.models.forward_inputs import propose_inputs


def model(*names: str, main: str = "", dummies: Any = None) -> nn.Module:
    scope: dict[str, Any] = {}
    exec(f"def forward(self, {', '.join(names)}): ...", scope)  # noqa: S102
    kind = type("Model", (nn.Module,), {"forward": scope["forward"]})
    made: nn.Module = kind()
    made.main_input_name = main
    made.dummy_inputs = dummies
    return made


def first(config: dict[str, Any], *names: str) -> dict[str, Any]:
    kwargs = next(propose_inputs(model(*names), config))["kwargs"]
    return {name: entry["tensor"]["shape"] for name, entry in kwargs.items()}


def test_a_text_has_tokens_but_no_special_ones() -> None:
    config = {"vocab_size": 100, "bos_token_id": 60, "pad_token_id": 0, "eos_token_id": [1, 99]}
    (proposal,) = propose_inputs(model("input_ids=None", "attention_mask=None"), config)
    assert list(proposal["kwargs"]) == ["input_ids"]
    ids = make_inputs(proposal).kwargs["input_ids"]
    assert (ids.shape, ids.dtype) == ((1, 64), torch.int64)
    assert ids.min() >= 2
    assert ids.max() <= 59


@pytest.mark.parametrize(
    ("config", "names", "expected"),
    [
        ({"max_position_embeddings": 40}, ["input_ids"], {"input_ids": [1, 40]}),
        (
            {},
            ["input_ids", "decoder_input_ids=None"],
            {"input_ids": [1, 64], "decoder_input_ids": [1, 16]},
        ),
        ({"image_size": 32, "num_channels": 1}, ["pixel_values"], {"pixel_values": [1, 1, 32, 32]}),
        ({"image_size": [32, 48]}, ["pixel_values"], {"pixel_values": [1, 3, 32, 48]}),
        (
            {"image_size": {"height": 8, "width": 9}},
            ["pixel_values"],
            {"pixel_values": [1, 3, 8, 9]},
        ),
        ({}, ["pixel_values"], {"pixel_values": [1, 3, 224, 224]}),
        (
            {"image_size": 32, "num_frames": 4},
            ["pixel_values"],
            {"pixel_values": [1, 4, 3, 32, 32]},
        ),
        ({"conv_stride": [5, 2, 2]}, ["input_values"], {"input_values": [1, 1000]}),
        (
            {"num_mel_bins": 16, "max_length": 20},
            ["input_values"],
            {"input_values": [1, 20, 16]},
        ),
        (
            {"num_mel_bins": 16, "max_source_positions": 30},
            ["input_features", "decoder_input_ids=None"],
            {"input_features": [1, 16, 60], "decoder_input_ids": [1, 16]},
        ),
    ],
    ids=[
        "short text",
        "encoder-decoder",
        "grey image",
        "wide image",
        "image by height",
        "image",
        "clip",
        "wave",
        "spectrogram",
        "speech",
    ],
)
def test_shapes_follow_the_configuration(
    config: dict[str, Any], names: list[str], expected: dict[str, list[int]]
) -> None:
    assert first(config, *names) == expected


def test_each_modality_asks_its_own_inner_configuration_first() -> None:
    config = {
        "text_config": {"model_type": "t", "vocab_size": 50, "image_size": 7},
        "vision_config": {"model_type": "v", "image_size": 16, "num_channels": 3},
    }
    assert first(config, "input_ids=None", "pixel_values=None") == {
        "input_ids": [1, 64],
        "pixel_values": [1, 3, 16, 16],
    }


def test_other_layouts_come_next_then_the_least_then_the_models_own() -> None:
    dummies = {"input_ids": torch.tensor([[7, 6, 0]])}
    net = model("input_ids=None", "pixel_values=None", main="input_ids", dummies=dummies)
    proposals = [p["kwargs"] for p in propose_inputs(net, {"image_size": 8})]
    assert [len(p["pixel_values"]["tensor"]["shape"]) for p in proposals[:2]] == [4, 5]
    assert list(proposals[2]) == ["input_ids"]
    assert proposals[3]["input_ids"]["tensor"] == {
        "shape": [1, 3],
        "dtype": "int64",
        "range": [0, 7],
    }
    assert len(proposals) == 4


def test_an_argument_that_nobody_knows_has_no_proposal() -> None:
    assert list(propose_inputs(model("input_ids", "secret"), {})) == []
