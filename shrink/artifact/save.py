"""To a folder, all or nothing."""

import secrets
import shutil
from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from shrink.artifact.export import export_model
from shrink.artifact.manifest import (
    CONSTANTS,
    MANIFEST,
    PLAN,
    PROGRAM,
    REPORT,
    REPORT_TEXT,
    WEIGHTS,
    check_folder,
    is_artifact,
    write_manifest,
)
from shrink.artifact.plan_file import plan_to_text
from shrink.artifact.reader import read_program
from shrink.core.errors import ArtifactError
from shrink.core.inputs import Inputs
from shrink.core.plan import Plan


def save(
    path: str | PathLike[str],
    *,
    model: nn.Module,
    plan: Plan,
    report_json: str,
    report_md: str,
    inputs: Inputs,
    force: bool = False,
) -> None:
    """Save a model, its plan and its report as a folder.

    The folder is complete or not there: it is written beside `path` and renamed. The model keeps
    its mode. A model that cannot be exported is saved without program; the manifest says why.

    Args:
        path: a folder that does not exist yet.
        inputs: example inputs; their shapes, but not their values, go into the program.
        force: replace `path` if it is an artifact folder.

    Raises:
        ArtifactError: `path` exists, or cannot be written; or the model's state is not tensors.
    """
    target = Path(path).absolute()
    check_target(target, force=force)
    token = secrets.token_hex(4)
    new = target.with_name(f".{target.name}.new-{token}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        new.mkdir()
        (new / PLAN).write_text(plan_to_text(plan), encoding="utf-8")
        (new / REPORT).write_text(report_json, encoding="utf-8")
        (new / REPORT_TEXT).write_text(report_md, encoding="utf-8")
        _write_model(new, model, inputs)
        _swap_in(new, target, old=target.with_name(f".{target.name}.old-{token}"))
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def check_target(path: str | PathLike[str], *, force: bool = False) -> None:
    """Refuse a place where `save` would not write, before any work is done.

    Raises:
        ArtifactError: `path` exists, and `force` is not given or it is not an artifact folder.
    """
    target = Path(path)
    if not target.exists() and not target.is_symlink():
        return
    if not force:
        raise ArtifactError(
            "exists already", where=str(target), fix="choose another folder, or pass --force"
        )
    if target.is_symlink() or not is_artifact(target):
        raise ArtifactError(
            "exists and is not an artifact folder, so it is not replaced",
            where=str(target),
            fix="choose another folder, or remove it yourself",
        )


def replace_files(path: str | PathLike[str], texts: Mapping[str, str | bytes]) -> None:
    """Add or replace files of an artifact folder, such as reports made anew, and the manifest.

    Args:
        texts: content by file name; text is written as UTF-8.

    Raises:
        ArtifactError: the folder is damaged, or cannot be written.
    """
    folder = Path(path)
    manifest = check_folder(folder)
    try:
        for name, text in texts.items():
            data = text.encode() if isinstance(text, str) else text
            (folder / name).write_bytes(data)
        write_manifest(
            folder,
            list(dict.fromkeys([*manifest.files, *texts])),
            batch=manifest.batch,
            no_program=manifest.no_program,
        )
    except OSError as error:
        raise _unwritable(folder, error) from error


def _write_model(folder: Path, model: nn.Module, inputs: Inputs) -> None:
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise ArtifactError(
                f"the state dict holds a {type(value).__name__}, only tensors can be saved",
                where=name,
                fix="keep such state in buffers",
            )
    try:
        safetensors.torch.save_model(model, str(folder / WEIGHTS), metadata={"format": "pt"})
        shutil.copymode(folder / PLAN, folder / WEIGHTS)  # safetensors writes for the owner alone
    except (SafetensorError, RuntimeError) as error:
        raise ArtifactError(
            f"cannot be saved as safetensors: {error}",
            where=WEIGHTS,
            fix="give tensors that overlap in memory their own copies",
        ) from error
    batch = reason = ""
    try:
        constants, batch = export_model(model, inputs, folder / PROGRAM)
        read_program(folder / PROGRAM)
        if constants:
            # Cloned: constants may be views of each other, which safetensors refuses.
            copies = {name: t.detach().clone().contiguous() for name, t in constants.items()}
            safetensors.torch.save_file(copies, folder / CONSTANTS, metadata={"format": "pt"})
    except Exception as error:  # noqa: BLE001 - export fails in many types; the reason is recorded
        (folder / PROGRAM).unlink(missing_ok=True)
        batch, reason = "", f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    names = sorted(file.name for file in folder.iterdir() if file.name != MANIFEST)
    write_manifest(folder, names, batch=batch, no_program=reason)


def _swap_in(new: Path, target: Path, *, old: Path) -> None:
    if not target.exists():
        new.rename(target)
        return
    target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _unwritable(path: Path, error: OSError) -> ArtifactError:
    return ArtifactError(
        f"cannot be written: {error.strerror or error}",
        where=str(path),
        fix="choose a folder that you may write to, with space enough",
    )
