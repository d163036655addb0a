"""`shrink apply`: replay a plan."""
# ruff: noqa: PLC0415 (torch is imported when a command runs, not for --help)

from pathlib import Path
from typing import Annotated

import typer

from shrink.cli import options
from shrink.cli.common import (
    Stages,
    choose_folder,
    command,
    complain,
    print_json,
    print_rich,
)
from shrink.report.document import to_json
from shrink.report.terminal import show_report


@command
def apply(  # noqa: PLR0913  one parameter per option
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="A plan.json, or its folder.")],
    model: options.Model,
    *,
    weights: options.Weights = "auto",
    out: options.Out = None,
    force: options.Force = False,
    seed: options.Seed = 0,
    layers: options.Layers = False,
    as_json: options.Json = False,
    debug: options.Debug = False,  # noqa: ARG001  `command` reads it
) -> None:
    """Replay PLAN on MODEL and write DIR.

    MODEL must be the model that the plan was made for, with any weights.
    """
    folder = choose_folder(out, model, force=force)
    stages = Stages(("model", "capture", "groups", "plan", "rewrite", "verify", "write"))
    with stages("model"):
        from shrink import api, models

        instructions = api.load_plan(plan / "plan.json" if plan.is_dir() else plan)
        resolved = models.resolve(model, weights=weights, seed=seed, inputs_required=False)
    result = api.apply(
        instructions,
        resolved.module,
        progress=stages,
        name=model,
        weights=resolved.weights_note,
        warnings=resolved.warnings,
    )
    with stages("write"):
        result.save(folder, force=force)
    if as_json:
        print_json(to_json(result.report))
    else:
        print_rich(show_report(result.report, layers=layers))
    complain(f"wrote {folder}")
