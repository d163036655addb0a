"""Pretrained weights: had, not had, and how the note tells which."""

import importlib
import io
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch

from shrink import models
from shrink.core.errors import InputError
from shrink.models import published


def test_auto_weights_fall_back_with_a_loud_warning() -> None:
    resolved = models.resolve("squeezenet1_1")
    assert resolved.weights_note == "random (seed 0)"
    assert len(resolved.warnings) == 1
    assert "RANDOM" in resolved.warnings[0]
    assert "is not to be asked" in resolved.warnings[0]


def test_pretrained_weights_that_cannot_be_had_are_an_error() -> None:
    with pytest.raises(InputError, match="cannot be had") as caught:
        models.resolve("squeezenet1_1", weights="pretrained")
    assert caught.value.where == "SqueezeNet1_1_Weights.IMAGENET1K_V1"
    assert "--weights random" in caught.value.fix
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("weights", ["auto", "pretrained"])
def test_pretrained_weights_come_from_the_cache(weights: str) -> None:
    entry = importlib.import_module("torchvision.models").SqueezeNet1_1_Weights.DEFAULT
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    folder.mkdir(parents=True)
    expected = models.resolve("squeezenet1_1", weights="random", seed=5).module.state_dict()
    torch.save(expected, folder / Path(entry.url).name)
    resolved = models.resolve("squeezenet1_1", weights=weights)
    found = resolved.module.state_dict()
    assert all(torch.equal(found[k], expected[k]) for k in expected)
    assert resolved.weights_note == "pretrained (SqueezeNet1_1_Weights.IMAGENET1K_V1)"
    assert resolved.warnings == ()


def test_a_damaged_cache_is_no_crash() -> None:
    entry = importlib.import_module("torchvision.models").SqueezeNet1_1_Weights.DEFAULT
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    folder.mkdir(parents=True)
    (folder / Path(entry.url).name).write_bytes(b"not weights")
    assert "RANDOM" in models.resolve("squeezenet1_1").warnings[0]


def test_a_download_is_checked_against_the_digest_in_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(published, "probe", lambda _: None)
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *a, **_: asked.append(a))
    published.download("https://example.org/models/net-0123456789.pth")
    ((url, destination, digest),) = asked
    assert url == "https://example.org/models/net-0123456789.pth"
    assert Path(destination).name == "net-0123456789.pth"
    assert digest == "0123456789"


def test_an_unanswered_question_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(published, "PROBE_SECONDS", 0.05)
    block = threading.Event()

    def hang(*_: object, **__: object) -> io.BytesIO:
        block.wait(5)
        return io.BytesIO()

    monkeypatch.setattr(urllib.request, "urlopen", hang)
    with pytest.raises(OSError, match=r"example.org does not answer within 0.05 s"):
        published.probe("https://example.org/net.pth")
    block.set()


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        ("random (seed 7)", ("random", 7)),
        ("pretrained (ResNet50_Weights.IMAGENET1K_V2)", ("pretrained", 0)),
        ("from the factory (seed 3)", ("auto", 3)),
        ("from the artifact", ("auto", 0)),
        ("file runs/a b.pt [model_ema]", ("runs/a b.pt", 0)),
        ("file best.safetensors", ("best.safetensors", 0)),
        ("", ("auto", 0)),
    ],
)
def test_a_note_can_be_repeated(note: str, expected: tuple[str, int]) -> None:
    assert models.recall_weights(note) == expected
