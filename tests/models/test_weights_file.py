"""Weights from files: what is understood, and what is refused."""

import subprocess
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from shrink import models
from shrink.core.errors import InputError
from tests.models.samples import net, state


@pytest.mark.parametrize(
    ("wrap", "note"),
    [
        (lambda s: s, ""),
        (OrderedDict, ""),
        (lambda s: {"state_dict": s, "epoch": 3}, " [state_dict]"),
        (lambda s: {"model": s}, " [model]"),
        (lambda s: {f"module.{k}": v for k, v in s.items()}, ""),
        (lambda s: {f"module._orig_mod.{k}": v for k, v in s.items()}, ""),
        (
            lambda s: {
                "model": {k: v * 0 for k, v in s.items()},
                "model_ema": {"n_averaged": torch.tensor(9)}
                | {f"module.{k}": v for k, v in s.items()},
            },
            " [model_ema]",
        ),
    ],
    ids=["plain", "ordered", "state_dict", "model", "ddp", "ddp-compiled", "ema"],
)
def test_wrapped_state_dicts_are_understood(
    file: Path, tmp_path: Path, wrap: Any, note: str
) -> None:
    path = tmp_path / "best.pt"
    torch.save(wrap(state()), path)
    resolved = models.resolve(f"{file}:with_inputs", weights=str(path))
    assert all((v == 0.5).all() for v in resolved.module.state_dict().values())
    assert resolved.weights_note == f"file {path}{note}"
    assert resolved.warnings == ()


def test_safetensors_are_read(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    save_file(state(), path)
    resolved = models.resolve(f"{file}:with_inputs", weights=str(path))
    assert (resolved.module[0].weight == 0.5).all()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({}, "holds no state dict"),
        ([1, 2], "holds no state dict"),
        ({"0.weight": torch.zeros(6, 3, 3, 3)}, "1 missing (0.bias)"),
        ({**state(), "9.weight": torch.zeros(1)}, "1 unexpected (9.weight)"),
        ({**state(), "0.bias": torch.zeros(7)}, "(0.bias (7,), not (6,))"),
        ({f"{i}.w": torch.zeros(1) for i in range(5)}, "5 unexpected (0.w; 1.w; 2.w; ...)"),
        ({"0.bias": float("nan")}, "holds no state dict"),
    ],
    ids=["empty", "list", "missing", "unexpected", "shape", "many", "numbers"],
)
def test_the_weights_of_another_model_are_refused(
    file: Path, tmp_path: Path, content: Any, what: str
) -> None:
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(InputError) as caught:
        models.resolve(f"{file}:with_inputs", weights=str(path))
    assert what in caught.value.what
    assert caught.value.where == str(path)
    assert caught.value.fix


@pytest.mark.parametrize("name", ["broken.pt", "broken.safetensors", "pickled.pt"])
def test_files_that_hold_no_weights_are_refused(file: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\x80\x04 nonsense")
    if name == "pickled.pt":
        torch.save({"hook": subprocess.Popen}, path)
    with pytest.raises(InputError, match="cannot be read as weights") as caught:
        models.resolve(f"{file}:with_inputs", weights=str(path))
    assert caught.value.where == str(path)


def test_a_missing_weights_file_is_named() -> None:
    with pytest.raises(InputError, match=r"no weights file 'best.pt'"):
        models.resolve("squeezenet1_1", weights="best.pt")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused_by_name(value: float) -> None:
    module = net()
    with torch.no_grad():
        module[0].bias[2] = value
    with pytest.raises(InputError, match=r"NaN|infinity") as caught:
        models.check_finite(module)
    assert caught.value.where == "0.bias"


def test_a_mask_of_minus_infinity_is_allowed_but_nan_is_not() -> None:
    module = net()
    module.register_buffer("mask", torch.full((2, 2), float("-inf")))
    models.check_finite(module)
    module.mask[0, 0] = float("nan")
    with pytest.raises(InputError, match="NaN") as caught:
        models.check_finite(module)
    assert caught.value.where == "mask"
