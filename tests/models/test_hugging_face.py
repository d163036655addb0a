"""Models of transformers: names, sizes, folders, and what is refused with which words."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from shrink import models
from shrink.core.errors import InputError


@pytest.fixture
def transformers() -> ModuleType:
    return pytest.importorskip("transformers")  # type: ignore[no-any-return]


@pytest.fixture
def folder(transformers: ModuleType, tmp_path: Path) -> Path:
    assert transformers
    path = tmp_path / "checkpoint"
    resolved = models.resolve("hf:BertForMaskedLM:tiny", weights="random", seed=5)
    module: Any = resolved.module
    module.save_pretrained(path)
    return path


def shapes(resolved: models.ResolvedModel) -> dict[str, tuple[int, ...]]:
    return {k: tuple(v.shape) for k, v in resolved.inputs.kwargs.items()}


def test_transformers_is_one_clear_line_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match="transformers is not installed") as caught:
        models.resolve("hf:bert")
    assert caught.value.fix == "pip install 'shrink[hf]'"
    with pytest.raises(InputError, match="transformers is not installed"):
        models.list_models("hf:*")


@pytest.mark.usefixtures("transformers")
@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("bert", "BertModel", {"input_ids": (1, 64)}),
        ("BertForSequenceClassification", "BertForSequenceClassification", {"input_ids": (1, 64)}),
        ("LlamaForCausalLM", "LlamaForCausalLM", {"input_ids": (1, 64)}),
        ("vit", "ViTModel", {"pixel_values": (1, 3, 224, 224)}),
        ("convnext", "ConvNextModel", {"pixel_values": (1, 3, 224, 224)}),
        ("t5", "T5Model", {"input_ids": (1, 64), "decoder_input_ids": (1, 16)}),
        (
            "whisper",
            "WhisperModel",
            {"input_features": (1, 80, 256), "decoder_input_ids": (1, 16)},
        ),
        ("hubert", "HubertModel", {"input_values": (1, 16000)}),
        ("siglip", "SiglipModel", {"input_ids": (1, 64), "pixel_values": (1, 3, 224, 224)}),
    ],
)
def test_types_and_classes_resolve_with_their_inputs(
    name: str, kind: str, expected: dict[str, tuple[int, ...]]
) -> None:
    state = torch.random.get_rng_state()
    resolved = models.resolve(f"hf:{name}:tiny", weights="random")
    assert type(resolved.module).__name__ == kind
    assert shapes(resolved) == expected
    assert not resolved.module.training
    assert sum(p.numel() for p in resolved.module.parameters()) < 3e6
    assert resolved.weights_note == "random (seed 0)"
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.no_grad():
        output = resolved.module(**resolved.inputs.kwargs)
    assert "past_key_values" not in output


@pytest.mark.usefixtures("transformers")
def test_random_weights_follow_the_seed_and_say_so_loudly() -> None:
    first, again, other = (
        models.resolve("hf:bert:tiny", seed=seed).module.state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not all(torch.equal(first[k], other[k]) for k in first)
    (warning,) = models.resolve("hf:bert:tiny").warnings
    assert "RANDOM" in warning
    assert "hf:./FOLDER" in warning


@pytest.mark.usefixtures("transformers")
def test_pretrained_weights_of_a_type_are_refused() -> None:
    with pytest.raises(InputError, match="names no checkpoint") as caught:
        models.resolve("hf:bert:tiny", weights="pretrained")
    assert caught.value.where == "hf:bert:tiny"
    assert "--weights random" in caught.value.fix


@pytest.mark.usefixtures("transformers")
def test_overrides_change_the_configuration_inside_too() -> None:
    name = "hf:clip:tiny?vision_config.num_hidden_layers=1,text_config.hidden_act=relu"
    config: Any = models.resolve(name, weights="random").module.config
    assert config.vision_config.num_hidden_layers == 1
    assert config.text_config.num_hidden_layers == 2
    assert config.text_config.hidden_act == "relu"
    name = "hf:convnext?depths=[1,1,1,1],hidden_sizes=[8,16,24,32]"
    stages: Any = models.resolve(name, weights="random").module.config
    assert (stages.depths, stages.hidden_sizes) == ([1, 1, 1, 1], [8, 16, 24, 32])


@pytest.mark.usefixtures("transformers")
@pytest.mark.parametrize(
    ("name", "what", "fix"),
    [
        ("hf:bert?hiden_size=3", "no 'hiden_size'; near: hidden_size", "hidden_size"),
        ("hf:bert?hidden_size", "cannot read 'hidden_size'", "num_hidden_layers=2"),
        ("hf:bert:tiny?hidden_size=9", "cannot be built", "override"),
        ("hf:bert:tiny?hidden_size=wide", "is refused", "change"),
        ("hf:llama?vocab_size=100000000000", "this machine has", "hf:llama:tiny"),
        ("hf:brt", "near: hf:bert", "shrink models 'hf:*'"),
        ("hf:./nowhere", "no config.json", "save_pretrained"),
    ],
)
def test_what_cannot_be_built_is_refused_with_a_remedy(name: str, what: str, fix: str) -> None:
    with pytest.raises(InputError) as caught:
        models.resolve(name, weights="random")
    assert what in caught.value.what
    assert fix in caught.value.fix
    assert caught.value.exit_code == 2


def test_a_folder_gives_its_weights(folder: Path) -> None:
    resolved = models.resolve(f"hf:{folder}")
    assert type(resolved.module).__name__ == "BertForMaskedLM"
    saved = load_file(folder / "model.safetensors")
    found = resolved.module.state_dict()
    assert all(torch.equal(found[k], v) for k, v in saved.items())
    assert resolved.weights_note.startswith("pretrained")
    assert resolved.warnings == ()
    assert shapes(resolved) == {"input_ids": (1, 64)}
    assert models.resolve(f"hf:{folder}", weights="random").weights_note == "random (seed 0)"


def test_a_folder_without_weights_is_random_and_says_so(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    resolved = models.resolve(f"hf:{folder}")
    assert "holds no safetensors" in resolved.warnings[0]
    with pytest.raises(InputError, match="holds no safetensors"):
        models.resolve(f"hf:{folder}", weights="pretrained")


def test_a_folder_with_the_wrong_weights_is_refused(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    name = "bert.encoder.layer.0.output.dense.weight"
    save_file({k: v for k, v in state.items() if k != name}, folder / "model.safetensors")
    with pytest.raises(InputError, match=rf"1 weights are missing \({name}\)") as caught:
        models.resolve(f"hf:{folder}")
    assert "architectures" in caught.value.fix
    (folder / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="cannot be loaded"):
        models.resolve(f"hf:{folder}")


@pytest.mark.usefixtures("transformers")
def test_the_code_of_a_folder_is_never_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    code = f"from pathlib import Path\nPath({str(ran)!r}).touch()\n"
    (tmp_path / "theirs.py").write_text(code)
    config = {
        "model_type": "their_own",
        "auto_map": {"AutoConfig": "theirs.Config", "AutoModel": "theirs.Model"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="without code of its own") as caught:
        models.resolve(f"hf:{tmp_path}")
    assert not ran.exists()
    assert "factory" in caught.value.fix


def test_a_configuration_without_a_default_form_is_refused(
    transformers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def demand(self: object, size: int) -> None: ...

    monkeypatch.setattr(transformers.BertConfig, "__init__", demand)
    with pytest.raises(InputError, match="no default form") as caught:
        models.resolve("hf:bert")
    assert "hf:./folder" in caught.value.fix


@pytest.mark.usefixtures("transformers")
def test_types_and_classes_are_listed() -> None:
    found = models.list_models("hf:bert")
    assert "hf:bert" in found
    assert "hf:distilbert" in found
    assert models.list_models("hf:bert-gen*") == ["hf:bert-generation"]
    assert "hf:BertForMaskedLM" in models.list_models("hf:Bert*")
    assert len(models.list_models("hf:*")) > 1000
    assert not any(":" in name for name in models.list_models("bert"))
