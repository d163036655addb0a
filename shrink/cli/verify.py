"""`shrink verify`: the proof again."""
# ruff: noqa: PLC0415 (torch is imported when a command runs, not for --help)

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from shrink.cli import options
from shrink.cli.common import Stages, command, print_json, print_rich, warn
from shrink.cli.report import read_report
from shrink.core.errors import VerificationError
from shrink.report.document import to_json
from shrink.report.sentences import describe_certificate


@command
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An artifact folder.")],
    *,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The original; default: as recorded.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="auto|FILE|...", help="Of the original; as recorded.")
    ] = None,
    as_json: options.Json = False,
    debug: options.Debug = False,  # noqa: ARG001  `command` reads it
) -> None:
    """Prove again that the network in DIR is right.

    It must compute what the original computes with the removed channels neutralised.
    """
    recorded = read_report(folder).model
    stages = Stages(("model", "verify"))
    with stages("model"):
        from shrink import api, models

        choice, seed = models.recall_weights(str(recorded.get("weights", "")))
        resolved = models.resolve(
            model or str(recorded.get("name", "")),
            weights=weights or choice,
            seed=seed,
            inputs_required=False,
        )
    warn(resolved.warnings)
    with stages("verify"):
        certificate = api.verify(folder, resolved.module)
    if not certificate.passed:
        raise VerificationError(describe_certificate(certificate), where=str(folder))
    if as_json:
        print_json(to_json(certificate))
    else:
        print_rich(Text(describe_certificate(certificate), style="green"))
