"""timm's models, and a missing timm."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from shrink import models
from shrink.core.errors import InputError
from shrink.models import timm
from tests.models.samples import shapes


def test_timm_is_one_clear_line_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match="timm is not installed") as caught:
        models.resolve("timm:resnet18")
    assert caught.value.fix == "pip install 'shrink[timm]'"


def test_timm_names_resolve() -> None:
    pytest.importorskip("timm")
    resolved = models.resolve("timm:resnet10t")
    assert shapes(resolved) == [(1, 3, 176, 176)]
    assert "RANDOM" in resolved.warnings[0]
    assert "timm:resnet10t" in models.list_models("timm:resnet1*")
    with pytest.raises(InputError, match=r"near: .*resnet18"):
        models.resolve("timm:resnet-18")
    with pytest.raises(InputError, match="tag") as caught:
        models.resolve("timm:resnet18.nope")
    assert caught.value.fix == "write timm:resnet18"


def test_timm_weights_come_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm")
    path = tmp_path / "cached.safetensors"
    expected = models.resolve("timm:resnet10t", weights="random", seed=5).module.state_dict()
    save_file(expected, path)
    monkeypatch.setattr(timm, "_cached_by_hub", lambda _: str(path))
    resolved = models.resolve("timm:resnet10t", weights="pretrained")
    found = resolved.module.state_dict()
    assert all(torch.equal(found[k], expected[k]) for k in expected)
    assert resolved.weights_note == "pretrained (resnet10t.c3_in1k)"
