"""Artifact folders as models."""

from pathlib import Path

import pytest
import torch

from shrink import models
from shrink.artifact.plan_file import plan_to_text
from shrink.core.errors import ArtifactError, InputError
from shrink.core.inputs import Inputs, describe
from shrink.core.plan import Plan
from shrink.models import folder
from tests.models.samples import net, shapes


def test_an_artifact_folder_brings_weights_and_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan({}, {}, inputs=describe(Inputs((torch.zeros(1, 3, 9, 9),))))
    (tmp_path / "plan.json").write_text(plan_to_text(plan))
    monkeypatch.setattr(folder, "load", lambda _: net())
    resolved = models.resolve(str(tmp_path))
    assert shapes(resolved) == [(1, 3, 9, 9)]
    assert resolved.weights_note == "from the artifact"
    with pytest.raises(InputError, match="has its own weights"):
        models.resolve(str(tmp_path), weights="random")


def test_a_damaged_artifact_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(ArtifactError):
        models.resolve(str(tmp_path))
