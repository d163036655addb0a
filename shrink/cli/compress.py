"""`shrink compress`: the main job."""
# ruff: noqa: PLC0415 (torch is imported when a command runs, not for --help)

from typing import Annotated, Literal

import typer

from shrink.cli import options
from shrink.cli.common import (
    Stages,
    check_device,
    choose_folder,
    command,
    complain,
    print_json,
    print_rich,
)
from shrink.core.errors import InputError
from shrink.report.document import to_json
from shrink.report.terminal import show_report

STAGES = (
    "model",
    "capture",
    "groups",
    "importance",
    "plan",
    "rewrite",
    "verify",
    "measure",
    "write",
)


@command
def compress(  # noqa: PLR0913  one parameter per option
    model: options.Model,
    *,
    flops: Annotated[
        float | None, typer.Option(metavar="RATIO", help="MACs to keep, between 0 and 1.")
    ] = None,
    params: Annotated[
        float | None, typer.Option(metavar="RATIO", help="Parameters to keep, between 0 and 1.")
    ] = None,
    criterion: Annotated[str, typer.Option(help="Importance: l1, l2 or random.")] = "l2",
    ranking: Annotated[
        Literal["local", "global", "isomorphic"],
        typer.Option(help="What competes: units of one group, all, or groups of equal structure."),
    ] = "local",
    weights: options.Weights = "auto",
    input: options.Input = None,  # noqa: A002
    device: options.Device = "auto",
    dtype: options.Dtype = "fp32",
    align: Annotated[
        str, typer.Option(metavar="auto|N", help="Widths come out as multiples of this.")
    ] = "auto",
    keep: options.Keep = None,
    only: options.Only = None,
    free: options.Free = None,
    strict: options.Strict = False,
    out: options.Out = None,
    force: options.Force = False,
    seed: options.Seed = 0,
    channels_last: options.ChannelsLast = False,
    no_measure: Annotated[
        bool, typer.Option("--no-measure", help="Leave latency and memory out.")
    ] = False,
    layers: options.Layers = False,
    as_json: options.Json = False,
    debug: options.Debug = False,  # noqa: ARG001  `command` reads it
) -> None:
    """Prune MODEL to a budget, and prove and measure the result.

    Writes DIR: plan.json, model.safetensors, program.pt2, report.json and report.md.
    """
    _check_budget(flops, params)
    multiple = _read_align(align)
    folder = choose_folder(out, model, force=force)
    stages = Stages(STAGES)
    with stages("model"):
        check_device(device)
        from shrink import api, models

        resolved = models.resolve(model, weights=weights, input=input, seed=seed)
    result = api.compress(
        resolved.module,
        resolved.inputs,
        flops=flops,
        params=params,
        criterion=criterion,
        ranking=ranking,
        align=multiple,
        keep=tuple(keep or ()),
        only=tuple(only or ()),
        free=tuple(free or ()),
        seed=seed,
        device=device,
        dtype=dtype,
        measure=not no_measure,
        strict=strict,
        channels_last=channels_last,
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


def _check_budget(flops: float | None, params: float | None) -> None:
    """Refuse what no model could meet before the model is built."""
    if flops is None and params is None:
        raise InputError("no budget", where="compress", fix="pass --flops 0.5 or --params 0.5")
    if flops is not None and params is not None:
        raise InputError(
            "only one budget at a time", where="--flops, --params", fix=f"pass --flops {flops:g}"
        )
    for option, ratio in (("--flops", flops), ("--params", params)):
        if ratio is not None and not 0 < ratio < 1:
            raise InputError(
                f"{ratio:g} is not between 0 and 1", where=option, fix=f"pass {option} 0.5"
            )


def _read_align(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    if not text.isdecimal() or int(text) < 1:
        raise InputError(
            f"{text!r} is no multiple", where="--align", fix="pass auto, 1, 8, 16 or 32"
        )
    return int(text)
