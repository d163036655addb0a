"""Factories: how they are called, and which are refused with which words."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from shrink import models
from shrink.core.errors import InputError
from tests.models.samples import shapes


def test_a_factory_in_a_file_is_called_with_its_neighbours_importable(file: Path) -> None:
    path = list(sys.path)
    resolved = models.resolve(f"{file}:with_inputs")
    assert shapes(resolved) == [(2, 3, 5, 5)]
    assert resolved.module[0].out_channels == 6
    assert resolved.weights_note == "from the factory (seed 0)"
    assert sys.path == path


def test_a_factory_without_inputs_needs_the_option(file: Path) -> None:
    with pytest.raises(InputError, match="no example inputs") as caught:
        models.resolve(f"{file}:build")
    assert "--input 1,3,224,224" in caught.value.fix
    assert shapes(models.resolve(f"{file}:build", input="1,3,9,9")) == [(1, 3, 9, 9)]
    assert shapes(models.resolve(f"{file}:build", inputs_required=False)) == []


def test_a_module_in_a_class_is_found(file: Path) -> None:
    assert isinstance(models.resolve(f"{file}:Space.ready", input="1,2").module, nn.Linear)


def test_the_factory_is_seeded(file: Path) -> None:
    first, again, other = (
        models.resolve(f"{file}:with_inputs", seed=seed).module[0].weight for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("attribute", "weights", "what"),
    [
        ("biuld", "auto", "near: build"),
        ("broken", "auto", "raised RuntimeError: no licence"),
        ("wrong", "auto", "of type int"),
        ("with_inputs", "pretrained", "brings its own weights"),
        ("with_inputs", "random", "brings its own weights"),
    ],
)
def test_a_bad_factory_is_named(file: Path, attribute: str, weights: str, what: str) -> None:
    with pytest.raises(InputError) as caught:
        models.resolve(f"{file}:{attribute}", weights=weights)
    assert what in caught.value.what
    assert caught.value.where == f"{file}:{attribute}"
    assert caught.value.fix


def test_a_file_without_factory_or_that_is_missing_is_named(file: Path) -> None:
    with pytest.raises(InputError) as caught:
        models.resolve(str(file))
    assert caught.value.fix == f"write {file}:build_model"
    with pytest.raises(InputError, match="no such file"):
        models.resolve("nowhere.py:build")


def test_a_file_that_cannot_be_imported_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import nothing_of_that_name\n")
    before = set(sys.modules)
    with pytest.raises(InputError, match="ModuleNotFoundError"):
        models.resolve(f"{tmp_path / 'bad.py'}:build")
    assert not [name for name in set(sys.modules) - before if name.startswith("_shrink_model")]


def test_a_package_in_the_working_directory_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pkg_in_cwd.py").write_text("from torch import nn\nbuild = nn.Identity\n")
    monkeypatch.chdir(tmp_path)
    assert isinstance(models.resolve("pkg_in_cwd:build", input="1,2").module, nn.Identity)
    with pytest.raises(InputError, match="importing no_such_package raised"):
        models.resolve("no_such_package:build")
