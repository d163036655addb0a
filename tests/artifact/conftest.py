"""One saved folder for all tests, and a copy for each that damages it."""

import shutil
from pathlib import Path

import pytest
import torch

from tests.artifact.folders import small_model, write


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("saved") / "out", small_model(), torch.zeros(1, 3, 8, 8))


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "out")
