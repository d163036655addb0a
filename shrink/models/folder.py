"""Models in an artifact folder."""

from pathlib import Path

from shrink.artifact.load import load
from shrink.artifact.manifest import PLAN
from shrink.artifact.plan_file import read_plan
from shrink.core.errors import InputError
from shrink.core.inputs import make_inputs
from shrink.models.source import Built


def build_artifact(folder: Path, weights: str, seed: int) -> Built:
    """Load an artifact folder with inputs like those it was made on."""
    if weights != "auto":
        raise InputError(
            "an artifact folder has its own weights", where=str(folder), fix="leave --weights out"
        )
    inputs = make_inputs(read_plan(folder / PLAN).inputs, seed=seed)
    return Built(load(folder), inputs, "from the artifact")
