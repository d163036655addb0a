"""From a folder: the module, the weights, the plan, the report. Nothing in it is executed."""

from os import PathLike
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from shrink.artifact import strict_json
from shrink.artifact.manifest import (
    CONSTANTS,
    PLAN,
    PROGRAM,
    REPORT,
    WEIGHTS,
    check_folder,
)
from shrink.artifact.plan_file import read_plan
from shrink.artifact.program import Program
from shrink.artifact.reader import read_program
from shrink.core.errors import ArtifactError
from shrink.core.plan import Plan

MAX_REPORT_BYTES = 256 << 20


def load(path: str | PathLike[str]) -> Program:
    """Load a saved model as a module, on the CPU and in eval mode, without its class.

    Every file is compared with the manifest before any is parsed. The program is read as data:
    even one made to harm can only compute on tensors.

    Args:
        path: a folder that `save` wrote.

    Returns:
        A module that computes what the saved one did, with the same `state_dict` keys. It runs on
        the device it is moved to, but not in training mode.

    Raises:
        ArtifactError: the folder is missing, damaged, tampered with, or holds no program.
    """
    folder = Path(path)
    manifest = check_folder(folder)
    if manifest.no_program:
        raise ArtifactError(
            f"holds no program: {manifest.no_program}",
            where=str(folder),
            fix="smaller = shrink.apply(plan, model), and load model.safetensors into it",
        )
    graph = read_program(folder / PROGRAM)
    state = _read_tensors(folder / WEIGHTS)
    constants = _read_tensors(folder / CONSTANTS) if CONSTANTS in manifest.files else {}
    try:
        return Program(graph, state, constants)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ArtifactError(
            f"program and tensors do not fit: {error}",
            where=str(folder),
            fix="restore the folder from where it came, or compress the model again",
        ) from error


def load_weights(path: str | PathLike[str]) -> dict[str, Tensor]:
    """Load the state dict of a saved model, tied tensors under all their names.

    Raises:
        ArtifactError: the folder is missing, damaged or tampered with.
    """
    folder = Path(path)
    check_folder(folder)
    return _read_tensors(folder / WEIGHTS)


def load_plan(path: str | PathLike[str]) -> Plan:
    """Load the plan of a saved model.

    Raises:
        ArtifactError: the folder is missing, damaged or tampered with.
    """
    folder = Path(path)
    check_folder(folder)
    return read_plan(folder / PLAN)


def load_report(path: str | PathLike[str]) -> dict[str, Any]:  # Any: JSON values
    """Load the report of a saved model, as the JSON it is.

    Raises:
        ArtifactError: the folder is missing, damaged or tampered with.
    """
    folder = Path(path)
    check_folder(folder)
    return strict_json.read(folder / REPORT, limit=MAX_REPORT_BYTES)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            links: dict[str, str] = file.metadata() or {}
        # As safetensors.torch.save_model writes tied tensors: second name -> first name.
        aliases = {name: first for name, first in links.items() if name != "format"}
        return tensors | {name: tensors[first] for name, first in aliases.items()}
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ArtifactError(
            f"not a safetensors file: {error}",
            where=str(path),
            fix="restore the folder from where it came, or compress the model again",
        ) from error
