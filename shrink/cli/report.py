"""`shrink report`: the report of one folder again, or several side by side."""
# ruff: noqa: PLC0415 (torch is imported when a command needs it, not for --help)

from pathlib import Path
from typing import Annotated

import typer

from shrink.artifact.manifest import REPORT, REPORT_TEXT, is_artifact
from shrink.cli import options
from shrink.cli.common import command, print_json, print_rich
from shrink.core.errors import ArtifactError
from shrink.core.report import Report
from shrink.report.document import from_json, to_json
from shrink.report.markdown import to_markdown
from shrink.report.terminal import show_comparison, show_report


@command
def report(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Artifact folders.")],
    *,
    layers: options.Layers = False,
    as_json: options.Json = False,
    debug: options.Debug = False,  # noqa: ARG001  `command` reads it
) -> None:
    """Print the report of DIR, or compare several.

    Writes the report.md of every DIR again.
    """
    reports = {str(folder): read_report(folder) for folder in folders}
    for folder, found in reports.items():
        _rebuild(Path(folder), to_markdown(found))
    only = next(iter(reports.values())) if len(reports) == 1 else None
    if as_json:
        print_json(to_json(only or reports))
    else:
        print_rich(show_report(only, layers=layers) if only else show_comparison(reports))


def read_report(folder: Path) -> Report:
    """Read the report.json of an artifact folder.

    Raises:
        ArtifactError: there is none, or it is damaged.
    """
    file = folder / REPORT
    if not file.is_file():
        raise ArtifactError(
            "the folder holds no report.json", where=str(folder), fix="pass a folder shrink wrote"
        )
    return from_json(file.read_bytes(), where=str(file))


def _rebuild(folder: Path, text: str) -> None:
    """Write report.md, and its entry in the manifest, unless it is as it should be."""
    file = folder / REPORT_TEXT
    if file.is_file() and file.read_bytes() == text.encode():
        return
    if not is_artifact(folder):  # a report.json somebody copied
        file.write_bytes(text.encode())
        return
    from shrink.artifact.save import replace_files

    replace_files(folder, {REPORT_TEXT: text})
