"""What a folder holds, with sizes and digests: written last, checked before anything is parsed."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from shrink.artifact import strict_json
from shrink.core.errors import ArtifactError

FORMAT = "shrink.artifact"
VERSION = 1

MANIFEST = "manifest.json"
PLAN = "plan.json"
REPORT = "report.json"
REPORT_TEXT = "report.md"
WEIGHTS = "model.safetensors"
CONSTANTS = "constants.safetensors"
PROGRAM = "program.pt2"

MAX_BYTES = 1 << 20

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_FIX = "restore the folder from where it came, or compress the model again"


@dataclass(frozen=True)
class Entry:
    """One file: its size in bytes and its SHA-256 in hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The files of a folder.

    Args:
        files: by name; every file that the folder is answerable for, the manifest excepted.
        batch: `"any"` or `"fixed"`, the batch sizes that the program takes; empty without program.
        no_program: why there is no program; empty if there is one.
    """

    files: dict[str, Entry]
    batch: str = ""
    no_program: str = ""


def write_manifest(folder: Path, names: list[str], *, batch: str, no_program: str) -> None:
    """Digest the named files and write the manifest of `folder`."""
    files = {name: _digest(folder / name) for name in names}
    data = {
        "format": FORMAT,
        "version": VERSION,
        "batch": batch,
        "no_program": no_program,
        "files": {name: {"size": e.size, "sha256": e.sha256} for name, e in files.items()},
    }
    (folder / MANIFEST).write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def is_artifact(folder: Path) -> bool:
    """Tell whether a folder has a manifest of ours, damaged or not behind it."""
    try:
        data = strict_json.read(folder / MANIFEST, limit=MAX_BYTES)
    except ArtifactError:
        return False
    return data.get("format") == FORMAT


def check_folder(folder: Path) -> Manifest:
    """Read the manifest and compare every file with it, parsing none of them.

    Raises:
        ArtifactError: the folder or a file is missing, is a link, or differs in size or content
            from the manifest; or the manifest is damaged or of another version.
    """
    if not folder.is_dir():
        raise ArtifactError(
            "no such folder", where=str(folder), fix="pass a folder that `shrink compress` wrote"
        )
    _require_regular(folder / MANIFEST)
    data = strict_json.read(folder / MANIFEST, limit=MAX_BYTES)
    manifest = _build(data, folder / MANIFEST)
    for name, entry in manifest.files.items():
        path = folder / name
        _require_regular(path)
        size = path.stat().st_size
        if size != entry.size:
            raise ArtifactError(
                f"{size} bytes where the manifest says {entry.size}", where=str(path), fix=_FIX
            )
        if _digest(path) != entry:
            raise ArtifactError(
                "its content is not what the manifest says", where=str(path), fix=_FIX
            )
    return manifest


def _build(data: dict[str, object], path: Path) -> Manifest:
    if data.get("format") != FORMAT or data.get("version") != VERSION:
        raise ArtifactError(
            f"format {data.get('format')!r} version {data.get('version')!r} instead of "
            f"{FORMAT!r} version {VERSION}",
            where=str(path),
            fix="load it with the version of shrink that wrote it",
        )
    match data:
        case {"files": dict() as files, "batch": str() as batch, "no_program": str() as reason}:
            entries = {name: _entry(name, value, path) for name, value in files.items()}
        case _:
            raise ArtifactError(
                "'files', 'batch' or 'no_program' is missing", where=str(path), fix=_FIX
            )
    required = {PLAN, REPORT, REPORT_TEXT, WEIGHTS} | ({PROGRAM} if not reason else set())
    if missing := sorted(required - entries.keys()):
        raise ArtifactError(f"does not list {', '.join(missing)}", where=str(path), fix=_FIX)
    return Manifest(entries, batch, reason)


def _entry(name: str, value: object, path: Path) -> Entry:
    if not _NAME.fullmatch(name) or name == MANIFEST:
        raise ArtifactError(f"lists {name!r}, which is not a file name", where=str(path), fix=_FIX)
    match value:
        case {"size": int() as size, "sha256": str() as sha256}:
            return Entry(size, sha256)
        case _:
            raise ArtifactError(f"gives no size and digest for {name}", where=str(path), fix=_FIX)


def _require_regular(path: Path) -> None:
    if path.is_symlink() or not path.is_file():
        state = "is a link" if path.is_symlink() else "is missing, or not a file"
        raise ArtifactError(state, where=str(path), fix=_FIX)


def _digest(path: Path) -> Entry:
    try:
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
            return Entry(file.tell(), digest.hexdigest())
    except OSError as error:
        raise ArtifactError(
            f"cannot be read: {error.strerror}", where=str(path), fix="check its permissions"
        ) from error
