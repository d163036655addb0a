"""`report.json`: a `Report` as JSON text and back. The schema is in `docs/REPORT.md`."""

import json

import msgspec

from shrink.core.errors import ArtifactError
from shrink.core.report import SCHEMA_VERSION, Report

REQUIRED = ("schema_version", "model", "request", "before", "after", "verification", "environment")


def to_json(value: object) -> str:
    """Write dataclasses and plain data as JSON text, keys in the order of the fields."""
    return json.dumps(msgspec.to_builtins(value), indent=2, allow_nan=False) + "\n"


def from_json(text: str | bytes, *, where: str = "report.json") -> Report:
    """Read what `to_json` wrote, checking every key and type; unknown keys are ignored.

    Args:
        text: the content of a report.json.
        where: the name of the file, for errors.

    Raises:
        ArtifactError: it is no JSON, lacks a key, has a value of a wrong type, or was written by a
            later version.
    """
    fix = "make it again with `shrink compress`"
    try:
        content = msgspec.json.decode(text)
        if not isinstance(content, dict):
            raise ArtifactError("not a report: the content is no JSON object", where=where, fix=fix)
        missing = [key for key in REQUIRED if key not in content]
        if missing:
            raise ArtifactError(f"the report lacks {', '.join(missing)}", where=where, fix=fix)
        report = msgspec.convert(content, Report)
    except msgspec.DecodeError as error:
        problem = str(error)
        raise ArtifactError(f"not a report: {problem}", where=where, fix=fix) from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError("not a report: unreadable text", where=where, fix=fix) from error
    if report.schema_version > SCHEMA_VERSION:
        raise ArtifactError(
            f"written with schema {report.schema_version}, this version reads {SCHEMA_VERSION}",
            where=where,
            fix="pip install --upgrade shrink",
        )
    return report
