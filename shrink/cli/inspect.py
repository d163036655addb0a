"""`shrink inspect`: what can be removed, and why the rest cannot."""
# ruff: noqa: PLC0415 (torch is imported when a command runs, not for --help)

from typing import Annotated

import msgspec
import typer

from shrink.cli import options
from shrink.cli.common import Stages, command, print_json, print_rich
from shrink.report.document import to_json
from shrink.report.terminal import show_inspection


@command
def inspect(  # noqa: PLR0913  one parameter per option
    model: options.Model,
    *,
    weights: options.Weights = "auto",
    input: options.Input = None,  # noqa: A002
    keep: options.Keep = None,
    only: options.Only = None,
    free: options.Free = None,
    strict: options.Strict = False,
    seed: options.Seed = 0,
    everything: Annotated[
        bool, typer.Option("--all", help="Every group and frozen dimension on a line of its own.")
    ] = False,
    as_json: options.Json = False,
    debug: options.Debug = False,  # noqa: ARG001  `command` reads it
) -> None:
    """Show what can be removed from MODEL, and why the rest cannot."""
    stages = Stages(("model", "capture", "groups", "rewrite"))
    with stages("model"):
        from shrink import api, models

        resolved = models.resolve(model, weights=weights, input=input, seed=seed)
    inspection = msgspec.to_builtins(
        api.inspect(
            resolved.module,
            resolved.inputs,
            keep=tuple(keep or ()),
            only=tuple(only or ()),
            free=tuple(free or ()),
            strict=strict,
            progress=stages,
        )
    )
    if as_json:
        about = {"name": model, "weights": resolved.weights_note}
        print_json(to_json({"model": about, **inspection, "warnings": resolved.warnings}))
    else:
        print_rich(show_inspection(model, inspection, resolved.warnings, everything=everything))
