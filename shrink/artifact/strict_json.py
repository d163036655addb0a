"""JSON from files that may be damaged or hostile."""

import json
from pathlib import Path
from typing import Any

from shrink.core.errors import ArtifactError


def decode(text: str | bytes) -> dict[str, Any]:  # Any: JSON values
    """Decode one JSON object, refusing duplicate keys and anything that is not an object.

    Raises:
        ValueError: `text` is not such an object.
    """
    try:
        value = json.loads(text, object_pairs_hook=_without_duplicates)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError(f"a JSON {type(value).__name__}, not an object")  # noqa: TRY004 - one error
    return value


def parse(text: str | bytes, *, where: str) -> dict[str, Any]:  # Any: JSON values
    """Decode one JSON object that is called `where` in errors.

    Raises:
        ArtifactError: `text` is not such an object.
    """
    try:
        return decode(text)
    except ValueError as error:
        raise ArtifactError(
            f"not valid JSON: {error}",
            where=where,
            fix="restore the file from where it came, or compress again",
        ) from error


def read(path: Path, *, limit: int) -> dict[str, Any]:  # Any: JSON values
    """Read one JSON object from a regular file of at most `limit` bytes.

    Raises:
        ArtifactError: the file cannot be read, is larger, or is not a JSON object.
    """
    try:
        size = path.stat().st_size
        if size > limit:
            raise ArtifactError(
                f"{size} bytes, more than the {limit} that such a file may have",
                where=str(path),
                fix="restore the file from where it came, or compress again",
            )
        text = path.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"cannot be read: {error.strerror}", where=str(path), fix="check the path"
        ) from error
    return parse(text, where=str(path))


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("an object names the same key twice")
    return value
