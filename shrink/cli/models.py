"""`shrink models`: the names that MODEL can be."""
# ruff: noqa: PLC0415 (torch is imported when a command runs, not for --help)

from typing import Annotated

import typer

from shrink.cli import options
from shrink.cli.common import command, complain, print_json
from shrink.report.document import to_json


@command
def models(
    pattern: Annotated[
        str,
        typer.Argument(
            metavar="PATTERN",
            help="A glob or part of a name; 'timm:*' or 'hf:*' for timm's and transformers'.",
        ),
    ] = "",
    *,
    as_json: options.Json = False,
    debug: options.Debug = False,  # noqa: ARG001  `command` reads it
) -> None:
    """List the model names that resolve without a path."""
    from shrink.models import list_models

    names = list_models(pattern)
    if as_json:
        print_json(to_json(names))
    elif names:
        print("\n".join(names))
    else:
        elsewhere = "" if ":" in pattern else f"; try 'timm:{pattern}' or 'hf:{pattern}'"
        complain(f"no name matches {pattern!r}{elsewhere}")
